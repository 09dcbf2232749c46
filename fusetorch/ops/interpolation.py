"""Interpolation: resizing signals, images and volumes."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import dtype, float32, uint8
from ..errors import warn
from .opdef import composite, fn
from .pooling import resample
from .resampling import taps

#: Modes and the spatial dimensions that they are for.
_RANKS = {"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,), "lanczos": (2,)}
_PLAIN = ("nearest", "nearest-exact", "area")


def _target(input: Any, size: Any, scale_factor: Any, recompute: bool) -> tuple[list[int], list[float | None]]:
    """The result's spatial sizes, and the scales that were given (else ``None``)."""
    n = input.ndim - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    given = size if size is not None else scale_factor
    what = "output size" if size is not None else "scale_factor"
    each = list(given) if isinstance(given, (list, tuple)) else [given] * n
    if len(each) != n:
        raise ValueError(f"Input and {what} must have the same number of spatial dimensions, but got input with spatial dimensions of "
                         f"{list(input.shape[2:])} and {what} of {given}. Give the input as (N, C, d1, ..., dK) and {what} as "
                         f"(o1, ..., oK).")
    if size is not None:
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        for m in each:
            if isinstance(m, bool) or not hasattr(m, "__index__"):
                raise TypeError(f"expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got {size}")
        return [int(m) for m in each], [None] * n
    scales = [float(s) for s in each]
    return [math.floor(m * s) for m, s in zip(input._a.shape[2:], scales)], [None] * n if recompute else scales


def _rule(mode: str, n_in: int, n_out: int, scale: float | None, align: bool, antialias: bool) -> tuple:
    """How one dimension is resampled."""
    if align and mode not in _PLAIN:
        step = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
    else:
        step = 1 / scale if scale else n_in / n_out
    if mode in ("nearest", "nearest-exact"):
        return ("nearest", n_in, n_out, step, 0.0 if mode == "nearest" else 0.5)
    if antialias:
        return ("smooth", n_in, n_out, step, {"bilinear": 1, "bicubic": 2, "lanczos": 3}[mode])
    return ("cubic" if mode == "bicubic" else "linear", n_in, n_out, step, align)


@composite(nn=True, function=False, method=False, autocast="float32:cuda", layout="images")
def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False):
    """``input`` (N, C, *spatial) resized to ``size``, or by ``scale_factor``.

    ``mode``: ``nearest``, ``nearest-exact``, ``area`` (one to three dimensions), ``linear`` (one), ``bilinear``, ``bicubic`` (two),
    ``trilinear`` (three), ``lanczos`` (two, with ``antialias``). ``align_corners``: the centres of the corner elements stay in place,
    rather than their outer corners. ``recompute_scale_factor``: use the ratio of the sizes, not the given factor. ``antialias``: when
    shrinking, average over all elements (``bilinear``, ``bicubic``, ``lanczos``). Of uint8 images each pass is rounded to bytes, as in
    Pillow.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.functional.interpolate(torch.arange(3.0).reshape(1, 1, 3), scale_factor=2)
        tensor([[[0., 0., 1., 1., 2., 2.]]])
    """
    if mode in _PLAIN and align_corners is not None:
        raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
    n = input.ndim - 2
    out, scales = _target(input, size, scale_factor, bool(recompute_scale_factor) or (mode == "area" and size is None))
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and n == 2):
        raise ValueError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input")
    if n not in _RANKS.get(mode, (1, 2, 3) if mode in _PLAIN else ()) or (mode == "lanczos" and not antialias):
        raise NotImplementedError(f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the modes: nearest | "
                                  f"linear | bilinear | bicubic | trilinear | area | nearest-exact | lanczos, each for its own number of "
                                  f"dimensions (got {mode})")
    if min(out) <= 0 or 0 in input._a.shape[1:]:
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input {list(input.shape)}, output size {out}")
    if mode == "area":
        return getattr(fn, f"adaptive_avg_pool{n}d")(input, out)
    rules = [_rule(mode, m, k, s, bool(align_corners), antialias) for m, k, s in zip(input._a.shape[2:], out, scales)]
    return _nearest(input, rules) if rules[0][0] == "nearest" else _weighted(input, rules)


