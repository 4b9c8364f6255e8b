"""`detach bench`: what the operators cost beside what one could call instead.

All variants of a table are timed in turns in one process, on the same inputs, and only after their
results were compared with the equations in float64.
"""

import importlib
from collections.abc import Callable

from detach.bench import loss, percentile, step
from detach.bench.options import Options, check_options
from detach.bench.table import Benchmark
from detach.errors import MachineError
from detach.export import missing_packages

__all__ = ["Benchmark", "Options", "bench"]

PARTS = {"loss": loss.run, "percentile": percentile.run, "step": step.run}
EXPORTED = {"graph": "detach.bench.graph", "clip": "detach.bench.clip"}
"""Parts that need the packages of an export, which are an extra."""


def bench(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Measures one part; ``say`` is told how far it is.

    Raises:
        UsageError: An option is out of range.
        MachineError: No such device, or a package that the part needs is not installed.
    """
    check_options(options)
    if options.part not in EXPORTED:
        return PARTS[options.part](options, say)
    if lacking := missing_packages():
        raise MachineError(lacking)
    found: Benchmark = importlib.import_module(EXPORTED[options.part]).run(options, say)
    return found
