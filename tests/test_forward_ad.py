"""Dual tensors, held to torch.func.jvp and to derivatives by hand."""
from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch
import fusetorch.autograd.forward_ad as fwAD
from fusetorch import nn


def test_tangents_of_results():
    x, v, y = torch.randn(3, 3), torch.randn(3, 3), torch.randn(3, 3)
    with fwAD.dual_level():
        dual = fwAD.make_dual(x, v)
        assert fwAD.unpack_dual(dual).tangent is v and fwAD.unpack_dual(dual).primal is x
        out = torch.tanh(dual @ y) + dual ** 2
        value, tangent = fwAD.unpack_dual(out)
        assert fwAD.unpack_dual(y).tangent is None and not tangent.requires_grad
        linear = fwAD.unpack_dual(dual * 2).tangent
    expected = torch.func.jvp(lambda x: torch.tanh(x @ y) + x ** 2, (x,), (v,))
    np.testing.assert_allclose(value.numpy(), expected[0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(tangent.numpy(), expected[1].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(linear.numpy(), 2 * v.numpy(), rtol=1e-6)
    assert fwAD.unpack_dual(out).tangent is None


def test_tangents_of_parameters():
    layer, x = nn.Linear(4, 2), torch.randn(5, 4)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    dw, db = torch.randn(2, 4), torch.randn(2)
    with fwAD.dual_level():
        for name, p, t in (("weight", weight, dw), ("bias", bias, db)):
            delattr(layer, name)
            setattr(layer, name, fwAD.make_dual(p, t))
        tangent = fwAD.unpack_dual(layer(x)).tangent
    np.testing.assert_allclose(tangent.numpy(), (x @ dw.T + db).numpy(), rtol=1e-4, atol=1e-5)


def test_levels_and_errors():
    with pytest.raises(RuntimeError, match="no level exists"):
        fwAD.make_dual(torch.ones(2), torch.ones(2))
    with fwAD.dual_level():
        with pytest.raises(RuntimeError, match="Nested forward mode"):
            fwAD.enter_dual_level()
        with pytest.raises(RuntimeError, match="tangent of the tensor's shape"):
            fwAD.make_dual(torch.ones(2), torch.ones(3))
        with pytest.raises(ValueError, match="floating point"):
            fwAD.make_dual(torch.ones(2), torch.ones(2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="never entered"):
        fwAD.exit_dual_level()


def test_a_function_without_backward_has_its_jvp() -> None:
    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.result, ctx.factor = torch.exp(x) * factor, factor
            return ctx.result

        @staticmethod
        def jvp(ctx, tangent, _):
            out = tangent * ctx.result
            del ctx.result
            return out

    x = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    with fwAD.dual_level():
        primal, tangent = fwAD.unpack_dual(Exp.apply(fwAD.make_dual(x, torch.tensor([1.0, 2.0], dtype=torch.float64)), 3.0))
    torch.testing.assert_close(primal, 3 * x.detach().exp())
    torch.testing.assert_close(tangent, 3 * x.detach().exp() * torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: Exp.apply(x, 3.0), (x,), check_forward_ad=True, check_backward_ad=False)
    assert torch.autograd.gradcheck(lambda x, y: (x * y.sin(), y.exp()), (x, x.detach().requires_grad_()), check_forward_ad=True)
    with pytest.raises(NotImplementedError, match="must implement the backward"):
        Exp.apply(x, 3.0).sum().backward()
