"""The kernel description: what a generated kernel computes, before it is LLVM IR or Triton source.

A :class:`LoopKernel` is a loop nest over *outer* axes (each iteration independent) and *inner* axes (reduced), with strided
reads, a body of scalar expressions and strided writes. It holds no sizes: those, the strides and the scalars are arguments
of each call (:class:`LoopCall`), so one compiled kernel serves every shape of the same structure. :func:`schedule` makes both
from an index space: it drops axes of size 1, orders axes by stride and merges those that are contiguous in every operand.

An expression is *full* if it varies along the inner axes and *outer* if it does not: reads with stride 0 on every inner axis
and all ``reduce`` results are outer. An outer expression may use reductions, and a full one may use outer ones, so a softmax is
one kernel: max, then sum of exp(x - max), then the quotient stored at every inner position.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

from ..dtypes import dtype
from ..ops.expr import Expr, serialize, substitute, walk

#: Per axis: ``0`` stride 0, ``1`` stride 1, ``s`` any other stride, given at run time.
Pattern = str


@dataclass(frozen=True)
class Access:
    """How one buffer is addressed: its stored dtype and one pattern letter per axis, outer axes first."""

    dtype: dtype
    pattern: Pattern


@dataclass(frozen=True)
class Store:
    """One output: where ``value`` goes. It is written per outer position (inner letters all ``0``) unless ``full``."""

    access: Access
    value: Expr
    full: bool


@dataclass(frozen=True, eq=False)
class LoopKernel:
    """A loop nest. In the expressions, ``load`` *i* reads ``inputs[i]``, ``scalar`` *i* is ``scalars[i]``, and ``iota`` *k* is the
    int64 sum over axes of coordinate times stride, with the strides of ``iotas[k]``.

    ``n_outer`` and ``n_inner`` count axes; ``n_inner`` is 0 for a kernel without reductions. The last axis of each group is
    the fastest one. A call passes, in this order: input pointers, output pointers, sizes (outer, inner), strides in elements
    (every axis of every input, output and iota, in that order), scalars.
    """

    n_outer: int
    n_inner: int
    inputs: tuple[Access, ...]
    stores: tuple[Store, ...]
    iotas: tuple[Pattern, ...]
    scalars: tuple[dtype, ...]

    @cached_property
    def key(self) -> str:
        """Equal for kernels that may share compiled code, in every process."""
        head = f"{self.n_outer},{self.n_inner}"
        ins = ",".join(f"{a.dtype.code}{a.pattern}" for a in self.inputs)
        outs = ",".join(f"{s.access.dtype.code}{s.access.pattern}{'F' if s.full else 'O'}" for s in self.stores)
        scal = ",".join(d.code for d in self.scalars)
        return f"{head}|{ins}|{outs}|{','.join(self.iotas)}|{scal}|{_text(tuple([s.value for s in self.stores]))}"

    @cached_property
    def n_strides(self) -> int:
        """How many stride arguments a call passes."""
        return (len(self.inputs) + len(self.stores) + len(self.iotas)) * (self.n_outer + self.n_inner)


@dataclass(frozen=True)
class LoopCall:
    """The run-time half of a scheduled loop: axis sizes (outer, inner) and the flat list of strides in elements."""

    kernel: LoopKernel
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def n_outer_total(self) -> int:
        """Number of outer positions."""
        return prod(self.sizes[:self.kernel.n_outer])

    @property
    def n_inner_total(self) -> int:
        """Number of positions under one reduction."""
        return prod(self.sizes[self.kernel.n_outer:])


@dataclass(frozen=True)
class Operand:
    """An input or output before scheduling: stored dtype and strides (elements) in every dimension of the index space."""

    dtype: dtype
    strides: tuple[int, ...]


def schedule(shape: Sequence[int], reduced: Sequence[int], inputs: Sequence[Operand], outputs: Sequence[Operand],
             values: Sequence[Expr], full: Sequence[bool], scalars: Sequence[dtype] = ()) -> LoopCall:
    """Makes the kernel and its run-time arguments for an index space.

    Args:
        shape: the index space; every operand is broadcast to it (stride 0).
        reduced: the dimensions that ``reduce`` nodes run over.
        inputs, outputs: the operands; an output that is not ``full`` has stride 0 in the reduced dimensions.
        values: one expression per output, over ``load`` (input number), ``scalar``, ``const``, ``iota``, ``count``.
        full: per output, whether it is written at every position or once per outer position.
        scalars: dtypes of the run-time scalars.
    """
    rank = len(shape)
    inner_dims = [d for d in range(rank) if d in set(reduced)]
    outer_dims = [d for d in range(rank) if d not in set(inner_dims)]
    values, iota_strides = _bind_iotas(shape, inner_dims, values)
    table = [o.strides for o in inputs] + [o.strides for o in outputs] + iota_strides
    n_real = len(inputs) + len(outputs)

    def order(dims: list[int], lead: Sequence[Sequence[int]]) -> list[int]:
        dims = [d for d in dims if shape[d] != 1]
        # slowest first; outputs decide, inputs break ties, the dimension number breaks the rest
        return sorted(dims, key=lambda d: tuple(-abs(s[d]) for s in lead) + (d,))

    lead = table[len(inputs):n_real] + table[:len(inputs)]
    outer = _merge(order(outer_dims, lead), shape, table)
    inner_lead = ([o.strides for o, f in zip(outputs, full) if f] or []) + table[:len(inputs)]
    reduces, places = _reduces(tuple(values))
    if places:
        # positions among the reduced dimensions are row-major: the dimensions keep their order
        inner = _merge([d for d in inner_dims if shape[d] != 1], shape, table)
    else:
        inner = _merge(order(inner_dims, inner_lead), shape, table)
    if not outer:
        outer = [(1, [0] * len(table))]
    if not inner and (inner_dims or reduces):
        inner = [(1, [0] * len(table))]
    axes = outer + inner
    sizes = tuple(n for n, _ in axes)
    strides = tuple(st[k] for k in range(len(table)) for _, st in axes)
    patterns = ["".join("0" if st[k] == 0 else "1" if st[k] == 1 else "s" for _, st in axes) for k in range(len(table))]
    n_in = len(inputs)
    kernel = LoopKernel(
        len(outer), len(inner),
        tuple(Access(o.dtype, patterns[i]) for i, o in enumerate(inputs)),
        tuple(Store(Access(o.dtype, patterns[n_in + i]), v, f)
              for i, (o, v, f) in enumerate(zip(outputs, values, full))),
        tuple(patterns[n_real:]), tuple(scalars))
    return LoopCall(kernel, sizes, strides)


def _merge(dims: list[int], shape: Sequence[int], table: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Merges neighbouring dimensions that are contiguous in every operand: ``[(size, stride per operand)]``."""
    out: list[tuple[int, list[int]]] = []
    for d in dims:
        here = [s[d] for s in table]
        if out:
            n, before = out[-1]
            if all(b == h * shape[d] for b, h in zip(before, here)):
                out[-1] = (n * shape[d], here)
                continue
        out.append((shape[d], here))
    return out


