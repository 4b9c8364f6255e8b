"""The reference every adopter asks for: the same sensor encoder, with a head trained on labels."""

from torch import Tensor, nn

from detach.config import EncoderConfig
from detach.encoders import SensorTemporalEncoder


class Supervised(nn.Module):
    """The reference that learns from labels alone; it has no video."""

    def __init__(self, channels: int, classes: int, config: EncoderConfig) -> None:
        super().__init__()
        self.sensor = SensorTemporalEncoder(channels, config, 2 * config.width)
        self.head = nn.Linear(2 * config.width, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits [N, L]."""
        return self.head(self.sensor(samples).relu())  # type: ignore[no-any-return]
