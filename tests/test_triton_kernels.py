"""The hand-written Triton kernels on the simulated GPU, against NumPy and SciPy."""
from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import scipy.special as sp

from fusetorch import dtypes
from fusetorch.ops import philox
from fusetorch.ops.primitives import PRIMITIVES
from fusetorch.runtime.memory import DeviceArray, from_numpy, to_numpy
from fusetorch.triton_kernels import (
    embedding,
    gather_scatter,
    layer_norm,
    layout,
    matmul,
    pointwise,
    reduce,
    scalar,
    scan,
    softmax,
)

bf16 = ml_dtypes.bfloat16
FLOATS = [np.float32, np.float64, np.float16, bf16]
#: relative error allowed per dtype, for results of a few roundings
EPS = {np.dtype(np.float64): 4e-13, np.dtype(np.float32): 4e-6, np.dtype(np.float16): 4e-3, np.dtype(bf16): 3e-2}
rng = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("simulated")


def device(x: np.ndarray) -> DeviceArray:
    """A device array with the layout of the NumPy view ``x``: strides, offset, shared memory and all."""
    x = np.asarray(x)
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    if base.ndim == 0 or not base.flags.c_contiguous or base.dtype != x.dtype:
        return from_numpy(x)
    offset = (x.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // x.itemsize
    return from_numpy(base).view(x.shape, tuple(s // x.itemsize for s in x.strides), offset)


def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def check(got: DeviceArray, want: np.ndarray, tol: float = 0.0) -> None:
    """Equal to the bit with ``tol`` 0, else close; the shape always."""
    got = to_numpy(got)
    assert got.shape == np.shape(want)
    if tol:
        np.testing.assert_allclose(wide(got), wide(want), rtol=tol, atol=tol)
    elif got.dtype == bf16:
        np.testing.assert_array_equal(wide(got), wide(want))  # NumPy does not know bfloat16's NaN
    else:
        np.testing.assert_array_equal(got, want)


def of(dt: type) -> dtypes.dtype:
    return dtypes.from_numpy(np.dtype(dt))


# ---- scalar functions

SPECIALS = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 3.7, -3.7, 1e-30, -7, 7, 10.25])
ORACLE = {"erf": sp.erf, "erfc": sp.erfc, "erfinv": lambda x: np.copysign(sp.erfinv(x), x), "digamma": sp.digamma,
          "lgamma": lambda x: np.where(x == -np.inf, np.inf, sp.gammaln(x))}
NOT_HERE = ("cast", "where", "philox")


def result_of(p, d):
    """The dtype of a primitive's result from operands of dtype ``d``."""
    return p.result(d) if callable(p.result) else p.result or d


def test_every_primitive_has_its_device_function():
    # those of complex numbers come to a kernel as operations on their parts
    assert set(scalar.SCALARS) == {name for name, p in PRIMITIVES.items() if p.llvm}


@pytest.mark.parametrize("dt", [np.float32, np.float64])
@pytest.mark.parametrize("name", [n for n, p in PRIMITIVES.items() if "f" in p.llvm and n not in NOT_HERE])
def test_scalar_of_floats(name, dt):
    p = PRIMITIVES[name]
    a, b = (v.ravel().astype(dt) for v in np.meshgrid(SPECIALS, SPECIALS))
    operands = [a, b][:p.arity]
    with np.errstate(all="ignore"):
        want = ORACLE.get(name, p.numpy)(*operands)
    out = result_of(p, of(dt))
    got = to_numpy(pointwise.pointwise(name, [device(x) for x in operands], out, of(dt)))
    np.testing.assert_allclose(wide(got), wide(want), rtol=2e-5 if dt is np.float32 else 1e-12, atol=0)
    if out is not dtypes.bool_:
        numbers = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


@pytest.mark.parametrize("dt", [np.int64, np.int32, np.int8, np.uint8, np.bool_])
def test_scalars_of_integers(dt):
    values = np.array([0, 1, 2, 3, 5, 7, 100, -1, -2, -7, -100, 127, -128])
    values = np.array([False, True]) if dt is np.bool_ else values.astype(dt)
    a, b = (v.ravel() for v in np.meshgrid(values, values))
    kinds = {np.bool_: ("b",), np.uint8: ("u", "i")}.get(dt, ("s", "i"))
    seen = 0
    for name, p in PRIMITIVES.items():
        if name in NOT_HERE or not any(k in p.llvm for k in kinds) or (dt is np.bool_ and name in ("sub", "sign")):
            continue
        operands = [a, b][:p.arity]
        if name == "pow":
            operands[1] = np.abs(b.astype(np.int64)).astype(dt) % 9
        with np.errstate(all="ignore"):
            want = p.numpy(*operands)
        out = result_of(p, of(dt))
        got = to_numpy(pointwise.pointwise(name, [device(x) for x in operands], out, of(dt)))
        np.testing.assert_array_equal(got, want, err_msg=name)
        seen += 1
    assert seen >= 12


def test_integer_powers_with_negative_exponents():
    base, e = np.array([1, -1, -1, 2, 0, -3]), np.array([-2, -3, -4, -1, -1, -2])
    check(pointwise.pointwise("pow", [device(base), device(e)], dtypes.int64, dtypes.int64), np.array([1, -1, 1, 0, 0, 0]))


def test_philox_matches_numpy():
    seed, counter, stream = 2**40 + 12345, np.arange(2**33 - 3, 2**33 + 40), 2**35 + 1
    got = pointwise.pointwise("philox", [seed, device(counter), stream], dtypes.int32, dtypes.int64)
    check(got, philox.bits(seed, counter, stream))


@pytest.mark.parametrize("src", [np.float32, np.float64, np.float16, bf16, np.int64, np.int8, np.uint8, np.bool_])
@pytest.mark.parametrize("dst", [np.float32, np.float64, np.float16, bf16, np.int64, np.int16, np.uint8, np.bool_])
def test_cast(src, dst):
    x = np.array([0, 1, -1, 2.5, -2.5, 100.7, 3, 127]).astype(src)
    want = x.astype(np.int64).astype(np.uint8) if dst is np.uint8 else x.astype(dst)
    check(pointwise.pointwise("cast", [device(x)], of(dst), of(src)), want)


def test_cast_of_nan_and_infinity():
    x = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    check(pointwise.pointwise("cast", [device(x)], dtypes.bool_, dtypes.float32), np.array([True, True, True, False]))
    check(pointwise.pointwise("cast", [device(x)], dtypes.bfloat16, dtypes.float32), x.astype(bf16))


# ---- pointwise


def add(*inputs, dt=dtypes.float32):
    return pointwise.pointwise("add", [x if isinstance(x, (int, float)) else device(x) for x in inputs], dt, dt)


@pytest.mark.parametrize("n", [1, 15, 16, 1000, 16384, 16385, 40000])
def test_pointwise_contiguous(n):
    x, y = normal(n), normal(n)
    check(add(x, y), x + y)


BROADCASTS = [((33, 65), (65,)), ((33, 65), (33, 1)), ((33, 65), ()), ((33, 1), (1, 65)), ((7, 1, 5), (6, 1)), ((0, 3), (3,)),
              ((), ()), ((2, 1, 3, 1, 2), (3, 1, 4, 1)), ((100, 3), (3,)), ((3, 40000), (3, 1))]


@pytest.mark.parametrize("a, b", BROADCASTS)
def test_pointwise_broadcasts(a, b):
    x, y = normal(*a), normal(*b)
    check(add(x, y), x + y)


VIEWS = [lambda x: x.transpose(2, 1, 0), lambda x: x[::-1, ::2, 1:], lambda x: x.transpose(1, 0, 2), lambda x: x[:, 1],
         lambda x: np.broadcast_to(x[:, :1], (12, 20, 36))]


@pytest.mark.parametrize("view", VIEWS)
def test_pointwise_of_strided_views(view):
    v = view(normal(12, 20, 36))
    check(add(v, 2.5), v + np.float32(2.5))
    check(add(v, v.copy()), v + v)


def test_pointwise_of_more_dimensions_than_a_kernel_takes():
    x = normal(3, 4, 5, 6, 2, 3, 2).transpose(6, 4, 2, 0, 1, 3, 5)
    check(add(x, 1.0), x + 1)


@pytest.mark.parametrize("dt", [np.float16, bf16])
def test_half_types_compute_in_float32_and_round_once(dt):
    x, y, z = (normal(1000, dtype=dt) for _ in range(3))
    want = np.where(wide(x) > 0, wide(y), wide(z)).astype(dt)
    check(pointwise.pointwise("where", [device(x > 0), device(y), device(z)], of(dt), of(dt)), want)
    check(pointwise.pointwise("mul", [device(x), 1 / 3], of(dt), of(dt)), (x.astype(np.float32) * np.float32(1 / 3)).astype(dt))


def test_numbers_keep_their_precision():
    x = np.arange(4)
    check(add(x, 2**40 + 1, dt=dtypes.int64), x + 2**40 + 1)
    check(add(x.astype(np.float64), 0.1, dt=dtypes.float64), x + 0.1)
    check(add(x, 1, dt=dtypes.int64), x + 1)


def test_pointwise_into_writes_in_place_and_into_views():
    x = normal(8, 12)
    a = device(x)
    pointwise.pointwise_into("mul", [a, 2.0], a, dtypes.float32)
    check(a, x * 2)
    pointwise.pointwise_into("identity", [7], a.view((8, 3), (12, 4), 1), dtypes.float32)
    want = x * 2
    want[:, 1::4] = 7
    check(a, want)


def test_copy_converts_between_any_strides():
    x = normal(33, 70)
    out = from_numpy(np.zeros((70, 33), np.float16))
    pointwise.copy(device(x), out.view((33, 70), (1, 33), 0))
    check(out, x.T.astype(np.float16))


@pytest.mark.parametrize("value, dt", [(0.1, dtypes.float64), (float("nan"), dtypes.float32), (-(2**62) - 1, dtypes.int64),
                                       (True, dtypes.bool_), (255, dtypes.uint8), (float("-inf"), dtypes.bfloat16)])
def test_fill(value, dt):
    check(pointwise.full((5, 7), value, dt), np.full((5, 7), value, dt.np))


def test_pointwise_without_an_array_is_refused():
    with pytest.raises(ValueError, match="at least one array"):
        pointwise.pointwise("add", [1, 2], dtypes.int64, dtypes.int64)


def test_collapse():
    assert layout.collapse((2, 3, 4), (12, 4, 1), (0, 4, 1)) == ([2, 12], [[12, 1], [0, 1]])
    assert layout.collapse((2, 1, 4), (4, 99, 1)) == ([8], [[1]])
    assert layout.collapse((), ()) == ([], [[]])


# ---- reductions

NUMPY = {"sum": np.sum, "mean": np.mean, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all}


def reduced(kind, x, dims):
    if kind.startswith("arg"):
        kept = [d for d in range(x.ndim) if d not in dims]
        flat = np.transpose(x, kept + list(dims)).reshape([x.shape[d] for d in kept] + [-1])
        return getattr(np, kind)(flat, axis=-1)
    return NUMPY[kind](wide(x) if x.dtype.kind in "fV" else x, axis=tuple(dims))


def check_reduction(kind, x, dims, out=None):
    want = reduced(kind, x, dims)
    kind_of = dtypes.int64 if kind.startswith("arg") else dtypes.bool_ if kind in ("any", "all") else out or of(x.dtype)
    tol = 0.0 if kind_of.category < 2 else 3 * EPS[kind_of.np]
    check(reduce.reduce(kind, device(x), dims, kind_of), want, tol)


@pytest.mark.parametrize("kind", reduce.KINDS)
@pytest.mark.parametrize("dims", [d for n in (1, 2, 3) for d in itertools.combinations(range(3), n)])
def test_reduce_over_any_dims(kind, dims):
    check_reduction(kind, normal(5, 7, 33) if kind != "prod" else 1 + 0.01 * normal(5, 7, 33), dims)


@pytest.mark.parametrize("dt", [np.float64, np.float16, bf16, np.int64, np.int32, np.int8, np.uint8, np.bool_])
@pytest.mark.parametrize("kind", reduce.KINDS)
def test_reduce_of_any_dtype(kind, dt):
    x = rng.integers(0 if dt is np.uint8 else -3, 4, (9, 70)).astype(dt)
    if kind == "prod":
        x = np.where(x == 0, 1, np.clip(x.astype(np.int64), -1, 1)).astype(dt)
    for dims in ((0,), (1,), (0, 1)):
        out = None
        if np.dtype(dt).kind not in "fV":
            out = dtypes.float32 if kind == "mean" else dtypes.int64 if kind in ("sum", "prod") else None
        check_reduction(kind, x, dims, out)


@pytest.mark.parametrize("kind", ["sum", "max", "argmax", "argmin"])
def test_reduce_of_long_arrays_in_two_passes(kind):
    # the parts of a long reduction are made by programs of their own: 64 tiles of 32768 on the simulated device
    x = normal(1000003) if kind != "sum" else rng.random(1000003).astype(np.float32)
    check_reduction(kind, x, (0,))
    y = np.round(normal(30000, 3))
    check_reduction(kind, y, (0,)) if kind != "sum" else check_reduction("mean", y + 5, (0,))


@pytest.mark.parametrize("kind", ["sum", "max", "argmin"])
def test_reduce_of_views(kind):
    x = normal(20, 30, 8)
    for v in (x.T, x[:, ::2], x[::-1], x.transpose(1, 0, 2)):
        for dims in ((0,), (1,), (2,), (0, 2)):
            check_reduction(kind, v, dims)


@pytest.mark.parametrize("kind", ["max", "min", "argmax", "argmin", "sum"])
def test_reduce_spreads_nan(kind):
    x = normal(9, 70)
    x[3, [2, 5]] = np.nan
    x[:, 7] = np.nan
    for dims in ((0,), (1,), (0, 1)):
        check_reduction(kind, x, dims)


def test_reduce_of_nothing():
    empty = np.zeros((0, 5), np.float32)
    for kind, value in (("sum", 0), ("prod", 1), ("any", False), ("all", True), ("mean", np.nan)):
        check(reduce.reduce(kind, device(empty), (0,), of(np.asarray(value).dtype) if kind in ("any", "all") else dtypes.float32),
              np.full(5, value, bool if kind in ("any", "all") else np.float32))
        assert reduce.reduce(kind, device(empty), (1,), dtypes.float32).shape == (0,)
    with pytest.raises(IndexError, match="non-empty"):
        reduce.reduce("max", device(empty), (0,), dtypes.float32)


def test_reduce_repeats_to_the_bit():
    x = device(normal(300000))
    first = to_numpy(reduce.reduce("sum", x, (0,), dtypes.float32))
    assert to_numpy(reduce.reduce("sum", x, (0,), dtypes.float32)) == first


def test_max_with_indices():
    x = np.round(normal(3, 40, 5))
    for kind, dim in itertools.product(("max", "min"), range(3)):
        values, at = reduce.max_with_indices(kind, device(x), dim)
        check(values, NUMPY[kind](x, axis=dim))
        check(at, getattr(np, "arg" + kind)(x, axis=dim))


# ---- matmul


def check_matmul(a, b, bias=None, **options):
    want = wide(a) @ wide(b) if a.dtype.kind in "fV" else a @ b
    if bias is not None:
        want = want + wide(bias)
    # rounding errors of a sum of k terms grow like the root of k
    tol = EPS[a.dtype] * max(4, a.shape[-1] ** 0.5) if a.dtype.kind in "fV" else 0.0
    check(matmul.matmul(device(a), device(b), bias=None if bias is None else device(bias), **options), want, tol)


@pytest.mark.parametrize("dt", FLOATS)
def test_matmul_of_any_layout(dt):
    check_matmul(normal(33, 65, dtype=dt), normal(65, 17, dtype=dt))
    check_matmul(normal(33, 65, dtype=dt), normal(17, 65, dtype=dt).T, normal(17, dtype=dt))
    check_matmul(normal(65, 33, dtype=dt).T, normal(65, 17, dtype=dt))
    check_matmul(normal(1, 64, dtype=dt), normal(64, 64, dtype=dt))
    check_matmul(normal(64, 64, dtype=dt), normal(64, 1, dtype=dt))


BATCHES = [((5, 33, 20), (20, 7)), ((5, 33, 20), (5, 20, 7)), ((33, 20), (5, 20, 7)), ((2, 1, 9, 20), (3, 20, 7)),
           ((4, 1, 3, 1, 9, 20), (5, 1, 2, 20, 7)), ((3, 0, 5), (5, 4)), ((4, 0), (0, 3)), ((0, 5), (5, 3)), ((64, 1), (1, 64)),
           ((16, 1, 64), (16, 64, 1)), ((1, 1), (1, 1)), ((700, 600), (600, 530))]


@pytest.mark.parametrize("a, b", BATCHES)
def test_matmul_of_batches_and_edges(a, b):
    check_matmul(normal(*a), normal(*b))
    check_matmul(normal(*a), normal(*b), normal(b[-1]))


def test_matmul_of_views():
    x = normal(2, 3, 9, 20)
    check_matmul(x.transpose(0, 2, 1, 3)[:, :, :2], normal(2, 1, 20, 4))
    check_matmul(x[:, :, ::2], normal(20, 7))
    check_matmul(np.broadcast_to(normal(1, 8, 64), (3, 8, 64)), np.broadcast_to(normal(64, 1), (64, 16)))
    check_matmul(normal(1, 64)[:, ::2], normal(64, 5)[::2])


@pytest.mark.parametrize("dt", [np.int64, np.int32, np.int8, np.uint8])
def test_matmul_of_integers_wraps(dt):
    check_matmul(rng.integers(0, 100, (33, 65)).astype(dt), rng.integers(0, 100, (65, 17)).astype(dt))


def test_matmul_writes_another_dtype():
    a, b = normal(20, 30, dtype=np.float16), normal(30, 10, dtype=np.float16)
    check(matmul.matmul(device(a), device(b), dtypes.float32), wide(a) @ wide(b), 1e-5)


def test_matmul_errors():
    a, b = device(normal(3, 4)), device(normal(5, 6))
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied \(\[3, 4\] and \[5, 6\]\)"):
        matmul.matmul(a, b)
    with pytest.raises(RuntimeError, match="same dtype"):
        matmul.matmul(a, device(normal(4, 6, dtype=np.float64)))
    with pytest.raises(NotImplementedError, match="bool"):
        matmul.matmul(device(np.ones((2, 2), bool)), device(np.ones((2, 2), bool)))
    with pytest.raises(RuntimeError, match="bias"):
        matmul.matmul(a, device(normal(4, 6)), bias=device(normal(5)))


# ---- softmax, layer norm, cross entropy

ROWS = [(7, 33), (3, 5, 64), (2, 20001), (1, 1), (300, 10)]


@pytest.mark.parametrize("dt", FLOATS)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("shape", ROWS)
def test_softmax(shape, log, dt):
    x, g = normal(*shape, dtype=dt) * dt(3), normal(*shape, dtype=dt)
    tol = EPS[np.dtype(dt)]
    y = softmax.softmax(device(x), log=log)
    check(y, (sp.log_softmax if log else sp.softmax)(wide(x), -1), tol)
    yw, gw = wide(to_numpy(y)), wide(g)
    want = gw - np.exp(yw) * gw.sum(-1, keepdims=True) if log else yw * (gw - (gw * yw).sum(-1, keepdims=True))
    check(softmax.softmax_backward(y, device(g), log=log), want, 4 * tol)


def test_softmax_of_edge_values_views_and_nothing():
    x = np.array([[-np.inf, -np.inf], [np.inf, 1], [np.nan, 1], [-np.inf, 0]], np.float32)
    nan = np.nan
    check(softmax.softmax(device(x)), np.array([[nan, nan], [nan, nan], [nan, nan], [0, 1]], np.float32))
    long = np.full((3, 20000), -np.inf, np.float32)
    long[0, 8000], long[1, 3] = 1, np.nan
    got = to_numpy(softmax.softmax(device(long)))
    assert got[0, 8000] == 1 and got[0].sum() == 1 and np.isnan(got[1:]).all()
    v = normal(6, 50).T
    check(softmax.softmax(device(v)), sp.softmax(v, -1), 1e-6)
    assert softmax.softmax(device(np.zeros((0, 5), np.float32))).shape == (0, 5)
    check(softmax.softmax(device(np.float32(3))), np.float32(1))
    half = normal(4, 5, dtype=np.float16)
    check(softmax.softmax(device(half), out_dtype=dtypes.float32), sp.softmax(wide(half), -1), 1e-6)


@pytest.mark.parametrize("dt", FLOATS)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape, norm", [((7, 33), (33,)), ((2, 20001), (20001,)), ((4, 5, 6), (5, 6)), ((300, 16), (16,)),
                                         ((3, 1), (1,))])
