"""fusetorch.nn: modules, parameters, containers, initialisation, losses."""
from __future__ import annotations

import copy
import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import nn
from fusetorch.tensor import structure_version


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4, bias=False))
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("count", torch.zeros(2))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.missing = None

    def forward(self, x):
        return self.norm(self.body(x)) * self.scale


# ---------------------------------------------------------------------------------------------------------- Module

def test_registration_and_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "body.0.weight", "body.0.bias", "body.2.weight",
                                                      "norm.weight", "norm.bias"]
    assert [n for n, _ in net.named_buffers()] == ["count", "scratch"]
    assert [n for n, _ in net.named_children()] == ["body", "norm"]
    assert [n for n, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "body.2", "norm"]
    assert list(net.state_dict()) == ["scale", "count", "body.0.weight", "body.0.bias", "body.2.weight", "norm.weight",
                                      "norm.bias"]
    assert net.body[2].bias is None
    assert "scale" in dir(net)


def test_shared_parameters_are_listed_once():
    net = nn.Module()
    net.a = nn.Linear(2, 2)
    net.b = nn.Linear(2, 2)
    net.b.weight = net.a.weight
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    net.c = net.a
    assert [n for n, _ in net.named_modules()] == ["", "a", "b"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "a", "b", "c"]


def test_assignment_rules():
    net = Net()
    with pytest.raises(TypeError, match="cannot assign .* as parameter 'scale' .torch.nn.Parameter or None expected"):
        net.scale = torch.zeros(4)
    with pytest.raises(TypeError, match="cannot assign .* as child module 'norm'"):
        net.norm = 3
    with pytest.raises(TypeError, match="cannot assign .* as buffer 'count'"):
        net.count = "no"
    net.count = torch.ones(3)
    assert net.count.shape == (3,) and "count" in net._buffers
    net.scale = None
    assert "scale" not in dict(net.named_parameters()) and net.scale is None
    del net.norm
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'norm'"):
        net.norm  # noqa: B018
    net.plain = nn.Parameter(torch.zeros(1))
    net.plain2 = 5
    net.plain2 = nn.Linear(1, 1)
    assert "plain" in net._parameters and "plain2" in net._modules and "plain2" not in net.__dict__


def test_names_are_checked():
    m = nn.Module()
    with pytest.raises(KeyError, match='contain "."'):
        m.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="empty string"):
        m.register_buffer("", None)
    with pytest.raises(KeyError, match="already exists"):
        m.add_module("forward", nn.ReLU())
    with pytest.raises(TypeError, match="is not a Module subclass"):
        m.add_module("x", 3)
    made = nn.Parameter(torch.ones(2), requires_grad=False)
    made.mul_(nn.Parameter(torch.ones(2)))
    with pytest.raises(ValueError, match="non-leaf"):
        m.register_parameter("p", made)


def test_init_must_be_called_first():
    class Bad(nn.Module):
        def __init__(self):
            self.p = nn.Parameter(torch.zeros(1))

    with pytest.raises(AttributeError, match=r"cannot assign parameters before Module.__init__\(\) call"):
        Bad()


def test_structure_changes_are_announced():
    net = Net()

    def bumps(change):
        before = structure_version()
        change()
        return structure_version() > before

    assert bumps(lambda: setattr(net, "scale", nn.Parameter(torch.ones(4))))
    assert bumps(lambda: setattr(net, "count", torch.ones(2)))
    assert bumps(lambda: setattr(net, "extra", nn.ReLU()))
    assert bumps(lambda: delattr(net, "extra"))
    assert bumps(lambda: net.eval())
    assert not bumps(lambda: net.eval())
    assert not bumps(lambda: setattr(net, "note", 3))
    assert not bumps(lambda: net(torch.ones(1, 3)))


