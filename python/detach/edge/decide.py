"""From what the graphs say to one answer a window."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.edge.graph_input import Tensors
from detach.edge.manifest import Manifest
from detach.edge.stream import SensorWindow

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one window was taken for."""

    start_s: float
    end_s: float
    label: str | None
    """A class, or "unknown" below the bundle's thresholds and where a sensor is ``silent``; None
    where the bundle has no head."""
    confidence: float | None
    """Probability of the likeliest class."""
    probabilities: tuple[float, ...]
    """Of all classes."""
    place: int | None
    place_confidence: float | None
    live_share: float
    """Share of the channels that were observed."""
    silent: tuple[str, ...] = ()
    """Sensors without which the bundle gives no answer, and that are missing."""
    video_place: int | None = None
    agreement: float | None = None
    """Cosine between the embeddings of video and sensors; low where they see different things."""

    def as_json(self, classes: tuple[str, ...] = ()) -> dict[str, Any]:
        """A flat object with rounded numbers; with ``classes`` also every probability."""
        body: dict[str, Any] = {"start_s": round(self.start_s, 3), "end_s": round(self.end_s, 3)}
        optional = {
            "label": self.label,
            "confidence": self.confidence,
            "place": self.place,
            "place_confidence": self.place_confidence,
            "live_share": self.live_share,
            "video_place": self.video_place,
            "agreement": self.agreement,
        }
        for name, value in optional.items():
            if value is not None:
                body[name] = round(value, 4) if isinstance(value, float) else value
        if self.silent:
            body["silent"] = list(self.silent)
        if classes:
            body["probabilities"] = {
                name: round(p, 4) for name, p in zip(classes, self.probabilities, strict=True)
            }
        return body


def decide(
    manifest: Manifest, window: SensorWindow, outputs: Tensors, video: Tensors | None = None
) -> Decision:
    """One window's answer.

    Args:
        manifest: Of the bundle.
        window: What went in.
        outputs: Of the sensor graph for this window alone, [1, ...] each.
        video: Of the video graphs, where they ran: ``spatial`` and ``temporal``.
    """
    label: str | None = None
    confidence: float | None = None
    probabilities: tuple[float, ...] = ()
    if manifest.classes:
        power = softmax(outputs["logits"][0])
        probabilities, best = tuple(power.tolist()), int(power.argmax())
        confidence, limits = probabilities[best], manifest.thresholds
        sure = confidence >= limits.confidence and window.live_share >= limits.live_share
        label = manifest.classes[best] if sure and not window.silent else UNKNOWN
    places = outputs.get("places")
    spatial = video.get("spatial") if video else None
    named = spatial is not None and spatial.shape[1] == manifest.places
    return Decision(
        start_s=window.start_s,
        end_s=window.start_s + manifest.window.seconds,
        label=label,
        confidence=confidence,
        probabilities=probabilities,
        place=None if places is None else int(places[0].argmax()),
        place_confidence=None if places is None else float(places[0].max()),
        live_share=window.live_share,
        silent=window.silent,
        video_place=int(spatial[0].argmax()) if spatial is not None and named else None,
        agreement=_agreement(outputs.get("embedding"), video),
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of logits [L]."""
    power = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(power / power.sum())


def _agreement(embedding: NDArray[np.float32] | None, video: Tensors | None) -> float | None:
    if embedding is None or not video:
        return None
    halves = [_unit(video[name][0]) for name in ("spatial", "temporal") if name in video]
    whole = _unit(np.concatenate(halves))
    return float(whole @ _unit(embedding[0])) if whole.shape == embedding[0].shape else None


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x / np.float32(max(float(np.linalg.norm(x)), 1e-12))
