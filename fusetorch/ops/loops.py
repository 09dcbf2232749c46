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


def run(op: OpDef, arrays: Sequence[np.ndarray | None], params: Sequence[Any] = (),
        axes: tuple[int, ...] | None = None) -> list[np.ndarray]:
    """The results of ``op`` on arrays of at least one dimension (``None``: an operand that is not given), with its other parameters in
    order; reduced ones keep the axes with size 1."""
    # the key is the one that dispatch forms
    key = (*[a if a is None else a.dtype.num << 2 | 2 for a in arrays], *[v is None if s else v for s, v in zip(op.scalar_params, params)])
    spec = op.specs.get(key)
    if spec is None:
        kinds = [a if a is None else (FROM_NUMPY[a.dtype], 2) for a in arrays]
        spec = op.specs[key] = loop_spec(op, kinds, params)
    numbers = [v for s, v in zip(op.scalar_params, params) if s and v is not None]
    return _backend().loop(spec, [a for a in arrays if a is not None], numbers, axes, None)
