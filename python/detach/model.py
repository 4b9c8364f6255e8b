"""The models as one trains, saves and uses them, and the run folder they live in.

N windows, T samples, C channels, F frames, H W pixels, K clusters, d feature width.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from detach import equations
from detach.baselines.cav_mae import CavMae
from detach.baselines.comodo import Comodo
from detach.baselines.imu2clip import Imu2Clip
from detach.baselines.primus import Primus
from detach.baselines.supervised import Supervised as Supervised  # offered here too
from detach.baselines.whole import Global as Global
from detach.config import EncoderConfig, Preset, RunConfig, override, preset
from detach.data.store import write_whole
from detach.data.windows import ChannelStats, Windows
from detach.encoders import MIN_SAMPLES, SensorSpatialEncoder, motion_encoder
from detach.errors import DataError
from detach.recipes import MALFORMED
from detach.video_encoders import VideoSpatialEncoder, VideoTemporalEncoder, motion_input, shrink

RUN_SCHEMA = 1
CONFIG_FILE, ENV_FILE, STATS_FILE = "config.yaml", "env.json", "stats.json"
MODEL_FILE, METRICS_FILE = "model.safetensors", "metrics.jsonl"

PLACE_TEMPERATURE = 0.1
"""Of the softmax over cosines to the centroids."""
TAKES_VIDEO_ENCODER = ("imu2clip", "primus", "comodo", "global")
LATER = frozenset({"checkpoints", "imu2clip", "primus", "comodo", "cav_mae", "tested"})
"""Entries that runs of before 0.2 lack."""
CONFIG_BYTES = 1_000_000
"""A longer configuration is not one of ours; reading YAML takes seconds a megabyte."""
UNIT_EPS = 1e-6
"""Least length that is divided by; also a float16."""


class Detach(nn.Module):
    """Spatial and temporal encoders of both modalities, and what names the places."""

    centroids: Tensor

    def __init__(
        self, channels: int, clusters: int, config: EncoderConfig, *, motion: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.motion = motion
        """Whether there is a temporal half: not where stage 2 is left out."""
        self.sensor_spatial = SensorSpatialEncoder(channels, config)
        self.sensor_temporal = motion_encoder(channels, config)
        self.video_spatial = VideoSpatialEncoder(config)
        self.video_temporal = VideoTemporalEncoder(config)
        self.video_places = nn.Linear(config.width, clusters)
        self.sensor_places = nn.Linear(config.width, clusters)
        """The learnable head of Eq. 1, where a preset has one."""
        self.register_buffer("centroids", torch.zeros(clusters, config.width))

    def place_of_sensors(self, samples: Tensor) -> Tensor:
        """The frozen half of Eq. 6 of samples [N, T, C]: [N, K] or [N, d], as configured."""
        return self._place(self.sensor_spatial(samples))

    def place_of_video(self, frames: Tensor) -> Tensor:
        """The frozen half of Eq. 5 of frames [N, F, H, W, 3] in [0, 1]: [N, K] or [N, d]."""
        features = self.video_spatial(frames)
        if self.config.spatial == "features":
            return features  # type: ignore[no-any-return]
        return _roots(self.video_places(features))

    def nearest(self, spatial: Tensor) -> Tensor:
        """The most likely place [N] of what `place_of_sensors` returned."""
        near = self.nearness(spatial) if self.config.spatial == "features" else spatial
        return near.argmax(dim=1)

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Spatial [N, K or d] and temporal features [N, d] of samples [N, T, C]."""
        return self.place_of_sensors(samples), self._temporal(self.sensor_temporal(samples))

    @property
    def embedding_width(self) -> int:
        """Of Eq. 6: K + d or 2d; K or d without a temporal half."""
        spatial = len(self.centroids) if self.config.spatial == "places" else self.config.width
        return spatial + (self.config.width if self.motion else 0)

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All that a head may see of samples [N, T, C].

        Returns:
            The spatial half [N, K or d], Eq. 6 [N, K + d or 2d] and, where its spatial half only
            names places, the place features at length 1 [N, d], otherwise nothing [N, 0].
        """
        features = self.sensor_spatial(samples)
        spatial = self._place(features)
        embedding = equations.sensor_embedding(
            spatial, self._temporal(self.sensor_temporal(samples))
        )
        if self.config.spatial == "features":
            return spatial, embedding, embedding[:, :0]
        return spatial, embedding, nn.functional.normalize(features, dim=1, eps=UNIT_EPS)

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:
        """Spatial and temporal features [N, d] of frames [N, F, H, W, 3], uint8."""
        motion = motion_input(frames, self.config.motion_size_px, flow)
        temporal = self._temporal(self.video_temporal(motion))
        return self.place_of_video(shrink(frames, None)), temporal

    def _temporal(self, features: Tensor) -> Tensor:
        return features if self.motion else features[:, :0]

    def _place(self, features: Tensor) -> Tensor:
        if self.config.spatial == "features":
            return features
        return _roots(self.nearness(features) / PLACE_TEMPERATURE)

    def nearness(self, features: Tensor) -> Tensor:
        """Cosines [N, K] of sensor place features [N, d] to the centroids."""
        unit = nn.functional.normalize
        return unit(features, dim=1) @ unit(self.centroids, dim=1).T


Rival = Global | Imu2Clip | Primus | Comodo | CavMae
Aligned = Detach | Rival
"""What has a video branch."""
Network = Aligned | Supervised


@dataclass(frozen=True)
class Embeddings:
    """Features of some windows, [n, d] each; spatial ones [n, K] where places are named."""

    sensor_spatial: NDArray[np.float32]
    sensor_temporal: NDArray[np.float32]
    video_spatial: NDArray[np.float32]
    video_temporal: NDArray[np.float32]

    @property
    def sensor(self) -> NDArray[np.float32]:
        """Eq. 6, normalised, [n, K + d or 2d]."""
        return _whole(self.sensor_spatial, self.sensor_temporal)

    @property
    def video(self) -> NDArray[np.float32]:
        """Eq. 5, normalised, [n, K + d or 2d]."""
        return _whole(self.video_spatial, self.video_temporal)


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path
    config: RunConfig
    model: Network
    stats: ChannelStats
    data: Path
    """The data set it was trained on."""
    classes: tuple[str, ...]
    clusters: int


def build(
    config: RunConfig,
    channels: int,
    clusters: int,
    classes: int = 0,
    *,
    video_encoder: nn.Module | None = None,
) -> Network:
    """A network with weights drawn from ``config.seed``.

    Raises:
        ValueError: Windows too short for the encoders, no classes for a supervised run, or a
            foreign video encoder for a method that takes none.
    """
    samples = config.sensors.length or round(config.sensors.rate_hz * config.windows.seconds)
    if samples < MIN_SAMPLES:
        raise ValueError(
            f"a window must have at least {MIN_SAMPLES} samples for the sensor encoders, got "
            f"{samples}; raise sensors.rate_hz or set sensors.length"
        )
    if video_encoder is not None and config.method not in TAKES_VIDEO_ENCODER:
        takers = ", ".join(TAKES_VIDEO_ENCODER)
        raise ValueError(f"video_encoder is for {takers}; {config.method} has its own")
    if config.method == "cav-mae" and config.encoders.video != "cnn":
        raise ValueError("encoders.video must be cnn for cav-mae: its own is made of tokens")
    if config.method == "supervised" and classes < 2:
        raise ValueError(f"a supervised run needs at least 2 classes, got {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.method in {"detach", "infonce"}:
            motion = config.stage2.epochs > 0
            return Detach(channels, clusters, config.encoders, motion=motion)
        if config.method == "supervised":
            return Supervised(channels, classes, config.encoders)
        return _rival(config, channels, video_encoder)


def _rival(config: RunConfig, channels: int, video: nn.Module | None) -> "Rival":
    encoders = config.encoders
    if config.method == "imu2clip":
        return Imu2Clip(channels, encoders, config.imu2clip, video_encoder=video)
    if config.method == "primus":
        return Primus(channels, encoders, config.primus, video_encoder=video)
    if config.method == "comodo":
        return Comodo(channels, encoders, config.comodo, video_encoder=video)
    if config.method == "cav-mae":
        return CavMae(channels, encoders, config.cav_mae)
    return Global(channels, encoders, video_encoder=video)


@contextmanager
def standing_still(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every part is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def batches(index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Consecutive pieces of at most ``size``."""
    for start in range(0, len(index), size):
        yield index[start : start + size]


