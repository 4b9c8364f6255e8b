"""A file for the rerun viewer holds film, sensors and answers on one time axis."""

import sys
from pathlib import Path

import pytest

from detach.cli import main
from detach.edge.rrd import TIMELINE, write_rrd
from detach.errors import MachineError

from .export_runs import exported  # type: ignore[import-not-found]


def test_without_rerun_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MachineError, match=r"pip install rerun-sdk"):
        write_rrd(tmp_path / "a.rrd", None, None, [])  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_all_of_it_is_on_one_time_axis(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunks = pytest.importorskip("rerun.chunk").RrdReader
    bundle = exported(tiny_dataset, "recommended").bundle.path
    out = tmp_path / "r3.rrd"
    words = ["run", str(bundle), str(tiny_dataset / "r3"), "--rrd", str(out)]
    assert main([*words, "--out", str(tmp_path / "lines")]) == 0
    assert "pictures" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    last: dict[str, float] = {}
    for chunk in chunks(out).stream().to_chunks():
        if TIMELINE in chunk.timeline_names:
            times = chunk.to_record_batch().column(TIMELINE).to_numpy(zero_copy_only=False)
            seconds = times.astype("timedelta64[ns]").astype(float).max() / 1e9
            path = str(chunk.entity_path)
            last[path] = max(last.get(path, 0.0), float(seconds))
    assert {"/camera", "/answers/state", "/answers/confidence", "/sensors/door0"} <= set(last)
    assert "/sensors/shaker/x" in last
    assert last["/camera"] == pytest.approx(39.9, abs=0.2)
    assert last["/answers/confidence"] == pytest.approx(40.0, abs=1.1)
