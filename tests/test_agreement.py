"""`detach bench edge --data`: precisions of the sensor graph, on labelled recordings."""

import shutil
from pathlib import Path

import pytest

from detach import recipes
from detach.cli import main
from detach.edge.agreement import Agreement, measure
from detach.errors import DataError, UsageError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]

MODELS = recipes.models_folder()
SAMPLE, BUNDLE = MODELS / "sample", MODELS / "home.detach"


@pytest.fixture(scope="module")
def found() -> Agreement:
    return measure(BUNDLE, SAMPLE, backend="onnxruntime", say=lambda _: None)


def test_all_recordings_are_compared(found: Agreement) -> None:
    assert found.windows > found.labelled > 500
    assert list(found.f1) == ["fp32", "fp16"]
    assert 0.5 < found.f1["fp32"] < 1
    assert found.alike["fp32"] == 1


def test_half_precision_recognises_as_well(found: Agreement) -> None:
    assert abs(found.f1["fp16"] - found.f1["fp32"]) <= 0.002
    assert found.alike["fp16"] >= 0.99


def test_every_number_is_a_line_of_the_ledger(found: Agreement) -> None:
    lines = list(found.lines("home.detach"))
    assert {(line["provider"], line["metric"]) for line in lines} == {
        (precision, metric) for precision in ("fp32", "fp16") for metric in ("f1", "class_as_fp32")
    }
    assert f"{float(str(lines[0]['value'])):.4f}" in found.as_text()


def test_data_without_a_label_the_bundle_knows_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "sample"
    shutil.copytree(SAMPLE, copy)
    for file in copy.glob("*/labels/*.csv"):
        head, *_ = file.read_text().splitlines()
        file.write_text(f"{head}\n0.0,10.0,juggling\n")
    with pytest.raises(DataError, match="no window has a label of 'action'"):
        measure(BUNDLE, copy, backend="onnxruntime", say=lambda _: None)


def test_one_precision_cannot_be_compared(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.detach", precisions=("fp32",))
    with pytest.raises(UsageError, match="at least two"):
        measure(bundle, SAMPLE, say=lambda _: None)


def test_the_verb_adds_to_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "rows.csv"
    words = ["bench", "edge", str(BUNDLE), "--data", str(SAMPLE), "--append", str(ledger)]
    assert main(words) == 0
    assert "weighted F1" in capsys.readouterr().out
    rows = ledger.read_text()
    assert rows.count("\n") == 1 + 2 + 3 * 3 + 4
    for metric in ("first_decision_s", "sensor_p95_ms", "class_as_fp32"):
        assert metric in rows


@pytest.mark.parametrize(
    ("words", "named"), [(("edge", "--full"), "--full"), (("loss", "--video"), "--video")]
)
def test_options_of_another_part_are_refused(
    words: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert f"{named} is not for bench {words[0]}" in capsys.readouterr().err
