"""Sampling images and volumes at given places (Jaderberg et al., "Spatial Transformer Networks", 2015)."""
from __future__ import annotations

import itertools
import math
from typing import Any

from ..dtypes import float32, int64
from ..errors import warn
from .opdef import composite, fn


def _reflected(x: Any, low: float, high: float) -> Any:
    """Coordinates folded back into [low, high]."""
    span = high - low
    if span <= 0:
        return fn.zeros_like(x)
    x = (x - low).abs()
    extra, flips = fn.fmod(x, span), fn.floor(x / span)
    return fn.where(fn.fmod(flips, 2) == 0, extra + low, span - extra + low)


def _clipped(x: Any, size: int) -> Any:
    """Coordinates moved into the image; flat, also for the gradient, from its ends on."""
    zero = fn.zeros((), dtype=x.dtype, device=x.device)
    return fn.where(x > 0, fn.where(x < size - 1, x, zero + (size - 1)), zero)


def _inside(x: Any, size: int, padding: str, align: bool) -> Any:
    """Coordinates (in elements) after the padding rule."""
    if padding == "reflection":
        x = _reflected(x, 0.0, size - 1.0) if align else _reflected(x, -0.5, size - 0.5)
    if padding != "zeros":
        x = _clipped(x, size)
    return _finite(x)


def _finite(x: Any) -> Any:
    """Coordinates, those outside that are no numbers or too large to count with."""
    return fn.where(x.abs() < 2.0**31, x, fn.full((), -100.0, dtype=x.dtype, device=x.device))


def _position(at: list[Any], size: tuple[int, ...]) -> Any:
    """Whole coordinates (N, places) as positions in the plane; -1 outside."""
    position = exists = None
    for x, m in zip(at, size):
        within = (x >= 0) & (x < m)
        exists = within if exists is None else exists & within
        x = x.clamp(0, m - 1).to(int64)
        position = x if position is None else position * m + x
    return fn.where(exists, position, -1)


def _cubic(t: Any) -> list[Any]:
    """Keys' weights (a = -0.75) of the four neighbours, at distance 1 + t, t, 1 - t and 2 - t."""
    a, u = -0.75, 1 - t

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    return [a * t * u * u, near(t), near(u), a * u * t * t]


def _sampled(planes: Any, where: list[Any], size: tuple[int, ...], mode: str, padding: str, align: bool) -> Any:
    """Values of the planes (N, C, elements) at coordinates (N, places) of each dimension."""
    if mode == "nearest":
        position = _position([fn.round(_inside(x.detach(), m, padding, align)) for x, m in zip(where, size)], size).unsqueeze(1)
        return fn.weighted_gather(planes, position, fn.ones_like(position, dtype=planes.dtype))
    if mode == "bilinear":
        where = [_inside(x, m, padding, align) for x, m in zip(where, size)]
        low = [fn.floor(x.detach()) for x in where]
        places = [[b, b + 1] for b in low]
        weights = [[b + 1 - x, x - b] for x, b in zip(where, low)]
    else:
        where = [_finite(x) for x in where]
        low = [fn.floor(x.detach()) for x in where]
        places = [[fn.floor(_inside(b + k, m, padding, align)) for k in range(-1, 3)] for b, m in zip(low, size)]
        weights = [_cubic(x - b) for x, b in zip(where, low)]
    positions, products = [], []
    for corner in itertools.product(range(len(places[0])), repeat=len(size)):
        positions.append(_position([p[k] for p, k in zip(places, corner)], size))
        product = weights[0][corner[0]]
        for w, k in zip(weights[1:], corner[1:]):
            product = product * w[k]
        products.append(product)
    return fn.weighted_gather(planes, fn.stack(positions, 1), fn.stack(products, 1))


