"""Reading index expressions: what ``x[key]`` asks of views, and which index tensors are left."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import bool_, int64, uint8
from ..errors import warn
from ..shapes import broadcast_shapes
from ..tensor import Tensor, tracing
from .creation import place
from .opdef import fn


class Parsed:
    """An index expression taken apart: ``basic`` for ``slice_dims``, then ``indices`` at ``dims`` of that view."""

    __slots__ = ("basic", "indices", "dims", "trivial")

    def __init__(self, basic: tuple, indices: list[Tensor], dims: tuple[int, ...], trivial: bool) -> None:
        self.basic, self.indices, self.dims, self.trivial = basic, indices, dims, trivial


def basic_index(shape: Sequence[int], key: Any) -> tuple | None:
    """The index for ``slice_dims`` where an expression consists of Python ints, slices of such, ``None`` and ``...`` that fit; ``None``
    for all others and for mistakes, which :func:`parse` takes apart."""
    items = key if type(key) is tuple else (key,)
    rank, used, found = len(shape), 0, -1
    for k, i in enumerate(items):
        if type(i) is int or type(i) is slice:
            used += 1
        elif i is Ellipsis:
            if found >= 0:
                return None
            found = k
        elif i is not None:
            return None
    if used > rank:
        return None
    if found >= 0:
        items = (*items[:found], *[_ALL] * (rank - used), *items[found + 1:])
    elif used < rank:
        items = (*items, *[_ALL] * (rank - used))
    out, d = [], 0
    for i in items:
        if i is None:
            out.append(None)
            continue
        n = shape[d]
        d += 1
        if i is _ALL:
            out.append((0, n, 1))
        elif type(i) is int:
            if not -n <= i < n:
                return None
            out.append(i + n if i < 0 else i)
        else:
            start, stop, step = i.start, i.stop, i.step
            for v in (start, stop, step):
                if v is not None and type(v) is not int:
                    return None
            if step is not None and step <= 0:
                return None
            start, stop, step = i.indices(n)
            out.append((start, stop if stop > start else start, step))
    return tuple(out)


_ALL = slice(None)


def _is_sequence(i: Any) -> bool:
    return isinstance(i, (list, range, np.ndarray)) or (isinstance(i, tuple) and not hasattr(i, "numel"))


def _as_index_tensor(i: Any, device: Any) -> Tensor:
    if isinstance(i, np.ndarray):
        return fn.from_numpy(np.ascontiguousarray(i)).to(device=device)
    t = fn.tensor(list(i), device=device)
    return t.to(int64) if t.numel() == 0 and t.dtype.is_floating_point else t


def parse(x: Any, key: Any) -> Parsed:
    """Takes an index expression apart; ``IndexError`` or ``TypeError`` where PyTorch raises it."""
    items = list(key) if isinstance(key, tuple) else [key]
    shape, device = x._a.shape, None
    for k, i in enumerate(items):
        if _is_sequence(i):
            if device is None:
                device = x.device
            items[k] = _as_index_tensor(i, device)
        elif isinstance(i, np.bool_):
            items[k] = bool(i)
    used, ellipsis = 0, None
    for k, i in enumerate(items):
        if isinstance(i, Tensor):
            used += i.ndim if i.dtype in (bool_, uint8) else 1
        elif i is Ellipsis:
            if ellipsis is not None:
                raise IndexError("an index can only have a single ellipsis ('...')")
            ellipsis = k
        elif i is not None and not isinstance(i, bool):
            used += 1
    rank = len(shape)
    if used > rank:
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    missing = [slice(None)] * (rank - used)
    if ellipsis is None:
        items += missing
    else:
        items[ellipsis:ellipsis + 1] = missing
    basic: list[Any] = []
    indices: list[Tensor] = []
    dims: list[int] = []
    d = out = 0  # dimension of x, dimension of the view
    trivial = True
    lone = sum(isinstance(i, Tensor) for i in items) == 1
    for i in items:
        if isinstance(i, slice):
            start, stop, step = normalised_slice(i, shape[d])
            trivial = trivial and start == 0 and stop == shape[d] and step == 1
            basic.append((start, stop, step))
            d, out = d + 1, out + 1
        elif i is None:
            basic.append(None)
            out, trivial = out + 1, False
        elif isinstance(i, bool):
            basic.append(None)
            indices.append(fn.zeros(1 if i else 0, dtype=int64, device=x.device))
            dims.append(out)
            out, trivial = out + 1, False
        elif isinstance(i, Tensor):
            if not i.ndim and i.dtype not in (bool_, uint8):
                if i.dtype.is_floating_point:
                    raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
                if not (lone and tracing()):
                    basic.append(at_index(int(i.item()), shape, d))
                    d, trivial = d + 1, False
                    continue
            for part in index_tensors(i, shape, d):
                if i.ndim or i.dtype not in (bool_, uint8):
                    basic.append((0, shape[d], 1))
                    d += 1
                else:
                    basic.append(None)
                    trivial = False
                indices.append(part)
                dims.append(out)
                out += 1
        elif hasattr(i, "__index__"):
            basic.append(at_index(i.__index__(), shape, d))
            d, trivial = d + 1, False
        else:
            raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                             f"(got {type(i).__name__})")
    return Parsed(tuple(basic), indices, tuple(dims), trivial)


def at_index(i: int, shape: Sequence[int], d: int) -> int:
    """Position ``i`` of dimension ``d`` counted from the front; ``IndexError`` outside."""
    n = shape[d]
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for dimension {d} with size {n}")
    return i + n if i < 0 else i


def normalised_slice(s: slice, n: int) -> tuple[int, int, int]:
    """Start, stop and step of a slice of ``n`` elements, as ``range`` takes them."""
    parts = [v.item() if isinstance(v, Tensor) else v for v in (s.start, s.stop, s.step)]
    for v in parts:
        if v is not None and not hasattr(v, "__index__"):
            raise TypeError(f"slice indices must be integers or None or have an __index__ method, got {type(v).__name__}")
    if parts[2] is not None and parts[2] <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, step = slice(*parts).indices(n)
    return start, max(stop, start), step


def index_tensors(i: Tensor, shape: Sequence[int], d: int) -> list[Tensor]:
    """The integer tensors that an index tensor stands for: itself, or the positions where a mask is true."""
    if i.dtype is uint8:
        warn("indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead.")
    if i.dtype in (bool_, uint8):
        for k, n in enumerate(i._a.shape):
            if n != shape[d + k]:
                raise IndexError(f"The shape of the mask {list(i.shape)} at index {k} does not match the shape of the indexed tensor "
                                 f"{list(shape)} at index {d + k}")
        if not i.ndim:
            return [fn.zeros(1 if bool(i) else 0, dtype=int64, device=i.device)]
        return list(nonzero_tensors(i))
    if i.dtype.is_floating_point or i.dtype.itemsize < 4:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return [i]


def nonzero_tensors(x: Tensor) -> tuple[Tensor, ...]:
    """Where ``x`` is not zero: one int64 vector per dimension."""
    from .conversion import host_array
    where = np.nonzero(np.atleast_1d(host_array(x.detach())))
    return tuple(place(w.astype(np.int64), x.device) for w in where)


def broadcastable(indices: Sequence[Tensor]) -> None:
    """Raises ``IndexError`` where index tensors do not broadcast together."""
    try:
        broadcast_shapes(*[i._a.shape for i in indices])
    except RuntimeError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}") from None


def on_device(indices: list[Tensor], x: Any) -> list[Tensor]:
    """Index tensors moved to where ``x`` is."""
    if not tracing():
        return [i if type(i._a) is type(x._a) else i.to(device=x.device) for i in indices]
    return [i if i.device == x.device else i.to(device=x.device) for i in indices]


def check_mask(mask: Tensor, shape: Sequence[int]) -> None:
    """Raises ``IndexError`` where a mask's shape is not that of the dimensions it selects from."""
    for k, n in enumerate(mask._a.shape):
        if n != shape[k]:
            raise IndexError(f"The shape of the mask {list(mask.shape)} at index {k} does not match the shape of the indexed tensor "
                             f"{list(shape)} at index {k}")
