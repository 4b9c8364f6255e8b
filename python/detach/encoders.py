"""The networks: two encoders for the sensors, two for the video.

N windows, T samples, C sensor channels, F frames, H W pixels, d feature width. Pictures keep the
order they are stored in, channels last, which is also what convolutions are fastest on. Layer sizes
follow the authors' code, since the paper leaves them open; ``scale`` multiplies the hidden ones.
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

PIECE = 16
"""Windows whose pictures become floats at once on a CPU: small enough for the allocator to reuse
the memory, which is five times faster than fresh pages."""


class SensorSpatialEncoder(nn.Module):
    """Section 3.1: which sensors were active. [N, T, C] -> [N, d].

    1-D convolutions and a GRU, plus the 99th percentile of each channel, projected and added.
    """

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        a, b = _scaled(32, config.sensor_scale), _scaled(64, config.sensor_scale)
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
        a, b, c = (_scaled(n, config.sensor_scale) for n in (32, 64, 128))
        hidden = _scaled(256, config.sensor_scale)
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
            samples = samples - samples.mean(dim=1, keepdim=True)
        steps = self.norm(self.convolutions(samples.transpose(1, 2))).transpose(1, 2)
        hidden, _ = self.recurrent(steps)
        scores = self.query(hidden) @ self.key(hidden).transpose(1, 2) * hidden.shape[2] ** -0.5
        attention = scores.softmax(dim=2).mean(dim=1, keepdim=True)  # [N, 1, steps]
        return self.project(self.value((attention @ hidden).squeeze(1)))  # type: ignore[no-any-return]


class LightSensorEncoder(nn.Module):
    """Table 6, lightweight: convolutions and a GRU, whose last state is the feature."""

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        a, b = _scaled(32, config.sensor_scale), _scaled(64, config.sensor_scale)
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
            samples = samples - samples.mean(dim=1, keepdim=True)
        steps = self.norm(self.convolutions(samples.transpose(1, 2))).transpose(1, 2)
        _, last = self.recurrent(steps)
        return last[0]  # type: ignore[no-any-return]


class TransformerSensorEncoder(nn.Module):
    """Table 6, heavyweight: four transformer layers over 32 patches of samples."""

    LAYERS, PATCH = 4, 4

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        width = max(32, _scaled(256, config.sensor_scale) // 32 * 32)
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
            samples = samples - samples.mean(dim=1, keepdim=True)
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
    return SensorTemporalEncoder(channels, config)


class VideoSpatialEncoder(nn.Module):
    """Section 3.1: where in the picture something is. [N, F, H, W, 3] in [0, 1] -> [N, d].

    A 2-D network on the mean frame (or, with ``average`` features, on every frame), then a scene
    branch and an object branch that a sigmoid map points at what matters.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        a, b, c = (_scaled(n, config.video_scale) for n in (64, 128, 256))
        self.average = config.average
        self.trunk = nn.Sequential(
            *_conv2d(3, a, kernel=7, stride=2),
            *_conv2d(a, b, kernel=3, stride=2),
            *_conv2d(b, c, kernel=3, stride=2),
            *_conv2d(c, c, kernel=3, stride=2),
        )
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scene = nn.Sequential(*_conv2d(c, c, kernel=3, stride=1))
        self.thing = nn.Sequential(*_conv2d(c, c, kernel=3, stride=1))
        self.map = nn.Conv2d(c, 1, 1)
        self.project = nn.Linear(2 * c, config.width)
        self.norm = nn.LayerNorm(config.width)

    def attention(self, trunk: Tensor) -> Tensor:
        """Where the object branch looks, [N, 1, h, w] in (0, 1)."""
        return self.map(trunk).sigmoid()  # type: ignore[no-any-return]

    def forward(self, frames: Tensor) -> Tensor:
        """One feature a window."""
        count = frames.shape[1]
        if self.average == "pixels":
            trunk = self.trunk(frames.mean(dim=1).permute(0, 3, 1, 2))
        else:
            trunk = self.trunk(frames.flatten(0, 1).permute(0, 3, 1, 2))
            trunk = trunk.unflatten(0, (-1, count)).mean(dim=1)
        scene = self.scene(trunk).mean(dim=(2, 3))
        thing = (self.thing(trunk) * self.attention(trunk)).mean(dim=(2, 3))
        return self.norm(self.project(torch.cat([scene, thing], dim=1)))  # type: ignore[no-any-return]