def test_paths():
    net = Net()
    assert net.get_submodule("body.0") is net.body[0] and net.get_submodule("") is net
    assert net.get_parameter("body.0.weight") is net.body[0].weight
    assert net.get_buffer("count") is net.count
    with pytest.raises(AttributeError, match="Sequential has no attribute `7`"):
        net.get_submodule("body.7")
    with pytest.raises(AttributeError, match="is not an nn.Module"):
        net.get_submodule("scale")
    with pytest.raises(AttributeError, match="is not an nn.Parameter"):
        net.get_parameter("body")
    net.set_submodule("body.1", nn.Tanh())
    assert isinstance(net.body[1], nn.Tanh)


def test_hooks():
    layer = nn.ReLU()
    seen = []
    handle = layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    layer.register_forward_hook(lambda m, args, out: seen.append((args[0].item(), out.item())))
    doubling = layer.register_forward_hook(lambda m, args, out: out * 2)
    assert layer(torch.tensor(1.0)).item() == 4.0 and seen == [(2.0, 2.0)]
    handle.remove()
    doubling.remove()
    doubling.remove()
    assert layer(torch.tensor(1.0)).item() == 1.0

    class Sum(nn.Module):
        def forward(self, a, b=0):
            if b < 0:
                raise ValueError("negative")
            return a + b

    m = Sum()
    m.register_forward_pre_hook(lambda mod, args, kwargs: (args, {"b": kwargs["b"] + 1}), with_kwargs=True)
    late = []
    m.register_forward_hook(lambda mod, args, kwargs, out: late.append((kwargs, out)), with_kwargs=True, always_call=True)
    m.register_forward_hook(lambda mod, args, out: out + 100, prepend=True)
    assert m(1, b=2) == 104 and late == [({"b": 3}, 104)]
    with pytest.raises(ValueError, match="negative"):
        m(1, b=-5)
    assert late[-1] == ({"b": -4}, None)


