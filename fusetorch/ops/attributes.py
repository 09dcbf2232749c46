"""What a tensor can be asked, and how other libraries see its memory: attributes, DLPack, the array interfaces.

These are plain methods and properties, no operations: nothing here is differentiated or traced.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import formats
from ..tensor import Tensor, announce, memory_of, meta, structure_changed, version_of, wrap
from .memory import real_array
from .opdef import composite, fn

ndarray = np.ndarray


def _method(f: Callable) -> Callable:
    setattr(Tensor, f.__name__, f)
    return f


def _property(f: Callable) -> property:
    made = property(f)
    setattr(Tensor, f.__name__, made)
    return made


# ---- kind

for _name, _doc in {"is_sparse": "sparse", "is_sparse_csr": "sparse (CSR)", "is_quantized": "quantized",
                    "is_mkldnn": "in MKL-DNN layout", "is_mps": "on an Apple GPU", "is_xpu": "on an Intel GPU", "is_xla": "on XLA",
                    "is_ipu": "on an IPU", "is_hpu": "on an HPU", "is_maia": "on MAIA", "is_mtia": "on MTIA", "is_vulkan": "on Vulkan",
                    "is_nested": "nested"}.items():
    setattr(Tensor, _name, property(lambda self: False, doc=f"Whether the tensor is {_doc} (never)."))


@_property
def layout(self: Tensor) -> formats.layout:
    """``torch.strided``."""
    return formats.strided


@_property
def is_meta(self: Tensor) -> bool:
    """Whether the tensor is on the ``meta`` device: a shape and a dtype without memory."""
    return self.device.type == "meta"


@_property
def is_cpu(self: Tensor) -> bool:
    """Whether the memory is the CPU's."""
    return self.device.type == "cpu"


@_property
def output_nr(self: Tensor) -> int:
    """Which output of its node this is."""
    return 0 if self._x is None else self._x.index


@_property
def retains_grad(self: Tensor) -> bool:
    """Whether ``retain_grad`` was called on this tensor, which is no leaf."""
    return self._x is not None and self._x.retain


@_property
def _base(self: Tensor) -> Tensor | None:
    """The tensor that this one is a view of, if gradients were being recorded."""
    return None if self._x is None else self._x.base


@_property
def _cdata(self: Tensor) -> int:
    return id(self)


@_property
def _backward_hooks(self: Tensor) -> Any:
    return None if self._x is None else self._x.hooks


@_method
def _is_view(self: Tensor) -> bool:
    return self._base is not None


@_method
def is_inference(self: Tensor) -> bool:
    """Whether this is an inference tensor (never: ``inference_mode`` makes ordinary ones)."""
    return False


@composite()
def is_signed(input):
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


@composite()
def is_nonzero(input):
    """Whether the one element is not zero."""
    if input.numel() != 1:
        raise RuntimeError(f"Boolean value of Tensor with {'more than one value' if input.numel() else 'no values'} is ambiguous")
    return bool(input)


@composite()
def get_device(input):
    """The CUDA device's number; -1 elsewhere."""
    d = input.device
    return d.index or 0 if d.type == "cuda" else -1


@_method
def ndimension(self: Tensor) -> int:
    """The number of dimensions."""
    return self.ndim


@_method
def dense_dim(self: Tensor) -> int:
    """The number of dense dimensions: all."""
    return self.ndim


@_method
def sparse_dim(self: Tensor) -> int:
    """The number of sparse dimensions: none."""
    return 0


@_method
def to_dense(self: Tensor, dtype: Any = None, *, masked_grad: bool = True) -> Tensor:
    """The tensor itself, which is dense, in ``dtype`` if given."""
    return self if dtype is None else self.to(dtype)


