"""Regions in which operations choose their dtype, and functions that ask about them."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import fusetorch as torch
from fusetorch.casting import set_enabled, state
from fusetorch.tensor import Tensor

_DEVICES = ("cpu", "cuda")


def _known(device_type: str) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in _DEVICES:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'; fusetorch has 'cpu' and 'cuda'")
    return device_type


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast exists for tensors of this device type."""
    if not isinstance(device_type, str):
        raise TypeError(f"is_autocast_available(): device_type must be str, not {type(device_type).__name__}")
    return device_type in _DEVICES


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on for this device type, in this thread."""
    return device_type in state.enabled


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Switches autocast on or off for a device type (``cuda`` if only a bool is given)."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    set_enabled(state.enabled | {device_type} if enabled else state.enabled - {device_type})


def get_autocast_dtype(device_type: str) -> torch.dtype:
    """The dtype that operations of lower precision get."""
    return state.dtypes[_known(device_type)]


def set_autocast_dtype(device_type: str, dtype: torch.dtype) -> None:
    """Sets what :func:`get_autocast_dtype` gives."""
    state.dtypes[_known(device_type)] = dtype


def get_autocast_gpu_dtype() -> torch.dtype:
    """``get_autocast_dtype("cuda")``, PyTorch's former name."""
    return state.dtypes["cuda"]


def get_autocast_cpu_dtype() -> torch.dtype:
    """``get_autocast_dtype("cpu")``, PyTorch's former name."""
    return state.dtypes["cpu"]


def set_autocast_gpu_dtype(dtype: torch.dtype) -> None:
    """``set_autocast_dtype("cuda", dtype)``, PyTorch's former name."""
    state.dtypes["cuda"] = dtype


def set_autocast_cpu_dtype(dtype: torch.dtype) -> None:
    """``set_autocast_dtype("cpu", dtype)``, PyTorch's former name."""
    state.dtypes["cpu"] = dtype


def is_autocast_cpu_enabled() -> bool:
    """``is_autocast_enabled("cpu")``, PyTorch's former name."""
    return "cpu" in state.enabled


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """``set_autocast_enabled("cpu", enabled)``, PyTorch's former name."""
    set_autocast_enabled("cpu", enabled)


def is_autocast_cache_enabled() -> bool:
    """Whether weights are cast only once in a region."""
    return state.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Sets what :func:`is_autocast_cache_enabled` gives."""
    state.cache_enabled = bool(enabled)


def clear_autocast_cache() -> None:
    """Drops the weights that were cast."""
    state.cache.clear()


def autocast_increment_nesting() -> int:
    """Enters a region; the number of regions that are open."""
    state.nesting += 1
    return state.nesting


def autocast_decrement_nesting() -> int:
    """Leaves a region; the number of regions that are open."""
    state.nesting -= 1
    return state.nesting


class autocast:
    """A region (or, as a decorator, a function) in which operations choose their dtype: products run in ``dtype``, sums, norms,
    exponentials and losses in float32, others in what they are given. It holds for tensors of ``device_type`` only; float64 is left alone.

    Args:
        device_type: ``"cpu"`` or ``"cuda"``.
        dtype: bfloat16 or float16; by default bfloat16 on the CPU and float16 on CUDA.
        enabled: False switches autocast off inside.
        cache_enabled: cast a weight only once in the region.

    Example:
        >>> import fusetorch as torch
        >>> with torch.autocast("cpu"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, cache_enabled: bool | None = None) -> None:
        self.device = _known(device_type)
        self.fast_dtype = state.dtypes[device_type] if dtype is None else dtype
        if enabled and device_type == "cuda" and not torch.cuda.is_available():
            warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast.", stacklevel=2)
            enabled = False
        if enabled and self.fast_dtype not in (torch.float16, torch.bfloat16):
            warnings.warn(f"In {device_type} autocast, but the target dtype {self.fast_dtype} is not supported. Disabling autocast. It "
                          "supports torch.bfloat16 and torch.float16.", stacklevel=2)
            enabled = False
        self._enabled = bool(enabled)
        self._cache_enabled = cache_enabled
        self._before: list[tuple] = []

    def __enter__(self) -> autocast:
        self._before.append((state.enabled, state.dtypes[self.device], state.cache_enabled))
        set_autocast_enabled(self.device, self._enabled)
        state.dtypes[self.device] = self.fast_dtype
        if self._cache_enabled is not None:
            state.cache_enabled = self._cache_enabled
        autocast_increment_nesting()
        return self

    def __exit__(self, *exc: object) -> None:
        if autocast_decrement_nesting() == 0:
            clear_autocast_cache()
        enabled, state.dtypes[self.device], state.cache_enabled = self._before.pop()
        set_enabled(enabled)

    def __call__(self, func: Callable) -> Callable:
        @functools.wraps(func)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)
        return run


def _cast(value: Any, device_type: str, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        floating = value.is_floating_point() and value.dtype is not torch.float64 and value.device.type == device_type
        return value.to(dtype) if floating else value
    if isinstance(value, dict):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_cast(v, device_type, dtype) for v in value])
    return value


def custom_fwd(fwd: Callable | None = None, *, device_type: str, cast_inputs: torch.dtype | None = None) -> Callable:
    """Decorates the ``forward`` of an ``autograd.Function``: with ``cast_inputs`` it runs without autocast on inputs of that dtype."""
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)
    _known(device_type)

    @functools.wraps(fwd)
    def run(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = is_autocast_enabled(device_type)
        if cast_inputs is None or not ctx._fwd_used_autocast:
            return fwd(ctx, *args, **kwargs)
        ctx._fwd_used_autocast = False
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args, device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))
    return run


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Callable:
    """Decorates the ``backward`` of an ``autograd.Function`` whose ``forward`` has :func:`custom_fwd`: autocast is as it was there."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)
    _known(device_type)

    @functools.wraps(bwd)
    def run(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, dtype=ctx._dtype, enabled=ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)
    return run
