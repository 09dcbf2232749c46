"""From a fusion group to a kernel description: its expressions joined, its operands as strided buffers."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codegen.loop import LoopCall, Operand, schedule
from ..dtypes import HALVES, float32
from ..ops.complex_parts import split
from ..ops.expr import Expr, cast, const, scalar, substitute, walk
from .align import Space
from .fuse import Fusion, Group
from .ir import Node, Value, base_of, is_number


@dataclass
class Lowered:
    """A kernel ready to be generated: what it reads and writes (value and offset in bytes, one for each buffer of the kernel), the numbers
    it takes, and the values that it makes."""

    call: LoopCall
    reads: list[tuple[Value, int]]
    stores: list[tuple[Value, int]]
    numbers: list[Value]
    writes: list[Value]


def lower(group: Group, fusion: Fusion, emulate_casts: bool = False) -> Lowered:
    """Makes the kernel description of a loop group."""
    space = group.space
    axes = [a for a in space.order]
    position = {a: i for i, a in enumerate(axes)}
    reads: dict[tuple, int] = {}
    operands: list[Operand] = []
    result: dict[Value, Expr] = {}
    sources: list[tuple[Value, int]] = []
    numbers: list[Value] = []

    def over_axes(strides: dict[int, int]) -> tuple[int, ...]:
        return tuple(strides.get(a, 0) for a in axes)

    for node in group.nodes:
        spec = node.op
        bodies = list(spec.values)
        if spec.reduces and not space.covers_reduced(node):  # before a producer's reductions come into the bodies
            bodies = _without_reductions(bodies)
        mapping: dict[Expr, Expr] = {}
        for e in walk(bodies):
            if e.op == "load":
                operand = node.inputs[e.attr]
                mapping[e] = _operand(space, node, operand, e, result, reads, operands, sources, numbers, over_axes)
            elif e.op == "scalar":
                mapping[e] = const(node.attrs["scalars"][e.attr], e.dtype)
            elif e.op == "count" and not space.covers_reduced(node):
                mapping[e] = const(1, e.dtype)  # elsewhere it stays a run-time number: layers of other widths share the kernel
            elif e.op == "iota":
                mapping[e] = Expr("iota", (), ("strides", over_axes(_iota_strides(space, node, e.attr))), e.dtype)
        bodies = substitute(bodies, mapping)
        for v, value in zip(node.outputs, bodies):
            if emulate_casts and v.dtype in HALVES:
                value = cast(Expr("cast", (value,), None, v.dtype), value.dtype)
            result[v] = value
    writes = [v for n in group.nodes for v in n.outputs if fusion.escapes(v, group)]
    outputs = [Operand(v.dtype, over_axes(space.own_strides(v))) for v in writes]
    full = [any(a in space.reduced for a in space.own_strides(v)) or not space.reduced for v in writes]
    reduced = [position[a] for a in axes if a in space.reduced]
    values = [result[v] for v in writes]
    reads_at = [(v, offset * v.dtype.itemsize) for v, offset in sources]
    stores_at = [(v, 0) for v in writes]
    if any(o.dtype.is_complex for o in operands + outputs) or any(e.dtype.is_complex for e in walk(values)):
        # each complex buffer becomes two real ones, one element apart
        parts = split(values)
        operands, reads_at = _parts_of(operands, reads_at, parts.loads)
        outputs, stores_at = _parts_of(outputs, stores_at, parts.stores)
        numbers = [numbers[k] for k, _ in parts.scalars]
        values, full = parts.values, [full[j] for j, _ in parts.stores]
    call = schedule([space.size[a] for a in axes], reduced, operands, outputs, values, full,
                    [v.dtype for v in numbers])
    return Lowered(call, reads_at, stores_at, numbers, writes)


def _parts_of(buffers: list[Operand], at: list[tuple[Value, int]],
              wanted: list[tuple[int, int | None]]) -> tuple[list[Operand], list[tuple[Value, int]]]:
    new, places = [], []
    for i, part in wanted:
        b, (v, offset) = buffers[i], at[i]
        new.append(b if part is None else Operand(b.dtype.to_real(), tuple(2 * s for s in b.strides)))
        places.append((v, offset + (part or 0) * v.dtype.itemsize // 2))
    return new, places


def _operand(space: Space, node: Node, operand: Value, e: Expr, result: dict[Value, Expr], reads: dict, operands: list[Operand],
             sources: list[tuple[Value, int]], numbers: list[Value], over_axes: Callable) -> Expr:
    base, _, _ = base_of(operand)
    if base.node.kind == "full":
        return _constant(base.node.attrs["value"], e)
    if base.node.kind == "constant" and base.size == 1:
        return _constant(base.node.attrs["array"].reshape(-1)[0].item(), e)
    if is_number(base):
        if base not in numbers:
            numbers.append(base)
        return scalar(numbers.index(base), base.dtype)
    base, access, offset = space.access(node, operand)
    if base in result:
        return result[base]
    strides = over_axes(access)
    key = (base, offset, strides)
    k = reads.get(key)
    if k is None:
        k = reads[key] = len(operands)
        operands.append(Operand(base.dtype, strides))
        sources.append((base, offset))
    return Expr("load", (), k, base.dtype)


def _constant(value: Any, e: Expr) -> Expr:
    # a half operand is widened where it is read, so its constant is given at that width
    return const(float(np.asarray(value, e.dtype.np)), float32) if e.dtype in HALVES else const(value, e.dtype)


def _without_reductions(bodies: list[Expr]) -> list[Expr]:
    """Where every reduced dimension has size 1, a reduction is its operand (and a position is 0)."""
    for e in [e for e in walk(bodies) if e.op == "reduce"]:
        simple = const(0, e.dtype) if e.attr.startswith("arg") else e.args[0]
        bodies = substitute(bodies, {e: simple})
        if any(x.op == "reduce" for x in walk(bodies)):
            return _without_reductions(bodies)
        break
    return bodies


def _iota_strides(space: Space, node: Node, which: Any) -> dict[int, int]:
    dims = space.dims[node]
    shape = node.attrs["shape"]
    per_dim = [0] * len(dims)
    if isinstance(which, tuple) and which[0] == "strides":
        per_dim = list(which[1])
    elif isinstance(which, tuple):
        per_dim[which[1]] = 1
    else:
        step = 1
        for d in reversed(range(len(dims)) if which == "linear" else sorted(node.attrs["axes"] or ())):
            per_dim[d] = step
            step *= shape[d]
    out: dict[int, int] = {}
    for s, axes in zip(per_dim, dims):
        for a in reversed(axes):
            if s and space.size[a] != 1:
                out[a] = out.get(a, 0) + s
            s *= space.size[a]
    return out
