"""False events and actions found on recordings, and the share of a core: `bench edge`."""

import re
from pathlib import Path

import pytest

from detach.bench.figure import save_events
from detach.cli import main
from detach.edge.live.curve import THRESHOLDS, Curve, curve
from detach.edge.live.load import Load, measure_live
from detach.errors import DataError, MachineError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]

MODELS = Path(__file__).parents[1] / "models"
BUNDLE, DATA = MODELS / "home.detach", MODELS / "sample"

pytestmark = pytest.mark.skipif(not BUNDLE.is_file(), reason="no released bundle")


@pytest.fixture(scope="module")
def found() -> Curve:
    return curve(BUNDLE, [DATA / "run09", DATA / "run10"], say=lambda _: None)


def test_higher_thresholds_cost_actions_and_save_false_events(found: Curve) -> None:
    assert [r.threshold for r in found.rates] == list(THRESHOLDS)
    assert found.hours == pytest.approx(2 * 83 / 3600)
    assert found.windows == 2 * 83
    first, last = found.rates[0], found.rates[-1]
    assert first.found > 0.5 > last.found
    assert first.false > last.false
    for r in found.rates:
        assert r.false_per_day == pytest.approx(r.false * 24 / found.hours)
    best = found.chosen(first.false_per_day)
    assert best.found == max(r.found for r in found.rates)
    with pytest.raises(DataError, match="no threshold has at most -1"):
        found.chosen(-1)


def test_a_data_set_is_all_of_its_recordings(found: Curve) -> None:
    said: list[str] = []
    whole = curve(BUNDLE, [DATA], say=said.append)
    assert whole.recordings == len(said) == 10
    assert "seed 7" in whole.data
    assert whole.rates[0].stretches > found.rates[0].stretches


def test_the_figure_follows_the_theme(found: Curve, tmp_path: Path) -> None:
    text = save_events(found, tmp_path).read_text()
    assert "prefers-color-scheme: dark" in text
    assert "false events a day" in text
    last = [r for r in found.rates if r.false][-1]
    assert f">{last.threshold:g}<" in text  # the thresholds stand beside the points


def test_the_command_says_what_to_write_into_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "edge", str(BUNDLE), "--recordings", str(DATA / "run10")]
    rows = tmp_path / "rows.csv"
    assert main([*words, "--most-per-day", "5000", "--append", str(rows)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"decide: \{confidence: [\d.]+, mean_probability: [\d.]+\}", out)
    assert rows.read_text().count("false_per_day") == len(THRESHOLDS)
    assert main([*words, "--most-per-day", "-1"]) == 3


def test_recordings_without_labels_or_a_bundle_without_classes_are_refused(tmp_path: Path) -> None:
    blind = write_tiny(tmp_path / "blind.detach", classes=(), outputs=("places",))
    with pytest.raises(DataError, match="has no classes"):
        curve(blind, [DATA], say=print)


@pytest.mark.slow
def test_what_live_takes_is_far_below_a_quarter_of_a_core() -> None:
    found = measure_live(BUNDLE, seconds=8.0)
    assert found.size_px == (56, 72)
    assert 0.0 < found.deciding + found.decoding <= 0.25
    assert found.decoding > 0.0
    assert found.windows >= 10
    assert "of one core" in str(found)


def test_what_does_not_run_is_said(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "other.detach")  # has other sensors than the sample
    with pytest.raises(MachineError, match="detach live does not run: .*none of its sensors"):
        measure_live(bundle, seconds=1.0)


def test_a_load_without_a_camera() -> None:
    load = Load(
        bundle="a", size_px=None, seconds=30, deciding=0.02, decoding=0.0, windows=30, skips=0
    )
    assert "no camera" in str(load)
    assert "2.0% of one core" in str(load)
