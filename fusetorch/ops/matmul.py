"""Matrix products."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FROM_NUMPY, HALVES, bool_, dtype
from ..runtime import blas
from ..shapes import broadcast_shapes
from ..tensor import wrap
from .expr import cast
from .opdef import Short, composite, elementwise, fn, opaque

#: Multiply-adds from which native kernels are quicker than NumPy's call (on a CPU with 512-bit vectors: 10 us).
NATIVE_FROM = 500_000


def product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """``a @ b`` of arrays of two or more dimensions, plus ``bias`` (columns): by NumPy where it is small, else by native kernels."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    work = a.size * n
    if (work >= NATIVE_FROM and (a.ndim > 2 or m >= 16 <= k and n >= 32 or work >= 8 * NATIVE_FROM and m >= 4 <= n)
            and b.size and a.dtype is b.dtype and a.dtype.char in "fd"):
        from ..codegen.product import matmul as native
        return native(a, b, bias)
    out = blas.matmul(a, b)
    if bias is not None:
        out += bias
    return out


def _check(name: str, a: Any, b: Any) -> None:
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: expected m1 and m2 to have the same dtype, but got: {a.dtype} != {b.dtype}")


@opaque(name="bmm_general", function=False, method=False)
def bmm_general(a, b):
    """``a @ b`` for operands of two or more dimensions whose batch dimensions broadcast. Half types accumulate in float32."""
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return [((*batch, a.shape[-2], b.shape[-1]), a.dtype)]


@bmm_general.cpu
def _(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d: dtype = FROM_NUMPY[a.dtype]
    if d in HALVES:
        return product(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    if d is bool_:
        raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'")
    return product(a, b) if d.category == 2 else np.matmul(a, b)


@bmm_general.cuda
def _(a: Any, b: Any) -> Any:
    if a.dtype.is_complex:
        return _product_of_parts(a, b)
    from ..triton_kernels.matmul import matmul
    return matmul(a, b)


def _product_of_parts(a: Any, b: Any) -> Any:
    """Four real products."""
    from ..autograd import no_grad
    with no_grad():
        (ar, ai), (br, bi) = [(fn.real(wrap(x)).contiguous(), fn.imag(wrap(x)).contiguous()) for x in (a, b)]
        return fn.complex(fn.bmm_general(ar, br) - fn.bmm_general(ai, bi), fn.bmm_general(ar, bi) + fn.bmm_general(ai, br))._a


def _product_like(like: Any, left: Any, right: Any) -> Any:
    """``left @ right`` laid out as ``like`` is: a transposed weight gets a transposed gradient, which is row-major for the weight."""
    if like.ndim >= 2 and like.stride(-2) == 1 and like.stride(-1) != 1:
        return fn.bmm_general(right.transpose(-1, -2), left.transpose(-1, -2)).transpose(-1, -2)
    return fn.bmm_general(left, right)


@bmm_general.vjp("a", "b")
def _(ctx: Any, g: Any) -> Any:
    from .views import sum_to_size
    a, b = ctx["a"], ctx["b"]
    ga = sum_to_size(_product_like(a, g, b.transpose(-1, -2).conj()), ctx.shape(0)) if ctx.needed[0] else None
    if not ctx.needed[1]:
        return ga, None
    if len(ctx.shape(1)) == 2 and len(ctx.shape(0)) > 2:
        # one product over all rows instead of a batch of products that is then summed
        n = _count(a._a.shape[:-1])
        gb = _product_like(b, a.reshape(n, a.shape[-1]).transpose(0, 1).conj(), g.reshape(n, g.shape[-1]))
    else:
        gb = sum_to_size(_product_like(b, a.transpose(-1, -2).conj(), g), ctx.shape(1))
    return ga, gb


@composite(out="exact", operators=("__matmul__",), autocast="lower")
def matmul(input, other):
    """The matrix product, with PyTorch's rules for vectors (1-D operands) and batches (leading dimensions broadcast)."""
    m, n = input.ndim, other.ndim
    if m == 0 or n == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {m}D and {n}D")
    _check("matmul", input, other)
    a = input.unsqueeze(0) if m == 1 else input
    b = other.unsqueeze(1) if n == 1 else other
    if a._a.shape[-1] != b._a.shape[-2]:
        if m == 1 and n == 1:
            raise RuntimeError(f"inconsistent tensor size, expected tensor {list(input.shape)} and src "
                               f"{list(other.shape)} to have the same "
                               f"number of elements, but got {input.numel()} and {other.numel()} elements respectively")
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, a.shape))} and "
                           f"{'x'.join(map(str, b.shape))})")
    if n <= 2 and m > 2:
        # one large product instead of a batch of small ones
        flat = fn.bmm_general(a.reshape(_count(a._a.shape[:-1]), a._a.shape[-1]), b)
        out = flat.reshape(*a._a.shape[:-1], b._a.shape[-1])
    else:
        out = fn.bmm_general(a, b)
    if m == 1:
        out = out.squeeze(-2)
    return out.squeeze(-1) if n == 1 else out


