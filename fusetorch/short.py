"""Short ways: a composite operation on CPU tensors as one step, recorded as one node.

A composite may register a short way with ``@op.short`` (see :class:`~fusetorch.ops.opdef.Short`). Compiled functions see the body. A
gradient that is itself recorded (``create_graph=True``) goes through the body too, so a short way has no second derivative to write.
"""
from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from .autograd import GradMode, Node, edge_of, enable_grad, grad, keep, set_history
from .autograd.names import labels, node_name
from .dispatch import tracer
from .ops.opdef import OpDef, Short
from .tensor import Tensor, wrap


def run(op: OpDef, made: Short, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """The result of a short way as a tensor with its history."""
    out = wrap(made.result)
    if GradMode.enabled:
        for t in made.operands:
            if t is not None and t._req:
                return set_history(out, ShortNode(op, made, args, kwargs))
    return out


class ShortNode(Node):
    """A call that took a short way."""

    def __init__(self, op: OpDef, made: Short, args: tuple, kwargs: dict[str, Any]) -> None:
        super().__init__(tuple([None if t is None else edge_of(t) for t in made.operands]))
        self.op, self.call = op, (tuple([tuple(a) if type(a) is list else a for a in args]), kwargs)  # the list may change
        self.operands, self.vjp = made.operands, made.backward
        self.saved = [keep(t) for t in made.saved]

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """By the short way, or through the body if the gradient is recorded."""
        for s in self.saved:
            s.get(self)
        if not GradMode.enabled and type(grads[0]._a) is np.ndarray and tracer[0] is None:
            return [g if g is None else wrap(np.asarray(g)) for g in self.vjp(grads[0]._a)]  # NumPy makes numbers of 0-d arrays
        args, kwargs = self.call
        wanted = [t for t, e in zip(self.operands, self.edges) if e is not None]
        with enable_grad():
            stands = {id(t): Identity.of(t) for t in wanted}

            def stand(a: Any) -> Any:
                return tuple([stand(t) for t in a]) if type(a) in (list, tuple) else stands.get(id(a), a)
            out = self.op.body(*[stand(a) for a in args], **{k: stand(a) for k, a in kwargs.items()})
            found = dict(zip(stands, grad(out, list(stands.values()), grads[0], create_graph=True, allow_unused=True)))
        # an operand that is given twice has got the gradient of both places at once
        return [found.pop(id(t), None) if e is not None else None for t, e in zip(self.operands, self.edges)]

    def release(self) -> None:
        """Drops what was saved."""
        if getrefcount(self) > 3 and callable(labels(self.op.name)):  # somebody may ask for the name, which depends on the call
            self.name()
        self.released = True
        self.saved, self.operands, self.vjp, self.call = [], (), None, ((), {})

    def name(self) -> str:
        """Such as ``LinearBackward0``."""
        if self.label is None:
            named = labels(self.op.name)
            self.label = (named if not callable(named) else None if self.released else named(*self.call)) or node_name(self.op.name)
        return self.label


class Identity(Node):
    """Passes a gradient on: a second tensor in the place of another, for gradients of one call alone."""

    @staticmethod
    def of(t: Tensor) -> Tensor:
        """A tensor like ``t`` whose gradient goes on to ``t``."""
        return set_history(wrap(t._a), Identity((edge_of(t),)))

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """The same."""
        return grads
