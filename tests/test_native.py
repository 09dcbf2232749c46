"""Native CPU loops against NumPy: every primitive, random kernels, every way of running, threads, caches, memory."""
from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
import warnings

import ml_dtypes
import numpy as np
import pytest

from fusetorch import config, dtypes
from fusetorch.codegen.loop import LoopCall, Operand, schedule
from fusetorch.codegen.native import NativeLoop, native_loop, native_loops
from fusetorch.dtypes import (
    INTEGERS,
    bfloat16,
    bool_,
    dtype,
    float16,
    float32,
    float64,
    from_numpy,
    int8,
    int32,
    int64,
    uint8,
)
from fusetorch.ops import primitives as P
from fusetorch.ops.expr import Expr, cast, const, count, iota, load, reduce, scalar, walk
from fusetorch.runtime import cpu_jit, cpu_memory, cpu_pool
from fusetorch.runtime.cpu_memory import address

#: What a native loop computes with; complex numbers come to it as pairs (test_complex.py).
ALL = [d for d in dtypes.ALL if not d.is_complex]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with config.override(cache_dir=str(tmp_path_factory.mktemp("cache"))):
        yield


# ---- the oracle: NumPy, one node at a time

def element_strides(a: np.ndarray) -> tuple[int, ...]:
    return tuple(s // a.itemsize for s in a.strides)


def evaluate(roots, shape, red, ins, scalars=()):
    """NumPy values of expressions over the index space; reductions keep their dimensions, sums of floats are in float64."""
    v = {}
    inner = [n if d in red else 1 for d, n in enumerate(shape)]
    for e in walk(roots):
        a = [v[x] for x in e.args]
        if e.op == "load":
            r = np.broadcast_to(ins[e.attr], shape)
        elif e.op == "scalar":
            r = np.asarray(scalars[e.attr]).astype(e.dtype.np)
        elif e.op == "const":
            r = np.asarray(e.attr, e.dtype.np)
        elif e.op == "count":
            r = np.int64(math.prod(inner))
        elif e.op == "iota":
            if e.attr == "linear":
                r = np.arange(math.prod(shape)).reshape(shape)
            elif e.attr == "inner":
                r = np.broadcast_to(np.arange(math.prod(inner)).reshape(inner), shape)
            else:
                d = e.attr[1]
                r = np.broadcast_to(np.arange(shape[d]).reshape([-1 if k == d else 1 for k in range(len(shape))]), shape)
        elif e.op == "reduce":
            x, axes = np.broadcast_to(a[0], shape), tuple(red)
            if e.attr.startswith("arg"):
                x = np.moveaxis(x, axes, range(len(shape) - len(axes), len(shape)))
                x = x.reshape(*x.shape[:len(shape) - len(axes)], math.prod(inner))
                r = getattr(np, e.attr)(x, -1).reshape([1 if d in red else n for d, n in enumerate(shape)])
            elif e.attr in ("sum", "prod"):
                wide = np.float64 if e.dtype.category == 2 else e.dtype.np
                r = getattr(np, e.attr)(x, axis=axes, keepdims=True, dtype=wide).astype(e.dtype.np)
            else:
                r = getattr(np, e.attr)(x, axis=axes, keepdims=True)
        else:
            with np.errstate(all="ignore"):
                r = np.asarray(a[0]).astype(e.dtype.np) if e.op == "cast" else np.asarray(
                    P.PRIMITIVES[e.op].numpy(*a)).astype(e.dtype.np)
        v[e] = r
    return [v[r] for r in roots]


def prepare(shape, red, ins, values, full, out_dtypes, scalar_dtypes=(), outs=None) -> tuple[LoopCall, list[np.ndarray]]:
    shape = tuple(shape)
    if outs is None:
        small = tuple(1 if d in red else n for d, n in enumerate(shape))
        outs = [np.empty(shape if f else small, d.np) for f, d in zip(full, out_dtypes)]
    outputs = [Operand(from_numpy(o.dtype), tuple(0 if not f and d in red else s for d, s in enumerate(element_strides(o))))
               for o, f in zip(outs, full)]
    inputs = [Operand(from_numpy(a.dtype), element_strides(np.broadcast_to(a, shape))) for a in ins]
    return schedule(shape, red, inputs, outputs, values, full, scalar_dtypes), outs


def run(shape, red, ins, values, full=None, out_dtypes=None, scalars=(), scalar_dtypes=(), threads=None, outs=None, flavour=None):
    full = [True] * len(values) if full is None else full
    call, outs = prepare(shape, red, ins, values, full, out_dtypes or [v.dtype for v in values], scalar_dtypes, outs)
    loop = native_loop(call.kernel)
    if flavour:
        assert loop.flavour(call.sizes) == flavour
    if threads is None:
        loop([*ins, *outs], call.sizes, call.strides, scalars)
    else:
        loop.bind(call.sizes, call.strides, threads)([address(a) for a in [*ins, *outs]], scalars)
    return outs


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    g, w = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(want)).astype(np.float64)
        d = np.abs(g - w) / np.where(np.isfinite(unit) & (unit > 0), unit, 1)
    return np.where((g == w) | (np.isnan(g) & np.isnan(w)), 0.0, np.where(np.isnan(d), np.inf, d))


