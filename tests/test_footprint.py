"""`detach bench edge`: figures of a process of its own."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from detach.cli import main
from detach.edge.footprint import Footprint, measure
from detach.errors import DataError, MachineError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Footprint:
    path = tmp_path_factory.mktemp("bundle") / "tiny.detach"
    return measure(write_tiny(path, video=True), video=True, backend="onnxruntime")


def test_every_step_is_timed(found: Footprint) -> None:
    assert set(found.latency) == {"cut", "sensor", "video_spatial", "video_temporal", "all"}
    for step in found.latency.values():
        assert 0 < step.p50_ms <= step.p95_ms <= step.p99_ms < 10_000
    assert 0 < found.first_decision_s < 300
    assert 10 < found.peak_memory_mb < 1000
    assert all("ONNX Runtime" in name for name in found.engines.values())


def test_the_report_is_json_and_names_the_machine(found: Footprint) -> None:
    body = json.loads(found.as_json())
    assert body["schema"] == 1
    assert body["machine"]["architecture"]
    assert {"python", "numpy", "onnxruntime"} <= set(body["versions"])
    assert body["latency"]["all"]["p99_ms"] == found.latency["all"].p99_ms
    assert not any(math.isnan(step["p50_ms"]) for step in body["latency"].values())
    assert found.machine["cpu"] in found.as_text()


def test_the_verb_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, report = write_tiny(tmp_path / "tiny.detach"), tmp_path / "report.json"
    assert main(["bench", "edge", str(bundle), "--report", str(report)]) == 0
    assert "first decision after" in capsys.readouterr().out
    assert list(json.loads(report.read_text())["latency"]) == ["cut", "sensor", "all"]
    assert main(["bench", "edge"]) == 2
    assert main(["bench", "edge", str(tmp_path / "none.detach")]) == 3


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.detach")
    with pytest.raises(MachineError, match="has no video graphs"):
        measure(bundle, video=True)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(DataError):
        measure(bundle)


def test_figures_are_of_the_bundle_that_was_given(found: Footprint) -> None:
    assert dataclasses.replace(found).bundle == "tiny.detach"
    assert len(found.model) == 64