@torch.no_grad()
def embed(
    model: Network, windows: Windows, index: NDArray[np.int64], *, batch: int = 256
) -> Embeddings:
    """Features of the windows ``index`` [n] by the network as it stands, in eval mode.

    Raises:
        TypeError: A supervised network has no embedding of video.
    """
    if isinstance(model, Supervised):
        raise TypeError("a supervised run has no video embedding; use predict")
    device = next(model.parameters()).device
    parts: list[tuple[Tensor, ...]] = []
    with standing_still(model):
        for piece in batches(index, batch):
            samples, frames, flow = load_batch(
                windows, piece, flow=model.config.flow, device=device
            )
            pair = (*model.encode_sensors(samples), *model.encode_video(frames, flow))
            parts.append(tuple(x.float().cpu() for x in pair))
    columns = zip(*parts, strict=True) if parts else [[torch.zeros(0, model.config.width)]] * 4
    return Embeddings(*(torch.cat(list(column)).numpy() for column in columns))


@torch.no_grad()
def predict(
    model: Supervised, windows: Windows, index: NDArray[np.int64], *, batch: int = 512
) -> NDArray[np.float32]:
    """Class probabilities [n, L] of a supervised network."""
    device = next(model.parameters()).device
    with standing_still(model):
        parts = [
            model(torch.from_numpy(windows.samples[piece]).to(device)).softmax(dim=1).cpu()
            for piece in batches(index, batch)
        ]
    return torch.cat(parts).numpy()


