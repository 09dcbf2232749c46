"""Complex numbers: parts as views, conjugates, angles, polar form.

A complex tensor is memory of pairs, so its parts are views. A conjugate is always computed: there is no conjugate bit, and
``resolve_conj`` gives the tensor itself.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import HALVES, dtype
from ..shapes import contiguous_strides
from . import primitives as P
from .expr import iota
from .opdef import composite, elementwise, fn, view

Layout = tuple[tuple[int, ...], tuple[int, ...], int]


# ---- the parts as views


def _parts_dtype(d: dtype) -> dtype:
    if not d.is_complex:
        raise RuntimeError(f"view_as_real is only supported for complex tensors, got {d}")
    return d.to_real()


@view(retype=_parts_dtype)
def view_as_real(shape, strides, offset) -> Layout:
    """The same memory as real numbers, with a last dimension of size 2: real and imaginary part.

    Raises ``RuntimeError`` for tensors that are not complex.

    Example:
        >>> import fusetorch as torch
        >>> torch.view_as_real(torch.tensor([1 + 2j]))
        tensor([[1., 2.]])
    """
    return (*shape, 2), (*(2 * s for s in strides), 1), 2 * offset


@view_as_real.numpy
def _(a: np.ndarray) -> np.ndarray:
    real = _parts_dtype(dtypes.from_numpy(a.dtype))
    return np.lib.stride_tricks.as_strided(a.real, (*a.shape, 2), (*a.strides, real.itemsize))


@view_as_real.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.view_as_complex(g.contiguous())


def _pair_dtype(d: dtype) -> dtype:
    if d not in (dtypes.float16, dtypes.float32, dtypes.float64):
        raise RuntimeError(f"view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: {d}")
    return d.to_complex()


@view(retype=_pair_dtype)
def view_as_complex(shape, strides, offset) -> Layout:
    """The same memory, whose last dimension has size 2, as complex numbers.

    Raises ``RuntimeError`` for other dtypes than float32 and float64, and for layouts that complex numbers cannot express.

    Example:
        >>> import fusetorch as torch
        >>> torch.view_as_complex(torch.tensor([[1.0, 2.0]]))
        tensor([1.+2.j])
    """
    if not shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if shape[-1] != 2:
        raise RuntimeError(f"Tensor must have a last dimension of size 2, got shape {list(shape)}")
    if strides[-1] != 1 and 0 not in shape:
        raise RuntimeError("Tensor must have a last dimension with stride 1; call .contiguous() first")
    if any(s % 2 for n, s in zip(shape, strides[:-1]) if n > 1) and 0 not in shape:
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension; call .contiguous() first")
    if 0 in shape:
        return tuple(shape[:-1]), contiguous_strides(shape[:-1]), 0
    if offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2; call .contiguous() first")
    return tuple(shape[:-1]), tuple(s // 2 for s in strides[:-1]), offset // 2


@view_as_complex.numpy
def _(a: np.ndarray) -> np.ndarray:
    pair = _pair_dtype(dtypes.from_numpy(a.dtype))
    shape, _, _ = view_as_complex.body(a.shape, tuple(s // a.itemsize for s in a.strides), 0)
    return a.view(pair.np).reshape(shape) if not a.size else a.view(pair.np)[(..., 0)]


@view_as_complex.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.view_as_real(g)


@elementwise(name="interleaved_parts", function=False, method=False, differentiable=False)
def interleaved_parts(input):
    """Real parts at even positions of the index space, imaginary ones at odd positions: how a trace sees complex memory as real."""
    return P.where(P.eq(iota() & 1, 0), P.real(input), P.imag(input))


@composite()
def real(input):
    """The real part: a view of a complex tensor, a real tensor itself."""
    return fn.view_as_real(input).select(-1, 0) if input.dtype.is_complex else input


@composite()
def imag(input):
    """The imaginary part of a complex tensor, a view. ``RuntimeError`` for real tensors."""
    if not input.dtype.is_complex:
        raise RuntimeError(f"imag is not implemented for tensors with non-complex dtypes (got {input.dtype}).")
    return fn.view_as_real(input).select(-1, 1)


# ---- conjugates


@elementwise(out="exact", inplace=True, name="conj_physical", oracle=np.conjugate)
def conj_physical(input):
    """The complex conjugate."""
    return P.conj(input)


@composite()
def conj(input):
    """The complex conjugate; a real tensor itself."""
    return fn.conj_physical(input) if input.dtype.is_complex else input


@composite()
def resolve_conj(input):
    """The tensor itself: conjugates are always computed."""
    return input


@composite()
def resolve_neg(input):
    """The tensor itself: negations are always computed."""
    return input


@composite()
def is_conj(input):
    """Whether the conjugate bit is set: never, since conjugates are computed."""
    return False


@composite()
def is_neg(input):
    """Whether the negative bit is set: never, since negations are computed."""
    return False


@composite()
def adjoint(input):
    """The conjugate of a matrix (or of each of a batch), transposed."""
    if input.ndim == 1:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. Got 1-D tensor.")
    return conj.body(input.transpose(-2, -1)) if input.ndim else conj.body(input)


# ---- predicates


@composite()
def is_complex(input):
    """Whether the dtype is complex."""
    return input.dtype.is_complex


@elementwise(differentiable=False, oracle=np.isreal)
def isreal(input):
    """Whether the imaginary part is zero: always, for real dtypes."""
    if input.dtype.is_complex:
        return P.eq(P.imag(input), 0.0)
    return P.eq(input, input) | P.ne(input, input)


# ---- polar form


@elementwise(promote="float", oracle=lambda a: np.where(np.isnan(a), a, np.where(a < 0, np.pi, 0.0)))
def angle(input):
    """The angle of a complex number in radians; of a real one 0, or pi where it is negative; NaN stays."""
    if input.dtype.is_complex:
        return P.atan2(P.imag(input), P.real(input))
    return P.where(input < 0, math.pi, P.where(P.isnan(input), input, 0.0))


@angle.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    z = ctx["input"]
    if not z.dtype.is_complex:
        return fn.zeros_like(g)
    size = z.abs()
    return fn.complex(fn.zeros_like(g), (g / (size * size)).masked_fill(size == 0, 0.0)) * z


def _pair(name: str, a: Any, b: Any) -> None:
    if not (hasattr(a, "dtype") and hasattr(b, "dtype")):
        return
    if a.dtype in HALVES:
        raise NotImplementedError(f"{name}(): {a.dtype} would give a complex32 tensor, which fusetorch does not have; use .float() first")
    if not (a.dtype.is_floating_point and b.dtype.is_floating_point):
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {a.dtype} and {b.dtype}")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"Expected object of scalar type {a.dtype} but got scalar type {b.dtype} for second argument of {name}()")


@elementwise(numbers="none", out="exact", method=False, oracle=lambda a, b: a + 1j * b)
def complex(real, imag):
    """Complex numbers with the given parts (both float32, or both float64)."""
    return P.complex(real, imag)


complex.check(lambda real, imag: _pair("complex", real, imag))


@elementwise(numbers="none", method=False, oracle=lambda a, b: a * np.exp(1j * b))
def polar(abs, angle):
    """``abs * exp(1j * angle)`` (both float32, or both float64).

    Example:
        >>> import fusetorch as torch
        >>> torch.polar(torch.tensor([2.0]), torch.tensor([0.0]))
        tensor([2.+0.j])
    """
    return P.complex(abs * P.cos(angle), abs * P.sin(angle))


polar.check(lambda abs, angle: _pair("polar", abs, angle))
