"""Losses over several classes or labels at once, distances between rows, Gumbel softmax, the bilinear map.

Sources: multi-class hinge loss, Crammer and Singer 2001; Gumbel softmax, Jang et al. and Maddison et al. 2017.
"""
from __future__ import annotations

from typing import Any

from ..tensor import tracing
from .losses import loss_reduction, reduced
from .opdef import composite, fn


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
    reduction = loss_reduction(reduction, None, None)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: anchor "
                           f"{anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")
    distance = fn.pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = fn.minimum(far, distance(positive, negative))
    return reduced((near - far + margin).clamp(min=0), reduction)


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


@composite(nn=True, function=False, method=False)
def gumbel_softmax(logits, tau=1.0, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution along ``dim``; with ``hard`` one-hot, with the soft sample's gradient."""
    gumbels = -fn.empty_like(logits).exponential_().log()
    soft = fn.softmax((logits + gumbels) / tau, dim)
    if not hard:
        return soft
    one_hot = fn.zeros_like(logits).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft


@composite(nn=True, autocast="promote:cuda")
def bilinear(input1, input2, weight, bias=None):
    """``input1 @ weight[k] @ input2`` for each ``k``: (*, I) and (*, J) with ``weight`` (K, I, J) to (*, K)."""
    if input1.ndim != input2.ndim or input1._a.shape[:-1] != input2._a.shape[:-1]:
        raise RuntimeError(f"bilinear(): input batch dimensions do not match: got {list(input1.shape)} and {list(input2.shape)}")
    out, i, j = weight._a.shape
    if input1._a.shape[-1] != i or input2._a.shape[-1] != j:
        raise RuntimeError(f"bilinear(): input sizes do not match weight {list(weight.shape)}: got {list(input1.shape)} and "
                           f"{list(input2.shape)}")
    if bias is not None and tuple(bias._a.shape) != (out,):
        raise RuntimeError(f"bilinear(): bias size does not match weight size: got {list(bias.shape)} but expected [{out}]")
    batch = input1._a.shape[:-1]
    left = input1.reshape(-1, i) @ weight.permute(1, 0, 2).reshape(i, out * j)
    result = (left.reshape(-1, out, j) * input2.reshape(-1, 1, j)).sum(-1, dtype=left.dtype).reshape(*batch, out)
    return result if bias is None else result + bias
