"""Sparse matrices with compressed rows (CSR) or columns (CSC): where each row's entries begin, the column of each, and the values.

A matrix of either kind can be looked at as one in coordinate format, of which it is a subclass; what it does with that format's operations
has coordinate format or is dense, and what keeps the places of the entries keeps the layout.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fusetorch as torch

from .overrides import adopt
from .sparse import _OFFERED, SparseTensor, _make, _shown, matmul, sparse_coo_tensor, to_sparse
from .tensor import Tensor

__all__ = ["CompressedTensor", "sampled_addmm", "sparse_compressed_tensor", "sparse_csc_tensor", "sparse_csr_tensor", "spdiags",
           "to_compressed"]

_KINDS = {torch.sparse_csr: "SparseCsr", torch.sparse_csc: "SparseCsc"}


class CompressedTensor(SparseTensor):
    """A sparse matrix with compressed rows or columns; see :func:`sparse_csr_tensor`."""

    __slots__ = ()
    is_sparse = False
    layout = property(lambda self: self.__dict__["_layout"])
    is_sparse_csr = property(lambda self: self.layout is torch.sparse_csr)
    __torch_function__ = SparseTensor.__dict__["__torch_function__"]

    def _indices(self) -> Tensor:
        held = self.__dict__
        if "_held_indices" not in held:
            ends = held["_compressed"]
            rows = torch.arange(ends.shape[0] - 1, device=ends.device).repeat_interleave(ends[1:].long() - ends[:-1].long())
            pair = rows, held["_plain"].long()
            held["_held_indices"] = torch.stack(pair if self.is_sparse_csr else pair[::-1])
        return held["_held_indices"]

    def is_coalesced(self) -> bool:
        raise RuntimeError(f"is_coalesced expected sparse coordinate tensor layout but got {_KINDS[self.layout]}")

    def indices(self) -> Tensor:
        raise RuntimeError(f"indices expected sparse coordinate tensor layout but got {_KINDS[self.layout]}")

    def coalesce(self) -> CompressedTensor:
        return self

    def values(self) -> Tensor:
        return self._values()

    def _half(self, name: str, kind: str, layout: Any) -> Tensor:
        if self.layout is not layout:
            raise RuntimeError(f"{name} expected sparse {kind} compressed tensor layout but got {_KINDS[self.layout]}")
        return self.__dict__["_compressed" if name.startswith("c") and name[1] in "rc" else "_plain"]

    def crow_indices(self) -> Tensor:
        """Where each row's entries begin, and the number of entries."""
        return self._half("crow_indices", "row", torch.sparse_csr)

    def col_indices(self) -> Tensor:
        """The column of each entry."""
        return self._half("col_indices", "row", torch.sparse_csr)

    def ccol_indices(self) -> Tensor:
        """Where each column's entries begin, and the number of entries."""
        return self._half("ccol_indices", "column", torch.sparse_csc)

    def row_indices(self) -> Tensor:
        """The row of each entry."""
        return self._half("row_indices", "column", torch.sparse_csc)

    def _with(self, values: Tensor) -> CompressedTensor:
        held = self.__dict__
        return _compressed(held["_compressed"], held["_plain"], values, self.shape, self.layout)

    def to(self, *args: Any, **kwargs: Any) -> CompressedTensor:
        values, held = self._values().to(*args, **kwargs), self.__dict__
        return _compressed(held["_compressed"].to(values.device), held["_plain"].to(values.device), values, self.shape, self.layout)

    def clone(self, *, memory_format: Any = None) -> CompressedTensor:
        held = self.__dict__
        return _compressed(held["_compressed"].clone(), held["_plain"].clone(), self._values().clone(), self.shape, self.layout)

    def transpose(self, dim0: int, dim1: int) -> CompressedTensor:
        if dim0 % 2 == dim1 % 2:
            return self
        held = self.__dict__
        other = torch.sparse_csc if self.is_sparse_csr else torch.sparse_csr
        return _compressed(held["_compressed"], held["_plain"], self._values(), self.shape[::-1], other)

    def to_sparse(self, sparse_dim: int | None = None, *, layout: Any = None) -> SparseTensor:
        if layout in _KINDS:
            return to_compressed(self, layout)
        made = _make(self._indices(), self._values(), self.shape, self.is_sparse_csr)
        return made if self.is_sparse_csr else made.coalesce()

    to_sparse_coo = to_sparse

    def __getitem__(self, i: Any) -> Any:
        return self.to_sparse().to_dense()[i]

    def __add__(self, other: Any) -> Any:
        made = self.to_sparse() + (other.to_sparse() if isinstance(other, CompressedTensor) else other)
        return to_compressed(made, self.layout) if isinstance(made, SparseTensor) else made

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __matmul__(self, other: Any) -> Any:
        return _product(self, other)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        held = self.__dict__
        return _compressed, (held["_compressed"], held["_plain"], self._values(), self.shape, self.layout)

    def __repr__(self) -> str:
        names = ("crow_indices", "col_indices") if self.is_sparse_csr else ("ccol_indices", "row_indices")
        held, node = self.__dict__, self.grad_fn
        gradient = [f"grad_fn=<{node.name()}>"] if node is not None else ["requires_grad=True"] if self.requires_grad else []
        parts = [f"{name}=tensor({_shown(t, len('tensor(' + name + '=tensor('))})" for name, t in zip(
            (*names, "values"), (held["_compressed"], held["_plain"], self._values().detach()))]
        text = f"tensor({(',' + chr(10) + '       ').join(parts)}"
        suffixes = [f"size={tuple(self.shape)}", f"nnz={self._nnz()}"]
        suffixes += [] if self.dtype in (torch.get_default_dtype(), torch.int64, torch.bool) else [f"dtype={self.dtype}"]
        for suffix in (*suffixes, f"layout={self.layout}", *gradient):
            text += (",\n       " if len(text) - text.rfind("\n") + 1 + len(suffix) + 2 > 80 else ", ") + suffix
        return text + ")"


