"""Fusion: which loop nodes become one kernel.

Greedy, in graph order: each node tries to join the groups that made its operands, the largest saving first; then groups that read the
same memory over the same index space are joined. Every refusal is kept with its reason (:mod:`fusetorch.compiler.explain` shows them).
"""
from __future__ import annotations

import heapq
from collections.abc import Iterable
from graphlib import TopologicalSorter

from .. import config
from ..shapes import numel
from .align import Refusal, Space, merge, overlay
from .ir import Graph, Node, Value, base_of

#: A kernel reads and writes at most this many buffers.
MAX_BUFFERS = 32
#: A reduction is not followed by a loop over what it reduced when there are fewer independent rows than this and they are longer than that.
FEW_ROWS, LONG_ROW = 16, 16384
#: Primitives that cost more than the memory traffic they would save when computed again.
_COSTLY = {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
           "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma", "digamma", "pow", "philox"}


class Group:
    """Nodes that run as one kernel (a single node if it is not a loop)."""

    def __init__(self, node: Node, number: int) -> None:
        self.nodes = [node]
        self.bit = 1 << number
        #: the groups that this one depends on, and those that depend on it, through any number of others: sets of bits
        self.above = self.below = 0
        self.fusible = node.kind == "loop"
        self.space = Space.of(node) if self.fusible else None

    def __repr__(self) -> str:
        return f"<group {'+'.join(n.name for n in self.nodes)}>"


