"""Making a module whose starting values will not be used."""
from __future__ import annotations

import inspect
from typing import Any

from fusetorch.nn.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """A ``module_cls(*args, **kwargs)`` whose parameters hold any values: it is made on the ``meta`` device, where nothing is drawn.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.utils.skip_init(torch.nn.Linear, 5, 1)
        Linear(in_features=5, out_features=1, bias=True)
    """
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    device = kwargs.pop("device", "cpu")
    return module_cls(*args, **kwargs, device="meta").to_empty(device=device)
