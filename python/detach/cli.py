"""`detach VERB`: arguments in, one function called, errors as one message. No logic."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro
from tyro.conf import Positional

from detach import __version__
from detach.config import RunConfig, preset
from detach.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    DetachError,
    MachineError,
    UsageError,
)

Args = TypeVar("Args")


@dataclass(kw_only=True)
class DoctorArgs:
    """Says what this machine has, and checks the kernels against their references."""


@dataclass(kw_only=True)
class DemoArgs:
    """Trains on the sample recordings, evaluates, and writes a report. Minutes on a CPU."""

    out: Path = Path("detach-demo")
    seed: int = 0


@dataclass(kw_only=True)
class ImportArgs:
    """Turns other people's formats into recordings."""

    format: Positional[Literal["sphere"]]
    source: Positional[Path]
    """A folder or an archive."""
    out: Positional[Path]
    """A new data set folder."""
    sensors: tuple[Literal["pir", "wrist"], ...] = ("pir", "wrist")
    limit: int | None = None
    """Import only so many recordings."""
    exchanged: tuple[str, ...] = ()
    """Recordings whose kitchen and living-room cameras are exchanged, instead of our decision."""
    kept: tuple[str, ...] = ()
    """Recordings whose cameras are as named, instead of our decision."""
    flipped: tuple[str, ...] = ()
    """Recordings with the wrist unit half a turn about z, instead of our decision."""
    upright: tuple[str, ...] = ()
    """Recordings with the wrist unit as it is, instead of our decision."""
    workers: int = os.cpu_count() or 1


@dataclass(kw_only=True)
class SimulateArgs:
    """Makes recordings of a simulated home (needs the extra `sim`)."""

    out: Positional[Path]
    """A new data set folder."""
    home: str = "opportunity"
    level: str = "default"
    minutes: float = 20.0
    seed: int = 0
    runs: int | None = None
    """How many recordings the minutes are shared among; None chooses."""
    width_px: int = 160
    height_px: int = 120
    workers: int = 1


@dataclass(kw_only=True)
class TrainArgs:
    """Trains one method on a data set; a run folder comes out."""

    data: Positional[Path]
    """Data set folder, with dataset.json."""
    out: Path
    """Run folder; with several seeds, their parent."""
    config: Path | None = None
    """Recipe: a YAML file, or the name of one that comes along (small, paper, demo)."""
    seeds: int = 1
    """Train so many seeds, seed0 and up, one after the other."""
    resume: bool = False
    """Go on where an interrupted run stopped."""
    stage1_from: Path | None = None
    """A finished run with the same stage 1 and seed: train only stage 2, for comparisons."""
    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)


@dataclass(kw_only=True)
class EvaluateArgs:
    """Linear probe, retrieval and references for finished runs; never trains an encoder."""

    runs: Positional[tuple[Path, ...]]
    data: Path | None = None
    """Another data set than the runs were trained on."""
    track: str | None = None
    """Label track to recognise; None takes the run's."""
    leave_one_run_out: bool = False
    append: Path | None = None
    """Also add every number of the table to this CSV file, with commit and device."""


@dataclass(kw_only=True)
class ReportArgs:
    """One self-contained HTML page about finished runs."""

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None


@dataclass(kw_only=True)
class BenchArgs:
    """Times the operators against what one could call instead, in turns, in one process."""

    part: Positional[Literal["loss", "percentile", "step"]]
    """The contrastive loss, the activation percentile, or a whole training step."""
    sizes: tuple[int, ...] = ()
    """Batch sizes N; none takes those that suit the part."""
    full: bool = False
    """Larger sizes too, 3 s each, and memory up to N = 16384. Many minutes."""
    threads: int = 1
    """One is timed by CPU time, several by the clock on the wall."""
    seconds: float | None = None
    """How long each variant is timed; None is 1, or 3 with --full."""
    repeats: int = 5
    """Calls that each variant gets at least."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:0 and so on."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the loss's features; others run under autocast."""
    forward_only: bool = False
    """The loss without its gradient."""
    memory: bool = True
    """Whether peak memory is measured too, each variant in a process of its own."""
    open_clip: Path | None = None
    """open_clip's wheel or its loss.py, where the package is not installed."""
    append: Path | None = None
    """Also add every number to this CSV file, with commit and device."""
    out: Path | None = None
    """Also draw the numbers, into this folder."""


def doctor(argv: list[str]) -> int:
    """Examines the machine."""
    _parse(DoctorArgs, argv, "doctor")
    from detach.doctor import examine

    return examine(print)


def demo(argv: list[str]) -> int:
    """Does the whole job on the sample."""
    args = _parse(DemoArgs, argv, "demo")
    from detach.demo import run_demo

    run_demo(args.out, seed=args.seed, say=_say)
    return EXIT_OK


