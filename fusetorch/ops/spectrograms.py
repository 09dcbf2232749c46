"""Short-time Fourier transforms and back.

Source: Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984 (the inverse by least squares).
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..tensor import tracing
from .opdef import composite, fn


def _described(name: str, x: Any, n_fft: int, hop: int, win: int) -> str:
    return f"{name}({x.dtype}{list(x.shape)}, n_fft={n_fft}, hop_length={hop}, win_length={win})"


def _padded_window(window: Any, n_fft: int, win: int, like: Any) -> Any:
    """The window with zeros on both sides up to ``n_fft``; ones where there is none."""
    if window is None:
        if win == n_fft:
            return None
        window = fn.ones(win, dtype=like.dtype.to_real(), device=like.device)
    left = (n_fft - win) // 2
    return fn.pad(window, (left, n_fft - win - left)) if win != n_fft else window


@composite(autocast="float32:cpu")
def stft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, pad_mode="reflect", normalized=False, onesided=None,
         return_complex=None, align_to_window=None):
    """The Fourier transforms of overlapping windowed frames: (frequency, frame), with a batch dimension before if ``input`` has one.

    Args:
        input: a signal (time) or a batch of them (batch, time).
        n_fft: points of each transform; ``hop_length``: between frames (``n_fft // 4`` unless given).
        win_length: length of the window (``n_fft`` unless given), which is filled up with zeros on both sides.
        center: pad the signal (by ``pad_mode``) so that frame t is around ``input[t * hop_length]``.
        align_to_window: without ``center``, pad it with zeros so that the first window starts at ``input[0]``.
        normalized: divide by ``sqrt(n_fft)``. onesided: only half of the spectrum; the default for real signals.
        return_complex: False gives the parts in a last dimension instead; must be given for real signals.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    win = n_fft if win_length is None else win_length
    what = _described("stft", input, n_fft, hop, win)
    complex_input = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not complex_input:
            raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further require that "
                               "return_complex=True in a future PyTorch release.")
        return_complex = True
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    if input.dtype.category < 2 or input.ndim not in (1, 2):
        raise RuntimeError(f"{what}: expected a floating point or complex 1D or 2D tensor")
    x = input if input.ndim == 2 else input.unsqueeze(0)
    if center:
        extra = n_fft // 2
        x = fn.pad(x.unsqueeze(1), (extra, extra), mode=pad_mode).squeeze(1)
    elif align_to_window and win < n_fft:
        before = (n_fft - win) // 2
        x = fn.pad(x, (before, n_fft - win - before))
    length = x._a.shape[1]
    if not 0 < n_fft <= length:
        raise RuntimeError(f"{what}: expected 0 < n_fft <= {length}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(f"{what}: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < win <= n_fft:
        raise RuntimeError(f"{what}: expected 0 < win_length <= n_fft, but got win_length={win}")
    if window is not None and tuple(window.shape) != (win,):
        raise RuntimeError(f"{what}: expected a 1D window tensor of size equal to win_length={win}, but got window with size "
                           f"{list(window.shape)}")
    window = _padded_window(window, n_fft, win, x)
    frames = x.unfold(-1, n_fft, hop)
    if window is not None:
        frames = frames * window
    if onesided is None:
        onesided = not complex_input
    if onesided and complex_input:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    norm = "ortho" if normalized else None
    out = (fn.fft_rfft if onesided else fn.fft_fft)(frames, norm=norm).transpose(1, 2)
    out = out if input.ndim == 2 else out.squeeze(0)
    return out if return_complex else fn.view_as_real(out)


@composite()
def istft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, normalized=False, onesided=None, length=None,
          return_complex=False):
    """The signal whose :func:`stft` is closest to ``input``: overlapping frames added up, divided by the overlapping squared windows.

    ``length`` cuts the signal or fills it up. Raises ``RuntimeError`` where the windows leave a gap.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    win = n_fft if win_length is None else win_length
    what = _described("istft", input, n_fft, hop, win)
    if not input.dtype.is_complex:
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if input.numel() == 0:
        raise RuntimeError(f"{what}: input tensor cannot be empty")
    if input.ndim not in (2, 3):
        raise RuntimeError(f"{what}: expected a tensor with 2 or 3 dimensions, but got {input.ndim}")
    if onesided is None:
        onesided = input._a.shape[-2] != n_fft
    size = n_fft // 2 + 1 if onesided else n_fft
    if input._a.shape[-2] != size:
        raise RuntimeError(f"{what}: expected the frequency dimension (3rd to the last) of the input tensor to match "
                           f"{'n_fft / 2 + 1' if onesided else 'n_fft'} = {size}, but got {input._a.shape[-2]}")
    if not 0 < hop <= win:
        raise RuntimeError(f"{what}: expected 0 < hop_length <= win_length")
    if not 0 < win <= n_fft:
        raise RuntimeError(f"{what}: expected 0 < win_length <= n_fft")
    if window is not None and tuple(window.shape) != (win,):
        raise RuntimeError(f"{what}: Invalid window shape. window has to be 1D and length of `win_length`")
    if return_complex:
        if onesided:
            raise RuntimeError("Cannot have onesided output if window or input is complex")
    elif window is not None and window.dtype.is_complex:
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    x = input if input.ndim == 3 else input.unsqueeze(0)
    x = x.transpose(1, 2)
    norm = "ortho" if normalized else None
    if return_complex:
        frames = fn.fft_ifft(x, norm=norm)
    else:
        frames = fn.fft_irfft(x if onesided else x.narrow(-1, 0, n_fft // 2 + 1), n_fft, norm=norm)
    window = _padded_window(window, n_fft, win, x)
    if window is None:
        window = fn.ones(n_fft, dtype=x.dtype.to_real(), device=x.device)
    count = x._a.shape[1]
    total = n_fft + hop * (count - 1)
    signal = _overlap_add(frames * window, hop, total)
    weight = _overlap_add((window * window).expand((1, count, n_fft)), hop, total)
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - n_fft // 2 if center else total
    end_here = min(end, total)
    signal, weight = signal.narrow(1, start, end_here - start), weight.narrow(1, start, end_here - start)
    if not tracing():
        low = float(weight.detach().abs().min()) if weight.numel() else 1.0
        if not low > 1e-11:
            raise RuntimeError(f"{what}window overlap add min: {low}")
    signal = signal / weight
    if end > total:
        warnings.warn("The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. Please "
                      "check your center and hop_length settings.", stacklevel=2)
        signal = fn.pad(signal, (0, end - total))
    return signal if input.ndim == 3 else signal.squeeze(0)


def _overlap_add(frames: Any, hop: int, total: int) -> Any:
    """Frames (batch, frame, time), ``hop`` apart, added up: (batch, ``total``)."""
    batch, count, n = frames._a.shape
    at = (np.arange(count)[:, None] * hop + np.arange(n)).reshape(-1)
    z = fn.zeros((batch, total), dtype=frames.dtype, device=frames.device)
    return z.index_add(1, fn.tensor(at, device=frames.device), frames.reshape(batch, count * n))
