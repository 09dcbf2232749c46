"""``vmap`` and Jacobians computed for all slices at once, against slices one by one."""
from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch

F = torch.nn.functional


def values(*shape: int):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32))


A, V, W = values(5, 3, 4), values(5, 4), values(4, 6)
AT = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 3], [0, 1]])
ONCE = {
    "arithmetic": (lambda x: x * 2 + 1 - x / 3, A), "comparisons": (lambda x: (x > 0) & (x < 1), A), "product": (lambda x: x @ W, A),
    "products": (lambda x: x @ x.t(), A), "dot": (lambda v: v.dot(v), V), "mv": (lambda x: x.mv(W[:, 0]), A),
    "sums": (lambda x: (x.sum(0), x.mean(), x.amax(-1), x.std(1)), A), "extrema": (lambda x: (*x.max(1), x.argmin()), A),
    "softmax": (lambda x: F.softmax(x, -1), A), "layer_norm": (lambda x: F.layer_norm(x, (4,)), A),
    "views": (lambda x: x.t().reshape(-1).unsqueeze(0).expand(2, 12)[:, 1::2].permute(1, 0), A),
    "cat": (lambda x: torch.cat([x, x[:1]]), A),
    "cat shared": (lambda v: torch.cat([v, W[0]]), V), "stack": (lambda x: torch.stack([x, -x], -1), A), "pick": (lambda x: x[:, AT[0]], A),
    "embedding": (lambda i: F.embedding(i, W), AT), "gather": (lambda i: W.gather(0, i.unsqueeze(0)), AT),
    "cumsum": (lambda x: x.cumsum(0), A),
    "sort": (lambda x: x.sort(0)[0], A), "where": (lambda x: torch.where(x > 0, x, 0.0), A), "pad": (lambda x: F.pad(x, (1, 2)), A),
    "write": (lambda x: x.clone().index_fill_(0, AT[1], 2.0).mul_(x), A), "double": (lambda x: x.double() * 2, A),
    "shared": (lambda x: W * 1, A), "einsum": (lambda x: torch.einsum("ij,kj->ik", x, x), A), "norm": (torch.linalg.norm, A),
    "convolution": (lambda x: F.conv1d(x.unsqueeze(0), A[:2]), A), "solve": (lambda x: torch.linalg.inv(x @ x.t() + 3 * torch.eye(3)), A),
    "zero dimensions": (lambda s: s * AT[0] + s.double(), V[:, 0]), "integers": (lambda i: i // 2 * 3, AT),
    "nested": (torch.vmap(lambda v: v.sum() + v[0]), A), "gradient": (torch.func.grad(lambda x: (x.tanh() @ W).square().sum()), A),
    "jacobian": (torch.func.jacrev(lambda v: v.sin() * v.sum()), V), "hessian": (torch.func.hessian(lambda v: (v.sin() * v).sum()), V),
    "slices' gradient": (torch.func.grad(lambda x: (x[1:] * x[:-1]).sum() + x[0, 0]), A),
    "gradient of a cat": (torch.func.grad(lambda x: (torch.cat([x, x * x]) ** 2).sum()), A),
    "gradient of a lookup": (torch.func.grad(lambda x: x[torch.tensor([0, 2, 2])].square().sum()), A),
    "loss": (torch.func.grad(lambda v: F.cross_entropy(v.unsqueeze(0), torch.tensor([2]))), V),
}


def same(a, b):
    a, b = (x if isinstance(x, tuple) else (x,) for x in (a, b))
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert x.shape == y.shape and x.dtype is y.dtype and x.stride() == y.stride()
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ONCE)
def test_slices_are_computed_at_once(name):
    f, x = ONCE[name]
    calls = []
    got = torch.vmap(lambda t: calls.append(t) or f(t))(x)
    assert len(calls) == 1
    each = [f(t) for t in x.unbind(0)]
    same(got, tuple(torch.stack(c) for c in zip(*each)) if isinstance(each[0], tuple) else torch.stack(each))
    moved = torch.vmap(f, in_dims=-1, out_dims=-1)(x.movedim(0, -1))
    same(tuple(t.movedim(-1, 0).contiguous() for t in (moved if isinstance(moved, tuple) else (moved,))), got)


