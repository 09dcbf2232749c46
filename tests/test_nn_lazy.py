"""Layers that take their input's size from the first input."""
from __future__ import annotations

import copy
import pickle

import pytest

import fusetorch as torch
from fusetorch import nn


@pytest.mark.parametrize("make, plain, shape, weight", [
    (lambda: nn.LazyLinear(3), nn.Linear, (2, 4, 5), (3, 5)),
    (lambda: nn.LazyConv1d(6, 3, groups=2), nn.Conv1d, (2, 4, 7), (6, 2, 3)),
    (lambda: nn.LazyConv2d(6, 3, padding=1), nn.Conv2d, (4, 7, 7), (6, 4, 3, 3)),
    (lambda: nn.LazyConv3d(2, 1), nn.Conv3d, (1, 3, 2, 2, 2), (2, 3, 1, 1, 1)),
    (lambda: nn.LazyConvTranspose1d(6, 3), nn.ConvTranspose1d, (2, 4, 7), (4, 6, 3)),
    (lambda: nn.LazyConvTranspose2d(6, 3, groups=2), nn.ConvTranspose2d, (2, 4, 7, 7), (4, 3, 3, 3)),
    (lambda: nn.LazyBatchNorm1d(), nn.BatchNorm1d, (2, 4), (4,)),
    (lambda: nn.LazyBatchNorm2d(), nn.BatchNorm2d, (2, 4, 3, 3), (4,)),
    (lambda: nn.LazyInstanceNorm2d(), nn.InstanceNorm2d, (2, 4, 3, 3), (4,)),
])
def test_the_first_input_gives_the_shape(make, plain, shape, weight):
    layer = make()
    assert layer.has_uninitialized_params() and isinstance(layer.weight, nn.UninitializedParameter)
    keys = list(layer.state_dict())
    held = layer.weight
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied.has_uninitialized_params() and type(copied) is type(layer)
        copied(torch.ones(shape))
        assert copied.weight.shape == weight
    out = layer(torch.ones(shape))
    assert type(layer) is plain and layer.weight is held and layer.weight.shape == weight and list(layer.state_dict()) == keys
    assert not layer._forward_pre_hooks and not layer._load_state_dict_pre_hooks
    assert out.shape == plain.forward(layer, torch.ones(shape)).shape
    out.sum().backward()
    assert held.grad.shape == weight


def test_what_needs_a_shape_says_so():
    layer = nn.LazyLinear(3)
    with pytest.raises(RuntimeError, match="Can't access the shape of an uninitialized parameter"):
        layer.weight.shape  # noqa: B018
    for use in (lambda: layer.weight + 1, lambda: layer.weight.numel(), lambda: len(layer.weight), lambda: nn.init.zeros_(layer.weight)):
        with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter"):
            use()
    with pytest.raises(RuntimeError, match="Call `forward` to initialize"):
        nn.Linear(2, 3).load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="Expected 3D"):
        nn.LazyConv2d(2, 3)(torch.ones(3))
    assert repr(layer.weight) == "<UninitializedParameter>" and repr(layer) == "LazyLinear(in_features=0, out_features=3, bias=True)"


def test_optimizers_and_casts_hold_what_the_first_input_fills():
    layer = nn.LazyLinear(3).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    loss = layer(torch.ones(2, 4, dtype=torch.float64)).sum()
    before = layer.weight.detach().clone()
    loss.backward()
    optimizer.step()
    assert layer.weight.dtype is torch.float64 and torch.equal(layer.weight, before - 2)


def test_a_state_gives_shapes_too():
    layer, other = nn.LazyLinear(3), nn.Linear(4, 3)
    assert layer.load_state_dict(nn.LazyLinear(3).state_dict()).missing_keys == [] and layer.has_uninitialized_params()
    layer.load_state_dict(other.state_dict())
    assert not layer.has_uninitialized_params() and torch.equal(layer.weight, other.weight)
    layer(torch.ones(1, 4))
    assert repr(layer) == repr(other)


def test_a_lazy_module_of_ones_own():
    class Scale(nn.modules.lazy.LazyModuleMixin, nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.UninitializedParameter()

        def initialize_parameters(self, x):
            with torch.no_grad():
                self.factor.materialize((x.shape[-1],))
                self.factor.fill_(2)

        def forward(self, x):
            return x * self.factor

    scale = Scale()
    assert scale(torch.ones(3)).tolist() == [2.0, 2.0, 2.0] and type(scale) is Scale and not scale.has_uninitialized_params()
