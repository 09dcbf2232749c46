"""The sliding blocks of an image as columns, and their adjoint: each element is computed where it is stored, so nothing is atomic."""
from __future__ import annotations

import triton
import triton.language as tl

from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import scalar
from fusetorch.triton_kernels.layout import TRITON_TYPES, accumulator, cdiv, tile
from fusetorch.triton_kernels.pointwise import contiguous


@triton.jit
def _im2col(x, out, n, channels, height, width, kh, kw, rows, columns, dh, dw, ph, pw, sh, sw, x_n, x_c, x_h, x_w, BLOCK: tl.constexpr):
    """``out[n, c, i, j, r, q] = x[n, c, r * s - p + i * d, q * s - p + j * d]``, zero outside."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    q = at % columns
    rest = at // columns
    r = rest % rows
    rest = rest // rows
    j = rest % kw
    rest = rest // kw
    i = rest % kh
    rest = rest // kh
    h = r * sh - ph + i * dh
    w = q * sw - pw + j * dw
    seen = (at < n) & (h >= 0) & (h < height) & (w >= 0) & (w < width)
    v = tl.load(x + rest // channels * x_n + rest % channels * x_c + h * x_h + w * x_w, seen, other=0)
    tl.store(out + at, v, at < n)


@triton.jit
def _col2im(x, out, n, height, width, kh, kw, rows, columns, dh, dw, ph, pw, sh, sw, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """``out[c, h, w]``: the sum over the taps (i, j) of the columns that hold this element."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    w = at % width + pw
    rest = at // width
    h = rest % height + ph
    c = rest // height
    acc = tl.zeros((BLOCK,), ACC)
    for tap in range(0, kh * kw):
        i = tap // kw
        j = tap % kw
        y = h - i * dh
        z = w - j * dw
        r = y // sh
        q = z // sw
        hit = (at < n) & (y >= 0) & (z >= 0) & (y % sh == 0) & (z % sw == 0) & (r < rows) & (q < columns)
        acc += tl.load(x + ((c * kh + i) * kw + j) * (rows * columns) + r * columns + q, hit, other=0).to(ACC)
    tl.store(out + at, scalar.cast(acc, out.dtype.element_ty), at < n)


im2col_kernel = Kernel(_im2col)
col2im_kernel = Kernel(_col2im)


def _positions(size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> tuple[int, int]:
    rows, columns = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(size, kernel, dilation, padding, stride))
    return rows, columns


def im2col(x: DeviceArray, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> DeviceArray:
    """From (N, C, H, W), any strides, to (N, C * kernel, positions)."""
    n, c, *size = x.shape
    rows, columns = _positions(tuple(size), kernel, dilation, padding, stride)
    out = empty((n, c * kernel[0] * kernel[1], rows * columns), x.dtype, x.storage.device_index)
    block = tile(out.size, 1024)
    im2col_kernel((cdiv(out.size, block),), x, out, out.size, c, *size, *kernel, rows, columns, *dilation, *padding, *stride, *x.strides,
                  BLOCK=block)
    return out


def col2im(x: DeviceArray, size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> DeviceArray:
    """The adjoint of :func:`im2col`, for images of ``size``; sums of half types are made in float32."""
    rows, columns = _positions(size, kernel, dilation, padding, stride)
    x = contiguous(x)
    out = empty((x.shape[0], x.shape[1] // (kernel[0] * kernel[1]), *size), x.dtype, x.storage.device_index)
    block = tile(out.size, 1024)
    col2im_kernel((cdiv(out.size, block),), x, out, out.size, *size, *kernel, rows, columns, *dilation, *padding, *stride,
                  ACC=TRITON_TYPES[accumulator(x.dtype)], BLOCK=block)
    return out
