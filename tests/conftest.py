"""A tiny data set for all tests: drawn, simulated in no way, learnable within seconds.

And no network: neither for the tests nor for any Python that they start.
"""

import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from detach.data.recording import (
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
    VideoTrack,
    new_recording,
    write_dataset,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.edge.bundle import Bundle, open_bundle

if TYPE_CHECKING:
    from .fake_gpu import FakeGpu, Machine  # type: ignore[import-not-found]

DURATION_S, FPS, WIDTH_PX, HEIGHT_PX, HZ = 40.0, 10, 64, 48, 30.0
BLOCK_S = 4.0
ACTIVITIES = ("idle", "open left", "open middle", "open right")
PLACES = ("left door", "middle door", "right door")
GUARDS = Path(__file__).with_name("guards")


def pytest_configure() -> None:
    """Only this machine can be reached; see guards/sitecustomize.py."""
    paths = os.environ.get("PYTHONPATH", str(Path(__file__).parents[1] / "python"))
    if str(GUARDS) not in paths.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARDS), paths])
        runpy.run_path(str(GUARDS / "sitecustomize.py"))
    number, log = tempfile.mkstemp(prefix="detach-network-")
    os.close(number)
    os.environ["DETACH_NETWORK_LOG"] = log


def pytest_unconfigure() -> None:
    Path(os.environ["DETACH_NETWORK_LOG"]).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def nobody_calls_outside() -> Iterator[None]:
    """Whoever tries to, in this process or in one that it starts, is named."""
    log = Path(os.environ["DETACH_NETWORK_LOG"])
    before = log.stat().st_size
    yield
    assert log.stat().st_size == before, log.read_text()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two workers of a test run must not fight over the cores."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Any]:
    """Starts processes of several, for a tenth of what importing torch costs."""
    from .worlds import Nursery  # type: ignore[import-not-found]

    server = Nursery()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings of 40 s; do not change them, copy them (their cache may be written).

    In each 4 s somebody (a square) is at one of three doors and pushes it up, or nobody is there.
    A switch tells which door; the accelerometer swings at a rate of its own for each door.
    """
    folder = tmp_path_factory.mktemp("tiny")
    for i in range(4):
        make_recording(folder, f"r{i}", subject=f"s{i // 2}", run=f"run{i}", seed=i)
    dataset = Dataset(
        folder=folder,
        name="tiny",
        classes={"activity": ACTIVITIES, "door": PLACES},
        splits={"pretrain": ("r0", "r1"), "train": ("r0", "r1"), "val": ("r2",), "test": ("r3",)},
        notes={"pictures": "drawn squares"},
    )
    write_dataset(dataset)
    return folder


@pytest.fixture
def data(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(tiny_dataset, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def gpu_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for a GPU and its driver, compiled."""
    from .fake_gpu import compile_driver

    return Path(compile_driver(tmp_path_factory.mktemp("driver")))


@pytest.fixture
def gpu(gpu_driver: Path, monkeypatch: pytest.MonkeyPatch) -> "FakeGpu":
    """That GPU, with nothing on it."""
    from .fake_gpu import FakeGpu

    return FakeGpu(gpu_driver, monkeypatch)


@pytest.fixture(scope="session")
def video_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny bundle with video graphs in two precisions."""
    from .edge_bundles import write_tiny  # type: ignore[import-not-found]

    path = tmp_path_factory.mktemp("bundle") / "tiny.detach"
    return open_bundle(write_tiny(path, video=True, precisions=("fp32", "fp16")))


@pytest.fixture
def machine(gpu: "FakeGpu", video_bundle: Bundle, tmp_path: Path) -> "Machine":
    """A computer with that GPU and an empty cache of engines."""
    from .fake_gpu import Machine

    assert gpu.held() == (0, 0)
    return Machine(video_bundle, tmp_path / "cache")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recipe that trains within seconds."""
    from .reproduced import RECIPE  # type: ignore[import-not-found]

    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="session")
