"""`detach demo`: the whole job on the recordings that come along."""

from collections.abc import Callable
from pathlib import Path

from detach import recipes
from detach.config import override
from detach.data.sample import copy_sample
from detach.evaluate import evaluate
from detach.report import report
from detach.train import train_seeds


def run_demo(out: Path, *, seed: int, say: Callable[[str], None]) -> Path:
    """Trains, evaluates, reports.

    Returns:
        The report's path.

    Raises:
        DataError: The package came without its sample recordings.
        MachineError: They cannot be copied to ``out``.
    """
    config = override(recipes.read(recipes.find(Path("demo"))), {"seed": seed})
    data, run = copy_sample(out), _free(out)
    say(f"training on {data} into {run}")
    train_seeds(data, run, config, 1, resume=False, say=say)
    table = evaluate([run], None, progress=say)
    page = report([run])
    say(f"{table}\n\nreport: {page.resolve()}")
    return page


def _free(out: Path) -> Path:
    number = 1
    while (out / f"run{number}").exists():
        number += 1
    return out / f"run{number}"
