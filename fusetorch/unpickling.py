"""Reading PyTorch's pickles: names of ``torch`` mean fusetorch's, and with ``weights_only`` nothing but data is made.

The restricted unpickler runs no code of the file's choosing: it resolves only the names listed here and those given to
:func:`add_safe_globals`, calls only those, and sets the state only of what they made.
"""
from __future__ import annotations

import collections
import contextlib
import importlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fusetorch as torch

from . import dtypes, formats
from .errors import refusal
from .runtime.device import device as device_class
from .shapes import Size
from .storage import CLASSES, TypedStorage, UntypedStorage
from .tensor import Tensor

# ---- what PyTorch's pickles call


def rebuild_tensor(storage: TypedStorage, offset: int, size: Sequence[int], stride: Sequence[int], requires_grad: bool = False,
                   hooks: Any = None, metadata: Any = None) -> Tensor:
    """A tensor over a storage."""
    t = storage.untyped().tensor(storage.dtype, tuple(size), tuple(stride), offset)
    return t.requires_grad_() if requires_grad else t


def _rebuild_meta(dtype: dtypes.dtype, size: Sequence[int], stride: Sequence[int], requires_grad: bool) -> Tensor:
    return torch.empty_strided(tuple(size), tuple(stride), dtype=dtype, device="meta", requires_grad=requires_grad)


def _rebuild_sparse(layout: Any, data: tuple) -> Tensor:
    if layout is not formats.sparse_coo:
        raise NotImplementedError(f"torch.load: the file holds a tensor of layout {layout}, which fusetorch does not have")
    indices, values, size, *coalesced = data
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=True, is_coalesced=bool(coalesced and coalesced[0]))


def _rebuild_old(storage: TypedStorage, offset: int, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    return rebuild_tensor(storage, offset, size, stride)


def _rebuild_typed(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], requires_grad: bool, hooks: Any,
                   dtype: dtypes.dtype, metadata: Any = None) -> Tensor:
    held = TypedStorage(wrap_storage=getattr(storage, "_untyped_storage", storage), dtype=dtype)
    return rebuild_tensor(held, offset, size, stride, requires_grad)


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Tensor:
    return torch.nn.Parameter(data, requires_grad)


def _rebuild_parameter_with_state(data: Tensor, requires_grad: bool, hooks: Any, state: Any) -> Tensor:
    return _with_state(torch.nn.Parameter(data, requires_grad), state)


def _rebuild_subclass(rebuild: Callable, kind: type, args: tuple, state: Any) -> Tensor:
    t = rebuild(*args)
    if isinstance(state, dict) and state.pop("_is_buffer", False):
        t = torch.nn.Buffer(t, persistent=bool(state.pop("persistent", True)))
    elif kind is not type(t):
        t = t.as_subclass(kind)
    return _with_state(t, state)


def _with_state(t: Tensor, state: Any) -> Tensor:
    if isinstance(state, tuple):  # of __dict__ and __slots__
        state = {k: v for part in state if part for k, v in part.items()}
    for k, v in (state or {}).items():
        setattr(t, k, v)
    return t


def _layout(name: str) -> Any:
    return getattr(formats, name.removeprefix("torch."))


def _memory_format(number: int) -> Any:
    return (formats.contiguous_format, formats.preserve_format, formats.channels_last, formats.channels_last_3d)[number]


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"_codecs.encode with encoding {encoding!r} is not a way in which pickles write bytes")
    return text.encode(encoding)


def _unsupported(what: str) -> Callable[..., Any]:
    return refusal("rebuild", NotImplementedError, f"torch.load: the file holds {what}, which fusetorch does not have")


#: ``module.name`` of PyTorch: what stands for it here.
NAMES: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _rebuild_old, "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed, "torch._utils._rebuild_meta_tensor_no_storage": _rebuild_meta,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter_with_state,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass, "torch._utils._rebuild_qtensor": _unsupported("a quantized tensor"),
    "torch._utils._rebuild_sparse_tensor": _rebuild_sparse, "torch._utils._rebuild_nested_tensor": _unsupported("a nested tensor"),
    "torch.serialization._get_layout": _layout, "torch._prims_common.get_memory_format": _memory_format,
    "torch.storage.UntypedStorage": UntypedStorage, "torch.UntypedStorage": UntypedStorage, "torch.storage.TypedStorage": TypedStorage,
    "torch.storage._LegacyStorage": TypedStorage, "torch.Size": Size, "torch.device": device_class, "torch.Tensor": Tensor,
    "torch._tensor.Tensor": Tensor, "collections.OrderedDict": collections.OrderedDict, "collections.Counter": collections.Counter,
    "collections.defaultdict": collections.defaultdict, "_codecs.encode": _encode,
    **{f"{m}.{k.__name__}": k for m in ("builtins", "__builtin__") for k in (bytearray, set, frozenset, complex, int, float, list, dict)},
    **{f"{m}.{name}": c for m in ("torch", "torch.storage") for name, c in CLASSES.items()},
    **{f"torch.{d.name}": d for d in dtypes.ALL},
}


