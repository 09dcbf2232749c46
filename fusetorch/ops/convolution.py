"""Convolutions over one, two or three dimensions, and their transposes.

Three kernels are all there is: the convolution, its adjoint with respect to the input, and the one with respect to the weight. They
are the partial derivatives of one trilinear form, so each one's gradients are the other two, however often one differentiates; a
transposed convolution is the adjoint with respect to the input. Source of the arithmetic: Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..dtypes import SCALAR_TYPES, int64
from ..tensor import Tensor
from .opdef import composite, fn, not_implemented, opaque

# ---------------------------------------------------------------------------------------------------- the three kernels


def output_size(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
                dilation: Sequence[int]) -> tuple[int, ...]:
    """Positions at which a kernel fits, along each dimension."""
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation))


@opaque(name="convolution_forward", layout="convolution", function=False, method=False)
def convolution_forward(input, weight, bias, stride: tuple, padding: tuple, dilation: tuple, groups: int):
    """The convolution of ``input`` (N, C, *size) with ``weight`` (O, C / groups, *kernel), plus ``bias`` (O) or ``None``."""
    x, w = input.shape, weight.shape
    return [((x[0], w[0], *output_size(x[2:], w[2:], stride, padding, dilation)), input.dtype)]


@opaque(name="convolution_input_grad", layout="convolution", function=False, method=False)
def convolution_input_grad(grad, weight, bias, size: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int):
    """The adjoint of the convolution with ``weight``: from ``grad`` (N, O, ...) to (N, C, *size); plus ``bias`` (C) or ``None``."""
    return [((grad.shape[0], weight.shape[1] * groups, *size), grad.dtype)]


@opaque(name="convolution_weight_grad", layout="convolution", function=False, method=False)
def convolution_weight_grad(grad, input, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int):
    """The gradient of a weight (O, C / groups, *kernel), from that of the result (N, O, ...) and the input (N, C, *size)."""
    return [((grad.shape[1], input.shape[1] // groups, *kernel), grad.dtype)]


@convolution_forward.vjp("input", "weight")
def _(ctx: Any, g: Any) -> Any:
    x, w, how = ctx["input"], ctx["weight"], [ctx.attrs[k] for k in ("stride", "padding", "dilation", "groups")]
    out = [fn.convolution_input_grad(g, w, None, tuple(ctx.shape(0)[2:]), *how) if ctx.needed[0] else None,
           fn.convolution_weight_grad(g, x, tuple(ctx.shape(1)[2:]), *how) if ctx.needed[1] else None]
    return out + _bias_grad(ctx, g)


def _bias_grad(ctx: Any, g: Any) -> list[Any]:
    return [g.sum((0, *range(2, g.ndim))) if needed else None for needed in ctx.needed[2:]]


@convolution_input_grad.vjp("grad", "weight")
def _(ctx: Any, h: Any) -> Any:
    g, w, how = ctx["grad"], ctx["weight"], [ctx.attrs[k] for k in ("stride", "padding", "dilation", "groups")]
    out = [_fitted(fn.convolution_forward(h, w, None, *how), ctx.shape(0)) if ctx.needed[0] else None,
           fn.convolution_weight_grad(g, h, tuple(ctx.shape(1)[2:]), *how) if ctx.needed[1] else None]
    return out + _bias_grad(ctx, h)


@convolution_weight_grad.vjp("grad", "input")
def _(ctx: Any, h: Any) -> Any:
    g, x, how = ctx["grad"], ctx["input"], [ctx.attrs[k] for k in ("stride", "padding", "dilation", "groups")]
    return (_fitted(fn.convolution_forward(x, h, None, *how), ctx.shape(0)) if ctx.needed[0] else None,
            fn.convolution_input_grad(g, h, None, tuple(ctx.shape(1)[2:]), *how) if ctx.needed[1] else None)


def _fitted(x: Any, shape: tuple[int, ...]) -> Any:
    """``x`` without the positions that the other operand does not have (``output_padding`` makes room for them)."""
    return x if x._a.shape == tuple(shape) else fn.slice_dims(x, tuple((0, n, 1) for n in shape))


def _register(op: Any, name: str) -> None:
    @op.cpu
    def _(*args: Any) -> np.ndarray:
        from ..codegen import convolution
        return getattr(convolution, name)(*args)

    @op.cuda
    def _(*args: Any) -> Any:
        from ..triton_kernels import convolution
        return getattr(convolution, name)(*args)


_register(convolution_forward, "forward")
_register(convolution_input_grad, "input_grad")
_register(convolution_weight_grad, "weight_grad")

# ---------------------------------------------------------------------------------------------------- the public functions

_WORDS = {1: ("",), 2: ("_height", "_width"), 3: ("_depth", "_height", "_width")}


def _whole(v: Any) -> bool:
    return isinstance(v, (int, np.integer)) and not isinstance(v, bool)


def _number(v: Any, name: str, argument: str) -> int:
    if _whole(v):
        return int(v)
    if isinstance(v, Tensor) and v.ndim == 0 and v.dtype.category == 1:
        return int(v.item())
    raise TypeError(f"{name}(): argument '{argument}' must be tuple of ints, not {type(v).__name__}")


def _amounts(v: Any, n: int, name: str, argument: str) -> tuple[int, ...]:
    """An argument for each dimension: one number, or one for each."""
    if not isinstance(v, (tuple, list)):
        return (_number(v, name, argument),) * n
    values = tuple(_number(a, name, argument) for a in v)
    if len(values) not in (1, n):
        raise RuntimeError(f"expected {argument} to be a single integer value or a list of {n} values to match the convolution "
                           f"dimensions, but got {argument}={list(values)}")
    return values * n if len(values) == 1 else values


def _type(t: Any) -> str:
    return SCALAR_TYPES[t.dtype]


def _check_dimensions(x: Any, w: Any) -> None:
    if w.ndim != x.ndim:
        raise RuntimeError(f"Expected {w.ndim}-dimensional input for {w.ndim}-dimensional weight {list(w.shape)}, but got "
                           f"{x.ndim}-dimensional input of size {list(x.shape)} instead")


def _check(name: str, x: Any, w: Any, bias: Any, stride: tuple, padding: tuple, output_padding: tuple, dilation: tuple, groups: int,
           transposed: bool) -> None:
    for t, what in ((x, "input"), (w, "weight")):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}(): argument '{what}' must be Tensor, not {type(t).__name__}")
    if bias is not None and not isinstance(bias, Tensor):
        raise TypeError(f"{name}(): argument 'bias' must be Tensor, not {type(bias).__name__}")
    if w.dtype is not x.dtype:
        a, b = (f"torch.{_type(t)}Tensor" for t in (x, w))
        raise RuntimeError(f"Input type ({a}) and weight type ({b}) should be the same")
    if bias is not None and bias.dtype is not x.dtype:
        raise RuntimeError(f"Input type ({_type(x).lower()}) and bias type ({_type(bias).lower()}) "
                           "should be the same")
    whole = x.dtype.category == 1 and (x.dtype is int64 or not (transposed or max(dilation) > 1))
    if x.dtype.category < 2 and not whole:
        raise not_implemented(name, x.dtype)
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    for what, values, lowest in (("padding", padding, 0), ("output_padding", output_padding, 0), ("stride", stride, 1),
                                 ("dilation", dilation, 1)):
        if min(values) < lowest:
            known = "; dilation should be greater than zero" if what == "dilation" else ""
            raise RuntimeError(f"{'non-positive' if lowest else 'negative'} {what} is not supported{known}, but got {list(values)}")
    size, shape = list(x.shape), list(w.shape)
    _check_dimensions(x, w)
    if shape[0] < groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of size "
                           f"{shape} instead")
    if shape[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of size "
                           f"[{shape}] instead")
    how, takes, gives = (("transposed=1", shape[0], shape[1] * groups) if transposed else
                         (f"groups={groups}", shape[1] * groups, shape[0]))
    if size[1] != takes:
        raise RuntimeError(f"Given {how}, weight of size {shape}, expected input{size} to have {takes} channels, but got {size[1]} "
                           "channels instead")
    if bias is not None and list(bias.shape) != [gives]:
        raise RuntimeError(f"Given {'transposed=1, ' if transposed else ''}weight of size {shape}, expected bias to be 1-dimensional "
                           f"with {gives} elements, but got bias of size {list(bias.shape)} instead")
    if transposed:
        if any(o >= s and o >= d for o, s, d in zip(output_padding, stride, dilation)):
            shown = " ".join(f"{what}{word}: {v}" for what, values in (("output_padding", output_padding), ("stride", stride),
                                                                      ("dilation", dilation))
                             for word, v in zip(_WORDS.get(len(values), _WORDS[3]), values))
            raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got {shown}")
        return
    if 0 in shape[2:]:
        raise RuntimeError(f"Kernel size should be greater than zero, but got weight of size {shape}")
    padded = [n + 2 * p for n, p in zip(size[2:], padding)]
    reach = [d * (k - 1) + 1 for k, d in zip(shape[2:], dilation)]
    if any(r > n for n, r in zip(padded, reach)):
        raise RuntimeError(f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
                           f"({' x '.join(map(str, reach))}). Kernel size can't be greater than actual input size")
    if 0 in size[2:]:
        raise RuntimeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {size}")


def _convolution(name: str, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any,
                 groups: int) -> Any:
    """The convolution of a batch, with every check."""
    n = w.ndim - 2 if isinstance(w, Tensor) else 1
    stride, padding, dilation, output_padding = (
        _amounts(v, max(n, 1), name, what) for v, what in ((stride, "stride"), (padding, "padding"), (dilation, "dilation"),
                                                   (output_padding, "output_padding")))
    groups = _number(groups, name, "groups")
    if n < 1 or n > 3:
        raise RuntimeError(f"{name}: weight should have at least three dimensions, and at most five, but got size {list(w.shape)}")
    _check(name, x, w, bias, stride, padding, output_padding, dilation, groups, transposed)
    if not transposed:
        return _of_parts(lambda x, w, b: fn.convolution_forward(x, w, b, stride, padding, dilation, groups), x, w, bias)
    kernel = w._a.shape[2:]
    size = tuple((a - 1) * s - 2 * p + d * (k - 1) + o + 1
                 for a, k, s, p, d, o in zip(x._a.shape[2:], kernel, stride, padding, dilation, output_padding))
    if min(size) < 0 or 0 in kernel or 0 in x._a.shape[2:]:
        raise RuntimeError(f"Given input size per channel: ({' x '.join(map(str, x.shape[2:]))}). Calculated output size per channel: "
                           f"({' x '.join(map(str, size))}). Output size is too small")
    return _of_parts(lambda x, w, b: fn.convolution_input_grad(x, w, b, size, stride, padding, dilation, groups), x, w, bias)


def _of_parts(convolve: Any, x: Any, w: Any, bias: Any) -> Any:
    """``convolve(x, w, bias)``; of complex tensors by three real ones, as complex numbers can be multiplied."""
    if not x.dtype.is_complex:
        return convolve(x, w, bias)
    a, b = convolve(x.real, w.real, None), convolve(x.imag, w.imag, None)
    both = convolve(x.real + x.imag, w.real + w.imag, None)
    out = fn.complex(a - b, both - a - b)
    return out if bias is None else out + bias.reshape(-1, *(1,) * (x.ndim - 2))


def _batched(name: str, n: int, x: Any, call: Any) -> Any:
    """``call`` on a batch, made of one where ``x`` has no batch dimension."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(x).__name__}")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: {list(x.shape)}")
    return call(x) if x.ndim == n + 2 else call(x.unsqueeze(0)).squeeze(0)


