"""Products, powers and functions of matrices."""
from __future__ import annotations

from math import prod
from typing import Any

from ..dtypes import bool_
from ..errors import warn
from ..runtime import solver
from ..shapes import broadcast_shapes, wrap_dim
from .linalg_rules import H, floating, kernel, same_dtype, sizes, square
from .opdef import composite, fn, opaque


@opaque(name="exponential_matrix", function=False, method=False)
def exponential_matrix(input):
    """``exp`` of square matrices."""
    return [(sizes(input), input.dtype)]


@kernel(exponential_matrix)
def _(xp: Any, a: Any) -> Any:
    return solver.matrix_exp(xp, a)


@exponential_matrix.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    # the derivative of exp at a in direction g is a block of exp([[a, g], [0, a]]) (R. Mathias, "A chain rule for matrix functions", 1996)
    a, n = H(ctx["input"]), ctx.shape(0)[-1]
    block = fn.cat([fn.cat([a, g], -1), fn.cat([fn.zeros_like(a), a], -1)], -2)
    return fn.exponential_matrix(block).narrow(-2, 0, n).narrow(-1, n, n)


@composite(aliases=("linalg.matrix_exp",))
def matrix_exp(A):
    """The matrix exponential of square matrices."""
    if A.ndim < 2 or sizes(A)[-1] != sizes(A)[-2]:
        raise RuntimeError(f"linalg.matrix_exp: A must be batches of square matrices, but got shape {list(A.shape)}")
    if A.dtype.category < 2:
        raise RuntimeError(f"linalg.matrix_exp: Expected a floating point or complex tensor as input. Got {A.dtype}")
    return fn.exponential_matrix(A)


@composite(aliases=("linalg.matrix_power",), out=True)
def matrix_power(A, n):
    """``A`` multiplied ``n`` times; for negative ``n`` its inverse, for 0 the identity."""
    if A.ndim < 2 or sizes(A)[-1] != sizes(A)[-2]:
        raise RuntimeError(f"linalg.matrix_power: A must be batches of square matrices, but got shape {list(A.shape)}")
    if n < 0:
        square("linalg.matrix_power", A)
        A, n = fn.inverse(A), -n
    if n == 0:
        nothing = A.masked_fill(fn.ones((), dtype=bool_, device=A.device), 0)
        return nothing + fn.eye(sizes(A)[-1], dtype=A.dtype, device=A.device)
    out, power = None, A
    while n:
        if n & 1:
            out = power if out is None else out @ power
        n >>= 1
        power = power @ power if n else power
    return out.clone() if out is A else out


