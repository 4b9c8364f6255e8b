"""The last minutes, as the live page draws them: what sensors said and what was made of it.

Everything is bounded. Values of a sampled axis are kept as the least and the largest of every
`BUCKET_S`, an event sensor's as its changes.
"""

import itertools
import math
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from detach.edge.live.config import IDLE, LiveConfig
from detach.edge.live.outcomes import Outcome
from detach.edge.live.sensors import SensorKind
from detach.edge.manifest import Manifest

KEPT_S = 600.0
BUCKET_S = 0.5
MOST_CHANGES = 2000
"""Of one axis; a sensor that chatters loses its oldest."""
LIKELIEST = 3
Point = list[float | None]


class Changes:
    """A value that holds until the next: points [t, value], null where it is unknown."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float | None]] = deque(maxlen=MOST_CHANGES)

    def add(self, t_s: float, value: float) -> None:
        """In order of time; an earlier one than the last is set to the last's time."""
        known = None if math.isnan(value) else _short(value)
        if self._points:
            last_s, last = self._points[-1]
            t_s = max(t_s, last_s)
            if known == last:
                return
        self._points.append((round(t_s, 3), known))
        while len(self._points) > 1 and self._points[1][0] < t_s - KEPT_S:
            self._points.popleft()

    def since(self, from_s: float) -> list[Point]:
        """Those from then on."""
        found = itertools.takewhile(lambda p: p[0] >= from_s, reversed(self._points))
        return [list(p) for p in found][::-1]


class Samples:
    """Many values a second: points [t, least, largest], one for each `BUCKET_S`."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, float, float]] = deque(maxlen=round(KEPT_S / BUCKET_S))

    def add(self, t_s: float, value: float) -> None:
        """In any order within the last few buckets."""
        if math.isnan(value):
            return
        number = math.floor(t_s / BUCKET_S)
        if not self._buckets or number > self._buckets[-1][0]:
            self._buckets.append((number, value, value))
            return
        for i in range(len(self._buckets) - 1, max(-1, len(self._buckets) - 8), -1):
            at, low, high = self._buckets[i]
            if at == number:
                self._buckets[i] = at, min(low, value), max(high, value)
                return

    def since(self, from_s: float) -> list[Point]:
        """Those from then on."""
        first = math.floor(from_s / BUCKET_S) if math.isfinite(from_s) else from_s
        buckets = itertools.takewhile(lambda b: b[0] >= first, reversed(self._buckets))
        found: list[Point] = [[n * BUCKET_S, _short(a), _short(b)] for n, a, b in buckets]
        return found[::-1]


class History:
    """Takes values and outcomes in the loop's thread, and is read in the page's.

    Args:
        manifest: Of the bundle.
        kinds: Of the sensors that are here.
        config: The configuration.
    """

    def __init__(
        self, manifest: Manifest, kinds: Mapping[str, SensorKind], config: LiveConfig
    ) -> None:
        self._lock = threading.Lock()
        channels = [c for c in manifest.channels if c.sensor in kinds]
        self._lanes: dict[tuple[str, str], Changes | Samples] = {
            (c.sensor, c.axis): Changes() if kinds[c.sensor].hz is None else Samples()
            for c in channels
        }
        self._outcomes: deque[dict[str, Any]] = deque(
            maxlen=round(KEPT_S / manifest.window.hop_s) + 1
        )
        self.about = _about(manifest, kinds, config)

    def push(self, sensor: str, axis: str, t_s: list[float], values: list[float]) -> None:
        """Values of a channel [n] at times [n] of the stream."""
        lane = self._lanes.get((sensor, axis))
        if lane is not None:
            with self._lock:
                for t, value in zip(t_s, values, strict=True):
                    lane.add(t, value)

    def take(self, outcome: Outcome) -> None:
        """One more."""
        with self._lock:
            self._outcomes.append(_shown(outcome))

    def since(self, from_s: float = -math.inf) -> dict[str, Any]:
        """All that happened from then on; whoever reads drops what it has from there, and adds it.

        Lanes stand in the order of ``about["lanes"]``, those without news left out.
        """
        with self._lock:
            lanes = {i: lane.since(from_s) for i, lane in enumerate(self._lanes.values())}
            found = itertools.takewhile(lambda o: o["end_s"] >= from_s, reversed(self._outcomes))
            outcomes = list(found)[::-1]
        return {
            "from_s": None if math.isinf(from_s) else from_s,
            "lanes": {i: points for i, points in lanes.items() if points},
            "outcomes": outcomes,
        }


def _about(
    manifest: Manifest, kinds: Mapping[str, SensorKind], config: LiveConfig
) -> dict[str, Any]:
    """What does not change."""
    channels = [c for c in manifest.channels if c.sensor in kinds]
    lanes = [
        {
            "sensor": c.sensor,
            "axis": c.axis,
            "unit": c.unit,
            "binary": c.binary,
            "sampled": kinds[c.sensor].hz is not None,
            "place": config.sensors[c.sensor].place,
        }
        for c in channels
    ]
    missing = {c.sensor for c in manifest.channels} - set(kinds)
    return {
        "instance": config.name,
        "dataset": manifest.dataset,
        "model": manifest.model[:12],
        "classes": list(manifest.classes),
        "idle": list(config.publish.idle if config.publish is not None else IDLE),
        "places": manifest.places,
        "hop_s": manifest.window.hop_s,
        "window_s": manifest.window.seconds,
        "kept_s": KEPT_S,
        "bucket_s": BUCKET_S,
        "lanes": lanes,
        "missing": sorted(missing),
        "broker": config.mqtt is not None,
        "camera": config.camera is not None and config.page is not None and config.page.camera,
    }


def _shown(outcome: Outcome) -> dict[str, Any]:
    decision = outcome.decision
    body: dict[str, Any] = {
        "number": outcome.number,
        "kind": outcome.kind,
        "start_s": round(outcome.start_s, 3),
        "end_s": round(outcome.end_s, 3),
        "state": outcome.state,
        "reason": outcome.reason,
        "count": outcome.count,
    }
    if decision is None:
        return body
    order = np.argsort(decision.probabilities)[::-1][:LIKELIEST].tolist()
    return body | {
        "label": decision.label,
        "likeliest": [[int(i), round(decision.probabilities[i], 3)] for i in order],
        "place": decision.place,
        "live_share": round(decision.live_share, 3),
        "agreement": None if decision.agreement is None else round(decision.agreement, 3),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