class VideoTemporalEncoder(nn.Module):
    """Section 3.2: how the picture moved. [N, F-1, H, W, 3 or 5] -> [N, d].

    3-D convolutions on frame differences (and optical flow), averaged over space. Over time either
    [mean, mean absolute value] of the change from step to step, or last minus first.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        a, b, c = (_scaled(n, config.video_scale) for n in (32, 64, 256))
        self.pooling = config.motion_pooling
        self.convolutions = _conv3d_stack(5 if config.flow else 3, (a, b, c))
        pooled = c if self.pooling == "telescoped" else 2 * c
        self.weight = nn.Parameter(torch.empty(config.width, pooled))
        nn.init.normal_(self.weight)

    def forward(self, motion: Tensor) -> Tensor:
        """One feature a window."""
        steps = self.convolutions(motion.permute(0, 4, 1, 2, 3)).mean(dim=(3, 4))  # [N, c, F-1]
        change = steps.diff(dim=2)
        pooled = change.mean(dim=2)
        if self.pooling == "signed-absolute":
            pooled = torch.cat([steps.mean(dim=2), change.abs().mean(dim=2)], dim=1)
        return F.normalize(pooled, dim=1) @ F.normalize(self.weight, dim=1).T


class GlobalVideoEncoder(nn.Module):
    """The rival: one encoder for the whole clip. [N, F, H, W, 3] in [0, 1] -> [N, width]."""

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__()
        a, b, c = (_scaled(n, config.video_scale) for n in (32, 64, 256))
        self.convolutions = _conv3d_stack(3, (a, b, c))
        self.project = nn.Linear(c, width)

    def forward(self, frames: Tensor) -> Tensor:
        """One feature a window."""
        steps = self.convolutions(frames.permute(0, 4, 1, 2, 3))
        return self.project(steps.mean(dim=(2, 3, 4)))  # type: ignore[no-any-return]


class ImuConvolutions(nn.Module):
    """What IMU2CLIP and PRIMUS share: three dilated convolutions with nothing but pooling between.

    [N, T, C] -> [N, steps, 32 x scale]. Written from the papers' descriptions. The original groups
    its 6 channels in two for normalisation; any number of channels is one group here.
    """

    def __init__(self, channels: int, config: EncoderConfig, *, pool_last: bool) -> None:
        super().__init__()
        width = _scaled(32, config.sensor_scale)
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


class ForeignVideoEncoder(nn.Module):
    """Takes pictures as others do: wraps a module that makes [N, d] of [N, F, 3, H, W]."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width

    def forward(self, frames: Tensor) -> Tensor:
        """[N, F, H, W, 3] in [0, 1] -> [N, width].

        Raises:
            ValueError: The module gives another width.
        """
        found = self.encoder(frames.permute(0, 1, 4, 2, 3))
        if found.shape != (len(frames), self.width):
            raise ValueError(
                f"video_encoder must make [{len(frames)}, {self.width}] of {len(frames)} windows, "
                f"got {list(found.shape)}"
            )
        return found  # type: ignore[no-any-return]


def video_tower(config: EncoderConfig, width: int, given: nn.Module | None) -> nn.Module:
    """The encoder of whole clips [N, F, H, W, 3] -> [N, width] of rivals, or one that is given."""
    return ForeignVideoEncoder(given, width) if given else GlobalVideoEncoder(config, width)


def resize_samples(samples: Tensor, length: int) -> Tensor:
    """[N, T, C] -> [N, length, C] by linear interpolation; ends stay ends."""
    if samples.shape[1] == length:
        return samples
    resized = F.interpolate(samples.transpose(1, 2), length, mode="linear", align_corners=True)
    return resized.transpose(1, 2)


def motion_input(frames: Tensor, size_px: int | None, flow: Tensor | None = None) -> Tensor:
    """Frame differences, and flow where given, as the temporal encoder takes them.

    Args:
        frames: [N, F, H, W, 3], uint8 or in [0, 255].
        size_px: Square root of the area the picture is averaged to; None keeps it.
        flow: Optical flow in pixels of the stored picture, [N, F-1, H, W, 2].

    Returns:
        [N, F-1, h, w, 3 or 5]; differences in [-1, 1], flow in shares of the picture's height.
    """
    motion = shrink(frames, size_px).diff(dim=1)
    if flow is None:
        return motion
    share = _average(flow.float() / frames.shape[2], _factor(frames, size_px))
    return torch.cat([motion, share], dim=4)


def shrink(frames: Tensor, size_px: int | None) -> Tensor:
    """[N, F, H, W, 3] in [0, 255] -> [N, F, h, w, 3] in [0, 1], averaged down to the area.

    H and W are divided by a whole number; rows and columns left over are cut off.
    """
    factor = _factor(frames, size_px)
    pieces = frames.split(PIECE) if frames.device.type == "cpu" else (frames,)
    return torch.cat([_average(piece.float(), factor) / 255.0 for piece in pieces])


def _factor(frames: Tensor, size_px: int | None) -> int:
    height, width = frames.shape[2:4]
    return 1 if size_px is None else max(1, round((height * width) ** 0.5 / size_px))


def _average(pictures: Tensor, factor: int) -> Tensor:
    """Means of squares of ``factor`` pixels of [N, F, H, W, c]."""
    if factor == 1:
        return pictures
    height, width = (n // factor for n in pictures.shape[2:4])
    cut = pictures[:, :, : height * factor, : width * factor]
    rows = cut[:, :, ::factor].clone()
    for i in range(1, factor):
        rows += cut[:, :, i::factor]
    total = rows[:, :, :, ::factor].clone()
    for i in range(1, factor):
        total += rows[:, :, :, i::factor]
    return total.div_(factor**2)


def _scaled(width: int, scale: float) -> int:
    """Hidden width, a multiple of 8 so that group norms divide it."""
    return max(8, round(width * scale / 8) * 8)


def _dilated(inputs: int, outputs: int, *, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv1d(inputs, outputs, kernel, dilation=2, bias=False)
    return [convolution, nn.ReLU(), nn.BatchNorm1d(outputs)]


def _same(inputs: int, outputs: int, *, kernel: int, dilation: int) -> list[nn.Module]:
    convolution = nn.Conv1d(inputs, outputs, kernel, padding="same", dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm1d(outputs), nn.ReLU()]


def _conv2d(inputs: int, outputs: int, *, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _conv3d_stack(inputs: int, widths: tuple[int, int, int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outputs in widths:
        layers += [
            nn.Conv3d(inputs, outputs, 3, stride=(1, 2, 2), padding=1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
        ]
        inputs = outputs
    stack = nn.Sequential(*layers)
    stack.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return stack
