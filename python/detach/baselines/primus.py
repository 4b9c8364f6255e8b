"""PRIMUS (Das et al., ICASSP 2025) for ambient sensors, without its text branch.

Three agreements at once: sensors with video, sensors with a changed view of themselves, and both
with the nearest window in a queue. Written from the paper's description. N windows, T samples, C
channels, d feature width, Q keys in the queue.
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach import ops
from detach.baseline_config import PrimusConfig, View
from detach.baselines.batch import Batch
from detach.baselines.embedding import description, halves
from detach.config import EncoderConfig
from detach.encoders import ImuEncoder
from detach.key_queue import KeyQueue
from detach.video_encoders import shrink, video_tower

COLDEST = 1e-2
QUEUE_MOST = 8192
NOISE, SCALE, SEGMENTS = 0.1, 0.25, 4


class Primus(nn.Module):
    """Encoders, two heads on the sensors' and two temperatures."""

    def __init__(
        self,
        channels: int,
        config: EncoderConfig,
        settings: PrimusConfig | None = None,
        *,
        video_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.settings = config, settings or PrimusConfig()
        width = self.embedding_width
        samples = self.settings.samples
        self.sensor = ImuEncoder(
            channels, width, samples, pool_last=False, centre=config.centre_motion
        )
        self.video = video_tower(config, width, video_encoder)
        self.to_video = nn.Linear(width, width)
        self.to_views = nn.Linear(width, width)
        start = torch.full((2,), self.settings.temperature)
        self.temperature = nn.Parameter(start)
        """Of the terms with the video, and of those between views."""

    @property
    def embedding_width(self) -> int:
        """2d, as of the other rivals."""
        return 2 * self.config.width

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared with the video [N, 2d]; it has no second half."""
        return halves(self.to_video(self.sensor(samples)))

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The same of frames [N, F, H, W, 3], uint8."""
        return halves(self.video(shrink(frames, self.config.motion_size_px)))

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding [N, 2d] before its heads, as it is and at length 1, and nothing more."""
        return description(self.sensor(samples))

    def losses(self, batch: Batch, memory: "Memory") -> dict[str, Tensor]:
        """The terms with the video, and those between views, weighted by c."""
        share = self.settings.self_share
        samples = batch.samples
        both = [samples]
        if share:
            both.append(changed(samples, self.settings.views, batch.generator))
        hidden = self.sensor(torch.cat(both))
        seen = self.video(batch.video)
        felt = self.to_video(hidden[: len(samples)])
        video = self._pair(felt, seen, 0, memory.negatives(batch.window))
        near = memory.nearest(seen, batch.window) if self.settings.neighbours else None
        if near is not None:
            extra = memory.negatives(batch.window, near.window)
            video = video + self._pair(felt, near.video, 0, extra)
        terms = {"contrast": (1 - share) * video}
        if share:
            first, second = self.to_views(hidden).chunk(2)
            views = self._pair(first, second, 1)
            if near is not None:
                views = views + self._pair(second, near.sensor, 1)
            terms["views"] = share * views
        return terms

    def _pair(
        self, query: Tensor, key: Tensor, which: int, extra: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Symmetric InfoNCE; ``extra`` negatives [Q, 2d] and which count [n, Q] are keys alone."""
        a, b = F.normalize(query.float(), dim=1), F.normalize(key.float(), dim=1)
        temperature = self.temperature[which].clamp(min=COLDEST)
        if extra is None:
            return ops.weighted_info_nce(a, b, temperature=temperature, symmetric=True)
        keys, counts = (x.to(a) for x in extra)
        loss = ops.weighted_info_nce(
            a, b, temperature=temperature, extra_keys=keys, extra_weight=counts
        )
        back = ops.weighted_info_nce(b, a, temperature=temperature)
        return 0.5 * (loss + back)


class Near(NamedTuple):
    """Of each window of a batch, the one nearest to it in the queue."""

    video: Tensor
    """Its features [n, 2d]."""
    sensor: Tensor
    """[n, 2d]"""
    window: Tensor
    """Which it is, [n]."""


class Memory:
    """The queue of PRIMUS and the slow copies that fill it."""

    def __init__(self, model: Primus, windows: int) -> None:
        self._model, self._settings = model, model.settings
        width = model.embedding_width
        size = self._settings.queue
        self.queue = KeyQueue.sized(size, QUEUE_MOST, windows, 2 * width, option="primus.queue")
        self.slow = copy.deepcopy(nn.ModuleList([model.video, model.sensor, model.to_views]))
        self.slow.eval().requires_grad_(False)

    @property
    def videos(self) -> Tensor:
        """Video features in the queue, [Q, 2d], of length 1."""
        return F.normalize(self.queue.keys[:, : self._model.embedding_width], dim=1)

    def nearest(self, seen: Tensor, window: Tensor) -> Near | None:
        """By video [n, 2d], and never the window [n] itself; None while some has no other."""
        seen = seen.detach().float()
        chosen = self.queue.nearest(seen, window)
        if chosen is None:
            return None
        video, sensor = self.queue.keys[chosen].to(seen).tensor_split(2, dim=1)
        return Near(video, sensor, self.queue.window[chosen])

    def negatives(self, *positives: Tensor) -> tuple[Tensor, Tensor] | None:
        """Videos in the queue, and whether each is of none of the windows [n]: bool [n, Q].

        None where a batch has negatives enough.
        """
        if self._settings.negatives == "batch":
            return None
        barred = [self.queue.barred(window.cpu()) for window in positives]
        return self.videos, ~torch.stack(barred).any(dim=0)

    @torch.no_grad()
    def remember(self, batch: Batch) -> None:
        """Moves the slow copies towards those trained, and pushes what they make of a batch."""
        m = min(self._settings.momentum, (1 + batch.step) / (10 + batch.step))
        m = m if self._settings.momentum else 0.0
        online = nn.ModuleList([self._model.video, self._model.sensor, self._model.to_views])
        for slow, fast in zip(self.slow.parameters(), online.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - m)
        for old, new in zip(self.slow.buffers(), online.buffers(), strict=True):
            old.copy_(new)
        video, sensor, head = self.slow
        keys = torch.cat([video(batch.video), head(sensor(batch.clean))], dim=1)
        self.queue.push(keys.float().cpu(), batch.window.cpu())

    def state_dict(self) -> dict[str, object]:
        """Queue and slow copies."""
        return {"queue": self.queue.state_dict(), "slow": self.slow.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Takes over what `state_dict` gave."""
        self.queue.load_state_dict(state["queue"])
        self.slow.load_state_dict(state["slow"])


def changed(samples: Tensor, views: tuple[View, ...], generator: torch.Generator) -> Tensor:
    """Another view of each window [N, T, C], all changes drawn anew for each window."""
    for view in views:
        samples = _CHANGES[view](samples, generator)
    return samples


def _noise(samples: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(samples.shape, generator=generator)
    return samples + NOISE * drawn.to(samples)


def _scale(samples: Tensor, generator: torch.Generator) -> Tensor:
    """One factor a channel."""
    drawn = torch.randn(len(samples), 1, samples.shape[2], generator=generator)
    return samples * (1.0 + SCALE * drawn.to(samples))


def _negate(samples: Tensor, _: torch.Generator) -> Tensor:
    return -samples


def _reverse(samples: Tensor, _: torch.Generator) -> Tensor:
    return samples.flip(1)


def _permute(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Cuts each window into four segments and puts them in another order."""
    count, length, _ = samples.shape
    cuts = torch.rand(count, length - 1, generator=generator).argsort(dim=1)[:, : SEGMENTS - 1]
    edge = torch.zeros(count, length, dtype=torch.int64).scatter_(1, cuts + 1, 1)
    segment = edge.cumsum(dim=1)
    rank = torch.rand(count, SEGMENTS, generator=generator).argsort(dim=1)
    order = (rank.gather(1, segment) * length + torch.arange(length)).argsort(dim=1)
    rows = torch.arange(count, device=samples.device)[:, None]
    return samples[rows, order.to(samples.device)]


_CHANGES = {
    "noise": _noise,
    "scale": _scale,
    "negate": _negate,
    "reverse": _reverse,
    "permute": _permute,
}
