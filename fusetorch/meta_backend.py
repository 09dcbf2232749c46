"""The meta backend: what an operation's result would look like, without computing it.

Each operation says so already, for tracing needs it too: an elementwise one by broadcasting, a view by its map of strides, an opaque one by
its shape rule. A composite is made of these. So there is nothing here for any one operation, but for a move to another device.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .dtypes import FROM_NUMPY
from .formats import RESULT_LAYOUTS
from .ops.opdef import LoopSpec, OpDef
from .runtime import meta
from .runtime.meta import MetaArray
from .shapes import broadcast_shapes, contiguous_strides, dense_strides_like
from .tensor import Tensor

name = "meta"


def loop(spec: LoopSpec, arrays: Sequence[Any], scalars: Sequence[Any], axes: tuple[int, ...] | None,
         outs: Sequence[Any] | None) -> list[MetaArray]:
    """The results of an elementwise or reduction operation, laid out as on the other devices; ``outs`` are only checked."""
    shape = tuple(broadcast_shapes(*[a.shape for a in arrays]))
    if outs is not None:
        for o in outs:
            if o.shape != shape:
                raise RuntimeError(f"{spec.name}: output with shape {list(o.shape)} doesn't match the broadcast shape {list(shape)}")
        return list(outs)
    rule = "" if spec.op is None else spec.op.layout
    if rule or axes is not None:
        left = () if axes is None else tuple([1 if k in axes else n for k, n in enumerate(shape)])
        return [_by_rule(meta.empty(shape, d), rule, arrays) if f else meta.empty(left, d) for d, f in zip(spec.out_dtypes, spec.full)]
    own = [] if spec.op is not None and spec.op.row_major else [(a.shape, a.strides) for a in arrays if type(a) is MetaArray]
    strides = dense_strides_like(shape, own)
    return [meta.empty(shape, d, strides) for d in spec.out_dtypes]


def view(op: OpDef, a: MetaArray, attrs: tuple) -> MetaArray:
    """Another look at the memory that is not there."""
    shape, strides, offset = op.body(a.shape, a.strides, a.offset, *attrs)
    return MetaArray(a.storage, tuple(shape), tuple(strides), offset, a.dtype if op.retype is None else op.retype(a.dtype))


def opaque(op: OpDef, operands: Sequence[Any], attrs: tuple) -> list[MetaArray]:
    """The results that the operation's shape rule gives."""
    if op.name == "move_to_device" and attrs[0].type != "meta":
        raise NotImplementedError(meta.NO_DATA)
    shown = [_shown(o) for o in operands]
    arrays = [a for o in shown if o is not None for a in (o if isinstance(o, list) else [o])]
    return [_by_rule(meta.empty(tuple(shape), d), op.layout, arrays) for shape, d in op.body(*shown, *attrs)]


def _by_rule(a: MetaArray, rule: str, arrays: Sequence[Any]) -> MetaArray:
    """A row-major result as its operation's rule wants it."""
    strides = RESULT_LAYOUTS[rule](a.shape, [(x.shape, x.strides) for x in arrays]) if rule else None
    return a if strides is None else meta.empty(a.shape, a.dtype, strides)


def _shown(o: Any) -> Any:
    """An operand as a shape rule sees it."""
    if isinstance(o, (list, tuple)):
        return [_shown(t) for t in o]
    a = o._a if isinstance(o, Tensor) else o
    return meta.empty(a.shape, FROM_NUMPY[a.dtype]) if isinstance(a, np.ndarray) else a


def reshape(a: MetaArray, shape: tuple[int, ...]) -> MetaArray:
    """A row-major array with another shape."""
    return MetaArray(a.storage, tuple(shape), contiguous_strides(shape), a.offset, a.dtype)


def copy(dst: Any, src: Any) -> None:
    """Writes nothing; ``NotImplementedError`` where there would be something to write to."""
    if type(dst) is not MetaArray:
        raise NotImplementedError(meta.NO_DATA)
