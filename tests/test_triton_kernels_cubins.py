"""Every hand-written Triton kernel compiled for sm_80 and sm_90 through the launch path, and held to its resource figures."""
from __future__ import annotations

import cubin_support
import pytest
from cubin_report import Report

from fusetorch import dtypes
from fusetorch.ops.primitives import PRIMITIVES
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import (
    embedding,
    gather_scatter,
    layer_norm,
    matmul,
    pointwise,
    reduce,
    scan,
    softmax,
)

f16, bf16, f32, f64, i64, i32, i8, b1 = (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, dtypes.int64,
                                         dtypes.int32, dtypes.int8, dtypes.bool_)
MODULES = (embedding, gather_scatter, layer_norm, matmul, pointwise, reduce, scan, softmax)

#: In one process, in order: the last test asks what the others saw.
pytestmark = pytest.mark.xdist_group("cubins of the hand-written kernels")


launched = cubin_support.gpu


def new(*shape: int, dt: dtypes.dtype = f32) -> DeviceArray:
    return empty(shape, dt)


def transposed(x: DeviceArray) -> DeviceArray:
    return x.view(x.shape[::-1], x.strides[::-1], x.offset)


def check(reports: dict[str, Report], *, loads: bool = True, stores: bool = True) -> None:
    """No spills; wide accesses where asked for."""
    assert reports
    for name, r in reports.items():
        assert r.spills == 0 and r.stack == 0, (name, r)
        assert not loads or r.loads_128, (name, r)
        assert not stores or r.stores_128, (name, r)


# ---- pointwise

#: libdevice keeps the reduction of large angles in local memory
LARGE_ANGLES = {"sin", "cos", "tan", "digamma"}


#: libdevice's code does not depend on the generation: for sm_80, one of each kind
OF_EACH_KIND = ("add", "div", "exp", "sin", "pow", "maximum", "gt", "where", "cast", "philox", "shift_right")


#: Rewritten over real and imaginary parts before any kernel is made.
COMPLEX_ONLY = {"real", "imag", "conj", "complex"}


@pytest.mark.parametrize("launched, name", [(90, n) for n in PRIMITIVES if n not in COMPLEX_ONLY] + [(80, n) for n in OF_EACH_KIND],
                         indirect=["launched"])
def test_scalar(launched, name):
    p = PRIMITIVES[name]
    dt = f32 if "f" in p.llvm or name in ("cast", "where") else i64
    operands = [new(4096, dt=b1)] if name == "where" else []
    operands += [new(4096, dt=dt) for _ in range(p.arity - len(operands))]
    made = bf16 if name == "cast" else p.result(dt) if callable(p.result) else p.result or dt
    r = launched(lambda: pointwise.pointwise(name, operands, made, dt))["_contiguous"]
    assert r.loads_128 and (r.stores_128 or p.result is b1)
    if name not in LARGE_ANGLES:
        assert r.spills == 0 and r.stack == 0


@pytest.mark.parametrize("name", ["add", "div", "exp", "pow", "floor_divide", "erf", "maximum", "lgamma", "tanh"])
def test_scalar_of_float64(launched, name):
    operands = [new(4096, dt=f64) for _ in range(PRIMITIVES[name].arity)]
    check(launched(lambda: pointwise.pointwise(name, operands, f64, f64)))


@pytest.mark.parametrize("name", ["pow", "remainder", "abs", "shift_right", "maximum"])
def test_scalar_of_int8(launched, name):
    operands = [new(4096, dt=i8) for _ in range(PRIMITIVES[name].arity)]
    check(launched(lambda: pointwise.pointwise(name, operands, i8, i8)), loads=False, stores=False)


@pytest.mark.parametrize("shape, dt", [((1001, 1001), f32), ((1 << 20,), bf16)])
def test_contiguous(launched, shape, dt):
    check(launched(lambda: pointwise.pointwise("add", [new(*shape, dt=dt), new(*shape, dt=dt)], dt, f32)))


BROADCASTS = {"row": ((1000, 1000), (1000,)), "column": ((1000, 1024), (1000, 1)), "one": ((1024, 1024), ()),
              "outer": ((64, 1, 64), (64, 64, 1))}


@pytest.mark.parametrize("a, b", BROADCASTS.values(), ids=BROADCASTS)
def test_broadcast(launched, a, b):
    check(launched(lambda: pointwise.pointwise("add", [new(*a), new(*b)], f32, f32)))


