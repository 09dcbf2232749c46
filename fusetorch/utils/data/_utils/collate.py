"""``torch.utils.data._utils.collate``: joining samples, with functions of one's own for some classes."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusetorch.tensor import Tensor
from fusetorch.utils.data.collate import default_collate, default_convert

__all__ = ["collate", "default_collate", "default_collate_err_msg_format", "default_collate_fn_map", "default_convert"]

default_collate_err_msg_format = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


def _plain(batch: Sequence[Any], *, collate_fn_map: dict | None = None) -> Any:
    return default_collate(batch)


def collate_tensor_fn(batch: Sequence[Tensor], *, collate_fn_map: dict | None = None) -> Tensor:
    """Stacks tensors."""
    return default_collate(batch)


#: Class (or tuple of classes) of samples: ``f(batch, *, collate_fn_map)``, which joins them.
default_collate_fn_map: dict[Any, Callable] = {Tensor: collate_tensor_fn, float: _plain, int: _plain, str: _plain, bytes: _plain}


def collate(batch: Sequence[Any], *, collate_fn_map: dict[Any, Callable] | None = None) -> Any:
    """Joins samples as :func:`default_collate` does, but those of a class in ``collate_fn_map`` by its function.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.utils.data._utils.collate import collate, default_collate_fn_map
        >>> collate([("a", 1), ("b", 2)], collate_fn_map={**default_collate_fn_map, str: lambda b, collate_fn_map: "".join(b)})
        ['ab', tensor([1, 2])]
    """
    first = batch[0]
    for kinds, function in (collate_fn_map or {}).items():
        if type(first) is kinds:
            return function(batch, collate_fn_map=collate_fn_map)
    for kinds, function in (collate_fn_map or {}).items():
        if isinstance(first, kinds):
            return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        made = {k: collate([sample[k] for sample in batch], collate_fn_map=collate_fn_map) for k in first}
        return made if type(first) is dict else type(first)(made)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)))
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)]
    return default_collate(batch)
