"""Figures hold names as they are: no markup, no mathematics, and legends say what is what."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from detach.report import figures, our_figures, paper_figures
from detach.report.style import new_figure, styled, to_svg

NAME = '</script><b>"&'


def test_a_name_is_no_markup() -> None:
    x = np.array([0.1, 0.9])
    svg = paper_figures.phase_space(NAME, {"easy": (x, x), "hard": (x, x), "false": (x, x)})
    assert "</script>" not in svg
    assert "<b>" not in svg
    root = ET.fromstring(svg)  # noqa: S314 -- drawn here
    assert root.get("aria-label") == f"Spatial and temporal similarity to a window of {NAME}"
    tag, _, rest = svg.partition(">")  # where styles go in
    assert ET.fromstring(f"{tag}><style/>{rest}")[0].tag.endswith("style")  # noqa: S314


def test_a_name_is_no_mathematics() -> None:
    names = ("costs $5 or $6", r"$\frac")
    svg = figures.confusion_map(np.array([[8, 2], [1, 9]]), names)
    for name in names:
        assert svg.count(name) == 2


def test_powers_of_ten_are_plain() -> None:
    @styled
    def draw() -> str:
        figure, axes = new_figure(2)
        axes[0, 0].set(xscale="log", xlim=(0.05, 2000), yscale="log", ylim=(2, 9))
        return to_svg(figure, "logarithms")

    svg = draw()
    assert "math" not in svg
    assert all(f">{label}</text>" in svg for label in ("0.1", "1", "10", "100", "1000", "3"))


@pytest.mark.parametrize("rival", [True, False])
def test_grey_dots_are_explained(rival: bool) -> None:
    rows = [("one, DETACH", 0.8, 0.7, 0.9), ("one, InfoNCE", 0.7, float("nan"), float("nan"))]
    svg = our_figures.dots(rows if rival else rows[:1])
    assert ("other methods" in svg) == ("the method" in svg) == rival


def test_easy_negatives_are_of_another_action_too() -> None:
    weights = {kind: np.array([1.0, 2.0]) for kind in ("easy", "hard", "false")}
    assert "easy: another place and action" in paper_figures.weight_cdfs([("end", weights)])
