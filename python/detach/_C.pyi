import numpy as np
from numpy.typing import NDArray

cuda_built: bool
cuda_architectures: str
cuda_reason: str

def simd() -> str: ...
def cuda_devices() -> int: ...
def percentile_cpu(
    dtype: str,
    x: int,
    out: int,
    outer: int,
    length: int,
    inner: int,
    q: float,
    absolute: bool,
    threads: int,
) -> None: ...
def percentile_cuda(
    dtype: str,
    x: int,
    out: int,
    outer: int,
    length: int,
    inner: int,
    q: float,
    absolute: bool,
    stream: int,
) -> None: ...

_Features = tuple[int, int, int, int, int, int]
_Widths = tuple[int, int, int]
_Params = tuple[float, float, int, int, int, bool]
_Gradients = tuple[int, int, int, int]
_Block = tuple[_Features, int, int, int]
_PairMask = tuple[int, int, int, int, float]
_Sums = tuple[int, int, int, int, int, int, int]

class Workspace:
    def __init__(self, size: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def contrast_simd() -> str: ...
def contrast_saved_size(rows_a: int, rows_b: int, same: bool) -> int: ...
def contrast_batch_saved_size(rows: int, start: int, stop: int) -> int: ...
def contrast_batch(
    features: _Features,
    is_double: bool,
    rows: int,
    widths: _Widths,
    params: _Params,
    mask: tuple[int, int, int, float],
    start: int,
    stop: int,
    stats: tuple[int, int, int],
    saved: int,
    threads: int,
) -> float: ...
def contrast_batch_gradient(
    features: _Features,
    is_double: bool,
    rows: int,
    widths: _Widths,
    params: _Params,
    mask: tuple[int, int, int, float],
    start: int,
    stop: int,
    log_denominator: int,
    upstream: int,
    saved: int,
    gradients: _Gradients,
    threads: int,
) -> None: ...
def contrast_sums(
    block_a: _Block,
    block_b: _Block | None,
    is_double: bool,
    widths: _Widths,
    params: _Params,
    mask: _PairMask,
    sums_a: _Sums,
    sums_b: _Sums | None,
    saved: int,
    threads: int,
) -> None: ...
def contrast_gradient(
    block_a: _Block,
    block_b: _Block | None,
    is_double: bool,
    widths: _Widths,
    params: _Params,
    mask: _PairMask,
    denominators_a: tuple[int, int, int],
    denominators_b: tuple[int, int, int] | None,
    saved: int,
    gradients_a: _Gradients,
    gradients_b: _Gradients | None,
    threads: int,
) -> None: ...

_CudaMask = tuple[int, int, int, int, int, int, float]

def contrast_cuda_saved_size(dtype: int, rows: int, start: int, stop: int) -> int: ...
def contrast_cuda_workspace(
    dtype: int, rows: int, widths: _Widths, start: int, stop: int, saved: bool
) -> int: ...
def contrast_cuda_layout(
    dtype: int, rows: int, widths: _Widths
) -> tuple[int, int, int, int, int, int, int, int, int, int]: ...
def contrast_cuda_batch(
    features: _Features,
    dtype: int,
    rows: int,
    widths: _Widths,
    params: _Params,
    mask: _CudaMask,
    start: int,
    stop: int,
    stats: tuple[int, int, int],
    saved: int,
    workspace: int,
    stream: int,
) -> None: ...
def contrast_cuda_batch_gradient(
    features: _Features,
    dtype: int,
    rows: int,
    widths: _Widths,
    params: _Params,
    mask: _CudaMask,
    start: int,
    stop: int,
    log_denominator: int,
    upstream: int,
    saved: int,
    gradients: _Gradients,
    workspace: int,
    stream: int,
    prepared: bool = False,
    step: int = 0,
) -> None: ...
def contrast_cuda_pair_saved_size(dtype: int, rows_a: int, rows_b: int, same: bool) -> int: ...
def contrast_cuda_pair_workspace(
    dtype: int, rows_a: int, rows_b: int, same: bool, widths: _Widths, saved: bool
) -> int: ...
def contrast_cuda_sums(
    block_a: _Block,
    block_b: _Block | None,
    dtype: int,
    widths: _Widths,
    params: _Params,
    mask: _PairMask,
    sums_a: _Sums,
    sums_b: _Sums | None,
    saved: int,
    workspace: int,
    stream: int,
) -> None: ...
def contrast_cuda_gradient(
    block_a: _Block,
    block_b: _Block | None,
    dtype: int,
    widths: _Widths,
    params: _Params,
    mask: _PairMask,
    denominators_a: tuple[int, int, int],
    denominators_b: tuple[int, int, int] | None,
    saved: int,
    gradients_a: _Gradients,
    gradients_b: _Gradients | None,
    workspace: int,
    stream: int,
) -> None: ...

_WindowChannel = tuple[float, bool, float, float, float, int, str]

class StreamingWindow:
    def __init__(
        self,
        rate_hz: float,
        samples: int,
        channels: list[_WindowChannel],
        capacity: int,
        zscore: str,
        std_floor: float,
        clip: float,
        q: float,
        absolute: bool,
    ) -> None: ...
    def push_one(self, channel: int, t_s: float, value: float) -> int: ...
    def push(self, channel: int, t_s: NDArray[np.float64], value: NDArray[np.float64]) -> int: ...
    def window(
        self,
        first: int,
        samples: NDArray[np.float32],
        observed: NDArray[np.bool_],
        activation: NDArray[np.float32],
    ) -> None: ...
    def release(self, first: int) -> None: ...
    def reached_s(self, channel: int) -> float: ...
    def counters(self) -> tuple[int, int, int]: ...
    def points(self) -> list[tuple[int, int]]: ...
