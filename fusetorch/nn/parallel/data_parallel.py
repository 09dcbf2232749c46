"""A module on several devices, of which fusetorch uses one."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusetorch.nn.module import Module

__all__ = ["DataParallel", "data_parallel"]


class DataParallel(Module):
    """A module around another one, whose calls run on one device. Names in its ``state_dict`` start with ``module.``, as in PyTorch.

    Example:
        >>> import fusetorch as torch
        >>> list(torch.nn.DataParallel(torch.nn.Linear(2, 1)).state_dict())
        ['module.weight', 'module.bias']
    """

    def __init__(self, module: Module, device_ids: Sequence[Any] | None = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise NotImplementedError(f"DataParallel over {len(device_ids)} devices is not supported; give one in device_ids")
        self.module = module
        self.device_ids = [] if device_ids is None else list(device_ids)
        self.output_device = output_device
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(module: Module, inputs: Any, device_ids: Sequence[Any] | None = None, output_device: Any = None, dim: int = 0,
                  module_kwargs: dict | None = None) -> Any:
    """``module(*inputs)``. Raises ``NotImplementedError`` for several devices."""
    return DataParallel(module, device_ids, output_device, dim)(*(inputs if isinstance(inputs, tuple) else (inputs,)),
                                                                **(module_kwargs or {}))
