"""PyTorch's old tensor types: ``torch.FloatTensor`` and its kin, as constructors, for ``isinstance`` and as names."""
from __future__ import annotations

from typing import Any

from . import dtypes
from .dtypes import dtype as dtype_class
from .errors import warn
from .ops.creation import set_default_device
from .tensor import Tensor

_NAMES = {name: d for d, name in dtypes.SCALAR_TYPES.items() if not d.is_complex}


class _TensorType(type):
    """The metaclass of the old types: calling one makes a plain tensor, and ``isinstance`` asks for dtype and device."""

    dtype: dtype_class
    device_type: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Tensor:
        """Sizes, data, or nothing: an (uninitialised, filled, empty) tensor of this type."""
        from .ops.creation import legacy_tensor
        return legacy_tensor(args, cls.dtype, kwargs.pop("device", None) or cls.device_type, **kwargs)

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Tensor) and t.dtype is cls.dtype and t.device.type == cls.device_type

    def __repr__(cls) -> str:
        return f"<class '{cls.type_name}'>"

    @property
    def type_name(cls) -> str:
        """Such as ``torch.cuda.FloatTensor``."""
        return f"torch.{'cuda.' if cls.device_type == 'cuda' else ''}{cls.__name__}"


def _make(name: str, d: dtype_class, device: str) -> _TensorType:
    t = _TensorType(name + "Tensor", (), {"__doc__": f"The old type of {d} tensors on {device}.", "__module__": "fusetorch"})
    t.dtype, t.device_type = d, device
    return t


#: ``"FloatTensor"``: the type on the CPU, and on CUDA.
CPU = {name + "Tensor": _make(name, d, "cpu") for name, d in _NAMES.items()}
CUDA = {name + "Tensor": _make(name, d, "cuda") for name, d in _NAMES.items()}
globals().update(CPU)


def parse_type(t: Any) -> dict[str, Any]:
    """``dtype`` and ``device`` of an old type or its name; ``ValueError`` for another string, as in PyTorch.

    Example:
        >>> parse_type("torch.LongTensor")
        {'dtype': torch.int64, 'device': 'cpu'}
    """
    if isinstance(t, str):
        name = t
        if name == "torch.Tensor":
            return {"dtype": dtypes.get_default_dtype(), "device": "cpu"}
        types = CUDA if name.startswith("torch.cuda.") else CPU
        t = types.get(name.rpartition(".")[2]) if name.startswith("torch.") else None
        if t is None:
            raise ValueError(f"invalid type: '{name}'")
    if not isinstance(t, _TensorType):
        raise TypeError(f"dtype must be a type, str, or dtype object, not {type(t).__name__}")
    return {"dtype": t.dtype, "device": t.device_type}


def set_default_tensor_type(t: Any) -> None:
    """Sets the default dtype and device from an old type or its name (prefer ``set_default_dtype``, ``set_default_device``)."""
    warn("torch.set_default_tensor_type() is deprecated as of PyTorch 2.1, please use torch.set_default_dtype() and "
         "torch.set_default_device() as alternatives.")
    found = parse_type(t)
    dtypes.set_default_dtype(found["dtype"])
    set_default_device(None if found["device"] == "cpu" else found["device"])
