"""``torch.autograd.functional``: Jacobians, Hessians and their products with vectors, of functions of tensors."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops.opdef import fn
from ..tensor import Tensor
from .engine import grad
from .modes import enable_grad

__all__ = ["vjp", "jvp", "jacobian", "hessian", "hvp", "vhp"]


def _tuple(x: Any, arg: str, f: str) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether ``x`` is a tuple, and its tensors; ``TypeError`` for anything else."""
    single = not isinstance(x, tuple)
    out = (x,) if single else x
    for i, t in enumerate(out):
        if not isinstance(t, Tensor):
            what = f"The {arg} given to {f} must be either a Tensor or a tuple of Tensors but the"
            raise TypeError(f"{what} value at index {i} has type {type(t)}." if not single else f"{what} given {arg} has type {type(t)}.")
    return not single, out


def _fresh(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    if create_graph:  # a new node, so that a gradient of an input is not that of its other uses
        return tuple([t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in inputs])
    return tuple([t.detach().requires_grad_() for t in inputs])


def _run(func: Callable, inputs: Any, name: str, create_graph: bool, strict: bool) -> tuple[bool, tuple, bool, tuple]:
    many_in, inputs = _tuple(inputs, "inputs", name)
    inputs = _fresh(inputs, create_graph)
    many_out, outputs = _tuple(func(*inputs), "outputs of the user-provided function", name)
    if strict:
        for i, o in enumerate(outputs):
            if not o.requires_grad:
                raise RuntimeError(f"Output {i} of the user-provided function does not require gradients. The outputs must be computed in "
                                   "a differentiable manner from the input when running in strict mode.")
    return many_in, inputs, many_out, outputs


def _grads(outputs: tuple, inputs: tuple, vectors: tuple, create_graph: bool, strict: bool, retain: bool = True) -> list[Tensor]:
    """The gradients of the outputs that have one, zeros where an input was not used."""
    live = [(o, v) for o, v in zip(outputs, vectors) if o.requires_grad]
    found = grad([o for o, _ in live], inputs, [v for _, v in live], create_graph=create_graph, retain_graph=retain,
                 allow_unused=True) if live else (None,) * len(inputs)
    for i, g in enumerate(found):
        if strict and g is None:
            raise RuntimeError(f"The output of the user-provided function is independent of input {i}. This is not allowed in strict mode.")
        if strict and create_graph and g is not None and not g.requires_grad:
            raise RuntimeError(f"The jacobian of the user-provided function is independent of input {i}. This is not allowed in strict "
                               "mode when create_graph=True.")
    return [fn.zeros_like(t) if g is None else g for t, g in zip(inputs, found)]


def _vectors(v: Any, like: tuple, name: str, many: bool) -> tuple[Tensor, ...]:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if the user-provided function {name} a single Tensor with a single element.")
        return (fn.ones_like(like[0]),)
    _, vectors = _tuple(v, "v", name)
    if len(vectors) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vectors)}.")
    for i, (a, b) in enumerate(zip(vectors, like)):
        if a.shape != b.shape:
            raise RuntimeError(f"Entry {i} in v has invalid size: should be {b.shape} but got {a.shape}.")
    return vectors


def _finish(result: Any, many: bool, create_graph: bool) -> Any:
    out = tuple([t if create_graph else t.detach() for t in result])
    return out if many else out[0]


def vjp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``func``'s outputs and the vector ``v`` times its Jacobian at ``inputs``.

    Example:
        >>> import fusetorch as torch
        >>> torch.autograd.functional.vjp(lambda x: x * x, torch.tensor([1.0, 2.0]), torch.ones(2))
        (tensor([1., 4.]), tensor([2., 4.]))
    """
    with enable_grad():
        many_in, inputs, many_out, outputs = _run(func, inputs, "vjp", create_graph, strict)
        v = _vectors(v, outputs, "returns", many_out)
        found = _grads(outputs, inputs, v, create_graph, strict)
    return _finish(outputs, many_out, create_graph), _finish(found, many_in, create_graph)


def jvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``func``'s outputs and its Jacobian at ``inputs`` times the vector ``v``, by differentiating a backward pass."""
    with enable_grad():
        many_in, inputs, many_out, outputs = _run(func, inputs, "jvp", create_graph, strict)
        v = _vectors(v, inputs, "has", many_in)
        found, _ = push_forward(outputs, inputs, v, create_graph, strict)
    return _finish(outputs, many_out, create_graph), _finish(found, many_out, create_graph)


