"""``autograd.Function``: operations whose gradient the user writes."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..ops.opdef import fn
from ..tensor import Tensor, wrap
from ..writing import bump
from .engine import check_inplace, grad, rebase
from .modes import GradMode, no_grad
from .nodes import Node, edge_of, keep, set_history

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """What the user's methods get as ``ctx``: attributes of any name are theirs to set."""

    needs_input_grad: tuple[bool, ...]

    def __init__(self, inputs: Sequence[Any]) -> None:
        self.needs_input_grad = tuple([isinstance(x, Tensor) and x._req for x in inputs])
        self._ft = _State()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for ``backward``, where ``ctx.saved_tensors`` gives them."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {tensors.index(t)} is of type {type(t).__name__}")
        self._ft.to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Accepted; there is no forward-mode differentiation."""

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Says that these outputs have no gradient."""
        self._ft.constant = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Says that ``forward`` changed these inputs in place."""
        self._ft.dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether a missing output gradient reaches ``backward`` as zeros (the default) or as ``None``."""
        self._ft.materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What ``save_for_backward`` kept."""
        node = self._ft.node
        if node is None:
            return tuple(self._ft.to_save)
        if node.released:
            raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have "
                               "already been freed). Specify retain_graph=True if you need to.")
        return tuple([None if s is None else s.get(node) for s in self._ft.saved])


class _State:
    """What a context knows beside the user's attributes."""

    def __init__(self) -> None:
        self.node: FunctionNode | None = None
        self.materialize = True
        self.to_save: tuple = ()
        self.saved: list[Any] = []
        self.constant: tuple = ()
        self.dirty: tuple = ()


