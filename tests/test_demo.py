"""The demo, made short: the sample is copied, and a run, a table and a page come out."""

from pathlib import Path

import pytest

from detach import demo, recipes
from detach.config import RunConfig, override


def test_demo_from_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recipes.read(recipes.find(Path("demo")))
    short = override(
        whole,
        {
            "threads": 1,
            "stage1": {"epochs": 3, "warmup_epochs": 1, "joint_epochs": 1},
            "stage2": {"epochs": 1},
        },
    )

    def read(path: Path, name: str | None = None) -> RunConfig:
        assert (path.stem, name) == ("demo", None)
        return short

    monkeypatch.setattr(recipes, "read", read)
    sample = recipes.models_folder() / "sample"
    before = sorted(sample.rglob("*"))
    said: list[str] = []
    page = demo.run_demo(tmp_path / "out", seed=3, say=said.append)
    assert page == tmp_path / "out/run1/report.html"
    assert page.stat().st_size > 100_000
    assert "untrained encoder" in said[-1]
    assert str(page) in said[-1]
    assert demo.run_demo(tmp_path / "out", seed=3, say=said.append).parent.name == "run2"
    assert sorted(sample.rglob("*")) == before  # the package itself may be read-only
    assert (tmp_path / "out/data/.cache").is_dir()
