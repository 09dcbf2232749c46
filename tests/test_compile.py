"""Compiled functions give what eager ones give: graphs of every kind, in-place writes, aliasing, results of any structure, gradients."""
from __future__ import annotations

import collections
import threading

import numpy as np
import pytest
from compiler_support import both, no_warnings, rnd, same, values

import fusetorch as torch
from fusetorch import nn
from fusetorch.autograd import grad as gradient

F = nn.functional

# ---------------------------------------------------------------------------------------------------- graphs

X, Y, Z = rnd(4, 6), rnd(4, 6, seed=1), rnd(6, seed=2)
GRAPHS = {
    "chain": lambda x: ((x * 2 + 1).relu() - 0.5).exp().log1p(),
    "broadcast row": lambda x: x + x[0],
    "broadcast column": lambda x: x * x[:, :1],
    "broadcast both": lambda x: x[:, :1] + x[:1],
    "outer": lambda x: x[0].unsqueeze(1) * x[1].unsqueeze(0),
    "transpose": lambda x: x.t() * 2,
    "transpose both": lambda x: (x * 2).t() + x.t(),
    "transpose and not": lambda x: (x * 2).t() @ x + (x.t() @ x),
    "permute": lambda x: x.reshape(2, 2, 6).permute(2, 0, 1).exp(),
    "permute chain": lambda x: (x + 1).reshape(2, 2, 3, 2).permute(3, 1, 0, 2).exp().permute(0, 2, 1, 3) * 2,
    "expand": lambda x: x.unsqueeze(1).expand(4, 3, 6) * 2,
    "expand of computed": lambda x: (x * 2).unsqueeze(1).expand(4, 3, 6) + 1,
    "slice": lambda x: x[1:3, 2:] * 2,
    "slice of computed": lambda x: (x * 2)[1:3, 2:] + 1,
    "step": lambda x: (x + 1)[::2, 1::3] * 2,
    "slices added": lambda x: (x * 2)[:2] + (x * 2)[2:],
    "shifted": lambda x: (x * 2)[:, 1:] - (x * 2)[:, :-1],
    "unsqueeze": lambda x: (x.unsqueeze(0) + x.unsqueeze(1)).sum(0),
    "squeeze": lambda x: (x.unsqueeze(0).squeeze(0) * 2).squeeze(),
    "flatten": lambda x: (x * 2).flatten() + 1,
    "flatten transposed": lambda x: (x * 2).t().flatten() + 1,
    "reshape copy": lambda x: x.t().reshape(3, 8) * 2,
    "reshape of permuted": lambda x: (x + 1).t().reshape(4, 6) * x,
    "chunk": lambda x: [c * 2 for c in x.chunk(3, 1)],
    "split": lambda x: x.split([1, 3], 0)[1].exp(),
    "unbind": lambda x: sum(x.unbind(1)),
    "sum all": lambda x: (x * x).sum(),
    "sum 0": lambda x: (x * x).sum(0),
    "sum 1": lambda x: (x * x).sum(1),
    "sum keepdim": lambda x: x / x.abs().sum(1, keepdim=True),
    "sum of permuted": lambda x: x.reshape(2, 2, 6).permute(2, 0, 1).sum((0, 2)),
    "sums of two": lambda x: x.sum(0).unsqueeze(0) + x.sum(1).unsqueeze(1),
    "mean var": lambda x: (x.mean(1), x.var(1), x.std(0)),
    "max with indices": lambda x: x.max(1),
    "argmax": lambda x: (x.argmax(), x.argmax(0), x.argmin(1)),
    "argmax of permuted": lambda x: x.t().argmax(),
    "prod": lambda x: x.prod(1),
    "logsumexp": lambda x: x.logsumexp(0),
    "any all": lambda x: ((x > 0).any(1), (x > -9).all()),
    "softmax": lambda x: x.softmax(-1),
    "softmax 0": lambda x: x.softmax(0),
    "softmax chain": lambda x: ((x * 2).softmax(-1) * 3).softmax(0),
    "log_softmax": lambda x: x.log_softmax(1),
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "layer_norm affine": lambda x: F.layer_norm(x, (6,), x[0], x[1]),
    "norm": lambda x: x / x.norm(),
    "standardise": lambda x: (x - x.mean(0)) / (x.std(0) + 1e-5),
    "softmax by hand": lambda x: (x - x.max(1, keepdim=True)[0]).exp() / (x - x.max(1, keepdim=True)[0]).exp().sum(1, keepdim=True),
    "reduce twice": lambda x: (x * 2).sum(1).exp().sum(),
    "reduce two axes in turn": lambda x: x.reshape(2, 2, 6).sum(2).max(0)[0],
    "matmul": lambda x: x @ x.t(),
    "matmul epilogue": lambda x: (x @ x.t() + x[:, 0]).relu() * 2,
    "matmul prologue": lambda x: (x * 2).t() @ (x + 1),
    "matmul of slice": lambda x: (x * 2)[:, :4] @ x[:, 2:],
    "bmm": lambda x: (x.reshape(2, 2, 6) @ x.reshape(2, 6, 2)).softmax(-1),
    "where": lambda x: torch.where(x > 0, x, -x * 0.1),
    "where numbers": lambda x: torch.where(x > 0, 1.0, 0.0),
    "clamp": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0) + x.clamp(max=0.25),
    "clamp tensors": lambda x: x.clamp(x[0], x[1].abs() + x[0].abs()),
    "tril": lambda x: x.tril() + x.triu(1),
    "arange": lambda x: x * torch.arange(6) + torch.arange(4).unsqueeze(1),
    "linspace": lambda x: x + torch.linspace(0, 1, 6),
    "full": lambda x: x + torch.full((6,), 3.0) * torch.ones(4, 1),
    "like": lambda x: torch.zeros_like(x) + torch.ones_like(x[0]) - torch.full_like(x, 2),
    "eye": lambda x: x[:, :4] * torch.eye(4),
    "new constants": lambda x: x * torch.tensor([1.0, 2, 3, 4, 5, 6]) + torch.tensor(2.0),
    "cat": lambda x: torch.cat([x * 2, x + 1], 1) * 2,
    "stack": lambda x: torch.stack([x, x * 2, x[0].expand(4, 6)]).sum(0),
    "cat of views": lambda x: torch.cat([x[:, :2], x.t()[:2].t(), x[:, ::3]], 1),
    "gather": lambda x: x.gather(1, x.argsort(1)) - x.sort(1)[0],
    "index": lambda x: (x * 2)[[2, 0, 0]] + x[torch.tensor([1, 3, 2])],
    "index two": lambda x: x[torch.tensor([0, 1]), torch.tensor([5, 2])],
    "embedding": lambda x: F.embedding(torch.tensor([[0, 2], [1, 1]]), x * 2).sum(1),
    "topk": lambda x: (x * 2).topk(2, 1),
    "cumsum": lambda x: (x * 2).cumsum(1) + 1,
    "cross_entropy": lambda x: F.cross_entropy(x * 2, torch.tensor([0, 5, 2, 1])),
    "mse": lambda x: F.mse_loss(x * 2, x + 1),
    "gelu": lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "activations": lambda x: F.silu(x) + F.elu(x) + F.leaky_relu(x) + F.softplus(x) + x.sigmoid() + x.tanh(),
    "linear": lambda x: F.linear(x, x[:2] * 2, x[0, :2]),
    "attention": lambda x: F.scaled_dot_product_attention(x.reshape(1, 1, 4, 6), x.reshape(1, 1, 4, 6), x.reshape(1, 1, 4, 6)),
    "comparisons": lambda x: (x > 0) & (x < 1) | (x == x[0]),
    "bool arithmetic": lambda x: (x > 0).sum(0) + (x > 0).long() * 2,
    "integers": lambda x: (x * 10).long() // 3 % 4,
    "integer reduce": lambda x: (x * 10).int().sum(0),
    "int8": lambda x: (x * 10).to(torch.int8) * 13,
    "uint8": lambda x: (x.abs() * 50).to(torch.uint8) + 200,
    "casts": lambda x: x.double().float().half().bool().int().to(torch.float64),
    "0-d": lambda x: x[0, 0] * 2 + x.sum(),
    "0-d broadcast": lambda x: x - x.mean() * x[1, 2],
    "constant result": lambda x: (torch.ones(3), torch.arange(3)),
    "same value twice": lambda x: (x * 2, x * 2),
    "unused": lambda x: (x.exp().sum(), x * 2)[1],
    "pow": lambda x: x ** 2 + x.abs() ** 0.5 + 2 ** x + x.abs() ** x,
    "reflected": lambda x: 1 - x + 2 / (x.abs() + 1),
    "masked_fill": lambda x: x.masked_fill(x > 0, -1.0),
    "flip roll": lambda x: x.flip(0) + x.roll(1, 1),
    "repeat": lambda x: (x * 2).repeat(2, 1) + 1,
    "many": lambda x: tuple(x * i for i in range(40)),
    "sum of many": lambda x: sum((x + i).relu() for i in range(40)),
    "diagonal": lambda x: (x @ x.t()).diagonal() * 2,
    "movedim": lambda x: x.reshape(2, 2, 6).movedim(0, 2) * 2,
    "einsum like": lambda x: (x.unsqueeze(1) * x.unsqueeze(0)).sum(-1),
    "nan inf": lambda x: torch.where(x > 0, x / 0, x * float("nan")),
    "isnan": lambda x: (x / 0).isnan() | (x / 0).isinf(),
    "views of views": lambda x: (x * 2).t()[1:5].t()[:, ::2].unsqueeze(0).expand(2, 4, 2).reshape(-1) + 1,
    "contiguous": lambda x: x.t().contiguous().view(-1) * 2,
    "clone": lambda x: x.clone() * x.t().clone().t(),
    "detach": lambda x: x.detach() * 2,
    "no operation": lambda x: x,
    "only views": lambda x: (x.t(), x[1], x.reshape(-1)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph(name):
    both(lambda: (GRAPHS[name], (rnd(4, 6),)), calls=2, plans=1)


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_of_a_transposed_argument(name):
    both(lambda: (GRAPHS[name], (rnd(6, 4).t(),)), calls=2, plans=1)


SHAPES = [(), (1,), (0,), (1, 1), (3, 0), (0, 3), (1, 5), (5, 1), (1, 1, 4), (2, 1, 3), (1, 0, 2)]
ANY_SHAPE = {
    "elementwise": lambda x: (x * 2 + 1).exp() * x,
    "sum": lambda x: (x * 2).sum(),
    "sum last": lambda x: (x * 2).sum(-1),
    "sum first keepdim": lambda x: (x * 2).sum(0, keepdim=True) + x,
    "mean": lambda x: (x + 1).mean(),
    "softmax": lambda x: (x * 3).softmax(-1),
    "log_softmax": lambda x: x.log_softmax(0),
    "flatten": lambda x: x.flatten() * 2,
    "unsqueeze": lambda x: x.unsqueeze(-1) * x.unsqueeze(-1).exp(),
    "transpose": lambda x: (x.transpose(0, -1) * 2).transpose(0, -1),
    "any": lambda x: (x > 0).any(),
    "cat": lambda x: torch.cat([x.flatten(), x.flatten() * 2]),
    "stack": lambda x: torch.stack([x, x + 1], -1) * 2,
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "in place": lambda x: x.mul_(2).add_(x),
    "cumsum": lambda x: x.cumsum(-1),
    "argmax": lambda x: (x + 1).flatten().argmax() if x.numel() else x,
    "norm": lambda x: x / (x.norm() + 1),
    "expand": lambda x: (x * 2).expand(3, *x.shape) + 1,
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ANY_SHAPE)
def test_edge_shapes(name, shape):
    both(lambda: (ANY_SHAPE[name], (rnd(*shape),)), calls=2, plans=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["chain", "broadcast both", "softmax", "layer_norm affine", "sum 0", "matmul epilogue", "where", "slices added", "gelu"])
def test_half_types_round_at_outputs(name, dtype):
    def f(x):
        return GRAPHS[name](x)
    x = rnd(4, 6).to(dtype)
    exact = f(x.double())
    compiled, eager = torch.compile(f)(x), f(x)
    assert compiled.dtype is eager.dtype is dtype
    scale = float(exact.abs().max())
    tol = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}[dtype] * scale
    error = float((compiled.double() - exact).abs().max())
    assert error <= tol
    assert error <= float((eager.double() - exact).abs().max()) + tol / 4  # no worse than rounding after each operation


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["chain", "broadcast both", "where", "slices added", "shifted", "clamp", "pow", "softmax", "sum 0", "sum keepdim", "layer_norm affine",
                                  "matmul epilogue", "casts", "activations"])
