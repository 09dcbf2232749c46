"""``torch.func``: modules as functions of their parameters, and the transforms of :mod:`fusetorch.transforms`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fusetorch as torch
from fusetorch import transforms
from fusetorch.nn.module import Module
from fusetorch.nn.utils import stateless
from fusetorch.tensor import Tensor
from fusetorch.transforms import *  # noqa: F403 - its __all__

__all__ = ["functional_call", "stack_module_state", *transforms.__all__]


def functional_call(module: Module, parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]], args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True, strict: bool = False) -> Any:
    """Calls ``module`` with the given tensors in place of its parameters and buffers of these names; gradients flow to them.

    Args:
        parameter_and_buffer_dicts: tensors by dotted name, in one dict or several.
        args: a tuple of arguments, or the only one.
        tie_weights: a tensor that the module keeps under several names is replaced under all of them.
        strict: every parameter and buffer must be given.

    Raises:
        RuntimeError: a name that the module does not have, or with ``strict`` one that is not given.
        ValueError: a name that is given twice.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.func import functional_call
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> functional_call(layer, {"weight": torch.tensor([[1.0, 2.0]])}, torch.tensor([3.0, 4.0]))
        tensor([11.])
    """
    if isinstance(parameter_and_buffer_dicts, Mapping):
        tensors = dict(parameter_and_buffer_dicts)
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        tensors = {}
        for d in parameter_and_buffer_dicts:
            if not isinstance(d, Mapping):
                raise ValueError(f"Expected all elements of parameter_and_buffer_dicts to be dictionaries, got {type(d).__name__}")
            if twice := tensors.keys() & d.keys():
                raise ValueError(f"{sorted(twice)} appeared in multiple dictionaries; behavior of functional call is ambiguous")
            tensors.update(d)
    else:
        raise ValueError("Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
                         f"{type(parameter_and_buffer_dicts)}")
    return stateless.functional_call(module, tensors, args, kwargs, tie_weights=tie_weights, strict=strict)


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of several modules of one class, stacked along a new first dimension, by name."""
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")

    def stacked(tables: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([t[name] for t in tables]).detach().requires_grad_(tables[0][name].requires_grad) for name in tables[0]}

    return stacked([dict(m.named_parameters()) for m in models]), stacked([dict(m.named_buffers()) for m in models])
