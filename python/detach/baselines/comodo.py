"""COMODO (Chen et al., arXiv 2503.07259) for ambient sensors: distils a frozen video encoder.

Sensors learn to be as similar to the windows in a queue as the teacher says the video is. The
original's teacher is a large pretrained network and its student a pretrained network of single
channels; neither fits pictures of a fixed camera or switches, and no rival may start with more than
another, so the teacher first learns from the video alone, and the student is the sensor encoder of
global alignment. Written from the paper's description. N windows, d feature width, Q keys.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detach import ops
from detach.augment import colour_change, recolour
from detach.baseline_config import ComodoConfig
from detach.baselines.batch import Batch
from detach.baselines.embedding import description, halves
from detach.config import EncoderConfig
from detach.encoders import SensorTemporalEncoder
from detach.key_queue import KeyQueue
from detach.optimizers import full_precision
from detach.video_encoders import shrink, video_tower

QUEUE_MOST = 16384
RECOLOURED = 0.4
"""How much the colours of the two views of a clip differ."""


class Comodo(nn.Module):
    """Teacher and student, each with a head; the teacher's stays as it was drawn."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        config: EncoderConfig,
        settings: ComodoConfig | None = None,
        *,
        video_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.settings = config, settings or ComodoConfig()
        width, hidden, output = 2 * config.width, self.settings.hidden, self.settings.output
        self.sensor = SensorTemporalEncoder(channels, config, width)
        self.video = video_tower(config, width, video_encoder)
        self.student_head = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, output)
        )
        self.teacher_head = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, output)
        )
        self.teacher_head.requires_grad_(False)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    @property
    def embedding_width(self) -> int:
        """2d, or that of the head where it is kept."""
        return self.settings.output if self.settings.probe == "head" else 2 * self.config.width

    def encode_sensors(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher [N, output]; it has no second half."""
        return halves(self.student_head(self.sensor(samples)))

    def encode_video(self, frames: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """What the teacher says of frames [N, F, H, W, 3], uint8: [N, output]."""
        return halves(self.teach(self.video(shrink(frames, self.config.motion_size_px))))

    def describe(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The student's embedding, as it is and at length 1, and nothing more [N, 0]."""
        embedding = self.sensor(samples)
        if self.settings.probe == "head":
            embedding = self.student_head(embedding)
        return description(embedding)

    def teach(self, features: Tensor) -> Tensor:
        """The teacher's vectors [N, output], of length 1, of its features [N, 2d]."""
        scaled = (features.float() - self.mean) / self.std
        return F.normalize(self.teacher_head(scaled), dim=1)

    @torch.no_grad()
    def freeze_teacher(self, features: Tensor) -> None:
        """Ends the teacher's learning; its features [N, 2d] of all windows set the head's scale."""
        self.mean.copy_(features.mean(dim=0))
        self.std.copy_(features.std(dim=0).clamp(min=1e-6))
        self.video.eval().requires_grad_(False)

    def teacher_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Two views of each clip against each other: other colours, every other frame."""
        count = len(batch.video)
        views = []
        for start in (0, 1):
            change = colour_change(count, RECOLOURED, batch.generator)
            views.append(recolour(batch.video[:, start::2], *change))
        one, other = (F.normalize(self.video(v).float(), dim=1) for v in views)
        temperature = self.settings.teacher_temperature
        loss = ops.weighted_info_nce(one, other, temperature=temperature, symmetric=True)
        return {"views": loss}

    def losses(self, batch: Batch, taught: Tensor, queue: KeyQueue) -> dict[str, Tensor]:
        """Cross-entropy of the student's similarities to the queue under the teacher's.

        Args:
            batch: The windows.
            taught: The teacher's vectors of all windows, [N, output].
            queue: Some of them; those of the batch join. Of a batch larger than the queue only the
                last stay, and the first windows are compared without their own target.
        """
        mine = taught[batch.window.to(taught.device)]
        queue.push(mine.cpu(), batch.window.cpu())
        keys = queue.filled.to(mine)
        said = F.normalize(self.student_head(self.sensor(batch.samples)).float(), dim=1)
        with full_precision(said.device):
            target = (mine @ keys.T / self.settings.teacher_temperature).softmax(dim=1)
            guess = (said @ keys.T / self.settings.student_temperature).log_softmax(dim=1)
        return {"distil": -(target * guess).sum(dim=1).mean()}


def start_queue(model: Comodo, taught: Tensor, seed: int) -> KeyQueue:
    """A queue with a random part of the teacher's vectors [N, output].

    Raises:
        ValueError: It would be longer than there are windows.
    """
    asked, width = model.settings.queue, taught.shape[1]
    share = model.settings.queue_share
    queue = KeyQueue.sized(
        asked, QUEUE_MOST, len(taught), width, option="comodo.queue", share=share
    )
    order = torch.randperm(len(taught), generator=torch.Generator().manual_seed(seed))
    chosen = order[: len(queue.keys)]
    queue.push(taught.cpu()[chosen], chosen)
    return queue