class FunctionNode(Node):
    """The history of a :class:`Function`'s outputs. The context's attributes are seen through it, as PyTorch's ``grad_fn`` shows them."""

    def __init__(self, function: type[Function], ctx: FunctionCtx, inputs: Sequence[Any]) -> None:
        self.function, self.ctx = function, ctx
        self.places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]
        super().__init__(tuple([edge_of(inputs[i]) for i in self.places]))
        self.n_inputs = len(inputs)
        self.likes = [(inputs[i].shape, inputs[i].dtype) for i in self.places]
        self.metas: list[tuple | None] = []
        if function.backward is Function.backward:
            self.given = [(t.shape, t.dtype, t.device) if isinstance(t, Tensor) and t._req else None for t in inputs]

    def __getattr__(self, name: str) -> Any:
        if name == "ctx" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.ctx, name)

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Calls the user's ``backward``."""
        if self.ctx._ft.materialize:
            grads = [g if g is not None else None if m is None else fn.zeros(m[0], dtype=m[1], device=m[2])
                     for g, m in zip(grads, self.metas)]
        if GradMode.enabled and self.function.backward is Function.backward and self.function.jvp is not Function.jvp:
            out = self._transposed(grads)
        else:
            out = self.function.backward(self.ctx, *grads)
        out = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        if len(out) < self.n_inputs or any(g is not None for g in out[self.n_inputs:]):
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients (expected {self.n_inputs}, got "
                               f"{len(out)})")
        found = [out[i] for i in self.places]
        for i, (g, (shape, dtype)) in enumerate(zip(found, self.likes)):
            if g is None or self.edges[i] is None:
                continue
            if not isinstance(g, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
            if g.shape != shape:
                g = _fitted(self, i, g, shape)
            found[i] = g if g.dtype is dtype or dtype.category < 2 else g.to(dtype)
        return found

    def _transposed(self, grads: list[Tensor | None]) -> list[Tensor | None]:
        """The gradients of the inputs by the derivative of ``jvp``, which is linear in its tangents: what forward mode differentiates."""
        tangents = [None if m is None else fn.zeros(m[0], dtype=m[1], device=m[2], requires_grad=True) for m in self.given]
        made = self.function.jvp(self.ctx, *tangents)
        pairs = [(y, g) for y, g in zip(made if isinstance(made, tuple) else (made,), grads) if g is not None and y is not None and y._req]
        wanted = [t for t in tangents if t is not None]
        if not pairs:
            return [None] * len(tangents)
        found = iter(grad([y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True))
        return [None if t is None else next(found) for t in tangents]

    def release(self) -> None:
        """Drops saved tensors."""
        if self.ctx._ft.saved:
            self.released, self.ctx._ft.saved = True, []

    def name(self) -> str:
        """The class's name and ``Backward``."""
        return self.function.__name__ + "Backward"


def _fitted(node: FunctionNode, i: int, g: Tensor, shape: Any) -> Tensor:
    """A gradient of another shape: summed where the input's shape broadcasts to it, else PyTorch's error."""
    from ..recorded import sum_to
    try:
        return sum_to(g, tuple(shape))
    except RuntimeError:
        raise RuntimeError(f"Function {node.name()} returned an invalid gradient at index {i} - got {list(g.shape)} but expected shape "
                           f"compatible with {list(shape)}") from None


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
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The outputs' tangents from the inputs'. Forward mode calls it for a function that has no ``backward``."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode AD.")

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> Any:
        """A rule for ``vmap``, which is not needed: it runs the function once per slice."""
        raise NotImplementedError("vmap runs the function once per slice")

    generate_vmap_rule = False

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradients of the inputs from those of the outputs."""
        raise NotImplementedError("You must implement the backward method for your custom autograd.Function to use it with backward mode "
                                  "AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs ``forward`` and records ``backward``."""
        ctx = FunctionCtx(args)
        state = ctx._ft
        recorded = GradMode.enabled and any(ctx.needs_input_grad)
        node = FunctionNode(cls, ctx, args) if recorded else None
        separate = cls.setup_context is not Function.setup_context
        with no_grad():
            result = cls.forward(*args, **kwargs) if separate else cls.forward(ctx, *args, **kwargs)
            if separate:
                cls.setup_context(ctx, args, result)
        for t in state.dirty:
            check_inplace(t, cls.__name__)
            bump(t)
        outs = list(result) if isinstance(result, tuple) else [result]
        constant = {id(t) for t in state.constant}
        final = []
        for t in outs:
            if isinstance(t, Tensor) and any(t is a for a in args) and not any(t is d for d in state.dirty):
                alias = wrap(t._a)  # an input that is returned as it is becomes a result of its own
                if id(t) in constant:
                    constant.add(id(alias))
                t = alias
            final.append(t)
        if node is not None:
            if len(final) != 1:
                node.n_outputs = len(final)
            node.metas = [(t.shape, t.dtype, t.device) if isinstance(t, Tensor) else None for t in final]
            number = {id(t): i for i, t in enumerate(outs)}
            state.saved = [None if t is None else keep(t, number.get(id(t)) if not any(t is a for a in args) else None)
                           for t in state.to_save]
            state.to_save, state.node = (), node
            for i, t in enumerate(final):
                if isinstance(t, Tensor) and t.dtype.category >= 2 and id(t) not in constant:
                    if any(t is d for d in state.dirty):
                        rebase(t, node, i)
                    else:
                        set_history(t, node, i)
        state.constant = state.dirty = ()
        return tuple(final) if isinstance(result, tuple) else final[0]


class InplaceFunction(Function):
    """A :class:`Function` under the name that programs for old versions of PyTorch derive from."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class _Once(Node):
    """The history of gradients from a ``backward`` that cannot itself be differentiated."""

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Refuses."""
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(f: Any) -> Any:
    """Marks a ``backward`` that cannot itself be differentiated."""
    @functools.wraps(f)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            out = f(ctx, *grads)
        given = [g for g in grads if isinstance(g, Tensor)]
        if not GradMode.enabled or not any(g._req for g in given):
            return out
        results = out if isinstance(out, tuple) else (out,)
        node = _Once(tuple([edge_of(g) for g in given]), len(results))
        marked = tuple([set_history(wrap(t._a), node, i) if isinstance(t, Tensor) else t for i, t in enumerate(results)])
        return marked if isinstance(out, tuple) else marked[0]
    return wrapper
