"""Losses and distances. ``reduction``: ``"mean"``, ``"sum"`` or ``"none"``.

Cross entropy is written as reductions over the classes that compare a class number with the target, instead of a gather, so that
it is one kernel with log-softmax, forward and backward.

Sources: label smoothing, Szegedy et al. 2016; Huber loss, Huber 1964; triplet loss, Balntas et al. 2016.
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..shapes import wrap_dim
from . import primitives as P
from .expr import cast, const, count, iota, reduce
from .opdef import As, composite, elementwise, fn, reduction


def _tracing() -> bool:
    from ..dispatch import tracer
    return tracer[0] is not None


def _how(reduction: str, size_average: Any, reduce: Any) -> str:
    """The reduction that PyTorch's deprecated arguments ask for."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", stacklevel=3)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def _reduced(x: Any, reduction: str) -> Any:
    if reduction == "none":
        return x
    return x.mean() if reduction == "mean" else x.sum()


# ---- cross entropy


@reduction(name="cross_entropy_rows", function=False, method=False, promote="float", keep=("target", "weight"), n_outputs=3)
def cross_entropy_rows(input, target, weight, dim=None, keepdim=False, *, ignore_index: int,
                       label_smoothing: float):
    """Per row of ``input``: the loss, the weight it counts with in a mean, and log(sum(exp(row))).

    ``target`` holds class numbers, ``weight`` (or ``None``) one number per class; both have ``input``'s rank.
    """
    d = input.dtype
    m = reduce("max", input)
    m = P.where(P.isfinite(m), m, 0.0)
    lse = P.log(reduce("sum", P.exp(input - m))) + m
    hit = P.eq(iota("inner"), cast(target, iota("inner").dtype)) & P.ne(target, ignore_index)
    nll = lse - input
    w = const(1, d) if weight is None else cast(weight, d)
    picked = reduce("sum", P.where(hit, nll * w if weight is not None else nll, 0.0))
    row_weight = reduce("sum", P.where(hit, w, 0.0))
    if label_smoothing is None:
        return picked, row_weight, As(lse, d)
    valid = cast(reduce("max", hit), d)
    spread = reduce("sum", nll * w if weight is not None else nll) / cast(count(), d)
    return picked * (1.0 - label_smoothing) + spread * valid * label_smoothing, row_weight, As(lse, d)


@reduction(name="cross_entropy_grad", function=False, method=False, promote="float", keep=("grad", "target", "lse", "weight"))
def cross_entropy_grad(input, grad, target, lse, weight, dim=None, keepdim=False, *, ignore_index: int,
                       label_smoothing: float):
    """The gradient of ``input`` under ``cross_entropy_rows`` from the gradient of the loss."""
    d = input.dtype
    g = cast(grad, d)
    p = P.exp(input - cast(lse, d))
    hit = P.eq(iota("inner"), cast(target, iota("inner").dtype)) & P.ne(target, ignore_index)
    w = const(1, d) if weight is None else cast(weight, d)
    row = reduce("sum", P.where(hit, w, 0.0))
    onehot = P.where(hit, w, 0.0)
    if label_smoothing is None:
        return (p * row - onehot) * g
    valid = cast(reduce("max", hit), d)
    n = cast(count(), d)
    total = n if weight is None else reduce("sum", w)
    smooth = (p * total - w) * valid / n
    return ((p * row - onehot) * (1.0 - label_smoothing) + smooth * label_smoothing) * g


