"""What the machine can do at most, measured beside the rest: arithmetic and copying."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from detach.bench.timing import Body, Clock, best

FMA_LOOP = """
#if defined(__AVX512F__)
typedef float wide __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float wide __attribute__((vector_size(32)));
#else
typedef float wide __attribute__((vector_size(16)));
#endif
#define TWELVE(each) each(0) each(1) each(2) each(3) each(4) each(5) \\
                     each(6) each(7) each(8) each(9) each(10) each(11)
int lanes(void) { return sizeof(wide) / sizeof(float); }
float fma_loop(long rounds, float factor, float addend) {
  wide zero = {0}, m = zero + factor, c = zero + addend;
#define START(i) wide a##i = zero + (float)i;
  TWELVE(START)
#define STEP(i) a##i = a##i * m + c;
  for (long r = 0; r < rounds; ++r) { TWELVE(STEP) }
  wide sum = zero;
#define ADD(i) sum += a##i;
  TWELVE(ADD)
  return sum[0];
}
"""
"""Twelve chains hide the latency of a fused multiply-add, which keeps every unit busy."""
ROUNDS = 1 << 20


@dataclass(frozen=True)
class Ceiling:
    """A rate to be measured by, and how it was found."""

    name: str
    rate: float
    """FLOP/s or bytes/s."""

    @property
    def text(self) -> str:
        """In words."""
        unit = "GB/s" if "copy" in self.name else "GFLOP/s"
        return f"{self.rate / 1e9:.1f} {unit} ({self.name})"

    def or_higher(self, other: "Ceiling") -> "Ceiling":
        """The higher of two measurements of the same; clocks drift."""
        return max(self, other, key=lambda c: c.rate)


def arithmetic(device: torch.device, dtype: torch.dtype, clock: Clock, threads: int) -> Ceiling:
    """Peak of multiply-adds: a loop in registers, or torch.mm without a C compiler or on a GPU."""
    if device.type == "cuda":
        return _product(8192, device, dtype, clock)
    loop = _compiled_loop()
    if loop is None:
        return _product(1024, device, torch.float32, clock)
    run, flops = loop
    seconds = _on_threads(lambda: run(ROUNDS), threads, clock)
    return Ceiling("fused multiply-adds in registers", threads * ROUNDS * flops / seconds)


def copying(device: torch.device, clock: Clock, count: int) -> Ceiling:
    """Bytes read and written a second by a copy of ``count`` floats, in a cache if they fit."""
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    seconds = best(lambda: target.copy_(source), clock, 20)
    return Ceiling(f"copy of {4 * count / 1e6:.1f} MB, read and written", 8 * count / seconds)


def _product(n: int, device: torch.device, dtype: torch.dtype, clock: Clock) -> Ceiling:
    a, b = (torch.ones(n, n, device=device, dtype=dtype) for _ in range(2))
    return Ceiling(f"torch.mm of {n}", 2 * n**3 / best(lambda: a @ b, clock, 10))


def _on_threads(body: Body, threads: int, clock: Clock) -> float:
    if threads == 1:
        return best(body, clock, 20)
    with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of the interpreter's lock
        return best(lambda: list(pool.map(lambda _: body(), range(threads))), clock, 20)


@lru_cache
def _compiled_loop() -> tuple[Callable[[int], float], int] | None:
    """The loop and the FLOP of one round of it; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "fma.c", Path(folder) / "fma.so"
        source.write_text(FMA_LOOP, encoding="ascii")
        command = [compiler, "-O3", "-march=native", "-shared", "-fPIC"]
        command += [str(source), "-o", str(library)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603
            module = ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError):
            return None
    module.fma_loop.argtypes = [ctypes.c_long, ctypes.c_float, ctypes.c_float]
    module.fma_loop.restype = ctypes.c_float
    return lambda rounds: module.fma_loop(rounds, 0.5, 0.5), 2 * 12 * module.lanes()
