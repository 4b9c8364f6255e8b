"""What the emulated Arm must repeat, worked out on this machine: see run.sh.

The loss by equations.py, and the sample recording through a bundle.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from contrast_calls import (
    FORMS,
    TOLERANCE,
    Mask,
    make,
    masks,
    reference,
    widths_of,
)
from detach import kernels
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.engine import open_engines
from detach.edge.film import FilmReader
from detach.edge.manifest import golden_name
from detach.edge.replay import Options, decisions
from detach.edge.source import open_source

RECORDING = Path(__file__).parents[2] / "models" / "sample" / "run09"
PERCENTILES = (("float32", 0.99), ("float64", 0.99), ("float16", 0.99), ("int16", 0.5))
FILMED = 12
"""Windows of which the video is compared too."""
Arrays = dict[str, NDArray[Any]]


def contrast_cases() -> Arrays:
    """The loss in all its forms, at awkward sizes; one wide enough for the large tiles."""
    arrays: Arrays = {}
    cases = [(form, n, (17, 33, 7), name) for form in FORMS for n, name in ((5, ""), (97, "both"))]
    cases += [(FORMS[0], 130, (64, 5, 17), "dense"), (FORMS[2], 53, (300, 7, 129), "reach")]
    cases += [(FORMS[0], 1100, (24, 16, 8), "")]
    for i, (form, n, widths, name) in enumerate(cases):
        features = make(n, widths, seed=i)
        if not form.normalize:
            features = [x / 4 for x in features]
        mask = masks(n)[name] if name else Mask()
        truth = reference(features, form, mask)
        found = {
            "widths": widths_of(features),
            "params": form.params(),
            "reach": mask.reach,
            "tolerance": list(TOLERANCE.values()),
            "loss": truth.loss,
            "log_denominator": truth.log_denominator,
            "mean_weight": truth.mean_weight,
            **{f"feature{k}": x for k, x in enumerate(features)},
            **{f"gradient{k}": x for k, x in enumerate(truth.gradients)},
        }
        for key in ("dense", "group", "position"):
            if (part := getattr(mask, key)) is not None:
                found[key] = part
        arrays |= {f"contrast/{i}/{key}": np.asarray(value) for key, value in found.items()}
    return arrays


def percentile_cases() -> Arrays:
    """What the kernel makes of the same numbers here."""
    arrays: Arrays = {}
    for kind, q in PERCENTILES:
        x = (100 * np.random.default_rng(0).normal(size=(3, 60, 34))).astype(kind)
        found = kernels.activation_percentile(x, q, 1, absolute=True)
        arrays |= {f"percentile/{kind}/x": x, f"percentile/{kind}/q": np.array(q)}
        arrays[f"percentile/{kind}/found"] = found
    return arrays


def longest_row(bundle: Bundle) -> float:
    """Of the head: how much longer an error of the embedding may be as one of a logit."""
    graph = onnx.load_model_from_string(bundle.graph("sensor", "fp32")).graph
    (head,) = [node for node in graph.node if "logits" in node.output]
    assert head.op_type == "Gemm"
    weight = next(t for t in graph.initializer if t.name == head.input[1])
    rows = onnx.numpy_helper.to_array(weight)
    classes = len(bundle.manifest.classes)
    return float(np.linalg.norm(rows, axis=1 - rows.shape.index(classes)).max())


def run_cases(bundle: Bundle, recording: Path) -> Arrays:
    """All windows by the sensors, the first of them also seen by the camera."""
    manifest = bundle.manifest
    options = Options(backend="onnxruntime")
    done = list(decisions(bundle, open_source(recording, manifest), options, _silent))
    arrays: Arrays = {
        "run/samples": np.stack([window.samples for window, _ in done]),
        "run/probabilities": np.array([decision.probabilities for _, decision in done]),
        "run/place": np.array([decision.place for _, decision in done]),
        "run/place_confidence": np.array([decision.place_confidence for _, decision in done]),
        "head/longest_row": np.array(longest_row(bundle)),
        "run/label": np.array([str(decision.label) for _, decision in done]),
    }
    graphs = [g for g in ("sensor", "video_spatial", "video_temporal") if manifest.precisions(g)]
    engines = open_engines(bundle, backend="onnxruntime", graphs=graphs, say=_silent)
    golden = bundle.golden()
    for graph, engine in engines.items():
        feed = {name: golden[golden_name(graph, name)] for name in manifest.shapes(graph)[0]}
        for name, value in engine.run(feed).items():
            arrays[f"golden/{graph}/{name}"] = value
    film = FilmReader(open_source(recording, manifest), manifest)
    seen = [inputs for k in range(FILMED) if (inputs := film.inputs(float(k))) is not None]
    arrays["film/pictures"] = np.stack([inputs["pictures"][0] for inputs in seen])
    return arrays


def _silent(_: str) -> None:
    pass


if __name__ == "__main__":
    torch.set_num_threads(1)
    bundle, out = map(Path, sys.argv[1:])
    arrays = contrast_cases() | percentile_cases() | run_cases(open_bundle(bundle), RECORDING)
    arrays["paths"] = np.array([str(bundle.resolve()), str(RECORDING)])
    np.savez(out, allow_pickle=False, **arrays)
