"""``torch.sparse``: matrices and tensors kept as coordinates and values (COO), and the operations that graph networks need of them.

A sparse tensor holds ``indices`` (sparse dimensions × entries, int64) and ``values`` (entries, then dense dimensions). Products, sums and
conversions are written with public operations on the two, so they run on every device and gradients reach the values. What is not offered
raises NotImplementedError; ``to_dense()`` gives an ordinary tensor.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import fusetorch as torch

from .overrides import adopt
from .printing import elements
from .tensor import Tensor

__all__ = ["addmm", "dsmm", "log_softmax", "mm", "softmax", "sparse_coo_tensor", "spmm", "sum", "to_sparse"]


class SparseTensor(Tensor):
    """A tensor in coordinate format; see :func:`sparse_coo_tensor`."""

    __slots__ = ()
    is_sparse = True
    layout = torch.sparse_coo
    is_leaf = property(lambda self: self._values().is_leaf)
    shape = property(lambda self: self.__dict__["_size"])
    dtype = property(lambda self: self._values().dtype)
    device = property(lambda self: self._values().device)
    ndim = property(lambda self: len(self.shape))
    grad_fn = property(lambda self: self._values().grad_fn)

    @property
    def requires_grad(self) -> bool:
        """Whether the values require a gradient."""
        return self._values().requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._values().requires_grad = value

    def requires_grad_(self, requires_grad: bool = True) -> SparseTensor:
        self._values().requires_grad_(requires_grad)
        return self

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return math.prod(self.shape)

    nelement = numel

    def __len__(self) -> int:
        return self.shape[0]

    def sparse_dim(self) -> int:
        """The number of dimensions that have coordinates."""
        return self._indices().shape[0]

    def dense_dim(self) -> int:
        """The number of dimensions that each value has."""
        return self._values().dim() - 1

    def _nnz(self) -> int:
        return self._values().shape[0]

    def _indices(self) -> Tensor:
        return self.__dict__["_held_indices"]

    def _values(self) -> Tensor:
        return self.__dict__["_held_values"]

    def is_coalesced(self) -> bool:
        """Whether the coordinates are sorted and each occurs once."""
        return self.__dict__["_coalesced"]

    def _coalesced_(self, coalesced: bool) -> SparseTensor:
        self.__dict__["_coalesced"] = coalesced
        return self

    def indices(self) -> Tensor:
        """The coordinates, of a coalesced tensor."""
        return self._checked("indices")._indices()

    def values(self) -> Tensor:
        """The values, of a coalesced tensor."""
        return self._checked("values")._values()

    def _checked(self, what: str) -> SparseTensor:
        if not self.is_coalesced():
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")
        return self

    def coalesce(self) -> SparseTensor:
        """Sorted coordinates, each once, with the sum of its values."""
        if self.is_coalesced():
            return self
        sizes = self.shape[:self.sparse_dim()]
        flat = torch.zeros_like(self._indices()[0])
        for axis, n in zip(self._indices(), sizes):
            flat = flat * n + axis
        places, inverse = torch.unique(flat, return_inverse=True)
        values = self._values().new_zeros((places.shape[0], *self._values().shape[1:])).index_add(0, inverse, self._values())
        indices = []
        for n in reversed(sizes):
            indices.append(places % n)
            places = torch.div(places, n, rounding_mode="floor")
        return _make(torch.stack(indices[::-1]), values, self.shape, True)

    def to_dense(self, dtype: Any = None, *, masked_grad: bool | None = None) -> Tensor:
        """The ordinary tensor."""
        values = self._values() if dtype is None else self._values().to(dtype)
        return values.new_zeros(tuple(self.shape)).index_put(tuple(self._indices()), values, accumulate=True)

    def to_sparse(self, sparse_dim: int | None = None, *, layout: Any = None) -> SparseTensor:
        return self if layout in (None, torch.sparse_coo) else to_sparse(self, layout=layout)

    to_sparse_coo = to_sparse

    def to_sparse_csr(self, dense_dim: int | None = None) -> SparseTensor:
        """The matrix with compressed rows."""
        return to_sparse(self, layout=torch.sparse_csr)

    def to_sparse_csc(self, dense_dim: int | None = None) -> SparseTensor:
        """The matrix with compressed columns."""
        return to_sparse(self, layout=torch.sparse_csc)

    def _with(self, values: Tensor) -> SparseTensor:
        return _make(self._indices(), values, self.shape, self.is_coalesced())

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        values = self._values().to(*args, **kwargs)
        return _make(self._indices().to(values.device), values, self.shape, self.is_coalesced())

    def cuda(self, device: Any = None, non_blocking: bool = False) -> SparseTensor:
        return self.to("cuda" if device is None else torch.device("cuda", device) if isinstance(device, int) else device)

    def cpu(self) -> SparseTensor:
        return self.to("cpu")

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        order, sizes = list(range(self.dim())), list(self.shape)
        a, b = dim0 % self.dim(), dim1 % self.dim()
        if max(a, b) >= self.sparse_dim():
            raise NotImplementedError("transpose: dense dimensions of a sparse tensor are not moved; use to_dense() first")
        order[a], order[b] = b, a
        sizes[a], sizes[b] = sizes[b], sizes[a]
        return _make(self._indices()[order[:self.sparse_dim()]], self._values(), torch.Size(sizes), a == b and self.is_coalesced())

    def t(self) -> SparseTensor:
        if self.dim() != 2:
            raise RuntimeError(f"t() expects a tensor with <= 2 sparse and 0 dense dimensions, but got {self.dim()} dimensions")
        return self.transpose(0, 1)

    T = property(t)
    mT = property(lambda self: self.transpose(-2, -1))

    def detach(self) -> SparseTensor:
        return self._with(self._values().detach())

    data = property(detach)

    def clone(self, *, memory_format: Any = None) -> SparseTensor:
        return _make(self._indices().clone(), self._values().clone(), self.shape, self.is_coalesced())

    def __deepcopy__(self, memo: dict) -> SparseTensor:
        return memo.setdefault(id(self), self.detach().clone().requires_grad_(self.requires_grad))

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _make, (self._indices(), self._values(), self.shape, self.is_coalesced())

    def __matmul__(self, other: Any) -> Any:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return matmul(other, self)

    def __add__(self, other: Any) -> Any:
        return _add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return _add(self, -other)

    def __rsub__(self, other: Any) -> Any:
        return _add(-self, other)

    def __mul__(self, other: Any) -> Any:
        return _mul(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return _mul(self, 1 / other)

    def __neg__(self) -> SparseTensor:
        return self._with(-self._values())

    def __repr__(self) -> str:
        node = self.grad_fn
        gradient = f", grad_fn=<{node.name()}>" if node is not None else ", requires_grad=True" if self.requires_grad else ""
        parts = [f"{name}=tensor({_shown(t, len('tensor(' + name + '=tensor('))})" for name, t in
                 (("indices", self._indices()), ("values", self._values().detach()))]
        dtype = "" if self.dtype in (torch.get_default_dtype(), torch.int64, torch.bool) else f", dtype={self.dtype}"
        parts.append(f"size={tuple(self.shape)}, nnz={self._nnz()}{dtype}, layout=torch.sparse_coo{gradient}")
        return f"tensor({(','  + chr(10) + '       ').join(parts)})"

    @classmethod
    def __torch_function__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Runs what is offered for sparse tensors."""
        name = getattr(func, "__name__", str(func))
        run = _OFFERED.get(name)
        if run is None:
            if name in _ZERO_STAYS_ZERO:
                sparse = args[0].coalesce()
                return sparse._with(func(sparse._values(), *args[1:], **(kwargs or {})))
            raise NotImplementedError(f"{name} is not offered for sparse tensors; it works on x.to_dense(), and on the values of "
                                      "x.coalesce()")
        return run(*args, **(kwargs or {}))