def test_train_eval_apply_requires_grad_zero_grad():
    net = Net()
    assert net.training and not net.eval().norm.training and net.train().norm.training
    with pytest.raises(ValueError, match="boolean"):
        net.train(1)
    order = []
    net.apply(lambda m: order.append(type(m).__name__))
    assert order == ["Linear", "ReLU", "Linear", "Sequential", "LayerNorm", "Net"]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    net(torch.randn(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_dtype_changes_keep_parameter_identity():
    net = Net()
    net(torch.randn(2, 3)).sum().backward()
    before = list(net.parameters())
    net.register_buffer("index", torch.arange(3))
    net.double()
    assert all(a is b for a, b in zip(before, net.parameters()))
    assert net.scale.dtype is torch.float64 and net.scale.grad.dtype is torch.float64
    assert net.count.dtype is torch.float64 and net.index.dtype is torch.int64
    assert net(torch.randn(2, 3, dtype=torch.float64)).dtype is torch.float64
    assert net.to(torch.float32).scale.dtype is torch.float32
    assert net.half().scale.dtype is torch.float16 and net.bfloat16().scale.dtype is torch.bfloat16
    assert net.float().to("cpu").scale.dtype is torch.float32
    assert net.to(torch.zeros(1, dtype=torch.float64)).scale.dtype is torch.float64
    with pytest.raises(TypeError, match="floating point"):
        net.to(torch.int32)


def test_copy_and_pickle():
    net = Net()
    x = torch.randn(2, 3)
    want = net(x).tolist()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin(x).tolist() == want
        assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in twin.parameters())
        with torch.no_grad():
            twin.scale.mul_(0)
        assert net(x).tolist() == want
        assert list(twin.state_dict()) == list(net.state_dict())
    tied = nn.ModuleList([nn.Linear(2, 2)] * 2)
    twin = copy.deepcopy(tied)
    assert twin[0] is twin[1]


def test_repr():
    assert repr(Net()) == (
        "Net(\n  (body): Sequential(\n    (0): Linear(in_features=3, out_features=4, bias=True)\n    (1): ReLU()\n"
        "    (2): Linear(in_features=4, out_features=4, bias=False)\n  )\n"
        "  (norm): LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)\n)")
    assert repr(nn.Module()) == "Module()"
    assert repr(nn.Parameter(torch.zeros(2))) == "Parameter containing:\ntensor([0., 0.], requires_grad=True)"


def test_forward_must_exist():
    with pytest.raises(NotImplementedError, match='missing the required "forward" function'):
        nn.Module()(1)


# ------------------------------------------------------------------------------------------------------ state dicts

def test_state_dict_round_trip():
    a, b = Net(), Net()
    assert repr(b.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
    for x, y in zip(a.state_dict().values(), b.state_dict().values()):
        assert x.tolist() == y.tolist()
    state = a.state_dict()
    assert not state["scale"].requires_grad
    with torch.no_grad():
        a.scale.fill_(7)
    assert state["scale"].tolist() == [7.0] * 4  # shares memory
    assert a.state_dict(keep_vars=True)["scale"] is a.scale
    assert list(a.state_dict(prefix="p."))[0] == "p.scale"


def test_load_state_dict_errors():
    net = Net()
    state = net.state_dict()
    del state["scale"]
    state["body.0.weight"] = torch.zeros(1)
    state["other"] = torch.zeros(1)
    state["body.9.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as e:
        net.load_state_dict(state)
    assert str(e.value) == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "scale". \n\t'
        'Unexpected key(s) in state_dict: "other", "body.9.weight". \n\t'
        "size mismatch for body.0.weight: copying a param with shape torch.Size([1]) from checkpoint, the shape in current "
        "model is torch.Size([4, 3]).")
    state["body.0.weight"] = net.body[0].weight.detach()
    keys = net.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["scale"] and set(keys.unexpected_keys) == {"other", "body.9.weight"}
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict([1])


def test_load_assign_and_extra_state():
    a, b = Net(), Net()
    b.load_state_dict(a.state_dict(), assign=True)
    assert isinstance(b.scale, nn.Parameter)
    with torch.no_grad():
        a.scale.fill_(3)
    assert b.scale.tolist() == [3.0] * 4

    class Counting(nn.Module):
        calls = 0

        def get_extra_state(self):
            return {"calls": self.calls}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    c, d = Counting(), Counting()
    c.calls = 5
    d.load_state_dict(c.state_dict())
    assert d.calls == 5
    with pytest.raises(RuntimeError, match="_extra_state"):
        d.load_state_dict({})


def test_state_dict_hooks():
    net = nn.Linear(2, 2)

    def without_bias(module, state, prefix, metadata):
        del state[prefix + "bias"]

    net.register_state_dict_post_hook(without_bias)
    assert list(net.state_dict()) == ["weight"]
    net.register_load_state_dict_pre_hook(lambda m, state, prefix, *rest: state.setdefault(prefix + "bias", torch.ones(2)))
    loaded = []
    net.register_load_state_dict_post_hook(lambda m, keys: loaded.append(keys.missing_keys))
    net.load_state_dict(net.state_dict())
    assert net.bias.tolist() == [1.0, 1.0] and loaded == [[]]


# ------------------------------------------------------------------------------------------------------- containers

def test_sequential():
    s = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU()))
    assert isinstance(s.a, nn.Linear) and s[1] is s.b and s[-1] is s.b and len(s[:1]) == 1 and list(s[:1]._modules) == ["a"]
    assert len(s + nn.Sequential(nn.Tanh())) == 3 and len(s * 2) == 4
    s.append(nn.Tanh())
    s.insert(0, nn.Identity())
    assert [type(m).__name__ for m in s] == ["Identity", "Linear", "ReLU", "Tanh"]
    assert isinstance(s.pop(0), nn.Identity) and list(s._modules) == ["0", "1", "2"]
    s[0] = nn.Linear(2, 5)
    assert s(torch.zeros(1, 2)).shape == (1, 5)
    with pytest.raises(IndexError, match="index 9 is out of range"):
        s[9]
    with pytest.raises(TypeError, match="is not a Module subclass"):
        nn.Sequential(3)