@cross_entropy_rows.vjp("input", "target", "weight", "out2")
def _(ctx: Any, g: Any, g_weight: Any, g_lse: Any) -> Any:
    x, target, w, lse, dim = ctx["input"], ctx["target"], ctx["weight"], ctx["out2"], ctx.attrs["dim"]
    if not ctx.needed[0]:
        raise NotImplementedError("cross_entropy: the gradient of weight is not implemented; detach it")
    out = None
    if g is not None:
        if not ctx.attrs["keepdim"]:
            raise AssertionError("cross_entropy_rows is called with keepdim=True")
        out = fn.cross_entropy_grad(x, g, target, lse, w, dim, True, ignore_index=ctx.attrs["ignore_index"],
                                    label_smoothing=ctx.attrs["label_smoothing"])
    if g_lse is not None:
        more = (x.to(lse.dtype) - lse).exp() * g_lse
        out = more.to(x.dtype) if out is None else out + more
    return out


@cross_entropy_grad.vjp("input", "grad", "target", "lse", "weight")
def _(ctx: Any, h: Any) -> Any:
    x, g, target, lse, w = (ctx[n] for n in ("input", "grad", "target", "lse", "weight"))
    a, dim = ctx.attrs, ctx.attrs["dim"]
    (k,) = dim
    n = ctx.shape(0)[k]
    classes = fn.arange(n, device=x.device).reshape([-1 if i == k else 1 for i in range(len(ctx.shape(0)))])
    hit = (classes == target) & (target != a["ignore_index"])
    p = (x.to(lse.dtype) - lse).exp()
    weights = fn.ones((), dtype=p.dtype, device=p.device) if w is None else w.to(p.dtype)
    onehot = hit * weights
    row = onehot.sum(dim, keepdim=True)
    s = a["label_smoothing"]
    if s is None:
        scale, shift = row, onehot
    else:
        valid = hit.any(dim, keepdim=True).to(p.dtype)
        total = weights.sum(dim, keepdim=True) if w is not None else fn.full_like(row, float(n))
        scale = row * (1.0 - s) + valid * total * (s / n)
        shift = onehot * (1.0 - s) + weights * valid * (s / n)
    hp = h * p
    gx = hp * scale * g
    g_grad = (hp * scale - h * shift).sum(dim, keepdim=True)
    return gx.to(x.dtype), g_grad.to(g.dtype), None, -gx.sum(dim, keepdim=True).to(lse.dtype)


def _class_layout(input: Any, target: Any, name: str) -> int:
    """The class dimension; PyTorch's errors for shapes that do not fit."""
    if input.ndim == 0:
        raise RuntimeError(f"{name}: expected an input with a class dimension, got a 0-d tensor")
    if input.ndim == 1:
        if target.ndim > 1 or (target.ndim == 1 and target.numel() != 1):
            raise ValueError(f"Expected input batch_size (1) to match target batch_size ({target.numel()}).")
        return 0
    want = (input._a.shape[0], *input._a.shape[2:])
    if tuple(target.shape) != want:
        if input.ndim == 2 and target.ndim == 1 or (target.ndim >= 1 and target._a.shape[0] != want[0]):
            raise ValueError(f"Expected input batch_size ({want[0]}) to match target batch_size ({target._a.shape[0] if target.ndim else 0}).")
        raise RuntimeError(f"Expected target size {list(want)}, got {list(target.shape)}")
    return 1


def _check_classes(target: Any, classes: int, ignore_index: int) -> None:
    if _tracing() or target.device.type != "cpu" or not target.numel():
        return
    t = target._a
    bad = t[((t < 0) | (t >= classes)) & (t != ignore_index)]
    if bad.size:
        raise IndexError(f"Target {bad.flat[0]} is out of bounds.")


def _weighted(weight: Any, input: Any, k: int) -> Any:
    n = input._a.shape[k]
    if weight is None:
        return None
    if weight.ndim != 1 or weight.numel() != n:
        raise RuntimeError(f"weight tensor should be defined either for all {n} classes or no classes but got weight tensor of shape: "
                           f"{list(weight.shape)}")
    if weight.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype} but found {weight.dtype}")
    return weight.reshape([-1 if d == k else 1 for d in range(input.ndim)])


