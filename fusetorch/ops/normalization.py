"""Softmax and layer normalisation: several reductions over one row, and a result at every position of it.

Sources: layer normalisation, Ba, Kiros and Hinton 2016; RMS normalisation, Zhang and Sennrich 2019; Gumbel softmax, Jang et al. and
Maddison et al. 2017.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import dtype, finfo, float32
from ..errors import warn
from ..shapes import contiguous_strides, numel, wrap_dim
from . import loops
from . import primitives as P
from .expr import cast, count, reduce
from .opdef import As, Short, composite, fn, reduction
from .oracles import scipy_special
from .reductions import spread
from .views import sum_to_size


def _shifted(x: Any) -> Any:
    m = reduce("max", x)
    return x - m


@reduction(name="softmax_dims", function=False, method=False, refuses="complex", promote="floating")
def softmax_dims(input, dim=None, keepdim=False):
    """``exp(x) / sum(exp(x))``."""
    e = P.exp(_shifted(input))
    return e / reduce("sum", e)


@reduction(name="softmax_grad", function=False, method=False, refuses="complex", promote="floating")
def softmax_grad(grad, result, dim=None, keepdim=False):
    """The gradient of softmax from its result."""
    return result * (grad - reduce("sum", grad * result))


@softmax_dims.vjp("out")
def _(ctx: Any, g: Any) -> Any:
    return fn.softmax_grad(g, ctx["out"], ctx.attrs["dim"], True)


@softmax_grad.vjp("grad", "result")
def _(ctx: Any, g: Any) -> Any:
    grad, y, dim = ctx["grad"], ctx["result"], ctx.attrs["dim"]
    gy = (g * y).sum(dim, keepdim=True)
    return y * (g - gy), g * (grad - (grad * y).sum(dim, keepdim=True)) - grad * gy


@reduction(name="log_softmax_dims", function=False, method=False, refuses="complex", promote="floating")
def log_softmax_dims(input, dim=None, keepdim=False):
    """``x - log(sum(exp(x)))``."""
    s = _shifted(input)
    return s - P.log(reduce("sum", P.exp(s)))


@reduction(name="log_softmax_grad", function=False, method=False, refuses="complex", promote="floating")
def log_softmax_grad(grad, result, dim=None, keepdim=False):
    """The gradient of log_softmax from its result."""
    return grad - P.exp(result) * reduce("sum", grad)


@log_softmax_dims.vjp("out")
def _(ctx: Any, g: Any) -> Any:
    return fn.log_softmax_grad(g, ctx["out"], ctx.attrs["dim"], True)


@log_softmax_grad.vjp("grad", "result")
def _(ctx: Any, g: Any) -> Any:
    grad, y, dim = ctx["grad"], ctx["result"], ctx.attrs["dim"]
    e = y.exp()
    ge = (g * e).sum(dim, keepdim=True)
    return g - ge, -g * e * grad.sum(dim, keepdim=True)


def _register_softmax(forward: Any, backward: Any, log: bool) -> None:
    """The hand-written GPU kernels take the last dimension; over others a generated one runs (see ``cuda_backend``)."""
    @forward.cuda
    def _(spec: Any, arrays: Any, scalars: Any, axes: tuple[int, ...]) -> Any:
        from ..triton_kernels.softmax import softmax
        x = arrays[0]
        return [softmax(x, log=log, out_dtype=spec.out_dtypes[0])] if axes == (x.ndim - 1,) else None

    @backward.cuda
    def _(spec: Any, arrays: Any, scalars: Any, axes: tuple[int, ...]) -> Any:
        from ..triton_kernels.softmax import softmax_backward
        g, y = arrays
        ours = axes == (y.ndim - 1,) and g.shape == y.shape
        return [softmax_backward(y, g, log=log, out_dtype=spec.out_dtypes[0])] if ours else None


_register_softmax(softmax_dims, softmax_grad, False)
_register_softmax(log_softmax_dims, log_softmax_grad, True)


def _softmax_oracle(a: np.ndarray, dim: int) -> np.ndarray:
    return scipy_special("softmax")(a, axis=dim)


def _log_softmax_oracle(a: np.ndarray, dim: int) -> np.ndarray:
    return scipy_special("log_softmax")(a, axis=dim)


def _over(input: Any, dim: Any, dtype: dtype | None, op: Any, name: str) -> Any:
    x = input if dtype is None else input.to(dtype)
    if dim is None:
        warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.")
        dim = 0 if x.ndim in (0, 1, 3) else 1  # PyTorch's legacy default
    return op(x, wrap_dim(dim, x.ndim), True)


@composite(nn=True, out="exact", oracle=_softmax_oracle, autocast="float32:cuda", aliases=("special.softmax",))
def softmax(input, dim=None, dtype=None, *, _stacklevel=3):
    """``exp(x) / sum(exp(x))`` along ``dim``, without overflow."""
    return _over(input, dim, dtype, fn.softmax_dims, "softmax")


@composite(nn=True, out="exact", oracle=_log_softmax_oracle, autocast="float32:cuda", aliases=("special.log_softmax",))
def log_softmax(input, dim=None, dtype=None, *, _stacklevel=3):
    """``log(softmax(x))`` along ``dim``, accurately."""
    return _over(input, dim, dtype, fn.log_softmax_dims, "log_softmax")


@composite(nn=True, function=False, method=False)
def softmin(input, dim=None, dtype=None, *, _stacklevel=3):
    """``softmax(-x)`` along ``dim``."""
    return _over(-input, dim, dtype, fn.softmax_dims, "softmin")


# ---- layer normalisation: the affine part is optional


@reduction(name="layer_norm_stats", function=False, method=False, refuses="complex", promote="floating", keep=("weight", "bias"),
           n_outputs=3)
def layer_norm_stats(input, weight, bias, *, eps: float = 1e-5, dim=None, keepdim=False):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, and mean and 1/sqrt(var + eps) for the gradient."""
    n = cast(count(), input.dtype)
    mean = reduce("sum", input) / n
    d = input - mean
    rstd = P.rsqrt(reduce("sum", d * d) / n + eps)
    y = d * rstd
    if weight is not None:
        y = y * cast(weight, y.dtype)
    if bias is not None:
        y = y + cast(bias, y.dtype)
    return y, As(mean, mean.dtype), As(rstd, rstd.dtype)


