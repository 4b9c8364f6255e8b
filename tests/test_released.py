"""The bundle that comes along: small enough, and it recognises what the sample recordings show."""

from pathlib import Path

import numpy as np
import pytest

from detach import recipes
from detach.data.labels import NOTHING
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.decide import UNKNOWN
from detach.edge.replay import Options, decisions, run, truth_of
from detach.edge.source import open_source

MODELS = recipes.models_folder()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(MODELS / "home.detach")


def test_it_is_small(bundle: Bundle) -> None:
    sensor = bundle.manifest.graphs["sensor.fp32"]
    assert sensor.nodes <= 90
    assert sensor.bytes <= 2_000_000
    assert bundle.path.stat().st_size <= 8_000_000


def test_its_own_record_of_parity_is_within_the_limits(bundle: Bundle) -> None:
    parity = bundle.manifest.parity
    assert parity["windows"] == 256
    assert parity["sensor.fp32.embedding.max_abs"] <= 1e-5
    assert parity["sensor.fp32.logits.top1_agreement"] == 1
    assert parity["fp16_cosine"] >= 0.9999


def test_its_confidence_was_chosen_on_labels_as_the_card_says(bundle: Bundle) -> None:
    limits = bundle.manifest.thresholds
    assert limits.basis is not None
    assert limits.basis.right >= limits.basis.least_right == 0.95
    card = " ".join((Path(__file__).parents[1] / "models" / "home.md").read_text().split())
    assert f"Below a confidence of {limits.confidence:g}," in card
    assert f"on {limits.basis.windows} labelled windows" in card
    assert f"{limits.basis.right:.1%}".replace("%", " %") in card
    assert f"{limits.basis.found:.1%}".replace("%", " %") in card


@pytest.mark.parametrize("recording", ["run01", "run10"])
def test_it_recognises_the_sample(bundle: Bundle, recording: str) -> None:
    lines: list[str] = []
    summary, _, _ = run(
        bundle.path,
        MODELS / "sample" / recording,
        options=Options(backend="onnxruntime"),
        write=lines.append,
        say=lambda _: None,
    )
    assert summary.windows == len(lines) > 50
    assert summary.labelled > 30
    assert summary.right > 0.5 * summary.labelled  # by chance 1 in 14


def test_doing_nothing_is_rarely_an_action(bundle: Bundle) -> None:
    """Over all sample recordings: what a head without that class would get wrong every time."""
    found = []
    for folder in sorted((MODELS / "sample").glob("run*")):
        source = open_source(folder, bundle.manifest)
        options = Options(backend="onnxruntime")
        decided = [d for _, d in decisions(bundle, source, options, lambda _: None)]
        truth = truth_of(source, bundle.manifest, np.array([d.start_s for d in decided]))
        idle = truth == bundle.manifest.classes.index(NOTHING)
        found += [d.label for d, quiet in zip(decided, idle, strict=True) if quiet]
    assert len(found) > 50
    assert sum(label not in {NOTHING, UNKNOWN} for label in found) < 0.8 * len(found)


def test_float16_decides_alike(bundle: Bundle) -> None:
    found = []
    for precision in ("fp32", "fp16"):
        options = Options(backend="onnxruntime", precision=precision)
        _, _, windows = run(
            bundle.path,
            MODELS / "sample" / "run10",
            options=options,
            write=lambda _: None,
            say=lambda _: None,
        )
        found.append([max(range(15), key=d.probabilities.__getitem__) for _, d in windows])
    assert found[0] == found[1]


def test_its_card_names_what_it_was_trained_on(bundle: Bundle) -> None:
    card = (Path(__file__).parents[1] / "models" / "home.md").read_text()
    assert bundle.manifest.dataset == "simulated opportunity (default, seed 21)"
    assert "--seed 21" in card
    assert bundle.manifest.licence in card
    assert f"{len(bundle.manifest.classes) - 1} actions" in card
    assert bundle.manifest.classes[-1] == NOTHING
    assert f"{bundle.manifest.places} places" in card
    assert f"{len(bundle.manifest.channels)} channels" in card
