"""Cross entropy and negative log likelihood.

They are written as reductions over the classes that compare a class number with the target, instead of a gather, so that cross
entropy is one kernel with log-softmax, forward and backward.

Source: label smoothing, Szegedy et al. 2016.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import int64
from ..runtime.batched import values_of
from ..tensor import tracing
from . import loops
from . import primitives as P
from .expr import cast, const, count, iota, reduce
from .losses import SMALL, loss_reduction
from .opdef import As, Short, composite, fn, reduction


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
    hit = P.eq(iota("inner"), cast(target, int64)) & P.ne(target, ignore_index)
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
    hit = P.eq(iota("inner"), cast(target, int64)) & P.ne(target, ignore_index)
    w = const(1, d) if weight is None else cast(weight, d)
    row = reduce("sum", P.where(hit, w, 0.0))
    onehot = P.where(hit, w, 0.0)
    counted = P.ne(target, ignore_index)  # a mean over no rows has an infinite gradient, which must not reach the others
    if label_smoothing is None:
        return P.where(counted, (p * row - onehot) * g, 0.0)
    valid = cast(reduce("max", hit), d)
    n = cast(count(), d)
    total = n if weight is None else reduce("sum", w)
    smooth = (p * total - w) * valid / n
    return P.where(counted, ((p * row - onehot) * (1.0 - label_smoothing) + smooth * label_smoothing) * g, 0.0)


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
            raise ValueError(f"Expected input batch_size ({want[0]}) to match target batch_size "
                             f"({target._a.shape[0] if target.ndim else 0}).")
        raise RuntimeError(f"Expected target size {list(want)}, got {list(target.shape)}")
    return 1


def _check_classes(target: Any, classes: int, ignore_index: int) -> None:
    if tracing() or target.device.type != "cpu" or not target.numel():
        return
    t = values_of(target._a)
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


@composite(nn=True, function=False, method=False, autocast="float32")
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
    reduction = loss_reduction(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"cross_entropy: expected floating-point logits, got {input.dtype}")
    if target.shape == input.shape and target.dtype.is_floating_point:
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _soft(input, target, weight, reduction, label_smoothing)
    if target.shape == input.shape and input.ndim:
        raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype}")
    return _rows(fn.cross_entropy_rows, input, target, weight, ignore_index, {"label_smoothing": label_smoothing or None},
                 "cross_entropy", reduction)


@cross_entropy.short
def _(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    x, t = input._a, target._a
    if not (type(x) is type(t) is np.ndarray and x.dtype.char in "fd" and t.dtype == np.int64 and x.ndim == 2 and t.shape == x.shape[:1]
            and 0 < x.size <= SMALL and weight is size_average is reduce is None and reduction in ("mean", "sum") and not label_smoothing):
        return None
    n, classes = x.shape
    if np.minimum.reduce(t) < 0 or np.maximum.reduce(t) >= classes:
        return None  # ignored rows, or an error
    t = t.reshape(n, 1)
    loss, counted, lse = loops.run(cross_entropy_rows, (x, t, None), (ignore_index, None), (1,))
    rows = n if ignore_index < 0 else np.add.reduce(counted, None)
    if not rows:
        return None
    scale = x.dtype.type(1 / rows if reduction == "mean" else 1.0)

    def backward(g: np.ndarray) -> list:
        return loops.run(cross_entropy_grad, (x, (g * scale).reshape(1, 1), t, lse, None), (ignore_index, None), (1,))
    return Short(np.asarray(np.add.reduce(loss, None) * scale), (input,), (input,), backward)


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


@reduction(name="nll_rows", function=False, method=False, promote="floating", keep=("target", "weight"), n_outputs=2)
def nll_rows(input, target, weight, dim=None, keepdim=False, *, ignore_index: int):
    """Per row of log-probabilities: minus that of the target, and the weight it counts with."""
    d = input.dtype
    hit = P.eq(iota("inner"), cast(target, int64)) & P.ne(target, ignore_index)
    w = const(1, d) if weight is None else cast(weight, d)
    return reduce("sum", P.where(hit, -input if weight is None else -input * w, 0.0)), reduce("sum", P.where(hit, w, 0.0))


@reduction(name="nll_grad", function=False, method=False, promote="none", keep=("target", "input", "weight"))
def nll_grad(grad, input, target, weight, dim=None, keepdim=False, *, ignore_index: int):
    """The gradient of ``nll_rows``; of ``input`` only the shape counts."""
    hit = P.eq(iota("inner"), cast(target, int64)) & P.ne(target, ignore_index)
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


@composite(refuses="complex", nn=True, function=False, method=False, autocast="float32")
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """Minus the log-probability of each target class; shapes as for ``cross_entropy``."""
    reduction = loss_reduction(reduction, size_average, reduce)
    return _rows(fn.nll_rows, input, target, weight, ignore_index, {}, "nll_loss", reduction)


@nll_loss.short
def _(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    x, t = input._a, target._a
    if not (type(x) is type(t) is np.ndarray and x.dtype.char in "fd" and t.dtype == np.int64 and x.ndim == 2 and t.shape == x.shape[:1]
            and 0 < x.size <= SMALL and weight is size_average is reduce is None and reduction in ("mean", "sum")):
        return None
    n, classes = x.shape
    if np.minimum.reduce(t) < 0 or np.maximum.reduce(t) >= classes or (ignore_index >= 0 and (t == ignore_index).any()):
        return None  # ignored rows, or an error
    at = np.arange(n) * classes + t
    scale = x.dtype.type(-1 / n if reduction == "mean" else -1.0)

    def backward(g: np.ndarray) -> tuple:
        gx = np.zeros(x.shape, x.dtype)
        gx.reshape(-1)[at] = g * scale
        return (gx,)
    return Short(np.asarray(np.add.reduce(x.reshape(-1).take(at)) * scale), (input,), (), backward)


@composite(nn=True, function=False, method=False)
def linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean", ignore_index=None,
                         label_smoothing=0.0, options=None):
    """``cross_entropy`` of ``input @ linear_weight.T + linear_bias``; ``linear_weight`` is (C, in) or (C, d1, ..., in).

    ``options``, which say how PyTorch cuts the product into parts, change nothing here.
    """
    *out, width = linear_weight._a.shape
    if input.ndim not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {input.ndim}")
    if len(out) > 1 and input.ndim == 1:
        raise RuntimeError(f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, (N, "
                           f"{width}), got unbatched input with shape {tuple(input.shape)}")
    if ignore_index is not None and target.dtype.is_floating_point:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    logits = fn.linear(input, linear_weight.reshape(-1, width), None if linear_bias is None else linear_bias.reshape(-1))
    return fn.cross_entropy(logits.reshape(*input._a.shape[:-1], *out), target, weight,
                            ignore_index=-100 if ignore_index is None else ignore_index, reduction=reduction,
                            label_smoothing=label_smoothing)
