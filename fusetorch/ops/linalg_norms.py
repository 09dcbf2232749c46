"""Norms of vectors and matrices, and condition numbers."""
from __future__ import annotations

from math import inf
from typing import Any

from ..dtypes import dtype
from ..shapes import wrap_dim, wrap_dims
from .linalg_rules import floating, matrix, sizes, square
from .opdef import composite, fn


def _norm_input(name: str, a: Any, dt: dtype | None) -> Any:
    if a.dtype.category < 2:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype}. Convert it with .float()")
    if dt is None:
        return a
    if dt.category < 2:
        raise RuntimeError(f"{name}: dtype should be floating point or complex. Got {dt}")
    if a.dtype.itemsize > dt.itemsize:
        raise RuntimeError(f"{name}: the dtype of the input ({a.dtype}) should be convertible without narrowing to the specified dtype "
                           f"({dt})")
    return a.to(dt)


def _vector_norm(a: Any, ord: float, dim: Any, keepdim: bool) -> Any:
    if isinstance(dim, (list, tuple)) and not dim:
        dim = None
    dims = wrap_dims(dim, a.ndim)
    if (ord == inf or ord < 0) and any(sizes(a)[d] == 0 for d in dims):
        if dim is None:
            raise RuntimeError(f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the operation does not have "
                               "an identity")
        raise IndexError(f"linalg.vector_norm cannot compute the {ord} norm on the dimension {dims} because this dimension is empty and "
                         "the operation does not have an identity")
    return fn.vector_norm_dims(a, ord, dims, keepdim)


@composite(name="linalg_vector_norm", function=False, method=False, aliases=("linalg.vector_norm",), out="exact",
           autocast="float32:cuda", also={"input": "x"})
def linalg_vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """``sum(abs(x) ** ord) ** (1 / ord)`` over ``dim`` (all dimensions by default); the largest for ``inf``, a count for 0."""
    if not isinstance(ord, (int, float)):
        raise TypeError(f"linalg_vector_norm(): argument 'ord' must be Number, not {type(ord).__name__}")
    return _vector_norm(_norm_input("linalg.vector_norm", x, dtype), float(ord), dim, keepdim)


def _largest(x: Any) -> Any:
    """The largest along the last dimension; 0 of none."""
    return x.amax(-1) if sizes(x)[-1] else x.sum(-1)


def _matrix_norm(a: Any, ord: Any, dim: tuple[int, int], keepdim: bool) -> Any:
    one, two = (wrap_dim(d, a.ndim) for d in dim)
    if one == two:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    if isinstance(ord, str):
        if ord == "fro":
            return _vector_norm(a, 2.0, [one, two], keepdim)
        if ord != "nuc":
            raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    elif abs(ord) not in (1, 2, inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    x = a.movedim((one, two), (-2, -1))
    if ord == "nuc" or abs(ord) == 2:
        floating("linalg.matrix_norm", x)
        s = fn.singular_values(x)
        r = s.sum(-1) if ord == "nuc" else _largest(s) if ord > 0 else s.amin(-1)
    else:
        sums = fn.vector_norm_dims(x, 1.0, (x.ndim - (2 if abs(ord) == 1 else 1),), False)
        r = _largest(sums) if ord > 0 else sums.amin(-1)
    return r.reshape([1 if d in (one, two) else n for d, n in enumerate(sizes(a))]) if keepdim else r


@composite(name="linalg_matrix_norm", function=False, method=False, aliases=("linalg.matrix_norm",), out="exact", autocast="float32:cuda")
def linalg_matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    """The norm of matrices: ``fro``, ``nuc``, ``inf``, ``-inf``, 1, -1 (sums of rows or columns), 2, -2 (singular values)."""
    if A.ndim < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    if len(dim) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {list(dim)}")
    return _matrix_norm(_norm_input("linalg.matrix_norm", A, dtype), ord, tuple(dim), keepdim)


@composite(name="linalg_norm", function=False, method=False, aliases=("linalg.norm",), out="exact")
def linalg_norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    """A vector norm over one dimension, a matrix norm over two; without ``ord`` the 2-norm of all elements."""
    if isinstance(dim, int):
        dim = (dim,)
    if dim is not None and len(dim) not in (1, 2) and ord is not None:
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dim)}")
    if dim is None and ord is not None and A.ndim not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D.")
    x = _norm_input("linalg.norm", A, dtype)
    if ord is None:
        if dim is None and not keepdim:
            return _vector_norm(x.reshape(-1), 2.0, 0, False)
        return _vector_norm(x, 2.0, dim, keepdim)
    if len(dim) == 2 if dim is not None else A.ndim == 2:
        return _matrix_norm(x, ord, tuple(dim) if dim is not None else (0, 1), keepdim)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: Order {ord} not supported for vectors; give dim= two dimensions.")
    return _vector_norm(x, float(ord), dim, keepdim)


@composite(out="exact", autocast="float32:cuda")
def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """The ``p``-norm over ``dim`` (all dimensions by default); ``fro`` is the 2-norm, ``nuc`` the sum of singular values."""
    if p == "nuc":
        floating("norm", input)
        dims = (0, 1) if dim is None else tuple(dim) if isinstance(dim, (list, tuple)) else (dim,)
        if input.ndim < 2 or len(dims) != 2:
            raise RuntimeError(f"norm: the nuclear norm is of two dimensions, got dim={dim} for a tensor of {input.ndim} dimensions")
        return _matrix_norm(input if dtype is None else input.to(dtype), "nuc", dims, keepdim)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"norm: only 'fro' and 'nuc' are supported as strings, got {p!r}")
    if input.dtype.category < 2 and (dtype is None or dtype.category < 2):
        raise RuntimeError(f"norm(): input dtype should be either floating point or complex. Got {input.dtype} instead.")
    x = input if dtype is None else input.to(dtype)
    order = 2.0 if p in ("fro", None) else float(p)
    return _vector_norm(x, order, dim, keepdim)


@composite(method=False, out=True, autocast="float32:cuda")
def frobenius_norm(input, dim, keepdim=False):
    """The 2-norm over ``dim``."""
    return norm.body(input, "fro", dim, keepdim)


@composite(method=False, out=True, autocast="float32:cuda")
def nuclear_norm(input, dim=None, keepdim=False):
    """The sum of the singular values."""
    return norm.body(input, "nuc", dim, keepdim)


@composite(name="linalg_cond", function=False, method=False, aliases=("linalg.cond",), out=True)
def linalg_cond(A, p=None):
    """The condition number for ``p``: the ratio of extreme singular values (``None``, 2, -2), else ``norm(A) * norm(inv(A))``."""
    matrix("linalg.cond", A)
    if p is None or p in (2, -2):
        s = fn.singular_values(A)
        if not A.numel():
            if min(sizes(A)[-2:]) == 0:
                return fn.zeros(sizes(A)[:-2], dtype=s.dtype, device=A.device)
            return s.sum(-1)
        big, small = s.amax(-1), s.amin(-1)
        return small / big if p == -2 else big / small
    if isinstance(p, str) and p not in ("fro", "nuc") or not isinstance(p, str) and abs(p) not in (1, inf):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    square("linalg.cond", A)
    if not A.numel():
        return fn.zeros(sizes(A)[:-2], dtype=A.dtype.to_real(), device=A.device)
    inv, info = fn.inverse_matrix(A, "")
    r = _matrix_norm(A, p, (-2, -1), False) * _matrix_norm(fn.where((info == 0).unsqueeze(-1).unsqueeze(-1), inv, 0.0), p, (-2, -1), False)
    return fn.where(info == 0, r, inf)
