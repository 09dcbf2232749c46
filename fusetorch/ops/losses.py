"""Losses of regression and of probabilities. ``reduction``: ``"mean"``, ``"sum"`` or ``"none"``.

Source: Huber loss, Huber 1964.
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..tensor import tracing
from . import primitives as P
from .opdef import Short, composite, elementwise, fn


def loss_reduction(reduction: str, size_average: Any, reduce: Any) -> str:
    """The reduction that PyTorch's deprecated arguments ask for."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", stacklevel=3)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(x: Any, reduction: str) -> Any:
    """``x`` as ``reduction`` asks."""
    if reduction == "none":
        return x
    return x.mean() if reduction == "mean" else x.sum()


# ---- regression


def _pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    if input.shape != target.shape:
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to "
                      "incorrect results due to broadcasting. Please ensure they have the same size.", stacklevel=4)
        return fn.broadcast_tensors(input, target)
    return input, target


@elementwise(refuses="complex", promote="floating", name="squared_difference", function=False, method=False,
             oracle=lambda a, b: (a - b) ** 2)
def squared_difference(input, target):
    """``(input - target) ** 2``."""
    d = input - target
    return d * d


@elementwise(refuses="bool", name="absolute_difference", function=False, method=False, oracle=lambda a, b: np.abs(a - b))
def absolute_difference(input, target):
    """``|input - target|``."""
    return P.abs(input - target)


@elementwise(name="smooth_l1_elementwise", function=False, method=False, promote="floating",
             oracle=lambda a, b, beta=1.0: np.where(np.abs(a - b) < beta, 0.5 * (a - b) ** 2 / beta, np.abs(a - b) - 0.5 * beta))
def smooth_l1_elementwise(input, target, beta: float = 1.0):
    """``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, of the difference ``d``."""
    d = P.abs(input - target)
    return P.where(d < beta, d * d * 0.5 / beta, d - beta * 0.5)


@elementwise(name="huber_elementwise", function=False, method=False, promote="floating",
             oracle=lambda a, b, delta=1.0: np.where(np.abs(a - b) <= delta, 0.5 * (a - b) ** 2, delta * (np.abs(a - b) - 0.5 * delta)))
def huber_elementwise(input, target, delta: float = 1.0):
    """``d**2 / 2`` where ``|d| <= delta``, else ``delta * (|d| - delta / 2)``, of the difference ``d``."""
    d = P.abs(input - target)
    return P.where(d <= delta, d * d * 0.5, (d - delta * 0.5) * delta)


@composite(nn=True, function=False, method=False, autocast="float32")
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The squared difference."""
    reduction = loss_reduction(reduction, size_average, reduce)
    a, b = _pair("mse_loss", input, target)
    r = fn.squared_difference(a, b)
    if weight is None:
        return reduced(r, reduction)
    if weight.shape != input.shape:
        raise ValueError("Inputs and weight must have the same size.")
    r = r * weight
    return r.sum() / weight.sum() if reduction == "mean" else reduced(r, reduction)


#: Elements up to which a loss is cheaper in a few NumPy calls than as native loops.
SMALL = 1 << 14


@mse_loss.short
def _(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    x, y = input._a, target._a
    if not (type(x) is type(y) is np.ndarray and x.dtype is y.dtype and x.dtype.char in "fd" and x.shape == y.shape and 0 < x.size <= SMALL
            and weight is size_average is reduce is None and reduction in ("mean", "sum")):
        return None
    d = x - y
    scale = 1 / x.size if reduction == "mean" else 1.0
    need = input._req, target._req

    def backward(g):
        gx = d * (g * x.dtype.type(2 * scale))
        return gx if need[0] else None, -gx if need[1] else None
    return Short(np.asarray(np.add.reduce(d * d, axis=None) * x.dtype.type(scale)), (input, target), (), backward)


@composite(nn=True, function=False, method=False, autocast="float32")
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The absolute difference."""
    reduction = loss_reduction(reduction, size_average, reduce)
    a, b = _pair("l1_loss", input, target)
    r = fn.absolute_difference(a, b)
    if weight is None:
        return reduced(r, reduction)
    r = r * weight
    return r.sum() / weight.sum() if reduction == "mean" else reduced(r, reduction)


