"""Losses of margins: between pairs, in triplets, and over several classes or labels at once.

Sources: triplet loss, Balntas et al. 2016; multi-class hinge loss, Crammer and Singer 2001.
"""
from __future__ import annotations

from typing import Any

from ..tensor import tracing
from .distances import pairwise_distance
from .losses import loss_reduction, reduced
from .opdef import composite, fn


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
    return _triplet(lambda a, b: pairwise_distance.body(a, b, p, eps), anchor, positive, negative, margin, swap, reduction)


def _triplet(distance: Any, anchor: Any, positive: Any, negative: Any, margin: float, swap: bool, reduction: str) -> Any:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
                           f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = fn.minimum(far, distance(positive, negative))
    return reduced((near - far + margin).clamp(min=0), reduction)


def _batched(name: str, input: Any, target: Any, per_class: bool) -> tuple[Any, Any]:
    """``input`` as (N, C) and ``target`` as (N, C), or with ``per_class=False`` as (N,)."""
    shape, n = input._a.shape, input.ndim
    if n > 2 or (n == 2 and shape[1] == 0) or (n == 1 and shape[0] == 0):
        raise RuntimeError(f"{name}: Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(shape)}")
    x = input.reshape(1, -1) if n < 2 else input
    want = tuple(x._a.shape) if per_class else (x._a.shape[0],)
    squeezed = tuple(target._a.shape) in (((), (1,)) if not per_class and n < 2 else (shape,))
    if tuple(target._a.shape) != want and not squeezed:
        raise RuntimeError(f"{name}: inconsistent target size: expected {list(want)} for an input of shape {list(shape)}, but got "
                           f"{list(target.shape)}")
    return x, target.reshape(want)


def _check_target(name: str, target: Any, low: int, classes: int) -> None:
    if target.dtype.name != "int64":
        raise RuntimeError(f"{name}: expected scalar type Long but found {target.dtype}")
    if not tracing() and target.device.type == "cpu" and target.numel() and not (
            low <= int(target.min()) and int(target.max()) < classes):
        raise RuntimeError(f"{name}: target out of range: class numbers are from {low} to {classes - 1}, got {int(target.min())} to "
                           f"{int(target.max())}")


@composite(refuses="bool integer", nn=True, function=False, method=False, autocast="float32")
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """``sum(max(0, margin - input[target] + input[i]) ** p for i != target) / C``: the multi-class hinge loss.

    ``input`` is (N, C) or (C), ``target`` (N) or (), ``p`` 1 or 2, ``weight`` (C) counts each class's rows.
    """
    reduction = loss_reduction(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    x, t = _batched("multi_margin_loss", input, target, False)
    classes = x._a.shape[1]
    if weight is not None and weight.numel() != classes:
        raise RuntimeError(f"multi_margin_loss: inconsistent weight size: expected {classes} but got {list(weight.shape)}")
    _check_target("multi_margin_loss", t, 0, classes)
    at = t.unsqueeze(1)
    terms = (margin - x.gather(1, at) + x).clamp(min=0)
    terms = terms * terms if p == 2 else terms
    if weight is not None:
        terms = terms * weight[t].unsqueeze(1)
    other = fn.arange(classes, device=x.device) != at
    rows = fn.where(other, terms, fn.zeros_like(terms)).sum(1) / classes
    return reduced(rows.reshape(()) if input.ndim < 2 and target.ndim == 0 else rows, reduction)


@composite(refuses="bool integer", nn=True, function=False, method=False, autocast="float32")
def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """The hinge loss between each label of a sample and each class that is none: ``max(0, 1 - (input[label] - input[i])) / C``, summed.

    ``input`` and ``target`` are (N, C) or (C); a sample's labels are the numbers before its first -1.
    """
    reduction = loss_reduction(reduction, size_average, reduce)
    x, t = _batched("multilabel_margin_loss", input, target, True)
    classes = x._a.shape[1]
    _check_target("multilabel_margin_loss", t, -1, classes)
    given = (t < 0).cumsum(1) == 0
    safe = t.clamp(min=0)
    # labels may repeat: a class is a label if any of the given ones names it
    labels = ((safe.unsqueeze(2) == fn.arange(classes, device=x.device)) & given.unsqueeze(2)).any(1)
    gap = (1.0 - x.gather(1, safe).unsqueeze(2) + x.unsqueeze(1)).clamp(min=0)
    counted = given.unsqueeze(2) & ~labels.unsqueeze(1)
    rows = fn.where(counted, gap, fn.zeros_like(gap)).sum((1, 2)) / classes
    return reduced(rows.reshape(()) if input.ndim < 2 else rows, reduction)


@composite(nn=True, function=False, method=False)
def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Binary cross entropy of ``sigmoid(input)`` for each class, averaged over the classes (the last dimension)."""
    reduction = loss_reduction(reduction, size_average, reduce)
    loss = -(target * fn.logsigmoid(input) + (1 - target) * fn.logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return reduced(loss.sum(-1) / input._a.shape[-1], reduction)


@composite(nn=True, function=False, method=False)
def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` for any distance function (``pairwise_distance`` if ``None``)."""
    distance = fn.pairwise_distance if distance_function is None else distance_function
    return _triplet(distance, anchor, positive, negative, margin, swap, loss_reduction(reduction, None, None))