def _lookup(module: str, name: str) -> Any:
    """What a name of PyTorch means here, or ``None``."""
    full = f"{module}.{name}"
    if full in ("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"):
        return getattr(torch.nn, name)
    return NAMES.get(full)


def find_anything(module: str, name: str) -> Any:
    """The object of any name; one of ``torch`` is looked for in fusetorch."""
    found = _lookup(module, name)
    if found is not None:
        return found
    if module == "torch" or module.startswith("torch."):
        ours = "fusetorch" + module[5:]
        places = [ours, ours.replace(".nn.modules", ".nn"), "fusetorch.nn" if ".nn" in ours else "fusetorch"]
        for place in places:
            try:
                return _attribute(importlib.import_module(place), name)
            except (ImportError, AttributeError):
                continue
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which fusetorch does not have")
    return _attribute(importlib.import_module(module), name)


def _attribute(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


# ---- the allowed names

_allowed: dict[str, Any] = {}


def _names_of(items: Sequence[Any]) -> dict[str, Any]:
    out = {}
    for item in items:
        what, name = item if isinstance(item, tuple) else (item, None)
        out[name or f"{what.__module__}.{what.__qualname__}"] = what
    return out


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Allows these classes and functions (or pairs of one and its full name) in files read with ``weights_only``."""
    _allowed.update(_names_of(safe_globals))


def clear_safe_globals() -> None:
    """Forgets what :func:`add_safe_globals` allowed."""
    _allowed.clear()


def get_safe_globals() -> list[Any]:
    """What :func:`add_safe_globals` allowed."""
    return list(_allowed.values())


@contextlib.contextmanager
def safe_globals(safe_globals: list[Any]) -> Iterator[None]:
    """Allows these classes and functions inside the block.

    Example:
        >>> import fractions
        >>> import fusetorch as torch
        >>> with torch.serialization.safe_globals([fractions.Fraction]):
        ...     len(torch.serialization.get_safe_globals())
        1
    """
    before = dict(_allowed)
    _allowed.update(_names_of(safe_globals))
    try:
        yield
    finally:
        _allowed.clear()
        _allowed.update(before)


class RestrictedUnpickler(pickle._Unpickler):
    """Makes data only: no name outside the list, no call but of listed names, no state on anything but what those made."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """A listed object; ``UnpicklingError`` for all others."""
        full = f"{module}.{name}"
        found = _allowed.get(full)
        if found is None:
            found = _lookup(module, name)
        if found is None and module.split(".")[0] in ("torch", "fusetorch"):
            ours = {k.replace("torch.", "fusetorch.", 1) if k.startswith("torch.") else k: v for k, v in _allowed.items()}
            found = ours.get("fusetorch" + full.partition(".")[1] + full.partition(".")[2])
        if found is None:
            raise pickle.UnpicklingError(
                f"Unsupported global: GLOBAL {full} was not an allowed global by default. Please use "
                f"`torch.serialization.add_safe_globals([{name}])` or the `torch.serialization.safe_globals([{name}])` context manager to "
                "allowlist this global if you trust this class/function.")
        return found

    def _listed(self, f: Any) -> bool:
        return any(f is g for g in (*NAMES.values(), *_allowed.values(), torch.nn.Parameter, torch.nn.Buffer))

    def _check_call(self, f: Any) -> None:
        if not self._listed(f):
            raise pickle.UnpicklingError(f"Trying to call {f!r}, which is not an allowed global")

    def load_reduce(self) -> None:
        """Calls a listed function."""
        self._check_call(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        """Makes an instance of a listed class."""
        self._check_call(self.stack[-2])
        super().load_newobj()

    def load_newobj_ex(self) -> None:
        """Makes an instance of a listed class, with keyword arguments."""
        self._check_call(self.stack[-3])
        super().load_newobj_ex()

    def load_build(self) -> None:
        """Sets the state of an instance of a listed class."""
        inst = self.stack[-2]
        if not self._listed(type(inst)) or isinstance(inst, type):
            raise pickle.UnpicklingError("Can only build tensors, dictionaries and instances of allowed classes, not "
                                         f"{type(inst).__name__}")
        super().load_build()

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("the pickle uses an instruction that files of tensors do not have")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    for _code in (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = _refuse
