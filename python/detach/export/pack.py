"""A run folder made into a bundle: graphs, their checks, golden windows and the manifest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from safetensors.numpy import save

from detach.data.windows import Progress
from detach.edge.bundle import GOLDEN_FILE, GOLDEN_WINDOWS, write_bundle
from detach.edge.golden import disagreement
from detach.edge.graph_input import Tensors
from detach.edge.manifest import Precision, golden_name, graph_file
from detach.errors import DataError, MachineError, UsageError
from detach.export import onnx_graph, parity
from detach.export.describe import PRECISIONS, Models, Plan, describe, window_samples
from detach.export.eight_bits import quantized
from detach.export.golden import draw
from detach.export.graphs import (
    SENSOR_OUTPUTS,
    Exported,
    Graph,
    SensorGraph,
    possible_outputs,
    sample_matrix,
    video_graphs,
)
from detach.export.precision import to_half
from detach.export.threshold import thresholds
from detach.export.windows import Material, read_material
from detach.model import Run, Supervised, load_config, load_run, weights_digest
from detach.probe import HEAD_FILE, MADE_BY, NAMED_FILE, Head, load_head

EXAMPLE = 3
"""Windows of the example that is traced; 1 would become a constant."""


def pack(
    folder: Path,
    out: Path,
    *,
    precisions: Sequence[Precision],
    video: bool,
    outputs: Sequence[str],
    data: Path | None,
    licence: str,
    head: str,
    least_right: float,
    say: Progress,
) -> Path:
    """See `detach.export.export`; int8 among ``precisions`` is for the video graphs."""
    run = load_run(folder)
    _model(run)
    digest = weights_digest(folder)
    used = _head(run, digest, head, say)
    wanted = _outputs(run, used, outputs)
    video = video and not isinstance(run.model, Supervised)
    material = read_material(run, data, head=used, video=video, say=say)
    if video and not material.video:
        say("the data have no video: the bundle gets no video graphs")
    plan = _plan(run, digest, used, wanted, video=material.video)
    models: dict[str, dict[Precision, ModelProto]] = {}
    record = {"windows": float(len(material.checked()))}
    for name, graph in plan.graphs.items():
        kinds = [p for p in precisions if p != "int8" or name != "sensor"]
        models[name], checks = _make(name, graph, kinds, material, say)
        record |= checks
    golden = _golden(plan, material)
    check_golden(models, golden)
    limits, said = thresholds(plan, material, least_right)
    if plan.classes:
        say(said)
    manifest = describe(plan, material, models, record, limits, licence)
    members = {
        graph_file(name, precision): model.SerializeToString(deterministic=True)
        for name, kinds in models.items()
        for precision, model in kinds.items()
    }
    write_bundle(out, manifest, members | {GOLDEN_FILE: save(golden)})
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {', '.join(manifest.graphs)}")
    return out


def check_golden(models: Models, golden: Tensors) -> None:
    """Every engine repeats the golden windows before it is used; this one must be able to.

    Raises:
        MachineError: A graph is further from torch than engines tolerate.
    """
    for name, kinds in models.items():
        for precision, model in kinds.items():
            feed = {v.name: golden[golden_name(name, v.name)] for v in model.graph.input}
            outputs = [v.name for v in model.graph.output]
            made = parity.open_session(model).run(outputs, feed)
            expected = {output: golden[golden_name(name, output)] for output in outputs}
            found = dict(zip(outputs, made, strict=True))
            if problem := disagreement(found, expected, precision):
                raise MachineError(
                    f"{name} in {precision} does not repeat the golden windows: {problem}; leave "
                    f"{precision} out; no bundle was written"
                )


def _model(run: Run) -> Exported:
    if not isinstance(run.model, Exported):
        raise UsageError(
            f"{run.folder}: method {run.config.method} is there to be compared with and cannot be "
            "exported; detach, infonce, global and supervised can"
        )
    return run.model


def _head(run: Run, digest: str, wanted: str, say: Progress) -> Head | None:
    if isinstance(run.model, Supervised):
        return None
    files = {"names": NAMED_FILE, "labels": HEAD_FILE}
    there = [name for name, file in files.items() if (run.folder / file).is_file()]
    if wanted != "auto" and wanted not in there:
        raise DataError(
            f"{run.folder}: has no head from {wanted}; `{MADE_BY[files[wanted]]}` makes one"
        )
    if not there:
        say(
            f"{run.folder} has no head yet: the bundle will give no activities; "
            "`detach evaluate` fits a head where there are labels, `detach name` makes one from "
            "names that you give"
        )
        return None
    chosen = there[0] if wanted == "auto" else wanted
    if len(there) > 1:
        say(f"the head from {chosen} is taken; --head chooses")
    head = load_head(run.folder, files[chosen])
    if head is not None and head.model not in {None, digest}:
        raise DataError(
            f"{run.folder}: its head was fitted on another model; run "
            f"`{MADE_BY[files[chosen]]}` again"
        )
    return head


def _outputs(run: Run, head: Head | None, wanted: Sequence[str]) -> tuple[str, ...]:
    if unknown := [name for name in wanted if name not in SENSOR_OUTPUTS]:
        known = ", ".join(SENSOR_OUTPUTS)
        raise UsageError(f"outputs must be among {known}, got {unknown[0]!r}")
    possible = possible_outputs(_model(run), head)
    chosen = tuple(name for name in possible if name in set(wanted))
    if not chosen:
        raise UsageError(
            f"outputs: {run.folder} can give {', '.join(possible)}, not {', '.join(wanted)}"
        )
    return chosen


def _plan(
    run: Run, digest: str, head: Head | None, outputs: tuple[str, ...], *, video: bool
) -> Plan:
    logits = "logits" in outputs
    used = head if logits else None
    matrix = sample_matrix(window_samples(run.config), run.config.sensors)
    try:
        sensor = SensorGraph(_model(run), outputs, head=used, matrix=matrix)
    except ValueError as error:
        raise DataError(f"{run.folder}: {error}; run `detach evaluate` again") from error
    graphs: dict[str, Graph] = {"sensor": sensor.eval()}
    if video:
        graphs |= {name: graph.eval() for name, graph in video_graphs(_model(run)).items()}
    if used is not None:
        return Plan(run, digest, used, used.classes, used.track, graphs)
    if not logits:
        return Plan(run, digest, None, (), None, graphs)
    track = str(load_config(run.folder)[1].get("track", ""))
    return Plan(run, digest, None, run.classes, track, graphs)


def _make(
    name: str, graph: Graph, kinds: Sequence[Precision], material: Material, say: Progress
) -> tuple[dict[Precision, ModelProto], dict[str, float]]:
    """The ONNX models of a graph by precision, checked, and the record of the check."""
    say(f"{name}: exporting")

    def inputs(index: NDArray[np.int64]) -> parity.Feed:
        return material.inputs(name, index)

    full = onnx_graph.export_graph(graph, inputs(np.arange(EXAMPLE) % len(material.windows)))
    models: dict[Precision, ModelProto] = {"fp32": full}
    if "fp16" in kinds:
        models["fp16"] = to_half(full)
    if "int8" in kinds:
        index = material.calibration()
        feeds = [{k: v.numpy() for k, v in inputs(i[None]).items()} for i in index]
        eight, how = quantized(graph, full, feeds, inputs, material.checked())
        say(f"{name}: {how}")
        if eight is not None:
            models["int8"] = eight
    for model in models.values():
        onnx_graph.check_graph(model)
    record = parity.check(name, graph, models, inputs, material.checked())
    size = f"{len(full.graph.node)} nodes, {full.ByteSize() / 1e6:.2f} MB"
    distances = [
        f"{output} {record[f'{name}.fp32.{output}.max_abs']:.1e}" for output in graph.outputs
    ]
    say(f"{name}: {size}; from torch at most: {', '.join(distances)}")
    return {p: models[p] for p in PRECISIONS if p in kinds and p in models}, record


def _golden(plan: Plan, material: Material) -> Tensors:
    """Inputs and outputs of a few windows, as torch gives them in float32.

    The inputs are drawn: a bundle goes places where recordings of a home have no business.
    """
    index = material.checked()[:GOLDEN_WINDOWS]
    binary = np.array([channel.binary for channel in material.channels])
    golden: Tensors = {}
    for name, graph in plan.graphs.items():
        shapes = {
            k: (GOLDEN_WINDOWS, *v.shape[1:]) for k, v in material.inputs(name, index).items()
        }
        drawn = {k: draw(k, shape, binary) for k, shape in shapes.items()}
        feed = {k: torch.from_numpy(v) for k, v in drawn.items()}
        tensors = drawn | parity.run_torch(graph, feed)
        golden |= {golden_name(name, k): np.ascontiguousarray(v) for k, v in tensors.items()}
    return golden
