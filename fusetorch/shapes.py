"""Shape arithmetic shared by every layer: broadcasting, dimension numbers, strides."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod as numel

__all__ = ["Size", "broadcast_shapes", "wrap_dim", "wrap_dims", "contiguous_strides", "is_contiguous", "numel",
           "dense_strides_like", "infer_reshape", "packed_strides", "reduced_shape", "view_strides"]


class Size(tuple):
    """A tensor's shape: a tuple of ints with ``numel()`` and PyTorch's repr."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        return numel(self)

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    __str__ = __repr__

    def __add__(self, other: tuple) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: tuple) -> Size:
        return Size(other + tuple(self)) if isinstance(other, tuple) else NotImplemented  # a list extends itself

    def __mul__(self, n: int) -> Size:
        return Size(tuple.__mul__(self, n))

    __rmul__ = __mul__

    def __getitem__(self, i):  # noqa: ANN001, ANN204 - tuple's own signature
        r = tuple.__getitem__(self, i)
        return Size(r) if isinstance(i, slice) else r


def broadcast_shapes(*shapes: Sequence[int]) -> Size:
    """The shape that all ``shapes`` broadcast to; ``RuntimeError`` as in PyTorch where they do not.

    Example:
        >>> broadcast_shapes((2, 1), (3,))
        torch.Size([2, 3])
    """
    return _broadcast(*map(tuple, shapes))


@lru_cache(4096)
def _broadcast(*shapes: tuple[int, ...]) -> Size:
    first = shapes[0]
    if all(s == first for s in shapes):
        return Size(first)
    rank = max(map(len, shapes))
    out = [1] * rank
    for s in shapes:
        for i in range(1, len(s) + 1):
            n = s[-i]
            if n == out[-i] or n == 1:
                continue
            if out[-i] != 1:
                a = out[-i]
                raise RuntimeError(f"The size of tensor a ({a}) must match the size of tensor b ({n}) at non-singleton "
                                   f"dimension {rank - i} (shapes: {', '.join(str(list(x)) for x in shapes)})")
            out[-i] = n
    return Size(out)


