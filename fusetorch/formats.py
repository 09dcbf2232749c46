"""``torch.layout`` and ``torch.memory_format``: how a tensor's elements are stored, and in which order of dimensions."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class layout:
    """How elements are stored. Only ``torch.strided`` tensors exist; the sparse names are there to be compared with."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "torch." + self.name

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _by_name, (self.name,)


class memory_format:
    """An order of strides: ``contiguous_format``, ``preserve_format``, ``channels_last`` (4-D) or ``channels_last_3d`` (5-D)."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "torch." + self.name

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _by_name, (self.name,)


strided = layout("strided")
sparse_coo, sparse_csr, sparse_csc = layout("sparse_coo"), layout("sparse_csr"), layout("sparse_csc")
sparse_bsr, sparse_bsc = layout("sparse_bsr"), layout("sparse_bsc")
contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")

_ALL = {x.name: x for x in (strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc, contiguous_format, preserve_format,
                            channels_last, channels_last_3d)}
_RANK = {channels_last: 4, channels_last_3d: 5}


def _by_name(name: str) -> Any:
    return _ALL[name]


def channels_order(rank: int, format: memory_format) -> tuple[int, ...] | None:
    """The dimensions from the largest stride to the smallest, or ``None`` for row-major order.

    Raises ``RuntimeError`` where the format does not fit the rank, as in PyTorch.
    """
    if not isinstance(format, memory_format):
        raise TypeError(f"argument 'memory_format' must be torch.memory_format, not {type(format).__name__}")
    want = _RANK.get(format)
    if want is None:
        return None
    if rank != want:
        raise RuntimeError(f"required rank {want} tensor to use {format.name} format")
    return (0, *range(2, rank), 1)


def is_channels_last(shape: Sequence[int], strides: Sequence[int], format: memory_format) -> bool:
    """Whether these strides are those of a channels-last format."""
    rank = len(shape)
    if rank != _RANK[format]:
        return False
    step = 1
    for d in reversed((0, *range(2, rank), 1)):
        if shape[d] != 1:
            if strides[d] != step:
                return False
            step *= shape[d]
    return True