def test_module_list_and_dict():
    m = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
    m += [nn.Tanh()]
    m.extend(nn.ModuleList([nn.Tanh()]))
    del m[1]
    assert [type(x).__name__ for x in m] == ["Linear", "Tanh", "Tanh"] and list(m._modules) == ["0", "1", "2"]
    assert isinstance(m[1:], nn.ModuleList) and len(m[1:]) == 2 and len(m + [nn.ReLU()]) == 4
    assert repr(m) == "ModuleList(\n  (0): Linear(in_features=1, out_features=1, bias=True)\n  (1-2): 2 x Tanh()\n)"
    d = nn.ModuleDict({"a": nn.ReLU()})
    d.update([["b", nn.Tanh()]])
    d["c"] = nn.Linear(1, 1)
    assert list(d) == list(d.keys()) == ["a", "b", "c"] and "b" in d and len(d) == 3
    assert isinstance(d.pop("b"), nn.Tanh) and [k for k, _ in d.items()] == ["a", "c"]
    assert len(list(d.parameters())) == 2
    with pytest.raises(KeyError):
        del d["zz"]
    d.clear()
    assert len(d) == 0


def test_parameter_list_and_dict():
    p = nn.ParameterList([torch.zeros(2), nn.Parameter(torch.ones(3))])
    p.append(torch.zeros(1))
    p[0] = torch.ones(2)
    assert len(p) == 3 and all(isinstance(x, nn.Parameter) for x in p) and len(list(p.parameters())) == 3
    assert p[0].tolist() == [1.0, 1.0] and len(p[1:]) == 2 and list(p.state_dict()) == ["0", "1", "2"]
    d = nn.ParameterDict({"a": torch.zeros(2), "keys": torch.ones(1)})
    d.update({"b": torch.zeros(3)})
    assert list(d.keys()) == ["a", "keys", "b"] and isinstance(d["keys"], nn.Parameter) and len(list(d.parameters())) == 3
    assert d.get("none") is None and len(d | {"z": torch.zeros(1)}) == 4 and len(d) == 3
    assert d.popitem()[0] == "b" and "b" not in d
    assert "Parameter containing: [torch.FloatTensor of size 2]" in repr(d)


def test_flatten_unflatten_identity():
    x = torch.zeros(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Unflatten(1, (3, 4))(torch.zeros(2, 12)).shape == (2, 3, 4)
    assert nn.Identity(1, a=2)(x) is x
    with pytest.raises(TypeError, match="tuple of ints"):
        nn.Unflatten(1, 3)


# ----------------------------------------------------------------------------------------------------------- layers

def test_linear_default_initialisation():
    torch.manual_seed(0)
    layer = nn.Linear(400, 300)
    bound = 1 / math.sqrt(400)
    for t in (layer.weight, layer.bias):
        a = t.detach().numpy()
        assert np.abs(a).max() <= bound and np.abs(a).max() > 0.9 * bound
    a = layer.weight.detach().numpy()
    assert abs(a.std() - bound / math.sqrt(3)) < 1e-3 * bound * 10 and abs(a.mean()) < bound / 100
    x = torch.randn(5, 400)
    want = x.numpy() @ a.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=1e-4, atol=1e-5)


def test_sizes_may_be_numpy_integers():
    three = np.int64(3)
    assert nn.LayerNorm(three).normalized_shape == nn.RMSNorm(three).normalized_shape == (3,)
    assert nn.Conv2d(2, 4, three).kernel_size == nn.MaxUnpool2d(three).kernel_size == (3, 3)
    assert nn.ZeroPad1d(three).padding == (3, 3)


def test_embedding():
    e = nn.Embedding(5, 3, padding_idx=-1)
    assert e.padding_idx == 4 and e.weight[4].tolist() == [0.0] * 3
    out = e(torch.tensor([[0, 4], [2, 2]]))
    assert out.shape == (2, 2, 3)
    out.sum().backward()
    assert e.weight.grad[:, 0].tolist() == [1.0, 0.0, 2.0, 0.0, 0.0]
    fixed = nn.Embedding.from_pretrained(torch.ones(4, 2))
    assert not fixed.weight.requires_grad and fixed.num_embeddings == 4
    with pytest.raises(AssertionError, match="within num_embeddings"):
        nn.Embedding(5, 3, padding_idx=7)


