"""Tracing a module or function with proxies: one run of its Python gives the graph."""
from __future__ import annotations

import builtins
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import fusetorch as torch
from fusetorch.nn.module import Module
from fusetorch.tensor import Tensor

from .graph import Graph
from .graph_module import GraphModule
from .node import Argument, map_aggregate
from .proxy import ParameterProxy, Proxy, TracerBase

__all__ = ["PH", "ProxyableClassMeta", "Tracer", "symbolic_trace", "wrap"]

F = TypeVar("F", str, Callable)


class PHBase:
    """Marks an argument in ``concrete_args`` that stays an input."""

    def __repr__(self) -> str:
        return "PH"


PH = PHBase()

#: Globals and the name of a function in them that is not to be looked into.
_wrapped: list[tuple[dict[str, Any], str]] = []


class Tracer(TracerBase):
    """Traces modules. Override :meth:`is_leaf_module` to say which submodules become one node each.

    Args:
        autowrap_modules: Python modules whose functions become nodes when called with a proxy.
        autowrap_functions: more such functions.
        param_shapes_constant: shapes of parameters are numbers.
    """

    def __init__(self, autowrap_modules: tuple[ModuleType, ...] = (math,), autowrap_functions: tuple[Callable, ...] = (),
                 param_shapes_constant: bool = False) -> None:
        self._wrapped_ids = {id(v) for m in autowrap_modules for k, v in vars(m).items() if not k.startswith("_") and callable(v)}
        self._wrapped_ids |= {id(f) for f in autowrap_functions}
        self._searched = list(autowrap_modules)
        self.param_shapes_constant = param_shapes_constant
        self.root: Module
        self.graph: Graph
        self.tensor_attrs: dict[int, str] = {}
        self.root_module_name = ""

    # ---- to override

    def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
        """Whether a call of ``m`` is one node: the library's own modules, except Sequential."""
        places = ("fusetorch.nn", "fusetorch.ao.nn", "torch.nn", "torch.ao.nn")
        return type(m).__module__.startswith(places) and not isinstance(m, torch.nn.Sequential)

    def path_of_module(self, mod: Module) -> str:
        """The dotted name of a submodule of the root."""
        for name, m in self.root.named_modules(remove_duplicate=False):
            if m is mod:
                return name
        raise NameError(f"module {mod._get_name()} is not installed as a submodule")

    def call_module(self, m: Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """What a call of a module becomes: a node, or, unless it is a leaf, what its forward does."""
        name = self.path_of_module(m)
        if self.is_leaf_module(m, name):
            return self.create_proxy("call_module", name, args, kwargs)
        return forward(*args, **kwargs)

    def create_arg(self, a: Any) -> Argument:
        """A value as an argument of a node: tensors become attributes of the root."""
        if isinstance(a, torch.nn.Parameter):
            for name, p in self.root.named_parameters(remove_duplicate=False):
                if a is p:
                    return self.create_node("get_attr", name, (), {})
            raise NameError("parameter is not a member of this module")
        if isinstance(a, Tensor):
            name = self.tensor_attrs.get(id(a))
            if name is None:
                name = next(name for name in map("_tensor_constant{}".format, itertools.count()) if not hasattr(self.root, name))
                self.tensor_attrs[id(a)] = name
                setattr(self.root, name, a)
            return self.create_node("get_attr", name, (), {})
        if isinstance(a, Module):
            raise NotImplementedError(f"argument of type: {type(a)}")
        return super().create_arg(a)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """What an attribute of a module is while tracing: for parameters, a proxy."""
        if isinstance(attr_val, torch.nn.Parameter):
            return self._attribute(attr_val, self.root.named_parameters(remove_duplicate=False), parameter_proxy_cache)
        if self.proxy_buffer_attributes and isinstance(attr_val, Tensor):
            return self._attribute(attr_val, self.root.named_buffers(remove_duplicate=False), parameter_proxy_cache)
        return attr_val

    def _attribute(self, value: Tensor, named: Iterator[tuple[str, Tensor]], cache: dict[str, Any]) -> Any:
        for name, t in named:
            if t is value:
                if name not in cache:
                    made = self.create_proxy("get_attr", name, (), {})
                    cache[name] = ParameterProxy(self, made.node, name, value) if self.param_shapes_constant else made
                return cache[name]
        return value

    # ---- the trace

    def create_args_for_root(self, root_fn: Callable, is_module: bool, concrete_args: dict[str, Any] | tuple | None = None) -> Any:
        """The function to run, and its arguments: proxies, or the values in ``concrete_args``."""
        plain = inspect.unwrap(root_fn)
        code = plain.__code__
        total = code.co_argcount + code.co_kwonlyargcount
        names = list(code.co_varnames[:total])
        parameters = inspect.signature(plain).parameters
        args: list[Any] = [self.root] if is_module else []
        if is_module and not names:
            raise RuntimeError("``self`` argument cannot be part of *args expansion!")
        names = names[1:] if is_module else names
        if isinstance(concrete_args, tuple):
            if len(concrete_args) != len(names):
                raise RuntimeError(f"Tracing expected {len(names)} arguments but got {len(concrete_args)} concrete arguments")
            concrete_args = dict(zip(names, concrete_args))
        concrete_args = concrete_args or {}
        for name in names:
            default = parameters[name].default
            given = () if default is inspect.Parameter.empty else (default,)
            if name in concrete_args and concrete_args[name] is not PH:
                args.append(self._specialized(name, concrete_args[name], given))
                continue
            args.append(self.create_proxy("placeholder", name, given, {}))
        keywords = {}
        for name in code.co_varnames[code.co_argcount:total]:
            keywords[name] = args.pop(len(args) - (total - code.co_varnames.index(name)))
        extra: list[Any] = []
        at = total
        if code.co_flags & inspect.CO_VARARGS:
            extra = [self.create_proxy("placeholder", "*" + code.co_varnames[at], (), {})]
            at += 1
        rest = {}
        if code.co_flags & inspect.CO_VARKEYWORDS:
            rest = self.create_proxy("placeholder", "**" + code.co_varnames[at], (), {})
        if not extra and not isinstance(rest, Proxy):
            return functools.partial(root_fn, **keywords) if keywords else root_fn, args
        # *args and **kwargs are the proxies themselves: a function that is the same but takes them as plain arguments
        clear = ~(inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        own = code.replace(co_argcount=code.co_argcount + code.co_kwonlyargcount + len(extra) + isinstance(rest, Proxy),
                           co_kwonlyargcount=0, co_flags=code.co_flags & clear)
        plain_form = FunctionType(own, plain.__globals__, plain.__name__, None, plain.__closure__)
        return plain_form, [*args, *keywords.values(), *extra, *([rest] if isinstance(rest, Proxy) else [])]

    def _specialized(self, name: str, value: Any, default: tuple) -> Any:
        """A value that the graph is made for: still an input, which is checked."""
        count = itertools.count(1)

        def one(x: Any) -> Any:
            given = self.create_proxy("placeholder", f"{name}_{next(count)}", default, {})
            if x is PH:
                return given
            if x is None:
                message = f"{name} has been specialized to have value None but got another value"
                self.create_proxy("call_function", _assert_is_none, (given, message), {})
            elif isinstance(x, (bool, int, float, str)):
                message = f"{name} has been specialized to have value {x} but got another value"
                self.create_proxy("call_function", torch._assert, (given == x, message), {})
            return x
        return map_aggregate(value, one)

    def trace(self, root: Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> Graph:
        """Runs ``root`` on proxies; the graph of what it did."""
        from fusetorch import overrides
        overrides.enable()
        if isinstance(root, Module):
            self.root, function = root, type(root).forward
            self.root_module_name = root._get_name()
        else:
            self.root, function = Module(), root
        self.graph = Graph(tracer_cls=type(self))
        self.tensor_attrs = {}
        self._collect(self.root, [])
        cache: dict[str, Any] = {}
        run, args = self.create_args_for_root(function, isinstance(root, Module), concrete_args)
        with self._patched(inspect.unwrap(function).__globals__, cache):
            result = run(*args)
            self.create_node("output", "output", (self.create_arg(result),), {}, type_expr=inspect.unwrap(function).__annotations__.get(
                "return"))
        return self.graph

    def _collect(self, m: Module, path: list[str]) -> None:
        for k, v in (*vars(m).items(), *m._buffers.items()):
            if isinstance(v, Tensor):
                self.tensor_attrs[id(v)] = ".".join([*path, k])
        for k, child in m._modules.items():
            if child is not None:
                self._collect(child, [*path, k])

    @contextmanager
    def _patched(self, names: dict[str, Any], cache: dict[str, Any]) -> Iterator[None]:
        """Module calls, parameters and marked functions as they are while tracing."""
        tracer, call, lookup = self, Module.__call__, Module.__getattr__

        def traced_call(mod: Module, *args: Any, **kwargs: Any) -> Any:
            wrap_in(inspect.unwrap(getattr(type(mod).forward, "__func__", type(mod).forward)).__globals__)
            return tracer.call_module(mod, lambda *a, **k: call(mod, *a, **k), args, kwargs)

        def traced_lookup(mod: Module, attr: str) -> Any:
            return tracer.getattr(attr, lookup(mod, attr), cache)

        changed: list[tuple[dict, str, Any]] = []
        done: set[int] = set()

        def wrap_in(space: dict[str, Any]) -> None:
            if id(space) not in done and space.get("__name__", "").partition(".")[0] != "fusetorch":
                done.add(id(space))
                for name, value in list(space.items()):
                    if id(value) in self._wrapped_ids and callable(value) and not name.startswith("_"):
                        changed.append((space, name, value))
                        space[name] = _recorded(value)

        Module.__call__, Module.__getattr__ = traced_call, traced_lookup
        for space, name in _wrapped:
            value = space.get(name, getattr(builtins, name, None))
            if value is not None:
                changed.append((space, name, space.get(name, _MISSING)))
                space[name] = _recorded(value)
        wrap_in(names)
        for module in self._searched:
            wrap_in(vars(module))
        try:
            yield
        finally:
            Module.__call__, Module.__getattr__ = call, lookup
            for space, name, value in reversed(changed):
                if value is _MISSING:
                    del space[name]
                else:
                    space[name] = value


_MISSING = object()


def _assert_is_none(value: Any, msg: str) -> None:
    if value is not None:
        raise AssertionError(msg)


def _recorded(function: Callable) -> Callable:
    """``function``, whose calls with a proxy become nodes."""
    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        found: list[Proxy] = []
        map_aggregate((args, kwargs), lambda a: found.append(a) if isinstance(a, Proxy) else None)
        return found[0].tracer.create_proxy("call_function", function, args, kwargs) if found else function(*args, **kwargs)
    return recorded


def wrap(fn_or_name: F) -> F:
    """Marks a function of the calling module, or a builtin by its name, as one that tracing does not look into: its calls become nodes.
    It stands at the top level of a module, also as a decorator.

    Raises:
        RuntimeError: for what is neither callable nor a string.
        NotImplementedError: inside a function.

    Example:
        >>> import fusetorch as torch
        >>> torch.fx.wrap(len) is len
        True
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    name = fn_or_name if isinstance(fn_or_name, str) else getattr(inspect.unwrap(fn_or_name), "__name__", "")
    frame = inspect.currentframe().f_back
    if frame.f_code.co_name != "<module>":
        raise NotImplementedError("wrap must be called at the top level of a module")
    _wrapped.append((frame.f_globals, name))
    return fn_or_name


class ProxyableClassMeta(type):
    """Metaclass of classes whose instances may be made from proxies: making one becomes a node."""

    def __init__(cls, name: str, bases: tuple, attrs: dict) -> None:
        super().__init__(name, bases, attrs)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        found: list[Proxy] = []
        map_aggregate((args, kwargs), lambda a: found.append(a) if isinstance(a, Proxy) else None)
        if found:
            return found[0].tracer.create_proxy("call_function", cls, args, kwargs)
        return super().__call__(*args, **kwargs)


def symbolic_trace(root: Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> GraphModule:
    """A module whose code is what ``root`` does, recorded by running it on proxies.

    ``concrete_args``: values of arguments that control flow depends on; the graph is made for them. Raises :class:`TraceError` where the
    code depends on the value of a tensor.

    Example:
        >>> import fusetorch as torch
        >>> print(torch.fx.symbolic_trace(lambda x: torch.relu(x) + 1).code.strip())
        def forward(self, x):
            relu = torch.relu(x);  x = None
            add = relu + 1;  relu = None
            return add
    """
    tracer = Tracer()
    graph = tracer.trace(root, concrete_args)
    name = root._get_name() if isinstance(root, Module) else root.__name__
    return GraphModule(tracer.root, graph, name)
