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
from detach.baselines.embedding import description, halves
from detach.config import EncoderConfig
from detach.encoders import ImuEncoder
from detach.video_encoders import shrink, video_tower

COLDEST = 1e-2
"""Temperature below which the learned one counts as this: a logit of 100 is enough."""


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
        self.sensor = ImuEncoder(
            channels,
            self.embedding_width,
            settings.samples,
            pool_last=True,
            pad=settings.fit == "pad",
            centre=config.centre_motion,
        )
        self.video = video_tower(config, self.embedding_width, video_encoder)
        self.temperature = nn.Parameter(torch.tensor(settings.temperature))

    @property
    def embedding_width(self) -> int:
        """2d, as of the other rivals."""
        return 2 * self.config.width

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding [N, 2d]; it has no second half."""
        return halves(self.sensor(samples))

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The same of frames [N, F, H, W, 3], uint8."""
        return halves(self.video(shrink(frames, self.config.motion_size_px)))

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding [N, 2d], as it is and at length 1, and nothing more [N, 0]."""
        return description(self.sensor(samples))

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