@reduction(name="layer_norm_grad", function=False, method=False, promote="none")
def layer_norm_grad(grad, input, mean, rstd, weight, dim=None, keepdim=False):
    """The gradient of the input of ``layer_norm_stats``."""
    n = cast(count(), rstd.dtype)
    xhat = (input - mean) * rstd
    wg = grad if weight is None else grad * weight
    return rstd * (wg - reduce("sum", wg) / n - xhat * (reduce("sum", wg * xhat) / n))


@layer_norm_stats.vjp("input", "weight", "out1", "out2")
def _(ctx: Any, g: Any, g_mean: Any, g_rstd: Any) -> Any:
    x, w, mean, rstd = ctx["input"], ctx["weight"], spread(ctx, ctx["out1"]), spread(ctx, ctx["out2"])
    dims, n = ctx.attrs["dim"], 1
    for d in dims:
        n *= ctx.shape(0)[d]
    dx = None
    if ctx.needed[0]:
        parts = [] if g is None else [fn.layer_norm_grad(g, x, mean, rstd, w, dims, True)]
        if g_mean is not None:
            parts.append((spread(ctx, g_mean) / n).expand(ctx.shape(0)))
        if g_rstd is not None:
            parts.append((x - mean) * (spread(ctx, g_rstd) * rstd * rstd * rstd / -n))
        dx = parts[0] if len(parts) == 1 else sum(parts[1:], parts[0])
        dx = dx.to(x.dtype)
    out: list[Any] = [dx]
    operands = (["weight"] if w is not None else []) + (["bias"] if len(ctx.needed) > 1 + (w is not None) else [])
    shape, rank = ctx.shape(1) if operands else (), len(ctx.shape(0))
    if g is None or not operands:
        return out + [None] * len(operands)
    if len(shape) == rank and shape[-1] == 1 < ctx.shape(0)[-1]:
        # one number for a row of elements, as in group normalisation: both gradients are sums, which one pass adds up
        along = [d for d, n in enumerate(shape) if n == 1]
        sums = dict(zip(("weight", "bias"), fn.channel_norm_sums(g, x, mean, rstd, along, True)))
        return out + [sums[name].to(ctx.dtype(k)) if ctx.needed[k] else None for k, name in enumerate(operands, 1)]
    for k, name in enumerate(operands, 1):
        term = g * ((x - mean) * rstd) if name == "weight" and ctx.needed[k] else g
        out.append(sum_to_size(term, ctx.shape(k)).to(ctx.dtype(k)) if ctx.needed[k] else None)
    return out


