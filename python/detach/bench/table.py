"""What was measured, as text and as lines of the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One variant at one size."""

    name: str
    group: str
    """What it computes; those of one group agree."""
    seconds: float | None
    """None where only memory was measured."""
    calls: int
    share: float | None = None
    """Of the ceiling, or of what the block says."""
    extra_bytes: int | None = None
    """Peak memory beyond the inputs."""
    late_s: float | None = None
    """95th percentile of the calls, where that is what users feel."""


@dataclass(frozen=True)
class Block:
    """All variants at one size."""

    title: str
    data: str
    """What it ran on, for the ledger."""
    size: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    share: str = "ceiling"
    """What the rows' shares are of."""

    @property
    def ours(self) -> Row:
        """What the others are measured by."""
        return self.rows[0]


@dataclass(frozen=True)
class Benchmark:
    """One part's tables."""

    part: str
    what: str
    device: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        texts = [f"{self.what}\non {self.device}", *(_block_text(b) for b in self.blocks)]
        return "\n\n".join([*texts, "\n".join([*self.notes, *self.skipped])]).rstrip()

    def lines(self) -> Iterator[dict[str, object]]:
        """One for every number, as the ledger keeps them."""
        for block in self.blocks:
            for row in block.rows:
                shared = {
                    "what": f"bench {self.part}: {self.what}",
                    "data": block.data,
                    "items": block.size,
                    "provider": row.name,
                }
                for metric, value in _numbers(row, block):
                    yield {**shared, "metric": metric, "value": f"{value:.4f}"}


def skipped(name: str, why: object) -> str:
    """The line that says so."""
    return f"skipped: {name}: {why}"


def ratios(rows: Sequence[Row], ours: Row, rivals: Sequence[tuple[str, str]]) -> str:
    """One line: how many times as fast as the best of each family ``ours`` is.

    Args:
        rows: All variants.
        ours: That which is compared.
        rivals: (words, beginning of the names of a family).
    """
    said = []
    for words, beginning in rivals:
        family = [r for row in rows if row.name.startswith(beginning) and (r := _ratio(row, ours))]
        if family:
            said.append(f"{min(family):.2f}x {words}")
    return f"{ours.name} is " + ", ".join(said) if said else ""


def _ratio(row: Row, ours: Row) -> float | None:
    return row.seconds / ours.seconds if row.seconds and ours.seconds else None


def _text(value: float | None, unit: float, form: str, after: str = "") -> str:
    return "-" if value is None else f"{value * unit:{form}}{after}"


def _numbers(row: Row, block: Block) -> Iterator[tuple[str, float]]:
    if row.seconds is not None:
        yield "ms", 1e3 * row.seconds
    if ratio := _ratio(row, block.ours):
        yield "times_detach", ratio
    if row.share is not None:
        yield f"share_of_{block.share}", row.share
    if row.extra_bytes is not None:
        yield "extra_mb", row.extra_bytes / 1e6
    if row.late_s is not None:
        yield "p95_ms", 1e3 * row.late_s


def _block_text(block: Block) -> str:
    columns: list[tuple[str, list[str]]] = [
        ("", [row.name for row in block.rows]),
        ("ms", [_text(row.seconds, 1e3, ".4g") for row in block.rows]),
        ("p95 ms", [_text(row.late_s, 1e3, ".4g") for row in block.rows]),
        ("x detach", [_text(_ratio(row, block.ours), 1, ".2f") for row in block.rows]),
        (f"of {block.share}", [_text(row.share, 100, ".3g", " %") for row in block.rows]),
        ("extra MB", [_text(row.extra_bytes, 1e-6, ".1f") for row in block.rows]),
        ("calls", [str(row.calls) for row in block.rows]),
    ]
    kept = [(title, cells) for title, cells in columns if set(cells) != {"-"}]
    head = tuple(title for title, _ in kept)
    body = list(zip(*(cells for _, cells in kept), strict=True))
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *body)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([block.title, *lines, *(note for note in block.notes if note)])
