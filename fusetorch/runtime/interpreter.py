"""Runs ``@triton.jit`` functions on NumPy memory: the simulated GPU.

A kernel written for the GPU is run unchanged, program by program, by Triton's interpreter with the corrections of
``interpreter_fixes``. ``triton.language`` is patched only while a kernel runs, so the same process compiles the same
functions to cubins before and after. Runs exclude each other and compilations (the patches are global to the process).

Cost: 0.5-1 ms a program, whatever the block size: prefer few programs with large blocks.
"""
from __future__ import annotations

import contextlib
import inspect
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusetorch.runtime.memory import DeviceArray

__all__ = ["run", "rewritten", "compiling"]


class _Gate:
    """One interpreter run, or any number of compilations, at a time; a thread that interprets may not compile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._compilations = 0
        self._interpreting: int | None = None  # thread id

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        with self._changed:
            if self._interpreting == threading.get_ident():
                raise RuntimeError("a kernel cannot be compiled from inside a simulated launch")
            self._changed.wait_for(lambda: self._interpreting is None)
            self._compilations += 1
        try:
            yield
        finally:
            with self._changed:
                self._compilations -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def interpreting(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._interpreting is None and not self._compilations)
            self._interpreting = threading.get_ident()
        try:
            yield
        finally:
            with self._changed:
                self._interpreting = None
                self._changed.notify_all()


_gate = _Gate()
compiling = _gate.compiling

_rewritten: dict[Callable, Callable] = {}
_setup: tuple[Any, Any, list[tuple[Any, dict[str, Any]]]] | None = None
_MISSING = object()


def rewritten(function: Any) -> Callable:
    """The plain Python function that interprets a ``@triton.jit`` function (or the raw function under it)."""
    raw = function
    while not inspect.isfunction(raw):
        raw = raw.fn
    try:
        return _rewritten[raw]
    except KeyError:
        pass
    from triton.runtime import interpreter as stock

    class Rewriter(stock.FunctionRewriter):
        # the stock rewriter writes its own globals into the kernel's module and loses closure variables
        def _compile_and_exec(self, tree: Any) -> Callable:
            code = compile(tree, filename=self.filename, mode="exec")
            captured = inspect.getclosurevars(self.fn).nonlocals
            scope = {**vars(stock), **self.fn.__globals__, **captured, "interpreter_semantic": _ready()[1]}
            local: dict[str, Any] = {}
            exec(code, scope, local)
            return local[self.fn.__name__]

    out = _rewritten[raw] = Rewriter(raw).rewrite_ast()
    return out


def _call_device_function(jitted: Any, *args: Any, **kwargs: Any) -> Any:
    return rewritten(jitted)(*args, **kwargs)


def _as_method(jitted: Any) -> Callable:
    return lambda self, *args, **kwargs: rewritten(jitted)(self, *args, **kwargs)


def _ready() -> tuple[Any, Any, list[tuple[Any, dict[str, Any]]]]:
    """(builder, semantic, what to set on which object), made at first use."""
    global _setup
    if _setup is None:
        import triton.language as tl
        from triton.runtime import interpreter as stock
        from triton.runtime.jit import JITFunction

        from fusetorch.runtime import interpreter_fixes as fixes
        builder, semantic = fixes.builder_and_semantic()
        # what the stock interpreter would patch, read off and undone at once
        kernel = type("kernel", (), {"__globals__": {"tl": tl, "core": tl.core}})
        own = stock.interpreter_builder, stock.interpreter_semantic
        stock.interpreter_builder, stock.interpreter_semantic = builder, semantic
        scope = stock._patch_lang(kernel)
        stock.interpreter_builder, stock.interpreter_semantic = own
        changes = {(id(obj), name): (obj, name, getattr(obj, name)) for obj, name, _ in scope._changes}
        scope.restore()
        for name, member in list(vars(tl.tensor).items()):
            if isinstance(member, JITFunction):
                changes[id(tl.tensor), name] = (tl.tensor, name, _as_method(member))
        changes[id(JITFunction), "__call__"] = (JITFunction, "__call__", _call_device_function)
        for obj, name, value in fixes.patches(builder, semantic):
            changes[id(obj), name] = (obj, name, value)
        by_object: dict[int, tuple[Any, dict[str, Any]]] = {}
        for obj, name, value in changes.values():
            by_object.setdefault(id(obj), (obj, {}))[1][name] = value
        _setup = builder, semantic, list(by_object.values())
    return _setup


@contextlib.contextmanager
def _patched() -> Iterator[Any]:
    """``triton.language`` made ready for interpretation; everything is restored on the way out. Yields the builder."""
    builder, _, changes = _ready()
    saved = [(obj, {name: vars(obj).get(name, _MISSING) for name in values}) for obj, values in changes]
    for obj, values in changes:
        _set(obj, values)
    try:
        yield builder
    finally:
        for obj, values in saved:
            _set(obj, values)


def _set(obj: Any, values: dict[str, Any]) -> None:
    if isinstance(obj, types.ModuleType) and _MISSING not in values.values():
        vars(obj).update(values)  # a module is a plain dict: much faster than one by one
        return
    for name, value in values.items():
        if value is _MISSING:
            delattr(obj, name)
        else:
            setattr(obj, name, value)


def _argument(value: Any, param: Any) -> Any:
    """What a kernel sees of a launch argument: typed as the compiled kernel's parameter would be."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    from fusetorch.runtime.triton_compile import type_of
    if isinstance(value, DeviceArray):
        if not value.storage.simulated:
            raise RuntimeError(f"{value} lives in GPU memory and cannot be read by the simulated GPU")
        ty = tl.str_to_ty(type_of(value, param), None)
        return tl.tensor(TensorHandle(np.array([value.ptr], np.uint64), ty), ty)
    kind = type_of(value, param)
    if kind == "constexpr":  # None, and integers equal to 1
        return value
    ty = tl.str_to_ty(kind, None)
    from fusetorch.runtime.interpreter_fixes import np_dtype
    return tl.tensor(TensorHandle(np.array([value]).astype(np_dtype(ty)), ty), ty)


def run(fn: Any, grid: tuple[int, ...], args: dict[str, Any]) -> None:
    """Runs every program of ``grid`` (up to three sizes) of the kernel ``fn``, one after the other.

    ``args`` maps each parameter name to a :class:`DeviceArray`, int, float, bool or ``None``; constexpr parameters take
    their value as it is (a ``@triton.jit`` function too). Floating-point warnings are off, as on a GPU. An access
    outside an array's memory is not detected.
    """
    nx, ny, nz = (*map(int, grid), 1, 1)[:3] if len(grid) < 3 else map(int, grid)
    with _gate.interpreting(), _patched() as builder, np.errstate(all="ignore"):
        kernel = rewritten(fn)
        bound = {p.name: args[p.name] if p.is_constexpr else _argument(args[p.name], p) for p in fn.params}
        builder.set_grid_dim(nx, ny, nz)
        for x in range(nx):
            for y in range(ny):
                for z in range(nz):
                    builder.set_grid_idx(x, y, z)
                    kernel(**bound)
