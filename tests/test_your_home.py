"""The page for one's own home, from two logs to a bundle with names: its commands as they stand."""

import re
import shlex
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from detach.cli import main
from detach.data.recording import read_dataset
from detach.edge.bundle import open_bundle

from .event_logs import START_S, write_recorder  # type: ignore[import-not-found]

PAGE = Path(__file__).parents[1] / "docs/your-home.md"
PIECE_S, HOLE_S, PIECES, FPS = 130, 60, 2, 10
SHORTER = {
    "import": ["--film-fps", "10"],
    "train": [
        *["--stage1.epochs", "2", "--stage1.warmup-epochs", "1", "--stage1.joint-epochs", "1"],
        *["--stage2.epochs", "1", "--threads", "1", "--stage1.clusters", "3"],
    ],
    "export": ["--precisions", "fp32", "--no-video"],
}


def commands() -> list[list[str]]:
    found = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0] for block in found for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("detach ")]


def evening(folder: Path) -> None:
    """What Home Assistant and Frigate keep of two doors: states, and pieces of film 1 s late."""
    rng = np.random.default_rng(8)
    states = []
    rows = []
    for piece in range(PIECES):
        start_s = START_S + 100 + piece * (PIECE_S + HOLE_S)
        moves = [
            (at + float(rng.uniform(0, 2)), int(rng.integers(2))) for at in range(3, PIECE_S - 8, 7)
        ]
        for at, door in moves:
            entity = f"binary_sensor.door_{door}"
            states += [
                (entity, "on", start_s + at, None),
                (entity, "off", start_s + at + 2.5, None),
            ]
        moment = str(np.datetime64(int(start_s), "s"))
        day, _, clock = moment.partition("T")
        hour, minute, second = clock.split(":")
        name = f"{day}/{hour}/hall/{minute}.{second}.mp4"
        path = folder / "FRIGATE/recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        film(path, moves, rng)
        kept = f"/media/frigate/recordings/{name}"
        rows.append((kept, "hall", start_s, start_s + PIECE_S, PIECE_S))
    base = sqlite3.connect(folder / "FRIGATE/frigate.db")
    base.execute("CREATE TABLE recordings(id, path, camera, start_time, end_time, duration)")
    base.executemany("INSERT INTO recordings VALUES('x', ?, ?, ?, ?, ?)", rows)
    base.commit()
    base.close()
    first = [(f"binary_sensor.door_{d}", "off", START_S, None) for d in range(2)]
    write_recorder(folder / "home-assistant_v2.db", [*first, *sorted(states, key=lambda s: s[2])])


def film(path: Path, moves: list[tuple[float, int]], rng: np.random.Generator) -> None:
    """Two doors, each a bar that is wide while it is open; all of it a second late."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (64, 48))
    for i in range(PIECE_S * FPS):
        t_s = i / FPS - 1.0
        picture = rng.integers(100, 112, (48, 64, 3)).astype(np.uint8)
        for at, door in moves:
            share = np.clip(t_s - at + 0.3, 0, 0.6) - np.clip(t_s - at - 2.2, 0, 0.6)
            picture[8:40, 4 + 32 * door : 6 + 32 * door + round(40 * float(share))] = 220 * door
        writer.write(picture)
    writer.release()


@pytest.mark.slow
def test_the_page_from_logs_to_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rerun")
    monkeypatch.chdir(tmp_path)
    evening(tmp_path)
    ran = commands()
    verbs = [words[0] for words in ran]
    assert verbs == [
        *("import", "import", "inspect", "sync", "sync", "sync", "train", "name", "name", "name"),
        *("export", "run", "run"),
    ]
    for words in ran:
        if words != ["name", "RUN"]:  # which waits for a person; test_naming has one
            follow(words, capsys)
    classes = open_bundle(Path("home.detach")).manifest.classes
    assert classes[-1] == "unknown"
    assert "something" in classes
    assert Path("home.rrd").stat().st_size > 10_000


def follow(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One command of the page, in the folder where the others were."""
    if words[0] == "import" and Path("HOME").exists():
        Path("HOME").rename("EVENTS")
    if "--names" in words:
        give_names(Path("RUN/names.yaml"))
    if words[0] == "run":
        recording = next(iter(read_dataset(Path("HOME")).recordings()))
        words = [word.replace("RECORDING", recording.name) for word in words]
    assert main([*words, *SHORTER.get(words[0], [])]) == 0, (words, capsys.readouterr().err)
    said = capsys.readouterr().out
    if words == ["sync", "HOME"]:
        assert "s late" in said
    if "--apply" in words:
        assert "applied from motion" in said


def give_names(path: Path) -> None:
    body = yaml.safe_load(path.read_text())
    for k, row in enumerate(body["clusters"]):
        row["name"] = "something" if k % 2 == 0 else f"thing {row['id']}"
    path.write_text(yaml.safe_dump(body))
