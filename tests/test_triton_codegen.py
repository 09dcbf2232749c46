"""Generated Triton loops: their numbers against NumPy in the interpreter, and their machine code."""
from __future__ import annotations

import ast
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from cubin_report import report

from fusetorch import config, dtypes
from fusetorch.codegen.loop import LoopCall, Operand, schedule
from fusetorch.codegen.numpy_source import numpy_function
from fusetorch.codegen.triton import Geometry, triton_loop
from fusetorch.codegen.triton_source import write
from fusetorch.dtypes import (
    FLOATS,
    HALVES,
    INTEGERS,
    bfloat16,
    bool_,
    dtype,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
)
from fusetorch.errors import CompileError
from fusetorch.ops import primitives as P
from fusetorch.ops.expr import Expr, cast, const, count, iota, load, reduce, scalar
from fusetorch.runtime.launch import launch_count
from fusetorch.runtime.memory import empty, from_numpy, to_numpy
from fusetorch.runtime.stub import stub_gpu
from fusetorch.triton_kernels.scalar import SCALARS


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with config.override(cache_dir=str(tmp_path_factory.mktemp("cache"))):
        yield


RNG = np.random.default_rng(0)

#: What a kernel computes with; complex numbers come to it as pairs (test_complex.py).
ALL = [d for d in dtypes.ALL if not d.is_complex]


def values_of(shape: Sequence[int], d: dtype) -> np.ndarray:
    if d.is_floating_point:
        return RNG.uniform(-2, 2, shape).astype(np.float32).astype(d.np)
    return RNG.integers(0, 2 if d is bool_ else 7, shape).astype(d.np)


