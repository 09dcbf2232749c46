"""Data types: PyTorch's names, promotion rules and limits over NumPy's dtypes.

A :class:`dtype` is a singleton; compare with ``is`` or ``==``. The rules follow PyTorch's documentation
("Tensor Attributes", type promotion): category (bool < integer < floating < complex) first, then, within a category,
tensors with dimensions over 0-d tensors over Python numbers.
"""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


class dtype:
    """An element type, such as ``fusetorch.float32``.

    Attributes: ``name``, ``np`` (the NumPy dtype), ``itemsize`` in bytes, ``is_floating_point``, ``category``
    (0 bool, 1 integer, 2 floating, 3 complex).

    Example:
        >>> import fusetorch as torch
        >>> torch.float16.itemsize, torch.float16.is_floating_point
        (2, True)
    """

    __slots__ = ("name", "np", "itemsize", "category", "is_floating_point", "is_complex", "is_signed", "code", "bits")

    def __init__(self, name: str, np_dtype: Any, category: int, code: str) -> None:
        self.name = name
        self.np = np.dtype(np_dtype)
        self.itemsize = self.np.itemsize
        self.bits = 8 * self.itemsize
        self.category = category
        self.is_floating_point = category == 2
        self.is_complex = category == 3
        self.is_signed = category >= 2 or name.startswith("int")
        self.code = code

    def __repr__(self) -> str:
        return "torch." + self.name

    def __reduce__(self) -> tuple:
        return (by_name, (self.name,))

    def to_complex(self) -> dtype:
        """The complex dtype whose parts are of this dtype (complex64 for bfloat16 and for integers, as in PyTorch)."""
        if self is float16:
            raise NotImplementedError(_NO_HALF)
        return self if self.category == 3 else complex128 if self is float64 else complex64

    def to_real(self) -> dtype:
        """The floating dtype of a complex dtype's parts; a real dtype itself."""
        return self if self.category != 3 else {4: float16, 8: float32, 16: float64}[self.itemsize]


bool_ = dtype("bool", np.bool_, 0, "b1")
uint8 = dtype("uint8", np.uint8, 1, "u8")
int8 = dtype("int8", np.int8, 1, "i8")
int16 = dtype("int16", np.int16, 1, "i16")
int32 = dtype("int32", np.int32, 1, "i32")
int64 = dtype("int64", np.int64, 1, "i64")
float16 = dtype("float16", np.float16, 2, "f16")
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, 2, "bf16")
float32 = dtype("float32", np.float32, 2, "f32")
float64 = dtype("float64", np.float64, 2, "f64")
complex64 = dtype("complex64", np.complex64, 3, "c64")
complex128 = dtype("complex128", np.complex128, 3, "c128")


class _NameOnly(dtype):
    """A dtype of PyTorch's of which there are no tensors: programs may name it, compare it and ask for its limits."""

    __slots__ = ("_np",)

    def __init__(self, name: str, np_dtype: Any, category: int) -> None:
        self.name, self._np, self.category = name, np.dtype(np_dtype), category
        self.itemsize, self.bits, self.code = self._np.itemsize, 8 * self._np.itemsize, name
        self.is_floating_point, self.is_complex = category == 2, category == 3
        self.is_signed = category >= 2 and name != "float8_e8m0fnu"

    @property
    def np(self) -> np.dtype:
        """Raises: whoever makes a tensor asks for it."""
        raise NotImplementedError(f"torch.{self.name}: fusetorch has no tensors of this dtype; the supported dtypes are: "
                                  + ", ".join(d.name for d in ALL))


uint16, uint32, uint64 = (_NameOnly(name, name, 1) for name in ("uint16", "uint32", "uint64"))
float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu = FLOAT8 = tuple(
    _NameOnly(name, getattr(ml_dtypes, name), 2)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"))
complex32 = _NameOnly("complex32", "V4", 3)
NAMES_ONLY = (uint16, uint32, uint64, *FLOAT8, complex32)

_NO_HALF = ("complex32 (chalf) is not supported by fusetorch: complex64 and complex128 are. Convert the half-precision operand with "
            ".float() first")

ALL: tuple[dtype, ...] = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64,
                          complex128)
FLOATS = (float16, bfloat16, float32, float64)
HALVES = (float16, bfloat16)
COMPLEX = (complex64, complex128)
INTEGERS = (uint8, int8, int16, int32, int64)

#: What PyTorch's error messages and old-style tensor types call the dtypes.
SCALAR_TYPES: dict[dtype, str] = dict(zip(ALL, ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double",
                                                "ComplexFloat", "ComplexDouble")))
