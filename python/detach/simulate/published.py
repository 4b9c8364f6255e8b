"""Simulates a home straight into a published layout, with clocks that disagree as planted."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from detach.errors import MachineError, UsageError
from detach.simulate.film import Progress
from detach.simulate.hwu_layout import write_hwu_usp
from detach.simulate.opportunity_layout import RUNS, write_opportunity
from detach.simulate.record import Options, planned_s, simulate

HOME_OF = {"opportunity++": "opportunity", "hwu-usp": "hwu"}
PLANTED_FILE = "planted.json"
MOST_OFFSET_S, MOST_DRIFT_PPM = 10.0, 1000.0
MOST_SEQUENCES = 80
"""Of HWU-USP: 16 people, 5 activities each."""
LEAST_S = 2.0
"""Of sensors beside a film: a window."""


def publish(
    out: Path,
    options: Options,
    layout: str,
    *,
    offset_s: Sequence[float] = (0.0,),
    drift_ppm: Sequence[float] = (0.0,),
    progress: Progress | None = None,
    workers: int = 1,
) -> None:
    """Writes ``out`` as the data set ``layout`` is published, and `PLANTED_FILE` into it.

    Args:
        out: Folder to make; must not exist.
        options: Of the home, which must be the one that the data set was recorded in.
        layout: opportunity++ or hwu-usp.
        offset_s: video = sensors (1 + drift) + offset, one a recording of ``opportunity`` or a
            subject of ``hwu``, in turn.
        drift_ppm: The same for the drift.
        progress: Called with a line now and then.
        workers: Processes.

    Raises:
        UsageError: Another home, or an option that is not what it must be.
        MachineError: See `simulate`.
    """
    if options.home != HOME_OF[layout]:
        raise UsageError(
            f"layout {layout} is of the home {HOME_OF[layout]}; found home {options.home!r}"
        )
    if out.exists():
        raise UsageError(f"{out}: is already there; give another folder or remove it")
    clocks = (("offset_s", offset_s, MOST_OFFSET_S), ("drift_ppm", drift_ppm, MOST_DRIFT_PPM))
    for name, values, most in clocks:
        if not values or not all(abs(x) <= most for x in values):  # also refuses NaN
            raise UsageError(f"{name} must be one or more of -{most:g} to {most:g}; found {values}")
    _check_runs(planned_s(options), layout, max(offset_s))
    with _working_folder(out) as folder:
        simulate(folder / "recordings", options, progress, workers)
        write = write_opportunity if layout == "opportunity++" else write_hwu_usp
        planted = write(folder / "recordings", out, offset_s=offset_s, drift_ppm=drift_ppm)
    rows = {name: {"offset_s": a, "drift_ppm": b} for name, (a, b) in planted.items()}
    (out / PLANTED_FILE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Beside ``out``, on whose disk there must be room anyway; ours alone, gone afterwards."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise MachineError(f"{out}: cannot be written: {error.strerror or error}") from error
    with folder as name:
        yield Path(name)


def _check_runs(lengths_s: Sequence[float], layout: str, latest_s: float) -> None:
    """Before hours of simulation: that runs have names, and sensors that overlap with the film."""
    most = len(RUNS) if layout == "opportunity++" else MOST_SEQUENCES
    if len(lengths_s) > most:
        raise UsageError(f"layout {layout} has at most {most} runs; found {len(lengths_s)}")
    if (left_s := min(lengths_s) - latest_s) < LEAST_S:
        raise UsageError(
            f"offset_s of {latest_s:g} leaves {left_s:.3g} s of sensors in a run of "
            f"{min(lengths_s):.3g} s; at least {LEAST_S:g} s must be left: give longer runs or "
            "smaller offsets"
        )
