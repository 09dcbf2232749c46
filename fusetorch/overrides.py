"""``torch.overrides``: subclasses of Tensor, and what they see of the calls made with them.

A class derived from Tensor gets its methods wrapped when it is defined, and the first such class also has the public functions wrapped: a
call with an instance goes to the class's ``__torch_function__(func, types, args, kwargs)``, which by default runs it and makes the results
instances of the class. Programs without such classes run none of this. Objects that are no tensors but have ``__torch_function__`` are
seen by functions (not by methods and operators of plain tensors) once a subclass of Tensor exists or :func:`enable` was called.
"""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import fusetorch as torch

from .tensor import Tensor

__all__ = ["has_torch_function", "has_torch_function_unary", "has_torch_function_variadic", "handle_torch_function", "is_tensor_like",
           "is_tensor_method_or_property", "get_default_nowrap_functions", "DisableTorchFunctionSubclass", "enable", "adopt"]


class _State(threading.local):
    disabled = 0


_state = _State()
_enabled = [False]
#: Operators that PyTorch reports by the name of a method.
_METHODS = {"__add__": "add", "__radd__": "add", "__sub__": "sub", "__mul__": "mul", "__rmul__": "mul", "__truediv__": "div",
            "__pow__": "pow", "__eq__": "eq", "__ne__": "ne", "__lt__": "lt", "__le__": "le", "__gt__": "gt", "__ge__": "ge",
            "__neg__": "neg", "__abs__": "abs", "__iadd__": "add_", "__isub__": "sub_", "__imul__": "mul_", "__itruediv__": "div_"}
_KEPT = {"__new__", "__init__", "__init_subclass__", "__torch_function__", "__class__", "__getattribute__", "__setattr__", "__delattr__",
         "__subclasshook__", "__reduce__", "__reduce_ex__", "__sizeof__", "__dir__", "__hash__", "__setstate__", "__copy__",
         "__deepcopy__", "__repr__", "__str__", "__format__", "__len__", "__bool__", "__int__", "__float__", "__index__", "__complex__",
         "__array__", "__contains__", "as_subclass", "_make_subclass", "dim", "size", "stride", "numel", "nelement", "is_contiguous",
         "element_size", "is_floating_point", "is_complex", "data_ptr", "storage_offset", "untyped_storage", "storage", "item", "tolist",
         "numpy", "backward", "requires_grad_", "retain_grad", "register_hook", "__array_wrap__", "__dlpack__", "__dlpack_device__"}
_PROPERTIES = ("T", "mT", "H", "mH", "data", "real", "imag")


class DisableTorchFunctionSubclass:
    """Inside, subclasses of Tensor are plain tensors to functions and methods."""

    def __enter__(self) -> None:
        _state.disabled += 1

    def __exit__(self, *exc: object) -> None:
        _state.disabled -= 1


def _plain(kind: type) -> bool:
    return kind is Tensor or kind.__module__.startswith("fusetorch.") and "__torch_function__" not in vars(kind)


def _overloaded(args: Iterable[Any]) -> list[Any]:
    """The arguments, one for each class that has a say, subclasses before their bases."""
    found: list[Any] = []
    kinds: set[type] = set()
    for a in args:
        if isinstance(a, (list, tuple)):
            for b in _overloaded(a):
                if type(b) not in kinds:
                    kinds.add(type(b))
                    found.append(b)
            continue
        kind = type(a)
        if kind not in kinds and (isinstance(a, Tensor) and not _plain(kind) or (not isinstance(a, (Tensor, type)) and hasattr(
                kind, "__torch_function__"))):
            kinds.add(kind)
            place = next((i for i, b in enumerate(found) if issubclass(kind, type(b))), len(found))
            found.insert(place, a)
    return found


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether one of the arguments' classes has a say in a call."""
    return not _state.disabled and bool(_overloaded(relevant_args))


def has_torch_function_unary(obj: Any) -> bool:
    """:func:`has_torch_function` of one argument."""
    return has_torch_function((obj,))


def has_torch_function_variadic(*args: Any) -> bool:
    """:func:`has_torch_function` of several arguments."""
    return has_torch_function(args)


