"""Orthogonal polynomials at a degree per element: three-term recurrences (Abramowitz and Stegun, chapter 22). No gradients, as in PyTorch.

The recurrence runs to the largest degree, which is at most :data:`LARGEST`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..dtypes import get_default_dtype
from ..tensor import Tensor, wrap
from .opdef import composite, compute_dtype, fn, opaque

#: Degrees from which Hermite polynomials are NaN, as in PyTorch.
HERMITE_LIMIT = 128
#: The largest degree that is computed: a recurrence takes as many steps.
LARGEST = 100_000


class _Polynomial(NamedTuple):
    """A family: ``p(0) = 1``, ``p(1) = first(x)`` and ``p(k + 1) = step(x, p(k), p(k - 1), k)``; ``shift``: at ``2 x - 1``."""

    first: Callable[[Any], Any]
    step: Callable[[Any, Any, Any, int], Any]
    shift: bool
    limit: int | None   # degrees above it give NaN


_FAMILIES: dict[str, _Polynomial] = {}


@opaque(refuses="complex", function=False, method=False, differentiable=False)
def polynomial_values(x, degrees, family: str):
    """``p(degrees)`` of a family at ``x``, two tensors of one shape; 0 for negative degrees."""
    return [(tuple(x.shape), x.dtype)]


def _recurrence(x: Any, degrees: Any, family: str) -> Any:
    p = _FAMILIES[family]
    x, n = wrap(x), wrap(degrees)
    top = int(n.max()) if n.numel() else -1
    x = x * 2 - 1 if p.shift else x
    before, now = fn.ones_like(x), p.first(x)
    out = fn.where(n == 0, before, fn.zeros_like(x))
    if p.limit is not None:
        top = min(top, p.limit)
    if top > LARGEST:
        raise NotImplementedError(f"special.{family}: degrees up to {LARGEST} are supported, got {top}")
    for k in range(1, top + 1):
        out = fn.where(n == k, now, out)
        before, now = now, p.step(x, now, before, k)
    return out.contiguous()._a


polynomial_values.cpu(_recurrence)
polynomial_values.cuda(_recurrence)


def _polynomial(name: str, doc: str, first: Callable, step: Callable, shift: bool = False, limit: int | None = None) -> None:
    _FAMILIES[name] = _Polynomial(first, step, shift, limit)

    def f(input, n):  # noqa: ANN001, ANN202
        if not isinstance(input, Tensor) and not isinstance(n, Tensor):
            raise TypeError(f"expected a tensor among input and n, got {type(input).__name__} and {type(n).__name__}")
        like = input if isinstance(input, Tensor) else n
        x = input if isinstance(input, Tensor) else fn.full(
            (), input, dtype=like.dtype if like.dtype.category == 2 else get_default_dtype(), device=like.device)
        degree = n if isinstance(n, Tensor) else fn.full((), n, device=like.device)
        d = fn.result_type(x, degree)
        d = d if d.category == 2 else get_default_dtype()
        at, whole = fn.broadcast_tensors(x.detach().to(compute_dtype(d)), degree.detach().long())
        r = fn.polynomial_values(at.contiguous(), whole.contiguous(), name).to(d)
        return r if limit is None else fn.where(degree > limit, float("nan"), r)
    f.__doc__ = doc
    composite(name=f"special_{name}", also={"x": "input"}, refuses="half complex", layout="elementwise", function=False, method=False,
              differentiable=False, out=True,
              aliases=(f"special.{name}",))(f)


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
