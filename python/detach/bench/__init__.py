"""`detach bench`: what the operators cost beside what one could call instead.

All variants of a table are timed in turns in one process, on the same inputs, and only after their
results were compared with the equations in float64.
"""

from collections.abc import Callable

from detach.bench import loss, percentile, step
from detach.bench.options import Options, check_options
from detach.bench.table import Benchmark

__all__ = ["Benchmark", "Options", "bench"]

PARTS = {"loss": loss.run, "percentile": percentile.run, "step": step.run}


def bench(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Measures one part; ``say`` is told how far it is.

    Raises:
        UsageError: An option is out of range.
        MachineError: No such device.
    """
    check_options(options)
    return PARTS[options.part](options, say)
