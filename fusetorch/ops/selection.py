"""Forms of the reductions and selections that PyTorch overloads: ``max(x)``, ``max(x, dim)``, ``max(a, b)``, ``where``, norms."""
from __future__ import annotations

from typing import Any

from ..return_types import result
from ..shapes import numel, wrap_dim, wrap_dims
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


@composite(out="exact")
def argmax(input, dim=None, keepdim=False):
    """The position of the largest element (in the flattened tensor if ``dim`` is ``None``)."""
    _check_nonempty(input, "argmax", dim)
    return fn.argmax_dims(input, dim, keepdim)


@composite(out="exact")
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


@composite(out=True)
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The variance over ``dim``, dividing by the count less ``correction`` (1 unless given)."""
    dim, unbiased = _spread_args(dim, unbiased)
    return fn.var_mean_dims(input, dim, keepdim, correction=_correction(unbiased, correction))[0]


@composite(out=True)
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The square root of the variance."""
    return var.body(input, dim, unbiased, keepdim, correction=correction).sqrt()


@composite(method=False)
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Variance and mean."""
    dim, unbiased = _spread_args(dim, unbiased)
    return fn.var_mean_dims(input, dim, keepdim, correction=_correction(unbiased, correction))


@composite(method=False)
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Standard deviation and mean."""
    v, m = var_mean.body(input, dim, unbiased, keepdim, correction=correction)
    return v.sqrt(), m


@composite(out=True)
def where(condition, input=None, other=None):
    """``input`` where ``condition``, else ``other``; with the condition alone, ``nonzero`` as a tuple."""
    if input is None:
        return fn.nonzero(condition, as_tuple=True)
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        d = fn.result_type_of_numbers(input, other)
        input = fn.full((), input, dtype=d, device=condition.device)
    return fn.where_elementwise(condition, input, other)


@composite(method=False, function=False, name="result_type_of_numbers")
def result_type_of_numbers(a, b):
    """The dtype two Python numbers have together."""
    from ..dtypes import of_number, promote_types
    return promote_types(of_number(a), of_number(b))


@composite(method=False)
def result_type(tensor1, tensor2):
    """The dtype that an operation on the two operands gives."""
    from .. import dtypes
    groups: list[list[Any]] = [[], [], []]
    for t in (tensor1, tensor2):
        if isinstance(t, Tensor):
            groups[0 if t.ndim else 1].append(t.dtype)
        else:
            groups[2].append(dtypes.of_number(t))
    return dtypes.result_type(*groups)


@composite(out=True, aliases=("divide",), operators=())
def div(input, other, *, rounding_mode=None):
    """``input / other``, then rounded as ``rounding_mode`` says: ``None``, ``"floor"`` or ``"trunc"``."""
    if rounding_mode is None:
        return fn.true_divide(input, other)
    if rounding_mode == "floor":
        return fn.floor_divide(input, other)
    if rounding_mode == "trunc":
        return fn.trunc_divide(input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


@composite(function=False, aliases=("divide_",))
def div_(input, other, *, rounding_mode=None):
    """``div`` in place."""
    from .. import dispatch
    from .opdef import REGISTRY
    name = {None: "true_divide", "floor": "floor_divide", "trunc": "trunc_divide"}[rounding_mode]
    return dispatch.elementwise_(REGISTRY[name], (input, other))


@composite()
def rsub(input, other, *, alpha=1):
    """``other - alpha * input``."""
    if not isinstance(input, Tensor):
        raise TypeError(f"rsub(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return fn.sub(other, input, alpha=alpha) if isinstance(other, Tensor) else other - (input if alpha == 1 else input * alpha)
