"""Whole programs under ``fusetorch.compile``: what Python does beside tensor operations happens as it does eagerly."""
from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import types

import numpy as np
import pytest
from compiler_support import quiet, rnd, same

import fusetorch as torch
from fusetorch import nn
from fusetorch.utils.checkpoint import checkpoint

# ---- backward passes that do more than compute gradients


class _Acts(torch.autograd.Function):
    """Doubles; its backward calls ``act(gradient)`` too."""

    @staticmethod
    def forward(ctx, x, act):
        ctx.act = act
        return x * 2

    @staticmethod
    def backward(ctx, g):
        ctx.act(g)
        return g * 2, None


def _counts():
    seen = []
    return lambda g: seen.append(1), seen


def _keeps():
    seen = []
    return lambda g: seen.append(g * 2), seen


def _sums_up():
    total = torch.zeros(3)
    return lambda g: total.add_(g), [total]


def _prints():
    return lambda g: print("backward"), []


def _draws():
    seen = []
    return lambda g: seen.append(torch.rand(2)), seen


@pytest.mark.parametrize("make", [_counts, _keeps, _sums_up, _prints, _draws])
def test_what_a_backward_does_beside_happens_when_it_runs(make, capsys):
    outcomes = []
    for compiled in (False, True):
        act, seen = make()
        f = torch.compile(_Acts.apply) if compiled else _Acts.apply
        record = []
        for i in range(3):
            x = rnd(3, seed=i, requires_grad=True)
            torch.manual_seed(i)
            with quiet():
                y = f(x, act)
            record.append([t.clone() if isinstance(t, torch.Tensor) else t for t in seen])
            for _ in range(2):
                y.sum().backward(retain_graph=True)
            record.append([x.grad, *[t.clone() if isinstance(t, torch.Tensor) else t for t in seen]])
        outcomes.append((record, capsys.readouterr().out))
    same(*outcomes)


def test_reentrant_checkpoints_accumulate_when_they_run():
    grads = []
    for compiled in (False, True):
        torch.manual_seed(0)
        m = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        f = functools.partial(checkpoint, m, use_reentrant=True)
        f = torch.compile(f) if compiled else f
        x = rnd(2, 4, requires_grad=True)
        with quiet():
            y = f(x)
        assert all(p.grad is None for p in m.parameters())
        y.sum().backward()
        grads.append([x.grad, *[p.grad for p in m.parameters()]])
    same(*grads)


# ---- results that are views


@pytest.mark.parametrize("f", [
    lambda x: (x.view(3, 1), x), lambda x: (x[1:], x), lambda x: (x.add_(1).view(3, 1), x), lambda x: (x.view(3, 1).t()[:, ::2], x),
    lambda x: ((y := x * 2).view(3, 1), y), lambda x: ((y := x.clone())[:2], y)])
def test_recorded_writes_through_a_result_reach_what_it_is_a_view_of(f):
    def run(g):
        x, w = rnd(3), rnd(3, seed=1, requires_grad=True)
        a, b = g(x)
        a.mul_(w.view(3, 1)[:a.shape[0]] if a.shape[-1] == 1 else w[:a.numel()])
        (b * b).sum().backward()
        return w.grad, a.detach(), b.detach(), x.detach()

    c = torch.compile(f)
    for _ in range(3):
        same(run(f), run(c))
    assert c.cache_info()["plans"] == 1


def test_a_recorded_write_through_a_result_of_a_view_reaches_its_base():
    def run(g):
        x, w = rnd(4), rnd(2, seed=1, requires_grad=True)
        g(x[1:]).mul_(w)
        (x * x).sum().backward()
        return w.grad, x.detach()

    c = torch.compile(lambda x: x[:2])
    for _ in range(3):
        same(run(lambda x: x[:2]), run(c))


# ---- state that each call replaces


