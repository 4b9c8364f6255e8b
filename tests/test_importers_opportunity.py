"""Opportunity++ as it may come: half there, cut off, at another rate, with empty cues."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from detach.cli import main
from detach.data.importers import opportunity
from detach.data.importers.cue_sync import Mark
from detach.data.importers.opportunity import import_opportunity
from detach.data.importers.opportunity_files import read_cues, read_rows
from detach.data.video import check_whole
from detach.errors import DataError
from detach.simulate.opportunity_layout import write_opportunity

from .sample_part import copy_first  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, as Opportunity++ is published."""
    folder = tmp_path_factory.mktemp("whole")
    source = copy_first(2, folder / "data")
    write_opportunity(source, folder / "opp", offset_s=(3.0, -3.0), size_px=(160, 120))
    return folder / "opp"


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(whole, tmp_path / "opp")
    return tmp_path / "opp"


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("data/S1-ADL2/S1-ADL2_side.avi", "S1-ADL2_side.avi missing; a run has"),
        ("data/S1-ADL2/S1-ADL2_sensors_data.txt", "S1-ADL2_sensors_data.txt missing"),
        ("data/S1-ADL2/S1-ADL2_side.ml_both_arms.srt", "ml_both_arms.srt missing"),
    ],
)
def test_half_a_folder_is_refused(root: Path, tmp_path: Path, lacking: str, said: str) -> None:
    (root / lacking).unlink()
    with pytest.raises(DataError, match=said):
        import_opportunity(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sensors_that_break_off_are_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "data/S1-ADL2/S1-ADL2_sensors_data.txt"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[: 2 * len(rows) // 3]))
    assert main(["import", "opportunity++", str(root), str(tmp_path / "out")]) == 0
    told = [x for x in capsys.readouterr().out.splitlines() if "are they whole?" in x]
    (line,) = told
    assert line.startswith("S1-ADL2: ")
    assert "; the sensors end " in line


def test_a_film_that_breaks_off_is_refused(root: Path, tmp_path: Path) -> None:
    film = root / "data/S1-ADL2/S1-ADL2_side.avi"
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(DataError, match=r"S1-ADL2_side\.avi: is .* MB and should be .* MB"):
        import_opportunity(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_films_whose_length_is_not_known_pass_for_whole(whole: Path, tmp_path: Path) -> None:
    film = tmp_path / "a.avi"
    sound = (whole / "data/S1-ADL1/S1-ADL1_side.avi").read_bytes()
    for size in (b"\0" * 4, b"\xff" * 4, sound[4:8]):
        film.write_bytes(sound[:4] + size + sound[8:] + b"and more")
        check_whole(film)
    film.write_bytes(sound[:-1])
    with pytest.raises(DataError, match="the download broke off"):
        check_whole(film)
    boxes = b"".join((8 + n).to_bytes(4, "big") + name + b"." * n
                     for n, name in ((12, b"ftyp"), (90, b"moov"), (400, b"mdat")))  # fmt: skip
    other = tmp_path / "a.mp4"
    for tail in (b"", b"\0" * 20, b"\xff\xff\xff\xff<--> junk"):
        other.write_bytes(boxes + tail)
        check_whole(other)
    other.write_bytes(boxes[:-1])
    with pytest.raises(DataError, match="the download broke off"):
        check_whole(other)


def doubts_of(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["import", "opportunity++", str(root), str(out), "--limit", "1"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("S1-ADL1: ")]
    return line.partition("labelled stretches")[2]


def test_a_film_of_another_rate_is_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doubts_of(root, tmp_path / "whole", capsys) == ""
    film = root / "data/S1-ADL1/S1-ADL1_side.avi"
    reader = cv2.VideoCapture(str(film))
    slow = tmp_path / "slow.avi"
    writer = cv2.VideoWriter(str(slow), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (160, 120))
    good, picture = reader.read()
    while good:
        writer.write(picture)
        good, picture = reader.read()
    writer.release()
    shutil.move(slow, film)
    assert "is its rate right (5 frames a second, 10 are usual)?" in doubts_of(
        root, tmp_path / "out", capsys
    )


def test_subtitles_and_sensors_of_which_half_is_there_are_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "data/S1-ADL1/S1-ADL1_side.ml_both_arms.srt"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2].rpartition("\n\n")[0] + "\n\n")
    said = doubts_of(root, tmp_path / "half", capsys)
    assert "after the last subtitle: are subtitles whole?" in said
    path.write_text(whole)
    rows = root / "data/S1-ADL1/S1-ADL1_sensors_data.txt"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[len(lines) // 3 :]))
    said = doubts_of(root, tmp_path / "late", capsys)
    assert "after the first subtitle: are they whole?" in said


def test_cues_that_mark_nothing_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    times = ["00:00:01,000 --> 00:00:02,000", "00:00:02,000-->00:00:03,000",
             "00:00:03,000 --> 00:00:04,000", "00:00:04,000 --> 00:00:05,000",
             "00:00:05,000 --> 00:00:05,000"]  # fmt: skip
    texts = ["null", "406516 - Open Door 1", "", "0 - null", "404516 - Close Door 1"]
    cues = [f"{i}\n{t}\n{x}\n" for i, (t, x) in enumerate(zip(times, texts, strict=True), start=1)]
    path.write_text("\n".join(cues))
    assert read_cues(path) == [Mark(2.0, 3.0, 406516)]
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\n2\n" + times[3] + "\n406516 - Open\n")
    assert read_cues(path) == [Mark(4.0, 5.0, 406516)]
    path.write_text(cues[0])
    with pytest.raises(DataError, match=r"x\.srt: holds no cue"):
        read_cues(path)
    path.write_text("1\n00:00:02,000 --> 00:00:01,000\n406516 - Open Door 1\n")
    with pytest.raises(DataError, match=r"x\.srt:3: a cue that ends before it starts"):
        read_cues(path)


@pytest.mark.parametrize("columns", [249, 251])
def test_rows_of_another_length_are_refused(tmp_path: Path, columns: int) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"{33 * i} " + "0 " * (columns - 1) + "\n" for i in range(9)))
    with pytest.raises(DataError, match=f"250 columns expected, found {columns}"):
        read_rows(rows, [250])


def test_a_row_cut_off_within_a_number_is_left_out(tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    whole = "".join(f"{33 * i} " + "0 " * 249 + "\n" for i in range(1, 9))
    rows.write_bytes(b"\xef\xbb\xbf" + whole.encode() + b"2")
    found = read_rows(rows, [250])
    assert (len(found.t_s), found.short) == (8, 1)
    assert found.t_s[0] == pytest.approx(0.033)


def test_subtitles_and_rows_that_are_damaged_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_text("1\n00:00:01,500 --> 00:00:02,250\n406516 - Open Door 1\n\n")
    assert read_cues(path) == [Mark(1.5, 2.25, 406516)]
    path.write_text("1\n00:00:01,500 --> soon\n406516 - Open Door 1\n")
    with pytest.raises(DataError, match=r"x\.srt:2: not HH:MM:SS"):
        read_cues(path)
    path.write_text("1\n00:00:01,500 --> 00:00:02,250\nOpen Door 1\n")
    with pytest.raises(DataError, match=r"x\.srt:3: not `CODE - NAME`"):
        read_cues(path)
    rows = tmp_path / "rows.txt"
    rows.write_text(" ".join(["0"] * 250) + "\n" + " ".join(["33"] * 100) + "\n")
    found = read_rows(rows, [250])
    assert found.short == 1
    assert np.isnan(found.values[250][1])
    rows.write_text(" ".join(["0"] * 250) + "\n" + " ".join(["0"] * 250) + "\n")
    with pytest.raises(DataError, match=r"rows\.txt:2: MILLISEC must rise"):
        read_rows(rows, [250])
    rows.write_text("0 x\n")
    with pytest.raises(DataError, match=r"rows\.txt:1: not a number"):
        read_rows(rows, [2])
    with pytest.raises(DataError, match="no folder like data/S1-ADL1"):
        import_opportunity(tmp_path, tmp_path.with_name("out"))
    assert opportunity.ALL_RUNS == 24
