"""The IR verifier: what every graph must satisfy, whichever pass made it.

Checked: operands come first (single static assignment); shapes, dtypes and devices agree along every edge; views and writes stay inside
the memory they address; loops broadcast to their index space and reduce dimensions that exist. Run after tracing and after each pass
while ``config.verify_ir`` is set, or with ``FUSETORCH_DEBUG=4``.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import config
from ..dtypes import FROM_NUMPY, dtype
from ..errors import VerifyError
from ..ops.expr import walk
from ..ops.opdef import LoopSpec, OpDef
from ..shapes import broadcast_shapes
from .ir import Graph, Node, Value

KINDS = ("input", "constant", "full", "loop", "view", "write", "opaque")


def checked(graph: Graph, stage: str) -> Graph:
    """``graph``, printed and verified if the settings ask for it."""
    if config.debug >= 4:
        print(f"fusetorch: IR after {stage}\n{graph}", file=sys.stderr)
    if config.dump_dir:
        from .repro import dump
        dump(graph, stage)
    if config.verify_ir or config.debug >= 4:
        verify_graph(graph, stage)
    return graph


def verify_graph(graph: Graph, stage: str = "") -> None:
    """Raises :class:`~fusetorch.errors.VerifyError`, naming the node and ``stage``, if the graph breaks an invariant.

    Example:
        >>> from fusetorch.compiler.ir import Graph
        >>> verify_graph(Graph(), "tracing")
    """
    Verifier(graph, stage).run()


class Verifier:
    """One walk over a graph."""

    def __init__(self, graph: Graph, stage: str) -> None:
        self.graph, self.stage = graph, stage
        self.defined: set[Value] = set()

    def fail(self, node: Node | None, message: str) -> None:
        """Raises the error."""
        where = "graph" if node is None else f"{node.kind} {node.name!r} (%{node.id}, from {node.location})"
        raise VerifyError(f"invalid IR{f' after {self.stage}' if self.stage else ''}: {where}: {message}")

    def run(self) -> None:
        """Checks every node, then the graph's outputs."""
        last = -1
        for node in self.graph.nodes:
            if node.id <= last:
                self.fail(node, f"its number does not come after {last}")
            last = node.id
            if node.kind not in KINDS:
                self.fail(node, f"unknown kind, not one of {', '.join(KINDS)}")
            if not node.outputs:
                self.fail(node, "it has no results")
            for v in node.inputs:
                if v not in self.defined:
                    self.fail(node, f"operand {v} is not made by an earlier node of this graph")
            for i, v in enumerate(node.outputs):
                self._result(node, i, v)
            getattr(self, "_" + node.kind)(node)
            self.defined.update(node.outputs)
        for v in self.graph.outputs:
            if v not in self.defined:
                self.fail(None, f"output {v} is not made by a node of this graph")

    def _result(self, node: Node, i: int, v: Value) -> None:
        if v.node is not node or v.index != i:
            self.fail(node, f"result {i} says that it is result {v.index} of {v.node!r}")
        if not isinstance(v.shape, tuple) or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in v.shape):
            self.fail(node, f"result {i} has shape {v.shape!r}, not a tuple of sizes")
        if not isinstance(v.dtype, dtype):
            self.fail(node, f"result {i} has dtype {v.dtype!r}")
        if v.device is None:
            self.fail(node, f"result {i} is on no device")

    def _count(self, node: Node, operands: int, results: int = 1) -> None:
        if len(node.inputs) != operands:
            self.fail(node, f"it has {len(node.inputs)} operands instead of {operands}")
        if len(node.outputs) != results:
            self.fail(node, f"it has {len(node.outputs)} results instead of {results}")

    def _same(self, node: Node, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            self.fail(node, f"{what} is {found}, expected {expected}")

    # ---- kinds

    def _input(self, node: Node) -> None:
        self._count(node, 0)
        if not isinstance(node.attrs.get("name"), str):
            self.fail(node, "it has no name")

    def _constant(self, node: Node) -> None:
        self._count(node, 0)
        array, out = node.attrs["array"], node.outputs[0]
        if not isinstance(array, np.ndarray):
            self.fail(node, f"its data is a {type(array).__name__}, not a NumPy array")
        self._same(node, "the data's shape", tuple(array.shape), out.shape)
        self._same(node, "the data's dtype", FROM_NUMPY.get(array.dtype), out.dtype)

    def _full(self, node: Node) -> None:
        self._count(node, 0)
        if not isinstance(node.attrs["value"], (bool, int, float, complex, np.number, np.bool_)):
            self.fail(node, f"its value is {node.attrs['value']!r}, not a number")

    def _view(self, node: Node) -> None:
        self._count(node, 1)
        base, out = node.inputs[0], node.outputs[0]
        if base.node.kind == "view":
            self.fail(node, f"it looks at {base}, a view, instead of at memory")
        self._same(node, "dtype", out.dtype, base.dtype)
        self._same(node, "device", out.device, base.device)
        self._same(node, "shape", out.shape, tuple(node.attrs["shape"]))
        self._inside(node, base, node.attrs["shape"], node.attrs["strides"], node.attrs["offset"])

    def _write(self, node: Node) -> None:
        out, places, over = node.outputs[0], node.attrs["places"], node.attrs["fill"] is None
        self._count(node, len(places) + over)
        if over:
            self._same(node, "shape", out.shape, node.inputs[0].shape)
        for v in node.inputs:
            self._same(node, f"dtype of {v}", v.dtype, out.dtype)
            self._same(node, "device", v.device, out.device)
        for v, place in zip(node.inputs[over:], places):
            self._same(node, "the written value's shape", v.shape, tuple(place[0]))
            self._inside(node, out, *place)

    def _inside(self, node: Node, base: Value, shape: tuple, strides: tuple, offset: int) -> None:
        if len(shape) != len(strides):
            self.fail(node, f"shape {shape} and strides {strides} differ in length")
        if 0 in shape:
            return
        first = offset + sum((n - 1) * s for n, s in zip(shape, strides) if s < 0)  # a flipped dimension runs backwards
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides) if s > 0)
        if first < 0 or last >= base.size:
            self.fail(node, f"it addresses elements {first} to {last} of {base}, which has {base.size}")

    def _loop(self, node: Node) -> None:
        spec, shape, axes = node.op, node.attrs["shape"], node.attrs["axes"]
        if not isinstance(spec, LoopSpec):
            self.fail(node, f"its operation is a {type(spec).__name__}, not a LoopSpec")
        self._count(node, len(spec.in_dtypes), len(spec.values))
        self._same(node, "the number of scalars", len(node.attrs["scalars"]), len(spec.scalars))
        for i, (v, d) in enumerate(zip(node.inputs, spec.in_dtypes)):
            self._same(node, f"dtype of operand {i}", v.dtype, d)
        self._broadcasts(node, [v.shape for v in node.inputs], shape)
        if spec.reduces != (axes is not None):
            self.fail(node, f"axes={axes} for an operation that {'reduces' if spec.reduces else 'does not reduce'}")
        if axes is not None and (list(axes) != sorted(set(axes)) or any(not 0 <= d < len(shape) for d in axes)):
            self.fail(node, f"it reduces dimensions {axes} of a space of {len(shape)}")
        reduced = tuple(1 if axes and d in axes else n for d, n in enumerate(shape))
        for v, d, full in zip(node.outputs, spec.out_dtypes, spec.full):
            self._same(node, f"dtype of {v}", v.dtype, d)
            self._same(node, f"shape of {v}", v.shape, tuple(shape) if full else reduced)
            if v.device != node.outputs[0].device:
                self.fail(node, f"results on {node.outputs[0].device} and {v.device}")
        place = node.outputs[0].device
        for v in node.inputs:
            if v.device != place and (v.shape or v.device.type != "cpu"):  # a number in host memory goes to a kernel by value
                self.fail(node, f"operand {v} is on {v.device}, the result on {place}")
        used = {(e.op, e.attr) for e in walk(spec.values) if e.op in ("load", "scalar")}
        for op, i in used:
            if not 0 <= i < (len(node.inputs) if op == "load" else len(spec.scalars)):
                self.fail(node, f"its body reads {op} {i}, which is not there")

    def _broadcasts(self, node: Node, shapes: Sequence[tuple[int, ...]], to: tuple[int, ...]) -> None:
        for s in shapes:
            try:
                ok = tuple(broadcast_shapes(s, to)) == tuple(to)
            except RuntimeError:
                ok = False
            if not ok:
                self.fail(node, f"an operand of shape {s} does not broadcast to the index space {to}")

    def _opaque(self, node: Node) -> None:
        if not isinstance(node.op, OpDef):
            self.fail(node, f"its operation is a {type(node.op).__name__}, not an OpDef")
        used: list[int] = []
        for s in node.structure or ():
            used += s if isinstance(s, tuple) else [] if s is None else [s]
        if used != list(range(len(node.inputs))):
            self.fail(node, f"its structure {node.structure} does not name its {len(node.inputs)} operands once each, in order")
