"""`detach bench graph`: the sensor graph as it is deployed beside the same network in torch.

A network of random weights for each recipe, at the sizes of the Opportunity preset; time, nodes and
bytes do not depend on what was learned. Only after both were compared on 256 windows.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from detach import recipes
from detach.bench.options import Options, machine
from detach.bench.table import Benchmark, Block, Row, ratios
from detach.bench.timing import Body, Clock, clock_of, interleave, threads
from detach.config import RunConfig
from detach.errors import UsageError
from detach.export import onnx_graph, parity
from detach.export.describe import window_samples
from detach.export.graphs import SensorGraph, sample_matrix
from detach.export.precision import to_half
from detach.model import Detach, build

RECIPES = ("small", "paper")
CHANNELS, CLUSTERS = 34, 8
CHECKED = 256
FULL, HALF, EAGER = "detach, ONNX Runtime, fp32", "detach, ONNX Runtime, fp16", "torch, eager"
LATE = 95
"""Percentile of the slow calls."""

Models = Mapping[str, ModelProto]


def run(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Times both recipes at every size.

    Raises:
        UsageError: Anything but a CPU is asked for: the sensor graph runs there.
        MachineError: The graph does not compute what torch computes.
    """
    if options.on.type != "cpu":
        raise UsageError(f"bench graph runs on the CPU, got device {options.device}")
    clock = clock_of(options.on, options.threads)
    blocks = []
    with threads(options.threads):
        for recipe in RECIPES:
            graph, models = exported(recipes.read(recipes.find(Path(recipe))), say)
            for n in options.chosen((1,), (1, 16)):
                say(f"recipe {recipe}, {n} windows: {len(models) + 1} variants in turns")
                blocks.append(_block(recipe, graph, models, n, options, clock))
    return Benchmark(
        "graph",
        f"sensor graph, T x C = {_sizes(blocks)}, {clock.name}",
        machine(options),
        tuple(blocks),
        ("Random weights; embedding and places, without a head. ONNX Runtime keeps fp16 weights "
         "and computes in float32 where the CPU cannot do otherwise.",),
    )  # fmt: skip


def exported(config: RunConfig, say: Callable[[str], None]) -> tuple[SensorGraph, Models]:
    """A network of this shape and its ONNX models by variant, compared on 256 windows.

    Raises:
        MachineError: They differ by more than an export allows.
    """
    model = build(config, CHANNELS, CLUSTERS, 0).eval()
    assert isinstance(model, Detach)  # noqa: S101 -- both recipes are
    matrix = sample_matrix(window_samples(config), config.sensors)
    graph = SensorGraph(model, ("places", "embedding"), matrix=matrix).eval()
    samples = windows(config, CHECKED)
    full = onnx_graph.export_graph(graph, {"samples": samples[:3]})
    half = to_half(full)
    say(f"comparing both precisions with torch on {CHECKED} windows")
    parity.check(
        "sensor",
        graph,
        {"fp32": full, "fp16": half},
        lambda index: {"samples": samples[index]},
        np.arange(CHECKED),
    )
    return graph, {FULL: full, HALF: half}


def windows(config: RunConfig, n: int) -> Tensor:
    """Samples [n, T, C], normalised; the first half of the channels are switches."""
    chance = torch.Generator().manual_seed(0)
    samples = torch.randn(n, window_samples(config), CHANNELS, generator=chance)
    samples[:, :, : CHANNELS // 2] = (samples[:, :, : CHANNELS // 2] > 0).float()
    return samples


def _block(
    recipe: str, graph: SensorGraph, models: Models, n: int, options: Options, clock: Clock
) -> Block:
    config = recipes.read(recipes.find(Path(recipe)))
    bodies = _bodies(graph, models, windows(config, n), options.threads)
    timed = interleave(bodies, clock, options.turn_s, options.repeats)
    late = Clock(clock.name, clock.measure, _late, clock.warm_ups, 20, clock.turn_s)
    slow = interleave(bodies, late, options.turn_s, options.repeats)
    rows = tuple(
        Row(name, "graph", timed[name].seconds, timed[name].calls, late_s=slow[name].seconds)
        for name in bodies
    )
    full = models[FULL]
    size = " and ".join(f"{model.ByteSize() / 1e6:.2f} MB" for model in models.values())
    notes = (
        f"{len(full.graph.node)} nodes, {size}",
        ratios(rows, rows[0], (("torch eager", EAGER), ("fp16", HALF))),
    )
    shape = "x".join(map(str, windows(config, 1).shape[1:]))
    return Block(f"recipe {recipe}, N = {n}", f"recipe {recipe}, [N, {shape}]", n, rows, notes)


def _bodies(graph: SensorGraph, models: Models, samples: Tensor, count: int) -> dict[str, Body]:
    def eager() -> object:
        with torch.inference_mode():
            return graph(samples)

    feed = {"samples": samples.numpy()}
    sessions = {name: parity.open_session(model, count) for name, model in models.items()}
    return {name: partial(s.run, None, feed) for name, s in sessions.items()} | {EAGER: eager}


def _late(seconds: object) -> float:
    return float(np.percentile(np.asarray(seconds), LATE))


def _sizes(blocks: list[Block]) -> str:
    return ", ".join(dict.fromkeys(block.data.partition("[N, ")[2].rstrip("]") for block in blocks))
