"""Names and labels in the annotated video: told apart, and readable where they are not ASCII."""

import dataclasses
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from detach.data import video
from detach.edge.annotate import NAMES, annotated
from detach.edge.bundle import open_bundle
from detach.edge.replay import Options, run

from .spoiled_bundles import whole_bundle  # type: ignore[import-not-found]


def written(names: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands beside the lanes of channels called so."""
    bundle, source = Path(whole_bundle(folder)), folder / "home"
    source.mkdir()
    (source / "sensor0.csv").write_text("t_s,value\n0,0\n3,1\n")
    _, opened, found = run(
        bundle,
        source,
        options=Options(backend="onnxruntime"),
        write=lambda _: None,
        say=lambda _: None,
    )
    manifest = open_bundle(bundle).manifest
    named = [dataclasses.replace(c, name=n) for c, n in zip(manifest.channels, names, strict=True)]
    texts: list[str] = []

    def put_text(_: object, text: str, at: tuple[int, int], *__: object) -> None:
        if at[0] == 6:
            texts.append(text)

    monkeypatch.setattr(video, "put_text", put_text)
    assert next(annotated(opened, dataclasses.replace(manifest, channels=tuple(named)), found)).size
    return texts


def test_axes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"dishwasher_accelerometer.{axis}" for axis in "xyz")
    assert written(names, tmp_path, monkeypatch) == list(names)


def test_long_names_lose_their_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"Küche/dishwasher_accelerometer.{axis}" for axis in "xyz")
    texts = written(names, tmp_path, monkeypatch)
    assert texts == [f"Küche/dishwas..celerometer.{axis}" for axis in "xyz"]
    cv2 = pytest.importorskip("cv2")
    (width, _), _ = cv2.getTextSize(texts[0], cv2.FONT_HERSHEY_SIMPLEX, 0.32, 1)
    assert width <= NAMES - 6


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Geschirrspüler Öffnen", "Geschirrspueler Oeffnen"),
        (unicodedata.normalize("NFD", "Geschirrspüler"), "Geschirrspueler"),
        ("Straße", "Strasse"),
        ("fermer l\u2019étagère", "fermer l'etagere"),
        ("smørrebrød \u2013 Łódź", "smorrebrod - Lodz"),
        ("door.x 5 %", "door.x 5 %"),
        ("茶 tea", "? tea"),
    ],
)
def test_letters_beyond_ascii_are_written_as_in_addresses(
    text: str, drawn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By OpenCV 4, which cannot draw them."""
    assert video.in_ascii(text) == drawn
    monkeypatch.setattr("cv2.__version__", "4.8.0")
    assert np.array_equal(picture_of(text), picture_of(drawn))


def test_umlauts_are_no_question_marks() -> None:
    assert not np.array_equal(picture_of("Spüler"), picture_of("Sp?ler"))


def picture_of(text: str) -> np.ndarray:
    picture = np.zeros((40, 400, 3), np.uint8)
    video.put_text(picture, text, (5, 25), 0.5, (255, 255, 255))
    assert picture.any()
    return picture
