"""References that several runs carry: whose untrained encoder, whose plain statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detach.results import Answer, Retrieval

Said = TypeVar("Said", Answer, Retrieval)
Seeds = dict[int | None, Said]

MOSTLY = 0.99
"""Of what one network says when it is asked again, so much is the same."""
NEAR = 1e-3


def apart(labelled: Sequence[tuple[str, Said]]) -> list[Said]:
    """What was said, beside the name of its method; references of methods that share none renamed.

    An untrained encoder of another shape, or statistics of samples with noise, are not one
    reference. That of the first method keeps its name; others get that of their method after it.
    """
    own: dict[tuple[str, str], Seeds[Said]] = {}
    for method, one in labelled:
        if one.kind == "reference":
            own.setdefault((one.name, method), {})[one.seed] = one
    known: dict[str, list[tuple[str, Seeds[Said]]]] = {}
    names: dict[tuple[str, str], str] = {}
    for (name, method), mine in own.items():
        homes = known.setdefault(name, [])
        home = next((h for h in homes if _agree(h[1], mine)), None)
        if home is None:
            home = (f"{name}, {method}" if homes else name, {})
            homes.append(home)
        home[1].update(mine)
        names[name, method] = home[0]
    return [replace(one, name=names.get((one.name, method), one.name)) for method, one in labelled]


def _agree(a: Mapping[int | None, Said], b: Mapping[int | None, Said]) -> bool:
    """Whether both have a seed in common, and say the same at all of those."""
    shared = a.keys() & b.keys()
    return bool(shared) and all(_same(_numbers(a[seed]), _numbers(b[seed])) for seed in shared)


def _numbers(said: Answer | Retrieval) -> NDArray[np.generic]:
    return said.probability if isinstance(said, Answer) else said.video_to_sensor


def _same(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    return a.shape == b.shape and float(np.isclose(a, b, atol=NEAR).mean()) > MOSTLY
