"""The IR: a graph of pure operations in static single assignment form.

A :class:`Value` is one result, always thought of as row-major memory of its shape. Views are explicit ``view`` nodes holding shape,
strides and offset (elements) over that memory, so a chain of any view operations is one node. In-place writes do not exist here:
the tracer turns them into new values. Equal nodes are made once (hash-consing).

Node kinds:

* ``input``: an array given at run time (``attrs["name"]``)
* ``constant``: a host array, ``full``: one number everywhere
* ``loop``: an elementwise or reduction :class:`~fusetorch.ops.opdef.LoopSpec` (``axes`` reduced; reduced outputs keep them with size 1)
* ``view``: ``shape``, ``strides``, ``offset`` over the operand
* ``write``: the operand with other values written at ``places``, views of it, one after the other; or, where ``fill`` is a number, new
  memory filled with it (``covered``: all of it is written) and no first operand
* ``opaque``: an operation with its own kernel
"""
from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..dtypes import dtype
from ..ops.opdef import LoopSpec, OpDef
from ..shapes import contiguous_strides, numel

#: shape, strides and offset of a view
Place = tuple[tuple[int, ...], tuple[int, ...], int]

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_DEMO = os.path.join(_PACKAGE, "demo", "")  # a program that uses the package, like any other


@dataclass(eq=False)
class Value:
    """One result of a node: ``shape``, ``dtype``, and the ``device`` it lives on."""

    node: Node
    index: int
    shape: tuple[int, ...]
    dtype: dtype
    device: Any

    @cached_property
    def size(self) -> int:
        """The number of elements."""
        return numel(self.shape)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Row-major strides in elements."""
        return contiguous_strides(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"%{self.node.id}" + (f".{self.index}" if len(self.node.outputs) > 1 else "")


class Node:
    """One operation; see the module's docstring for the kinds and what ``attrs`` holds."""

    __slots__ = ("id", "kind", "op", "inputs", "attrs", "outputs", "location", "structure")

    def __init__(self, number: int, kind: str, op: Any, inputs: tuple[Value, ...], attrs: dict[str, Any], location: str) -> None:
        self.id, self.kind, self.op, self.inputs, self.attrs, self.location = number, kind, op, inputs, attrs, location
        self.outputs: list[Value] = []
        self.structure: tuple | None = None  # opaque: how the inputs make up the operands

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.kind if self.op is None else self.op.name

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} %{self.id}>"