def test_dropout_layer():
    layer = nn.Dropout(0.25)
    torch.manual_seed(0)
    y = layer(torch.ones(10000))
    kept = (y != 0).sum().item()
    assert 7200 < kept < 7800 and sorted(set(y.tolist())) == [0.0, pytest.approx(4 / 3)]
    x = torch.ones(5)
    assert layer.eval()(x).tolist() == [1.0] * 5
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_other_dropouts():
    torch.manual_seed(0)
    for make, shape in ((nn.Dropout1d, (8, 16, 5)), (nn.Dropout2d, (8, 16, 3, 2)), (nn.Dropout3d, (8, 16, 2, 2, 2))):
        y = make(0.5)(torch.ones(shape)).reshape(8 * 16, -1)
        assert ((y == y[:, :1]).all()) and 20 < (y[:, 0] == 0).sum().item() < 108  # whole channels
        assert make(0.5).eval()(torch.ones(shape)).sum().item() == math.prod(shape)
    y = nn.AlphaDropout(0.3)(torch.randn(200, 100))
    assert abs(y.mean().item()) < 0.05 and abs(y.std().item() - 1) < 0.05
    y = nn.FeatureAlphaDropout(0.5)(torch.ones(4, 8, 3)).reshape(32, 3)
    assert (y == y[:, :1]).all()
    assert repr(nn.AlphaDropout()) == "AlphaDropout(p=0.5, inplace=False)"


def test_norms_and_distances_against_formulae():
    x = torch.randn(3, 5)
    a = x.numpy().astype(np.float64)
    layer = nn.LayerNorm(5)
    want = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=1e-4, atol=1e-5)
    assert nn.LayerNorm((2, 3), bias=False).bias is None and nn.LayerNorm(2, elementwise_affine=False).weight is None
    rms = nn.RMSNorm(5, eps=1e-6)
    np.testing.assert_allclose(rms(x).detach().numpy(), a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-6), rtol=1e-4)
    assert repr(rms) == "RMSNorm((5,), eps=1e-06, elementwise_affine=True)"
    y = torch.randn(3, 5)
    b = y.numpy().astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(nn.CosineSimilarity()(x, y).numpy(), cosine, rtol=1e-4, atol=1e-6)
    distance = np.linalg.norm(a - b + 1e-6, axis=1, keepdims=True)
    np.testing.assert_allclose(nn.PairwiseDistance(keepdim=True)(x, y).numpy(), distance, rtol=1e-4)


def test_losses_against_formulae():
    x = torch.tensor([[1.0, 2.0, 0.5], [0.1, 0.2, 3.0]])
    t = torch.tensor([2, 0])
    p = np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True)
    nll = -np.log(p[[0, 1], [2, 0]])
    assert nn.CrossEntropyLoss()(x, t).item() == pytest.approx(nll.mean(), rel=1e-5)
    assert nn.CrossEntropyLoss(reduction="sum")(x, t).item() == pytest.approx(nll.sum(), rel=1e-5)
    w = torch.tensor([1.0, 2.0, 3.0])
    assert nn.CrossEntropyLoss(weight=w)(x, t).item() == pytest.approx((nll * [3, 1]).sum() / 4, rel=1e-5)
    assert nn.NLLLoss()(nn.LogSoftmax(dim=1)(x), t).item() == pytest.approx(nll.mean(), rel=1e-5)
    assert nn.CrossEntropyLoss(ignore_index=0)(x, t).item() == pytest.approx(nll[0], rel=1e-5)
    a, b = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 1.0])
    assert nn.MSELoss()(a, b).item() == pytest.approx((0.25 + 9) / 2)
    assert nn.L1Loss(reduction="none")(a, b).tolist() == [0.5, 3.0]
    assert nn.SmoothL1Loss()(a, b).item() == pytest.approx((0.125 + 2.5) / 2)
    assert nn.HuberLoss(delta=2.0)(a, b).item() == pytest.approx((0.125 + 2 * (3 - 1)) / 2)
    q, y = torch.tensor([0.2, 0.9]), torch.tensor([0.0, 1.0])
    bce = -np.log([0.8, 0.9]).mean()
    assert nn.BCELoss()(q, y).item() == pytest.approx(bce, rel=1e-5)
    logits = torch.log(q / (1 - q))
    assert nn.BCEWithLogitsLoss()(logits, y).item() == pytest.approx(bce, rel=1e-5)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    assert "weight" in dict(nn.CrossEntropyLoss(weight=w).named_buffers())


