"""Convolutions, their adjoints, ``unfold`` and ``fold``: the oracles walk over positions and taps one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_makers import S, f


def _all(v: Any, n: int) -> tuple[int, ...]:
    return (v,) * n if isinstance(v, int) else tuple(v) * (n if len(v) == 1 else 1)


def _hits(size: Any, kernel: Any, count: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """(position, tap, where in the input) of every product that is not with a zero of the border."""
    for at in np.ndindex(*count):
        for tap in np.ndindex(*kernel):
            where = tuple(a * s + t * d - p for a, t, s, p, d in zip(at, tap, stride, padding, dilation))
            if all(0 <= w < n for w, n in zip(where, size)):
                yield at, tap, where


def _count(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    return tuple(len(range(0, n + 2 * p - d * (k - 1), s)) for n, k, s, p, d in zip(size, kernel, stride, padding, dilation))


def _grouped(x: Any, groups: int) -> Any:
    return x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])


def _forward(x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    count = _count(x.shape[2:], w.shape[2:], stride, padding, dilation)
    out = np.zeros((len(x), groups, len(w) // groups, *count))
    xs, ws = _grouped(x, groups), w.reshape(groups, len(w) // groups, *w.shape[1:])
    for at, tap, where in _hits(x.shape[2:], w.shape[2:], count, stride, padding, dilation):
        out[(..., *at)] += np.einsum("ngc,goc->ngo", xs[(..., *where)], ws[(..., *tap)])
    out = out.reshape(len(x), len(w), *count)
    return out if bias is None else out + bias.reshape(-1, *(1,) * len(count))


def _input_grad(g: Any, w: Any, bias: Any, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    out = np.zeros((len(g), groups, w.shape[1], *size))
    gs, ws = _grouped(g, groups), w.reshape(groups, len(w) // groups, *w.shape[1:])
    for at, tap, where in _hits(size, w.shape[2:], g.shape[2:], stride, padding, dilation):
        out[(..., *where)] += np.einsum("ngo,goc->ngc", gs[(..., *at)], ws[(..., *tap)])
    out = out.reshape(len(g), groups * w.shape[1], *size)
    return out if bias is None else out + bias.reshape(-1, *(1,) * len(size))


def _weight_grad(g: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    out = np.zeros((groups, g.shape[1] // groups, x.shape[1] // groups, *kernel))
    gs, xs = _grouped(g, groups), _grouped(x, groups)
    for at, tap, where in _hits(x.shape[2:], kernel, g.shape[2:], stride, padding, dilation):
        out[(..., *tap)] += np.einsum("ngo,ngc->goc", gs[(..., *at)], xs[(..., *where)])
    return out.reshape(g.shape[1], x.shape[1] // groups, *kernel)


def _conv(n: int) -> Any:
    def oracle(x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
        stride, dilation = _all(stride, n), _all(dilation, n)
        batch = x if x.ndim == n + 2 else x[None]
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:])]
            batch = np.pad(batch, [(0, 0), (0, 0), *((t // 2, t - t // 2) for t in total)])
        padding = (0,) * n if isinstance(padding, str) else _all(padding, n)
        out = _forward(batch, w, bias, stride, padding, dilation, groups)
        return out if x.ndim == n + 2 else out[0]

    return oracle


def _conv_transpose(n: int) -> Any:
    def oracle(x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
               dilation: Any = 1) -> Any:
        stride, padding, more, dilation = (_all(v, n) for v in (stride, padding, output_padding, dilation))
        batch = x if x.ndim == n + 2 else x[None]
        size = tuple((a - 1) * s - 2 * p + d * (k - 1) + o + 1
                     for a, k, s, p, d, o in zip(batch.shape[2:], w.shape[2:], stride, padding, dilation, more))
        out = _input_grad(batch, w, bias, size, stride, padding, dilation, groups)
        return out if x.ndim == n + 2 else out[0]

    return oracle


def _convolution(x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any,
                 groups: int) -> Any:
    if transposed:
        return _conv_transpose(x.ndim - 2)(x, w, bias, stride, padding, output_padding, groups, dilation)
    return _conv(x.ndim - 2)(x, w, bias, stride, padding, dilation, groups)


def _im2col(x: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    count = _count(x.shape[2:], kernel, stride, padding, dilation)
    out = np.zeros((*x.shape[:2], *kernel, *count), x.dtype)
    for at, tap, where in _hits(x.shape[2:], kernel, count, stride, padding, dilation):
        out[(slice(None), slice(None), *tap, *at)] = x[(..., *where)]
    return out.reshape(len(x), x.shape[1] * kernel[0] * kernel[1], count[0] * count[1])


def _col2im(x: Any, size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    count = _count(size, kernel, stride, padding, dilation)
    x = x.reshape(len(x), x.shape[1] // (kernel[0] * kernel[1]), *kernel, *count)
    out = np.zeros((*x.shape[:2], *size))
    for at, tap, where in _hits(size, kernel, count, stride, padding, dilation):
        out[(..., *where)] += x[(slice(None), slice(None), *tap, *at)]
    return out


def _unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    how = [_all(v, 2) for v in (kernel_size, dilation, padding, stride)]
    return _im2col(x, *how) if x.ndim == 4 else _im2col(x[None], *how)[0]


def _fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    how = [_all(v, 2) for v in (output_size, kernel_size, dilation, padding, stride)]
    return _col2im(x, *how) if x.ndim == 3 else _col2im(x[None], *how)[0]


def _conv_tbc(x: Any, w: Any, bias: Any, pad: int = 0) -> Any:
    x = np.pad(x, ((pad, pad), (0, 0), (0, 0)))
    steps = len(x) - len(w) + 1
    return sum(np.einsum("tbi,io->tbo", x[k : k + steps], w[k]) for k in range(len(w))) + bias


SAMPLES = {
    # a matrix product, a strided one in groups, a depthwise one, many channels, and nothing
    "convolution_forward": lambda: [
        S(f(2, 3, 5, 6), f(5, 3, 3, 2), f(5), (1, 1), (1, 0), (1, 2), 1),
        S(f(2, 4, 7), f(8, 2, 3), None, (2,), (2,), (2,), 2),
        S(f(2, 3, 4, 9), f(3, 1, 3, 3), f(3), (2, 1), (1, 1), (1, 1), 3),
        S(f(1, 17, 4, 4), f(18, 17, 2, 2), None, (1, 1), (1, 1), (1, 1), 1, grad=False),
        S(f(1, 2, 3, 4, 4), f(4, 2, 2, 2, 3), f(4), (1, 2, 1), (0, 1, 1), (1, 1, 1), 1),
        S(f(0, 2, 4), f(3, 2, 2), f(3), (1,), (0,), (1,), 1),
        S(f(2, 0, 4), f(3, 0, 2), f(3), (1,), (0,), (1,), 1),
        S(f(2, 2, 33), f(3, 2, 5), f(3), (3,), (1,), (1,), 1),
    ],
    "convolution_input_grad": lambda: [
        S(f(2, 5, 3, 4), f(5, 3, 3, 2), None, (6, 9), (2, 2), (1, 0), (1, 2), 1),
        S(f(2, 4, 5), f(4, 2, 3), f(4), (7,), (1,), (0,), (1,), 2),
        S(f(1, 3, 3, 3), f(3, 1, 2, 2), f(3), (5, 6), (2, 3), (1, 1), (1, 1), 3),
        S(f(1, 17, 3, 3), f(17, 18, 3, 3), None, (5, 5), (2, 2), (1, 1), (1, 1), 1, grad=False),
        S(f(2, 2, 4), f(2, 3, 2), f(3), (11,), (3,), (0,), (1,), 1),
        S(f(0, 2, 4), f(2, 3, 2), f(3), (5,), (1,), (0,), (1,), 1),
    ],
    "convolution_weight_grad": lambda: [
        S(f(2, 5, 4, 4), f(2, 3, 4, 5), (3, 2), (1, 1), (1, 0), (1, 1), 1),
        S(f(3, 4, 4), f(3, 4, 9), (3,), (2,), (0,), (1,), 2),
        S(f(2, 3, 4, 4), f(2, 3, 4, 4), (3, 3), (1, 1), (1, 1), (1, 1), 3),
        S(f(2, 17, 3, 3), f(2, 18, 4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1, grad=False),
        S(f(0, 2, 4), f(0, 3, 5), (2,), (1,), (0,), (1,), 1),
    ],
    "convolution": lambda: [
        S(f(2, 3, 5, 6), f(4, 3, 2, 2), f(4), (1, 1), [0, 1], (1, 1), False, (0, 0), 1),
        S(f(2, 4, 5), f(4, 2, 3), None, (2,), (1,), (1,), True, (1,), 2),
    ],
    "conv1d": lambda: [
        S(f(2, 3, 7), f(4, 3, 3), f(4), padding="same"),
        S(f(4, 9), f(6, 2, 2), stride=2, padding=1, groups=2),
        S(f(1, 2, 9), f(3, 2, 4), f(3), padding="same", dilation=1),
    ],
    "conv2d": lambda: [
        S(f(2, 3, 5, 5), f(4, 3, 3, 3), f(4), 1, 1),
        S(f(3, 6, 5), f(3, 1, 3, 2), f(3), (2, 1), (1, 0), (1, 2), 3),
        S(f(2, 2, 4, 4), f(3, 2, 1, 1), None, [2], "valid"),
    ],
    "conv3d": lambda: [S(f(1, 2, 3, 4, 4), f(3, 2, 2, 3, 2), f(3), 1, (1, 1, 0)), S(f(2, 3, 3, 3), f(2, 2, 1, 2, 2), stride=2)],
    "conv_transpose1d": lambda: [S(f(2, 3, 4), f(3, 2, 3), f(2), 2, 1, 1), S(f(4, 5), f(4, 1, 2), None, 1, 0, 0, 2, 2)],
    "conv_transpose2d": lambda: [
        S(f(2, 3, 3, 4), f(3, 2, 3, 3), f(2), 2, 1, 1),
        S(f(4, 3, 3), f(4, 2, 2, 2), f(4), (3, 2), (0, 1), (1, 0), 2, (1, 2)),
    ],
    "conv_transpose3d": lambda: [S(f(1, 2, 2, 3, 2), f(2, 2, 2, 2, 3), f(2), (2, 1, 2), (0, 1, 1), (1, 0, 1))],
    "im2col": lambda: [
        S(f(2, 3, 5, 6), (3, 2), (1, 2), (1, 0), (2, 1)),
        S(f(1, 2, 3, 3), (1, 1), (1, 1), (0, 0), (1, 1)),
        S(f(0, 2, 3, 3), (2, 2), (1, 1), (0, 0), (1, 1)),
    ],
    "col2im": lambda: [S(f(2, 18, 12), (5, 6), (3, 2), (1, 2), (1, 0), (2, 1)), S(f(1, 8, 4), (3, 3), (2, 2), (1, 1), (0, 0), (1, 1))],
    "nn_unfold": lambda: [S(f(2, 3, 4, 5), 2, padding=1, stride=(2, 1)), S(f(3, 4, 5), (2, 3), dilation=(1, 2))],
    "fold": lambda: [S(f(2, 12, 9), (4, 4), 2), S(f(12, 6), [3, 4], (2, 2), stride=(1, 1))],
    "conv_tbc": lambda: [S(f(5, 2, 3), f(2, 3, 4), f(4)), S(f(4, 1, 2), f(3, 2, 2), f(2), 2)],
}

ORACLES = {
    "convolution_forward": _forward,
    "convolution_input_grad": _input_grad,
    "convolution_weight_grad": _weight_grad,
    "convolution": _convolution,
    "conv1d": _conv(1),
    "conv2d": _conv(2),
    "conv3d": _conv(3),
    "conv_transpose1d": _conv_transpose(1),
    "conv_transpose2d": _conv_transpose(2),
    "conv_transpose3d": _conv_transpose(3),
    "im2col": _im2col,
    "col2im": _col2im,
    "nn_unfold": _unfold,
    "fold": _fold,
    "conv_tbc": _conv_tbc,
}
