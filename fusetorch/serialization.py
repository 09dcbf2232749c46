"""``torch.save`` and ``torch.load`` in PyTorch's file format, so that checkpoints can be exchanged with PyTorch in both directions.

A file is an uncompressed zip archive: ``data.pkl`` holds the pickled object, in which each tensor names its storage by a persistent id
``('storage', FloatStorage, key, location, numel)``; ``data/<key>`` holds that storage's bytes, aligned to 64. Tensors that share memory
share a storage, so views stay views. The pickle names PyTorch's functions and classes (``torch._utils._rebuild_tensor_v2``);
:mod:`fusetorch.unpickling` says what they mean here. Files older than PyTorch 1.6 are a sequence of pickles and raw storages.

Source: the documentation of ``torch.serialization``; the zip format's APPNOTE.
"""
from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes, formats, storage
from .ops.memory import offset_in_memory
from .runtime.device import cuda_available
from .runtime.device import device as device_class
from .shapes import Size
from .storage import TypedStorage, UntypedStorage
from .tensor import Tensor, strides_of
from .unpickling import (
    RestrictedUnpickler,
    add_safe_globals,
    clear_safe_globals,
    find_anything,
    get_safe_globals,
    safe_globals,
)

__all__ = ["save", "load", "add_safe_globals", "get_safe_globals", "clear_safe_globals", "safe_globals", "DEFAULT_PROTOCOL"]

DEFAULT_PROTOCOL = 2
#: What ``map_location`` may be, for annotations.
MAP_LOCATION = Callable[[UntypedStorage, str], UntypedStorage] | device_class | str | dict[str, str] | None
_ALIGN = 64
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the old format


# ---------------------------------------------------------------------------------------------------- saving


class _Named:
    """A class or function of PyTorch, written to a pickle by its name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Never called here: pickle wants a callable."""
        raise TypeError(f"{self.module}.{self.name} is PyTorch's")


_REBUILD, _REBUILD_PARAMETER = _Named("torch._utils", "_rebuild_tensor_v2"), _Named("torch._utils", "_rebuild_parameter")
_REBUILD_SPARSE = _Named("torch._utils", "_rebuild_sparse_tensor")
_REBUILD_META = _Named("torch._utils", "_rebuild_meta_tensor_no_storage")
_REBUILD_SUBCLASS, _LAYOUT = _Named("torch._tensor", "_rebuild_from_type_v2"), _Named("torch.serialization", "_get_layout")
_SIZE, _DEVICE, _TENSOR = _Named("torch", "Size"), _Named("torch", "device"), _Named("torch", "Tensor")
_DTYPES = {d: _Named("torch", d.name) for d in dtypes.ALL}
_STORAGES = {d: _Named("torch", name) for d, name in storage.NAMES.items()}
_UNTYPED = _Named("torch.storage", "UntypedStorage")