def wrap_dim(dim: int, rank: int) -> int:
    """``dim`` counted from the front; ``IndexError`` out of range. A 0-d tensor accepts 0 and -1."""
    n = max(rank, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim + n if dim < 0 else dim


def distinct_dims(dims: int | Iterable[int], rank: int) -> list[int]:
    """Dimension numbers as they are given, counted from the front; ``RuntimeError`` if one appears twice."""
    found = [wrap_dim(d, rank) for d in ((dims,) if isinstance(dims, int) else dims)]
    if len(set(found)) != len(found):
        raise RuntimeError(f"dim {next(d for d in found if found.count(d) > 1)} appears multiple times in the list of dims")
    return found


def wrap_dims(dims: int | Iterable[int] | None, rank: int) -> tuple[int, ...]:
    """Sorted dimension numbers; ``None`` and ``()`` mean all. ``RuntimeError`` if one appears twice."""
    if dims is None:
        return tuple(range(rank))
    if isinstance(dims, int):
        return (wrap_dim(dims, rank),) if rank else ()
    found = distinct_dims(dims, rank)
    if not found:
        return tuple(range(rank))
    return tuple(sorted(found)) if rank else ()


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= max(n, 1)
    return tuple(reversed(out))


def is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether ``strides`` (elements) are row-major, ignoring dimensions of size 1."""
    step = 1
    for n, s in zip(reversed(shape), reversed(strides)):
        if n == 0:
            return True
        if n != 1:
            if s != step:
                return False
            step *= n
    return True


def dense_strides_like(shape: tuple[int, ...], layouts: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[int, ...]:
    """Strides of an elementwise result, from shape and strides of each operand: dense, in the order of the first operand that tells two
    dimensions apart, as in PyTorch; row-major where none does."""
    return _dense_strides_like(tuple(shape), tuple(layouts))


@lru_cache(maxsize=4096)
def _dense_strides_like(shape: tuple[int, ...], layouts: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]) -> tuple[int, ...]:
    rank = len(shape)
    steps = []
    for own, strides in layouts:
        lead = rank - len(own)
        steps.append([0] * lead + [0 if n == 1 != shape[lead + k] else s for k, (n, s) in enumerate(zip(own, strides))])

    def after(a: int, b: int) -> int:
        """Whether dimension ``a`` has the larger steps (1), the smaller ones (-1), or nothing says so (0)."""
        for s in steps:
            if s[a] and s[b]:
                if s[a] != s[b]:
                    return 1 if s[a] > s[b] else -1
                if shape[a] > shape[b]:
                    return 1
        return 0

    order = list(range(rank))[::-1]  # from the smallest step to the largest
    for i in range(1, rank):
        k = i
        for j in range(i - 1, -1, -1):
            c = after(order[j], order[k])
            if c < 0:
                break
            if c:
                order[j], order[k], k = order[k], order[j], j
    return packed_strides(shape, order[::-1])


def packed_strides(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Strides (elements) without gaps, for dimensions in ``order`` from the largest stride to the smallest."""
    out, step = [0] * len(shape), 1
    for d in reversed(order):
        out[d] = step
        step *= max(shape[d], 1)
    return tuple(out)


def infer_reshape(shape: Sequence[int], count: int) -> tuple[int, ...]:
    """Resolves one ``-1`` in ``shape`` for ``count`` elements; ``RuntimeError`` where that is impossible."""
    return _infer_reshape(tuple(shape), count)


@lru_cache(4096)
def _infer_reshape(shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    shape = tuple([int(n) for n in shape])  # what is remembered serves NumPy integers and Python's
    if shape.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if any(n < -1 for n in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)} at index {shape.index(min(shape))} of shape {list(shape)}")
    if -1 in shape:
        rest = numel(n for n in shape if n != -1)
        if rest == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified "
                               "dimension size -1 can be any value and is ambiguous")
        if count % rest == 0:
            return tuple(count // rest if n == -1 else n for n in shape)
    elif numel(shape) == count:
        return shape
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {count}")


def reduced_shape(shape: Sequence[int], dims: Sequence[int], keepdim: bool) -> tuple[int, ...]:
    """``shape`` with ``dims`` reduced: removed, or of size 1 with ``keepdim``."""
    if keepdim:
        return tuple(1 if i in dims else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in dims)


def view_strides(shape: Sequence[int], strides: Sequence[int], new: Sequence[int]) -> tuple[int, ...] | None:
    """Strides (elements) of the same memory seen as ``new``, or ``None`` where only a copy can have that shape."""
    return _view_strides(tuple(shape), tuple(strides), tuple(new))


@lru_cache(4096)
def _view_strides(shape: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...] | None:
    if numel(shape) == 0:
        return contiguous_strides(new)
    # walk both shapes from the back, one maximal chunk of mergeable old dimensions at a time
    old = [(n, s) for n, s in zip(shape, strides) if n != 1]
    out: list[int] = [0] * len(new)
    j = len(new) - 1
    i = len(old) - 1
    while i >= 0:
        size, step = old[i]
        base = step
        while i > 0 and old[i - 1][1] == step * old[i][0]:
            i -= 1
            step = old[i][1]
            size *= old[i][0]
        i -= 1
        # the chunk has `size` elements, `base` apart
        left, at = size, base
        while left > 1 or (j >= 0 and new[j] == 1):
            if j < 0:
                return None
            if left % new[j]:
                return None
            out[j] = at
            at *= new[j]
            left //= new[j]
            j -= 1
    while j >= 0:
        if new[j] != 1:
            return None
        out[j] = out[j + 1] * new[j + 1] if j + 1 < len(new) else 1
        j -= 1
    return tuple(out)