def handle_torch_function(public_api: Callable, relevant_args: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    """Asks the classes of ``relevant_args`` in turn to do a call; ``TypeError`` if none does."""
    found = _overloaded(relevant_args)
    types = tuple(map(type, found))
    for a in found:
        result = type(a).__torch_function__(public_api, types, args, kwargs)
        if result is not NotImplemented:
            return result
    raise TypeError(f"no implementation found for '{getattr(public_api, '__module__', '')}.{public_api.__name__}' on types that implement "
                    f"__torch_function__: {[t.__name__ for t in types]}")


def is_tensor_like(inp: Any) -> bool:
    """Whether ``inp`` is a tensor or has ``__torch_function__``."""
    return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")


def is_tensor_method_or_property(func: Callable) -> bool:
    """Whether ``func`` is a method of Tensor (and not a function of the same name)."""
    return getattr(Tensor, getattr(func, "__name__", ""), None) is func or getattr(func, "__name__", "") == "__get__"


def get_default_nowrap_functions() -> set[Callable]:
    """Functions whose results stay as they are by default: attributes that say something about a tensor."""
    return {Tensor._base.__get__, Tensor.grad.__get__}


def run_default(cls: type, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
    """What Tensor's subclasses do unless they say otherwise: run the call, and make its tensors instances of the class."""
    if not all(issubclass(cls, t) for t in types):
        return NotImplemented
    with DisableTorchFunctionSubclass():
        result = func(*args, **(kwargs or {}))
        return result if func in get_default_nowrap_functions() else _converted(result, cls)


def _converted(result: Any, cls: type) -> Any:
    if cls is Tensor:
        return result
    if isinstance(result, Tensor):
        return result if isinstance(result, cls) else Tensor.as_subclass(result, cls)
    if isinstance(result, (tuple, list)):
        made = [_converted(r, cls) for r in result]
        return type(result)(*made) if hasattr(result, "_fields") else type(result)(made)
    return result


# ---- wrapping


def _method(f: Callable, reported: Callable) -> Callable:
    @functools.wraps(f)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if _state.disabled:
            return f(self, *args, **kwargs)
        return handle_torch_function(reported, (self, *args, *kwargs.values()), self, *args, **kwargs)
    return method


def _property(p: property) -> property:
    def get(self: Tensor) -> Any:
        if _state.disabled:
            return p.__get__(self)
        return handle_torch_function(p.__get__, (self,), self)
    return property(get, p.fset, p.fdel, p.__doc__)


@functools.cache
def _methods() -> dict[str, tuple[Any, Any]]:
    """Name: what Tensor has, and its wrapped form. Made once, with the first subclass."""
    out: dict[str, tuple[Any, Any]] = {}
    for name in list(vars(Tensor)):
        getattr(Tensor, name)  # derived when first asked for
    for name, f in vars(Tensor).items():
        if name in _PROPERTIES and isinstance(f, property):
            out[name] = f, _property(f)
        elif name not in _KEPT and callable(f) and not isinstance(f, type):
            out[name] = f, _method(f, vars(Tensor).get(_METHODS.get(name, ""), f))
    return out


def adopt(cls: type) -> None:
    """Wraps what a new subclass inherits from Tensor."""
    enable()
    for name, (plain, wrapped) in _methods().items():
        if getattr_static(cls, name) is plain:
            setattr(cls, name, wrapped)


def getattr_static(cls: type, name: str) -> Any:
    """An attribute of a class as it stands in the class that defines it."""
    for c in cls.__mro__:
        if name in c.__dict__:
            return c.__dict__[name]
    return None


def enable() -> None:
    """Makes the public functions look for arguments with a say of their own."""
    if _enabled[0]:
        return
    _enabled[0] = True
    wrapped: dict[int, Callable] = {}
    for name in torch._FUNCTIONS:
        getattr(torch, name)  # derived when first asked for
    for module in (torch, torch.nn.functional, torch.linalg, torch.special, torch.fft):
        for name, f in list(vars(module).items()):
            if getattr(f, "op", None) is not None and callable(f):
                if id(f) not in wrapped:
                    wrapped[id(f)] = _function(f)
                setattr(module, name, wrapped[id(f)])


def _function(f: Callable) -> Callable:
    @functools.wraps(f)
    def public(*args: Any, **kwargs: Any) -> Any:
        if not _state.disabled:
            relevant = (*args, *kwargs.values()) if kwargs else args
            if _overloaded(relevant):
                return handle_torch_function(public, relevant, *args, **kwargs)
        return f(*args, **kwargs)
    return public

