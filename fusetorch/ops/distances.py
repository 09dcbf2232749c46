"""Margin losses, distances and norms.

Source: triplet loss, Balntas et al. 2016.
"""
from __future__ import annotations

from ..shapes import wrap_dim
from .losses import loss_reduction, reduced
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


@composite(nn=True, autocast="float32")
def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cosine for targets of 1, ``max(0, cosine - margin)`` for targets of -1."""
    reduction = loss_reduction(reduction, size_average, reduce)
    if target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim not in (1, 2) or input1.ndim != target.ndim + 1:
        raise RuntimeError(f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with sizes "
                           f"{list(input1.shape)} and {list(input2.shape)}.")
    eps = 1e-12
    d = input1.ndim - 1
    dot = (input1 * input2).sum(d)
    cos = dot / (((input1 * input1).sum(d) + eps) * ((input2 * input2).sum(d) + eps)).sqrt()
    zero = fn.zeros_like(cos)
    loss = fn.where(target == 1, 1 - cos, zero) + fn.where(target == -1, (cos - margin).clamp(min=0), zero)
    return reduced(loss, reduction)


@composite(nn=True, autocast="float32")
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """``input`` for targets of 1, ``max(0, margin - input)`` for targets of -1."""
    reduction = loss_reduction(reduction, size_average, reduce)
    zero = fn.zeros((), dtype=input.dtype, device=input.device)
    loss = fn.where(target != 1, (margin - input).clamp(min=0), zero) + fn.where(target != -1, input, zero)
    return reduced(loss, reduction)


@composite(nn=True, autocast="float32")
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """``max(0, -target * (input1 - input2) + margin)``."""
    reduction = loss_reduction(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {input1.shape}, "
                           f"input2: {input2.shape}, target: {target.shape} ")
    return reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


@composite(nn=True, function=False, method=False, autocast="float32")
def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """``log(1 + exp(-target * input))``."""
    reduction = loss_reduction(reduction, size_average, reduce)
    return reduced(fn.softplus(-target * input, 1.0, 50.0), reduction)


@composite(nn=True, autocast="float32")
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None,
                        reduction="mean"):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` of ``p``-norm distances."""
    reduction = loss_reduction(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(f"The anchor, positive, and negative tensors are expected to have the same number of "
                           f"dimensions, but got: anchor "
                           f"{anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")
    near = pairwise_distance.body(anchor, positive, p, eps)
    far = pairwise_distance.body(anchor, negative, p, eps)
    if swap:
        far = fn.minimum(far, pairwise_distance.body(positive, negative, p, eps))
    return reduced((near - far + margin).clamp(min=0), reduction)


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
