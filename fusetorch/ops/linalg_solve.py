"""Systems of equations, inverses, determinants, ranks.

Gradients: M. Giles, "An extended collection of matrix derivative results" (2008); G. Golub and V. Pereyra, "The differentiation of
pseudo-inverses and nonlinear least squares problems whose variables separate" (1973).
"""
from __future__ import annotations

from math import prod
from typing import Any

from ..dtypes import finfo, int32, int64
from ..return_types import result
from ..runtime import solver
from ..shapes import broadcast_shapes
from ..tensor import Tensor
from .linalg_rules import H, batched, floating, kernel, matrix, same_dtype, sizes, square
from .opdef import composite, fn, opaque

inv_ex_result = result("linalg_inv_ex", "inverse info")
solve_ex_result = result("linalg_solve_ex", "result info")
slogdet_result = result("linalg_slogdet", "sign logabsdet")
lstsq_result = result("linalg_lstsq", "solution residuals rank singular_values")
triangular_solve_result = result("triangular_solve", "solution cloned_coefficient")


# ---------------------------------------------------------------------------------------------------- triangular systems


@opaque(name="triangular_system", function=False, method=False)
def triangular_system(a, b, upper: bool, unit: bool):
    """``x`` with ``a @ x = b`` for triangular ``a``; batches broadcast."""
    return [((*broadcast_shapes(sizes(a)[:-2], sizes(b)[:-2]), *sizes(b)[-2:]), b.dtype)]


@kernel(triangular_system)
def _(xp: Any, a: Any, b: Any, upper: bool, unit: bool) -> Any:
    return solver.triangular_solve(xp, a, b, upper, unit)


@triangular_system.vjp("a", "out")
def _(ctx: Any, g: Any) -> Any:
    upper, unit = ctx.attrs["upper"], ctx.attrs["unit"]
    gb = fn.triangular_system(H(ctx["a"]), g, not upper, unit)
    ga = None
    if ctx.needed[0]:
        ga = -(gb @ H(ctx["out"]))
        ga = ga.triu(1 if unit else 0) if upper else ga.tril(-1 if unit else 0)
        ga = ga.sum_to_size(ctx.shape(0))
    return ga, gb.sum_to_size(ctx.shape(1))


@composite(name="linalg_solve_triangular", function=False, method=False, aliases=("linalg.solve_triangular",), out="exact")
def linalg_solve_triangular(A, B, *, upper, left=True, unitriangular=False):
    """``X`` with ``A @ X = B`` (``X @ A = B`` with ``left=False``) for triangular ``A``, whose other triangle is not read."""
    square("linalg.solve_triangular", A)
    matrix("linalg.solve_triangular", B, "B")
    same_dtype("linalg.solve_triangular", A, B)
    _fits("linalg.solve_triangular", A, B, left)
    if left:
        return fn.triangular_system(A, B, bool(upper), bool(unitriangular))
    return H(fn.triangular_system(H(A), H(B), not upper, bool(unitriangular)))


def _fits(name: str, a: Any, b: Any, left: bool) -> None:
    n, k = sizes(a)[-1], sizes(b)[-2 if left else -1]
    if n != k:
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({'x'.join(map(str, sizes(a)[-2:]))} and {'x'.join(map(str, sizes(b)[-2:]))})")
    _broadcast(name, a, b)


def _broadcast(name: str, a: Any, b: Any) -> None:
    try:
        broadcast_shapes(sizes(a)[:-2], sizes(b)[:-2])
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"{name}: the batches of A {list(a.shape)} and B {list(b.shape)} do not broadcast") from error


@composite(out="exact")
def triangular_solve(input, A, upper=True, transpose=False, unitriangular=False):
    """``(solution, cloned_coefficient)`` of ``A @ X = b`` (``A.mT @ X = b`` with ``transpose``) for triangular ``A``."""
    if input.ndim < 2 or A.ndim < 2:
        raise RuntimeError(f"torch.triangular_solve: Expected {'b' if input.ndim < 2 else 'A'} to have at least 2 dimensions, but it has "
                           f"{min(input.ndim, A.ndim)} dimensions instead")
    square("torch.triangular_solve", A)
    same_dtype("torch.triangular_solve", A, input)
    _fits("torch.triangular_solve", A, input, True)
    batch = broadcast_shapes(sizes(A)[:-2], sizes(input)[:-2])
    matrix_ = A.mT if transpose else A
    x = fn.triangular_system(matrix_, input, bool(upper) != bool(transpose), bool(unitriangular))
    return triangular_solve_result(x, A.expand(*batch, *sizes(A)[-2:]).clone())


