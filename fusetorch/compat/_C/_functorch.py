"""``torch._C._functorch``: questions about the tensors that PyTorch's transforms wrap. Transforms here map over slices and wrap nothing."""
from __future__ import annotations

from typing import Any

__all__ = ["get_unwrapped", "is_batchedtensor", "is_functorch_wrapped_tensor", "is_gradtrackingtensor", "is_legacy_batchedtensor",
           "maybe_get_bdim", "maybe_get_level"]


def is_batchedtensor(tensor: Any) -> bool:
    """False."""
    return False


is_gradtrackingtensor = is_legacy_batchedtensor = is_functorch_wrapped_tensor = is_batchedtensor


def get_unwrapped(tensor: Any) -> Any:
    """Raises ``RuntimeError``, as PyTorch does for what is not wrapped."""
    raise RuntimeError("No wrappers present!")


def maybe_get_level(tensor: Any) -> int:
    """-1: no transform's level."""
    return -1


def maybe_get_bdim(tensor: Any) -> int:
    """-1: no batch dimension."""
    return -1
