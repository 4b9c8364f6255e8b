"""A tiny bundle of a sensor graph and two video graphs, made with the onnx package; no torch."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save

from detach.edge.bundle import GOLDEN_FILE, write_bundle
from detach.edge.manifest import (
    Basis,
    Channel,
    GraphInfo,
    Manifest,
    Normalise,
    Thresholds,
    Versions,
    Video,
    Window,
    golden_name,
    graph_file,
    graph_key,
)
from detach.edge.onnx_walk import facts_of

SAMPLES, CHANNELS, WIDTH, PLACES = 8, 3, 4, 3
CLASSES = ("idle", "cook", "wash", "sleep", "read")
SIZE_PX, MOTION_PX, FRAMES = (8, 8), (8, 8), 3
BASIS = Basis(least_right=0.95, right=0.96, found=0.8, windows=300, recordings=2)
SIZES = {"logits": len(CLASSES), "places": PLACES, "embedding": WIDTH, "spatial": 2, "temporal": 2}


def tiny_graph(
    inputs: Mapping[str, tuple[int, ...]], outputs: tuple[str, ...], seed: int = 0
) -> onnx.ModelProto:
    """Every output is one linear layer of all inputs; float32, opset 18, IR 10."""
    rng = np.random.default_rng(seed)
    nodes, weights, flat = [], [], []
    for name, shape in inputs.items():
        nodes.append(helper.make_node("Flatten", [name], [f"flat_{name}"], axis=1))
        flat.append((f"flat_{name}", int(np.prod(shape))))
    nodes.append(helper.make_node("Concat", [name for name, _ in flat], ["all"], axis=1))
    length = sum(size for _, size in flat)
    for output in outputs:
        w = rng.normal(size=(length, SIZES[output])).astype(np.float32) / np.float32(length**0.5)
        weights.append(numpy_helper.from_array(w, f"w_{output}"))
        nodes.append(helper.make_node("MatMul", ["all", f"w_{output}"], [f"raw_{output}"]))
        last = {"places": "Softmax", "embedding": "Tanh"}.get(output, "Identity")
        nodes.append(helper.make_node(last, [f"raw_{output}"], [output]))
    border = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *s]) for n, s in shapes]
        for shapes in (inputs.items(), [(n, (SIZES[n],)) for n in outputs])
    ]
    graph = helper.make_graph(nodes, "tiny", border[0], border[1], weights)
    opset = [helper.make_opsetid("", 18)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return model


def tiny_graphs(
    *, outputs: tuple[str, ...] = ("logits", "places", "embedding"), video: bool = False
) -> dict[str, onnx.ModelProto]:
    """Graphs by name."""
    graphs = {"sensor": tiny_graph({"samples": (SAMPLES, CHANNELS)}, outputs)}
    if video:
        frames = {"frames": (FRAMES, *MOTION_PX, 3)}
        graphs["video_spatial"] = tiny_graph({"pictures": (*SIZE_PX, 3)}, ("spatial",), 1)
        graphs["video_temporal"] = tiny_graph(frames, ("temporal",), 2)
    return graphs


def info_of(name: str, precision: str, model: bytes) -> GraphInfo:
    """What the manifest says of a graph; hash and size are filled in on writing."""
    facts = facts_of(model)
    return GraphInfo(
        file=graph_file(name, precision),
        precision=precision,  # type: ignore[arg-type] # a test may want a wrong one
        sha256="0" * 64,
        inputs=facts.inputs,
        outputs=facts.outputs,
        opset=facts.opset,
        ir_version=facts.ir_version,
        nodes=facts.nodes,
        bytes=1,
    )


def tiny_manifest(graphs: Mapping[str, GraphInfo], **changes: Any) -> Manifest:
    """A manifest of the tiny model; ``changes`` replace fields."""
    video = Video(
        size_px=SIZE_PX,
        fit="keep",
        frames=FRAMES,
        average="pixels",
        motion_px=MOTION_PX,
        flow=None,
        opencv="5.0.0",
    )
    body: dict[str, Any] = {
        "model": "a" * 64,
        "created_utc": "2026-01-31T12:00:00Z",
        "licence": "Apache-2.0",
        "dataset": "tiny",
        "method": "detach",
        "preset": "recommended",
        "versions": Versions(
            detach="0.1.0", torch="2.13.0", onnx="1.23.2", onnxruntime="1.31.1", onnxscript="0.7.2"
        ),
        "window": Window(seconds=2.0, hop_s=1.0, rate_hz=4.0, samples=SAMPLES),
        "channels": tuple(_channel(i) for i in range(CHANNELS)),
        "normalise": Normalise(zscore="binary-unscaled", std_floor=0.01, clip=10.0),
        "classes": CLASSES,
        "track": "activity",
        "places": PLACES,
        "thresholds": Thresholds(confidence=0.4, live_share=0.5, basis=BASIS),
        "video": video if len({key.partition(".")[0] for key in graphs}) > 1 else None,
        "graphs": graphs,
        "golden_sha256": "0" * 64,
        "parity": {"windows": 256.0, "max_abs_torch_onnxruntime": 1e-7},
    }
    return Manifest(**(body | changes))


def golden_of(graphs: Mapping[str, onnx.ModelProto], seed: int = 7) -> dict[str, NDArray[Any]]:
    """Four windows through the reference evaluator."""
    rng = np.random.default_rng(seed)
    golden: dict[str, NDArray[Any]] = {}
    for name, model in graphs.items():
        facts = facts_of(model.SerializeToString())
        feed = {
            n: rng.random((4, *(int(k or 0) for k in shape[1:])), dtype=np.float32)
            for n, shape in facts.inputs.items()
        }
        found = ReferenceEvaluator(model).run(None, feed)
        named = feed | dict(zip(facts.outputs, found, strict=True))
        golden |= {golden_name(name, tensor): value for tensor, value in named.items()}
    return golden


def tiny_members(
    graphs: Mapping[str, onnx.ModelProto], precisions: tuple[str, ...] = ("fp32",)
) -> tuple[dict[str, GraphInfo], dict[str, bytes]]:
    """What the manifest says of the graphs, and the members of the bundle."""
    infos, members = {}, {}
    for name, model in graphs.items():
        for precision in precisions:
            marked = onnx.ModelProto.FromString(model.SerializeToString())
            marked.doc_string = precision  # no two members are alike
            raw = marked.SerializeToString()
            infos[graph_key(name, precision)] = info_of(name, precision, raw)
            members[graph_file(name, precision)] = raw
    members[GOLDEN_FILE] = save(golden_of(graphs))
    return infos, members


def write_tiny(
    path: Path,
    *,
    video: bool = False,
    precisions: tuple[str, ...] = ("fp32",),
    outputs: tuple[str, ...] = ("logits", "places", "embedding"),
    members: Mapping[str, bytes] | None = None,
    **changes: Any,
) -> Path:
    """A whole bundle; ``members`` are added or replaced, ``changes`` go to the manifest."""
    graphs = tiny_graphs(outputs=outputs, video=video)
    infos, contents = tiny_members(graphs, precisions)
    manifest = dataclasses.replace(tiny_manifest(infos), **changes)
    write_bundle(path, manifest, contents | dict(members or {}))
    return path


def _channel(i: int) -> Channel:
    kind = ("switch", "acceleration", "power")[i % 3]
    return Channel(
        name=f"sensor{i}",
        sensor=f"sensor{i}",
        axis="value",
        kind=kind,
        unit="",
        hz=None if kind == "switch" else 4.0,
        mean=0.5 * i,
        std=1.0,
        max_gap_s=1.0,
    )
