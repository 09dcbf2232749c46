"""Sequences of different lengths, as one tensor: padded, or packed one after another."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import fusetorch as torch
from fusetorch.tensor import Tensor

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
           "unpack_sequence", "unpad_sequence"]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """Sequences by time: the rows of step 0 of all of them, longest first, then those of step 1, and so on. Made by
    :func:`pack_padded_sequence` and :func:`pack_sequence`.

    ``data`` (sum of lengths, *); ``batch_sizes`` (longest length), on the CPU: how many sequences have that step; ``sorted_indices``:
    which sequence is where in the sorted batch, or None if it was sorted; ``unsorted_indices``: its inverse.
    """

    def __new__(cls, data: Any, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError(f"batch_sizes should always be on CPU, got {batch_sizes.device}; make packed sequences with pack_sequence "
                             "or pack_padded_sequence")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """As ``Tensor.to`` of the data; the indices follow to its device."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        move = [None if i is None else i.to(data.device) for i in self[2:]]
        return type(self)(data, self.batch_sizes, *move)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Moved to the GPU."""
        return self if self.is_cuda and not args and not kwargs else self.to(*(args or ("cuda",)), **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Moved to the CPU."""
        return self.to("cpu", *args, **kwargs)

    def double(self) -> PackedSequence:
        """With float64 data."""
        return self.to(dtype=torch.float64)

    def float(self) -> PackedSequence:
        """With float32 data."""
        return self.to(dtype=torch.float32)

    def half(self) -> PackedSequence:
        """With float16 data."""
        return self.to(dtype=torch.float16)

    def long(self) -> PackedSequence:
        """With int64 data."""
        return self.to(dtype=torch.int64)

    def int(self) -> PackedSequence:
        """With int32 data."""
        return self.to(dtype=torch.int32)

    def short(self) -> PackedSequence:
        """With int16 data."""
        return self.to(dtype=torch.int16)

    def char(self) -> PackedSequence:
        """With int8 data."""
        return self.to(dtype=torch.int8)

    def byte(self) -> PackedSequence:
        """With uint8 data."""
        return self.to(dtype=torch.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a GPU."""
        return self.data.is_cuda


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes ``permutation``."""
    if permutation is None:
        return None
    positions = torch.arange(permutation.numel(), device=permutation.device)
    return torch.empty_like(permutation).scatter_(0, permutation, positions)


def _batch_sizes(lengths: Sequence[int]) -> list[int]:
    """How many of the lengths, which do not increase, exceed 0, 1, ..."""
    sizes, n = [], len(lengths)
    for t in range(lengths[0]):
        while lengths[n - 1] <= t:
            n -= 1
        sizes.append(n)
    return sizes


def pack_padded_sequence(input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Packs a padded batch of sequences.

    Args:
        input: (T, N, *), or (N, T, *) with ``batch_first``.
        lengths: of the N sequences, each from 1 to T; on the CPU.
        enforce_sorted: they must not increase; without it the batch is sorted here.

    Raises ``RuntimeError`` for lengths that do not fit.

    Example:
        >>> import fusetorch as torch
        >>> packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor([[1, 4], [2, 0], [3, 0]]), [3, 1])
        >>> packed.data, packed.batch_sizes
        (tensor([1, 4, 2, 3]), tensor([2, 1, 1]))
    """
    if isinstance(lengths, Tensor) and lengths.device.type != "cpu":
        raise RuntimeError(f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.ndim}D {lengths.device} tensor")
    order = None
    numbers = [int(n) for n in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]
    if not enforce_sorted:
        order = sorted(range(len(numbers)), key=lambda k: -numbers[k])
        numbers = [numbers[k] for k in order]
    batch = input.transpose(0, 1) if batch_first else input
    if input.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if len(numbers) != batch.shape[1]:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(numbers)} (batch_size={batch.shape[1]})")
    if numbers[-1] <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if any(a < b for a, b in zip(numbers, numbers[1:])):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                           "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement.")
    if numbers[0] > batch.shape[0]:
        raise RuntimeError(f"Expected every length to be at most {batch.shape[0]}, the padded length, but got {numbers[0]}")
    indices = None if order is None else torch.tensor(order, device=input.device)
    if indices is not None:
        batch = batch.index_select(1, indices)
    sizes = _batch_sizes(numbers)
    data = torch.cat([batch[t, :n] for t, n in enumerate(sizes)])
    return PackedSequence(data, torch.tensor(sizes), indices, None)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`pack_padded_sequence`: (padded batch, lengths).

    ``total_length``: pad to this; ``ValueError`` if a sequence is longer.
    """
    sizes = sequence.batch_sizes.tolist()
    length = len(sizes)
    if total_length is not None:
        if total_length < length:
            raise ValueError(f"Expected total_length to be at least the length of the longest sequence in input, but got "
                             f"total_length={total_length} and max sequence length being {length}")
        length = total_length
    data, n = sequence.data, sizes[0]
    rest = tuple(data.shape[1:])
    # where each (step, sequence) is among the rows; the padding is a row behind them
    where, start = [], 0
    for size in sizes:
        where += [*range(start, start + size), *[data.shape[0]] * (n - size)]
        start += size
    where += [data.shape[0]] * (n * (length - len(sizes)))
    padding = torch.full((1, *rest), padding_value, dtype=data.dtype, device=data.device)
    padded = torch.cat([data, padding])[torch.tensor(where, device=data.device)].reshape(length, n, *rest)
    lengths = torch.tensor([sum(size > k for size in sizes) for k in range(n)])
    back = sequence.unsorted_indices
    if back is not None:
        padded, lengths = padded.index_select(1, back), lengths[back.cpu()]
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pad_sequence(sequences: Tensor | Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Stacks tensors (L, *) of different lengths, padded to the longest: (T, N, *), or (N, T, *) with ``batch_first``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.utils.rnn.pad_sequence([torch.tensor([1, 2]), torch.tensor([3])], batch_first=True)
        tensor([[1, 2],
                [3, 0]])
    """
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    elif not isinstance(sequences, (list, tuple)):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    first = sequences[0]
    length, rest = max(s.shape[0] for s in sequences), tuple(first.shape[1:])
    rows = []
    for s in sequences:
        if tuple(s.shape[1:]) != rest:
            raise RuntimeError(f"The size of tensor a {list(s.shape[1:])} must match the size of tensor b {list(rest)} in all dimensions "
                               "but the first: pad_sequence")
        if s.shape[0] < length:
            padding = torch.full((length - s.shape[0], *rest), padding_value, dtype=s.dtype, device=s.device)
            s = torch.cat([padding, s] if padding_side == "left" else [s, padding])
        rows.append(s)
    return torch.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, each with its own length."""
    batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [s[:n] for s, n in zip(batch.unbind(0), lengths.tolist())]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs tensors (L, *) of different lengths; see :func:`pack_padded_sequence`."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch, in their original order."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)
