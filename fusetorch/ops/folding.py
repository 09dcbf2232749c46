"""``unfold`` and ``fold``: the sliding blocks of an image as columns, and columns added up to an image."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import HALVES, bool_
from .convolution import output_size, overlap_add, windows
from .opdef import composite, fn, opaque


@opaque(name="im2col", function=False, method=False)
def im2col(input, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple):
    """From (N, C, H, W) to (N, C * kernel, positions): a column for each position of the kernel."""
    n, c, *size = input.shape
    rows, columns = output_size(size, kernel, stride, padding, dilation)
    return [((n, c * kernel[0] * kernel[1], rows * columns), input.dtype)]


@opaque(name="col2im", function=False, method=False)
def col2im(input, size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple):
    """The adjoint of ``im2col``: overlapping columns are added up."""
    return [((input.shape[0], input.shape[1] // (kernel[0] * kernel[1]), *size), input.dtype)]


@im2col.cpu
def _(x: np.ndarray, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> np.ndarray:
    seen = windows(x, kernel, stride, padding, dilation)
    n, c, kh, kw, rows, columns = seen.shape
    return np.array(seen).reshape(n, c * kh * kw, rows * columns)


@col2im.cpu
def _(x: np.ndarray, size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> np.ndarray:
    at = output_size(size, kernel, stride, padding, dilation)
    channels = x.shape[1] // (kernel[0] * kernel[1])
    wide = x.astype(np.float32) if x.dtype in [d.np for d in HALVES] else x
    return overlap_add(wide.reshape(x.shape[0], channels, *kernel, *at), size, stride, padding, dilation).astype(x.dtype)


@im2col.cuda
def _(x: Any, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> Any:
    from ..triton_kernels import folding
    return folding.im2col(x, kernel, dilation, padding, stride)


@col2im.cuda
def _(x: Any, size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> Any:
    from ..triton_kernels import folding
    return folding.col2im(x, size, kernel, dilation, padding, stride)


@im2col.vjp()
def _(ctx: Any, g: Any) -> Any:
    how = [ctx.attrs[k] for k in ("kernel", "dilation", "padding", "stride")]
    return fn.col2im(g, tuple(ctx.shape(0)[2:]), *how)


@col2im.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.im2col(g, *[ctx.attrs[k] for k in ("kernel", "dilation", "padding", "stride")])


def _two(v: Any, what: str) -> tuple[int, int]:
    if isinstance(v, int):
        return v, v
    if not isinstance(v, (tuple, list)):
        raise TypeError(f"argument '{what}' must be tuple of ints, not {type(v).__name__}")
    if len(v) != 2:
        raise RuntimeError(f"It is expected {what} equals to 2, but got size {len(v)}")
    return int(v[0]), int(v[1])


def _settings(kernel: Any, dilation: Any, padding: Any, stride: Any) -> tuple[tuple[int, int], ...]:
    k, d, p, s = (_two(v, what) for v, what in ((kernel, "kernel_size"), (dilation, "dilation"), (padding, "padding"),
                                                (stride, "stride")))
    for what, short, v, lowest in (("kernel size", "kernel", k, 1), ("dilation", "dilation", d, 1), ("padding", "pad", p, 0),
                                   ("stride", "stride", s, 1)):
        if min(v) < lowest:
            rule = "greater than zero" if lowest else "non-negative"
            raise RuntimeError(f"{what} should be {rule}, but got {short}_height: {v[0]} {short}_width: {v[1]}")
    return k, d, p, s


def _floating(x: Any, name: str) -> None:
    if x.dtype.category == 1:
        raise NotImplementedError(f"\"{name}\" not implemented for {x.dtype}; convert the tensor with .float() first")


@composite(name="nn_unfold", function=False, method=False, aliases=("nn.functional.unfold",))
def nn_unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The sliding blocks of ``input`` (N, C, H, W) or (C, H, W) as columns: (N, C * kernel height * kernel width, blocks)."""
    k, d, p, s = _settings(kernel_size, dilation, padding, stride)
    shape = list(input.shape)
    if input.ndim < 3:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-input.ndim}, {input.ndim - 1}], but got 2)")
    if input.ndim > 4 or 0 in shape[-3:]:
        raise RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, "
                           f"but got: {shape}")
    _floating(input, "im2col")
    at = output_size(shape[-2:], k, s, p, d)
    if min(at) < 1:
        raise RuntimeError(f"Given input with spatial size {tuple(shape[-2:])}, kernel_size={k}, dilation={d}, padding={p}, calculated "
                           f"shape of the array of sliding blocks as {tuple(max(a, 0) for a in at)}, but its components must be at "
                           "least one.")
    x = input.unsqueeze(0) if input.ndim == 3 else input
    out = _of_parts(lambda x: fn.im2col(x, k, d, p, s), x)
    return out.squeeze(0) if input.ndim == 3 else out


def _of_parts(f: Any, x: Any) -> Any:
    """``f(x)``, which is linear; of a complex tensor, by real and imaginary parts."""
    return fn.complex(f(x.real), f(x.imag)) if x.dtype.is_complex else f(x)


@composite(nn=True, function=False, method=False)
def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Adds the columns (N, C * kernel height * kernel width, blocks) of :func:`unfold` up to an image (N, C, *output_size)."""
    from .convolution import output_size as positions
    size = _two(output_size, "output_size")
    k, d, p, s = _settings(kernel_size, dilation, padding, stride)
    shape = list(input.shape)
    if input.ndim not in (2, 3) or 0 in shape[-2:]:
        raise RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for "
                           f"input, but got: {shape}")
    _floating(input, "col2im")
    if shape[-2] % (k[0] * k[1]):
        raise RuntimeError(f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
                           f"input.size(1)={shape[-2]} and kernel_size={k}.")
    at = positions(size, k, s, p, d)
    if min(at) < 1 or at[0] * at[1] != shape[-1]:
        raise RuntimeError(f"Given output_size={size}, kernel_size={k}, dilation={d}, padding={p}, stride={s}, expected size of input's "
                           f"dimension 2 to match the calculated number of sliding blocks {at[0]} * {at[1]} = {at[0] * at[1]}, but got "
                           f"input.size(2)={shape[-1]}.")
    x = input.unsqueeze(0) if input.ndim == 2 else input
    if x.dtype is bool_:  # a sum of bools is an or
        out = fn.col2im(x.float(), size, k, d, p, s) != 0
    else:
        out = _of_parts(lambda x: fn.col2im(x, size, k, d, p, s), x)
    return out.squeeze(0) if input.ndim == 2 else out