# ---- primitives

EDGES = [0, -0.0, 1, -1, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 1e-45, 3e38, -3e38, 0.5, -0.5, 2, -2, 88.7, -87.5, -103, -104,
         89, 1e10, 1e-10, 11, 100.5, -9, -10]
#: Largest error in units in the last place, where it is not 2; the poles and zeros of the others are ill-conditioned.
ULPS = {"lgamma": 1e7, "digamma": 1e5, "erfc": 4, "tanh": 3, "tan": 4, "atan": 3, "log10": 3}


def operands(dt: dtype, arity: int, name: str) -> list[np.ndarray]:
    g = np.random.default_rng(0)
    n = 5000
    if dt.category == 2:
        a = np.concatenate([EDGES, g.normal(size=n) * 3, g.uniform(-100, 100, n), 10 ** g.uniform(-30, 30, n), g.uniform(-1, 1, n)])
        b = np.concatenate([g.permutation(EDGES), g.normal(size=4 * n) * 3])
    elif dt is bool_:
        a, b = g.integers(0, 2, n), g.integers(0, 2, n)
    else:
        i, small = np.iinfo(dt.np), 0 if dt is uint8 else -10
        a = np.concatenate([g.integers(i.min, i.max, n, endpoint=True), g.integers(small, 10, n), [i.min, i.max, 0, 1]])
        b = np.concatenate([g.integers(small, 70, n), g.integers(i.min, i.max, n + 4)])
        if name in ("floor_divide", "remainder", "fmod"):
            b[b == 0] = 3
        if name == "pow":
            b = np.abs(b) % 8
        if name.startswith("shift"):
            b = np.clip(b, 0, dt.bits - 1)
    with np.errstate(all="ignore"):
        return [x.astype(dt.np) for x in (a, b)[:arity]]


def forms() -> list[tuple[str, dtype]]:
    kinds = {float32: "f", float64: "f", int32: "si", int64: "si", int8: "si", uint8: "ui", bool_: "b"}
    return [(p.name, dt) for p in P.PRIMITIVES.values() for dt, kind in kinds.items()
            if p.arity < 3 and p.name != "cast" and any(k in p.llvm for k in kind)
            and not (dt is bool_ and p.name in ("sub", "sign"))  # NumPy has no such thing on bool
            and not (dt is int64 and p.name in ("round", "floor", "ceil", "trunc"))]  # NumPy goes through float64


@pytest.mark.parametrize("name,dt", forms(), ids=lambda x: str(x).removeprefix("torch."))
def test_primitive(name, dt):
    p = P.PRIMITIVES[name]
    xs = operands(dt, p.arity, name)
    e = p(*[load(i, dt) for i in range(p.arity)])
    (got,) = run(xs[0].shape, (), xs, [e])
    wide = [x.astype(np.float64) for x in xs] if dt is float32 and e.dtype is float32 and name != "nextafter" else xs
    with np.errstate(all="ignore"):
        want = np.asarray(p.numpy(*wide)).astype(e.dtype.np)
    if e.dtype.category < 2:
        np.testing.assert_array_equal(got, want)
        return
    error = ulps(got, want)
    assert error.max() <= ULPS.get(name, 2), (name, [x[error.argmax()] for x in xs], got[error.argmax()], want[error.argmax()])
    if name not in ("lgamma", "digamma"):
        same = (np.signbit(got) == np.signbit(want)) | np.isnan(want)
        assert same.all(), (name, [x[~same][:4] for x in xs])


@pytest.mark.parametrize("name", ["lgamma", "digamma", "erfinv"])
@pytest.mark.parametrize("dt", [float32, float64])
def test_ill_conditioned_primitives_agree_with_numpy_versions(name, dt):
    x = np.linspace(-0.999, 0.999, 5001) if name == "erfinv" else np.linspace(0.05, 40, 5001)
    x = x.astype(dt.np)
    (got,) = run(x.shape, (), [x], [P.PRIMITIVES[name](load(0, dt))])
    np.testing.assert_allclose(got, P.PRIMITIVES[name].numpy(x), rtol=4e-7 if dt is float32 else 2e-13)


