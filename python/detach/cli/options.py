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
    """Turns other people's formats into recordings.

    An option that the format has no use for is refused.
    """

    format: Positional[
        Literal[
            "sphere",
            "opportunity++",
            "hwu-usp",
            "home-assistant",
            "mosquitto",
            "frigate",
            "casas",
            "aras",
            "kasteren",
        ]
    ]
    source: Positional[Path]
    """A folder or an archive."""
    out: Positional[Path]
    """A new data set folder."""
    sensors: tuple[Literal["pir", "wrist"], ...] = ("pir", "wrist")
    """sphere, as the next five: which to take."""
    exchanged: tuple[str, ...] = ()
    """Recordings whose kitchen and living-room cameras are exchanged, instead of our decision."""
    kept: tuple[str, ...] = ()
    """Recordings whose cameras are as named, instead of our decision."""
    flipped: tuple[str, ...] = ()
    """Recordings with the wrist unit half a turn about z, instead of our decision."""
    upright: tuple[str, ...] = ()
    """Recordings with the wrist unit as it is, instead of our decision."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    limit: int | None = None
    """sphere, opportunity++ and hwu-usp: import only so many recordings."""
    channels: Literal["paper", "all"] | None = None
    """opportunity++: 34 channels as in the paper's Table 7, or all 37 that its code reads (usual);
    hwu-usp: the paper's 6 sensors (usual), or all 11."""
    sync: bool = False
    """hwu-usp: tell how late a subject's films are, by what moves when cupboards do."""
    hours: float = 24.0
    """Length of a recording, from midnight; above 24 in whole days. Not for sphere, opportunity++
    and hwu-usp, as all below is not."""
    gap_hours: float = 12.0
    """A silence of all sensors for longer ends a recording. Not for frigate: the film does."""
    timezone: str | None = None
    """Zone of local times and of midnight, such as Europe/Berlin."""
    include: tuple[str, ...] = ()
    """Names of sensors to take, with *; none takes all."""
    pulse: tuple[str, ...] = ()
    """Names of sensors, with *, of which only switching on counts."""
    pulse_s: float = 2.0
    camera: str | None = None
    """frigate: which camera."""
    sensor_log: Path | None = None
    """frigate: Home Assistant's database or CSV, or a log of mosquitto_sub."""
    film_fps: float = 10.0
    """frigate: frames a second of the films that are put together."""


@dataclass(kw_only=True)
class InspectArgs:
    """Says what recordings are good for: a table, faults and what to do, and a page."""

    recording: Positional[Path]
    """A recording, or a data set: all of its recordings together."""
    out: Path | None = None
    """The page; None puts quality.html there."""
    film: bool = True
    """Whether videos are looked at."""


@dataclass(kw_only=True)
class SyncArgs:
    """Measures how late the camera's clock is against the sensors', and how fast that grows."""

    recording: Positional[Path]
    """A recording, or a data set: each of its recordings by itself."""
    run: Path | None = None
    """A finished run: its encoders are asked too."""
    apply: bool = False
    """Write what was found into recording.json; films and sensor files stay as they are."""
    undo: bool = False
    """Take back what was applied last, and measure nothing."""
    within_s: float | None = None
    """Lags up to this are looked for; None is 10 s, or less in recordings under 7.5 minutes."""
    out: Path | None = None
    """The page; None puts sync.html there."""


@dataclass(kw_only=True)
class NameArgs:
    """Shows what a run found without labels, takes names for it, and makes a head of them."""

    run: Positional[Path]
    """A finished run of the method detach."""
    names: Path | None = None
    """Take the names from this file, as RUN/names.yaml has them, and show no page."""
    serve: bool = True
    """Show the page on this machine until it is done; otherwise write RUN/names.html and go."""
    most: int = 25
    """Clusters at most."""
    again: bool = False
    """Cluster anew and forget names."""
    track: str | None = None
    """What the names are names of, for recordings that have labels by them; None is `names`."""
    data: Path | None = None
    """The data the run was trained on, where they have moved."""
    port: int = 0
    """0 takes a free one."""


