"""Fusion: which operations become one kernel, which do not and why, and that no amount of fusion changes results."""
from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiler_support import rnd, same, training_step, values
from test_compile import GRAPHS
from test_compile_writes import INPLACE

import fusetorch as torch
from fusetorch import config, nn
from fusetorch.compiler.align import Space, base_of
from fusetorch.compiler.explain import unfused

F = nn.functional
W, B = rnd(6, seed=1), rnd(6, seed=2)

#: name: (function, kernels expected)
ONE = {
    "chain": lambda x: ((x * 2 + 1).relu() - 0.5).exp().log1p(),
    "broadcast": lambda x: x * W + B * 2 - x[:, :1],
    "transposed": lambda x: (x.t() * 2).exp() + x.t(),
    "permuted there and back": lambda x: ((x * 2).t() + 1).t() * x,
    "reshaped": lambda x: (x * 2).reshape(2, 2, 6).exp().reshape(4, 6) + x,
    "flattened": lambda x: (x * 2).flatten() + 1,
    "unsqueezed": lambda x: (x.unsqueeze(1) * 2).squeeze(1) + x,
    "slice of an input": lambda x: x[1:, ::2] * 2 + x[:-1, 1::2],
    "constants": lambda x: x + torch.ones(6) * 2 + torch.zeros(4, 6),
    "iota": lambda x: x * torch.arange(6) + torch.arange(4).unsqueeze(1),
    "tril": lambda x: (x * 2).tril() + 1,
    "where": lambda x: torch.where(x > 0, x.exp(), x * 0.1),
    "sum": lambda x: (x * 2).exp().sum(1),
    "sum 0": lambda x: (x * 2).exp().sum(0),
    "sum all": lambda x: (x * x).sum(),
    "sum and epilogue": lambda x: (x * 2).sum(1).exp() + 1,
    "mean": lambda x: (x - 1).mean(1) * 2,
    "softmax": lambda x: x.softmax(-1),
    "softmax, prologue and epilogue": lambda x: ((x * 2 + 1).softmax(-1) * 3).relu(),
    "log_softmax": lambda x: (x * 2).log_softmax(-1),
    "softmax by hand": lambda x: (lambda e: e / e.sum(1, keepdim=True))((x - x.amax(1, keepdim=True)).exp()),
    "layer_norm": lambda x: F.layer_norm(x, (6,), W, B),
    "layer_norm with a residual": lambda x: F.layer_norm(x * 2 + x, (6,), W, B).relu(),
    "standardise": lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt(),
    "normalise": lambda x: x / x.abs().sum(1, keepdim=True),
    "two sums of one": lambda x: (x.sum(1), (x * x).sum(1)),
    "siblings": lambda x: (x * 2, x + 1, x.exp()),
    "siblings of computed": lambda x: (lambda y: (y + 1, y * 2))(x.exp()),
    "cross entropy with weights": lambda x: -(x.log_softmax(-1) * W).sum(1),
    "dropout": lambda x: F.dropout(x * 2, 0.5) + 1,
    "gelu of bias": lambda x: F.gelu(x + B),
    "in place": lambda x: x.mul_(2).add_(1).relu_(),
    "several outputs": lambda x: (lambda y: (y, y.exp(), y.sum(1)))(x * 2),
    "half": lambda x: (x.half() * 2).softmax(-1).float(),
}
NO_KERNEL = {
    "nothing": lambda x: x, "views": lambda x: (x.t(), x[1:], x.reshape(-1)), "constants": lambda x: (torch.ones(3), torch.arange(0)),
}
SEVERAL = {
    "reduce rows, then columns": (lambda x: x.softmax(1).softmax(0), 2),
    "matmul and epilogue": (lambda x: (x @ x.t() + 1).relu(), 2),
    "matmul and prologue": (lambda x: (x * 2) @ (x.t() + 1), 2),
    "shifted read": (lambda x: (lambda y: y[:, 1:] + y[:, :-1])(x.exp()), 2),
    "transposed and not": (lambda x: (lambda y: y[:, :4] + y[:, :4].t())(x.exp()), 2),
    "two matmuls": (lambda x: (x @ x.t()) @ x, 2),
    "sort between": (lambda x: (x * 2).sort(1)[0] + 1, 3),
}


def kernels(f, *args, tol=1e-5):
    g = torch.compile(f)
    with np.errstate(all="ignore"):
        copies = [a.clone() for a in args]
        torch.manual_seed(0)
        expected = f(*args)
        torch.manual_seed(0)
        same(expected, g(*copies), tol=tol)
    return g.explain()


@pytest.mark.parametrize("name", ONE)
def test_one_kernel(name):
    e = kernels(ONE[name], rnd(4, 6), tol=2e-3 if name == "half" else 1e-5)
    assert e.kernels == 1, str(e)
    assert e.groups[0].kind == "loop"
    assert e.unfused_kernels >= 1 and e.bytes_read <= e.unfused_bytes_read and e.bytes_written <= e.unfused_bytes_written