def test_arithmetic_is_bit_equal_to_separate_numpy_steps():
    g = np.random.default_rng(1)
    x, y, z = (load(i, float32) for i in range(3))
    a, b, c = (g.normal(size=10007).astype(np.float32) for _ in range(3))
    (got,) = run(a.shape, (), [a, b, c], [(x * y + z) / (x - 1.5) + P.sqrt(abs(y)) * z])
    np.testing.assert_array_equal(got, (a * b + c) / (a - np.float32(1.5)) + np.sqrt(np.abs(b)) * c)


@pytest.mark.parametrize("dt", INTEGERS, ids=str)
def test_integer_division_by_zero_does_not_trap(dt):
    low = -(1 << dt.bits - 1) if dt.is_signed else 0
    a = np.array([5, low, low, 7], dt.np)
    b = np.array([0, 0, 255 if dt is uint8 else -1, 2], dt.np)
    x, y = load(0, dt), load(1, dt)
    for f in (P.floor_divide, P.remainder, P.fmod):
        (got,) = run((4,), (), [a, b], [f(x, y)])
        assert got[0] == 0 and got[1] == 0
        assert got[3] == (3 if f is P.floor_divide else 1)


def test_shifts_outside_the_width():
    for dt in (int32, uint8):
        a = np.array([5, 100, 77], dt.np)
        b = np.array([dt.bits, dt.bits + 3, 200], dt.np)
        left, right = run((3,), (), [a, b], [P.shift_left(load(0, dt), load(1, dt)), P.shift_right(load(0, dt), load(1, dt))])
        assert not left.any() and not right.any()
    (got,) = run((1,), (), [np.array([-5], np.int32), np.array([40], np.int32)], [P.shift_right(load(0, int32), load(1, int32))])
    assert got[0] == -1


def test_philox_equals_numpy():
    g = np.random.default_rng(2)
    counter = g.integers(-2**63, 2**63 - 1, 5000)
    e = P.philox(scalar(0, int64), load(0, int64), const(3, int64))
    (got,) = run(counter.shape, (), [counter], [e], scalars=(-12345678901234,), scalar_dtypes=(int64,))
    np.testing.assert_array_equal(got, P.PRIMITIVES["philox"].numpy(np.int64(-12345678901234), counter, np.int64(3)))


# ---- conversions

@pytest.mark.parametrize("src", ALL, ids=str)
@pytest.mark.parametrize("dst", ALL, ids=str)
def test_cast(src, dst):
    g = np.random.default_rng(3)
    x = g.integers(0, 2, 999) if src is bool_ else g.integers(0, 120, 999) if src.category == 1 else g.normal(size=999) * 30
    x = np.abs(x) if dst is uint8 else x
    x = x.astype(src.np)
    (got,) = run(x.shape, (), [x], [cast(Expr("load", (), 0, src), dst)])
    assert got.dtype == dst.np
    np.testing.assert_array_equal(got, x.astype(dst.np))


def test_halves_round_once_to_nearest_even():
    g = np.random.default_rng(4)
    bits = g.integers(0, 2**32, 200000, dtype=np.uint64).astype(np.uint32)
    ties = np.concatenate([(np.arange(65536, dtype=np.uint32) << 16) + k for k in (0x7FFF, 0x8000, 0x8001)])
    x = np.concatenate([bits, ties]).view(np.float32)
    for dt in (float16, bfloat16):
        (got,) = run(x.shape, (), [x], [load(0, float32)], out_dtypes=[dt])
        with np.errstate(all="ignore"):
            want = x.astype(dt.np)
        same = (got.view(np.uint16) == want.view(np.uint16)) | (np.isnan(want.astype(np.float32)) & np.isnan(got.astype(np.float32)))
        assert same.all()


def test_float16_without_hardware_conversion(monkeypatch):
    monkeypatch.setattr(cpu_jit, "has_halves", lambda: False)
    h = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    near = (np.arange(1 << 19, dtype=np.uint32) << 13)[:, None] + np.array([0, 1, 4095, 4096, 4097, 8191], np.uint32)
    f = near.ravel().view(np.float32)
    for x, dt in ((h, float32), (f, float16)):
        call, (got,) = prepare(x.shape, (), [x], [load(0, from_numpy(x.dtype))], [True], [dt])
        NativeLoop(call.kernel)([x, got], call.sizes, call.strides)
        with np.errstate(all="ignore"):
            want = x.astype(dt.np)
        bits = f"u{dt.itemsize}"
        assert ((got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))).all()


