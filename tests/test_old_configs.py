"""config.yaml of a run of every version is read by this one, each option as it was then."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from detach.config import flatten
from detach.model import CONFIG_FILE, load_config

OLD = sorted((Path(__file__).parent / "old_configs").glob("*.yaml"))


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix[:-1]: tuple(value) if isinstance(value, list) else value}
    return {k: v for name, x in value.items() for k, v in leaves(x, f"{prefix}{name}.").items()}


@pytest.mark.parametrize("path", OLD, ids=lambda p: p.stem)
def test_a_run_of_every_version_is_read(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / CONFIG_FILE)
    config, about = load_config(tmp_path)
    written = yaml.safe_load(path.read_text())
    now = dict(flatten(config))
    assert {name: now[name] for name in leaves(written["config"])} == leaves(written["config"])
    assert about == written["about"]
