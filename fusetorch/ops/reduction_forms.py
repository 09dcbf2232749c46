"""Forms of the reductions as PyTorch overloads them: ``max(x)``, ``max(x, dim)``, ``max(a, b)``, norms, sums without the NaNs."""
from __future__ import annotations

from typing import Any

from ..errors import warn
from ..return_types import result
from ..shapes import broadcast_shapes, numel, wrap_dim, wrap_dims
from ..tensor import Tensor
from .opdef import composite, fn

max_result = result("max", "values indices")
min_result = result("min", "values indices")
aminmax_result = result("aminmax", "min max")


def _check_nonempty(input: Any, name: str, dim: int | None) -> None:
    if dim is None:
        if input.numel() == 0:
            raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with "
                               "the 'dim' argument.")
    elif input.ndim and input._a.shape[wrap_dim(dim, input.ndim)] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")


def _extremum(input: Any, dim: Any, keepdim: bool, name: str, reduce_all: Any, pair: Any, binary: Any, result: Any) -> Any:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}() received an invalid combination of arguments - got ({type(input).__name__}, {type(dim).__name__}), "
                        "expected a Tensor first")
    if dim is None:
        _check_nonempty(input, name, None)
        return reduce_all(input)
    if isinstance(dim, Tensor):
        return binary(input, dim)
    _check_nonempty(input, name, dim)
    values, indices = pair(input, dim, keepdim)
    return result(values, indices)


@composite(out=True, name="max")
def max_(input, dim=None, keepdim=False, *, other=None):
    """The largest element; with ``dim``, ``(values, indices)``; with a tensor, the elementwise maximum."""
    return _extremum(input, other if other is not None else dim, keepdim, "max", fn.amax, fn.max_with_index, fn.maximum, max_result)


@composite(out=True, name="min")
def min_(input, dim=None, keepdim=False, *, other=None):
    """The smallest element; with ``dim``, ``(values, indices)``; with a tensor, the elementwise minimum."""
    return _extremum(input, other if other is not None else dim, keepdim, "min", fn.amin, fn.min_with_index, fn.minimum, min_result)


@composite(out="exact")
def aminmax(input, *, dim=None, keepdim=False):
    """The smallest and the largest element."""
    return aminmax_result(fn.amin(input, dim, keepdim), fn.amax(input, dim, keepdim))


@composite(refuses="bool", out="exact")
def argmax(input, dim=None, keepdim=False):
    """The position of the largest element (in the flattened tensor if ``dim`` is ``None``)."""
    _check_nonempty(input, "argmax", dim)
    return fn.argmax_dims(input, dim, keepdim)


@composite(refuses="bool", out="exact")
def argmin(input, dim=None, keepdim=False):
    """The position of the smallest element (in the flattened tensor if ``dim`` is ``None``)."""
    _check_nonempty(input, "argmin", dim)
    return fn.argmin_dims(input, dim, keepdim)


@composite(out="dtype", autocast="float32")
def prod(input, dim=None, keepdim=False, *, dtype=None):
    """The product of all elements, or along ``dim``."""
    d = input.dtype if dtype is None else dtype
    if d.is_complex:
        return _complex_product(fn.to(input, d), dim, keepdim)
    return fn.prod_dims(input, dim, keepdim, dtype=dtype)


def _complex_product(x: Any, dim: Any, keepdim: bool) -> Any:
    """By halves: a product of complex numbers is no reduction of their parts."""
    dims = wrap_dims(dim, x.ndim)
    kept = [d for d in range(x.ndim) if d not in dims]
    shape = [1 if d in dims else n for d, n in enumerate(x._a.shape)] if keepdim else [x._a.shape[d] for d in kept]
    n = numel([x._a.shape[d] for d in dims])
    x = x.permute(*kept, *dims).reshape([*[x._a.shape[d] for d in kept], n])
    if n == 0:
        return (x.sum(-1) + 1).reshape(shape)
    while n > 1:
        half, rest = n // 2, x.narrow(-1, n - 1, 1)
        x = x.narrow(-1, 0, half) * x.narrow(-1, half, half)
        x = fn.cat([x, rest], -1) if n % 2 else x
        n = x._a.shape[-1]
    return x.reshape(shape)


@composite()
def count_nonzero(input, dim=None):
    """How many elements are not zero."""
    return fn.count_nonzero_dims(input, dim, False)


def _correction(unbiased: Any, correction: Any) -> float:
    if correction is not None:
        return float(correction)
    return 1.0 if unbiased is None or unbiased else 0.0


def _spread_args(dim: Any, unbiased: Any) -> tuple[Any, Any]:
    # var(x, False) means unbiased=False, not dim
    return (None, dim) if isinstance(dim, bool) else (dim, unbiased)


def _moments(name: str, input: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> tuple[Tensor, Tensor]:
    dim, unbiased = _spread_args(dim, unbiased)
    correction = _correction(unbiased, correction)
    v, m = fn.var_mean_dims(input, dim, keepdim, correction=correction)
    if v.numel() and input.numel() // v.numel() <= correction:
        warn(f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor (input numel divided by "
             "output numel).")
    return v, m


@composite(out=True)
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The variance over ``dim``, dividing by the count less ``correction`` (1 unless given)."""
    return _moments("var", input, dim, unbiased, keepdim, correction)[0]


@composite(out=True)
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The square root of the variance."""
    return _moments("std", input, dim, unbiased, keepdim, correction)[0].sqrt()


@composite(method=False)
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Variance and mean."""
    return _moments("var_mean", input, dim, unbiased, keepdim, correction)


@composite(method=False)
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Standard deviation and mean."""
    v, m = _moments("std_mean", input, dim, unbiased, keepdim, correction)
    return v.sqrt(), m


@composite(out="dtype")
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum without the NaNs."""
    if input.dtype.is_complex:
        raise RuntimeError("nansum does not support complex inputs")
    x = input if dtype is None else input.to(dtype)
    return fn.sum(fn.where(x.isnan(), fn.zeros((), dtype=x.dtype, device=x.device), x), dim, keepdim)


@composite(out="dtype")
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean without the NaNs."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype}")
    x = input if dtype is None else input.to(dtype)
    return nansum.body(x, dim, keepdim) / (~x.isnan()).sum(dim, keepdim=keepdim)


@composite(function=False)
def sum_to_size(input, *args, size=None):
    """Summed so that it has ``size``, which must broadcast to the tensor's shape."""
    from .reshaping import variadic
    from .views import sum_to_size as sum_to
    size = variadic("sum_to_size", args, size)
    if tuple(broadcast_shapes(size, input.shape)) != tuple(input.shape):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(input.shape)}}}.")
    return sum_to(input, size) if size else input.sum()  # integers to a single number become int64