@composite(out="exact", autocast="lower")
def mm(input, mat2):
    """The product of two matrices."""
    if input.ndim != 2 or mat2.ndim != 2:
        raise RuntimeError("self must be a matrix" if input.ndim != 2 else "mat2 must be a matrix")
    return matmul.body(input, mat2)


@composite(out="exact", autocast="lower")
def bmm(input, mat2):
    """The product of two batches of matrices."""
    if input.ndim != 3 or mat2.ndim != 3:
        raise RuntimeError(f"batch1 must be a 3D tensor, got shapes {list(input.shape)} and {list(mat2.shape)}")
    if input._a.shape[0] != mat2._a.shape[0] or input._a.shape[2] != mat2._a.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{input._a.shape[0]}, {input._a.shape[2]}] "
                           f"but got: [{mat2._a.shape[0]}, {mat2._a.shape[1]}].")
    _check("bmm", input, mat2)
    return fn.bmm_general(input, mat2)


@composite(out="exact", autocast="lower:cuda")
def mv(input, vec):
    """The product of a matrix and a vector."""
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {vec.ndim}, {input.ndim}, {vec.ndim}")
    return matmul.body(input, vec)


@composite(out="exact", autocast="promote:cuda")
def dot(input, tensor):
    """The inner product of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    return matmul.body(input, tensor)


@composite(out=True)
def inner(input, other):
    """The sum of products over the last dimensions."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    return fn.tensordot(input, other, dims=([-1], [-1]))


@composite(out=True, aliases=("ger",))
def outer(input, vec2):
    """The outer product of two vectors."""
    if input.ndim != 1 or vec2.ndim != 1:
        raise RuntimeError(f"outer: Expected 1-D argument self, but got {input.ndim}-D and {vec2.ndim}-D")
    return input.unsqueeze(1) * vec2


@composite(out="exact", method=False, autocast="promote:cuda")
def tensordot(a, b, dims=2):
    """The sum of products over the last ``dims`` dimensions of ``a`` and the first of ``b``, or over the two given lists."""
    if isinstance(dims, int):
        da, db = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        da, db = [[d % a.ndim for d in ([dims[0]] if isinstance(dims[0], int) else dims[0])],
                  [d % b.ndim for d in ([dims[1]] if isinstance(dims[1], int) else dims[1])]]
    ra, rb = [d for d in range(a.ndim) if d not in da], [d for d in range(b.ndim) if d not in db]
    n = 1
    for x, y in zip(da, db):
        if 1 in (a._a.shape[x], b._a.shape[y]) and a._a.shape[x] != b._a.shape[y]:
            # a size of 1 broadcasts: the other operand is summed first
            if a._a.shape[x] == 1:
                b = b.sum(y, keepdim=True, dtype=b.dtype)
            else:
                a = a.sum(x, keepdim=True, dtype=a.dtype)
        if a._a.shape[x] != b._a.shape[y]:
            raise RuntimeError(f"contracted dimensions need to match, but first has size {a._a.shape[x]} in dim {x} and second has size "
                               f"{b._a.shape[y]} in dim {y}")
        n *= a._a.shape[x]
    sa, sb = [a._a.shape[d] for d in ra], [b._a.shape[d] for d in rb]
    left = a.permute(*ra, *da).reshape(-1 if n else _count(sa), n)
    right = b.permute(*db, *rb).reshape(n, -1 if n else _count(sb))
    return fn.bmm_general(left, right).reshape(*sa, *sb)


def _count(sizes: Any) -> int:
    n = 1
    for s in sizes:
        n *= s
    return n


@composite(out="exact", inplace=True, autocast="lower")
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """``beta * input + alpha * mat1 @ mat2``."""
    p = mm.body(mat1, mat2)
    return _blend(input, p, beta, alpha)


@composite(out="exact", inplace=True, autocast="lower")
def addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """``beta * input + alpha * (batch1 @ batch2).sum(0)``."""
    return _blend(input, bmm.body(batch1, batch2).sum(0, dtype=batch1.dtype), beta, alpha)


@composite(out="exact", inplace=True, autocast="lower")
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """``beta * input + alpha * batch1 @ batch2``."""
    return _blend(input, bmm.body(batch1, batch2), beta, alpha)


@composite(out="exact", inplace=True, autocast="lower:cuda")
def addmv(input, mat, vec, *, beta=1, alpha=1):
    """``beta * input + alpha * mat @ vec``."""
    return _blend(input, mv.body(mat, vec), beta, alpha)