@_method
def dim_order(self: Tensor, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dimensions from the largest stride to the smallest."""
    s = self.stride()
    return tuple(sorted(range(self.ndim), key=lambda d: -s[d]))


@_method
def record_stream(self: Tensor, stream: Any) -> None:
    """Tells the allocator that ``stream`` uses the memory. Ours reuses memory in the order of the stream that freed it, so this waits
    until ``stream`` has done what is queued on it."""
    if self.is_cuda and hasattr(stream, "synchronize"):
        stream.synchronize()


@_method
def const_data_ptr(self: Tensor) -> int:
    """The address of the first element."""
    return self.data_ptr()


@_method
def module_load(self: Tensor, other: Tensor, assign: bool = False) -> Tensor:
    """What ``load_state_dict`` puts in place of this tensor for ``other``."""
    return other.detach() if assign else self.detach().copy_(other)


@_method
def __reversed__(self: Tensor) -> Tensor:
    """The tensor with all its dimensions reversed, as in PyTorch."""
    return self if not self.ndim else self.flip(*range(self.ndim))


@_method
def __dir__(self: Tensor) -> list[str]:
    """All attributes."""
    return sorted({n for n in (*dir(type(self)), *self.__dict__) if not n[0].isdigit()})


@_method
def __setstate__(self: Tensor, state: Any) -> None:
    """Takes over attributes from a pickle or a copy."""
    for k, v in (state or {}).items():
        setattr(self, k, v)


@_method
def __copy__(self: Tensor) -> Tensor:
    """The same memory, requirement of gradients and attributes; a leaf."""
    return _same_memory(self, type(self), self._req)


@_method
def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> Any:
    """Calls ``hook(self)`` after a backward pass has added to this leaf's ``grad``."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self.grad_fn is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    from ..autograd.nodes import _add_hook, post_hooks
    structure_changed()
    return _add_hook(post_hooks(self), hook)


# ---- other classes


def _same_memory(t: Tensor, cls: type, requires_grad: bool) -> Any:
    new = object.__new__(cls)
    new._a, new._req, new._x = t._a, requires_grad, None
    x = meta(new)
    x.version = version_of(t)
    if type(t._a) is ndarray:
        x.memory = memory_of(t)
    new.__dict__.update(t.__dict__)
    return announce(new)


@_method
def as_subclass(self: Tensor, cls: type) -> Any:
    """The same memory and history as an instance of ``cls``."""
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise TypeError(f"cls must be a type (and a subclass of torch.Tensor), not {cls!r}")
    new = _same_memory(self, cls, False)
    if self._req:
        seen = fn.view_as_shape(self, tuple(self._a.shape))
        new._req, new._x = seen._req, seen._x
    return new


def _make_subclass(cls: type, data: Tensor, require_grad: bool = False, **_: Any) -> Any:
    """An instance of ``cls`` over the memory of ``data``, without history."""
    new = _same_memory(data, cls, False)
    new.__dict__.clear()
    return new.requires_grad_(require_grad)


Tensor._make_subclass = staticmethod(_make_subclass)


@_method
def new(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The old constructor, with this tensor's dtype and device: sizes, data or nothing."""
    from .creation import legacy_tensor
    return legacy_tensor(args, self.dtype, kwargs.pop("device", None) or self.device, **kwargs)


# ---- element by element, in Python


def _callback(name: str, others: int) -> None:
    def f(self: Tensor, *args: Any) -> Tensor:
        tensors, function = args[:others], args[others]
        if self.device.type != "cpu":
            raise TypeError(f"{name}_ is only implemented on CPU tensors")
        if self._req:
            raise RuntimeError(f"Can't call {name}_() on Variable that requires grad.")
        columns = [real_array(t.expand(self.shape)).ravel().tolist() for t in (self, *tensors)]
        values = [function(*row) for row in zip(*columns)]
        return self.copy_(wrap(np.array(values, self.dtype.np).reshape(self._a.shape)))
    f.__name__ = f.__qualname__ = name + "_"
    f.__doc__ = "Writes ``callable(element, ...)`` over each element (slow; CPU only)."
    _method(f)


_callback("apply", 0)
_callback("map", 1)
_callback("map2", 2)


# ---- other libraries


def _array_interface(self: Tensor) -> dict[str, Any]:
    if self.device.type != "cuda":
        raise AttributeError(f"Can't get __cuda_array_interface__ on non-CUDA tensor type: {self.type()} If CUDA data is required use "
                             "tensor.cuda() to copy tensor to device memory.")
    if self._req:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't required, use "
                           "var.detach() to get Variable that doesn't require grad.")
    a = real_array(self)
    if self.dtype.name == "bfloat16":
        raise TypeError("the CUDA array interface has no bfloat16; use .view(torch.int16)")
    return {"typestr": self.dtype.np.str, "shape": tuple(a.shape), "strides": None if self.is_contiguous() else tuple(
        [s * a.itemsize for s in a.strides]), "data": (a.ptr if a.size else 0, False), "version": 2}


Tensor.__cuda_array_interface__ = property(_array_interface)


def _checked(self: Tensor) -> Any:
    if self._req:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    return real_array(self)


@_method
def __dlpack__(self: Tensor, *, stream: Any = -1, max_version: tuple[int, int] | None = None, dl_device: Any = None,
               copy: bool | None = None) -> Any:
    """A DLPack capsule of the memory: NumPy's on the CPU, CuPy's on CUDA (which orders ``stream`` after the current one)."""
    a = _checked(self)
    if self.is_meta:
        raise BufferError("Cannot pack tensors on meta")
    if copy:
        return fn.clone(self).__dlpack__(stream=stream, max_version=max_version)
    if type(a) is ndarray or a.storage.simulated:
        from ..runtime.memory import as_numpy
        host = a if type(a) is ndarray else as_numpy(a)
        if host.dtype.kind == "V" or self.dtype.name == "bfloat16":
            raise BufferError("DLPack through NumPy has no bfloat16; use .view(torch.int16)")
        return host.__dlpack__()
    from ..runtime.memory import as_cupy
    return as_cupy(a).__dlpack__(**({} if stream in (-1, None) else {"stream": stream}))


@_method
def __dlpack_device__(self: Tensor) -> tuple[int, int]:
    """DLPack's (device type, number): 1 is the CPU, 2 CUDA."""
    d = self.device
    return (1, 0) if d.type == "cpu" or self._a.storage.simulated else (2, d.index or 0)


@composite(method=False)
def to_dlpack(tensor):
    """A DLPack capsule of the tensor's memory."""
    return tensor.__dlpack__()


@composite(method=False)
def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor over the memory of another library's array (anything with ``__dlpack__``, or a capsule)."""
    if isinstance(ext_tensor, Tensor):
        _checked(ext_tensor)
        t = ext_tensor.detach()
    elif hasattr(ext_tensor, "__dlpack_device__") and ext_tensor.__dlpack_device__()[0] == 2:
        import cupy
        t = _from_cupy(cupy.from_dlpack(ext_tensor))
    elif isinstance(ext_tensor, ndarray):
        t = fn.from_numpy(ext_tensor)
    else:
        t = fn.from_numpy(np.from_dlpack(ext_tensor if hasattr(ext_tensor, "__dlpack__") else _Capsule(ext_tensor)))
    return fn.asarray(t, device=device, copy=copy) if device is not None or copy else t


class _Capsule:
    """Gives NumPy a bare capsule of CPU memory."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def _from_cupy(a: Any) -> Tensor:
    from ..dtypes import from_numpy
    from ..runtime.memory import DeviceArray, adopt
    d = from_numpy(a.dtype)
    return wrap(DeviceArray(adopt(a), tuple(a.shape), tuple([s // d.itemsize for s in a.strides]), 0, d))


@composite(method=False)
def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A 1-D tensor over the bytes of an object with Python's buffer protocol, without a copy."""
    held = memoryview(buffer)
    n, size = held.nbytes, dtype.itemsize
    if n == 0:
        raise ValueError(f"both buffer length ({n}) and count ({count}) must not be 0")
    if not 0 <= offset < n:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({n} bytes) minus 1")
    if count == 0 or count < -1:
        raise ValueError(f"both buffer length ({n}) and count ({count}) must not be 0, and count must be positive or -1")
    if count < 0 and (n - offset) % size:
        raise ValueError(f"buffer length ({n - offset} bytes) after offset ({offset} bytes) must be a multiple of element size ({size})")
    if count > 0 and offset + count * size > n:
        raise ValueError(f"requested buffer length ({count} * {size} bytes) after offset ({offset} bytes) must not be greater than actual "
                         f"buffer length ({n} bytes)")
    if held.readonly:
        import warnings
        warnings.warn("The given buffer is not writable, and PyTorch does not support non-writable tensors. This means you can write to "
                      "the underlying (supposedly non-writable) buffer using the tensor.", UserWarning, stacklevel=2)
    t = wrap(np.frombuffer(buffer, np.uint8, count * size if count > 0 else -1, offset).view(dtype.np))
    return t.requires_grad_() if requires_grad else t