def homely(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with places; do not change them."""
    from .reproduced import make_homely

    folder: Path = make_homely(tiny_dataset, tmp_path_factory.mktemp("homely") / "data")
    return folder


@pytest.fixture(scope="session")
def finished(homely: Path, recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `detach reproduce` leaves; do not change it, copy it."""
    from .reproduced import finish

    out: Path = finish(tmp_path_factory.mktemp("finished"), homely, recipe)
    return out


def make_recording(
    folder: Path,
    name: str,
    *,
    subject: str,
    run: str,
    seed: int,
    **changes: Any,
) -> None:
    """One recording of the tiny data set; ``changes`` go to `Recording`."""
    rng = np.random.default_rng(seed)
    blocks = np.concatenate([rng.permutation(4) for _ in range(3)])[: int(DURATION_S / BLOCK_S)]
    switches = [
        SensorTrack(name=f"door{d}", kind="switch", unit="", hz=None, place=PLACES[d])
        for d in range(3)
    ]
    shaker = SensorTrack(name="shaker", kind="acceleration", unit="g", hz=HZ, axes=("x", "y", "z"))
    tracks = [LabelTrack(name=t, source="drawn") for t in ("activity", "door", "person")]
    with new_recording(folder, name) as part:
        for d, switch in enumerate(switches):
            write_sensor(part, switch, *_switch(blocks, d))
        write_sensor(part, shaker, *_shaker(blocks, rng))
        _write_video(part / "video.mp4", blocks)
        for track, rows in zip(tracks, _labels(blocks), strict=True):
            write_labels(part, track, rows)
        camera = VideoTrack(
            name="camera",
            file="video.mp4",
            fps=FPS,
            frames=int(DURATION_S * FPS),
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
        body: dict[str, Any] = {
            "folder": part,
            "name": name,
            "subject": subject,
            "run": run,
            "duration_s": DURATION_S,
            "videos": (camera,),
            "sensors": (*switches, shaker),
            "labels": tuple(tracks),
        }
        write_recording(Recording(**(body | changes)))


def _switch(blocks: np.ndarray, door: int) -> tuple[np.ndarray, np.ndarray]:
    """Events: open from 0.5 s after the start of its blocks to 0.5 s before their end."""
    rows = [(0.0, 0.0)]
    for b in np.flatnonzero(blocks == door + 1):
        rows += [(b * BLOCK_S + 0.5, 1.0), ((b + 1) * BLOCK_S - 0.5, 0.0)]
    table = np.asarray(rows)
    return table[:, 0], table[:, 1]


def _shaker(blocks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    t_s = np.arange(int(DURATION_S * HZ)) / HZ
    kind = blocks[(t_s / BLOCK_S).astype(int)]
    swing = np.where(kind > 0, np.sin(2 * np.pi * kind * t_s), 0.0)
    values = 0.05 * rng.normal(size=(len(t_s), 3)) + [0.0, 0.0, 1.0]
    values[:, 0] += swing
    values[:, 1] += 0.5 * swing
    return t_s, values


def _write_video(path: Path, blocks: np.ndarray) -> None:
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, FPS, (WIDTH_PX, HEIGHT_PX))
    for i in range(int(DURATION_S * FPS)):
        picture = np.full((HEIGHT_PX, WIDTH_PX, 3), 60, dtype=np.uint8)
        picture[:, ::16] = 90
        block, moment = divmod(i / FPS, BLOCK_S)
        kind = int(blocks[int(block)])
        if kind:
            left = 4 + (kind - 1) * 20
            top = int((HEIGHT_PX - 14) * (1 - moment / BLOCK_S))
            picture[top : top + 14, left : left + 14] = (220, 220, 40 + 60 * kind)
        writer.write(picture)
    writer.release()


def _labels(blocks: np.ndarray) -> tuple[list[Any], list[Any], list[Any]]:
    spans = [(b * BLOCK_S, (b + 1) * BLOCK_S, int(k)) for b, k in enumerate(blocks)]
    return (
        [(s, e, ACTIVITIES[k]) for s, e, k in spans],
        [(s, e, PLACES[k - 1]) for s, e, k in spans if k],
        [(s, e, "person") for s, e, k in spans if k],
    )
