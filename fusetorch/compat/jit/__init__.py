"""``torch.jit``: there is no TorchScript. ``script`` and ``trace`` give back what they are given, which runs as it did; for speed use
``fusetorch.compile``. Files of TorchScript cannot be written or read."""
from __future__ import annotations

import contextlib
import functools
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from fusetorch.errors import refusal
from fusetorch.futures import Future
from fusetorch.nn.module import Module

T = TypeVar("T")

__all__ = ["Attribute", "Error", "Final", "Future", "ScriptFunction", "ScriptModule", "TracerWarning", "annotate", "export", "fork",
           "freeze", "ignore", "interface", "is_scripting", "is_tracing", "isinstance", "load", "optimize_for_inference",
           "optimized_execution", "save", "script", "script_if_tracing", "script_method", "set_fusion_strategy", "trace", "trace_module",
           "unused", "wait"]

Error = RuntimeError


class TracerWarning(Warning):
    """Given by PyTorch's tracer; never here."""


class ScriptWarning(Warning):
    """Given by PyTorch's script compiler; never here."""


class ScriptModule(Module):
    """An ordinary module."""


class RecursiveScriptModule(ScriptModule):
    """An ordinary module."""


class TopLevelTracedModule(ScriptModule):
    """An ordinary module."""


class ScriptFunction:
    """What PyTorch's ``script`` makes of a function; here nothing is one."""


class Attribute(typing.NamedTuple):
    """A value and its type, for PyTorch's script compiler."""

    value: Any
    type: Any


def script(obj: T, optimize: Any = None, _frames_up: int = 0, _rcb: Any = None,
           example_inputs: Any = None) -> T:
    """``obj`` itself: functions, modules and classes run as they are."""
    return obj


def trace(func: T, example_inputs: Any = None, optimize: Any = None, check_trace: bool = True, check_inputs: Any = None,
          check_tolerance: float = 1e-5, strict: bool = True, _force_outplace: bool = False, _module_class: Any = None,
          _compilation_unit: Any = None, example_kwarg_inputs: Any = None, _store_inputs: bool = True) -> T:
    """``func`` itself, a function or a module: unlike PyTorch's traces it goes on to follow Python's control flow."""
    return func


def trace_module(mod: Module, inputs: dict, *args: Any, **kwargs: Any) -> Module:
    """``mod`` itself."""
    return mod


def script_method(fn: T) -> T:
    """``fn`` itself."""
    return fn


def script_if_tracing(fn: T) -> T:
    """``fn`` itself."""
    return fn


_script_if_tracing = script_if_tracing  # torchvision's name for it


def _overload_method(fn: T) -> T:
    """``fn`` itself: overloads are declared for TorchScript alone."""
    return fn


_overload = _overload_method


def export(fn: T) -> T:
    """``fn`` itself."""
    return fn


def unused(fn: T) -> T:
    """``fn`` itself."""
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """A decorator that changes nothing; with or without arguments."""
    return drop if callable(drop) else lambda fn: fn


def interface(obj: T) -> T:
    """``obj`` itself."""
    return obj


def annotate(the_type: Any, the_value: T) -> T:
    """``the_value``."""
    return the_value


def isinstance(obj: Any, target_type: Any) -> bool:  # noqa: A001 - PyTorch's name
    """``isinstance``, which also takes ``List[int]`` and the like and looks at what they hold."""
    import builtins
    if builtins.isinstance(target_type, tuple):
        return any(isinstance(obj, t) for t in target_type)
    origin, args = typing.get_origin(target_type), typing.get_args(target_type)
    if origin is None:
        return builtins.isinstance(obj, target_type)
    if origin is typing.Union:
        return any(isinstance(obj, t) for t in args)
    if not builtins.isinstance(obj, origin):
        return False
    if origin is dict:
        return all(isinstance(k, args[0]) and isinstance(v, args[1]) for k, v in obj.items())
    if origin is tuple and not (len(args) == 2 and args[1] is ...):
        return len(obj) == len(args) and all(isinstance(v, t) for v, t in zip(obj, args))
    return all(isinstance(v, args[0]) for v in obj)


def is_scripting() -> bool:
    """False."""
    return False


def is_tracing() -> bool:
    """False."""
    return False


def freeze(mod: T, preserved_attrs: Any = None, optimize_numerics: bool = True) -> T:
    """``mod`` itself."""
    return mod


def optimize_for_inference(mod: T, other_methods: Any = None) -> T:
    """``mod`` itself."""
    return mod


def run_frozen_optimizations(mod: Any, optimize_numerics: bool = True, preserved_methods: Any = None) -> None:
    """Does nothing."""


@contextlib.contextmanager
def optimized_execution(should_optimize: bool) -> Iterator[None]:
    """Changes nothing."""
    yield


@contextlib.contextmanager
def fuser(name: str) -> Iterator[None]:
    """Changes nothing."""
    yield


class strict_fusion(contextlib.nullcontext):
    """Changes nothing."""


def enable_onednn_fusion(enabled: bool) -> None:
    """Does nothing."""


def onednn_fusion_enabled() -> bool:
    """False."""
    return False


def set_fusion_strategy(strategy: Any) -> list:
    """Does nothing; there was no strategy before."""
    return []


def fork(func: Callable, *args: Any, **kwargs: Any) -> Future:
    """Calls ``func`` now, as PyTorch does outside of TorchScript."""
    future = Future()
    future.set_result(func(*args, **kwargs))
    return future


def wait(future: Future) -> Any:
    """The result of a :class:`Future`."""
    return future.wait()


def _no_files(name: str) -> Callable[..., Any]:
    return refusal(name, NotImplementedError, f"torch.jit.{name} is not supported: fusetorch has no TorchScript. Save model.state_dict() "
                                              "with torch.save, and load it into a model built from its Python source.")


save = _no_files("save")
load = _no_files("load")