@composite(out=True, inplace=True, autocast="lower:cuda")
def addr(input, vec1, vec2, *, beta=1, alpha=1):
    """``beta * input + alpha * outer(vec1, vec2)``."""
    if vec1.ndim != 1 or vec2.ndim != 1:
        raise RuntimeError(f"addr: Expected 1-D argument vec1 and vec2, but got {vec1.ndim}-D and {vec2.ndim}-D")
    shape = (vec1.numel(), vec2.numel())
    if tuple(broadcast_shapes(input.shape, shape)) != shape:
        raise RuntimeError(f"addr: expected input of shape {list(input.shape)} to broadcast to {list(shape)}")
    if beta == 0 or input.dtype.category < 2:
        return _blend(input, outer.body(vec1, vec2), beta, alpha)
    return fn.addcmul_scaled(input, vec1.unsqueeze(1), vec2, beta, alpha)


@elementwise(name="scaled_sum", function=False, method=False, oracle=lambda a, p, beta=1, alpha=1: beta * a + alpha * p)
def scaled_sum(input, product, beta: float = 1.0, alpha: float = 1.0):
    """``beta * input + alpha * product``, rounded once."""
    return input * cast(beta, input.dtype) + product * cast(alpha, input.dtype)


@elementwise(name="addcmul_scaled", function=False, method=False, oracle=lambda a, b, c, beta=1, alpha=1: beta * a + alpha * b * c)
def addcmul_scaled(input, a, b, beta: float = 1.0, alpha: float = 1.0):
    """``beta * input + alpha * a * b``, rounded once."""
    return input * cast(beta, input.dtype) + a * b * cast(alpha, input.dtype)


def _blend(input: Any, p: Any, beta: Any, alpha: Any) -> Any:
    if p.dtype.category < 2:
        whole = bool if p.dtype is bool_ else int
        beta, alpha = whole(beta), whole(alpha)
    if beta != 0 and p.dtype.category >= 2 and not alpha == beta == 1:
        return fn.scaled_sum(input, p, beta, alpha)
    p = p if alpha == 1 else p * alpha
    if beta == 0:  # NaN in input must not spread
        return p.expand(broadcast_shapes(input.shape, p.shape))
    return p + (input if beta == 1 else input * beta)


@composite(nn=True, function=False, method=False, out="exact", autocast="lower")
def linear(input, weight, bias=None):
    """``input @ weight.T + bias``: ``input`` (..., in), ``weight`` (out, in) or (in,), ``bias`` (out)."""
    if weight.ndim == 1:
        out = matmul.body(input, weight)
    else:
        if input.ndim and input._a.shape[-1] != weight._a.shape[-1]:
            flat = "x".join(map(str, (input.numel() // max(input._a.shape[-1], 1), input._a.shape[-1])))
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({flat} and {weight._a.shape[1]}x{weight._a.shape[0]})")
        out = matmul.body(input, weight.t())
    return out if bias is None else out + bias


@linear.short
def _(input, weight, bias=None):
    x, w = input._a, weight._a
    if not (type(x) is type(w) is np.ndarray and x.dtype is w.dtype and x.dtype.char in "fd" and w.ndim == 2 and x.ndim
            and x.shape[-1] == w.shape[1]):
        return None
    b = None
    if bias is not None:
        b = bias._a
        if type(b) is not np.ndarray or b.dtype is not x.dtype or b.shape != w.shape[:1]:
            return None
    rows = x if x.ndim == 2 else x.reshape(-1, w.shape[1])
    out = product(rows, w.T, b)
    need_input, need_weight, need_bias = input._req, weight._req, bias is not None and bias._req

    def backward(g):
        g = g if g.ndim == 2 else g.reshape(-1, w.shape[0])
        gx = product(g, w) if need_input else None
        return (gx if gx is None or x.ndim == 2 else gx.reshape(x.shape), product(g.T, rows) if need_weight else None,
                np.add.reduce(g, 0) if need_bias else None)
    return Short(out if x.ndim == 2 else out.reshape(*x.shape[:-1], w.shape[0]), (input, weight, bias), (input, weight), backward)


def _laid_out(like: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """:func:`_product_like` for arrays."""
    if like.strides[-2] == like.itemsize != like.strides[-1]:
        return product(right.swapaxes(-1, -2), left.swapaxes(-1, -2)).swapaxes(-1, -2)
    return product(left, right)


@matmul.short
def _(input, other):
    a, b = input._a, getattr(other, "_a", None)
    if not (type(a) is type(b) is np.ndarray and a.dtype is b.dtype and a.dtype.char in "fd" and a.ndim == b.ndim >= 2
            and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2]):
        return None
    need = input._req, other._req

    def backward(g: np.ndarray) -> tuple:
        return (_laid_out(a, g, b.swapaxes(-1, -2)) if need[0] else None, _laid_out(b, a.swapaxes(-1, -2), g) if need[1] else None)
    return Short(product(a, b), (input, other), (input, other), backward)
