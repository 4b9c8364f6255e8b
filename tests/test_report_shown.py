"""What figures and tiles say is so: marks, names, counts and scales."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from detach.config import RunConfig, override
from detach.devices import _command
from detach.report import figures, our_figures, paper_figures
from detach.report.our_figures import Gap, spread_out
from detach.report.page import _answer_figures, _commands, _tiles, main_task
from detach.report.story import Story, stage1_elsewhere
from detach.results import RAW, Answer, Results, Task
from detach.table import Cell, Group, Pool, Row, Table

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ("walk", "sit")


def words_of(svg: str) -> dict[str, tuple[float, float]]:
    """Where each text stands."""
    found = {}
    for text in ET.fromstring(svg).iter(f"{SVG}text"):  # noqa: S314 -- our own
        at = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", text.get("transform", ""))
        x, y = at.groups() if at else (text.get("x", "nan"), text.get("y", "nan"))
        found["".join(text.itertext())] = float(x), float(y)
    return found


def story(seed: int, method: str = "detach", said: float = 0.8, **about: Any) -> Story:
    """A run that tested four items; the first and the last are right, others only if ``said``."""
    truth, zeros = np.array([0, 0, 1, 1]), np.zeros(4, dtype=np.int64)
    own = np.array([[0.9, 0.1], [said, 1 - said], [1 - said, said], [0.1, 0.9]])
    answers = (Answer(method, "method", own), Answer(RAW, "reference", own[::-1].copy()))
    task = Task(
        "action", CLASSES, "split", "windows", ("r",), zeros, np.arange(4.0), zeros, truth,
        answers, 9,
    )  # fmt: skip
    results = Results(method, "recommended", seed, "home", {}, "", {}, (), {}, {}, tasks=(task,))
    config = override(RunConfig(), {"method": method, "seed": seed})
    return Story(Path(f"{method} runs/seed{seed}"), config, about, {}, (), (), results)


def test_every_group_of_a_map_has_a_look_and_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(20), 6)
    points = {"sensors": rng.normal(size=(120, 2)), "video": rng.normal(size=(120, 2))}
    names = tuple(f"group {k}" for k in range(20))
    assert len({figures._look_of(i) for i in range(figures.MAPPED)}) == figures.MAPPED
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "to_svg", lambda figure, *_, **__: drawn.append(figure))
    colourings = [("place", names, label // 4), ("action", names, label)]
    figures.embedding_maps(points, colourings)
    few, many = drawn[0].subfigs
    for part, count in ((few, 5), (many, 20)):
        for ax in part.axes:
            assert {text.get_text() for text in ax.texts} == set(names[:count])
    assert not few.legends
    assert [text.get_text() for text in many.legends[0].get_texts()] == list(names)


def test_what_is_grey_in_a_map_is_told() -> None:
    whole, some = np.arange(60), np.array([0, 1, -1])
    names = tuple(str(k) for k in range(60))
    assert figures.unnamed([("place", names, some[:2])]) == ""
    assert figures.unnamed([("place", names, some), ("action", names, whole)]) == (
        "Grey: windows without a label of place; classes of action after the 40 commonest."
    )


def test_tiles_count_runs_and_tell_of_the_method_that_leads() -> None:
    def row(name: str, value: float) -> Row:
        cell = Cell(value, 0.0, value, value)
        return Row(name, "method", 1, {"f1": cell, "video_to_sensor@10": cell})

    rows = (row("detach", 0.58), row("infonce", 0.64))
    group = Group("home", "action", "split", "windows", CLASSES, (), 690, 9, "60 s", rows, (), ())
    stories = [story(0), story(1), story(0, "infonce")]
    table = Table((group,), (Pool("home", 690, rows),))
    tiles = {words: value for value, words in _tiles(stories, table)}
    assert tiles["runs of 2 methods"] == "3"
    assert tiles["of videos find their sensors in the first 10 of 690, by detach"] == "58 %"
    assert ("1", "run of 1 method") in _tiles(stories[:1], Table((), ()))


def test_items_are_counted_once_and_references_of_all_seeds_are_pooled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stories = [story(0), story(1, said=0.2)]
    main = main_task(stories)
    assert main is not None
    svg = _answer_figures(stories, main)
    for name in ("classes", "confusion"):
        assert {"walk \u00b7 2", "sit \u00b7 2"} <= set(words_of(svg[name]))
    assert ">0.75<" in svg["classes"]  # of six right answers of eight
    seen: list[Any] = []
    monkeypatch.setattr(figures, "class_bars", lambda *args: seen.append(args[2]))
    _answer_figures(stories, main)
    np.testing.assert_allclose(
        seen[0][RAW], [0.25, 0.25]
    )  # wrong in the first seed, half in another


def test_stage_1_of_another_run_is_named() -> None:
    taken = [story(n, stage1_from=f"seed{n}") for n in (0, 1)]
    (said,) = stage1_elsewhere([*taken, story(2)])
    assert said.startswith("detach took its stage 1 from seed0, seed1 (--stage1-from)")


def test_names_beside_lines_are_near_apart_and_inside() -> None:
    np.testing.assert_allclose(spread_out([0.2, 0.5, 0.8], 0.1, 0.0, 1.0), [0.2, 0.5, 0.8])
    np.testing.assert_allclose(spread_out([0.5, 0.5, 0.5], 0.1, 0.0, 1.0), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(spread_out([0.98, 0.99], 0.1, 0.0, 1.0), [0.9, 1.0])
    values = [0.1, 0.1, 0.88, 0.9, 0.91, 0.93]
    ends = [np.array([value, value]) for value in values]
    curves = [(f"line {i}", end, end, end) for i, end in enumerate(ends)]
    svg = our_figures.label_budget(curves, ("1", "all"))
    found = words_of(svg)
    heights = [found[f"line {i}"][1] for i in range(len(values))]
    assert all(a - b > 9 for a, b in pairwise(heights))
    assert min(heights) > 5
    dashes = re.findall(r"stroke-dasharray: ([^;\"]*)", svg)
    assert len(set(dashes)) == len(our_figures.DASHES) - 1


def test_rates_stand_where_they_are() -> None:
    x = np.array([0, 2, 10])
    y = np.array([0.5, 0.4, 0.3])
    found = words_of(our_figures.robustness({"F1": {"with": (x, y, y, y)}}, "a minute"))
    near, far = found["2"][0] - found["0"][0], found["10"][0] - found["0"][0]
    assert far / near == pytest.approx(5, rel=0.05)


def test_the_index_is_named_and_drawn_below_zero_too() -> None:
    k = np.array([2, 3, 4])
    mean = np.array([0.1, 0.2, 0.1])
    plain = words_of(our_figures.place_counts((k, mean, mean, mean), 3, None, {}))
    assert "adjusted Rand index" in plain
    assert "\u22120.2" not in plain
    found = words_of(our_figures.place_counts((k, mean, mean - 0.4, mean), 3, None, {4: 0.1}))
    assert "adjusted Rand index, F1" in found
    assert found["\u22120.2"][1] > found["0.0"][1]
    assert abs(found["weighted F1"][1] - found["two halves agree"][1]) > 9


def test_their_data_sets_have_marks_of_their_own() -> None:
    rows = [Gap("row", 0.1, 0.0, 0.2, (0.3, 0.2)), Gap("other", 0.2, 0.1, 0.3)]
    assert {"theirs, Opportunity++", "theirs, HWU-USP"} <= set(words_of(our_figures.gaps(rows)))
    (one, _, _), (two, _, _) = our_figures.THEIRS
    assert one != two


def test_heat_has_a_key_and_lies_over_grey() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    svg = paper_figures.activation_maps([("walk", frames, {"global": rng.random((2, 4, 4))})])
    assert {"80 % lie below", "highest of its row"} <= set(words_of(svg))
    grey = paper_figures._greyed(frames[0])
    assert (grey[..., 0] == grey[..., 2]).all()
    assert grey.min() >= 96


def test_commands_can_be_typed_again() -> None:
    words = ["/somewhere/detach/__main__.py", "train", "my home", "--out", "a;b"]
    assert _command(words) == "detach train 'my home' --out 'a;b'"
    assert _command(["/usr/bin/detach", "demo"]) == "detach demo"
    assert _command(["/x/pytest/__main__.py"]) == "pytest"
    assert shlex.split(_commands([story(0), story(1)])[-1]) == ["detach", "report", "detach runs"]
