"""One table over several evaluated runs: methods and references, seeds, intervals, differences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detach.references import apart
from detach.results import (
    CLOCK,
    MAJORITY,
    RAW,
    UNTRAINED,
    Answer,
    Kind,
    Results,
    Retrieval,
    Task,
    label_runs,
)
from detach.scores import (
    RESAMPLES,
    Blocks,
    Floats,
    Ints,
    accuracy,
    calibration,
    confusion,
    confusion_draws,
    cut_blocks,
    interval,
    mean_average_precision,
    weighted_f1,
)

METHODS = (
    *("detach", "infonce", "global", "imu2clip", "primus", "comodo", "cav-mae"),
    "supervised",
)
ORDER = (*METHODS, UNTRAINED, RAW, CLOCK, MAJORITY)
RECALL_AT = (1, 5, 10)


@dataclass(frozen=True)
class Cell:
    """One number: mean and spread over seeds, and the interval of the mean over test items."""

    mean: float
    sd: float
    """Over seeds; NaN where there is one."""
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One method or reference."""

    name: str
    kind: Kind
    seeds: int
    """0 where chance plays no part."""
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Difference:
    """Weighted F1 of ``a`` minus that of ``b``, the mean over the seeds both have."""

    a: str
    b: str
    value: float
    low: float
    high: float
    seeds: int = 0
    """How many of ``a``. Intervals are over test items and seeds: of one they lack its luck."""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def doubt(self) -> str:
        """Whether it may be chance, or the luck of one training run; empty where neither."""
        if not self.clear:
            return "not told apart"
        return "one seed" if self.seeds == 1 else ""


@dataclass(frozen=True)
class Group:
    """Everything that was tested on the same items."""

    dataset: str
    track: str
    protocol: str
    unit: str
    classes: tuple[str, ...]
    absent: tuple[str, ...]
    items: int
    blocks: int
    block_unit: str
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def caption(self) -> str:
        """How to read the numbers."""
        left_out = (
            f"; mAP leaves out {', '.join(self.absent)} (no test item)" if self.absent else ""
        )
        how = (
            f"95 % intervals: bootstrap over {self.blocks} {self.block_unit}, {RESAMPLES} resamples"
            if self.blocks > 1
            else f"no intervals: the test part is no longer than one of the {self.block_unit}"
        )
        return (
            f"{self.items} test {self.unit}, {len(self.classes) - len(self.absent)} of "
            f"{len(self.classes)} classes present{left_out}. {how}; +- is the spread over seeds."
        )


