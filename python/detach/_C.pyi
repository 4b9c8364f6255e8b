cuda_built: bool
cuda_architectures: str
cuda_reason: str

def simd() -> str: ...
def cuda_devices() -> int: ...
def percentile_cpu(
    x: int,
    out: int,
    is_double: bool,
    outer: int,
    length: int,
    inner: int,
    q: float,
    absolute: bool,
    threads: int,
) -> None: ...
def percentile_cuda(
    x: int,
    out: int,
    is_double: bool,
    outer: int,
    length: int,
    inner: int,
    q: float,
    absolute: bool,
    stream: int,
) -> None: ...
