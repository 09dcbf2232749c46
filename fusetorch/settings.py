"""Settings of the process under PyTorch's names: threads, determinism, precision of matrix products."""
from __future__ import annotations

import warnings
from typing import Any

from . import config
from .runtime import cpu_pool

__all__ = ["get_num_threads", "set_num_threads", "get_num_interop_threads", "set_num_interop_threads", "use_deterministic_algorithms",
           "are_deterministic_algorithms_enabled", "is_deterministic_algorithms_warn_only_enabled", "set_deterministic_debug_mode",
           "get_deterministic_debug_mode", "set_float32_matmul_precision", "get_float32_matmul_precision", "set_flush_denormal",
           "set_warn_always", "is_warn_always_enabled", "typename", "compiled_with_cxx11_abi"]


class _State:
    interop = 1
    deterministic = 0  # 0 off, 1 warn only, 2 error
    precision = "highest"
    warn_always = False


def get_num_threads() -> int:
    """How many threads a CPU operation uses."""
    return cpu_pool.get_num_threads()


def set_num_threads(num: int) -> None:
    """Sets how many threads a CPU operation uses."""
    if isinstance(num, bool) or not isinstance(num, int):
        raise TypeError(f"set_num_threads expects an int, but got {type(num).__name__}")
    if num <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    config.num_threads = num


def get_num_interop_threads() -> int:
    """How many operations run at once: a number that is only kept, because one runs at a time."""
    return _State.interop


def set_num_interop_threads(num: int) -> None:
    """Accepted; one operation runs at a time."""
    if num <= 0:
        raise RuntimeError("set_num_interop_threads expects a positive integer")
    _State.interop = num


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Keeps PyTorch's switch. CPU results are deterministic as they are; on CUDA, sums by atomic additions (``index_add``,
    ``scatter_add``, embedding gradients) may differ in the last bits whatever it says, and a warning says so."""
    _State.deterministic = (1 if warn_only else 2) if mode else 0
    from .runtime.device import cuda_available, simulated
    if mode and cuda_available() and not simulated():
        warnings.warn("fusetorch: sums by atomic additions on CUDA (index_add, scatter_add, embedding gradients) are not deterministic in "
                      "their last bits", UserWarning, stacklevel=2)


def are_deterministic_algorithms_enabled() -> bool:
    """Whether :func:`use_deterministic_algorithms` is on."""
    return _State.deterministic > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether it is on with ``warn_only``."""
    return _State.deterministic == 1


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """``"default"`` (0), ``"warn"`` (1) or ``"error"`` (2)."""
    modes = {"default": 0, "warn": 1, "error": 2}
    if isinstance(debug_mode, str):
        if debug_mode not in modes:
            raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode}")
        debug_mode = modes[debug_mode]
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    use_deterministic_algorithms(debug_mode > 0, warn_only=debug_mode == 1)


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2; see :func:`set_deterministic_debug_mode`."""
    return _State.deterministic


def set_float32_matmul_precision(precision: str) -> None:
    """Keeps PyTorch's setting (``"highest"``, ``"high"`` or ``"medium"``): float32 products may be less exact than float32 where it
    allows it; they are as exact as the kernels are in any case."""
    if precision not in ("highest", "high", "medium"):
        warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'; this call has no effect.",
                      UserWarning, stacklevel=2)
        return
    _State.precision = precision


def get_float32_matmul_precision() -> str:
    """What :func:`set_float32_matmul_precision` set."""
    return _State.precision


def set_flush_denormal(mode: bool) -> bool:
    """Returns ``False``: flushing denormal numbers to zero is not supported."""
    return False


def set_warn_always(b: bool) -> None:
    """Keeps PyTorch's switch for warnings that are otherwise shown once."""
    _State.warn_always = bool(b)


def is_warn_always_enabled() -> bool:
    """What :func:`set_warn_always` set."""
    return _State.warn_always


def compiled_with_cxx11_abi() -> bool:
    """``True``, as for PyTorch's own builds; there is no compiled part."""
    return True


def typename(obj: Any) -> str:
    """The name of an object's type: ``torch.FloatTensor`` for a tensor, with its module otherwise.

    Example:
        >>> import fusetorch as torch
        >>> torch.typename(torch.ones(1)), torch.typename(1.5)
        ('torch.FloatTensor', 'float')
    """
    from .tensor import Tensor
    if isinstance(obj, Tensor):
        return obj.type()
    module = getattr(obj, "__module__", "") or ""
    name = getattr(obj, "__qualname__", "") or getattr(obj, "__name__", "")
    if not name:
        module, name = type(obj).__module__ or "", type(obj).__qualname__
    return name if module in ("", "builtins") else f"{module}.{name}"