def _rows(op: Any, input: Any, target: Any, weight: Any, ignore_index: int, extra: dict[str, Any], name: str, reduction: str) -> Any:
    k = _class_layout(input, target, name)
    if target.dtype.name not in ("int64", "uint8"):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}" if not target.dtype.is_floating_point else
                           f"{name}: expected a target of class numbers (int64), got {target.dtype}")
    w = _weighted(weight, input, k)
    _check_classes(target, input._a.shape[k], ignore_index)
    single = input.ndim == 1
    t = target.reshape(1) if single else target.unsqueeze(1)
    out = op(input, t, w, k, True, ignore_index=ignore_index, **extra)
    loss, row_weight = out[0], out[1]
    if reduction == "none":
        return loss.reshape(target._a.shape)
    total = loss.sum()
    return total / row_weight.sum() if reduction == "mean" else total


@composite(nn=True, function=False, method=False)
def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """Cross entropy between logits and targets.

    Args:
        input: logits of shape (C), (N, C) or (N, C, d1, ...).
        target: class numbers (int64) of shape (), (N) or (N, d1, ...), or probabilities in the shape of ``input``.
        weight: a number for each class.
        ignore_index: targets with this number count for nothing.
        label_smoothing: this part of each target is spread evenly over the classes.

    Raises:
        IndexError: a class number outside [0, C). ValueError or RuntimeError: shapes that do not fit.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.functional.cross_entropy(torch.zeros(1, 4), torch.tensor([2]))
        tensor(1.3863)
    """
    reduction = _how(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"cross_entropy: expected floating-point logits, got {input.dtype}")
    if target.shape == input.shape and target.dtype.is_floating_point:
        return _soft(input, target, weight, reduction, label_smoothing)
    if target.shape == input.shape and input.ndim:
        raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype}")
    return _rows(fn.cross_entropy_rows, input, target, weight, ignore_index, {"label_smoothing": label_smoothing or None},
                 "cross_entropy", reduction)


def _soft(input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    k = 0 if input.ndim == 1 else 1
    if input.ndim == 0:
        raise RuntimeError("cross_entropy: expected an input with a class dimension, got a 0-d tensor")
    n = input._a.shape[k]
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / n
    terms = fn.log_softmax(input, k) * target
    w = _weighted(weight, input, k)
    loss = -(terms if w is None else terms * w).sum(k)
    if reduction == "mean":
        return loss.sum() / (input.numel() / n if n else 1)
    return loss if reduction == "none" else loss.sum()


@reduction(name="nll_rows", function=False, method=False, promote="float", keep=("target", "weight"), n_outputs=2)
def nll_rows(input, target, weight, dim=None, keepdim=False, *, ignore_index: int):
    """Per row of log-probabilities: minus that of the target, and the weight it counts with."""
    d = input.dtype
    hit = P.eq(iota("inner"), cast(target, iota("inner").dtype)) & P.ne(target, ignore_index)
    w = const(1, d) if weight is None else cast(weight, d)
    return reduce("sum", P.where(hit, -input if weight is None else -input * w, 0.0)), reduce("sum", P.where(hit, w, 0.0))


@reduction(name="nll_grad", function=False, method=False, promote="none", keep=("target", "input", "weight"))
def nll_grad(grad, input, target, weight, dim=None, keepdim=False, *, ignore_index: int):
    """The gradient of ``nll_rows``; of ``input`` only the shape counts."""
    hit = P.eq(iota("inner"), cast(target, iota("inner").dtype)) & P.ne(target, ignore_index)
    # adding 0 * input would spread NaN: the shape comes from the index space
    return P.where(hit, -grad if weight is None else -grad * cast(weight, grad.dtype), 0.0)


@nll_rows.vjp("input", "target", "weight")
def _(ctx: Any, g: Any, _: Any) -> Any:
    if g is None:
        return None
    return fn.nll_grad(g, ctx["input"], ctx["target"], ctx["weight"], ctx.attrs["dim"], True, ignore_index=ctx.attrs["ignore_index"])


@nll_grad.vjp("target", "weight")
def _(ctx: Any, h: Any) -> Any:
    loss = fn.nll_rows(h, ctx["target"], ctx["weight"], ctx.attrs["dim"], True, ignore_index=ctx.attrs["ignore_index"])[0]
    return loss, None


@composite(nn=True, function=False, method=False)
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """Minus the log-probability of each target class; shapes as for ``cross_entropy``."""
    reduction = _how(reduction, size_average, reduce)
    return _rows(fn.nll_rows, input, target, weight, ignore_index, {}, "nll_loss", reduction)


# ---- regression


def _pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    if input.shape != target.shape:
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to "
                      "incorrect results due to broadcasting. Please ensure they have the same size.", stacklevel=4)
    return fn.broadcast_tensors(input, target)


