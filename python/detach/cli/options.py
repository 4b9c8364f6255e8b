"""What each verb takes: one dataclass a verb, whose docstrings are the help."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from detach.config import RunConfig


@dataclass(kw_only=True)
class DoctorArgs:
    """Says what this machine has, and checks the kernels against their references."""


@dataclass(kw_only=True)
class DemoArgs:
    """Trains on the sample recordings, evaluates, and writes a report. Minutes on a CPU."""

    out: Path = Path("detach-demo")
    seed: int = 0


@dataclass(kw_only=True)
class ImportArgs:
    """Turns other people's formats into recordings."""

    format: Positional[Literal["sphere"]]
    source: Positional[Path]
    """A folder or an archive."""
    out: Positional[Path]
    """A new data set folder."""
    sensors: tuple[Literal["pir", "wrist"], ...] = ("pir", "wrist")
    limit: int | None = None
    """Import only so many recordings."""
    exchanged: tuple[str, ...] = ()
    """Recordings whose kitchen and living-room cameras are exchanged, instead of our decision."""
    kept: tuple[str, ...] = ()
    """Recordings whose cameras are as named, instead of our decision."""
    flipped: tuple[str, ...] = ()
    """Recordings with the wrist unit half a turn about z, instead of our decision."""
    upright: tuple[str, ...] = ()
    """Recordings with the wrist unit as it is, instead of our decision."""
    workers: int = os.cpu_count() or 1


@dataclass(kw_only=True)
class SimulateArgs:
    """Makes recordings of a simulated home (needs the extra `sim`)."""

    out: Positional[Path]
    """A new data set folder."""
    home: str = "opportunity"
    level: str = "default"
    minutes: float = 20.0
    seed: int = 0
    runs: int | None = None
    """How many recordings the minutes are shared among; None chooses."""
    width_px: int = 160
    height_px: int = 120
    workers: int = 1


@dataclass(kw_only=True)
class TrainArgs:
    """Trains one method on a data set; a run folder comes out."""

    data: Positional[Path]
    """Data set folder, with dataset.json."""
    out: Path
    """Run folder; with several seeds, their parent."""
    config: Path | None = None
    """Recipe: a YAML file, or the name of one that comes along (small, paper, demo)."""
    seeds: int = 1
    """Train so many seeds, seed0 and up, one after the other."""
    resume: bool = False
    """Go on where an interrupted run stopped."""
    stage1_from: Path | None = None
    """A finished run with the same stage 1 and seed: train only stage 2, for comparisons."""
    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)


@dataclass(kw_only=True)
class EvaluateArgs:
    """Linear probe, retrieval and references for finished runs; never trains an encoder."""

    runs: Positional[tuple[Path, ...]]
    data: Path | None = None
    """Another data set than the runs were trained on."""
    track: str | None = None
    """Label track to recognise; None takes the run's."""
    leave_one_run_out: bool = False
    append: Path | None = None
    """Also add every number of the table to this CSV file, with commit and device."""


@dataclass(kw_only=True)
class ReportArgs:
    """One self-contained HTML page about finished runs."""

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None


@dataclass(kw_only=True)
class BenchArgs:
    """Times the operators against what one could call instead, in turns, in one process."""

    part: Positional[Literal["loss", "percentile", "step"]]
    """The contrastive loss, the activation percentile, or a whole training step."""
    sizes: tuple[int, ...] = ()
    """Batch sizes N; none takes those that suit the part."""
    full: bool = False
    """Larger sizes too, 3 s each, and memory up to N = 16384. Many minutes."""
    threads: int = 1
    """One is timed by CPU time, several by the clock on the wall."""
    seconds: float | None = None
    """How long each variant is timed; None is 1, or 3 with --full."""
    repeats: int = 5
    """Calls that each variant gets at least."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:0 and so on."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the loss's features; others run under autocast."""
    forward_only: bool = False
    """The loss without its gradient."""
    memory: bool = True
    """Whether peak memory is measured too, each variant in a process of its own."""
    open_clip: Path | None = None
    """open_clip's wheel or its loss.py, where the package is not installed."""
    append: Path | None = None
    """Also add every number to this CSV file, with commit and device."""
    out: Path | None = None
    """Also draw the numbers, into this folder."""
