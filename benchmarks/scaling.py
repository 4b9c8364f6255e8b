"""What training pays for company: one run by one process and by several, both stages, step by step.

    python benchmarks/scaling.py --processes 1 2 [--data HOME] [--append benchmarks/results.csv]

Recipe `small` on the sample recordings or on HOME, one thread a process, a few epochs of each
stage. CPU seconds are those of all processes together: they tell what company costs even on a busy
machine.
Checkpoints are timed by the way, and the gradients that go round in the largest step counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from detach import ledger, recipes
from detach.bench.options import Options, machine
from detach.config import RunConfig, override
from detach.course import Course
from detach.distributed import World, joined
from detach.train import load_material, train

SAMPLE = Path(__file__).parents[1] / "models/sample"
EPOCHS = {"stage1": 3, "stage2": 3}


def configured() -> RunConfig:
    few: dict[str, Any] = {
        "device": "cpu",
        "threads": 1,
        "stage1": {"epochs": EPOCHS["stage1"], "warmup_epochs": 1, "joint_epochs": 1},
        "stage2": {"epochs": EPOCHS["stage2"]},
    }
    return override(recipes.read(recipes.find(Path("small"))), few)


def member(out: Path, data: Path) -> None:
    """One process of a run; the first one writes what was found to OUT/found.json."""
    torch.set_num_threads(1)
    saves: list[float] = []
    sizes: list[int] = []
    watch(saves, sizes)
    with joined("cpu") as world:
        material = load_material(data, configured(), lambda _: None)
        world.wait()
        before, began = cpu_s(), time.perf_counter()
        train(material, out / "run", configured(), say=lambda _: None, world=world)
        world.wait()
        wall_s = time.perf_counter() - began
        (whole_s,) = world.sum_numbers([cpu_s() - before])
    if world.first:
        rows = [json.loads(x) for x in (out / "run/metrics.jsonl").read_text().splitlines()]
        last = out / "run/checkpoints/last.safetensors"
        windows = len(material.parts["pretrain"])
        found = {
            "windows": windows,
            "seconds": wall_s,
            "cpu_seconds": whole_s,
            **dict(speeds([row for row in rows if "losses" in row], windows)),
            "checkpoint_ms": 1e3 * min(saves),
            "checkpoint_mb": last.stat().st_size / 1e6,
            "gradients_mb_a_step": 1e-6 * max(sizes),
        }
        (out / "found.json").write_text(json.dumps(found))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def watch(saves: list[float], sizes: list[int]) -> None:
    """Notes how long each checkpoint takes, and the bytes of gradients of each step."""
    save, sum_gradients = Course.save, World.sum_gradients

    def timed(self: Course) -> None:
        began = time.perf_counter()
        save(self)
        saves.append(time.perf_counter() - began)

    def counted(self: World, parameters: Any) -> None:
        listed = list(parameters)
        sizes.append(sum(4 * p.grad.numel() for p in listed if p.grad is not None))
        sum_gradients(self, listed)

    Course.save, World.sum_gradients = timed, counted  # type: ignore[method-assign]


def speeds(rows: list[dict[str, Any]], windows: int) -> Iterator[tuple[str, float]]:
    """Windows a second in the fastest epoch of each stage, its end included."""
    for stage in EPOCHS:
        at = [row["elapsed_s"] for row in rows if row["stage"] == stage]
        took = [b - a for a, b in pairwise(at)]
        yield f"{stage}_windows_per_s", windows / min(took)


def measured(processes: int, data: Path) -> dict[str, float]:
    """Of a run by so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        words = [__file__, "--data", str(data), "--member", folder]
        if processes > 1:
            many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            words = [*many, str(processes), *words]
        subprocess.run([sys.executable, *words], check=True)  # noqa: S603 -- this program
        found: dict[str, float] = json.loads((Path(folder) / "found.json").read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", type=Path, default=SAMPLE)
    parser.add_argument("--append", type=Path, help="a CSV file of results")
    parser.add_argument("--member", type=Path, help="(by itself: as one of several)")
    asked = parser.parse_args()
    if asked.member:
        member(asked.member, asked.data)
        return
    lines = []
    for processes in asked.processes:
        found = measured(processes, asked.data)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        print(f"{processes} processes: {shown}", flush=True)
        shared = {
            "what": "training, recipe small",
            "data": asked.data.name,
            "items": found.pop("windows"),
        }
        lines += [
            {**shared, "provider": f"{processes} processes", "metric": k, "value": f"{v:.4g}"}
            for k, v in found.items()
        ]
    if asked.append:
        ledger.append_lines(asked.append, lines, machine(Options(part="step")))


if __name__ == "__main__":
    main()
