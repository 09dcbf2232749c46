"""Filling, padding with positions, and copies of what else would be views."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dtypes import bool_, get_default_dtype, int64
from ..formats import contiguous_format
from ..return_types import result
from ..shapes import contiguous_strides, wrap_dim
from ..tensor import Tensor
from .gather_scatter import check_reduced
from .opdef import composite, fn, not_implemented

frexp_result = result("frexp", "mantissa exponent")


@composite(out="exact")
def frexp(input):
    """``(mantissa, exponent)`` with ``input = mantissa * 2 ** exponent`` and a mantissa in [0.5, 1)."""
    if not input.dtype.is_floating_point:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    return frexp_result(*fn.frexp_parts(input))


@composite(method=False)
def fill(input, value):
    """A tensor like ``input`` with each element ``value``, a number or a 0-d tensor."""
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(f"fill only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
        value = value.to(input.dtype)
    elif input.dtype.category < 2:
        value = bool(value) if input.dtype is bool_ else int(value)
    return input.masked_fill(fn.ones((), dtype=bool_, device=input.device), value)


@composite(function=False)
def fill_diagonal_(input, fill_value, wrap=False):
    """Writes ``fill_value`` on the main diagonal (of two or more dimensions); ``wrap`` goes on below in tall matrices."""
    shape, stride = tuple(input.shape), input.stride()
    if input.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if input.ndim > 2 and len(set(shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    n, step = min(shape), sum(stride)
    if wrap and input.ndim == 2 and shape[0] > shape[1]:
        n = -(-shape[0] * shape[1] // (shape[1] + 1)) if shape[1] else 0
        if not input.is_contiguous():
            raise NotImplementedError("fill_diagonal_: wrap=True needs a contiguous tensor; call .contiguous() first")
    input.as_strided((n,), (step,), input.storage_offset()).fill_(fill_value)
    return input


@composite(out=True)
def nonzero_static(input, *, size, fill_value=-1):
    """The first ``size`` rows of ``nonzero``, with rows of ``fill_value`` where there are fewer."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, got {size}")
    shape, n = input._a.shape, input.numel()
    if not (n and size and shape):
        return fn.full((size, len(shape)), fill_value, dtype=int64, device=input.device)
    count = (input.detach() != 0).reshape(-1).cumsum(0)
    rank = fn.arange(1, size + 1, device=input.device)
    at = fn.searchsorted(count, rank).clamp(max=n - 1)  # of the first element up to which there are so many
    rows = fn.stack([at // step % m for step, m in zip(contiguous_strides(shape), shape)], 1)
    return fn.where((rank <= count[-1]).unsqueeze(1), rows, fill_value)


@composite(out="exact")
def as_strided_scatter(input, src, size, stride, storage_offset=None):
    """``input`` with ``src`` written where ``as_strided`` with these arguments looks."""
    out = input.clone()
    out.as_strided(size, stride, storage_offset).copy_(src)
    return out


@composite(inplace=True, out="exact")
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """Slice ``i`` of ``source`` along ``dim`` is reduced (``prod``, ``mean``, ``amax``, ``amin``) into slice ``index[i]`` of ``input``."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    check_reduced("index_reduce", reduce, input.dtype)
    if input.dtype is bool_ or (input.dtype.is_complex and reduce == "prod"):
        raise not_implemented("index_reduce_prod", input.dtype)
    if index.ndim > 1:
        raise RuntimeError(f"index_reduce_(): Index is supposed to be a vector, but got dim: {index.ndim}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"index_reduce_(): self ({input.dtype}) and source ({source.dtype}) must have the same dtype")
    d = wrap_dim(dim, input.ndim)
    x, s = (t if t.ndim else t.reshape(1) for t in (input, source))
    at = index.reshape(-1).long()
    if s.shape[d] != at.numel():
        raise RuntimeError(f"index_reduce_(): Number of indices ({at.numel()}) should be equal to source.size(dim) ({s.shape[d]})")
    wide = at.reshape([-1 if k == d else 1 for k in range(s.ndim)]).expand(s.shape).contiguous()
    return fn.scatter_reduce(x, d, wide, s, reduce, include_self=include_self).reshape(input.shape)


# ---------------------------------------------------------------------------------------------------- copies


def _row_major(v: Any) -> Any:
    return v.clone(memory_format=contiguous_format)


def _copy(name: str, view: Callable[..., Any], method: bool = False) -> None:
    def f(*args, **kwargs):  # noqa: ANN002, ANN003, ANN202
        r = view(*args, **kwargs)
        return tuple(_row_major(v) for v in r) if isinstance(r, (tuple, list)) else _row_major(r)
    f.__doc__ = f"``{name.removesuffix('_copy')}`` with a copy of its own as result."
    composite(name=name, method=method, out="exact")(f)


for _name in ("as_strided", "detach", "diagonal", "permute", "select", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
              "unsqueeze", "expand", "unfold", "view"):
    _copy(_name + "_copy", lambda input, *args, _name=_name, **kwargs: getattr(fn, _name)(input, *args, **kwargs))
_copy("alias_copy", lambda input: input)


@composite(method=False, out="exact")
def slice_copy(input, dim=0, start=None, end=None, step=1):
    """``input[start:end:step]`` along ``dim`` with a copy of its own as result."""
    d = wrap_dim(dim, input.ndim)
    return _row_major(input[(slice(None),) * d + (slice(start, end, step),)])


@composite(out="exact")
def narrow_copy(input, dim, start, length):
    """``narrow`` with a copy of its own as result."""
    if dim >= max(input.ndim, 1):
        raise RuntimeError(f"narrow_copy: dim {dim} is not one of the {input.ndim} dimensions of a tensor of shape {list(input.shape)}")
    return _row_major(fn.narrow(input, dim, start, length))


@composite()
def unsafe_split_with_sizes(input, split_sizes, dim=0):
    """``split_with_sizes``."""
    return fn.split_with_sizes(input, split_sizes, dim)


# ---------------------------------------------------------------------------------------------------- memory of a given layout


@composite(method=False)
def empty_strided(size, stride, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """Uninitialised memory with the given strides (in elements)."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride):
        raise RuntimeError(f"empty_strided: size {list(size)} and stride {list(stride)} need one length")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"empty_strided: strides must not be negative, got {list(stride)}")
    n = 0 if 0 in size else 1 + sum((k - 1) * s for k, s in zip(size, stride))
    t = fn.empty(n, dtype=dtype or get_default_dtype(), device=device).as_strided(size, stride).detach()
    return t.requires_grad_() if requires_grad else t


@composite(function=False)
def new_empty_strided(input, size, stride, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """``empty_strided`` with the dtype and device of ``input``."""
    return empty_strided.body(size, stride, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


@composite(method=False)
def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """Uninitialised memory whose dimensions lie in the order ``physical_layout``, the outermost first."""
    size, order = tuple(size), tuple(physical_layout)
    if sorted(order) != list(range(len(size))):
        raise RuntimeError(f"Number of dimensions in size does not match the length of the physical_layout, or it is no permutation: size "
                           f"{list(size)}, physical_layout {list(order)}")
    inner = contiguous_strides([size[d] for d in order])
    return empty_strided.body(size, [inner[order.index(d)] for d in range(len(size))], dtype=dtype, device=device,
                              requires_grad=requires_grad)


@composite(method=False)
def norm_except_dim(v, pow=2, dim=0):
    """The ``pow``-norm over all dimensions but ``dim``, which stay with size 1; of all elements for ``dim=-1``."""
    if dim == -1:
        return fn.norm(v, pow)
    d = wrap_dim(dim, v.ndim)
    return fn.vector_norm_dims(v, float(pow), tuple(k for k in range(v.ndim) if k != d), True)
