"""Conversions: dtype and device, Python and NumPy values, leaving the graph."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import FROM_NUMPY, PYTHON_TYPES
from ..dtypes import dtype as dtype_class
from ..runtime import meta as meta_arrays
from ..runtime.device import device as device_class
from ..shapes import dense_strides_like
from ..tensor import (
    Meta,
    Tensor,
    active_tracer,
    address_of,
    memory_of,
    meta,
    structure_changed,
    tracing,
    version_of,
    wrap,
)
from .creation import as_device
from .opdef import composite, fn, opaque


def host_array(t: Tensor) -> np.ndarray:
    """The contents as a NumPy array (the memory itself on the CPU). While tracing, this ends the trace."""
    if tracing():
        active_tracer().need_value(t)
    a = t._a
    if type(a) is np.ndarray:
        return a
    if type(a) is meta_arrays.MetaArray:
        raise NotImplementedError(meta_arrays.NO_DATA)
    from ..runtime.memory import to_numpy
    return to_numpy(a)


@composite(function=False)
def to(input, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """The tensor with another dtype, on another device, or like another tensor: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``,
    ``to(other)``. Itself if nothing changes and not ``copy``."""
    flags = 0
    for a in args:
        if isinstance(a, dtype_class):
            dtype = a
        elif type(a) is type and a in PYTHON_TYPES:
            dtype = PYTHON_TYPES[a]
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, (str, device_class)) or (isinstance(a, int) and not isinstance(a, bool)):
            device = a
        elif isinstance(a, bool):  # after dtype and device: non_blocking, then copy
            flags, copy = flags + 1, a if flags else copy
        elif a is not None:
            raise TypeError(f"to() received an invalid combination of arguments: got a {type(a).__name__}")
    if memory_format is not None:
        from .memory import in_format
        return in_format(to.body(input, dtype=dtype, device=device, copy=copy), memory_format)
    out = input
    here = input.device
    if device is not None and device is not here:
        d = as_device(device)
        if d.type != here.type or (d.index or 0) != (here.index or 0):
            if d.type == "meta":
                _end_trace("a tensor is moved to the meta device, where no kernel runs")
            out = _moved(out, d)
    if dtype is not None and dtype is not out.dtype:
        if out.dtype.is_complex and dtype.category in (1, 2):
            warnings.warn("Casting complex values to real discards the imaginary part", UserWarning, stacklevel=2)
        out = fn.convert(out, dtype)
    return out.clone() if copy and out is input else out


def _end_trace(why: str) -> None:
    if tracing():
        active_tracer().stop_tracing(why)


def _moved(t: Tensor, device: device_class) -> Tensor:
    """A copy on another device, its dimensions in the same order."""
    if t.is_contiguous():
        return fn.move_to_device(t, device)
    strides = dense_strides_like(t._a.shape, [(t._a.shape, t.stride())])
    order = sorted(range(t.ndim), key=lambda k: -strides[k])
    return fn.permute_dims(fn.move_to_device(fn.permute_dims(t, tuple(order)), device), tuple([order.index(k) for k in range(t.ndim)]))


@opaque(name="move_to_device", function=False, method=False)
def move_to_device(input, device: object):
    """A copy on another device."""
    return [(input.shape, input.dtype)]


@move_to_device.cpu
def _(a: np.ndarray, device: device_class) -> Any:
    if device.type == "cpu":
        return a.copy()
    if device.type == "meta":
        strides = tuple([s // a.itemsize for s in a.strides])
        return meta_arrays.empty(a.shape, FROM_NUMPY[a.dtype], dense_strides_like(a.shape, [(a.shape, strides)]))
    from ..runtime.device import require_cuda
    from ..runtime.memory import from_numpy as upload
    require_cuda()
    return upload(a, device.index or 0)


@move_to_device.cuda
def _(a: Any, device: device_class) -> Any:
    if device.type == "meta":
        return meta_arrays.empty(a.shape, a.dtype, dense_strides_like(a.shape, [(a.shape, a.strides)]))
    from ..runtime.memory import from_numpy as upload
    from ..runtime.memory import to_numpy
    host = to_numpy(a)
    return host if device.type == "cpu" else upload(host, device.index or 0)


@move_to_device.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    return fn.move_to_device(g, ctx["input"].device)


def _dtype_method(name: str, d: dtype_class) -> None:
    def f(input, memory_format=None):  # noqa: ANN001, ANN202
        if memory_format is not None:
            return input.to(d, memory_format=memory_format)
        return input if input.dtype is d else fn.convert(input, d)
    f.__doc__, f.__name__ = f"The tensor as ``{d}``.", name
    composite(name=name, function=False)(f)


for _name, _d in {"float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "bfloat16": dtypes.bfloat16,
                  "long": dtypes.int64, "int": dtypes.int32, "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8,
                  "bool": dtypes.bool_, "cfloat": dtypes.complex64, "cdouble": dtypes.complex128}.items():
    _dtype_method(_name, _d)


@composite(function=False)
def type_as(input, other):
    """``input`` with the dtype and device of ``other``."""
    return input.to(other)


@composite(name="type", function=False)
def type_(input, dtype=None, non_blocking=False):
    """The old-style type name (``"torch.FloatTensor"``), or the tensor converted to a dtype or to such a type."""
    if dtype is None:
        return f"torch.{'' if input.is_cpu else input.device.type + '.'}{dtypes.SCALAR_TYPES[input.dtype]}Tensor"
    if not isinstance(dtype, dtype_class):
        from ..legacy import parse_type
        return input.to(**parse_type(dtype))
    return input.to(dtype)


@composite(function=False)
def cpu(input, memory_format=None):
    """The tensor in CPU memory."""
    return input.to(device="cpu", memory_format=memory_format)


@composite(function=False)
def cuda(input, device=None, non_blocking=False, memory_format=None):
    """The tensor in the memory of a CUDA device."""
    return input.to(device="cuda" if device is None else device, memory_format=memory_format)


@composite()
def detach(input):
    """The same memory, without history."""
    t = wrap(input._a)
    x = t._x = Meta()
    x.version = version_of(input)
    if type(t._a) is np.ndarray:
        x.memory = memory_of(input)
    return t


@composite()
def detach_(input):
    """Forgets the history in place."""
    if input._x is not None:
        input._x.node = None
    input._req = False
    return input


@composite(function=False)
def item(input):
    """The one element as a Python number."""
    if input.numel() != 1:
        raise RuntimeError(f"a Tensor with {input.numel()} elements cannot be converted to Scalar")
    if type(input._a) is meta_arrays.MetaArray:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")
    return host_array(input).item()


@composite(function=False)
def tolist(input):
    """The elements as (nested lists of) Python numbers."""
    return host_array(input).tolist()


@composite(function=False)
def numpy(input, *, force=False):
    """A NumPy array sharing the tensor's memory (on the CPU, not requiring grad or under ``no_grad``; ``force`` copies otherwise)."""
    from ..autograd import GradMode
    if force:
        return host_array(input.detach())
    if input.requires_grad and GradMode.enabled:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    if input.device.type != "cpu":
        raise TypeError(f"can't convert {input.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                        "memory first.")
    return host_array(input)


@composite(function=False)
def data_ptr(input):
    """The address of the first element."""
    return address_of(input._a)


@composite()
def is_same_size(input, other):
    """Whether the shapes are equal."""
    return input.shape == other.shape


@composite(name="equal")
def equal(input, other):
    """Whether the tensors have the same shape and elements."""
    return input.shape == other.shape and bool((input == other).all())


@composite()
def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all elements are close (see ``isclose``)."""
    return bool(fn.isclose(input, other, rtol, atol, equal_nan).all())


@composite(method=False)
def is_tensor(obj):
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


@composite(function=True, method=False)
def numel(input):
    """The number of elements."""
    return input.numel()


@composite(method=False)
def is_floating_point(input):
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


@composite(function=False)
def retain_grad(input):
    """Keeps the gradient of a non-leaf tensor in its ``grad``."""
    if not input.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if input.grad_fn is not None:
        from ..autograd import watch
        meta(input).retain = True
        watch(input)


class RemovableHandle:
    """Removes a hook: ``handle.remove()``."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self.hooks, self.key = hooks, key

    def remove(self) -> None:
        """Takes the hook off."""
        self.hooks.pop(self.key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


@composite(function=False)
def register_hook(input, hook):
    """Calls ``hook(grad)`` when the gradient is known; what it returns replaces the gradient."""
    if not input.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    from ..autograd import watch
    x = meta(input)
    if x.hooks is None:
        x.hooks = {}
    key = id(hook) if id(hook) not in x.hooks else max(x.hooks) + 1
    x.hooks[key] = hook
    structure_changed()
    if input.grad_fn is not None:
        watch(input)
    return RemovableHandle(x.hooks, key)


@composite(function=False)
def backward(input, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    """Adds the gradients of this tensor to the ``grad`` of the leaves it depends on."""
    from ..autograd import backward as run
    run(input, gradient, retain_graph, create_graph, inputs)


@composite(function=False)
def copy_(input, src, non_blocking=False):
    """Writes ``src`` (broadcast, converted) into this tensor."""
    from .. import writing
    if not isinstance(src, Tensor):
        src = fn.tensor(src, dtype=input.dtype, device=input.device)
    if src.dtype is not input.dtype or src.device is not input.device:
        src = src.to(device=input.device, dtype=input.dtype)
    if src._a.shape != input._a.shape:
        src = src.expand(input._a.shape)
    writing.check_inplace(input, "copy_")
    writing.assign(input, src, "copy_")
    return input


@composite()
def fill_(input, value):
    """Writes one value everywhere."""
    if isinstance(value, Tensor):
        return input.copy_(value)
    a = input._a
    if (type(a) is np.ndarray and not input._req and type(value) in (float, int) and a.dtype.char in "fd"
            and not 1e30 < abs(value) < np.inf and 0 not in a.strides and not tracing()):
        a.fill(value)
        version_of(input)[0] += 1
        return input
    from .. import writing
    writing.check_inplace(input, "fill_")
    writing.assign(input, fn.full((), value, dtype=input.dtype, device=input.device).expand(input._a.shape), "fill_")
    return input


@composite()
def zero_(input):
    """Writes zeros everywhere."""
    return fn.fill_(input, 0)


@composite(method=False, function=False, name="result_type_of_numbers")
def result_type_of_numbers(a, b):
    """The dtype two Python numbers have together."""
    from ..dtypes import of_number, promote_types
    return promote_types(of_number(a), of_number(b))


@composite(method=False)
def result_type(tensor1, tensor2):
    """The dtype that an operation on the two operands gives."""
    from .. import dtypes
    groups: list[list[Any]] = [[], [], []]
    for t in (tensor1, tensor2):
        if isinstance(t, Tensor):
            groups[0 if t.ndim else 1].append(t.dtype)
        else:
            groups[2].append(dtypes.of_number(t))
    return dtypes.result_type(*groups)
