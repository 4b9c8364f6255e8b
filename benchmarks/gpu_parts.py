"""What gpu_operators.py runs, a function a part; each starts in a fresh process."""

import contextlib
import statistics
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_calls import PRECISIONS, Raw
from gpu_sanitizers import sanitizers as sanitizers
from torch import Tensor

import detach
from detach import equations, ops

# The package `bench` imports all that a benchmark of training needs; these two files need torch.
_package = types.ModuleType("detach.bench")
_package.__path__ = [str(Path(detach.__file__).parent / "bench")]
sys.modules["detach.bench"] = _package

from detach.bench import eager, rivals, timing  # noqa: E402

WIDTH = 256
GPU = torch.device("cuda")
SIZES = (256, 1024, 4096, 16384)
FORWARD, BACKWARD = 8 * WIDTH, 4 * WIDTH  # FLOP a pair that cannot be avoided
CACHED_BYTES = 60_000_000
# Errors against float64, relative in norm, that the notes on precision allow (random rows).
LOSS_LIMIT = {"float16": 2e-4, "bfloat16": 1e-3, "tf32": 2e-4, "float32": 1e-6}
GRADIENT_LIMIT = {"float16": 1e-3, "bfloat16": 5e-3, "tf32": 1e-3, "float32": 2e-6}


def machine(rows: Any) -> None:
    """What this GPU can do at most."""
    rows.add(torch.cuda.get_device_name(), torch.__version__, note=f"CUDA {torch.version.cuda}")
    source = torch.ones(1 << 28, device=GPU)
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / seconds(lambda: target.copy_(source), 20)
    rows.add("copy, read and written", round(rate / 1e9), "GB/s")
    cached = torch.ones(1 << 23, device=GPU)
    rows.add("sum of 33 MB, cached", round(cached.nbytes / seconds(cached.sum) / 1e9), "GB/s")
    for name, dtype, precise in (
        ("bfloat16", torch.bfloat16, "highest"), ("float16", torch.float16, "highest"),
        ("tf32", torch.float32, "high"), ("float32", torch.float32, "highest"),
    ):  # fmt: skip
        with matmul_precision(precise):
            a = torch.randn(8192, 8192, device=GPU).to(dtype)
            rate = 2 * 8192**3 / seconds(lambda a=a: a @ a, 10)
        rows.add("matmul of 8192", round(rate / 1e12, 1), "TFLOP/s", precision=name)
    small = torch.zeros(1, device=GPU)
    rows.add("smallest launch", micro(seconds(small.zero_, 200)), "us")
    replay = timing.captured(lambda: [small.zero_() for _ in range(20)])
    rows.add("launch in a graph of 20", micro(seconds(replay, 100) / 20), "us")


def checks(rows: Any) -> None:
    """Losses and gradients against the equations in float64 on this GPU."""
    forms: dict[str, dict[str, Any]] = {
        "default": {},
        "recompute": {"memory": "recompute"},
        "across": {"temporal": "cross"},
        "as printed": {"gate": "none", "power": 2},
        "plain": {"temporal": "none", "lambda_hard": 1.0},
        "low temperature": {"temperature": 0.01},
        "lengths": {"normalize": False, "temperature": 0.05, "scale": 3.0},
    }
    for n in (1, 63, 257, 1024, 2500, 4099):
        for precision in PRECISIONS:
            for name, form in forms.items():
                rows.attempt(
                    name, lambda n=n, p=precision, f=form, name=name: _check(rows, name, n, p, f),
                    n=n, precision=precision,
                )  # fmt: skip
    rows.attempt("rows", lambda: _check_rows(rows))


def _check(rows: Any, name: str, n: int, precision: str, form: dict[str, Any]) -> None:
    scale = form.get("scale", 1.0)
    options = {k: v for k, v in form.items() if k not in ("scale", "memory")}
    with matmul_precision("high" if precision == "tf32" else "highest"):
        parts = [x.mul(scale) for x in made(n, precision)]
        x = [p.clone().requires_grad_() for p in parts]
        loss = ops.weighted_contrastive_loss(*x, **options, memory=form.get("memory", "saved"))
        ours = torch.autograd.grad(loss, x[:4])
        y = [p.double().requires_grad_() for p in parts]
        exact = equations.weighted_contrastive_loss(*y, **options)
        theirs = torch.autograd.grad(exact, y[:4])
    off = float((loss.double() - exact).abs().detach() / exact.detach().abs().clamp(min=1e-3))
    worst = max(relative(a, b) for a, b in zip(ours, theirs, strict=True))
    wide = 5 if name in ("low temperature", "lengths") else 1
    good = off <= wide * LOSS_LIMIT[precision] and worst <= wide * GRADIENT_LIMIT[precision]
    rows.add(
        name, f"{worst:.1e}" if good else "wrong", "relative error of gradients", n=n,
        precision=precision, note=f"loss {off:.1e}, gradient {worst:.1e}",
    )  # fmt: skip


def _check_rows(rows: Any) -> None:
    """Halves of a batch, each against all of it, add up to the batch."""
    x = [p.requires_grad_() for p in made(3001, "float32")]
    whole = ops.weighted_contrastive_loss(*x, reduction="sum")
    halves = [
        ops.weighted_contrastive_loss(*x, reduction="sum", rows=r)
        for r in ((0, 1111), (1111, 3001))
    ]
    pairs = zip(
        torch.autograd.grad(whole, x[:4]), torch.autograd.grad(sum(halves), x[:4]), strict=True
    )
    worst = max(relative(b, a.double()) for a, b in pairs)
    rows.add("rows add up", f"{worst:.1e}" if worst < 1e-5 else "wrong", n=3001)


def safety(rows: Any) -> None:
    """The same bits each time, no waiting, graphs can be captured, memory is ours."""
    for n in (300, 2500):
        for precision in PRECISIONS:
            raw = Raw(made(n, precision), precision)
            first = [t.clone() for t in raw.run()]
            same = all(
                all(torch.equal(a, b) for a, b in zip(first, raw.run(), strict=True))
                for _ in range(100)
            )
            rows.add("100 repeats", "same bits" if same else "wrong", n=n, precision=precision)
    f = eager.features(1024, WIDTH, GPU, torch.float16)
    call = differentiated(ours, f)
    call()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    rows.attempt("nothing waits", lambda: (call(), rows.add("nothing waits", "holds"))[0], n=1024)
    torch.cuda.set_sync_debug_mode("default")
    rows.add("graph replay", "same bits" if replays(call, f) else "wrong", n=1024)
    for n in (300, 2500):
        raw = Raw(made(n, "bfloat16"), "bfloat16", guard=True)
        raw.run()
        rows.add("writes stay inside", "holds" if raw.guards_hold() else "wrong", n=n)


def replays(call: Callable[[], Tensor], f: eager.Features) -> bool:
    """Whether a captured call writes, when it is replayed, the bits that a usual one does."""

    def results() -> list[Tensor]:
        return [call().detach(), *(leaf.grad for leaf in f.learning)]

    expected, found = [x.clone() for x in results()], []
    replay = timing.captured(lambda: found.append(results()))
    for x in found[-1]:
        x.fill_(torch.nan)
    replay()
    torch.cuda.synchronize()
    return all(torch.equal(x, y) for x, y in zip(found[-1], expected, strict=True))


def steps(rows: Any) -> None:
    """Each direction alone, kernels only: what share of the possible they reach."""
    rates = {}
    for precision in PRECISIONS:
        dtype = PRECISIONS[precision][1]
        with matmul_precision("high" if precision == "tf32" else "highest"):
            a = torch.randn(8192, 8192, device=GPU).to(dtype)
            rates[precision] = 2 * 8192**3 / seconds(lambda a=a: a @ a, 5)
    for n in (256, 1024, 2048, 4096, 16384):
        for precision in PRECISIONS:
            for save in (True, False):
                raw = Raw(made(n, precision), precision, save=save)
                bodies: dict[str, tuple[Callable[[], Any], int]] = {
                    "forward": (raw.forward, FORWARD),
                    "backward": (raw.backward, BACKWARD + (0 if save else FORWARD)),
                    "both": (raw.run, BACKWARD + FORWARD + (0 if save else FORWARD)),
                }
                if save:
                    bodies["backward, torch.mm"] = (raw.backward_by_hand, BACKWARD)
                for name, (body, flop) in bodies.items():
                    took = seconds(timing.captured(body), 50 if n <= 4096 else 15)
                    share = flop * n * n / took / rates[precision]
                    kind = "saved" if save else "recompute"
                    rows.add(
                        f"{name}, {kind}, graph", micro(took), "us", n=n, precision=precision,
                        note=f"{100 * share:.1f} % of matmul",
                    )  # fmt: skip


def losses(rows: Any) -> None:
    """Forward and backward through torch: ours, eager, Inf-CL."""
    forms = {"eager, literal": eager.literal, "eager, lse": eager.log_sum_exp, "tuned": eager.tuned}
    with contextlib.suppress(Exception):
        forms["Inf-CL (no weights)"] = rivals.inf_cl(GPU)
    for n in (*SIZES, 65536):
        for precision, (_, dtype) in PRECISIONS.items():
            if n > 16384 and precision not in ("bfloat16", "float16"):
                continue
            repeats = 50 if n <= 4096 else 10
            with matmul_precision("high" if precision == "tf32" else "highest"):
                count = 4 if 24 * n * WIDTH < CACHED_BYTES else 1
                sets = [eager.features(n, WIDTH, GPU, dtype, seed) for seed in range(count)]
                for name, form in {
                    "detach": ours, "detach, recompute": ours_recompute, "detach, W = 1": plain
                }.items():  # fmt: skip
                    _time(rows, name, form, sets, repeats, n, precision, graph=True)
                sets = [eager.features(n, WIDTH, GPU, torch.float32, s) for s in range(count)]
                for name, form in forms.items() if n <= 16384 else ():
                    cast = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)
                    with cast:
                        _time(rows, name, form, sets, repeats, n, precision, graph=n <= 4096)


def _time(
    rows: Any, name: str, form: eager.Loss, sets: list[eager.Features], repeats: int, n: int,
    precision: str, *, graph: bool,
) -> None:  # fmt: skip
    where = {"n": n, "precision": precision}
    calls = [differentiated(form, f) for f in sets]

    def through_torch() -> None:
        rows.add(name, micro(seconds(timing.in_turns(calls), repeats)), "us", **where)

    def replayed() -> None:
        graphs = [timing.captured(c) for c in calls]
        rows.add(f"{name}, graph", micro(seconds(timing.in_turns(graphs), repeats)), "us", **where)

    rows.attempt(name, through_torch, **where)
    if graph:
        rows.attempt(f"{name}, graph", replayed, **where)
    torch.cuda.empty_cache()


def compiled(rows: Any) -> None:
    """torch.compile of the eager forms, which takes most of its time to compile."""
    for n in (4096, 1024, 256, 16384):
        for name, form in (("literal", eager.literal), ("tuned", eager.tuned)):
            for dtype in (torch.bfloat16, torch.float32):
                precision = str(dtype).rpartition(".")[2].replace("float32", "tf32")
                with matmul_precision("high"), torch.autocast(
                    "cuda", torch.bfloat16, enabled=dtype == torch.bfloat16
                ):  # fmt: skip
                    fast = torch.compile(form, dynamic=False)
                    sets = [eager.features(n, WIDTH, GPU, torch.float32)]
                    name_of = f"torch.compile, {name}"
                    _time(rows, name_of, fast, sets, 20, n, precision, graph=False)
        torch.compiler.reset()


def percentile(rows: Any) -> None:
    """The percentile operator against torch.quantile and topk."""
    for shape in ((256, 60, 34), (4096, 60, 34), (4096, 100, 34)):
        for layout in ("BTC", "BCT"):
            x = torch.randn(shape, device=GPU)
            dim = 1
            if layout == "BCT":
                x, dim = x.transpose(1, 2).contiguous(), 2
            truth = torch.quantile(x.double()[:256], 0.99, dim=dim)
            found = ops.activation_percentile(x[:256], 0.99, dim).double()
            off = float((found - truth).abs().max())
            rows.add(f"percentile {layout}", f"{off:.0e}" if off < 1e-6 else "wrong", "error")
            bodies = {
                "detach": lambda x=x, d=dim: ops.activation_percentile(x, 0.99, d),
                "torch.quantile": lambda x=x, d=dim: torch.quantile(x, 0.99, dim=d),
                "topk": lambda x=x, d=dim: x.topk(2, dim=d).values.sum(dim=d),
            }
            for name, body in bodies.items():
                took = seconds(body, 30)
                rate = f"{x.nbytes / took / 1e9:.0f} GB/s"
                rows.add(f"{name} {layout} {shape}", micro(took), "us", note=rate)
                if name == "detach":
                    took = seconds(timing.captured(body), 50)
                    rows.add(f"{name} {layout} {shape}, graph", micro(took), "us")


def memory(rows: Any) -> None:
    """Peak beyond inputs of one forward and backward."""
    for n in (4096, 16384):
        for name, form in (
            ("detach", ours), ("detach, recompute", ours_recompute),
            ("eager, lse", eager.log_sum_exp), ("tuned", eager.tuned),
        ):  # fmt: skip
            f = eager.features(n, WIDTH, GPU, torch.bfloat16)
            call = differentiated(form, f)
            call()
            for leaf in f.learning:
                leaf.grad = None
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
            rows.add(
                name, round(peak / 1e6, 1), "MB", n=n, precision="bfloat16",
                note=f"{peak / n**2:.2f} bytes a pair, {peak / n / WIDTH:.1f} N d bytes",
            )  # fmt: skip


def kernels(rows: Any) -> None:
    """Where the time goes, by torch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    for n in (256, 4096):
        for save in (True, False):
            raw = Raw(made(n, "float16"), "float16", save=save)
            raw.run()
            torch.cuda.synchronize()
            with torch.profiler.profile(activities=activities) as found:
                for _ in range(5):
                    raw.run()
                torch.cuda.synchronize()
            for event in found.key_averages():
                took = getattr(event, "device_time_total", 0.0) / 5
                rows.add(
                    event.key[:80], round(took, 1), "us", n=n, precision="float16",
                    note=f"{event.count / 5:.0f} launches, {'saved' if save else 'recompute'}",
                )  # fmt: skip


def made(n: int, precision: str) -> list[Tensor]:
    """Six parts with some structure: every third row resembles the first."""
    generator = torch.Generator(device=GPU).manual_seed(n)
    parts = []
    for _ in range(6):
        x = torch.randn(n, WIDTH, generator=generator, device=GPU)
        x[1::3] += x[:1]
        parts.append((x / 16).to(PRECISIONS[precision][1]))
    return parts


def ours(f: eager.Features) -> Tensor:
    """As the eager forms: rows have length 1 already."""
    return ops.weighted_contrastive_loss(*f, normalize=False, memory="saved")


def ours_recompute(f: eager.Features) -> Tensor:
    """The same, with pairs computed again."""
    return ops.weighted_contrastive_loss(*f, normalize=False, memory="recompute")


def plain(f: eager.Features) -> Tensor:
    """InfoNCE."""
    return ops.weighted_contrastive_loss(
        *f[:4], normalize=False, temporal="none", lambda_hard=1.0, memory="saved"
    )


def differentiated(form: eager.Loss, f: eager.Features) -> Callable[[], Tensor]:
    """Forward and backward; gradients are left in the inputs."""

    def call() -> Tensor:
        for leaf in f.learning:
            leaf.grad = None
        loss = form(f)
        loss.backward()
        return loss

    return call


def relative(found: Tensor, exact: Tensor) -> float:
    """Error in norm; absolute where nothing is expected."""
    norm = float(exact.norm())
    off = float((found.double() - exact).norm())
    return off / norm if norm > 1e-9 else off


def micro(took: float) -> float:
    """Microseconds."""
    return round(1e6 * took, 2)


def seconds(body: Callable[[], Any], repeats: int = 50) -> float:
    """Median of CUDA events after ten calls."""
    for _ in range(10):
        body()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, end in events:
        start.record()
        body()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events) / 1e3


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """float32 products of torch for a while, which also decide ours."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
