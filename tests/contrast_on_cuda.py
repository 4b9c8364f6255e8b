"""The contrast kernels for CUDA as functions on tensors, on a GPU or on this CPU, for tests.

On a GPU they are called through the compiled module. Where there is none, g++ compiles the kernels
themselves with ``cuda_on_cpu``, which runs a block's threads one after the other.
"""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
DTYPES = {
    "float16": (0, torch.float16),
    "bfloat16": (1, torch.bfloat16),
    "tf32": (2, torch.float32),
    "float32": (3, torch.float32),
}
GUARD = 512  # bytes behind every buffer that must stay as they were
PARTS = 6
HALVES = 4


@dataclass(frozen=True)
class Case:
    """One problem: what the kernels are told besides features."""

    precision: str = "float16"
    temperature: float = 0.1
    lambda_hard: float = 3.0
    gate: str = "spatial"
    power: int = 1
    temporal: str = "intra"
    normalize: bool = True
    dense: Tensor | None = None  # [N, N]; True leaves video i and sensor j out
    group: Tensor | None = None
    position: Tensor | None = None
    reach: float = 0.0
    saved: bool = True
    start: int = 0
    stop: int | None = None
    wanted: tuple[bool, bool, bool, bool] = (False, True, False, True)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision][1]

    @property
    def number(self) -> int:
        return DTYPES[self.precision][0]

    def params(self) -> tuple[float, float, int, int, int, bool]:
        gate = ("none", "spatial").index(self.gate)
        temporal = ("none", "intra", "cross").index(self.temporal)
        return (self.temperature, self.lambda_hard, gate, self.power, temporal, self.normalize)

    def mask(self, back: Tensor | None = None) -> tuple[Any, ...]:
        dense = (0, 0, 0, 0)
        if self.dense is not None:
            other = self.dense if back is None else back
            dense = (self.dense.data_ptr(), self.dense.stride(0), other.data_ptr(), other.stride(0))
        return (*dense, address(self.group), address(self.position), self.reach)

    def but(self, **changes: Any) -> "Case":
        return replace(self, **changes)


@dataclass
class Result:
    loss: Tensor  # [2, stop - start]
    log_denominator: Tensor
    mean_weight: Tensor
    gradients: list[Tensor | None] = field(default_factory=list)


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class Buffer:
    """Bytes that start as NaN, with a guard behind them."""

    def __init__(self, size: int, device: str) -> None:
        self.bytes = torch.full((size + GUARD + 256,), 0xFF, dtype=torch.uint8, device=device)
        self.offset = -self.bytes.data_ptr() % 256
        self.size = size

    @property
    def address(self) -> int:
        return self.bytes.data_ptr() + self.offset

    def view(self, dtype: torch.dtype, shape: Sequence[int], start: int = 0) -> Tensor:
        size = torch.Size(shape).numel() * dtype.itemsize
        return self.bytes[self.offset + start :][:size].view(dtype).view(*shape)

    def check(self) -> None:
        behind = self.bytes[self.offset + self.size :][:GUARD]
        assert bool((behind == 0xFF).all()), "something wrote past the end of a buffer"


