"""Recorded operations: what the tape keeps of one, and how its gradient is computed.

An operation with a gradient rule of its own is an :class:`OpNode`; one whose gradient is derived from its body a :class:`LoopNode`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import dispatch
from .autograd import GradMode, Node, Saved, edge_of, edges_of, keep, next_order
from .autograd.names import node_name, number_of
from .dtypes import FROM_NUMPY, dtype
from .ops.expr import Expr, substitute, walk
from .ops.gradient import derive
from .ops.opdef import LoopSpec, OpDef, fn
from .tensor import Meta, Tensor

_new = object.__new__
#: The gradient of the only operand from that of the only result.
_ONE = (0,), (True,)


class OpNode(Node):
    """A recorded operation: what its vjp may look at. ``ctx["input"]`` is a saved operand, ``ctx["out"]`` the saved output."""

    saved: dict[str, Any] = {}

    def __init__(self, op: OpDef, tensors: Sequence[Tensor], attrs: dict[str, Any], n_outputs: int = 1) -> None:
        super().__init__(edges_of(tensors), n_outputs)
        self.op, self.attrs = op, attrs
        self.operands = [(a.shape, a.dtype) for a in [t._a for t in tensors]]

    @property
    def needed(self) -> tuple[bool, ...]:
        """For each tensor operand, whether its gradient is wanted."""
        return tuple([e is not None for e in self.edges])

    @staticmethod
    def of_one(op: OpDef, t: Tensor, attrs: dict[str, Any], out: Tensor) -> None:
        """What the constructor, :meth:`save` and :func:`set_history` do for one operand and a result that is new and floating, in line."""
        node = _new(OpNode)
        node.order = next_order()
        x, a = t._x, t._a
        node.edges = (t if x is None else (x.node, x.index) if x.base is None and x.node is not None else edge_of(t),)
        node.op, node.attrs = op, attrs
        node.operands = ((a.shape, a.dtype),)
        out._req = True
        m = out._x
        if m is None:
            out._x = m = _new(Meta)
        m.node = node
        if op.saves:
            node.saved = saved = {}
            for name in op.saves:
                if name == "out":
                    saved[name] = keep(out, 0)
                elif name == op.operands[0]:
                    saved[name] = keep(t)

    @staticmethod
    def of_view(op: OpDef, t: Tensor, attrs: tuple) -> OpNode:
        """The node of a view of ``t``: what the constructor does, in line."""
        node = _new(OpNode)
        node.order = next_order()
        x = t._x
        node.edges = ((x.node, x.index) if x is not None and x.node is not None and (x.base is None or x.base._x.version[0] == x.seen)
                      else edge_of(t),)
        node.op = op
        node.attrs = {op.statics[0]: attrs[0]} if len(attrs) == 1 else dict(zip(op.statics, attrs))
        node.operands = ((t._a.shape, t._a.dtype),)
        if op.part:
            node.part = op.kernels["numpy"]
        return node

    def save(self, operands: dict[str, Tensor], outputs: Sequence[Tensor]) -> None:
        """Keeps what the op's vjp declared."""
        self.saved = saved = {}
        for name in self.op.saves:
            if name == "out":
                saved[name] = keep(outputs[0], 0)
            elif name.startswith("out") and name[3:].isdigit():
                if int(name[3:]) < len(outputs):  # an op may have fewer results in some of its forms
                    saved[name] = keep(outputs[int(name[3:])], int(name[3:]))
            else:
                given = operands.get(name)
                if isinstance(given, Tensor):
                    saved[name] = keep(given)
                elif isinstance(given, (list, tuple)):
                    saved[name] = [keep(t) for t in given]

    def __getattr__(self, name: str) -> Any:
        """``_saved_self``, ``_saved_result`` ...: what is kept for backward, by PyTorch's names."""
        held = {"self": "input", "result": "out"}.get(name[7:], name[7:])
        if name.startswith("_saved_") and held in self.saved:
            return self[held]
        raise AttributeError(f"{self.name()!r} object has no attribute {name!r}")

    def __getitem__(self, name: str) -> Any:
        s = self.saved.get(name)
        return None if s is None else [t.get(self) for t in s] if isinstance(s, list) else s.get(self)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Shape of tensor operand ``i``."""
        return self.operands[i][0]

    def dtype(self, i: int = 0) -> dtype:
        """Dtype of tensor operand ``i``."""
        d = self.operands[i][1]
        return d if isinstance(d, dtype) else FROM_NUMPY[d]

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Calls the op's vjp."""
        if self.op.vjp_fn is None:
            raise NotImplementedError(f"derivative for {self.op.name} is not implemented")
        out = self.op.vjp_fn(self, *grads)
        return out if isinstance(out, (tuple, list)) else (out,)

    def release(self) -> None:
        """Drops saved tensors."""
        if self.saved:
            self.released = True
            self.saved = {}

    def name(self) -> str:
        """Such as ``SumBackward0``."""
        if self.label is None:
            dim = self.attrs.get("dim")
            some = bool(self.attrs.get("keepdim")) or isinstance(dim, tuple) and len(dim) < len(self.shape())
            return node_name(self.op.name, number_of(self.op.name, 0, some) if isinstance(dim, tuple) else 0)
        return self.label