# ------------------------------------------------------------------------------------------------------------- init

def _filled(fill, *args, shape=(200, 300), **kwargs):
    torch.manual_seed(1)
    t = nn.Parameter(torch.zeros(shape))
    assert fill(t, *args, **kwargs) is t and t.requires_grad and t.grad_fn is None
    return t.detach().numpy()


def test_init_distributions():
    init = nn.init
    bound = math.sqrt(6 / 500)
    a = _filled(init.xavier_uniform_)
    assert bound * 0.99 < np.abs(a).max() <= bound
    assert _filled(init.xavier_normal_, gain=2.0).std() == pytest.approx(2 * math.sqrt(2 / 500), rel=0.02)
    assert _filled(init.kaiming_normal_, nonlinearity="relu").std() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    a = _filled(init.kaiming_uniform_, a=math.sqrt(5), mode="fan_out")
    assert np.abs(a).max() == pytest.approx(1 / math.sqrt(200), rel=0.01)
    a = _filled(init.uniform_, -2.0, 3.0)
    assert -2 <= a.min() < -1.99 and 2.99 < a.max() <= 3
    a = _filled(init.normal_, 5.0, 0.1)
    assert a.mean() == pytest.approx(5, abs=0.01) and a.std() == pytest.approx(0.1, rel=0.02)
    a = _filled(init.trunc_normal_, std=2.0, a=-1.0, b=1.5)
    assert -1 <= a.min() < -0.99 and 1.49 < a.max() <= 1.5
    a = _filled(init.trunc_normal_, a=2.0, b=4.0)  # a tail: the other way of drawing
    assert 2 <= a.min() < 2.01 and a.max() <= 4 and a.mean() == pytest.approx(2.3661, abs=0.01)  # scipy.stats.truncnorm
    a = _filled(init.sparse_, 0.3, shape=(50, 20))
    assert ((a == 0).sum(0) == 15).all()
    for shape in ((6, 9), (9, 6), (4, 2, 3)):
        a = _filled(init.orthogonal_, gain=2.0, shape=shape).reshape(shape[0], -1)
        small = a @ a.T if a.shape[0] <= a.shape[1] else a.T @ a
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_init_constants_and_errors():
    init = nn.init
    assert _filled(init.constant_, 3.0, shape=(2,)).tolist() == [3.0, 3.0]
    assert _filled(init.ones_, shape=(2,)).tolist() == [1.0, 1.0] and _filled(init.zeros_, shape=(1,)).tolist() == [0.0]
    np.testing.assert_array_equal(_filled(init.eye_, shape=(2, 3)), np.eye(2, 3))
    a = _filled(init.dirac_, shape=(4, 2, 3), groups=2)
    assert a.sum() == 4 and a[0, 0, 1] == a[1, 1, 1] == a[2, 0, 1] == a[3, 1, 1] == 1
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))
    assert init.calculate_gain("tanh") == pytest.approx(5 / 3) and init.calculate_gain("conv2d") == 1
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("gelu")
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(torch.zeros(3))
    with pytest.warns(UserWarning, match="no-op"):
        init.kaiming_normal_(torch.zeros(0, 3))
    with pytest.warns(FutureWarning, match="deprecated"):
        init.normal(torch.zeros(2))


# ------------------------------------------------------------------------------------------------------------ utils

def test_gradient_clipping():
    ps = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    ps[0].grad, ps[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert nn.utils.clip_grad_norm_(ps, 10.0).item() == 5.0 and ps[0].grad.tolist() == [3.0, 0.0]
    nn.utils.clip_grad_norm_(iter(ps), 1.0)
    np.testing.assert_allclose(ps[0].grad.tolist(), [0.6, 0.0], rtol=1e-5)
    assert nn.utils.clip_grad_norm_(ps, 1.0, norm_type=math.inf).item() == pytest.approx(0.8)
    ps[0].grad = torch.tensor([-3.0, 0.25])
    nn.utils.clip_grad_value_(ps, 0.5)
    assert ps[0].grad.tolist() == [-0.5, 0.25]
    ps[0].grad = torch.tensor([math.nan, 0.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


def test_parameters_to_vector_and_back():
    net = nn.Linear(2, 3)
    v = nn.utils.parameters_to_vector(net.parameters())
    assert v.shape == (9,)
    nn.utils.vector_to_parameters(torch.arange(9.0), net.parameters())
    assert net.weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] and net.bias.tolist() == [6.0, 7.0, 8.0]
    assert net.weight.requires_grad


def test_buffers_and_parameters_are_tensors():
    p = nn.Parameter(torch.arange(3.0))
    assert isinstance(p, torch.Tensor) and type(p + 1) is torch.Tensor and (p * 2).sum().requires_grad
    assert nn.Parameter(torch.arange(3), requires_grad=False).dtype is torch.int64
    with pytest.raises(RuntimeError, match="floating"):
        nn.Parameter(torch.arange(3))
    m = nn.Module()
    m.b = nn.Buffer(torch.zeros(2), persistent=False)
    assert dict(m.named_buffers())["b"] is m.b and not m.state_dict() and not m.b.requires_grad


# --------------------------------------------------------------------------------------------------------- compiled

def test_a_compiled_module_equals_the_eager_one():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 2))
    compiled = torch.compile(model)
    x = torch.randn(3, 4)
    runs = []
    for f in (compiled, model):
        torch.manual_seed(0)
        runs.append([f(x).tolist(), f(x).tolist()])
    assert runs[0][0] != runs[0][1]  # a new mask at each call
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5, atol=1e-6)
    model.eval()
    np.testing.assert_allclose(compiled(x).tolist(), model(x).tolist(), rtol=1e-5, atol=1e-6)
    model[3].weight = nn.Parameter(torch.zeros(2, 8))
    assert compiled(x).tolist() == model(x).tolist() == [model[3].bias.tolist()] * 3
    with torch.no_grad():
        model[3].bias.fill_(7)
    assert compiled(x).tolist() == [[7.0, 7.0]] * 3


def test_a_module_compiled_in_place():
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh())
    x = torch.randn(3, 4)
    want = model(x).tolist()
    model.compile()
    np.testing.assert_allclose(model(x).tolist(), want, rtol=1e-6, atol=1e-6)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(twin(x).tolist(), want, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- peer

ACTIVATIONS = {
    "CELU": (), "ELU": (1.5,), "GELU": ("tanh",), "GLU": (0,), "Hardshrink": (0.3,), "Hardsigmoid": (), "Hardswish": (),
    "Hardtanh": (-2.0, 1.0), "LeakyReLU": (0.2,), "LogSigmoid": (), "LogSoftmax": (1,), "Mish": (), "PReLU": (), "ReLU": (),
    "ReLU6": (), "SELU": (), "SiLU": (), "Sigmoid": (), "Softmax": (1,), "Softmin": (0,), "Softplus": (2.0, 1.5),
    "Softshrink": (), "Softsign": (), "Tanh": (), "Tanhshrink": (), "Threshold": (0.1, 20.0)}


@pytest.mark.peer
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_pytorch(name):
    peer = pytest.importorskip("torch")
    ours, theirs = (getattr(t.nn, name)(*ACTIVATIONS[name]).double() for t in (torch, peer))
    assert repr(ours) == repr(theirs)
    data = np.random.default_rng(0).normal(size=(4, 7)) * 3
    x, y = torch.tensor(data, requires_grad=True), peer.tensor(data, requires_grad=True)
    (ours(x) ** 2).sum().backward()
    (theirs(y) ** 2).sum().backward()
    np.testing.assert_allclose(ours(x).detach().numpy(), theirs(y).detach().numpy(), rtol=1e-12, atol=1e-12)
    # PyTorch's hardsigmoid gradient is 1/6 rounded to float32
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-7 if name == "Hardsigmoid" else 1e-10, atol=1e-12)
    if hasattr(theirs, "inplace"):
        ours, theirs = (getattr(t.nn, name)(*ACTIVATIONS[name], inplace=True) for t in (torch, peer))
        assert repr(ours) == repr(theirs)
        z = x.detach().clone()
        assert ours(z) is z
        np.testing.assert_allclose(z.numpy(), theirs(y.detach().clone()).numpy(), rtol=1e-12, atol=1e-12)


