"""``torch.fft``: discrete Fourier transforms over NumPy's pocketfft (cpu) and CuPy's cuFFT (cuda).

Three transforms have kernels: complex to complex, real to half of a Hermitian spectrum, and back. Each is linear, and its gradient is
another of the three, so they can be differentiated any number of times. Everything else is written with them.

``scale`` says what a transform over n points is divided by: ``"none"``, ``"sqrt"`` or ``"n"``. float32 gives complex64.
"""
from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import HALVES, get_default_dtype
from ..shapes import wrap_dim
from .creation import place
from .linalg_rules import kernel
from .opdef import OpDef, composite, fn, opaque

#: What NumPy calls the scales, of a transform forward and of one back.
_FORWARD = {"none": "backward", "sqrt": "ortho", "n": "forward"}
_BACK = {"none": "forward", "sqrt": "ortho", "n": "backward"}


# ---- the kernels


@opaque(name="fft_c2c", function=False, method=False)
def fft_c2c(input, dims: tuple, scale: str, forward: bool):
    """The transform of complex numbers over ``dims``, forward (a factor ``exp(-2 pi i k m / n)``) or back."""
    return [(tuple(input.shape), input.dtype)]


@kernel(fft_c2c)
def _(xp: Any, a: Any, dims: tuple, scale: str, forward: bool) -> Any:
    if not dims or 0 in a.shape:
        return a.copy()
    run, names = (xp.fft.fftn, _FORWARD) if forward else (xp.fft.ifftn, _BACK)
    return run(a, axes=dims, norm=names[scale]).astype(a.dtype, copy=False)


@fft_c2c.vjp()
def _(ctx: Any, g: Any) -> Any:
    return fn.fft_c2c(g, ctx.attrs["dims"], ctx.attrs["scale"], not ctx.attrs["forward"])