@dataclass(frozen=True)
class Pool:
    """How well each modality finds the other among the same test windows."""

    dataset: str
    windows: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Everything about several runs."""

    groups: tuple[Group, ...]
    retrieval: tuple[Pool, ...]

    def __str__(self) -> str:
        texts = [_group_text(g) for g in self.groups] + [_pool_text(p) for p in self.retrieval]
        return "\n\n".join(texts)


def make_table(results: Sequence[Results], *, named: bool = False) -> Table:
    """The table over all runs; other test items stand in groups of their own.

    Where runs differ so that a reference differs too, an untrained encoder of another shape or
    statistics of noisy samples, it has a row for each, with the name of the method.

    Args:
        results: Of the runs.
        named: Whether methods have the names that are to be shown.
    """
    tasks: dict[tuple[str, ...], list[tuple[str, Task]]] = {}
    ranked: dict[tuple[str, bytes], list[tuple[str, Retrieval]]] = {}
    labelled = results if named else label_runs(results)
    for run in sorted(labelled, key=lambda run: len(run.options)):  # the nearest preset leads
        for task in run.tasks:
            key = (run.dataset, task.track, task.protocol, str(hash(task.truth.tobytes())))
            tasks.setdefault(key, []).append((run.method, task))
        for one in run.retrieval:
            same = (run.dataset, one.recording.tobytes() + one.start_s.tobytes())
            ranked.setdefault(same, []).append((run.method, one))
    groups = tuple(_group(key[0], found) for key, found in tasks.items())
    return Table(groups, tuple(_pool(key[0], found) for key, found in ranked.items()))


def distinct_seeds(answers: Iterable[Answer]) -> list[Answer]:
    """Answers without repeats: runs of several methods carry the same references."""
    kept: dict[int, Answer] = {}
    for answer in answers:
        kept.setdefault(hash(answer.probability.tobytes()), answer)
    return list(kept.values())


def _group(dataset: str, labelled: Sequence[tuple[str, Task]]) -> Group:
    tasks = [task for _, task in labelled]
    first, blocks = tasks[0], tasks[0].blocks
    answers = _by_name(apart([(name, a) for name, task in labelled for a in task.answers]))
    distinct = [(name, distinct_seeds(found)) for name, found in answers]
    rows = tuple(_row(name, found, first, blocks) for name, found in distinct)
    return Group(
        dataset,
        first.track,
        first.protocol,
        first.unit,
        first.classes,
        first.absent,
        len(first.truth),
        blocks.count,
        blocks.unit,
        rows,
        _differences(distinct, first, blocks),
        tuple(dict.fromkeys(note for task in tasks for note in task.notes)),
    )


def _row(name: str, answers: Sequence[Answer], task: Task, blocks: Blocks) -> Row:
    labels = len(task.classes)
    columns: dict[str, list[tuple[float, Floats]]] = {}
    for answer in answers:
        said = answer.probability.argmax(axis=1)
        counts = confusion(task.truth, said, labels)
        drawn = confusion_draws(task.truth, said, labels, blocks)
        exact = mean_average_precision(task.truth, answer.probability)
        spread = mean_average_precision(task.truth, answer.probability, blocks)
        error = calibration(task.truth, answer.probability).error
        for key, value, draws in (
            ("f1", weighted_f1(counts), weighted_f1(drawn)),
            ("map", exact[0], spread),
            ("accuracy", accuracy(counts), accuracy(drawn)),
            ("ece", error, np.full(1, np.nan)),
        ):
            columns.setdefault(key, []).append((float(value), draws))
    cells = {key: _cell(found, blocks) for key, found in columns.items()}
    seeds = len(answers) if answers[0].seed is not None else 0
    return Row(name, answers[0].kind, seeds, cells)


def _cell(found: Sequence[tuple[float, Floats]], blocks: Blocks) -> Cell:
    values = np.array([value for value, _ in found])
    sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    unknown = (float("nan"), float("nan"))
    low, high = interval(_mean([d for _, d in found])) if blocks.count > 1 else unknown
    return Cell(float(values.mean()), sd, low, high)


def _differences(
    answers: Sequence[tuple[str, list[Answer]]], task: Task, blocks: Blocks
) -> tuple[Difference, ...]:
    """Every method against the first, and the first against every reference."""
    if len(answers) < 2 or blocks.count < 2 or answers[0][1][0].kind != "method":
        return ()
    (a, own), *others = answers
    runs = {id(x): _run(x, task, blocks) for _, found in answers for x in found}
    pairs = []
    for b, found in others:
        both = _of_shared_seeds(own, found)
        (value, draws), (less, less_draws) = (
            _over_seeds([runs[id(x)] for x in side], picks)
            for side, picks in zip(both, _picks(*both), strict=True)
        )
        between = interval(draws - less_draws)
        pairs.append(Difference(a, b, value - less, *between, seeds=len(both[0])))
    return tuple(pairs)


def _picks(own: Sequence[Answer], other: Sequence[Answer]) -> tuple[Ints, Ints]:
    """Which runs are in every resample, [runs, resamples]; the same of both where seeds are."""
    random = np.random.default_rng(1)  # blocks are drawn by 0
    mine, others = (random.integers(len(x), size=(len(x), RESAMPLES)) for x in (own, other))
    return mine, mine if [x.seed for x in own] == [x.seed for x in other] else others


def _of_shared_seeds(
    own: Sequence[Answer], other: Sequence[Answer]
) -> tuple[Sequence[Answer], Sequence[Answer]]:
    """Both at the seeds that both have, in one order: seeds differ in what they are given.

    All of them where one has no seeds, or they share none, or have one twice.
    """
    shared = sorted({x.seed for x in own if x.seed is not None} & {x.seed for x in other})
    twice = any(len({x.seed for x in found}) < len(found) for found in (own, other))
    if not shared or twice:
        return own, other
    by_seed = ({x.seed: x for x in found} for found in (own, other))
    mine, others = ([found[seed] for seed in shared] for found in by_seed)
    return mine, others


def _run(answer: Answer, task: Task, blocks: Blocks) -> tuple[float, Floats]:
    """Weighted F1 of one run, and its draws."""
    labels = len(task.classes)
    said = answer.probability.argmax(axis=1)
    draws = weighted_f1(confusion_draws(task.truth, said, labels, blocks))
    return float(weighted_f1(confusion(task.truth, said, labels))), draws


def _over_seeds(runs: Sequence[tuple[float, Floats]], picks: Ints) -> tuple[float, Floats]:
    """Mean over runs, and in every draw over the runs ``picks`` [runs, resamples]."""
    draws = np.stack([drawn for _, drawn in runs])
    return float(np.mean([value for value, _ in runs])), np.take_along_axis(draws, picks, 0).mean(0)


def _pool(dataset: str, labelled: Sequence[tuple[str, Retrieval]]) -> Pool:
    rows = tuple(_retrieval_row(name, found) for name, found in _by_name(apart(labelled)))
    return Pool(dataset, labelled[0][1].pool, rows)


def _retrieval_row(name: str, found: Sequence[Retrieval]) -> Row:
    cells, blocks = {}, cut_blocks(found[0].recording, found[0].start_s)
    distinct = {r.video_to_sensor.tobytes(): r for r in found}.values()
    for way in ("video_to_sensor", "sensor_to_video"):
        for k in RECALL_AT:
            hits = [(getattr(ranked, way) < k).astype(np.float64) for ranked in distinct]
            parts = [(float(hit.mean()), blocks.mean_draws(hit)) for hit in hits]
            cells[f"{way}@{k}"] = _cell(parts, blocks)
    return Row(name, found[0].kind, len(distinct), cells)


def _by_name(found: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Answers or retrievals of each name, in the table's order; those of a stem as they come."""
    groups: dict[str, list[Any]] = {}
    for one in found:
        groups.setdefault(one.name, []).append(one)
    return sorted(groups.items(), key=lambda pair: _place(pair[0]))


