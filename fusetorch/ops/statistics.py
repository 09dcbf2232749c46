"""Covariances and correlations."""
from __future__ import annotations

from ..dtypes import bool_, promote_types
from ..tensor import tracing
from .opdef import composite, fn


@composite()
def cov(input, *, correction=1, fweights=None, aweights=None):
    """The covariance matrix of variables in rows and observations in columns, which may be counted (``fweights``, integers) and weighted
    (``aweights``)."""
    if input.ndim > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    if input.dtype is bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input if input.dtype.category >= 2 else input.float()
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    n = rows._a.shape[1]
    w = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        if given.ndim > 1 or given.numel() != n:
            raise RuntimeError(f"cov(): expected {name} to be a vector of {n} elements, got shape {list(given.shape)}")
        if given.dtype.is_floating_point == (name == "fweights"):
            raise RuntimeError(f"cov(): {name} must be {'integral' if name == 'fweights' else 'floating point'} dtype, got {given.dtype}")
        if not tracing() and n and bool((given < 0).any()):
            raise RuntimeError(f"cov(): {name} cannot be negative")
        w = given.reshape(-1) if w is None else w * given.reshape(-1)
    if w is not None:
        w = w.to(promote_types(w.dtype, rows.dtype))
        rows = rows.to(w.dtype)
    if w is None:
        centred = rows - rows.mean(1, keepdim=True)
        c = fn.bmm_general(centred, fn.adjoint(centred)) / max(n - correction, 0)
    else:
        total = w.sum()
        centred = rows - (rows * w).sum(1, keepdim=True) / total
        free = total - correction if aweights is None or not correction else total - correction * (w * aweights).sum() / total
        c = fn.bmm_general(centred * w, fn.adjoint(centred)) / fn.real(free).clamp(min=0)
    return c.reshape(()) if rows._a.shape[0] == 1 else c


@composite()
def corrcoef(input):
    """The correlation matrix of variables in rows."""
    c = cov.body(input)
    if not c.ndim:
        return c / c
    s = fn.real(fn.diagonal(c)).sqrt()
    r = c / s.unsqueeze(1) / s
    return fn.complex(fn.real(r).clamp(-1, 1), fn.imag(r).clamp(-1, 1)) if r.dtype.is_complex else r.clamp(-1, 1)