def _shown(t: Tensor, indent: int) -> str:
    return elements(t, indent) if t.numel() else f"[], size={tuple(t.shape)}"


def _make(indices: Tensor, values: Tensor, size: Any, coalesced: bool) -> SparseTensor:
    t = torch.empty(0)
    t.__class__ = SparseTensor
    t.__dict__.update(_held_indices=indices, _held_values=values, _size=torch.Size(size), _coalesced=coalesced)
    return t


def sparse_coo_tensor(indices: Any, values: Any = None, size: Any = None, *, dtype: Any = None, device: Any = None,
                      pin_memory: bool = False, requires_grad: bool = False, check_invariants: bool | None = None,
                      is_coalesced: bool = False) -> SparseTensor:
    """A sparse tensor from coordinates (dimensions × entries) and values; entries at the same place are added.

    The size is the smallest possible unless given; that the coordinates lie in it is checked with ``check_invariants``.

    Example:
        >>> import fusetorch as torch
        >>> torch.sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3)).to_dense()
        tensor([[0., 0., 3.],
                [4., 0., 0.]])
    """
    if values is None:  # no entries: what is given is the size
        size, indices, values = indices, torch.empty((len(indices), 0), dtype=torch.int64), torch.empty(0, dtype=dtype)
    values = torch.as_tensor(values, dtype=dtype, device=device)
    indices = torch.as_tensor(indices, device=values.device).to(torch.int64)
    if indices.dim() != 2 or indices.shape[1] != values.shape[0]:
        raise RuntimeError("indices must be dimensions × entries, and values must hold as many entries; got indices of shape "
                           f"{tuple(indices.shape)} and values of shape {tuple(values.shape)}")
    if size is None or check_invariants:
        needed = (*[int(n) + 1 for n in indices.max(1).values], *values.shape[1:]) if indices.numel() else (0,) * indices.shape[0]
        size = needed if size is None else tuple(size)
        if indices.numel() and (int(indices.min()) < 0 or any(a < b for a, b in zip(size, needed))):
            raise RuntimeError(f"size is inconsistent with indices: the coordinates need {needed}, but size is {size}")
    return _make(indices, values.requires_grad_() if requires_grad and not values.requires_grad else values, size, is_coalesced)


