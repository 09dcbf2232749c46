"""Adding rows at given places on the CPU: what gradients of indexing, embeddings and message passing do.

``np.add.at`` takes about 10 ns an element; a native loop over rows is bound by memory. Rows are added in order, on one thread, so
results do not depend on the number of threads.
"""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from ..runtime import cpu_jit
from ..runtime.cpu_memory import address

#: Elements from which the native loop is worth its call.
FROM = 1024

_TYPES = {"f": ("float", "fadd"), "d": ("double", "fadd"), "l": ("i64", "add"), "q": ("i64", "add"), "i": ("i32", "add")}


def _ir(kind: str, add: str) -> str:
    return f"""
define void @add_rows(ptr noalias %out, ptr noalias %rows, ptr noalias %src, i64 %n, i64 %width) {{
entry:
  %some = icmp sgt i64 %n, 0
  %wide = icmp sgt i64 %width, 0
  %go = and i1 %some, %wide
  br i1 %go, label %row, label %done
row:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %pr = getelementptr i64, ptr %rows, i64 %i
  %r = load i64, ptr %pr
  %or = mul i64 %r, %width
  %sr = mul i64 %i, %width
  %o = getelementptr {kind}, ptr %out, i64 %or
  %s = getelementptr {kind}, ptr %src, i64 %sr
  br label %column
column:
  %j = phi i64 [ 0, %row ], [ %j1, %column ]
  %po = getelementptr {kind}, ptr %o, i64 %j
  %ps = getelementptr {kind}, ptr %s, i64 %j
  %a = load {kind}, ptr %po
  %b = load {kind}, ptr %ps
  %c = {add} {kind} %a, %b
  store {kind} %c, ptr %po
  %j1 = add i64 %j, 1
  %more = icmp slt i64 %j1, %width
  br i1 %more, label %column, label %next
next:
  %i1 = add i64 %i, 1
  %again = icmp slt i64 %i1, %n
  br i1 %again, label %row, label %done
done:
  ret void
}}
"""


@functools.cache
def _kernel(char: str) -> Callable[..., None]:
    at = cpu_jit.compile_ir(_ir(*_TYPES[char]), ["add_rows"])["add_rows"]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)(at)


def add_at(out: np.ndarray, indices: Sequence[np.ndarray | None], values: np.ndarray) -> None:
    """``np.add.at(out, indices, values)`` for index arrays (``None``: all of that dimension), which lie within bounds.

    Raises ``IndexError`` for an index out of bounds where NumPy does the work.
    """
    dims = [d for d, i in enumerate(indices) if i is not None]
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    if values.size < FROM or out.dtype.char not in _TYPES or not out.flags.c_contiguous or not adjacent:
        np.add.at(out, tuple(slice(None) if i is None else i for i in indices), values)
        return
    first, last = dims[0], dims[-1] + 1
    sizes = out.shape[first:last]
    wrapped = [np.where(i < 0, i + n, i) for i, n in zip(indices[first:last], sizes)]
    place = wrapped[0].astype(np.int64, copy=False)
    for i, n in zip(wrapped[1:], sizes[1:]):
        place = place * n + i
    outer, width = prod(out.shape[:first]), prod(out.shape[last:])
    if outer > 1:
        place = np.arange(outer).reshape(-1, *(1,) * place.ndim) * prod(sizes) + place
    place = np.ascontiguousarray(place)
    shape = out.shape[:first] + np.broadcast_shapes(*[w.shape for w in wrapped]) + out.shape[last:]
    values = np.ascontiguousarray(np.broadcast_to(values, shape), dtype=out.dtype)
    _kernel(out.dtype.char)(address(out), address(place), address(values), place.size, width)
