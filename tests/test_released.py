"""The bundle that comes along: small enough, and it recognises what the sample recordings show."""

from pathlib import Path

import pytest

from detach import recipes
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.replay import Options, run

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
        found.append([max(range(14), key=d.probabilities.__getitem__) for _, d in windows])
    assert found[0] == found[1]


def test_its_card_names_what_it_was_trained_on(bundle: Bundle) -> None:
    card = (Path(__file__).parents[1] / "models" / "home.md").read_text()
    assert bundle.manifest.dataset == "simulated opportunity (default, seed 21)"
    assert "--seed 21" in card
    assert bundle.manifest.licence in card
    assert f"{len(bundle.manifest.classes)} actions" in card
    assert f"{bundle.manifest.places} places" in card
    assert f"{len(bundle.manifest.channels)} channels" in card