def _place(name: str) -> int:
    """Methods, with or without options in their name, then references."""
    stem = name.partition(",")[0]
    return ORDER.index(stem) if stem in ORDER else len(METHODS)


def _mean(arrays: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(np.stack(arrays), axis=0))


def _group_text(group: Group) -> str:
    head = ("method", "seeds", "weighted F1", "mAP", "accuracy", "ECE")
    body = [
        (
            row.name,
            str(row.seeds or "-"),
            *(_cell_text(row.cells[k]) for k in ("f1", "map")),
            *(f"{row.cells[k].mean:.3f}" for k in ("accuracy", "ece")),
        )
        for row in group.rows
    ]
    lines = [f"{group.dataset}: {group.track}, {group.protocol}", *_aligned(head, body)]
    lines += [
        f"{d.a} - {d.b}: {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        f"{f'  ({d.doubt})' if d.doubt else ''}"
        for d in group.differences
    ]
    return "\n".join([*lines, group.caption, *group.notes])


def _pool_text(pool: Pool) -> str:
    ways = (("video_to_sensor", "v>s"), ("sensor_to_video", "s>v"))
    keys = [(f"{way}@{k}", f"{short} R@{k}") for way, short in ways for k in RECALL_AT]
    body = [
        (row.name, str(row.seeds or "-"), *(f"{row.cells[k].mean:.3f}" for k, _ in keys))
        for row in pool.rows
    ]
    chance = [f"{min(k / max(pool.windows, 1), 1):.3f}" for k in RECALL_AT]
    body.append(("chance", "-", *chance, *chance))
    title = f"{pool.dataset}: between video and sensors among {pool.windows} test windows"
    return "\n".join([title, *_aligned(("method", "seeds", *(s for _, s in keys)), body)])


def _cell_text(cell: Cell) -> str:
    sd = "" if np.isnan(cell.sd) else f" +-{cell.sd:.3f}"
    spread = "" if np.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
    return f"{cell.mean:.3f}{sd}{spread}"


def _aligned(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in (head, *body)]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return [line.rstrip() for line in lines]
