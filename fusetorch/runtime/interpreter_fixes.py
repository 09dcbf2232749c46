"""Corrections to Triton's NumPy interpreter, as values to patch in for the length of one launch.

The stock interpreter stores bfloat16 as raw ``uint16`` (and then adds it as integers), has no libdevice, combines
generic reductions and scans one element at a time in Python, fails on reductions of all-NaN rows, and, in older
versions, on NumPy 2.4's stricter scalar conversion. :func:`patches` lists what to replace; nothing is changed by
importing this module.
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton._C.libtriton import interpreter as _memory
from triton._C.libtriton import ir as _ir
from triton.language.extra import libdevice as _libdevice_stub
from triton.language.extra.cuda import libdevice as _libdevice_cuda
from triton.runtime import interpreter as _stock

BF16 = np.dtype(ml_dtypes.bfloat16)
U16 = np.dtype(np.uint16)
Handle = _stock.TensorHandle

#: Triton's scalar types by name; 8-bit floats are kept as bytes, bfloat16 is ml_dtypes' own
_NP_DTYPES = {name: np.dtype(of) for name, of in {
    "int1": bool, "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "int64": "i8", "uint64": "u8", "fp16": "f2", "fp32": "f4", "fp64": "f8", "bf16": BF16,
    "fp8e5": "u1", "fp8e5b16": "u1", "fp8e4nv": "u1", "fp8e4b8": "u1", "fp8e4b15": "u1"}.items()}
_POINTER = np.dtype(np.uint64)


def np_dtype(ty: Any) -> np.dtype:
    """The NumPy dtype that holds values of a Triton type (of a block: of its elements)."""
    if isinstance(ty, tl.block_type):
        ty = ty.element_ty
    return _POINTER if isinstance(ty, tl.pointer_type) else _NP_DTYPES[ty.name]


_erf = np.frompyfunc(math.erf, 1, 1)
_ONE = np.ones(1, bool)
_MAXIMA = (np.nanmax, np.max)  # what the stock interpreter passes, by version


class Builder(_stock.InterpreterBuilder):
    """The stock builder with correct bfloat16, NaN-ignoring min/max, and fast erf."""

    def create_masked_load(self, ptrs, mask, other, *hints, **named_hints):
        ty = ptrs.get_element_ty()
        dtype = np_dtype(ty)
        raw = U16 if dtype == BF16 else dtype
        if other is None:
            fill = np.zeros(ptrs.data.shape, raw)
        else:
            fill = other.data.view(U16) if dtype == BF16 else other.data
        got = _memory.load(ptrs.data, mask.data, fill, raw)
        if dtype == np.bool_:
            got = got.view(np.uint8) != 0  # a byte other than 0 and 1 is still "true", as on the GPU
        return Handle(got.view(BF16) if dtype == BF16 else got, ty)

    def create_masked_store(self, ptrs, value, mask, *hints, **named_hints):
        data = value.data.view(U16) if value.data.dtype == BF16 else value.data
        return _memory.store(ptrs.data, data, mask.data)

    def cast_impl(self, src, dst_type):
        return Handle(src.data.astype(np_dtype(dst_type)), dst_type.scalar)

    create_si_to_fp = create_ui_to_fp = create_fp_to_si = create_fp_to_ui = cast_impl
    create_fp_ext = create_fp_trunc = cast_impl

    def create_int_cast(self, src, dst_type, is_signed):
        return self.cast_impl(src, dst_type)

    def create_fp_to_fp(self, src, dst_type, rounding_mode):
        if src.dtype.scalar.primitive_bitwidth > 8 and dst_type.scalar.primitive_bitwidth > 8 and \
                rounding_mode in (None, _ir.ROUNDING_MODE.RTNE):
            return self.cast_impl(src, dst_type)
        return super().create_fp_to_fp(src, dst_type, rounding_mode)

    def get_bf16(self, value):
        return Handle(np.array([value], BF16), tl.bfloat16)

    def create_minnumf(self, lhs, rhs):
        return self.binary_op(lhs, rhs, np.fmin)

    def create_maxnumf(self, lhs, rhs):
        return self.binary_op(lhs, rhs, np.fmax)

    def create_erf(self, arg):
        return Handle(np.asarray(_erf(arg.data)).astype(arg.data.dtype), arg.dtype.scalar)

    def create_rsqrt(self, arg):
        return Handle((1 / np.sqrt(arg.data)).astype(arg.data.dtype), arg.dtype.scalar)

    def create_atomic_rmw(self, op, ptr, val, mask, sem, scope):
        if val.data.dtype not in (BF16, np.float16):
            return super().create_atomic_rmw(op, ptr, val, mask, sem, scope)
        combine = {_ir.ATOMIC_OP.FADD: np.add, _ir.ATOMIC_OP.XCHG: lambda old, new: new,
                   _ir.ATOMIC_OP.MAX: np.maximum, _ir.ATOMIC_OP.MIN: np.minimum}[op]
        dtype = val.data.dtype
        ptrs, values, active = np.broadcast_arrays(ptr.data, val.data, mask.data)
        before = np.zeros(ptrs.shape, dtype)
        for i in np.ndindex(ptrs.shape):
            if active[i]:
                at = np.array([ptrs[i]], np.uint64)
                old = _memory.load(at, _ONE, np.zeros(1, U16), U16).view(dtype)
                new = np.asarray(combine(old, np.array([values[i]], dtype)), dtype)
                _memory.store(at, new.view(U16), _ONE)
                before[i] = old[0]
        return Handle(before, val.dtype.scalar)


class ReduceOps(_stock.ReduceOps):
    """Reductions with the combine function called on halves of the whole block, and NaN-safe extremes."""

    def min_max(self, input, val_reduce_op, idx_reduce_op=None):
        if idx_reduce_op is None:
            fold = np.fmax if val_reduce_op in _MAXIMA else np.fmin
            value = input[0] if isinstance(input, tuple) else input
            data = fold.reduce(value.handle.data, axis=self.axis, keepdims=self.keep_dims)
            return self.to_tensor(data, value.dtype)
        value = input[0] if isinstance(input, tuple) else input
        data, largest = value.handle.data, val_reduce_op in _MAXIMA
        if data.dtype.kind not in "biu":
            data = np.where(np.isnan(data), data.dtype.type(-np.inf if largest else np.inf), data)
        pick, fold = (np.argmax, np.maximum) if largest else (np.argmin, np.minimum)
        index = pick(data, axis=self.axis, keepdims=self.keep_dims)
        best = fold.reduce(data, axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(best, value.dtype), self.to_tensor(index, tl.int32)

    def generic_reduce(self, input):
        rank = len(input[0].handle.data.shape)
        inputs, axis = self.unravel(input, self.axis)
        types = [t.dtype for t in inputs]
        parts = [np.moveaxis(t.handle.data, axis, 0) for t in inputs]
        combine = _combine_function(self.combine_fn)
        while (n := parts[0].shape[0]) > 1:
            even = n - n % 2  # neighbours are combined, in order
            done = _combine(combine, [p[0:even:2] for p in parts], [p[1:even:2] for p in parts], types)
            parts = [np.concatenate([d, p[even:]]) for d, p in zip(done, parts)] if n % 2 else done
        out = []
        for part, given in zip(parts, input):
            value = part[0]
            if self.keep_dims:
                value = np.expand_dims(value, axis) if self.axis is not None else value.reshape((1,) * rank)
            elif self.axis is None:
                value = value.item()
            out.append(self.to_tensor(value, given.dtype))
        return out


class ScanOps(_stock.ScanOps):
    """Scans by doubling steps over whole blocks (Hillis and Steele, 1986)."""

    def generic_scan(self, input):
        types = [t.dtype for t in input]
        parts = [np.moveaxis(t.handle.data, self.axis, 0).copy() for t in input]
        combine = _combine_function(self.combine_fn)
        step, n = 1, parts[0].shape[0]
        while step < n:
            shifted = [np.concatenate([p[:step], p[:-step]]) for p in parts]  # keeps power-of-two shapes
            done = _combine(combine, shifted, parts, types)
            parts = [np.concatenate([p[:step], d[step:]]) for p, d in zip(parts, done)]
            step *= 2
        parts = [np.ascontiguousarray(np.moveaxis(p, 0, self.axis)) for p in parts]
        return [self.to_tensor(p, t.dtype) for p, t in zip(parts, input)]


def _combine_function(jitted: Any) -> Callable:
    from fusetorch.runtime.interpreter import rewritten
    return rewritten(jitted)


def _combine(combine: Callable, left: list[np.ndarray], right: list[np.ndarray], types: list[Any]) -> list[np.ndarray]:
    def tensors(arrays: list[np.ndarray]) -> list[Any]:
        return [tl.core.tensor(Handle(a, t.scalar), tl.block_type(t.scalar, list(a.shape)))
                for a, t in zip(arrays, types)]

    result = combine(*tensors(left), *tensors(right))
    result = result if isinstance(result, tuple) else (result,)
    return [np.broadcast_to(r.handle.data if isinstance(r, tl.core.tensor) else r, a.shape).astype(a.dtype)
            for r, a in zip(result, left)]


def _round_away(x: np.ndarray) -> np.ndarray:
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def _erfinv(x: np.ndarray) -> np.ndarray:
    """Inverse error function: Giles' starting value ("Approximating the erfinv function", 2010), then Newton steps."""
    y = np.asarray(x, np.float64)
    w = -np.log((1 - y) * (1 + y))
    small = 1.50140941 + (w - 2.5) * (0.246640727 + (w - 2.5) * (-0.00417768164 + (w - 2.5) * -0.00125372503))
    root = np.sqrt(w) - 3
    large = 2.83297682 + root * (1.00167406 + root * (0.00943887047 + root * -0.0076224613))
    z = np.where(w < 5, small, large) * y
    for _ in range(4):
        step = (_erf(z).astype(np.float64) - y) * (math.sqrt(math.pi) / 2) * np.exp(z * z)
        z = np.where(np.isfinite(step), z - step, z)
    return np.where(np.abs(y) == 1, np.copysign(np.inf, y), np.where(np.abs(y) > 1, np.nan, z))


