"""Index spaces of fusion groups, and how two of them become one.

A group runs over named *axes*. Each of its nodes knows, for every dimension of its index space, the axes that make up that dimension
(slowest first). A value is row-major memory, so its stride along each axis follows; a view of it gives the strides of an access.
A consumer uses a producer's value from a register exactly when those two sets of strides agree.

Merging two groups along an edge walks both factorisations of the value's memory from the fastest end and splits axes where
one group sees two dimensions and the other sees one.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence

from .ir import Node, Value, base_of

Axis = int
_ids = itertools.count()


class Refusal(Exception):
    """Two groups cannot be fused; the message says why."""


class Space:
    """The axes of a group: sizes, order, which are reduced, and how each node's dimensions are made of them."""

    def __init__(self) -> None:
        self.size: dict[Axis, int] = {}
        self.order: list[Axis] = []
        self.reduced: set[Axis] = set()
        self.dims: dict[Node, list[tuple[Axis, ...]]] = {}

    @classmethod
    def of(cls, node: Node) -> Space:
        """The space of one loop node: an axis per dimension."""
        s = cls()
        shape = node.attrs["shape"]
        dims = []
        for n in shape:
            a = next(_ids)
            s.size[a] = n
            s.order.append(a)
            dims.append((a,))
        s.dims[node] = dims
        s.reduced = {dims[d][0] for d in node.attrs["axes"] or () if shape[d] != 1}
        return s

    def copy(self) -> Space:
        """An independent copy."""
        s = Space()
        s.size, s.order, s.reduced = dict(self.size), list(self.order), set(self.reduced)
        s.dims = {n: list(d) for n, d in self.dims.items()}
        return s

    def split(self, axis: Axis, low: int) -> tuple[Axis, Axis]:
        """Splits an axis into a slow one and a fast one of size ``low``."""
        hi, lo = next(_ids), next(_ids)
        self.size[hi], self.size[lo] = self.size.pop(axis) // low, low
        at = self.order.index(axis)
        self.order[at:at + 1] = [hi, lo]
        if axis in self.reduced:
            self.reduced.remove(axis)
            self.reduced |= {hi, lo}
        for dims in self.dims.values():
            for d, axes in enumerate(dims):
                if axis in axes:
                    dims[d] = tuple(itertools.chain.from_iterable((hi, lo) if a == axis else (a,) for a in axes))
        return hi, lo

    def rename(self, names: dict[Axis, Axis]) -> None:
        """Gives axes the names that another space has for them."""
        def new(a: Axis) -> Axis:
            return names.get(a, a)
        self.size = {new(a): n for a, n in self.size.items()}
        self.order = [new(a) for a in self.order]
        self.reduced = {new(a) for a in self.reduced}
        self.dims = {n: [tuple(map(new, axes)) for axes in dims] for n, dims in self.dims.items()}

    def value_dims(self, v: Value) -> list[tuple[Axis, ...]]:
        """The axes of each dimension of a member's value (none for reduced dimensions)."""
        dims = self.dims[v.node]
        full = v.node.op.full[v.index]
        axes = v.node.attrs["axes"] or ()
        return [() if d in axes and not full else dims[d] for d in range(len(dims))]

    def chain(self, v: Value) -> list[Axis]:
        """The axes of a member's value, slowest first, without those of size 1."""
        return [a for axes in self.value_dims(v) for a in axes if self.size[a] != 1]

    def own_strides(self, v: Value) -> dict[Axis, int]:
        """Where a member's value lies: its stride along each axis."""
        out, step = {}, 1
        for a in reversed(self.chain(v)):
            out[a] = step
            step *= self.size[a]
        return out

    def access(self, node: Node, operand: Value) -> tuple[Value, dict[Axis, int], int]:
        """``(base value, stride along each axis, offset)`` of a member's operand."""
        base, strides, offset = base_of(operand)
        shape = operand.shape
        dims = self.dims[node]
        lead = len(dims) - len(shape)
        out: dict[Axis, int] = {}
        for n, s, axes in zip(shape, strides, dims[lead:]):
            if n == 1 or s == 0:
                continue
            for a in reversed(axes):
                if self.size[a] != 1:
                    out[a] = out.get(a, 0) + s
                s *= self.size[a]
        return base, out, offset

    def covers_reduced(self, node: Node) -> bool:
        """Whether a member really reduces something (not only dimensions of size 1)."""
        return any(self.size[a] != 1 for d in node.attrs["axes"] or () for a in self.dims[node][d])