@opaque(name="fft_r2c", function=False, method=False)
def fft_r2c(input, dims: tuple, scale: str):
    """The forward transform of real numbers: of the last of ``dims`` only the first ``n // 2 + 1`` values, which say all."""
    return [(tuple(n // 2 + 1 if d == dims[-1] else n for d, n in enumerate(input.shape)), input.dtype.to_complex())]


@kernel(fft_r2c)
def _(xp: Any, a: Any, dims: tuple, scale: str) -> Any:
    pair = np.complex128 if a.dtype == np.float64 else np.complex64
    if 0 in a.shape:
        return xp.zeros([n // 2 + 1 if d == dims[-1] else n for d, n in enumerate(a.shape)], pair)
    return xp.fft.rfftn(a, axes=dims, norm=_FORWARD[scale]).astype(pair, copy=False)


@fft_r2c.vjp()
def _(ctx: Any, g: Any) -> Any:
    dims = ctx.attrs["dims"]
    n = ctx.shape(0)[dims[-1]]
    return fn.real(fn.fft_c2c(_resized(g, dims[-1], n), dims, ctx.attrs["scale"], False))


@opaque(name="fft_c2r", function=False, method=False)
def fft_c2r(input, dims: tuple, scale: str, last: int):
    """The transform back of half a Hermitian spectrum, to ``last`` real numbers along the last of ``dims``."""
    return [(tuple(last if d == dims[-1] else n for d, n in enumerate(input.shape)), input.dtype.to_real())]


@kernel(fft_c2r)
def _(xp: Any, a: Any, dims: tuple, scale: str, last: int) -> Any:
    single = np.float64 if a.dtype == np.complex128 else np.float32
    if 0 in a.shape:
        return xp.zeros([last if d == dims[-1] else n for d, n in enumerate(a.shape)], single)
    sizes = [last if d == dims[-1] else a.shape[d] for d in dims]
    return xp.fft.irfftn(a, s=sizes, axes=dims, norm=_BACK[scale]).astype(single, copy=False)


@fft_c2r.vjp()
def _(ctx: Any, g: Any) -> Any:
    dims, last = ctx.attrs["dims"], ctx.attrs["last"]
    half = fn.fft_r2c(g, dims, ctx.attrs["scale"])
    # all but the first (and the middle of an even number) stand for two values of the whole spectrum
    n = half._a.shape[dims[-1]]
    counts = np.array([2.0 if 1 <= k <= last - n else 1.0 for k in range(n)], ctx.dtype(0).to_real().np)
    shape = [-1 if d == dims[-1] else 1 for d in range(half.ndim)]
    return half * place(counts.reshape(shape), g.device)


# ---- arguments


def _scale(norm: str | None, forward: bool) -> str:
    if norm not in (None, "backward", "ortho", "forward"):
        raise RuntimeError(f"Invalid normalization mode: \"{norm}\"; one of \"backward\", \"ortho\", \"forward\"")
    return (_FORWARD_SCALES if forward else _BACK_SCALES)[norm or "backward"]


_FORWARD_SCALES = {"backward": "none", "ortho": "sqrt", "forward": "n"}
_BACK_SCALES = {"backward": "n", "ortho": "sqrt", "forward": "none"}


def _floating(name: str, x: Any) -> Any:
    """``x`` as something that can be transformed: integers in the default dtype."""
    if x.dtype in HALVES:
        raise RuntimeError(f"{name}: Unsupported dtype {x.dtype}: transforms are of float32, float64, complex64 and complex128; convert "
                           "with .float()")
    return x if x.dtype.category >= 2 else x.to(get_default_dtype())


def _complex(name: str, x: Any) -> Any:
    x = _floating(name, x)
    return x if x.dtype.is_complex else fn.convert(x, x.dtype.to_complex())


def _real(name: str, x: Any) -> Any:
    if x.dtype.is_complex:
        raise RuntimeError(f"{name} expects a real input tensor, but got {x.dtype}")
    return _floating(name, x)


def _resized(x: Any, dim: int, n: int) -> Any:
    """``x`` with ``n`` elements along ``dim``: cut, or filled up with zeros."""
    have = x._a.shape[dim]
    if n == have:
        return x
    if n < have:
        return x.narrow(dim, 0, n)
    rest = fn.zeros([n - have if d == dim else m for d, m in enumerate(x._a.shape)], dtype=x.dtype, device=x.device)
    return fn.cat([x, rest], dim)


def _points(n: int) -> int:
    n = operator.index(n)
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return n


def _one(x: Any, n: int | None, dim: int) -> tuple[Any, int]:
    """``x`` with ``n`` points along ``dim``, and that dimension counted from the front."""
    d = wrap_dim(dim, x.ndim)
    if not x.ndim:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    return _resized(x, d, _points(x._a.shape[d] if n is None else n)), d


def _many(x: Any, s: Any, dim: Any, halved: bool = False) -> tuple[tuple[int, ...], list[int]]:
    """The dimensions of a transform and the number of points in each. ``halved``: of the last, ``x`` has half of the spectrum."""
    s = [s] if isinstance(s, int) else None if s is None else list(s)
    given = [dim] if isinstance(dim, int) else None if dim is None else list(dim)
    if given is not None:
        dims = [wrap_dim(d, x.ndim) for d in given]
        if len(set(dims)) != len(dims):
            raise RuntimeError("FFT dims must be unique")
        if s is not None and len(s) != len(dims):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(s) > x.ndim:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {x.ndim} dimensions.")
        dims = list(range(x.ndim - len(s), x.ndim))
    else:
        dims = list(range(x.ndim))
    sizes = []
    for k, d in enumerate(dims):
        n = -1 if s is None else operator.index(s[k])
        if n == -1:
            n = x._a.shape[d]
            n = 2 * (n - 1) if halved and k == len(dims) - 1 else n
        sizes.append(_points(n))
    return tuple(dims), sizes


def _all_resized(x: Any, dims: Sequence[int], sizes: Sequence[int]) -> Any:
    for d, n in zip(dims, sizes):
        x = _resized(x, d, n)
    return x


# ---- one dimension


def _define(f: Any) -> Any:
    name = f.__name__
    return composite(name=f"fft_{name}", function=False, method=False, out=True, aliases=(f"fft.{name}",))(f)


@_define
def fft(input, n=None, dim=-1, norm=None):
    """The discrete Fourier transform along ``dim``, of ``n`` points (cut or filled up with zeros).

    ``norm``: ``"backward"`` (the default) divides by n on the way back, ``"forward"`` here, ``"ortho"`` by sqrt(n) both ways.

    Example:
        >>> import fusetorch as torch
        >>> torch.fft.fft(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        tensor([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    x, d = _one(_complex("fft", input), n, dim)
    return fn.fft_c2c(x, (d,), _scale(norm, True), True)


@_define
def ifft(input, n=None, dim=-1, norm=None):
    """The inverse of :func:`fft`."""
    x, d = _one(_complex("ifft", input), n, dim)
    return fn.fft_c2c(x, (d,), _scale(norm, False), False)


@_define
def rfft(input, n=None, dim=-1, norm=None):
    """:func:`fft` of real numbers: the first ``n // 2 + 1`` values."""
    x, d = _one(_real("rfft", input), n, dim)
    return fn.fft_r2c(x, (d,), _scale(norm, True))


def _half_to_real(name: str, x: Any, n: int | None, dim: int, scale: str, conjugate: bool) -> Any:
    x = _complex(name, x)
    d = wrap_dim(dim, x.ndim)
    last = _points(2 * (x._a.shape[d] - 1) if n is None else n)
    x = _resized(x, d, last // 2 + 1)
    return fn.fft_c2r(fn.conj(x) if conjugate else x, (d,), scale, last)


@_define
def irfft(input, n=None, dim=-1, norm=None):
    """The inverse of :func:`rfft`: ``n`` real numbers (twice the input's size less 2, unless given)."""
    return _half_to_real("irfft", input, n, dim, _scale(norm, False), False)


@_define
def hfft(input, n=None, dim=-1, norm=None):
    """:func:`fft` of a Hermitian signal given by its first half: ``n`` real numbers."""
    return _half_to_real("hfft", input, n, dim, _scale(norm, True), True)


@_define
def ihfft(input, n=None, dim=-1, norm=None):
    """The inverse of :func:`hfft`: the first ``n // 2 + 1`` values."""
    x, d = _one(_real("ihfft", input), n, dim)
    return fn.conj(fn.fft_r2c(x, (d,), _scale(norm, False)))


# ---- several dimensions


@_define
def fftn(input, s=None, dim=None, norm=None):
    """:func:`fft` over several dimensions: ``dim``, or the last ``len(s)``, or all. ``s``: points in each, -1 for as many as are there."""
    x = _complex("fftn", input)
    dims, sizes = _many(x, s, dim)
    return fn.fft_c2c(_all_resized(x, dims, sizes), dims, _scale(norm, True), True)


@_define
def ifftn(input, s=None, dim=None, norm=None):
    """The inverse of :func:`fftn`."""
    x = _complex("ifftn", input)
    dims, sizes = _many(x, s, dim)
    return fn.fft_c2c(_all_resized(x, dims, sizes), dims, _scale(norm, False), False)


def _some(name: str, dims: tuple) -> None:
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")


@_define
def rfftn(input, s=None, dim=None, norm=None):
    """:func:`fftn` of real numbers: in the last dimension only the first ``n // 2 + 1`` values."""
    x = _real("rfftn", input)
    dims, sizes = _many(x, s, dim)
    _some("rfftn", dims)
    return fn.fft_r2c(_all_resized(x, dims, sizes), dims, _scale(norm, True))


@_define
def irfftn(input, s=None, dim=None, norm=None):
    """The inverse of :func:`rfftn`."""
    x = _complex("irfftn", input)
    dims, sizes = _many(x, s, dim, halved=True)
    _some("irfftn", dims)
    x = _all_resized(x, dims, [*sizes[:-1], sizes[-1] // 2 + 1])
    return fn.fft_c2r(x, dims, _scale(norm, False), sizes[-1])


@_define
def hfftn(input, s=None, dim=None, norm=None):
    """:func:`fftn` of a signal that is Hermitian in its last dimension, of which the first half is given: real numbers."""
    x = _complex("hfftn", input)
    dims, sizes = _many(x, s, dim, halved=True)
    _some("hfftn", dims)
    x = _all_resized(x, dims, [*sizes[:-1], sizes[-1] // 2 + 1])
    return fn.fft_c2r(fn.conj(x), dims, _scale(norm, True), sizes[-1])


@_define
def ihfftn(input, s=None, dim=None, norm=None):
    """The inverse of :func:`hfftn`."""
    x = _real("ihfftn", input)
    dims, sizes = _many(x, s, dim)
    _some("ihfftn", dims)
    return fn.conj(fn.fft_r2c(_all_resized(x, dims, sizes), dims, _scale(norm, False)))


def _over_two(op: OpDef) -> None:
    """The form of a transform over several dimensions that is over the last two unless told otherwise: ``fft2`` of ``fftn``."""
    name = op.name.removeprefix("fft_")

    def f(input, s=None, dim=(-2, -1), norm=None):  # noqa: ANN001, ANN202 - the signature is what the registry reads
        return op.body(input, s, dim, norm)
    f.__name__, f.__doc__ = name.replace("n", "2"), f":func:`{name}` over two dimensions."
    _define(f)


for _op in (fftn, ifftn, rfftn, irfftn, hfftn, ihfftn):
    _over_two(_op)


# ---- frequencies and order


@_define
def fftfreq(n, d=1.0, *, dtype=None, layout=None, device=None, requires_grad=False):
    """The frequencies of :func:`fft`'s values for ``n`` samples ``d`` apart: 0, the positive ones, the negative ones."""
    kind = dtype or get_default_dtype()
    return place(np.fft.ifftshift(np.arange(-(n // 2), (n + 1) // 2)).astype(np.float64) / (n * d), device).to(kind).requires_grad_(
        requires_grad) if n else fn.empty(0, dtype=kind, device=device)


@_define
def rfftfreq(n, d=1.0, *, dtype=None, layout=None, device=None, requires_grad=False):
    """The frequencies of :func:`rfft`'s values: 0 and the positive ones."""
    kind = dtype or get_default_dtype()
    return place(np.arange(n // 2 + 1) / (n * d), device).to(kind).requires_grad_(requires_grad)


def _shift_dims(x: Any, dim: Any) -> list[int]:
    return list(range(x.ndim)) if dim is None else [wrap_dim(d, x.ndim) for d in ([dim] if isinstance(dim, int) else dim)]


@composite(name="fft_fftshift", function=False, method=False, aliases=("fft.fftshift",))
def fftshift(input, dim=None):
    """The spectrum with frequency 0 in the middle of ``dim`` (all dimensions unless given)."""
    dims = _shift_dims(input, dim)
    return fn.roll(input, [input._a.shape[d] // 2 for d in dims], dims) if dims else input


@composite(name="fft_ifftshift", function=False, method=False, aliases=("fft.ifftshift",))
def ifftshift(input, dim=None):
    """The inverse of :func:`fftshift`."""
    dims = _shift_dims(input, dim)
    return fn.roll(input, [(input._a.shape[d] + 1) // 2 for d in dims], dims) if dims else input
