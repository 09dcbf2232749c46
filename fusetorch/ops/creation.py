"""Creation: tensors from data, filled, ranged, like another."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import dtype, float64, get_default_dtype, int64
from ..dtypes import from_numpy as dtype_from_numpy
from ..errors import warn
from ..formats import preserve_format
from ..runtime import meta
from ..runtime.device import default_devices
from ..runtime.device import device as device_class
from ..tensor import Tensor, active_tracer, announce, tracing, wrap
from .opdef import composite, fn


def as_device(d: Any) -> device_class:
    """A device from a device, a string, a CUDA index or ``None`` (the default device); ``NotImplementedError`` for one that is only a
    name."""
    if d is None:
        found = get_default_device()
    else:
        found = d if isinstance(d, device_class) else device_class("cuda", d) if isinstance(d, int) else device_class(d)
    if found.type == "meta":
        return device_class("meta")
    if found.type not in ("cpu", "cuda"):
        raise NotImplementedError(f"Could not make a tensor on the '{found.type}' device: fusetorch has tensors on 'cpu', 'cuda' and "
                                  "'meta'")
    return found


def set_default_device(device: Any) -> None:
    """Makes creation functions without ``device=`` use this device."""
    default_devices.stack[-1] = None if device is None else as_device(device)


def get_default_device() -> device_class:
    """The device of creation functions without ``device=``."""
    return default_devices.stack[-1] or device_class("cpu")


def place(a: np.ndarray, device: Any, requires_grad: bool = False) -> Tensor:
    """A tensor with the contents of a NumPy array on ``device``; on the CPU it is that array."""
    d = as_device(device)
    if d.type == "meta":
        t = wrap(meta.empty(a.shape, dtype_from_numpy(a.dtype)))
    elif tracing():
        t = active_tracer().constant(a, d)
    elif d.type == "cpu":
        t = wrap(a)
    else:
        from ..runtime.device import require_cuda
        from ..runtime.memory import from_numpy as upload
        require_cuda()
        t = wrap(upload(a, d.index or 0))
    if requires_grad:
        t.requires_grad = True
    return t


def _sizes(size: tuple, named: Any = None) -> tuple[int, ...]:
    """A shape from the positional arguments of a call, or from the one called ``size``."""
    if named is not None:
        if size:
            raise TypeError("the size is given both by position and by name")
        size = (named,)
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    out = []
    for n in size:
        if isinstance(n, Tensor):
            n = n.item()
        if not isinstance(n, (int, np.integer)):
            raise TypeError(f"expected a size of integers, got {type(n).__name__} in {size}")
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(size)}")
        out.append(int(n))
    return tuple(out)


def _filled(shape: tuple[int, ...], value: Any, d: dtype, device: Any, requires_grad: bool) -> Tensor:
    if type(value) is complex and not d.is_complex:
        raise RuntimeError(f"value cannot be converted to type {d} without overflow: {value}")
    dev = as_device(device)
    if dev.type == "meta":
        t = wrap(meta.empty(tuple(shape), d))
    elif tracing():
        t = active_tracer().full(shape, value, d, dev)
    elif dev.type == "cpu":
        from .. import cpu_backend
        zero = value == 0 and not isinstance(value, bool) and repr(value) != "-0.0"
        a = np.zeros(shape, d.np) if zero else cpu_backend.empty(shape, d)
        if value is not None and not zero:
            a.fill(value if d.category != 1 else np.asarray(int(value) & (1 << 64) - 1, np.uint64).astype(d.np))
        t = wrap(a)
    else:
        from .. import cuda_backend
        t = wrap(cuda_backend.full(shape, value, d, dev.index or 0))
    if requires_grad:
        t.requires_grad = True
    return t


# ---- from data


def _array_of(data: Any, d: dtype | None) -> np.ndarray:
    if isinstance(data, np.ndarray):
        a = np.array(data, dtype=d.np if d else None, order="C")
        dtype_from_numpy(a.dtype)
        return a
    if isinstance(data, (np.generic,)):
        return np.array(data, dtype=d.np if d else None)
    if isinstance(data, (bool, int, float, complex)):
        return np.array(data, dtype=(d or dtypes.of_number(data)).np)
    if isinstance(data, (list, tuple, range)):
        if any(isinstance(x, Tensor) for x in data):
            data = [x.detach().cpu().numpy() if isinstance(x, Tensor) else x for x in data]
        elif len(data) and isinstance(data[0], np.ndarray) and data[0].ndim:
            warn("Creating a tensor from a list of numpy.ndarrays is extremely slow. Please consider converting the list to a single "
                 "numpy.ndarray with numpy.array() before converting to a tensor.")
        try:
            a = np.array(data, dtype=d.np if d else None)
        except ValueError as e:
            raise ValueError(f"expected sequences of equal length at every nesting level: {e}") from None
        if d is None:
            if a.dtype.kind in "fc" and a.size and not _has_numpy(data):
                a = a.astype((get_default_dtype() if a.dtype.kind == "f" else get_default_dtype().to_complex()).np)
            elif a.size == 0:
                a = a.astype(get_default_dtype().np)
        dtype_from_numpy(a.dtype)
        return a
    if hasattr(data, "__array__"):
        return _array_of(np.asarray(data), d)
    if isinstance(data, str):
        raise TypeError("new(): invalid data type 'str'")
    if isinstance(data, Sequence):  # deques and the like
        return _array_of(list(data), d)
    raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")


def _has_numpy(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


@composite(method=False)
def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A new tensor with a copy of ``data`` (numbers, nested sequences, NumPy arrays, tensors)."""
    if isinstance(data, Tensor):
        _advise_clone("torch.tensor")
    return copied(data, dtype, device, requires_grad)


