"""Making batches of samples."""
from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import fusetorch as torch
from fusetorch.tensor import Tensor


def _rebuild_mapping(like: Mapping, entries: dict) -> Any:
    """A mapping of the class of ``like`` with new entries; a dict where the class cannot be built so."""
    try:
        if isinstance(like, MutableMapping):
            result = copy.copy(like)
            result.update(entries)
            return result
        return type(like)(entries)
    except TypeError:
        return entries


def _rebuild_sequence(like: Sequence, items: list) -> Any:
    """A sequence of the class of ``like`` with new items; a list where the class cannot be built so."""
    try:
        if isinstance(like, MutableSequence):
            result = copy.copy(like)
            for i, item in enumerate(items):
                result[i] = item
            return result
        return type(like)(items)
    except TypeError:
        return items


def _is_text(array: Any) -> bool:
    return array.dtype.kind in "SUO"


def default_collate(batch: Sequence[Any]) -> Any:
    """Joins samples of equal structure into one: tensors and arrays are stacked, numbers become a tensor.

    Python floats become float64, ints int64; strings stay a list; mappings, tuples and lists are joined member by member
    (a tuple becomes a list). ``TypeError`` for anything else, ``RuntimeError`` for sequences of unequal length.

    Example:
        >>> import fusetorch as torch
        >>> torch.utils.data.default_collate([(1, "a"), (2, "b")])
        [tensor([1, 2]), ('a', 'b')]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return torch.stack(list(batch), 0)
    if isinstance(first, (np.ndarray, np.generic)) and not isinstance(first, (np.str_, np.bytes_)):
        if _is_text(first):
            raise _cannot_batch(first.dtype)
        return torch.as_tensor(np.stack(batch))
    if isinstance(first, float):
        return torch.tensor(batch, dtype=torch.float64)
    if isinstance(first, int):
        return torch.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _rebuild_mapping(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(samples) for samples in zip(*batch)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        joined = [default_collate(samples) for samples in zip(*batch)]
        return joined if isinstance(first, tuple) else _rebuild_sequence(first, joined)
    raise _cannot_batch(type(first))


def _cannot_batch(what: Any) -> TypeError:
    return TypeError("default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
                     f"found {what}")


def default_convert(data: Any) -> Any:
    """Turns NumPy arrays and scalars anywhere in ``data`` into tensors; the rest stays as it is."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)) and not isinstance(data, (np.str_, np.bytes_)):
        return data if _is_text(data) else torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuild_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple):
        return [default_convert(item) for item in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuild_sequence(data, [default_convert(item) for item in data])
    return data