class GradPlan:
    """A derived gradient: the spec of its kernel, what it reads, and of which input each of its results, or an incoming gradient that is
    passed on unchanged, is the gradient."""

    __slots__ = ("spec", "reads", "results", "saves")

    def __init__(self, spec: LoopSpec | None, reads: tuple, results: tuple) -> None:
        self.spec, self.reads, self.results = spec, reads, results
        self.saves = tuple([tuple([k for kind, k in reads if kind == what]) for what in ("in", "out")])


def grad_plan(spec: LoopSpec, wanted: tuple[int, ...], have: tuple[bool, ...]) -> GradPlan:
    """Derives the backward kernel for the wanted inputs, given which outputs have a gradient; cached on the spec."""
    plan = spec.grads.get((wanted, have))
    if plan is None:
        plan = spec.grads[wanted, have] = _make_grad_plan(spec, wanted, have)
    return plan


def _make_grad_plan(spec: LoopSpec, wanted: tuple[int, ...], have: tuple[bool, ...]) -> GradPlan:
    n, m = len(spec.in_dtypes), len(spec.values)
    live = [j for j in range(m) if have[j]]
    grads = derive([spec.values[j] for j in live], [spec.out_dtypes[j] for j in live], n, wanted)

    def origin(k: int) -> tuple[str, int]:
        return ("in", k) if k < n else ("grad", live[k - n]) if k < n + len(live) else ("out", live[k - n - len(live)])

    results: list[tuple[str, int] | None] = []
    values: list[Expr] = []
    kept: list[int] = []
    for i, g in zip(wanted, grads):
        if g is None:
            results.append(None)
            continue
        if not any(e.op == "load" for e in walk([g])):  # free of the incoming gradient: flat everywhere, such as floor
            results.append(("zero", None))
            continue
        bare = g
        while bare.op == "cast" and bare.args[0].op in ("load", "cast") and bare.args[0].dtype.is_floating_point:
            bare = bare.args[0]
        if bare.op == "load" and bare.dtype is spec.in_dtypes[i] and bare.attr >= n:
            results.append(("pass", origin(bare.attr)[1]))
        else:
            results.append(("kernel", len(values)))
            values.append(g)
            kept.append(i)
    used = sorted({e.attr for e in walk(values) if e.op == "load"})
    number = {k: j for j, k in enumerate(used)}
    mapping = {e: Expr("load", (), number[e.attr], e.dtype) for e in walk(values) if e.op == "load"}
    new = None
    if values:
        dtypes = {e.attr: e.dtype for e in walk(values) if e.op == "load"}
        new = LoopSpec(spec.name + "_backward", None, [dtypes[k] for k in used], substitute(values, mapping),
                       [spec.in_dtypes[i] for i in kept], [True] * len(values), spec.scalars, False)
    return GradPlan(new, tuple(origin(k) for k in used), tuple((i, r) for i, r in zip(wanted, results) if r is not None))