class _Recurrent(nn.Module):
    def __init__(self, detach):
        super().__init__()
        self.cell, self.hidden, self.detach = nn.LSTMCell(3, 4), None, detach

    def forward(self, x):
        self.hidden = self.cell(x, self.hidden)
        if self.detach:
            self.hidden = tuple(h.detach() for h in self.hidden)
        return self.hidden[0] * 2


class _Average(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        self.mean = self.mean * 0.9 + x.mean(0)
        return x - self.mean


def _recurrent():
    m = _Recurrent(True)
    return m, (rnd(2, 3),), lambda: m.hidden


def _buffer():
    m = _Average()
    return m, (rnd(2, 3),), lambda: m.mean


def _list_items():
    cache = [None, None]

    def f(x):
        for i in range(2):
            cache[i] = x * (i + 1) if cache[i] is None else cache[i] * 0.5 + x
        return cache[0] + cache[1]
    return f, (rnd(3),), lambda: list(cache)


def _dict_entries():
    state = {"h": torch.zeros(3), "log": None}

    def f(x):
        state["h"] = torch.tanh(state["h"] + x)
        state["log"] = {"twice": state["h"] * 2, "x": [x]}
        return state["h"]
    return f, (rnd(3),), lambda: dict(state)


def _variable():
    h = torch.zeros(3)

    def f(x):
        nonlocal h
        h = torch.tanh(h + x)
        return h * 2
    return f, (rnd(3),), lambda: h


def _features():
    m, seen = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), {}
    for name, layer in m.named_children():
        layer.register_forward_hook(lambda _m, _i, o, name=name: seen.__setitem__(name, o.detach()))
    return m, (rnd(2, 3),), lambda: dict(seen)


@pytest.mark.parametrize("make", [_recurrent, _buffer, _list_items, _dict_entries, _variable, _features])
def test_places_that_each_call_fills(make):
    torch.manual_seed(0)
    f, args, state = make()
    torch.manual_seed(0)
    g, _, other = make()
    c = torch.compile(g)
    kept = None
    for i in range(7):
        args = tuple(a + i for a in args)
        same(f(*args), c(*args), f"call {i}")
        same(state(), other(), f"state after call {i}")
        if i == 3:
            kept, values = other(), [t.clone() for t in _tensors(other())]
    same(values, _tensors(kept))    # what was put there is not written to later
    info = c.cache_info()
    assert info["eager"] is None and info["hits"] >= 4, info


def _tensors(x):
    return [x] if isinstance(x, torch.Tensor) else [t for v in (x.values() if isinstance(x, dict) else x) for t in _tensors(v)]


class _Holder:
    def __init__(self):
        self.a, self.b, self.t = rnd(3), rnd(3, seed=1), (torch.zeros(3), 1)


def _keeps_an_argument(m, x):
    m.a.add_(1)
    m.a = x
    return x * 2


def _keeps_a_view(m, x):
    m.a.mul_(2)
    y = torch.stack([x, m.a])
    m.a = y[1]
    return y


def _one_in_two_places(m, x):
    m.a.add_(x)
    m.a = m.b = m.a + m.b
    return m.a * 1


def _swaps(m, x):
    m.a, m.b = m.b, m.a
    m.a.add_(x)
    return m.a - m.b


def _returns_the_old(m, x):
    old, m.a = m.a, x * 2
    return old


def _changes_dtype(m, x):
    m.a = (m.a + x).double() if m.a.dtype is torch.float32 else (m.a + x).float()
    return m.a


def _keeps_a_number_too(m, x):
    h, n = m.t
    m.t = torch.tanh(h + x), n
    return h * n


@pytest.mark.parametrize("f", [_keeps_an_argument, _keeps_a_view, _one_in_two_places, _swaps, _returns_the_old, _changes_dtype,
                               _keeps_a_number_too])
def test_what_is_put_into_places(f):
    m, n, given, copies = _Holder(), _Holder(), [], []
    c = torch.compile(functools.partial(f, n))
    for i in range(6):
        given.append(rnd(3, seed=i))
        copies.append(rnd(3, seed=i))
        same(f(m, given[-1]), c(copies[-1]), f"call {i}")
        same([m.a, m.b, m.t, given], [n.a, n.b, n.t, copies], f"state after call {i}")
    assert c.cache_info()["hits"] >= 3 and c.cache_info()["eager"] is None


