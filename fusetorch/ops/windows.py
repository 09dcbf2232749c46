"""Window functions: ``torch.hann_window`` and its like, and ``torch.signal.windows``.

Source: Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform", 1978.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import dtype as dtype_class
from ..dtypes import get_default_dtype
from ..formats import strided
from .creation import place
from .opdef import composite


def _made(points: Callable[[np.ndarray, int], np.ndarray], length: int, periodic: bool, d: dtype_class, device: Any,
          requires_grad: bool) -> Any:
    """A window of ``length``. ``points(k, last)`` gives its values at positions ``k`` of 0 .. ``last``; a periodic window is one longer
    without its last point."""
    if length == 1:
        values = np.ones(1)
    else:
        k = np.arange(length, dtype=np.float64)
        values = points(k, length if periodic else length - 1)
    return place(values.astype(d.np), device, requires_grad)


def _cosines(*a: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """``a[0] - a[1] cos(x) + a[2] cos(2 x) - ...`` over one period."""
    def points(k: np.ndarray, last: int) -> np.ndarray:
        return sum(((-1) ** i * v * np.cos(2 * np.pi * i * k / last) for i, v in enumerate(a)), np.zeros(len(k)))
    return points


def _triangle(k: np.ndarray, last: int) -> np.ndarray:
    return 1 - np.abs(2 * k / last - 1)


def _kaiser(beta: float) -> Callable[[np.ndarray, int], np.ndarray]:
    def points(k: np.ndarray, last: int) -> np.ndarray:
        return np.i0(beta * np.sqrt(np.maximum(1 - (2 * k / last - 1) ** 2, 0))) / np.i0(beta)
    return points


_BLACKMAN = (0.42, 0.5, 0.08)
_NUTTALL = (0.3635819, 0.4891775, 0.1365995, 0.0106411)


# ---- torch.<name>_window


def _window(name: str, points: Callable[[np.ndarray, int], np.ndarray], length: int, periodic: bool, d: dtype_class | None, device: Any,
            requires_grad: bool) -> Any:
    d = d or get_default_dtype()
    if not d.is_floating_point:
        raise RuntimeError(f"{name}() expects floating point dtypes, got: {d}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    return _made(points, length, periodic, d, device, requires_grad)


@composite(method=False, out=True)
def hann_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A raised cosine, 0 at the ends; periodic (for transforms) or symmetric (for filters)."""
    return _window("hann_window", _cosines(0.5, 0.5), window_length, periodic, dtype, device, requires_grad)


@composite(method=False, out=True)
def hamming_window(window_length, periodic=True, alpha=0.54, beta=0.46, *, dtype=None, layout=None, device=None, pin_memory=False,
                   requires_grad=False):
    """``alpha - beta cos(x)`` over one period."""
    return _window("hamming_window", _cosines(alpha, beta), window_length, periodic, dtype, device, requires_grad)


@composite(method=False, out=True)
def bartlett_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A triangle, 0 at the ends."""
    return _window("bartlett_window", _triangle, window_length, periodic, dtype, device, requires_grad)


@composite(method=False, out=True)
def blackman_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """``0.42 - 0.5 cos(x) + 0.08 cos(2 x)`` over one period."""
    return _window("blackman_window", _cosines(*_BLACKMAN), window_length, periodic, dtype, device, requires_grad)


@composite(method=False, out=True)
def kaiser_window(window_length, periodic=True, beta=12.0, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """The Kaiser window: a larger ``beta`` makes it narrower."""
    return _window("kaiser_window", _kaiser(beta), window_length, periodic, dtype, device, requires_grad)


# ---- torch.signal.windows


def _signal(name: str, points: Callable[[np.ndarray, int], np.ndarray], length: int, sym: bool, d: dtype_class | None, layout: Any,
            device: Any, requires_grad: bool) -> Any:
    d = d or get_default_dtype()
    if length < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={length}")
    if layout not in (None, strided):
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    if d not in (dtypes.float32, dtypes.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {d}")
    return _made(points, length, not sym, d, device, requires_grad)


def _define(f: Callable[..., Any]) -> Any:
    name = f.__name__
    return composite(name=f"window_{name}", function=False, method=False, aliases=(f"signal.windows.{name}",))(f)


@_define
def bartlett(M, *, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """A triangle, 0 at the ends."""
    return _signal("bartlett", _triangle, M, sym, dtype, layout, device, requires_grad)


@_define
def blackman(M, *, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """``0.42 - 0.5 cos(x) + 0.08 cos(2 x)`` over one period."""
    return _signal("blackman", _cosines(*_BLACKMAN), M, sym, dtype, layout, device, requires_grad)


@_define
def cosine(M, *, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """Half a sine wave, through the middles of the positions."""
    return _signal("cosine", lambda k, last: np.sin(np.pi * (k + 0.5) / (last + 1)), M, sym, dtype, layout, device, requires_grad)


@_define
def exponential(M, *, center=None, tau=1.0, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """``exp(-|k - center| / tau)``; ``center`` is the middle unless given (only where not ``sym``)."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    def points(k: np.ndarray, last: int) -> np.ndarray:
        return np.exp(-np.abs(k - (last / 2 if center is None else center)) / tau)
    return _signal("exponential", points, M, sym, dtype, layout, device, requires_grad)


@_define
def gaussian(M, *, std=1.0, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """A bell curve of standard deviation ``std``."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return _signal("gaussian", lambda k, last: np.exp(-((k - last / 2) / std) ** 2 / 2), M, sym, dtype, layout, device, requires_grad)


@_define
def general_cosine(M, *, a, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """``a[0] - a[1] cos(x) + a[2] cos(2 x) - ...`` over one period."""
    if not isinstance(a, (list, tuple)):
        raise TypeError("Coefficients must be a list/tuple")
    if not a:
        raise ValueError("Coefficients cannot be empty")
    return _signal("general_cosine", _cosines(*a), M, sym, dtype, layout, device, requires_grad)


@_define
def general_hamming(M, *, alpha=0.54, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """``alpha - (1 - alpha) cos(x)`` over one period."""
    return _signal("general_hamming", _cosines(alpha, 1 - alpha), M, sym, dtype, layout, device, requires_grad)


@_define
def hamming(M, *, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """``0.54 - 0.46 cos(x)`` over one period."""
    return _signal("hamming", _cosines(0.54, 0.46), M, sym, dtype, layout, device, requires_grad)


@_define
def hann(M, *, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """A raised cosine, 0 at the ends."""
    return _signal("hann", _cosines(0.5, 0.5), M, sym, dtype, layout, device, requires_grad)


@_define
def kaiser(M, *, beta=12.0, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """The Kaiser window: a larger ``beta`` makes it narrower."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _signal("kaiser", _kaiser(beta), M, sym, dtype, layout, device, requires_grad)


@_define
def nuttall(M, *, sym=True, dtype=None, layout=strided, device=None, requires_grad=False):
    """The four-term cosine window with the smallest side lobes (Nuttall 1981)."""
    return _signal("nuttall", _cosines(*_NUTTALL), M, sym, dtype, layout, device, requires_grad)
