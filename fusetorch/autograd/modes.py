"""The switches that say whether operations are recorded: one set for each thread, as in PyTorch."""
from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any


class _GradMode(threading.local):
    # class attributes: what a new thread starts with
    enabled = True
    inference = False


#: This thread's switches. ``enabled``: operations are recorded; ``inference``: inside ``inference_mode``.
GradMode = _GradMode()


class set_grad_enabled:
    """Switches recording on or off: as a call, a context manager or a decorator."""

    def __init__(self, mode: bool) -> None:
        self.before = GradMode.enabled
        self.mode = bool(mode)
        GradMode.enabled = self.mode

    def __enter__(self) -> set_grad_enabled:
        GradMode.enabled = self.mode
        return self

    def __exit__(self, *exc: object) -> None:
        GradMode.enabled = self.before

    def __call__(self, f: Callable) -> Callable:
        GradMode.enabled = self.before
        return decorate(lambda: set_grad_enabled(self.mode), f)

    def clone(self) -> set_grad_enabled:
        """Another one of the same mode."""
        return set_grad_enabled(self.mode)


class _Mode:
    """A context manager and decorator that sets the mode while active."""

    mode = True

    def __init__(self, f: Callable | None = None) -> None:
        self.stack: list[tuple[bool, bool]] = []

    def __new__(cls, f: Callable | None = None) -> Any:
        return decorate(cls, f) if callable(f) else object.__new__(cls)

    def __enter__(self) -> None:
        self.stack.append((GradMode.enabled, GradMode.inference))
        GradMode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        GradMode.enabled, GradMode.inference = self.stack.pop()

    def __call__(self, f: Callable) -> Callable:
        return decorate(type(self), f)

    def clone(self) -> Any:
        """Another one of the same kind."""
        return type(self)()


class no_grad(_Mode):
    """Inside, nothing is recorded for backward."""

    mode = False


class enable_grad(_Mode):
    """Inside, operations are recorded even within ``no_grad``."""

    mode = True


class inference_mode(_Mode):
    """Like ``no_grad`` (fusetorch keeps no further bookkeeping that this could save); ``inference_mode(False)`` does the opposite.

    Example:
        >>> import fusetorch as torch
        >>> with torch.inference_mode():
        ...     torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        (True, False)
    """

    def __new__(cls, mode: bool | Callable = True) -> Any:
        return decorate(cls, mode) if callable(mode) else object.__new__(cls)

    def __init__(self, mode: bool | Callable = True) -> None:
        super().__init__()
        self.inference = bool(mode)

    def __enter__(self) -> None:
        self.stack.append((GradMode.enabled, GradMode.inference))
        GradMode.enabled, GradMode.inference = not self.inference, self.inference

    def __call__(self, f: Callable) -> Callable:
        return decorate(self.clone, f)

    def clone(self) -> inference_mode:
        """Another one of the same mode."""
        return inference_mode(self.inference)


class set_multithreading_enabled:
    """Accepted for compatibility: the backward pass always runs on the calling thread."""

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


def decorate(make: Callable[[], Any], f: Any) -> Any:
    """``f`` with each call (each step, of a generator function) inside a context that ``make`` makes."""
    if inspect.isclass(f):
        import warnings
        warnings.warn("Decorating classes is deprecated and will be disabled in future versions. You should only decorate functions or "
                      "methods. To preserve the current behavior of class decoration, you can directly decorate the `__init__` method "
                      "and nothing else.", FutureWarning, stacklevel=3)
        f.__init__ = decorate(make, f.__init__)
        return f
    if inspect.isgeneratorfunction(f):
        @functools.wraps(f)
        def generator(*args: Any, **kwargs: Any) -> Any:
            it = f(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(next, it)
            try:
                while True:
                    with make():
                        try:
                            item = resume()
                        except StopIteration as stop:
                            return stop.value
                    try:
                        resume = functools.partial(it.send, (yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # thrown in by the caller: for ``f`` to see
                        resume = functools.partial(it.throw, error)
            finally:
                with make():
                    it.close()
        return generator

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with make():
            return f(*args, **kwargs)
    return wrapper


def is_grad_enabled() -> bool:
    """Whether this thread's operations are being recorded."""
    return GradMode.enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside ``inference_mode``."""
    return GradMode.inference
