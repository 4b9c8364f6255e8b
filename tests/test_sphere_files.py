"""Files of a sequence: small disorder is counted, damage is named by file and line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detach.data.sphere import import_sphere
from detach.errors import DataError

from .sphere_folder import edit_rows, refuse, write_sphere_folder  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = write_sphere_folder(tmp_path_factory.mktemp("sphere"))
    return folder


@pytest.fixture
def damaged(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "source"))


def test_small_disorder_is_put_in_order_and_counted(damaged: Path, tmp_path: Path) -> None:
    run = damaged / "public_data" / "train" / "00001"
    twice = dict.fromkeys((10, 11), "0.22,0.1,0.6,0.4,,,,")
    changes = {20: "0.92,nan,0.6,0.4,,,,", 30: "0.9,0.2,0.6,0.4,,,,"}
    edit_rows(run / "acceleration.csv", {**twice, **changes})
    boxes = (run / "video_living_room.csv").read_text().splitlines()
    cells = boxes[5].split(",")
    lost = ",".join([*cells[:3], "nan", *cells[4:]])
    edit_rows(run / "video_living_room.csv", {5: boxes[3], 6: lost})
    (run / "pir.csv").write_text("start,end,name,index\n-1,2,bath,0\n70,71,bath,0\n")
    made = next(import_sphere(damaged, tmp_path / "out", limit=1, workers=1).recordings())
    counts = made.notes["counts"]
    assert counts["wrist_repeated"] == 1
    assert counts["wrist_out_of_order"] == 3
    assert counts["boxes_unusable"] == 1
    assert counts["wrist_not_a_number"] == 1
    assert counts["motion_outside"] == 1
    t_s, values = made.read_sensor(made.sensors[-1])
    assert (np.diff(t_s) > 0).all()
    assert np.isnan(values).sum() == 1
    assert made.read_sensor(made.sensors[0])[0].tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (lambda r: shutil.rmtree(r.parents[1]), "no SPHERE data here"),
        (lambda r: (r / "pir.csv").unlink(), r"00001/pir\.csv is not there"),
        (lambda r: (r / "targets.csv").unlink(), r"targets\.csv is not there"),
        (lambda r: edit_rows(r / "acceleration.csv", {7: "0.3,much,0,0,,,,"}), r"csv:7: .*much"),
        (lambda r: edit_rows(r / "acceleration.csv", {900: "1,0,0,0,,,,"}), "csv:900: the clock"),
        (lambda r: edit_rows(r / "acceleration.csv", {9: ",0,0,0,,,,"}), "csv:9: the time is mis"),
        (lambda r: edit_rows(r / "video_kitchen.csv", {1: "t,x"}), "csv:1: header must be"),
        (lambda r: edit_rows(r / "pir.csv", {2: "1,2,attic,0"}), "csv:2: 'attic' is not one of"),
        (lambda r: edit_rows(r / "pir.csv", {2: "2,1,bath,0"}), "csv:2: ends at 1.0 s, before"),
        (lambda r: edit_rows(r / "pir.csv", {2: "soon,1,bath,0"}), "csv:2: start,end,name"),
        (lambda r: edit_rows(r / "location_1.csv", {1: "start,end"}), "csv:1: header must be"),
        (lambda r: (r / "pir.csv").write_bytes(b"\xff\xfe\x00"), "cannot be read as text"),
        (lambda r: (r / "meta.json").write_text("{}"), "an entry 'end' in seconds"),
        (lambda r: (r / "meta.json").write_text('{"end": -3}'), "between 0 s and one day"),
        (lambda r: (r.parents[2] / "supplementary/kitchen.png").unlink(), "kitchen.png is not"),
        (lambda r: (r.parents[2] / "supplementary/kitchen.png").write_text("x"), "not a picture"),
    ],
)
def test_bad_folders_are_refused_whole(
    break_it: Callable[[Path], object], match: str, damaged: Path, tmp_path: Path
) -> None:
    break_it(damaged / "public_data" / "train" / "00001")
    refuse(DataError, match, damaged, tmp_path / "out")
