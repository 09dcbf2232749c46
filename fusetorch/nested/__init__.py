"""``torch.nested``: several tensors of different sizes as one, such as the sentences of a batch.

A nested tensor holds its parts; a function of it is that function of each part, with dimensions counted behind the one that counts the
parts. ``to_padded_tensor`` gives an ordinary tensor.
"""
from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import fusetorch as torch
from fusetorch.overrides import adopt
from fusetorch.tensor import Tensor

__all__ = ["NestedTensor", "as_nested_tensor", "masked_select", "narrow", "nested_tensor", "nested_tensor_from_jagged", "to_padded_tensor"]

#: Functions that take dimensions: where among the arguments, and by what names.
_DIMS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    **{name: ((1,), ("dim",)) for name in (
        "softmax", "log_softmax", "sum", "mean", "amax", "amin", "argmax", "argmin", "prod", "std", "var", "logsumexp", "cumsum", "norm",
        "any", "all", "unsqueeze", "squeeze", "select", "narrow", "flip", "max", "min", "index_select")},
    **{name: ((2,), ("dim",)) for name in ("chunk", "split")},
    "transpose": ((1, 2), ("dim0", "dim1")), "swapaxes": ((1, 2), ("axis0", "axis1")), "flatten": ((1, 2), ("start_dim", "end_dim")),
    "normalize": ((2,), ("dim",)), "glu": ((1,), ("dim",)),
}
#: Of these, without a dimension, there is one result for all elements.
_WHOLE = frozenset("sum mean amax amin argmax argmin prod std var norm any all max min count_nonzero".split())
#: Functions whose meaning is not that of each part alone.
_REFUSED = frozenset("cat stack permute expand index_put gather scatter t batch_norm equal allclose item tolist numpy".split())


