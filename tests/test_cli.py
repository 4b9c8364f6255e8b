"""The command: help without weight, exit codes, errors as one message."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detach.cli import VERBS, main
from detach.errors import no_memory


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS)
    assert main([]) == 2


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_have_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"detach {verb}" in capsys.readouterr().out


def test_help_does_not_import_torch() -> None:
    script = (
        "import sys; from detach.cli import main; main(['--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_unknown_verb_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trane"]) == 2
    assert "there is no verb 'trane'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["train", "data", "--out", "x", "--stage2.lamda-hard", "5"])
    assert stop.value.code == 2
    assert "--stage2.lambda-hard" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "no-such-folder", "--out", "run"], 3, "dataset.json is not there"),
        (["train", "x", "--out", "run", "--config", "none.yaml"], 2, "recipe none.yaml"),
        (
            ["train", "x", "--out", "run", "--stage2.temperature", "-1"],
            2,
            "must be in [0.001, 100]",
        ),
        (["train", "x", "--out", "run", "--preset", "best"], 2, "preset must be one of"),
        (["evaluate", "no-such-run"], 3, "no run folder"),
        (["report", "no-such-run"], 3, "no run folder"),
        (["report"], 2, "at least one run folder"),
        (["evaluate"], 2, "at least one run folder"),
        (["import", "sphere", "x", "out", "--limit", "0"], 2, "limit must be at least 1"),
        (["simulate", "home", "--minutes", "nan"], 2, "minutes must be > 0"),
        (["import", "sphere", "no-such-folder", "out"], 3, "no-such-folder"),
        (
            ["import", "sphere", "x", "out", "--exchanged", "run1", "--kept", "run1"],
            2,
            "run1 is named by both --exchanged and --kept",
        ),
        (
            ["import", "sphere", "x", "out", "--flipped", "run1", "--upright", "run1"],
            2,
            "run1 is named by both --flipped and --upright",
        ),
    ],
)
def test_mistakes_end_in_a_message_and_a_code(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        found = main(words)
    except SystemExit as stop:  # tyro's own way out
        found = int(stop.code or 0)
    error = capsys.readouterr().err
    assert (found, said in " ".join(error.split())) == (code, True), error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_train_evaluate_report(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    options = "--config small --threads 1 --stage1.epochs 3 --stage1.warmup-epochs 1"
    more = "--stage1.joint-epochs 1 --stage2.epochs 1 --stage1.clusters 4"
    words = [*options.split(), *more.split()]
    assert main(["train", str(tiny_dataset), "--out", out, *words]) == 0
    assert main(["evaluate", out]) == 0
    said = capsys.readouterr().out
    for row in ("detach", "untrained", "clock", "majority"):
        assert row in said, row
    assert main(["report", out]) == 0
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert len(page) < 5_000_000
    assert 'src="http' not in page


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "file"), "file: No space left on device; check"),
        (MemoryError("9 TB"), "memory does not suffice (9 TB)"),
        (RuntimeError("CUDA out of memory\nmore"), "memory does not suffice (CUDA out of memory)"),
    ],
)
def test_what_the_machine_lacks_is_one_message(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setitem(VERBS, "doctor", (fail, ""))
    assert main(["doctor"]) == 4
    assert said in capsys.readouterr().err


def test_other_errors_are_ours_and_stay_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> int:
        raise RuntimeError("a fault of the program")

    monkeypatch.setitem(VERBS, "doctor", (fail, ""))
    with pytest.raises(RuntimeError, match="a fault"):
        main(["doctor"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table", "2", "--table", "3"], "--table is given twice"),
        (["--table=2", "--rows", "infonce", "--table=3"], "--table is given twice"),
        (["--table"], "--table needs at least one value"),
        (["--data", "--plan"], "--data needs at least one value"),
    ],
)
def test_lists_are_given_once_and_not_empty(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", "--out", str(out), *words]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_lists_of_a_recipe_are_given_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sensors.include", "switch", "--sensors.include", "acceleration"]
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "run"), *words]) == 2
    assert "--sensors.include is given twice" in capsys.readouterr().err


def test_sigterm_ends_a_verb_in_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        return 0

    monkeypatch.setitem(VERBS, "reproduce", (work, ""))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["reproduce"]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_trouble_with_memory_is_no_lack_of_it() -> None:
    assert no_memory(RuntimeError("CUDA error: an illegal memory access was encountered")) is None
    assert no_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")) is not None
