"""The networks of the sensors: where something is used, and how it moves.

N windows, T samples, C sensor channels, d feature width. Layer sizes follow the authors' code, as
the paper leaves them open; ``sensor_scale`` multiplies the hidden ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach import ops
from detach.config import EncoderConfig

STEPS = 32
"""Time steps the sensor encoders hand to their recurrent layer, whatever T is."""
MIN_SAMPLES = 40
"""Fewest samples in a window that the dilated convolutions can take."""
IMU_SAMPLES = 500
"""What a window is brought to for the convolutions of IMU2CLIP where a config names none."""


class SensorSpatialEncoder(nn.Module):
    """Section 3.1: which sensors were active. [N, T, C] -> [N, d].

    1-D convolutions and a GRU, plus the 99th percentile of each channel, projected and added.
    """

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        a, b = scaled(32, config.sensor_scale), scaled(64, config.sensor_scale)
        self.percentile_q = config.percentile_q
        self.percentile_absolute = config.percentile_absolute
        self.convolutions = nn.Sequential(
            *_dilated(channels, a, kernel=5),
            nn.MaxPool1d(2),
            *_dilated(a, b, kernel=3),
            nn.MaxPool1d(2),
            *_dilated(b, b, kernel=3),
        )
        self.norm = nn.GroupNorm(4, b)
        self.recurrent = nn.GRU(b, config.width, batch_first=True)
        self.cue = nn.Linear(channels, config.width)

    def forward(self, samples: Tensor) -> Tensor:
        """One feature a window."""
        steps = F.adaptive_avg_pool1d(self.convolutions(samples.transpose(1, 2)), STEPS)
        _, last = self.recurrent(self.norm(steps).transpose(1, 2))
        active = ops.activation_percentile(
            samples, self.percentile_q, dim=1, absolute=self.percentile_absolute
        )
        return last[0] + self.cue(active)  # type: ignore[no-any-return]


class SensorTemporalEncoder(nn.Module):
    """Section 3.2: how the signals moved. [N, T, C] -> [N, width].

    1-D convolutions, a GRU in both directions and one head of self-attention. Only the mean of the
    attention's outputs is used, so its rows are averaged first and the values computed once.
    """

    def __init__(self, channels: int, config: EncoderConfig, width: int | None = None) -> None:
        super().__init__()
        a, b, c = (scaled(n, config.sensor_scale) for n in (32, 64, 128))
        hidden = scaled(256, config.sensor_scale)
        self.centre = config.centre_motion
        self.convolutions = nn.Sequential(
            *_same(channels, a, kernel=5, dilation=1),
            nn.MaxPool1d(2),
            *_same(a, b, kernel=3, dilation=2),
            nn.MaxPool1d(2),
            *_same(b, c, kernel=3, dilation=4),
        )
        self.norm = nn.GroupNorm(8, c)
        self.recurrent = nn.GRU(c, hidden, batch_first=True, bidirectional=True)
        self.query = nn.Linear(2 * hidden, 2 * hidden)
        self.key = nn.Linear(2 * hidden, 2 * hidden)
        self.value = nn.Linear(2 * hidden, 2 * hidden)
        self.project = nn.Linear(2 * hidden, width or config.width)

    def forward(self, samples: Tensor) -> Tensor:
        """One feature a window."""
        if self.centre:
            samples = centred(samples)
        steps = self.norm(self.convolutions(samples.transpose(1, 2))).transpose(1, 2)
        hidden, _ = self.recurrent(steps)
        scores = self.query(hidden) @ self.key(hidden).transpose(1, 2) * hidden.shape[2] ** -0.5
        attention = scores.softmax(dim=2).mean(dim=1, keepdim=True)  # [N, 1, steps]
        return self.project(self.value((attention @ hidden).squeeze(1)))  # type: ignore[no-any-return]


class LightSensorEncoder(nn.Module):
    """Table 6, lightweight: convolutions and a GRU, whose last state is the feature."""

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        a, b = scaled(32, config.sensor_scale), scaled(64, config.sensor_scale)
        self.centre = config.centre_motion
        self.convolutions = nn.Sequential(
            *_same(channels, a, kernel=5, dilation=1),
            nn.MaxPool1d(2),
            *_same(a, b, kernel=3, dilation=2),
            nn.MaxPool1d(2),
        )
        self.norm = nn.GroupNorm(4, b)
        self.recurrent = nn.GRU(b, config.width, batch_first=True)

    def forward(self, samples: Tensor) -> Tensor:
        """[N, T, C] -> [N, d]."""
        if self.centre:
            samples = centred(samples)
        steps = self.norm(self.convolutions(samples.transpose(1, 2))).transpose(1, 2)
        _, last = self.recurrent(steps)
        return last[0]  # type: ignore[no-any-return]


class TransformerSensorEncoder(nn.Module):
    """Table 6, heavyweight: four transformer layers over 32 patches of samples."""

    LAYERS, PATCH = 4, 4

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        width = max(32, scaled(256, config.sensor_scale) // 32 * 32)
        self.centre = config.centre_motion
        self.embed = nn.Linear(channels * self.PATCH, width)
        self.place = nn.Parameter(torch.zeros(STEPS, width))
        nn.init.normal_(self.place, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // 32, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(self.LAYERS)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, config.width)

    def forward(self, samples: Tensor) -> Tensor:
        """[N, T, C] -> [N, d]; T is resized to 128 first."""
        if self.centre:
            samples = centred(samples)
        patches = resize_samples(samples, STEPS * self.PATCH).unflatten(1, (STEPS, self.PATCH))
        tokens = self.embed(patches.flatten(2)) + self.place
        for layer in self.layers:
            tokens = layer(tokens)
        return self.project(self.norm(tokens).mean(dim=1))  # type: ignore[no-any-return]


def motion_encoder(channels: int, config: EncoderConfig) -> nn.Module:
    """The sensor temporal encoder that is configured, [N, T, C] -> [N, d]."""
    if config.motion == "light":
        return LightSensorEncoder(channels, config)
    if config.motion == "transformer":
        return TransformerSensorEncoder(channels, config)
    if config.motion == "imu":
        return ImuEncoder(
            channels, config.width, IMU_SAMPLES, pool_last=True, centre=config.centre_motion
        )
    return SensorTemporalEncoder(channels, config)


class ImuConvolutions(nn.Module):
    """What IMU2CLIP and PRIMUS share: three dilated convolutions with nothing but pooling between.

    [N, T, C] -> [N, steps, 32]. Written from the papers' descriptions. The original groups its 6
    channels in two for normalisation; any number of channels is one group here. ``sensor_scale``
    leaves it as it is: it is small already, and a quarter of it starves the rivals that have it.
    """

    def __init__(self, channels: int, *, pool_last: bool) -> None:
        super().__init__()
        width = 32
        layers: list[nn.Module] = [nn.GroupNorm(1, channels)]
        for inputs, kernel in ((channels, 10), (width, 5), (width, 5)):
            layers += [nn.Conv1d(inputs, width, kernel, dilation=2, bias=False), nn.MaxPool1d(3)]
        if not pool_last:
            layers[-1] = nn.AdaptiveAvgPool1d(STEPS)
        self.layers = nn.Sequential(*layers, nn.GroupNorm(4, width))
        self.width = width

    def forward(self, samples: Tensor) -> Tensor:
        """Steps of one window after another."""
        return self.layers(samples.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


class ImuEncoder(nn.Module):
    """The sensor encoder of IMU2CLIP and of PRIMUS: those convolutions and a GRU over time.

    [N, T, C] -> [N, width]. The GRU of the original IMU2CLIP runs over channels.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        samples: int,
        *,
        pool_last: bool,
        pad: bool = False,
        centre: bool = False,
    ) -> None:
        super().__init__()
        self.samples, self.pad, self.centre = samples, pad, centre
        self.convolutions = ImuConvolutions(channels, pool_last=pool_last)
        self.recurrent = nn.GRU(self.convolutions.width, width, batch_first=True)

    def forward(self, samples: Tensor) -> Tensor:
        """The last state of a window, which is brought to `samples` first."""
        if self.centre:
            samples = centred(samples)
        if self.pad:  # with zeros at the end, or cuts the end off
            samples = F.pad(samples, (0, 0, 0, self.samples - samples.shape[1]))
        _, last = self.recurrent(self.convolutions(resize_samples(samples, self.samples)))
        return last[0]  # type: ignore[no-any-return]


def centred(samples: Tensor) -> Tensor:
    """[N, T, C] less the mean of each window and channel: what moved, not how a thing stands."""
    return samples - samples.mean(dim=1, keepdim=True)


def resize_samples(samples: Tensor, length: int) -> Tensor:
    """[N, T, C] -> [N, length, C] by linear interpolation; ends stay ends."""
    if samples.shape[1] == length:
        return samples
    resized = F.interpolate(samples.transpose(1, 2), length, mode="linear", align_corners=True)
    return resized.transpose(1, 2)


def scaled(width: int, scale: float) -> int:
    """Hidden width, a multiple of 8 so that group norms divide it."""
    return max(8, round(width * scale / 8) * 8)


def _dilated(inputs: int, outputs: int, *, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv1d(inputs, outputs, kernel, dilation=2, bias=False)
    return [convolution, nn.ReLU(), nn.BatchNorm1d(outputs)]


def _same(inputs: int, outputs: int, *, kernel: int, dilation: int) -> list[nn.Module]:
    convolution = nn.Conv1d(inputs, outputs, kernel, padding="same", dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm1d(outputs), nn.ReLU()]