def test_tensors_that_are_replaced_from_outside():
    m = _Average()
    m.scale, m.w = rnd(3), nn.Parameter(rnd(3))

    def f(x):
        return x * m.scale + m.mean + m.w
    c = torch.compile(f)
    for i in range(6):
        m.scale, m.mean, m.w = rnd(3, seed=i), rnd(3, seed=i + 1), nn.Parameter(rnd(3, seed=i + 2))
        same(f(rnd(3)), c(rnd(3)))
        c(rnd(3)).sum().backward()
        assert m.w.grad.tolist() == [1, 1, 1]
    assert c.cache_info()["plans"] == 2, c.cache_info()


def test_a_buffer_that_one_function_replaces_and_another_reads():
    m = _Average()
    write, read = torch.compile(lambda x: m(x).sum()), torch.compile(lambda x: x + m.mean)
    for i in range(6):
        write(rnd(2, 3, seed=i))
        same(m.mean, read(torch.zeros(3)))
    assert read.cache_info()["plans"] == 2


def test_gradients_of_leaves_that_the_function_makes():
    def f(x):
        w = x.detach().requires_grad_()
        return w, (w ** 2).sum()
    c = torch.compile(f)
    for i in range(3):
        w, loss = c(rnd(3, seed=i))
        loss.backward()
        same(2 * rnd(3, seed=i), w.grad)
    assert c.cache_info()["hits"] == 2
    made = []

    def g(x):
        if not made:
            made.append(nn.Parameter(torch.ones(3)))
        return (x * made[0]).sum()
    c = torch.compile(g)
    for i in range(3):
        c(rnd(3, seed=i)).backward()
        same(rnd(3, seed=i), made[0].grad)
        made[0].grad = None


def test_gradients_flow_from_call_to_call():
    grads = []
    for compiled in (False, True):
        torch.manual_seed(0)
        m = _Recurrent(False)
        f = torch.compile(m) if compiled else m
        for i in range(9):
            loss = f(rnd(2, 3, seed=i)).sum()
            if i % 3 == 2:
                m.zero_grad()
                loss.backward()
                m.hidden = tuple(h.detach() for h in m.hidden)
                grads.append([loss.detach(), *[p.grad.clone() for p in m.parameters()]])
    same(grads[:3], grads[3:])


def test_places_may_be_set_from_outside():
    m = _Recurrent(True)
    c = torch.compile(m)
    for i in range(8):
        if i % 3 == 0:
            m.hidden = None
        if i == 5:
            m.hidden = (torch.ones(2, 4), torch.zeros(2, 4))
        before = m.hidden
        expected = m(rnd(2, 3, seed=i))
        after, m.hidden = m.hidden, before
        same(expected, c(rnd(2, 3, seed=i)))
        same(after, m.hidden)


def test_fullgraph_puts_places_back():
    m = _Recurrent(True)
    c = torch.compile(lambda x, item: m(x).sum().item() if item else m(x), fullgraph=True)
    for _ in range(3):
        c(rnd(2, 3), False)
    before = m.hidden
    with pytest.raises(RuntimeError, match="fullgraph"):
        c(rnd(2, 3), True)
    assert m.hidden is before


# ---- arguments


def test_an_argument_that_the_function_reaches_by_itself_too():
    w, p = rnd(3), nn.Parameter(rnd(3))
    p.grad = rnd(3, seed=5)

    def f(x):
        return x * 2 + w, x - p.grad
    c = torch.compile(f)
    for x in (w, p.grad, rnd(3, seed=1), w, p.grad, rnd(3, seed=2)):
        same(f(x), c(x))
    assert c.cache_info()["plans"] == 3 and c.cache_info()["eager"] is None


