"""Elementwise and reduction definitions as functions of CPU arrays: for short ways, whose gradients are written by hand."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import FROM_NUMPY
from .opdef import OpDef, loop_spec


@functools.cache
def _backend() -> Any:
    from .. import cpu_backend
    return cpu_backend


def run(op: OpDef, arrays: Sequence[np.ndarray | None], numbers: Sequence[float] = (), axes: tuple[int, ...] | None = None) -> list[np.ndarray]:
    """The results of ``op`` on arrays of at least one dimension (``None``: an operand that is not given), with ``numbers`` for its run-time
    scalars; reduced ones keep the axes with size 1."""
    key = (*[a if a is None else a.dtype.num << 2 | 2 for a in arrays], *[False] * len(numbers))  # as dispatch forms it
    spec = op.specs.get(key)
    if spec is None:
        kinds = [a if a is None else (FROM_NUMPY[a.dtype], 2) for a in arrays]
        spec = op.specs[key] = loop_spec(op, kinds, numbers)
    return _backend().loop(spec, [a for a in arrays if a is not None], numbers, axes, None)
