"""``torch.futures``: results that some thread sets later."""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")

__all__ = ["Future", "collect_all", "wait_all"]


class Future(Generic[T]):
    """A result that is set once, and then seen by those who wait for it and by the functions added with :meth:`then`.

    Args:
        devices: devices of the result's tensors; accepted for PyTorch's signature.

    Example:
        >>> import fusetorch as torch
        >>> future = torch.futures.Future()
        >>> double = future.then(lambda f: f.value() * 2)
        >>> future.set_result(torch.ones(2))
        >>> double.wait()
        tensor([2., 2.])
    """

    def __init__(self, *, devices: Sequence[Any] | None = None) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future], None]] = []

    def done(self) -> bool:
        """Whether there is a result or an exception."""
        return self._set.is_set()

    def wait(self) -> T:
        """Waits for the result and returns it. Raises the exception that was set instead."""
        self._set.wait()
        return self.value()

    def value(self) -> T:
        """The result of a future that is done. Raises the exception that was set instead, and ``RuntimeError`` if nothing was set."""
        if not self._set.is_set():
            raise RuntimeError("Future::value() called on a future that is not complete. Call wait() first.")
        if self._error is not None:
            raise self._error
        return self._value

    def set_result(self, result: T) -> None:
        """Sets the result and runs the callbacks. Raises ``RuntimeError`` the second time."""
        self._complete(result, None)

    def set_exception(self, result: BaseException) -> None:
        """Makes ``wait`` and ``value`` raise ``result``. Raises ``TypeError`` for what is no exception."""
        if not isinstance(result, Exception):
            raise TypeError(f"{result} is of type {type(result)}, not an Exception.")
        self._complete(None, result)

    def _complete(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._set.is_set():
                raise RuntimeError("Attempting to set a result or exception for a Future that is already complete.")
            self._value, self._error = value, error
            self._set.set()
        for callback in self._callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Calls ``callback(self)`` when the result is set, or now if it is."""
        with self._lock:
            if not self._set.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def then(self, callback: Callable[[Future[T]], S]) -> Future[S]:
        """The future of ``callback(self)``, which is called when the result is set; what it raises is the new future's exception."""
        after: Future[S] = Future()

        def run(done: Future) -> None:
            try:
                result = callback(done)
            except Exception as error:  # whatever the caller's code raises belongs to the one who waits
                after.set_exception(error)
            else:
                after.set_result(result)
        self.add_done_callback(run)
        return after


def collect_all(futures: list[Future]) -> Future[list[Future]]:
    """A future whose result is the list ``futures``, set when all of them are done."""
    together: Future[list[Future]] = Future()
    left = len(futures)
    lock = threading.Lock()

    def one_more(_: Future) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            together.set_result(futures)

    for future in futures:
        future.add_done_callback(one_more)
    if not futures:
        together.set_result(futures)
    return together


def wait_all(futures: list[Future]) -> list[Any]:
    """The results of all ``futures``, once they are done. Raises the first exception among them."""
    return [future.wait() for future in collect_all(futures).wait()]
