"""`detach name`: finds clusters, takes names from a file or a page, and makes a head."""

from collections.abc import Callable
from pathlib import Path

from detach.data.store import write_whole
from detach.errors import MachineError, UsageError
from detach.naming import NAMES_FILE, read_names, save_names, write_head
from detach.probe import NAMED_FILE, load_head
from detach.report.naming import PAGE_FILE, Found, find, render


def name_run(
    folder: Path,
    data: Path | None = None,
    *,
    names: Path | None,
    serve: bool,
    most: int,
    again: bool,
    track: str | None,
    port: int,
    say: Callable[[str], None],
) -> str:
    """Does what the verb says; what came of it, in words.

    Args:
        folder: A finished run of the method detach.
        data: Its data set, where that has moved.
        names: A file with names; None shows a page.
        serve: Whether the page is served until the person is done, or only written.
        most: Clusters at most, where new ones are made.
        again: Whether clusters are made anew and names set aside.
        track: What the names are names of.
        port: Of the page; 0 takes a free one.
        say: Told in words what is being done.

    Raises:
        DataError: The run, its data or the names are damaged or do not fit.
        MachineError: The port is taken.
        UsageError: ``most`` or ``port`` out of range.
    """
    if not 2 <= most <= 200:
        raise UsageError(f"most must be in [2, 200], got {most}")
    if not 0 <= port <= 65535:
        raise UsageError(f"port must be in [0, 65535], got {port}")
    found = find(folder, data, most=most, again=again, track=track, video=names is None, say=say)
    if names is not None:
        given, written = read_names(names, found.clusters)
        write_head(folder, found.clusters, given, track or written)
        return _came_of_it(folder)
    if not (folder / NAMES_FILE).is_file():
        save_names(folder, found.clusters, found.names, found.track)
    if not serve:
        write_whole(folder / PAGE_FILE, render(found).encode())
        return (
            f"{_table(found)}\n\n{folder / PAGE_FILE}\n{folder / NAMES_FILE}: write names there, "
            f"then `detach name {folder} --names {folder / NAMES_FILE}`"
        )
    from detach.report.naming_server import serve as show  # noqa: PLC0415 -- only who serves

    try:
        show(found, port, say)
    except KeyboardInterrupt:
        say("ended")
    except OSError as error:
        raise MachineError(
            f"port {port} of this machine: {error.strerror}; leave --port out"
        ) from error
    return _came_of_it(folder)


def _table(found: Found) -> str:
    lines = [f"{'cluster':<8} {'windows':>7}  mostly (share of labelled windows)"]
    for j, i in enumerate(found.clusters.ids):
        known = [f"{name} {share:.0%}" for name, share, _ in found.purity(j).values()]
        lines.append(f"{i:<8} {found.clusters.size[j]:>7}  {', '.join(known) or '-'}")
    return "\n".join(lines)


def _came_of_it(folder: Path) -> str:
    head = load_head(folder, NAMED_FILE)
    if head is None:
        return f"no names were given; {folder / NAMES_FILE} waits for them"
    rows = dict.fromkeys(head.classes, 0)
    for of in head.rows:
        rows[head.classes[of]] += 1
    lines = [f"{name:<32} {count} cluster{'s' * (count > 1)}" for name, count in rows.items()]
    text = "\n".join(lines[:-1])
    return f"{text}\n{folder / NAMED_FILE}: `detach export {folder} --out NAME.detach` takes it"
