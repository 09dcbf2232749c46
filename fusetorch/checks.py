"""``torch._check`` and its kin: conditions that raise an error of a given class."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusetorch import Tensor

__all__: list[str] = []


def _assert(condition: Any, message: Any) -> None:
    """Raises ``AssertionError`` with ``message`` where ``condition`` does not hold."""
    assert condition, message


def _assert_async(input: Tensor, assert_msg: str = "Expected Tensor with single nonzero value, but got zero") -> None:
    """Raises ``RuntimeError`` if the only element of a tensor is zero; at once, on every device."""
    if not bool(input):
        raise RuntimeError(assert_msg)


def _check_with(error_type: type[Exception], cond: Any, message: Callable[[], str] | None) -> None:
    """Raises ``error_type`` where ``cond``, a bool, is false; ``message`` is called for its text.

    ``TypeError`` for another kind of condition or message.
    """
    if not isinstance(cond, bool):
        raise TypeError(f"cond must be a bool, but got {type(cond)}")
    if cond:
        return
    if message is not None and not callable(message):
        raise TypeError("message must be a callable")
    raise error_type("Expected cond to be True, but got False." if message is None else str(message()))


def _check(cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_with` ``RuntimeError``."""
    _check_with(RuntimeError, cond, message)


def _check_index(cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_with` ``IndexError``."""
    _check_with(IndexError, cond, message)


def _check_value(cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_with` ``ValueError``."""
    _check_with(ValueError, cond, message)


def _check_type(cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_with` ``TypeError``."""
    _check_with(TypeError, cond, message)


def _check_not_implemented(cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_with` ``NotImplementedError``."""
    _check_with(NotImplementedError, cond, message)


def _check_is_size(i: int, message: Callable[[], str] | None = None, *, max: int | None = None) -> None:
    """:func:`_check` that a size is not negative (and at most ``max``)."""
    _check(bool(i >= 0), message)
    if max is not None:
        _check(bool(i <= max), message)


def _check_tensor_all_with(error_type: type[Exception], cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_with` on a bool tensor, all of whose elements must be true."""
    if not isinstance(cond, Tensor):
        raise TypeError(f"cond must be a tensor, but got {type(cond)}")
    if repr(cond.dtype) != "torch.bool":
        raise TypeError(f"cond tensor must have dtype torch.bool, but got {cond.dtype}")
    _check_with(error_type, bool(cond.all()), message)


def _check_tensor_all(cond: Any, message: Callable[[], str] | None = None) -> None:
    """:func:`_check_tensor_all_with` ``RuntimeError``."""
    _check_tensor_all_with(RuntimeError, cond, message)
