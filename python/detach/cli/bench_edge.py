"""`detach bench edge`: what a bundle costs on this machine, and what its thresholds mean."""

import os
import platform
import sys
from pathlib import Path

from detach.cli.options import BenchArgs
from detach.errors import UsageError


def bench_edge(args: BenchArgs) -> int:
    """Measures and prints; the exit code."""
    if args.bundle is None:
        raise UsageError("bench edge needs a bundle: detach bench edge NAME.detach")
    if args.recordings:
        return _events(args, args.bundle)
    from detach.data.store import write_whole
    from detach.edge import agreement, footprint

    lines: list[dict[str, object]] = []
    found = footprint.measure(
        args.bundle, video=args.video, backend=args.backend, threads=args.threads
    )
    print(found.as_text())
    lines += found.lines()
    if args.data is not None:
        alike = agreement.measure(args.bundle, args.data, backend=args.backend, say=_say)
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
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _events(args: BenchArgs, bundle: Path) -> int:
    """False events a day and actions found, and what to write into live.yaml."""
    from detach.edge.live.curve import curve

    found = curve(bundle, args.recordings, say=lambda text: print(text, file=sys.stderr))
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

        device = f"{platform.machine()}, {os.cpu_count()} cores"
        count = ledger.append_lines(args.append, found.lines(), device)
        print(f"{count} lines added to {args.append}")
    if args.out is not None:
        from detach.bench.figure import save_events

        print(save_events(found, args.out))
    return 0