def _compressed(ends: Tensor, plain: Tensor, values: Tensor, size: Any, layout: Any) -> CompressedTensor:
    t = torch.empty(0)
    t.__class__ = CompressedTensor
    t.__dict__.update(_compressed=ends, _plain=plain, _held_values=values, _size=torch.Size(size), _layout=layout)
    return t


def sparse_compressed_tensor(compressed_indices: Any, plain_indices: Any, values: Any, size: Any = None, *, dtype: Any = None,
                             layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
                             check_invariants: bool | None = None) -> CompressedTensor:
    """:func:`sparse_csr_tensor` or :func:`sparse_csc_tensor`, as ``layout`` says. Blocks and stacks of matrices are not offered."""
    if layout not in _KINDS:
        raise NotImplementedError(f"sparse_compressed_tensor: the layout {layout} is not offered; torch.sparse_csr and torch.sparse_csc "
                                  "are")
    values = torch.as_tensor(values, dtype=dtype, device=device)
    ends, plain = [x if isinstance(x, Tensor) and x.dtype is torch.int32 else torch.as_tensor(x).to(torch.int64)
                   for x in (compressed_indices, plain_indices)]
    ends, plain = ends.to(values.device), plain.to(values.device)
    if ends.dim() != 1 or plain.dim() != 1 or values.dim() != 1:
        raise NotImplementedError("sparse_compressed_tensor: one matrix of numbers is offered, so that indices and values have one "
                                  f"dimension; got {ends.dim()}, {plain.dim()} and {values.dim()}")
    if plain.shape[0] != values.shape[0]:
        raise RuntimeError(f"sparse_compressed_tensor: there are {plain.shape[0]} indices of entries and {values.shape[0]} values")
    n = ends.shape[0] - 1
    if size is None or check_invariants:
        most = int(plain.max()) + 1 if plain.numel() else 0
        size = ((n, most) if layout is torch.sparse_csr else (most, n)) if size is None else tuple(size)
        lines, across = size if layout is torch.sparse_csr else size[::-1]
        inside = n == lines and most <= across and (not plain.numel() or int(plain.min()) >= 0)
        if not inside or int(ends[0]) or int(ends[-1]) != plain.shape[0] or bool((ends[1:] < ends[:-1]).any()):
            raise RuntimeError(f"sparse_compressed_tensor: the indices do not describe a matrix of size {tuple(size)} with "
                               f"{plain.shape[0]} entries")
    if requires_grad and not values.requires_grad:
        values.requires_grad_()
    return _compressed(ends, plain, values, size, layout)


def sparse_csr_tensor(crow_indices: Any, col_indices: Any, values: Any, size: Any = None, **options: Any) -> CompressedTensor:
    """A sparse matrix with compressed rows: row ``i`` has the entries ``crow_indices[i]`` to ``crow_indices[i + 1]``.

    ``options`` are ``dtype``, ``device``, ``requires_grad``, ``pin_memory`` and ``check_invariants``. The size is the smallest possible
    unless given.

    Example:
        >>> import fusetorch as torch
        >>> torch.sparse_csr_tensor([0, 2, 3], [0, 2, 1], [1.0, 2.0, 3.0]).to_dense()
        tensor([[1., 0., 2.],
                [0., 3., 0.]])
    """
    return sparse_compressed_tensor(crow_indices, col_indices, values, size, **{**options, "layout": torch.sparse_csr})


