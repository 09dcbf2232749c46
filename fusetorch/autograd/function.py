"""``autograd.Function``: operations whose gradient the user writes."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dispatch import bump
from ..ops.opdef import fn
from ..tensor import Tensor, wrap
from .modes import GradMode, no_grad
from .nodes import Node, Saved, edge_of, set_history


class FunctionNode(Node):
    """The history of a :class:`Function`'s outputs; it is also the ``ctx`` that the user's methods get."""

    def __init__(self, function: type[Function], inputs: Sequence[Any]) -> None:
        self.function = function
        self.places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]
        super().__init__(tuple([edge_of(inputs[i]) for i in self.places]))
        self.needs_input_grad = tuple([isinstance(x, Tensor) and x._req for x in inputs])
        self.n_inputs = len(inputs)
        self.materialize = True
        self.to_save: tuple = ()
        self.saved: list[Saved | None] = []
        self.constant: tuple = ()
        self.dirty: tuple = ()
        self.metas: list[tuple] = []

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for ``backward``, where ``ctx.saved_tensors`` gives them."""
        self.to_save = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Says that these outputs have no gradient."""
        self.constant = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Says that ``forward`` changed these inputs in place."""
        self.dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether a missing output gradient reaches ``backward`` as zeros (the default) or as ``None``."""
        self.materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What ``save_for_backward`` kept."""
        if self.released:
            raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have "
                               "already been freed). Specify retain_graph=True if you need to.")
        return tuple([None if s is None else s.get(self) for s in self.saved])

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Calls the user's ``backward``."""
        if self.materialize:
            grads = [g if g is not None else None if m is None else fn.zeros(m[0], dtype=m[1], device=m[2])
                     for g, m in zip(grads, self.metas)]
        out = self.function.backward(self, *grads)
        out = out if isinstance(out, tuple) else (out,)
        if len(out) < self.n_inputs or any(g is not None for g in out[self.n_inputs:]):
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients (expected {self.n_inputs}, got "
                               f"{len(out)})")
        return [out[i] for i in self.places]

    def release(self) -> None:
        """Drops saved tensors."""
        if self.saved:
            self.released, self.saved = True, []

    def name(self) -> str:
        """The class's name and ``Backward``."""
        return self.function.__name__ + "Backward"


class Function:
    """Subclass with static methods ``forward(ctx, *args)`` and ``backward(ctx, *grads)``; call :meth:`apply`.

    ``forward`` runs unrecorded. It may also be written without ``ctx``, with ``setup_context(ctx, inputs, output)`` beside it.

    Example:
        >>> import fusetorch as torch
        >>> class Double(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         return x * 2
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         return grad * 2
        >>> x = torch.ones(2, requires_grad=True)
        >>> Double.apply(x).sum().backward()
        >>> x.grad
        tensor([2., 2.])
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the result."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> Any:
        """Fills ``ctx`` where ``forward`` does not take it."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradients of the inputs from those of the outputs."""
        raise NotImplementedError("You must implement the backward method for your custom autograd.Function to use it with backward mode "
                                  "AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs ``forward`` and records ``backward``."""
        node = FunctionNode(cls, args)
        recorded = GradMode.enabled and any(node.needs_input_grad)
        separate = cls.setup_context is not Function.setup_context
        with no_grad():
            result = cls.forward(*args, **kwargs) if separate else cls.forward(node, *args, **kwargs)
            if separate:
                cls.setup_context(node, args, result)
        for t in node.dirty:
            bump(t)
        outs = list(result) if isinstance(result, tuple) else [result]
        constant = {id(t) for t in node.constant}
        final = []
        for t in outs:
            if isinstance(t, Tensor) and any(t is a for a in args) and not any(t is d for d in node.dirty):
                alias = wrap(t._a)  # an input that is returned as it is becomes a result of its own
                if id(t) in constant:
                    constant.add(id(alias))
                t = alias
            final.append(t)
        if recorded:
            node.n_outputs = len(final)
            node.metas = [(t.shape, t.dtype, t.device) if isinstance(t, Tensor) else None for t in final]
            number = {id(t): i for i, t in enumerate(outs)}
            node.saved = [None if t is None else Saved(t, number.get(id(t)) if not any(t is a for a in args) else None)
                          for t in node.to_save]
            for i, t in enumerate(final):
                if isinstance(t, Tensor) and t.dtype.is_floating_point and id(t) not in constant:
                    set_history(t, node, i)
        node.to_save = ()
        return tuple(final) if isinstance(result, tuple) else final[0]


def once_differentiable(f: Any) -> Any:
    """Marks a ``backward`` that cannot itself be differentiated."""
    def wrapper(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            return f(ctx, *grads)
    return wrapper
