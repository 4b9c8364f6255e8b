"""The verbs for a home of one's own: its clocks, and names for what happens there."""

from detach.cli.options import NameArgs, SyncArgs
from detach.cli.terminal import parse, say_aside
from detach.errors import EXIT_OK, UsageError


def sync(argv: list[str]) -> int:
    """Measures clocks."""
    args = parse(SyncArgs, argv, "sync")
    from detach.report.lag import sync_folder, undo_folder

    if args.undo:
        if args.apply or args.run is not None:
            raise UsageError("sync --undo measures nothing: give it without --apply and --run")
        print(undo_folder(args.recording))
        return EXIT_OK
    found, path = sync_folder(
        args.recording,
        run=args.run,
        apply=args.apply,
        out=args.out,
        within_s=args.within_s,
        progress=say_aside,
    )
    print(f"{found}\n\n{path}")
    return EXIT_OK


def name(argv: list[str]) -> int:
    """Gives names."""
    args = parse(NameArgs, argv, "name")
    from detach.report.naming_verb import name_run

    print(
        name_run(
            args.run,
            args.data,
            names=args.names,
            serve=args.serve,
            most=args.most,
            again=args.again,
            track=args.track,
            port=args.port,
            say=say_aside,
        )
    )
    return EXIT_OK
