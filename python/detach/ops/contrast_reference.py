"""The weighted contrastive loss as the equations say it: N x N arrays, gradients by autograd.

What DETACH_BACKEND=reference runs, and what second derivatives are taken of.
"""

import torch
from torch import Tensor

from detach import equations
from detach.ops.contrast_call import GATES, TEMPORALS, Call, computed_in


def losses(call: Call) -> tuple[Tensor, Tensor]:
    """Losses [2, n] of the windows asked for, differentiable in the four parts, and their sums.

    The sums are as in `detach.ops.contrast_plain.losses`.
    """
    with torch.autocast(call.video_spatial.device.type, enabled=False):
        dtype = computed_in(call.video_spatial.dtype)
        features = (None if x is None else x.to(dtype) for x in call[:6])
        named = dict(zip(Call._fields, features, strict=False))
        return _losses(call._replace(**named), slice(call.start, call.stop))  # type: ignore[arg-type]


def _losses(call: Call, rows: slice) -> tuple[Tensor, Tensor]:
    video_spatial, video_temporal, sensor_spatial, sensor_temporal = call.parts
    video = equations.video_embedding(video_spatial, video_temporal, normalize=call.normalize)
    sensor = equations.sensor_embedding(sensor_spatial, sensor_temporal, normalize=call.normalize)
    logits = video @ sensor.T / call.temperature
    left_out = _left_out(call)
    weight = _weight(call).masked_fill(left_out, 0.0)
    there = equations.directional_loss(logits, weight)
    back = equations.directional_loss(logits.T, weight.T)
    loss = torch.stack([there, back])[:, rows]
    mean = torch.stack([weight.sum(dim=i) / (~left_out).sum(dim=i).clamp(min=1) for i in (1, 0)])
    lower = loss + logits.diagonal()[rows]
    return loss, torch.stack([loss, lower, mean[:, rows]]).detach().double()


def _weight(call: Call) -> Tensor:
    return equations.negative_weight(
        call.video_spatial,
        call.sensor_spatial,
        call.video_momentum,
        call.sensor_momentum,
        lambda_hard=call.lambda_hard,
        gate=GATES[call.gate],
        power=call.power,
        temporal=TEMPORALS[call.temporal],
    ).detach()


def _left_out(call: Call) -> Tensor:
    """Bool [N, N]: pairs that are no negatives, each window with itself among them."""
    device = call.video_spatial.device
    away = torch.eye(len(call.video_spatial), dtype=torch.bool, device=device)
    if call.left_out is not None:
        away = away | call.left_out
    if call.group is not None and call.position is not None:
        near = (call.position[:, None] - call.position).abs() < call.reach
        away = away | (near & (call.group[:, None] == call.group))
    return away