@pytest.mark.parametrize("f", [
    lambda x: (x.t_(), x * 2)[1], lambda x: x.unsqueeze_(0).transpose_(1, 2).add_(1), lambda x: x.squeeze_().sum(),
    lambda x: (x[0].add_(1), x.swapaxes_(0, 1), x.mul_(2))[0], lambda x: (x.requires_grad_(True) ** 2).sum().backward(),
    lambda x: (x.requires_grad_(True) ** 2).sum()])
def test_arguments_that_get_another_shape_or_want_gradients(f):
    c = torch.compile(f)
    for i in range(4):
        a, b = rnd(3, 4, seed=i), rnd(3, 4, seed=i)
        same(f(a), c(b))
        same(a, b)
        assert a.stride() == b.stride() and a._version == b._version
    assert c.cache_info()["plans"] == 1, c.cache_info()


def test_shapes_changed_in_place_and_recorded():
    def f(x):
        return (x.t_() * torch.arange(12.0).view(4, 3)).sum()
    c = torch.compile(f)
    for i in range(3):
        x, y = rnd(3, 4, seed=i, requires_grad=True), rnd(3, 4, seed=i, requires_grad=True)
        f(x * 1).backward()
        with quiet():
            c(y * 1).backward()
        same(x, y)


@dataclasses.dataclass
class _Batch:
    x: object
    scale: float = 1.0
    mask: object = None

    def scaled(self):
        return self.x * self.scale


def test_dataclasses_as_arguments_are_known_by_their_fields():
    def f(b):
        y = b.scaled()
        return y if b.mask is None else y.masked_fill(b.mask, 0)
    c = torch.compile(f)
    for i in range(3):
        for b in (_Batch(rnd(3, seed=i)), _Batch(rnd(3, seed=i), 2.0), _Batch(rnd(3, seed=i), mask=rnd(3) > 0)):
            same(f(b), c(b))
    assert c.cache_info()["plans"] == 3 and c.cache_info()["hits"] == 6
    b = _Batch(rnd(3))

    def g(b):
        b.scale += 1
        return b.x * b.scale
    c = torch.compile(g)
    with quiet():
        assert [round((c(b) / b.x)[0].item()) for _ in range(5)] == [2, 3, 4, 5, 6]


# ---- results


@dataclasses.dataclass
class _Output:
    loss: object
    logits: object = None
    hidden: tuple = ()


class _Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b


def test_objects_in_results_are_made_anew():
    m = nn.Linear(3, 3)

    @torch.compile
    def f(x):
        y = m(x)
        return _Output(y.sum(), y, (x * 2, y)), _Pair(y, types.SimpleNamespace(n=3, y=y)), np.arange(3), {1, 2}, torch.strided

    seen = []
    for i in range(4):
        x = rnd(2, 3, seed=i)
        o, p, a, s, layout = f(x)
        y = m(x)
        same([y.sum(), y, (x * 2, y), y, y], [o.loss, o.logits, o.hidden, p.a, p.b.y])
        assert o.logits is p.a is p.b.y is o.hidden[1]
        assert (type(o), type(p), p.b.n, a.tolist(), s, layout) == (_Output, _Pair, 3, [0, 1, 2], {1, 2}, torch.strided)
        o.loss.backward()
        a[0], o.hidden = 7, None
        s.add(3)
        assert not any(o is q or p is q or a is q or s is q for q in seen)
        seen += [o, p, a, s]
    m.zero_grad()
    assert f.cache_info()["eager"] is None and f.cache_info()["hits"] >= 2


def test_objects_that_were_there_are_returned_themselves():
    p = _Pair(torch.zeros(3), 2)

    def f(x):
        p.a = p.a + x
        return p
    c = torch.compile(f)
    for i in range(5):
        assert c(torch.ones(3)) is p
        assert p.a.tolist() == [i + 1.0] * 3
    assert c.cache_info()["hits"] == 3


# ---- modules


