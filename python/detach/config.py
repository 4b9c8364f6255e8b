"""Every knob, as frozen dataclasses. Standard library only.

The defaults are the preset ``recommended``. `preset` gives the others, which differ only where the
versions of the method differ: the arXiv paper, the camera-ready, and what the authors' code does.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from detach.baseline_config import (
    CavMaeConfig,
    ComodoConfig,
    Imu2ClipConfig,
    PrimusConfig,
    SupervisedConfig,
)
from detach.ranges import check as _check
from detach.stage_config import SpatialStageConfig as SpatialStageConfig
from detach.stage_config import TemporalStageConfig as TemporalStageConfig

Preset = Literal["recommended", "paper-v1", "camera-ready", "authors-code"]
Method = Literal[
    "detach", "infonce", "global", "imu2clip", "primus", "comodo", "cav-mae", "supervised"
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How recordings are cut."""

    seconds: float = 2.0
    hop_s: float = 1.0
    skip_empty: bool = True
    """Leave windows in which nobody is in view out of pretraining (they are counted)."""
    background: bool = False
    """Windows that no annotation touches, in recordings that have some, become the class "nothing".
    For heads that are deployed: without it every window is taken for one of the actions."""

    def __post_init__(self) -> None:
        _check("seconds", self.seconds, 0.1 <= self.seconds <= 600, "in [0.1, 600]")
        _check(
            "hop_s", self.hop_s, 0.05 <= self.hop_s <= self.seconds, f"in [0.05, {self.seconds}]"
        )


