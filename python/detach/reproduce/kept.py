"""Runs that are there already: whether they may stand beside those that are still to be made."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detach.config import RunConfig, flatten
from detach.data.recording import read_dataset
from detach.errors import DataError, UsageError
from detach.material import digest
from detach.model import CONFIG_FILE, load_config, save_config
from detach.reproduce.jobs import OF_MACHINE, Job, Outcome, held
from detach.results import RESULTS_FILE, read_results

Say = Callable[[str], None]


def check_kept(
    out: Path, jobs: Sequence[Job], outcome: Outcome, say: Say, *, only_read: bool
) -> None:
    """That runs which are there were made as they would be made now, and of the same data.

    Damaged results are laid aside, so that the run is tested again; where nothing is to be run
    (``only_read``) they are left alone. A finished run whose configuration is damaged is noted in
    ``outcome``.

    Raises:
        UsageError: One was made otherwise, so that a table would mix two ways of training, or two
            homes.
    """
    data = {job.name: job.data for job in jobs}
    digests = {name: _digest(folder) for name, folder in data.items()}
    mine = {job.folder: job for job in jobs}
    for name, folder in data.items():
        for path in sorted((out / "runs" / name).glob(f"*/seed*/{CONFIG_FILE}")):
            job = mine.get(path.parent)
            try:
                made, about = load_config(path.parent)
            except DataError as error:
                if job is not None and job.done:
                    outcome.damaged[job.folder] = DataError(f"{error}; remove {job.folder}")
                continue  # of others it is said when their turn comes
            if job is not None:
                _check_options(job, made)
            _check_data(path.parent, folder, digests[name], (made, about), say)
            if job is not None and job.done and not only_read:
                _check_results(job, say)


def _digest(data: Path) -> str:
    """Of a data set; nothing where it is damaged, which is said when its turn comes."""
    try:
        return digest(read_dataset(data))
    except DataError:
        return ""


def _check_options(job: Job, made: RunConfig) -> None:
    was, now = (dict(flatten(c)) for c in (made, job.config))
    unlike = [name for name in now if was[name] != now[name] and name not in OF_MACHINE]
    other = [f"{name} {was[name]} instead of {now[name]}" for name in unlike]
    if other:
        raise UsageError(
            f"{job.folder} was made by another recipe or version: {', '.join(other[:3])}; name "
            "another folder with --out, its own recipe with --config, or remove it"
        )


def _check_data(
    run: Path, data: Path, found: str, kept: tuple[RunConfig, dict[str, Any]], say: Say
) -> None:
    """That data are those of the run, wherever they are now; older runs do not know theirs."""
    made, about = kept
    was, same = Path(about["data"]), not found or about.get("data_digest", found) == found
    here = was.resolve() == data.resolve()
    if not same or (was.exists() and not here):
        raise UsageError(
            f"{run} was made of {was}, not of {data if not here else 'what is there now'}; name "
            "another folder with --out, its own data with --data, or remove it"
        )
    if not here:
        say(f"{run}: its data were moved from {was}; they are looked for in {data} now")
        save_config(run, made, {**about, "data": str(data.resolve())})


def _check_results(job: Job, say: Say) -> None:
    if _damage(job) is None:
        return
    with held(job) as mine:  # another process may have put it right meanwhile
        path = job.folder / RESULTS_FILE
        if mine and path.is_file() and (error := _damage(job)) is not None:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            say(f"{error}; it is kept as {aside.name}, and the run is tested again")


def _damage(job: Job) -> DataError | None:
    try:
        read_results(job.folder)
    except DataError as error:
        return error
    return None