def test_lazy_modules_get_their_shapes_at_the_first_call():
    torch.manual_seed(0)
    m = nn.Sequential(nn.LazyConv1d(3, 2), nn.LazyBatchNorm1d(), nn.Flatten(), nn.LazyLinear(2))
    c = torch.compile(m)
    first = c(rnd(2, 4, 6))
    for i in range(4):
        n = copy.deepcopy(m)
        same(n(rnd(2, 4, 6, seed=i)), c(rnd(2, 4, 6, seed=i)))
    assert first.shape == (2, 2) and c.cache_info()["plans"] == 1 and c.cache_info()["hits"] == 3


def test_attributes_of_a_compiled_module_are_the_originals():
    m = _Average()
    m.scale = 1.0
    c = torch.compile(m)
    c.scale, c.extra, c.weight = 2.0, nn.Linear(3, 3), nn.Parameter(torch.ones(3))
    assert m.scale == 2.0 and c.extra is m.extra and "weight" in m._parameters and list(c._modules) == ["_orig_mod"]
    c.eval()
    assert not m.training and not c.training and not m.extra.training
    assert list(c.state_dict()) == ["_orig_mod." + k for k in m.state_dict()]
    del c.extra
    assert not hasattr(m, "extra")
    seen = []
    c.register_forward_hook(lambda *_: seen.append(1))
    c(rnd(2, 3))
    assert seen == [1]
    n = torch.compile(copy.deepcopy(m))
    n.load_state_dict(c.state_dict())
    c.train()
    same(n.train()(rnd(2, 3)), copy.deepcopy(m)(rnd(2, 3)))


