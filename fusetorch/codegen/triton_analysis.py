"""What the Triton source of a :class:`LoopKernel` depends on: rows and columns of a tile, stages, what reductions combine with."""
from __future__ import annotations

from functools import cached_property

from .. import dtypes
from ..dtypes import HALVES, dtype
from ..ops.expr import Expr, walk
from .loop import LoopKernel


class Layout:
    """Which axes of a kernel are the rows and which the columns of a tile; the last of each is the fastest."""

    def __init__(self, kernel: LoopKernel) -> None:
        self.kernel = kernel
        n = kernel.n_outer + kernel.n_inner
        accesses = [a.pattern for a in kernel.inputs] + [s.access.pattern for s in kernel.stores]
        if kernel.n_inner:
            self.rows = list(range(kernel.n_outer))
            self.columns = list(range(kernel.n_outer, n))
        else:
            self.columns = [n - 1]
            crossing = [a for a in range(n - 1) if any(p[a] == "1" and p[n - 1] not in "01" for p in accesses)]
            self.rows = [a for a in range(n - 1) if a not in crossing[-1:]] + crossing[-1:]
        self.flat = not self.rows
        #: accesses (inputs, then outputs) that are contiguous along the tile
        self.wide = [self._contiguous(p, self.columns[-1]) or (not self.flat and self._contiguous(p, self.rows[-1]))
                     for p in accesses]
        #: axes along which they are
        self.fast = [a for a in self.columns[-1:] + self.rows[-1:] if any(self._contiguous(p, a) for p in accesses)]

    def _contiguous(self, pattern: str, axis: int) -> bool:
        # one value a row is a small part of the traffic
        return pattern[axis] == "1" and any(pattern[a] != "0" for a in self.columns)

    @cached_property
    def transposes(self) -> bool:
        """Whether some buffers are contiguous along the columns and others along the rows."""
        if self.flat:
            return False
        k, c, r = self.kernel, self.columns[-1], self.rows[-1]
        ps = [a.pattern for a in k.inputs] + [s.access.pattern for s in k.stores if s.full]
        return any(p[c] == "1" for p in ps) and any(p[r] == "1" and p[c] == "s" for p in ps)

    @cached_property
    def vertical(self) -> bool:
        """Whether the buffers that fill the tile are contiguous along its rows rather than its columns."""
        if self.flat:
            return False
        k, c, r = self.kernel, self.columns[-1], self.rows[-1]
        full = [a.pattern for a in k.inputs if any(a.pattern[i] != "0" for i in self.columns)]
        full += [s.access.pattern for s in k.stores if s.full]
        return sum(p[r] == "1" and p[c] != "1" for p in full) > sum(p[c] == "1" for p in full)


def accumulator(e: Expr) -> dtype:
    """What a ``reduce`` node is accumulated in."""
    d = e.args[0].dtype
    if d in HALVES:
        return dtypes.float32
    return d if d.is_floating_point or d is dtypes.int64 else dtypes.int32


def stages(kernel: LoopKernel) -> list[list[Expr]]:
    """The ``reduce`` nodes by how many reductions each has to wait for."""
    depth: dict[Expr, int] = {}
    out: list[list[Expr]] = []
    for e in walk(s.value for s in kernel.stores):
        d = max((depth[a] for a in e.args), default=0)
        if e.op == "reduce":
            if d == len(out):
                out.append([])
            out[d].append(e)
            d += 1
        depth[e] = d
    return out


def full_nodes(kernel: LoopKernel) -> set[Expr]:
    """The expressions that vary along the inner axes."""
    inner = range(kernel.n_outer, kernel.n_outer + kernel.n_inner)
    found: set[Expr] = set()
    for e in walk(s.value for s in kernel.stores):
        if e.op in ("load", "iota"):
            p = kernel.inputs[e.attr].pattern if e.op == "load" else kernel.iotas[e.attr]
            varies = any(p[a] != "0" for a in inner)
        else:
            varies = e.op != "reduce" and any(a in found for a in e.args)
        if varies:
            found.add(e)
    return found


def identity(e: Expr) -> str:
    """The accumulator's value that changes nothing."""
    kind, d = e.attr.removeprefix("arg"), accumulator(e)
    if kind in ("sum", "prod") or (e.attr == kind and e.dtype is dtypes.bool_):
        return str(int(kind in ("prod", "min")))
    if d.is_floating_point:
        return 'float("-inf")' if kind == "max" else 'float("inf")'
    limits = dtypes.iinfo(d)
    return str(limits.min if kind == "max" else limits.max)


def kind_of(e: Expr) -> str:
    """The reduction by its accumulator: of bool, a sum is "any" and a product is "all"."""
    if e.args[0].dtype is dtypes.bool_:
        return {"sum": "max", "prod": "min"}.get(e.attr, e.attr)
    return e.attr


def arg_function(e: Expr) -> str:
    return "first_largest" if e.attr == "argmax" else "first_smallest"
