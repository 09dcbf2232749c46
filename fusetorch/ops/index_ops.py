"""Reading and writing by index, as functions: ``index_select``, ``index_put``, ``masked_select``, ``nonzero`` and their kin."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import bool_, int64, uint8
from ..shapes import broadcast_shapes, numel, wrap_dim
from ..tensor import Tensor, tracing
from .creation import place
from .index_expressions import at_index, broadcastable, index_tensors, nonzero_tensors, normalised_slice, on_device
from .indexing import check_value, getitem, indexed_shape, put_at, write
from .opdef import composite, fn


def _spread_indices(input: Any, indices: Any) -> tuple[list[Tensor], tuple[int, ...]]:
    """``indices`` of ``index_put``: one tensor, mask or ``None`` per dimension."""
    parts: list[Tensor] = []
    dims: list[int] = []
    d = 0
    for i in indices:
        if i is None:
            d += 1
            continue
        if d + (i.ndim if i.dtype in (bool_, uint8) else 1) > input.ndim:
            raise IndexError(f"too many indices for tensor of dimension {input.ndim}")
        for t in index_tensors(i, input._a.shape, d):
            parts.append(t)
            dims.append(d)
            d += 1
    if not parts:
        raise RuntimeError("index_put: at least one index must be a tensor")
    broadcastable(parts)
    return on_device(parts, input), tuple(dims)


def _is_lone_mask(input: Any, indices: Any, values: Any) -> bool:
    """Whether one number goes where a mask is true: then nobody needs to know how often it is."""
    return (len(indices) == 1 and indices[0] is not None and indices[0].dtype is bool_ and 0 < indices[0].ndim <= input.ndim
            and indices[0]._a.shape == input._a.shape[:indices[0].ndim] and values.ndim == 0 and values.dtype is input.dtype)


def _aligned(mask: Any, input: Any) -> Any:
    return mask.reshape(mask._a.shape + (1,) * (input.ndim - mask.ndim))


def _put_operands(input: Any, indices: Any, values: Any) -> tuple[Any, list[Tensor], tuple[int, ...]]:
    parts, dims = _spread_indices(input, indices)
    if values.dtype is not input.dtype:
        raise RuntimeError(f"Index put requires the source and destination dtypes match, got {input.dtype} for the destination and "
                           f"{values.dtype} for the source.")
    check_value(values, indexed_shape(input._a.shape, parts, dims))
    return values, parts, dims


@composite(autocast="promote:cuda")
def index_put(input, indices, values, accumulate=False):
    """``input`` with ``values`` written (or added) at ``indices``, a tuple of index tensors, masks or ``None``."""
    if not accumulate and _is_lone_mask(input, indices, values):
        return fn.where(_aligned(indices[0], input), values, input)
    values, parts, dims = _put_operands(input, indices, values)
    return fn.put_at(input, values, parts, dims, bool(accumulate))


@composite()
def index_put_(input, indices, values, accumulate=False):
    """``index_put`` in place."""
    if not accumulate and _is_lone_mask(input, indices, values):
        return fn.masked_fill_(input, _aligned(indices[0], input), values)
    values, parts, dims = _put_operands(input, indices, values)
    return write(put_at, input, (values, parts), (dims, bool(accumulate)), "index_put_")


@composite(out="exact")
def nonzero(input, *, as_tuple=False):
    """The positions of elements that are not zero, as an int64 tensor (count, dimensions) or a tuple of one tensor per dimension."""
    from .conversion import host_array
    if as_tuple:
        return nonzero_tensors(input)
    return place(np.argwhere(host_array(input.detach())).astype(np.int64), input.device)


@composite(out=True)
def argwhere(input):
    """``nonzero`` as one tensor."""
    return nonzero.body(input)


@composite(out="apart")
def masked_select(input, mask):
    """The elements where ``mask``, in order, as a vector."""
    if mask.dtype is not bool_:
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, got {mask.dtype}")
    shape = tuple(broadcast_shapes(input.shape, mask.shape))
    return getitem.body(input.expand(shape), mask.expand(shape)) if shape else getitem.body(input.reshape(1), mask.reshape(1))


@composite(layout="row-major")
def masked_scatter(input, mask, source):
    """``input`` with the elements where ``mask`` replaced by those of ``source``, in order."""
    if mask.dtype is not bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"masked_scatter: expected self and source to have same dtypes but got {input.dtype} and {source.dtype}")
    shape = tuple(broadcast_shapes(input.shape, mask.shape))
    mask, have = mask.expand(shape), source.numel()
    if not tracing() and not mask.is_meta and (n := int(mask.sum())) > have:
        raise RuntimeError("masked_scatter: expected self and source to have same number of elements: source has too few "
                           f"({have} < {n})")
    if not have:
        return input.expand(shape).clone()
    which = (mask.reshape(-1).cumsum(0) - 1).clamp(0, have - 1)     # element of the source that comes here
    return fn.where(mask, source.reshape(-1).index_select(0, which).reshape(shape), input)


@composite(function=False)
def masked_scatter_(input, mask, source):
    """``masked_scatter`` in place."""
    from ..writing import inplace
    return inplace("masked_scatter_", input, lambda before: masked_scatter.body(before, mask, source))


@composite()
def select_scatter(input, src, dim, index):
    """``input`` with ``src`` written at position ``index`` of ``dim``."""
    d = wrap_dim(dim, input.ndim)
    at = tuple(at_index(index, input._a.shape, d) if k == d else (0, n, 1) for k, n in enumerate(input._a.shape))
    return _slice_put(input, src, at, "select_scatter")


@composite(out="exact")
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """``input`` with ``src`` written at a slice of ``dim``."""
    d = wrap_dim(dim, input.ndim)
    at = tuple(normalised_slice(slice(start, end, step), n) if k == d else (0, n, 1) for k, n in enumerate(input._a.shape))
    return _slice_put(input, src, at, "slice_scatter")


def _slice_put(input: Any, src: Any, at: tuple, name: str) -> Any:
    expected = tuple(len(range(*i)) for i in at if not isinstance(i, int))
    if tuple(src.shape) != expected:
        raise RuntimeError(f"{name}: expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice size = "
                           f"{list(expected)}")
    return fn.slice_put(input, src.to(input.dtype), at)


@composite()
def diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    """``input`` with ``src`` written on a diagonal."""
    at = offset, wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    expected = fn.diagonal_dims(input, *at).shape
    if src.shape != expected:
        raise RuntimeError(f"expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice size = "
                           f"{list(expected)}")
    return fn.diagonal_put(input, src.to(input.dtype), *at)


# ---- whole slices by index: index_select and friends


def _index_dim(input: Any, dim: int, index: Any, name: str) -> tuple[int, Any]:
    d = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {index.ndim}")
    if index.dtype.name not in ("int32", "int64"):
        raise RuntimeError(f"{name}(): Expected dtype int32 or int64 for index, got {index.dtype}")
    return d, index.reshape(-1) if index.ndim == 0 else index


def _same_kind(input: Any, source: Any, name: str) -> None:
    if source.dtype is not input.dtype:
        raise RuntimeError(f"{name}: self and source expected to have the same dtype, but got (self) {input.dtype} and (source) "
                           f"{source.dtype}")


@composite(out="apart")
def index_select(input, dim, index):
    """The slices ``index`` (a vector) of ``dim``, as a copy."""
    d, index = _index_dim(input, dim, index, "index_select")
    if not input.ndim:
        return fn.index(input.reshape(1), [index], (0,)).reshape(())
    return fn.index(input, [index], (d,))


def _slice_writer(name: str, accumulate: bool, doc: str) -> None:
    def operands(input: Any, dim: int, index: Any, source: Any, alpha: Any) -> tuple[int, Any, Any]:
        d, index = _index_dim(input, dim, index, name)
        _same_kind(input, source, name)
        if not input.ndim:
            if source.numel() != index.numel() or source.ndim > 1:
                raise IndexError(f"{name}(): expected a source of {index.numel()} elements, got {list(source.shape)}")
            return 0, index, source.reshape(-1) * alpha if alpha != 1 else source.reshape(-1)
        want = tuple(index.numel() if k == d else n for k, n in enumerate(input._a.shape))
        if source.ndim == 0 and input.ndim == 1 and index.numel() == 1:
            source = source.reshape(1)
        if source._a.shape != want:
            kind = RuntimeError if accumulate else IndexError
            raise kind(f"{name}(): Number of indices ({index.numel()}) should be equal to source.size(dim), and the other sizes equal to "
                       f"those of self: got self {list(input.shape)}, source {list(source.shape)}, dim = {d}")
        return d, index, source * alpha if alpha != 1 else source

    def out_of_place(input, dim, index, source, *, alpha=1):  # noqa: ANN001, ANN202
        d, index, source = operands(input, dim, index, source, alpha)
        r = fn.put_at(input if input.ndim else input.reshape(1), source, [index], (d,), accumulate)
        return r if input.ndim else r.reshape(())

    def in_place(input, dim, index, source, *, alpha=1):  # noqa: ANN001, ANN202
        d, index, source = operands(input, dim, index, source, alpha)
        write(put_at, input if input.ndim else input.view(1), (source, [index]), ((d,), accumulate), name + "_")
        return input

    out_of_place.__doc__, in_place.__doc__ = doc, doc[:-1] + ", in place."
    if not accumulate:
        def plain(input, dim, index, source):  # noqa: ANN001, ANN202
            return out_of_place(input, dim, index, source)

        def plain_(input, dim, index, source):  # noqa: ANN001, ANN202
            return in_place(input, dim, index, source)
        plain.__doc__, plain_.__doc__ = out_of_place.__doc__, in_place.__doc__
        composite(name=name, out="exact")(plain)
        composite(name=name + "_", function=False)(plain_)
    else:
        composite(name=name, out="exact")(out_of_place)
        composite(name=name + "_", function=False)(in_place)


_slice_writer("index_add", True, "``input`` with ``alpha * source`` added to the slices ``index`` of ``dim``.")
_slice_writer("index_copy", False, "``input`` with the slices ``index`` of ``dim`` replaced by those of ``source``.")


def _fill_value(input: Any, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")
        return value.to(device=input.device, dtype=input.dtype)
    return fn.full((), value, dtype=input.dtype, device=input.device)


@composite()
def index_fill(input, dim, index, value):
    """``input`` with the slices ``index`` of ``dim`` filled with ``value``."""
    d, index = _index_dim(input, dim, index, "index_fill")
    n = input._a.shape[d] if input.ndim else 1
    yes = fn.full((), True, dtype=bool_, device=input.device)
    chosen = fn.put_at(fn.zeros((n,), dtype=bool_, device=input.device), yes, [index], (0,), False)
    return fn.masked_fill(input, chosen.reshape([-1 if k == d else 1 for k in range(input.ndim)]), _fill_value(input, value))


@composite(function=False)
def index_fill_(input, dim, index, value):
    """``index_fill`` in place."""
    d, index = _index_dim(input, dim, index, "index_fill_")
    write(put_at, input if input.ndim else input.view(1), (_fill_value(input, value), [index]), ((d,), False), "index_fill_")
    return input


@composite(out="apart")
def take(input, index):
    """The elements of the flattened ``input`` at the positions ``index`` (int64), in the shape of ``index``."""
    if index.dtype is not int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype}")
    if not input.numel() and index.numel():
        raise IndexError("take(): tried to take from an empty tensor")
    return fn.index(input.reshape(-1), [index], (0,))


@composite(inplace=True, layout="like")
def put(input, index, source, accumulate=False):
    """``input`` with ``source`` written (or added) at the positions ``index`` of the flattened tensor."""
    if index.dtype is not int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {index.dtype}")
    _same_kind(input, source, "put_")
    if source.numel() != index.numel():
        raise RuntimeError(f"put_(): Expected source and index to have the same number of elements, but got source.numel() = "
                           f"{source.numel()}, index.numel() = {index.numel()}")
    if not numel(index.shape):
        return input.clone()
    return fn.put_at(input.reshape(-1), source.reshape(-1), [index.reshape(-1)], (0,), bool(accumulate)).reshape(input._a.shape)
