"""``torch._utils``: helpers that programs import from inside PyTorch."""
from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import fusetorch as torch

from .tensor import Tensor
from .unpickling import _rebuild_old as _rebuild_tensor  # noqa: F401 - PyTorch's names
from .unpickling import _rebuild_parameter, rebuild_tensor  # noqa: F401

_rebuild_tensor_v2 = rebuild_tensor


def _flatten_dense_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """All elements of tensors of one dtype, in one dimension."""
    return torch.cat([t.reshape(-1) for t in tensors])


def _unflatten_dense_tensors(flat: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The parts of what :func:`_flatten_dense_tensors` gives, in the shapes of ``tensors``."""
    return tuple(part.view(t.shape) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors))


def _take_tensors(tensors: Sequence[Tensor], size_limit: int) -> Iterator[list[Tensor]]:
    """Groups of tensors of one type, each of at most ``size_limit`` bytes (or of one tensor)."""
    groups: dict[str, tuple[list[Tensor], int]] = {}
    for t in tensors:
        size = t.numel() * t.element_size()
        held, used = groups.get(t.type(), ([], 0))
        if held and used + size > size_limit:
            yield held
            held, used = [], 0
        groups[t.type()] = [*held, t], used + size
    for held, _ in groups.values():
        if held:
            yield held


def _reorder_tensors_as(tensors: Sequence[Tensor], ordered_tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """``tensors`` in an order in which their types are those of ``ordered_tensors``."""
    by_type: dict[str, list[Tensor]] = {}
    for t in tensors:
        by_type.setdefault(t.type(), []).append(t)
    rest = {kind: iter(found) for kind, found in by_type.items()}
    return tuple(next(rest[t.type()]) for t in ordered_tensors)


def _get_available_device_type() -> str | None:
    """``"cuda"`` if there is a GPU."""
    return "cuda" if torch.cuda.is_available() else None


def _get_all_device_indices() -> list[int]:
    """The numbers of all GPUs."""
    return list(range(torch.cuda.device_count()))


def _get_device_index(device: Any, optional: bool = False, allow_cpu: bool = False) -> int:
    """A device's number; -1 for the CPU where ``allow_cpu``; the current one for ``None`` where ``optional``."""
    if isinstance(device, int):
        return device
    if device is None:
        if not optional:
            raise ValueError("Expected a torch.device with a specified index or an integer, but got:None")
        return torch.cuda.current_device() if torch.cuda.is_available() else -1
    d = torch.device(device)
    if d.type == "cpu":
        if not allow_cpu:
            raise ValueError(f"Expected a non cpu device, but got: {d}")
        return -1
    if d.index is None:
        if not optional:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        return torch.cuda.current_device()
    return d.index


class KeyErrorMessage(str):
    """A message that a KeyError shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ExceptionWrapper:
    """An exception that another thread or process may raise again, with the text of where it came from."""

    def __init__(self, exc_info: Any = None, where: str = "in background") -> None:
        kind, value, at = sys.exc_info() if exc_info is None else exc_info
        self.exc_type, self.where = kind, where
        self.exc_msg = "".join(traceback.format_exception(kind, value, at))

    def reraise(self) -> None:
        """Raises it."""
        message = f"Caught {self.exc_type.__name__} {self.where}.\nOriginal {self.exc_msg}"
        if self.exc_type is KeyError:
            message = KeyErrorMessage(message)
        elif getattr(self.exc_type, "message", None):
            raise self.exc_type(message=message)
        try:
            error = self.exc_type(message)
        except TypeError:
            raise RuntimeError(message) from None
        raise error
