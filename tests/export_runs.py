"""Runs with drawn weights on the tiny data set, and their bundles; each is made once a session."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from detach.config import RunConfig, override, preset
from detach.data.recording import read_dataset
from detach.data.windows import load_windows
from detach.edge.bundle import Bundle, open_bundle
from detach.export import export
from detach.model import MODEL_FILE, Run, build, load_run, save_run
from detach.probe import LinearProbe, save_head

SMALL: dict[str, Any] = {
    "encoders": {"width": 8, "video_scale": 0.125, "sensor_scale": 0.125},
    "video": {"size_px": 32, "frames": 4},
    "sensors": {"rate_hz": 32.0},
    "device": "cpu",
    "split": {"track": "activity", "by": "dataset"},
}
CLASSES = ("idle", "open left", "open middle", "open right")
CLUSTERS = 3
VARIANTS: dict[str, RunConfig] = {
    "recommended": override(
        preset("recommended"), SMALL | {"encoders": SMALL["encoders"] | {"motion_size_px": 16}}
    ),
    "authors-code": override(preset("authors-code"), SMALL),
    "global": override(preset("recommended"), SMALL | {"method": "global"}),
    "supervised": override(preset("recommended"), SMALL | {"method": "supervised"}),
}
"""authors-code has what recommended lacks: low-pass, resizing, flow, single frames, features."""
WITH_HEAD = ("recommended", "global")


@dataclass(frozen=True)
class Exported:
    """A run, its bundle, and what was said while it was made."""

    run: Run
    bundle: Bundle
    said: tuple[str, ...]

    def graph(self, name: str, precision: str = "fp32") -> onnx.ModelProto:
        return onnx.load_model_from_string(self.bundle.graph(name, precision))


@functools.cache
def exported(data: Path, variant: str) -> Exported:
    folder = data.parent / f"export-{variant}"
    drawn_run(folder / "run", data, VARIANTS[variant], head=variant in WITH_HEAD)
    said: list[str] = []
    int8 = variant == "recommended"
    out = export(folder / "run", folder / "tiny.detach", int8=int8, say=said.append)
    return Exported(load_run(folder / "run"), open_bundle(out), tuple(said))


def drawn_run(folder: Path, data: Path, config: RunConfig, *, head: bool) -> Path:
    """A run folder as training would leave it; also its buffers are drawn."""
    dataset = read_dataset(data)
    windows = load_windows(dataset, config, video=False)
    channels = windows.samples.shape[2]
    model = build(config, channels, CLUSTERS, len(CLASSES))
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if "running_mean" in name:
            buffer.normal_(0, 0.3, generator=generator)
        elif "running_var" in name:
            buffer.uniform_(0.5, 2.0, generator=generator)
        elif name == "centroids":
            buffer.normal_(generator=generator)
    about = {
        "data": str(data),
        "track": "activity",
        "classes": list(CLASSES),
        "clusters": CLUSTERS,
    }
    folder.mkdir(parents=True)
    save_run(folder, config, model, windows.stats, about)
    if head:
        places = config.method == "detach" and config.encoders.spatial == "places"
        write_drawn_head(folder, 8 + (CLUSTERS if places else 8))
    return folder


def write_drawn_head(folder: Path, width: int, **changes: Any) -> None:
    rng = np.random.default_rng(0)
    weight = 3 * rng.normal(size=(len(CLASSES), width)).astype(np.float32)
    probe = LinearProbe(weight, np.zeros(len(CLASSES), np.float32), 1.0)
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    about: dict[str, Any] = {"track": "activity", "classes": CLASSES, "model": digest}
    save_head(folder, probe, **(about | changes))
