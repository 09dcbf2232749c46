"""Padding."""
from __future__ import annotations

from typing import Any

from ..dtypes import bool_
from .opdef import composite, fn, not_implemented


@composite(nn=True, function=False, method=False)
def pad(input, pad, mode="constant", value=None):
    """``input`` with ``pad[2k]`` elements before and ``pad[2k+1]`` after dimension ``-1-k``. ``mode``: ``constant`` (with ``value``),
    ``reflect``, ``replicate`` or ``circular``; negative amounts cut off."""
    if len(pad) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {len(pad)}")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError("Padding length should be less than or equal to two times the input dimension but got padding length "
                           f"{len(pad)} and input of dimension {input.ndim}")
    from ..writing import lay_out
    amounts = {input.ndim - 1 - k: (int(pad[2 * k]), int(pad[2 * k + 1])) for k in range(len(pad) // 2)}
    if mode == "constant":
        return lay_out("images", _pad_constant(input, amounts, 0 if value is None else value), (input,))
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value:
        raise ValueError(f"Padding mode \"{mode}\" doesn't take in value argument")
    if not input.ndim - 2 <= len(pad) // 2 < input.ndim:
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    if mode != "circular" and input.dtype is bool_:
        raise not_implemented(f"{mode}_pad", bool_)
    sizes = input._a.shape
    out = input
    if mode == "circular":  # what is cut off does not come back
        out = _pad_constant(input, {d: (min(a, 0), min(b, 0)) for d, (a, b) in amounts.items()}, 0)
    for d, (before, after) in amounts.items():
        n = sizes[d]
        limit = n - 1 if mode == "reflect" else n if mode == "circular" else None
        if limit is not None and max(before, after) > limit:
            raise RuntimeError(f"Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) "
                               f"at dimension {d} of input {list(input.shape)}")
        if mode == "circular":
            before, after, n = max(before, 0), max(after, 0), out._a.shape[d]
        if before == after == 0:
            continue
        out = fn.resample_dim(out, d, (mode, n, before + n + after, before), False)
    return lay_out("row-major" if mode == "circular" else "images", out, (input,))


@composite(method=False)
def constant_pad_nd(input, pad, value=0):
    """``pad`` with a constant."""
    return fn.pad(input, pad, "constant", value)


def _pad_constant(x: Any, amounts: dict[int, tuple[int, int]], value: Any) -> Any:
    sizes = x._a.shape
    cut = tuple((max(-amounts.get(d, (0, 0))[0], 0), n - max(-amounts.get(d, (0, 0))[1], 0), 1) for d, n in enumerate(sizes))
    for d, n in enumerate(sizes):
        total = n + sum(amounts.get(d, (0, 0)))
        if total < 0:
            raise RuntimeError(f"The input size {n}, plus negative padding {amounts[d][0]} and {amounts[d][1]}, resulted in a negative "
                               f"output size {total}")
    cut = tuple((a, max(b, a), 1) for a, b, _ in cut)
    if any((a, b) != (0, n) for (a, b, _), n in zip(cut, sizes)):
        x = fn.slice_dims(x, cut)
    shape, at = [], []
    for d, n in enumerate(x._a.shape):
        before, after = (max(v, 0) for v in amounts.get(d, (0, 0)))
        shape.append(before + n + after)
        at.append((before, before + n, 1))
    if x.dtype is bool_:
        value = bool(value)
    return fn.slice_scatter_dims(x, tuple(shape), tuple(at), value)