def test_layer_norm(shape, norm, affine, dt):
    x, g, w, b = normal(*shape, dtype=dt) + dt(1), normal(*shape, dtype=dt), normal(*norm, dtype=dt), normal(*norm, dtype=dt)
    n = int(np.prod(norm))
    rows = wide(x).reshape(-1, n)
    mean, rstd = rows.mean(1, keepdims=True), 1 / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    normed, gw = (rows - mean) * rstd, wide(g).reshape(-1, n)
    scale, shift = (wide(w).ravel(), wide(b).ravel()) if affine else (1.0, 0.0)
    tol = 4 * EPS[np.dtype(dt)]
    weight, bias = (device(w), device(b)) if affine else (None, None)
    y, m, s = layer_norm.layer_norm(device(x), norm, weight, bias)
    check(y, (normed * scale + shift).reshape(shape), tol)
    check(m, mean[:, 0], tol)
    np.testing.assert_allclose(to_numpy(s), rstd[:, 0], rtol=max(EPS[np.dtype(dt)], 1e-12) * 4)
    gs = gw * scale
    want = (gs - normed * (normed * gs).mean(1, keepdims=True) - gs.mean(1, keepdims=True)) * rstd
    check(layer_norm.layer_norm_backward(device(g), device(x), norm, m, s, weight), want.reshape(shape), 2 * tol)


