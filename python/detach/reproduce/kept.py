"""Runs that are there already: whether they may stand beside those that are still to be made."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detach.config import RunConfig, flatten
from detach.errors import DataError, UsageError
from detach.model import CONFIG_FILE, load_config, save_config
from detach.reproduce.jobs import OF_MACHINE, Job, Outcome
from detach.results import RESULTS_FILE, read_results

Say = Callable[[str], None]


def check_kept(jobs: Sequence[Job], outcome: Outcome, say: Say, *, write_only: bool) -> None:
    """That runs which are there were made as they would be made now, and of the same data.

    Damaged results are laid aside, so that the run is tested again; where nothing is to be run
    they are left alone. A finished run whose configuration is damaged is noted in ``outcome``.

    Raises:
        UsageError: One was made otherwise, so that a table would mix two ways of training, or two
            homes.
    """
    for job in jobs:
        if not (job.folder / CONFIG_FILE).is_file():
            continue
        try:
            made, about = load_config(job.folder)
        except DataError as error:
            if job.done:
                outcome.damaged[job.folder] = DataError(f"{error}; remove {job.folder}")
            continue  # of others it is said when their turn comes
        _check_options(job, made)
        _check_data(job, made, about, say)
        if job.done and not write_only:
            _check_results(job, say)


def _check_options(job: Job, made: RunConfig) -> None:
    was, now = (dict(flatten(c)) for c in (made, job.config))
    unlike = [name for name in now if was[name] != now[name] and name not in OF_MACHINE]
    other = [f"{name} {was[name]} instead of {now[name]}" for name in unlike]
    if other:
        raise UsageError(
            f"{job.folder} was made by another recipe or version: {', '.join(other[:3])}; name "
            "another folder with --out, its own recipe with --config, or remove it"
        )


def _check_data(job: Job, made: RunConfig, about: dict[str, Any], say: Say) -> None:
    """Data that were moved are taken for the same; those that are still there are others."""
    was = Path(about["data"])
    if was.resolve() == job.data.resolve():
        return
    if was.exists():
        raise UsageError(
            f"{job.folder} was made of {was}, not of {job.data}; name another folder with --out, "
            "its own data with --data, or remove it"
        )
    say(f"{job.folder}: its data were moved from {was}; they are looked for in {job.data} now")
    save_config(job.folder, made, {**about, "data": str(job.data.resolve())})


def _check_results(job: Job, say: Say) -> None:
    try:
        read_results(job.folder)
    except DataError as error:
        path = job.folder / RESULTS_FILE
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        say(f"{error}; it is kept as {aside.name}, and the run is tested again")
