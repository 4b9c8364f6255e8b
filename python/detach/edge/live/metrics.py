"""Counters and gauges as Prometheus reads them, and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detach.data.store import write_whole
from detach.edge.live.loop import Live
from detach.edge.live.outcomes import Outcome

LAGS = (0.5, 0.95, 0.99)
WRITE_EVERY_S = 15.0


@dataclass(frozen=True)
class Counters:
    """Of what is beside the loop."""

    link: Mapping[str, int] = field(default_factory=dict)
    camera: Mapping[str, int] = field(default_factory=dict)


def status(live: Live, beside: Counters | None = None) -> dict[str, Any]:
    """All there is to know of the health of an instance, as a flat object of numbers.

    What policies did for a sensor is called ``samples_masked.SENSOR``.

    Args:
        live: The instance.
        beside: Counters of connection and camera.
    """
    found: dict[str, Any] = {"online": live.online, "clock_steps": live.clock_steps}
    for name in ("decision", "abstention", "skip"):
        found[f"{name}s"] = live.tally.counts[name]
    found["changes"] = live.tally.changes
    for why, count in sorted(live.tally.counts.items()):
        kind, _, reason = why.partition("_")
        if reason:
            found[f"{kind}s_{reason}"] = count
    found["intake_longest"] = live.intake.longest
    counters: tuple[tuple[str, Mapping[str, int]], ...] = (
        ("intake", live.intake.counts),
        ("payload", live.sensors.counts),
        ("stream", {**live.counts, **{f"window_{k}": v for k, v in live.stream.counters.items()}}),
        ("broker", beside.link if beside else {}),
        ("camera", beside.camera if beside else {}),
    )
    for group, counts in counters:
        found |= {f"{group}_{name}": count for name, count in sorted(counts.items())}
    for what, by_sensor in live.policy_counts.items():
        found |= {f"{what}.{sensor}": count for sensor, count in sorted(by_sensor.items())}
    found["stamps_refused"] = sum(c.refused for c in live.sensors.clocks.values())
    for share, lag_s in zip(LAGS, live.tally.lag_s(*LAGS), strict=True):
        found[f"lag_p{round(100 * share)}_s"] = round(lag_s, 4)
    return found


def prometheus(found: Mapping[str, Any], instance: str) -> str:
    """The text format, version 0.0.4."""
    lines = []
    for name, value in found.items():
        kind = (
            "gauge"
            if name in {"online", "intake_longest"} or name.startswith("lag_")
            else "counter"
        )
        short, _, sensor = name.partition(".")
        full = f"detach_{short}" if kind == "gauge" else f"detach_{short}_total"
        of = f',sensor="{_escaped(sensor)}"' if sensor else ""
        if (head := f"# TYPE {full} {kind}") not in lines:
            lines.append(head)
        lines.append(f'{full}{{instance_name="{instance}"{of}}} {float(value):g}')
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"')


class MetricsFile:
    """A sink that keeps a file up to date, for node_exporter's textfile collector.

    Args:
        path: Replaced as a whole.
        live: The instance.
        beside: Counters of connection and camera.
    """

    def __init__(self, path: Path, live: Live, beside: Counters | None = None) -> None:
        self._path, self._live, self._beside, self._next_s = path, live, beside, 0.0

    def take(self, outcome: Outcome) -> None:
        """Nothing; outcomes are counted elsewhere."""

    def idle(self, now_s: float) -> None:
        """Writes it now and then."""
        if now_s >= self._next_s:
            self._next_s = now_s + WRITE_EVERY_S
            self._write()

    def close(self) -> None:
        """Writes it once more."""
        self._write()

    def _write(self) -> None:
        text = prometheus(status(self._live, self._beside), self._live.config.name)
        write_whole(self._path, text.encode())
