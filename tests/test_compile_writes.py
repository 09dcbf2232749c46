"""Compiled functions that write in place, and results that share memory with arguments and with each other."""
from __future__ import annotations

import numpy as np
import pytest
from compiler_support import both, quiet, rnd, same, values

import fusetorch as torch
from fusetorch import nn

F = nn.functional

# ---------------------------------------------------------------------------------------------------- in-place writes


def _slice(x):
    x[1:3] += 1


def _column(x):
    x[:, 2] = x[:, 0] * 2


def _mask(x):
    x[x > 0] = 0
    return x


INPLACE = {
    "add": lambda x: x.add_(1),
    "chain": lambda x: x.mul_(2).add_(1).relu_(),
    "slice": _slice,
    "column": _column,
    "masked fill": lambda x: x.masked_fill_(x > 0, -1.0),
    "mask": _mask,
    "transposed": lambda x: x.t().mul_(2),
    "read after": lambda x: (x.mul_(2), x + 1)[1],
    "read before": lambda x: (x + 1, x.mul_(2), x - 1)[::2],
    "before is returned": lambda x: (x.clone(), x.zero_())[0],
    "view then write": lambda x: (lambda v: (x.mul_(2), v + 1)[1])(x[1]),
    "write view of view": lambda x: x[1:].t()[2:].mul_(3),
    "swap": lambda x: (lambda a, b: (x[0].copy_(b), x[1].copy_(a)))(x[0].clone(), x[1].clone()),
    "shift": lambda x: x[1:].copy_(x[:-1].clone()),
    "shift overlapping": lambda x: x[1:].copy_(x[:-1] * 1),
    "diagonal": lambda x: x[:4, :4].diagonal().zero_(),
    "fill": lambda x: x.fill_(3),
    "zero": lambda x: x[2].zero_(),
    "copy from transposed": lambda x: x[:, :4].copy_(x[:, :4].t().clone()),
    "copy whole": lambda x: x.copy_(x.flip(0)),
    "copy whole transposed": lambda x: (x[:4, :4].contiguous().copy_(x[:, :4].t()).t() * 2, x)[0],
    "copy whole transposed, flattened": lambda x: torch.empty(4, 4).copy_(x[:, :4].t()).view(-1)[1:5] + 1,
    "expand and write": lambda x: x[0].expand(4, 6).clone().mul_(2),
    "own temporary": lambda x: (x * 2).add_(1).mul_(x),
    "temporary slice": lambda x: (lambda t: (t[:, 1:4].mul_(5), t)[1])(x * 2),
    "temporary twice": lambda x: (lambda t: (t[0].mul_(5), t[:, 0].add_(1), t.sum())[2])(x * 2),
    "zeros then set": lambda x: (lambda t: (t[::2].copy_(x[:2]), t)[1])(torch.zeros(4, 6)),
    "index put": lambda x: x.__setitem__([0, 2], x[[2, 0]] * 2),
    "index add": lambda x: x.index_add_(0, torch.tensor([0, 0]), x[:2] * 1),
    "scatter": lambda x: x.scatter_(1, torch.tensor([[0], [1], [2], [3]]), 9.0),
    "clamp": lambda x: x.clamp_(-0.1, 0.1),
    "out": lambda x: torch.add(x, 1, out=x),
    "set scalar": lambda x: x.__setitem__((1, 2), 7.0),
    "set row": lambda x: x.__setitem__(0, torch.arange(6)),
    "in loop": lambda x: [x[i].mul_(i) for i in range(4)],
    "to itself": lambda x: x.copy_(x),
    "add transposed self": lambda x: x[:4, :4].add_(x[:4, :4].t()),
    "cast on write": lambda x: x.copy_((x * 10).long()),
}


@pytest.mark.parametrize("layout", ["row-major", "transposed", "slice"])
@pytest.mark.parametrize("name", INPLACE)
def test_in_place(name, layout):
    def make():
        if layout == "row-major":
            return INPLACE[name], (rnd(4, 6),)
        if layout == "transposed":
            base = rnd(6, 4)
            return INPLACE[name], (base.t(),), base
        base = rnd(8, 10)
        return INPLACE[name], (base[1::2, 1:7],), base
    both(make, plans=1)


