"""Orthogonal polynomials at a degree per element: three-term recurrences (Abramowitz and Stegun, chapter 22). No gradients, as in PyTorch.

The recurrence runs to the largest degree. Where the degrees are a tensor, that reads its values.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dtypes import get_default_dtype
from ..tensor import Tensor
from .opdef import composite, compute_dtype, fn

#: Degrees from which Hermite polynomials are NaN, as in PyTorch.
HERMITE_LIMIT = 128


def _recurrence(x: Any, n: Any, first: Callable[[Any], Any], step: Callable[[Any, Any, Any, int], Any],
                shift: bool) -> Any:
    """``p(n)`` at ``x`` (``shift``: at ``2 x - 1``), with ``p(0) = 1``, ``p(1) = first(x)`` and ``p(k + 1) = step(x, p(k), p(k - 1), k)``;
    0 for negative degrees."""
    if not isinstance(x, Tensor) and not isinstance(n, Tensor):
        raise TypeError(f"expected a tensor among input and n, got {type(x).__name__} and {type(n).__name__}")
    like = x if isinstance(x, Tensor) else n
    if not isinstance(x, Tensor):
        x = fn.full((), x, dtype=like.dtype if like.dtype.category == 2 else get_default_dtype(), device=like.device)
    if not isinstance(n, Tensor):
        n = fn.full((), n, device=like.device)
        top = int(n.item())
    else:
        top = int(n.max().item()) if n.numel() else -1
    d = fn.result_type(x, n)
    d = d if d.category == 2 else get_default_dtype()
    x, degree = fn.broadcast_tensors(x.detach().to(compute_dtype(d)), n.detach().long())
    x = x * 2 - 1 if shift else x
    before, now = fn.ones_like(x), first(x)
    out = fn.where(degree == 0, before, fn.zeros_like(x))
    for k in range(1, min(top, 1000) + 1):
        out = fn.where(degree == k, now, out)
        before, now = now, step(x, now, before, k)
    return out.to(d)


def _polynomial(name: str, doc: str, first: Callable, step: Callable, shift: bool = False, limit: int | None = None) -> None:
    def f(input, n):  # noqa: ANN001, ANN202
        r = _recurrence(input, n, first, step, shift)
        return r if limit is None else fn.where((n if isinstance(n, Tensor) else fn.full((), n, device=r.device)) > limit, float("nan"), r)
    f.__doc__ = doc
    composite(name=f"special_{name}", function=False, method=False, differentiable=False, out=True, aliases=(f"special.{name}",))(f)


def _chebyshev(x: Any, now: Any, before: Any, k: int) -> Any:
    return x * 2 * now - before


for _letter, _first, _kind in (("t", lambda x: x, "first"), ("u", lambda x: x * 2, "second"), ("v", lambda x: x * 2 - 1, "third"),
                               ("w", lambda x: x * 2 + 1, "fourth")):
    _polynomial(f"chebyshev_polynomial_{_letter}", f"The Chebyshev polynomial of the {_kind} kind of degree ``n``.", _first, _chebyshev)
    _polynomial(f"shifted_chebyshev_polynomial_{_letter}",
                f"The Chebyshev polynomial of the {_kind} kind of degree ``n`` at ``2 * input - 1``.", _first, _chebyshev, shift=True)
_polynomial("hermite_polynomial_h", "The physicists' Hermite polynomial of degree ``n``.", lambda x: x * 2,
            lambda x, now, before, k: x * 2 * now - before * (2 * k), limit=HERMITE_LIMIT)
_polynomial("hermite_polynomial_he", "The probabilists' Hermite polynomial of degree ``n``.", lambda x: x,
            lambda x, now, before, k: x * now - before * k, limit=HERMITE_LIMIT)
_polynomial("laguerre_polynomial_l", "The Laguerre polynomial of degree ``n``.", lambda x: 1 - x,
            lambda x, now, before, k: ((2 * k + 1 - x) * now - before * k) / (k + 1))
_polynomial("legendre_polynomial_p", "The Legendre polynomial of degree ``n``.", lambda x: x,
            lambda x, now, before, k: ((2 * k + 1) * x * now - before * k) / (k + 1))
