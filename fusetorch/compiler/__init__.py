"""The compiler: ``torch.compiler``'s names, and behind them trace -> IR -> fusion -> plan (see ``docs/architecture.md``)."""
from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

__all__ = ["allow_in_graph", "assume_constant_result", "compile", "cudagraph_mark_step_begin", "disable", "is_compiling",
           "is_dynamo_compiling", "is_exporting", "list_backends", "load_cache_artifacts", "nested_compile_region", "reset",
           "save_cache_artifacts", "set_stance", "substitute_in_graph", "wrap_numpy"]


def compile(*args: Any, **kwargs: Any) -> Any:
    """``fusetorch.compile``, under PyTorch's second name for it."""
    import fusetorch
    return fusetorch.compile(*args, **kwargs)


def is_compiling() -> bool:
    """Whether this code is being traced by ``fusetorch.compile``."""
    from ..dispatch import active_tracer
    return active_tracer() is not None


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Marks a function, a method, a module or a class of modules as not to be traced: a compiled function that calls it runs eagerly, with
    its other modules compiled one by one; ``fullgraph=True`` raises.

    That is also what code needs whose state no trace can see: state of other packages' C code, files, network.

    Example:
        >>> import fusetorch as torch
        >>> @torch.compiler.disable
        ... def log(x):
        ...     return x
        >>> log(3)
        3
    """
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)
    if isinstance(fn, type) or (hasattr(fn, "_parameters") and hasattr(fn, "_modules")):
        name = "forward" if hasattr(fn, "forward") else "__call__"
        setattr(fn, name, disable(getattr(fn, name), recursive, reason=reason))
        return fn

    @functools.wraps(fn)
    def disabled(*args: Any, **kwargs: Any) -> Any:
        from ..dispatch import active_tracer
        tracer = active_tracer()
        if tracer is not None:
            why = f": {reason}" if reason else ""
            tracer.stop_tracing(f"{getattr(fn, '__qualname__', fn)} is marked with torch.compiler.disable{why}")
        return fn(*args, **kwargs)
    return disabled


def allow_in_graph(fn: Any) -> Any:
    """``fn`` (or the list of functions) as it is: it is traced like the rest."""
    return fn


def assume_constant_result(fn: Callable) -> Callable:
    """``fn`` as it is: what it returns is looked at while a call is traced."""
    return fn


def nested_compile_region(fn: Callable | None = None, options: Any = None) -> Any:
    """``fn`` as it is: regions that repeat are traced each time."""
    return functools.partial(nested_compile_region, options=options) if fn is None else fn


def substitute_in_graph(original_fn: Callable, **options: Any) -> Callable[[Callable], Callable]:
    """A decorator that leaves its function as it is: every function is traced by running it, so that none needs a substitute."""
    return lambda fn: fn


def wrap_numpy(fn: Callable) -> Callable:
    """A function of NumPy arrays as one of CPU tensors. A compiled function that calls it runs eagerly."""
    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _each(fn(*[_each(a, _to_numpy) for a in args], **{k: _each(a, _to_numpy) for k, a in kwargs.items()}), _to_tensor)
    return wrapped


def _each(x: Any, f: Callable[[Any], Any]) -> Any:
    if isinstance(x, (list, tuple)) and not hasattr(x, "_fields"):
        return type(x)([_each(v, f) for v in x])
    return {k: _each(v, f) for k, v in x.items()} if isinstance(x, dict) else f(x)


def _to_numpy(x: Any) -> Any:
    from ..tensor import Tensor
    return x.numpy() if isinstance(x, Tensor) else x


def _to_tensor(x: Any) -> Any:
    import numpy as np

    import fusetorch
    return fusetorch.as_tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x


def is_dynamo_compiling() -> bool:
    """Whether this code is being traced by ``fusetorch.compile``."""
    return is_compiling()


def is_exporting() -> bool:
    """False: there is no ``torch.export``."""
    return False


def cudagraph_mark_step_begin() -> None:
    """Does nothing: results of a compiled function are never overwritten by its next call."""


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """``["inductor"]``: the name that stands for fusetorch's compiler."""
    return ["inductor"]


def save_cache_artifacts() -> None:
    """``None``: compiled kernels are in a folder already (``fusetorch.config.cache_dir``), which may be copied."""


def load_cache_artifacts(serialized_artifacts: bytes) -> None:
    """``None``: see :func:`save_cache_artifacts`."""


_STANCES = ("default", "force_eager", "eager_on_recompile", "fail_on_recompile", "aot_eager_then_compile", "eager_then_compile")
#: What compiled functions do at a call; see :class:`set_stance`.
stance = ["default"]


class set_stance(contextlib.ContextDecorator):  # noqa: N801
    """What compiled functions do from now on, or in a block, or in the decorated function.

    ``"default"``: compile; ``"force_eager"``: run eagerly; ``"eager_on_recompile"``: run eagerly where a function that has a plan would
    need another; ``"fail_on_recompile"``: raise ``RuntimeError`` there. The others are as ``"default"``.

    Example:
        >>> import fusetorch as torch
        >>> f = torch.compile(lambda x: x + 1)
        >>> with torch.compiler.set_stance("force_eager"):
        ...     f(torch.ones(1)), f.cache_info()["plans"]
        (tensor([2.]), 0)
    """

    def __init__(self, stance: str = "default", *, skip_guard_eval_unsafe: bool = False, force_backend: Any = None) -> None:
        if stance not in _STANCES:
            raise RuntimeError(f"invalid torch.compile stance '{stance}'")
        self._stance, self._before = stance, [_stance()]
        _set_stance(stance)

    def __call__(self, f: Callable) -> Callable:
        _set_stance(self._before[0])  # it was not a call for the rest of the program
        return super().__call__(f)

    def __enter__(self) -> set_stance:
        self._before.append(_stance())
        _set_stance(self._stance)
        return self

    def __exit__(self, *_: object) -> None:
        before = self._before.pop()
        _set_stance(before if len(self._before) > 1 else self._before[0])


def _stance() -> str:
    return stance[0]


def _set_stance(name: str) -> None:
    stance[0] = name


def reset() -> None:
    """Forgets the plans of all compiled functions: their next calls are traced again. Compiled kernels stay on disk."""
    from .api import forget
    forget()