def test_layer_norm_of_nothing_and_of_a_wrong_shape():
    y, m, _ = layer_norm.layer_norm(device(np.zeros((0, 4), np.float32)), (4,))
    assert y.shape == (0, 4) and m.shape == (0,)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        layer_norm.layer_norm(device(normal(3, 4)), (5,))


# ---- embedding, gather, scatter, indexing, scans


@pytest.mark.parametrize("dt", FLOATS)
def test_embedding(dt):
    table, at, g = normal(11, 37, dtype=dt), rng.integers(0, 11, (3, 5)), normal(3, 5, 37, dtype=dt)
    check(embedding.embedding(device(table), device(at)), table[at])
    want = np.zeros((11, 37))
    np.add.at(want, at.ravel(), wide(g).reshape(-1, 37))
    want[4] = 0
    check(embedding.embedding_backward(device(g), device(at), 11, padding_idx=4), want, 4 * EPS[np.dtype(dt)])


def test_embedding_out_of_range_and_errors():
    got = to_numpy(embedding.embedding(device(np.eye(2, dtype=np.float32)), device(np.array([1, 2, -1], np.int32))))
    assert got[0].tolist() == [0, 1] and np.isnan(got[1:]).all()
    with pytest.raises(RuntimeError, match="Long, Int"):
        embedding.embedding(device(normal(2, 2)), device(normal(3)))