def test_double_to_half_rounds_once():
    # just above a tie of the half type, by less than float32 can tell: through float32 these would round down
    for dt, one in ((float16, 2.0**-10), (bfloat16, 2.0**-7)):
        x = np.array([1 + one / 2 + 2.0**-40, 1 + one / 2, 1 + one / 2 - 2.0**-40, 1 + 3 * one / 2 - 2.0**-40, -(1 + one / 2 + 2.0**-40)])
        (got,) = run(x.shape, (), [x], [load(0, float64)], out_dtypes=[dt])
        np.testing.assert_array_equal(got.astype(np.float64), [1 + one, 1, 1, 1 + one, -(1 + one)])


def test_float_to_integer_out_of_range_is_defined():
    x = np.array([1e20, -1e20, np.nan, np.inf], np.float32)
    a, b = run((4,), (), [x], [cast(load(0, float32), int32), cast(load(0, float32), int64)])
    assert a.tolist() == [2**31 - 1, -2**31, 0, 2**31 - 1] and b.tolist() == [2**63 - 1, -2**63, 0, 2**63 - 1]


def test_scalars_of_every_dtype():
    x = np.ones(7, np.float32)
    dts = tuple(ALL)
    given = [True, 200, -5, -300, -70000, -2**40, 0.1, 0.1, 0.1, 0.1]
    got = run((7,), (), [x], [scalar(i, d) for i, d in enumerate(dts)], scalars=given, scalar_dtypes=dts)
    for g, d, v in zip(got, dts, given):
        np.testing.assert_array_equal(g, np.full(7, v).astype(d.np))


# ---- random kernels

def random_kernel(seed: int):
    g, r = np.random.default_rng(seed), random.Random(seed)
    rank = r.randint(1, 4)
    shape = [r.choice([0, 1, 2, 3, 5, 7, 16, 33, 64, 100, 129] if r.random() < 0.1 else [1, 2, 3, 5, 7, 16, 33, 64, 100, 129])
             for _ in range(rank)]
    if r.random() < 0.25:
        shape[r.randrange(rank)] = r.choice([1000, 9000, 40000, 100000])
    while math.prod(shape) > 300000:
        shape[shape.index(max(shape))] = r.choice([1, 3, 8])
    red = tuple(d for d in range(rank) if r.random() < 0.4) if r.random() < 0.7 else ()
    ins, loads = [], []
    for i in range(r.randint(1, 3)):
        dt = r.choice(ALL) if r.random() < 0.4 else float32
        own = [n if r.random() < 0.8 else 1 for n in shape]
        perm = list(range(rank))
        if r.random() < 0.4:
            r.shuffle(perm)
        base = [own[p] * (2 if r.random() < 0.15 else 1) for p in perm]
        a = g.integers(0, 9, base) if dt.category < 2 else g.normal(size=base) * 3
        a = (a > 4) if dt is bool_ else a.astype(dt.np)
        if dt.category == 2 and a.size and r.random() < 0.2:
            a.reshape(-1)[r.randrange(a.size)] = r.choice([math.nan, math.inf, -math.inf])
        a = a.transpose(np.argsort(perm))
        a = a[tuple(slice(None, None, 1 if s == n else 2) for s, n in zip(a.shape, own))]
        ins.append(a[(slice(None, None, -1),) * rank] if r.random() < 0.15 else a)
        loads.append(load(i, dt))

    def number(e: Expr) -> Expr:
        return cast(e, float32) if e.dtype is bool_ else e

    def expr(depth: int) -> Expr:
        if depth == 0 or r.random() < 0.2:
            c = r.random()
            if c < 0.8:
                return r.choice(loads)
            if c < 0.9:
                return const(r.choice([0.5, 2.0, -1.5]), float32)
            return cast(iota(r.choice(["linear", ("dim", r.randrange(rank))] + ["inner"] * bool(red))), float32)
        c = r.random()
        if red and c < 0.3:
            x, kind = number(expr(depth - 1)), r.choice(["sum", "sum", "max", "min", "prod", "argmax", "argmin"])
            if kind == "prod":
                x = P.exp(P.tanh(cast(x, float32)) * 1e-4)
            elif not math.prod(shape):
                kind = "sum"
            return reduce(kind, x)
        if c < 0.6:
            x = cast(expr(depth - 1), float32)
            return r.choice([lambda: -x, lambda: abs(x), lambda: x * x, lambda: P.exp(P.minimum(x, 3.0)), lambda: P.sqrt(abs(x))])()
        if c < 0.9:
            return r.choice([P.add, P.sub, P.mul, P.maximum, P.minimum])(number(expr(depth - 1)), number(expr(depth - 1)))
        return P.where(P.lt(cast(expr(depth - 1), float32), 0.5), expr(depth - 1), expr(depth - 1))

    def varies(e: Expr) -> bool:
        return e.op in ("load", "iota") or (e.op != "reduce" and any(map(varies, e.args)))

    values = [expr(r.randint(1, 4)) for _ in range(r.randint(1, 3))]
    full = [not red or varies(e) or r.random() < 0.2 for e in values]
    outs = [r.choice([e.dtype, e.dtype, float32, r.choice([float16, bfloat16, float64])]) for e in values]
    return shape, red, ins, values, full, outs


