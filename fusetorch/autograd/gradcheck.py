"""``gradcheck``: analytical gradients against finite differences."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops.opdef import fn
from ..tensor import Tensor
from .engine import grad
from .modes import no_grad

__all__ = ["gradcheck", "gradgradcheck", "GradcheckError"]


class GradcheckError(RuntimeError):
    """The analytical gradient is not the numerical one."""


def _outputs(func: Callable, inputs: tuple) -> tuple[Tensor, ...]:
    out = func(*inputs)
    out = out if isinstance(out, (tuple, list)) else (out,)
    return tuple([o for o in out if isinstance(o, Tensor) and o.dtype.is_floating_point])


def _numerical(func: Callable, inputs: tuple, i: int, eps: float) -> list[np.ndarray]:
    """Per output, the Jacobian to input ``i``: a row for each element of the input."""
    t = inputs[i].detach()
    base = t.reshape(-1).tolist()
    rows: list[list[np.ndarray]] = []
    with no_grad():
        for k, value in enumerate(base):
            sides = []
            for shift in (eps, -eps):
                moved = np.array(base, dtype=t.dtype.np)
                moved[k] = value + shift
                given = list(inputs)
                given[i] = fn.tensor(moved.reshape(tuple(t.shape)), dtype=t.dtype, device=t.device)
                sides.append([o.detach().double().cpu().numpy().ravel().copy() for o in _outputs(func, tuple(given))])
            rows.append([(a - b) / (2 * eps) for a, b in zip(*sides)])
    return [np.stack(column) for column in zip(*rows)] if rows else []


def _analytical(o: Tensor, t: Tensor) -> np.ndarray:
    columns = []
    flat = o.reshape(-1)
    for k in range(flat.shape[0]):
        e = fn.zeros_like(flat.detach())
        e[k] = 1
        g, = grad(flat, t, e, retain_graph=True, allow_unused=True)
        columns.append(np.zeros(t.numel()) if g is None else g.detach().double().cpu().numpy().ravel())
    return np.stack(columns, 1) if columns else np.zeros((t.numel(), 0))


def _tangents(func: Callable, inputs: tuple, i: int, j: int) -> np.ndarray:
    """The Jacobian of output ``j`` by input ``i`` from forward mode: a row for each element of the input."""
    from . import forward_ad
    t, rows = inputs[i].detach(), []
    for k in range(t.numel()):
        e = fn.zeros_like(t)
        e.reshape(-1)[k] = 1
        with forward_ad.dual_level():
            given = [*inputs[:i], forward_ad.make_dual(t, e), *inputs[i + 1:]]
            found = forward_ad.unpack_dual(_outputs(func, given)[j])
        rows.append((fn.zeros_like(found.primal) if found.tangent is None else found.tangent).double().cpu().numpy().ravel())
    return np.stack(rows)


def gradcheck(func: Callable, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
              nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
              check_batched_forward_grad: bool = False, check_forward_ad: bool = False, check_backward_ad: bool = True,
              fast_mode: bool = False, masked: bool | None = None) -> bool:
    """Compares the gradients of ``func`` at ``inputs`` (float64, those with ``requires_grad``) with finite differences.

    Returns ``True``, or raises :class:`GradcheckError` (with ``raise_exception=False``: returns ``False``) where one differs by more
    than ``atol + rtol * |numerical|``. Always the full Jacobian; ``fast_mode`` and the checks of batched gradients are accepted and change
    nothing.

    Example:
        >>> import fusetorch as torch
        >>> x = torch.randn(3, dtype=torch.float64, requires_grad=True)
        >>> torch.autograd.gradcheck(torch.sin, (x,))
        True
    """
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    wanted = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have requires_grad=True.")
    try:
        outputs = _outputs(func, inputs)
        live = [o for o in outputs if o.requires_grad]
        for i in wanted:
            numerical = _numerical(func, inputs, i, eps)
            for j, o in enumerate(outputs):
                n = numerical[j] if numerical else np.zeros((0, o.numel()))
                checks = []
                if check_backward_ad:
                    checks.append(("", _analytical(o, inputs[i]) if o.requires_grad else np.zeros_like(n)))
                if check_forward_ad:
                    checks.append((" (forward mode)", _tangents(func, inputs, i, j)))
                for mode, a in checks:
                    if not np.allclose(a, n, rtol, atol, equal_nan=True):
                        raise GradcheckError(f"Jacobian mismatch for output {j} with respect to input {i}{mode},\nnumerical:{n}\n"
                                             f"analytical:{a}\n")
        if check_undefined_grad and check_backward_ad and live:
            _check_unused(live, [inputs[i] for i in wanted])
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check_unused(outputs: list[Tensor], inputs: list[Tensor]) -> None:
    """Zero gradients in must give zero gradients out."""
    for g in grad(outputs, inputs, [fn.zeros_like(o) for o in outputs], retain_graph=True, allow_unused=True):
        if g is not None and bool((g != 0).any()):
            raise GradcheckError("backward not multiplied by grad_output")


def gradgradcheck(func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
                  gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True, nondet_tol: float = 0.0,
                  check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
                  check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True, fast_mode: bool = False,
                  masked: bool = False) -> bool:
    """Compares the gradients of ``func``'s gradients with finite differences; see :func:`gradcheck`."""
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    outputs = [o for o in _outputs(func, inputs) if o.requires_grad]
    if grad_outputs is None:
        given = [fn.randn_like(o.detach()).requires_grad_() for o in outputs]
    else:
        given = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    wanted = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]

    def first(*args: Any) -> tuple[Tensor, ...]:
        xs, gs = args[:len(inputs)], args[len(inputs):]
        xs = tuple([x.detach().requires_grad_() if i in wanted and not x.requires_grad else x for i, x in enumerate(xs)])
        from .modes import enable_grad
        with enable_grad():
            ys = [o for o in _outputs(func, xs) if o.requires_grad]
            found = grad(ys, [xs[i] for i in wanted], gs, create_graph=True, allow_unused=True)
        return tuple([g for g in found if g is not None])

    return gradcheck(first, (*inputs, *given), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     check_undefined_grad=check_undefined_grad)