def _trailing(axes: tuple[int, ...], rank: int) -> bool:
    return axes == tuple(range(rank - len(axes), rank))


@layer_norm_stats.cuda
def _(spec: Any, arrays: Any, scalars: Any, axes: tuple[int, ...]) -> Any:
    from ..triton_kernels.layer_norm import layer_norm as kernel
    x, *rest = arrays
    size = x.shape[x.ndim - len(axes):]
    if not _trailing(axes, x.ndim) or spec.out_dtypes[0] is not x.dtype or any(a.shape != size for a in rest) or (
            len(rest) == 1 and spec.values[0].op == "add"):  # a bias without a weight
        return None
    y, *stats = kernel(x, size, *rest, eps=scalars[0])
    rows = x.shape[:x.ndim - len(axes)] + (1,) * len(axes)
    return [y, *[s.view(rows, contiguous_strides(rows), s.offset) for s in stats]]


@layer_norm_grad.cuda
def _(spec: Any, arrays: Any, scalars: Any, axes: tuple[int, ...]) -> Any:
    from ..triton_kernels.layer_norm import layer_norm_backward
    g, x, mean, rstd, *weight = arrays
    size = x.shape[x.ndim - len(axes):]
    if (not _trailing(axes, x.ndim) or g.shape != x.shape or spec.out_dtypes[0] is not x.dtype
            or any(w.shape != size for w in weight) or not (mean.is_contiguous and rstd.is_contiguous)):
        return None
    return [layer_norm_backward(g, x, size, mean, rstd, *weight)]


@layer_norm_grad.vjp("grad", "input", "mean", "rstd", "weight")
def _(ctx: Any, h: Any) -> Any:
    g, x, mean, rstd, w = (ctx[n] for n in ("grad", "input", "mean", "rstd", "weight"))
    dims = ctx.attrs["dim"]

    def average(t: Any) -> Any:
        return t.mean(dims, keepdim=True)
    xhat = (x - mean) * rstd
    wg = g if w is None else g * w
    # the map from wg to the result is its own adjoint
    back = rstd * (h - average(h) - xhat * average(h * xhat))
    inner = wg - average(wg) - xhat * average(wg * xhat)
    a = h * rstd
    g_xhat = -a * average(wg * xhat) - wg * average(a * xhat)
    out = [back if w is None else back * w, g_xhat * rstd, -(g_xhat * rstd).sum(dims, keepdim=True),
           (h * inner + g_xhat * (x - mean)).sum(dims, keepdim=True)]
    if w is not None:
        out.append(sum_to_size(g * back, ctx.shape(4)))
    return [t.to(ctx.dtype(k)) if ctx.needed[k] else None for k, t in enumerate(out)]


def check_normalized_shape(input: Any, size: tuple[int, ...], weight: Any, bias: Any) -> None:
    """PyTorch's errors for shapes that do not fit."""
    k = len(size)
    if k == 0 or tuple(input._a.shape[input.ndim - k:]) != size:
        raise RuntimeError(f"Given normalized_shape={list(size)}, expected input with shape [*, {', '.join(map(str, size))}], but got "
                           f"input of size{list(input.shape)}")
    for n, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != size:
            raise RuntimeError(f"Expected {n} to be of same shape as normalized_shape, but got {n} of shape {list(t.shape)} and "
                               f"normalized_shape = {list(size)}")


@composite(nn=True, autocast="float32:cuda")
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    """Normalises over the last dimensions, which must be ``normalized_shape``; then scales and shifts."""
    size = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    check_normalized_shape(input, size, weight, bias)
    dims = tuple(range(input.ndim - len(size), input.ndim))
    return fn.layer_norm_stats(input, weight, bias, eps=eps, dim=dims, keepdim=True)[0]


#: Elements up to which a short way of normalising is worth taking: what it saves is steps in Python.
SMALL = 1 << 15


