"""``torch.cuda.comm``: tensors to and from several devices."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor

__all__ = ["broadcast", "gather", "reduce_add", "scatter"]


def broadcast(tensor: Tensor, devices: Sequence[Any] | None = None, *, out: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
    """A copy of the tensor on each device, or in each tensor of ``out``."""
    if out is not None:
        return tuple([o.copy_(tensor) for o in out])
    return tuple([tensor.to(_device(d)) for d in devices or ()])


def scatter(tensor: Tensor, devices: Sequence[Any] | None = None, chunk_sizes: Sequence[int] | None = None, dim: int = 0,
            streams: Any = None, *, out: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
    """Parts of the tensor along ``dim``, one on each device (of ``chunk_sizes`` if given), or in each tensor of ``out``."""
    n = len(out if out is not None else devices or ())
    sizes = [o.size(dim) for o in out] if out is not None else chunk_sizes
    parts = tensor.split(list(sizes), dim) if sizes is not None else tensor.chunk(n, dim)
    return tuple([o.copy_(p) for o, p in zip(out, parts)] if out is not None else [p.to(_device(d)) for d, p in zip(devices, parts)])


def gather(tensors: Sequence[Tensor], dim: int = 0, destination: Any = None, *, out: Tensor | None = None) -> Tensor:
    """Tensors of several devices put together along ``dim`` on one (the current GPU by default, -1 is the CPU)."""
    if out is not None:
        return out.copy_(torch.cat([t.to(out.device) for t in tensors], dim))
    place = torch.device("cuda" if destination is None else "cpu" if destination == -1 else _device(destination))
    return torch.cat([t.to(place) for t in tensors], dim)


def reduce_add(inputs: Sequence[Tensor], destination: Any = None) -> Tensor:
    """The sum of tensors of several devices on one (the first one's by default)."""
    place = inputs[0].device if destination is None else _device(destination)
    total = inputs[0].to(place)
    for t in inputs[1:]:
        total = total + t.to(place)
    return total


def _device(d: Any) -> Any:
    return torch.device("cuda", d) if isinstance(d, int) else torch.device(d)
