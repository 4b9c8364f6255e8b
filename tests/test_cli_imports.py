"""What each format of `detach import` takes, and that no option is ignored without a word."""

from dataclasses import fields
from pathlib import Path

import pytest

from detach.cli import main
from detach.cli.imports import TAKES
from detach.cli.options import ImportArgs


@pytest.mark.parametrize(
    ("form", "words", "said"),
    [
        ("casas", "--limit 1", "--limit is not for casas, only for sphere, opportunity++, hwu-usp"),
        ("aras", "--sensors pir", "--sensors is not for aras, only for sphere"),
        ("kasteren", "--camera hall", "--camera is not for kasteren, only for frigate"),
        ("mosquitto", "--workers 77", "--workers is not for mosquitto, only for sphere"),
        ("frigate", "--gap-hours 1", "--gap-hours is not for frigate, only for home-assistant, "),
        ("sphere", "--hours 1", "--hours is not for sphere, only for home-assistant, mosquitto, "),
        ("sphere", "--channels all", "--channels is not for sphere, only for opportunity++, hwu-"),
        ("sphere", "--sync", "--sync is not for sphere, only for hwu-usp"),
        ("opportunity++", "--sync", "--sync is not for opportunity++, only for hwu-usp"),
        ("hwu-usp", "--timezone UTC", "--timezone is not for hwu-usp, only for home-assistant, "),
    ],
)
def test_an_option_that_a_format_has_no_use_for_is_refused(
    form: str, words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    assert main(["import", form, str(source), str(tmp_path / "out"), *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


def test_an_option_may_be_given_with_its_usual_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", "casas", str(tmp_path / "none"), str(tmp_path / "out"), "--film-fps", "10"]
    assert main(words) == 3
    assert "none is not there" in capsys.readouterr().err


def test_every_option_is_for_some_format() -> None:
    named = {field.name for field in fields(ImportArgs)}
    assert {name for names in TAKES.values() for name in names} | {"format", "source", "out"} == (
        named
    )
