"""`detach VERB`: finds the verb, and turns errors into one message and an exit code. No logic."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from detach import __version__
from detach.cli import bench, home, imports, verbs
from detach.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    DetachError,
    MachineError,
    no_memory,
)
from detach.signals import handled

VERBS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "doctor": (verbs.doctor, "what this machine has; kernels against references"),
    "demo": (verbs.demo, "train on the sample recordings and write a report"),
    "import": (imports.import_, "other formats into recordings"),
    "inspect": (verbs.inspect, "what recordings are good for: faults, and what to do"),
    "sync": (home.sync, "how late the camera's clock is against the sensors'"),
    "simulate": (verbs.simulate, "recordings of a simulated home"),
    "train": (verbs.train, "both stages, one or several seeds"),
    "evaluate": (verbs.evaluate, "probe, retrieval and references, as one table"),
    "report": (verbs.report, "one HTML page"),
    "reproduce": (verbs.reproduce, "the paper's tables and figures, and ours, within a budget"),
    "name": (home.name, "names for what was found without labels, and a head of them"),
    "export": (verbs.export, "a finished run as one file for small machines"),
    "run": (verbs.run, "recognise what happens in a recording, with such a file"),
    "bench": (
        bench.bench,
        "the operators against what one could call instead; what a bundle costs",
    ),
    "live": (verbs.live, "recognise what happens at home, from sensors that speak MQTT"),
    "record": (verbs.record, "recordings of a home from the same sensors"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in {"-h", "--help"}:
        print(_help())
        return EXIT_OK if words else EXIT_USAGE
    if words[0] == "--version":
        print(f"detach {__version__}")
        return EXIT_OK
    if words[0] not in VERBS:
        print(f"detach: there is no verb {words[0]!r}\n\n{_help()}", file=sys.stderr)
        return EXIT_USAGE
    with handled(signal.SIGTERM, _end):
        return _guarded(*words)


def _end(_: int, __: FrameType | None) -> None:
    """SIGTERM ends a verb as Ctrl-C does: in one message, with what is finished kept."""
    raise KeyboardInterrupt


def _guarded(verb: str, *words: str) -> int:
    """Runs a verb; what a user can do something about ends in one message."""
    try:
        return VERBS[verb][0](list(words))
    except DetachError as error:
        _complain(str(error) if error.said else "")
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "detach").partition(".")[0] == "detach":
            raise
        need = f"{error.name}, which is not installed: pip install 'detach[train]'"
        print(f"\ndetach: {verb} needs {need}", file=sys.stderr)
        return MachineError.exit_code
    except BrokenPipeError:  # `detach ... | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        first = os.environ.get("RANK", "0") == "0"  # of several processes that one speaks
        _complain(f"interrupted; {AFTER_CTRL_C.get(verb, DONE_AGAIN)}" if first else "")
        return EXIT_INTERRUPTED
    except (OSError, MemoryError, RuntimeError) as error:
        if (lack := _lack(error)) is None:
            raise
        _complain(str(lack))
        return lack.exit_code


def _complain(message: str) -> None:
    if message:
        print(f"\ndetach: {message}", file=sys.stderr)


def _lack(error: Exception) -> MachineError | None:
    if not isinstance(error, OSError):
        return no_memory(error)
    where = f"{error.filename}: " if error.filename else ""
    reason = f"{where}{error.strerror or error}"
    return MachineError(f"{reason}; check the path, the rights and the free space")


AFTER_CTRL_C = {
    "train": "the same command with --resume goes on",
    "reproduce": "the same command goes on; finished rows are kept",
    "simulate": "the same command goes on; finished runs are kept, but not with --layout",
    "import": "the same command again; sphere goes on where it stopped, the others start over",
}
DONE_AGAIN = "give the command again; nothing half-written counts"


def _help() -> str:
    lines = [f"  {name:<10}{about}" for name, (_, about) in VERBS.items()]
    return "\n".join(["usage: detach VERB ...   (detach VERB --help)", "", *lines])
