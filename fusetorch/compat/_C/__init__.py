"""``torch._C``: the few names of PyTorch's compiled module that public libraries look up when they are imported. There is no dispatcher:
keys are only names."""
from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

from fusetorch.ops.random import Generator
from fusetorch.overrides import DisableTorchFunctionSubclass
from fusetorch.overrides import disabled_torch_function_impl as _disabled_torch_function_impl
from fusetorch.runtime.device import device
from fusetorch.shapes import Size
from fusetorch.tensor import Tensor as TensorBase

from . import _functorch, _nn
from .archives import PyTorchFileReader

__all__ = ["DisableTorchFunctionSubclass", "DispatchKey", "DispatchKeySet", "Generator", "Graph", "PyTorchFileReader", "Size", "TensorBase",
           "Value", "_disabled_torch_function_impl", "_functorch", "_nn", "device"]

_TensorBase, _TensorMeta = TensorBase, type(TensorBase)

DispatchKey = enum.Enum("DispatchKey", ["Undefined", "CPU", "CUDA", "Meta", "AutogradCPU", "AutogradCUDA", "AutocastCPU", "AutocastCUDA",
                                        "AutocastXPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd"])


class DispatchKeySet:
    """A set of keys."""

    def __init__(self, *keys: DispatchKey) -> None:
        self._keys = frozenset(keys)

    def __or__(self, other: DispatchKeySet) -> DispatchKeySet:
        return DispatchKeySet(*(self._keys | other._keys))

    def has(self, key: DispatchKey) -> bool:
        """Whether a key is in the set."""
        return key in self._keys


class Graph:
    """A graph of PyTorch's TorchScript; here nothing is one."""


class Value:
    """A value in PyTorch's TorchScript; here nothing is one."""


@contextlib.contextmanager
def _ExcludeDispatchKeyGuard(keys: DispatchKeySet) -> Iterator[None]:  # noqa: N802
    """A block, in which autocast is off if ``keys`` has its keys."""
    import fusetorch as torch
    with contextlib.ExitStack() as stack:
        for kind, key in (("cpu", DispatchKey.AutocastCPU), ("cuda", DispatchKey.AutocastCUDA)):
            if keys.has(key):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _get_tracing_state() -> None:
    """None: TorchScript never traces."""


def _log_api_usage_once(event: str) -> None:
    """Does nothing: nothing is logged."""


def _are_functorch_transforms_active() -> bool:
    """False: transforms map over slices, and none is in force while their function runs."""
    return False


def _is_torch_function_mode_enabled() -> bool:
    """False: there are no modes."""
    return False


def _get_default_device() -> str:
    """The type of the default device."""
    import fusetorch as torch
    return torch.get_default_device().type
