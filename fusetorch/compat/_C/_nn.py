"""``torch._C._nn``: how arguments of ``to`` are read, for libraries that define a ``to`` of their own."""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch.nn.module import _parse_to as _read


def _parse_to(*args: Any, non_blocking: bool = False, copy: bool = False, memory_format: Any = None, **kwargs: Any) -> tuple:
    """``(device, dtype, non_blocking, memory_format)`` of the arguments of ``Tensor.to``; ``None`` for a device, dtype or format that is
    not given.

    Example:
        >>> import fusetorch as torch
        >>> torch._C._nn._parse_to("cpu", torch.float64)
        (device(type='cpu'), torch.float64, False, None)
    """
    device, dtype = _read(*args, **kwargs)
    blocking = next((a for a in args if isinstance(a, bool)), non_blocking)
    return None if device is None else torch.device(device), dtype, blocking, memory_format
