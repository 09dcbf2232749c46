"""Whole programs under ``fusetorch.compile``: what Python does beside tensor operations happens as it does eagerly."""
from __future__ import annotations

import functools

import pytest
from compiler_support import quiet, rnd, same

import fusetorch as torch
from fusetorch import nn
from fusetorch.utils.checkpoint import checkpoint

# ---- backward passes that do more than compute gradients


class _Acts(torch.autograd.Function):
    """Doubles; its backward calls ``act(gradient)`` too."""

    @staticmethod
    def forward(ctx, x, act):
        ctx.act = act
        return x * 2

    @staticmethod
    def backward(ctx, g):
        ctx.act(g)
        return g * 2, None


def _counts():
    seen = []
    return lambda g: seen.append(1), seen


def _keeps():
    seen = []
    return lambda g: seen.append(g * 2), seen


def _sums_up():
    total = torch.zeros(3)
    return lambda g: total.add_(g), [total]


def _prints():
    return lambda g: print("backward"), []


def _draws():
    seen = []
    return lambda g: seen.append(torch.rand(2)), seen


@pytest.mark.parametrize("make", [_counts, _keeps, _sums_up, _prints, _draws])
def test_what_a_backward_does_beside_happens_when_it_runs(make, capsys):
    outcomes = []
    for compiled in (False, True):
        act, seen = make()
        f = torch.compile(_Acts.apply) if compiled else _Acts.apply
        record = []
        for i in range(3):
            x = rnd(3, seed=i, requires_grad=True)
            torch.manual_seed(i)
            with quiet():
                y = f(x, act)
            record.append([t.clone() if isinstance(t, torch.Tensor) else t for t in seen])
            for _ in range(2):
                y.sum().backward(retain_graph=True)
            record.append([x.grad, *[t.clone() if isinstance(t, torch.Tensor) else t for t in seen]])
        outcomes.append((record, capsys.readouterr().out))
    same(*outcomes)


def test_reentrant_checkpoints_accumulate_when_they_run():
    grads = []
    for compiled in (False, True):
        torch.manual_seed(0)
        m = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        f = functools.partial(checkpoint, m, use_reentrant=True)
        f = torch.compile(f) if compiled else f
        x = rnd(2, 4, requires_grad=True)
        with quiet():
            y = f(x)
        assert all(p.grad is None for p in m.parameters())
        y.sum().backward()
        grads.append([x.grad, *[p.grad for p in m.parameters()]])
    same(*grads)


# ---- results that are views


@pytest.mark.parametrize("f", [
    lambda x: (x.view(3, 1), x), lambda x: (x[1:], x), lambda x: (x.add_(1).view(3, 1), x), lambda x: (x.view(3, 1).t()[:, ::2], x),
    lambda x: ((y := x * 2).view(3, 1), y), lambda x: ((y := x.clone())[:2], y)], ids=str)
def test_recorded_writes_through_a_result_reach_what_it_is_a_view_of(f):
    def run(g):
        x, w = rnd(3), rnd(3, seed=1, requires_grad=True)
        a, b = g(x)
        a.mul_(w.view(3, 1)[:a.shape[0]] if a.shape[-1] == 1 else w[:a.numel()])
        (b * b).sum().backward()
        return w.grad, a.detach(), b.detach(), x.detach()

    c = torch.compile(f)
    for _ in range(3):
        same(run(f), run(c))
    assert c.cache_info()["plans"] == 1


def test_a_recorded_write_through_a_result_of_a_view_reaches_its_base():
    def run(g):
        x, w = rnd(4), rnd(2, seed=1, requires_grad=True)
        g(x[1:]).mul_(w)
        (x * x).sum().backward()
        return w.grad, x.detach()

    c = torch.compile(lambda x: x[:2])
    for _ in range(3):
        same(run(lambda x: x[:2]), run(c))