def _order(shapes: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Where to split each product of consecutive matrices: dynamic programming over the numbers of multiplications (Cormen, Leiserson,
    Rivest, Stein, "Introduction to Algorithms", 14.2)."""
    n = len(shapes)
    sides = [s[0] for s in shapes] + [shapes[-1][1]]
    cost = {(i, i): 0 for i in range(n)}
    split = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], split[i, j] = min((cost[i, k] + cost[k + 1, j] + sides[i] * sides[k + 1] * sides[j + 1], k) for k in range(i, j))
    return split


@composite(name="linalg_multi_dot", function=False, method=False, aliases=("linalg.multi_dot",), out="exact", autocast="lower")
def linalg_multi_dot(tensors):
    """The product of two or more matrices in the cheapest order; the first and the last may be vectors."""
    n = len(tensors)
    if n < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {n}")
    first, last = tensors[0].ndim, tensors[-1].ndim
    for k, t in enumerate(tensors):
        if t.ndim != 2 and not (t.ndim == 1 and k in (0, n - 1)):
            raise RuntimeError(f"multi_dot(): tensor {k} must be {'1D or 2D' if k in (0, n - 1) else '2D'} but got {t.ndim}D")
        if t.dtype is not tensors[0].dtype:
            raise RuntimeError(f"multi_dot(): all tensors must have be the same dtype but tensor 0 is {tensors[0].dtype} and tensor {k} is "
                               f"{t.dtype}")
        if t.device != tensors[0].device:
            raise RuntimeError(f"multi_dot(): all tensors must be on the same device but tensor 0 is on {tensors[0].device} and tensor {k} "
                               f"on {t.device}")
    ms = [t.unsqueeze(0) if k == 0 and t.ndim == 1 else t.unsqueeze(-1) if t.ndim == 1 else t for k, t in enumerate(tensors)]
    for k in range(n - 1):
        if sizes(ms[k])[1] != sizes(ms[k + 1])[0]:
            raise RuntimeError(f"multi_dot(): tensors {k} and {k + 1} with shapes {list(tensors[k].shape)} and "
                               f"{list(tensors[k + 1].shape)} cannot be multiplied")
    split = _order([sizes(m) for m in ms])

    def product(i: int, j: int) -> Any:
        if i == j:
            return ms[i]
        k = split[i, j]
        return product(i, k) @ product(k + 1, j)
    out = product(0, n - 1)
    out = out.squeeze(0) if first == 1 else out
    return out.squeeze(-1) if last == 1 else out


@composite(method=False, autocast="lower")
def chain_matmul(*matrices, out=None):
    """``linalg.multi_dot`` of matrices given one by one; of one matrix, that."""
    if any(m.ndim != 2 for m in matrices):
        raise RuntimeError("chain_matmul(): expected 2-D matrices")
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    r = matrices[0] if len(matrices) == 1 else linalg_multi_dot.body(list(matrices))
    if out is None:
        return r
    from ..writing import write_out
    return write_out("chain_matmul", r, out)


@composite(refuses="bool integer", name="linalg_vecdot", function=False, method=False, aliases=("linalg.vecdot",), out="exact",
           autocast="lower")
def linalg_vecdot(x, y, *, dim=-1):
    """The inner product of vectors along ``dim``; the rest broadcasts."""
    if x.dtype is not y.dtype:
        raise RuntimeError(f"linalg.vecdot: Expected x and y to have the same dtype, but got {x.dtype} and {y.dtype}")
    if x.ndim == 0 or y.ndim == 0:
        wrap_dim(dim, 0)
    return (x.conj() * y).sum(dim, dtype=x.dtype)


@composite(refuses="bool", name="linalg_cross", function=False, method=False, aliases=("linalg.cross",), out="apart")
def linalg_cross(input, other, *, dim=-1):
    """The vector product along ``dim`` of size 3; the rest broadcasts."""
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    d = wrap_dim(dim, input.ndim)
    if sizes(input)[d] != 3 or sizes(other)[d] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {sizes(input)[d]} and {sizes(other)[d]}")
    shape = broadcast_shapes(sizes(input), sizes(other))
    a, b = input.expand(shape), other.expand(shape)
    return fn.roll(a, -1, d) * fn.roll(b, -2, d) - fn.roll(a, -2, d) * fn.roll(b, -1, d)


@composite(name="linalg_diagonal", function=False, method=False, aliases=("linalg.diagonal",))
def linalg_diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """The diagonals of matrices, as a view."""
    return fn.diagonal(A, offset, dim1, dim2)


@composite(name="linalg_matmul", function=False, method=False, aliases=("linalg.matmul",), out=True)
def linalg_matmul(input, other):
    """``torch.matmul``."""
    return fn.matmul(input, other)


def _vander(x: Any, n: int) -> Any:
    columns = [fn.ones_like(x).unsqueeze(-1), x.unsqueeze(-1).expand(*x.shape, max(n - 1, 0))]
    if n <= 1:
        return columns[0].narrow(-1, 0, n)
    return fn.cat([columns[0], columns[1].cumprod(-1).to(x.dtype)], -1)


@composite(refuses="bool half", name="linalg_vander", function=False, method=False, aliases=("linalg.vander",))
def linalg_vander(x, *, N=None):
    """Powers 0, 1, ... ``N - 1`` of each element (as many as elements by default) as rows."""
    if N is not None and N <= 1:
        raise RuntimeError(f"N must be greater than 1. Got {N}")
    if x.dtype.category < 2:
        x = x.long()
    x = x if x.ndim else x.reshape(1)
    return _vander(x, sizes(x)[-1] if N is None else N)


@composite(method=False)
def vander(x, N=None, increasing=False):
    """Powers of a vector's elements as rows, the highest first unless ``increasing``."""
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = sizes(x)[0] if N is None else N
    if n < 0:
        raise RuntimeError("N must be non-negative.")
    x = x.long() if x.dtype.category < 2 else x
    out = _vander(x, n)
    return out if increasing else out.flip(-1)


@composite(name="linalg_tensorinv", function=False, method=False, aliases=("linalg.tensorinv",), out=True)
def linalg_tensorinv(A, ind=2):
    """The inverse under ``tensordot`` with the first ``ind`` dimensions as rows and the others as columns."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    shape = sizes(A)
    rows, columns = prod(shape[:ind]), prod(shape[ind:])
    if rows != columns:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                           f"{columns} != {rows}")
    floating("linalg.tensorinv", A)
    return fn.inverse_matrix(A.reshape(rows, columns), "linalg.tensorinv")[0].reshape(*shape[ind:], *shape[:ind])


@composite(name="linalg_tensorsolve", function=False, method=False, aliases=("linalg.tensorsolve",), out=True, also={"other": "B"})
def linalg_tensorsolve(A, B, dims=None):
    """``X`` with ``tensordot(A, X, X.ndim) == B``; the dimensions ``dims`` of ``A`` are moved to its end first."""
    if dims is not None:
        if len(dims) > A.ndim:
            raise RuntimeError(f"linalg.tensorsolve: got more dims {list(dims)} than dimensions of A {list(A.shape)}")
        dims = [wrap_dim(d, A.ndim) for d in dims]
        A = A.movedim(dims, list(range(A.ndim - len(dims), A.ndim)))
    shape = sizes(A)[B.ndim:]
    n = B.numel()
    if prod(shape) != n or A.numel() != n * n:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but "
                           f"got {prod(shape)} != {prod(sizes(A)[:B.ndim])}")
    floating("linalg.tensorsolve", A)
    same_dtype("linalg.tensorsolve", A, B)
    x = fn.general_system(A.reshape(n, n), B.reshape(n, 1), "linalg.tensorsolve")[0]
    return x.reshape(shape)


@composite(refuses="bool", autocast="float32:cpu")
def trace(input):
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError("trace: expected a matrix")
    return fn.diagonal(input).sum()


@composite(out="exact", autocast="promote:cuda")
def vdot(input, other):
    """The inner product of two vectors, the first conjugated."""
    return fn.dot(fn.conj(input), other)


@composite(out=True)
def kron(input, other):
    """The Kronecker product."""
    rank = max(input.ndim, other.ndim)
    a, b = (x.reshape((1,) * (rank - x.ndim) + tuple(x.shape)) for x in (input, other))
    wide = a.reshape([n for s in a._a.shape for n in (s, 1)]) * b.reshape([n for s in b._a.shape for n in (1, s)])
    return wide.reshape([m * n for m, n in zip(a._a.shape, b._a.shape)])


@composite(refuses="bool", out="apart", autocast="promote:cuda")
def cross(input, other, dim=None):
    """The vector product along ``dim`` (of size 3; the first such unless given)."""
    shape = tuple(broadcast_shapes(input.shape, other.shape))
    if dim is None:
        if 3 not in shape:
            raise RuntimeError("no dimension of size 3 in input")
        warn("Using torch.cross without specifying the dim arg is deprecated.\nPlease either pass the dim explicitly or simply use "
             "torch.linalg.cross.\nThe default value of dim will change to agree with that of linalg.cross in a future release.")
        d = shape.index(3)
    else:
        d = wrap_dim(dim, len(shape))
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    if input._a.shape[d] != 3 or other._a.shape[d] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {d} must have length 3. Got {input._a.shape[d]} and {other._a.shape[d]}")
    return (fn.roll(input, -1, d) * fn.roll(other, -2, d)) - (fn.roll(input, -2, d) * fn.roll(other, -1, d))


@composite(nn=True, autocast="promote:cuda")
def bilinear(input1, input2, weight, bias=None):
    """``input1 @ weight[k] @ input2`` for each ``k``: (*, I) and (*, J) with ``weight`` (K, I, J) to (*, K)."""
    if input1.ndim != input2.ndim or input1._a.shape[:-1] != input2._a.shape[:-1]:
        raise RuntimeError(f"bilinear(): input batch dimensions do not match: got {list(input1.shape)} and {list(input2.shape)}")
    out, i, j = weight._a.shape
    if input1._a.shape[-1] != i or input2._a.shape[-1] != j:
        raise RuntimeError(f"bilinear(): input sizes do not match weight {list(weight.shape)}: got {list(input1.shape)} and "
                           f"{list(input2.shape)}")
    if bias is not None and tuple(bias._a.shape) != (out,):
        raise RuntimeError(f"bilinear(): bias size does not match weight size: got {list(bias.shape)} but expected [{out}]")
    batch = input1._a.shape[:-1]
    left = input1.reshape(-1, i) @ weight.permute(1, 0, 2).reshape(i, out * j)
    result = (left.reshape(-1, out, j) * input2.reshape(-1, 1, j)).sum(-1, dtype=left.dtype).reshape(*batch, out)
    return result if bias is None else result + bias
