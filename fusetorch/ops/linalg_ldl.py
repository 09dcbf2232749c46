"""``LDL`` factors of symmetric matrices: ``linalg.ldl_factor``, ``linalg.ldl_solve``."""
from __future__ import annotations

from typing import Any

from ..dtypes import int32
from ..return_types import result
from ..runtime import ldl
from ..shapes import broadcast_shapes
from .linalg_rules import batched, kernel, sizes, square
from .opdef import composite, fn, opaque

ldl_factor_result = result("linalg_ldl_factor", "LD pivots")
ldl_factor_ex_result = result("linalg_ldl_factor_ex", "LD pivots info")


@opaque(name="ldl_packed", function=False, method=False, n_outputs=3, differentiable=False)
def ldl_packed(input, hermitian: bool, name: str):
    """Packed factors, pivots and ``info``; ``name`` is who raises where ``D`` has a zero (empty: nobody)."""
    shape = sizes(input)
    return [(shape, input.dtype), (shape[:-1], int32), (batched(shape), int32)]


@kernel(ldl_packed)
def _(xp: Any, a: Any, hermitian: bool, name: str) -> Any:
    return ldl.factor(xp, a, hermitian, name)


@opaque(name="ldl_solution", function=False, method=False, differentiable=False)
def ldl_solution(packed, pivots, b, hermitian: bool):
    """The solution of one system for each matrix."""
    return [(sizes(b), b.dtype)]


@kernel(ldl_solution)
def _(xp: Any, packed: Any, pivots: Any, b: Any, hermitian: bool) -> Any:
    return ldl.solve(xp, packed, pivots, b, hermitian)


@composite(name="linalg_ldl_factor_ex", function=False, method=False, aliases=("linalg.ldl_factor_ex",), out="exact")
def linalg_ldl_factor_ex(A, *, hermitian=False, check_errors=False):
    """``ldl_factor`` with ``info``: the place (from 1) of the first zero on the diagonal of ``D``, else 0."""
    square("torch.linalg.ldl_factor_ex", A)
    return ldl_factor_ex_result(*fn.ldl_packed(A.detach(), bool(hermitian), "torch.linalg.ldl_factor_ex" if check_errors else ""))


@composite(name="linalg_ldl_factor", function=False, method=False, aliases=("linalg.ldl_factor",), out="exact")
def linalg_ldl_factor(A, *, hermitian=False):
    """``(LD, pivots)``: the packed factors of symmetric matrices (with ``hermitian``, of conjugate-symmetric ones), which need not be
    positive; the lower triangle is read. For ``linalg.ldl_solve``."""
    return ldl_factor_result(*linalg_ldl_factor_ex.body(A, hermitian=hermitian, check_errors=True)[:2])


@composite(name="linalg_ldl_solve", function=False, method=False, aliases=("linalg.ldl_solve",), out="exact")
def linalg_ldl_solve(LD, pivots, B, *, hermitian=False):
    """``X`` with ``A @ X = B``, from what ``linalg.ldl_factor`` gave for ``A``; batches broadcast."""
    square("torch.linalg.ldl_solve", LD, "LD")
    if B.ndim < 2:
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected B to have at least 2 dimensions, but it has {B.ndim} dimensions instead")
    n = sizes(LD)[-1]
    if sizes(B)[-2] != n:
        raise RuntimeError(f"Incompatible matrix sizes for torch.linalg.ldl_solve: each A matrix is {n} by {n} but each b matrix is "
                           f"{sizes(B)[-2]} by {sizes(B)[-1]}")
    if sizes(LD)[:-1] != sizes(pivots):
        raise RuntimeError("torch.linalg.ldl_solve: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
                           f"{list(pivots.shape)} instead")
    if pivots.dtype.category != 1:
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype}")
    if B.dtype is not LD.dtype:
        raise RuntimeError(f"Expected b and A to have the same dtype, but found b of type {B.dtype} and A of type {LD.dtype} instead.")
    batch = tuple(broadcast_shapes(sizes(LD)[:-2], sizes(B)[:-2]))
    return fn.ldl_solution(LD.detach().expand(*batch, n, n), pivots.expand(*batch, n), B.detach().expand(*batch, *sizes(B)[-2:]),
                           bool(hermitian))
