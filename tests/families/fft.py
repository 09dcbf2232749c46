"""Fourier transforms; NumPy's are the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_makers import S, c, f, i

_SCALES = {"none": 0, "sqrt": 0.5, "n": 1}


def _scale(shape: Any, dims: Any, scale: str) -> float:
    return float(np.prod([shape[d] for d in dims])) ** _SCALES[scale]


def _c2c(a: np.ndarray, dims: tuple, scale: str, forward: bool) -> np.ndarray:
    n = np.prod([a.shape[d] for d in dims])
    return (np.fft.fftn(a, axes=dims) if forward else np.fft.ifftn(a, axes=dims) * n) / _scale(a.shape, dims, scale)


def _c2r(a: np.ndarray, dims: tuple, scale: str, last: int) -> np.ndarray:
    sizes = [*[a.shape[d] for d in dims[:-1]], last]
    return np.fft.irfftn(a, s=sizes, axes=dims) * float(np.prod(sizes)) ** (1 - _SCALES[scale])


def _hfftn(a: np.ndarray, s: Any = None, dim: Any = None, norm: str | None = None) -> np.ndarray:
    dims = list(range(a.ndim)) if dim is None else list(dim)
    sizes = [a.shape[d] for d in dims[:-1]] if s is None else list(s[:-1])
    x = np.fft.fftn(a, s=sizes, axes=dims[:-1], norm=norm) if len(dims) > 1 else a
    return np.fft.hfft(x, None if s is None else s[-1], dims[-1], norm)


def _ihfftn(a: np.ndarray, s: Any = None, dim: Any = None, norm: str | None = None) -> np.ndarray:
    dims = list(range(a.ndim)) if dim is None else list(dim)
    x = np.fft.ihfft(a, None if s is None else s[-1], dims[-1], norm)
    return np.fft.ifftn(x, s=None if s is None else s[:-1], axes=dims[:-1], norm=norm) if len(dims) > 1 else x


def _renamed(g: Any) -> Any:
    def oracle(a: np.ndarray, s: Any = None, dim: Any = None, norm: str | None = None) -> np.ndarray:
        return g(a, s=s, axes=range(-len(s), 0) if dim is None and s is not None else dim, norm=norm)
    return oracle


def _one(g: Any) -> Any:
    return lambda a, n=None, dim=-1, norm=None: g(a, n=n, axis=dim, norm=norm)


def _two(g: Any) -> Any:
    return lambda a, s=None, dim=(-2, -1), norm=None: g(a, s, dim, norm)


def _samples_one(make: Any) -> Any:
    return lambda: [S(make(3, 6)), S(make(5)), S(make(3, 6), 8, 0, "ortho"), S(make(7, 3).T, 4, norm="forward"), S(make(4, 1), n=1)]


def _samples_many(make: Any) -> Any:
    return lambda: [S(make(2, 3, 4)), S(make(3, 5), (4, 6)), S(make(2, 3, 4), dim=(0, 2), norm="ortho"), S(make(4, 3).T, norm="forward")]


def _samples_two(make: Any) -> Any:
    return lambda: [S(make(2, 3, 4)), S(make(3, 5), s=(4, 6)), S(make(2, 3, 4), dim=(0, 2), norm="ortho")]


def _mixed(*shape: int) -> np.ndarray:
    return f(*shape) if len(shape) % 2 else c(*shape)


_INPUT = {"fft": _mixed, "ifft": _mixed, "rfft": f, "irfft": c, "hfft": c, "ihfft": f}
SAMPLES = {
    "fft_c2c": lambda: [S(c(3, 4), (1,), "none", True), S(c(3, 4), (0, 1), "sqrt", False), S(c(4, 3).T, (1,), "n", False)],
    "fft_r2c": lambda: [S(f(3, 4), (1,), "none"), S(f(3, 5), (0, 1), "sqrt"), S(f(4, 3).T, (0,), "n")],
    "fft_c2r": lambda: [S(c(3, 3), (1,), "none", 4), S(c(3, 3), (0, 1), "sqrt", 5), S(c(4, 3).T, (0,), "n", 5)],
    "fft_fftfreq": lambda: [S(5), S(6, 0.5), S(1)],
    "fft_rfftfreq": lambda: [S(5), S(6, 0.5), S(1)],
    "fft_fftshift": lambda: [S(f(5, 4)), S(c(5, 4), 0), S(i(3, 4), (-1, 0), grad=False)],
    "fft_ifftshift": lambda: [S(f(5, 4)), S(c(5, 4), 0), S(i(3, 4), (-1, 0), grad=False)],
}
ORACLES = {
    "fft_c2c": _c2c,
    "fft_r2c": lambda a, dims, scale: np.fft.rfftn(a, axes=dims) / _scale(a.shape, dims, scale),
    "fft_c2r": _c2r,
    "fft_fftfreq": lambda n, d=1.0, device=None: np.fft.fftfreq(n, d),
    "fft_rfftfreq": lambda n, d=1.0, device=None: np.fft.rfftfreq(n, d),
    "fft_fftshift": np.fft.fftshift,
    "fft_ifftshift": np.fft.ifftshift,
}
for _name, _make in _INPUT.items():
    SAMPLES["fft_" + _name] = _samples_one(_make)
    ORACLES["fft_" + _name] = _one(getattr(np.fft, _name))
    _many: Any = {"hfft": _hfftn, "ihfft": _ihfftn}.get(_name) or _renamed(getattr(np.fft, _name + "n"))
    for _end, _samples, _oracle in (("n", _samples_many, _many), ("2", _samples_two, _two(_many))):
        SAMPLES["fft_" + _name + _end] = _samples(_make)
        ORACLES["fft_" + _name + _end] = _oracle

CREATE = {"fft_fftfreq", "fft_rfftfreq"}
#: half-precision transforms do not exist on the CPU, as in PyTorch
NO_HALVES = {n for n in SAMPLES if n not in ("fft_fftshift", "fft_ifftshift")}
