"""``torch.storage``: the memory behind tensors, as bytes or as elements of one dtype."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes
from .dtypes import dtype as dtype_class
from .ops.memory import from_bytes, is_shared, memory_bytes, real_array
from .runtime import memory as device_memory
from .runtime.device import device as device_class
from .runtime.meta import NO_DATA, MetaArray, MetaStorage
from .tensor import Tensor, address_of, wrap


class UntypedStorage:
    """Bytes of memory on a device: ``nbytes()``, ``data_ptr()``, ``device``, indexing by byte.

    ``UntypedStorage(size)`` makes new CPU memory, ``UntypedStorage([1, 2])`` fills it; tensors give theirs with
    ``untyped_storage()``.

    Example:
        >>> import fusetorch as torch
        >>> x = torch.arange(6.0).view(2, 3)
        >>> x[1].untyped_storage().data_ptr() == x.data_ptr(), x.untyped_storage().nbytes()
        (True, 24)
    """

    is_sparse = False

    def __init__(self, *args: Any, device: Any = None) -> None:
        size = args[0] if args else 0
        host = np.zeros(size, np.uint8) if isinstance(size, int) else np.array(list(size), np.uint8)
        place = device_class("cpu" if device is None else device)
        self._memory: Any = (host if place.type == "cpu" else MetaStorage(host.nbytes) if place.type == "meta" else
                             device_memory.from_numpy(host, place.index or 0).storage)

    @classmethod
    def over(cls, memory: Any) -> UntypedStorage:
        """The storage of an array of bytes, or of a :class:`fusetorch.runtime.memory.Storage`."""
        s = cls.__new__(cls)
        s._memory = memory
        return s

    @classmethod
    def of(cls, t: Tensor) -> UntypedStorage:
        """The storage that a tensor is a view of."""
        a = real_array(t)
        s = cls.over(memory_bytes(t) if isinstance(a, np.ndarray) else a.storage)
        s._shared = isinstance(a, np.ndarray) and is_shared.body(t)
        return s

    _shared = False

    @property
    def device(self) -> device_class:
        """Where the bytes are."""
        m = self._memory
        return device_class("cpu") if isinstance(m, np.ndarray) else m.device

    @property
    def is_cuda(self) -> bool:
        """Whether the bytes are on a CUDA device."""
        return self.device.type == "cuda"

    def nbytes(self) -> int:
        """The number of bytes."""
        return self._memory.nbytes

    size = __len__ = nbytes

    def element_size(self) -> int:
        """1: a storage without a type counts bytes."""
        return 1

    def data_ptr(self) -> int:
        """The address of the first byte."""
        m = self._memory
        return address_of(m) if m.nbytes or not isinstance(m, np.ndarray) else 0

    @property
    def _cdata(self) -> int:
        return self.data_ptr()

    def tensor(self, d: dtype_class, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Tensor:
        """A tensor over these bytes; strides and offset in elements. ``RuntimeError`` where it would leave them."""
        if isinstance(self._memory, np.ndarray):
            t = wrap(from_bytes(self._memory, d, tuple(shape), tuple(strides), offset))
            if t._a.size:
                from .tensor import meta
                meta(t).memory = self._memory
            return t
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
        if 0 not in shape and (last + 1) * d.itemsize > self.nbytes():
            raise RuntimeError(f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset} are out of bounds for "
                               f"storage of size {self.nbytes()}")
        kind = MetaArray if isinstance(self._memory, MetaStorage) else device_memory.DeviceArray
        return wrap(kind(self._memory, tuple(shape), tuple(strides), offset, d))

    def host_bytes(self) -> np.ndarray:
        """The bytes as a NumPy array: the memory itself on the CPU, else a copy."""
        if isinstance(self._memory, np.ndarray):
            return self._memory
        if isinstance(self._memory, MetaStorage):
            raise NotImplementedError(NO_DATA)
        return device_memory.to_numpy(device_memory.DeviceArray(self._memory, (self.nbytes(),), (1,), 0, dtypes.uint8))

    def tolist(self) -> list[int]:
        """The bytes as a list of numbers."""
        return self.host_bytes().tolist()

    def __iter__(self) -> Any:
        return iter(self.tolist())

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return UntypedStorage.over(self.host_bytes()[i])
        return int(self.host_bytes()[i])

    def __setitem__(self, i: Any, value: int) -> None:
        self.tensor(dtypes.uint8, (self.nbytes(),), (1,), 0)[i] = value

    def fill_(self, value: int) -> UntypedStorage:
        """Sets every byte."""
        self.tensor(dtypes.uint8, (self.nbytes(),), (1,), 0).fill_(value)
        return self

    def copy_(self, source: Any, non_blocking: bool | None = None) -> UntypedStorage:
        """Copies another storage's bytes here."""
        other = getattr(source, "_untyped_storage", source)
        n = other.nbytes()
        self.tensor(dtypes.uint8, (n,), (1,), 0).copy_(other.tensor(dtypes.uint8, (n,), (1,), 0))
        return self

    def clone(self) -> UntypedStorage:
        """A copy."""
        return UntypedStorage(self.nbytes(), device=self.device).copy_(self)

    def to(self, *, device: Any, non_blocking: bool = False) -> UntypedStorage:
        """These bytes on another device; itself if they are there."""
        place = device_class(device)
        if place.type == self.device.type and (place.index or 0) == (self.device.index or 0):
            return self
        return UntypedStorage(self.nbytes(), device=place).copy_(self)

    def cpu(self) -> UntypedStorage:
        """The bytes in CPU memory."""
        return self.to(device="cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False) -> UntypedStorage:
        """The bytes on a CUDA device."""
        return self.to(device="cuda" if device is None else device)

    def is_shared(self) -> bool:
        """Whether processes share the bytes."""
        return self._shared or self.is_cuda

    def is_pinned(self, device: Any = None) -> bool:
        """Whether the memory is pinned (never, so far)."""
        return False

    def resizable(self) -> bool:
        """Whether ``resize_`` of this object is possible: tensors' ``resize_`` is, a storage's is not."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other.data_ptr() == self.data_ptr() and other.nbytes() == self.nbytes()

    def __hash__(self) -> int:
        return hash((self.data_ptr(), self.nbytes()))

    def __reduce__(self) -> tuple:
        return _restored, (self.host_bytes().tobytes(), str(self.device))

    def __repr__(self) -> str:
        return (("..." if self.device.type == "meta" else " " + "\n ".join(map(str, self.tolist()[:1000]))) +
                f"\n[torch.storage.UntypedStorage(device={self.device}) of size {self.nbytes()}]")


def _restored(data: bytes, device: str) -> UntypedStorage:
    return UntypedStorage.over(np.frombuffer(data, np.uint8).copy()).to(device=device)


class TypedStorage:
    """An :class:`UntypedStorage` seen as elements of one dtype, as ``Tensor.storage()`` gives it."""

    dtype: dtype_class | None = None

    def __init__(self, *args: Any, wrap_storage: UntypedStorage | None = None, dtype: dtype_class | None = None,
                 device: Any = None) -> None:
        d = dtype or type(self).dtype or dtypes.get_default_dtype()
        self.dtype = d
        if wrap_storage is not None:
            self._untyped_storage = wrap_storage
            return
        what = args[0] if args else 0
        if isinstance(what, int):
            self._untyped_storage = UntypedStorage(what * d.itemsize, device=device)
        else:
            host = np.array(list(what)).astype(d.np)
            self._untyped_storage = UntypedStorage.over(np.frombuffer(host.tobytes(), np.uint8).copy()).to(device=device or "cpu")

    def _tensor(self) -> Tensor:
        return self._untyped_storage.tensor(self.dtype, (self.size(),), (1,), 0)

    def untyped(self) -> UntypedStorage:
        """The bytes."""
        return self._untyped_storage

    def size(self) -> int:
        """The number of elements."""
        return self._untyped_storage.nbytes() // self.dtype.itemsize

    __len__ = size

    def nbytes(self) -> int:
        """The number of bytes."""
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self._untyped_storage.data_ptr()

    @property
    def device(self) -> device_class:
        """Where the elements are."""
        return self._untyped_storage.device

    @property
    def is_cuda(self) -> bool:
        """Whether they are on a CUDA device."""
        return self._untyped_storage.is_cuda

    def tolist(self) -> list:
        """The elements as Python numbers."""
        return self._tensor().tolist()

    def __iter__(self) -> Any:
        return iter(self.tolist())

    def __getitem__(self, i: Any) -> Any:
        return self._tensor()[i].item() if not isinstance(i, slice) else self._tensor()[i].tolist()

    def __setitem__(self, i: Any, value: Any) -> None:
        self._tensor()[i] = value

    def fill_(self, value: Any) -> TypedStorage:
        """Sets every element."""
        self._tensor().fill_(value)
        return self

    def copy_(self, source: TypedStorage, non_blocking: bool | None = None) -> TypedStorage:
        """Copies another storage's elements here, converting."""
        self._tensor().copy_(source._tensor())
        return self

    def clone(self) -> TypedStorage:
        """A copy."""
        return type(self)(wrap_storage=self._untyped_storage.clone(), dtype=self.dtype)

    def cpu(self) -> TypedStorage:
        """The elements in CPU memory."""
        return type(self)(wrap_storage=self._untyped_storage.cpu(), dtype=self.dtype)

    def is_shared(self) -> bool:
        """Whether processes share the memory."""
        return self._untyped_storage.is_shared()

    def pickle_storage_type(self) -> str:
        """The old class name, such as ``FloatStorage``."""
        return NAMES[self.dtype]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypedStorage) and other.dtype is self.dtype and other._untyped_storage == self._untyped_storage

    def __hash__(self) -> int:
        return hash((self.dtype, self._untyped_storage))

    def __reduce__(self) -> tuple:
        return _typed, (self._untyped_storage, self.dtype)

    def __repr__(self) -> str:
        return (" " + "\n ".join(map(str, self.tolist()[:1000])) +
                f"\n[torch.storage.TypedStorage(dtype={self.dtype}, device={self.device}) of size {len(self)}]")


def _typed(untyped: UntypedStorage, d: dtype_class) -> TypedStorage:
    return TypedStorage(wrap_storage=untyped, dtype=d)


#: dtype: the name of PyTorch's old storage class, which its files use.
NAMES = {d: name + "Storage" for d, name in dtypes.SCALAR_TYPES.items()}
CLASSES = {name: type(name, (TypedStorage,), {"dtype": d, "__module__": "fusetorch.storage"}) for d, name in NAMES.items()}
globals().update(CLASSES)


def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    return isinstance(obj, (UntypedStorage, TypedStorage))
