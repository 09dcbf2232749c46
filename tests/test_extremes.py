"""Corners that PyTorch's reference inputs visit: saturated activations, kinks, NaN, and the conventions of ``out=`` and in-place forms."""
from __future__ import annotations

import math
import warnings

import pytest

import fusetorch as torch
from fusetorch.nn import functional as F

FAR = (-math.inf, -1e4, -710.0, -90.0, 90.0, 710.0, 1e4)


@pytest.mark.parametrize("f", [torch.sigmoid, F.silu, F.mish, F.softplus, F.logsigmoid, torch.tanh], ids=lambda f: f.__name__)
@pytest.mark.parametrize("d", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 5000], ids=["numpy", "native"])
def test_saturated_gradients_are_finite(f, d, n):
    far = FAR[1:] if f in (F.silu, F.mish) else FAR
    x = torch.tensor(far, dtype=d).repeat(n).requires_grad_()
    (g,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    slope = {torch.sigmoid: (0, 0), torch.tanh: (0, 0), F.logsigmoid: (1, 0)}.get(f, (0, 1))
    want = torch.tensor([slope[v > 0] for v in far], dtype=d).repeat(n)
    torch.testing.assert_close(g.detach(), want, rtol=0, atol=1e-30)
    torch.testing.assert_close(h, torch.zeros_like(h), rtol=0, atol=1e-30)


def test_saturated_gradients_compiled():
    @torch.compile
    def f(x):
        return F.silu(x) + torch.sigmoid(x)
    x = torch.tensor([-1e4, -90.0, 0.0, 90.0], requires_grad=True)
    f(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 0.0, 0.75, 1.0]))


@pytest.mark.parametrize(("f", "slope"), [(F.elu, 1.0), (F.celu, 1.0), (F.selu, 1.7580993408473766)], ids=["elu", "celu", "selu"])
def test_slope_at_the_kink(f, slope):
    x = torch.zeros(3, requires_grad=True)
    f(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((3,), slope))


@pytest.mark.parametrize("n", [1, 5000], ids=["numpy", "native"])
def test_sign_of_nan_is_zero(n):
    x = torch.tensor([math.nan, -2.0, 3.0]).repeat(n).requires_grad_()
    assert torch.sign(x).tolist()[:3] == [0.0, -1.0, 1.0]
    x.abs().sum().backward()
    assert x.grad.tolist()[:3] == [0.0, -1.0, 1.0]


def test_where_as_a_method():
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert x.where(torch.tensor([True, False]), y).tolist() == [1.0, 4.0]
    assert x.where(torch.tensor([False, True]), 0).tolist() == [0.0, 2.0]


def test_out_of_another_shape_is_resized_with_a_warning():
    x = torch.rand(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.exp(x, out=torch.empty(0)).shape == (3,)
    with pytest.warns(UserWarning, match="was resized"):
        torch.exp(x, out=torch.empty(2))


def test_out_of_another_dtype():
    x = torch.rand(3)
    assert torch.exp(x, out=torch.empty(3, dtype=torch.float64)).dtype is torch.float64
    for f in (torch.floor, torch.neg, lambda x, out: torch.mm(x[None], x[:, None], out=out)):
        with pytest.raises(RuntimeError, match="Expected out tensor to have dtype"):
            f(x, out=torch.empty(3, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.exp(x, out=torch.empty(3, dtype=torch.int64))
    assert torch.cumsum(x, 0, out=torch.empty(3, dtype=torch.int64)).tolist() == [0, 0, 0]
    assert torch.arange(3, out=torch.empty(3)).dtype is torch.float32
    with pytest.raises(RuntimeError, match="does not match dtype of out"):
        torch.zeros(3, dtype=torch.float64, out=torch.empty(3))
    with pytest.raises(TypeError, match="must be tuple"):
        torch.sort(x, out=x)


def test_in_place_results_are_cast_upwards_only():
    for f in (lambda t: t.mvlgamma_(1), lambda t: t.polygamma_(1), lambda t: t.float_power_(2)):
        with pytest.raises(RuntimeError):
            f(torch.tensor([2, 3]))
    with pytest.raises(RuntimeError, match="requires dtype"):
        torch.rand(2).float_power_(2)
    assert torch.tensor([2.0, 3.0], dtype=torch.float64).float_power_(2).tolist() == [4.0, 9.0]


def test_changes_of_shape_in_place_count_as_writes():
    x = torch.rand(2, 3)
    for k, change in enumerate((lambda: x.t_(), lambda: x.unsqueeze_(0), lambda: x.squeeze_(), lambda: x.as_strided_((2,), (1,)))):
        assert x._version == k
        assert change() is x
    assert x.shape == (2,)


def test_in_place_forms_as_functions():
    x = torch.tensor([1.0, 4.0])
    assert torch.clamp_max_(x, 3.0) is x and torch.clamp_min_(x, 2.0).tolist() == [2.0, 3.0]
    assert torch.threshold_(x, 2.5, 0.0).tolist() == [0.0, 3.0] and x.divide_(3).tolist() == [0.0, 1.0]
    assert torch.resize_as_(torch.empty(0), x).shape == (2,) and torch.as_strided_(x, (1,), (1,)).tolist() == [0.0]
    assert not hasattr(torch, "add_")


@pytest.mark.parametrize("f", [torch.sigmoid, F.silu], ids=lambda f: f.__name__)
@pytest.mark.parametrize("d", [torch.float16, torch.bfloat16], ids=str)
def test_half_gradients_stay_half(f, d):
    x = torch.tensor([-2.0, 1.0], dtype=d, requires_grad=True)
    (g,) = torch.autograd.grad(f(x).sum(), x)
    assert g.dtype is d
