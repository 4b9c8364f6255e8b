"""`detach import`: which options each format takes, and the importer that is called with them."""

from detach.cli.options import ImportArgs
from detach.cli.terminal import parse, say
from detach.errors import EXIT_OK, UsageError

OF_SWITCHINGS = ("timezone", "include", "pulse", "pulse_s")
OF_LOGS = ("hours", "gap_hours", *OF_SWITCHINGS)
TAKES: dict[str, tuple[str, ...]] = {
    "sphere": ("sensors", "limit", "exchanged", "kept", "flipped", "upright", "workers"),
    "opportunity++": ("channels", "limit"),
    "hwu-usp": ("channels", "sync", "limit"),
    "home-assistant": OF_LOGS,
    "mosquitto": OF_LOGS,
    "frigate": ("hours", *OF_SWITCHINGS, "camera", "sensor_log", "film_fps"),
    "casas": OF_LOGS,
    "aras": OF_LOGS,
    "kasteren": OF_LOGS,
}
"""Options that each format takes; any other would be ignored."""


def import_(argv: list[str]) -> int:
    """Imports another format."""
    args = parse(ImportArgs, argv, "import")
    _refuse_others(args)
    if args.format == "sphere":
        return _sphere(args)
    if args.format == "hwu-usp":
        return _hwu_usp(args)
    return _opportunity(args) if args.format == "opportunity++" else _log(args)


def _refuse_others(args: ImportArgs) -> None:
    """Options that the format would ignore.

    Raises:
        UsageError: One of them is given.
    """
    usual = vars(ImportArgs(format=args.format, source=args.source, out=args.out))
    for name, value in vars(args).items():
        takers = [form for form, names in TAKES.items() if name in names]
        if value != usual[name] and args.format not in takers:
            raise UsageError(
                f"--{name.replace('_', '-')} is not for {args.format}, only for "
                f"{', '.join(takers)}; leave it out"
            )


def _sphere(args: ImportArgs) -> int:
    from detach.data.sphere import import_sphere

    cameras = _decided("exchanged", args.exchanged, "kept", args.kept)
    wrist = _decided("flipped", args.flipped, "upright", args.upright)
    try:
        import_sphere(
            args.source,
            args.out,
            sensors=args.sensors,
            cameras_exchanged=cameras,
            wrist_flipped=wrist,
            limit=args.limit,
            workers=args.workers,
            progress=say,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return EXIT_OK


def _decided(yes: str, those: tuple[str, ...], no: str, others: tuple[str, ...]) -> dict[str, bool]:
    """By recording, what two opposite options say.

    Raises:
        UsageError: A recording is named by both.
    """
    if both := sorted({*those} & {*others}):
        raise UsageError(f"{both[0]} is named by both --{yes} and --{no}; name it in one of them")
    return {**dict.fromkeys(those, True), **dict.fromkeys(others, False)}


def _hwu_usp(args: ImportArgs) -> int:
    from detach.data.importers.hwu_usp import import_hwu_usp

    import_hwu_usp(
        args.source,
        args.out,
        channels=args.channels or "paper",
        sync=args.sync,
        limit=args.limit,
        progress=say,
    )
    return EXIT_OK


def _opportunity(args: ImportArgs) -> int:
    from detach.data.importers.opportunity import import_opportunity

    import_opportunity(
        args.source,
        args.out,
        channels="ambient34" if args.channels == "paper" else "ambient37",
        limit=args.limit,
        progress=say,
    )
    return EXIT_OK


def _log(args: ImportArgs) -> int:
    from importlib import import_module

    from detach.data.importers.days import import_events
    from detach.data.importers.log import Options

    reader = import_module(f"detach.data.importers.{args.format.replace('-', '_')}")
    try:
        options = Options(**{name: getattr(args, name) for name in TAKES[args.format]})
    except ValueError as error:
        raise UsageError(str(error)) from error
    import_events(reader.read, args.source, args.out, options, progress=say)
    return EXIT_OK
