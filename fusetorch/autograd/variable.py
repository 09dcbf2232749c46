"""``torch.autograd.Variable``: PyTorch's old name for tensors."""
from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import engine

__all__ = ["Variable"]


class _Engine:
    """What programs use of PyTorch's engine object."""

    @staticmethod
    def queue_callback(callback: Any) -> None:
        """Calls ``callback()`` when the backward pass that runs now is done."""
        if not engine.callbacks:
            raise RuntimeError("Final callbacks can only be installed during backward pass.")
        engine.callbacks[-1].append(callback)


class _VariableMeta(type):
    def __instancecheck__(cls, other: Any) -> bool:
        return isinstance(other, Tensor)


class Variable(metaclass=_VariableMeta):
    """``Variable(tensor)`` is the tensor, with ``requires_grad`` as given."""

    _execution_engine = _Engine()

    def __new__(cls, data: Any = None, requires_grad: bool = False, volatile: bool = False) -> Any:
        if data is None:
            from ..ops.opdef import fn
            data = fn.empty(0)
        return data.detach().requires_grad_(requires_grad)