@composite(out=True, autocast="float32:cpu")
def cholesky_solve(input, input2, upper=False):
    """``X`` with ``(L @ L.mH) @ X = input`` (``L.mH @ L`` with ``upper``), ``L`` being ``input2``."""
    if input.ndim < 2 or input2.ndim < 2:
        raise RuntimeError(f"{'b' if input.ndim < 2 else 'u'} should have at least 2 dimensions, but has {min(input.ndim, input2.ndim)} "
                           "dimensions instead")
    square("cholesky_solve", input2)
    same_dtype("cholesky_solve", input2, input)
    _fits("cholesky_solve", input2, input, True)
    return fn.cholesky_system(input, H(input2) if upper else input2)


@opaque(name="cholesky_system", function=False, method=False)
def cholesky_system(b, low):
    """``x`` with ``low @ low.mH @ x = b``, from the lower triangle; batches broadcast."""
    return triangular_system.body(low, b, False, False)


@kernel(cholesky_system)
def _(xp: Any, b: Any, low: Any) -> Any:
    x = solver.triangular_solve(xp, low, b, False, False)
    return solver.triangular_solve(xp, low.swapaxes(-1, -2).conj(), x, True, False)


@cholesky_system.vjp("low", "out")
def _(ctx: Any, g: Any) -> Any:
    low = ctx["low"]
    gb = fn.cholesky_system(g, low)
    both = gb @ H(ctx["out"])
    # the gradient of low as a whole matrix, as PyTorch has it: its upper triangle is not zero
    gl = -((both + H(both)) @ low).sum_to_size(ctx.shape(1)) if ctx.needed[1] else None
    return gb.sum_to_size(ctx.shape(0)), gl


@composite(out=True, autocast="float32:cpu")
def cholesky_inverse(input, upper=False):
    """``inv(L @ L.mH)`` (``inv(L.mH @ L)`` with ``upper``)."""
    square("cholesky_inverse", input)
    return cholesky_solve.body(fn.eye(sizes(input)[-1], dtype=input.dtype, device=input.device), input, upper)


# ---------------------------------------------------------------------------------------------------- general systems


@opaque(name="general_system", function=False, method=False, n_outputs=2)
def general_system(a, b, name: str):
    """``x`` with ``a @ x = b``, batches broadcast, and ``info``; ``name`` is who raises for singular ``a`` (empty: nobody)."""
    shape = (*broadcast_shapes(sizes(a)[:-2], sizes(b)[:-2]), *sizes(b)[-2:])
    return [(shape, b.dtype), (batched(sizes(a)), int32)]


@kernel(general_system)
def _(xp: Any, a: Any, b: Any, name: str) -> Any:
    return solver.solve(xp, a, b, name)


@general_system.vjp("a", "out")
def _(ctx: Any, g: Any, _: Any) -> Any:
    gb = fn.general_system(H(ctx["a"]), g, "")[0]
    ga = -(gb @ H(ctx["out"])).sum_to_size(ctx.shape(0)) if ctx.needed[0] else None
    return ga, gb.sum_to_size(ctx.shape(1))


def _is_vector(a: Any, b: Any) -> bool:
    """Whether ``b`` is a batch of vectors: NumPy's rule of old, which PyTorch keeps."""
    return b.ndim == 1 or (a.ndim - 1 == b.ndim and sizes(b) == sizes(a)[:-1])


def _solve(name: str, a: Any, b: Any, left: bool, check: bool) -> tuple[Any, Any]:
    square(name, a)
    same_dtype(name, a, b)
    floating(name, b)
    if b.ndim == 0:
        raise RuntimeError(f"{name}: The input tensor B must have at least 1 dimension")
    vector = _is_vector(a, b)
    if vector and not left:
        raise RuntimeError(f"{name}: Vector broadcasting of the left hand side is not supported for left=False. In this case linalg.solve "
                           "is equivalent to B / A.squeeze(-1)")
    x = b.unsqueeze(-1) if vector else b
    _fits(name, a, x, left)
    r, info = fn.general_system(a, x, name if check else "") if left else fn.general_system(H(a), H(x), name if check else "")
    r = r if left else H(r)
    return (r.squeeze(-1) if vector else r), info