def _rows(input: Any, normalized_shape: Any, *scales: Any) -> np.ndarray | None:
    """A small CPU operand as rows to normalise; ``None`` if it is another one, or the scales are not of its kind."""
    x = input._a
    size = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if type(x) is not np.ndarray or x.dtype.char not in "fd" or not 0 < x.size <= SMALL or not size or x.shape[x.ndim - len(size):] != size:
        return None
    for w in scales:
        if w is not None and (type(w._a) is not np.ndarray or w._a.dtype is not x.dtype or w._a.shape != size):
            return None
    return x.reshape(-1, numel(size))


def normalised(x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float, axes: tuple[int, ...],
               over: tuple[int, ...]) -> tuple[np.ndarray, Any]:
    """``layer_norm_stats`` of arrays over ``axes``, and its gradient: a function of the result's gradient and of what is needed (input,
    weight, bias). Weight and bias have size 1 in the dimensions ``over``."""
    y, mean, rstd = loops.run(layer_norm_stats, (x, weight, bias), (eps,), axes)

    def backward(g: np.ndarray, need: list[bool]) -> list[np.ndarray | None]:
        dx = dw = db = None
        if need[0]:
            dx, = loops.run(layer_norm_grad, (g, x, mean, rstd, weight), (), axes)
        if need[1]:
            dw, db = loops.run(fn.channel_norm_sums.op, (g, x, mean, rstd), (), over)
        elif need[2]:
            db = np.add.reduce(g, over, keepdims=True)
        return [dx, dw, db if need[2] else None]
    return y, backward


@layer_norm.short
def _(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    rows = _rows(input, normalized_shape, weight, bias)
    if rows is None:
        return None
    w, b = (None if t is None else t._a.reshape(1, -1) for t in (weight, bias))
    out, gradients = normalised(rows, w, b, eps, (1,), (0,))
    need = [t is not None and t._req for t in (input, weight, bias)]

    def backward(g: np.ndarray) -> list:
        found = gradients(g.reshape(rows.shape), need)
        return [a if a is None else a.reshape(t._a.shape) for a, t in zip(found, (input, weight, bias))]
    return Short(out.reshape(input._a.shape), (input, weight, bias), (input,) if weight is None else (input, weight), backward)


@composite(nn=True, autocast="float32:cuda", layout="like")
def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divides by the root of the mean square over the last dimensions; then scales."""
    size = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    k = len(size)
    if k == 0:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
                           "normalized_shape = []")
    check_normalized_shape(input, size, weight, None)
    dims = tuple(range(input.ndim - k, input.ndim))
    x = input.to(float32) if input.dtype.itemsize == 2 else input
    y = (x * (x.square().mean(dims, keepdim=True) + (finfo(x.dtype).eps if eps is None else eps)).rsqrt()).to(input.dtype)
    return y if weight is None else y * weight


@rms_norm.short
def _(input, normalized_shape, weight=None, eps=None):
    rows = _rows(input, normalized_shape, weight)
    if rows is None:
        return None
    d, add = rows.dtype.type, np.add.reduce
    share = d(1 / rows.shape[1])
    r = 1 / np.sqrt(add(rows * rows, 1, keepdims=True) * share + d(np.finfo(d).eps if eps is None else eps))
    h = rows * r
    w = None if weight is None else weight._a.reshape(-1)
    need = [t is not None and t._req for t in (input, weight)]

    def backward(g: np.ndarray) -> tuple:
        g = g.reshape(rows.shape)
        gx = None
        if need[0]:
            gh = g if w is None else g * w
            gx = ((gh - h * (add(gh * h, 1, keepdims=True) * share)) * r).reshape(input._a.shape)
        return gx, add(g * h, 0).reshape(weight._a.shape) if need[1] else None
    out = h.copy() if w is None else h * w
    return Short(out.reshape(input._a.shape), (input, weight), () if weight is None else (weight,), backward)


@composite(nn=True, function=False, method=False)
def gumbel_softmax(logits, tau=1.0, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution along ``dim``; with ``hard`` one-hot, with the soft sample's gradient."""
    gumbels = -fn.empty_like(logits).exponential_().log()
    soft = fn.softmax((logits + gumbels) / tau, dim)
    if not hard:
        return soft
    one_hot = fn.zeros_like(logits).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft
