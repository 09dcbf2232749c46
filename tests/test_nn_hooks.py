"""Backward hooks, hooks of every module, hooks of state dicts; PyTorch's paths of layers."""

from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch import nn
from fusetorch.nn.modules import module as module_file


class Two(nn.Module):
    def forward(self, a, b, c=3):
        return a * 2, (a * b).sum()


def shapes(grads):
    return [None if g is None else tuple(g.shape) for g in grads]


def test_full_backward_hooks_see_and_change_gradients():
    seen = []
    m = Two()
    m.register_full_backward_hook(lambda module, gi, go: seen.append((shapes(gi), shapes(go))))
    pre = m.register_full_backward_pre_hook(lambda module, go: tuple(None if g is None else g * 2 for g in go))
    a, b = torch.ones(3, requires_grad=True), torch.ones(3)
    y, z = m(a, b)
    (y.sum() + z).backward()
    assert a.grad.tolist() == [6.0] * 3
    assert seen.pop() == ([(3,), (3,)], [(3,), ()])
    pre.remove()
    a.grad = None
    y, _ = m(a, b, 4)
    y.sum().backward()
    assert a.grad.tolist() == [2.0] * 3
    assert seen.pop() == ([(3,), (3,), None], [(3,), None])


def test_a_backward_hook_may_replace_the_gradient():
    m = nn.ReLU()
    handle = m.register_full_backward_hook(lambda module, gi, go: (gi[0] * 10,))
    x = torch.ones(2, requires_grad=True)
    m(x).sum().backward()
    assert x.grad.tolist() == [10.0, 10.0]
    handle.remove()
    x.grad = None
    m(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
    m.register_full_backward_hook(lambda module, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError, match="invalid number of grad_input"):
        m(x).sum().backward()


def test_backward_hooks_where_no_input_wants_a_gradient():
    seen = []
    m = nn.Linear(3, 2)
    m.register_full_backward_hook(lambda module, gi, go: seen.append((gi, tuple(go[0].shape))))
    m(torch.ones(4, 3)).sum().backward()
    assert seen == [((None,), (4, 2))] and m.weight.grad is not None
    with torch.no_grad():
        m(torch.ones(4, 3))
    assert len(seen) == 1


def test_the_two_kinds_of_backward_hooks_exclude_each_other():
    m = nn.ReLU()
    m.register_backward_hook(lambda module, gi, go: None)
    with pytest.raises(RuntimeError, match="Cannot use both"):
        m.register_full_backward_hook(lambda module, gi, go: None)


def test_hooks_of_every_module():
    seen = []
    before = module_file.register_module_forward_pre_hook(lambda module, args: seen.append("before " + type(module).__name__))
    after = module_file.register_module_forward_hook(lambda module, args, out: seen.append(type(module).__name__))
    back = module_file.register_module_full_backward_hook(lambda module, gi, go: seen.append("back " + type(module).__name__))
    x = torch.ones(2, requires_grad=True)
    nn.Sequential(nn.ReLU())(x).sum().backward()
    assert seen == ["before Sequential", "before ReLU", "ReLU", "Sequential", "back ReLU", "back Sequential"]
    for handle in (before, after, back):
        handle.remove()
    nn.ReLU()(x)
    assert len(seen) == 6


def test_registration_hooks():
    seen = []
    handles = [module_file.register_module_parameter_registration_hook(lambda m, name, p: seen.append(name)),
               module_file.register_module_buffer_registration_hook(lambda m, name, b: seen.append(name)),
               module_file.register_module_module_registration_hook(lambda m, name, c: seen.append(name))]
    m = nn.Module()
    m.bn = nn.BatchNorm1d(2)
    for handle in handles:
        handle.remove()
    m.other = nn.ReLU()
    assert seen == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked", "bn"]


def test_a_hook_added_after_compiling_is_seen():
    m = nn.ReLU()
    f = torch.compile(lambda x: m(x) * 2)
    x = torch.ones(2, requires_grad=True)
    f(x)
    m.register_full_backward_hook(lambda module, gi, go: (gi[0] * 10,))
    f(x).sum().backward()
    assert x.grad.tolist() == [20.0, 20.0]


def test_state_dict_hooks():
    m = nn.Linear(2, 1)
    m._register_state_dict_hook(lambda module, state, prefix, local: state.update({prefix + "more": torch.zeros(1)}))
    assert "more" in m.state_dict()
    n = nn.Linear(2, 1)

    def rename(state, prefix, *rest):
        state[prefix + "weight"] = state.pop(prefix + "w")

    n._register_load_state_dict_pre_hook(rename)
    n.load_state_dict({"w": torch.ones(1, 2), "bias": torch.zeros(1)})
    assert n.weight.tolist() == [[1.0, 1.0]]


def test_paths_of_layers():
    from fusetorch.nn.modules.batchnorm import _BatchNorm
    from fusetorch.nn.modules.loss import _Loss, _WeightedLoss

    from fusetorch.nn.modules.utils import _ntuple, _pair, _single, _triple
    assert issubclass(nn.BatchNorm2d, _BatchNorm) and torch.nn.modules.batchnorm._BatchNorm is _BatchNorm
    assert issubclass(_WeightedLoss, _Loss) and nn.modules.Linear is nn.Linear and nn.modules.Module is nn.Module
    assert (_single(1), _pair(2), _triple([1, 2, 3]), _ntuple(4)(0)) == ((1,), (2, 2), (1, 2, 3), (0, 0, 0, 0))


def test_submodules_may_be_replaced():
    m = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    m.set_submodule("1.0", nn.Tanh())
    assert isinstance(m[1][0], nn.Tanh)
    with pytest.raises(AttributeError, match="no attribute"):
        m.set_submodule("1.5", nn.Tanh(), strict=True)
    with pytest.raises(ValueError, match="not an nn.Module"):
        m.set_submodule("1.0", 3)
    assert m.to_empty(device="cpu")[0].weight.shape == (2, 2)


def test_unexpected_arguments():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__(3)
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        Odd()


def test_hooks_lie_in_their_tables_as_they_are():
    layer = nn.Linear(2, 2)

    def pre(module, args):
        return None

    def post(module, args, kwargs, output):
        return None

    first, second = layer.register_forward_pre_hook(pre), layer.register_forward_hook(post, with_kwargs=True, always_call=True)
    assert list(layer._forward_pre_hooks.values()) == [pre] and not layer._forward_pre_hooks_with_kwargs
    assert list(layer._forward_hooks.values()) == [post]
    assert list(layer._forward_hooks_with_kwargs) == list(layer._forward_hooks_always_called) == [second.id]
    second.remove()
    first.remove()
    assert not (layer._forward_pre_hooks or layer._forward_hooks or layer._forward_hooks_with_kwargs or layer._forward_hooks_always_called)
