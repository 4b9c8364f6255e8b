"""What goes into a graph: checks that every engine shares."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.edge.manifest import Shape
from detach.errors import DataError

Tensors = dict[str, NDArray[np.float32]]


def checked(graph: str, inputs: Mapping[str, NDArray[Any]], shapes: Mapping[str, Shape]) -> Tensors:
    """The inputs as engines take them: contiguous float32 of the right names and shapes, finite.

    Args:
        graph: Its name, for errors.
        inputs: By name; real numbers.
        shapes: What they must be; the first axis is N, the same for all and at least 1.

    Raises:
        DataError: They are not; says which and what was found.
    """
    if set(inputs) != set(shapes):
        raise DataError(f"{graph}: inputs must be {sorted(shapes)}, found {sorted(inputs)}")
    ready = {name: _ready(f"{graph}: {name}", inputs[name], shapes[name]) for name in shapes}
    counts = {name: len(value) for name, value in ready.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"{graph}: inputs must hold equally many windows, found {counts}")
    return ready


def _ready(where: str, value: NDArray[Any], shape: Shape) -> NDArray[np.float32]:
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise DataError(f"{where} must hold real numbers, found {found.dtype}")
    if found.shape[1:] != shape[1:] or not found.shape or not len(found):
        must = ", ".join("N" if n is None else str(n) for n in shape)
        raise DataError(f"{where} must be [{must}] with N >= 1, found {list(found.shape)}")
    with np.errstate(over="ignore"):
        ready = np.ascontiguousarray(found, dtype=np.float32)
    if not np.isfinite(ready).all():
        raise DataError(f"{where} must be finite, found NaN or infinity")
    return ready