def _advise_clone(called: str) -> None:
    warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
         f"sourceTensor.detach().clone().requires_grad_(True), rather than {called}(sourceTensor).")


def copied(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """What ``torch.tensor`` makes."""
    if isinstance(data, Tensor):
        t = data.detach().clone()
        t = t.to(device=device, dtype=dtype) if dtype is not None or device is not None else t
        return t.requires_grad_() if requires_grad else t
    return place(_array_of(data, dtype), device, requires_grad)


@composite(method=False)
def as_tensor(data, dtype=None, device=None):
    """``data`` as a tensor, sharing memory where that is possible."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype)
    if isinstance(data, np.ndarray):
        t = from_numpy.body(data)
        return t.to(device=device if device is not None else get_default_device(), dtype=dtype)
    return place(_array_of(data, dtype), device)


@composite(method=False)
def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False):
    """``obj`` (tensor, array, buffer, anything with DLPack, numbers) as a tensor; copies only if ``copy`` or if need be, and raises
    ``ValueError`` where it would have to and ``copy`` is ``False``."""
    shares = isinstance(obj, (Tensor, np.ndarray))
    if isinstance(obj, (bytes, bytearray, memoryview)):
        obj, shares = fn.frombuffer(obj, dtype=dtype or get_default_dtype()), True
    elif not shares and hasattr(obj, "__dlpack__"):
        obj, shares = fn.from_dlpack(obj), True
    if copy:
        t = copied(obj, dtype, device)
    else:
        t = as_tensor.body(obj, dtype, device)
        kept = shares and (t is obj if isinstance(obj, Tensor) else t.dtype is dtype_from_numpy(obj.dtype) and t.device.type == "cpu")
        if copy is False and not kept:
            raise ValueError("cannot alias: " + ("can't convert the data without a copy" if shares else "can't alias arbitrary sequence"))
    if t._req and not requires_grad:
        t = t.detach()
    return t.requires_grad_() if requires_grad and not t._req else t


@composite(method=False)
def from_numpy(ndarray):
    """A CPU tensor sharing memory with a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtype_from_numpy(ndarray.dtype)
    if any(s < 0 for s in ndarray.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
                         "supported. (You can probably work around this by making a copy of your array with array.copy().)")
    if not ndarray.flags.writeable:
        warn("The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This means writing to this tensor "
             "will result in undefined behavior. You may want to copy the array to protect its data or make it writable before converting "
             "it to a tensor. This type of warning will be suppressed for the rest of this program.")
    return wrap(ndarray.view(np.ndarray))


@composite(method=False)
def scalar_tensor(s, *, dtype=None, device=None, requires_grad=False):
    """A 0-d tensor."""
    return _filled((), s, dtype or get_default_dtype(), device, requires_grad)


# ---- filled


@composite(out="dtype", method=False)
def empty(*sizes, size=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False, memory_format=None):
    """Uninitialised memory (filled with zeros while tracing)."""
    t = _filled(_sizes(sizes, size), None, dtype or get_default_dtype(), device, requires_grad)
    return t if memory_format is None else _in_format(t, memory_format, requires_grad)


@composite(out="dtype", method=False)
def zeros(*sizes, size=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """Zeros."""
    return _filled(_sizes(sizes, size), 0, dtype or get_default_dtype(), device, requires_grad)


@composite(out="dtype", method=False)
def ones(*sizes, size=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """Ones."""
    return _filled(_sizes(sizes, size), 1, dtype or get_default_dtype(), device, requires_grad)


@composite(out="dtype", method=False)
def full(size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """``fill_value`` everywhere; its dtype unless given."""
    if isinstance(fill_value, Tensor):
        dtype = dtype or fill_value.dtype
        fill_value = fill_value.item()
    size = (size,) if isinstance(size, int) else size
    return _filled(_sizes(tuple(size)), fill_value, dtype or dtypes.of_number(fill_value), device, requires_grad)


def _in_format(t: Tensor, memory_format: Any, requires_grad: bool) -> Tensor:
    from .memory import in_format
    return in_format(t.detach(), memory_format).requires_grad_(requires_grad)


def _filled_like(input: Tensor, value: Any, d: dtype | None, device: Any, requires_grad: bool, memory_format: Any) -> Tensor:
    t = _filled(input._a.shape, value, d or input.dtype, device or input.device, False)
    t = laid_out_like(t, input, memory_format)
    return t.requires_grad_() if requires_grad else t


def laid_out_like(t: Tensor, input: Tensor, memory_format: Any) -> Tensor:
    """A row-major tensor in a memory format: by default, with its dimensions in the order of those of ``input``."""
    if memory_format is None or memory_format is preserve_format:
        if input.is_contiguous():
            return t
        from ..writing import lay_out
        return lay_out("like", t, (input,)).detach()
    from .memory import in_format
    return in_format(t, memory_format).detach()


def _like(value: Any, doc: str, name: str) -> None:
    def f(input, *, dtype=None, device=None, requires_grad=False, layout=None, memory_format=None):  # noqa: ANN001, ANN202
        return _filled_like(input, value, dtype, device, requires_grad, memory_format)
    f.__doc__, f.__name__, f.__qualname__ = doc, name, name
    composite(name=name, method=False)(f)


_like(None, "Uninitialised memory like ``input``.", "empty_like")
_like(0, "Zeros like ``input``.", "zeros_like")
_like(1, "Ones like ``input``.", "ones_like")


@composite(out=True, method=False)
def full_like(input, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None, memory_format=None):
    """``fill_value`` everywhere, shape and dtype of ``input``."""
    return _filled_like(input, fill_value, dtype, device, requires_grad, memory_format)


def _new(value: Any, name: str) -> None:
    def f(input, *sizes, size=None, dtype=None, device=None, requires_grad=False,  # noqa: ANN001, ANN202
          layout=None, pin_memory=False):
        return _filled(_sizes(sizes, size), value, dtype or input.dtype, device or input.device, requires_grad)
    f.__doc__, f.__name__, f.__qualname__ = f"``{name[4:]}`` with the dtype and device of ``input``.", name, name
    composite(name=name, function=False)(f)


_new(None, "new_empty")
_new(0, "new_zeros")
_new(1, "new_ones")


@composite(function=False)
def new_full(input, size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """``full`` with the dtype and device of ``input``."""
    return _filled(_sizes(tuple(size)), fill_value, dtype or input.dtype, device or input.device, requires_grad)


@composite(function=False)
def new_tensor(input, data, *, dtype=None, device=None, requires_grad=False):
    """``tensor(data)`` with the dtype and device of ``input``."""
    if isinstance(data, Tensor):
        _advise_clone("tensor.new_tensor")
    return copied(data, dtype or input.dtype, device or input.device, requires_grad)


# ---- ranges


@composite(out="dtype", method=False)
def arange(start=None, end=None, step=1, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """``start, start + step, ...`` up to but not including ``end``."""
    start, end, step = [x.item() if isinstance(x, Tensor) else x for x in (start, end, step)]
    if dtype is int64:
        start, end, step = [x if x is None else int(x) for x in (start, end, step)]
    if start is None and end is None:
        raise TypeError("arange() received an invalid combination of arguments: it needs an end")
    if start is None or end is None:
        start, end = 0, start if end is None else end
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype is None:
        dtype = get_default_dtype() if any(isinstance(x, float) for x in (start, end, step)) else int64
    n = max(math.ceil((end - start) / step), 0)
    if not dtype.is_floating_point:  # the count comes from the exact bounds, the values from whole ones
        start, step = int(start), int(step)
    a = start + np.arange(n, dtype=np.float64 if dtype.is_floating_point else np.int64) * step
    return place(a.astype(dtype.np), device, requires_grad)


@composite(out="dtype", method=False)
def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False, layout=None):
    """``steps`` numbers evenly from ``start`` to ``end``, both included."""
    d = dtype or _spaced_dtype(start, end)
    if _unknown(start, end, d) and steps >= 0:
        return _spaced_between(start, end, steps).to(device=device or "cpu", dtype=d).requires_grad_(requires_grad)
    return place(_spaced(start, end, steps, d).astype(d.np), device, requires_grad)


def _unknown(start: Any, end: Any, d: dtype) -> bool:
    """Whether one of the ends is a tensor and a function is being traced, where its value is not known."""
    return tracing() and d.is_floating_point and any(
        isinstance(x, Tensor) and not x.dtype.is_complex for x in (start, end))


def _spaced_between(start: Any, end: Any, steps: int) -> Tensor:
    """Numbers from ``start`` to ``end``, whose values are not known yet."""
    first, last = [x.detach().double() if isinstance(x, Tensor) else float(x) for x in (start, end)]
    at = fn.arange(steps, dtype=float64, device=start.device if isinstance(start, Tensor) else end.device)
    between = at * ((last - first) / max(steps - 1, 1)) + first
    return fn.where(at == steps - 1, last, between) if steps > 1 else between  # the end itself, whatever was rounded on the way


def _spaced_dtype(*ends: Any) -> dtype:
    d = get_default_dtype()
    return d.to_complex() if any(isinstance(x, complex) or (isinstance(x, Tensor) and x.dtype.is_complex) for x in ends) else d


def _spaced(start: Any, end: Any, steps: int, d: dtype) -> np.ndarray:
    start, end = [x.item() if isinstance(x, Tensor) else x for x in (start, end)]
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    if d.category >= 2:
        return np.linspace(start, end, steps)
    return np.trunc(np.linspace(int(start), int(end), steps))


@composite(out="dtype", method=False)
def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False, layout=None):
    """``base`` to the powers ``linspace(start, end, steps)``."""
    d = dtype or _spaced_dtype(start, end)
    if _unknown(start, end, d) and steps >= 0:
        return (float(base) ** _spaced_between(start, end, steps)).to(device=device or "cpu", dtype=d).requires_grad_(requires_grad)
    start, end = [x.item() if isinstance(x, Tensor) else x for x in (start, end)]
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    if d.category < 2:
        start, end = int(start), int(end)
    return place(np.asarray(np.power(float(base), np.linspace(start, end, steps))).astype(d.np), device, requires_grad)


@composite(out="dtype", method=False)
def eye(n, m=None, *, dtype=None, device=None, requires_grad=False, layout=None):
    """The identity matrix."""
    for name, size in (("n", n), ("m", m)):
        if size is not None and size < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {size}")
    return place(np.eye(n, n if m is None else m, dtype=(dtype or get_default_dtype()).np), device, requires_grad)


def legacy_constructor(cls: type, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor(2, 3)`` (sizes), ``Tensor([1, 2])`` (data), ``Tensor()`` (empty), as PyTorch's old constructor."""
    made = legacy_tensor(args, get_default_dtype(), **kwargs)
    if cls is Tensor:
        return made
    t = object.__new__(cls)
    t._a, t._req, t._x = made._a, False, None
    return announce(t)


def legacy_tensor(args: tuple, d: dtype, device: Any = None, size: Any = None, data: Any = None) -> Tensor:
    """What the old constructors make of sizes, data, another tensor or a storage."""
    args = args or tuple([a for a in (size, data) if a is not None])
    if not args:
        return _filled((0,), None, d, device, False)
    first = args[0]
    if len(args) == 1 and isinstance(first, Tensor):
        if first.dtype is not d:
            raise TypeError(f"expected a tensor of dtype {d} (got {first.dtype})")
        return first.detach()
    if len(args) == 1 and hasattr(first, "untyped") or hasattr(first, "data_ptr"):
        held = getattr(first, "_untyped_storage", first)
        return held.tensor(d, (held.nbytes() // d.itemsize,), (1,), 0)
    if len(args) == 1 and isinstance(first, (list, tuple, np.ndarray, range)) and not hasattr(first, "numel"):
        return place(_array_of(first, d), device)
    if len(args) == 1 and isinstance(first, float):
        raise TypeError("new(): data must be a sequence (got float)")
    return _filled(_sizes(args), None, d, device, False)