def _bind_iotas(shape: Sequence[int], inner_dims: Sequence[int],
                values: Sequence[Expr]) -> tuple[Sequence[Expr], list[tuple[int, ...]]]:
    """Replaces symbolic iotas by numbered ones and gives the strides each has in the index space."""
    numbered, found = _iotas(tuple(values))
    strides = []
    for which in found:
        row, step = [0] * len(shape), 1
        if isinstance(which, tuple) and which[0] == "strides":
            row = list(which[1])
        elif isinstance(which, tuple):
            row[which[1]] = 1
        else:
            for d in reversed(range(len(shape)) if which == "linear" else inner_dims):
                row[d] = step
                step *= shape[d]
        strides.append(tuple(row))
    return numbered, strides


# what depends on the expressions alone is remembered: a new shape of a known operation should cost little

@lru_cache(8192)
def _iotas(values: tuple[Expr, ...]) -> tuple[Sequence[Expr], list[Any]]:
    """The values with their symbolic iotas numbered, and what each of those is."""
    found = [e for e in walk(values) if e.op == "iota"]
    mapping = {e: Expr("iota", (), k, e.dtype) for k, e in enumerate(found)}
    return tuple(substitute(values, mapping)) if found else values, [e.attr for e in found]


@lru_cache(8192)
def _reduces(values: tuple[Expr, ...]) -> tuple[bool, bool]:
    """Whether there is a reduction, and one that gives positions."""
    found = [e.attr for e in walk(values) if e.op == "reduce"]
    return bool(found), any([kind.startswith("arg") for kind in found])


@lru_cache(8192)
def _text(values: tuple[Expr, ...]) -> str:
    return serialize(values)