@pytest.mark.parametrize("dim", range(3))
def test_gather(dim):
    x = normal(5, 6, 7)
    shape = [9 if d == dim else n for d, n in enumerate((4, 5, 6))]
    at = rng.integers(0, x.shape[dim], shape)
    cut = x[tuple(slice(0, n) if d != dim else slice(None) for d, n in enumerate(shape))]
    want = np.take_along_axis(cut, at, dim)
    check(gather_scatter.gather(device(x), dim, device(at)), want)
    check(gather_scatter.gather(device(x.T), 2 - dim, device(at.T)), want.T)


def test_gather_of_seven_dimensions():
    x = normal(2, 3, 2, 3, 2, 3, 2).transpose(6, 0, 5, 1, 4, 2, 3)
    at = rng.integers(0, 3, (2, 2, 3, 3, 2, 2, 3))
    check(gather_scatter.gather(device(x), 6, device(at)), np.take_along_axis(x, at, 6))


def scattered(x, dim, at, src, how, include_self):
    start = {"sum": 0, "mean": 0, "prod": 1, "amax": -np.inf, "amin": np.inf}[how]
    out, count = wide(x), np.full(x.shape, float(include_self))
    targets = [(*t[:dim], at[t], *t[dim + 1:]) for t in np.ndindex(*at.shape)]
    if not include_self:
        for t in targets:
            out[t] = start
    for t, s in zip(targets, np.ndindex(*at.shape)):
        count[t] += 1
        out[t] = {"amax": max, "amin": min, "prod": lambda a, b: a * b}.get(how, lambda a, b: a + b)(out[t], float(src[s]))
    if how == "mean":
        out = out / np.maximum(count, 1) if x.dtype.kind in "fV" else out // np.maximum(count, 1)
    return (out + 128) % 256 - 128 if x.dtype == np.int8 else out