@dataclass(kw_only=True)
class SimulateArgs:
    """Makes recordings of a simulated home (needs the extra `sim`)."""

    out: Positional[Path]
    """A new data set folder."""
    home: Literal["opportunity", "hwu"] = "opportunity"
    """A room with doors, drawers, fridge and dishwasher; or a kitchen, an activity a recording."""
    level: str = "default"
    minutes: float = 20.0
    seed: int = 0
    runs: int | None = None
    """How many recordings the minutes are shared among; None chooses."""
    people: int = 1
    """1 to 3 at once."""
    extra: tuple[Literal["sound", "light", "power"], ...] = ()
    """Sensors besides the home's own."""
    camera: Literal["corner", "head"] = "corner"
    """Fixed, or worn by the first person."""
    width_px: int = 160
    height_px: int = 120
    fps: float = 10.0
    layout: Literal["opportunity++", "hwu-usp"] | None = None
    """Write the layout in which this data set is published instead, for `detach import`."""
    offset_s: tuple[float, ...] = (0.0,)
    """With a layout: by how much films are late, one a recording or, of hwu, a subject, in turn."""
    drift_ppm: tuple[float, ...] = (0.0,)
    """And by how many millionths that grows."""
    workers: int = 1


@dataclass(kw_only=True)
class TrainArgs:
    """Trains one method on a data set; a run folder comes out."""

    data: Positional[Path]
    """Data set folder, with dataset.json."""
    out: Path
    """Run folder; with several seeds, their parent."""
    config: Path | None = None
    """Recipe: a YAML file, or a name: brief, small, paper, demo, hwu or hwu-brief."""
    seeds: int = 1
    """Train so many seeds, seed0 and up, one after the other."""
    resume: bool = False
    """Go on where an interrupted run stopped."""
    places: int | Literal["auto"] | None = None
    """K: how many places to find; auto counts them. Short for --stage1.clusters and
    --stage1.places."""
    stage1_from: Path | None = None
    """A finished run with the same stage 1 and seed: train only stage 2, for comparisons."""
    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)


@dataclass(kw_only=True)
class EvaluateArgs:
    """Linear probe, retrieval and references for finished runs; never trains an encoder."""

    runs: Positional[tuple[Path, ...]]
    data: Path | None = None
    """Another data set than the runs were trained on."""
    track: tuple[str, ...] = ()
    """Label tracks to recognise, one or several; none takes the run's."""
    leave_one_run_out: bool = False
    background: bool = False
    """Windows that no annotation touches are a class, "nothing": for heads that are deployed."""
    reuse: bool = False
    """Take over results that are there, of the same weights, if they answer all that is asked."""
    append: Path | None = None
    """Also add every number of the table to this CSV file, with commit and device."""


@dataclass(kw_only=True)
class ReportArgs:
    """One self-contained HTML page about finished runs."""

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None


@dataclass(kw_only=True)
class ReproduceArgs:
    """Tables and figures of the paper, and ours: trains what is missing, keeps what is finished."""

    out: Path
    """Folder for runs, tables.md, tables.csv and index.html."""
    table: tuple[int, ...] = ()
    """Tables 1 to 15; without this and --figure, all of both but 14, which is for a GPU."""
    figure: tuple[int, ...] = ()
    """Figures 4, 5, 6, 7, 8, 10, 11, 16 and 17; and 12 to 15, the paper's open questions, which
    simulate homes (needs the extra `sim`) and are drawn only when named."""
    rows: tuple[str, ...] = ()
    """Train only these rows of them, such as infonce; the others are shown as they are."""
    data: tuple[Path, ...] = ()
    """Data sets; none takes the sample that comes along."""
    seeds: int = 5
    budget: str | None = None
    """Time to spend, such as 90s, 20m or 2h; what is left is said."""
    config: str | None = None
    """Recipe; None takes demo for the sample and small otherwise."""
    threads: int = 1
    """On one thread the same command gives the same tables."""
    home_minutes: float = 88.917
    """Length of each of those homes."""
    plan: bool = False
    """Only show what there is to do and how long it takes."""
    append: Path | None = None
    """Also add every number of tables, questions and Fig. 11 to this CSV file, with commit and
    device."""