@composite(name="linalg_solve", function=False, method=False, aliases=("linalg.solve",), out="exact", autocast="float32:cpu")
def linalg_solve(A, B, *, left=True):
    """``X`` with ``A @ X = B`` (``X @ A = B`` with ``left=False``); ``B`` holds matrices or vectors.

    Raises ``LinAlgError`` if ``A`` is singular.
    """
    return _solve("torch.linalg.solve", A, B, left, True)[0]


@composite(name="linalg_solve_ex", function=False, method=False, aliases=("linalg.solve_ex",), out="exact")
def linalg_solve_ex(A, B, *, left=True, check_errors=False):
    """``(result, info)``; ``info`` is 0, or the place of the pivot that is zero."""
    return solve_ex_result(*_solve("torch.linalg.solve_ex", A, B, left, check_errors))


@opaque(name="inverse_matrix", function=False, method=False, n_outputs=2)
def inverse_matrix(input, name: str):
    """The inverse, and ``info``; ``name`` is who raises for singular matrices (empty: nobody)."""
    return [(sizes(input), input.dtype), (batched(sizes(input)), int32)]


@kernel(inverse_matrix)
def _(xp: Any, a: Any, name: str) -> Any:
    return solver.inverse(xp, a, name)


@inverse_matrix.vjp("out")
def _(ctx: Any, g: Any, _: Any) -> Any:
    y = H(ctx["out"])
    return -(y @ g @ y)


@composite(aliases=("linalg.inv",), out="exact", autocast="float32:cpu")
def inverse(A):
    """The inverse of square matrices. ``LinAlgError`` for a singular one."""
    square("linalg.inv", A)
    return fn.inverse_matrix(A, "linalg.inv")[0]


@composite(name="linalg_inv_ex", function=False, method=False, aliases=("linalg.inv_ex",), out="exact")
def linalg_inv_ex(A, *, check_errors=False):
    """``(inverse, info)``; ``info`` is 0, or the place of the pivot that is zero."""
    square("linalg.inv_ex", A)
    return inv_ex_result(*fn.inverse_matrix(A, "linalg.inv_ex" if check_errors else ""))


@composite(name="linalg_lu_solve", function=False, method=False, aliases=("linalg.lu_solve",), out="exact")
def linalg_lu_solve(LU, pivots, B, *, left=True, adjoint=False):
    """``X`` with ``A @ X = B`` (``X @ A = B``; ``adjoint``: ``A.mH`` for ``A``) from ``linalg.lu_factor(A)``."""
    name = "linalg.lu_solve"
    square(name, LU, "LU")
    matrix(name, B, "B")
    same_dtype(name, LU, B)
    if pivots.dtype is not int32:
        raise RuntimeError(f"{name}: Expected pivots to be of type int32, got {pivots.dtype}")
    if sizes(pivots) != sizes(LU)[:-1]:
        raise RuntimeError(f"{name}: Number of pivots per batch should be same as the dimension of the matrix, got pivots "
                           f"{list(pivots.shape)} and LU {list(LU.shape)}")
    _fits(name, LU, B, left)
    n = sizes(LU)[-1]
    order = fn.lu_order(pivots, n)
    b, adjoint = (B, bool(adjoint)) if left else (H(B), not adjoint)
    unit = LU.tril(-1) + fn.eye(n, dtype=LU.dtype, device=LU.device)
    if adjoint:
        x = fn.triangular_system(H(LU), b, False, False)
        x = fn.rows_at(fn.triangular_system(H(unit), x, True, True), order.argsort(-1))
    else:
        x = fn.triangular_system(unit, fn.rows_at(b, order), False, True)
        x = fn.triangular_system(LU, x, True, False)
    return x if left else H(x)


@composite(out="exact", autocast="float32:cpu")
def lu_solve(input, LU_data, LU_pivots):
    """``X`` with ``A @ X = b`` from the factors of ``A``."""
    return linalg_lu_solve.body(LU_data, LU_pivots, input)


# ---------------------------------------------------------------------------------------------------- determinants


@opaque(name="determinant", function=False, method=False)
def determinant(input):
    """The determinant."""
    return [(batched(sizes(input)), input.dtype)]


@kernel(determinant)
def _(xp: Any, a: Any) -> Any:
    return solver.det(xp, a)


@determinant.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    return g.unsqueeze(-1).unsqueeze(-1) * fn.cofactor_matrix(ctx["input"].conj())


@opaque(name="cofactor_matrix", function=False, method=False)
def cofactor_matrix(input):
    """``det(input) * inv(input).mT``, which exists for singular matrices too. Differentiable where the matrix is not singular."""
    return [(sizes(input), input.dtype)]


