"""Global alignment: one encoder a modality, plain InfoNCE, no places and no stages.

What IMU2CLIP and its kin do once the text branch is gone, with encoders of the size of ours.
"""

from torch import Tensor, nn

from detach import equations, ops
from detach.baselines.batch import Batch
from detach.config import EncoderConfig
from detach.encoders import SensorTemporalEncoder
from detach.video_encoders import shrink, video_tower


class Global(nn.Module):
    """One encoder a modality, aligned as wholes: what the paper calls global alignment.

    As many numbers as Detach; the halves of its embedding mean nothing by themselves.
    """

    def __init__(
        self, channels: int, config: EncoderConfig, *, video_encoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.sensor = SensorTemporalEncoder(channels, config, 2 * config.width)
        self.video = video_tower(config, 2 * config.width, video_encoder)

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Two halves [N, d] of one feature."""
        return self.sensor(samples).chunk(2, dim=1)  # type: ignore[no-any-return]

    @property
    def embedding_width(self) -> int:
        """2d."""
        return 2 * self.config.width

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first half [N, d], the embedding [N, 2d], and nothing more [N, 0]."""
        halves = self.encode_sensors(samples)
        embedding = equations.sensor_embedding(*halves)
        return halves[0], embedding, embedding[:, :0]

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Two halves [N, d] of one feature."""
        video = shrink(frames, self.config.motion_size_px)
        return self.video(video).chunk(2, dim=1)  # type: ignore[no-any-return]

    def losses(self, batch: Batch, temperature: float) -> dict[str, Tensor]:
        """Symmetric InfoNCE of the wholes."""
        seen, felt = self.video(batch.video), self.sensor(batch.samples)
        seen_halves, felt_halves = (z.float().chunk(2, dim=1) for z in (seen, felt))
        loss = ops.weighted_contrastive_loss(
            *seen_halves,
            *felt_halves,
            temperature=temperature,
            lambda_hard=1.0,
            temporal="none",
        )
        return {"contrast": loss}