@dataclass(frozen=True, kw_only=True)
class SensorConfig:
    """How raw sensor values become the samples of a window."""

    rate_hz: float = 64.0
    """Common grid all sensors are brought to; 64 Hz makes 128 samples of 2 s."""
    length: int | None = None
    """Resize each window linearly to so many samples; None keeps ``rate_hz`` x seconds."""
    zscore: Literal["plain", "keep-zero", "binary-unscaled"] = "binary-unscaled"
    """``plain``: literal (x - mean) / std. ``keep-zero``: an exact 0 stays 0. ``binary-unscaled``:
    0/1 channels stay 0/1, others have std floored and are clipped."""
    std_floor: float = 1e-2
    clip: float = 10.0
    lowpass: bool = False
    """Butterworth of order 4 at 0.1 of Nyquist, forward and backward; cannot run on a stream."""
    max_gap_s: float = 1.0
    """A sampled sensor silent for longer is missing, not interpolated."""
    include: tuple[str, ...] = ()
    """Sensors or kinds to use, by name; empty uses all."""
    policy: tuple[str, ...] = ()
    """What becomes of silence, as NAME=hold or KIND=drop; a name beats a kind. ``hold``: a value
    stands until the next (usual for sensors that report changes). ``mask``: missing beyond
    ``max_gap_s`` (usual for sampled ones). ``drop``: as mask, and windows where the sensor is
    missing for more than half leave the data. ``resync``, alone or beside one of these, for sampled
    ones: a clock that steps back, or forward by more than ``max_gap_s``, goes on after one period.
    All but hold may have seconds instead of ``max_gap_s``: Door=mask:90."""

    def __post_init__(self) -> None:
        _check("rate_hz", self.rate_hz, 0 < self.rate_hz <= 10_000, "in (0, 10000]")
        _check("length", self.length, self.length is None or self.length > 1, "> 1")
        _check("clip", self.clip, self.clip > 0, "> 0")
        _check("max_gap_s", self.max_gap_s, self.max_gap_s >= 0, ">= 0")
        _check("std_floor", self.std_floor, self.std_floor > 0, "> 0")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How video becomes the frames of a window."""

    camera: str | None = None
    """Which video of a recording; None where there is only one."""
    size_px: int = 64
    """Side of the square picture; with ``fit`` keep, the square root of its area."""
    fit: Literal["keep", "crop"] = "keep"
    """``keep`` the camera's aspect, or ``crop`` the central square as the paper does."""
    frames: int = 20

    def __post_init__(self) -> None:
        _check("size_px", self.size_px, 16 <= self.size_px <= 1024, "in [16, 1024]")
        _check("frames", self.frames, 3 <= self.frames <= 256, "in [3, 256]")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which windows train the encoders, the probe, and test it."""

    by: Literal["dataset", "run", "subject", "random-window"] = "dataset"
    """``dataset`` takes the parts named in dataset.json. ``random-window`` is the paper's: it lets
    overlapping windows fall on both sides, and says so."""
    pretrain: float = 0.8
    """Share that trains the encoders, where the split is drawn here."""
    track: str | None = None
    """Label track that is recognised; None takes the data set's first."""
    labels: int | None = None
    """Labelled windows of each class left in the training part; None leaves all."""
    labels_seed: int = 0
    """Which ones."""
    unseen: tuple[str, ...] = ()
    """Classes of any track whose windows stay out of pretraining: a control for a place that comes
    when the encoders are trained."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check("labels", self.labels, self.labels is None or self.labels >= 1, ">= 1")
        _check("pretrain", self.pretrain, 0 < self.pretrain < 1, "in (0, 1)")
        for name in ("seed", "labels_seed"):
            value = getattr(self, name)
            _check(name, value, 0 <= value < 2**32, "in [0, 2^32)")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Networks. ``width`` is d of the paper: one half of an embedding."""

    width: int = 256
    video_scale: float = 1.0
    """Multiplies the hidden widths of the video networks; 0.25 in the recipe ``small``."""
    sensor_scale: float = 1.0
    """The same for the sensor networks, which cost little."""
    percentile_q: float = 0.99
    percentile_absolute: bool = True
    centre_motion: bool = True
    """Encoders of what moves, and those of the rivals, see each channel less its mean over the
    window, as the video's sees frame differences: bias and tilt are left to the spatial one. On the
    simulated home F1 goes from 0.82 to 0.92."""
    video: Literal["cnn", "resnet18", "resnet50"] = "cnn"
    """The 2-D network of pictures: four convolutions (of ``video_scale``), or a residual network,
    from scratch, for places and as the rivals' whole video encoder. Motion keeps 3-D ones."""
    motion: Literal["attention", "light", "transformer", "imu"] = "attention"
    """The sensor temporal encoder: convolutions, a GRU both ways and attention; convolutions and a
    GRU alone; a transformer over patches of samples (Table 6); or that of IMU2CLIP."""
    spatial: Literal["places", "features"] = "places"
    """What the frozen half of an embedding holds: roots of the probabilities of the K places,
    which both modalities name alike, or each encoder's own features, which lie in unrelated spaces
    (Eq. 5 and 6 as printed)."""
    average: Literal["pixels", "features"] = "pixels"
    """What the video spatial encoder averages over the frames of a window."""
    flow: bool = False
    """Adds two channels of dense optical flow (DIS) to the frame differences."""
    motion_pooling: Literal["signed-absolute", "telescoped"] = "signed-absolute"
    """Over time: [mean, mean absolute change] of the motion features, or last minus first."""
    motion_size_px: int | None = None
    """Side to which frame differences are averaged before the 3-D convolutions; None keeps it."""

    def __post_init__(self) -> None:
        _check("width", self.width, self.width >= 8, ">= 8")
        _check("video_scale", self.video_scale, 0 < self.video_scale <= 8, "in (0, 8]")
        _check("sensor_scale", self.sensor_scale, 0 < self.sensor_scale <= 8, "in (0, 8]")
        size = self.motion_size_px
        _check("motion_size_px", size, size is None or size >= 8, ">= 8, or none")
        _check("percentile_q", self.percentile_q, 0 <= self.percentile_q <= 1, "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What training changes in its input; momentum copies and evaluation see it unchanged."""

    time_warp: float = 0.2
    """Sigma of the smooth time-warp of sensor samples, in stage 2 and wherever there are no stages,
    from the second epoch on; 0: off."""
    colour_jitter: float = 0.4
    """Brightness, contrast, saturation, the same for all frames of a clip; 0: off."""
    wrong_pictures: bool = False
    """The control that must fail: windows are trained with one another's pictures."""
    false_per_min: float = 0.0
    """False activations of each sensor a minute, in what encoders are trained on and all their
    training: a faulty home rather than an augmentation."""

    def __post_init__(self) -> None:
        _check("time_warp", self.time_warp, 0 <= self.time_warp < 1, "in [0, 1)")
        _check("colour_jitter", self.colour_jitter, 0 <= self.colour_jitter < 1, "in [0, 1)")
        rate = self.false_per_min
        _check("false_per_min", rate, 0 <= rate <= 600, "in [0, 600]")


@dataclass(frozen=True, kw_only=True)
class TestedConfig:
    """What is done to the sensors of the test part, after training: how much a run stands."""

    __test__ = False  # no test of pytest's

    noise: float = 0.0
    """Standard deviation of noise, in those of each channel; switches have none."""
    dropout: float = 0.0
    """Chance of each sensor to be silent for a window."""

    def __post_init__(self) -> None:
        _check("noise", self.noise, 0 <= self.noise <= 100, "in [0, 100]")
        _check("dropout", self.dropout, 0 <= self.dropout <= 1, "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run: one method, one seed."""

    method: Method = "detach"
    preset: Preset = "recommended"
    seed: int = 0
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = 0
    """CPU threads; 0 takes all cores. One thread makes resuming bit-exact."""
    checkpoints: int = 2
    """The newest that stay in the run folder; --resume passes over those that are damaged."""
    windows: WindowConfig = field(default_factory=WindowConfig)
    sensors: SensorConfig = field(default_factory=SensorConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    encoders: EncoderConfig = field(default_factory=EncoderConfig)
    stage1: SpatialStageConfig = field(default_factory=SpatialStageConfig)
    stage2: TemporalStageConfig = field(default_factory=TemporalStageConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    tested: TestedConfig = field(default_factory=TestedConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    imu2clip: Imu2ClipConfig = field(default_factory=Imu2ClipConfig)
    primus: PrimusConfig = field(default_factory=PrimusConfig)
    comodo: ComodoConfig = field(default_factory=ComodoConfig)
    cav_mae: CavMaeConfig = field(default_factory=CavMaeConfig)

    def __post_init__(self) -> None:
        _check("threads", self.threads, 0 <= self.threads <= 1024, "in [0, 1024]")
        _check("checkpoints", self.checkpoints, 1 <= self.checkpoints <= 1000, "in [1, 1000]")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "in [0, 2^32)")


_PAPER_V1: dict[str, Any] = {
    "sensors": {"rate_hz": 30.0, "zscore": "plain"},
    "video": {"fit": "crop"},
    "split": {"by": "random-window"},
    "encoders": {
        "percentile_absolute": False,
        "flow": True,
        "centre_motion": False,
        "spatial": "features",
    },
    "stage1": {"head": "learnable", "video_gate": 0.0, "centroid_every": 10},
    "stage2": {
        "gate": "none",
        "power": 2,
        "temporal": "intra",
        "transpose": False,
        "momentum_ramp": False,
    },
    "augment": {"time_warp": 0.0, "colour_jitter": 0.0},
}
_CAMERA_READY: dict[str, Any] = {
    **_PAPER_V1,
    "encoders": {"percentile_absolute": False, "centre_motion": False, "spatial": "features"},
    "stage2": {
        **_PAPER_V1["stage2"],
        "gate": "spatial",
        "power": 1,
        "temporal": "cross",
        "transpose": True,
    },
}
# What the authors' code does and this preset does not: hue jitter and blur; frozen BatchNorm and
# momentum copies left in training mode; confidence recomputed every step; clusters split by halving
# distances, with thresholds of their own for each data set; flow by RAFT (DIS here).
_AUTHORS_CODE: dict[str, Any] = {
    "sensors": {"rate_hz": 30.0, "length": 128, "zscore": "keep-zero", "lowpass": True},
    "video": {"fit": "crop"},
    "encoders": {
        "average": "features",
        "flow": True,
        "motion_pooling": "telescoped",
        "centre_motion": False,
        "spatial": "features",
    },
    "stage1": {"bank_momentum": 0.9, "cluster_on": "confident", "freeze_video": False},
    "stage2": {"temporal": "intra", "transpose": False, "momentum_ramp": False},
}
PRESETS: dict[Preset, dict[str, Any]] = {
    "recommended": {},
    "paper-v1": _PAPER_V1,
    "camera-ready": _CAMERA_READY,
    "authors-code": _AUTHORS_CODE,
}


def preset(name: Preset) -> RunConfig:
    """The whole configuration of one version of the method (systems of B.4 in the notes).

    Raises:
        ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return override(RunConfig(preset=name), PRESETS[name])


def override(config: T, changes: Mapping[str, Any], where: str = "") -> T:
    """``config`` with nested ``changes``, as they stand in a recipe.

    Raises:
        ValueError: A key that does not exist, named in full.
    """
    known = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in known:
            raise ValueError(f"{where}{key} is no option; there are {', '.join(known)}")
        if dataclasses.is_dataclass(known[key]):
            values[key] = override(known[key], value, f"{where}{key}.")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs ("stage2.temperature", 0.1) of a configuration, in order."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value
