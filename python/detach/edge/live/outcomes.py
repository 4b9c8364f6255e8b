"""One outcome for every hop, and when a decision counts."""

from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detach.edge.decide import UNKNOWN, Decision
from detach.edge.live.config import Deciding
from detach.edge.manifest import Manifest, Thresholds

Kind = Literal["decision", "abstention", "skip"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Decision, abstention, or a skip that is counted.

    Of window ``number``, or, skipped, of several from there on.
    """

    number: int
    kind: Kind
    start_s: float
    """On the stream's clock, which began with the program."""
    end_s: float
    utc_s: float
    """Seconds of Unix at ``end_s``, by the wall clock as it is now."""
    state: str | None
    """What is held to be going on after this window; None where it is not known."""
    changed: bool
    """Whether ``state`` is another than before."""
    count: int = 1
    """Hops; more than one only for a skip."""
    reason: str | None = None
    """Of an abstention or a skip: offline, silent_sensor, few_sensors, unsure, failed, behind."""
    decision: Decision | None = None
    lag_s: float = 0.0
    """From the window's end to this outcome."""

    def as_json(self) -> dict[str, Any]:
        """A flat object with rounded numbers; times of Unix."""
        body: dict[str, Any] = {
            "number": self.number,
            "outcome": self.kind,
            "end": round(self.utc_s, 3),
            "state": self.state,
            "changed": self.changed,
        }
        if self.reason is not None:
            body["reason"] = self.reason
        if self.kind == "skip":
            return body | {"hops": self.count}
        if self.decision is not None:
            fields = self.decision.as_json()
            body |= {k: v for k, v in fields.items() if k not in {"start_s", "end_s"}}
        return body | {"lag_s": round(self.lag_s, 3)}


class Settled:
    """What is held to be going on: an answer counts when it lasts.

    A new answer needs ``windows`` in a row, or a mean probability of ``mean_probability`` over as
    many. After as many windows without an answer it is unknown, and so it is where the bundle's
    own class for that is what lasts.

    Args:
        config: The rules.
        classes: Names of the probabilities.
    """

    def __init__(self, config: Deciding, classes: tuple[str, ...]) -> None:
        self._config, self._classes = config, classes
        self._last: deque[tuple[str | None, NDArray[np.float64]]] = deque(maxlen=config.windows)
        self.state: str | None = None

    def forget(self) -> bool:
        """Nothing is known any more; whether it was before."""
        self._last.clear()
        known, self.state = self.state is not None, None
        return known

    def take(self, decision: Decision | None) -> bool:
        """One more window, or None for one without an answer. Whether the state changed."""
        label = None if decision is None or decision.label == UNKNOWN else decision.label
        told = () if decision is None or decision.silent else decision.probabilities
        known = len(told) == len(self._classes)
        self._last.append((label, np.array(told) if known else np.zeros(len(self._classes))))
        if len(self._last) < self._config.windows:
            return False
        new = self._answer()
        changed, self.state = new != self.state, new
        return changed

    def _answer(self) -> str | None:
        labels = {label for label, _ in self._last}
        if len(labels) == 1:
            return next(iter(labels))
        if self._classes:
            mean = np.mean([p for _, p in self._last], axis=0)
            best = int(mean.argmax())
            if mean[best] >= self._config.mean_probability:
                sure = self._classes[best]
                return None if sure == UNKNOWN else sure
        return self.state


def with_thresholds(manifest: Manifest, config: Deciding) -> Manifest:
    """The bundle's manifest with the thresholds of the configuration, where it has some."""
    own, bundle = config, manifest.thresholds
    limits = Thresholds(
        confidence=bundle.confidence if own.confidence is None else own.confidence,
        live_share=bundle.live_share if own.live_share is None else own.live_share,
        basis=bundle.basis if own.confidence is None else None,
    )
    return replace(manifest, thresholds=limits)


class Tally:
    """Outcomes and lags so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.changes = 0
        self._lags: deque[float] = deque(maxlen=3600)

    def take(self, outcome: Outcome) -> None:
        """Counts it."""
        self.counts[outcome.kind] += outcome.count
        if outcome.reason is not None:
            self.counts[f"{outcome.kind}_{outcome.reason}"] += outcome.count
        self.changes += outcome.changed
        if outcome.kind != "skip":
            self._lags.append(outcome.lag_s)

    def lag_s(self, *shares: float) -> list[float]:
        """Quantiles over the last 3600 windows; 0 before the first."""
        if not self._lags:
            return [0.0] * len(shares)
        return [float(x) for x in np.quantile(np.array(self._lags), shares)]
