"""Tensors cut into parts for several devices, and put together again."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor

__all__ = ["gather", "scatter", "scatter_kwargs"]


def scatter(inputs: Any, target_gpus: Sequence[Any], dim: int = 0) -> list[Any]:
    """One copy of ``inputs`` for each device: tensors are cut along ``dim`` into about equal parts, which are moved there; tuples, lists
    and dicts are gone into; what else there is, is shared. (A tensor too small for all of them gives fewer.)"""
    if isinstance(inputs, Tensor):
        return [part.to(torch.device(d)) for part, d in zip(inputs.chunk(len(target_gpus), dim), target_gpus)]
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return [type(inputs)(*parts) for parts in zip(*(scatter(x, target_gpus, dim) for x in inputs))]
    if isinstance(inputs, (tuple, list)) and inputs:
        kind = type(inputs)
        return [parts if kind is tuple else kind(parts) for parts in zip(*(scatter(x, target_gpus, dim) for x in inputs))]
    if isinstance(inputs, dict) and inputs:
        return [type(inputs)(zip(inputs, parts)) for parts in zip(*(scatter(x, target_gpus, dim) for x in inputs.values()))]
    return [inputs] * len(target_gpus)


def scatter_kwargs(inputs: tuple, kwargs: dict | None, target_gpus: Sequence[Any], dim: int = 0) -> tuple[tuple, tuple]:
    """:func:`scatter` of positional and of keyword arguments: as many tuples as dicts."""
    positional = scatter(inputs, target_gpus, dim) if inputs else []
    named = scatter(kwargs, target_gpus, dim) if kwargs else []
    n = max(len(positional), len(named))
    return tuple(positional + [()] * (n - len(positional))), tuple(named + [{} for _ in range(n - len(named))])


def gather(outputs: Any, target_device: Any, dim: int = 0) -> Any:
    """What :func:`scatter` cut, put together along ``dim`` on one device ("cpu" or -1 for the CPU). 0-d tensors become a vector."""
    first = outputs[0]
    if isinstance(first, Tensor):
        device = torch.device("cpu" if target_device == -1 else target_device)
        return torch.cat([(o if o.dim() else o.reshape(1)).to(device) for o in outputs], dim)
    if first is None:
        return None
    if isinstance(first, dict):
        if not all(len(o) == len(first) for o in outputs):
            raise ValueError("All dicts must have the same number of keys")
        return type(first)((k, gather([o[k] for o in outputs], target_device, dim)) for k in first)
    parts = (gather(list(o), target_device, dim) for o in zip(*outputs))
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