class _Pickler(pickle._Pickler):
    """Writes tensors as PyTorch does and collects their storages. It is Python's pickler in Python: the one in C wants to import what it
    names."""

    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, file: Any, protocol: int, old: bool = False) -> None:
        super().__init__(file, protocol)
        self.old = old
        self.storages: dict[tuple, tuple[str, UntypedStorage, int]] = {}

    def _save_named(self, obj: _Named) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch[_Named] = _save_named

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """As always, but a dtype is nothing but a name."""
        super().save(_DTYPES[obj] if isinstance(obj, dtypes.dtype) else obj, save_persistent_id)

    def persistent_id(self, obj: Any) -> Any:
        """PyTorch's name of a storage, which is written once however many tensors have it."""
        if isinstance(obj, TypedStorage):
            held, kind, size = obj.untyped(), _STORAGES[obj.dtype], obj.dtype.itemsize
        elif isinstance(obj, UntypedStorage):
            held, kind, size = obj, _STORAGES[dtypes.uint8] if self.old else _UNTYPED, 1
        else:
            return None
        where = held.device
        place = "cpu" if where.type == "cpu" else f"cuda:{where.index or 0}"
        identity = (place, held.data_ptr(), held.nbytes()) if held.nbytes() else (place, id(held), 0)
        key = self.storages.setdefault(identity, (str(len(self.storages)), held, size))[0]
        found = ("storage", kind, key, place, held.nbytes() // size)
        return (*found, None) if self.old else found

    def reducer_override(self, obj: Any) -> Any:
        """How to write tensors and the library's own values by PyTorch's names."""
        if isinstance(obj, Tensor):
            return _reduce_tensor(obj)
        if isinstance(obj, device_class):
            return _DEVICE, (obj.type,) if obj.index is None else (obj.type, obj.index)
        if isinstance(obj, Size):
            return _SIZE, (tuple(obj),)
        if isinstance(obj, formats.layout):
            return _LAYOUT, (repr(obj),)
        return NotImplemented


def _reduce_tensor(t: Tensor) -> tuple:
    from .nn.parameter import Buffer, Parameter
    hooks: Any = collections.OrderedDict()
    if isinstance(t, Parameter):
        return _REBUILD_PARAMETER, (t.detach(), t.requires_grad, hooks)
    if t.layout is formats.sparse_coo:
        return _REBUILD_SPARSE, (t.layout, (t._indices(), t._values().detach(), t.shape, t.is_coalesced()))
    if t.is_meta:
        rebuild, args = _REBUILD_META, (t.dtype, tuple(t._a.shape), t.stride(), t.requires_grad)
    else:
        rebuild, args = _REBUILD, _stored(t, hooks)
    state = dict(t.__dict__)
    if type(t) is Tensor and not state:
        return rebuild, args
    kind: Any = type(t)
    if isinstance(t, Buffer):
        kind, state = _TENSOR, state | {"_is_buffer": True}
    return _REBUILD_SUBCLASS, (rebuild, _TENSOR if kind is Tensor else kind, args, state)


def _stored(t: Tensor, hooks: Any) -> tuple:
    """What a tensor is made of again: its storage and how it looks at it."""
    held = TypedStorage(wrap_storage=UntypedStorage.of(t), dtype=t.dtype)
    return held, offset_in_memory(t), tuple(t._a.shape), tuple(strides_of(t._a)), t.requires_grad, hooks


def save(obj: Any, f: Any, pickle_module: Any = pickle, pickle_protocol: int = DEFAULT_PROTOCOL,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Writes ``obj`` (tensors in any nesting of containers, or any picklable object) to a path or binary file, readable by PyTorch.

    A file at a path is written aside and renamed. Raises ``NotImplementedError`` for a ``pickle_module`` other than :mod:`pickle`.

    Example:
        >>> import io
        >>> import fusetorch as torch
        >>> f = io.BytesIO()
        >>> torch.save({"weight": torch.ones(2)}, f)
        >>> _ = f.seek(0)
        >>> torch.load(f)
        {'weight': tensor([1., 1.])}
    """
    if pickle_module is not pickle:
        raise NotImplementedError(f"torch.save: pickle_module={pickle_module.__name__} is not supported; use the default, pickle")
    write = _write_zip if _use_new_zipfile_serialization else _write_old
    if not isinstance(f, (str, os.PathLike)):
        if not hasattr(f, "write"):
            raise AttributeError(f"expected 'f' to be string, path, or a file-like object with a 'write' attribute, got {type(f).__name__}")
        write(obj, f, "archive", pickle_protocol)
        return
    path = os.fspath(f)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {os.path.dirname(path)} does not exist.")
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe: nothing to rename
        with open(path, "wb") as out:
            write(obj, out, "archive", pickle_protocol)
        return
    path = os.path.realpath(path)
    handle, aside = tempfile.mkstemp(dir=folder, prefix=".saving-")
    try:
        with os.fdopen(handle, "wb") as out:
            write(obj, out, os.path.splitext(os.path.basename(path))[0] or "archive", pickle_protocol)
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_zip(obj: Any, f: Any, name: str, protocol: int) -> None:
    pickled = io.BytesIO()
    pickler = _Pickler(pickled, protocol)
    pickler.dump(obj)
    seekable = getattr(f, "seekable", None)
    whole = not (callable(seekable) and seekable() and hasattr(f, "tell"))
    out = io.BytesIO() if whole else f
    start = out.tell()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        def record(path: str, data: Any) -> None:
            _record(archive, out.tell() - start, f"{name}/{path}", data)
        record("data.pkl", pickled.getbuffer())
        record(".format_version", b"1")
        record(".storage_alignment", str(_ALIGN).encode())
        record("byteorder", sys.byteorder.encode())
        for key, held, _ in pickler.storages.values():
            record(f"data/{key}", held.host_bytes().data)
        record("version", b"3\n")
    if whole:
        f.write(out.getbuffer())


def _record(archive: zipfile.ZipFile, at: int, path: str, data: Any) -> None:
    """Adds a file to the archive, its contents aligned by padding in the header."""
    info = zipfile.ZipInfo(path)
    size = info.file_size = memoryview(data).nbytes
    big = size >= zipfile.ZIP64_LIMIT
    header = at + 30 + len(path.encode()) + (20 if big else 0) + 4
    info.extra = struct.pack("<2sH", b"FB", -header % _ALIGN) + b"Z" * (-header % _ALIGN)
    with archive.open(info, "w", force_zip64=big) as out:
        out.write(data)


def _write_old(obj: Any, f: Any, name: str, protocol: int) -> None:
    for value in (_MAGIC, _VERSION, {"protocol_version": _VERSION, "little_endian": sys.byteorder == "little",
                                     "type_sizes": {"short": 2, "int": 4, "long": 4}}):
        pickle.dump(value, f, protocol)
    pickler = _Pickler(f, protocol, old=True)
    pickler.dump(obj)
    pickle.dump([key for key, _, _ in pickler.storages.values()], f, protocol)
    f.flush()
    for _, held, size in pickler.storages.values():
        f.write(struct.pack("<q", held.nbytes() // size))
        f.write(held.host_bytes().data)


# ---------------------------------------------------------------------------------------------------- loading


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None, mmap: bool | None = None,
         **pickle_load_args: Any) -> Any:
    """Reads what :func:`save` or PyTorch's ``torch.save`` wrote.

    Args:
        f: a path or a binary file.
        map_location: where tensors go: a device, a dict from location to location (``{"cuda:0": "cpu"}``), or a function of storage and
            location that returns a storage or ``None``. Default: where they were.
        weights_only: only tensors and plain containers, so that a file cannot run code (the default). With ``False`` the file is
            trusted like a program.
        mmap: map the storages of a file at a path into memory instead of reading them.

    Raises ``pickle.UnpicklingError`` for what ``weights_only`` does not allow, ``RuntimeError`` for a file that is no such archive or
    for tensors of a device that is not there.
    """
    if weights_only is None:
        weights_only = pickle_module is None
    elif weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    pickle_load_args.setdefault("encoding", "utf-8")
    reader = _Reader(map_location, pickle_module or pickle, weights_only, pickle_load_args)
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(reader, file, os.fspath(f) if mmap else None)
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    for method in ("read", "seek", "tell"):
        if not hasattr(f, method):
            raise AttributeError(f"'{type(f).__name__}' object has no attribute '{method}'. You can only torch.load from a file that is "
                                 "seekable. Please pre-load the data into a buffer like io.BytesIO and try to load from it instead.")
    return _load(reader, f, None)


def _load(reader: _Reader, f: Any, mapped: str | None) -> Any:
    start = f.tell()
    head = f.read(4)
    f.seek(start)
    if head[:2] == b"PK":
        return _load_zip(reader, f, mapped)
    if not head:
        raise EOFError("Ran out of input")
    if mapped:
        raise RuntimeError("mmap can only be used with files saved with `torch.save(_use_new_zipfile_serialization=True), please "
                           "torch.save your checkpoint with this option in order to use mmap.")
    return _load_old(reader, f)


class _Reader:
    """How to unpickle, and where storages go."""

    def __init__(self, map_location: Any, pickle_module: Any, weights_only: bool, options: dict[str, Any]) -> None:
        self.place = _placer(map_location)
        self.pickle_module, self.weights_only, self.options = pickle_module, weights_only, options

    def unpickle(self, f: Any, persistent: Callable[[Any], Any]) -> Any:
        """The object in a pickle, with storages from ``persistent``."""
        base = RestrictedUnpickler if self.weights_only else self.pickle_module.Unpickler
        trusted = not self.weights_only

        class Unpickler(base):  # type: ignore[misc, valid-type]
            def persistent_load(self, pid: Any) -> Any:
                return persistent(pid)

            def find_class(self, module: str, name: str) -> Any:
                return find_anything(module, name) if trusted else super().find_class(module, name)

        if trusted:
            return Unpickler(f, **self.options).load()
        try:
            return Unpickler(f, **self.options).load()
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(
                "Weights only load failed. The file holds more than tensors and plain containers. Re-running `torch.load` with "
                "`weights_only` set to `False` will likely succeed, but it can result in arbitrary code execution. Do it only if you got "
                f"the file from a trusted source. WeightsUnpickler error: {error}") from None


def _placer(where: Any) -> Callable[[UntypedStorage, str], UntypedStorage]:
    """A function that moves a storage read into CPU memory to where it belongs."""
    def move(held: UntypedStorage, location: str) -> UntypedStorage:
        place = device_class(location)
        if place.type == "cuda" and not cuda_available():
            raise RuntimeError("Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are "
                               "running on a CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your "
                               "storages to the CPU.")
        return held.to(device=place)

    if where is None:
        return move
    if isinstance(where, dict):
        return lambda held, location: move(held, str(where.get(location, location)))
    if isinstance(where, (str, device_class, int)):
        return lambda held, location: move(held, str(device_class(where)))
    if not callable(where):
        raise TypeError(f"map_location must be a device, str, dict or callable, not {type(where).__name__}")

    def chosen(held: UntypedStorage, location: str) -> UntypedStorage:
        found = where(held, location)
        return move(held, location) if found is None else getattr(found, "_untyped_storage", found)

    return chosen


def _dtype_of(kind: Any) -> dtypes.dtype | None:
    return getattr(kind, "dtype", None) if isinstance(kind, type) and issubclass(kind, TypedStorage) else None


def _typed(held: UntypedStorage, d: dtypes.dtype | None) -> Any:
    return held if d is None else TypedStorage(wrap_storage=held, dtype=d)


def _load_zip(reader: _Reader, f: Any, mapped: str | None) -> Any:
    try:
        archive = zipfile.ZipFile(f)
    except zipfile.BadZipFile as error:
        raise RuntimeError(f"PytorchStreamReader failed reading zip archive: {error}") from None
    with archive:
        names = set(archive.namelist())
        root = next((n[:-len("/data.pkl")] for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if root is None:
            kind = "a TorchScript archive" if any(n.endswith("/constants.pkl") for n in names) else "no file of torch.save"
            raise RuntimeError(f"torch.load: the zip archive has no data.pkl: {kind}")
        if f"{root}/constants.pkl" in names:
            raise RuntimeError("torch.load: this is a TorchScript archive, which fusetorch cannot run; save its state_dict() instead")
        order = archive.read(f"{root}/byteorder").decode() if f"{root}/byteorder" in names else "little"
        found: dict[str, UntypedStorage] = {}

        def persistent(pid: Any) -> Any:
            if pid[0] != "storage":
                raise RuntimeError(f"Unknown typename for persistent_load, expected 'storage' but got '{pid[0]}'")
            _, kind, key, location, _numel = pid
            d = _dtype_of(kind)
            if key not in found:
                info = archive.getinfo(f"{root}/data/{key}")
                data = _mapped(mapped, f, info) if mapped else _read(archive, info)
                if order != sys.byteorder and d is not None and d.itemsize > 1:
                    data = data.view(f"u{d.itemsize}" if not d.is_complex else f"u{d.itemsize // 2}").byteswap().view(np.uint8)
                found[key] = reader.place(UntypedStorage.over(data), location)
            return _typed(found[key], d)

        return reader.unpickle(io.BytesIO(archive.read(f"{root}/data.pkl")), persistent)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    from .runtime.cpu_memory import empty
    out = empty((info.file_size,), np.uint8)
    at, view = 0, out.data
    with archive.open(info) as file:
        while at < info.file_size:
            n = file.readinto(view[at:at + (16 << 20)])
            if not n:
                raise RuntimeError(f"torch.load: {info.filename} ends after {at} of {info.file_size} bytes")
            at += n
    return out


def _mapped(path: str, f: Any, info: zipfile.ZipInfo) -> np.ndarray:
    """The bytes of an archive's file in place: private pages of the file, so that writes stay here."""
    f.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", f.read(4))
    if not info.file_size:
        return np.empty(0, np.uint8)
    if info.compress_type != zipfile.ZIP_STORED:
        raise RuntimeError(f"torch.load: {info.filename} is compressed and cannot be mapped; load it without mmap=True")
    return np.asarray(np.memmap(path, np.uint8, "c", info.header_offset + 30 + name + extra, (info.file_size,)))


def _load_old(reader: _Reader, f: Any) -> Any:
    def plain() -> Any:
        return RestrictedUnpickler(f).load()

    try:
        magic = plain()
    except (pickle.UnpicklingError, ValueError, KeyError, IndexError) as error:
        raise pickle.UnpicklingError(f"torch.load: the file is neither a zip archive nor a pickle of torch.save: {error}") from None
    if magic != _MAGIC:
        raise RuntimeError("Invalid magic number; corrupt file?")
    version = plain()
    if version != _VERSION:
        raise RuntimeError(f"Invalid protocol version: {version}")
    little = plain().get("little_endian", True)
    waiting: dict[str, tuple[np.ndarray, dtypes.dtype | None]] = {}
    found: dict[str, UntypedStorage] = {}

    def persistent(pid: Any) -> Any:
        if pid[0] != "storage":
            raise RuntimeError(f"torch.load: unknown persistent id {pid[0]!r}")
        _, kind, key, location, numel = pid[:5]
        if len(pid) > 5 and pid[5] is not None:
            raise NotImplementedError("torch.load: storages that view others (files older than PyTorch 0.4) are not supported")
        d = _dtype_of(kind)
        if key not in found:  # the bytes come after the pickle: memory now, contents later
            memory = np.empty(numel * (1 if d is None else d.itemsize), np.uint8)
            waiting[key] = memory, d
            found[key] = UntypedStorage.over(memory)
            places.append((key, location))
        return _typed(found[key], d)

    places: list[tuple[str, str]] = []
    result = reader.unpickle(f, persistent)
    for key in plain():
        n, = struct.unpack("<q", f.read(8))
        memory, d = waiting[key]
        size = 1 if d is None else d.itemsize
        data = f.read(n * size)
        if len(data) != memory.nbytes:
            raise RuntimeError(f"torch.load: storage {key} has {len(data)} bytes, expected {memory.nbytes}")
        memory[:] = np.frombuffer(data, np.uint8) if little or size == 1 else np.frombuffer(data, f"u{size}").byteswap().view(np.uint8)
    for key, location in places:
        moved = reader.place(found[key], location)
        if moved is not found[key]:
            raise NotImplementedError("torch.load: map_location to another device is not supported for files in the old (not zip) format; "
                                      "load them to the CPU and move the tensors")
    return result