@composite(nn=True, function=False, method=False, autocast="float32")
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared below ``beta``, absolute above."""
    reduction = loss_reduction(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    a, b = _pair("smooth_l1_loss", input, target)
    return reduced(fn.absolute_difference(a, b) if beta == 0 else fn.smooth_l1_elementwise(a, b, beta), reduction)


@composite(nn=True, function=False, method=False, autocast="float32")
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared up to ``delta``, then linear with slope ``delta``."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    a, b = _pair("huber_loss", input, target)
    r = fn.huber_elementwise(a, b, delta)
    if weight is None:
        return reduced(r, loss_reduction(reduction, None, None))
    r = r * weight
    return r.sum() / weight.sum() if reduction == "mean" else reduced(r, reduction)


# ---- probabilities


@elementwise(name="binary_cross_entropy_elementwise", function=False, method=False, promote="floating", domain=(0.1, 0.9),
             oracle=lambda p, t: -(t * np.log(p) + (1 - t) * np.log1p(-p)))
def binary_cross_entropy_elementwise(input, target):
    """``-(t log p + (1 - t) log(1 - p))``, with the logarithms not below -100."""
    return (target - 1.0) * P.maximum(P.log1p(-input), -100.0) - target * P.maximum(P.log(input), -100.0)


@elementwise(name="bce_with_logits_elementwise", function=False, method=False, promote="floating",
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


@elementwise(name="bce_with_logits_pos_elementwise", function=False, method=False, promote="floating",
             oracle=lambda x, t, w: (1 - t) * x + (1 + (w - 1) * t) * np.log1p(np.exp(-x)))
def bce_with_logits_pos_elementwise(input, target, pos_weight):
    """The same with positive targets counted ``pos_weight`` times."""
    return (1.0 - target) * input + ((pos_weight - 1.0) * target + 1.0) * _softplus_minus(input)


@composite(nn=True, function=False, method=False, autocast="float32:cpu banned:cuda")
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Cross entropy between probabilities and targets in [0, 1]."""
    reduction = loss_reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) "
                         f"is deprecated. Please ensure "
                         "they have the same size.")
    if not tracing() and input.device.type == "cpu" and input.numel() and not bool(((input >= 0) & (input <= 1)).all()):
        raise RuntimeError("all elements of input should be between 0 and 1")
    r = fn.binary_cross_entropy_elementwise(input, target)
    return reduced(r if weight is None else r * weight, reduction)


@composite(nn=True, function=False, method=False, autocast="float32")
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """Binary cross entropy of ``sigmoid(input)``."""
    reduction = loss_reduction(reduction, size_average, reduce)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if pos_weight is None:
        r = fn.bce_with_logits_elementwise(input, target)
    else:
        r = fn.bce_with_logits_pos_elementwise(input, target, pos_weight)
    return reduced(r if weight is None else r * weight, reduction)


@elementwise(name="kl_div_elementwise", function=False, method=False, promote="floating", domain=(0.1, 0.9),
             oracle=lambda x, t: t * (np.log(t) - x))
def kl_div_elementwise(input, target):
    """``t (log t - input)``, 0 where ``t`` is 0; NaN where it is negative."""
    zero = P.eq(target, 0.0)
    return P.where(zero, 0.0, target * P.log(P.where(zero, 1.0, target))) - target * input


@composite(refuses="bool integer complex", nn=True, function=False, method=False, autocast="float32")
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """The Kullback-Leibler divergence from log-probabilities ``input`` to ``target``; ``"batchmean"`` divides by the batch size."""
    if reduction == "batchmean":
        how = "sum"
    else:
        how = loss_reduction(reduction, size_average, reduce)
        if how == "mean":
            warnings.warn("reduction: 'mean' divides the total loss by both the batch size and the support size."
                          "'batchmean' divides only by "
                          "the batch size, and aligns with the KL div math definition.", stacklevel=2)
    r = target.exp() * (target - input) if log_target else fn.kl_div_elementwise(input, target)
    r = reduced(r, how)
    return r / input._a.shape[0] if reduction == "batchmean" and input.ndim and input._a.shape[0] else r


@composite(refuses="integer", nn=True, function=False, method=False)
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """The negative log likelihood of ``target`` under normal distributions with mean ``input`` and variance ``var``."""
    if not hasattr(var, "numel"):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * fn.ones_like(input)
    elif not tracing() and bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif input.ndim != var.ndim or any(n not in (1, m) for n, m in zip(var._a.shape, input._a.shape)):
            raise ValueError("var is of incorrect size")
    loss_reduction(reduction, None, None)
    with_floor = fn.clamp(var.detach(), min=eps) - var.detach() + var
    loss = 0.5 * (with_floor.log() + (input - target) ** 2 / with_floor)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@composite(refuses="bool", nn=True, function=False, method=False, autocast="float32")
def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """The negative log likelihood of counts ``target`` under Poisson distributions with (log) mean ``input``."""
    reduction = loss_reduction(reduction, size_average, reduce)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction)
