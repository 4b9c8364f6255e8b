"""`detach bench clip`: what one clip costs on the way to its two video features, part by part.

A drawn film of a camera is decoded and shrunk as `detach run --video` does it, frame by frame; the
graphs are those of an export, of random weights, compared with torch on a few clips before.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detach import recipes
from detach.bench.graph import CHANNELS, CLUSTERS
from detach.bench.options import Options, machine
from detach.bench.table import Benchmark, Block, Row
from detach.bench.timing import Body, Clock, clock_of, interleave, threads
from detach.config import RunConfig, override
from detach.data import video
from detach.data.recording import VideoTrack
from detach.edge.film import average
from detach.errors import UsageError
from detach.export import onnx_graph, parity
from detach.export.graphs import Graph, video_graphs
from detach.model import Detach, build

RECIPE = "small"
USUAL, WHOLE = (64, 112), (64, 112, 224)
LEAST_PX, MOST_PX = 32, 448
CAMERA_PX, FPS = (480, 640), 10.0
CLIPS, CHECKED = 5, 5
"""Clips of the film, and of the comparison."""


def run(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Times every part at every picture size.

    Raises:
        UsageError: Not on a CPU, or a picture size out of range.
        MachineError: A graph does not compute what torch computes, or no film can be written.
    """
    if options.on.type != "cpu":
        raise UsageError(f"bench clip runs on the CPU, got device {options.device}")
    sizes = options.chosen(USUAL, WHOLE)
    if wrong := [size for size in sizes if not LEAST_PX <= size <= MOST_PX]:
        raise UsageError(f"sizes must be {LEAST_PX} to {MOST_PX} pixels, got {wrong[0]}")
    clock = clock_of(options.on, options.threads)
    with threads(options.threads), tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        base = recipes.read(recipes.find(Path(RECIPE)))
        count = round(CLIPS * FPS * base.windows.seconds)
        video.write(film, drawn(count), FPS)
        blocks = [
            _block(override(base, {"video": {"size_px": size}}), film, count, options, clock, say)
            for size in sizes
        ]
    seconds = base.windows.seconds
    return Benchmark(
        "clip",
        f"one clip of {seconds:g} s, recipe {RECIPE}, {clock.name}",
        machine(options),
        tuple(blocks),
        (f"A camera of {CAMERA_PX[1]}x{CAMERA_PX[0]} at {FPS:g} frames/s; shares are of all parts "
         "together. Overlapping windows share the work of their frames.",),
    )  # fmt: skip


def drawn(count: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures [H, W, 3] of a square that moves before a coarse pattern."""
    height, width = CAMERA_PX
    coarse = np.random.default_rng(0).integers(0, 256, (height // 40, width // 40, 3), np.uint8)
    ground = coarse.repeat(40, axis=0).repeat(40, axis=1)
    for i in range(count):
        picture = ground.copy()
        left = 5 * i % (width - 80)
        picture[200:320, left : left + 80] = (200, 60, 40)
        yield picture


def _block(
    config: RunConfig,
    film: Path,
    count: int,
    options: Options,
    clock: Clock,
    say: Callable[[str], None],
) -> Block:
    size = config.video.size_px
    height, width = CAMERA_PX
    track = VideoTrack(
        name="camera", file=film.name, fps=FPS, frames=count, width_px=width, height_px=height
    )
    side = video.picture_size(width, height, config.video)
    say(f"{side[1]}x{side[0]} pictures: exporting both video graphs")
    pictures = [picture for _, picture in video.decode(film, track, config.video)]
    bodies: dict[str, Body] = {"decode": partial(_decode, film, track, config)}
    bodies["shrink"] = partial(_shrink, pictures[: count // CLIPS], config)
    bodies |= _graphs(config, side)
    timed = interleave(bodies, clock, options.turn_s, options.repeats)
    seconds = {name: timed[name].seconds for name in bodies}
    seconds["decode"] /= CLIPS
    whole = sum(seconds.values())
    rows = [Row("detach, a clip", "whole", whole, min(t.calls for t in timed.values()))]
    rows += [Row(n, "part", s, timed[n].calls, s / whole) for n, s in seconds.items()]
    notes = (f"{1 / whole:.0f} clips/s on {options.threads} thread{'s'[: options.threads - 1]}",)
    return Block(f"{size} px", f"{side[1]}x{side[0]} pixels, {config.video.frames} frames", size,
                 tuple(rows), notes, share="clip")  # fmt: skip


def _decode(film: Path, track: VideoTrack, config: RunConfig) -> None:
    for _ in video.decode(film, track, config.video):
        pass


def _shrink(pictures: list[NDArray[np.uint8]], config: RunConfig) -> None:
    for picture in pictures:
        average(picture.astype(np.float32), _motion_px(picture.shape[:2], config))


def _motion_px(side: tuple[int, ...], config: RunConfig) -> tuple[int, int]:
    """Sides h and w as `encoders.shrink` makes them."""
    area = (side[0] * side[1]) ** 0.5
    factor = max(1, round(area / (config.encoders.motion_size_px or area)))
    return side[0] // factor, side[1] // factor


def _graphs(config: RunConfig, side: tuple[int, int]) -> dict[str, Body]:
    """A call of each video graph on one clip, once they were compared with torch."""
    model = build(config, CHANNELS, CLUSTERS, 0).eval()
    assert isinstance(model, Detach)  # noqa: S101 -- the recipe is
    chance = torch.Generator().manual_seed(0)
    bodies: dict[str, Body] = {}
    for name, graph in video_graphs(model).items():
        feed = _feed(graph.eval(), config, side, chance)
        exported = onnx_graph.export_graph(graph, feed)
        parity.check(name, graph, {"fp32": exported}, partial(_rows, feed), np.arange(CHECKED))
        session = parity.open_session(exported)
        one = {key: value[:1].numpy() for key, value in feed.items()}
        bodies[name] = partial(session.run, None, one)
    return bodies


def _feed(
    graph: Graph, config: RunConfig, side: tuple[int, int], chance: torch.Generator
) -> dict[str, Tensor]:
    """Some clips [n, ...] as the graph takes them, in [0, 1]."""
    frames = config.video.frames
    shapes = {
        "pictures": (*side, 3),
        "frames": (frames, *_motion_px(side, config), 3),
    }
    return {name: torch.rand(CHECKED, *shapes[name], generator=chance) for name in graph.inputs}


def _rows(feed: dict[str, Tensor], index: NDArray[np.int64]) -> parity.Feed:
    return {name: value[index] for name, value in feed.items()}
