"""What is shown is run: python blocks of all pages, and the README's `detach` lines made short."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from detach import recipes
from detach.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORTER = {
    "simulate": ["--minutes", "1.2"],
    "train": [
        *["--stage1.epochs", "3", "--stage1.warmup-epochs", "1", "--stage1.joint-epochs", "1"],
        *["--stage2.epochs", "1", "--threads", "1"],
    ],
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


PYTHON = [(page, code) for page in PAGES for code in blocks(page, "python")]
SHELL = [(page, code) for page in PAGES for code in blocks(page, "sh") if "detach " in code]


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=lambda x: getattr(x, "name", "code"))
def test_python_runs(page: Path, code: str) -> None:
    exec(compile(code, str(page), "exec"), {})  # noqa: S102 -- our own page


def test_there_is_something_to_run() -> None:
    assert PYTHON
    assert any("detach train" in code for _, code in SHELL)


def commands(code: str) -> list[list[str]]:
    lines = [line.partition("#")[0] for line in code.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("detach ")]


def test_readme_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = [words for code in blocks(PAGES[0], "sh") for words in commands(code)]
    assert [words[0] for words in ran] == [
        *("simulate", "train", "evaluate", "report"),
        *("export", "run"),
    ]
    for words in ran:
        if words[0] == "simulate" and find_spec("mujoco") is None:
            shutil.copytree(recipes.models_folder() / "sample", tmp_path / words[1])
            continue
        short = [*words, *SHORTER.get(words[0], [])]
        assert main(_without_repeats(short)) == 0, capsys.readouterr().err
    assert (tmp_path / "run/report.html").is_file()


def _without_repeats(words: list[str]) -> list[str]:
    """Drops an option that is given again later."""
    kept: list[str] = []
    for i, word in enumerate(words):
        again = word.startswith("--") and word in words[i + 1 :]
        follows = i > 0 and words[i - 1].startswith("--") and words[i - 1] in words[i:]
        if not again and not follows:
            kept.append(word)
    return kept


def test_links_inside_the_project_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
