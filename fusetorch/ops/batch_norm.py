"""Normalisation of each channel by statistics over the rest: batch and instance normalisation.

The forward is one reduction with a result at every position; its gradient is one pass for two sums for each channel, which are
also the gradients of weight and bias, and one elementwise pass.

Sources: batch normalisation, Ioffe and Szegedy 2015; instance normalisation, Ulyanov et al. 2016.
"""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import float32, float64
from . import primitives as P
from .expr import cast, count, reduce
from .opdef import As, composite, elementwise, fn, reduction
from .views import sum_to_size


@reduction(name="channel_norm_stats", layout="images", function=False, method=False, promote="float", keep=("weight", "bias"), n_outputs=4)
def channel_norm_stats(input, weight, bias, *, eps: float = 1e-5, dim=None, keepdim=False):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean, 1/sqrt(var + eps), and the biased variance.

    ``weight`` and ``bias`` do not vary along ``dim``.
    """
    n = cast(count(), input.dtype)
    mean = reduce("sum", input) / n
    d = input - mean
    var = reduce("sum", d * d) / n
    rstd = P.rsqrt(var + eps)
    y = d * (rstd if weight is None else rstd * cast(weight, rstd.dtype))
    if bias is not None:
        y = y + cast(bias, y.dtype)
    return y, As(mean, mean.dtype), As(rstd, rstd.dtype), As(var, var.dtype)


@reduction(name="channel_norm_sums", function=False, method=False, promote="none", n_outputs=2)
def channel_norm_sums(grad, input, mean, rstd, dim=None, keepdim=False):
    """The sums of ``grad * (input - mean) * rstd`` and of ``grad``, in the dtype of ``rstd``."""
    d = rstd.dtype
    g = cast(grad, d)
    return As(reduce("sum", g * ((cast(input, d) - mean) * rstd)), d), As(reduce("sum", g), d)


@channel_norm_sums.vjp("grad", "input", "mean", "rstd")
def _(ctx: Any, h_gx: Any, h_g: Any) -> Any:
    g, x, mean, rstd = (ctx[k] for k in ("grad", "input", "mean", "rstd"))
    if h_gx is None:
        return h_g.expand(ctx.shape(0)).to(ctx.dtype(0)), None, None, None
    to_grad, slope = (x - mean) * rstd * h_gx, g * h_gx
    to_input = slope * rstd
    # mean and rstd may vary along what is summed, as in group normalisation
    out = [to_grad if h_g is None else to_grad + h_g, to_input, sum_to_size(-to_input, ctx.shape(2)),
           sum_to_size(slope * (x - mean), ctx.shape(3))]
    return [t.to(ctx.dtype(k)) for k, t in enumerate(out)]


@elementwise(name="channel_norm_grad", function=False, method=False, promote="float", keep=("mean", "rstd", "weight", "sum_gx", "sum_g"))
def channel_norm_grad(grad, input, mean, rstd, weight, sum_gx, sum_g, n: float):
    """The gradient of the input of ``channel_norm_stats`` over ``n`` elements a channel, from what ``channel_norm_sums`` gives."""
    scale = rstd if weight is None else rstd * cast(weight, rstd.dtype)
    return (grad - sum_g / n - (input - mean) * (rstd * sum_gx / n)) * scale


@channel_norm_stats.vjp("input", "weight", "out1", "out2", "out3")
def _(ctx: Any, g: Any, g_mean: Any, g_rstd: Any, g_var: Any) -> Any:
    x, w, mean, rstd = ctx["input"], ctx["weight"], ctx["out1"], ctx["out2"]
    dims, n = ctx.attrs["dim"], math.prod(ctx.shape(0)[d] for d in ctx.attrs["dim"])
    dx, rest = None, [None] * (len(ctx.needed) - 1)
    if g is not None:
        sum_gx, sum_g = fn.channel_norm_sums(g, x, mean, rstd, dims, True)
        if ctx.needed[0]:
            dx = fn.channel_norm_grad(g, x, mean, rstd, w, sum_gx, sum_g, float(n))
        sums = ([] if w is None else [sum_gx]) + [sum_g]  # a bias comes last, with or without a weight
        rest = [sum_to_size(s, ctx.shape(k)).to(ctx.dtype(k)) if ctx.needed[k] else None
                for k, s in enumerate(sums[:len(rest)], 1)]
    # what the statistics themselves are asked for
    if g_rstd is not None:
        from_rstd = g_rstd * rstd * rstd * rstd * -0.5
        g_var = from_rstd if g_var is None else g_var + from_rstd
    for more in ([] if g_mean is None else [(g_mean / n).expand(ctx.shape(0))],
                 [] if g_var is None else [(x - mean) * (g_var * (2.0 / n))]):
        for t in more:
            dx = t if dx is None else dx + t
    return [None if dx is None else dx.to(x.dtype), *rest]


@elementwise(name="channel_norm_affine", layout="images", refuses="complex", function=False, method=False, promote="float",
             keep=("mean", "rstd", "weight", "bias"))
def channel_norm_affine(input, mean, rstd, weight, bias):
    """``(x - mean) * rstd * weight + bias`` with given statistics."""
    y = (input - mean) * (rstd if weight is None else rstd * cast(weight, rstd.dtype))
    return y if bias is None else y + cast(bias, y.dtype)


@channel_norm_affine.vjp("input", "mean", "rstd", "weight")
def _(ctx: Any, g: Any) -> Any:
    x, mean, rstd, w = (ctx[k] for k in ("input", "mean", "rstd", "weight"))
    along = [d for d, n in enumerate(mean._a.shape) if n == 1 and d != 1]
    scale = rstd if w is None else rstd * w.to(rstd.dtype)
    sum_gx = sum_g = None
    if any(ctx.needed[1:]):
        sum_gx, sum_g = fn.channel_norm_sums(g, x, mean, rstd, along, True)
    found = [(lambda: (g * scale).to(x.dtype)), (lambda: -scale * sum_g), (lambda: sum_gx / rstd * (1.0 if w is None else w))]
    found += ([] if w is None else [lambda: sum_gx]) + [lambda: sum_g]
    return [f().to(ctx.dtype(k)) if needed else None for k, (needed, f) in enumerate(zip(ctx.needed, found))]


@elementwise(function=False, method=False, inplace=True, promote="float", differentiable=False,
             oracle=lambda old, new, momentum, scale=1.0: old * (1 - momentum) + new * scale * momentum)
def _moving_average(input, other, momentum, scale: float = 1.0):
    """``input * (1 - momentum) + other * scale * momentum``."""
    return input * (1.0 - momentum) + other * scale * momentum


# ---------------------------------------------------------------------------------------------------- the public functions


def _update(running: Any, batch: Any, momentum: Any, scale: float = 1.0) -> None:
    if running is not None:
        fn._moving_average_(running, batch.reshape(running._a.shape), momentum, scale)


def _per_channel(t: Any, input: Any) -> Any:
    return None if t is None else t.reshape([-1 if d == 1 else 1 for d in range(input.ndim)])


def _check_channels(channels: int, **tensors: Any) -> None:
    for name, t in tensors.items():
        if t is not None and t.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {t.numel()}")


def _check_dtypes(input: Any, weight: Any, bias: Any) -> None:
    for t in (weight, bias):
        if t is not None and t.dtype is not input.dtype and not (t.dtype is float32 and input.dtype.itemsize == 2):
            raise RuntimeError(f"expected scalar type {input.dtype} but found {t.dtype}: weight and bias have the input's dtype, or are "
                               "float32 beside a half-precision input")


def more_than_one(sizes: Any, what: str, shape: Any) -> None:
    """PyTorch's refusal to normalise a single value."""
    if math.prod(sizes) == 1:
        raise ValueError(f"Expected more than 1 {what} when training, got input size {shape}")


