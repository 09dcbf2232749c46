"""Control flow as functions."""

from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch._higher_order_ops import associative_scan, map, scan
from fusetorch._higher_order_ops.associative_scan import associative_scan as same


def test_cond() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    for pred, want in ((True, 3), (torch.tensor([False]), 2), (1, 3), (torch.tensor(0.0), 2)):
        x.grad = None
        torch.cond(pred, lambda t: t * 3, lambda t: t * 2, (x,)).backward()
        assert x.grad.item() == want
    with pytest.raises(RuntimeError, match="single-element tensor"):
        torch.cond(torch.ones(2), lambda: 1, lambda: 2)
    f = torch.compile(lambda x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,)))
    with pytest.warns(RuntimeWarning):
        assert f(torch.ones(1)).item() == 2
    assert f(-torch.ones(1)).item() == -2


def test_while_loop() -> None:
    i, x = torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), torch.ones(2)))
    assert i.item() == 3 and x.tolist() == [8, 8]
    with pytest.raises(RuntimeError, match="as many as carried_inputs"):
        torch.while_loop(lambda x: True, lambda x: (x, x), (torch.ones(1),))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse: bool) -> None:
    xs = {"a": torch.randn(2, 4, requires_grad=True), "b": torch.randn(3, 4)}
    carry, ys = scan(lambda c, x: (c * x["a"].sum() + x["b"].sum(), {"y": (c, x["b"])}), torch.tensor(1.0), xs, dim=1, reverse=reverse)
    c, kept = torch.tensor(1.0), [None] * 4
    for k in reversed(range(4)) if reverse else range(4):
        kept[k] = c
        c = c * xs["a"][:, k].sum() + xs["b"][:, k].sum()
    torch.testing.assert_close(carry, c)
    torch.testing.assert_close(ys["y"][0], torch.stack(kept))
    assert torch.equal(ys["y"][1], xs["b"].T)
    carry.backward()
    assert xs["a"].grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="scan dimension"):
        scan(lambda c, x: (c, x), torch.tensor(0), torch.ones(0))


def test_map() -> None:
    assert map(lambda x, y: x.sum() * y, torch.ones(3, 2), 2.0).tolist() == [4, 4, 4]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_associative_scan(n: int, reverse: bool) -> None:
    a, b = torch.rand(2, n, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, n, 3, dtype=torch.float64)

    def recurrence(left: tuple, right: tuple) -> tuple:  # of x[k] = a[k] x[k - 1] + b[k]
        return left[0] * right[0], left[1] * right[0] + right[1]

    products, states = associative_scan(recurrence, (a, b), -2, reverse=reverse, combine_mode="generic")
    x, want = torch.zeros(2, 3, dtype=torch.float64), [None] * n
    for k in reversed(range(n)) if reverse else range(n):
        want[k] = x = a[:, k] * x + b[:, k]
    torch.testing.assert_close(states, torch.stack(want, 1))
    torch.testing.assert_close(products, a.flip(1).cumprod(1).flip(1) if reverse else a.cumprod(1))
    if n > 1:
        got, = torch.autograd.grad(states.sum(), a)
        torch.testing.assert_close(got, torch.autograd.grad(torch.stack(want, 1).sum(), a)[0])
    compiled = torch.compile(lambda a, b: associative_scan(recurrence, (a, b), 1)[1], fullgraph=True)
    torch.testing.assert_close(compiled(a.detach(), b), associative_scan(recurrence, (a.detach(), b), 1)[1])


def test_refusals_of_associative_scan() -> None:
    assert same is associative_scan
    with pytest.raises(IndexError):
        associative_scan(torch.add, torch.ones(3), 1)
    with pytest.raises(ValueError, match="Combine_mode"):
        associative_scan(torch.add, torch.ones(3), 0, combine_mode="fast")
    with pytest.raises(ValueError, match="one size"):
        associative_scan(torch.add, (torch.ones(3), torch.ones(2)), 0)