LOSSES = {
    "BCELoss": ("unit", "unit"), "BCEWithLogitsLoss": ("real", "unit"), "HuberLoss": ("real", "real"),
    "KLDivLoss": ("real", "unit"), "L1Loss": ("real", "real"), "MSELoss": ("real", "real"), "SmoothL1Loss": ("real", "real"),
    "PoissonNLLLoss": ("real", "unit"), "GaussianNLLLoss": ("real", "real", "unit"), "SoftMarginLoss": ("real", "sign"),
    "MarginRankingLoss": ("row", "row", "signs"), "HingeEmbeddingLoss": ("real", "sign"),
    "CosineEmbeddingLoss": ("real", "real", "signs"), "TripletMarginLoss": ("real", "real", "real"),
    "CrossEntropyLoss": ("real", "class"), "NLLLoss": ("real", "class")}


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_pytorch(name, reduction):
    peer = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    make = {"real": lambda: rng.normal(size=(5, 4)), "unit": lambda: rng.uniform(0.1, 0.9, size=(5, 4)),
            "sign": lambda: np.sign(rng.normal(size=(5, 4))), "signs": lambda: np.sign(rng.normal(size=5)),
            "row": lambda: rng.normal(size=5), "class": lambda: rng.integers(0, 4, size=5)}
    data = [make[kind]() for kind in LOSSES[name]]
    results = []
    for t in (torch, peer):
        args = [t.tensor(a) for a in data]
        args[0].requires_grad_()
        loss = getattr(t.nn, name)(reduction=reduction)
        out = loss(*args)
        out.sum().backward()
        results.append((repr(loss), out.detach().numpy(), args[0].grad.numpy()))
    (a, out_a, grad_a), (b, out_b, grad_b) = results
    assert a == b
    np.testing.assert_allclose(out_a, out_b, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grad_a, grad_b, rtol=1e-9, atol=1e-12)


@pytest.mark.peer
def test_model_equals_pytorch():
    peer = pytest.importorskip("torch")

    def build(t):
        return t.nn.Sequential(t.nn.Embedding(10, 6, padding_idx=0), t.nn.Linear(6, 8), t.nn.GELU(), t.nn.LayerNorm(8),
                               t.nn.Dropout(0.0), t.nn.Flatten(), t.nn.Linear(24, 3)).double()

    ours, theirs = build(torch), build(peer)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: torch.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    index = np.array([[0, 1, 2], [3, 9, 9]])
    target = np.array([2, 0])
    a = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(ours(torch.tensor(index)), torch.tensor(target))
    b = peer.nn.CrossEntropyLoss(label_smoothing=0.1)(theirs(peer.tensor(index)), peer.tensor(target))
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    a.backward()
    b.backward()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_to_changes_the_memory_format_of_images_and_kernels():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2)).to(memory_format=torch.channels_last)
    assert net[0].weight.stride() == (27, 1, 9, 3) and net[3].weight.stride() == (8, 1)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_convolution_weights_change_their_memory_format():
    for rank, convert, wanted in ((2, nn.utils.convert_conv2d_weight_memory_format, torch.channels_last),
                                  (3, nn.utils.convert_conv3d_weight_memory_format, torch.channels_last_3d)):
        layer = getattr(nn, f"Conv{rank}d")(4, 6, 3)
        net, parameter, before = nn.Sequential(layer, nn.Conv1d(4, 4, 3)), layer.weight, layer.weight.detach().clone()
        assert convert(net, wanted) is net and layer.weight is parameter
        assert layer.weight.is_contiguous(memory_format=wanted) and not layer.weight.is_contiguous()
        assert torch.equal(layer.weight, before) and net[1].weight.is_contiguous()