def to_sparse(input: Tensor, sparse_dim: int | None = None, *, layout: Any = None) -> SparseTensor:
    """The entries of an ordinary tensor that are not zero."""
    n = input.dim() if sparse_dim is None else sparse_dim
    if layout not in (None, torch.sparse_coo):
        from .sparse_compressed import to_compressed
        return to_compressed(input, layout)
    there = input.detach() != 0
    while there.dim() > n:
        there = there.any(-1)
    indices = there.nonzero().t().contiguous()
    return _make(indices, input[tuple(indices)], input.shape, True)


def matmul(a: Any, b: Any) -> Tensor:
    """The product of two matrices, or a matrix and a vector, of which one or both are sparse; dense unless both are sparse."""
    if isinstance(a, SparseTensor) and isinstance(b, SparseTensor):
        return to_sparse(torch.matmul(a.to_dense(), b.to_dense()))
    if isinstance(b, SparseTensor):
        return matmul(b.t(), a.t() if a.dim() == 2 else a).t()
    if a.dim() != 2 or a.dense_dim() or b.dim() not in (1, 2):
        raise NotImplementedError(f"matmul of a sparse tensor of shape {tuple(a.shape)} and one of shape {tuple(b.shape)}; matrices are "
                                  "offered")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and "
                           f"{'x'.join(str(n) for n in b.shape)})")
    rows, columns = a._indices()
    values = a._values() if b.dim() == 1 else a._values().unsqueeze(1)
    return b.new_zeros((a.shape[0], *b.shape[1:])).index_add(0, rows, values * b[columns])


mm = spmm = dsmm = matmul


