"""``torch._tensor_str``: the parts of a tensor's ``repr``, for subclasses that print themselves."""
from __future__ import annotations

from fusetorch.printing import _OPTIONS, set_printoptions, tensor_repr, with_suffixes
from fusetorch.printing import elements as _elements
from fusetorch.tensor import Tensor

__all__ = ["PRINT_OPTS", "set_printoptions"]

_add_suffixes = with_suffixes


class _Options:
    """The settings of :func:`torch.set_printoptions`, as attributes."""

    def __getattr__(self, name: str) -> object:
        if name not in _OPTIONS:
            raise AttributeError(name)
        return _OPTIONS[name]


PRINT_OPTS = _Options()


def _tensor_str(self: Tensor, indent: int) -> str:
    """The elements in brackets."""
    return "[]" if self.numel() == 0 else _elements(self, indent)


def _str(self: Tensor, *, tensor_contents: str | None = None) -> str:
    """``repr(self)``."""
    return tensor_repr(self)