def test_transposed_tiles_go_through_shared_memory(launched):
    check(launched(lambda: pointwise.copy(transposed(new(1024, 1024)), new(1024, 1024))))


def test_six_dimensions(launched):
    x = new(8, 8, 8, 8, 8, 8)
    check(launched(lambda: pointwise.pointwise("neg", [transposed(x)], f32, f32)), loads=False, stores=False)


def test_fill(launched):
    check(launched(lambda: pointwise.fill(new(4096), 1)), loads=False)


# ---- reductions

REDUCTIONS = {"rows": ((4096, 1024), (1,)), "short rows": ((4096, 64), (1,)), "columns": ((4096, 1000), (0,)),
              "middle": ((64, 128, 256), (1,)), "all": ((1001, 4001), (0, 1)), "first and last": ((64, 32, 128), (0, 2))}


@pytest.mark.parametrize("shape, dims", REDUCTIONS.values(), ids=REDUCTIONS)
def test_reduce(launched, shape, dims):
    check(launched(lambda: reduce.reduce("sum", new(*shape, dt=bf16), dims, f32)), stores=False)


@pytest.mark.parametrize("kind", reduce.KINDS)
def test_reductions(launched, kind):
    out = i64 if kind.startswith("arg") else b1 if kind in ("any", "all") else f64
    check(launched(lambda: reduce.reduce(kind, new(256, 1024, dt=f64), (1,), out)), loads=not kind.startswith("arg"),
          stores=False)


def test_max_with_indices(launched):
    check(launched(lambda: reduce.max_with_indices("max", new(256, 1024), 0)), loads=False, stores=False)


# ---- matmul

LAYOUTS = {"nn": (False, False), "nt": (False, True), "tn": (True, False)}


def operands(m: int, n: int, k: int, dt: dtypes.dtype, layout: str) -> tuple[DeviceArray, DeviceArray]:
    ta, tb = LAYOUTS[layout]
    return transposed(new(k, m, dt=dt)) if ta else new(m, k, dt=dt), transposed(new(n, k, dt=dt)) if tb else new(k, n, dt=dt)


@pytest.mark.parametrize("size, layout", [(4096, "nn"), (4096, "nt"), (4096, "tn"), (2040, "nt"), (256, "nn")])
def test_matmul_of_half_types(launched, size, layout):
    a, b = operands(size, size, size, bf16 if layout == "tn" else f16, layout)
    r = launched(lambda: matmul.matmul(a, b, bias=new(size, dt=a.dtype)))["_matmul"]
    assert r.spills == 0 and r.stack == 0
    assert r.async_copies_128 == r.async_copies > 0 and r.stores_128
    assert r.hgmma if launched.capability == 90 else r.hmma


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dt, tf32", [(f32, False), (f32, True), (f64, False)])
def test_matmul_of_wide_types(launched, dt, tf32, layout):
    a, b = operands(2048, 2048, 2048, dt, layout)
    r = launched(lambda: matmul.matmul(a, b, allow_tf32=tf32))["_matmul"]
    assert r.spills == 0 and r.stack == 0 and r.async_copies and r.stores_128
    if not tf32 or layout == "nt" or launched.capability == 80:
        assert r.async_copies_128  # Hopper's TF32 instruction wants k adjacent in shared memory: other layouts are turned
    if tf32:
        assert r.hgmma if launched.capability == 90 else r.hmma
    else:
        assert not r.hgmma and not r.hmma


@pytest.mark.parametrize("size", [2047, 255])
@pytest.mark.parametrize("dt", [f16, f32, f64])
def test_matmul_of_odd_sizes(launched, size, dt):
    r = launched(lambda: matmul.matmul(new(size, size, dt=dt), new(size, size, dt=dt)))["_matmul"]
    assert r.spills == 0 and r.stack == 0
    if dt is f16:
        assert r.hgmma if launched.capability == 90 else r.hmma


def test_matmul_in_parts_of_k(launched):
    with_parts = launched(lambda: matmul.matmul(new(64, 16384, dt=f16), new(16384, 64, dt=f16)))
    assert set(with_parts) == {"_matmul", "_reduce"}
    assert all(r.spills == 0 for r in with_parts.values())


def test_matmul_of_few_rows(launched):
    r = launched(lambda: matmul.matmul(new(1, 4096, dt=f16), new(4096, 8192, dt=f16)))["_matmul"]
    assert r.spills == 0 and r.hmma and r.async_copies_128


