"""The paper's rows on a GPU, within minutes a call, to be stopped anywhere.

    python benchmarks/gpu_evidence.py OUT --minutes 8

makes a simulated home of 5,324 windows if no data are given (needs the extra `sim` and EGL), then
trains what is not there until the time is up, and writes the tables. Give the command again to go
on: a run that the time cut off resumes, so that runs longer than a call are finished too; a home
that the time cut off is begun anew. DETACH and InfoNCE at the paper's schedule come first, then
Tables 2 and 3, then more seeds of these, then the rivals, the other tables and residual networks at
224 px. What was not run says so in the tables. Ends with 0 where the home was made, or a run
finished or got on, with 2 where the minutes were too few, with 3 or more where rows cannot be run.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from detach import recipes
from detach.config import RunConfig
from detach.data.recording import DATASET_FILE, read_dataset
from detach.data.store import only_one
from detach.errors import DetachError, UsageError
from detach.reproduce import Options, reproduce
from detach.reproduce.costs import TimeIsUpError, within
from detach.reproduce.datasets import folder_name, together
from detach.reproduce.homes import MINUTES_A_RUN, SEED
from detach.reproduce.jobs import Job, Outcome, make_jobs
from detach.reproduce.queue import Queue
from detach.reproduce.rows import LEAD, wanted

FIRST = (LEAD, "infonce")
CORE = (2, 3)
TABLES = (*CORE, 1, 4, 5, 6, 14)
HOME_MINUTES = Options.home_minutes
SIZE_PX = (320, 240)
"""Of the home's film: no smaller than what is trained on, 224 px."""


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
    """Data, as many runs as fit, tables; the clock runs from the beginning."""
    began = time.time()
    queue = Queue(args.out, 60 * args.minutes, print, begin_all=True)
    data = args.data or home(args, queue.left_s)
    base = recipes.read(recipes.find(Path(args.config)))
    base = replace(base, precision="bfloat16" if base.device != "cpu" else "float32")
    jobs = in_order(args.out, data, args.seeds, base)
    outcome = Outcome()
    queue.run(jobs, outcome)
    left = [job for job in jobs if not job.done]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are there, {len(outcome.ran)} of this call")
    for job in left:
        why = outcome.failed.get((job.name, job.row), "")
        print(f"  not run: {job.row}, seed {job.seed}{f': {why}' if why else ''}")
    if len(left) < len(jobs):
        tables(args.out, data, args.config)
    if outcome.left and not outcome.ran:
        _show_begun(outcome.left, data, began, args.minutes)
    if bad := [*outcome.damaged.values(), *outcome.errors.values()]:
        raise together(bad)
    return 0


def in_order(out: Path, data: Path, seeds: int, base: RunConfig) -> list[Job]:
    """All runs, most telling first: every seed of the core tables before any other row."""
    name = folder_name(read_dataset(data))
    core = tuple(dict.fromkeys([*FIRST, *wanted(CORE)]))
    rest = tuple(row for row in wanted(TABLES) if row not in core)
    return [job for rows in (core, rest) for job in make_jobs(out, {name: data}, rows, seeds, base)]


def _show_begun(left: list[Job], data: Path, began: float, minutes: float) -> None:
    """What got on in this call though no run was finished.

    Raises:
        UsageError: Nothing did: the next call would end where this one did.
    """
    for job in left:
        saved = [path.stat().st_mtime for path in job.folder.glob("checkpoints/*")]
        if saved and max(saved) > began:
            print(
                f"no run was finished; {job.row}, seed {job.seed}, is saved and goes on next time"
            )
            return
    if (data / DATASET_FILE).stat().st_mtime > began:
        print("no run was finished; the home is there now, and the next call trains")
        return
    raise UsageError(f"no run was finished or saved within {minutes:g} minutes; give more")


def tables(out: Path, data: Path, config: str) -> None:
    """Tables over what is there; nothing is trained."""
    asked = Options(out=out, tables=TABLES, data=(data,), config=config, seeds=1, write_only=True)
    reproduce(asked, print)


def home(args: argparse.Namespace, left_s: float) -> Path:
    """A simulated home beside the runs, made once and within ``left_s``.

    Raises:
        UsageError: There was not time enough; the simulator keeps nothing half done.
    """
    folder: Path = args.out / "home"
    if (folder / DATASET_FILE).is_file():
        return folder
    from detach.simulate import record  # noqa: PLC0415  (needs mujoco)

    args.out.mkdir(parents=True, exist_ok=True)
    runs = max(6, round(args.home_minutes / MINUTES_A_RUN))
    options = record.Options(minutes=args.home_minutes, seed=SEED, runs=runs, size=SIZE_PX)
    lock = args.out / ".home.lock"
    try:
        with within(left_s), only_one(lock, lambda: print("another process simulates the home")):
            if not (folder / DATASET_FILE).is_file():
                record.simulate(folder, options, print, args.workers)
    except TimeIsUpError as error:
        width_px, height_px = SIZE_PX
        raise UsageError(
            f"the home was not simulated within {args.minutes:g} minutes; give more, or make it "
            f"first: detach simulate {folder} --minutes {args.home_minutes:g} --runs {runs} "
            f"--seed {SEED} --width-px {width_px} --height-px {height_px} --workers {args.workers}"
        ) from error
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