def _by_element(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    def at(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan if x != x or x == -math.inf else math.inf
    vectorised = np.frompyfunc(at, 1, 1)
    return lambda x: vectorised(np.asarray(x, np.float64)).astype(np.float64)


_FLOAT_FUNCTIONS: dict[str, Callable] = {
    "abs": np.abs, "fabs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "nearbyint": np.rint, "round": _round_away, "sqrt": np.sqrt, "sqrt_rn": np.sqrt, "cbrt": np.cbrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "rcp_rn": np.reciprocal,
    "exp": np.exp, "exp2": np.exp2, "exp10": lambda x: np.power(10.0, x), "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "fast_expf": np.exp, "fast_logf": np.log, "fast_sinf": np.sin, "fast_cosf": np.cos, "fast_tanf": np.tan,
    "fast_log2f": np.log2, "fast_log10f": np.log10, "fast_exp10f": lambda x: np.power(10.0, x), "fast_tanhf": np.tanh,
    "erf": lambda x: _erf(x), "erfc": _by_element(math.erfc), "erfinv": _erfinv,
    "lgamma": _by_element(math.lgamma), "tgamma": _by_element(math.gamma),
    "pow": np.power, "fast_powf": np.power, "atan2": np.arctan2, "fmod": np.fmod, "copysign": np.copysign,
    "hypot": np.hypot, "div_rn": np.divide, "fast_dividef": np.divide, "add_rn": np.add, "sub_rn": np.subtract,
    "mul_rn": np.multiply, "fmax": np.fmax, "fmin": np.fmin, "max": np.maximum, "min": np.minimum,
    "remainder": lambda x, y: x - y * np.rint(x / y), "fdim": lambda x, y: np.where(x > y, x - y, 0),
    "nextafter": np.nextafter, "ldexp": lambda x, e: np.ldexp(x, np.asarray(e, np.int32)),
    "fma": lambda x, y, z: np.asarray(x, np.float64) * np.asarray(y, np.float64) + z,
}
_TEST_FUNCTIONS: dict[str, Callable] = {
    "isnan": np.isnan, "isnand": np.isnan, "isinf": np.isinf, "isinfd": np.isinf, "finitef": np.isfinite,
    "isfinited": np.isfinite, "signbit": np.signbit, "signbitf": np.signbit, "signbitd": np.signbit,
}


def _libdevice_function(name: str) -> Callable:
    if name in _FLOAT_FUNCTIONS:
        function, test = _FLOAT_FUNCTIONS[name], False
    elif name in _TEST_FUNCTIONS:
        function, test = _TEST_FUNCTIONS[name], True
    else:
        def missing(*args, **named):
            raise NotImplementedError(f"libdevice.{name} has no NumPy form, so it cannot run on the simulated GPU; "
                                      "known are: " + ", ".join(sorted(_FLOAT_FUNCTIONS | _TEST_FUNCTIONS)))
        return missing

    def call(*args, _semantic=None):
        args = [a if isinstance(a, tl.tensor) else _stock.interpreter_semantic.to_tensor(a) for a in args]
        data = np.asarray(function(*[a.handle.data for a in args]))
        # libdevice's tests return int32 0 or 1, which Triton's wrappers take as a truth value
        scalar = tl.int1 if test else args[0].dtype.scalar
        data = data.astype(np_dtype(scalar))
        shaped = next((a for a in args if a.type.is_block()), None)
        return tl.tensor(Handle(data, scalar), scalar if shaped is None else tl.block_type(scalar, list(data.shape)))
    return call


def _first_element(self: Any) -> int:
    return int(self.handle.data.reshape(-1)[0])


def builder_and_semantic() -> tuple[Any, Any]:
    """A corrected builder and the semantic object that drives it."""
    builder = Builder()
    return builder, _stock.TritonSemantic(builder)


def patches(builder: Any, semantic: Any) -> list[tuple[Any, str, Any]]:
    """(object, attribute, value) for all that must be in place while a kernel is interpreted."""
    out = [(_stock, "_get_np_dtype", np_dtype), (_stock, "interpreter_builder", builder),
           (_stock, "interpreter_semantic", semantic), (_stock, "ReduceOps", ReduceOps), (_stock, "ScanOps", ScanOps),
           (tl.tensor, "__index__", _first_element)]
    for module in (_libdevice_stub, _libdevice_cuda):
        out += [(module, name, _libdevice_function(name)) for name, member in vars(module).items()
                if inspect.isfunction(member) and not name.startswith("_")]
    return out
