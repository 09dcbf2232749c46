"""Looking up rows of a table."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import HALVES
from .opdef import composite, elementwise, fn, opaque


@opaque(name="embedding_rows", function=False, method=False)
def embedding_rows(weight, input, padding_idx: int):
    """Row ``input[i]`` of ``weight`` for every index; ``padding_idx`` (-1: none) only matters to the gradient."""
    return [(tuple(input.shape) + (weight.shape[1],), weight.dtype)]


@embedding_rows.cpu
def _(weight: np.ndarray, index: np.ndarray, padding_idx: int) -> np.ndarray:
    if not index.size:
        return weight.take(index, axis=0, mode="clip")
    try:
        if np.minimum.reduce(index, axis=None) >= 0:
            return weight.take(index, axis=0)
    except IndexError:
        pass
    raise IndexError(f"index out of range in self: the table has {weight.shape[0]} rows, the indices reach from {index.min()} to "
                     f"{index.max()}")


@embedding_rows.cuda
def _(weight: Any, index: Any, padding_idx: int) -> Any:
    from ..triton_kernels import embedding
    return embedding.embedding(weight, index)


@opaque(name="embedding_grad", function=False, method=False)
def embedding_grad(grad, input, rows: int, padding_idx: int):
    """The gradient of the table: ``grad[i]`` added to row ``input[i]``, except for ``padding_idx``."""
    return [((rows, grad.shape[-1]), grad.dtype)]


@embedding_grad.cpu
def _(g: np.ndarray, index: np.ndarray, rows: int, padding_idx: int) -> np.ndarray:
    flat, g = index.reshape(-1), g.reshape(-1, g.shape[-1])
    wide = np.float32 if g.dtype in [d.np for d in HALVES] else g.dtype
    out = np.zeros((rows, g.shape[1]), wide)
    if padding_idx >= 0:
        kept = flat != padding_idx
        flat, g = flat[kept], g[kept]
    if flat.size:
        from ..codegen.scatter import add_at
        add_at(out, [flat], g.astype(wide, copy=False))
    return out.astype(g.dtype, copy=False)


@embedding_grad.cuda
def _(g: Any, index: Any, rows: int, padding_idx: int) -> Any:
    from ..triton_kernels import embedding
    return embedding.embedding_backward(g, index, rows, padding_idx=padding_idx)


@embedding_rows.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    return fn.embedding_grad(g, ctx["input"], ctx.shape(0)[0], ctx.attrs["padding_idx"]), None


@embedding_grad.vjp("input")
def _(ctx: Any, h: Any) -> Any:
    index, pad = ctx["input"], ctx.attrs["padding_idx"]
    r = fn.embedding_rows(h, index, pad)
    return (r if pad < 0 else r.masked_fill((index == pad).unsqueeze(-1), 0.0)), None


@elementwise(refuses="complex", name="scale_gradient", function=False, method=False, keep=("factor",))
def scale_gradient(input, factor):
    """``input``; its gradient is multiplied by ``factor``."""
    return input * 1


@scale_gradient.vjp("factor")
def _(ctx: Any, g: Any) -> Any:
    return (g * ctx["factor"]).to(ctx.dtype(0)), None


def by_frequency(rows: Any, index: Any, table: int) -> Any:
    """``rows`` (index.shape + (d,)), their gradients divided by how often ``index`` (of ``table`` rows) has the same number."""
    flat = index.reshape(-1)
    ones = fn.ones(flat._a.shape, dtype=rows.dtype, device=rows.device)
    counts = fn.zeros((table,), dtype=rows.dtype, device=rows.device).index_add(0, flat, ones)
    return fn.scale_gradient(rows, (1.0 / counts.index_select(0, flat)).reshape(*index._a.shape, 1))


def renormalise(weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    """Scales the rows of ``weight`` that ``index`` names down to ``max_norm``, in place and unrecorded."""
    w = weight.detach()
    n = w._a.shape[0]
    flat = index.reshape(-1)
    read = fn.zeros((n,), dtype=w.dtype, device=w.device).index_fill(0, flat.long(), 1.0) if index.numel() else None
    if read is None:
        return
    norms = fn.vector_norm_dims(w, float(norm_type), 1, False)
    scale = fn.where((read > 0) & (norms > max_norm), max_norm / (norms + 1e-7), fn.ones_like(norms))
    w.mul_(scale.unsqueeze(1))


@composite(nn=True, function=False, method=False)
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of ``weight`` (rows, columns) at the indices ``input`` (any shape; int64 or int32): shape ``input.shape + (columns,)``.

    Row ``padding_idx`` gets no gradient. With ``max_norm`` the rows that are read are first scaled down to that ``norm_type``-norm, in
    place. ``scale_grad_by_freq`` divides a row's gradient by how often it is read. Gradients are dense, also with ``sparse=True``.
    ``IndexError`` for an index outside the table.
    """
    if input.dtype.name not in ("int64", "int32"):
        raise RuntimeError("Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
                           f"{input.dtype} instead (while checking arguments for embedding)")
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    pad = -1
    if padding_idx is not None:
        n = weight._a.shape[0]
        if not -n <= padding_idx < n:
            raise AssertionError("Padding_idx must be within num_embeddings")
        pad = padding_idx % n
    if max_norm is not None:
        renormalise(weight, input, max_norm, norm_type)
    rows = fn.embedding_rows(weight, input, pad)
    return by_frequency(rows, input, weight._a.shape[0]) if scale_grad_by_freq else rows
