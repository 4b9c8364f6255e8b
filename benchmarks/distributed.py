"""Gathered negatives against a half ring, and what a step pays for company.

    torchrun --nproc-per-node 2 benchmarks/distributed.py [WINDOWS ...] [--append FILE]

Times are the least of several, of loss and gradient: width 256 for motion, 8 places, intra-modal
weights, float32, one thread a process. Bytes are what one process sends, forward and backward.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from detach import ledger, ops
from detach.bench.options import Options, machine
from detach.distributed import World, contrastive_loss, joined

PLACES, WIDTH = 8, 256
REPEATS = 8
TOTAL = 2 * PLACES + 4 * WIDTH
LEARNED = 2 * WIDTH


def features(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = (PLACES, WIDTH, PLACES, WIDTH, WIDTH, WIDTH)
    return [torch.randn(count, w, generator=generator) for w in widths]


def least_ms(world: World, work: Callable[[], None]) -> float:
    times = []
    for _ in range(REPEATS):
        world.wait()
        began = time.perf_counter()
        work()
        world.wait()
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def leaves(parts: list[Tensor]) -> list[Tensor]:
    return [x.clone().requires_grad_(i in {1, 3}) for i, x in enumerate(parts)]


def megabytes_sent(size: int, count: int, exchange: str) -> float:
    """By one process: rows of others pass through it in neither, except as counted here."""
    rows = count / size
    if exchange == "gather":  # all-gather of everything, reduce-scatter of the learned half
        numbers = (size - 1) * rows * (TOTAL + LEARNED)
    else:  # a block a round, twice, and what was found about it: sums, then gradients
        numbers = size // 2 * rows * (2 * TOTAL + LEARNED + 10)
    return 4e-6 * numbers


NAMES = ("one_process_ms", "gather_ms", "ring_ms", "gather_mb", "ring_mb")


def measure(counts: list[int]) -> list[dict[str, object]]:
    """Lines for the ledger, in the first process."""
    lines: list[dict[str, object]] = []
    torch.set_num_threads(1)
    with joined("cpu") as world:
        if world.first:
            print("windows  one process ms  gather ms  ring ms  gather MB  ring MB")
        for count in counts:
            whole = leaves(features(count))
            own = leaves([x[world.share(count).rows] for x in features(count)])

            def alone(whole: list[Tensor] = whole) -> None:
                if world.first:
                    ops.weighted_contrastive_loss(*whole).backward()

            def together(exchange: str, own: list[Tensor] = own, count: int = count) -> float:
                def work() -> None:
                    loss = contrastive_loss(world, own, count, exchange=exchange)  # type: ignore[arg-type]
                    loss.backward()

                return least_ms(world, work)

            row = [least_ms(world, alone), together("gather"), together("ring")]
            row += [megabytes_sent(world.size, count, x) for x in ("gather", "ring")]
            if world.first:
                print(f"{count:7d}  " + "  ".join(f"{x:10.2f}" for x in row), flush=True)
                shared = {"what": "loss and gradient, d = 256", "data": "Gaussian", "items": count}
                shared["provider"] = f"{world.size} processes"
                lines += [
                    {**shared, "metric": name, "value": f"{x:.4g}"}
                    for name, x in zip(NAMES, row, strict=True)
                ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("windows", type=int, nargs="*", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--append", type=Path, help="a CSV file of results")
    asked = parser.parse_args()
    lines = measure(asked.windows)
    if asked.append and lines:
        ledger.append_lines(asked.append, lines, machine(Options(part="step")))


if __name__ == "__main__":
    main()