def addmm(input: Tensor, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * mat1 @ mat2``."""
    return beta * input + alpha * matmul(mat1, mat2)


def _add(a: Any, b: Any, *, alpha: Any = 1) -> Tensor:
    if isinstance(a, SparseTensor) and isinstance(b, SparseTensor):
        if a.shape != b.shape:
            raise RuntimeError(f"add: expected sizes of 'self' and 'other' to match, but {tuple(a.shape)} != {tuple(b.shape)}")
        values = [a._values(), b._values() * alpha if alpha != 1 else b._values()]
        return _make(torch.cat([a._indices(), b._indices()], 1), torch.cat(values), a.shape, False).coalesce()
    first, second = (x.to_dense() if isinstance(x, SparseTensor) else x for x in (a, b))
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        raise NotImplementedError("a number is not added to a sparse tensor; use to_dense()")
    return torch.add(first, second, alpha=alpha)


def _mul(a: Any, b: Any) -> Tensor:
    a, b = (a, b) if isinstance(a, SparseTensor) else (b, a)
    if not isinstance(b, Tensor) or b.numel() == 1:
        return a._with(a._values() * b)
    a = a.coalesce()
    other = b.to_dense() if isinstance(b, SparseTensor) else b
    return a._with(a._values() * other.expand(tuple(a.shape))[tuple(a._indices())])


def sum(input: SparseTensor, dim: Any = None, dtype: Any = None) -> Tensor:  # noqa: A001 - PyTorch's name
    """The sum of all entries, or along ``dim``: what is left is sparse, unless all sparse dimensions are summed."""
    values = input._values() if dtype is None else input._values().to(dtype)
    if dim is None:
        return values.sum()
    dims = {d % input.dim() for d in ((dim,) if isinstance(dim, int) else dim)}
    n = input.sparse_dim()
    inner = [d - n + 1 for d in dims if d >= n]
    values = values.sum(inner) if inner else values
    kept = [d for d in range(n) if d not in dims]
    if not kept:
        return values.sum(0)
    size = [input.shape[d] for d in range(input.dim()) if d not in dims]
    return _make(input._indices()[kept], values, size, False).coalesce()


def softmax(input: SparseTensor, dim: int, *, dtype: Any = None) -> SparseTensor:
    """Softmax along a sparse dimension over the entries that are there."""
    r = log_softmax(input, dim, dtype=dtype)
    return r._with(r._values().exp())


def log_softmax(input: SparseTensor, dim: int, *, dtype: Any = None) -> SparseTensor:
    """The logarithm of :func:`softmax`."""
    x = input.coalesce()
    values = x._values() if dtype is None else x._values().to(dtype)
    if x.dense_dim() or x.sparse_dim() != 2:
        raise NotImplementedError("softmax of sparse tensors is offered for matrices")
    groups, n = x._indices()[1 - dim % 2], x.shape[1 - dim % 2]
    highest = values.detach().new_full((n,), -math.inf).scatter_reduce(0, groups, values.detach(), "amax")
    shifted = values - highest[groups]
    total = values.new_zeros(n).index_add(0, groups, shifted.exp())
    return x._with(shifted - total.log()[groups])


#: Functions by name, for calls such as ``torch.mm(sparse, dense)``.
_OFFERED: dict[str, Callable] = {
    **dict.fromkeys(("mm", "dsmm", "matmul", "mv", "spmm"), matmul), "addmm": addmm, "add": _add, "mul": _mul, "multiply": _mul,
    "sub": lambda a, b, *, alpha=1: _add(a, -b, alpha=alpha), "div": lambda a, b: _mul(a, 1 / b), "neg": lambda a: -a,
    "ndimension": lambda a: len(a.shape), "sum": sum, "t": SparseTensor.t, "transpose": SparseTensor.transpose,
    "clone": SparseTensor.clone, "detach": SparseTensor.detach, "requires_grad_": SparseTensor.requires_grad_,
    "is_tensor": lambda a: True, "is_floating_point": lambda a: a.dtype.is_floating_point,
    "type": lambda a, dtype=None: a.to(dtype) if dtype is not None else "torch.sparse." + a._values().type().rpartition(".")[2],
    **{d: lambda a, d=d: a.to(dtype=getattr(torch, d)) for d in ("float", "double", "half", "bfloat16", "long", "int")},
}
_ZERO_STAYS_ZERO = frozenset("abs sqrt sin tan tanh asin atan sinh relu sign floor ceil trunc round square expm1 log1p erf pow".split())

adopt(SparseTensor)


def _legacy(d: Any) -> type:
    """``torch.sparse.FloatTensor`` and the like."""
    class Legacy:
        def __new__(cls, *args: Any) -> SparseTensor:
            return sparse_coo_tensor(*args, dtype=d)
    return Legacy


FloatTensor, DoubleTensor, HalfTensor = _legacy(torch.float32), _legacy(torch.float64), _legacy(torch.float16)
LongTensor, IntTensor, ByteTensor = _legacy(torch.int64), _legacy(torch.int32), _legacy(torch.uint8)


def __getattr__(name: str) -> Any:
    if name in ("sampled_addmm", "spdiags"):
        from . import sparse_compressed
        return getattr(sparse_compressed, name)
    raise AttributeError(f"module 'fusetorch.sparse' has no attribute {name!r}: fusetorch does not have torch.sparse.{name}")
