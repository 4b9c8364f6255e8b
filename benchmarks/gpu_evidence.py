"""The paper's rows on a GPU, one run after the other, each within minutes, to be stopped anywhere.

    python benchmarks/gpu_evidence.py OUT --minutes 8

makes a simulated home if none is given (needs the extra `sim` and EGL), then trains the next rows
that are not there until the time is up, and writes the tables. Give the command again to go on; a
run that the time cut off resumes. DETACH and InfoNCE at the paper's schedule come first, then
Tables 2 and 3, then the rivals and residual networks at 224 px, then more seeds. What was not run
says so in the tables.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from detach import recipes
from detach.data.recording import read_dataset
from detach.errors import DetachError
from detach.reproduce import Options, reproduce
from detach.reproduce.queue import Outcome, Queue, make_jobs
from detach.reproduce.rows import LEAD, wanted

FIRST = (LEAD, "infonce")
TABLES = (2, 3, 1, 4, 5, 6, 14)
HOME_MINUTES = 90.0


def main() -> int:
    """Runs what fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="a data set; none simulates a home")
    parser.add_argument("--minutes", type=float, default=8.0, help="of this call")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--config", default="paper", help="recipe")
    parser.add_argument("--home-minutes", type=float, default=HOME_MINUTES)
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    try:
        return run(args)
    except DetachError as error:
        print(f"gpu_evidence: {error}")
        return error.exit_code


def run(args: argparse.Namespace) -> int:
    """Data, as many runs as fit, tables."""
    data = args.data or home(args)
    base = recipes.read(recipes.find(Path(args.config)))
    base = replace(base, precision="bfloat16" if base.device != "cpu" else "float32")
    name = read_dataset(data).name
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    rows = tuple(dict.fromkeys([*FIRST, *wanted(TABLES)]))
    queue = Queue(args.out, 60 * args.minutes, print)
    jobs = make_jobs(args.out, {name: data}, rows, args.seeds, base)
    queue.measure([job for job in jobs if not job.done][:1])
    outcome = Outcome()
    for job in jobs:
        if queue.left_s <= 0:
            break
        if not job.done:
            queue.measure([job])
            if queue.estimate(job) <= queue.left_s:
                queue.run([job], outcome)
    left = [job for job in jobs if not job.done]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are there")
    for job in left:
        print(f"  not run: {job.row}, seed {job.seed}")
    if len(left) < len(jobs):
        tables(args.out, data, args.config)
    return 0


def tables(out: Path, data: Path, config: str) -> None:
    """Tables over what is there; nothing is trained."""
    asked = Options(out=out, tables=TABLES, data=(data,), config=config, seeds=1, write_only=True)
    reproduce(asked, print)


def home(args: argparse.Namespace) -> Path:
    """A simulated home beside the runs, made once."""
    folder: Path = args.out / "home"
    if not (folder / "dataset.json").is_file():
        from detach.simulate import record  # noqa: PLC0415  (needs mujoco)

        args.out.mkdir(parents=True, exist_ok=True)
        record.simulate(
            folder, record.Options(minutes=args.home_minutes, seed=11), print, args.workers
        )
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
