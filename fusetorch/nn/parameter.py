"""Parameter and Buffer: the tensors that a module owns."""
from __future__ import annotations

from collections.abc import Iterable
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


def zero_grads(tensors: Iterable[Tensor], set_to_none: bool) -> None:
    """Drops the gradients of tensors, or fills them with zeros, cut off from how they were computed."""
    for t in tensors:
        grad = t.grad
        if grad is None:
            continue
        if set_to_none:
            t.grad = None
        else:
            grad.requires_grad_(False) if grad.grad_fn is None else grad.detach_()
            grad.zero_()


class UninitializedTensorMixin:
    """A tensor that has a dtype and a device, but no shape and no memory yet; :meth:`materialize` gives it both."""

    __slots__ = ()
    cls_to_become: type[Tensor]

    @property
    def _a(self) -> Any:
        # what every operation reads first
        raise ValueError("Attempted to use an uninitialized parameter. This error happens when you are using a `LazyModule` or explicitly "
                         f"manipulating `torch.nn.parameter.{type(self).__name__}` objects. When using LazyModules call `forward` with a "
                         "dummy batch to initialize the parameters before calling torch functions")

    @property
    def data(self) -> Tensor:
        """A tensor without elements that holds the dtype and the device."""
        placeholder = torch.empty(0)
        placeholder._a = _memory.__get__(self)
        return placeholder

    @data.setter
    def data(self, value: Tensor) -> None:
        _memory.__set__(self, value._a)

    @property
    def shape(self) -> Any:
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                           "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call `forward` to "
                           "initialize the parameters before accessing their attributes.")

    dtype = property(lambda self: self.data.dtype)
    device = property(lambda self: self.data.device)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Makes it a Parameter or tensor of ``shape``, with arbitrary values; dtype and device are its own unless given."""
        made = torch.empty(tuple(shape), device=device or self.device, dtype=dtype or self.dtype)
        _memory.__set__(self, made._a)
        self.__class__ = self.cls_to_become

    def detach(self) -> Tensor:
        return self

    def share_memory_(self) -> Tensor:
        raise RuntimeError("Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the parameters before "
                           "calling `module.share_memory()`.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return type(self), (self.requires_grad, self.device, self.dtype)


_memory = Tensor.__dict__["_a"]


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A :class:`Parameter` whose shape is not known yet.

    Example:
        >>> import fusetorch as torch
        >>> p = torch.nn.UninitializedParameter()
        >>> p
        <UninitializedParameter>
        >>> p.materialize((2, 3))
        >>> p.shape
        torch.Size([2, 3])
    """

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> UninitializedParameter:
        return _become(cls, torch.empty(0, device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """A buffer whose shape is not known yet."""

    __slots__ = ()
    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> UninitializedBuffer:
        buffer = _become(cls, torch.empty(0, device=device, dtype=dtype), requires_grad)
        buffer.persistent = persistent
        return buffer


def is_lazy(value: Any) -> bool:
    """Whether ``value`` is a parameter or buffer without a shape."""
    return isinstance(value, UninitializedTensorMixin)
