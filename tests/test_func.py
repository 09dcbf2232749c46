"""torch.func's transforms, checkpointing, trees."""
from __future__ import annotations

from collections import namedtuple

import pytest

import fusetorch as torch
from fusetorch.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from fusetorch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from fusetorch.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential

close = torch.testing.assert_close
X = torch.tensor([1.0, 2.0, 3.0])
Y = torch.tensor([0.5, 0.25, 0.125])


def test_gradients():
    close(grad(lambda x: (x**3).sum())(X), 3 * X**2)
    close(grad(grad(grad(torch.sin)))(torch.tensor(0.5)), -torch.cos(torch.tensor(0.5)))
    gx, gy = grad(lambda x, y: (x * y).sum(), argnums=(0, 1))(X, Y)
    close(gx, Y), close(gy, X)
    g, (value, aux) = grad_and_value(lambda d: ((d["a"] ** 2).sum(), d["a"]), has_aux=True)({"a": X})
    close(g["a"], 2 * X), close(value, torch.tensor(14.0)), close(aux, X)
    with pytest.raises(RuntimeError, match="scalar Tensor"):
        grad(lambda x: x)(X)


def test_histories_of_results():
    assert not grad(lambda x: (x**2).sum())(X).requires_grad
    p = X.clone().requires_grad_()
    g = grad(lambda x: (x**3).sum())(p)
    close(torch.autograd.grad(g.sum(), p)[0], 6 * X)
    outside = Y.clone().requires_grad_()
    g = grad(lambda x: (x**2 * outside).sum())(X)
    close(torch.autograd.grad(g.sum(), outside)[0], 2 * X)
    assert p.grad is None and outside.grad is None


def test_products_and_jacobians():
    out, pull = vjp(lambda x, y: (x * y, x.sum()), X, Y)
    close(out[0], X * Y)
    close(pull((torch.ones(3), torch.tensor(2.0))), (Y + 2, X))
    out, tangent = jvp(lambda x, y: x * y, (X, Y), (torch.ones(3), 2 * torch.ones(3)))
    close(tangent, Y + 2 * X)
    assert not tangent.requires_grad
    close(jacrev(torch.square)(X), torch.diag(2 * X)), close(jacfwd(torch.square)(X), torch.diag(2 * X))
    close(hessian(lambda x: (x**3).sum())(X), torch.diag(6 * X))
    close(linearize(torch.square, X)[1](torch.ones(3)), 2 * X)
    close(jacrev(lambda x: {"o": x.sum()})(X)["o"], torch.ones(3))


def test_vmap():
    m = torch.arange(6.0).view(2, 3)
    close(vmap(torch.dot, in_dims=(0, None))(m, X), m @ X)
    close(vmap(lambda a: a * 2, in_dims=1, out_dims=1)(m), m * 2)
    close(vmap(vmap(torch.dot))(torch.ones(2, 2, 3), torch.ones(2, 2, 3)), torch.full((2, 2), 3.0))
    close(vmap(lambda d: (d["a"].sum(), d["b"]), in_dims=({"a": 0, "b": None},), out_dims=(0, None))({"a": m, "b": X}), (m.sum(1), X))
    per_sample = vmap(grad(lambda w, a: (w * a).sum() ** 2), in_dims=(None, 0))(X, m)
    close(per_sample, torch.stack([2 * (X * a).sum() * a for a in m]))
    w = X.clone().requires_grad_()
    vmap(lambda a: (a * w).sum())(m).sum().backward()
    close(w.grad, m.sum(0))


def test_randomness_of_vmap():
    m = torch.zeros(4, 3)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        vmap(lambda a: a + torch.rand(3))(m)
    same = vmap(lambda a: a + torch.rand(3), randomness="same")(m)
    other = vmap(lambda a: a + torch.rand(3), randomness="different")(m)
    assert torch.equal(same[0], same[3]) and not torch.equal(other[0], other[3])


@pytest.mark.parametrize("call, match", [
    (lambda: vmap(lambda x: 1)(X), "must only return Tensors"), (lambda: vmap(torch.add)(torch.ones(2), torch.ones(3)), "same size"),
    (lambda: vmap(torch.sin)(torch.tensor(1.0)), "in_dim"), (lambda: vmap(torch.sin, in_dims=(None,))(X), "at least one Tensor"),
    (lambda: vmap(torch.sin, in_dims=(0, 0))(X), "not compatible")])
def test_errors_of_vmap(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_per_sample_gradients_of_a_module():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    params = {k: v.detach() for k, v in net.named_parameters()}
    data = torch.randn(4, 3)
    found = vmap(grad(lambda p, x: functional_call(net, p, (x,)).tanh().sum()), in_dims=(None, 0))(params, data)
    for i in range(4):
        net.zero_grad()
        net(data[i]).tanh().sum().backward()
        close(found["weight"][i], net.weight.grad)


def test_trees():
    Point = namedtuple("Point", "x y")
    tree = {"a": [1, (2, None)], "p": Point(3, 4)}
    leaves, spec = tree_flatten(tree)
    assert leaves == [1, 2, None, 3, 4] and tree_unflatten(leaves, spec) == tree
    assert tree_map(lambda a, b: a + b, [1, (2,)], [10, (20,)]) == [11, (22,)]
    with pytest.raises(ValueError):
        tree_map(lambda a, b: a, [1, 2], [1])


# ---- checkpointing


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("how", ["whole", "sequential"])
def test_checkpoint_gives_the_same_gradients(reentrant, how):
    results = []
    for kept in (True, False):
        net, x = network(), torch.arange(12.0).view(4, 3).requires_grad_()
        torch.manual_seed(1)
        y = (net(x) if kept else checkpoint(net, x, use_reentrant=reentrant) if how == "whole" else
             checkpoint_sequential(net, 2, x, use_reentrant=reentrant))
        torch.rand(3)  # the state in backward is another one
        y.sum().backward()
        results.append([x.grad, *[p.grad for p in net.parameters()]])
    close(results[0], results[1])


def test_checkpoint_keeps_nothing_and_runs_twice():
    calls, kept = [], []

    def f(t, power=1):
        calls.append(1)
        return (t**power).exp().sin()

    x = torch.ones(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        y = checkpoint(f, x, power=2, use_reentrant=False)
    assert not kept
    g, = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert len(calls) == 2
    close(g, ((x**2).exp().cos() * (x**2).exp() * 2 * x))
    t = x.detach().requires_grad_()
    w, = torch.autograd.grad(f(t, 2).sum(), t, create_graph=True)
    close(torch.autograd.grad(g.sum(), x)[0], torch.autograd.grad(w.sum(), t)[0])


def test_checkpoint_notices_another_computation():
    size = [2]

    def f(t):
        size[0] += 1
        return (t.sum() * torch.ones(size[0], requires_grad=True)).exp()

    x = torch.ones(3, requires_grad=True)
    with pytest.raises(CheckpointError, match="different metadata"):
        checkpoint(f, x, use_reentrant=False).sum().backward()


def test_checkpoint_compiled():
    w = torch.randn(3, 3)

    @torch.compile
    def step(x):
        y = checkpoint(lambda t: (t @ w).tanh(), x, use_reentrant=False)
        g, = torch.autograd.grad(y.sum(), x)
        return g

    x = torch.randn(2, 3, requires_grad=True)
    expected, = torch.autograd.grad((x @ w).tanh().sum(), x)
    close(step(x), expected), close(step(x), expected)