@kernel(cofactor_matrix)
def _(xp: Any, a: Any) -> Any:
    return solver.cofactors(xp, a)


@cofactor_matrix.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    a = ctx["input"]
    d, y = fn.determinant(a).unsqueeze(-1).unsqueeze(-1), H(fn.inverse_matrix(a, "")[0])
    inner = (y * g).sum((-1, -2), keepdim=True)
    return d.conj() * (inner * y - y @ g.transpose(-1, -2) @ y)


@opaque(name="sign_and_log_determinant", function=False, method=False, n_outputs=2)
def sign_and_log_determinant(input):
    """The determinant's sign and the logarithm of its absolute value."""
    return [(batched(sizes(input)), input.dtype), (batched(sizes(input)), input.dtype.to_real())]


@kernel(sign_and_log_determinant)
def _(xp: Any, a: Any) -> Any:
    return solver.slogdet(xp, a)


@sign_and_log_determinant.vjp("input", "out")
def _(ctx: Any, g_sign: Any, g: Any) -> Any:
    a = ctx["input"]
    if a.dtype.is_complex and g_sign is not None:  # the sign of real matrices is constant
        turn = (g_sign * ctx["out"].conj()).imag * 1j
        g = turn if g is None else g + turn
    if g is None:
        return fn.zeros_like(a)
    return g.unsqueeze(-1).unsqueeze(-1) * H(fn.inverse_matrix(a, "")[0])


@composite(aliases=("linalg.det",), out="exact")
def det(A):
    """The determinant of square matrices."""
    square("linalg.det", A)
    return fn.determinant(A)


@composite(aliases=("linalg.slogdet",), out="exact")
def slogdet(A):
    """``(sign, logabsdet)`` of the determinant: 0 and minus infinity for singular matrices."""
    square("linalg.slogdet", A)
    return slogdet_result(*fn.sign_and_log_determinant(A))


@composite(out=True)
def logdet(input):
    """The logarithm of the determinant: NaN where that is negative."""
    square("logdet", input)
    sign, logabs = fn.sign_and_log_determinant(input)
    if input.dtype.is_complex:
        return sign.log() + logabs
    return fn.where(sign < 0, float("nan"), logabs)


# ---------------------------------------------------------------------------------------------------- pseudoinverse, rank, least squares


@opaque(name="pseudo_inverse", function=False, method=False)
def pseudo_inverse(input, atol, rtol, hermitian: bool):
    """The pseudoinverse; singular values up to ``max(atol, rtol * largest)`` count as zero."""
    m, n = sizes(input)[-2:]
    return [(batched(sizes(input), n, m), input.dtype)]


@kernel(pseudo_inverse)
def _(xp: Any, a: Any, atol: Any, rtol: Any, hermitian: bool) -> Any:
    return solver.pinv(xp, a, atol, rtol, hermitian)


@pseudo_inverse.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    a, y = ctx["input"], ctx["out"]
    yh, gh = H(y), H(g)
    down, up = gh @ y, y @ gh
    ga = -(yh @ g @ yh) + (down - a @ (y @ down)) @ yh + yh @ (up - (up @ y) @ a)
    return ga, None, None


