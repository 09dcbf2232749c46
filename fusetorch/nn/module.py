"""Module: a callable that owns parameters, buffers and other modules."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fusetorch as torch
from fusetorch.dtypes import PYTHON_TYPES
from fusetorch.nn import calls
from fusetorch.nn.calls import (  # noqa: F401 - PyTorch has them here
    Calls,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from fusetorch.nn.parameter import Buffer, Parameter, zero_grads
from fusetorch.nn.state_dict import (
    StateDict,
    _IncompatibleKeys,  # noqa: F401 - PyTorch has it here
)
from fusetorch.tensor import Tensor, structure_changed

M = TypeVar("M", bound="Module")

#: table in which a module keeps members of a kind: what the member is called, what may be assigned to it
_TABLES = {"_parameters": ("parameter", "torch.nn.Parameter or None"),
           "_modules": ("child module", "torch.nn.Module or None"),
           "_buffers": ("buffer", "torch.nn.Buffer, torch.Tensor or None")}
_HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs",
          "_forward_hooks_always_called", "_backward_pre_hooks", "_backward_hooks", "_state_dict_pre_hooks", "_state_dict_hooks",
          "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


def _typename(value: Any) -> str:
    if isinstance(value, Tensor):
        return value.type()
    cls = value if isinstance(value, type) else type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


class Module(Calls, StateDict):
    """The base of all layers and models, with the names and semantics of ``torch.nn.Module``.

    Assigning a :class:`Parameter`, :class:`Buffer` or another Module to an attribute registers it, so that
    ``parameters()``, ``to()``, ``state_dict()`` and the like reach it. Subclasses call ``super().__init__()`` first
    and define ``forward``.

    Example:
        >>> import fusetorch as torch
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = torch.nn.Parameter(torch.ones(1))
        ...     def forward(self, x):
        ...         return x * self.factor
        >>> [name for name, _ in Scale().named_parameters()]
        ['factor']
    """

    training: bool
    call_super_init = False
    dump_patches = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            given = f"got an unexpected keyword argument '{next(iter(kwargs))}'" if kwargs else (
                f"takes 1 positional argument but {len(args) + 1} were given")
            raise TypeError(f"{type(self).__name__}.__init__() {given}")
        self.__dict__.update(training=True, _is_full_backward_hook=None, _parameters={}, _buffers={}, _non_persistent_buffers_set=set(),
                             _modules={})
        for table in _HOOKS:
            self.__dict__[table] = OrderedDict()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles this module's calls in place; the arguments are those of ``fusetorch.compile``."""
        self._compiled_call_impl = torch.compile(self._call_impl, *args, **kwargs)

    # ---------------------------------------------------------------------------------------------- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            self._ready("parameters")
            self._forget(name, except_for="_parameters")
            self.register_parameter(name, value)
        elif name in own.get("_parameters", ()):
            if value is not None:
                raise _cannot_assign(name, value, "_parameters")
            self.register_parameter(name, None)
        elif isinstance(value, Module):
            self._ready("module")
            self._forget(name, except_for="_modules")
            own["_modules"][name] = calls.registered(calls.MODULES, self, name, value) if calls.MODULES else value
            structure_changed()
        elif name in own.get("_modules", ()):
            if value is not None:
                raise _cannot_assign(name, value, "_modules")
            own["_modules"][name] = None
            structure_changed()
        elif isinstance(value, Buffer):
            self._ready("buffer")
            self._forget(name, except_for="_buffers")
            self.register_buffer(name, value, value.persistent)
        elif name in own.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise _cannot_assign(name, value, "_buffers")
            own["_buffers"][name] = value
            structure_changed()
        else:
            if name == "training" and own.get("training") is not value:
                structure_changed()
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # called only where ordinary lookup failed
        own = self.__dict__
        for table in _TABLES:
            members = own.get(table)
            if members is not None and name in members:
                return members[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        if any(name in self.__dict__.get(table, ()) for table in _TABLES):
            self._forget(name)
            structure_changed()
        else:
            super().__delattr__(name)

    def __dir__(self) -> list[str]:
        names = {*super().__dir__(), *self._parameters, *self._modules, *self._buffers}
        return sorted(name for name in names if not name[:1].isdigit())

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_compiled_call_impl"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(_is_full_backward_hook=None, _non_persistent_buffers_set=set())
        for table in _HOOKS:  # what was saved may not have them all
            self.__dict__.setdefault(table, OrderedDict())
        self.__dict__.update(state)

    def _ready(self, kind: str) -> None:
        if "_modules" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")

    def _forget(self, name: str, except_for: str = "") -> None:
        self.__dict__.pop(name, None)
        for table in _TABLES:
            if table != except_for:
                self.__dict__[table].pop(name, None)
        if except_for != "_buffers":
            self._non_persistent_buffers_set.discard(name)

    def _check_name(self, kind: str, name: str, table: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in self.__dict__[table] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter that can be read as an attribute; ``None`` reserves the name."""
        self._ready("parameter")
        self._check_name("parameter", name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{_typename(param)}' object to parameter '{name}' "
                            "(torch.nn.Parameter or None required)")
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To "
                             f"express '{name}' as a function of another Tensor, compute the value in the forward() method.")
        self._parameters[name] = calls.registered(calls.PARAMETERS, self, name, param) if calls.PARAMETERS else param
        structure_changed()

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a buffer: state that is not trained, saved in ``state_dict`` unless ``persistent`` is False."""
        self._ready("buffer")
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{_typename(tensor)}' object to buffer '{name}' "
                            "(torch Tensor or None required)")
        self._buffers[name] = calls.registered(calls.BUFFERS, self, name, tensor) if calls.BUFFERS else tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)
        structure_changed()

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module that can be read as an attribute."""
        self._ready("module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        self._check_name("module", name, "_modules")
        self._modules[name] = calls.registered(calls.MODULES, self, name, module) if calls.MODULES else module
        structure_changed()

    def register_module(self, name: str, module: Module | None) -> None:
        """Alias of :meth:`add_module`."""
        self.add_module(name, module)

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path such as ``"encoder.0"``; ``AttributeError`` if there is none."""
        module: Module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Puts ``module`` at a dotted path, replacing what is there; with ``strict`` something must be there."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _get_member(self, target: str, table: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module.__dict__[table]:
            raise AttributeError(f"`{name}` is not {kind}")
        return module.__dict__[table][name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path; ``AttributeError`` if there is none."""
        return self._get_member(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path; ``AttributeError`` if there is none."""
        return self._get_member(target, "_buffers", "a buffer")

    # ----------------------------------------------------------------------------------------------- iteration

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; each once unless ``remove_duplicate`` is False."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct children with their names."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, get_members_fn: Callable, prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """``get_members_fn(module)``, pairs of a name and a member, of all modules, with dotted names."""
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, member in get_members_fn(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield path + ("." if path else "") + name, member

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names; a shared one once unless ``remove_duplicate`` is False."""
        return self._named_members(lambda m: m.__dict__["_parameters"].items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once; with ``recurse=False`` only this module's own."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names."""
        return self._named_members(lambda m: m.__dict__["_buffers"].items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # ------------------------------------------------------------------------------------------------- changes

    def apply(self: M, fn: Callable[[Module], None]) -> M:
        """Calls ``fn`` on every module below this one, then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self: M, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> M:
        if recurse:
            for module in self.children():
                module._apply(fn)
        with torch.no_grad():
            for parameter in self._parameters.values():
                if parameter is None:
                    continue
                # in place, so that optimizers that hold the parameter keep the right object
                grad = parameter.grad
                parameter.data = fn(parameter.data)
                if grad is not None:
                    parameter.grad = fn(grad)
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    self._buffers[name] = fn(buffer)
        structure_changed()
        return self

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Moves parameters and buffers in place: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``,
        ``to(memory_format=torch.channels_last)``.

        Only floating and complex tensors change dtype, only 4-D and 5-D ones the order of their memory. ``TypeError`` if the dtype
        is neither floating nor complex.
        """
        memory_format = kwargs.pop("memory_format", None)
        device, dtype = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t: Tensor) -> Tensor:
            if t.is_meta and device is not None and torch.device(device).type != "meta":
                raise NotImplementedError("Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of "
                                          "torch.nn.Module.to() when moving module from meta to a different device.")
            moved = t.to(device=t.device if device is None else device,
                         dtype=dtype if dtype is not None and (t.is_floating_point() or t.is_complex()) else t.dtype)
            return moved if memory_format is None or t.dim() not in (4, 5) else moved.contiguous(memory_format=memory_format)

        return self._apply(convert)

    def type(self: M, dst_type: Any) -> M:
        """Casts all parameters and buffers to ``dst_type``."""
        return self._apply(lambda t: t.to(dst_type))

    def _to_floating(self: M, dtype: Any) -> M:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self: M) -> M:
        """Casts floating parameters and buffers to float32."""
        return self._to_floating(torch.float32)

    def double(self: M) -> M:
        """Casts floating parameters and buffers to float64."""
        return self._to_floating(torch.float64)

    def half(self: M) -> M:
        """Casts floating parameters and buffers to float16."""
        return self._to_floating(torch.float16)

    def bfloat16(self: M) -> M:
        """Casts floating parameters and buffers to bfloat16."""
        return self._to_floating(torch.bfloat16)

    def cuda(self: M, device: Any = None) -> M:
        """Moves parameters and buffers to the GPU."""
        return self.to("cuda" if device is None else torch.device("cuda", device) if isinstance(device, int) else device)

    def cpu(self: M) -> M:
        """Moves parameters and buffers to the CPU."""
        return self.to("cpu")

    def to_empty(self: M, *, device: Any, recurse: bool = True) -> M:
        """Moves parameters and buffers to ``device`` without their values."""
        return self._apply(lambda t: torch.empty_like(t, device=device), recurse=recurse)

    def share_memory(self: M) -> M:
        """Moves parameters and buffers to memory that processes share."""
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.share_memory_()
        return self

    def train(self: M, mode: bool = True) -> M:
        """Sets training mode here and below (dropout and the like act on it)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: M) -> M:
        """Sets evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Sets ``requires_grad`` of all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters, or zeroes them if ``set_to_none`` is False."""
        zero_grads(self.parameters(), set_to_none)

    # -------------------------------------------------------------------------------------------------- display

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What ``repr`` shows in the parentheses; override to say how the module was made."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + _indent(repr(module)) for name, module in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


def _cannot_assign(name: str, value: Any, table: str) -> TypeError:
    kind, expected = _TABLES[table]
    return TypeError(f"cannot assign '{_typename(value)}' as {kind} '{name}' ({expected} expected)")


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _parse_to(*args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False, **rest: Any) -> tuple:
    for i, arg in enumerate(args):
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, torch.dtype):
            dtype = arg
        elif isinstance(arg, type) and arg in PYTHON_TYPES:
            dtype = PYTHON_TYPES[arg]
        elif isinstance(arg, bool):
            break  # non_blocking and what follows it change nothing here
        elif arg is not None:
            if i > 0:
                raise TypeError(f"to() received an invalid combination of arguments: {args}")
            device = arg
    if rest:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(rest))}'")
    return device, dtype
