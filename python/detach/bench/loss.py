"""`detach bench loss`: the weighted contrastive loss, forward and backward."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from detach import ops
from detach.bench import ceiling, memory
from detach.bench.options import Options, machine
from detach.bench.table import Benchmark, Block, Row, ratios, skipped
from detach.bench.timing import Body, Clock, captured, clock_of, in_turns, interleave, threads
from detach.bench.variants import (
    OURS,
    UNWEIGHTED,
    WEIGHTED,
    Variant,
    agreeing,
    body,
    bound,
    variants,
)

PRODUCTS = {
    (WEIGHTED, False): 12,
    (WEIGHTED, True): 8,
    (UNWEIGHTED, False): 8,
    (UNWEIGHTED, True): 4,
}
"""FLOP a pair and unit of d that must be done, by kind and whether forward alone: W is symmetric,
and only the temporal halves get gradients. Forward and backward of d = 256 take 3072 a pair."""
USUAL, WHOLE, WHOLE_MEMORY = (256, 1024), (256, 1024, 4096), (16384,)
MOST_CHECKED = 1024
"""Batch size up to which results are compared before anything is timed."""
CACHED_BYTES = 60_000_000
"""Inputs smaller than this are rotated on a GPU, whose cache would hold them."""
RIVALS = (
    ("best eager", "eager, l"),
    ("eager tuned", "eager, tuned"),
    ("best torch.compile", "torch.compile, l"),
    ("torch.compile tuned", "torch.compile, tuned"),
    ("open_clip, which has no weights", "open_clip"),
)


def run(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Times all variants at every size."""
    clock = clock_of(options.on, options.threads)
    found, lacking = variants(options)
    sizes = options.chosen(USUAL, WHOLE)
    with threads(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.compile about itself
        found, unlike = agreeing(found, options, min(*sizes, MOST_CHECKED), say)
        blocks: list[Block] = []
        for n in sizes:
            if blocks:
                torch.compiler.reset()  # after eight sizes it would give up without a word
            blocks.append(_block(found, n, options, clock, say))
    if options.full and options.memory and not options.sizes:
        blocks += [_only_memory(found, n, options, say) for n in WHOLE_MEMORY]
    what = "forward" if options.forward_only else "forward + backward"
    return Benchmark(
        "loss",
        f"{what}, d = {options.width} + {options.width}, {options.dtype}, {clock.name}",
        machine(options),
        tuple(blocks),
        _notes(options),
        (*lacking, *unlike),
    )


def _block(
    found: list[Variant], n: int, options: Options, clock: Clock, say: Callable[[str], None]
) -> Block:
    device = options.on
    peak = partial(ceiling.arithmetic, device, options.torch_dtype, clock, options.threads)
    highest = peak()
    bodies = _bodies(found, n, options, say)
    say(f"N = {n}: {len(bodies)} variants in turns")
    timed = interleave(bodies, clock, options.turn_s, options.repeats)
    highest = highest.or_higher(peak())
    rows = []
    for variant in found:
        for name in (variant.name, f"{variant.name}, graph"):
            if name in timed:
                pairs = PRODUCTS[variant.group, options.forward_only] * options.width * n**2
                share = pairs / timed[name].seconds / highest.rate
                rows.append(Row(name, variant.group, timed[name].seconds, timed[name].calls, share))
    grown = _extra(found, n, options, say) if options.memory else {}
    rows = [replace(row, extra_bytes=grown.get(row.name)) for row in rows]
    notes = (f"ceiling: {highest.text}", ratios(rows, rows[0], RIVALS))
    return Block(f"N = {n}", _data(options), n, tuple(rows), notes)


def _bodies(
    found: list[Variant], n: int, options: Options, say: Callable[[str], None]
) -> dict[str, Body]:
    bodies: dict[str, Body] = {}
    small = options.on.type == "cuda" and 24 * n * options.width < CACHED_BYTES
    for variant in found:
        calls = [bound(variant, n, options, seed) for seed in range(4 if small else 1)]
        start = time.perf_counter()
        calls[0]()
        if variant.compiled:
            say(f"N = {n}: {variant.name} compiled in {time.perf_counter() - start:.1f} s")
        bodies[variant.name] = in_turns(calls)
        if options.on.type == "cuda" and not variant.compiled:
            try:
                bodies[f"{variant.name}, graph"] = in_turns([captured(c) for c in calls])
            except RuntimeError as error:
                say(skipped(f"{variant.name}, graph", str(error).partition("\n")[0]))
    return bodies


def _extra(
    found: list[Variant], n: int, options: Options, say: Callable[[str], None]
) -> dict[str, int | None]:
    """Peak memory of each variant, in bytes."""
    if options.on.type == "cuda":  # with inputs that have no gradients yet
        return {v.name: memory.growth_on_gpu(bound(v, n, options)) for v in found}
    if not memory.fits(n):
        say(f"N = {n}: memory is not measured, since there is too little of it")
        return {}
    say(f"N = {n}: memory of each variant, in a process of its own")
    return {
        v.name: memory.growth(
            partial(body, v.name, options), n, threads=options.threads, compiled=v.compiled
        )
        for v in found
    }


def _only_memory(
    found: list[Variant], n: int, options: Options, say: Callable[[str], None]
) -> Block:
    grown = {} if options.on.type == "cuda" else _extra(found, n, options, say)
    rows = tuple(Row(v.name, v.group, None, 0, None, grown.get(v.name)) for v in found)
    return Block(f"N = {n}, memory alone", _data(options), n, rows)


def _data(options: Options) -> str:
    return f"unit Gaussian rows, d = {options.width} + {options.width}, {options.dtype}"


def _notes(options: Options) -> tuple[str, ...]:
    ours, why = ops.backend(options.on)
    said = [
        f"{OURS} runs on: {ours} ({why}).",
        "Gradients go to both temporal halves. Nobody normalises the embeddings, whose halves have "
        "length 1; ours still normalises what the weights are made of.",
        "Of ceiling: multiply-adds that cannot be avoided (12 d a pair weighted, 8 d without "
        "weights; 8 d and 4 d forward), over the time, over the measured peak.",
    ]
    if options.on.type == "cuda":
        precise = torch.get_float32_matmul_precision()
        said.append(f"float32 matrix products of torch: {precise}; graph rows replay one capture.")
    elif options.threads > 1 and os.getloadavg()[0] > 0.3:
        load = os.getloadavg()[0]
        said.append(f"Load average {load:.1f}: wall times of a busy machine are not to be quoted.")
    return tuple(said)
