"""Distances, similarities and norms of vectors."""
from __future__ import annotations

from ..shapes import wrap_dim
from .opdef import composite, fn


@composite(nn=True, autocast="float32:cuda")
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along ``dim``, with norms not below ``eps``."""
    if not (x1.dtype.is_floating_point and x2.dtype.is_floating_point):
        raise RuntimeError("expected common dtype to be floating point, yet common dtype is " + str(x1.dtype))
    a, b = fn.broadcast_tensors(x1, x2)
    d = wrap_dim(dim, a.ndim)
    na = fn.vector_norm_dims(a, 2.0, d, True).clamp(min=eps)
    nb = fn.vector_norm_dims(b, 2.0, d, True).clamp(min=eps)
    return ((a / na) * (b / nb)).sum(d)


@composite(nn=True)
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The ``p``-norm of ``x1 - x2 + eps`` along the last dimension."""
    return fn.vector_norm_dims(x1 - x2 + eps, float(p), -1, keepdim)


@composite(refuses="bool integer", out=True, nn=True, function=False, method=False)
def normalize(input, p=2.0, dim=1, eps=1e-12):
    """``input`` divided by its ``p``-norm along ``dim``, which is taken as at least ``eps``."""
    return input / fn.vector_norm_dims(input, float(p), dim, True).clamp(min=eps).expand(input._a.shape)


@composite(refuses="bool integer", autocast="float32:cuda")
def dist(input, other, p=2):
    """The ``p``-norm of the difference."""
    return fn.vector_norm_dims(input - other, float(p))


@composite(refuses="half", method=False, autocast="float32")
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    """The ``p``-norm distances between the rows of ``x1`` (..., P, M) and of ``x2`` (..., R, M): (..., P, R)."""
    for name, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if x1._a.shape[-1] != x2._a.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1._a.shape[-1]} X2: {x2._a.shape[-1]}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if not x1.dtype.is_floating_point:
        raise RuntimeError(f"cdist only supports floating-point dtypes, X1 got: {x1.dtype}")
    return fn.vector_norm_dims(x1.unsqueeze(-2) - x2.unsqueeze(-3), float(p), -1)


@composite(refuses="bool integer", out="exact", inplace=True, autocast="float32:cuda", layout="row-major")
def renorm(input, p, dim, maxnorm):
    """The slices of ``dim`` scaled down to a ``p``-norm of at most ``maxnorm``."""
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    if p <= 0 or maxnorm < 0:
        raise RuntimeError(f"renorm: non-positive-norm not supported (p={p}, maxnorm={maxnorm})")
    d = wrap_dim(dim, input.ndim)
    norms = fn.vector_norm_dims(input, float(p), [k for k in range(input.ndim) if k != d], True)
    return input * fn.where(norms > maxnorm, maxnorm / (norms + 1e-7), fn.ones_like(norms))


@composite(refuses="half", nn=True, autocast="float32:cuda")
def pdist(input, p=2.0):
    """The ``p``-norm distance between each two rows of (N, D): shape (N (N - 1) / 2), in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"pdist only supports floating-point dtypes, got {input.dtype}")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    n, width = input._a.shape
    if n < 2 or width == 0:
        return input.new_zeros((n * (n - 1) // 2,)) + input.sum() * 0
    first, second = fn.triu_indices(n, n, 1, device=input.device).unbind(0)
    return fn.vector_norm_dims(input.index_select(0, first) - input.index_select(0, second), float(p), -1, False)
