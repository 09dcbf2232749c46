"""``torch.overrides``: subclasses of Tensor, and what they see of the calls made with them.

A class derived from Tensor gets its methods wrapped when it is defined, and the first such class also has the public functions ask: a
call with an instance goes to the class's ``__torch_function__(func, types, args, kwargs)``, which by default runs it and makes the results
instances of the class. Programs without such classes run none of this. Objects that are no tensors but have ``__torch_function__`` are
seen once a subclass of Tensor exists or :func:`enable` was called, as ``fusetorch run`` does for programs and modules with such classes.
"""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import fusetorch as torch

from .functional import _NAMES
from .ops.opdef import fn
from .tensor import Tensor

__all__ = ["BaseTorchFunctionMode", "DisableTorchFunctionSubclass", "TorchFunctionMode", "adopt", "disabled_torch_function_impl", "enable",
           "get_default_nowrap_functions", "handle_torch_function", "has_torch_function", "has_torch_function_unary",
           "has_torch_function_variadic", "is_tensor_like", "is_tensor_method_or_property", "look_for"]


class _State(threading.local):
    disabled = 0

    def __init__(self) -> None:
        self.modes: list[TorchFunctionMode] = []


_state = _State()
_enabled = [False]
#: Operators that PyTorch reports by the name of a method.
_METHODS = {"__add__": "add", "__radd__": "add", "__sub__": "sub", "__mul__": "mul", "__rmul__": "mul", "__truediv__": "div",
            "__pow__": "pow", "__matmul__": "matmul", "__eq__": "eq", "__ne__": "ne", "__lt__": "lt", "__le__": "le", "__gt__": "gt",
            "__ge__": "ge",
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
    return kind is Tensor or kind.__module__.startswith(("fusetorch.", "torch.")) and "__torch_function__" not in vars(kind)


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
        if _state.modes:
            return _by_mode(reported, (self, *args), kwargs)
        if _state.disabled or _plain(type(self)):  # a plain tensor comes here while modes are on
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
    """Makes the public functions look for arguments with a say of their own.

    A function stays the same object, so that tables made before, ``{torch.add: ...}``, go on finding it: its code is exchanged for a call
    of what asks first.
    """
    if _enabled[0]:
        return
    _enabled[0] = True
    functions = [getattr(fn, name) for name in _NAMES]
    functions += [f for f in vars(torch.nn.functional).values() if getattr(f, "op", None) is not None]
    for f in {id(f): f for f in functions if isinstance(f, FunctionType)}.values():
        _ask_first(f)


def _ask_first(f: FunctionType) -> None:
    plain = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    plain.__dict__.update(f.__dict__)
    plain.__kwdefaults__, plain.__annotations__ = f.__kwdefaults__, f.__annotations__

    dispatched, silent = f.__name__ not in _IGNORED, f.__name__ in _FROM_OBJECTS

    def asking(*args: Any, **kwargs: Any) -> Any:
        if _state.modes:
            return _by_mode(f, args, kwargs)
        if not _state.disabled and not silent:
            for a in args if not kwargs else (*args, *kwargs.values()):
                if type(a) not in _SILENT:
                    relevant = (*args, *kwargs.values())
                    found = _overloaded(relevant)
                    if found and (dispatched or not isinstance(found[0], Tensor)):
                        return handle_torch_function(f, relevant, *args, **kwargs)
                    break
        return plain(*args, **kwargs)

    code = _stub(f.__code__.co_freevars)
    f.__code__ = code.replace(co_name=f.__name__, co_consts=tuple(asking if c == "asking" else c for c in code.co_consts))
    f.__defaults__ = f.__kwdefaults__ = None
    f.__wrapped__ = plain  # whose signature it has


@functools.cache
def _stub(free: tuple[str, ...]) -> CodeType:
    """Code that calls the constant ``"asking"``, which stands for the function that asks. It has the free variables of the code that it
    takes the place of, and sets them up, so that debuggers may look at its frames."""
    names = ", ".join(free)
    space: dict[str, Any] = {}
    source = f"def make({names}):\n def stub(*_a, **_k):\n  return 'asking'.__call__(*_a, **_k)\n  return ({names})\n return stub\n"
    exec(compile(source, "<fusetorch functions>", "exec"), space)  # noqa: S102
    return space["make"](*free).__code__


# ---- modes


class TorchFunctionMode:
    """A block in which calls of public functions, methods and operators of tensors go to the mode's ``__torch_function__``, whatever their
    arguments are. In there the mode is off, and the modes around it are on. (Attributes such as ``x.shape`` are not calls here.)

    Example:
        >>> import fusetorch as torch
        >>> class Names(torch.overrides.TorchFunctionMode):
        ...     def __torch_function__(self, func, types, args=(), kwargs=None):
        ...         print(func.__name__)
        ...         return func(*args, **(kwargs or {}))
        >>> with Names():
        ...     x = torch.ones(2) + 1
        ones
        add
    """

    def __init__(self) -> None:
        pass

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __torch_function__")

    def __enter__(self) -> TorchFunctionMode:
        enable()
        _operators_ask(True)
        _state.modes.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _state.modes.remove(self)
        _operators_ask(bool(_state.modes))

    @classmethod
    def push(cls, *args: Any, **kwargs: Any) -> TorchFunctionMode:
        """``cls(*args, **kwargs)``, PyTorch's former way to make a mode."""
        return cls(*args, **kwargs)


class BaseTorchFunctionMode(TorchFunctionMode):
    """The mode that runs each call as it is."""

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        return func(*args, **(kwargs or {}))


def _by_mode(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A call seen by the innermost mode, with only those around it on."""
    outer, mode = _state.modes[:-1], _state.modes[-1]
    inside, _state.modes = _state.modes, outer
    try:
        result = mode.__torch_function__(func, tuple(map(type, _overloaded((*args, *kwargs.values())))), args, kwargs)
    finally:
        _state.modes = inside
    if result is NotImplemented:
        raise TypeError(f"{type(mode).__name__}.__torch_function__ does not implement {func.__name__}")
    return result


def _operators_ask(on: bool) -> None:
    """Operators of plain tensors do not call public functions; while modes are on, they do."""
    for name, (plain, wrapped) in _methods().items():
        if name.startswith("__") and getattr_static(Tensor, name) is (plain if on else wrapped):
            setattr(Tensor, name, wrapped if on else plain)


#: Functions that tensors have no say in: what makes tensors, and questions about them.
_IGNORED = frozenset(
    "arange as_tensor asarray bartlett_window blackman_window broadcast_shapes empty empty_permuted empty_strided eye fftfreq from_numpy "
    "frombuffer full hamming_window hann_window is_tensor kaiser_window linspace logspace normal ones rand randint randn randperm "
    "result_type rfftfreq scalar_tensor tensor tril_indices triu_indices vander zeros".split())
#: Of these, what takes any object: others take sizes and numbers, which may be stand-ins such as those of ``fx``.
_FROM_OBJECTS = frozenset("as_tensor asarray broadcast_shapes frombuffer from_numpy is_tensor result_type tensor".split())
#: Types of arguments that have no say.
_SILENT = frozenset({Tensor, int, float, bool, str, type(None), torch.dtype, torch.device, torch.Size})


def disabled_torch_function_impl(func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
    """The ``__torch_function__`` of subclasses whose calls are those of plain tensors: runs the call, whose results are plain."""
    with DisableTorchFunctionSubclass():
        return func(*args, **(kwargs or {}))


def look_for(modules: Iterable[ModuleType]) -> None:
    """:func:`enable`, if one of these modules (that are not ours) defines a class with ``__torch_function__``."""
    if not _enabled[0] and any(isinstance(v, type) and "__torch_function__" in v.__dict__ and v.__module__ == m.__name__
                               for m in modules if m.__name__.partition(".")[0] not in ("fusetorch", "torch")
                               for v in list(vars(m).values())):
        enable()
