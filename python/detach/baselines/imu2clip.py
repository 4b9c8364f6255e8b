"""IMU2CLIP (Moon et al., arXiv 2210.14395) for ambient sensors, without its text branch.

Convolutions and a GRU against a video encoder, symmetric InfoNCE, learned temperature. Written from
the paper's description. The video encoder is ours and learns too, from scratch, where the original
has a frozen CLIP: no picture of a fixed camera is like those CLIP has seen, and no rival here may
start with more than another. N windows, T samples, C channels, d feature width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach import ops
from detach.baseline_config import Imu2ClipConfig
from detach.baselines.batch import Batch
from detach.config import EncoderConfig
from detach.encoders import ImuConvolutions, resize_samples, shrink, video_tower

COLDEST = 1e-2
"""Temperature below which the learned one counts as this: a logit of 100 is enough."""


class SensorEncoder(nn.Module):
    """[N, T, C] -> [N, width]. The GRU runs over time; the original's runs over channels."""

    def __init__(
        self, channels: int, config: EncoderConfig, settings: Imu2ClipConfig, width: int
    ) -> None:
        super().__init__()
        self.settings = settings
        self.convolutions = ImuConvolutions(channels, config, pool_last=True)
        self.recurrent = nn.GRU(self.convolutions.width, width, batch_first=True)

    def forward(self, samples: Tensor) -> Tensor:
        """The last state of a window."""
        length = self.settings.samples
        if self.settings.fit == "pad":
            samples = F.pad(samples, (0, 0, 0, length - samples.shape[1]))  # or cuts the end off
        _, last = self.recurrent(self.convolutions(resize_samples(samples, length)))
        return last[0]  # type: ignore[no-any-return]


class Imu2Clip(nn.Module):
    """Both encoders and the temperature."""

    def __init__(
        self,
        channels: int,
        config: EncoderConfig,
        settings: Imu2ClipConfig | None = None,
        *,
        video_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        settings = settings or Imu2ClipConfig()
        self.config = config
        self.sensor = SensorEncoder(channels, config, settings, self.embedding_width)
        self.video = video_tower(config, self.embedding_width, video_encoder)
        self.temperature = nn.Parameter(torch.tensor(settings.temperature))

    @property
    def embedding_width(self) -> int:
        """2d, as of the other rivals."""
        return 2 * self.config.width

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding [N, 2d]; it has no second half."""
        embedding = self.sensor(samples)
        return embedding, embedding[:, :0]

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The same of frames [N, F, H, W, 3], uint8."""
        embedding = self.video(shrink(frames, self.config.motion_size_px))
        return embedding, embedding[:, :0]

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding [N, 2d], as it is and at length 1, and nothing more [N, 0]."""
        embedding = self.sensor(samples)
        return embedding, F.normalize(embedding, dim=1), embedding[:, :0]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean of both directions; the original's sum is the same to Adam."""
        felt, seen = self.sensor(batch.samples), self.video(batch.video)
        loss = ops.weighted_info_nce(
            F.normalize(felt.float(), dim=1),
            F.normalize(seen.float(), dim=1),
            temperature=self.temperature.clamp(min=COLDEST),
            symmetric=True,
        )
        return {"contrast": loss}