def import_(argv: list[str]) -> int:
    """Imports another format."""
    args = _parse(ImportArgs, argv, "import")
    from detach.data.sphere import import_sphere

    cameras = {**dict.fromkeys(args.exchanged, True), **dict.fromkeys(args.kept, False)}
    wrist = {**dict.fromkeys(args.flipped, True), **dict.fromkeys(args.upright, False)}
    try:
        import_sphere(
            args.source,
            args.out,
            sensors=args.sensors,
            cameras_exchanged=cameras,
            wrist_flipped=wrist,
            limit=args.limit,
            workers=args.workers,
            progress=_say,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return EXIT_OK


def simulate(argv: list[str]) -> int:
    """Simulates a home."""
    args = _parse(SimulateArgs, argv, "simulate")
    from detach.simulate.record import simulate as make

    make(
        args.out,
        home=args.home,
        level=args.level,
        minutes=args.minutes,
        seed=args.seed,
        runs=args.runs,
        size=(args.width_px, args.height_px),
        workers=args.workers,
        progress=_say,
    )
    return EXIT_OK


def train(argv: list[str]) -> int:
    """Trains runs."""
    args = _parse(TrainArgs, argv, "train", default=_train_default(argv))
    from detach.train import train_seeds

    train_seeds(
        args.data,
        args.out,
        args.run,
        args.seeds,
        resume=args.resume,
        stage1_from=args.stage1_from,
        say=_say,
    )
    return EXIT_OK


def evaluate(argv: list[str]) -> int:
    """Evaluates runs."""
    args = _parse(EvaluateArgs, argv, "evaluate")
    from detach.evaluate import evaluate as run

    table = run(
        args.runs,
        args.data,
        track=args.track,
        leave_one_run_out=args.leave_one_run_out,
        progress=_say,
    )
    print(table)
    if args.append is not None:
        from detach import ledger

        device = f"{platform.machine()}, {os.cpu_count()} cores"
        print(f"{ledger.append(args.append, table, device)} lines added to {args.append}")
    return EXIT_OK


def report(argv: list[str]) -> int:
    """Writes the page."""
    args = _parse(ReportArgs, argv, "report")
    from detach.report import report as write

    print(write(args.runs, args.out, progress=_say))
    return EXIT_OK


def bench(argv: list[str]) -> int:
    """Times operators."""
    args = _parse(BenchArgs, argv, "bench")
    from detach import bench as benchmarks

    asked = {**vars(args)}
    append, out = asked.pop("append"), asked.pop("out")
    found = benchmarks.bench(benchmarks.Options(**asked), _say)
    print(f"\n{found}")
    if append is not None:
        from detach import ledger

        count = ledger.append_lines(append, found.lines(), found.device)
        print(f"{count} lines added to {append}")
    if out is not None:
        from detach.bench.figure import save

        print(save(found, out))
    return EXIT_OK


VERBS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "doctor": (doctor, "what this machine has; kernels against references"),
    "demo": (demo, "train on the sample recordings and write a report"),
    "import": (import_, "other formats into recordings"),
    "simulate": (simulate, "recordings of a simulated home"),
    "train": (train, "both stages, one or several seeds"),
    "evaluate": (evaluate, "probe, retrieval and references, as one table"),
    "report": (report, "one HTML page"),
    "bench": (bench, "the operators against what one could call instead"),
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
    return _guarded(*words)


def _guarded(verb: str, *words: str) -> int:
    """Runs a verb; what a user can do something about ends in one message."""
    try:
        return VERBS[verb][0](list(words))
    except DetachError as error:
        print(f"\ndetach: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `detach ... | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        print(f"\ndetach: interrupted; {AFTER_CTRL_C.get(verb, DONE_AGAIN)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        print(f"\ndetach: {_lack(error)}", file=sys.stderr)
        return MachineError.exit_code


def _lack(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path, the rights and the free space"
    reason = str(error).partition("\n")[0] or "no reason given"
    return f"memory does not suffice ({reason}); use smaller batches, pictures or windows"


AFTER_CTRL_C = {
    "train": "the same command with --resume goes on",
    "import": "the same command goes on where it stopped",
}
DONE_AGAIN = "give the command again; nothing half-written counts"


def _help() -> str:
    lines = [f"  {name:<10}{about}" for name, (_, about) in VERBS.items()]
    return "\n".join(["usage: detach VERB ...   (detach VERB --help)", "", *lines])


def _parse(kind: type[Args], argv: list[str], verb: str, default: Args | None = None) -> Args:
    try:
        if default is None:
            return tyro.cli(kind, args=argv, prog=f"detach {verb}")
        return tyro.cli(kind, args=argv, prog=f"detach {verb}", default=default)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _train_default(argv: list[str]) -> TrainArgs:
    """Flags differ from the recipe, the recipe from its preset: what they start from."""
    from detach import recipes

    name, recipe = _value(argv, "--preset"), _value(argv, "--config")
    try:
        base = preset(name or "recommended")  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if recipe is not None:
        base = recipes.read(recipes.find(Path(recipe)), name)
    missing: Path = tyro.MISSING
    return TrainArgs(data=missing, out=missing, run=base)


def _value(argv: list[str], flag: str) -> str | None:
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _say(line: str) -> None:
    print(line, flush=True)
