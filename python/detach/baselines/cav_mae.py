"""CAV-MAE (Gong et al., ICLR 2023) for ambient sensors: masked autoencoding and contrast at once.

This is EVI-MAE (Zhang et al., ECCV 2024) without its graph of worn sensors, which means nothing to
switches on doors. Patches of the sensors' spectrograms and of the video, most of them hidden, are
drawn again from those left; means of the tokens left are contrasted. Written from the papers'
descriptions. A masked autoencoder needs tokens, so its video encoder is a small transformer, from
scratch, and no other can be given.

N windows, T samples, C channels, P patches, d token width, p patch side.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach import ops
from detach.baseline_config import CavMaeConfig
from detach.baselines.batch import Batch
from detach.baselines.embedding import description, halves
from detach.config import EncoderConfig
from detach.encoders import centred, resize_samples
from detach.errors import UsageError
from detach.video_encoders import shrink

Modality = Literal["sensor", "video"]
HEAD_WIDTH = 32
DECODER_BLOCKS, DECODER_SHARE = 2, 4
"""The decoder has a quarter of the width, as in EVI-MAE: it sees all patches and costs most."""
QUIETEST = 1e-6
"""Power below which a spectrogram is silent: -60 dB."""
LOUDEST = 20.0
"""Standard deviations from the mean that a trained network is shown at most. Windows of the sample
reach 14; a channel that never stirred in training would reach thousands."""


class Spectrogram(nn.Module):
    """Logarithm of the short-time spectrum's power. [N, T, C] -> [N, C, bins, samples / hop]."""

    basis: Tensor

    def __init__(self, channels: int, settings: CavMaeConfig) -> None:
        super().__init__()
        self.settings = settings
        window = torch.hann_window(settings.window, periodic=True)
        time = torch.arange(settings.window) / 2.0
        share = torch.linspace(0, 1, settings.bins)[:, None]  # of Nyquist
        phase = 2 * math.pi * share * time
        self.register_buffer("basis", torch.cat([phase.cos(), phase.sin()]) * window)
        self.scale = nn.BatchNorm2d(channels, affine=False)

    def forward(self, samples: Tensor) -> Tensor:
        """One picture a channel, scaled to mean 0 and variance 1 over the data."""
        s = self.settings
        signal = resize_samples(samples, s.samples).transpose(1, 2)
        left = (s.window - s.hop) // 2
        padded = F.pad(signal, (left, s.window - left - 1), mode="replicate")
        frames = padded.unfold(2, s.window, s.hop)[:, :, : s.samples // s.hop]
        parts = frames @ self.basis.T
        power = parts.square().unflatten(3, (2, s.bins)).sum(dim=3)
        picture: Tensor = self.scale(power.clamp(min=QUIETEST).log10().transpose(2, 3))
        # In training it is the batch's own statistics, and something rare is no fault of theirs.
        return picture if self.training else picture.clamp(-LOUDEST, LOUDEST)


class Block(nn.Module):
    """A transformer block whose norms are those of whoever comes through."""

    def __init__(self, width: int, kinds: tuple[str, ...] = ("own",)) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.first = nn.ModuleDict({kind: nn.LayerNorm(width) for kind in kinds})
        self.second = nn.ModuleDict({kind: nn.LayerNorm(width) for kind in kinds})
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, kind: str = "own") -> Tensor:
        """[N, P, d] -> [N, P, d]."""
        split = (
            self.into(self.first[kind](tokens))
            .unflatten(2, (3, self.heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(mixed)
        return tokens + self.wide(self.second[kind](tokens))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """One modality: patches to tokens, its encoder, and what its patches are drawn again with."""

    def __init__(self, numbers: int, width: int, depth: int, decoder_width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(numbers, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.kind = nn.Parameter(torch.zeros(width))
        self.decoder_kind = nn.Parameter(torch.zeros(decoder_width))
        self.again = nn.Linear(decoder_width, numbers)
        nn.init.normal_(self.kind, std=0.02)
        nn.init.normal_(self.decoder_kind, std=0.02)

    def forward(self, patches: Tensor, place: Tensor, left: Tensor | None) -> Tensor:
        """Tokens of the patches [N, P, numbers] at ``place`` [P, d]; only those ``left`` [N, p]."""
        tokens = self.embed(patches) + place + self.kind
        if left is not None:
            tokens = _take(tokens, left)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens  # type: ignore[no-any-return]


class CavMae(nn.Module):
    """Encoders of both modalities, a joint block, a decoder."""

    def __init__(
        self, channels: int, config: EncoderConfig, settings: CavMaeConfig | None = None
    ) -> None:
        super().__init__()
        self.config, self.settings = config, settings or CavMaeConfig()
        s, width = self.settings, self.embedding_width
        self.spectrogram = Spectrogram(channels, s)
        drawn = max(1, width // DECODER_SHARE // HEAD_WIDTH) * HEAD_WIDTH
        self.sensor = Tokens(channels * s.patch**2, width, s.depth, drawn)
        self.video = Tokens(3 * s.tubelet * s.patch**2, width, s.depth, drawn)
        self.joint = Block(width, ("sensor", "video", "both"))
        self.ends = nn.ModuleDict({k: nn.LayerNorm(width) for k in ("sensor", "video", "both")})
        self.hidden = nn.Parameter(torch.zeros(drawn))
        self.into_decoder = nn.Linear(width, drawn)
        self.decoder = nn.ModuleList([Block(drawn) for _ in range(DECODER_BLOCKS)])
        self.decoder_end = nn.LayerNorm(drawn)

    @property
    def embedding_width(self) -> int:
        """2d, as of the other rivals, rounded up to a multiple of what an attention head takes."""
        return -(-2 * self.config.width // HEAD_WIDTH) * HEAD_WIDTH

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of all tokens [N, 2d]; it has no second half."""
        return halves(self._alone("sensor", self._tokens("sensor", samples)).mean(dim=1))

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The same of frames [N, F, H, W, 3], uint8."""
        video = shrink(frames, self.config.motion_size_px)
        return halves(self._alone("video", self._tokens("video", video)).mean(dim=1))

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding [N, 2d], as it is and at length 1, and nothing more [N, 0]."""
        return description(self.encode_sensors(samples)[0])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What was hidden, drawn again; and the contrast of what was left, video to sensors.

        Raises:
            UsageError: The video is a single patch.
        """
        s = self.settings
        seen: dict[Modality, tuple[Tensor, Tensor]] = {}
        left: dict[Modality, Tensor] = {}
        inputs: tuple[tuple[Modality, Tensor, float], ...] = (
            ("sensor", batch.samples, s.sensor_mask),
            ("video", batch.video, s.video_mask),
        )
        tokens: dict[Modality, Tensor] = {}
        for kind, source, hidden in inputs:
            patches, place = self._patches(kind, source)
            if patches.shape[1] < 2:
                frames, height, width = source.shape[1:4]
                raise UsageError(
                    f"cav_mae.patch = {s.patch} and cav_mae.tubelet = {s.tubelet} must leave 2 "
                    f"patches at least of the video, one shown and one hidden, got 1 of {frames} "
                    f"frames of {height} x {width} pixels; lower either"
                )
            left[kind] = _left(len(patches), patches.shape[1], hidden, batch.generator).to(
                patches.device
            )
            tokens[kind] = self._network(kind)(patches, place, left[kind])
            seen[kind] = (patches, place)
        means = {k: self._alone(k, x).mean(dim=1).float() for k, x in tokens.items()}
        contrast = ops.weighted_info_nce(
            F.normalize(means["video"], dim=1),
            F.normalize(means["sensor"], dim=1),
            temperature=s.temperature,
        )
        masked = self._masked(tokens, seen, left)
        return {"masked": s.masked_weight * masked, "contrast": s.contrast_weight * contrast}

    def _masked(
        self,
        tokens: dict[Modality, Tensor],
        seen: dict[Modality, tuple[Tensor, Tensor]],
        left: dict[Modality, Tensor],
    ) -> Tensor:
        """Mean squared error over hidden patches, each scaled to mean 0 and variance 1."""
        joined = self.ends["both"](self.joint(torch.cat(list(tokens.values()), dim=1), "both"))
        parts = self.into_decoder(joined).split([x.shape[1] for x in tokens.values()], dim=1)
        whole = []
        for kind, part in zip(tokens, parts, strict=True):
            patches, place = seen[kind]
            full = self.hidden.to(part.dtype).expand(*patches.shape[:2], -1)
            at = left[kind][:, :, None].expand(-1, -1, part.shape[2])
            full = full.scatter(1, at, part)
            where = place[:, : full.shape[2]]
            whole.append(full + where + self._network(kind).decoder_kind)
        drawn = torch.cat(whole, dim=1)
        for block in self.decoder:
            drawn = block(drawn)
        drawn = self.decoder_end(drawn)
        errors = []
        for kind, part in zip(tokens, drawn.split([x.shape[1] for x in whole], dim=1), strict=True):
            patches = seen[kind][0].detach().float()
            target = F.layer_norm(patches, patches.shape[2:], eps=1e-4)
            error = (self._network(kind).again(part).float() - target).square().mean(dim=2)
            is_hidden = torch.ones_like(error).scatter(1, left[kind], 0.0)
            errors.append((error * is_hidden).sum() / is_hidden.sum())
        return torch.stack(errors).sum()

    def _network(self, kind: Modality) -> Tokens:
        return self.sensor if kind == "sensor" else self.video

    def _tokens(self, kind: Modality, source: Tensor) -> Tensor:
        return self._network(kind)(*self._patches(kind, source), None)  # type: ignore[no-any-return]

    def _alone(self, kind: Modality, tokens: Tensor) -> Tensor:
        return self.ends[kind](self.joint(tokens, kind))  # type: ignore[no-any-return]

    def _patches(self, kind: Modality, source: Tensor) -> tuple[Tensor, Tensor]:
        """Patches [N, P, numbers] and their places [P, d]."""
        p = self.settings.patch
        if kind == "sensor":
            signal = centred(source) if self.config.centre_motion else source
            picture = self.spectrogram(signal)[:, :, None]  # [N, C, 1, bins, steps]
            sides = (1, p, p)
        else:
            picture, sides = source.permute(0, 4, 1, 2, 3), (self.settings.tubelet, p, p)
        return _cut(picture, sides, self.embedding_width)


def _cut(picture: Tensor, sides: tuple[int, int, int], width: int) -> tuple[Tensor, Tensor]:
    """Patches [N, P, numbers] of [N, c, F, H, W], the last ones filled up with their own edge."""
    short = [-n % side for n, side in zip(picture.shape[2:], sides, strict=True)]
    if any(short):
        pad = (0, short[2], 0, short[1], 0, short[0])
        picture = F.pad(picture, pad, mode="replicate")
    count, channels = picture.shape[:2]
    grid = [n // side for n, side in zip(picture.shape[2:], sides, strict=True)]
    split = (count, channels, grid[0], sides[0], grid[1], sides[1], grid[2], sides[2])
    patches = picture.reshape(split).permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)
    return patches, _places(grid, width).to(picture)


def _places(grid: list[int], width: int) -> Tensor:
    """Sines and cosines of each patch's place along three axes, [P, width]: any size of picture."""
    axes = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    at = torch.stack([axis.flatten() for axis in axes], dim=1).float()
    rates = 10000.0 ** -torch.linspace(0, 1, width // 6)
    angles = (at[:, :, None] * rates).flatten(1)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    order = torch.randperm(waves.shape[1], generator=torch.Generator().manual_seed(0))
    waves = waves[:, order]  # so that the decoder's share of columns knows all axes
    return F.pad(waves, (0, width - waves.shape[1]))


def _left(count: int, patches: int, hidden: float, generator: torch.Generator) -> Tensor:
    """Which patches are not hidden, [N, p]: at least one, and at least one hidden."""
    keep = min(max(1, round(patches * (1 - hidden))), max(1, patches - 1))
    return torch.rand(count, patches, generator=generator).argsort(dim=1)[:, :keep]


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows [N, p, d] of [N, P, d]."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))
