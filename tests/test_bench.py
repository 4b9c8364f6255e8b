"""Benchmarks: that rivals compute the same thing, and that what is written is what was measured."""

import csv
import importlib.util
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from detach import bench as benchmarks
from detach import recipes
from detach.bench import (
    ceiling,
    eager,
    figure,
    loss,
    memory,
    percentile,
    rivals,
    step,
    table,
    timing,
    variants,
)
from detach.bench.options import Options
from detach.bench.table import Benchmark, Block, Row
from detach.bench.variants import Variant
from detach.cli import main
from detach.errors import MachineError, UsageError

CPU = torch.device("cpu")
CLIP_LOSS = """
import torch
import torch.nn.functional as F

class ClipLoss(torch.nn.Module):
    def __init__(self, cache_labels):
        super().__init__()

    def forward(self, image, text, scale):
        logits = {scale} * image @ text.T
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
"""


def silent(_: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def clip_loss(tmp_path: Path) -> Path:
    """A wheel with a stand-in for open_clip's loss."""
    path = tmp_path / "open_clip_torch-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("open_clip/__init__.py", "raise ImportError('needs torchvision')")
        wheel.writestr("open_clip/loss.py", CLIP_LOSS.format(scale="scale"))
    return path


@pytest.fixture(autouse=True)
def compiled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs and gradients as by torch.compile, without a minute of C++."""
    soon = partial(torch.compile, dynamic=False, backend="aot_eager")
    monkeypatch.setattr(variants, "_compiled", soon)
    torch.compiler.reset()


def quick(part: str = "loss", **changes: object) -> Options:
    options = {"sizes": (16,), "seconds": 0.0, "repeats": 1, "width": 8, "memory": False}
    return Options(part=part, device="cpu", **{**options, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("forward_only", [False, True])
@pytest.mark.parametrize("n", [2, 33])
def test_all_ways_to_the_loss_agree(n: int, forward_only: bool, clip_loss: Path) -> None:
    options = quick(open_clip=clip_loss, forward_only=forward_only)
    found, lacking = variants.variants(options)
    off = {v.name: variants.difference(v, options, n) for v in found}
    assert max(off.values()) < 1e-5, off
    assert len(off) + len(lacking) == (11 if forward_only else 12)
    assert {v.group for v in found} == {"weighted", "unweighted"}
    assert "skipped: Inf-CL: it runs on a GPU only" in lacking


def test_the_two_losses_are_not_the_same() -> None:
    weighted = Variant("weighted", variants.UNWEIGHTED, eager.literal)
    assert variants.difference(weighted, quick(), 33) > 1e-2


@pytest.mark.parametrize(("dtype", "overflows"), [("bfloat16", 0), ("float16", 2)])
def test_half_types_agree_as_far_as_they_can(dtype: str, overflows: int) -> None:
    options = quick(dtype=dtype)
    found = [v for v in variants.variants(options)[0] if not v.compiled]
    off = {v.name: variants.difference(v, options, 33) for v in found}
    assert sum(x > 0.02 for x in off.values()) == overflows, off  # exp(20) is no float16
    assert off["detach"] <= off["eager, lse"]


def _half(f: eager.Features) -> Tensor:
    return 0.5 * eager.literal(f)


def _no_gradient_to_sensors(f: eager.Features) -> Tensor:
    return eager.literal(f._replace(sensor_temporal=f.sensor_temporal.detach()))


def _fails(_: eager.Features) -> Tensor:
    raise RuntimeError("no compiler\nlong story")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(_half, "off by 5.0e-01"), (_no_gradient_to_sensors, "off by inf"), (_fails, "no compiler")],
)
def test_what_computes_something_else_is_not_timed(wrong: eager.Loss, said: str) -> None:
    found = [
        Variant("right", variants.WEIGHTED, eager.tuned),
        Variant("wrong", variants.WEIGHTED, wrong),
    ]
    kept, lines = variants.agreeing(found, quick(), 16, silent)
    assert [v.name for v in kept] == ["right"]
    assert lines[0].startswith("skipped: wrong: ")
    assert lines[0].endswith(said)


@pytest.mark.parametrize("layout", percentile.LAYOUTS)
@pytest.mark.parametrize("length", [3, 60, 100, 101])
def test_all_ways_to_the_percentile_agree(length: int, layout: str) -> None:
    x = percentile.windows(5, length, layout, CPU)
    assert x.shape[percentile.LAYOUTS[layout]] == length
    for way in percentile.ways(CPU):
        assert percentile.difference(way, x, percentile.LAYOUTS[layout]) < 1e-5, way.name


def test_a_step_is_the_same_with_both_losses() -> None:
    config = recipes.read(recipes.find(Path("small")))
    steps = [step.TrainingStep(6, loss, config, CPU) for loss in step.LOSSES.values()]
    losses = torch.stack([torch.stack([one() for _ in range(2)]) for one in steps])
    assert torch.allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0, 0] != losses[0, 1], "nothing was learned"
    ours, theirs = (list(one.model.parameters()) for one in steps)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    assert all(len(spent) == len(step.STAGES) for one in steps for spent in one.spent)


def test_every_variant_is_a_row(clip_loss: Path) -> None:
    options = quick(sizes=(8, 16), open_clip=clip_loss)
    found = benchmarks.bench(options, silent)
    names = [v.name for v in variants.variants(options)[0]]
    for block, n in zip(found.blocks, (8, 16), strict=True):
        assert [row.name for row in block.rows] == names
        assert block.size == n
    assert all(f"\n{name}  " in str(found) for name in names)
    assert "x best eager" in str(found)
    shares = [row.share for block in found.blocks for row in block.rows]
    assert all(share is not None and 0 < share < 1 for share in shares)


@pytest.mark.parametrize(("part", "rows"), [("percentile", 7), ("step", 14)])
def test_other_parts_have_their_rows(part: str, rows: int, tmp_path: Path) -> None:
    words = ["--sizes", "4", "--seconds", "0", "--repeats", "1", "--no-memory"]
    out = ["--append", str(tmp_path / "results.csv"), "--out", str(tmp_path / "figures")]
    assert main(["bench", part, *words, *out]) == 0
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    blocks = 4 if part == "percentile" else 1
    assert len([line for line in lines if line["metric"] == "ms"]) == blocks * rows
    assert {line["items"] for line in lines} == {"4"}
    svg = (tmp_path / "figures" / f"{part}.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "--ink:" in svg


def _measured() -> Benchmark:
    rows = (
        Row("detach", "weighted", 0.002, 9, 0.5, 3_000_000),
        Row("eager, literal", "weighted", 0.005, 9, 0.2, None),
        Row("eager, lse", "weighted", 0.004, 9, 0.25, None),
    )
    memory_alone = Row("detach", "weighted", None, 0, None, 7_000_000)
    blocks = (Block("N = 8", "rows", 8, rows), Block("N = 64", "rows", 64, (memory_alone,)))
    return Benchmark("loss", "forward", "a machine", blocks)


def test_lines_of_the_ledger_say_what_was_measured() -> None:
    lines = list(_measured().lines())
    kept = [(x["items"], x["provider"], x["metric"], x["value"]) for x in lines]
    assert kept == [
        (8, "detach", "ms", "2.0000"),
        (8, "detach", "times_detach", "1.0000"),
        (8, "detach", "share_of_ceiling", "0.5000"),
        (8, "detach", "extra_mb", "3.0000"),
        (8, "eager, literal", "ms", "5.0000"),
        (8, "eager, literal", "times_detach", "2.5000"),
        (8, "eager, literal", "share_of_ceiling", "0.2000"),
        (8, "eager, lse", "ms", "4.0000"),
        (8, "eager, lse", "times_detach", "2.0000"),
        (8, "eager, lse", "share_of_ceiling", "0.2500"),
        (64, "detach", "extra_mb", "7.0000"),
    ]
    assert {x["what"] for x in lines} == {"bench loss: forward"}


def test_the_table_and_the_figure_show_them(tmp_path: Path) -> None:
    text = str(_measured())
    assert "\neager, lse       4      2.00        25 %         -      9" in text
    assert "\ndetach       7.0      0" in text
    ours, *others = _measured().blocks[0].rows
    families = (("best eager", "eager"), ("nobody", "none"))
    assert table.ratios([ours, *others], ours, families) == "detach is 2.00x best eager"
    svg = figure.save(_measured(), tmp_path).read_text(encoding="utf-8")
    assert all(name in svg for name in ("detach", "eager, literal", "eager, lse"))
    with pytest.raises(MachineError, match="cannot be written"):
        figure.save(_measured(), tmp_path / "loss.svg")


def test_turns_are_equal_and_in_changing_order() -> None:
    seen: list[str] = []
    costs = {"a": 1.0, "b": 3.0, "c": 2.0}

    def measure(body: Callable[[], object]) -> float:
        body()
        return costs[seen[-1]] / len(seen)

    bodies = {name: partial(seen.append, name) for name in costs}
    clock = timing.Clock("fake", measure, min, 1, 1)
    found = timing.interleave(bodies, clock, 0.0, 20)
    assert {timing.calls for timing in found.values()} == {20}
    rounds = [seen[i : i + 3] for i in range(3, len(seen), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) == 6
    assert found["b"].seconds > found["a"].seconds
    short = timing.Clock("fake", lambda _: 0.0004, min, 0, 1, 0.001)
    assert timing.interleave(bodies, short, 0.0, 2)["a"].calls == 6, "three calls fill a turn"
    longer = timing.interleave(bodies, timing.Clock("fake", lambda _: 0.1, min, 0, 1), 1.0, 1)
    assert longer["a"].calls == 10


def test_peak_memory_is_that_of_one_call() -> None:
    n, numbers = 2048, 2048 * 34 * 60
    make = partial(percentile.body, "torch.sort", 60, "time last", quick("percentile"))
    grown = memory.growth(make, n, threads=1)
    assert grown is not None
    assert 11.8 * numbers < grown < 16 * numbers, "values and their int64 places"
    make = partial(percentile.body, "detach", 60, "time last", quick("percentile"))
    ours = memory.growth(make, n, threads=1)
    assert ours is not None
    assert ours < numbers


def test_gradients_count_as_memory_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where some of an earlier call are there, the next only takes their place."""
    before: list[Tensor | None] = []

    def watched(call: variants.Call) -> int:
        before.extend(leaf.grad for leaf in call.inputs.learning)
        call()
        return 0

    options, gpu = quick(), SimpleNamespace(on=torch.device("cuda"))
    bound = partial(variants.bound, options=options)
    monkeypatch.setattr(memory, "growth_on_gpu", watched)
    monkeypatch.setattr(loss, "bound", lambda variant, n, _: bound(variant, n))
    for _ in range(2):
        loss._extra(variants.variants(options)[0][:2], 8, gpu, silent)  # type: ignore[arg-type]
    assert before == [None] * 8


def test_the_ceiling_is_above_what_torch_reaches() -> None:
    clock = timing.clock_of(CPU, 1)
    found = ceiling.arithmetic(CPU, torch.float32, clock, 1)
    product = ceiling._product(256, CPU, torch.float32, clock)
    assert product.rate < 1.15 * found.rate
    assert found.or_higher(product).rate >= found.rate
    assert ceiling.copying(CPU, clock, 1 << 16).rate > 1e8


def test_open_clip_is_loaded_by_path(clip_loss: Path, tmp_path: Path) -> None:
    plain = tmp_path / "loss.py"
    plain.write_text(CLIP_LOSS.format(scale="scale"))
    f = eager.features(9, 4, CPU)
    a, b = (rivals.open_clip_loss(path)(f) for path in (clip_loss, plain))
    assert torch.equal(a, b)
    plain.write_text(CLIP_LOSS.format(scale="1.1 * scale"))
    lines = benchmarks.bench(quick(open_clip=plain), silent).skipped
    assert any("open_clip ClipLoss: its result is off by" in line for line in lines)


@pytest.mark.parametrize("text", ["x = 1", "import nothing_of_this_name", "class ("])
def test_what_is_not_open_clip_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "loss.py"
    path.write_text(text)
    with pytest.raises(UsageError, match="loss.py"):
        rivals.open_clip_loss(path)
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("other/loss.py", text)
    with pytest.raises(UsageError, match="no open_clip/loss.py in it"):
        rivals.open_clip_loss(tmp_path / "other.whl")


def test_what_is_absent_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found, lacking = variants.variants(quick())
    assert any(line.startswith("skipped: open_clip ClipLoss: not installed") for line in lacking)
    assert not any(v.name.startswith("open_clip") for v in found)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["loss", "--sizes", "1"], 2, "sizes[0] must be 2 to 131072, got 1"),
        (["loss", "--threads", "0"], 2, "threads must be 1 to 1024, got 0"),
        (["loss", "--repeats", "0"], 2, "repeats must be 1 to 1000000, got 0"),
        (["loss", "--seconds", "nan"], 2, "seconds must be >= 0 and finite, got nan"),
        (["loss", "--device", "tpu"], 2, "device must be auto, cpu, cuda"),
        (["loss", "--open-clip", "none.whl"], 2, "open-clip must be a wheel or a loss.py"),
        (["percentile", "--forward-only"], 2, "not for bench percentile"),
        (["step", "--dtype", "bfloat16"], 2, "not for bench step"),
        (["speed"], 2, "invalid choice"),
        (["loss", "--dtype", "float8"], 2, "invalid choice"),
    ],
)
def test_mistakes_are_named(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(["bench", *words])
    except SystemExit as stop:  # tyro's own way out
        found = int(stop.code or 0)
    error = capsys.readouterr().err
    assert (found, said in " ".join(error.split())) == (code, True), error


def test_work_that_must_be_done_is_counted_as_in_the_paper() -> None:
    assert 256 * loss.PRODUCTS[variants.WEIGHTED, False] == 3072
    assert 256 * loss.PRODUCTS[variants.WEIGHTED, True] == 2048


@pytest.mark.parametrize("option", ["--append", "--out"])
def test_what_cannot_be_written_is_refused_before_it_is_measured(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["bench", "percentile", "--sizes", "8", "--seconds", "0.01", "--repeats", "1"]
    assert main([*words, "--no-memory", option, str(tmp_path / "file" / "below")]) == 4
    said = capsys.readouterr()
    assert "below" in said.err
    assert said.out == ""
