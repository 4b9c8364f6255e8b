"""`detach bench`: what the operators cost beside what one could call instead.

All variants of a table are timed in turns in one process, on the same inputs, and only after their
results were compared with the equations in float64.
"""

from collections.abc import Callable

from detach.bench import loss, percentile, step
from detach.bench.options import Options, check_options
from detach.bench.table import Benchmark
from detach.errors import MachineError
from detach.export import missing_packages

__all__ = ["Benchmark", "Options", "bench"]

PARTS: dict[str, Callable[[Options, Callable[[str], None]], Benchmark]] = {
    "loss": loss.run,
    "percentile": percentile.run,
    "step": step.run,
}


def bench(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Measures one part; ``say`` is told how far it is.

    Raises:
        UsageError: An option is out of range.
        MachineError: No such device, or a package that the part needs is not installed.
    """
    check_options(options)
    if options.part == "graph":
        return _graph(options, say)
    return PARTS[options.part](options, say)


def _graph(options: Options, say: Callable[[str], None]) -> Benchmark:
    if lacking := missing_packages():
        raise MachineError(lacking)
    from detach.bench import graph  # noqa: PLC0415 -- onnx is an extra

    return graph.run(options, say)
