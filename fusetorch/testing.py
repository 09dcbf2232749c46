"""``torch.testing``: comparing tensors, and making them for tests."""
from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import fusetorch as torch
from fusetorch.dtypes import dtype as dtype_class
from fusetorch.tensor import Tensor

__all__ = ["assert_allclose", "assert_close", "make_tensor"]

#: (rtol, atol) by dtype; others are compared exactly.
_TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
               "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7)}


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None, atol: float | None = None,
                 equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True, check_layout: bool = True,
                 check_stride: bool = False, msg: str | Callable[[str], str] | None = None) -> None:
    """Asserts ``|actual - expected| <= atol + rtol * |expected|`` for tensors, numbers, and sequences and mappings of them.

    The tolerances go by dtype unless both are given (float32: ``rtol=1.3e-6, atol=1e-5``). Raises ``AssertionError`` that says where and by
    how much they differ, ``ValueError`` for one tolerance without the other, ``TypeError`` for what cannot be compared.

    Example:
        >>> import fusetorch as torch
        >>> torch.testing.assert_close(torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]))
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"rtol and atol must both be specified or both be unspecified, but got rtol={rtol} and atol={atol}")
    options = dict(allow_subclasses=allow_subclasses, rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=check_device,
                   check_dtype=check_dtype, check_layout=check_layout, check_stride=check_stride)
    try:
        _compare(actual, expected, "", options)
    except AssertionError as error:
        text = str(error)
        raise AssertionError(msg(text) if callable(msg) else msg if msg is not None else text) from None


def assert_allclose(actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None, equal_nan: bool = True,
                    msg: str = "") -> None:
    """Deprecated: :func:`assert_close` of what may have different dtypes, with wider tolerances (float32: ``rtol=1e-4, atol=1e-5``)."""
    warnings.warn("`torch.testing.assert_allclose()` is deprecated since 1.12 and will be removed in a future release. Please use "
                  "`torch.testing.assert_close()` instead.", FutureWarning, stacklevel=2)
    actual = actual if isinstance(actual, Tensor) else torch.tensor(actual)
    expected = expected if isinstance(expected, Tensor) else torch.tensor(expected, dtype=actual.dtype)
    if rtol is None and atol is None:
        wide = {"float16": (1e-3, 1e-3), "float32": (1e-4, 1e-5), "float64": (1e-5, 1e-8)}
        rtol, atol = map(max, zip(*(wide.get(t.dtype.name, (0.0, 0.0)) for t in (actual, expected))))
    assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=False, msg=msg or None)


def _compare(actual: Any, expected: Any, where: str, o: dict[str, Any]) -> None:
    at = f"\n\nThe failure occurred for item {where}" if where else ""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            raise AssertionError(f"The keys of the mappings do not match:\nMissing keys in the actual mapping: "
                                 f"{sorted(map(str, expected.keys() - actual.keys()))}\nAdditional keys in the actual mapping: "
                                 f"{sorted(map(str, actual.keys() - expected.keys()))}{at}")
        for k in actual:
            _compare(actual[k], expected[k], f"{where}[{k!r}]", o)
        return
    if all(isinstance(x, Sequence) and not isinstance(x, (str, bytes)) for x in (actual, expected)):
        if len(actual) != len(expected):
            raise AssertionError(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}{at}")
        for i, (a, b) in enumerate(zip(actual, expected)):
            _compare(a, b, f"{where}[{i}]", o)
        return
    if actual is None and expected is None:
        return
    if actual is None or expected is None:
        raise AssertionError(f"None mismatch: {actual!r} and {expected!r}{at}")
    numbers = (int, float, complex, bool)
    if isinstance(actual, numbers) and isinstance(expected, numbers):
        if o["check_dtype"] and type(actual) is not type(expected):
            raise AssertionError(f"The (d)types do not match: {type(actual)} != {type(expected)}.{at}")
        _values(np.asarray(actual), np.asarray(expected), *_tolerances(o, _number_dtype(actual), _number_dtype(expected)), o, at, True)
        return
    if isinstance(actual, np.ndarray) and isinstance(expected, np.ndarray):
        actual, expected = torch.from_numpy(actual), torch.from_numpy(expected)
    if not (isinstance(actual, Tensor) and isinstance(expected, Tensor)):
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.{at}")
    if not o["allow_subclasses"] and type(actual) is not type(expected):
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.{at}")
    _tensors(actual, expected, o, at)


def _number_dtype(x: Any) -> str:
    return "bool" if isinstance(x, bool) else "int64" if isinstance(x, int) else "float64" if isinstance(x, float) else "complex128"


def _tolerances(o: dict[str, Any], *names: str) -> tuple[float, float]:
    if o["rtol"] is not None:
        return o["rtol"], o["atol"]
    found = [_TOLERANCES.get(n, (0.0, 0.0)) for n in names]
    return max(r for r, _ in found), max(a for _, a in found)


def _tensors(actual: Tensor, expected: Tensor, o: dict[str, Any], at: str) -> None:
    if actual.shape != expected.shape:
        raise AssertionError(f"The values for attribute 'shape' do not match: {actual.shape} != {expected.shape}.{at}")
    for name in ("layout", "device", "dtype"):
        if o[f"check_{name}"] and getattr(actual, name) != getattr(expected, name):
            raise AssertionError(f"The values for attribute '{name}' do not match: {getattr(actual, name)} != "
                                 f"{getattr(expected, name)}.{at}")
    if o["check_stride"] and actual.stride() != expected.stride():
        raise AssertionError(f"The values for attribute 'stride()' do not match: {actual.stride()} != {expected.stride()}.{at}")
    a, b = (_host(t) for t in (actual, expected))
    _values(a, b, *_tolerances(o, actual.dtype.name, expected.dtype.name), o, at, False)


def _host(t: Tensor) -> np.ndarray:
    a = t.detach().cpu().numpy()
    return a.astype(np.float64) if t.dtype.is_floating_point else a


def _values(a: np.ndarray, b: np.ndarray, rtol: float, atol: float, o: dict[str, Any], at: str, scalar: bool) -> None:
    with np.errstate(all="ignore"):
        if a.dtype.kind in "fc" or b.dtype.kind in "fc" or rtol or atol:
            wide = complex if "c" in (a.dtype.kind, b.dtype.kind) else float
            close = np.isclose(a.astype(wide), b.astype(wide), rtol, atol, o["equal_nan"])
        else:
            close = a == b
        if close.all():
            return
        difference = np.abs(a.astype(complex) - b.astype(complex))
        relative = difference / np.abs(b.astype(complex))
    what = "equal" if rtol == atol == 0 else "close"
    if scalar:
        raise AssertionError(f"Scalars are not {what}!\n\nExpected {b.item()} but got {a.item()}.\nAbsolute difference: {difference.item()}"
                             f" (up to {atol} allowed)\nRelative difference: {relative.item()} (up to {rtol} allowed){at}")
    wrong = int((~close).sum())
    worst, worst_relative = (np.unravel_index(int(np.argmax(np.where(close, -1, np.nan_to_num(x, nan=np.inf)))), a.shape)
                             for x in (difference, relative))
    raise AssertionError(
        f"Tensor-likes are not {what}!\n\nMismatched elements: {wrong} / {a.size} ({100 * wrong / a.size:.1f}%)\n"
        f"Greatest absolute difference: {difference[worst]} at index {tuple(map(int, worst))} (up to {atol} allowed)\n"
        f"Greatest relative difference: {relative[worst_relative]} at index {tuple(map(int, worst_relative))} (up to {rtol} allowed){at}")


def make_tensor(*shape: Any, dtype: dtype_class, device: Any = "cpu", low: float | None = None, high: float | None = None,
                requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False, memory_format: Any = None) -> Tensor:
    """Random numbers from [low, high): [-9, 9] by default, [0, 9] for unsigned integers, both values for bool.

    Example:
        >>> import fusetorch as torch
        >>> torch.testing.make_tensor(2, 3, dtype=torch.float32, low=0, high=1).shape
        torch.Size([2, 3])
    """
    size = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else tuple(shape)
    if noncontiguous and memory_format is not None:
        raise ValueError(f"The parameters `noncontiguous` and `memory_format` are mutually exclusive, but got {noncontiguous=} and "
                         f"{memory_format=}")
    if low is not None and high is not None and low > high:
        raise ValueError(f"`low` must be weakly less than `high`, but got {low} > {high}")
    doubled = noncontiguous and len(size) > 0 and torch.Size(size).numel() > 1
    made = (*size[:-1], 2 * size[-1]) if doubled else size
    if dtype is torch.bool:
        t = torch.randint(0, 2, made, device=device).to(dtype)
    elif not (dtype.is_floating_point or dtype.is_complex):
        a, b = (0 if not dtype.is_signed else -9) if low is None else int(np.ceil(low)), 10 if high is None else int(np.ceil(high))
        t = torch.randint(a, max(b, a + 1), made, device=device).to(dtype)
    else:
        a, b = -9.0 if low is None else float(low), 9.0 if high is None else float(high)
        real = dtype.to_real() if dtype.is_complex else dtype
        parts = [(torch.rand(made, dtype=torch.float64 if real is torch.float64 else torch.float32, device=device) * (b - a) + a).to(real)
                 for _ in range(2 if dtype.is_complex else 1)]
        t = torch.complex(*parts) if dtype.is_complex else parts[0]
    if doubled:
        t = t[..., ::2]
    if memory_format is not None:
        t = t.contiguous(memory_format=memory_format)
    if exclude_zero:
        smallest = torch.finfo(dtype).tiny if dtype.is_floating_point or dtype.is_complex else 1
        t = torch.where(t == 0, torch.full_like(t, smallest), t)
    return t.requires_grad_(requires_grad) if requires_grad else t
