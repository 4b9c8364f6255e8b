"""Figures drawn from boxes."""

import numpy as np

from detach.data import sphere_picture


def test_nearest_rows_holds_a_box_no_longer_than_said() -> None:
    box_s = np.array([1.0, 1.0, 1.1, 5.0])
    rows = sphere_picture.nearest_rows(box_s, np.array([0.7, 0.8, 1.04, 1.06, 1.4, 4.75, 9.0]))
    people = [box_s[a:b].tolist() for a, b in rows]
    assert people == [[], [1.0, 1.0], [1.0, 1.0], [1.1], [], [5.0], []]
    assert sphere_picture.nearest_rows(box_s[:0], np.array([1.0])).tolist() == [[0, 0]]


def test_figures_stay_in_their_box() -> None:
    for left, top, right, bottom in ((100, 40, 140, 160), (60, 90, 200, 130), (300, 200, 319, 239)):
        view = np.full((120, 160, 3), 255, dtype=np.uint8)
        box = np.array([0.0, left, top, right, bottom, (left + right) / 2, 2000.0])
        sphere_picture.draw_person(view, box)
        drawn = (view < 120).any(axis=2)
        y, x = np.nonzero(drawn)
        grid = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) * 2
        assert np.abs(grid - [left, top, right, bottom]).max() <= 0.2 * (right - left) + 4
        assert drawn.sum() > 0.2 * (right - left) * (bottom - top) / 4
