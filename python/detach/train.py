"""One training run: material in, run folder out. The loops are in train_spatial, train_temporal."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detach import __version__
from detach.config import RunConfig, flatten
from detach.course import Course
from detach.data.recording import write_json
from detach.data.windows import Windows
from detach.devices import check_machine, environment
from detach.devices import pick_device as pick_device  # offered here too
from detach.distributed import ALONE, World, joined, share_batch_norms
from detach.errors import DataError, UsageError
from detach.material import Material as Material  # offered here too
from detach.material import as_trained_on, count_places, digest, trained_on
from detach.material import load_material as load_material  # offered here too
from detach.model import (
    CONFIG_FILE,
    ENV_FILE,
    METRICS_FILE,
    MODEL_FILE,
    Detach,
    Network,
    Supervised,
    build,
    load_config,
    load_run,
    save_config,
    save_run,
)
from detach.train_rivals import train_rival
from detach.train_spatial import train_spatial
from detach.train_supervised import train_supervised
from detach.train_temporal import train_temporal

Say = Callable[[str], None]
CLUSTERED = {"detach", "infonce"}
"""Methods that find places."""
THREADS = torch.get_num_threads()
"""All cores, or what the environment allows."""


def train(
    material: Material,
    out: Path,
    config: RunConfig,
    *,
    resume: bool = False,
    stage1_from: Path | None = None,
    say: Say = print,
    world: World = ALONE,
) -> Path:
    """Trains one method with one seed into the run folder ``out``; all of ``world`` call it.

    With ``stage1_from``, a finished run whose stage 1 would be the same, up to precision, only
    stage 2 is trained.

    Raises:
        DataError: Too few windows, or nothing to resume.
        UsageError: ``out`` holds a run already and ``resume`` is off, or of another configuration.
        DivergedError: The loss is no longer finite; the last checkpoint stands.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM, after saving.
    """
    with _alone(out, world):
        world.lead(lambda: _check_folder(out, config, resume=resume))
        _check_alike(material, out, config, world)
        torch.set_num_threads(config.threads or THREADS)
        _train(material, out, config, resume, stage1_from, say, world)
    return out


def _train(
    material: Material,
    out: Path,
    config: RunConfig,
    resume: bool,
    stage1_from: Path | None,
    say: Say,
    world: World,
) -> None:
    windows = as_trained_on(material, config)
    clusters, curve = count_places(material, windows, config, say)
    classes = material.windows.classes.get(material.track, ())
    _check_count(len(trained_on(material, config)), clusters, config)
    device = pick_device(config.device, world)
    model = _build(material, config, clusters, world).to(device)
    about: dict[str, Any] = {
        "data": str(material.dataset.folder.resolve()),
        "data_digest": digest(material.dataset),
        "track": material.track,
        "classes": list(classes),
        "clusters": clusters,
        "counts": dict(windows.counts),
        "windows": {name: len(part) for name, part in material.parts.items()},
        "notes": dict(material.dataset.notes),
        "channels": [c.name for c in windows.channels],
    }
    if curve:
        about["places_curve"] = [asdict(point) for point in curve]
    if resume:
        _check_data(out, about["data_digest"], material)
    if stage1_from is not None:
        _take_spatial(model, config, stage1_from, about)
        about["stage1_from"] = stage1_from.name
    keep = config.checkpoints
    course = Course(out, config.seed, resume=resume, say=say, world=world, keep=keep)
    if stage1_from is not None and course.resumed_at == "stage1":
        raise UsageError(
            f"{out} was stopped in a stage 1 of its own: resume it without --stage1-from, or train "
            "into a new folder"
        )
    if world.first:
        save_config(out, config, about)
        write_json(out / ENV_FILE, environment(device, world))
    with course.listening():
        _fit(model, windows, material, course, config, spatial=stage1_from is None)
    world.lead(lambda: save_run(out, config, model, windows.stats, about))


def _check_count(windows: int, clusters: int, config: RunConfig) -> None:
    """Before anything is built.

    Raises:
        DataError: Too few windows to learn from.
    """
    if config.method in CLUSTERED and windows < 2 * clusters:
        raise DataError(f"{windows} windows to train on are too few for {clusters} clusters")
    if windows < 2:
        raise DataError(f"{windows} windows to train on are too few; at least 2 are needed")


def _check_data(out: Path, found: str, material: Material) -> None:
    """That a run goes on with the data that it was begun with.

    Raises:
        UsageError: They are others.
    """
    known = load_config(out)[1].get("data_digest", found)
    if known != found:
        raise UsageError(
            f"{out} was begun with other data than {material.dataset.folder} holds now; resume it "
            "with those, or train into a new folder"
        )


def _build(material: Material, config: RunConfig, clusters: int, world: World) -> Network:
    channels = material.windows.samples.shape[2]
    classes = material.windows.classes.get(material.track, ())
    try:
        model = build(config, channels, clusters, len(classes))
    except ValueError as error:
        raise UsageError(f"{material.dataset.folder}: {error}") from error
    share_batch_norms(model, world)
    return model


def _fit(
    model: Network,
    windows: Windows,
    material: Material,
    course: Course,
    config: RunConfig,
    *,
    spatial: bool,
) -> None:
    """Trains whatever it is; without ``spatial`` stage 1 is there already."""
    index = material.parts["pretrain"]
    if isinstance(model, Supervised):
        labels = windows.labels[material.track]
        train_supervised(model, windows, material.parts, labels, course, config)
        return
    if not isinstance(model, Detach):
        if not course.world.alone:
            problem = f"method {config.method} trains in one process; start it without torchrun"
            raise course.world.once(UsageError(problem))
        train_rival(model, windows, index, course, config)
        return
    if spatial and not course.done("stage1"):
        train_spatial(model, windows, index, course, config)
    if config.stage2.epochs:
        train_temporal(model, windows, index, course, config)


@contextmanager
def _alone(out: Path, world: World) -> Iterator[None]:
    """Holds a run folder against other runs.

    Raises:
        UsageError: Another one is training into it.
    """
    with ExitStack() as held:
        world.lead(lambda: held.enter_context(_locked(out)))
        yield


def _check_alike(material: Material, out: Path, config: RunConfig, world: World) -> None:
    """That all processes are about to do the same.

    Raises:
        UsageError: One has other options, data, software, or does not see the run folder.
    """
    if world.alone:
        return
    checkpoint = Course.checkpoint(out)
    found = hashlib.sha256(checkpoint.read_bytes()).hexdigest() if checkpoint.is_file() else "none"
    windows = hashlib.sha256(material.windows.samples.tobytes())
    for name in sorted(material.parts):
        windows.update(material.parts[name].tobytes())
    facts = {name: str(value) for name, value in flatten(config)}
    facts |= {"detach": __version__, "torch": torch.__version__, "numpy": np.__version__}
    facts |= {"windows": windows.hexdigest(), f"checkpoint in {out}": found}
    remedy = "start all with the same command, software and data, and with a folder that all see"
    world.check_alike(facts, remedy)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """A lock on a run folder; it goes with the process, however that ends."""
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every network file system has locks
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{out}: another process is training into it; wait, or name another folder"
                ) from error
        yield
    finally:
        os.close(folder)
        with suppress(OSError):
            out.rmdir()  # only where nothing came to be in it


def _take_spatial(
    model: Network, config: RunConfig, folder: Path, about: Mapping[str, Any]
) -> None:
    """Copies what stage 1 trained from a run whose stage 1 had the same options and seed."""
    if not isinstance(model, Detach):
        raise UsageError(f"method {config.method} has no stage 1 to take from {folder}")
    run = load_run(folder)
    shared = ("seed", "windows", "sensors", "video", "split", "encoders", "stage1", "augment")
    unlike = [name for name in shared if getattr(run.config, name) != getattr(config, name)]
    same = load_config(folder)[1].get("data_digest", about["data_digest"]) == about["data_digest"]
    if run.data != Path(about["data"]) or not same:
        unlike.append("data")
    if run.clusters != len(model.centroids):
        unlike.append("number of clusters")
    if unlike or not isinstance(run.model, Detach):
        what = f"other {', '.join(unlike)}" if unlike else f"method {run.config.method}"
        raise UsageError(f"{folder}: stage 1 cannot be taken from a run with {what}")
    spatial = {k: v for k, v in run.model.state_dict().items() if "_temporal." not in k}
    model.load_state_dict(spatial, strict=False)


def _check_folder(out: Path, config: RunConfig, *, resume: bool) -> None:
    if resume:
        before, _ = load_config(out)
        if before != config:
            raise UsageError(
                f"{out} was begun with other options; resume with those in {CONFIG_FILE}, "
                "or train into a new folder"
            )
        return
    held = [n for n in (MODEL_FILE, METRICS_FILE, CONFIG_FILE) if (out / n).exists()]
    if held:
        raise UsageError(
            f"{out} holds a run already ({', '.join(held)}); add --resume to go on with it, "
            "or name another folder"
        )


def train_seeds(
    data: Path,
    out: Path,
    config: RunConfig,
    seeds: int,
    *,
    resume: bool,
    stage1_from: Path | None = None,
    say: Say,
) -> list[Path]:
    """Trains one seed into ``out``, or several into out/seed0, out/seed1 and so on.

    Seeds that are finished are kept; with ``resume`` an unfinished one is taken up.

    Raises:
        UsageError: ``seeds`` is not positive.
    """
    if seeds < 1:
        raise UsageError(f"seeds must be at least 1, got {seeds}")
    wanted = [config] if seeds == 1 else [replace(config, seed=s) for s in range(seeds)]
    folders = [out] if seeds == 1 else [out / f"seed{c.seed}" for c in wanted]
    with joined(config.device) as world:
        say = say if world.first else _nothing
        world.lead(lambda: _check_before(out, wanted, folders, resume=resume))
        material = _load_in_turn(data, config, say, world)
        for one, folder in zip(wanted, folders, strict=True):
            if (folder / MODEL_FILE).is_file():
                say(f"{folder} is finished already")
                continue
            begun = resume and (folder / CONFIG_FILE).exists()
            world.wait()  # before one of them writes what the others look for
            source = stage1_from and (stage1_from if seeds == 1 else stage1_from / folder.name)
            train(material, folder, one, resume=begun, stage1_from=source, say=say, world=world)
            say(f"{folder} is finished")
    return folders


def _check_before(out: Path, wanted: list[RunConfig], folders: list[Path], *, resume: bool) -> None:
    """What would be found out only after the data were read."""
    check_machine(out, wanted[0])
    for one, folder in zip(wanted, folders, strict=True):
        _check_folder(folder, one, resume=resume and (folder / CONFIG_FILE).exists())


def _load_in_turn(data: Path, config: RunConfig, say: Say, world: World) -> Material:
    """The first process prepares pictures, then the others find them prepared."""
    material = world.lead(lambda: load_material(data, config, say))
    return material or load_material(data, config, _nothing)


def _nothing(_: str) -> None:
    pass