class NestedTensor(Tensor):
    """A tensor of parts; see :func:`nested_tensor`."""

    __slots__ = ()
    is_nested = True
    is_leaf = property(lambda self: builtins.all(p.is_leaf for p in self._parts()))
    layout = property(lambda self: self.__dict__["_layout"])
    dtype = property(lambda self: self._parts()[0].dtype if self._parts() else self.__dict__["_dtype"])
    device = property(lambda self: self._parts()[0].device if self._parts() else torch.device("cpu"))

    def _parts(self) -> list[Tensor]:
        return self.__dict__["_held"]

    @property
    def shape(self) -> Any:
        raise RuntimeError("a nested tensor has no one shape; size(dim) gives those that are the same in all parts")

    @property
    def requires_grad(self) -> bool:
        """Whether a part requires a gradient."""
        return builtins.any(p.requires_grad for p in self._parts())

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        for p in self._parts():
            p.requires_grad = value

    def requires_grad_(self, requires_grad: bool = True) -> NestedTensor:
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> NestedTensor | None:
        """The gradients of the parts."""
        grads = [p.grad for p in self._parts()]
        return None if None in grads else _make(grads, self.layout)

    def dim(self) -> int:
        return 1 + (self._parts()[0].dim() if self._parts() else 0)

    ndim = property(dim)

    def size(self, dim: int | None = None) -> Any:
        if dim is None:
            return self.shape
        d = dim + self.dim() if dim < 0 else dim
        if not 0 <= d < self.dim():
            raise IndexError(f"Dimension out of range (expected to be in range of [{-self.dim()}, {self.dim() - 1}], but got {dim})")
        if d == 0:
            return len(self._parts())
        sizes = {p.size(d - 1) for p in self._parts()}
        if len(sizes) != 1:
            raise RuntimeError(f"Given dimension {d} is irregular and does not have a size.")
        return sizes.pop()

    def numel(self) -> int:
        return builtins.sum(p.numel() for p in self._parts())

    def __len__(self) -> int:
        return len(self._parts())

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The parts."""
        if dim not in (0, -self.dim()):
            raise RuntimeError(f"unbind of a nested tensor is along dimension 0, got {dim}")
        return tuple(self._parts())

    def __iter__(self) -> Any:
        return iter(self._parts())

    def __getitem__(self, i: Any) -> Any:
        first, rest = (i[0], i[1:]) if isinstance(i, tuple) else (i, ())
        if isinstance(first, int):
            return self._parts()[first][rest] if rest else self._parts()[first]
        if isinstance(first, slice):
            return _make([p[rest] if rest else p for p in self._parts()[first]], self.layout)
        raise NotImplementedError("a nested tensor is indexed by a number or a slice first; unbind() gives its parts")

    def to_padded_tensor(self, padding: float, output_size: Sequence[int] | None = None) -> Tensor:
        """An ordinary tensor of the parts, each filled up with ``padding`` to the largest sizes, or to ``output_size``."""
        return to_padded_tensor(self, padding, output_size)

    def values(self) -> Tensor:
        """The parts one after the other."""
        return torch.cat(self._parts())

    def offsets(self) -> Tensor:
        """Where each part begins in :meth:`values`, and the length of all."""
        ends = torch.tensor([0, *(p.shape[0] for p in self._parts())], device=self.device)
        return ends.cumsum(0)

    def is_contiguous(self, memory_format: Any = None) -> bool:
        return builtins.all(p.is_contiguous() for p in self._parts())

    def reshape(self, *shape: Any) -> NestedTensor:
        """Another shape of each part: the first size is the number of parts, and -1 a size that differs."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        if not sizes or sizes[0] not in (-1, len(self)):
            raise RuntimeError(f"reshape: the first size of a nested tensor of {len(self)} parts is {len(self)}, got {tuple(sizes)}")
        return _make([p.reshape(_kept(sizes[1:], p)) for p in self._parts()], self.layout)

    view = reshape

    def detach(self) -> NestedTensor:
        return _make([p.detach() for p in self._parts()], self.layout)

    def to(self, *args: Any, **kwargs: Any) -> NestedTensor:
        return _make([p.to(*args, **kwargs) for p in self._parts()], self.layout)

    def __repr__(self) -> str:
        rows = [repr(p.detach()).replace("\n", "\n  ") for p in self._parts()]
        more = ", requires_grad=True" if self.requires_grad else ""
        return "nested_tensor([\n  " + ",\n  ".join(rows) + f"\n]{more})"

    @classmethod
    def __torch_function__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Runs a function on each part."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in _OWN and args and isinstance(args[0], NestedTensor):
            return _OWN[name](*args, **kwargs)
        if name in _REFUSED:
            raise NotImplementedError(f"{name} is not offered for nested tensors; unbind() gives the parts, to_padded_tensor() an ordinary "
                                      "tensor")
        if name == "bmm":
            func = torch.matmul
        if name in _WHOLE and len(args) == 1 and kwargs.get("dim") is None:
            return func(torch.cat([p.reshape(-1) for p in args[0]._parts()]), **kwargs)
        places, names = _DIMS.get(name, ((), ()))
        args = tuple(_behind(a, name) if k in places else a for k, a in enumerate(args))
        kwargs = {k: _behind(v, name) if k in names else v for k, v in kwargs.items()}
        nested = [a for a in (*args, *kwargs.values()) if isinstance(a, NestedTensor)]
        counts = {len(n) for n in nested}
        if len(counts) != 1:
            raise RuntimeError(f"{name}: nested tensors of {' and '.join(map(str, sorted(counts)))} parts")
        results = [func(*[a._parts()[k] if isinstance(a, NestedTensor) else a for a in args],
                        **{n: v._parts()[k] if isinstance(v, NestedTensor) else v for n, v in kwargs.items()}) for k in range(counts.pop())]
        return _joined(results, nested[0].layout)


def _kept(sizes: Sequence[int], part: Tensor) -> tuple[int, ...]:
    """Sizes in which several -1 stand for the part's own."""
    if list(sizes).count(-1) > 1:
        return tuple(part.shape[k] if n == -1 and k < part.dim() else n for k, n in enumerate(sizes))
    return tuple(sizes)


def _behind(dim: Any, name: str) -> Any:
    """A dimension, or several, of a part."""
    if isinstance(dim, (tuple, list)):
        return tuple(_behind(d, name) for d in dim)
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 0:
        return dim
    if dim == 0:
        raise RuntimeError(f"{name}: dimension 0 of a nested tensor counts its parts; use unbind() or to_padded_tensor()")
    return dim - 1


def _joined(results: list[Any], layout: Any) -> Any:
    first = results[0]
    if isinstance(first, Tensor):
        return _make(results, layout)
    if isinstance(first, (tuple, list)):
        columns = [_joined(list(column), layout) for column in zip(*results)]
        return type(first)(*columns) if hasattr(first, "_fields") else type(first)(columns)
    return first


def _make(parts: Sequence[Tensor], layout: Any = None) -> NestedTensor:
    t = torch.empty(0)
    t.__class__ = NestedTensor
    t.__dict__.update(_held=list(parts), _layout=layout or torch.strided, _dtype=torch.get_default_dtype())
    return t


def _checked(parts: list[Tensor]) -> list[Tensor]:
    for k, p in enumerate(parts):
        if p.dim() != parts[0].dim():
            raise RuntimeError(f"All Tensors given to nested_tensor must have the same dimension. Found dimension {p.dim()} for Tensor at "
                               f"index {k} and dimension {parts[0].dim()} for Tensor at index 0.")
    return parts


