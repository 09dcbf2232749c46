"""Windows, short-time Fourier transforms and back; the oracle of a transform walks over the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_makers import S, c, f


def _stft(x: Any, n_fft: int, hop_length: Any = None, win_length: Any = None, window: Any = None, center: bool = True,
          pad_mode: str = "reflect", normalized: bool = False, onesided: Any = None, return_complex: Any = None,
          align_to_window: Any = None) -> Any:
    hop, win = hop_length or n_fft // 4, win_length or n_fft
    w = np.zeros(n_fft)
    w[(n_fft - win) // 2:(n_fft - win) // 2 + win] = 1 if window is None else window
    batch = np.atleast_2d(x)
    if center:
        batch = np.pad(batch, ((0, 0), (n_fft // 2, n_fft // 2)), "reflect" if pad_mode == "reflect" else "constant")
    elif align_to_window:
        batch = np.pad(batch, ((0, 0), ((n_fft - win) // 2, (n_fft - win + 1) // 2)))
    half = not np.iscomplexobj(x) if onesided is None else onesided
    frames = [np.fft.fft(batch[:, k:k + n_fft] * w) for k in range(0, batch.shape[1] - n_fft + 1, hop)]
    out = np.stack(frames, -1) / (np.sqrt(n_fft) if normalized else 1)
    out = out[:, :n_fft // 2 + 1] if half else out
    out = out if x.ndim == 2 else out[0]
    return out if return_complex or return_complex is None else np.stack([out.real, out.imag], -1)


def _istft(x: Any, n_fft: int, hop_length: Any = None, win_length: Any = None, window: Any = None, center: bool = True,
           normalized: bool = False, onesided: Any = None, length: Any = None, return_complex: bool = False) -> Any:
    hop, win = hop_length or n_fft // 4, win_length or n_fft
    w = np.zeros(n_fft)
    w[(n_fft - win) // 2:(n_fft - win) // 2 + win] = 1 if window is None else window
    batch = x if x.ndim == 3 else x[None]
    frames = batch.shape[2]
    total = n_fft + hop * (frames - 1)
    out, weight = np.zeros((len(batch), total), complex if return_complex else float), np.zeros(total)
    for k in range(frames):
        piece = np.fft.ifft(batch[:, :, k]) if return_complex else np.fft.irfft(batch[:, :n_fft // 2 + 1, k], n_fft)
        out[:, k * hop:k * hop + n_fft] += piece * w * (np.sqrt(n_fft) if normalized else 1)
        weight[k * hop:k * hop + n_fft] += w * w
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - start
    out = out[:, start:end] / weight[start:end]
    return out if x.ndim == 3 else out[0]


def _window(n: int) -> np.ndarray:
    return np.hanning(n + 2)[1:-1] + 0.1


SAMPLES = {
    "stft": lambda: [
        S(f(20), 8, return_complex=True),
        S(f(2, 20), 8, 3, window=_window(8), return_complex=False),
        S(f(2, 20), 8, 3, 6, _window(6), center=False, normalized=True, return_complex=True),
        S(f(20), 8, onesided=False, pad_mode="constant", return_complex=True),
        S(f(20), 8, 3, 4, _window(4), center=False, align_to_window=True, return_complex=True),
        S(f(20), 8, 3, 6, center=False, align_to_window=True, return_complex=True),
        S(c(20), 7, 2),
    ],
    "istft": lambda: [
        S(c(5, 6), 8),
        S(c(2, 5, 6), 8, 3, window=_window(8), length=11),
        S(c(2, 5, 6), 8, 2, 6, _window(6), normalized=True),
        S(c(8, 6), 8, window=_window(8), return_complex=True, onesided=False),
        S(c(4, 6), 7, 2, onesided=True),
    ],
    **{n: lambda: [S(6), S(5, False), S(1), S(0)] for n in ("hann_window", "bartlett_window", "blackman_window")},
    "hamming_window": lambda: [S(6), S(5, False, 0.6, 0.4), S(1), S(0)],
    "kaiser_window": lambda: [S(6), S(5, False, 3.0), S(1), S(0)],
    **{"window_" + n: lambda: [S(6), S(5, sym=False), S(1), S(0)]
       for n in ("bartlett", "blackman", "cosine", "hamming", "hann", "nuttall")},
    "window_exponential": lambda: [S(6), S(5, sym=False, center=1.0, tau=2.0)],
    "window_gaussian": lambda: [S(6), S(5, sym=False, std=2.0)],
    "window_general_cosine": lambda: [S(6, a=[0.4, 0.5, 0.1]), S(5, a=[1.0], sym=False)],
    "window_general_hamming": lambda: [S(6), S(5, alpha=0.7, sym=False)],
    "window_kaiser": lambda: [S(6), S(5, beta=2.0, sym=False)],
}


def _periodic(g: Any, n: int, periodic: bool, *params: float) -> np.ndarray:
    return g(n + 1, *params)[:-1] if periodic and n > 1 else g(n, *params)


def _scipy(name: str, defaults: tuple = ()) -> Any:
    def oracle(n: int, *, sym: bool = True, device: Any = None, **params: Any) -> np.ndarray:
        import scipy.signal.windows as windows
        given = [params.get(k, v) for k, v in defaults]
        return getattr(windows, name)(n, *given, sym=sym)
    return oracle


ORACLES = {
    "stft": _stft,
    "istft": _istft,
    "hann_window": lambda n, periodic=True, device=None: _periodic(np.hanning, n, periodic),
    "bartlett_window": lambda n, periodic=True, device=None: _periodic(np.bartlett, n, periodic),
    "blackman_window": lambda n, periodic=True, device=None: _periodic(np.blackman, n, periodic),
    "hamming_window": lambda n, periodic=True, alpha=0.54, beta=0.46, device=None: _periodic(
        lambda m: np.ones(m) if m == 1 else alpha - beta * np.cos(2 * np.pi * np.arange(m) / (m - 1)), n, periodic),
    "kaiser_window": lambda n, periodic=True, beta=12.0, device=None: _periodic(np.kaiser, n, periodic, beta),
    **{"window_" + n: _scipy(n) for n in ("bartlett", "blackman", "cosine", "hamming", "hann", "nuttall")},
    "window_exponential": _scipy("exponential", (("center", None), ("tau", 1.0))),
    "window_gaussian": _scipy("gaussian", (("std", 1.0),)),
    "window_general_cosine": _scipy("general_cosine", (("a", None),)),
    "window_general_hamming": _scipy("general_hamming", (("alpha", 0.54),)),
    "window_kaiser": _scipy("kaiser", (("beta", 12.0),)),
}
CREATE = {n for n in SAMPLES if "window" in n}
NO_HALVES = {"stft", "istft"}
