"""Modules: attributes, calls, state dicts, containers."""
from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

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


def test_members_of_one_kind():
    net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
    kinds = dict(net._named_members(lambda m: [("kind", type(m).__name__)]))
    assert kinds == {"kind": "Sequential", "0.kind": "Linear", "1.kind": "ReLU"}


def test_a_module_may_have_an_attribute_of_any_plain_name():
    class Metric(torch.nn.Module):
        """As metrics of a public package are: they keep what is persistent in an attribute."""

        def __init__(self):
            super().__init__()
            self._persistent = {}
            self.register_buffer("total", torch.zeros(1))

    m = Metric()
    assert list(m.state_dict()) == ["total"]
    m.load_state_dict({"total": torch.ones(1)})
    assert m.total.item() == 1