def _statistics(running_var: Any, eps: float) -> Any:
    """1/sqrt(var + eps), in at least float32."""
    v = running_var if running_var.dtype is float64 else running_var.to(float32)
    return (v + eps).rsqrt()


def _with_running(input: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, eps: float) -> Any:
    rstd = _statistics(running_var, eps)
    mean, rstd, weight, bias = (_per_channel(t, input) for t in (running_mean.to(rstd.dtype), rstd, weight, bias))
    return fn.channel_norm_affine(input, mean, rstd, weight, bias)


def _batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: bool, momentum: Any,
                eps: float) -> tuple:
    if input.ndim == 1 and not input.numel():
        return input.clone(), None, None
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: expected an input of at least 2 dimensions (N, C, ...), got shape {list(input.shape)}")
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"batch_norm: expected a floating-point input, got {input.dtype}; convert it with .float()")
    if not training and (running_mean is None or running_var is None):
        raise RuntimeError("Expected running_mean and running_var to be defined when training=False")
    channels = input._a.shape[1]
    _check_channels(channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    _check_dtypes(input, weight, bias)
    if not training:
        return _with_running(input, running_mean, running_var, weight, bias, eps), None, None
    dims = (0, *range(2, input.ndim))
    y, mean, rstd, var = fn.channel_norm_stats(input, _per_channel(weight, input), _per_channel(bias, input), eps=eps, dim=dims,
                                               keepdim=True)
    n = input.numel() // channels if channels else 0
    if n:
        _update(running_mean, mean, momentum)
        _update(running_var, var, momentum, n / (n - 1) if n > 1 else math.nan)
    return y, mean, rstd


@composite(nn=True, function=False, method=False)
def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalises each channel of ``input`` (N, C, ...) by its mean and biased variance over all other dimensions.

    Args:
        running_mean, running_var: shape (C,), or ``None``; while ``training`` they move towards the batch's mean and unbiased variance by
            ``momentum``, in place; otherwise they are used in place of the batch's.
        weight, bias: shape (C,), or ``None``; scale and shift.

    Raises:
        ValueError: one value for each channel while ``training``. RuntimeError: tensors of the wrong size.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.functional.batch_norm(torch.tensor([[1.0], [3.0]]), None, None, training=True)
        tensor([[-1.0000],
                [ 1.0000]])
    """
    if training and eps <= 0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if training and input.ndim:
        more_than_one((input._a.shape[0], *input._a.shape[2:]), "value per channel", input.shape)
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)[0]


@composite(method=False)
def native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps):
    """``batch_norm``, and the mean and 1/sqrt(var + eps) that it used, of shape (C,); empty unless ``training``."""
    y, mean, rstd = _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if mean is None:
        empty = fn.empty((0,), dtype=input.dtype if weight is None else weight.dtype, device=input.device)
        return y, empty, empty.clone()
    kept = input.dtype if weight is None else weight.dtype
    return y, mean.detach().reshape(-1).to(kept), rstd.detach().reshape(-1).to(kept)


@composite(method=False)
def _native_batch_norm_legit(input, weight, bias, *args, **kwargs):
    """``native_batch_norm``; also without running statistics: ``(input, weight, bias, training, momentum, eps)``."""
    if "training" not in kwargs and len(args) + len(kwargs) == 3 or (args and isinstance(args[0], bool)):
        args = (None, None, *args)
    return fn.native_batch_norm(input, weight, bias, *args, **kwargs)


@composite(refuses="bool integer complex", nn=True, function=False, method=False)
def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    """Normalises each channel of each sample of ``input`` (N, C, ...) over its spatial dimensions.

    ``running_mean`` and ``running_var`` (C,) move towards the samples' average statistics, or with ``use_input_stats=False`` replace them.
    ``ValueError`` for a single spatial element.
    """
    input = input.contiguous()
    if use_input_stats:
        more_than_one(input._a.shape[2:], "spatial element", input.shape)
    elif running_mean is None or running_var is None:
        raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
    channels = input._a.shape[1]
    _check_channels(channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    _check_dtypes(input, weight, bias)
    if not use_input_stats:
        return _with_running(input, running_mean, running_var, weight, bias, eps)
    y, mean, _, var = fn.channel_norm_stats(input, _per_channel(weight, input), _per_channel(bias, input), eps=eps,
                                            dim=tuple(range(2, input.ndim)), keepdim=True)
    n = math.prod(input._a.shape[2:])
    if input.numel():
        for running, batch, scale in ((running_mean, mean, 1.0), (running_var, var, n / (n - 1) if n > 1 else math.nan)):
            if running is not None:
                _update(running, batch.detach().reshape(-1, channels).mean(0), momentum, scale)
    return y