class Fusion:
    """The result: groups in execution order, and the refusals met on the way."""

    def __init__(self, graph: Graph, limit: int | None = None) -> None:
        self.graph = graph
        self.live = [n for n in graph.live()]
        self.limit = config.fuse_limit if limit is None else limit
        self.made = 0
        self.refusals: list[tuple[Node, Node, str]] = []
        kernels = [n for n in self.live if n.kind in ("loop", "opaque", "write")]
        self.numbered = [Group(n, i) for i, n in enumerate(kernels)]
        self.group: dict[Node, Group] = dict(zip(kernels, self.numbered))
        self.users: dict[Value, list[Node]] = {}
        for n in self.live:
            for v in n.inputs:
                self.users.setdefault(v, []).append(n)
        self.wanted = set(graph.outputs)
        if self.limit != 0:
            self._relate()
            self._vertical()
            self._siblings()
        self.groups = self._order()

    # ---- relations

    def readers(self, v: Value) -> Iterable[Node]:
        """Nodes with a kernel that read a value, directly or through a view."""
        for n in self.users.get(v, ()):
            if n.kind == "view":
                yield from self.users.get(n.outputs[0], ())
            else:
                yield n

    def escapes(self, v: Value, group: Group) -> bool:
        """Whether a value must be stored: a plan output, or read outside its group."""
        if v in self.wanted or any(self.group.get(n) is not group for n in self.readers(v)):
            return True
        return any(n.kind == "view" and n.outputs[0] in self.wanted for n in self.users.get(v, ()))

    def _producers(self, node: Node) -> Iterable[Group]:
        for v in node.inputs:
            g = self.group.get(base_of(v)[0].node)
            if g is not None:
                yield g

    def _relate(self) -> None:
        for g in self.numbered:
            for p in self._producers(g.nodes[0]):
                g.above |= p.above | p.bit
        for g in reversed(self.numbered):
            for p in self._producers(g.nodes[0]):
                p.below |= g.below | g.bit

    def _cyclic(self, a: Group, b: Group) -> bool:
        """Whether some path leads from one group to the other through a third."""
        return bool((a.below & b.above | b.below & a.above) & ~(a.bit | b.bit))

    # ---- merging

    def _vertical(self) -> None:
        for node in self.live:
            if node.kind != "loop":
                continue
            edges = sorted({(base_of(v)[0], v) for v in node.inputs}, key=lambda e: (-e[0].size, e[0].node.id))
            for base, operand in edges:
                self._try(base, node, operand)

    def _try(self, base: Value, node: Node, operand: Value) -> None:
        p, c = self.group.get(base.node), self.group[node]
        if p is None or p is c or not p.fusible:
            return
        try:
            self._check(p, c, base)
            alone = not any(self.escapes(v, p) and any(self.group.get(r) is not c for r in self.readers(v)) or v in self.wanted
                            for n in p.nodes for v in n.outputs)
            cheap = not any(map(costly, p.nodes))
            space = merge(p.space, c.space, base, node, operand, alone and cheap)
            self._check_space(space, p, c)
        except Refusal as r:
            self.refusals.append((base.node, node, str(r)))
            return
        self._join(p, c, space)

    def _check(self, p: Group, c: Group, base: Value | None) -> None:
        if 0 <= self.limit <= self.made:
            raise Refusal(f"fuse_limit={self.limit} reached")
        if base is not None and any(d.type != e.type for d in [base.device] for n in c.nodes for e in [n.outputs[0].device]):
            raise Refusal("they run on different devices")
        if self._cyclic(p, c):
            raise Refusal("a kernel in between needs one and feeds the other")

    def _check_space(self, space: Space, p: Group, c: Group) -> None:
        members = set(p.nodes) | set(c.nodes)
        for n in members:
            for v in n.inputs:
                base, access, offset = space.access(n, v)
                if base.node in members and (offset or access != space.own_strides(base)):
                    raise Refusal("one of them reads the other's result at other positions too")
        if space.reduced:
            rows = numel(n for a, n in space.size.items() if a not in space.reduced)
            row = numel(space.size[a] for a in space.reduced)
            has_epilogue = any(n.op.full[v.index] and self._after_reduce(n, members) for n in members for v in n.outputs)
            if has_epilogue and rows < FEW_ROWS and row > LONG_ROW:
                raise Refusal(f"{rows} rows of {row} elements are too few to keep a loop after the reduction in the same kernel")
            if has_epilogue and self._vertical_reduce(space, members):
                raise Refusal("the reduced dimension is not the contiguous one, so the loop after it would read with gaps")
        buffers = {base_of(v)[0] for n in members for v in n.inputs if base_of(v)[0].node not in members}
        stores = [v for n in members for v in n.outputs]
        if len(buffers) + len(stores) > MAX_BUFFERS and len(buffers) + sum(
                v in self.wanted or any(r not in members for r in self.readers(v)) for v in stores) > MAX_BUFFERS:
            raise Refusal(f"more than {MAX_BUFFERS} buffers")

    def _after_reduce(self, node: Node, members: set[Node]) -> bool:
        """Whether a full node uses a reduction of the group."""
        if node.op.reduces:
            return any(node.op.full)
        stack, seen = list(node.inputs), set()
        while stack:
            m = base_of(stack.pop())[0].node
            if m in members and m not in seen:
                seen.add(m)
                if m.op.reduces:
                    return True
                stack += m.inputs
        return False

    def _vertical_reduce(self, space: Space, members: set[Node]) -> bool:
        """Whether the largest operand of a reduction is contiguous along a kept axis instead of a reduced one."""
        best: tuple[int, bool] = (0, False)
        for n in members:
            for v in n.inputs:
                base, access, _ = space.access(n, v)
                if base.size > best[0] and access:
                    fastest = min(access, key=lambda a: access[a])
                    best = (base.size, access[fastest] == 1 and fastest not in space.reduced)
        return best[1]

    def _in(self, bits: int) -> Iterable[Group]:
        while bits:
            lowest = bits & -bits
            yield self.numbered[lowest.bit_length() - 1]
            bits ^= lowest

    def _join(self, p: Group, c: Group, space: Space) -> None:
        c.nodes = sorted({*p.nodes, *c.nodes}, key=lambda n: n.id)
        c.space = space
        both = p.bit | c.bit
        c.above, c.below = (p.above | c.above) & ~both, (p.below | c.below) & ~both
        for g in self._in(c.above):
            g.below = (g.below | c.below | c.bit) & ~p.bit
        for g in self._in(c.below):
            g.above = (g.above | c.above | c.bit) & ~p.bit
        for n in p.nodes:
            self.group[n] = c
        self.made += 1

    def _siblings(self) -> None:
        by_value: dict[Value, list[Node]] = {}
        for n in self.live:
            if n.kind == "loop":
                for v in n.inputs:
                    base = base_of(v)[0]
                    if base.size > 1:
                        by_value.setdefault(base, []).append(n)
        for nodes in by_value.values():
            for a, b in zip(nodes, nodes[1:]):
                p, c = self.group[a], self.group[b]
                if p is c:
                    continue
                try:
                    self._check(p, c, None)
                    if p.nodes[0].outputs[0].device != c.nodes[0].outputs[0].device:
                        raise Refusal("they run on different devices")
                    space = overlay(p.space, c.space)
                    self._check_space(space, p, c)
                    self._same_access(space, a, b)
                except Refusal as r:
                    self.refusals.append((a, b, str(r)))
                    continue
                self._join(p, c, space)

    def _same_access(self, space: Space, a: Node, b: Node) -> None:
        def reads(n: Node) -> dict[Value, dict]:
            return {base: access for base, access, _ in (space.access(n, v) for v in n.inputs)}
        ra, rb = reads(a), reads(b)
        if not any(v in rb and ra[v] == rb[v] for v in ra if v.size > 1):
            raise Refusal("they read the shared operand at different positions")

    # ---- order

    def _order(self) -> list[Group]:
        """Groups sorted so that each comes after those it reads."""
        groups = list(dict.fromkeys(self.group[n] for n in self.live if n in self.group))
        number = {g: max(n.id for n in g.nodes) for g in groups}
        dag = TopologicalSorter({g: {p for n in g.nodes for p in self._producers(n) if p is not g} for g in groups})
        dag.prepare()
        ready: list[tuple[int, Group]] = []
        out = []
        while dag:
            for g in dag.get_ready():
                heapq.heappush(ready, (number[g], g))
            _, g = heapq.heappop(ready)
            out.append(g)
            dag.done(g)
        return out


def costly(node: Node) -> bool:
    """Whether computing a node again costs more than the memory traffic that would save."""
    return not _COSTLY.isdisjoint(node.op.primitives)
