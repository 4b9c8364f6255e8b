"""Clocks, and turns: every variant runs once a round, in an order that changes."""

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

Body = Callable[[], object]
"""One call of what is measured."""


TURN_S, MOST_CALLS = 0.002, 100


@dataclass(frozen=True)
class Clock:
    """How one call is timed, and which of many timings counts."""

    name: str
    measure: Callable[[Body], float]
    """Seconds of one call."""
    pick: Callable[[Sequence[float]], float]
    warm_ups: int
    least: int
    """Fewest calls, whatever the options say."""
    turn_s: float = 0.0
    """How long a turn lasts at least: a call shorter than that would mostly fetch back what the
    others have thrown out of the caches, which a long one does in passing."""


@dataclass(frozen=True)
class Timing:
    """Of one variant."""

    seconds: float
    calls: int


def clock_of(device: torch.device, threads: int) -> Clock:
    """CPU time on one thread, which neighbours do not disturb; wall on several; events on a GPU."""
    if device.type == "cuda":
        return Clock("median of CUDA events", _cuda_seconds, statistics.median, 10, 50)
    if threads == 1:
        return Clock("CPU time, minimum", _measured_by(time.process_time), min, 2, 1, TURN_S)
    return Clock("wall time, minimum", _measured_by(time.perf_counter), min, 2, 1, TURN_S)


def interleave(
    bodies: Mapping[str, Body], clock: Clock, seconds: float, repeats: int
) -> dict[str, Timing]:
    """Times all bodies in turns.

    Rounds go on until the bodies have taken ``seconds`` each on average, and at least ``repeats``
    times. All take part in every round: a fast one does not end up alone with a warm cache.
    """
    for body in bodies.values():
        for _ in range(clock.warm_ups):
            body()
    order, chance = list(bodies), random.Random(0)  # noqa: S311 -- no secret
    found: dict[str, list[float]] = {name: [] for name in bodies}
    spent, rounds = 0.0, 0
    with _without_collector():
        while rounds < max(repeats, clock.least) or spent < seconds * len(bodies):
            chance.shuffle(order)
            for name in order:
                times = _turn(bodies[name], clock)
                found[name] += times
                spent += sum(times)
            rounds += 1
    return {name: Timing(clock.pick(times), len(times)) for name, times in found.items()}


def _turn(body: Body, clock: Clock) -> list[float]:
    """One call, or as many as make up a turn."""
    times = [clock.measure(body)]
    while sum(times) < clock.turn_s and len(times) < MOST_CALLS:
        times.append(clock.measure(body))
    return times


def best(body: Body, clock: Clock, calls: int) -> float:
    """Fewest seconds of several calls, for ceilings."""
    body()
    return min(clock.measure(body) for _ in range(calls))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turns(bodies: Sequence[Body]) -> Body:
    """One body that runs another of several at each call, so that inputs are not all cached."""
    if len(bodies) == 1:
        return bodies[0]
    state = {"next": 0}

    def run() -> None:
        bodies[state["next"] % len(bodies)]()
        state["next"] += 1

    return run


def captured(body: Body) -> Body:
    """The replay of ``body`` as one CUDA graph.

    Raises:
        RuntimeError: Something in it cannot be captured.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph.replay


def _measured_by(now: Callable[[], float]) -> Callable[[Body], float]:
    def measure(body: Body) -> float:
        start = now()
        body()
        return now() - start

    return measure


def _cuda_seconds(body: Body) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    body()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