@pytest.mark.parametrize("name", NO_KERNEL)
def test_no_kernel(name):
    assert kernels(NO_KERNEL[name], rnd(4, 6)).kernels <= (1 if name == "constants" else 0)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_kernels(name):
    f, n = SEVERAL[name]
    e = kernels(f, rnd(4, 6))
    assert e.kernels == n, str(e)


def test_refusals_say_why():
    text = str(kernels(SEVERAL["reduce rows, then columns"][0], rnd(4, 6)))
    assert "not fused:" in text and "reduce different dimensions" in text
    text = str(kernels(SEVERAL["shifted read"][0], rnd(4, 6)))
    assert "slice" in text or "other positions" in text


def test_bytes_are_those_of_the_buffers():
    e = kernels(lambda x: (x * 2 + 1).relu(), rnd(4, 6))
    assert (e.bytes_read, e.bytes_written) == (96, 96)
    assert (e.unfused_kernels, e.unfused_bytes_read, e.unfused_bytes_written) == (3, 288, 288)
    e = kernels(lambda x: x + W, rnd(4, 6))
    assert (e.bytes_read, e.bytes_written) == (96 + 24, 96)
    e = kernels(lambda x: x.softmax(-1), rnd(4, 6))
    assert (e.bytes_read, e.bytes_written) == (96, 96)


def test_optimizer_updates_share_kernels():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(3)])
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @torch.compile
    def step(x):
        opt.zero_grad()
        model(x).sum().backward()
        opt.step()
    for _ in range(3):
        step(rnd(4, 6))
    e = step.explain()
    updates = [g for g in e.groups if "_momentum_step_" in g.ops]
    assert len(updates) == 6 and e.kernels <= 19, str(e)  # one for each parameter, and 13 for forward and backward


def test_softmax_backward_is_one_kernel():
    f = torch.compile(lambda x: (x * 2).softmax(-1))
    f(rnd(4, 6, requires_grad=True))
    e = f.explain()
    assert e.kernels == 1 and e.backward.kernels == 1, str(e)


def test_layer_norm_backward_by_input_is_one_kernel():
    f = torch.compile(lambda x: F.layer_norm(x, (6,)))
    f(rnd(4, 6, requires_grad=True))
    e = f.explain()
    assert e.kernels == 1 and e.backward.kernels <= 1, str(e)


def test_many_buffers_are_split():
    xs = [rnd(5, seed=i) for i in range(80)]
    f = torch.compile(lambda *a: [x * 2 + sum(a[:3]) for x in a])
    same([x * 2 + sum(xs[:3]) for x in xs], f(*xs))
    e = f.explain()
    assert e.kernels > 1
    for g in e.groups:
        reads = {base_of(v)[0] for n in g.nodes for v in n.inputs if base_of(v)[0].node not in g.nodes}
        assert len(reads) <= 32


def test_a_few_long_rows_keep_their_epilogue_apart():
    e = kernels(lambda x: x / x.sum(1, keepdim=True), torch.ones(2, 40000))
    assert e.kernels == 2 and any("too few" in why for *_, why in e.refusals), str(e)


def test_column_reductions_with_an_epilogue():
    e = kernels(lambda x: x / x.sum(0, keepdim=True), rnd(64, 48).abs() + 1)
    assert e.kernels in (1, 2)


def test_no_group_reads_what_comes_after_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    opt = torch.optim.Adam(model.parameters())
    step = torch.compile(training_step(model, opt, F.cross_entropy))
    for _ in range(2):
        step(rnd(5, 6), torch.arange(5) % 3)
    for entry in step._order:
        ready: set = set()
        for g in entry.plan.fusion.groups:
            for n in g.nodes:
                for v in n.inputs:
                    base = base_of(v)[0].node
                    assert base in ready or base in g.nodes or base.kind in ("input", "constant", "full")
            ready.update(g.nodes)


# ---------------------------------------------------------------------------------------------------- fuel


def block(x, w):
    y = F.gelu(x @ w + 1).softmax(-1)
    z = F.layer_norm(y * 2, (6,)) + y.t().reshape(4, 6).mean(0)
    return z.sum(1), (z - z.mean(0)).relu(), y[1:, ::2] * 3


def test_every_limit_gives_the_same_results():
    x, w = rnd(4, 6), rnd(6, 6, seed=1)
    expected = block(x, w)
    counts = []
    for limit in [*range(14), 50, -1]:
        with config.override(fuse_limit=limit):
            f = torch.compile(block)
            same(expected, f(x, w), tol=1e-5)
            counts.append(f.explain().kernels)
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == counts[-2]
    assert all(a - b <= 1 for a, b in zip(counts[:13], counts[1:14])), counts  # each unit of fuel is one fusion