def _forward(name: str, n: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    stride, dilation = _amounts(stride, n, name, "stride"), _amounts(dilation, n, name, "dilation")

    def run(x: Any) -> Any:
        amounts, given = padding if isinstance(padding, str) else _amounts(padding, n, name, "padding"), x
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise RuntimeError(f"Invalid padding string: '{padding}'")
            amounts = (0,) * n
            if padding == "same":
                if any(s != 1 for s in stride):
                    raise RuntimeError("padding='same' is not supported for strided convolutions")
                _check_dimensions(x, w)
                total = [d * (k - 1) for d, k in zip(dilation, w._a.shape[2:])]
                amounts = tuple(t // 2 for t in total)
                if any(t % 2 for t in total):  # the odd one goes behind
                    given = fn.pad(x, [v for t in reversed(total) for v in (0, t % 2)])
        return _convolution(name, given, w, bias, stride, amounts, dilation, False, (0,), groups)
    return _batched(name, n, x, run)


@composite(method=False, autocast="lower")
def convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    """The general form: ``weight.ndim - 2`` dimensions, transposed or not. See :func:`conv2d` and :func:`conv_transpose2d`."""
    return _convolution("convolution", input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


@composite(nn=True, method=False, autocast="lower")
def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Slides ``weight`` (O, C / groups, K) along ``input`` (N, C, L) or (C, L), adds ``bias`` (O). ``padding``: a number of zeros, or
    ``"same"`` or ``"valid"``."""
    return _forward("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@composite(nn=True, method=False, autocast="lower")
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Slides ``weight`` (O, C / groups, KH, KW) over ``input`` (N, C, H, W) or (C, H, W), adds ``bias`` (O). ``padding``: zeros on each
    side, or ``"same"`` or ``"valid"``."""
    return _forward("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@composite(nn=True, method=False, autocast="lower")
def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Slides ``weight`` (O, C / groups, KD, KH, KW) over ``input`` (N, C, D, H, W) or (C, D, H, W), adds ``bias`` (O)."""
    return _forward("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _transposed(name: str, n: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: Any,
                dilation: Any) -> Any:
    if isinstance(padding, str):
        raise TypeError(f"{name}(): argument 'padding' must be tuple of ints, not str")
    stride, padding, output_padding, dilation = (_amounts(v, n, name, what) for v, what in (
        (stride, "stride"), (padding, "padding"), (output_padding, "output_padding"), (dilation, "dilation")))
    return _batched(name, n, x, lambda x: _convolution(name, x, w, bias, stride, padding, dilation, True, output_padding, groups))


@composite(nn=True, method=False, autocast="lower")
def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The adjoint of :func:`conv1d`: ``input`` (N, C, L) or (C, L), ``weight`` (C, O / groups, K), ``bias`` (O)."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@composite(nn=True, method=False, autocast="lower")
def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The adjoint of :func:`conv2d`: ``input`` (N, C, H, W) or (C, H, W), ``weight`` (C, O / groups, KH, KW), ``bias`` (O).
    ``output_padding`` adds rows and columns at the end, of which a strided convolution does not say how many there were."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@composite(nn=True, method=False, autocast="lower")
def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The adjoint of :func:`conv3d`: ``input`` (N, C, D, H, W) or (C, D, H, W), ``weight`` (C, O / groups, KD, KH, KW), ``bias`` (O)."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# ---------------------------------------------------------------------------------------------------- NumPy, for integers


def windows(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> np.ndarray:
    """A view (N, C, *kernel, *positions) of the padded ``x`` (N, C, *size): what each tap sees at each position."""
    if any(padding):
        x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    at = x.strides[2:]
    shape = (*x.shape[:2], *kernel, *output_size(x.shape[2:], kernel, stride, (0,) * len(kernel), dilation))
    strides = (*x.strides[:2], *(a * d for a, d in zip(at, dilation)), *(a * s for a, s in zip(at, stride)))
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def overlap_add(columns: np.ndarray, size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
                dilation: Sequence[int]) -> np.ndarray:
    """The adjoint of :func:`windows`: ``columns`` (N, C, *kernel, *positions) added up where they came from."""
    n = len(size)
    kernel, count = columns.shape[2:2 + n], columns.shape[2 + n:]
    out = np.zeros((*columns.shape[:2], *(max(a + 2 * p, d * (k - 1) + s * (c - 1) + 1) for a, p, d, k, s, c in
                                          zip(size, padding, dilation, kernel, stride, count))), columns.dtype)
    for tap in np.ndindex(*kernel):
        at = tuple(slice(t * d, t * d + s * (c - 1) + 1, s) for t, d, s, c in zip(tap, dilation, stride, count))
        out[(..., *at)] += columns[(slice(None), slice(None), *tap)]
    return out[(..., *(slice(p, p + a) for p, a in zip(padding, size)))]


def forward_by_windows(x: np.ndarray, w: np.ndarray, stride: tuple, padding: tuple, dilation: tuple, groups: int) -> np.ndarray:
    """The convolution as a product of the weight with the windows."""
    n, g = x.shape[0], groups
    seen = windows(x, w.shape[2:], stride, padding, dilation)
    at = seen.shape[2 + len(stride):]
    seen = seen.reshape(n, g, prod(w.shape[1:]), prod(at))
    return np.matmul(w.reshape(g, w.shape[0] // g, prod(w.shape[1:])), seen).reshape(n, w.shape[0], *at)


def input_grad_by_windows(grad: np.ndarray, w: np.ndarray, size: tuple, stride: tuple, padding: tuple, dilation: tuple,
                          groups: int) -> np.ndarray:
    """The adjoint of :func:`forward_by_windows` with respect to ``x``."""
    n, g, at = grad.shape[0], groups, grad.shape[2:]
    seen = np.matmul(w.reshape(g, w.shape[0] // g, prod(w.shape[1:])).swapaxes(1, 2), grad.reshape(n, g, w.shape[0] // g, prod(at)))
    return overlap_add(seen.reshape(n, w.shape[1] * g, *w.shape[2:], *at), size, stride, padding, dilation)


def weight_grad_by_windows(grad: np.ndarray, x: np.ndarray, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple,
                           groups: int) -> np.ndarray:
    """The adjoint of :func:`forward_by_windows` with respect to ``w``."""
    n, g, at = x.shape[0], groups, grad.shape[2:]
    seen = windows(x, kernel, stride, padding, dilation)
    seen = seen[(..., *(slice(a) for a in at))].reshape(n, g, x.shape[1] // g * prod(kernel), prod(at)).swapaxes(2, 3)
    return np.matmul(grad.reshape(n, g, grad.shape[1] // g, prod(at)), seen).sum(0, dtype=x.dtype).reshape(
        grad.shape[1], x.shape[1] // g, *kernel)


@composite(nn=True, method=False)
def conv_tbc(input, weight, bias, pad=0):
    """Convolution over time of ``input`` (time, batch, in) with ``weight`` (width, in, out) and ``bias`` (out): (time', batch, out)."""
    if input.ndim != 3 or weight.ndim != 3 or bias.ndim != 1:
        raise RuntimeError(f"conv_tbc: Input must have 3 dims: time, batch, in_channel; weight 3; bias 1; got {input.ndim}, "
                           f"{weight.ndim} and {bias.ndim}")
    return fn.conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)
