"""The backend of ``vmap``: each operation runs once, over all slices.

An elementwise operation or a reduction is the same one with a dimension in front, and a view the same map of strides, the slices staying as
far apart as they were. A kernel of its own runs slice by slice, but for those with a rule here. What depends on values, on positions in
memory or on chance raises :class:`NotBatched`: then ``vmap`` runs the function slice by slice.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import cpu_backend
from .ops.expr import walk
from .ops.opdef import LoopSpec, OpDef
from .ops.views import strided
from .runtime.batched import BatchedArray
from .shapes import broadcast_shapes
from .tensor import wrap

name = "batched"


class NotBatched(Exception):
    """What was asked for cannot be done for all slices at once."""


def loop(spec: LoopSpec, arrays: Sequence[Any], scalars: Sequence[Any], axes: tuple[int, ...] | None,
         outs: Sequence[Any] | None) -> list[Any]:
    """Runs an elementwise or reduction operation over all slices."""
    plain = spec.kernel_cache.get("batched")
    if plain is None:  # a position among the reduced elements is that in a slice; any other is not
        plain = spec.kernel_cache["batched"] = all([e.op != "iota" or e.attr == "inner" for e in walk(spec.values)])
    if not plain:
        raise NotBatched(f"{spec.name} depends on the positions of elements")
    rank = len(broadcast_shapes(*[a.shape for a in arrays]))
    given = [_aligned(a, rank) for a in arrays]
    if outs is not None:
        cpu_backend.loop(spec, given, scalars, None, [_memory(o) for o in outs])
        return list(outs)
    results = cpu_backend.loop(spec, given, scalars, None if axes is None else tuple([d + 1 for d in axes]), None)
    return [BatchedArray(r) for r in results]


def _memory(a: Any) -> np.ndarray:
    if type(a) is not BatchedArray:
        raise NotBatched("results that differ between slices are written into a tensor that all share")
    return a.memory


def _aligned(a: Any, rank: int) -> np.ndarray:
    """All slices as an array that broadcasts against others of ``rank`` dimensions a slice."""
    if type(a) is not BatchedArray:
        return a
    lead = rank - len(a.shape)
    return a.memory if not lead else a.memory[(slice(None), *[None] * lead)]


def _spread(a: Any, n: int) -> np.ndarray:
    """All slices, also of an array that is the same for all."""
    return a.memory if type(a) is BatchedArray else np.broadcast_to(a, (n, *a.shape))


def view(op: OpDef, a: BatchedArray, attrs: tuple) -> BatchedArray:
    """The same view of every slice."""
    if op.retype is not None:
        raise NotBatched(f"{op.name} reads another dtype")
    shape, strides, offset = op.body(a.shape, a.strides, 0, *attrs)
    m = a.memory
    return BatchedArray(strided(m, (len(m), *shape), (m.strides[0], *[s * m.itemsize for s in strides]), offset * m.itemsize))


def opaque(op: OpDef, operands: Sequence[Any], attrs: tuple) -> list[BatchedArray]:
    """Runs an operation's own kernel, by its rule for all slices or for each."""
    if op.random or op.name == "move_to_device":
        raise NotBatched(f"{op.name} is not the same for all slices")
    given = [None if o is None else [t._a for t in o] if isinstance(o, (list, tuple)) else o._a for o in operands]
    n = next(len(a.memory) for o in given if o is not None for a in (o if isinstance(o, list) else [o]) if type(a) is BatchedArray)
    rule = RULES.get(op.name)
    made = None if rule is None else rule(op, n, given, attrs)
    if made is not None:
        return [BatchedArray(np.ascontiguousarray(made))]
    columns = zip(*[cpu_backend.opaque(op, [_slice(o, k) for o in given], attrs) for k in range(n)])
    return [BatchedArray(np.stack(c)) for c in columns]


def _slice(o: Any, k: int) -> Any:
    if isinstance(o, list):
        return [_slice(a, k) for a in o]
    return None if o is None else wrap(o.memory[k] if type(o) is BatchedArray else o)


def reshape(a: BatchedArray, shape: tuple[int, ...]) -> BatchedArray:
    """Row-major slices seen with another shape."""
    return BatchedArray(a.memory.reshape(len(a.memory), *shape))


def copy(dst: Any, src: Any) -> None:
    """Writes ``src`` into ``dst``, slice by slice or the same into each."""
    cpu_backend.copy(_memory(dst), _aligned(src, len(dst.shape)))


# ---- rules


def _products(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray | None:
    a, b = given
    rank = max(len(a.shape), len(b.shape))
    kinds = [(x.memory if type(x) is BatchedArray else x).dtype.char for x in given]
    return np.matmul(_aligned(a, rank), _aligned(b, rank)) if kinds[0] == kinds[1] and kinds[0] in "fdFD" else None


def _joined(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray:
    return np.concatenate([_spread(a, n) for a in given[0]], attrs[0] + 1)


def _placed(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray:
    shape, index, *fill = attrs
    return op.kernels["cpu"](given[0].memory, (n, *shape), ((0, n, 1), *index), *fill)


def _put(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray:
    whole, part = given
    return op.kernels["cpu"](_spread(whole, n), _aligned(part, sum([type(i) is not int for i in attrs[0]])), ((0, n, 1), *attrs[0]))


def _along(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray | None:
    return op.kernels["cpu"](given[0].memory, attrs[0] + 1) if given[0].shape else None


def _indexed(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray | None:
    a, indices = given
    if any([type(i) is BatchedArray for i in indices]):
        return None
    (dims,) = attrs
    at = dims[-1] - dims[0] == len(dims) - 1  # else what is picked goes in front
    return op.kernels["cpu"](a.memory, indices, tuple([d + 1 for d in dims])) if at else None


def _rows(op: OpDef, n: int, given: list[Any], attrs: tuple) -> np.ndarray | None:
    table, index = given
    return op.kernels["cpu"](table, index.memory, *attrs) if type(table) is not BatchedArray else None


#: By operation: what runs its CPU kernel on all slices; ``None`` where the operands are not for it.
RULES: dict[str, Callable[[OpDef, int, list[Any], tuple], np.ndarray | None]] = {
    "bmm_general": _products, "cat_dim": _joined, "slice_scatter_dims": _placed, "slice_put": _put, "cumsum_dim": _along,
    "cumprod_dim": _along, "index": _indexed, "embedding_rows": _rows}