def sparse_csc_tensor(ccol_indices: Any, row_indices: Any, values: Any, size: Any = None, **options: Any) -> CompressedTensor:
    """A sparse matrix with compressed columns; see :func:`sparse_csr_tensor`."""
    return sparse_compressed_tensor(ccol_indices, row_indices, values, size, **{**options, "layout": torch.sparse_csc})


def to_compressed(input: Tensor, layout: Any) -> CompressedTensor:
    """A matrix, ordinary or sparse, with compressed rows or columns."""
    if isinstance(input, CompressedTensor) and input.layout is layout:
        return input
    if input.dim() != 2:
        raise NotImplementedError(f"{layout}: one matrix is offered, got a tensor with {input.dim()} dimensions")
    x = input.to_sparse() if isinstance(input, CompressedTensor) else input if isinstance(input, SparseTensor) else to_sparse(input)
    x = x.coalesce()
    lines, plain = x._indices()
    values, n = x._values(), x.shape[0]
    if layout is torch.sparse_csc:
        order = plain.argsort(stable=True)
        lines, plain, values, n = plain[order], lines[order], values[order], x.shape[1]
    ends = torch.zeros(n + 1, dtype=torch.int64, device=lines.device)
    ends[1:] = torch.bincount(lines, minlength=n).cumsum(0)
    return _compressed(ends, plain, values, x.shape, layout)


def _product(a: Any, b: Any) -> Any:
    made = matmul(a, b)
    kept = next((x.layout for x in (a, b) if isinstance(x, CompressedTensor)), None)
    return to_compressed(made, kept) if isinstance(made, SparseTensor) and kept is not None else made


def sampled_addmm(input: CompressedTensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> CompressedTensor:
    """``beta * input + alpha * (mat1 @ mat2)`` at the entries of ``input``, a matrix with compressed rows; nothing else is computed."""
    if not isinstance(input, CompressedTensor):
        raise RuntimeError(f"sampled_addmm: Expected self to have sparse csr layout, but got {input.layout}")
    if mat1.dim() != 2 or mat2.dim() != 2 or mat1.shape[1] != mat2.shape[0] or (mat1.shape[0], mat2.shape[1]) != tuple(input.shape):
        raise RuntimeError(f"sampled_addmm: matrices of shapes {tuple(mat1.shape)} and {tuple(mat2.shape)} do not give "
                           f"{tuple(input.shape)}")
    rows, columns = input._indices()
    products = (mat1[rows] * mat2.t()[columns]).sum(-1)
    return input._with(beta * input._values() + alpha * products)


def spdiags(diagonals: Tensor, offsets: Tensor, shape: Sequence[int], layout: Any = None) -> SparseTensor:
    """The matrix of ``shape`` whose diagonal ``offsets[i]`` is row ``i`` of ``diagonals``: column ``j`` of the matrix holds its element
    ``j``.

    Example:
        >>> import fusetorch as torch
        >>> torch.sparse.spdiags(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1]), (2, 3)).to_dense()
        tensor([[0., 2., 0.],
                [0., 0., 3.]])
    """
    diagonals, offsets = torch.atleast_2d(diagonals), torch.atleast_1d(offsets)
    if offsets.shape[0] != diagonals.shape[0]:
        raise RuntimeError(f"Number of diagonals ({diagonals.shape[0]}) does not match the number of offsets ({offsets.shape[0]})")
    if torch.unique(offsets).shape[0] != offsets.shape[0]:
        raise RuntimeError("Offset tensor contains duplicate values")
    columns = torch.arange(diagonals.shape[1]).expand(diagonals.shape)
    rows = columns - offsets.unsqueeze(1)
    there = (rows >= 0) & (rows < shape[0]) & (columns < shape[1])
    made = sparse_coo_tensor(torch.stack([rows[there], columns[there]]), diagonals[there], shape)
    return made if layout in (None, torch.sparse_coo) else to_compressed(made, layout)


adopt(CompressedTensor)
for _name in ("mm", "matmul", "mv", "spmm"):
    _OFFERED[_name] = _product
_OFFERED["clone"] = lambda a, **options: a.clone(**options)
_OFFERED["transpose"] = lambda a, dim0, dim1: a.transpose(dim0, dim1)
_OFFERED["t"] = lambda a: a.t()