def _check(input: Any, grid: Any) -> None:
    if grid.dtype is not input.dtype:
        raise RuntimeError(f"grid_sampler(): expected input and grid to have same dtype, but input has {input.dtype} and grid has "
                           f"{grid.dtype}")
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"grid_sampler(): expected a floating-point input, got {input.dtype}; convert it with .float()")
    if input.ndim not in (4, 5) or input.ndim != grid.ndim:
        raise RuntimeError(f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with sizes "
                           f"{list(input.shape)} and grid with sizes {list(grid.shape)}")
    if input._a.shape[0] != grid._a.shape[0]:
        raise RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, but got input with sizes {list(input.shape)} "
                           f"and grid with sizes {list(grid.shape)}")
    if grid._a.shape[-1] != input.ndim - 2:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {input.ndim - 2} in last dimension, but got grid with sizes "
                           f"{list(grid.shape)}")
    if 0 in input._a.shape[2:]:
        raise RuntimeError(f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes {list(input.shape)}")


def _advise_corners() -> None:
    warn("Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
         "align_corners=True if the old behavior is desired. See the documentation of grid_sample for details.")


@composite(nn=True, function=False, method=False, autocast="float32:cpu promote:cuda")
def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """The values of ``input`` (N, C, H, W) at the places ``grid`` (N, h, w, 2), (x, y) each in [-1, 1]: (N, C, h, w).

    Volumes (N, C, D, H, W) take a grid (N, d, h, w, 3) of (x, y, z). ``mode``: ``bilinear``, ``nearest``, ``bicubic`` (images only).
    ``padding_mode``: what is outside is 0 (``zeros``), the ``border``'s value or a ``reflection``. ``align_corners``: -1 and 1 are the
    centres of the corner elements, rather than their outer corners.

    Example:
        >>> import fusetorch as torch
        >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> torch.nn.functional.grid_sample(image, torch.zeros(1, 1, 1, 2), align_corners=True)
        tensor([[[[1.5000]]]])
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
                         f"'{padding_mode}'")
    _check(input, grid)
    if align_corners is None:
        _advise_corners()
    align = bool(align_corners)
    if input.ndim == 5 and mode == "bicubic":
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    d, size = input.dtype, tuple(input._a.shape[2:])
    if d.itemsize == 2:
        input, grid = input.to(float32), grid.to(float32)
    batch, channels = input._a.shape[:2]
    places = tuple(grid._a.shape[1:-1])
    flat = grid.reshape((batch, math.prod(places), len(size)))
    where = []
    for k, m in enumerate(size):  # the last coordinate of the grid is for the first dimension
        x = flat[..., len(size) - 1 - k]
        where.append((x + 1) * ((m - 1) / 2) if align else (x + 1) * (m / 2) - 0.5)
    out = _sampled(input.reshape((batch, channels, math.prod(size))), where, size, mode, padding_mode, align)
    return out.reshape((batch, channels, *places)).to(d)


def _define_sampler(n: int) -> None:
    def sampler(input, grid, interpolation_mode, padding_mode, align_corners):  # noqa: ANN001, ANN202
        return grid_sample.body(input, grid, ("bilinear", "nearest", "bicubic")[interpolation_mode],
                                ("zeros", "border", "reflection")[padding_mode], align_corners)
    sampler.__doc__ = f"``grid_sample`` in {n} dimensions, with the modes as numbers."
    composite(name=f"grid_sampler_{n}d", method=False)(sampler)


for _n in (2, 3):
    _define_sampler(_n)


@composite(method=False, autocast="float32:cpu promote:cuda")
def grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners):
    """``grid_sample`` with the modes as numbers."""
    return getattr(fn, f"grid_sampler_{3 if input.ndim == 5 else 2}d")(input, grid, interpolation_mode, padding_mode, align_corners)


@composite(nn=True, function=False, method=False)
def affine_grid(theta, size, align_corners=None):
    """The grid for ``grid_sample`` that applies the affine maps ``theta`` (N, 2, 3), or (N, 3, 4) for volumes, to images of ``size``
    (N, C, H, W) or (N, C, D, H, W)."""
    if not theta.dtype.is_floating_point:
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    if align_corners is None:
        _advise_corners()
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
                                  f"{size}.")
    if theta.ndim != 3 or tuple(theta.shape[1:]) != (n, n + 1):
        raise ValueError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {size}. Got {list(theta.shape)}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    if theta._a.shape[0] != size[0]:
        raise RuntimeError(f"Expected a batch of {size[0]} affine matrices, one for each image of size {tuple(size)}. Got "
                           f"{list(theta.shape)}.")
    axes = []
    for m in size[2:]:
        line = fn.linspace(-1, 1, m, dtype=theta.dtype, device=theta.device) if m > 1 else fn.zeros_like(theta[0, 0, :1])
        axes.append(line if align_corners else line * ((m - 1) / m))
    grids = fn.meshgrid(*axes, indexing="ij")
    base = fn.stack([*reversed(grids), fn.ones_like(grids[0])], -1).reshape((1, -1, n + 1))
    return fn.matmul(base, theta.transpose(1, 2)).reshape((size[0], *size[2:], n))


@composite(method=False)
def affine_grid_generator(theta, size, align_corners):
    """``nn.functional.affine_grid``."""
    return affine_grid.body(theta, size, align_corners)