def test_compiled_modules_are_copied_and_pickled():
    torch.manual_seed(0)
    c = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    c(rnd(2, 3))
    for d in (copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        same(c(rnd(2, 3)), d(rnd(2, 3)))
        with torch.no_grad():
            d[0].weight.zero_()
        assert d.cache_info()["plans"] == 1 and c[0].weight.abs().sum() > 0
        same(d(rnd(2, 3)), d._orig_mod(rnd(2, 3)))
    average = torch.optim.swa_utils.AveragedModel(c)
    average.update_parameters(c)
    same(c(rnd(2, 3)), average(rnd(2, 3)))


# ---- writes through masks


_KEYS = [lambda x: x[:, 0, 0] > 0, lambda x: (slice(None), x[0, :, 0] > 0), lambda x: (..., x[0, 0] > 0), lambda x: (..., x[0] > 0),
         lambda x: (x[:, :, 0] > 0, slice(1, 3)), lambda x: (slice(0, 3), x[0, :, 0] > 0, slice(1, 4, 2)), lambda x: (1, x[0, :, 0] > 0),
         lambda x: (x[:, 0, 0] > 0, 2), lambda x: (None, x[:, 0, 0] > 0), lambda x: (x[:, 0, 0] > 0, ..., 1),
         lambda x: (..., x[0, :, 0] > 0, slice(None))]
_VALUES = [lambda v: 3.0, lambda v: v.sum(), lambda v: v[0, 0, :1], lambda v: v[0, :1, :5], lambda v: v[:, :1, :1], lambda v: v[0, 0, :3]]


@pytest.mark.parametrize("value", range(len(_VALUES)))
@pytest.mark.parametrize("key", range(len(_KEYS)))
def test_writes_where_a_mask_and_slices_select(key, value):
    def f(x, v):
        y = x * 1
        y[_KEYS[key](x)] = _VALUES[value](v)
        return (y * torch.linspace(0, 1, 60).view(3, 4, 5)).sum(), y

    outcomes = []
    for g in (f, torch.compile(f)):
        for i in range(3):
            x, v = rnd(3, 4, 5, seed=i, requires_grad=True), rnd(3, 4, 5, seed=i + 9, requires_grad=True)
            try:
                with quiet():
                    a, y = g(x, v)
                a.backward()
                outcomes.append([a.detach(), y.detach(), x.grad, v.grad])
            except (RuntimeError, IndexError) as e:
                outcomes.append([type(e).__name__])
    same(outcomes[:3], outcomes[3:], tol=3e-5)
    info = g.cache_info()
    assert info["eager"] is None or len(outcomes[0]) == 1, info


# ---- gradients of gradients


@pytest.mark.parametrize("layer", [nn.Tanh, lambda: nn.Dropout(0.5), lambda: nn.LayerNorm(8)], ids=["tanh", "dropout", "norm"])
def test_gradients_of_a_compiled_function_can_be_differentiated(layer):
    outcomes = []
    for compiled in (False, True):
        torch.manual_seed(0)
        m = nn.Sequential(nn.Linear(3, 8), layer(), nn.GELU(), nn.Linear(8, 1))
        f = torch.compile(m) if compiled else m
        for i in range(3):
            m.zero_grad()
            torch.manual_seed(i)
            x = rnd(5, 3, seed=i, requires_grad=True)
            y = f(x * 2)
            g, = torch.autograd.grad(y.sum(), x, create_graph=True)
            (((g.norm(2, 1) - 1) ** 2).mean() + y.mean()).backward()
            outcomes.append([x.grad, *[p.grad.clone() for p in m.parameters()], torch.rand(1)])
    same(outcomes[:3], outcomes[3:], tol=1e-5)


def test_gradients_of_any_order():
    f = torch.compile(lambda x: (x ** 4).sum())
    for _ in range(3):
        x = rnd(3, requires_grad=True)
        g, = torch.autograd.grad(f(x), x, create_graph=True)
        h, = torch.autograd.grad(g.sum(), x, create_graph=True)
        k, = torch.autograd.grad(h.sum(), x)
        same([4 * x.detach() ** 3, 12 * x.detach() ** 2, 24 * x.detach()], [g.detach(), h.detach(), k], tol=1e-5)


def test_gradients_of_gradients_are_refused_where_running_again_would_change_something():
    m = nn.BatchNorm1d(3)
    f = torch.compile(m)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(f(rnd(4, 3, requires_grad=True)).sum(), m.weight, create_graph=True)
    w = rnd(3)
    f = torch.compile(lambda x: (x * x * w).sum())
    x = rnd(3, requires_grad=True)
    y = f(x)
    w.add_(1)
    with pytest.raises(RuntimeError, match="modified|was written to"):
        torch.autograd.grad(y, x, create_graph=True)


# ---- checkpoints and random states


def test_checkpoints_draw_again_what_they_drew():
    runs = []
    for compiled in (False, True):
        torch.manual_seed(0)
        m = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 4), nn.Dropout(0.3)).double()
        opt = torch.optim.SGD(m.parameters(), 0.1)

        def step(x, m=m, opt=opt):
            loss = checkpoint(m, x, use_reentrant=False).square().mean() + torch.rand(()) * 0
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss.detach()

        def forward(x, m=m):
            return checkpoint(m, x, use_reentrant=False)
        if compiled:
            step, forward = torch.compile(step, fullgraph=True), torch.compile(forward, fullgraph=True)
        for i in range(5):
            torch.manual_seed(i)
            x = rnd(3, 4, seed=i, dtype=torch.float64, requires_grad=True)
            loss = step(x.detach())
            y = forward(x)
            y.square().sum().backward()
            runs.append([loss, y.detach(), x.grad, torch.rand(1), *[v.clone() for v in m.state_dict().values()]])
    same(runs[:5], runs[5:])
    assert step.cache_info()["hits"] >= 3 and forward.cache_info()["hits"] >= 3


def test_random_states_from_outside_are_absolute():
    state = torch.get_rng_state()

    def f(x):
        torch.set_rng_state(state)
        return x + torch.rand(3)
    c = torch.compile(f)
    with quiet():
        for _ in range(3):
            same(f(torch.zeros(3)), c(torch.zeros(3)))


def test_forked_states():
    def f(x):
        a = torch.rand(3)
        with torch.random.fork_rng():
            b = torch.rand(3)
        return x + a, b, torch.rand(3)
    c = torch.compile(f, fullgraph=True)
    for i in range(4):
        torch.manual_seed(i)
        a = f(torch.zeros(3)), torch.rand(1)
        torch.manual_seed(i)
        same(a, (c(torch.zeros(3)), torch.rand(1)))