def test_gradients_of_samples_at_once():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    weights = {k: p.detach() for k, p in net.named_parameters()}
    target = torch.tensor([0, 1, 2, 0, 1])
    calls = []

    def loss(weights, x, y):
        calls.append(x)
        return F.cross_entropy(torch.func.functional_call(net, weights, (x.unsqueeze(0),)), y.unsqueeze(0))
    got = torch.vmap(torch.func.grad(loss), (None, 0, 0))(weights, V, target)
    assert len(calls) == 1
    for k in range(5):
        for name, g in torch.func.grad(loss)(weights, V[k], target[k]).items():
            same(got[name][k], g)
    with pytest.raises(IndexError, match="out of bounds"):
        torch.vmap(torch.func.grad(loss), (None, 0, 0))(weights, V, target + 1)
    many = {k: torch.stack([p, p * 2]) for k, p in weights.items()}
    out = torch.vmap(lambda p, x: torch.func.functional_call(net, p, (x,)), (0, None))(many, V)
    same(out[1], torch.func.functional_call(net, {k: p * 2 for k, p in weights.items()}, (V,)))


def test_what_depends_on_values_runs_slice_by_slice():
    seen = []
    got = torch.vmap(lambda v: (seen.append(v), v * 2 if v.sum() > 0 else v * 3)[1])(V)
    assert len(seen) == 6  # the attempt for all, and five slices
    same(got, torch.stack([v * 2 if v.sum() > 0 else v * 3 for v in V]))
    same(torch.vmap(lambda v: torch.tensor(v.tolist()))(V), V)
    total = torch.zeros(4)
    torch.vmap(lambda v: total.add_(v))(V)
    same(total, V.sum(0))
    with pytest.raises(RuntimeError, match="must match"):
        torch.vmap(lambda v: v + torch.ones(3))(V)


def test_gradients_outside_of_a_map():
    w = W.clone().requires_grad_()
    torch.vmap(lambda x: (x @ w).sum())(A).sum().backward()
    same(w.grad, A.sum((0, 1)).unsqueeze(1).expand(4, 6).contiguous())
    x = A.clone().requires_grad_()
    torch.vmap(lambda t: (t * t).sum())(x).sum().backward()
    same(x.grad, 2 * A)
    with torch.no_grad():
        assert not torch.vmap(lambda t: t @ w)(A).requires_grad


def test_writes_reach_the_mapped_tensor():
    x = A.clone()
    torch.vmap(lambda t: t.mul_(2))(x)
    same(x, A * 2)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_draws_of_slices(randomness):
    torch.manual_seed(0)
    got = torch.vmap(lambda v: v * 0 + torch.rand(4), randomness=randomness)(V)
    assert bool((got == got[0]).all()) == (randomness == "same")
    got = torch.vmap(lambda v: F.dropout(torch.ones_like(v) + v * 0, 0.5), randomness=randomness)(V.repeat(1, 20))
    assert bool((got == got[0]).all()) == (randomness == "same")
    with pytest.raises(RuntimeError, match="random operation"):
        torch.vmap(lambda v: v + torch.rand(4))(V)


@pytest.mark.parametrize("f", [lambda v: v.sin() * v.sum(), lambda v: torch.stack([v, v * v]), lambda v: F.layer_norm(v, (4,)),
                               lambda v: v[1:].cumsum(0), lambda v: (v @ W).softmax(-1), lambda v: torch.ones(2)])
def test_rows_of_a_jacobian_at_once(f):
    v = V[0]
    got = torch.func.jacrev(f)(v)
    x = v.clone().requires_grad_()
    y = f(x).reshape(-1)
    rows = [torch.autograd.grad(e, x, retain_graph=True)[0] if e.requires_grad else torch.zeros(4) for e in y]
    same(got, torch.stack(rows).reshape(*f(v).shape, 4))
    w = v.clone().requires_grad_()
    again = torch.func.jacrev(lambda t: f(t) * w.sum())(v)
    if y.requires_grad:
        again.square().sum().backward()
        assert w.grad is not None