@elementwise(name="squared_difference", function=False, method=False, oracle=lambda a, b: (a - b) ** 2)
def squared_difference(input, target):
    """``(input - target) ** 2``."""
    d = input - target
    return d * d


@elementwise(name="absolute_difference", function=False, method=False, oracle=lambda a, b: np.abs(a - b))
def absolute_difference(input, target):
    """``|input - target|``."""
    return P.abs(input - target)


@elementwise(name="smooth_l1_elementwise", function=False, method=False, promote="float",
             oracle=lambda a, b, beta=1.0: np.where(np.abs(a - b) < beta, 0.5 * (a - b) ** 2 / beta, np.abs(a - b) - 0.5 * beta))
def smooth_l1_elementwise(input, target, beta: float = 1.0):
    """``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, of the difference ``d``."""
    d = P.abs(input - target)
    return P.where(d < beta, d * d * 0.5 / beta, d - beta * 0.5)


@elementwise(name="huber_elementwise", function=False, method=False, promote="float",
             oracle=lambda a, b, delta=1.0: np.where(np.abs(a - b) <= delta, 0.5 * (a - b) ** 2, delta * (np.abs(a - b) - 0.5 * delta)))
def huber_elementwise(input, target, delta: float = 1.0):
    """``d**2 / 2`` where ``|d| <= delta``, else ``delta * (|d| - delta / 2)``, of the difference ``d``."""
    d = P.abs(input - target)
    return P.where(d <= delta, d * d * 0.5, (d - delta * 0.5) * delta)


@composite(nn=True, function=False, method=False)
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The squared difference."""
    reduction = _how(reduction, size_average, reduce)
    a, b = _pair("mse_loss", input, target)
    r = fn.squared_difference(a, b)
    if weight is None:
        return _reduced(r, reduction)
    if weight.shape != input.shape:
        raise ValueError("Inputs and weight must have the same size.")
    r = r * weight
    return r.sum() / weight.sum() if reduction == "mean" else _reduced(r, reduction)


@composite(nn=True, function=False, method=False)
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The absolute difference."""
    reduction = _how(reduction, size_average, reduce)
    a, b = _pair("l1_loss", input, target)
    r = fn.absolute_difference(a, b)
    if weight is None:
        return _reduced(r, reduction)
    r = r * weight
    return r.sum() / weight.sum() if reduction == "mean" else _reduced(r, reduction)