# ---- functions that run eagerly: their modules are compiled


class _Gate(nn.Module):
    """Looks at a value."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x):
        y = self.inner(x)
        return y * 2 if y.sum() > 0 else y - 1


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.gate, self.last = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.2)), _Gate(), nn.Linear(4, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.last(self.gate(self.first(x)))


def _with_item(m, opt):
    def step(x):
        loss = m(x).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()
    return step


def _with_scaler(m, opt):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def step(x):
        loss = m(x).square().mean()
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(m.parameters(), 0.1)
        scaler.step(opt)
        scaler.update()
        return loss.detach()
    return step


def _with_schedule(m, opt):
    schedule = torch.optim.lr_scheduler.StepLR(opt, 2)

    def step(x):
        loss = m(x).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
        return loss.detach(), schedule.get_last_lr()
    return step


def _with_checkpoint(m, opt):
    def step(x):
        loss = checkpoint(m, x, use_reentrant=False).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.detach()
    return step


@pytest.mark.parametrize("make", [_with_item, _with_scaler, _with_schedule, _with_checkpoint])
def test_steps_that_python_has_to_run(make):
    runs = []
    for compiled in (False, True):
        torch.manual_seed(0)
        m = _Net().double()
        step = make(m, torch.optim.Adam(m.parameters(), lr=0.05))
        step = torch.compile(step) if compiled else step
        for i in range(6):
            torch.manual_seed(i)
            with quiet():
                runs.append([step(rnd(5, 4, seed=i, dtype=torch.float64)), torch.rand(1),
                             *[v.clone() for v in m.state_dict().values()], m.calls])
    same(runs[:6], runs[6:], tol=1e-9)
    assert step.cache_info()["eager"]


def test_modules_of_a_function_that_runs_eagerly_are_compiled():
    m = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    seen = []

    @torch.compile
    def f(x):
        seen.append(m(x).sum().item())
        return m(x)

    with pytest.warns(RuntimeWarning, match="runs eagerly from now on"):
        f(rnd(3, 4))
    for i in range(4):
        same(m(rnd(3, 4, seed=i)), f(rnd(3, 4, seed=i)))
    inside, = [c for _, c in f._parts._made.values()]
    assert inside.cache_info()["plans"] == 1 and inside.cache_info()["hits"] == 7 and len(seen) == 5


def test_second_gradients_in_a_function_that_runs_eagerly():
    m = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def f(x):
        x = x.clone().requires_grad_(True)
        g, = torch.autograd.grad(m(x).sum(), x, create_graph=True)
        return g.norm(2, 1).mean().item()
    c = torch.compile(f)
    with quiet():
        for i in range(3):
            assert abs(f(rnd(5, 3, seed=i)) - c(rnd(5, 3, seed=i))) < 1e-6


def test_modules_are_compiled_where_only_a_number_is_new_each_time():
    m = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def f(x, tau):
        return m(x) / tau
    c = torch.compile(f)
    with quiet():
        for i in range(40):
            same(f(rnd(3, 4), 1.0 + i), c(rnd(3, 4), 1.0 + i))
    assert c.cache_info()["plans"] <= 12 and c.cache_info()["eager"] is None
    inside, = [p for _, p in c._parts._made.values()]
    assert inside.cache_info()["plans"] == 1 and inside.cache_info()["hits"] >= 20


def test_indices_in_host_memory():
    pytest.importorskip("triton")

    def f(x):
        y = x.clone()
        y[torch.tensor([1, 3])] = 0
        return x[torch.tensor([0, 2]), 1:3] + x[[1, 0]][:, 0:2], y
    with torch.config.override(simulate_cuda=True):
        x = rnd(4, 5, device="cuda")
        same(f(x), torch.compile(f, fullgraph=True)(x))