def test_every_limit_trains_alike():
    def train(limit):
        with config.override(fuse_limit=limit):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
            opt = torch.optim.Adam(model.parameters(), lr=0.05)
            step = training_step(model, opt, F.mse_loss)
            run = step if limit is None else torch.compile(step)
            return [float(run(rnd(8, 6, seed=i), rnd(8, 2, seed=i))) for i in range(6)]
    expected = train(-1)
    for limit in (0, 1, 2, 3, 5, 8, 13, 21):
        np.testing.assert_allclose(train(limit), expected, rtol=1e-4)


def test_the_limit_comes_from_the_environment():
    code = "import fusetorch as torch; f = torch.compile(lambda x: ((x * 2) + 1).exp()); f(torch.ones(3)); print(f.explain().kernels)"
    for limit, n in (("0", "3"), ("1", "2"), ("-1", "1")):
        r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           env={**os.environ, "FUSETORCH_FUSE_LIMIT": limit, "PYTHONPATH": str(Path(torch.__file__).parent.parent)})
        assert r.stdout.strip() == n, r.stderr


# ---------------------------------------------------------------------------------------------------- looking inside


def test_verify():
    f = torch.compile(block)
    v = f.verify(rnd(4, 6), rnd(6, 6))
    assert v and v.ok and v.max_rel < 2e-5 and "ok" in str(v)


@pytest.mark.parametrize("name", [*GRAPHS, *INPLACE])
def test_every_graph_verifies(name):
    f = torch.compile(GRAPHS.get(name) or INPLACE[name])
    x = rnd(4, 6)
    with np.errstate(all="ignore"):
        f(x)
        before = x.clone()
        assert f.verify(x)
    same(before, x)
    e = f.explain()
    assert str(e) and e.kernels <= e.unfused_kernels and e.bytes_read <= e.unfused_bytes_read
    assert all(bool(g.source) == (g.kind == "loop") for g in e.groups)


def test_verify_finds_a_wrong_kernel(monkeypatch):
    f = torch.compile(lambda x: (x * 2).exp().sum(1))
    x = rnd(4, 6)
    f(x)
    assert f.verify(x)
    from fusetorch.compiler import plan as planning
    good = planning.lower

    def bad(group, fusion, *rest):
        low = good(group, fusion, *rest)
        stores = tuple([dataclasses.replace(s, value=s.value * 2.0) for s in low.call.kernel.stores])
        low.call = dataclasses.replace(low.call, kernel=dataclasses.replace(low.call.kernel, stores=stores))
        return low
    monkeypatch.setattr(planning, "lower", bad)
    v = f.verify(x)
    assert not v and "sum" in v.first_differing and __file__ in v.first_differing and "DIFFERS" in str(v)


def test_verify_and_compare_leave_state_alone():
    state = torch.zeros(6)

    def f(x):
        state.add_(x.sum(0))
        return x.mul_(2) + torch.rand(6)
    g = torch.compile(f)
    x = rnd(4, 6)
    g(x)
    before, kept, rng = x.clone(), state.clone(), torch.get_rng_state()
    assert g.verify(x)
    c = g.compare(x)
    assert c.kernels_fused <= c.kernels_unfused and c.speedup > 0 and c.max_difference < 1e-5
    assert "speedup" in str(c)
    same(before, x)
    same(kept, state)
    same(rng, torch.get_rng_state())


def test_source_is_the_generated_code():
    f = torch.compile(lambda x: (x * 2).exp())
    assert f.source == ""
    f(rnd(4, 6))
    assert "define" in f.source


def test_warmup_compiles_ahead():
    f = torch.compile(lambda x, y: x @ y).warmup(((2, 3), (3, 4)), ((5, 3), (3, 4)))
    assert f.cache_info()["plans"] == 2
    f(rnd(2, 3), rnd(3, 4))
    assert f.cache_info()["hits"] == 1


def test_unfused_plans_give_the_same():
    f = torch.compile(lambda x: (x * 2).softmax(-1).sum(0))
    x = rnd(4, 6)
    y = f(x)
    plan = f._order[-1].plan
    flat = unfused(plan)
    assert len(flat.fusion.groups) == 3
    np.testing.assert_allclose(flat.run([values(x)])[0].reshape(6), values(y), rtol=1e-5)


def test_spaces_merge_and_split():
    f = torch.compile(lambda x: (x * 2).reshape(8, 3) + 1)
    f(rnd(4, 6))
    g = f._order[-1].plan.fusion.groups[0]
    assert isinstance(g.space, Space) and sorted(n for n in g.space.size.values() if n != 1) in ([2, 3, 4], [3, 8], [4, 6], [24])


def test_emulated_casts_round_more_often():
    x = rnd(4, 6).half()
    f = torch.compile(lambda x: ((x * 3.3) * 3.3) * 3.3)
    g = torch.compile(lambda x: ((x * 3.3) * 3.3) * 3.3, options={"emulate_eager_casts": True})
    same(((x * 3.3) * 3.3) * 3.3, g(x), tol=0.0)
    exact = values(x).astype(np.float64) * np.float32(3.3).astype(np.float64) ** 3
    assert np.abs(values(f(x)) - exact).max() <= np.abs(values(g(x)) - exact).max()