@dataclass(kw_only=True)
class BenchArgs:
    """Times the operators against what one could call instead, in turns, in one process."""

    part: Positional[Literal["loss", "percentile", "step", "graph", "clip", "edge"]]
    """The contrastive loss, the activation percentile, a whole training step, the sensor graph
    beside torch, a clip on its way through the video graphs, or a bundle."""
    bundle: Positional[Path | None] = None
    """NAME.detach; for edge only, which takes --threads, --append and what names edge below."""
    sizes: tuple[int, ...] = ()
    """Batch sizes N, for clip picture sides in pixels; none takes those that suit the part."""
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
    video: bool = False
    """edge: run the video graphs too."""
    backend: Literal["auto", "tensorrt", "onnxruntime"] = "auto"
    """edge: what runs the graphs."""
    data: Path | None = None
    """edge: a data set with labels, on which the precisions of the sensor graph are compared."""
    report: Path | None = None
    """edge: write all of it to this JSON file, to be sent on."""
    live: bool = False
    """edge: also the share of a core that `detach live` takes with a camera at 10 pictures a
    second, over --seconds (30)."""
    recordings: tuple[Path, ...] = ()
    """edge: instead, false events a day and actions found against the threshold, on these labelled
    recordings or data sets; takes --out and --append too."""
    most_per_day: float | None = None
    """edge: with --recordings, choose the threshold that has at most so many false events a day."""


@dataclass(kw_only=True)
class ExportArgs:
    """A finished run as one file for small machines: graphs, statistics, classes, self-test."""

    run: Positional[Path]
    """A run folder; with a head where `detach evaluate` or `detach name` were there."""
    out: Path
    """The bundle, NAME.detach."""
    precisions: tuple[Literal["fp32", "fp16"], ...] = ("fp32", "fp16")
    video: bool = True
    """Whether the video graphs come along, for places and agreement seen by the camera."""
    int8: bool = False
    """Also the video graphs in 8-bit integers, as far as their answers stay what they are."""
    outputs: tuple[Literal["logits", "places", "embedding"], ...] = (
        "logits",
        "places",
        "embedding",
    )
    data: Path | None = None
    """The data the run was trained on, where they have moved."""
    licence: str = "not stated"
    """Under which the weights may be used."""
    head: Literal["auto", "labels", "names"] = "auto"
    """What `detach evaluate` fitted to labels, or `detach name` to names; auto prefers names."""
    least_right: float = 0.95
    """Share of the answers that shall be right on labelled windows that fitted no head; it sets the
    confidence below which the bundle says "unknown"."""
    to: Literal["bundle", "engine"] = "bundle"
    """engine: also build the TensorRT engines of this machine, into the cache."""


@dataclass(kw_only=True)
class LiveArgs:
    """Recognises what happens at home, live. One JSON line a window; see docs/home-assistant.md."""

    bundle: Positional[Path]
    """NAME.detach."""
    config: Path | None = None
    """live.yaml: sensors, broker, camera, and where decisions go."""
    replay: Path | None = None
    """Play this recording instead, in its own time, to see the live page without a home."""
    port: int | None = None
    """Of that page; in live.yaml it is page.port."""
    quiet: bool = False
    """No JSON lines; the broker is told all the same."""
    metrics: Path | None = None
    """Keep counters in this file, as Prometheus reads them."""
    threads: int = 1


@dataclass(kw_only=True)
class RecordArgs:
    """Makes recordings of a home from live.yaml, hour by hour, until it is stopped."""

    out: Positional[Path]
    """Folder of the data set; what an earlier run left behind becomes a recording first."""
    config: Path
    """live.yaml, with the kind of every sensor."""


@dataclass(kw_only=True)
class RunArgs:
    """Recognises what happens in a recording, as on a stream. One JSON line a window."""

    bundle: Positional[Path]
    """NAME.detach."""
    source: Positional[Path]
    """A recording, or a folder of SENSOR.csv files."""
    out: Path | None = None
    """Write the lines to this file instead."""
    annotate: Path | None = None
    """Also a video (MP4) of the picture, the answers and the sensors."""
    rrd: Path | None = None
    """Also a file for the rerun viewer (needs the extra `view`)."""
    video: bool = False
    """Run the video graphs too: the place the camera sees, and whether it agrees."""
    video_file: Path | None = None
    """This video instead of the recording's."""
    probabilities: bool = False
    """Every class in every line."""
    backend: Literal["auto", "tensorrt", "onnxruntime"] = "auto"
    precision: Literal["fp32", "fp16", "int8"] | None = None
    threads: int = 1
    cache: Path | None = None
    """Folder for TensorRT engines; None takes the user's cache."""
