"""The verbs: arguments in, one function called. Imports inside them keep `--help` fast."""

from pathlib import Path

import tyro

from detach.cli.options import (
    DemoArgs,
    DoctorArgs,
    EvaluateArgs,
    ExportArgs,
    InspectArgs,
    LiveArgs,
    RecordArgs,
    ReportArgs,
    ReproduceArgs,
    RunArgs,
    SimulateArgs,
    TrainArgs,
)
from detach.cli.terminal import parse as _parse
from detach.cli.terminal import say as _say
from detach.cli.terminal import say_aside as _say_aside
from detach.config import RunConfig, override, preset
from detach.errors import EXIT_OK, UsageError


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


def inspect(argv: list[str]) -> int:
    """Measures recordings."""
    args = _parse(InspectArgs, argv, "inspect")
    from detach.report.inspection import inspect_folder

    quality, path = inspect_folder(args.recording, args.out, film=args.film, progress=_say_aside)
    print(f"{quality.as_text()}\n\n{path}")
    return EXIT_OK


def simulate(argv: list[str]) -> int:
    """Simulates a home."""
    args = _parse(SimulateArgs, argv, "simulate")
    from detach.simulate.record import Options
    from detach.simulate.record import simulate as make

    options = Options(
        home=args.home,
        level=args.level,
        minutes=args.minutes,
        seed=args.seed,
        runs=args.runs,
        size=(args.width_px, args.height_px),
        fps=args.fps,
        people=args.people,
        extra=args.extra,
        camera=args.camera,
    )
    if args.layout is None:
        if (args.offset_s, args.drift_ppm) != (SimulateArgs.offset_s, SimulateArgs.drift_ppm):
            raise UsageError("--offset-s and --drift-ppm are planted in a --layout only; name one")
        make(args.out, options, _say, args.workers)
        return EXIT_OK
    from detach.simulate.published import publish

    clocks = {"offset_s": args.offset_s, "drift_ppm": args.drift_ppm}
    publish(args.out, options, args.layout, **clocks, progress=_say, workers=args.workers)
    return EXIT_OK


def train(argv: list[str]) -> int:
    """Trains runs."""
    args = _parse(TrainArgs, argv, "train", default=_train_default(argv))
    from detach.train import train_seeds

    train_seeds(
        args.data,
        args.out,
        _with_places(args.run, args.places),
        args.seeds,
        resume=args.resume,
        stage1_from=args.stage1_from,
        say=_say,
    )
    return EXIT_OK


def _with_places(run: RunConfig, places: int | str | None) -> RunConfig:
    """The run with --places taken in.

    Raises:
        UsageError: Fewer than two.
    """
    if places is None:
        return run
    auto = places == "auto"
    given = {"places": "auto" if auto else "given", "clusters": None if auto else places}
    try:
        return override(run, {"stage1": given})
    except ValueError as error:
        raise UsageError(f"--places: {error}") from error


def evaluate(argv: list[str]) -> int:
    """Evaluates runs."""
    args = _parse(EvaluateArgs, argv, "evaluate")
    from detach.evaluate import evaluate as run

    table = run(
        args.runs,
        args.data,
        tracks=args.track,
        leave_one_run_out=args.leave_one_run_out,
        background=args.background,
        reuse=args.reuse,
        progress=_say,
    )
    print(table)
    if args.append is not None:
        from detach import ledger

        count = ledger.append(args.append, table, ledger.machine())
        print(f"{count} lines added to {args.append}")
    return EXIT_OK


def report(argv: list[str]) -> int:
    """Writes the page."""
    args = _parse(ReportArgs, argv, "report")
    from detach.report import report as write

    print(write(args.runs, args.out, progress=_say))
    return EXIT_OK


def reproduce(argv: list[str]) -> int:
    """Runs the rows of tables and figures."""
    args = _parse(ReproduceArgs, argv, "reproduce")
    from detach.reproduce import Options
    from detach.reproduce import reproduce as run

    options = Options(
        out=args.out,
        tables=args.table,
        figures=args.figure,
        rows=args.rows,
        data=args.data,
        seeds=args.seeds,
        budget=args.budget,
        config=args.config,
        threads=args.threads,
        home_minutes=args.home_minutes,
        plan_only=args.plan,
        append=args.append,
    )
    page = run(options, _say)
    if page is not None:
        print(f"{page}")
    return EXIT_OK


def export(argv: list[str]) -> int:
    """Writes a bundle."""
    args = _parse(ExportArgs, argv, "export")
    from detach.edge.outputs import check_writable
    from detach.export import export as write

    check_writable(args.out)
    write(
        args.run,
        args.out,
        precisions=args.precisions,
        video=args.video,
        int8=args.int8,
        outputs=args.outputs,
        data=args.data,
        licence=args.licence,
        head=args.head,
        least_right=args.least_right,
        say=_say,
    )
    if args.to == "engine":
        from detach.edge.bundle import open_bundle
        from detach.edge.tensorrt_prepare import build_engines

        build_engines(open_bundle(args.out), say=_say)
    return EXIT_OK


def run(argv: list[str]) -> int:
    """Runs a source through a bundle."""
    args = _parse(RunArgs, argv, "run")
    from detach.edge import replay

    options = replay.Options(
        backend=args.backend,
        precision=args.precision,
        threads=args.threads,
        video=args.video,
        video_file=args.video_file,
        probabilities=args.probabilities,
        cache=args.cache,
    )
    replay.run_and_show(
        args.bundle,
        args.source,
        options=options,
        out=args.out,
        annotate=args.annotate,
        rrd=args.rrd,
        write=print,
        say=_say_aside,
    )
    return EXIT_OK


def live(argv: list[str]) -> int:
    """Runs a bundle on live sources until it is stopped."""
    args = _parse(LiveArgs, argv, "live")
    from detach.edge.live.start import LiveOptions, run_live

    options = LiveOptions(
        threads=args.threads,
        lines_out=not args.quiet,
        metrics=args.metrics,
        replay=args.replay,
        port=args.port,
    )
    run_live(args.bundle, args.config, options=options, write=_say, say=_say_aside)
    return EXIT_OK


def record(argv: list[str]) -> int:
    """Records live sources until it is stopped."""
    args = _parse(RecordArgs, argv, "record")
    from detach.edge.live.record import run_record

    run_record(args.config, args.out, say=_say_aside)
    return EXIT_OK


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
