"""``autograd.Function``: gradients written by the user."""
from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        assert x.shape == grad.shape
        return grad * ctx.factor, None


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


class Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        index = x.argmax()
        ctx.mark_non_differentiable(index)
        return x * 2, x * 3, index

    @staticmethod
    def backward(ctx, a, b, _):
        return a * 2 + b * 3


def test_gradient_and_arguments_that_are_no_tensors():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = Scale.apply(x, 3.0)
    assert y.grad_fn.name() == "ScaleBackward"
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [18.0, 36.0])


def test_saved_output_and_double_backward():
    x = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(g.detach().numpy(), np.exp([0.5, -1.0]))
    np.testing.assert_allclose(h.numpy(), np.exp([0.5, -1.0]))


def test_several_outputs_one_of_them_unused():
    x = torch.tensor([1.0, 5.0], requires_grad=True)
    a, b, index = Split.apply(x)
    assert index.item() == 1 and not index.requires_grad
    b.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [3.0, 3.0])


def test_not_recorded_without_grad():
    assert not Scale.apply(torch.ones(2), 2.0).requires_grad
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not Scale.apply(x, 2.0).requires_grad


def test_errors():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, grad):
            return grad

    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="incorrect number of gradients"):
        Wrong.apply(x, x).sum().backward()
    y = Scale.apply(x, 2.0)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()
    z = Scale.apply(x, 2.0)
    with torch.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_compiled():
    def f(x):
        return Scale.apply(Exp.apply(x), 2.0).sum()

    g = torch.compile(f)
    for _ in range(2):
        x = torch.tensor([0.1, 0.2], requires_grad=True)
        g(x).backward()
        np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp([0.1, 0.2]), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1,), (), (3,), (2, 1)])
@pytest.mark.parametrize("before", [lambda w: w, torch.exp, torch.compile(torch.exp)])
def test_gradients_fit_the_inputs(shape, before):
    class Divide(torch.autograd.Function):
        """Its gradient has the shape of the result, and another dtype."""

        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x / w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return None, (-g * x / w ** 2).double()

    x = torch.arange(6.0).reshape(2, 3)
    grads = []
    for f in (Divide.apply, torch.div):
        w = torch.full(shape, 0.5, requires_grad=True)
        f(x, before(w)).sum().backward()
        grads.append(w.grad)
    assert grads[0].dtype is torch.float32
    torch.testing.assert_close(*grads)
