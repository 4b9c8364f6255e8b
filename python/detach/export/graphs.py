"""A run's model as the graphs of a bundle: what goes in, what comes out, all of it `model.py`'s.

N windows, T samples, C channels, F frames, H W and h w pixels, K places, L classes, d width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detach.config import SensorConfig
from detach.data.sensors import Channel, ChannelStats, prepare
from detach.model import PLACE_TEMPERATURE, Detach, Global, Supervised
from detach.probe import Head

SENSOR_OUTPUTS = ("logits", "places", "embedding")
Exported = Detach | Global | Supervised
"""What a bundle can hold; the other rivals are there to be compared with."""


class Graph(nn.Module):
    """One graph of a bundle. Its forward takes ``inputs`` and gives ``outputs``, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def gains(self) -> dict[str, float]:
        """How much an error of 1 before the last layer may become in an output; 1 if not named."""
        return {}


class SensorGraph(Graph):
    """samples [N, T, C] -> any of logits [N, L], places [N, K], embedding [N, K + d or 2d].

    Samples are filled and normalised; where the preset filters or resizes them, one constant
    matrix does it here.
    """

    inputs = ("samples",)
    matrix: Tensor | None

    def __init__(
        self,
        model: Exported,
        outputs: Sequence[str],
        *,
        head: Head | None = None,
        matrix: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.outputs = tuple(outputs)
        self.heads = nn.ModuleList([] if head is None else _linears(head, model))
        self.register_buffer("matrix", None if matrix is None else torch.from_numpy(matrix))

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The outputs asked for."""
        if self.matrix is not None:
            samples = self.matrix @ samples
        if isinstance(self.model, Supervised):
            return (self.model(samples),)
        spatial, embedding, more = self.model.describe(samples)
        made = {"embedding": embedding}
        if "places" in self.outputs and isinstance(self.model, Detach):
            made["places"] = place_probabilities(self.model, spatial)
        if len(self.heads):
            wide = self.heads[0].in_features != self.model.embedding_width
            seen = torch.cat([embedding, more], dim=1) if wide else embedding
            made["logits"], *others = [head(seen) for head in self.heads]
            for other in others:  # the higher of the two, in operators that all engines have
                made["logits"] = made["logits"] + (other - made["logits"]).relu()
        return tuple(made[name] for name in self.outputs)

    def gains(self) -> dict[str, float]:
        """Logits are a product with the head, whose longest row may be far above 1."""
        heads = [self.model.head] if isinstance(self.model, Supervised) else [*self.heads]
        weights = [head.weight.detach() for head in heads if isinstance(head, nn.Linear)]
        return {"logits": float(torch.cat(weights).norm(dim=1).max())} if weights else {}


class VideoSpatialGraph(Graph):
    """Mean pictures [N, H, W, 3], or frames [N, F, H, W, 3], in [0, 1] -> spatial [N, K or d]."""

    outputs = ("spatial",)

    def __init__(self, model: Detach) -> None:
        super().__init__()
        self.model = model
        self.inputs = ("pictures",) if model.config.average == "pixels" else ("frames",)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """The frozen half of Eq. 5."""
        # The mean over one picture is that picture.
        frames = pictures[:, None] if self.inputs == ("pictures",) else pictures
        return (self.model.place_of_video(frames),)


class VideoTemporalGraph(Graph):
    """frames [N, F, h, w, 3] in [0, 1] and flow [N, F-1, h, w, 2] -> temporal [N, d].

    ``frames`` are shrunk already. Flow, where the preset has it, is in shares of the height. Of a
    `Global` model this is the whole embedding before it is normalised, [N, 2d].
    """

    outputs = ("temporal",)

    def __init__(self, model: Detach | Global) -> None:
        super().__init__()
        self.model = model
        flow = isinstance(model, Detach) and model.config.flow
        self.inputs = ("frames", "flow") if flow else ("frames",)

    def forward(self, frames: Tensor, flow: Tensor | None = None) -> tuple[Tensor, ...]:
        """The temporal half of Eq. 5, or the rival's whole."""
        if isinstance(self.model, Global):
            return (self.model.video(frames),)
        motion = frames.diff(dim=1)
        if flow is not None:
            motion = torch.cat([motion, flow], dim=4)
        return (self.model.video_temporal(motion),)


def place_probabilities(model: Detach, spatial: Tensor) -> Tensor:
    """Probabilities [N, K] of the places from what `Detach.place_of_sensors` gave."""
    if model.config.spatial == "places":
        return spatial * spatial
    near = model.nearness(spatial)
    return (near / PLACE_TEMPERATURE).softmax(dim=1)


def possible_outputs(model: Exported, head: Head | None) -> tuple[str, ...]:
    """What a sensor graph of this model can answer, in the order of `SENSOR_OUTPUTS`."""
    if isinstance(model, Supervised):
        return ("logits",)
    lacking = set() if head is not None else {"logits"}
    if isinstance(model, Global):
        lacking.add("places")
    return tuple(name for name in SENSOR_OUTPUTS if name not in lacking)


def video_graphs(model: Exported) -> Mapping[str, Graph]:
    """The video graphs a model has, by name."""
    if isinstance(model, Supervised):
        return {}
    graphs: dict[str, Graph] = {"video_temporal": VideoTemporalGraph(model)}
    if isinstance(model, Detach):
        graphs["video_spatial"] = VideoSpatialGraph(model)
    return graphs


def sample_matrix(samples: int, config: SensorConfig) -> NDArray[np.float32] | None:
    """Low-pass and resizing of a window as one matrix [config.length or T, T]; None without.

    Both are linear over time and the same for all channels, so `data.sensors.prepare` shows the
    matrix when it is given T channels that hold one impulse each.
    """
    if not config.lowpass and config.length in {None, samples}:
        return None
    impulse = Channel(name="impulse", kind="other", unit="", binary=False, place=None)
    names = tuple(f"impulse {t}" for t in range(samples))
    stats = ChannelStats(names=names, mean=(0.0,) * samples, std=(1.0,) * samples)
    plain = SensorConfig(zscore="plain", lowpass=config.lowpass, length=config.length)
    impulses = np.eye(samples, dtype=np.float32)[None]
    matrix, _ = prepare(impulses, [impulse] * samples, stats, plain)
    return np.ascontiguousarray(matrix[0])


def _linears(head: Head, model: Exported) -> list[nn.Linear]:
    """Layers whose highest is the class's logit; a class with fewer rows than others repeats one.

    Raises:
        ValueError: The head takes another number of features than the model gives.
    """
    own = [[r for r, of in enumerate(head.rows) if of == c] for c in range(len(head.classes))]
    most = max(map(len, own))
    turns = [[rows[min(k, len(rows) - 1)] for rows in own] for k in range(most)]
    return [_linear(replace(head, weight=head.weight[t], bias=head.bias[t]), model) for t in turns]


def _linear(head: Head, model: Exported) -> nn.Linear:
    classes, width = head.weight.shape
    if not isinstance(model, Supervised):
        expected = {model.embedding_width}
        if isinstance(model, Detach) and model.config.spatial == "places":
            expected.add(model.embedding_width + model.config.width)
        if width not in expected:
            either = " or ".join(map(str, sorted(expected)))
            raise ValueError(f"head must take {either} features, found {width}")
    linear = nn.Linear(width, classes)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
    return linear