def nested_tensor(tensor_list: Sequence[Any], *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
                  pin_memory: bool = False) -> NestedTensor:
    """A nested tensor with copies of the tensors (or nested lists of numbers) of a list, without their history.

    Example:
        >>> import fusetorch as torch
        >>> torch.nested.nested_tensor([torch.ones(2), torch.zeros(1)]).to_padded_tensor(-1.0)
        tensor([[ 1.,  1.],
                [ 0., -1.]])
    """
    parts = [x.detach().clone() if isinstance(x, Tensor) else torch.tensor(x) for x in tensor_list]
    made = _make(_checked([p.to(dtype=dtype, device=device) for p in parts]), layout)
    return made.requires_grad_() if requires_grad else made


def as_nested_tensor(ts: Tensor | Sequence[Tensor], dtype: Any = None, device: Any = None, layout: Any = None) -> NestedTensor:
    """A nested tensor of the tensors of a list, or along the first dimension of one, with their history."""
    if isinstance(ts, NestedTensor):
        return ts.to(dtype=dtype, device=device) if dtype is not None or device is not None else ts
    parts = list(ts.unbind(0)) if isinstance(ts, Tensor) else list(ts)
    return _make(_checked([p.to(dtype=dtype, device=device) for p in parts]), layout)


def to_padded_tensor(input: NestedTensor, padding: float, output_size: Sequence[int] | None = None, out: Tensor | None = None) -> Tensor:
    """An ordinary tensor of the parts, each filled up with ``padding`` to the largest sizes, or to ``output_size``."""
    parts = input._parts()
    if not parts:
        return torch.empty(0)
    largest = [max(p.shape[d] for p in parts) for d in range(parts[0].dim())]
    sizes = largest if output_size is None else list(output_size)[1:]
    if len(sizes) != len(largest) or builtins.any(n < m for n, m in zip(sizes, largest)):
        raise RuntimeError(f"Value in output_size is less than NestedTensor padded size: {list(output_size)}, the parts need "
                           f"{[len(parts), *largest]}")
    padded = [torch.nn.functional.pad(p, [x for n, m in zip(sizes[::-1], p.shape[::-1]) for x in (0, n - m)], value=padding)
              if math.prod(sizes) != p.numel() else p.reshape(sizes) for p in parts]
    return torch.stack(padded) if out is None else torch.stack(padded, out=out)


def nested_tensor_from_jagged(values: Tensor, offsets: Tensor | None = None, lengths: Tensor | None = None, jagged_dim: int | None = None,
                              min_seqlen: int | None = None, max_seqlen: int | None = None) -> NestedTensor:
    """A nested tensor of pieces of ``values`` along its first dimension: part ``i`` begins at ``offsets[i]`` and ends at the next one, or
    has ``lengths[i]`` elements."""
    if jagged_dim not in (None, 1):
        raise NotImplementedError("nested_tensor_from_jagged: pieces along the first dimension are offered (jagged_dim=1), got "
                                  f"{jagged_dim}")
    if offsets is None:
        if lengths is None:
            raise RuntimeError("nested_tensor_from_jagged(): At least one of offsets or lengths is required.")
        ends = [0, *lengths.cumsum(0).tolist()]
    else:
        ends = offsets.tolist()
    sizes = [b - a for a, b in zip(ends, ends[1:])] if lengths is None else lengths.tolist()
    return _make([values.narrow(0, a, n) for a, n in zip(ends, sizes)], torch.jagged)


def narrow(tensor: Tensor, dim: int, start: int | Tensor, length: int | Tensor, layout: Any = None) -> NestedTensor:
    """From each row of ``tensor``, ``length`` elements from ``start``, each a number or one for each row. ``dim`` is 1."""
    if dim != 1:
        raise RuntimeError("narrow: only dim=1 supported for torch.jagged layout")
    starts, lengths = [x.tolist() if isinstance(x, Tensor) else [x] * len(tensor) for x in (start, length)]
    return _make([row.narrow(0, a, n) for row, a, n in zip(tensor, starts, lengths)], layout)


def masked_select(tensor: Tensor, mask: Tensor) -> NestedTensor:
    """From each row of ``tensor``, the elements where ``mask`` (bool, broadcast)."""
    rows, masks = torch.broadcast_tensors(tensor, mask)
    return _make([row[m] for row, m in zip(rows, masks)], torch.jagged)


#: Methods that are the class's own; the rest go to each part.
_OWN: dict[str, Callable] = {name: f for name, f in vars(NestedTensor).items() if callable(f) and not name.startswith("__")}
adopt(NestedTensor)
