"""Parameter and Buffer: the tensors that a module owns."""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor


def _rebuild(cls: type, data: Tensor, options: dict[str, Any]) -> Tensor:
    return cls(data, **options)


def _become(cls: type, data: Tensor | None, requires_grad: bool) -> Any:
    """A tensor of a subclass that adds no storage, over the memory of ``data``."""
    t = torch.empty(0) if data is None else data.detach()
    t.__class__ = cls
    return t.requires_grad_(requires_grad)


class Parameter(Tensor):
    """A tensor that a :class:`~fusetorch.nn.Module` lists among its parameters when it is assigned as an attribute.

    Shares the memory of ``data`` (any shape; a floating dtype if ``requires_grad``). Results of operations on it are
    plain tensors.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.Parameter(torch.zeros(2))
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        return _become(cls, data, requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild, (type(self), self.detach(), {"requires_grad": self.requires_grad})


class Buffer(Tensor):
    """A tensor that a :class:`~fusetorch.nn.Module` lists among its buffers when it is assigned as an attribute.

    It is state that is not trained; with ``persistent=False`` it is left out of ``state_dict``.

    Example:
        >>> import fusetorch as torch
        >>> m = torch.nn.Module()
        >>> m.mask = torch.nn.Buffer(torch.ones(2), persistent=False)
        >>> [name for name, _ in m.named_buffers()], list(m.state_dict())
        (['mask'], [])
    """

    __slots__ = ()
    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        buffer = _become(cls, data, data is not None and data.requires_grad)
        buffer.persistent = persistent
        return buffer

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), persistent=self.persistent)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild, (type(self), self.detach(), {"persistent": self.persistent})