@pytest.mark.parametrize("name", INPLACE)
def test_in_place_on_the_simulated_device(name, on_simulated_device):
    both(lambda: (INPLACE[name], (rnd(4, 6, device="cuda"),)), calls=2, plans=1, tol=1e-5)


def test_result_of_in_place_is_the_argument():
    f = torch.compile(lambda x: x.mul_(2))
    x = rnd(3)
    assert f(x) is x and f(x) is x


def test_returned_argument_is_the_argument():
    f = torch.compile(lambda x, y: (y, x, x + y, [x]))
    for _ in range(2):
        x, y = rnd(3), rnd(3, seed=1)
        a, b, _, (c,) = f(x, y)
        assert a is y and b is x and c is x


def test_version_counts_in_place_writes():
    f = torch.compile(lambda x: x.mul_(2) and None)
    f = torch.compile(lambda x: [x.mul_(2)])
    x = rnd(3)
    w = torch.ones(3, requires_grad=True)
    for _ in range(2):
        y = w * x
        f(x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_written_state_of_closures_and_globals():
    def make():
        buffer, count = torch.zeros(3), torch.zeros(())

        def f(x):
            buffer.mul_(0.9).add_(x)
            count.add_(1)
            return buffer / count
        return f, (rnd(3),), buffer, count
    both(make, calls=5, plans=1)


@pytest.mark.parametrize("name", ["x, x", "x, view", "view, x", "overlap", "x, transposed", "rows", "same values", "x, flat"])
@pytest.mark.parametrize("write", ["first", "second", "both", "none"])
def test_aliasing_arguments(name, write):
    def f(a, b):
        before = a.sum() + 2 * b.sum()
        if write in ("first", "both"):
            a.mul_(2)
        between = (a * 3).sum() - b.sum()
        if write in ("second", "both"):
            b.add_(1)
        return before, between, a.sum() * 5 + b.sum()

    def make():
        x = rnd(4, 4, dtype=torch.float64)
        args = {"x, x": (x, x), "x, view": (x, x[1:3]), "view, x": (x[:, 1], x), "overlap": (x[:3], x[1:]), "x, transposed": (x, x.t()),
                "rows": (x[0], x[1]), "same values": (x, x.clone()), "x, flat": (x, x.view(-1))}[name]
        return f, args, x
    both(make, calls=3, eager=write != "none" and name not in ("x, x", "rows", "same values"))  # may, with a warning, run eagerly


def test_a_plan_is_not_used_for_other_aliasing():
    def f(a, b):
        a.mul_(2)
        return b + 1
    g = torch.compile(f)
    for alias in (False, True, False, True):
        x = rnd(4, 4)
        y = x[1:] if alias else x[1:].clone()
        same(y * (2 if alias else 1) + 1, g(x, y))


def test_state_that_an_argument_aliases():
    def make():
        state = rnd(4, 4)

        def f(a):
            state.mul_(2)
            return a + 1
        return f, (state[1:],), state
    both(make, eager=True)


def test_outputs_that_alias_inputs():
    f = torch.compile(lambda x: (x.t(), x[1:], x.view(-1)[2:5], x * 2))
    for _ in range(2):
        x = rnd(4, 6)
        t, rows, flat, _ = f(x)
        x.zero_()
        assert not values(t).any() and not values(rows).any() and not values(flat).any()
        rows.fill_(2)
        assert values(x).sum() == 36


def test_outputs_that_alias_each_other():
    f = torch.compile(lambda x: (lambda y: (y, y.t(), y[1]))(x * 2))
    for _ in range(2):
        y, t, row = f(rnd(4, 6))
        y.fill_(1)
        assert values(t).sum() == 24 and values(row).sum() == 6


def test_equal_outputs_do_not_alias():
    f = torch.compile(lambda x: (x * 2, x * 2, torch.zeros(3), torch.zeros(3), x.clone(), torch.tensor([1.0, 2.0])))
    for _ in range(2):
        x = rnd(3)
        outs = f(x)
        for o in outs:
            o.fill_(9)
        same(rnd(3), x)
        a, b, c, d, e, k = f(x)
        same(x * 2, a)
        same(x * 2, b)
        same(torch.zeros(3), c)
        same(torch.zeros(3), d)
        same(x, e)
        same(torch.tensor([1.0, 2.0]), k)
        a.zero_()
        same(x * 2, b)


def test_results_are_never_overwritten():
    f = torch.compile(lambda x: ((x * 2).sum(0), x.softmax(-1), x @ x.t()))
    xs = [rnd(4, 6, seed=i) for i in range(4)]
    results = [f(x) for x in xs]
    for x, r in zip(xs, results):
        same(((x * 2).sum(0), x.softmax(-1), x @ x.t()), r)


# ---------------------------------------------------------------------------------------------------- results that share memory


def test_recorded_writes_to_shared_results_are_refused():
    f = torch.compile(lambda x: (lambda y: (y, y[0]))(x * 2))
    for _ in range(2):
        y, row = f(rnd(3, requires_grad=True))
        for t in (y, row):
            with pytest.raises(RuntimeError, match="shares memory"):
                t.mul_(3)
        with torch.no_grad():
            row.zero_()
        assert values(y)[0] == 0
    g = torch.compile(lambda x: x * 2)
    x, z = rnd(3, requires_grad=True), rnd(3, requires_grad=True)
    g(x).mul_(3).sum().backward()
    (z * 2).mul_(3).sum().backward()
    same(z.grad, x.grad)


def test_writes_are_counted_across_shared_memory():
    f = torch.compile(lambda x: x[1:])
    for _ in range(2):
        x, w = rnd(3), rnd(2, requires_grad=True)
        loss = (w * f(x)).sum()
        x.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_arrays_shared_with_numpy():
    def make():
        a = np.zeros(3, np.float32)
        t = torch.from_numpy(a)

        def f(x):
            t.add_(x)
            return torch.from_numpy(a) * 2
        return f, (rnd(3),), t
    with quiet():
        both(make, calls=5, eager=True)


def test_new_memory_for_known_tensors():
    def make():
        out, w = torch.empty(0), rnd(3)

        def f(x):
            torch.add(x, 1, out=out)
            w.data = w.data * 0.5
            x.data = x.data + 1
            return out, w, x
        return f, (rnd(3),), out, w
    both(make, calls=4)
    o = torch.empty(0)
    f = torch.compile(lambda a: torch.add(a, 1, out=o))
    for i in range(4):
        assert f(rnd(3 + i % 2)) is o
        same(rnd(3 + i % 2) + 1, o)


def test_gradients_looked_at_and_found_missing():
    f = torch.compile(lambda x: x * 2 if x.grad is None else x.grad * 3)
    a, b = rnd(3), rnd(3)
    b.grad = rnd(3, seed=4)
    for _ in range(2):
        same(rnd(3) * 2, f(a) * 1)
        same(rnd(3, seed=4) * 3, f(b))
    assert f.cache_info()["plans"] == 2


def test_modes_left_changed():
    @torch.compile
    def f(x):
        torch.set_grad_enabled(False)
        return x * 2
    try:
        with quiet():
            for _ in range(5):
                f(rnd(3))
                assert not torch.is_grad_enabled()
                torch.set_grad_enabled(True)
    finally:
        torch.set_grad_enabled(True)


def test_leaves_and_results_are_told_apart():
    f = torch.compile(lambda x: x * 2 if x.is_leaf else x * 3)
    a = rnd(3, requires_grad=True)
    for _ in range(2):
        same(a * 2, f(a))
        same((a * 1) * 3, f(a * 1))


def test_integer_arithmetic_wraps_and_divides_as_in_eager():
    def f(x, y):
        return x + 100, x * 3, -x, x.sum(), x.prod(), x // y, x % y, torch.fmod(x, y), x.div(y, rounding_mode="trunc"), x.cumsum(0)
    for d in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32):
        x, y = torch.tensor([100, 127, 5, 0]).to(d), torch.tensor([3, 7, 2, 5]).to(d)
        both(lambda x=x, y=y: (f, (x.clone(), y.clone())))
    both(lambda: (f, (torch.tensor([5, -5, 7, -7]), torch.tensor([3, 3, -2, -2]))))
