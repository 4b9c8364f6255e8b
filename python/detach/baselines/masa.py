"""MASA (Kwon et al., arXiv 2503.12519): our interpretation, and nobody's numbers but ours.

Of MASA only abstract and captions could be read; of CASA (Kwon et al., CVPR 2022) the code is
public. This is written from their descriptions. Theirs, by the captions: two different
augmentations of one clip, a context-aware module whose outputs are the embedding, an alignment
module that matches frames both ways and clusters clips implicitly. Ours: every formula below that
CASA does not have, ground truth by composing both index maps, InfoNCE between the two views of a
clip for its clusters, and joints alone. ``form`` casa is CASA: the clip as it is against one
augmentation, matched one way, no clusters. Both train one model on all actions.

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


class View(NamedTuple):
    """An augmented clip and where its frames come from."""

    joints: Tensor
    """[N, T, J, 3]"""
    at: Tensor
    """Place of each frame in the clip, [N, T], rising within [0, 1]: the index map."""


def plain_view(clips: Tensor, frames: int) -> View:
    """``frames`` evenly spaced frames of clips [N, L, J, 3]."""
    at = torch.linspace(0, 1, frames).expand(len(clips), frames)
    return View(_frames_at(clips, at), at)


def drawn_view(
    clips: Tensor, mirrored: Tensor, settings: MasaConfig, generator: torch.Generator
) -> View:
    """Another speed and, by chance, unsteady joints, a mirror, another place.

    Args:
        clips: [N, L, J, 3].
        mirrored: Which joint each becomes in a mirror across y, [J].
        settings: How strongly.
        generator: Random numbers.
    """
    count, frames = len(clips), settings.frames
    knots = torch.randn(count, 1, KNOTS, generator=generator)
    speed = F.interpolate(knots, size=frames - 1, mode="linear", align_corners=True).squeeze(1)
    path = F.pad((settings.speed * speed).exp().cumsum(dim=1), (1, 0))
    ends = settings.cut * torch.rand(2, count, 1, generator=generator)
    at = ends[0] + path / path[:, -1:] * (1 - ends[0] - ends[1])
    joints = _frames_at(clips, at)

    def some() -> Tensor:
        return (torch.rand(count, 1, 1, 1, generator=generator) < settings.chance).float()

    joints = joints + some() * settings.unsteady * torch.randn(joints.shape, generator=generator)
    seen = joints[:, :, mirrored] * torch.tensor([1.0, -1.0, 1.0])
    mirror = some()
    joints = mirror * seen + (1 - mirror) * joints
    place = settings.place * torch.randn(count, 1, 1, 3, generator=generator)
    return View(joints + some() * place, at)


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


def matching_loss(x: Tensor, y: Tensor, time: Tensor, there: Tensor, temperature: float) -> Tensor:
    """Squared error of the expected time in ``y`` [N, S, d] of each frame of ``x`` [N, T, d].

    A softmax over minus squared distances, by the square root of d and ``temperature``, weighs the
    times of ``y``; frames that are not ``there`` count nothing.
    """
    logits = -torch.cdist(x, y).square() / (math.sqrt(x.shape[2]) * temperature)
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
        x = self._placed(self.start(joints.flatten(2)))
        for own, across in zip(self.own, self.other, strict=True):
            x = own(x, x)
            x = across(x, x)
        return x

    def context(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of two views in each other's light, [N, T, d] and [N, S, d]."""
        x, y = (self._placed(self.start(view.flatten(2))) for view in (one, other))
        for own, across in zip(self.own, self.other, strict=True):
            x, y = own(x, x), own(y, y)
            x, y = across(x, y), across(y, x)
        return x, y

    def losses(
        self, clips: Tensor, mirrored: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Of clips [N, L, J, 3] of all kinds of action."""
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
        x, y = (self.match(z) for z in self.context(one.joints, other.joints))
        there = matching_loss(x, y, *matches(one.at, other.at), self.settings.temperature)
        if not both:
            return there
        back = matching_loss(y, x, *matches(other.at, one.at), self.settings.temperature)
        return 0.5 * (there + back)

    def _clustered(self, first: View, second: View) -> Tensor:
        """Symmetric InfoNCE over clips, positives being the two views of one.

        Each view is embedded by itself: in one another's light they would give away their pair.
        """
        pooled = [self.cluster(self.embed(view.joints).mean(dim=1)) for view in (first, second)]
        a, b = (F.normalize(z, dim=1) for z in pooled)
        temperature = self.settings.cluster_temperature
        return ops.weighted_info_nce(a, b, temperature=temperature, symmetric=True)

    def _placed(self, x: Tensor) -> Tensor:
        """Adds sines of the time, from 0 to that of a whole view, so that any length will do."""
        time = torch.linspace(0, self.settings.frames - 1, x.shape[1])[:, None]
        rate = 10000.0 ** -torch.linspace(0, 1, x.shape[2] // 2)
        waves = torch.cat([(time * rate).sin(), (time * rate).cos()], dim=1)
        return x * math.sqrt(x.shape[2]) + waves


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


def _frames_at(clips: Tensor, at: Tensor) -> Tensor:
    """Frames of clips [N, L, J, 3] at shares [N, T] of their length, by linear interpolation."""
    position = at * (clips.shape[1] - 1)
    below = position.floor().long().clamp(max=clips.shape[1] - 2)
    after = (position - below)[:, :, None, None]
    rows = torch.arange(len(clips))[:, None]
    return (1 - after) * clips[rows, below] + after * clips[rows, below + 1]
