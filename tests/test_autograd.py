"""The tape: accumulation, modes, freed graphs, in-place writes, views, hooks, higher derivatives."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import fusetorch as torch


def leaf(*values: float) -> torch.Tensor:
    """A vector that wants a gradient."""
    return torch.tensor(list(values), requires_grad=True)


def test_gradients_add_up_in_leaves() -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    (x.sum() + x.sum()).backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_tensor_used_twice() -> None:
    x = leaf(2.0)
    y = x * x
    (y * y + y).sum().backward()
    assert x.grad.tolist() == [4 * 8 + 2 * 2.0]


def test_accumulated_gradients_share_no_memory() -> None:
    a, b = leaf(1.0), leaf(2.0)
    (a + b).sum().backward()
    a.grad.add_(10.0)
    assert b.grad.tolist() == [1.0]
    g = torch.ones(1)
    (a * 1).backward(g)
    a.grad.zero_()
    assert g.tolist() == [1.0]


def test_nothing_is_recorded_where_gradients_are_off() -> None:
    x = leaf(1.0)
    with torch.no_grad():
        y = x * 2
        assert not y.requires_grad and not torch.is_grad_enabled()
        with torch.enable_grad():
            assert (x * 2).requires_grad
    assert torch.is_grad_enabled()

    @torch.no_grad()
    def f(t: torch.Tensor) -> torch.Tensor:
        return t * 2

    assert not f(x).requires_grad
    with torch.inference_mode():
        assert not (x * 2).requires_grad
    with torch.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_a_generator_under_no_grad_sees_what_is_thrown_into_it() -> None:
    @contextlib.contextmanager
    @torch.no_grad()
    def without(kind):
        try:
            yield torch.is_grad_enabled()
        except kind:
            seen.append(torch.is_grad_enabled())

    seen = []
    with without(ValueError) as inside:
        assert inside is False and torch.is_grad_enabled()
        raise ValueError
    assert seen == [False] and torch.is_grad_enabled()
    with pytest.raises(KeyError), without(ValueError):
        raise KeyError


def test_no_grad_on_a_generator() -> None:
    x = leaf(1.0)

    @torch.no_grad()
    def numbers():
        for k in range(2):
            yield (x * k).requires_grad

    for value in numbers():
        assert value is False and torch.is_grad_enabled()


def test_detach_and_requires_grad() -> None:
    x = leaf(1.0, 2.0)
    d = x.detach()
    assert not d.requires_grad and d.data_ptr() == x.data_ptr() and d.is_leaf
    y = x * 2
    assert not y.is_leaf and y.grad_fn is not None and "Mul" in repr(y.grad_fn)
    with pytest.raises(RuntimeError, match="leaf variables"):
        y.requires_grad = False
    with pytest.raises(RuntimeError, match="floating point"):
        torch.tensor([1]).requires_grad_()
    y.detach_()
    assert y.is_leaf and not y.requires_grad


def test_a_graph_is_freed_after_backward() -> None:
    x = leaf(1.0)
    y = (x * x).exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    z = (x * x).sum()
    z.backward(retain_graph=True)
    z.backward()


def test_backward_needs_a_gradient_for_what_is_not_a_scalar() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        (x * 2).backward()
    (x * 2).backward(torch.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 20.0]
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        (x * 2).backward(torch.ones(3))
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(1).backward()


def test_grad_returns_instead_of_accumulating() -> None:
    x, y, unused = leaf(2.0), leaf(3.0), leaf(4.0)
    gx, gy = torch.autograd.grad((x * x * y).sum(), [x, y])
    assert gx.tolist() == [12.0] and gy.tolist() == [4.0] and x.grad is None
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad((x * y).sum(), [x, unused])
    assert torch.autograd.grad((x * y).sum(), [x, unused], allow_unused=True)[1] is None
    assert torch.autograd.grad((x * y).sum(), [unused], allow_unused=True, materialize_grads=True)[0].tolist() == [0.0]
    inner = x * y
    assert torch.autograd.grad((inner * inner).sum(), inner)[0].tolist() == [12.0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(x.sum(), torch.ones(1))


def test_backward_into_chosen_inputs() -> None:
    x, y = leaf(2.0), leaf(3.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [3.0] and y.grad is None


def test_higher_derivatives() -> None:
    x = leaf(2.0)
    y, expected = (x**4).sum(), [32.0, 48.0, 48.0, 24.0]
    for value in expected:
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.item(), value, rtol=1e-6)
    x = leaf(0.5)
    x.sin().sum().backward(create_graph=True)
    assert x.grad.requires_grad
    np.testing.assert_allclose(torch.autograd.grad(x.grad.sum(), x)[0].item(), -np.sin(0.5), rtol=1e-6)


def test_a_gradient_penalty_trains() -> None:
    w = leaf(3.0)
    x = leaf(1.0)
    (g,) = torch.autograd.grad((w * x * x).sum(), x, create_graph=True)
    ((g.norm() - 1) ** 2).backward()
    np.testing.assert_allclose(w.grad.item(), 2 * (6 - 1) * 2, rtol=1e-6)


# ---- in place


def test_saved_values_may_not_be_overwritten() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y * y
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    y = x.exp()
    y.mul_(2.0)  # exp keeps its result
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = x * 1
    y.add_(1.0)  # nobody kept y
    y.sum().backward()


def test_leaves_and_their_views_may_not_be_written() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x[0] = 1.0
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x[:1].mul_(2.0)
    with torch.no_grad():
        x.add_(1.0)
        x[0] = 5.0
    assert x.tolist() == [5.0, 3.0] and x.requires_grad


def test_in_place_chain() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    y.mul_(2.0).add_(1.0).relu_()
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_writing_through_a_view_changes_the_base() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[1:].mul_(10.0)
    assert y.tolist() == [2.0, 40.0, 60.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 20.0, 20.0]


def test_writing_the_base_changes_its_views() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    view = y[:1]
    y.mul_(3.0)
    view.sum().backward()
    assert x.grad.tolist() == [3.0, 0.0]


def test_a_chain_of_views_written_at_its_end() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    y = x * 1
    y.t()[1:].reshape(-1)[:2] = 7.0  # a copy: reshape cannot view this
    y.view(3, 2)[0].unsqueeze(0).mul_(5.0)
    y.sum().backward()
    assert x.grad.tolist() == [[5.0, 5.0, 1.0], [1.0, 1.0, 1.0]]


def test_a_tensor_written_with_a_history_gets_one() -> None:
    x = leaf(2.0, 3.0)
    buffer = torch.zeros(3)
    buffer[1:] = x * x
    assert buffer.requires_grad
    buffer.sum().backward()
    assert x.grad.tolist() == [4.0, 6.0]


def test_a_loop_that_fills_a_tensor() -> None:
    x = leaf(1.0, 2.0, 3.0)
    out = torch.zeros(3)
    for k in range(3):
        out[k] = x[k] ** (k + 1)
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1.0, 4.0, 27.0])


def test_memory_seen_more_than_once_may_not_be_written() -> None:
    x = torch.zeros(1).expand(3)
    with pytest.raises(RuntimeError, match="more than one element"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="more than one element"):
        x.fill_(1.0)


def test_in_place_results_keep_their_dtype() -> None:
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.zeros(2, dtype=torch.int64).add_(1.5)
    with pytest.raises(RuntimeError, match="broadcast shape|match"):
        torch.zeros(1).add_(torch.zeros(3))


def test_copy_and_fill() -> None:
    x = leaf(1.0, 2.0)
    y = torch.zeros(2, 2)
    y.copy_(x)
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    z = x * 2
    z.zero_()
    assert not torch.autograd.grad(z.sum(), x, allow_unused=True, materialize_grads=True)[0].any()


# ---- hooks and retained gradients


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf(1.0)
    seen: list[float] = []
    first = x.register_hook(lambda g: seen.append(g.item()))
    x.register_hook(lambda g: g * 10)
    (x * 3).sum().backward()
    assert seen == [3.0] and x.grad.tolist() == [30.0]
    first.remove()
    (x * 3).sum().backward()
    assert seen == [3.0] and x.grad.tolist() == [60.0]


def test_hooks_on_inner_tensors() -> None:
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: g + 1)
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.tolist() == [4.0] and x.grad.tolist() == [8.0]
    with pytest.raises(RuntimeError, match="requires_grad=False|doesn't require"):
        torch.ones(1).register_hook(lambda g: g)


def test_each_use_reaches_the_hook_once() -> None:
    x = leaf(1.0)
    y = x * 1
    calls: list[float] = []
    y.register_hook(lambda g: calls.append(g.item()))
    (y * 2 + y * 3).sum().backward()
    assert calls == [5.0]


# ---- custom functions, structure of the graph


def test_next_functions_lead_to_the_leaves() -> None:
    x = leaf(1.0)
    node = (x * 2).exp().grad_fn
    ((inner, _),) = node.next_functions
    assert type(inner).__name__ == "MulBackward0" and inner.next_functions[1] == (None, 0)
    assert inner.next_functions[0][0].variable is x


def test_graphs_die_with_their_tensors() -> None:
    x = leaf(1.0)
    y = x * 2
    node = weakref.ref(y.grad_fn)
    del y
    gc.collect()
    assert node() is None


def test_a_long_chain() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20000):
        y = y + 1e-6
    y.sum().backward()
    assert x.grad.tolist() == [1.0]


def test_only_floating_results_are_differentiable() -> None:
    x = leaf(1.0, 3.0, 2.0)
    values, indices = x.sort()
    assert values.requires_grad and not indices.requires_grad
    assert not (x > 2).requires_grad and not x.argmax().requires_grad
    (values * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 100.0, 10.0]


def test_mixed_dtypes_get_gradients_of_their_own() -> None:
    h = torch.ones(2, dtype=torch.float16, requires_grad=True)
    d = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (h * d).sum().backward()
    assert h.grad.dtype is torch.float16 and d.grad.dtype is torch.float64


def test_broadcast_gradients_are_summed() -> None:
    a, b, c = (
        torch.ones(3, 1, requires_grad=True),
        torch.ones(4, requires_grad=True),
        torch.ones((), requires_grad=True),
    )
    (a * b + c).sum().backward()
    assert a.grad.shape == (3, 1) and a.grad.tolist() == [[4.0]] * 3
    assert b.grad.tolist() == [3.0] * 4 and c.grad.item() == 12.0


def test_assigned_gradients_are_checked() -> None:
    x = leaf(1.0, 2.0)
    x.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="a tensor of size"):
        x.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="with dtype"):
        x.grad = torch.ones(2, dtype=torch.float64)
    with pytest.raises(TypeError, match="Tensor or None"):
        x.grad = 1.0


@pytest.mark.parametrize("make, name", [
    (lambda x: torch.nn.functional.linear(x, x, x[0]), "AddmmBackward0"), (lambda x: torch.nn.functional.linear(x, x), "MmBackward0"),
    (lambda x: torch.nn.functional.linear(x[None], x, x[0]), "ViewBackward0"), (lambda x: x @ x, "MmBackward0"),
    (lambda x: x @ x[0], "MvBackward0"), (lambda x: x.sum(), "SumBackward0"), (lambda x: x.sum(0), "SumBackward1"),
    (lambda x: x.mean(0), "MeanBackward1"), (lambda x: x.max(), "MaxBackward1"), (lambda x: x.max(0).values, "MaxBackward0"),
    (lambda x: torch.maximum(x, x), "MaximumBackward0"), (lambda x: x.std(), "StdBackward0"), (lambda x: x.t(), "TBackward0"),
    (lambda x: x.transpose(0, 1), "TransposeBackward0"), (lambda x: x.T, "PermuteBackward0"), (lambda x: x[0], "SelectBackward0"),
    (lambda x: x[:1], "SliceBackward0"), (lambda x: x[0, :], "SelectBackward0"), (lambda x: x[:, :1], "SliceBackward0"),
    (lambda x: x[...], "AliasBackward0"), (lambda x: x[None], "UnsqueezeBackward0"), (lambda x: x.squeeze(), "SqueezeBackward0"),
    (lambda x: x.squeeze(0), "SqueezeBackward1"), (lambda x: torch.stack([x, x]), "StackBackward0"),
    (lambda x: x.split(1)[1], "SplitBackward0"), (lambda x: x ** 2, "PowBackward0"), (lambda x: x ** x, "PowBackward1"),
    (lambda x: x.clamp(0, 1), "ClampBackward1"), (lambda x: 1 - x, "RsubBackward1"),
    (lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 1])), "NllLossBackward0"),
    (lambda x: torch.nn.functional.mse_loss(x, torch.zeros(2, 2)), "MseLossBackward0"),
    (lambda x: torch.nn.functional.binary_cross_entropy_with_logits(x, torch.zeros(2, 2)), "BinaryCrossEntropyWithLogitsBackward0"),
    (lambda x: torch.nn.functional.max_pool2d(x[None, None], 2), "MaxPool2DWithIndicesBackward0"),
    (lambda x: torch.nn.functional.interpolate(x[None, None], scale_factor=2), "UpsampleNearest2DBackward0"),
    (lambda x: torch.nn.functional.layer_norm(x, (2,)), "NativeLayerNormBackward0")])
def test_nodes_have_pytorchs_names(make: Callable, name: str) -> None:
    node = make(torch.rand(2, 2, requires_grad=True)).grad_fn
    assert node.name() == name and type(node).__name__ == name and repr(node).startswith(f"<{name} object")
    assert isinstance(node, torch.autograd.graph.Node)


def test_saved_tensors_are_seen() -> None:
    x = torch.rand(3, requires_grad=True)
    y = x.exp()
    assert x.pow(2).grad_fn._saved_self is x and (x * y).grad_fn._saved_other is y
    assert y.grad_fn._saved_result.equal(y) and y.grad_fn._saved_result is not y
    with pytest.raises(AttributeError, match="'ExpBackward0' object has no attribute '_saved_self'"):
        y.grad_fn._saved_self


def test_names_are_given_to_new_nodes_only() -> None:
    x = torch.rand(2, 2, requires_grad=True).exp()
    assert torch.nn.functional.interpolate(x[None, None], size=2) is not None and x.grad_fn.name() == "ExpBackward0"
    assert torch.nn.functional.dropout(x, training=False).grad_fn.name() == "ExpBackward0"


# ---- parts of a tensor: their gradients are added up in one memory


@pytest.mark.parametrize("leaf", [True, False])
def test_gradients_of_parts_add_up(leaf):
    def value(x):
        a, b, c = x.split(2, 1)
        return ((a * 2 + b.sin() * c).sum() + (x[0] * x[1]).sum() + x[2:].prod() + x.diagonal(1).exp().sum() + (x * x).sum()
                + x[1, 2] * x[1, 2] + x[::2, [0, 0]].sum() + x[None, ..., 3].sum())

    def grads(create_graph):
        x = torch.arange(24, dtype=torch.float64).reshape(4, 6).div(20).requires_grad_()
        seen = x if leaf else x * 1
        return torch.autograd.grad(value(seen), x, create_graph=create_graph)[0], x, seen
    together, x, _ = grads(True)        # by operations, each part on its own
    x2 = x.detach().clone().requires_grad_()
    value(x2 if leaf else x2 * 1).backward()
    np.testing.assert_allclose(x2.grad.numpy(), together.detach().numpy(), rtol=1e-14)
    value(x2).backward()
    np.testing.assert_allclose(x2.grad.numpy(), 2 * together.detach().numpy(), rtol=1e-14)


def test_gradients_of_parts_share_no_memory_with_what_hooks_keep():
    x = torch.ones(4, 3, requires_grad=True)
    y = x * 1
    kept = []
    y.register_hook(kept.append)
    parts = [y[0], y[1], y[1]]
    parts[1].register_hook(lambda g: kept.append(g))
    sum((k + 1.0) * p.sum() for k, p in enumerate(parts)).backward()
    expected = np.zeros((4, 3)) + np.array([1, 5, 0, 0])[:, None]
    assert np.array_equal(x.grad.numpy(), expected) and np.array_equal(kept[1].numpy(), expected)
    assert np.array_equal(kept[0].numpy(), [2] * 3)
    x.grad.zero_()
    assert np.array_equal(kept[1].numpy(), expected)


def test_a_row_at_a_time_costs_a_row_each():
    x = torch.zeros(2000, 500, requires_grad=True)
    y = x * 1
    torch.autograd.backward([y[i] for i in range(2000)], [torch.full((500,), float(i)) for i in range(2000)])
    assert np.array_equal(x.grad[:, 0].numpy(), np.arange(2000)) and (x.grad == x.grad[:, :1]).all()


def test_writes_through_a_view_take_gradients_of_any_layout():
    weight = torch.arange(9.0).reshape(3, 3)
    for turned in (False, True):
        x = torch.arange(9.0).reshape(3, 3).requires_grad_()
        n = torch.tensor(2.0, requires_grad=True)
        k = x * 1.5
        k = k.t().contiguous().t() if turned else k
        (k.t() if turned else k).view(-1)[::4].mul_(n)
        ((k if turned else k.t()) * weight).sum().backward()
        on = torch.eye(3)
        expected = 1.5 * (weight if turned else weight.t()) * (1 + on)
        assert torch.equal(x.grad, expected)
        assert n.grad.item() == (1.5 * torch.arange(9.0).reshape(3, 3) * weight * on).sum().item()
