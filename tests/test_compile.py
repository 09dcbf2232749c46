"""Compiled functions give what eager ones give: graphs of every kind, random numbers, gradients."""
from __future__ import annotations

import pytest
from compiler_support import both, quiet, rnd, same, values

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


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_on_the_simulated_device(name, on_simulated_device):
    both(lambda: (GRAPHS[name], (rnd(4, 6, device="cuda"),)), calls=2, plans=1, tol=1e-5)


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
@pytest.mark.parametrize("name", ["chain", "broadcast both", "softmax", "layer_norm affine", "sum 0",
    "matmul epilogue", "where", "slices added", "gelu"])
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
@pytest.mark.parametrize("name", ["chain", "broadcast both", "where", "slices added", "shifted", "clamp", "pow",
    "softmax", "sum 0", "sum keepdim", "layer_norm affine",
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
    both(lambda: (lambda x: ((x * 2).softmax(-1), x.sum(0), F.layer_norm(x, (6,)), x.exp().log1p().tanh()),
        (rnd(4, 6, dtype=torch.float64),)))


def test_mixed_dtypes():
    def f(a, b, c):
        return a * b, b * 2 + c, (a + 1.5).sum() * b, c / 2, torch.cat([a, b.float()])
    both(lambda: (f, (rnd(4), torch.arange(4), torch.tensor([True, False, True, True]))), plans=1)


# ---------------------------------------------------------------------------------------------------- random numbers


@pytest.mark.parametrize("f", [
    lambda x: x * torch.rand(4, 6), lambda x: x + torch.randn_like(x), lambda x: F.dropout(x, 0.4),
    lambda x: (torch.rand(3), torch.randn(2)),
    lambda x: (torch.rand(3) + torch.rand(3)).sum(), lambda x: torch.randint(0, 10, (4,)) + x.sum(),
    lambda x: torch.bernoulli(x.sigmoid()),
    lambda x: torch.randperm(4), lambda x: x.clone().uniform_(2, 3), lambda x: x.clone().normal_(),
    lambda x: torch.normal(x, 2.0), lambda x: F.dropout(x, 0.5).sum(0) + F.dropout(x, 0.5),
], ids=["rand", "randn_like", "dropout", "two draws", "fused draws", "randint", "bernoulli", "randperm", "uniform_",
"normal_", "normal", "two dropouts"])
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


# ---------------------------------------------------------------------------------------------------- gradients

DIFFERENTIABLE = [
    "chain", "broadcast both", "transpose", "permute chain", "expand of computed", "slice of computed",
    "slices added", "shifted", "flatten transposed", "reshape copy", "chunk", "unbind", "sum keepdim", "sums of two",
    "mean var", "max with indices", "prod", "logsumexp", "softmax chain", "log_softmax", "layer_norm affine", "norm",
    "standardise", "matmul epilogue", "matmul prologue", "bmm", "where", "clamp", "tril", "cat", "stack",
    "cat of views", "gather", "index", "embedding", "topk", "cumsum", "cross_entropy", "mse", "gelu", "activations",
    "linear", "attention", "0-d", "casts", "repeat", "views of views", "clone", "masked_fill", "einsum like",
    "diagonal", "same value twice", "sum of many", "no operation", "only views", "contiguous",
]


def _loss(out, weight=1.0):
    if isinstance(out, torch.Tensor):
        return (out.double() * torch.arange(1, out.numel() + 1).reshape(out.shape)).sum() * weight if out.dtype.is_floating_point else 0
    return sum((_loss(o, weight + i) for i, o in enumerate(out)), 0)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_through_a_compiled_forward(name):
    f = torch.compile(GRAPHS[name])
    for i in range(2):
        x, y = rnd(4, 6, seed=i, requires_grad=True), rnd(4, 6, seed=i, requires_grad=True)
        a, b = GRAPHS[name](x), f(y)
        same(a, b)
        la, lb = _loss(a), _loss(b)
        if isinstance(la, torch.Tensor) and la.requires_grad:
            la.backward()
            lb.backward()
            same(x.grad, y.grad, tol=1e-5)
    assert f.cache_info()["plans"] == 1, f.cache_info()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_inside(name):
    def step(x):
        loss = _loss(GRAPHS[name](x))
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            loss.backward()
        return x.grad
    f = torch.compile(step)
    for i in range(2):
        x, y = rnd(4, 6, seed=i, requires_grad=True), rnd(4, 6, seed=i, requires_grad=True)
        same(step(x), f(y), tol=1e-5)
        same(x.grad, y.grad, tol=1e-5)
        if y.grad is not None:
            assert f(y) is y.grad and step(x) is x.grad
        same(x.grad, y.grad, tol=1e-5)  # accumulated


def test_gradients_of_several_outputs_used_apart():
    f = torch.compile(lambda x, w: ((x * w).sum(0), x.exp(), w.detach() * 2))
    for use in (0, 1, 2):
        x, w = rnd(4, 6, requires_grad=True), rnd(6, requires_grad=True)
        out = f(x, w)
        assert [o.requires_grad for o in out] == [True, True, False]
        if use == 2:
            (out[0].sum() + (out[1] * 2).sum()).backward()
        else:
            out[use].sum().backward()
        e, v = rnd(4, 6, requires_grad=True), rnd(6, requires_grad=True)
        ref = (e * v).sum(0), e.exp()
        (ref[0].sum() + (ref[1] * 2).sum() if use == 2 else ref[use].sum()).backward()
        same(e.grad, x.grad)
        if use != 1:
            same(v.grad, w.grad)
        else:
            assert w.grad is None or not values(w.grad).any()


def test_gradients_flow_on_to_what_came_before():
    f = torch.compile(lambda x: (x * 2).exp())
    for _ in range(2):
        a, b = rnd(3, requires_grad=True), rnd(3, requires_grad=True)
        f(a * 3 + 1).sum().backward()
        ((b * 3 + 1) * 2).exp().sum().backward()
        same(b.grad, a.grad)


def test_backward_inside_reaches_what_came_before():
    def step(x):
        loss = (x * 2).exp().sum()
        loss.backward()
        return loss.detach()
    f = torch.compile(step)
    with quiet():
        for _ in range(3):
            a, b = rnd(3, requires_grad=True), rnd(3, requires_grad=True)
            same(step(b * 3), f(a * 3))
            same(b.grad, a.grad)


def test_in_place_on_an_argument_with_history():
    def f(x):
        x.mul_(3)
        return x.sum()
    g = torch.compile(f)
    with quiet():
        for _ in range(3):
            a, b = rnd(3, requires_grad=True), rnd(3, requires_grad=True)
            x, y = a * 2, b * 2
            la, lb = f(x) + (x * x).sum(), g(y) + (y * y).sum()
            same(la, lb)
            la.backward()
            lb.backward()
            same(a.grad, b.grad)


def test_in_place_with_a_gradient_into_a_plain_argument():
    def f(buffer, x):
        buffer[1:] += x
        return buffer * 2
    g = torch.compile(f)
    with quiet():
        for _ in range(3):
            a, b = rnd(3, requires_grad=True), rnd(3, requires_grad=True)
            p, q = torch.zeros(4), torch.zeros(4)
            f(p, a).sum().backward()
            g(q, b).sum().backward()
            same(a.grad, b.grad)
            same(p.detach(), q.detach())
            assert p.requires_grad == q.requires_grad


def test_results_that_require_gradients_without_history():
    def f(x):
        return (x * 2).detach().requires_grad_(), torch.zeros(3, requires_grad=True)
    both(lambda: (f, (rnd(3),)))
    both(lambda: (f, (rnd(3, requires_grad=True),)))


def test_requires_grad_of_views_and_integers():
    def f(x):
        return x[1:], x.t(), x.long(), x > 0, x.argmax(1), x.max(1)
    both(lambda: (f, (rnd(3, 4, requires_grad=True),)))


def test_writing_to_a_saved_tensor_before_backward_is_an_error():
    f = torch.compile(lambda x, w: (x * w).sum())
    for _ in range(2):
        x, w = rnd(3), rnd(3, requires_grad=True)
        y = f(x, w)
        x.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


def test_writing_to_a_saved_result_before_backward_is_an_error():
    f = torch.compile(lambda w: w.exp())
    for _ in range(2):
        w = rnd(3, requires_grad=True)
        y = f(w)
        with torch.no_grad():
            y.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_backward_twice_is_an_error_unless_retained():
    f = torch.compile(lambda w: w.exp().sum())
    for _ in range(2):
        w = rnd(3, requires_grad=True)
        y = f(w)
        y.backward(retain_graph=True)
        y.backward()
        same(w.detach().exp() * 2, w.grad)
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()


def test_autograd_grad_inside_and_outside():
    def f(x):
        y = (x ** 3).sum()
        g, = gradient(y, x, create_graph=True)
        return g, gradient(g.sum(), x)[0]
    both(lambda: (f, (rnd(3, requires_grad=True),)), eager=True)
    h = torch.compile(lambda x: x ** 3)
    for _ in range(2):
        x = rnd(3, requires_grad=True)
        g, = gradient(h(x).sum(), x)
        same((3 * x ** 2).detach(), g)


def test_no_grad_inside_and_outside():
    def f(x):
        with torch.no_grad():
            a = x * 2
        return a * x, a
    both(lambda: (f, (rnd(3, requires_grad=True),)), plans=1)
    g = torch.compile(lambda x: x * 2)
    x = rnd(3, requires_grad=True)
    for _ in range(2):
        with torch.no_grad():
            assert not g(x).requires_grad
        assert g(x).requires_grad
    assert g.cache_info()["plans"] == 2


def test_gradient_hooks_run_each_time():
    seen = []
    f = torch.compile(lambda x: (x * 2).sum())
    x = rnd(3, requires_grad=True)
    x.register_hook(lambda g: seen.append(values(g).copy()))
    for _ in range(3):
        f(x).backward()
    assert len(seen) == 3


def test_gradient_hooks_run_each_time_when_backward_is_inside():
    seen = []
    x = rnd(3, requires_grad=True)
    x.register_hook(lambda g: seen.append(1) or g * 2)

    def step(x):
        x.grad = None
        (x * 2).sum().backward()
        return x.grad.sum()
    f = torch.compile(step)
    with quiet():
        for i in range(4):
            assert float(f(x)) == 12
            assert len(seen) == i + 1


def test_leaf_in_place_errors_are_eager_ones():
    f = torch.compile(lambda w: w.mul_(2))
    w = rnd(3, requires_grad=True)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="leaf Variable"):
            f(w)
        same(rnd(3), w.detach())
