"""``torch.distributed.nn.functional``: collectives that are differentiated. Over one process each gives back what it gets."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusetorch.distributed import ReduceOp, _group, _one, _rank
from fusetorch.tensor import Tensor

__all__ = ["all_gather", "all_reduce", "all_to_all", "all_to_all_single", "broadcast", "gather", "reduce", "reduce_scatter", "scatter"]


def all_reduce(tensor: Tensor, op: Any = ReduceOp.SUM, group: Any = None) -> Tensor:
    """The sum (or ``op``) over all processes."""
    _group(group)
    return tensor.clone()


def reduce(tensor: Tensor, dst: int, op: Any = ReduceOp.SUM, group: Any = None) -> Tensor:
    """:func:`all_reduce` for one process."""
    _rank(dst, group)
    return tensor.clone()


def broadcast(tensor: Tensor, src: int, group: Any = None) -> Tensor:
    """The tensor of process ``src``."""
    _rank(src, group)
    return tensor.clone()


def all_gather(tensor: Tensor, group: Any = None) -> tuple[Tensor, ...]:
    """The tensors of all processes."""
    _group(group)
    return (tensor.clone(),)


def gather(tensor: Tensor, dst: int = 0, group: Any = None) -> tuple[Tensor, ...]:
    """:func:`all_gather` for one process."""
    _rank(dst, group)
    return (tensor.clone(),)


def scatter(tensors: Sequence[Tensor], src: int = 0, group: Any = None) -> Tensor:
    """One of a list's tensors for each process."""
    _rank(src, group)
    return _one(tensors, "tensors").clone()


def reduce_scatter(output: Tensor, input_list: Sequence[Tensor], op: Any = ReduceOp.SUM, group: Any = None) -> Tensor:
    """Lists reduced over all processes, one element for each."""
    _group(group)
    return _one(input_list, "input_list").clone()


def all_to_all(output_tensor_list: Sequence[Tensor], input_tensor_list: Sequence[Tensor], group: Any = None) -> tuple[Tensor, ...]:
    """A tensor for each process, and one from each."""
    _group(group)
    return tuple(t.clone() for t in input_tensor_list)


def all_to_all_single(output: Tensor, input: Tensor, output_split_sizes: Any = None, input_split_sizes: Any = None,
                      group: Any = None) -> Tensor:
    """A part of a tensor for each process, and one from each."""
    _group(group)
    return input.clone()