#: Python's types, which stand for dtypes wherever one is asked for.
PYTHON_TYPES: dict[type, dtype] = {bool: bool_, int: int64, float: float64, complex: complex128}
#: NumPy dtype -> dtype; the inverse of ``dtype.np``.
FROM_NUMPY: dict[np.dtype, dtype] = {d.np: d for d in ALL}
_BY_NAME = {d.name: d for d in (*ALL, *NAMES_ONLY)} | {"half": float16, "chalf": complex32, "float": float32, "double": float64,
                                                       "short": int16,
                                      "int": int32, "long": int64, "cfloat": complex64, "cdouble": complex128}


def by_name(name: str) -> dtype:
    """The dtype called ``name`` (``"float32"``, or PyTorch's alias ``"half"``)."""
    return _BY_NAME[name]


def from_numpy(np_dtype: Any) -> dtype:
    """The dtype for a NumPy dtype; ``TypeError`` where there is none."""
    try:
        return FROM_NUMPY[np.dtype(np_dtype)]
    except KeyError:
        raise TypeError(f"can't convert a NumPy array of dtype {np.dtype(np_dtype)}; the supported dtypes are: "
                        + ", ".join(d.name for d in ALL)) from None


_default = float32


def get_default_dtype() -> dtype:
    """The floating dtype that Python floats become (``float32`` until changed)."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Sets the dtype of tensors made from Python floats; ``TypeError`` if it is not a floating dtype."""
    global _default
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d}")
    _default = d


_INT_RANK = {int8: 0, int16: 1, int32: 2, int64: 3}


def _promote(a: dtype, b: dtype) -> dtype:
    if a is b:
        return a
    if a.category != b.category:
        high, low = (a, b) if a.category > b.category else (b, a)
        return complex128 if low is float64 else high  # only float64 beside complex64 is wider
    if a.category >= 2:
        if a.itemsize != b.itemsize:
            return a if a.itemsize > b.itemsize else b
        return float32  # float16 with bfloat16
    if a is uint8 or b is uint8:
        other = b if a is uint8 else a
        return int16 if other is int8 else other
    return a if _INT_RANK[a] > _INT_RANK[b] else b


_TABLE = {(a, b): _promote(a, b) for a in ALL for b in ALL}


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that both promote to.

    Example:
        >>> import fusetorch as torch
        >>> torch.promote_types(torch.int64, torch.float16)
        torch.float16
    """
    return _TABLE[PYTHON_TYPES.get(type1, type1), PYTHON_TYPES.get(type2, type2)]


def of_number(x: Any) -> dtype:
    """The dtype a Python number has on its own: bool, int64, the default floating dtype or its complex one."""
    if isinstance(x, (bool, np.bool_)):
        return bool_
    if isinstance(x, (int, np.integer)):
        return int64
    if isinstance(x, (float, np.floating)):
        return _default
    if isinstance(x, (complex, np.complexfloating)):
        return _default.to_complex()
    raise TypeError(f"expected a number, got {type(x).__name__}")


def result_type(with_dims: list[dtype], zero_dim: list[dtype], numbers: list[dtype]) -> dtype:
    """PyTorch's result dtype for operands split by priority: tensors with dimensions, 0-d tensors, numbers."""
    result: dtype | None = None
    for group in (with_dims, zero_dim, numbers):
        if not group:
            continue
        g = group[0]
        for d in group[1:]:
            g = _TABLE[g, d]
        if result is None:
            result = g
        elif g.category > result.category:
            # a lower-priority operand only lifts the category; a number lifts to the default dtype
            result = result.to_complex() if result.category == 2 else g  # the width stays that of the higher priority
    assert result is not None
    return result


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether PyTorch allows ``to`` as the result dtype for values of ``from_`` (category may not go down)."""
    return PYTHON_TYPES.get(from_, from_).category <= PYTHON_TYPES.get(to, to).category


class finfo:
    """Limits of a floating dtype (of a complex one: of its parts): ``eps, max, min, tiny, smallest_normal, bits, resolution``."""

    def __init__(self, d: dtype | None = None) -> None:
        d = _default if d is None else PYTHON_TYPES.get(d, d)
        d = d.to_real()
        if not d.is_floating_point:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{d}'")
        i = ml_dtypes.finfo(getattr(d, "_np", None) or d.np)
        self.dtype, self.bits = d.name, d.bits
        self.eps, self.max, self.min, self.tiny = float(i.eps), float(i.max), float(i.min), float(i.tiny)
        self.smallest_normal, self.resolution = self.tiny, 10.0 ** -int(i.precision)

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:
    """Limits of an integer dtype: ``max, min, bits``."""

    def __init__(self, d: dtype) -> None:
        d = PYTHON_TYPES.get(d, d)
        if d.category != 1:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{d}'")
        i = np.iinfo(getattr(d, "_np", None) or d.np)
        self.dtype, self.bits, self.max, self.min = d.name, d.bits, int(i.max), int(i.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