def _tolerances(name: str, a: Any, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """Both tolerances as tensors that broadcast against the batch; ``rtol`` is ``eps * max(m, n)`` unless one is given."""
    for t, label in ((atol, "atol"), (rtol, "rtol")):
        if isinstance(t, Tensor) and t.dtype.category == 3:
            raise RuntimeError(f"{name}: {label} tensor of complex type is not supported. Got {t.dtype}")
    if rtol is None:
        small = finfo(a.dtype).eps * max(sizes(a)[-2:])
        rtol = fn.where(atol > 0, 0.0, small) if isinstance(atol, Tensor) else 0.0 if atol else small
    d = a.dtype.to_real()
    return tuple(t.to(d) if isinstance(t, Tensor) else fn.full((), float(t or 0.0), dtype=d, device=a.device) for t in (atol, rtol))


@composite(name="linalg_pinv", function=False, method=False, aliases=("linalg.pinv",), out=True, autocast="float32:cpu")
def linalg_pinv(A, rcond=None, *, atol=None, rtol=None, hermitian=False):
    """The Moore-Penrose pseudoinverse. Singular values up to ``max(atol, rtol * largest)`` count as zero."""
    matrix("linalg.pinv", A)
    if hermitian:
        square("linalg.pinv", A)
    low, high = _tolerances("linalg.pinv", A, atol, rtol if rcond is None else rcond)
    return fn.pseudo_inverse(A, low, high, bool(hermitian))


@composite(autocast="float32:cpu")
def pinverse(input, rcond=1e-15):
    """``linalg.pinv`` with a tolerance of ``rcond`` times the largest singular value."""
    matrix("linalg.pinv", input)
    low, high = _tolerances("linalg.pinv", input, None, rcond)
    return fn.pseudo_inverse(input, low, high, False)


@composite(name="linalg_matrix_rank", function=False, method=False, aliases=("linalg.matrix_rank",), out=True)
def linalg_matrix_rank(A, tol=None, *, atol=None, rtol=None, hermitian=False):
    """How many singular values are above ``max(atol, rtol * largest)``; ``tol`` is an old name of ``atol``."""
    matrix("linalg.matrix_rank", A, "input")
    if tol is not None:
        atol, rtol = tol, 0.0
    if hermitian:
        square("linalg.matrix_rank", A)
    low, high = _tolerances("linalg.matrix_rank", A, atol, rtol)
    x = A.detach()
    s = fn.eigh_factors(x, "L")[0].abs() if hermitian else fn.singular_values(x)
    if not sizes(s)[-1]:
        return s.sum(-1).long()
    bound = fn.maximum(low, high * s.amax(-1))
    if bound.ndim > s.ndim - 1:
        s = s.expand(*bound.shape, sizes(s)[-1])
    return (s > bound.unsqueeze(-1)).sum(-1)


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


@composite(name="linalg_lstsq", out=True, function=False, method=False, aliases=("linalg.lstsq",), also={"b": "B"})
def linalg_lstsq(A, B, rcond=None, *, driver=None):
    """``(solution, residuals, rank, singular_values)`` of the least squares problem ``min |A @ X - B|``.

    ``solution`` is the one of least norm. ``residuals`` (squared) are empty unless ``A`` has more rows than columns and full rank, and for
    ``gelsy``. ``driver`` is one of LAPACK's ``gels`` (full rank, no ``rank``), ``gelsy`` (the default), ``gelsd`` and ``gelss`` (which
    also give the singular values); all are computed from the singular value decomposition.
    """
    name = "torch.linalg.lstsq"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if B.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    matrix(name, A, "input")
    if A.dtype is not B.dtype:
        raise RuntimeError(f"{name}: Expected input and other to have the same dtype, but got input's dtype {A.dtype} and other's dtype "
                           f"{B.dtype}")
    driver = driver or ("gelsy" if A.device.type == "cpu" else "gels")
    if driver not in _DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss), got {driver}")
    if A.device.type != "cpu" and driver != "gels":
        raise RuntimeError(f"{name}: `driver` other than `gels` is not supported on CUDA")
    m, n = sizes(A)[-2:]
    vector = A.ndim - 1 == B.ndim and sizes(B) == sizes(A)[:-1]
    b = B.unsqueeze(-1) if vector else B
    if b.ndim < 2 or sizes(b)[-2] != m:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size({-1 if vector else -2})")
    _broadcast(name, A, b)
    eps = finfo(A.dtype).eps * max(m, n) if rcond is None or rcond < 0 else rcond
    low, high = _tolerances(name, A, None, eps)
    batch = broadcast_shapes(sizes(A)[:-2], sizes(b)[:-2])
    x = fn.pseudo_inverse(A, low, high, False) @ b
    x = x.expand(*batch, *sizes(x)[-2:]) if tuple(x.shape[:-2]) != tuple(batch) else x
    empty = (x.real if x.dtype.is_complex else x).reshape(-1).narrow(0, 0, 0)
    whole = fn.empty(0, dtype=int64, device=A.device)
    rank, values = whole, empty
    full = True
    if driver != "gels":
        s = fn.singular_values(A.detach())
        rank = (s > s.amax(-1, keepdim=True) * eps).sum(-1) if min(m, n) else s.sum(-1).long()
        full = m <= n or driver == "gelsy" or prod(sizes(rank)) == 0 or bool((rank == n).all())
        values = s if driver in ("gelsd", "gelss") else empty
    residuals = (A @ x - b).abs().square().sum(-2) if m > n and full and driver != "gelsy" else empty
    return lstsq_result(x.squeeze(-1) if vector else x, residuals.squeeze(-1) if vector and residuals.ndim else residuals, rank, values)