class Emulated:
    """The kernels on this CPU, with the signatures of ``detach._C``."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        for name in ("saved_size", "workspace", "pair_saved_size", "pair_workspace"):
            getattr(self.library, name).restype = ctypes.c_int64

    def set_order(self, *, late: bool, backwards: bool) -> None:
        self.library.set_order(int(late), int(backwards))

    def set_sizes(self, small_rows: int, stripe_bytes: int, product_tiles: int) -> None:
        self.library.set_sizes(
            ctypes.c_int64(small_rows), ctypes.c_int64(stripe_bytes), product_tiles
        )

    def contrast_cuda_saved_size(self, dtype: int, rows: int, start: int, stop: int) -> int:
        return int(self.library.saved_size(dtype, *map(ctypes.c_int64, (rows, start, stop))))

    def contrast_cuda_workspace(
        self, dtype: int, rows: int, widths: Sequence[int], start: int, stop: int, saved: bool
    ) -> int:
        long = ctypes.c_int64
        return int(
            self.library.workspace(
                dtype, long(rows), longs(widths), long(start), long(stop), int(saved)
            )
        )

    def contrast_cuda_pair_saved_size(self, dtype: int, a: int, b: int, same: bool) -> int:
        long = ctypes.c_int64
        return int(self.library.pair_saved_size(dtype, long(a), long(b), int(same)))

    def contrast_cuda_pair_workspace(
        self, dtype: int, a: int, b: int, same: bool, widths: Sequence[int], saved: bool
    ) -> int:
        long = ctypes.c_int64
        return int(
            self.library.pair_workspace(
                dtype, long(a), long(b), int(same), longs(widths), int(saved)
            )
        )

    def contrast_cuda_layout(self, dtype: int, rows: int, widths: Sequence[int]) -> tuple[int, ...]:
        out = (ctypes.c_int64 * 10)()
        self.library.layout(dtype, ctypes.c_int64(rows), longs(widths), out)
        return tuple(out)

    def contrast_cuda_batch(
        self, features: Any, dtype: int, rows: int, widths: Any, params: Any, mask: Any,
        start: int, stop: int, stats: Any, saved: int, workspace: int, stream: int,
    ) -> None:  # fmt: skip
        assert stream == 0
        long = ctypes.c_int64
        self._call(
            "batch", block_numbers((features, rows, mask[4], mask[5])), dtype, longs(widths),
            doubles(params), longs(mask[:4]), ctypes.c_double(mask[6]), long(start), long(stop),
            longs(stats), long(saved), long(workspace),
        )  # fmt: skip

    def contrast_cuda_batch_gradient(
        self, features: Any, dtype: int, rows: int, widths: Any, params: Any, mask: Any,
        start: int, stop: int, log_denominator: int, upstream: int, saved: int, gradients: Any,
        workspace: int, stream: int, prepared: bool = False, step: int = 0,
    ) -> None:  # fmt: skip
        assert stream == 0
        long = ctypes.c_int64
        self._call(
            "batch_gradient", block_numbers((features, rows, mask[4], mask[5])), dtype,
            longs(widths), doubles(params), longs(mask[:4]), ctypes.c_double(mask[6]), long(start),
            long(stop), long(log_denominator), long(upstream), long(saved), longs(gradients),
            long(workspace), int(prepared), step,
        )  # fmt: skip

    def contrast_cuda_sums(
        self, a: Any, b: Any, dtype: int, widths: Any, params: Any, mask: Any, sums_a: Any,
        sums_b: Any, saved: int, workspace: int, stream: int,
    ) -> None:  # fmt: skip
        assert stream == 0
        self._call(
            "sums", block_numbers(a), block_numbers(b), dtype, longs(widths), doubles(params),
            longs(mask[:4]), ctypes.c_double(mask[4]), longs(sums_a), longs(sums_b),
            ctypes.c_int64(saved), ctypes.c_int64(workspace),
        )  # fmt: skip

    def contrast_cuda_gradient(
        self, a: Any, b: Any, dtype: int, widths: Any, params: Any, mask: Any, of_a: Any,
        of_b: Any, saved: int, to_a: Any, to_b: Any, workspace: int, stream: int,
    ) -> None:  # fmt: skip
        assert stream == 0
        self._call(
            "gradient", block_numbers(a), block_numbers(b), dtype, longs(widths), doubles(params),
            longs(mask[:4]), ctypes.c_double(mask[4]), longs(of_a), longs(of_b),
            ctypes.c_int64(saved), longs(to_a), longs(to_b), ctypes.c_int64(workspace),
        )  # fmt: skip

    def _call(self, name: str, *arguments: Any) -> None:
        message = ctypes.create_string_buffer(512)
        if getattr(self.library, name)(*arguments, message) != 0:
            raise ValueError(message.value.decode())


def longs(values: Sequence[int] | None) -> Any:
    return None if values is None else (ctypes.c_int64 * len(values))(*values)


def doubles(values: Sequence[float]) -> Any:
    return (ctypes.c_double * len(values))(*map(float, values))


def block_numbers(block: tuple[Sequence[int], int, int, int] | None) -> Any:
    """A block as ``detach._C`` takes it, in the order of the C library."""
    if block is None:
        return None
    features, rows, group, position = block
    return longs([*features, group, position, rows])


@cache
def build_emulated(folder: Path) -> Path | str:
    """The library, or why there is none."""
    compiler = shutil.which("g++")
    nvcc = shutil.which("nvcc")
    roots = [Path("/usr/local/cuda")]
    roots += sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    roots += [Path(nvcc).resolve().parents[1]] if nvcc else []
    headers = next((r / "include" for r in roots if (r / "include/cuda_fp16.h").is_file()), None)
    if compiler is None or headers is None:
        return "needs g++ and the CUDA headers"
    source, core = HERE / "cuda_on_cpu", HERE.parent / "csrc"
    includes = [f"-I{p}" for p in (source, core, core / "include", headers)]
    library = folder / "contrast_on_cpu.so"
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-DDETACH_CUDA_ON_CPU"]
    command = [compiler, *options, *includes, str(source / "contrast_on_cpu.cpp"), "-o"]
    done = subprocess.run(  # noqa: S603 -- our own source
        [*command, str(library)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return library


def run_batch(
    kernels: Any, features: Sequence[Tensor], upstream: Tensor, case: Case, **how: bool
) -> Result:
    """Forward and backward of the rows [start, stop) of a batch.

    ``prepared`` keeps the workspace between the two; ``by_hand`` does the products in torch.
    """
    device = str(features[0].device)
    rows = len(features[0])
    start, stop = case.start, rows if case.stop is None else case.stop
    widths = tuple(features[i].shape[1] for i in (0, 1, 4))
    where = (tuple(map(address, features)), case.number, rows, widths, case.params(), case.mask())
    space = Buffer(
        kernels.contrast_cuda_workspace(case.number, rows, widths, start, stop, case.saved), device
    )
    size = kernels.contrast_cuda_saved_size(case.number, rows, start, stop)
    saved = Buffer(size if case.saved else 0, device)
    saved_at = saved.address if case.saved else 0
    stats = torch.full((3, 2, stop - start), torch.nan, dtype=torch.float64, device=device)
    stream = 0 if device == "cpu" else torch.cuda.current_stream().cuda_stream
    kernels.contrast_cuda_batch(
        *where, start, stop, tuple(map(address, stats)), saved_at, space.address, stream
    )
    outs = [
        torch.full_like(f, torch.nan) if w else None
        for f, w in zip(features[:HALVES], case.wanted, strict=True)
    ]
    prepared = how.get("prepared", False)
    if not prepared:
        space.bytes[space.offset :][: space.size] = 0xFF
    arguments = (
        *where, start, stop, stats[1].data_ptr(), upstream.data_ptr(), saved_at,
        tuple(map(address, outs)), space.address, stream,
    )  # fmt: skip
    if how.get("by_hand", False):
        kernels.contrast_cuda_batch_gradient(*arguments, prepared, 1)
        multiply_by_hand(kernels, case, rows, widths, space, saved)
        kernels.contrast_cuda_batch_gradient(*arguments, prepared, 2)
    else:
        kernels.contrast_cuda_batch_gradient(*arguments, prepared)
    space.check()
    saved.check()
    return Result(stats[0], stats[1], stats[2], outs)


def multiply_by_hand(
    kernels: Any, case: Case, rows: int, widths: Sequence[int], space: Buffer, saved: Buffer
) -> None:
    """The products of ContrastCudaLayout, both halves."""
    padded, numbers, spatial, temporal, video, sensor, packed_at, out_video, out_sensor, width = (
        kernels.contrast_cuda_layout(case.number, rows, widths)
    )
    assert width == spatial + temporal
    pairs = saved.view(case.dtype, (padded, padded)).float()
    packed = space.view(case.dtype, (padded, numbers), packed_at).float()
    products = (pairs @ packed[:, sensor:][:, :width], pairs.T @ packed[:, video:][:, :width])
    for start, product in zip((out_video, out_sensor), products, strict=True):
        space.view(torch.float32, (padded, width), start).copy_(product)
