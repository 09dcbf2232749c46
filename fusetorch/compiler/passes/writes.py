"""Writes of several parts become one: gradients of the pieces of a tensor are laid side by side instead of being added up.

The backward of ``split`` gives, for each piece, zeros with the piece's gradient inside, and their sum. As the pieces do not meet, that sum
is one ``write`` of all parts. A chain of writes to one memory, each seen by the next alone, is one ``write`` as well. What is
written is taken from where it lies, without the copy that made it row-major.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from ...ops.views import slice_dims
from ...shapes import contiguous_strides, view_strides
from ..ir import Graph, Node, Place, Value, base_of

#: first and last position per dimension
Box = tuple[tuple[int, int], ...]
#: Parts of one write at most.
MANY = 64


def merge_writes(graph: Graph) -> None:
    """Changes nodes of ``graph`` in place; what the outputs are stays as it is."""
    live = graph.live()
    uses = Counter(v for n in live for v in n.inputs)
    uses.update(graph.outputs)
    boxes: dict[Node, list[Box]] = {}
    for node in live:
        if node.kind == "opaque" and node.name == "slice_scatter_dims":
            boxes[node] = [tuple(_ends(i) for i in node.attrs["attrs"][1] if i is not None)]
        elif _is_sum(node) and all(v.node in boxes and uses[v] == 1 for v in node.inputs):
            _join(node, boxes)
        elif node.kind == "write" and node.attrs["fill"] is None:
            _absorb(node, uses)
    for node in live:
        if node.kind == "write":
            _take_in_place(node)


def _ends(i: Any) -> tuple[int, int]:
    at = range(i, i + 1) if isinstance(i, int) else range(*i)
    return (min(at[0], at[-1]), max(at[0], at[-1])) if at else (0, -1)


def _is_sum(node: Node) -> bool:
    if node.kind != "loop" or len(node.inputs) != 2 or len(node.outputs) != 1 or node.attrs["axes"] or node.attrs["scalars"]:
        return False
    e, (a, b), out = node.op.values[0], node.inputs, node.outputs[0]
    return (e.op == "add" and all(x.op == "load" for x in e.args) and a is not b and a.shape == b.shape == out.shape
            and a.dtype is b.dtype is out.dtype and a.device == b.device == out.device)


def _parts(node: Node) -> tuple[tuple[Value, ...], tuple[Place, ...], Any]:
    if node.kind == "write":
        return node.inputs, node.attrs["places"], node.attrs["fill"]
    shape, index, *fill = node.attrs["attrs"]
    return node.inputs, (slice_dims.body(shape, contiguous_strides(shape), 0, index),), fill[0] if fill else 0


def _join(node: Node, boxes: dict[Node, list[Box]]) -> None:
    made = [_parts(v.node) for v in node.inputs]
    found = [b for v in node.inputs for b in boxes[v.node]]
    if len(found) > MANY or any(fill for _, _, fill in made) or any(map(_meet, *zip(*combinations(found, 2)))):
        return
    values = tuple(v for parts, _, _ in made for v in parts)
    node.kind, node.op, node.inputs = "write", None, values
    node.attrs = {"places": tuple(p for _, places, _ in made for p in places), "fill": 0}
    node.attrs["covered"] = sum(v.size for v in values) == node.outputs[0].size
    boxes[node] = found


def _meet(a: Box, b: Box) -> bool:
    """Whether two boxes may have an element in common."""
    return all(p[0] <= q[1] and q[0] <= p[1] for p, q in zip(a, b))


def _absorb(node: Node, uses: Counter) -> None:
    before = node.inputs[0]
    if before.node.kind == "write" and uses[before] == 1 and len(before.node.inputs) < MANY:
        inner = before.node
        node.inputs = (*inner.inputs, *node.inputs[1:])
        node.attrs = {**inner.attrs, "places": (*inner.attrs["places"], *node.attrs["places"])}


def _take_in_place(node: Node) -> None:
    """Reads what was made row-major only to be written from where it was."""
    first = 0 if node.attrs["fill"] is not None else 1
    values, places = list(node.inputs), list(node.attrs["places"])
    for k, place in enumerate(places):
        base, strides, offset = base_of(values[first + k])
        copied = base.node
        if not (copied.kind == "loop" and copied.name == "clone_contiguous" and offset == 0
                and _row_major(values[first + k].shape, strides, base.size)):
            continue
        source = copied.inputs[0]
        there = view_strides(place[0], place[1], source.shape)
        if there is not None and source.shape == base.shape:
            values[first + k], places[k] = source, (source.shape, there, place[2])
    node.inputs, node.attrs = tuple(values), {**node.attrs, "places": tuple(places)}


def _row_major(shape: Sequence[int], strides: Sequence[int], size: int) -> bool:
    wanted, count = contiguous_strides(shape), 1
    for n in shape:
        count *= n
    return count == size and all(n == 1 or s == w for n, s, w in zip(shape, strides, wanted))
