"""`detach bench`: operators against their rivals; what a bundle costs, what its thresholds mean."""

from collections.abc import Sequence
from pathlib import Path

from detach.cli.options import BenchArgs
from detach.cli.terminal import parse, say, say_aside
from detach.errors import EXIT_OK, UsageError

ONLY_EDGE = ("bundle", "video", "backend", "data", "report", "live", "recordings", "most_per_day")
"""Options that only its part edge has."""


def bench(argv: list[str]) -> int:
    """Times operators."""
    args = parse(BenchArgs, argv, "bench")
    if args.part == "edge":
        more = (("out",) if args.recordings else ()) + (("seconds",) if args.live else ())
        _refuse_others(args, (*ONLY_EDGE, "part", "threads", "append", *more), "edge")
        return _edge(args)
    from detach import bench as benchmarks
    from detach import ledger

    _refuse_others(args, [name for name in vars(args) if name not in ONLY_EDGE], args.part)
    asked = {k: v for k, v in vars(args).items() if k not in ONLY_EDGE}
    append, out = asked.pop("append"), asked.pop("out")
    if append is not None:
        ledger.append_lines(append, (), "")  # what cannot be written is found before it is measured
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found = benchmarks.bench(benchmarks.Options(**asked), say)
    print(f"\n{found}")
    if append is not None:
        count = ledger.append_lines(append, found.lines(), found.device)
        print(f"{count} lines added to {append}")
    if out is not None:
        from detach.bench.figure import save

        print(save(found, out))
    return EXIT_OK


def _refuse_others(args: BenchArgs, known: Sequence[str], part: str) -> None:
    """Options that a part would ignore.

    Raises:
        UsageError: One of them is given.
    """
    usual = vars(BenchArgs(part=args.part))
    for name, value in vars(args).items():
        if name not in known and value != usual[name]:
            raise UsageError(f"--{name.replace('_', '-')} is not for bench {part}")


def _edge(args: BenchArgs) -> int:
    """Measures and prints; the exit code."""
    if args.bundle is None:
        raise UsageError("bench edge needs a bundle: detach bench edge NAME.detach")
    if args.recordings:
        return _events(args, args.bundle)
    from detach.data.store import write_whole
    from detach.edge import agreement, footprint
    from detach.edge.engine import check_threads

    check_threads(args.threads)
    lines: list[dict[str, object]] = []
    found = footprint.measure(
        args.bundle, video=args.video, backend=args.backend, threads=args.threads
    )
    print(found.as_text())
    lines += found.lines()
    if args.data is not None:
        alike = agreement.measure(args.bundle, args.data, backend=args.backend, say=say)
        print(f"\n{alike.as_text()}")
        lines += alike.lines(args.bundle.name)
    if args.live:
        from detach.edge.live.load import measure_live

        load = measure_live(args.bundle, seconds=args.seconds or 30.0)
        print(f"\n{load}")
        lines += load.lines()
    if args.report is not None:
        write_whole(args.report, found.as_json().encode())
        print(args.report)
    if args.append is not None:
        from detach import ledger

        count = ledger.append_lines(args.append, lines, found.device)
        print(f"{count} lines added to {args.append}")
    return EXIT_OK


def _events(args: BenchArgs, bundle: Path) -> int:
    """False events a day and actions found, and what to write into live.yaml."""
    from detach.edge.live.curve import curve

    found = curve(bundle, args.recordings, say=say_aside)
    print(found.as_text())
    if args.most_per_day is not None:
        best = found.chosen(args.most_per_day)
        print(
            f"at most {args.most_per_day:g} a day: {best.found:.1%} of the actions are found; in "
            f"live.yaml\ndecide: {{confidence: {best.threshold:g}, "
            f"mean_probability: {max(best.threshold, 0.8):g}}}"
        )
    if args.append is not None:
        from detach import ledger

        count = ledger.append_lines(args.append, found.lines(), ledger.machine())
        print(f"{count} lines added to {args.append}")
    if args.out is not None:
        from detach.bench.figure import save_events

        print(save_events(found, args.out))
    return EXIT_OK
