"""Maps whose points show their window: the sheet, where points stand, and the page they are on."""

import base64
import io
import json
import re

import numpy as np
import pytest
from matplotlib import image

from detach.report import figures
from detach.report.hover import COLUMNS, Strips, _sheet, _strips, page_data, script


def strips(count: int = 6, height: int = 4, width: int = 8) -> Strips:
    """The first strip is of brightness 0, the next of 40 and so on."""
    shade = np.arange(count, dtype=np.uint8)[:, None, None, None] * 40
    pictures = np.broadcast_to(shade, (count, height, width, 3)).astype(np.uint8)
    return Strips(
        np.arange(count) * 2, tuple(f"window {i} </script>" for i in range(count)), pictures
    )


def test_strips_stand_where_the_script_looks_for_them() -> None:
    found = strips()
    sheet = _sheet(found)
    assert sheet.shape == (2 * 4, COLUMNS * 8, 3)
    for i in range(6):
        row, column = divmod(i, COLUMNS)
        assert (sheet[row * 4 : row * 4 + 4, column * 8 : column * 8 + 8] == i * 40).all()
    assert (sheet[4:, 2 * 8 :] == 0).all()


def test_fewer_strips_stay_with_their_points() -> None:
    found = strips().thinned()
    assert found.point.tolist() == [0, 6]
    assert found.words == ("window 0 </script>", "window 3 </script>")
    assert found.strips[1].max() == 120


def test_a_strip_is_four_frames_made_small() -> None:
    frames = np.zeros((2, 7, 72, 96, 3), dtype=np.uint8)
    frames[:, 6] = 200
    found = _strips(frames)
    assert found.shape == (2, 36, 4 * 48, 3)
    assert (found[:, :, 3 * 48 + 1 :] == 200).all()
    assert (found[:, :, : 3 * 48] == 0).all()


def test_what_the_page_holds_is_safe_and_whole() -> None:
    at = np.arange(24, dtype=np.float64).reshape(12, 2) + 0.04
    text = page_data(strips(), [at, at + 100])
    assert "<" not in text
    data = json.loads(text)
    assert data["words"][3] == "window 3 </script>"
    assert data["panels"][0] == [[4.0 * i, 4.0 * i + 1.0] for i in range(6)]
    assert (data["width"], data["height"], data["columns"]) == (8, 4, COLUMNS)
    kind, _, sheet = data["sheet"].partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = image.imread(io.BytesIO(base64.b64decode(sheet)), format="jpeg")
    assert picture.shape == (8, 32, 3)


def test_the_script_reaches_nothing_outside() -> None:
    text = script()
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"fetch|import|XMLHttp|eval|innerHTML", text)


def test_points_are_where_the_figure_draws_them() -> None:
    rng = np.random.default_rng(0)
    points = {"sensors": rng.normal(size=(40, 2)), "video": 5 * rng.normal(size=(40, 2))}
    label = rng.integers(0, 3, 40)
    colourings = [("place", ("a", "b", "c"), label), ("action", ("d", "e", "f"), label)]
    svg, panels = figures.embedding_maps(points, colourings)
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    assert len(panels) == 4
    for i, at in enumerate(panels):
        assert (at >= 0).all()
        assert (at <= (width, height)).all()
        column, row = i % 2, i // 2
        assert (at[:, 0] < width / 2).all() == (column == 0)
        assert (at[:, 1] < height / 2).all() == (row == 0)
        own = points["sensors" if column == 0 else "video"]
        for axis, sign in ((0, 1), (1, -1)):  # y grows downwards on a page
            line = np.polyfit(own[:, axis], at[:, axis], 1)
            assert np.sign(line[0]) == sign
            np.testing.assert_allclose(np.polyval(line, own[:, axis]), at[:, axis], atol=1e-6)
    title = re.search(
        r'<text[^>]*?(?:x="([\d.]+)"|translate\(([\d.]+))[^>]*>sensors, by place', svg
    )
    assert title is not None or "sensors, by place" in svg
    assert panels[0][:, 0].min() == pytest.approx(panels[2][:, 0].min(), abs=2.0)