@dataclass
class Loop:
    """An index space with arrays (broadcast against it, any strides) and what to compute."""

    shape: tuple[int, ...]
    reduced: tuple[int, ...]
    arrays: list[np.ndarray]
    out_dtypes: list[dtype]
    values: list[Expr]
    full: list[bool]
    scalar_types: tuple[dtype, ...] = ()
    scalars: tuple = ()

    def out_shape(self, j: int) -> tuple[int, ...]:
        return self.shape if self.full[j] else tuple(1 if d in self.reduced else n for d, n in enumerate(self.shape))

    def schedule(self) -> LoopCall:
        def strides(shape, steps):
            lead = len(self.shape) - len(shape)
            return (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(shape, steps))

        ins = [Operand(by_np(a), strides(a.shape, [s // a.itemsize for s in a.strides])) for a in self.arrays]
        outs = [Operand(d, strides(self.out_shape(j), np.empty(self.out_shape(j), np.int8).strides))
                for j, d in enumerate(self.out_dtypes)]
        return schedule(self.shape, self.reduced, ins, outs, self.values, self.full, self.scalar_types)

    def expected(self) -> list[np.ndarray]:
        f = numpy_function(self.values, self.out_dtypes, len(self.arrays), len(self.scalars), bool(self.reduced))
        with np.errstate(all="ignore"):
            got = f(self.shape, self.reduced or None, *self.arrays, *self.scalars)
        return [np.broadcast_to(g, self.out_shape(j)) for j, g in enumerate(got)]

    def run(self, geometry: Geometry | None = None) -> list[np.ndarray]:
        call = self.schedule()
        ins = []
        for a in self.arrays:
            base = a
            while base.base is not None and isinstance(base.base, np.ndarray):
                base = base.base
            offset = (a.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // a.itemsize
            ins.append(from_numpy(base).view(a.shape, tuple(s // a.itemsize for s in a.strides), offset))
        outs = [empty(self.out_shape(j), d) for j, d in enumerate(self.out_dtypes)]
        triton_loop(call.kernel).bind(call.sizes, call.strides, geometry)([*ins, *outs], self.scalars)
        return [to_numpy(o) for o in outs]

    def check(self, geometry: Geometry | None = None, rtol: float = 2e-6, atol: float = 2e-6) -> None:
        for got, want, d in zip(self.run(geometry), self.expected(), self.out_dtypes):
            if d.is_floating_point:
                slack = {float16: 1e-3, bfloat16: 8e-3}.get(d, rtol)
                np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=slack, atol=max(atol, slack * 1e-2))
            else:
                np.testing.assert_array_equal(got, want)


def by_np(a: np.ndarray) -> dtype:
    return next(d for d in ALL if d.np == a.dtype)


def stored(i: int, d: dtype) -> Expr:
    """A load as it is stored (half types too)."""
    return Expr("load", (), i, d)


def softmax(x: Expr) -> Expr:
    e = P.exp(x - reduce("max", x))
    return e / reduce("sum", e)


def layer_norm(x: Expr, w: Expr, b: Expr) -> list[Expr]:
    n = cast(count(), x.dtype)
    mean = reduce("sum", x) / n
    d = x - mean
    rstd = P.rsqrt(reduce("sum", d * d) / n + 1e-5)
    return [d * rstd * w + b, mean, rstd]


# ---------------------------------------------------------------------------------------------------- pointwise


@pytest.mark.parametrize("d", ALL, ids=lambda d: d.name)
def test_every_dtype_goes_in_and_out(simulated, d):
    x, y = load(0, d), load(1, d)
    a, b = values_of((37, 21), d), values_of((21,), d)
    Loop((37, 21), (), [a, b], [d, bool_], [P.maximum(x, y), P.lt(x, y)], [True, True]).check(rtol=0)


@pytest.mark.parametrize("src,dst", list(itertools.product(ALL, ALL)), ids=lambda d: d.name)
def test_conversions(simulated, src, dst):
    a = values_of((40,), src)
    to = float32 if dst in HALVES else dst
    Loop((40,), (), [a], [dst], [cast(load(0, src), to)], [True]).check(rtol=0)


def layouts(shape=(6, 10, 14)):
    base = values_of(shape, float32)
    wide = values_of((6, 10, 28), float32)
    return {"contiguous": base, "transposed": values_of((14, 10, 6), float32).transpose(2, 1, 0),
            "middle": values_of((10, 6, 14), float32).transpose(1, 0, 2), "row": values_of((14,), float32),
            "column": values_of((6, 1, 1), float32), "inner": values_of((10, 1), float32), "scalar": values_of((), float32),
            "strided": wide[:, :, ::2], "offset": wide[:, :, 3:17], "every other row": values_of((12, 10, 14), float32)[::2]}


@pytest.mark.parametrize("one,two", list(itertools.combinations_with_replacement(layouts(), 2)))
def test_layouts(simulated, one, two):
    found = layouts()
    a, b = found[one], found[two]
    shape = np.broadcast_shapes(a.shape, b.shape)
    Loop(shape, (), [a, b], [float32], [load(0, float32) - load(1, float32) * 2.0], [True]).check(rtol=0)


@pytest.mark.parametrize("bm,bn", [(1, 16), (4, 4), (2, 32), (16, 8), (64, 16)])
def test_partial_tiles_of_a_map(simulated, bm, bn):
    a = values_of((13, 14), float32)
    Loop((13, 14), (), [a, a.T.copy().T], [float32], [load(0, float32) + load(1, float32)], [True]).check(
        Geometry("map", bm, bn), rtol=0)


@pytest.mark.parametrize("n", [1, 15, 16, 1023, 1024, 1025, 5000])
def test_one_dimension(simulated, n):
    Loop((n,), (), [values_of((n,), float32)], [float32], [P.exp(load(0, float32))], [True]).check(Geometry("map", 1, 1024), rtol=0)


def test_empty_space_launches_nothing(simulated):
    before = launch_count()
    Loop((0, 5), (), [values_of((0, 5), float32)], [float32], [load(0, float32) + 1.0], [True]).check()
    assert launch_count() == before


def test_scalars_of_every_type(simulated):
    a = values_of((50,), float64)
    third = scalar(0, float64)
    Loop((50,), (), [a], [float64], [load(0, float64) * third], [True], (float64,), (1 / 3,)).check(rtol=0)
    for d, s in ((float32, 0.1), (int32, 1), (int32, -7), (int64, 2**40 + 1), (int8, 3), (uint8, 200), (bool_, True)):
        Loop((50,), (), [values_of((50,), d)], [d], [P.maximum(load(0, d), scalar(0, d))], [True], (d,), (s,)).check(rtol=0)


@pytest.mark.parametrize("value,d", [(-0.0, float32), (-0.0, float64), (float("nan"), float32), (float("inf"), float64),
                                     (float("-inf"), float32), (0.1, float64), (2**53 + 1, int64), (-128, int8), (True, bool_),
                                     (1e-42, float32)])
def test_constants_keep_their_bits(simulated, value, d):
    got, = Loop((3,), (), [values_of((3,), d)], [d], [P.where(const(True), const(value, d), load(0, d))], [True]).run()
    np.testing.assert_array_equal(got.view(np.uint8), np.full(3, value, d.np).view(np.uint8))


def test_positions(simulated):
    a = values_of((4, 5, 6), float32).transpose(1, 0, 2)
    for which in ("linear", ("dim", 0), ("dim", 1), ("dim", 2)):
        Loop(a.shape, (), [a], [int64], [iota(which) + cast(load(0, float32) * 0.0, int64)], [True]).check()


def test_random_numbers_are_those_of_the_cpu(simulated):
    seed = np.array(1234567, np.int64)
    u = P.uniform01(load(0, int64), iota("linear") + load(1, int64))
    Loop((8, 40), (), [seed, np.array(2**33 + 5, np.int64)], [float32], [u], [True]).check(rtol=0, atol=0)


UNARY = [p for p in P.PRIMITIVES.values() if p.llvm and p.arity == 1 and p.name not in ("cast", "digamma", "lgamma", "erfc", "erfinv")]


@pytest.mark.parametrize("p", UNARY, ids=lambda p: p.name)
def test_unary_primitives(simulated, p):
    d = int32 if "f" not in p.llvm else float32
    Loop((64,), (), [values_of((64,), d)], [p.result(d) if callable(p.result) else p.result or d], [p(load(0, d))], [True]).check(rtol=3e-6)


BINARY = [p for p in P.PRIMITIVES.values() if p.arity == 2]


@pytest.mark.parametrize("p", BINARY, ids=lambda p: p.name)
def test_binary_primitives(simulated, p):
    for d in (float32, int32, uint8, bool_):
        kind = "f" if d.is_floating_point else "b" if d is bool_ else "s" if d.is_signed else "u"
        if p.name == "sub" and d is bool_:
            continue  # NumPy has none
        if kind in p.llvm or (kind in "su" and "i" in p.llvm):
            a, b = values_of((64,), d), values_of((64,), d)
            b = np.where(b == 0, 1, b).astype(d.np) if p.name in ("floor_divide", "remainder", "fmod") else b
            a = np.abs(a) if p.name == "pow" else a
            Loop((64,), (), [a, b], [p.result or d], [p(load(0, d), load(1, d))], [True]).check(rtol=3e-6)


def test_a_primitive_is_a_device_function():
    assert {name for name, p in P.PRIMITIVES.items() if p.llvm} <= set(SCALARS)


def test_fused_equals_one_by_one_to_the_bit(simulated):
    x, y, z = (load(i, float32) for i in range(3))
    arrays = [values_of((33, 65), float32) for _ in range(3)]
    steps = [(P.mul, 0, 1), (P.add, 3, 2), (P.exp, 4), (P.div, 5, 0), (P.tanh, 6), (P.sub, 7, 3), (P.sqrt, 5), (P.mul, 8, 9)]
    exprs, made = [x, y, z], list(arrays)
    for p, *k in steps:
        exprs.append(p(*[exprs[i] for i in k]))
        one = p(*[load(j, float32) for j in range(len(k))])
        made += Loop((33, 65), (), [made[i] for i in k], [float32], [one], [True]).run()
    fused = Loop((33, 65), (), arrays, [float32] * 8, exprs[3:], [True] * 8).run()
    for one, together in zip(made[3:], fused):
        np.testing.assert_array_equal(one.view(np.int32), together.view(np.int32))


def test_half_types_are_rounded_once(simulated):
    a, b = (values_of((500,), bfloat16) for _ in range(2))
    x, y = load(0, bfloat16), load(1, bfloat16)
    got, = Loop((500,), (), [a, b], [bfloat16], [(x * y + x) * y], [True]).run()
    f, g = a.astype(np.float32), b.astype(np.float32)
    np.testing.assert_array_equal(got, ((f * g + f) * g).astype(bfloat16.np))
    got, = Loop((500,), (), [a, b], [bfloat16], [cast(cast(x * y, bfloat16), float32) + x], [True]).run()
    np.testing.assert_array_equal(got, ((f * g).astype(bfloat16.np).astype(np.float32) + f).astype(bfloat16.np))


def test_in_place(simulated):
    a = values_of((20, 30), float32)
    case = Loop((20, 30), (), [a], [float32], [load(0, float32) * 2.0 + 1.0], [True])
    call = case.schedule()
    x = from_numpy(a)
    triton_loop(call.kernel)([x, x], call.sizes, call.strides)
    np.testing.assert_array_equal(to_numpy(x), a * 2 + 1)


# ---------------------------------------------------------------------------------------------------- reductions

#: flavour, rows and columns of a tile, tiles in a part of a row; the chosen geometry first
WAYS = [None, ("block", 4, 0, 0), ("block", 32, 0, 0), ("loop", 4, 16, 0), ("loop", 1, 64, 0), ("split", 4, 8, 2), ("split", 16, 16, 1),
        ("split", 2, 4, 3)]


@pytest.fixture(params=WAYS, ids=["chosen"] + ["-".join(map(str, w)) for w in WAYS[1:]])
def way(request):
    return request.param


def geometry(way, columns: int) -> Geometry | None:
    if way is None:
        return None
    flavour, bm, bn, chunk = way
    return Geometry(flavour, bm, bn or 1 << (columns - 1).bit_length(), 4, -(-columns // (bn * chunk)) if chunk else 1, chunk)


def test_softmax(simulated, way):
    Loop((11, 39), (1,), [values_of((11, 39), float32)], [float32], [softmax(load(0, float32))], [True]).check(geometry(way, 39))


def test_layer_norm(simulated, way):
    arrays = [values_of((11, 39), float32), values_of((39,), float32), values_of((39,), float32)]
    out = layer_norm(*[load(i, float32) for i in range(3)])
    Loop((11, 39), (1,), arrays, [float32] * 3, out, [True, False, False]).check(geometry(way, 39), atol=1e-5)


def test_columns(simulated, way):
    a = values_of((39, 11), float32)
    Loop((39, 11), (0,), [a], [float32, float32], [reduce("sum", load(0, float32)), reduce("max", load(0, float32))],
         [False, False]).check(geometry(way, 39), rtol=1e-5)


def test_outer_and_inner_dimensions(simulated, way):
    a = values_of((3, 5, 13), float32)
    x = load(0, float32)
    mean = reduce("sum", x) / cast(count(), float32)
    Loop((3, 5, 13), (0, 2), [a], [float32, float32], [x - mean, mean], [True, False]).check(geometry(way, 39), rtol=1e-5)
    Loop((3, 5, 13), (0, 1, 2), [a], [float32], [reduce("sum", x * x)], [False]).check(geometry(way, 195), rtol=1e-5)


def test_several_reductions_of_several_inputs(simulated, way):
    a, b, c = values_of((11, 39), float32), values_of((11, 1), float32), values_of((39,), bfloat16)
    x, y, z = load(0, float32), load(1, float32), load(2, bfloat16)
    first = reduce("sum", x * y)
    second = reduce("min", z - first)
    third = reduce("prod", P.where(x > second, const(1.5, float32), const(1.0, float32)))
    Loop((11, 39), (1,), [a, b, c], [float32, bfloat16, float32], [third + first, x * second, first], [False, True, False]).check(
        geometry(way, 39), rtol=1e-5)


@pytest.mark.parametrize("d", ALL, ids=lambda d: d.name)
def test_reductions_of_every_dtype(simulated, way, d):
    a = values_of((7, 39), d)
    x = load(0, d)
    kinds = ["max", "min", "argmax", "argmin"] + ([] if d.is_floating_point else ["sum", "prod"])
    out = [reduce(k, x) for k in kinds]
    Loop((7, 39), (1,), [a], [int64 if k.startswith("arg") else d for k in kinds], out, [False] * len(kinds)).check(geometry(way, 39))


@pytest.mark.parametrize("d", FLOATS, ids=lambda d: d.name)
def test_nan_wins_and_the_first_of_equals(simulated, way, d):
    a = values_of((6, 39), d)
    a[0, [5, 30]] = np.nan
    a[1, [4, 20, 38]] = 5
    a[2, [7, 21]] = -5
    a[3] = 1
    a[4] = np.inf
    a[5] = -np.inf
    x = load(0, d)
    case = Loop((6, 39), (1,), [a], [d, d, int64, int64], [reduce(k, x) for k in ("max", "min", "argmax", "argmin")], [False] * 4)
    case.check(geometry(way, 39))
    largest, smallest, where_largest, where_smallest = (r[:, 0] for r in case.run(geometry(way, 39)))
    assert np.isnan(largest[0]) and np.isnan(smallest[0])
    assert where_largest.tolist()[:2] == [5, 4] and where_smallest.tolist()[0] == 5 and where_smallest.tolist()[2] == 7
    assert where_largest.tolist()[3:] == [0, 0, 0] and where_smallest.tolist()[3:] == [0, 0, 0]


def test_position_among_several_dimensions(simulated, way):
    a = values_of((5, 3, 13), float32).transpose(1, 0, 2)
    x = load(0, float32)
    Loop((3, 5, 13), (1, 2), [a], [int64], [reduce("argmax", x)], [False]).check(geometry(way, 65))
    Loop((3, 5, 13), (0, 2), [a], [int64], [reduce("argmin", x)], [False]).check(geometry(way, 39))


def test_what_does_not_vary_counts_once_a_position(simulated, way):
    b = values_of((7, 1), float32)
    Loop((7, 39), (1,), [b], [float32, int64], [reduce("sum", load(0, float32)), reduce("sum", const(1, int64))],
         [False, False]).check(geometry(way, 39), rtol=1e-5)


def test_positions_in_a_reduction(simulated, way):
    a = values_of((7, 39), float32)
    inner = reduce("sum", iota("inner") * cast(load(0, float32) > 0, int64))
    Loop((7, 39), (1,), [a], [int64, int64], [inner, iota("linear") + inner], [False, True]).check(geometry(way, 39))


def test_reduction_over_nothing(simulated):
    a = values_of((5, 0), float32)
    got = Loop((5, 0), (1,), [a], [float32, float32], [reduce("sum", load(0, float32)), reduce("prod", load(0, float32))],
               [False, False]).run()
    np.testing.assert_array_equal(got[0], np.zeros((5, 1)))
    np.testing.assert_array_equal(got[1], np.ones((5, 1)))


def test_runs_are_equal_to_the_bit(simulated):
    case = Loop((3, 4000), (1,), [values_of((3, 4000), float32)], [float32], [reduce("sum", load(0, float32))], [False])
    g = Geometry("split", 1, 128, 4, 8, 4)
    first = case.run(g)[0]
    for _ in range(2):
        np.testing.assert_array_equal(first.view(np.int32), case.run(g)[0].view(np.int32))


# ---------------------------------------------------------------------------------------------------- the object


def row_call(shape=(64, 1000)) -> LoopCall:
    return Loop(shape, (1,), [np.empty(shape, np.float32)], [float32], [softmax(load(0, float32))], [True]).schedule()


def test_one_loop_for_one_kernel_and_readable_source():
    call = row_call()
    loop = triton_loop(call.kernel)
    assert triton_loop(row_call((32, 500)).kernel) is loop
    for flavour in ("block", "loop", "split"):
        module = write(call.kernel, flavour)
        ast.parse(module.text)
        for op in ("scalar.exp", "scalar.sub", "scalar.div", "# max", "# sum"):
            assert op in module.text
        assert module.name.startswith("loop_max_sub_exp_sum_div_")
        assert write(call.kernel, flavour) == module
        assert max(map(len, module.text.splitlines())) < 400
    assert loop.source == write(call.kernel, "block").text
    with pytest.raises(ValueError, match="flavour"):
        write(call.kernel, "map")


def test_source_is_kept_where_it_can_be_read(tmp_path):
    with config.override(cache_dir=str(tmp_path)):
        call = Loop((9,), (), [np.empty(9, np.float32)], [float32], [P.exp2(load(0, float32)) - 0.375], [True]).schedule()
        loop = triton_loop(call.kernel)
        module, kernels = loop.module("map")
        path = tmp_path / "triton_source" / f"{module.name}.py"
        assert path.read_text() == module.text
        assert kernels[0].fn.fn.__code__.co_filename == str(path)
        path.unlink()  # Triton reads it from memory all the same
        assert loop.compile(call, 90)[0].cubin


def test_wrong_arguments():
    call = row_call()
    with pytest.raises(ValueError, match="2 axes and 4 strides was given 1 sizes and 4 strides"):
        triton_loop(call.kernel).bind(call.sizes[:1], call.strides)
    with pytest.raises(ValueError, match="does not cover rows of 1000"):
        triton_loop(call.kernel).bind(call.sizes, call.strides, Geometry("block", 1, 512))


def test_addresses_and_arrays_are_the_same_call(simulated):
    a = values_of((10, 20), float32)
    call = Loop((10, 20), (1,), [a], [float32], [softmax(load(0, float32))], [True]).schedule()
    x, y, z = from_numpy(a), empty((10, 20), float32), empty((10, 20), float32)
    bound = triton_loop(call.kernel).bind(call.sizes, call.strides)
    bound([x, y])
    bound([x.ptr, z.ptr])
    np.testing.assert_array_equal(to_numpy(y), to_numpy(z))


def test_geometry_follows_from_the_call():
    def chosen(shape, reduced):
        a = np.empty((1,), np.float32)
        a = np.lib.stride_tricks.as_strided(a, shape, [4 * s for s in strides_of(shape)])
        call = Loop(shape, reduced, [a], [float32], [reduce("sum", load(0, float32))], [False]).schedule()
        return triton_loop(call.kernel).bind(call.sizes, call.strides).geometry

    assert chosen((4096, 1024), (1,)).flavour == "block"
    assert chosen((4096, 100_000), (1,)).flavour == "loop"
    assert chosen((4, 1_000_000), (1,)).flavour == "split"
    assert chosen((100_000_000,), (0,)).flavour == "split"
    assert chosen((32, 4096), (0,)).flavour == "block"
    assert chosen((10_000, 64), (0,)).flavour == "split"
    assert chosen((1000, 100_000), (0,)).flavour == "loop"
    g = chosen((4, 1_000_000), (1,))
    assert (g.splits - 1) * g.chunk * g.bn < 1_000_000 <= g.splits * g.chunk * g.bn


def strides_of(shape):
    return [int(np.prod(shape[i + 1:])) for i in range(len(shape))]


def test_large_indices_are_64_bit():
    def index_type(shape):
        a = np.lib.stride_tricks.as_strided(np.empty(1, np.float32), shape, [4 * s for s in strides_of(shape)])
        call = Loop(shape, (), [a], [float32], [load(0, float32) + 1.0], [True]).schedule()
        bound = triton_loop(call.kernel).bind(call.sizes, call.strides)
        return bound._steps[0].constants["INDEX"].name

    assert index_type((2**30,)) == "int32"
    assert index_type((2**31,)) == "int64"


def test_launch_on_a_stub_gpu():
    rows = Loop((4, 500_000), (1,), [np.empty((4, 500_000), np.float32)], [float32], [softmax(load(0, float32))], [True]).schedule()
    with stub_gpu() as gpu:
        x, y = empty((4, 500_000), float32), empty((4, 500_000), float32)
        bound = triton_loop(rows.kernel).bind(rows.sizes, rows.strides)
        bound([x, y])
        bound([x.ptr, y.ptr])
        assert bound.launches == 3 and len(gpu.launches) == 6
        g = bound.geometry
        assert [launch.grid for launch in gpu.launches[:3]] == [(4, g.splits, 1)] * 3
        assert len(gpu.kernels) == 3
        bound([x.ptr + 4, y.ptr])  # another alignment is another kernel
        assert len(gpu.kernels) == 6
    with stub_gpu() as other:  # nothing is kept of the driver before
        bound([x, y])
        assert len(other.launches) == 3


def test_scalars_reach_the_driver_as_they_are():
    kinds = (float32, float64, int64, int32, bool_, uint8)
    given = (0.1, 0.1, 2**40 + 1, -7, True, 200)
    values = [P.maximum(load(i, d), scalar(i, d)) for i, d in enumerate(kinds)]
    call = Loop((64,), (), [np.empty(64, d.np) for d in kinds], list(kinds), values, [True] * 6, kinds, given).schedule()
    with stub_gpu() as gpu:
        arrays = [empty((64,), d) for d in kinds * 2]
        triton_loop(call.kernel).bind(call.sizes, call.strides)(arrays, given)
        launch, = gpu.launches
    assert [kind for _, kind in launch.kernel.live][-6:] == ["fp32", "fp64", "i64", "i32", "i32", "i32"]
    codes = zip("fdqiii", launch.parameters[-8:-2])  # two pointers to scratch memory come last
    assert [struct.unpack_from("<" + c, slot)[0] for c, slot in codes] == [np.float32(0.1), 0.1, 2**40 + 1, -7, 1, 200]


def test_a_kernel_that_cannot_be_compiled_names_its_source():
    call = Loop((9,), (), [np.empty(9, np.float32)], [float32], [Expr("philox", (load(0, float32),) * 3, None, int32)], [True])
    with pytest.raises(CompileError, match=r"loop_philox_\w+.*triton_source"):
        triton_loop(call.schedule().kernel).compile(call.schedule(), 90)


# ---------------------------------------------------------------------------------------------------- machine code


def big(shape: tuple[int, ...], d: dtype, order: Sequence[int] | None = None) -> np.ndarray:
    """An array of which only the layout is real; ``order`` permutes a contiguous one."""
    order = list(order or range(len(shape)))
    dense = [shape[k] for k in order]
    steps = dict(zip(order, strides_of(dense)))
    return np.lib.stride_tricks.as_strided(np.empty(1, d.np), shape, [steps[k] * d.itemsize for k in range(len(shape))])


def gelu(x: Expr) -> Expr:
    return x * 0.5 * (P.erf(x * 0.5**0.5) + 1.0)


def adam(p: Expr, g: Expr, m: Expr, v: Expr) -> list[Expr]:
    lr, c1, c2 = (scalar(i, float32) for i in range(3))
    m = m * 0.9 + g * 0.1
    v = v * 0.999 + g * g * 0.001
    return [p - lr * (m / c1) / (P.sqrt(v / c2) + 1e-8) - lr * p * 0.01, m, v]


def layer_norm_grad(g: Expr, x: Expr, mean: Expr, rstd: Expr, w: Expr) -> Expr:
    n = cast(count(), float32)
    xhat = (x - mean) * rstd
    wg = g * w
    return rstd * (wg - reduce("sum", wg) / n - xhat * (reduce("sum", wg * xhat) / n))


def much_kept(x: Expr) -> list[Expr]:
    e, s, t = P.exp(x), P.expm1(x), P.tanh(x)
    return [e * reduce("sum", s) + t, (s - reduce("max", x)) / reduce("sum", e * reduce("max", x))]


F = [load(i, float32) for i in range(8)]
KERNELS = {
    "add": Loop((1 << 20,), (), [big((1 << 20,), float32)] * 2, [float32], [F[0] * F[1] + F[0]], [True]),
    "odd": Loop(((1 << 20) + 1,), (), [big(((1 << 20) + 1,), float32)] * 2, [float32], [F[0] / F[1]], [True]),
    "bfloat16": Loop((4096, 1024), (), [big((4096, 1024), bfloat16), big((1024,), bfloat16)], [bfloat16],
                     [gelu(load(0, bfloat16) + load(1, bfloat16))], [True]),
    "float64": Loop((4096, 1000), (), [big((4096, 1000), float64), big((1000,), float64)], [float64],
                    [load(0, float64) * load(1, float64)], [True]),
    "bias gelu": Loop((4096, 1000), (), [big((4096, 1000), float32), big((1000,), float32)], [float32], [gelu(F[0] + F[1])], [True]),
    "row scale": Loop((4096, 1024), (), [big((4096, 1024), float32), big((4096, 1), float32)], [float32], [F[0] * F[1]], [True]),
    "transposed": Loop((1024, 1024), (), [big((1024, 1024), float32), big((1024, 1024), float32, (1, 0))], [float32],
                       [F[0] + F[1]], [True]),
    "channels last": Loop((8, 64, 3136), (), [big((8, 64, 3136), float32, (0, 2, 1))], [float32], [F[0] * 2.0], [True]),
    "adam": Loop((1 << 22,), (), [big((1 << 22,), float32)] * 4, [float32] * 3, adam(*F[:4]), [True] * 3, (float32,) * 3),
    "softmax": Loop((512, 1000), (1,), [big((512, 1000), float32)], [float32], [softmax(F[0])], [True]),
    "softmax 16384": Loop((512, 16384), (1,), [big((512, 16384), float32)], [float32], [softmax(F[0])], [True]),
    "softmax long": Loop((512, 50_000), (1,), [big((512, 50_000), float32)], [float32], [softmax(F[0])], [True]),
    "softmax few": Loop((4, 1_000_000), (1,), [big((4, 1_000_000), float32)], [float32], [softmax(F[0])], [True]),
    "softmax columns": Loop((32, 64, 3136), (1,), [big((32, 64, 3136), float32)], [float32], [softmax(F[0])], [True]),
    "softmax half": Loop((512, 4096), (1,), [big((512, 4096), float16)], [float16], [softmax(load(0, float16))], [True]),
    "softmax double": Loop((512, 4096), (1,), [big((512, 4096), float64)], [float64], [softmax(load(0, float64))], [True]),
    "layer norm": Loop((512, 8192), (1,), [big((512, 8192), float32), big((8192,), float32), big((8192,), float32)], [float32] * 3,
                       layer_norm(*F[:3]), [True, False, False]),
    "layer norm long": Loop((512, 20_000), (1,), [big((512, 20_000), float32)] + [big((20_000,), float32)] * 2, [float32] * 3,
                            layer_norm(*F[:3]), [True, False, False]),
    "layer norm backward": Loop((512, 8192), (1,), [big((512, 8192), float32)] * 2 + [big((512, 1), float32)] * 2
                                + [big((8192,), float32)], [float32], [layer_norm_grad(*F[:5])], [True]),
    "sum of columns": Loop((4096, 4096), (0,), [big((4096, 4096), float32)], [float32], [reduce("sum", F[0] * 2.0)], [False]),
    "sum of many columns": Loop((4096, 65536), (0,), [big((4096, 65536), float32)], [float32], [reduce("sum", F[0])], [False]),
    "sum of all": Loop(((1 << 24) + 1,), (0,), [big(((1 << 24) + 1,), float32)], [float32], [reduce("sum", F[0] * F[0])], [False]),
    "argmax": Loop((4096, 1024), (1,), [big((4096, 1024), float32)], [int64], [reduce("argmax", F[0])], [False]),
    "argmax of all": Loop((1 << 24,), (0,), [big((1 << 24,), float32)], [int64], [reduce("argmax", F[0])], [False]),
    "batch statistics": Loop((32, 64, 3136), (0, 2), [big((32, 64, 3136), float32)], [float32] * 2,
                             [reduce("sum", F[0]), reduce("sum", F[0] * F[0])], [False, False]),
    "many operands": Loop((4096, 1000), (), [big((4096, 1000), float32)] * 8, [float32] * 8,
                          [P.exp(F[i] * F[7 - i] + F[i * 3 % 8]) for i in range(8)], [True] * 8),
    "much kept": Loop((512, 8192), (1,), [big((512, 8192), float32)], [float32] * 2, much_kept(F[0]), [True, True]),
    "much kept long": Loop((512, 16384), (1,), [big((512, 16384), float32)], [float32] * 2, much_kept(F[0]), [True, True]),
    "64-bit indices": Loop((2**20, 4096), (1,), [big((2**20, 4096), float32)], [float32], [softmax(F[0])], [True]),
    "any": Loop((4096, 1024), (1,), [big((4096, 1024), bool_)], [bool_], [reduce("max", stored(0, bool_))], [False]),
    "sum of bytes": Loop((4096, 1024), (1,), [big((4096, 1024), int8)], [int64], [reduce("sum", cast(stored(0, int8), int64))],
                         [False]),
}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_machine_code(name, capability):
    call = KERNELS[name].schedule()
    loop = triton_loop(call.kernel)
    kernels = loop.compile(call, capability)
    assert len(kernels) == (3 if name == "softmax few" else 2 if loop.bind(call.sizes, call.strides).geometry.flavour == "split" else 1)
    for kernel in kernels:
        found = report(kernel.cubin)
        assert found.spills == 0
        assert found.hmma == found.hgmma == 0
    found = report(kernels[0].cubin)
    assert found.loads_128 >= 1
    if not name.startswith(("row", "layer norm b", "odd", "add", "adam", "sum of all", "many")):
        assert found.loads_128 == found.loads  # the partial tile of a flat array has narrow ones
    if KERNELS[name].full[0]:
        assert report(kernels[-1].cubin).stores_128 >= 1


def test_multiplication_and_addition_are_not_contracted():
    found = report(triton_loop(KERNELS["add"].schedule().kernel).compile(KERNELS["add"].schedule(), 90)[0].cubin)
    assert found.ffma == 0


def test_unaligned_buffers_have_a_kernel_of_their_own():
    call = KERNELS["softmax"].schedule()
    kernel, = triton_loop(call.kernel).compile(call, 90, aligned=False)
    assert report(kernel.cubin).loads_128 == 0


def test_every_dtype_compiles():
    for d in ALL:
        n = 4096
        x = load(0, d)
        values = [P.maximum(x, load(1, d)), *([x * 2.0] if d.is_floating_point else [])]
        case = Loop((n,), (), [big((n,), d)] * 2, [d] * len(values), values, [True] * len(values))
        found = report(triton_loop(case.schedule().kernel).compile(case.schedule(), 90)[0].cubin)
        assert found.stack <= 16  # int16: ptxas would rather keep a few words of the partial tile there than use 33 registers
        case = Loop((64, n), (1,), [big((64, n), d)], [d, int64], [reduce("max", x), reduce("argmin", x)], [False, False])
        assert report(triton_loop(case.schedule().kernel).compile(case.schedule(), 90)[0].cubin).spills == 0
    for d in INTEGERS:
        case = Loop((64, n), (1,), [big((64, n), d)], [d, d], [reduce("sum", load(0, d)), reduce("prod", load(0, d))], [False, False])
        assert triton_loop(case.schedule().kernel).compile(case.schedule(), 90)