def load_batch(
    windows: Windows, index: NDArray[np.int64], *, flow: bool, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Samples [n, T, C], frames [n, F, H, W, 3] uint8 and optical flow of some windows."""
    samples = torch.from_numpy(windows.samples[index]).to(device)
    frames = torch.from_numpy(windows.frames(index)).to(device)
    moved = torch.from_numpy(windows.flow(index)).to(device) if flow else None
    return samples, frames, moved


def save_run(
    folder: Path, config: RunConfig, model: Network, stats: ChannelStats, about: dict[str, Any]
) -> None:
    """Writes config.yaml, stats.json and model.safetensors; ``about`` says data and classes."""
    save_config(folder, config, about)
    stats.save(folder / STATS_FILE)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_whole(folder / MODEL_FILE, save(tensors, {"about": json.dumps(about)}))


def save_config(folder: Path, config: RunConfig, about: dict[str, Any]) -> None:
    """Writes the resolved configuration and what it was applied to."""
    body = {"schema": RUN_SCHEMA, "about": about, "config": _plain(asdict(config))}
    write_whole(folder / CONFIG_FILE, yaml.safe_dump(body, sort_keys=False).encode())


def weights_digest(folder: Path) -> str:
    """SHA-256 of a run's weights, by which heads, results and bundles name them."""
    return hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()


def load_config(folder: Path) -> tuple[RunConfig, dict[str, Any]]:
    """The configuration of a run folder and what it was applied to.

    Raises:
        DataError: It is no run folder, or of another schema.
    """
    path = folder / CONFIG_FILE
    try:
        if (size := path.stat().st_size) > CONFIG_BYTES:
            raise DataError(f"{path}: {size} bytes are too many; at most {CONFIG_BYTES}")
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder} is no run folder: {CONFIG_FILE} is not there") from error
    except (OSError, *MALFORMED) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    found = body.get("schema") if isinstance(body, dict) else None
    if found != RUN_SCHEMA:
        raise DataError(
            f"{path}: schema must be {RUN_SCHEMA}, found {found!r}; train the run again"
        )
    try:
        name: Preset = body["config"]["preset"]
        config, about = override(preset(name), body["config"]), dict(body["about"])
        whole = {f.name for f in fields(RunConfig)} - LATER <= set(body["config"])
        sound = isinstance(about["data"], str) and isinstance(about.get("notes", {}), dict)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: missing or malformed entry: {error}") from error
    if not (whole and sound):
        raise DataError(f"{path}: entries are missing or malformed; was the file cut short?")
    return config, about


def load_run(folder: Path) -> Run:
    """A finished run.

    Raises:
        DataError: It is not finished, or not a run folder of this version.
    """
    config, about = load_config(folder)
    path = folder / MODEL_FILE
    if not path.is_file():
        raise DataError(
            f"{folder}: training is not finished: {MODEL_FILE} is not there; "
            "go on with `detach train ... --resume`"
        )
    stats = ChannelStats.load(folder / STATS_FILE)
    try:
        classes = tuple(about["classes"])
        clusters = int(about["clusters"])
        model = build(config, len(stats.mean), clusters, len(classes))
        model.load_state_dict(load_file(path))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{path}: does not fit {CONFIG_FILE}: {reason}") from error
    model.eval()
    return Run(folder, config, model, stats, Path(about["data"]), classes, clusters)


def _roots(logits: Tensor) -> Tensor:
    """Square roots of probabilities: unit rows whose products are Bhattacharyya coefficients."""
    return (0.5 * logits.float().log_softmax(dim=1)).exp()


def _whole(spatial: NDArray[np.float32], temporal: NDArray[np.float32]) -> NDArray[np.float32]:
    joined = equations.sensor_embedding(torch.from_numpy(spatial), torch.from_numpy(temporal))
    return joined.numpy()


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