@pytest.mark.parametrize("seed", range(90))
def test_random_kernel(seed):
    shape, red, ins, values, full, dts = random_kernel(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        wants = evaluate(values, tuple(shape), red, ins)
        one = run(shape, red, ins, values, full, dts, threads=1)
        two = run(shape, red, ins, values, full, dts, threads=2)
        for e, got, again, want, dt in zip(values, one, two, wants, dts):
            assert got.tobytes() == again.tobytes()
            want = np.broadcast_to(want, got.shape).astype(dt.np).astype(np.float64)
            tolerance = {float16: 2e-3, bfloat16: 2e-2}.get(dt, 2e-5)
            scale = np.max(np.abs(want[np.isfinite(want)]), initial=1.0)
            np.testing.assert_allclose(got.astype(np.float64), want, rtol=tolerance, atol=tolerance * 0.3 * scale, err_msg=repr(e))


# ---- each flavour

def softmax_of(x: Expr) -> Expr:
    e = P.exp(x - reduce("max", x))
    return e / reduce("sum", e)


def norm_of(x: Expr) -> list[Expr]:
    n = cast(count(), float32)
    mean = reduce("sum", x) / n
    var = reduce("sum", (x - mean) * (x - mean)) / n
    return [(x - mean) * P.rsqrt(var + 1e-5), mean, var, reduce("argmax", x)]


CASES = [((37, 100), (1,), "rows"), ((2000, 10), (1,), "rows"), ((50, 3, 7), (1, 2), "rows"), ((2, 50000), (1,), "split"),
         ((300, 301), (0, 1), "split"), ((2, 300, 300), (1, 2), "split"), ((40, 5000), (0,), "columns"), ((30, 64, 100), (1,), "columns"),
         ((5000, 40), (0,), "column_split"), ((3000, 2, 65), (0, 1), "column_split"), ((7, 1300, 513), (1,), "columns")]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape,red,flavour", CASES)
def test_reductions_in_every_flavour(shape, red, flavour, threads):
    a = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    x = load(0, float32)
    full = [True, True, False, False, False]
    got = run(shape, red, [a], [softmax_of(x), *norm_of(x)], full, threads=threads, flavour=flavour)
    d = a.astype(np.float64)
    soft = np.exp(d - d.max(red, keepdims=True))
    np.testing.assert_allclose(got[0], soft / soft.sum(red, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(got[1], (d - d.mean(red, keepdims=True)) / np.sqrt(d.var(red, keepdims=True) + 1e-5), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got[2], d.mean(red, keepdims=True), atol=3e-7)
    np.testing.assert_allclose(got[3], d.var(red, keepdims=True), rtol=1e-6)
    np.testing.assert_array_equal(got[4], evaluate([reduce("argmax", x)], shape, red, [a])[0])


@pytest.mark.parametrize("shape", [(200, 170), (64, 640), (3, 130, 129), (193, 190)])
@pytest.mark.parametrize("dt", [float32, float64, float16, uint8, bool_], ids=str)
def test_transposed_operands(shape, dt):
    g = np.random.default_rng(6)
    a = (g.normal(size=shape[:-2] + shape[:-3:-1]) * 20).astype(dt.np).swapaxes(-1, -2)
    b = g.normal(size=shape).astype(np.float32)
    value = cast(load(0, dt), float32) * 2.0 + load(1, float32)
    got = [run(shape, (), [a, b], [value], threads=t, flavour="tiles")[0] for t in (1, 2)]
    np.testing.assert_array_equal(got[0], a.astype(np.float32) * 2 + b)
    np.testing.assert_array_equal(got[0], got[1])


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 1000, 8191, 8192, 8193, 40001])
def test_odd_sizes(n):
    a = np.random.default_rng(n).normal(size=n).astype(np.float32)
    x = load(0, float32)
    (y,) = run((n,), (), [a], [x * 2.0 + 1.0])
    np.testing.assert_array_equal(y, a * np.float32(2) + 1)
    for shape, red in (((n,), (0,)), ((3, n), (1,)), ((n, 3), (0,)), ((n, 20), (0,))):
        b = np.random.default_rng(n).integers(-9, 9, shape).astype(np.float32)  # exact in any order
        s, m = run(shape, red, [b], [reduce("sum", x), reduce("min", x)], [False, False])
        np.testing.assert_array_equal(s, b.sum(red, keepdims=True))
        np.testing.assert_array_equal(m, b.min(red, keepdims=True))


@pytest.mark.parametrize("shape,red", [((0,), ()), ((3, 0), ()), ((0, 5), (1,)), ((5, 0), (1,)), ((0, 5), (0,)), ((5, 0), (0,)),
                                       ((0,), (0,)), ((4, 0, 3), (0, 2)), ((100, 0, 40), (1,))])
def test_empty(shape, red):
    a = np.zeros(shape, np.float32)
    x = load(0, float32)
    if red:
        s, p = run(shape, red, [a], [reduce("sum", x), reduce("prod", x)], [False, False])
        assert (s == 0).all() and (p == 1).all()
        n = cast(count(), float32)
        run(shape, red, [a], [x - reduce("sum", x) / n])
    else:
        assert run(shape, red, [a], [P.exp(x)])[0].shape == shape


def test_sum_over_a_stride_0_operand_counts_every_element():
    a = np.float32([[2.0]])
    (s,) = run((3, 1000), (1,), [a], [reduce("sum", load(0, float32))], [False])
    assert s.tolist() == [[2000.0]] * 3


def test_long_sums_are_accurate():
    a = np.random.default_rng(13).uniform(0, 1, 1 << 22).astype(np.float32)
    for shape, red in (((1 << 22,), (0,)), ((1 << 20, 4), (0,)), ((1 << 16, 64), (0,)), ((64, 1 << 16), (1,))):
        (s,) = run(shape, red, [a.reshape(shape)], [reduce("sum", load(0, float32))], [False])
        np.testing.assert_allclose(s, a.reshape(shape).sum(red, keepdims=True, dtype=np.float64), rtol=3e-7)


def test_max_and_min_propagate_nan():
    for shape, red in (((3, 100), (1,)), ((100, 20), (0,)), ((70000,), (0,))):
        a = np.random.default_rng(7).normal(size=shape).astype(np.float32)
        a.reshape(-1)[41] = np.nan
        x = load(0, float32)
        got = run(shape, red, [a], [reduce(k, x) for k in ("max", "min", "argmax", "argmin")], [False] * 4)
        for g, want in zip(got, evaluate([reduce(k, x) for k in ("max", "min", "argmax", "argmin")], shape, red, [a])):
            np.testing.assert_array_equal(g, want)


def test_arg_reductions_take_the_first_of_equals():
    a = np.random.default_rng(8).integers(0, 3, (20, 30, 40))
    x = load(0, int64)
    for red in ((2,), (0,), (0, 2), (1, 2), (0, 1, 2)):
        for view in (a, a.transpose(2, 1, 0), a[:, ::-1]):
            values = [reduce("argmax", x), reduce("argmin", x)]
            for g, want in zip(run(view.shape, red, [view], values, [False, False]), evaluate(values, view.shape, red, [view])):
                np.testing.assert_array_equal(g, want)


@pytest.mark.parametrize("dt", ALL, ids=str)
def test_reductions_of_every_dtype(dt):
    g = np.random.default_rng(9)
    for shape, red in (((11, 70), (1,)), ((70, 11), (0,)), ((40000,), (0,))):
        a = (g.integers(0, 2, shape) if dt is bool_ else g.integers(0, 5, shape)).astype(dt.np)
        x = load(0, dt)
        total = cast(x, int64) if dt.category < 2 else x
        values = [reduce("sum", total), reduce("max", x), reduce("min", x)]
        for v, got, want in zip(values, run(shape, red, [a], values, [False] * 3), evaluate(values, shape, red, [a])):
            np.testing.assert_array_equal(got, want, repr(v))


def test_in_place_map():
    a = np.random.default_rng(10).normal(size=(50, 300)).astype(np.float32)
    want = a * 2 + np.exp(a)
    m = a.copy()
    x = load(0, float32)
    run(a.shape, (), [a], [x * 2.0 + P.exp(x), x + 1.0], outs=[a, m])
    np.testing.assert_allclose(a, want, rtol=1e-6, atol=1e-6)


# ---- calling

def test_bound_loop_with_scalars_and_wrong_arguments():
    a, out = np.arange(10, dtype=np.float32), np.empty(10, np.float32)
    call, _ = prepare((10,), (), [a], [load(0, float32) * scalar(0, float32)], [True], [float32], (float32,), [out])
    loop = native_loop(call.kernel)
    assert native_loop(call.kernel) is loop
    bound = loop.bind(call.sizes, call.strides)
    for k in (2.5, math.inf, 1e300):
        bound((address(a), address(out)), (k,))
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(out, a * np.float32(k))
    with pytest.raises(ValueError, match="2 sizes"):
        loop.bind((10, 10), call.strides)


def test_native_loops_compiles_ahead():
    x = load(0, float32)
    calls = [prepare((9, 11), red, [np.zeros((9, 11), np.float32)], [v], [f], [float32])[0]
             for red, v, f in (((), x * 3.0, True), ((1,), reduce("sum", x * 3.0), False), ((0,), reduce("sum", x * 3.0), False))]
    loops = native_loops([c.kernel for c in calls], [c.sizes for c in calls])
    assert [list(loop.compiled) for loop in loops] == [["map"], ["rows"], ["columns"]]
    assert native_loops([c.kernel for c in calls]) == loops


def test_concurrent_callers():
    a = np.random.default_rng(11).normal(size=(300, 400)).astype(np.float32)
    x = load(0, float32)
    call, (want,) = prepare(a.shape, (1,), [a], [softmax_of(x)], [True], [float32])
    bound = native_loop(call.kernel).bind(call.sizes, call.strides, 3)
    bound([address(a), address(want)])
    wrong = []

    def work() -> None:
        out = np.empty_like(a)
        for _ in range(100):
            out[:] = 0
            bound([address(a), address(out)])
            if not np.array_equal(out, want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_after_fork_the_child_has_its_own_workers():
    a = np.random.default_rng(12).normal(size=(300, 1000)).astype(np.float32)
    x = load(0, float32)
    (want,) = run(a.shape, (1,), [a], [softmax_of(x)], threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads at fork
        child = os.fork()
    if child == 0:
        status = 1
        try:
            (got,) = run(a.shape, (1,), [a], [softmax_of(x)], threads=2)
            status = 0 if np.array_equal(got, want) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_number_of_threads():
    with config.override(num_threads=0):
        assert cpu_pool.get_num_threads() == len(os.sched_getaffinity(0))
        cpu_pool.set_num_threads(3)
        assert cpu_pool.get_num_threads() == 3
        with pytest.raises(RuntimeError, match="positive"):
            cpu_pool.set_num_threads(0)


_JOBS = """
import ctypes, time
from fusetorch.runtime import cpu_jit, cpu_pool

count = cpu_jit.compile_ir('''
define void @count(ptr %a, i64 %lo, i64 %hi) {
  %n = sub i64 %hi, %lo
  %d = atomicrmw add ptr %a, i64 %n monotonic
  ret void
}
''', ["count"])["count"]
done = ctypes.c_int64(0)
phases = (2, 50, 3, 500) * 50
slots = [ctypes.addressof(done), 7, len(phases)] + [slot for n in phases for slot in (count, n, 1, n)]
job = (ctypes.c_int64 * len(slots))(*slots)
end = time.monotonic() + 4
while time.monotonic() < end:
    done.value = 0
    cpu_pool.run(ctypes.addressof(job), 8)
    assert done.value == sum(phases), done.value
"""


def test_workers_that_are_late_take_nothing():
    # phases of few and of many chunks by turns, on more threads than there are cores: a worker often wakes when its phase is over
    subprocess.run([sys.executable, "-c", _JOBS], check=True, timeout=120)


def test_generated_code_can_be_read(tmp_path, capsys):
    call, _ = prepare((50,), (), [np.zeros(50, np.float32)], [load(0, float32) * 17.25], [True], [float32])
    with config.override(dump_dir=str(tmp_path / "dump"), debug=3):
        NativeLoop(call.kernel).bind(call.sizes, call.strides)
    (path,) = entries(tmp_path)
    text = path.read_text()
    assert "define void" in text and text in capsys.readouterr().err
    assert "define void" in cpu_jit.optimised(text) and "ret" in cpu_jit.assembly(text)


# ---- the disk cache

IR = "define i64 @answer{n}() {{ ret i64 {n} }}"


def entries(folder) -> list:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_cache_hit_and_damaged_entry(tmp_path, monkeypatch):
    compiled = []
    real = cpu_jit._compile
    monkeypatch.setattr(cpu_jit, "_compile", lambda m, ir: compiled.append(1) or real(m, ir))
    with config.override(cache_dir=str(tmp_path)):
        import ctypes
        for expected in (1, 1):
            at = cpu_jit.compile_ir(IR.format(n=41), ["answer41"])["answer41"]
            assert ctypes.CFUNCTYPE(ctypes.c_int64)(at)() == 41
            assert len(compiled) == expected
        (path,) = entries(tmp_path)
        good = path.read_bytes()
        for bad in (good[:-5], b"", good[:60] + b"x" + good[61:], b"something else"):
            path.write_bytes(bad)
            n = len(compiled)
            cpu_jit.compile_ir(IR.format(n=41), ["answer41"])
            assert len(compiled) == n + 1
            assert path.read_bytes() == good
        assert len(entries(tmp_path)) == 1  # nothing half-written is left


def test_unwritable_cache_warns_once(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_jit, "_warned", False)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with config.override(cache_dir=str(blocked)):
        with pytest.warns(UserWarning, match="FUSETORCH_CACHE_DIR"):
            cpu_jit.compile_ir(IR.format(n=42), ["answer42"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cpu_jit.compile_ir(IR.format(n=43), ["answer43"])


def test_cache_can_be_switched_off(tmp_path):
    with config.override(cache_dir=str(tmp_path), cache=False):
        cpu_jit.compile_ir(IR.format(n=44), ["answer44"])
    assert not entries(tmp_path)


def test_bad_ir_raises():
    with pytest.raises(RuntimeError):
        cpu_jit.compile_ir("define i64 @bad() { ret i32 1 }", ["bad"])


def test_two_processes_share_the_cache(tmp_path):
    code = ("from fusetorch.runtime import cpu_jit\n"
            "for n in range(20): cpu_jit.compile_ir('define i64 @f%d() { ret i64 %d }' % (n, n), ['f%d' % n])\n")
    environment = dict(os.environ, FUSETORCH_CACHE_DIR=str(tmp_path))
    children = [subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environment) for _ in range(2)]
    assert [c.wait(60) for c in children] == [0, 0]
    assert len(entries(tmp_path)) == 20


# ---- memory

def test_address():
    a = np.arange(24, dtype=np.int16).reshape(4, 6)
    for v in (a, a[1:, ::-1], a.T[2:], np.broadcast_to(a[0], (9, 6)), np.zeros(0), np.float32([1])[0:1]):
        assert address(v) == v.__array_interface__["data"][0]


def test_large_arrays_are_recycled_when_the_last_view_dies():
    cpu_memory.empty_cache()
    before = cpu_memory.memory_stats()["current"]
    a = cpu_memory.empty((300, 1000), np.float32)
    assert type(a) is np.ndarray and a.flags.c_contiguous and a.flags.writeable and address(a) % 64 == 0
    at, view = address(a), a.T[5:]
    used = cpu_memory.memory_stats()["current"] - before
    assert a.nbytes <= used <= a.nbytes * 1.125 + 4096
    del a
    assert cpu_memory.memory_stats()["current"] - before == used
    b = cpu_memory.empty((300, 1000), np.float32)
    assert address(b) != at
    del view
    assert cpu_memory.memory_stats()["cached"] == used
    c = cpu_memory.empty((1000, 300), np.float32)
    assert address(c) == at
    del b, c
    assert cpu_memory.memory_stats()["current"] == before


def test_peak_and_limit(monkeypatch):
    cpu_memory.empty_cache()
    cpu_memory.reset_peak()
    before = cpu_memory.memory_stats()
    assert before["peak"] == before["current"] and before["cached"] == 0
    arrays = [cpu_memory.empty((1 << 20,), np.uint8) for _ in range(4)]
    monkeypatch.setattr(cpu_memory._blocks, "limit", 2 << 20)
    del arrays
    after = cpu_memory.memory_stats()
    assert after == {"current": before["current"], "peak": before["current"] + (4 << 20), "cached": 2 << 20}
    cpu_memory.empty_cache()
    assert cpu_memory.memory_stats()["cached"] == 0


def test_small_and_odd_arrays():
    for shape, dt in (((), np.float64), ((0, 5), np.int8), ((3,), np.bool_), ((70000,), ml_dtypes.bfloat16), ((5, 0, 10**6), np.int64)):
        a = cpu_memory.empty(shape, dt)
        assert a.shape == shape and a.dtype == dt


def test_memory_from_many_threads():
    cpu_memory.empty_cache()
    before = cpu_memory.memory_stats()["current"]

    def work(k: int) -> None:
        r = random.Random(k)
        held = []
        for _ in range(300):
            a = cpu_memory.empty((r.choice([70000, 100000, 200000]),), np.uint8)
            a[:] = k
            held.append(a)
            if len(held) > 5:
                dead = held.pop(r.randrange(5))
                assert (dead == k).all()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cpu_memory.memory_stats()["current"] == before
