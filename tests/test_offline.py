"""The verbs do their work with the network blocked, and do not even ask for it."""

from pathlib import Path

from .worlds import Nursery  # type: ignore[import-not-found]


def test_no_verb_asks_for_the_network(nursery: Nursery, tiny_dataset: Path, tmp_path: Path) -> None:
    (found,) = nursery.run(1, tmp_path, ["offline", str(tiny_dataset)])["offline"]
    assert found["watched"] == 1, "the guard itself works"
    assert found["asked"] == []
    assert found["ends"] == dict.fromkeys(found["ends"], 0), (tmp_path / "log.txt").read_text()
    assert {"doctor", "train", "evaluate", "report", "export", "run"} <= set(found["ends"])
