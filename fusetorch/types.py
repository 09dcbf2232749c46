"""``torch.types``: names for annotations."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .dtypes import dtype
from .formats import layout
from .runtime.device import device
from .shapes import Size
from .storage import TypedStorage, UntypedStorage
from .tensor import Tensor

__all__ = ["Number", "Device", "FileLike", "Storage", "Tensor"]

Number = int | float | bool
Device = device | str | int | None
FileLike = str | os.PathLike | Any
Storage = UntypedStorage | TypedStorage
_size = Size | list | tuple
_int, _float, _bool, _complex = int, float, bool, complex
_dtype, _device, _layout = dtype, device, layout
_TensorOrTensors = Tensor | Sequence[Tensor]
_TensorOrTensorsOrGradEdge = Any