@pytest.mark.parametrize("dt", [np.float32, np.float64, np.float16, bf16, np.int64, np.int8])
@pytest.mark.parametrize("how", ["sum", "mean", "prod", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reductions(how, include_self, dt):
    scale = 1.5 if how == "prod" else 10
    x, src = (normal(5, 6) * scale).astype(dt), (normal(9, 9) * scale).astype(dt)
    for dim in range(2):
        shape = [9 if d == dim else 4 for d in range(2)]
        at = rng.integers(0, x.shape[dim], shape)
        got = device(x)
        gather_scatter.scatter(got, dim, device(at), device(src), how, include_self=include_self)
        check(got, scattered(x, dim, at, src, how, include_self), 8 * EPS.get(np.dtype(dt), 0))


def test_scatter_stores_numbers_and_spreads_nan():
    x, at = normal(5, 6), np.array([[0, 4, 2]])
    got = device(x)
    gather_scatter.scatter(got, 0, device(at), 7.5)
    want = x.copy()
    want[at[0], [0, 1, 2]] = 7.5
    check(got, want)
    got = device(np.array([0, 5, 1], np.float32))
    gather_scatter.scatter(got, 0, device(np.array([0, 0, 1])), device(np.array([-1, np.nan, 2], np.float32)), "amax")
    check(got, np.array([np.nan, 5, 1], np.float32))
    with pytest.raises(ValueError, match="one of sum, prod"):
        gather_scatter.scatter(got, 0, device(np.array([0])), 1, "median")
    with pytest.raises(RuntimeError, match="index"):
        gather_scatter.gather(got, 0, device(normal(2)))


def test_indexing_by_tensors():
    x = normal(5, 6, 7)
    i, j, k = rng.integers(-5, 5, (4, 1)), rng.integers(0, 7, (3,)), rng.integers(0, 6, (4, 3))
    for key in ((i,), (i, None, j), (None, k), (None, k, j), (i, k, j), (i, k)):
        got = gather_scatter.index(device(x), [None if a is None else device(a) for a in key])
        check(got, x[tuple(slice(None) if a is None else a for a in key)])
    check(gather_scatter.take(device(x.T), device(j)), x.T[j])
    check(gather_scatter.index(device(np.arange(3.0)), [device(np.array([0, 3, -3, -4]))]), np.array([0, np.nan, 0, np.nan]))
    with pytest.raises(IndexError, match="too many indices"):
        gather_scatter.index(device(normal(3)), [None, device(i)])


@pytest.mark.parametrize("dt", [np.float32, np.int8, np.float16, np.int64])
def test_index_put(dt):
    x = (normal(5, 6, 7) * 4).astype(dt)
    i, k = rng.integers(0, 5, (4, 1)), rng.integers(0, 6, (4, 3))
    for key in ((i,), (None, k), (i, k)):
        at = tuple(slice(None) if a is None else a for a in key)
        values = (rng.standard_normal(x[at].shape) * 4).astype(dt)
        want = wide(x)
        np.add.at(want, at, wide(values))
        got = device(x)
        gather_scatter.index_put(got, [None if a is None else device(a) for a in key], device(values), accumulate=True)
        check(got, (want + 128) % 256 - 128 if dt is np.int8 else want, 8 * EPS.get(np.dtype(dt), 0))
    got, want = device(x), x.copy()
    gather_scatter.index_put(got, [None, device(np.array([1, 4]))], 3)
    want[:, [1, 4]] = 3
    check(got, want)


@pytest.mark.parametrize("dt, out", [(np.float32, dtypes.float32), (np.float64, dtypes.float64), (np.int32, dtypes.int64),
                                     (np.bool_, dtypes.int64), (np.float16, dtypes.float16)])
@pytest.mark.parametrize("shape", [(5,), (2, 5, 70), (2, 40000), (3000, 2), (400000,), (9000, 64)])
def test_cumulative_sum(shape, dt, out):
    x = np.round(normal(*shape)).astype(dt)
    for dim in range(len(shape)):
        check(scan.cumulative("sum", device(x), dim, out), np.cumsum(wide(x), axis=dim).astype(out.np))


def test_cumulative_product():
    x = 1 + 0.01 * normal(3, 50)
    check(scan.cumulative("prod", device(x), 1, dtypes.float32), np.cumprod(x, 1), 1e-5)
    assert scan.cumulative("sum", device(np.zeros((0, 3))), 0, dtypes.float64).shape == (0, 3)


@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 5, 7), (100000,), (), (0, 4)])
def test_nonzero(shape):
    mask = np.asarray(rng.random(shape) > 0.6)
    check(scan.nonzero(device(mask)), np.argwhere(mask))
