"""`detach bench percentile`: the activation percentile, p99 with linear interpolation."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from detach import equations, ops
from detach.bench import ceiling, memory
from detach.bench.options import Options, machine
from detach.bench.table import Benchmark, Block, Row, ratios, skipped
from detach.bench.timing import Body, Clock, clock_of, interleave, threads

Q = 0.99
CHANNELS, LENGTHS = 34, (60, 100)
"""Windows of 2 s at 30 and at 50 Hz."""
LAYOUTS = {"channels last": 1, "time last": 2}
"""[N, T, C] and [N, C, T], by the axis that is reduced."""
USUAL, WHOLE = (256,), (256, 4096)
TOLERANCE = 1e-5
"""Of results near 2.3: torch.quantile computes its rank in float32, which costs 5e-6."""
RIVALS = (
    ("torch.quantile", "torch.quantile"),
    ("torch.topk", "torch.topk"),
    ("np.percentile", "np.percentile"),
)


@dataclass(frozen=True)
class Way:
    """One way to compute it."""

    name: str
    reduce: Callable[[Tensor, int], Tensor]
    on_gpu: bool = True


def run(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Times all ways at every size, length and layout."""
    clock = clock_of(options.on, options.threads)
    sizes = options.chosen(USUAL, WHOLE)
    shapes = [(n, t, layout) for n in sizes for t in LENGTHS for layout in LAYOUTS]
    lacking: list[str] = []
    with threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocks = [_block(*shape, options, clock, lacking, say) for shape in shapes]
    notes = (
        f"Of ceiling: bytes of the input over the time, over the rate of copying it. "
        f"{CHANNELS} channels, float32; each call goes through Python.",
    )
    return Benchmark(
        "percentile", f"p99 by linear interpolation, {clock.name}", machine(options),
        tuple(blocks), notes, tuple(dict.fromkeys(lacking)),
    )  # fmt: skip


def ways(device: torch.device) -> list[Way]:
    """All that can run on a device, ours first."""
    found = [
        Way("detach", lambda x, dim: ops.activation_percentile(x, Q, dim)),
        Way("torch.quantile", lambda x, dim: torch.quantile(x, Q, dim)),
        Way("torch.kthvalue, twice", _kth_values),
        Way("torch.topk", _top),
        Way("torch.sort", lambda x, dim: equations.activation_percentile(x, Q, dim)),
        Way("np.percentile", _numpy, on_gpu=False),
        Way("np.partition", _partition, on_gpu=False),
    ]
    return [way for way in found if way.on_gpu or device.type == "cpu"]


def windows(n: int, length: int, layout: str, device: torch.device) -> Tensor:
    """Gaussian samples, [n, T, C] or [n, C, T]."""
    shape = (n, length, CHANNELS) if LAYOUTS[layout] == 1 else (n, CHANNELS, length)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def body(name: str, length: int, layout: str, options: Options, n: int) -> Body:
    """One way by name, bound to ``n`` windows."""
    way = next(w for w in ways(options.on) if w.name == name)
    return partial(way.reduce, windows(n, length, layout, options.on), LAYOUTS[layout])


def difference(way: Way, x: Tensor, dim: int) -> float:
    """Largest error against the equation in float64."""
    truth = equations.activation_percentile(x.double(), Q, dim)
    return float((way.reduce(x, dim).double() - truth).abs().max())


def _block(
    n: int,
    length: int,
    layout: str,
    options: Options,
    clock: Clock,
    lacking: list[str],
    say: Callable[[str], None],
) -> Block:
    x, dim = windows(n, length, layout, options.on), LAYOUTS[layout]
    title = f"N = {n}, T = {length}, {layout}"
    bodies: dict[str, Body] = {}
    for way in ways(options.on):
        try:
            error = difference(way, x, dim)
        except RuntimeError as failure:  # torch.quantile refuses more than 2^24 numbers
            lacking.append(skipped(f"{way.name} at {title}", str(failure).partition("\n")[0]))
            continue
        if error > TOLERANCE:
            lacking.append(skipped(f"{way.name} at {title}", f"its result is off by {error:.1e}"))
            continue
        bodies[way.name] = partial(way.reduce, x, dim)
    peak = ceiling.copying(options.on, clock, x.numel())
    say(f"{title}: {len(bodies)} ways in turns")
    timed = interleave(bodies, clock, options.turn_s, options.repeats)
    peak = peak.or_higher(ceiling.copying(options.on, clock, x.numel()))
    grown = _extra(bodies, n, length, layout, options) if options.memory else {}
    rows = [
        Row(name, "", t.seconds, t.calls, 4 * x.numel() / t.seconds / peak.rate, grown.get(name))
        for name, t in timed.items()
    ]
    notes = (f"ceiling: {peak.text}", ratios(rows, rows[0], RIVALS))
    data = f"Gaussian samples, {CHANNELS} channels, T = {length}, {layout}"
    return Block(title, data, n, tuple(rows), notes)


def _extra(
    bodies: dict[str, Body], n: int, length: int, layout: str, options: Options
) -> dict[str, int | None]:
    if options.on.type == "cuda":
        return {name: memory.growth_on_gpu(call) for name, call in bodies.items()}
    return {
        name: memory.growth(
            partial(body, name, length, layout, options), n, threads=options.threads
        )
        for name in bodies
    }


def _rank(length: int) -> tuple[int, float]:
    rank = Q * (length - 1)
    return int(rank), rank - int(rank)


def _kth_values(x: Tensor, dim: int) -> Tensor:
    low, weight = _rank(x.shape[dim])
    below, above = (x.kthvalue(k, dim).values for k in (low + 1, low + 2))
    return below.lerp(above, weight)


def _top(x: Tensor, dim: int) -> Tensor:
    low, weight = _rank(x.shape[dim])
    largest = x.topk(x.shape[dim] - low, dim).values
    return largest.select(dim, -1).lerp(largest.select(dim, -2), weight)


def _numpy(x: Tensor, dim: int) -> Tensor:
    return torch.from_numpy(np.percentile(x.numpy(), 100 * Q, axis=dim))


def _partition(x: Tensor, dim: int) -> Tensor:
    low, weight = _rank(x.shape[dim])
    ordered = np.partition(x.numpy(), (low, low + 1), axis=dim)
    below, above = (np.take(ordered, k, axis=dim) for k in (low, low + 1))
    return torch.from_numpy(below + np.float32(weight) * (above - below))
