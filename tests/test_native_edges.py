"""Native loops where arithmetic is at its edges: exponentials that underflow, maxima of masked rows."""
from __future__ import annotations

import math
import time

import numpy as np
import pytest

import fusetorch as torch
from fusetorch.codegen import llvm
from fusetorch.codegen.loop import Operand, schedule
from fusetorch.dtypes import bool_, float32
from fusetorch.ops import primitives as P
from fusetorch.ops.expr import const, load, reduce
from fusetorch.runtime import cpu_jit


@pytest.mark.parametrize("name, low, high", [("exp", -104.5, -86.0), ("exp2", -150.5, -124.0), ("exp", 85.0, 89.0)])
def test_float32_exponentials_at_the_ends_of_the_range(name, low, high):
    x = np.linspace(low, high, 300_001).astype(np.float32)
    got = getattr(torch, name)(torch.tensor(x)).numpy()
    with np.errstate(over="ignore"):
        want = getattr(np, name)(x.astype(np.float64)).astype(np.float32)
    # neighbours among float32 numbers have neighbouring bits, across the end of the normal range too
    assert np.abs(got.view(np.int32).astype(np.int64) - want.view(np.int32)).max() <= 1
    assert (got[want == 0] == 0).all() and (got[np.isinf(want)] == math.inf).all()


@pytest.mark.parametrize("dtype, least", [(np.float32, -103.97), (np.float64, -745.13)])
def test_exp_of_what_has_no_number(dtype, least):
    x = np.repeat(np.array([math.nan, math.inf, -math.inf, -1e4, -3e38, 0.0, -0.0, least, least - 0.1], dtype), 500)
    got = torch.tensor(x).exp().numpy()[::500]
    tiny = np.finfo(dtype).smallest_subnormal
    np.testing.assert_array_equal(got, np.array([math.nan, math.inf, 0, 0, 0, 1, 1, tiny, 0], dtype))


@pytest.mark.parametrize("value", [-95.0, -200.0, -math.inf])
def test_exp_takes_no_longer_where_it_underflows(value):
    def seconds(x: torch.Tensor) -> float:
        x.exp()
        times = []
        for _ in range(7):
            start = time.thread_time()
            x.exp()
            times.append(time.thread_time() - start)
        return min(times)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        usual, slow = seconds(torch.full((200_000,), -1.0)), seconds(torch.full((200_000,), value))
    finally:
        torch.set_num_threads(before)
    assert slow < 4 * usual  # processors that handle underflow in microcode made it 15 times


@pytest.mark.parametrize("kind", ["max", "min"])
def test_extrema_of_masked_rows_are_vectorised(kind):
    m, x = load(0, bool_), load(1, float32)
    value = reduce(kind, P.where(m, x, const(-math.inf if kind == "max" else math.inf, float32)))
    operands = [Operand(bool_, (1024, 1)), Operand(float32, (1024, 1))]
    call = schedule((64, 1024), (1,), operands, [Operand(float32, (1, 0))], [value], [False], [])
    text, _ = llvm.emit(call.kernel, "f", "rows", cpu_jit.vector_bits())
    assert f"x float> @llvm.{kind}imum" in cpu_jit.optimised(text)
