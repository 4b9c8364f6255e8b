"""MASA (Kwon et al., arXiv 2503.12519): our interpretation, and nobody's numbers but ours.

Of MASA only abstract and captions could be read; of CASA (Kwon et al., CVPR 2022) the code is
public. This is written from their descriptions. Theirs, by the captions: two different
augmentations of one clip, a context-aware module whose outputs are the embedding, an alignment
module that matches frames both ways and clusters clips implicitly. Ours: ground truth by composing
both index maps, InfoNCE between the two views of a clip for its clusters, and joints alone. Frames
are matched as in CASA, both ways. Both train one model on all actions.

``form`` casa is CASA: the clip as it is against one augmentation, matched one way, no clusters.
As in CASA: two linear layers, times the root of d, sines of the frame's number; pairs of linear
attention within and across views, four of them; a head of two layers; the similarity of
`matching_loss` and its squared error of time; translations, mirrors, speed. What differs:

- width and heads are the settings'; CASA is as wide as three numbers a joint, in small heads;
- views have a set number of frames, evenly apart in their own time, which is what the sines tell;
  CASA's have all frames, and zeros up to the longest clip;
- speed changes smoothly and ends are cut; CASA leaves out or repeats up to half of the frames;
- joints tremble in metres: no body model is here for CASA's changes of angle and pose;
- matches lie between frames, where CASA takes mutual nearest ones, and time is in shares of a view;
- both views look across at once, one after the other in CASA; linear layers have biases; one model
  serves all actions; rate, batch and steps are the settings'.

A frame's sines tell the time since the start and nothing of the end. Attention sees the whole clip,
here as in CASA: an embedding is not what could be known while the action goes on.

N clips, L frames of a clip, T frames of a view, J joints, d feature width.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach import ops
from detach.baseline_config import MasaConfig

KNOTS = 4
"""Speeds drawn along a view."""


class Clips(NamedTuple):
    """Clips of different lengths."""

    joints: Tensor
    """[N, L, J, 3]; what follows a clip's end is not looked at."""
    lengths: Tensor
    """Frames of each, [N]"""


class View(NamedTuple):
    """An augmented clip and where its frames come from."""

    joints: Tensor
    """[N, T, J, 3]"""
    at: Tensor
    """Place of each frame in the clip, [N, T], rising within [0, 1]: the index map."""
    clock: Tensor
    """Time since the view's start, in frames of the clip, [N, T]."""


def plain_view(clips: Clips, frames: int) -> View:
    """``frames`` evenly spaced frames of clips."""
    at = torch.linspace(0, 1, frames).expand(len(clips.joints), frames)
    return View(_frames_at(clips, at), at, at * (clips.lengths[:, None] - 1))


def drawn_view(
    clips: Clips, mirrored: Tensor, settings: MasaConfig, generator: torch.Generator
) -> View:
    """Another speed and, by chance, unsteady joints, a mirror, another place.

    Args:
        clips: As they are.
        mirrored: Which joint each becomes in a mirror across y, [J].
        settings: How strongly.
        generator: Random numbers.
    """
    count, frames = len(clips.joints), settings.frames
    knots = torch.randn(count, 1, KNOTS, generator=generator)
    speed = F.interpolate(knots, size=frames - 1, mode="linear", align_corners=True).squeeze(1)
    path = F.pad((settings.speed * speed).exp().cumsum(dim=1), (1, 0))
    ends = settings.cut * torch.rand(2, count, 1, generator=generator)
    kept = 1 - ends[0] - ends[1]
    at = ends[0] + path / path[:, -1:] * kept
    step = kept * (clips.lengths[:, None] - 1) / path[:, -1:]  # at speed 1 a frame is a frame
    clock = step * torch.arange(frames)
    joints = _frames_at(clips, at)

    def some() -> Tensor:
        return (torch.rand(count, 1, 1, 1, generator=generator) < settings.chance).float()

    joints = joints + some() * settings.unsteady * torch.randn(joints.shape, generator=generator)
    seen = joints[:, :, mirrored] * torch.tensor([1.0, -1.0, 1.0])
    mirror = some()
    joints = mirror * seen + (1 - mirror) * joints
    place = settings.place * torch.randn(count, 1, 1, 3, generator=generator)
    return View(joints + some() * place, at, clock)


