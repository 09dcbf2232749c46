"""Normalisation over groups of channels, and over neighbouring channels.

Sources: group normalisation, Wu and He 2018; local response normalisation, Krizhevsky et al. 2012.
"""
from __future__ import annotations

import numpy as np

from .batch_norm import more_than_one
from .normalization import SMALL, check_normalized_shape, normalised
from .opdef import Short, composite, fn


@composite(nn=True, method=False, autocast="float32:cuda", layout="images")
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    """Normalises each of ``num_groups`` groups of channels of each sample of ``input`` (N, C, ...); then scales and shifts each channel.

    ``weight`` and ``bias`` have shape (C,). ``RuntimeError`` if the channels do not divide into groups.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.functional.group_norm(torch.randn(2, 6, 4), 3).shape
        torch.Size([2, 6, 4])
    """
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    n, channels, *space = input._a.shape
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    more_than_one((n * channels // num_groups, *space), "value per channel", [n * channels // num_groups, num_groups, *space])
    if channels % num_groups:
        raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
                           f"{list(input.shape)} and num_groups={num_groups}")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != (channels,):
            raise RuntimeError(f"Expected {name} to be a vector of size equal to the number of channels in input, but got {name} of shape "
                               f"{list(t.shape)} and input of shape {list(input.shape)}")
    each = (1, num_groups, channels // num_groups) + (1,) * len(space)
    x = input.reshape(n, num_groups, channels // num_groups, *space)
    w, b = (None if t is None else t.reshape(each) for t in (weight, bias))
    return fn.layer_norm_stats(x, w, b, eps=eps, dim=tuple(range(2, x.ndim)), keepdim=True)[0].reshape(input._a.shape)


@group_norm.short
def _(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    x = input._a
    if type(x) is not np.ndarray or x.dtype.char not in "fd" or not 0 < x.size <= SMALL or x.ndim < 2 or not x.flags.c_contiguous:
        return None
    n, channels = x.shape[:2]
    if num_groups <= 0 or channels % num_groups or x.size == channels:
        return None
    for t in (weight, bias):
        if t is not None and (type(t._a) is not np.ndarray or t._a.dtype is not x.dtype or t._a.shape != (channels,)):
            return None
    each = channels // num_groups
    w, b = (None if t is None else t._a.reshape(1, num_groups, each, 1) for t in (weight, bias))
    parts = (n, num_groups, each, x.size // (n * channels))
    out, gradients = normalised(x.reshape(parts), w, b, eps, (2, 3), (0, 3))
    need = [t is not None and t._req for t in (input, weight, bias)]

    def backward(g: np.ndarray) -> list:
        found = gradients(g.reshape(parts), need)
        return [a if a is None else a.reshape(t._a.shape) for a, t in zip(found, (input, weight, bias))]
    return Short(out.reshape(x.shape), (input, weight, bias), (input,) if weight is None else (input, weight), backward)


@composite(method=False)
def native_group_norm(input, weight, bias, N, C, HxW, group, eps):
    """``group_norm`` of (N, C, ...) with ``HxW`` elements a channel, and each group's mean and 1/sqrt(var + eps), of shape (N, group)."""
    x = input.reshape(N, group, C // group, HxW)
    w, b = (None if t is None else t.reshape(1, group, C // group, 1) for t in (weight, bias))
    y, mean, rstd = fn.layer_norm_stats(x, w, b, eps=eps, dim=(2, 3), keepdim=True)
    kept = input.dtype if weight is None else weight.dtype
    return y.reshape(input._a.shape), mean.reshape(N, group).to(kept), rstd.reshape(N, group).to(kept)


@composite(method=False)
def native_layer_norm(input, normalized_shape, weight, bias, eps):
    """``layer_norm``, and the mean and 1/sqrt(var + eps) of each row, with the normalised dimensions kept as 1."""
    check_normalized_shape(input, tuple(normalized_shape), weight, bias)
    dims = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    y, mean, rstd = fn.layer_norm_stats(input, weight, bias, eps=eps, dim=dims, keepdim=True)
    kept = input.dtype if weight is None else weight.dtype
    return y, mean.to(kept), rstd.to(kept)


@composite(refuses="bool complex", nn=True, function=False, method=False, layout="signals")
def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """``input / (k + alpha * m) ** beta``, with ``m`` the mean square over ``size`` neighbouring channels of (N, C, ...).

    ``ValueError`` for an input of fewer than 3 dimensions.
    """
    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    if not input.numel():
        return input
    n, channels, *space = input._a.shape
    square = input * input
    before, after = size // 2, (size - 1) // 2
    parts = [square.new_zeros((n, count, *space)) for count in (before, after)]
    padded = fn.cat([parts[0], square, parts[1]], 1)
    mean = padded.unfold(1, size, 1).sum(-1) / size
    return input / (mean * alpha + k).pow(beta)