def _check_dtype(d: dtype, bytes_too: bool) -> None:
    if not d.is_floating_point and not (bytes_too and d is uint8):
        raise NotImplementedError(f"\"interpolate\" not implemented for {d}; convert the tensor with .float() first")


def _nearest(input: Any, rules: Sequence[tuple]) -> Any:
    _check_dtype(input.dtype, True)
    repeats = []
    for rule in rules:
        index = taps(rule, False, input.dtype.itemsize == 8)[0][:, 0]
        times = len(index) // rule[1]
        repeats.append(times if np.array_equal(index, np.repeat(np.arange(rule[1]), times)) else 0)
    if 0 in repeats or input.device.type == "cpu":  # on the CPU short rows of equal elements do not vectorise
        return resample(input, rules)
    # whole multiples: a view with stride 0, which fuses
    lead, size = list(input._a.shape[:2]), input._a.shape[2:]
    x = input.reshape(lead + [v for m in size for v in (m, 1)]).expand(lead + [v for m, r in zip(size, repeats) for v in (m, r)])
    return x.reshape(lead + [m * r for m, r in zip(size, repeats)])


def _weighted(input: Any, rules: Sequence[tuple]) -> Any:
    d = input.dtype
    _check_dtype(d, len(rules) == 2)
    if d is uint8:  # as Pillow: along the rows first, and each pass gives bytes
        for k in reversed(range(len(rules))):
            input = fn.resample_bytes(input, 2 + k, rules[k])
        return input
    return resample(input.to(float32) if d.itemsize == 2 else input, rules).to(d)


@composite(nn=True, function=False, method=False, layout="images")
def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """``interpolate`` by its old name."""
    warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate.body(input, size, scale_factor, mode, align_corners)


@composite(nn=True, function=False, method=False, layout="images")
def upsample_nearest(input, size=None, scale_factor=None):
    """``interpolate`` with the nearest element."""
    return interpolate.body(input, size, scale_factor, "nearest")


@composite(nn=True, function=False, method=False, layout="images")
def upsample_bilinear(input, size=None, scale_factor=None):
    """``interpolate`` linearly, the corners' centres staying in place."""
    return interpolate.body(input, size, scale_factor, "bilinear", True)


@composite(name="_upsample_bilinear2d_aa", method=False, layout="images")
def _upsample_bilinear2d_aa(input, output_size, align_corners, scale_factors=None, scales_w=None, *, scales_h=None):
    """``interpolate`` of images, linearly and with antialiasing; scales come as ``scale_factors`` (rows, columns) or one by one."""
    if input.ndim != 4 or 0 in input._a.shape[1:]:
        raise RuntimeError(f"Non-empty 4D data tensor expected but got a tensor with sizes {list(input.shape)}")
    if isinstance(scale_factors, (list, tuple)):
        scales = [float(s) for s in scale_factors]
        output_size = output_size or [math.floor(m * s) for m, s in zip(input._a.shape[2:], scales)]
    else:
        scales = [scale_factors if scales_h is None else scales_h, scales_w]
    if len(output_size) != 2:
        raise RuntimeError(f"It is expected output_size equals to 2, but got size {len(output_size)}")
    if min(output_size) <= 0:
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got output size {list(output_size)}")
    return _weighted(input, [_rule("bilinear", m, int(k), s, align_corners, True)
                             for m, k, s in zip(input._a.shape[2:], output_size, scales)])


# ---- channels


@composite(nn=True, aliases=("native_channel_shuffle",), method=False, layout="images")
def channel_shuffle(input, groups):
    """The channels (dimension 1) dealt out: those of ``groups`` equal groups take turns (Zhang et al., "ShuffleNet", 2017)."""
    if input.ndim < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    b, c, *rest = input._a.shape
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return input.reshape((b, groups, c // groups, *rest)).transpose(1, 2).reshape(input._a.shape)
