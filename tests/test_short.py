"""Short ways of composite operations: the same results, gradients and second gradients as the body."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fusetorch as torch
from fusetorch.ops.opdef import REGISTRY, fn
from fusetorch.short import ShortNode

SHORT = {name: op for name, op in REGISTRY.items() if op.short_fn is not None}


def floats(*shape: int, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).to(dtype).requires_grad_()


def close(a, b):
    a, b = (np.zeros(()) if t is None else t.detach().numpy() for t in (a, b))
    assert a.dtype == b.dtype or not a.ndim
    single = max(a.itemsize, b.itemsize) == 4
    np.testing.assert_allclose(a, b, *((1e-4, 1e-5) if single else (1e-10, 1e-12)))


def is_short(t) -> bool:
    """Whether a short way made this tensor, perhaps laid out anew."""
    node = t.grad_fn
    while not isinstance(node, ShortNode) and node.name() in ("PermuteBackward0", "CloneBackward0"):
        node = node.next_functions[0][0]
    return isinstance(node, ShortNode)


CALLS: dict[str, list[Callable]] = {
    "linear": [lambda d: (floats(5, 3, dtype=d), floats(4, 3, dtype=d), floats(4, dtype=d)),
               lambda d: (floats(2, 5, 3, dtype=d), floats(4, 3, dtype=d)),
               lambda d: (floats(3, dtype=d), floats(4, 3, dtype=d), floats(4, dtype=d)),
               lambda d: (floats(0, 3, dtype=d), floats(4, 3, dtype=d), floats(4, dtype=d)),
               lambda d: (floats(3, 5, dtype=d).t(), floats(3, 4, dtype=d).t())],
    "layer_norm": [lambda d: (floats(5, 3, dtype=d), (3,), floats(3, dtype=d) + 1, floats(3, dtype=d)),
                   lambda d: (floats(5, 2, 3, dtype=d).transpose(0, 1), (5, 3), floats(5, 3, dtype=d)),
                   lambda d: (floats(4, dtype=d), [4])],
    "nll_loss": [lambda d: (floats(6, 5, dtype=d), torch.tensor([0, 4, 2, 2, 1, 3]))],
    "group_norm": [lambda d: (floats(2, 6, 4, dtype=d), 3, floats(6, dtype=d) + 1, floats(6, dtype=d)),
                   lambda d: (floats(3, 4, dtype=d), 2, None, floats(4, dtype=d)),
                   lambda d: (floats(1, 4, 3, 2, dtype=d), 1)],
    "cat": [lambda d: ([floats(2, 3, dtype=d), floats(2, 4, dtype=d).detach(), floats(2, 5, dtype=d)], -1),
            lambda d: ((floats(2, 3, dtype=d), floats(1, 3, dtype=d)),)],
    "stack": [lambda d: ([floats(dtype=d), floats(dtype=d) + 1],),
              lambda d: ([floats(2, 3, dtype=d), floats(2, 3, dtype=d) * 2], -2),
              lambda d: ([floats(3, dtype=d)], 1)],
    "matmul": [lambda d: (floats(5, 3, dtype=d), floats(4, 3, dtype=d).t()),
               lambda d: (floats(2, 5, 3, dtype=d), floats(2, 3, 0, dtype=d)),
               lambda d: (floats(5, 2, 3, dtype=d).transpose(0, 1), floats(2, 3, 4, dtype=d))],
    "rms_norm": [lambda d: (floats(5, 3, dtype=d), (3,), floats(3, dtype=d) + 1),
                 lambda d: (floats(5, 2, 3, dtype=d).transpose(0, 1), (5, 3))],
    "mse_loss": [lambda d: (floats(3, 4, dtype=d), floats(4, 3, dtype=d).t())],
    "cross_entropy": [lambda d: (floats(6, 5, dtype=d) * 30, torch.tensor([0, 4, 2, 2, 1, 3]))],
}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_short_way_is_the_body(name, dtype):
    for make in CALLS[name]:
        for options in ({}, {"reduction": "sum"})[:2 if name in ("mse_loss", "cross_entropy", "nll_loss") else 1]:
            args = make(dtype)
            op = SHORT[name]
            assert op.short_fn(*args, **options) is not None
            got, want = getattr(fn, name)(*args, **options), op.body(*args, **options)
            assert is_short(got) and not is_short(want)
            close(got, want)
            parts = [a for part in args for a in (part if isinstance(part, (list, tuple)) else [part])]
            inputs = [a for a in parts if getattr(a, "requires_grad", False)]
            slope = torch.randn(got.shape, dtype=dtype)
            for retain in (False, True):
                first = torch.autograd.grad(got, inputs, slope, create_graph=retain, retain_graph=True)
                other = torch.autograd.grad(want, inputs, slope, create_graph=retain, retain_graph=True)
                for a, b in zip(first, other):
                    close(a, b)
            first, other = [g.sin().sum() for g in first if g.requires_grad], [g.sin().sum() for g in other if g.requires_grad]
            assert len(first) == len(other)
            if not first:  # linear
                continue
            second = torch.autograd.grad(first, inputs, allow_unused=True)
            other = torch.autograd.grad(other, inputs, allow_unused=True)
            for a, b in zip(second, other):
                close(a, b)


def test_every_short_way_has_calls():
    assert set(CALLS) == set(SHORT)


def test_what_is_not_for_a_short_way_takes_the_body():
    x, w = torch.randn(2, 3), torch.randn(4, 3)
    assert SHORT["linear"].short_fn(x.half(), w.half()) is None
    assert SHORT["linear"].short_fn(x, w.double()) is None
    assert SHORT["cross_entropy"].short_fn(x, torch.tensor([0, -100])) is None
    assert SHORT["mse_loss"].short_fn(x, w) is None
    assert torch.nn.functional.cross_entropy(x, torch.tensor([0, -100])).isfinite()


def test_a_write_to_what_was_saved_is_an_error():
    x, w, b = floats(2, 3), floats(4, 3), floats(4)
    y = torch.nn.functional.linear(x, w, b)
    with torch.no_grad():
        b.add_(1)  # not read by the backward
    y.sum().backward(retain_graph=True)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_list_of_operands_may_change_afterwards():
    parts = [floats(2), floats(3)]
    y, (a, b) = torch.cat(parts), list(parts)
    parts.clear()
    first, _ = torch.autograd.grad((y * y).sum(), (a, b), create_graph=True)
    close(first, 2 * a)
    close(torch.autograd.grad(first.sum(), a)[0], torch.full((2,), 2.0, dtype=torch.float64))


def test_released_after_use():
    y = torch.nn.functional.mse_loss(floats(3), floats(3) * 2)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


@pytest.mark.parametrize("name", SHORT)
def test_nodes_keep_their_names_when_they_are_released(name):
    for make in CALLS[name]:
        used, unused = getattr(fn, name)(*make(torch.float32)), getattr(fn, name)(*make(torch.float32))
        used.sum().backward()
        assert used.grad_fn.name() == unused.grad_fn.name() == type(used.grad_fn).__name__


def test_gradients_of_two_leaves_do_not_share_memory():
    a, b = floats(3), floats(3)
    slope = torch.ones(3, dtype=torch.float64)
    (a + b).backward(slope)
    a.grad.zero_()
    assert b.grad.tolist() == slope.tolist() == [1, 1, 1]
    c = floats(3)
    (c + c.detach()).backward(slope)
    c.grad.zero_()
    assert slope.tolist() == [1, 1, 1]


def test_hooks_see_what_is_saved():
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
        y = torch.nn.functional.linear(floats(2, 3), floats(4, 3), floats(4))
    assert len(seen) >= 2 and not isinstance(y.grad_fn, ShortNode)


@pytest.mark.parametrize("f", [lambda x: x @ x, lambda x: torch.nn.functional.linear(x, x, x[0]),
                               lambda x: torch.linalg.matrix_power(x, 5)])
def test_one_tensor_in_two_places(f):
    x = floats(3, 3)
    y = f(x).sum()
    first, = torch.autograd.grad(y, x, retain_graph=True)
    recorded, = torch.autograd.grad(y, x, create_graph=True)
    close(first, recorded)
    second, = torch.autograd.grad(recorded.sum(), x)
    step = 1e-6
    ahead, = torch.autograd.grad(f(z := (x.detach() + step).requires_grad_()).sum(), z)
    behind, = torch.autograd.grad(f(z := (x.detach() - step).requires_grad_()).sum(), z)
    np.testing.assert_allclose(second.sum().item(), ((ahead - behind).sum() / (2 * step)).item(), rtol=1e-5)