class Graph:
    """Nodes in an order where operands come first, and which values the plan must produce."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []
        self._made: dict[Any, Node] = {}

    def _add(self, kind: str, op: Any, inputs: Sequence[Value], attrs: dict[str, Any], outs: Sequence[tuple], key: Any) -> Node:
        if key is not None:
            key = (kind, key, tuple([(v.node.id, v.index) for v in inputs]))
            seen = self._made.get(key)
            if seen is not None:
                return seen
        node = Node(len(self.nodes), kind, op, tuple(inputs), attrs, user_location())
        node.outputs = [Value(node, i, tuple(s), d, dev) for i, (s, d, dev) in enumerate(outs)]
        self.nodes.append(node)
        if key is not None:
            self._made[key] = node
        return node

    def input(self, name: str, shape: Sequence[int], d: dtype, device: Any, number: bool = False) -> Value:
        """A run-time array, row-major; or a ``number`` that kernels take by value, wherever they run."""
        return self._add("input", None, (), {"name": name, "number": number}, [(shape, d, device)], None).outputs[0]

    def constant(self, a: np.ndarray, d: dtype, device: Any) -> Value:
        """A host array known while tracing."""
        return self._add("constant", None, (), {"array": a}, [(a.shape, d, device)], None).outputs[0]

    def full(self, shape: Sequence[int], value: Any, d: dtype, device: Any) -> Value:
        """One number everywhere."""
        return self._add("full", None, (), {"value": value}, [(shape, d, device)],
                         (tuple(shape), repr(value), d, str(device))).outputs[0]

    def loop(self, spec: LoopSpec, inputs: Sequence[Value], shape: Sequence[int], axes: tuple[int, ...] | None,
             scalars: tuple, device: Any = None) -> list[Value]:
        """An elementwise (``axes`` is ``None``) or reduction operation over the index space ``shape``; operands are given with
        that many dimensions or fewer and broadcast. ``device``: where it runs, if not where the first operand is."""
        reduced = tuple(1 if axes and d in axes else n for d, n in enumerate(shape))
        device = inputs[0].device if device is None else device
        outs = [(tuple(shape) if f else reduced, d, device) for f, d in zip(spec.full, spec.out_dtypes)]
        attrs = {"axes": axes, "scalars": scalars, "shape": tuple(shape)}
        return self._add("loop", spec, inputs, attrs, outs, (id(spec), axes, repr(scalars), tuple(shape), str(device))).outputs

    def view(self, v: Value, shape: Sequence[int], strides: Sequence[int], offset: int) -> Value:
        """Row-major memory of ``v`` seen with a shape, strides and offset; ``v`` itself if that changes nothing."""
        shape, strides = tuple(shape), tuple(strides)
        if shape == v.shape and offset == 0 and same_strides(shape, strides, contiguous_strides(shape)):
            return v
        strides = tuple(0 if n == 1 else s for n, s in zip(shape, strides))
        if v.node.kind == "view":  # only a reshape of whole memory is looked at again
            v = v.node.inputs[0]
        return self._add("view", None, (v,), {"shape": shape, "strides": strides, "offset": offset},
                         [(shape, v.dtype, v.device)], (shape, strides, offset)).outputs[0]

    def write(self, base: Value, value: Value, shape: Sequence[int], strides: Sequence[int], offset: int) -> Value:
        """``base`` with ``value`` (of ``shape``) written at a view of it."""
        attrs = {"places": ((tuple(shape), tuple(strides), offset),), "fill": None}
        return self._add("write", None, (base, value), attrs, [(base.shape, base.dtype, base.device)],
                         (tuple(shape), tuple(strides), offset)).outputs[0]

    def opaque(self, op: OpDef, inputs: Sequence[Value], structure: tuple, attrs: tuple, outs: Sequence[tuple]) -> list[Value]:
        """An operation with its own kernel. ``structure`` rebuilds the operands: an input number, a tuple of them, or ``None``."""
        try:
            key: Any = (op.name, structure, attrs, hash(attrs))
        except TypeError:
            key = None
        node = self._add("opaque", op, inputs, {"attrs": attrs}, outs, key)
        node.structure = structure
        return node.outputs

    def live(self) -> list[Node]:
        """The nodes that the outputs need, in order (dead code left out)."""
        need = {v.node.id for v in self.outputs}
        out = []
        for node in reversed(self.nodes):
            if node.id in need:
                out.append(node)
                need.update(v.node.id for v in node.inputs)
        return out[::-1]

    def __str__(self) -> str:
        from .printer import to_python
        return to_python(self)


def base_of(v: Value) -> tuple[Value, tuple[int, ...], int]:
    """``(value, strides, offset)``: what an operand reads, through a view if it is one."""
    if v.node.kind == "view":
        return v.node.inputs[0], v.node.attrs["strides"], v.node.attrs["offset"]
    return v, v.strides, 0


def is_number(v: Value) -> bool:
    """Whether a value is a run-time number."""
    return v.node.kind == "input" and v.node.attrs["number"]


def same_strides(shape: Sequence[int], a: Iterable[int], b: Iterable[int]) -> bool:
    """Whether two sets of strides address the same elements (dimensions of size 1 do not count)."""
    return all(x == y for n, x, y in zip(shape, a, b) if n != 1)


def user_location() -> str:
    """``file:line`` of the innermost frame outside fusetorch."""
    import sys
    frame = sys._getframe(1)
    while frame is not None:
        f = frame.f_code.co_filename
        if not f.startswith("<") and (not f.startswith(_PACKAGE) or f.startswith(_DEMO)):
            return f"{f}:{frame.f_lineno}"
        frame = frame.f_back
    return traceback.format_stack(limit=1)[0].strip()
