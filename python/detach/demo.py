"""`detach demo`: the whole job on the recordings that come along."""

import shutil
from collections.abc import Callable
from pathlib import Path

from detach import recipes
from detach.config import override
from detach.data.store import new_folder
from detach.errors import DataError
from detach.evaluate import evaluate
from detach.report import report
from detach.train import train_seeds


def run_demo(out: Path, *, seed: int, say: Callable[[str], None]) -> Path:
    """Trains, evaluates, reports.

    Returns:
        The report's path.

    Raises:
        DataError: The package came without its sample recordings.
    """
    sample = recipes.models_folder() / "sample"
    if not (sample / "dataset.json").is_file():
        raise DataError(f"{sample}: the sample recordings are not there; install the package again")
    config = override(recipes.read(recipes.find(Path("demo"))), {"seed": seed})
    data, run = out / "data", _free(out)
    if not (data / "dataset.json").is_file():
        with new_folder(data) as part:  # the package itself may be read-only
            shutil.copytree(
                sample, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".cache")
            )
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