def test_emulated_casts_are_eager_bit_for_bit(name, dtype):
    x = rnd(4, 6).to(dtype)
    f = torch.compile(GRAPHS[name], options={"emulate_eager_casts": True})
    same(GRAPHS[name](x), f(x), tol=0.0)


def test_bfloat16_views_with_offsets():
    both(lambda: (lambda x: (x[1:] * 2, x[2], x[1:, 2:].contiguous()), (rnd(4, 6).to(torch.bfloat16),)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool], ids=str)
def test_integer_types(dtype):
    def f(x, y):
        return x + y, x * y, (x + y).sum(0), x.max(), (x == y) | (x > y), x.float() * 0.5, torch.where(x > y, x, y), ~x
    both(lambda: (f, ((rnd(4, 6) * 90).to(dtype), (rnd(6, seed=3) * 90).to(dtype))), plans=1)


def test_float64():
    both(lambda: (lambda x: ((x * 2).softmax(-1), x.sum(0), F.layer_norm(x, (6,)), x.exp().log1p().tanh()), (rnd(4, 6, dtype=torch.float64),)))


def test_mixed_dtypes():
    def f(a, b, c):
        return a * b, b * 2 + c, (a + 1.5).sum() * b, c / 2, torch.cat([a, b.float()])
    both(lambda: (f, (rnd(4), torch.arange(4), torch.tensor([True, False, True, True]))), plans=1)


