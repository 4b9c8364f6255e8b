"""The networks of the video, and how pictures are brought to them.

N windows, F frames, H W pixels, d feature width. Pictures keep the order they are stored in,
channels last, which is also what convolutions are fastest on. Layer sizes follow the authors' code,
as the paper leaves them open; ``video_scale`` multiplies the hidden ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach.config import EncoderConfig
from detach.encoders import scaled
from detach.resnet import Layers, ResNet, ResNetClips

PIECE = 16
"""Windows whose pictures become floats at once on a CPU: small enough for the allocator to reuse
the memory, which is five times faster than fresh pages."""
LAYERS: dict[str, Layers] = {"resnet18": 18, "resnet50": 50}
"""What `EncoderConfig.video` may name beside the small network."""


class VideoSpatialEncoder(nn.Module):
    """Section 3.1: where in the picture something is. [N, F, H, W, 3] in [0, 1] -> [N, d].

    A 2-D network, small or residual, on the mean frame (or, with ``average`` features, on every
    frame), then a scene branch and an object branch that a sigmoid map points at what matters.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.average = config.average
        self.trunk, found = _trunk(config)
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        c = scaled(256, config.video_scale)
        self.scene = nn.Sequential(*_conv2d(found, c, kernel=3, stride=1))
        self.thing = nn.Sequential(*_conv2d(found, c, kernel=3, stride=1))
        self.map = nn.Conv2d(found, 1, 1)
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
    [mean, mean absolute change from step to step], or last minus first.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        a, b, c = (scaled(n, config.video_scale) for n in (32, 64, 256))
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
        a, b, c = (scaled(n, config.video_scale) for n in (32, 64, 256))
        self.convolutions = _conv3d_stack(3, (a, b, c))
        self.project = nn.Linear(c, width)

    def forward(self, frames: Tensor) -> Tensor:
        """One feature a window."""
        steps = self.convolutions(frames.permute(0, 4, 1, 2, 3))
        return self.project(steps.mean(dim=(2, 3, 4)))  # type: ignore[no-any-return]


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
    if given is None and config.video in LAYERS:
        given = ResNetClips(LAYERS[config.video], width)
    return ForeignVideoEncoder(given, width) if given else GlobalVideoEncoder(config, width)


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


def _trunk(config: EncoderConfig) -> tuple[nn.Module, int]:
    """A 2-D network [N, 3, H, W] -> [N, c, h, w], and c."""
    if config.video in LAYERS:
        network = ResNet(LAYERS[config.video])
        return network, network.width
    a, b, c = (scaled(n, config.video_scale) for n in (64, 128, 256))
    layers = [
        *_conv2d(3, a, kernel=7, stride=2),
        *_conv2d(a, b, kernel=3, stride=2),
        *_conv2d(b, c, kernel=3, stride=2),
        *_conv2d(c, c, kernel=3, stride=2),
    ]
    return nn.Sequential(*layers), c


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