class LoopNode(Node):
    """A recorded elementwise operation whose gradient is derived from its body."""

    scalars: Sequence[Any] = ()
    inputs: dict[int, Saved] = {}
    outputs: dict[int, Saved] = {}
    spec: LoopSpec
    shapes: Sequence[tuple[int, ...]]
    plan: GradPlan | None = None        # for gradients of all floating results

    @staticmethod
    def of_one(spec: LoopSpec, t: Tensor, out: Tensor) -> LoopNode:
        """What the constructor and :func:`set_history` do, for one operand and a result that is new: the commonest case, in line."""
        node = _new(LoopNode)
        node.order = next_order()
        x = t._x
        node.edges = (t if x is None else (x.node, x.index) if x.base is None and x.node is not None else edge_of(t),)
        node.spec = spec
        node.shapes = (t._a.shape,)
        out._req = True
        out._x = m = _new(Meta)
        m.node = node
        node.plan = plan = spec.grads.get(_ONE) or grad_plan(spec, *_ONE)
        inputs, results = plan.saves
        if inputs:
            node.inputs = {0: keep(t)}
        if results:
            node.outputs = {0: keep(out, 0)}
        return node

    def __init__(self, spec: LoopSpec, tensors: Sequence[Tensor], scalars: Sequence[Any], outputs: Sequence[Tensor]) -> None:
        super().__init__(edges_of(tensors), len(outputs))
        self.spec = spec
        if scalars:
            self.scalars = scalars
        self.shapes = [t._a.shape for t in tensors]
        self.save(tensors, outputs)

    def __getattr__(self, name: str) -> Any:
        """``_saved_self``, ``_saved_other`` and ``_saved_result``: what is kept for backward, by PyTorch's names."""
        kept, k = {"_saved_self": (self.inputs, 0), "_saved_other": (self.inputs, 1), "_saved_result": (self.outputs, 0)}.get(name, ({}, 0))
        if k in kept:
            return kept[k].get(self)
        raise AttributeError(f"{self.name()!r} object has no attribute {name!r}")

    @property
    def wanted(self) -> tuple[int, ...]:
        """The inputs that want a gradient."""
        return tuple([i for i, e in enumerate(self.edges) if e is not None])

    def save(self, tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Keeps what the gradient's kernel reads."""
        spec = self.spec
        self.plan = plan = grad_plan(spec, (0,) if len(self.edges) == 1 else self.wanted, spec.differentiable)
        inputs, results = plan.saves
        if inputs:
            self.inputs = {k: keep(tensors[k]) for k in inputs}
        if results:
            self.outputs = {k: keep(outputs[k], k) for k in results}

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Runs the derived kernel, then sums over broadcast dimensions."""
        if len(grads) == 1:
            plan = self.plan or grad_plan(self.spec, self.wanted, (True,))
        else:
            if any([g is None for g in grads]):  # what was saved serves a gradient of all floating results
                like = next(g for g in grads if g is not None)
                grads = [fn.zeros(like._a.shape, dtype=d, device=like.device) if g is None and d.category >= 2 else g
                         for g, d in zip(grads, self.spec.out_dtypes)]
            plan = grad_plan(self.spec, self.wanted, tuple([g is not None for g in grads]))
        made: Any = ()
        if plan.spec is not None:
            reads = [grads[k] if kind == "grad" else self.inputs[k].get(self) if kind == "in" else self.outputs[k].get(self)
                     for kind, k in plan.reads]
            made = dispatch.apply_loop(plan.spec, reads, self.scalars, GradMode.enabled)
            if not isinstance(made, tuple):
                made = (made,)
        if len(self.shapes) == 1 and made and made[0]._a.shape == self.shapes[0]:
            return made
        out: list[Tensor | None] = [None] * len(self.edges)
        for i, (kind, k) in plan.results:
            if kind == "zero":
                like = next(g for g in grads if g is not None)
                out[i] = fn.zeros(self.shapes[i], dtype=self.spec.in_dtypes[i], device=like.device)
                continue
            g, shape = grads[k] if kind == "pass" else made[k], self.shapes[i]
            out[i] = g if g._a.shape == shape else sum_to(g, shape)
        return out

    def release(self) -> None:
        """Drops saved tensors."""
        if self.inputs or self.outputs:
            self.released = True
            self.inputs, self.outputs = {}, {}

    def name(self) -> str:
        """Such as ``MulBackward0``."""
        if self.label is None and self.spec.name == "sub" and self.scalars:  # 1 - x has a node of its own
            if not any(e.op == "load" for e in walk([self.spec.values[0].args[0]])):
                return "RsubBackward1"
        return self.label or node_name(self.spec.name, number_of(self.spec.name, len(self.scalars), False))

    @property
    def next_functions(self) -> tuple:
        """Where gradients flow next. PyTorch's nodes of two operands have an edge for a number, too."""
        edges = super().next_functions
        return (*edges, (None, 0)) if len(edges) == 1 and self.scalars and self.spec.name in ("add", "sub", "mul", "div") else edges


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undoes broadcasting: sums ``g`` to ``shape``."""
    have = g._a.shape
    if have == tuple(shape):
        return g
    lead = len(have) - len(shape)
    if lead < 0:  # the kernel saw fewer dimensions: the gradient broadcasts
        return g.expand(shape)
    dims = [d for d in range(len(have)) if d < lead or (shape[d - lead] == 1 and have[d] != 1)]
    if dims:
        g = g.sum(dims, keepdim=True)
    return g.reshape(shape) if g._a.shape != tuple(shape) or lead else g