# ---------------------------------------------------------------------------------------------------- random numbers


@pytest.mark.parametrize("f", [
    lambda x: x * torch.rand(4, 6), lambda x: x + torch.randn_like(x), lambda x: F.dropout(x, 0.4), lambda x: (torch.rand(3), torch.randn(2)),
    lambda x: (torch.rand(3) + torch.rand(3)).sum(), lambda x: torch.randint(0, 10, (4,)) + x.sum(), lambda x: x.bernoulli() if False else torch.bernoulli(x.sigmoid()),
    lambda x: torch.randperm(4), lambda x: x.clone().uniform_(2, 3), lambda x: x.clone().normal_(), lambda x: torch.normal(x, 2.0), lambda x: F.dropout(x, 0.5).sum(0) + F.dropout(x, 0.5),
], ids=["rand", "randn_like", "dropout", "two draws", "fused draws", "randint", "bernoulli", "randperm", "uniform_", "normal_", "normal", "two dropouts"])
def test_random_numbers_are_eager_ones(f):
    both(lambda: (f, (rnd(4, 6),)), calls=4, plans=1)


def test_random_numbers_differ_from_call_to_call():
    f = torch.compile(lambda: torch.rand(100))
    torch.manual_seed(0)
    a, b = f(), f()
    torch.manual_seed(0)
    assert not torch.equal(a, b)
    same(torch.rand(100), a)
    same(torch.rand(100), b)


def test_a_generator_of_its_own():
    def make():
        g = torch.Generator().manual_seed(5)
        return lambda: torch.rand(4, generator=g) * 2, ()
    both(make, calls=4)


def test_seeding_inside():
    def make():
        def f(x):
            torch.manual_seed(3)
            return x * torch.rand(6)
        return f, (rnd(4, 6),)
    both(make, eager=True)


def test_dropout_gradient_uses_the_same_mask():
    f = torch.compile(lambda x: F.dropout(x, 0.5))
    for _ in range(3):
        x = torch.ones(50, requires_grad=True)
        y = f(x)
        y.sum().backward()
        same(x.grad, y.detach())


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
        x = rnd(4, 4)
        args = {"x, x": (x, x), "x, view": (x, x[1:3]), "view, x": (x[:, 1], x), "overlap": (x[:3], x[1:]), "x, transposed": (x, x.t()),
                "rows": (x[0], x[1]), "same values": (x, x.clone()), "x, flat": (x, x.view(-1))}[name]
        return f, args, x
    both(make, calls=3)


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
    both(make)


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