@composite(nn=True, function=False, method=False)
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared below ``beta``, absolute above."""
    reduction = _how(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    a, b = _pair("smooth_l1_loss", input, target)
    return _reduced(fn.absolute_difference(a, b) if beta == 0 else fn.smooth_l1_elementwise(a, b, beta), reduction)


@composite(nn=True, function=False, method=False)
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared up to ``delta``, then linear with slope ``delta``."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    a, b = _pair("huber_loss", input, target)
    r = fn.huber_elementwise(a, b, delta)
    if weight is None:
        return _reduced(r, _how(reduction, None, None))
    r = r * weight
    return r.sum() / weight.sum() if reduction == "mean" else _reduced(r, reduction)


# ---- probabilities


@elementwise(name="binary_cross_entropy_elementwise", function=False, method=False, promote="float", domain=(0.1, 0.9),
             oracle=lambda p, t: -(t * np.log(p) + (1 - t) * np.log1p(-p)))
def binary_cross_entropy_elementwise(input, target):
    """``-(t log p + (1 - t) log(1 - p))``, with the logarithms not below -100."""
    return (target - 1.0) * P.maximum(P.log1p(-input), -100.0) - target * P.maximum(P.log(input), -100.0)


@elementwise(name="bce_with_logits_elementwise", function=False, method=False, promote="float",
             oracle=lambda x, t: np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))))
def bce_with_logits_elementwise(input, target):
    """Binary cross entropy of ``sigmoid(input)``, without overflow."""
    return (1.0 - target) * input + _softplus_minus(input)


def _softplus_minus(x: Any) -> Any:
    """``log(1 + exp(-x))``."""
    return P.maximum(-x, 0.0) + P.log1p(P.exp(-P.abs(x)))


@bce_with_logits_elementwise.vjp("input", "target")
def _(ctx: Any, g: Any) -> Any:
    from .views import sum_to_size
    x, t = ctx["input"], ctx["target"]
    gx = sum_to_size((x.sigmoid() - t) * g, ctx.shape(0)) if ctx.needed[0] else None
    return gx, sum_to_size(-x * g, ctx.shape(1)) if len(ctx.needed) > 1 and ctx.needed[1] else None


@elementwise(name="bce_with_logits_pos_elementwise", function=False, method=False, promote="float",
             oracle=lambda x, t, w: (1 - t) * x + (1 + (w - 1) * t) * np.log1p(np.exp(-x)))
def bce_with_logits_pos_elementwise(input, target, pos_weight):
    """The same with positive targets counted ``pos_weight`` times."""
    return (1.0 - target) * input + ((pos_weight - 1.0) * target + 1.0) * _softplus_minus(input)


@composite(nn=True, function=False, method=False)
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Cross entropy between probabilities and targets in [0, 1]."""
    reduction = _how(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please ensure "
                         "they have the same size.")
    if not _tracing() and input.device.type == "cpu" and input.numel() and not bool(((input >= 0) & (input <= 1)).all()):
        raise RuntimeError("all elements of input should be between 0 and 1")
    r = fn.binary_cross_entropy_elementwise(input, target)
    return _reduced(r if weight is None else r * weight, reduction)


@composite(nn=True, function=False, method=False)
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """Binary cross entropy of ``sigmoid(input)``."""
    reduction = _how(reduction, size_average, reduce)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    r = fn.bce_with_logits_elementwise(input, target) if pos_weight is None else fn.bce_with_logits_pos_elementwise(input, target, pos_weight)
    return _reduced(r if weight is None else r * weight, reduction)


@elementwise(name="kl_div_elementwise", function=False, method=False, promote="float", domain=(0.1, 0.9),
             oracle=lambda x, t: t * (np.log(t) - x))
def kl_div_elementwise(input, target):
    """``t (log t - input)``, 0 where ``t`` is 0."""
    return P.where(target <= 0, P.where(P.isnan(target), target, 0.0), target * P.log(P.where(target <= 0, 1.0, target))) - target * input


@composite(nn=True, function=False, method=False)
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """The Kullback-Leibler divergence from log-probabilities ``input`` to ``target``; ``"batchmean"`` divides by the batch size."""
    if reduction == "batchmean":
        how = "sum"
    else:
        how = _how(reduction, size_average, reduce)
        if how == "mean":
            warnings.warn("reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides only by "
                          "the batch size, and aligns with the KL div math definition.", stacklevel=2)
    r = target.exp() * (target - input) if log_target else fn.kl_div_elementwise(input, target)
    r = _reduced(r, how)
    return r / input._a.shape[0] if reduction == "batchmean" and input.ndim and input._a.shape[0] else r


