"""nn.utils: weight and spectral normalisation, parametrisations, functional_call."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import nn
from fusetorch.func import functional_call, stack_module_state
from fusetorch.nn.utils import parametrizations, parametrize, prune


def x(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def same(a, b, tol=1e-5):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).T


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("new", [False, True])
def test_weight_norm(dim, new):
    m = nn.Linear(5, 3)
    before = m.weight.detach().clone()
    (parametrizations.weight_norm if new else nn.utils.weight_norm)(m, dim=dim)
    g, v = (m.parametrizations.weight.original0, m.parametrizations.weight.original1) if new else (m.weight_g, m.weight_v)
    m(x(4, 5))
    same(m.weight, before)
    with torch.no_grad():
        g.mul_(2.0)
        v.mul_(5.0)  # only its direction counts
    m(x(4, 5)).sum().backward()
    same(m.weight, before * 2)
    # the direction's gradient has no part along the direction
    axes = tuple(d for d in range(2) if d != dim)
    same((v.grad * v).sum(axes), torch.zeros(np.sum(v.detach().numpy(), axes).shape), 1e-4)
    if new:
        parametrize.remove_parametrizations(m, "weight")
    else:
        nn.utils.remove_weight_norm(m)
    assert sorted(m.state_dict()) == ["bias", "weight"]
    same(m.weight, before * 2)


def test_the_new_weight_norm_loads_what_the_old_one_saved():
    old, new = nn.utils.weight_norm(nn.Linear(5, 3)), parametrizations.weight_norm(nn.Linear(5, 3))
    new.load_state_dict(old.state_dict())
    same(new(x(2, 5)), old(x(2, 5)))


@pytest.mark.parametrize("new", [False, True])
def test_spectral_norm(new):
    m = nn.Linear(6, 4)
    weight = m.weight.detach().clone()
    (parametrizations if new else nn.utils).spectral_norm(m)
    for _ in range(60):
        m(x(2, 6))
    m.eval()
    m(x(2, 6)).sum().backward()
    largest = np.linalg.svd(weight.numpy(), compute_uv=False)[0]
    same(m.weight, weight / float(largest), 1e-3)
    buffers = {k: v.clone() for k, v in m.named_buffers()}
    m(x(2, 6))
    for k, v in m.named_buffers():
        same(v, buffers[k], 0)
    if not new:
        nn.utils.remove_spectral_norm(m)
        assert sorted(m.state_dict()) == ["bias", "weight"]


@pytest.mark.parametrize("out", [3, 5, 8])
@pytest.mark.parametrize("how", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("around", [True, False])
def test_orthogonal(out, how, around):
    m = parametrizations.orthogonal(nn.Linear(5, out), orthogonal_map=how, use_trivialization=around)

    def check():
        w = m.weight
        same(w @ w.T if out < 5 else w.T @ w, torch.eye(min(out, 5)), 2e-5)

    check()
    opt = torch.optim.SGD(m.parameters(), 0.1)
    for _ in range(3):
        opt.zero_grad()
        m(x(4, 5)).square().mean().backward()
        opt.step()
    check()
    q = torch.linalg.qr(x(max(out, 5), min(out, 5)))[0]
    q = q if out >= 5 else q.T
    if around or how == "householder" or (how is None and out != 5):
        m.weight = q
        same(m.weight, q, 2e-5)
    else:
        with pytest.raises(NotImplementedError, match="use_trivialization=False"):
            m.weight = q


def test_parametrisations():
    m = nn.Linear(3, 3)
    original = m.weight
    parametrize.register_parametrization(m, "weight", Symmetric())
    assert m.parametrizations.weight.original is original
    assert list(dict(m.named_parameters())) == ["bias", "parametrizations.weight.original"]
    assert parametrize.is_parametrized(m) and parametrize.is_parametrized(m, "weight") and not parametrize.is_parametrized(m, "bias")
    assert type(m).__name__ == "ParametrizedLinear" and parametrize.type_before_parametrizations(m) is nn.Linear
    same(m.weight, m.weight.T)
    with parametrize.cached():
        assert m.weight is m.weight
    assert m.weight is not m.weight
    same(torch.compile(lambda t: m(t), fullgraph=True)(x(2, 3)), m(x(2, 3)))
    twin = copy.deepcopy(m)
    same(twin.weight, m.weight)
    assert twin.parametrizations.weight.original is not original
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(m)
    with pytest.raises(RuntimeError, match="right_inverse"):
        m.weight = torch.zeros(3, 3)
    parametrize.remove_parametrizations(m, "weight", leave_parametrized=False)
    assert m.weight is original and type(m) is nn.Linear and not parametrize.is_parametrized(m)


def test_parametrisations_that_do_not_fit():
    class Smaller(nn.Module):
        def forward(self, w):
            return w[:1]
    m = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="shape"):
        parametrize.register_parametrization(m, "weight", Smaller())
    assert isinstance(m.weight, nn.Parameter)
    with pytest.raises(ValueError, match="does not have"):
        parametrize.register_parametrization(m, "nothing", Symmetric())
    parametrize.register_parametrization(m, "weight", Smaller(), unsafe=True)
    assert m.weight.shape == (1, 3)


def test_functional_call():
    m = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    own = {k: v.detach().clone() for k, v in m.state_dict().items()}
    given = {k: torch.zeros_like(v).requires_grad_() for k, v in m.named_parameters()}
    y = functional_call(m, given, (x(4, 5),))
    same(y, torch.zeros(4, 3))
    y.sum().backward()
    assert given["1.bias"].grad.tolist() == [4.0] * 3 and m[1].bias.grad is None
    same(m[0].weight, own["0.weight"])
    buffers = {k: v.clone() for k, v in m.named_buffers()}
    functional_call(m, (dict(m.named_parameters()), buffers), x(4, 5))
    assert (buffers["1.num_batches_tracked"].item(), m[1].num_batches_tracked.item()) == (2, 1)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        functional_call(m, {"nothing": torch.zeros(1)}, x(4, 5))
    with pytest.raises(RuntimeError, match="Missing key"):
        functional_call(m, {"0.weight": own["0.weight"]}, x(4, 5), strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        functional_call(m, (own, own), x(4, 5))


def test_functional_call_with_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, t):
            return self.b(self.a(t))

    t = x(2, 4)
    same(functional_call(Tied(), {"a.weight": torch.eye(4) * 2}, t), t * 4)
    m = Tied()
    same(functional_call(m, {"a.weight": torch.eye(4)}, t, tie_weights=False), m.b(t))


def test_stack_module_state():
    parameters, buffers = stack_module_state([nn.BatchNorm1d(3) for _ in range(4)])
    assert parameters["weight"].shape == (4, 3) and parameters["weight"].requires_grad
    assert buffers["num_batches_tracked"].shape == (4,)


def test_skip_init():
    torch.manual_seed(0)
    want = torch.rand(2)
    torch.manual_seed(0)
    assert isinstance(nn.utils.skip_init(nn.Linear, 3, 2), nn.Linear)
    same(torch.rand(2), want, 0)
    with pytest.raises(RuntimeError, match="'device'"):
        nn.utils.skip_init(nn.ReLU)


def test_parallel_wrappers_hand_on():
    for wrapper in (nn.DataParallel, nn.parallel.DistributedDataParallel):
        inner = nn.Linear(2, 1)
        m = wrapper(inner)
        same(m(x(3, 2)), inner(x(3, 2)), 0)
        assert list(m.state_dict()) == ["module.weight", "module.bias"] and m.module is inner
    with m.no_sync():
        m(x(3, 2)).sum().backward()
    assert inner.weight.grad is not None
    with pytest.raises(NotImplementedError, match="2 devices"):
        nn.DataParallel(inner, device_ids=[0, 1])


@pytest.mark.parametrize("kind", [0.0, 0.5, 1, 2.0, 3.0, "inf", -float("inf")])
def test_total_norms(kind):
    grads = [x(3, 4), x(5), x()]
    values = np.concatenate([g.numpy().reshape(-1) for g in grads])
    want = float(kind)
    # an infinite norm of norms is the extreme element; a zero norm counts the tensors that are not zero
    expected = float(len(grads)) if want == 0 else np.linalg.norm(values, want)
    assert nn.utils.get_total_norm(grads, kind).item() == pytest.approx(expected, rel=1e-5)


class EveryOther(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


def test_pruning_keeps_the_original_and_a_mask():
    layer = nn.Linear(3, 4)
    weight = layer.weight.detach().clone()
    prune.l1_unstructured(layer, "weight", amount=5)
    assert [n for n, _ in layer.named_parameters()] == ["bias", "weight_orig"] and list(layer.state_dict()) == [
        "bias", "weight_orig", "weight_mask"]
    assert set(np.abs(weight.numpy()[layer.weight_mask.numpy() == 0])) == set(np.sort(np.abs(weight.numpy()).ravel())[:5])
    layer(torch.ones(2, 3)).sum().backward()
    assert (layer.weight_orig.grad == 2 * layer.weight_mask).all() and prune.is_pruned(layer)
    prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=0)  # two whole rows more
    (hook,) = layer._forward_pre_hooks.values()
    assert [type(m).__name__ for m in hook] == ["L1Unstructured", "LnStructured"]
    assert int((layer.weight == 0).all(dim=1).sum()) >= 2 and bool(((layer.weight == 0) >= (layer.weight_mask == 0)).all())
    pruned = layer.weight.detach().clone()
    prune.remove(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter) and not prune.is_pruned(layer) and "weight_mask" not in layer.state_dict()
    same(layer.weight, pruned)
    with pytest.raises(ValueError, match="has to be pruned before"):
        prune.remove(layer, "weight")


def test_pruning_over_several_modules_and_by_a_method_of_ones_own():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    prune.global_unstructured([(net[0], "weight"), (net[2], "weight")], pruning_method=prune.L1Unstructured, amount=0.25)
    zeros = [m.weight.detach().numpy().ravel() == 0 for m in (net[0], net[2])]
    assert sum(z.sum() for z in zeros) == 12
    originals = np.concatenate([np.abs(m.weight_orig.detach().numpy()).ravel() for m in (net[0], net[2])])
    assert originals[np.concatenate(zeros)].max() < originals[~np.concatenate(zeros)].min()
    EveryOther.apply(net[2], "bias")
    assert net[2].bias_mask.tolist() == [0.0, 1.0]
    assert net(torch.ones(1, 4)).shape == (1, 2)


@pytest.mark.parametrize("amount, error", [(-1, ValueError), (1.5, ValueError), ("a", TypeError), (13, ValueError)])
def test_pruning_refuses_amounts(amount, error):
    layer = nn.Linear(3, 4)
    with pytest.raises(error):
        prune.random_unstructured(layer, "weight", amount=amount)
    assert isinstance(layer.weight, nn.Parameter) and list(layer.state_dict()) in (["weight", "bias"], ["bias", "weight"])