def matches(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where each frame of one view is in another: both index maps, composed.

    Args:
        source: Index map of one view, [N, T].
        target: That of the other, [N, S].

    Returns:
        Time in the other view [N, T] in [0, 1], and whether the frame is in it at all, bool [N, T].
    """
    last = target.shape[1] - 1
    after = torch.searchsorted(target.contiguous(), source.contiguous()).clamp(1, last)
    low, high = target.gather(1, after - 1), target.gather(1, after)
    between = (source - low) / (high - low).clamp(min=1e-6)
    there = (source >= target[:, :1]) & (source <= target[:, -1:])
    return ((after - 1 + between) / last).clamp(0, 1), there


def sines(clock: Tensor, width: int) -> Tensor:
    """Times [...] in frames, as sines and cosines of rates from 1 to 1/10000, [..., width]."""
    angle = clock[..., None] * 10000.0 ** -torch.linspace(0, 1, width // 2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def matching_loss(x: Tensor, y: Tensor, time: Tensor, there: Tensor, temperature: float) -> Tensor:
    """Squared error of the expected time in ``y`` [N, S, d] of each frame of ``x`` [N, T, d].

    As in CASA a softmax over minus the distances of features by the root of d, by d and
    ``temperature``, weighs the times of ``y``; frames that are not ``there`` count nothing.
    """
    width = x.shape[2]
    apart = torch.cdist(x / math.sqrt(width), y / math.sqrt(width))
    logits = -apart / (temperature * width)
    expected = logits.softmax(dim=2) @ torch.linspace(0, 1, y.shape[1])
    error = (expected - time).square() * there
    return error.sum() / there.sum().clamp(min=1)


class Masa(nn.Module):
    """Joints to embeddings of frames; what it learns by hangs on ``settings.form``."""

    def __init__(self, joints: int, settings: MasaConfig | None = None) -> None:
        super().__init__()
        s = settings or MasaConfig()
        self.settings = s
        self.start = nn.Sequential(
            nn.Linear(3 * joints, s.width), nn.ReLU(), nn.Linear(s.width, s.width)
        )
        self.own = nn.ModuleList([_LinearAttention(s.width, s.heads) for _ in range(s.layers)])
        self.other = nn.ModuleList([_LinearAttention(s.width, s.heads) for _ in range(s.layers)])
        self.match = nn.Sequential(
            nn.Linear(s.width, s.width), nn.ReLU(), nn.Linear(s.width, s.width)
        )
        self.cluster = nn.Linear(s.width, s.width)

    def embed(self, joints: Tensor) -> Tensor:
        """Frames [N, T, J, 3] -> [N, T, d]; as in CASA each clip is paired with itself."""
        return self._embed(joints, torch.arange(joints.shape[1], dtype=torch.float32))

    def context(self, one: View, other: View) -> tuple[Tensor, Tensor]:
        """Frames of two views in each other's light, [N, T, d] and [N, S, d]."""
        x, y = (self._begin(view.joints, view.clock) for view in (one, other))
        for own, across in zip(self.own, self.other, strict=True):
            x, y = own(x, x), own(y, y)
            x, y = across(x, y), across(y, x)
        return x, y

    def losses(
        self, clips: Clips, mirrored: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Of clips of all kinds of action."""
        s = self.settings
        second = drawn_view(clips, mirrored, s, generator)
        if s.form == "casa":
            whole = plain_view(clips, s.frames)
            return {"match": self._matched(second, whole, both=False)}
        first = drawn_view(clips, mirrored, s, generator)
        terms = {"match": self._matched(first, second, both=True)}
        if s.cluster_weight:
            terms["cluster"] = s.cluster_weight * self._clustered(first, second)
        return terms

    def _matched(self, one: View, other: View, *, both: bool) -> Tensor:
        """Each frame of ``one`` finds its time in ``other``, and the other way round."""
        x, y = (self.match(z) for z in self.context(one, other))
        there = matching_loss(x, y, *matches(one.at, other.at), self.settings.temperature)
        if not both:
            return there
        back = matching_loss(y, x, *matches(other.at, one.at), self.settings.temperature)
        return 0.5 * (there + back)

    def _clustered(self, first: View, second: View) -> Tensor:
        """Symmetric InfoNCE over clips, positives being the two views of one.

        Each view is embedded by itself: in one another's light they would give away their pair.
        """
        pooled = [
            self.cluster(self._embed(view.joints, view.clock).mean(dim=1))
            for view in (first, second)
        ]
        a, b = (F.normalize(z, dim=1) for z in pooled)
        temperature = self.settings.cluster_temperature
        return ops.weighted_info_nce(a, b, temperature=temperature, symmetric=True)

    def _embed(self, joints: Tensor, clock: Tensor) -> Tensor:
        x = self._begin(joints, clock)
        for own, across in zip(self.own, self.other, strict=True):
            x = own(x, x)
            x = across(x, x)
        return x

    def _begin(self, joints: Tensor, clock: Tensor) -> Tensor:
        """Each frame by itself, [N, T, d], and sines of the time since the start, [N, T] or [T].

        That time is in frames, whatever is still to come: a share of the clip would tell its end.
        """
        x = self.start(joints.flatten(2))
        return x * math.sqrt(x.shape[2]) + sines(clock, x.shape[2])  # type: ignore[no-any-return]


class _LinearAttention(nn.Module):
    """Attention whose kernel is elu + 1, and a feed-forward layer, both added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """[N, T, d] in the light of [N, S, d] -> [N, T, d]."""
        q, k, v = (
            layer(z).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, z in ((self.query, x), (self.key, source), (self.value, source))
        )
        q, k = F.elu(q) + 1, F.elu(k) + 1
        total = q @ (k.transpose(2, 3) @ v)
        share = q @ k.sum(dim=2, keepdim=True).transpose(2, 3)
        seen = self.first(self.out((total / share).transpose(1, 2).flatten(2)))
        return x + self.second(self.wide(torch.cat([x, seen], dim=2)))  # type: ignore[no-any-return]


def _frames_at(clips: Clips, at: Tensor) -> Tensor:
    """Frames at shares [N, T] of each clip's length, by linear interpolation."""
    last = clips.lengths[:, None] - 1
    position = at * last
    below = torch.minimum(position.floor().long(), last - 1)
    after = (position - below)[:, :, None, None]
    rows = torch.arange(len(at))[:, None]
    return (1 - after) * clips.joints[rows, below] + after * clips.joints[rows, below + 1]