@composite(nn=True, function=False, method=False)
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """The negative log likelihood of ``target`` under normal distributions with mean ``input`` and variance ``var``."""
    if not hasattr(var, "numel"):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * fn.ones_like(input)
    elif not _tracing() and bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif input.ndim != var.ndim or any(n not in (1, m) for n, m in zip(var._a.shape, input._a.shape)):
            raise ValueError("var is of incorrect size")
    _how(reduction, None, None)
    with_floor = fn.clamp(var.detach(), min=eps) - var.detach() + var
    loss = 0.5 * (with_floor.log() + (input - target) ** 2 / with_floor)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@composite(nn=True, function=False, method=False)
def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """The negative log likelihood of counts ``target`` under Poisson distributions with (log) mean ``input``."""
    reduction = _how(reduction, size_average, reduce)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return _reduced(loss, reduction)


# ---- margins and distances


@composite(nn=True)
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


@composite(out=True, nn=True, function=False, method=False)
def normalize(input, p=2.0, dim=1, eps=1e-12):
    """``input`` divided by its ``p``-norm along ``dim``, which is taken as at least ``eps``."""
    return input / fn.vector_norm_dims(input, float(p), dim, True).clamp(min=eps).expand(input._a.shape)


@composite(nn=True)
def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cosine for targets of 1, ``max(0, cosine - margin)`` for targets of -1."""
    reduction = _how(reduction, size_average, reduce)
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
    return _reduced(loss, reduction)


@composite(nn=True)
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """``input`` for targets of 1, ``max(0, margin - input)`` for targets of -1."""
    reduction = _how(reduction, size_average, reduce)
    zero = fn.zeros((), dtype=input.dtype, device=input.device)
    loss = fn.where(target != 1, (margin - input).clamp(min=0), zero) + fn.where(target != -1, input, zero)
    return _reduced(loss, reduction)


@composite(nn=True)
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """``max(0, -target * (input1 - input2) + margin)``."""
    reduction = _how(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {input1.shape}, "
                           f"input2: {input2.shape}, target: {target.shape} ")
    return _reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


@composite(nn=True, function=False, method=False)
def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """``log(1 + exp(-target * input))``."""
    reduction = _how(reduction, size_average, reduce)
    return _reduced(fn.softplus(-target * input, 1.0, 50.0), reduction)


@composite(nn=True)
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None,
                        reduction="mean"):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` of ``p``-norm distances."""
    reduction = _how(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(f"The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: anchor "
                           f"{anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")
    near = pairwise_distance.body(anchor, positive, p, eps)
    far = pairwise_distance.body(anchor, negative, p, eps)
    if swap:
        far = fn.minimum(far, pairwise_distance.body(positive, negative, p, eps))
    return _reduced((near - far + margin).clamp(min=0), reduction)


# ---- activations with a parameter or two halves


@composite(nn=True)
def prelu(input, weight):
    """``x`` if positive, else ``weight * x``; ``weight`` has one element, or one for each channel (dimension 1)."""
    n = weight.numel()
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if n != 1:
        if input.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = input._a.shape[1] if input.ndim >= 2 else 1
        if channels != n:
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {n} and channel size = "
                               f"{channels}.")
        weight = weight.reshape([-1 if d == 1 else 1 for d in range(input.ndim)])
    else:
        weight = weight.reshape((1,) * input.ndim)
    return fn.prelu_elementwise(input, weight)


@composite(nn=True, function=False, method=False)
def glu(input, dim=-1):
    """The first half of ``dim`` times the sigmoid of the second half."""
    if not input.ndim:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    d = wrap_dim(dim, input.ndim)
    n = input._a.shape[d]
    if n % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {n}")
    a, b = fn.split(input, n // 2, d) if n else (input, input)
    return a * b.sigmoid()
