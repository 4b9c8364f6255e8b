"""Recipes: shipped ones parse, and every mistake is named by file and line."""

from pathlib import Path

import pytest

from detach import recipes
from detach.config import RunConfig, flatten, override, preset
from detach.errors import UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["small", "paper", "demo"])
def test_shipped_recipes_parse_and_differ(name: str) -> None:
    config = recipes.read(recipes.find(Path(name)))
    assert config != RunConfig()


def test_the_paper_recipe_is_the_papers() -> None:
    config = recipes.read(recipes.find(Path("paper")), "paper-v1")
    assert (config.stage1.epochs, config.stage2.epochs, config.stage2.batch_size) == (25, 50, 256)
    assert (config.video.size_px, config.encoders.width, config.stage1.clusters) == (224, 256, 7)
    assert config.stage2.gate == "none"


def test_recipe_goes_over_its_preset(tmp_path: Path) -> None:
    path = write(tmp_path, "preset: camera-ready\nstage2: {temperature: 0.2}\n")
    config = recipes.read(path)
    assert (config.stage2.temporal, config.stage2.temperature) == ("cross", 0.2)
    assert recipes.read(path, "paper-v1").stage2.temporal == "intra"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage2:\n  lamda_hard: 3\n", r"mine.yaml:2: stage2.lamda_hard is no .*lambda_hard"),
        ("stge2: {}\n", r"mine.yaml:1: stge2 is no option; perhaps you meant stage2"),
        (
            "seed: 1\nstage2:\n  epochs: many\n",
            r"mine.yaml:3: stage2.epochs must be a whole number, got 'many'",
        ),
        ("stage2:\n  gate: both\n", r"mine.yaml:2: stage2.gate must be"),
        ("a: [1\n", r"mine.yaml:2: not YAML"),
        ("- 1\n", r"mine.yaml:1: a recipe is a mapping"),
        ("seed: {a: 1}\n", r"mine.yaml:1: seed must be a whole number, got a mapping"),
        ("seed: 2020-13-45\n", r"mine.yaml:1: seed is no plain value"),
        ("stage2: {temperature: 1e-1}\n", r"must be a number, got '1e-1'; YAML wants a point"),
        ("stage1: {clusters: 4.0}\n", r"stage1.clusters must be a whole number or null"),
        ("preset: [v9]\n", r"mine.yaml:1: preset must be one of"),
        ("a: " + "[" * 5000, r"mine.yaml: cannot be read"),
        ("preset: v9\n", r"mine.yaml:1: preset must be one of"),
        (
            "stage2:\n  temperature: -1\n",
            r"mine.yaml:2: temperature must be in .*, got -1",
        ),
        ("stage2: !!python/object/apply:os.system ['true']\n", r"mine.yaml:1: "),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.read(write(tmp_path, text))


def test_an_unknown_recipe_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"brief, demo, hwu-brief, hwu, paper, small"):
        recipes.find(tmp_path / "none.yaml")


def test_empty_recipe_is_the_recommended_preset(tmp_path: Path) -> None:
    assert recipes.read(write(tmp_path, "")) == preset("recommended")


def test_flatten_and_override_go_round() -> None:
    config = preset("authors-code")
    changes: dict[str, object] = {}
    for name, value in flatten(config):
        group, _, key = name.rpartition(".")
        if group:
            changes.setdefault(group, {})[key] = value  # type: ignore[index]
        else:
            changes[name] = value
    assert override(RunConfig(), changes) == config
    with pytest.raises(ValueError, match=r"stage2.tau is no option"):
        override(config, {"stage2": {"tau": 1}})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("stage1.epochs", 0),
        ("stage1.batch_size", 1),
        ("stage2.learning_rate", 0.0),
        ("stage2.temperature", 1e-9),
        ("stage1.clusters", 1),
        ("stage1.centroid_every", 0),
        ("supervised.epochs", -1),
        ("encoders.percentile_q", 2.0),
        ("video.frames", 1000),
        ("video.size_px", 4),
        ("sensors.rate_hz", 1e6),
        ("windows.hop_s", 3.0),
        ("windows.seconds", 1e9),
        ("encoders.motion_size_px", -3),
        ("encoders.video_scale", 1e9),
        ("split.pretrain", 1.0),
        ("split.seed", -1),
        ("stage1.warmup_epochs", -2),
    ],
)
def test_values_out_of_range_are_named(option: str, value: float) -> None:
    group, _, key = option.partition(".")
    with pytest.raises(ValueError, match=rf"^{key} must be .*, got {value}"):
        override(RunConfig(), {group: {key: value}})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("seed: 1\nstage2:\n  epochs: 3\n  temperature: 1.0e-9\n", ":4: temperature"),
        ("video:\n  frames: 1000\nstage1:\n  epochs: 5\n", ":2: frames"),
        ("windows:\n  seconds: 1.0\n  hop_s: 1.5\n", ": hop_s"),  # each is fine by itself
    ],
)
def test_the_line_of_a_value_out_of_range_is_named(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        recipes.read(path)
    assert str(refused.value).startswith(f"{path}{where} must be")
