"""What training changes in its input: a smooth time-warp of sensors, one colour change a clip."""

import torch
from torch import Tensor

from detach.share import Share

KNOTS = 4
"""Random speeds drawn along a window; between them the speed changes linearly."""


def time_warp(
    samples: Tensor, sigma: float, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Plays each window [N, T, C] at a speed that wanders by about ``sigma``; ends stay put.

    With ``share`` these are windows of a larger batch, and change as they would in it.
    """
    count, length, _ = samples.shape
    knots = torch.randn(share.whole if share else count, 1, KNOTS, generator=generator)
    knots = knots[share.rows] if share else knots
    speed = torch.nn.functional.interpolate(
        knots, size=length - 1, mode="linear", align_corners=True
    )
    path = (sigma * speed.squeeze(1)).exp().cumsum(dim=1)
    path = torch.cat([torch.zeros(count, 1), path], dim=1)
    position = (path / path[:, -1:] * (length - 1)).to(samples.device)
    below = position.floor().long().clamp(max=length - 2)
    after = (position - below)[:, :, None].to(samples.dtype)
    rows = torch.arange(count, device=samples.device)[:, None]
    return (1 - after) * samples[rows, below] + after * samples[rows, below + 1]


def colour_change(
    count: int, strength: float, generator: torch.Generator, share: Share | None = None
) -> tuple[Tensor, Tensor]:
    """Random brightness, contrast and saturation as one affine map of RGB for each clip.

    With ``share`` the clips are those of a larger batch.

    Returns:
        Matrix [N, 3, 3] and offset [N, 3]: rgb -> matrix @ rgb + offset. Differences of frames
        take the matrix alone. Nothing is clipped.
    """
    whole = torch.rand(3, share.whole if share else count, 1, 1, generator=generator)
    draw = 1.0 + strength * (2.0 * (whole[:, share.rows] if share else whole) - 1.0)
    brightness, contrast, saturation = draw
    grey = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)
    saturate = saturation * torch.eye(3) + (1.0 - saturation) * grey
    matrix = brightness * contrast * saturate
    offset = (0.5 * (1.0 - contrast)).reshape(count, 1).expand(count, 3)
    return matrix, offset


def recolour(video: Tensor, matrix: Tensor, offset: Tensor | None = None) -> Tensor:
    """Applies a colour change to the first three channels of [N, F, H, W, c]."""
    count = len(video)
    rgb = video[..., :3].reshape(count, -1, 3) @ matrix.to(video).transpose(1, 2)
    if offset is not None:
        rgb = rgb + offset.to(video)[:, None]
    rgb = rgb.reshape(*video.shape[:-1], 3)
    return rgb if video.shape[-1] == 3 else torch.cat([rgb, video[..., 3:]], dim=-1)
