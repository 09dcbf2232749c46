"""The short way to the driver for one primitive over row-major arrays of one shape: most of what an eager program launches.

It runs the contiguous kernel of :mod:`fusetorch.triton_kernels.pointwise` with everything but addresses and the number of elements
looked up before.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton.language as tl

from fusetorch import config
from fusetorch.dtypes import HALVES, dtype, float32
from fusetorch.runtime import launch as _launch
from fusetorch.runtime.memory import DeviceArray, Storage
from fusetorch.shapes import contiguous_strides, numel
from fusetorch.triton_kernels.layout import TRITON_TYPES, cdiv
from fusetorch.triton_kernels.pointwise import BLOCK, contiguous_kernel, identity
from fusetorch.triton_kernels.scalar import SCALARS

#: (shape, strides) -> (elements, grid, whether the elements are a multiple of 16), or ``()`` for what is not handled here
_layouts: dict[tuple, tuple] = {}


def _layout(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple:
    n = numel(shape)
    if len(_layouts) >= 4096:
        _layouts.clear()
    ours = strides == contiguous_strides(shape) and 1 < n < 2**31
    found = _layouts[shape, strides] = (n, (cdiv(n, BLOCK),), n & 15 == 0) if ours else ()
    return found


class Flat:
    """``flat(arrays, scalars)`` gives the result as a new array, or ``None`` where this is not the way (other layouts, several shapes,
    a simulated GPU); with ``out`` it is written there.

    ``operands`` are the primitive's: ``("load", number of the array)``, ``("scalar", number of the scalar)`` or ``("const", value)``;
    it computes in ``compute`` (half types: float32).
    """

    __slots__ = ("dtype", "itemsize", "first", "operands", "constants", "values", "_entries", "_driver")

    def __init__(self, primitive: str, operands: Sequence[tuple[str, Any]], compute: dtype, out_dtype: dtype) -> None:
        self.dtype, self.itemsize = out_dtype, out_dtype.itemsize
        self.operands = tuple(operands)
        self.first = next(v for kind, v in operands if kind == "load")
        fn = identity if primitive == "identity" else SCALARS[primitive]
        # numbers are always floats, so that one compiled kernel takes them all
        form = [{"load": f"a[{v}].ptr", "scalar": f"float(s[{v}])", "const": f"float('{v}')"}[kind] for kind, v in operands]
        kinds = ["array" if kind == "load" else "number" for kind, _ in operands]
        arity = len(form)
        form += ["None"] * (3 - arity)
        kinds += [""] * (3 - arity)
        self.values = eval(f"lambda a, s, o, n: ({', '.join(form)}, o.ptr, n)")  # noqa: S307 - numbers and our names
        type_ = tl.float32 if compute in HALVES else TRITON_TYPES[compute]
        first = tl.int1 if primitive == "where" else type_
        self.constants = {"FN": fn, "ARITY": arity, "A": kinds[0], "B": kinds[1], "C": kinds[2], "COMPUTE": type_, "FIRST": first,
                          "BLOCK": BLOCK}
        self._entries: dict[tuple, Any] = {}
        self._driver: Any = None

    def __call__(self, arrays: Sequence[DeviceArray], scalars: Sequence[Any], out: DeviceArray | None = None) -> DeviceArray | None:
        if config.simulate_cuda:
            return None
        first = arrays[self.first]
        shape, strides = first.shape, first.strides
        try:
            found = _layouts[shape, strides]
        except KeyError:
            found = _layout(shape, strides)
        if not found:
            return None
        n, grid, even = found
        at = first.storage.device_index
        bits = 0
        for a in arrays:
            if a.shape != shape or a.strides != strides or a.storage.device_index != at:
                return None
            bits |= a.ptr
        if out is None:
            out = DeviceArray(Storage(n * self.itemsize, at), shape, strides, 0, self.dtype)
        elif out.strides != strides:
            return None
        else:
            bits |= out.ptr
        values = self.values(arrays, scalars, out, n)
        key = at, bits & 15 == 0, even
        launch = self._entries.get(key)
        if launch is None or self._driver is not _launch._driver:
            launch = self._resolve(key, arrays, values, out)
        launch(grid, *values)
        return out

    def _resolve(self, key: tuple, arrays: Sequence[DeviceArray], values: tuple, out: DeviceArray) -> Any:
        driver = _launch.driver()
        if self._driver is not driver:
            self._entries, self._driver = {}, driver
        given = [arrays[v] if kind == "load" else values[k] for k, (kind, v) in enumerate(self.operands)]
        args = (*given, *[None] * (3 - len(given)), out, values[-1])
        found = contiguous_kernel._variant(args, self.constants).launcher(args, self.constants, None, None)
        self._entries[key] = found.launch
        return found.launch


def flat(primitive: str, operands: Sequence[tuple[str, Any]], compute: dtype, out_dtype: dtype) -> Flat | None:
    """The short way for a primitive and its operands, if the numbers among them (if any) are float32."""
    numbers = any(kind != "load" for kind, _ in operands)
    return Flat(primitive, operands, compute, out_dtype) if not numbers or (compute is float32 and primitive != "where") else None