def _match(p: Space, ps: Sequence[Axis], c: Space, cs: Sequence[Axis], what: str) -> dict[Axis, Axis]:
    """Pairs two factorisations of one index range, splitting axes as needed: ``{axis of p: axis of c}``."""
    ps, cs = list(ps), list(cs)
    names: dict[Axis, Axis] = {}
    while ps and cs:
        a, b = ps.pop(), cs.pop()
        n, m = p.size[a], c.size[b]
        if n != m:
            if not n or not m:
                raise Refusal(f"{what}: nothing to compute")
            if n % m == 0 and n > m:
                hi, a = p.split(a, m)
                ps.append(hi)
            elif m % n == 0 and m > n:
                hi, b = c.split(b, n)
                cs.append(hi)
            else:
                raise Refusal(f"{what}: sizes {n} and {m} do not divide each other")
        names[a] = b
    if ps or cs:
        raise Refusal(f"{what}: index spaces differ in size")
    return names


def merge(producer: Space, consumer: Space, value: Value, node: Node, operand: Value, may_repeat: bool) -> Space:
    """The space in which ``node`` (of ``consumer``) reads ``value`` (of ``producer``) from a register.

    ``may_repeat``: the producer is cheap and used nowhere else, so it may be computed again at each position it is broadcast to.
    Raises :class:`Refusal` with the reason where there is no such space.
    """
    p, c = producer.copy(), consumer.copy()
    _, access, offset = c.access(node, operand)
    if offset:
        raise Refusal("the consumer reads a slice of it")
    seq = sorted(access, key=lambda a: -access[a])
    step = 1
    for a in reversed(seq):
        if access[a] != step:
            raise Refusal("the consumer reads it with other strides")
        step *= c.size[a]
    if step != value.size:
        raise Refusal("the consumer reads only part of it")
    names = _match(p, p.chain(value), c, seq, "layout")
    lost_p = [a for a in p.order if a not in names and p.size[a] != 1]
    taken = set(names.values())
    lost_c = [a for a in c.order if a not in taken and c.size[a] != 1]
    if lost_p and lost_c:
        names |= _match(p, lost_p, c, lost_c, "reduced dimensions")
        lost_p = lost_c = []
    if lost_p:
        if c.reduced:
            raise Refusal("the consumer reduces what the producer keeps")
        if not set(lost_p) <= p.reduced:
            raise Refusal("the producer runs over more dimensions")
    if lost_c:
        if p.reduced:
            raise Refusal("the reduction would be repeated along a broadcast dimension")
        if not set(lost_c) <= c.reduced and not may_repeat:
            raise Refusal("the producer would be computed again along a broadcast dimension")
    p.rename(names)
    p.reduced = {a for a in p.reduced if p.size[a] != 1}
    if p.reduced and c.reduced and p.reduced != c.reduced:
        raise Refusal("the two reduce different dimensions")
    big, small = (p, c) if lost_p else (c, p)
    out = Space()
    out.order = big.order + [a for a in small.order if a not in big.size]
    out.size = small.size | big.size
    out.reduced = p.reduced | c.reduced
    out.dims = p.dims | c.dims
    return out


def overlay(a: Space, b: Space) -> Space:
    """One space for two groups that do not feed each other but run over the same dimensions."""
    p, c = a.copy(), b.copy()
    names = _match(p, [x for x in p.order if p.size[x] != 1], c, [x for x in c.order if c.size[x] != 1], "siblings")
    p.rename(names)
    p.reduced = {x for x in p.reduced if p.size[x] != 1}
    if p.reduced != c.reduced and p.reduced and c.reduced:
        raise Refusal("the two reduce different dimensions")
    out = Space()
    out.order = c.order + [x for x in p.order if x not in c.size]
    out.size = p.size | c.size
    out.reduced = p.reduced | c.reduced
    out.dims = p.dims | c.dims
    return out