@pytest.mark.parametrize("dt", [i64, i8])
def test_matmul_of_integers(launched, dt):
    r = launched(lambda: matmul.matmul(new(512, 512, dt=dt), new(512, 512, dt=dt)))["_matmul_integer"]
    assert r.spills == 0


# ---- rows


@pytest.mark.parametrize("n", [64, 1000, 8192, 16384, 50000])
def test_softmax(launched, n):
    x = new(128, n)
    check(launched(lambda: (softmax.softmax(x), softmax.softmax_backward(x, x))))


@pytest.mark.parametrize("n, dt", [(4096, bf16), (8192, f64), (1001, f32), (10, f32)])
def test_log_softmax(launched, n, dt):
    x = new(128, n, dt=dt)
    wide = n % 16 == 0
    check(launched(lambda: (softmax.softmax(x, log=True), softmax.softmax_backward(x, x, log=True))), loads=wide, stores=wide)


@pytest.mark.parametrize("n, dt", [(64, f32), (1000, f32), (16384, f32), (50000, f32), (4096, bf16), (4096, f64)])
def test_layer_norm(launched, n, dt):
    x, w = new(256, n, dt=dt), new(n, dt=dt)

    def run():
        _, mean, rstd = layer_norm.layer_norm(x, (n,), w, w)
        layer_norm.layer_norm_backward(x, x, (n,), mean, rstd, w)
    check(launched(run))


# ---- the rest


@pytest.mark.parametrize("dt, n", [(f32, 512), (bf16, 512), (f32, 33)])
def test_embedding(launched, dt, n):
    table, at, g = new(1000, n, dt=dt), new(64, dt=i64), new(64, n, dt=dt)
    got = launched(lambda: (embedding.embedding(table, at), embedding.embedding_backward(g, at, 1000)))
    check(got, loads=False, stores=False)
    assert n % 16 or got["_embedding"].loads_128 and got["_embedding"].stores_128 and got["_embedding_backward"].loads_128


@pytest.mark.parametrize("dt", [f32, f64, i64])
def test_scan(launched, dt):
    for dim in (0, 1):
        check(launched(lambda dim=dim: scan.cumulative("sum", new(100, 1000, dt=dt), dim, dt)))
    check(launched(lambda: scan.cumulative("prod", new(100, 1000, dt=dt), 1, dt)))
    check(launched(lambda: scan.cumulative("sum", new(1 << 20, dt=dt), 0, dt)), stores=False)


def test_nonzero(launched):
    def run():
        scan.flat_nonzero(new(100000))
        scan.positions_kernel((1,), new(100000), new(49, dt=i64), new(9, dt=i64), 100000, BLOCK=scan.COUNT_BLOCK)
    got = launched(run)
    check(got, loads=False, stores=False)
    assert got["_count"].loads_128 and got["_positions"].loads_128


def test_gather_and_scatter(launched):
    x, at, src = new(64, 64, 64), new(60, 7, 50, dt=i64), new(60, 7, 50)
    check(launched(lambda: gather_scatter.gather(x, 1, at)), loads=False, stores=False)
    for dt, how in ((f32, ""), (f32, "sum"), (bf16, "sum"), (i8, "mean"), (f32, "amax"), (f64, "amin"), (i64, "amax"), (bf16, "prod"),
                    (i64, "prod")):
        got = launched(lambda dt=dt, how=how: gather_scatter.scatter(new(64, 64, 64, dt=dt), 1, at, src, how))
        check(got, loads=False, stores=False)


def test_indexing(launched):
    x, at = new(64, 64, 64), new(60, dt=i64)
    got = launched(lambda: gather_scatter.index(x, [at]))
    check(got, loads=False, stores=False)
    assert got["_take"].loads_128 and got["_take"].stores_128
    check(launched(lambda: gather_scatter.index(x, [None, at])), loads=False, stores=False)
    for accumulate in (False, True):
        check(launched(lambda a=accumulate: gather_scatter.index_put(x, [None, at, at], 1.0, accumulate=a)), loads=False,
              stores=False)


def test_every_kernel_was_compiled(request):
    """Last: each Kernel of the package was seen above."""
    if len(request.session.items) < 100:
        pytest.skip("only a part of this file is run")
    all_kernels = {v.fn.__name__ for module in MODULES for v in vars(module).values() if isinstance(v, Kernel)}
    assert all_kernels <= cubin_support.SEEN