def push_forward(outputs: tuple, inputs: tuple, v: tuple, create_graph: bool, strict: bool = False,
                 ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The outputs' tangents for the inputs' tangents ``v``: the gradient, with respect to ``w``, of ``w`` times the
    Jacobian; and the ``w``."""
    ws = tuple([fn.zeros_like(o).requires_grad_() for o in outputs])
    back = _grads(outputs, inputs, ws, True, strict)
    live = [(b, t) for b, t in zip(back, v) if b.requires_grad]
    if not live:
        return [fn.zeros_like(o) for o in outputs], ws
    found = grad([b for b, _ in live], ws, [t for _, t in live], create_graph=create_graph, allow_unused=True)
    return [fn.zeros_like(o) if g is None else g for o, g in zip(outputs, found)], ws


def jacobian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """The Jacobian of ``func`` at ``inputs``, of shape ``(*output, *input)``: nested tuples, outputs first, where there are several.

    ``vectorize`` is accepted and changes nothing; ``strategy="forward-mode"`` gives the same numbers.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs '
                             'than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".')
    with enable_grad():
        many_in, inputs, many_out, outputs = _run(func, inputs, "jacobian", create_graph, strict)
        rows = []
        for o in outputs:
            flat = o.reshape(-1)
            each = [_grads((flat,), inputs, (_unit(flat, k),), create_graph, strict) for k in range(flat.shape[0])]
            rows.append(tuple([fn.stack([e[i] for e in each]).reshape(*o.shape, *t.shape) if each else
                               o.new_zeros((*o.shape, *t.shape)) for i, t in enumerate(inputs)]))
        if not create_graph:
            rows = [tuple([t.detach() for t in row]) for row in rows]
    rows = [row if many_in else row[0] for row in rows]
    return tuple(rows) if many_out else rows[0]


def _unit(flat: Tensor, k: int) -> Tensor:
    e = fn.zeros_like(flat.detach())
    e[k] = 1
    return e


def _scalar(func: Callable, name: str) -> Callable:
    def f(*args: Any) -> Any:
        many, out = _tuple(func(*args), "outputs of the user-provided function", name)
        if many or out[0].numel() != 1:
            raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element" if not many else
                               f"The function given to {name} should return a single Tensor")
        return out[0].reshape(())
    return f


def hessian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The second derivatives of a scalar ``func``: of shape ``(*input, *input)``, a tuple of tuples for several inputs."""
    many, _ = _tuple(inputs, "inputs", "hessian")
    scalar = _scalar(func, "hessian")

    def first(*args: Tensor) -> Any:
        found = jacobian(scalar, args, create_graph=True, strict=strict)
        return found if many else found[0]

    return jacobian(first, inputs, create_graph=create_graph, strict=strict)


def vhp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """A scalar ``func``'s value, and the vector ``v`` times its Hessian at ``inputs``."""
    with enable_grad():
        many, inputs = _tuple(inputs, "inputs", "vhp")
        inputs = _fresh(inputs, create_graph)
        v = _vectors(v, inputs, "has", many)
        out = _scalar(func, "vhp")(*inputs)
        if strict and not out.requires_grad:
            raise RuntimeError("The output of the user-provided function does not require gradients")
        first = _grads((out,), inputs, (fn.ones_like(out),), True, strict)
        found = _grads(tuple(first), inputs, v, create_graph, strict)
    return (out if create_graph else out.detach()), _finish(found, many, create_graph)


def hvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """A scalar ``func``'s value, and its Hessian at ``inputs`` times the vector ``v`` (which a Hessian's symmetry makes ``vhp``)."""
    return vhp(func, inputs, v, create_graph, strict)
