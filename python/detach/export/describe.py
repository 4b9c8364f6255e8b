"""The manifest of a bundle: what the graphs are, what they expect, and what made them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from onnx import ModelProto

import detach
from detach.config import RunConfig
from detach.data.video import FLOW_STEP_PX
from detach.edge.manifest import (
    Flow,
    GraphInfo,
    Manifest,
    Normalise,
    Precision,
    Thresholds,
    Versions,
    Video,
    Window,
    graph_file,
    graph_key,
)
from detach.export import onnx_graph
from detach.export.graphs import Graph
from detach.export.windows import Material
from detach.model import Detach, Run
from detach.probe import Head

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

Models = Mapping[str, Mapping[Precision, ModelProto]]
"""By graph and precision."""


@dataclass(frozen=True)
class Plan:
    """What is exported of which run."""

    run: Run
    digest: str
    """sha256 of the run's model.safetensors."""
    head: Head | None
    classes: tuple[str, ...]
    """Empty without logits."""
    track: str | None
    graphs: Mapping[str, Graph]


def describe(
    plan: Plan,
    material: Material,
    models: Models,
    record: Mapping[str, float],
    thresholds: Thresholds,
    licence: str,
) -> Manifest:
    """The manifest, but for the hashes, which `write_bundle` fills in."""
    config, sensors = plan.run.config, plan.run.config.sensors
    return Manifest(
        model=plan.digest,
        created_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        licence=licence,
        dataset=material.dataset,
        method=config.method,
        preset=config.preset,
        versions=_versions(),
        window=Window(
            seconds=config.windows.seconds,
            hop_s=config.windows.hop_s,
            rate_hz=sensors.rate_hz,
            samples=window_samples(config),
        ),
        channels=material.channels,
        normalise=Normalise(zscore=sensors.zscore, std_floor=sensors.std_floor, clip=sensors.clip),
        classes=plan.classes,
        track=plan.track,
        places=plan.run.clusters if isinstance(plan.run.model, Detach) else 0,
        thresholds=thresholds,
        video=_video(plan, material),
        graphs={
            graph_key(name, precision): _info(name, precision, model)
            for name, kinds in models.items()
            for precision, model in kinds.items()
        },
        golden_sha256="",
        parity=summary(record),
    )


def window_samples(config: RunConfig) -> int:
    """T as windows are cut, before the preset resizes them."""
    return max(2, round(config.windows.seconds * config.sensors.rate_hz))


def summary(record: Mapping[str, float]) -> dict[str, float]:
    """A parity record led by its worst cases; logits, which are not of length 1, stand apart."""
    worst: dict[str, float] = {"windows": record["windows"]}
    for key, part, what in (
        ("max_abs_torch_onnxruntime", "fp32", "max_abs"),
        ("max_abs_onnx_reference", "reference", "max_abs"),
        ("fp16_max_abs", "fp16", "max_abs"),
        ("fp16_cosine", "fp16", "cosine"),
        ("int8_max_abs", "int8", "max_abs"),
        ("int8_cosine", "int8", "cosine"),
    ):
        found = _values(record, part, what)
        if found:
            worst[key] = min(found) if what == "cosine" else max(found)
    return worst | dict(record)


def _values(record: Mapping[str, float], part: str, what: str) -> Sequence[float]:
    """Values of all graphs' outputs: keys are graph.part.output.what."""
    keys = [(key, key.split(".")) for key in record if key.count(".") == 3]
    return [
        record[key]
        for key, (_, found, output, kind) in keys
        if (found, kind) == (part, what) and (output != "logits" or what == "cosine")
    ]


def _info(name: str, precision: Precision, model: ModelProto) -> GraphInfo:
    return GraphInfo(
        file=graph_file(name, precision),
        precision=precision,
        sha256="",
        inputs={value.name: onnx_graph.shape_of(value) for value in model.graph.input},
        outputs={value.name: onnx_graph.shape_of(value) for value in model.graph.output},
        opset=onnx_graph.OPSET,
        ir_version=model.ir_version,
        nodes=len(model.graph.node),
        bytes=0,
    )


def _video(plan: Plan, material: Material) -> Video | None:
    if len(plan.graphs) == 1:
        return None
    config = plan.run.config
    shrunk = material.inputs("video_temporal", np.zeros(1, np.int64))["frames"].shape
    flow = Flow(algorithm="DIS", preset="fast", step=FLOW_STEP_PX)
    return Video(
        size_px=material.windows.picture_shape,
        fit=config.video.fit,
        frames=config.video.frames,
        average=config.encoders.average,
        motion_px=(shrunk[2], shrunk[3]),
        flow=flow if "flow" in plan.graphs["video_temporal"].inputs else None,
        opencv=_opencv(),
    )


def _versions() -> Versions:
    return Versions(
        detach=detach.__version__,
        torch=str(torch.__version__),
        onnx=onnx.__version__,
        onnxruntime=onnxruntime.__version__,
        onnxscript=onnxscript.__version__,
    )


def _opencv() -> str:
    for name in ("opencv-python-headless", "opencv-python", "opencv-contrib-python"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
