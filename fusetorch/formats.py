"""``torch.layout`` and ``torch.memory_format``: how a tensor's elements are stored, and in which order of dimensions."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .shapes import dense_strides_like, packed_strides


class _Named:
    """A value of ``torch``'s own, printed and pickled by its name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "torch." + self.name

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _by_name, (self.name,)


class layout(_Named):
    """How elements are stored: ``torch.strided``, or one of the sparse layouts of :mod:`fusetorch.sparse`."""

    __slots__ = ()


class memory_format(_Named):
    """An order of strides: ``contiguous_format``, ``preserve_format``, ``channels_last`` (4-D) or ``channels_last_3d`` (5-D)."""

    __slots__ = ()


strided = layout("strided")
sparse_coo, sparse_csr, sparse_csc = layout("sparse_coo"), layout("sparse_csr"), layout("sparse_csc")
sparse_bsr, sparse_bsc, jagged = layout("sparse_bsr"), layout("sparse_bsc"), layout("jagged")
contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")

_ALL = {x.name: x for x in (strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc, jagged, contiguous_format,
                            preserve_format, channels_last, channels_last_3d)}
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


# ---------------------------------------------------------------------------------------------------- layouts of results


Layout = tuple[Sequence[int], Sequence[int]]  # shape and strides
Rule = Callable[[Sequence[int], Sequence[Layout]], "tuple[int, ...] | None"]


def _channels_last(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the strides are ordered as those of a channels-last format, with gaps or without; not if they are row-major, too."""
    if 0 in shape or strides[1] == 0:
        return False
    least = 0
    for d in (1, *range(len(shape) - 1, 1, -1), 0):
        if strides[d] < least or (d == 0 and least == strides[1]):
            return False
        least = strides[d] * max(shape[d], 1)
    return True


def _has_channels_last(own: Sequence[int], strides: Sequence[int], signals: bool) -> bool:
    """Whether an operand of rank 4 or 5 is channels-last; with ``signals`` one of rank 3 is like an image with a height of 1."""
    if signals and len(own) == 3:
        own, strides = (*own[:2], 1, own[2]), (*strides[:2], own[2] * strides[2], strides[2])
    return 4 <= len(own) <= 5 and _channels_last(own, strides)


def _channels(count: int | None, signals: bool) -> Rule:
    """Channels-last if any of the first ``count`` operands is, or all (``None``)."""
    def rule(shape: Sequence[int], operands: Sequence[Layout]) -> tuple[int, ...] | None:
        found = [_has_channels_last(own, strides, signals) for own, strides in operands[:count]]
        if not (all(found) if count is None else any(found)):
            return None
        return packed_strides(shape, (0, *range(2, len(shape)), 1))
    return rule


def _of_convolution(shape: Sequence[int], operands: Sequence[Layout]) -> tuple[int, ...] | None:
    return _channels(2, True)(shape, operands[1:2] if len(shape) == 3 else operands)


def _like(shape: Sequence[int], operands: Sequence[Layout]) -> tuple[int, ...] | None:
    return dense_strides_like(tuple(shape), operands[:1]) if tuple(operands[0][0]) == tuple(shape) else None


def _heads(shape: Sequence[int], operands: Sequence[Layout]) -> tuple[int, ...] | None:
    own, strides = operands[0]
    return packed_strides(shape, (0, 2, 1, 3)) if len(own) == len(shape) == 4 and strides[1] < strides[2] else None


#: How an operation's results are laid out, by the name in its definition: strides from the result's shape and the operands' layouts;
#: ``None`` means row-major.
RESULT_LAYOUTS: dict[str, Rule] = {
    "row-major": lambda shape, operands: None,
    "images": _channels(1, False),  # channels-last if the first operand is
    "signals": _channels(1, True),  # the same, also in one spatial dimension
    "convolution": _of_convolution,  # channels-last if input or weight is; of signals, if the weight is
    "joined": _channels(None, False),  # channels-last if all operands are
    "heads": _heads,  # of attention: for each position the heads side by side, if the queries are so
    "like": _like,  # in the first operand's order
    "elementwise": lambda shape, operands: dense_strides_like(shape, operands),  # as any elementwise operation's
}
