"""`detach evaluate`: what frozen encoders are worth. Never trains an encoder.

Writes results.json and head.safetensors into every run folder and returns one table over all.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from detach.assess import Cut, assess
from detach.config import RunConfig, TestedConfig, override
from detach.data.disturb import with_noise
from detach.data.recording import Dataset, read_dataset
from detach.data.splits import split_windows
from detach.data.windows import load_windows
from detach.errors import DataError, UsageError
from detach.model import CONFIG_FILE, Run, Supervised, load_config, load_run, weights_digest
from detach.results import RESULTS_FILE, Protocol, Results, read_results, write_results
from detach.table import Table, make_table


def evaluate(
    runs: Sequence[Path],
    data: Path | None = None,
    *,
    leave_one_run_out: bool = False,
    tracks: Sequence[str] = (),
    background: bool = False,
    reuse: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Table:
    """Probes every run and compares them with each other and with the references.

    Args:
        runs: Run folders, or folders of run folders (``RUN/seed0`` ...).
        data: Data set to test on; None takes the one each run was trained on.
        leave_one_run_out: Also tests every labelled run with a probe trained on the others.
        tracks: Label tracks; none takes that of the run, or the data set's first. The head that is
            kept is that of the first.
        background: Makes windows that no annotation touches a class of their own, as
            ``windows.background``.
        reuse: Takes over results that are there, of the same weights, where they answer all that is
            asked; so an evaluation of many runs goes on where it was interrupted.
        progress: Told in words what is being done.
    """
    say = progress or (lambda _: None)
    cuts: dict[str, Cut] = {}
    found = []
    for folder in find_runs(runs):
        protocols: tuple[Protocol, ...] = ("split",)
        if leave_one_run_out:
            protocols = ("split", "leave-one-run-out")
        if reuse and (kept := _kept(folder, tracks, protocols, background, say)):
            say(f"{folder}: evaluated before, its results are taken over")
            found.append(kept)
            continue
        say(f"evaluating {folder}")
        run = load_run(folder)
        if background:
            run = replace(run, config=override(run.config, {"windows": {"background": True}}))
        if leave_one_run_out and run.config.tested != TestedConfig():
            raise UsageError(
                f"{folder}: tested.* changes the test part alone; leave-one-run-out has none"
            )
        cut = _cut(run, data or run.data, cuts, say)
        if isinstance(run.model, Supervised):
            protocols = ("split",)  # it learned from the labels of all but the test part
        chosen = [choose_track(run.config, cut.dataset, track) for track in tracks or (None,)]
        results = assess(run, cut, chosen, protocols)
        results = results.merged(_older(folder, say))
        write_results(folder, results)
        found.append(read_results(folder))  # as rounded as those that are taken over
    return make_table(found)


def _kept(
    folder: Path,
    tracks: Sequence[str],
    protocols: Sequence[Protocol],
    background: bool,
    say: Callable[[str], None],
) -> Results | None:
    """The results of an earlier evaluation, if they are of these weights and hold all tasks."""
    older = _older(folder, say)
    if older is None or older.model != weights_digest(folder):
        return None
    background = background or load_config(folder)[0].windows.background
    if background != bool(older.options.get("windows.background", False)):
        return None
    known = {(task.track, task.protocol) for task in older.tasks}
    wanted = set(tracks) or {task.track for task in older.tasks}
    asked = product(wanted, protocols[:1] if older.method == "supervised" else protocols)
    return older if known and known.issuperset(asked) else None


def _older(folder: Path, say: Callable[[str], None]) -> Results | None:
    """The results of an earlier evaluation; damaged ones are replaced."""
    if not (folder / RESULTS_FILE).is_file():
        return None
    try:
        return read_results(folder)
    except DataError as error:
        say(f"replaced: {error}")
        return None


def find_runs(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Run folders among ``folders`` and up to two levels below them.

    Raises:
        UsageError: No folder is given.
        DataError: One of them holds none.
    """
    if not folders:
        raise UsageError("at least one run folder must be given, found none")
    found: list[Path] = []
    for folder in folders:
        here = [folder / CONFIG_FILE]
        if not here[0].is_file():
            here = sorted([*folder.glob(f"*/{CONFIG_FILE}"), *folder.glob(f"*/*/{CONFIG_FILE}")])
        if not here:
            raise DataError(f"{folder} is no run folder and holds none: no {CONFIG_FILE} there")
        found.extend(path.parent for path in here)
    return tuple(dict.fromkeys(found))


def choose_track(config: RunConfig, dataset: Dataset, track: str | None) -> str:
    """The label track to test.

    Raises:
        UsageError: The data set does not have it.
    """
    name = track or config.split.track or next(iter(dataset.classes), "")
    if name not in dataset.classes:
        known = ", ".join(dataset.classes) or "none"
        raise UsageError(f"track must be one of {known} in {dataset.folder}, got {name!r}")
    return name


def _cut(run: Run, data: Path, known: dict[str, Cut], say: Callable[[str], None]) -> Cut:
    """Windows of a run's data, cut and normalised as in training."""
    c = run.config
    parts_of = (c.windows, c.sensors, c.video, c.encoders.flow, c.split, c.tested)
    key = repr((data, *parts_of, run.stats))
    if key not in known:
        dataset = read_dataset(data)
        windows = load_windows(dataset, c, stats=run.stats, progress=say)
        parts = split_windows(windows, dataset, c.split)
        if c.tested.noise or c.tested.dropout:
            test, tested = parts["test"], c.tested
            windows = with_noise(windows, test, tested.noise, tested.dropout, c.split.seed)
        known[key] = Cut(dataset, windows, parts, {})
    return known[key]
