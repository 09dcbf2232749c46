"""Compiled training is eager training: every optimizer, schedule and habit over many steps, and real data to a known accuracy."""
from __future__ import annotations

import copy

import numpy as np
import pytest
from compiler_support import quiet, rnd, same, training_step, values

import fusetorch as torch
from fusetorch import config, nn, optim

F = nn.functional
STEPS = 25
#: Differences of parameters after all steps, as a share of the largest parameter.
TOL = 2e-5


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.LayerNorm(10), nn.Linear(10, 3))


def batch(i, n=12):
    x = rnd(n, 6, seed=i)
    return x, (x[:, :3].argmax(1)).long()


def train_both(setup, calls=STEPS, plans=None, after=None, tol=TOL, make_batch=batch, eager=False):
    """``setup() -> (step, parts)``: runs the step eagerly and compiled on twins and compares losses, parameters, gradients and state.

    ``after(i, parts)`` runs between steps. Returns the compiled function.
    """
    step, parts = setup()
    other, twins = setup()
    compiled = torch.compile(other)
    with quiet():
        for i in range(calls):
            args = make_batch(i)
            torch.manual_seed(i)
            a = step(*args)
            torch.manual_seed(i)
            b = compiled(*[t.clone() for t in args])
            same(a, b, f"loss {i}", tol * 10)
            for p, q in zip(parts, twins):
                compare(p, q, f"step {i}", tol)
            if after is not None:
                after(i, parts)
                after(i, twins)
    info = compiled.cache_info()
    assert eager or info["eager"] is None, info
    if plans is not None:
        assert info["plans"] <= plans, info
    return compiled


def compare(p, q, where, tol):
    if isinstance(p, nn.Module):
        same(dict(p.state_dict()), dict(q.state_dict()), where, tol)
        for (name, a), b in zip(p.named_parameters(), q.parameters()):
            assert (a.grad is None) == (b.grad is None), f"{where}: {name}.grad"
            if a.grad is not None:
                same(a.grad, b.grad, f"{where}: {name}.grad", tol * 20)
    elif isinstance(p, optim.Optimizer):
        s, t = p.state_dict()["state"], q.state_dict()["state"]
        assert s.keys() == t.keys(), where
        for k in s:
            same(s[k], t[k], f"{where}: state {k}", tol * 20)


def ordinary(make_optimizer, set_to_none=True):
    def setup():
        model = mlp()
        opt = make_optimizer(model.parameters())
        return training_step(model, opt, F.cross_entropy, set_to_none), (model, opt)
    return setup


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "dampening": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.3, maximize=False),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=1e-2),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.05),
    "groups": lambda p: (lambda ps: optim.SGD([{"params": ps[:2], "lr": 0.1},
        {"params": ps[2:], "weight_decay": 0.1}], lr=0.01, momentum=0.5))(list(p)),
}


@pytest.mark.parametrize("set_to_none", [True, False], ids=["to none", "to zero"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, set_to_none):
    f = train_both(ordinary(OPTIMIZERS[name], set_to_none), plans=3)
    assert f.cache_info()["hits"] >= STEPS - 3


def test_accumulation_over_calls():
    def setup():
        model = mlp()
        opt = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            loss = F.cross_entropy(model(x), y) / 3
            loss.backward()
            return loss
        return step, (model, opt)

    def after(i, parts):
        if i % 3 == 2:
            parts[1].step()
            parts[1].zero_grad()
    train_both(setup, plans=2, after=after)


def test_accumulation_within_a_call():
    def setup():
        model = mlp()
        opt = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            opt.zero_grad()
            total = 0
            for a, b in zip(x.chunk(3), y.chunk(3)):
                loss = F.cross_entropy(model(a), b) / 3
                loss.backward()
                total = total + loss.detach()
            opt.step()
            return total
        return step, (model, opt)
    train_both(setup, plans=3)


@pytest.mark.parametrize("how", ["norm", "value", "by hand"])
def test_clipping(how):
    def setup():
        model = mlp().double()  # steps of this size magnify how each side rounds
        opt = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y) * 10
            loss.backward()
            norm = loss.detach()
            if how == "norm":
                norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            elif how == "value":
                nn.utils.clip_grad_value_(model.parameters(), 0.1)
            else:
                with torch.no_grad():
                    norm = sum((p.grad ** 2).sum() for p in model.parameters()).sqrt()
                    for p in model.parameters():
                        p.grad.mul_((1.0 / (norm + 1e-6)).clamp(max=1.0))
            opt.step()
            return loss, norm
        return step, (model, opt)
    train_both(setup, plans=3, calls=12, tol=1e-9, make_batch=lambda i: (batch(i)[0].double(), batch(i)[1]))


def test_two_optimizers_and_two_losses():
    def setup():
        torch.manual_seed(1)
        gen, dis = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        a, b = optim.Adam(gen.parameters(), lr=0.01), optim.SGD(dis.parameters(), lr=0.05)

        def step(x, y):
            fake = gen(x)
            b.zero_grad()
            d = F.softplus(-dis(x)).mean() + F.softplus(dis(fake.detach())).mean()
            d.backward()
            b.step()
            a.zero_grad()
            g = F.softplus(-dis(fake)).mean()
            g.backward()
            a.step()
            return d, g
        return step, (gen, dis, a, b)
    train_both(setup, calls=15, plans=4)


def test_frozen_parameters():
    def setup():
        model = mlp()
        model[0].weight.requires_grad_(False)
        opt = optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        return training_step(model, opt, F.cross_entropy), (model, opt)

    def after(i, parts):
        if i == 5:
            parts[0][3].bias.requires_grad_(False)
            parts[0][3].bias.grad = None
        if i == 9:
            parts[0][3].bias.requires_grad_(True)
    train_both(setup, calls=14, after=after, plans=5)


@pytest.mark.parametrize("schedule", ["ExponentialLR", "StepLR", "CosineAnnealingLR", "LambdaLR", "OneCycleLR"])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_schedulers_between_calls_do_not_recompile(name, schedule):
    if not hasattr(optim.lr_scheduler, schedule):
        pytest.skip(f"no {schedule}")
    options = {"ExponentialLR": dict(gamma=0.9), "StepLR": dict(step_size=3), "CosineAnnealingLR": dict(T_max=10),
        "LambdaLR": dict(lr_lambda=lambda e: 0.9 ** e),
               "OneCycleLR": dict(max_lr=0.1, total_steps=40)}[schedule]

    def setup():
        step, parts = ordinary(OPTIMIZERS[name])()
        return step, (*parts, getattr(optim.lr_scheduler, schedule)(parts[1], **options))
    f = train_both(setup, calls=15, after=lambda i, parts: parts[2].step())
    assert f.cache_info()["plans"] <= 2 and f.cache_info()["hits"] >= 13, f.cache_info()


def test_numbers_set_by_hand_do_not_recompile():
    def after(i, parts):
        g = parts[1].param_groups[0]
        g["lr"] = [0.1, 0.02, 1, 0.05][i % 4]
        g["weight_decay"] = 0.01 * (i + 1)
    f = train_both(ordinary(lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1)), calls=10, after=after)
    assert f.cache_info()["plans"] <= 2, f.cache_info()


def test_options_that_change_the_step_recompile():
    def after(i, parts):
        parts[1].param_groups[0]["nesterov"] = i >= 3
        parts[1].param_groups[0]["maximize"] = i >= 6
    f = train_both(ordinary(lambda p: optim.SGD(p, lr=0.02, momentum=0.9)), calls=10, after=after)
    assert f.cache_info()["plans"] == 4
    assert "'nesterov' was False and is now True" in str(f.cache_info()["recompiles"])


def test_train_and_eval_with_dropout():
    def setup():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Dropout(0.3), nn.Linear(10, 3))
        opt = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            out = model(x)
            loss = F.cross_entropy(out, y)
            if model.training:
                opt.zero_grad()
                loss.backward()
                opt.step()
            return loss.detach()
        return step, (model, opt)
    f = train_both(setup, calls=12, after=lambda i, parts: parts[0].train(i % 4 != 2))
    assert f.cache_info()["plans"] <= 4, f.cache_info()


def test_replaced_and_loaded_parameters():
    saved = {}

    def setup():
        model = mlp()
        opt = optim.SGD(model.parameters(), lr=0.1)
        saved.setdefault("start", copy.deepcopy(model.state_dict()))

        def step(x, y):
            model.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss
        return step, (model, opt)

    def after(i, parts):
        model, opt = parts
        if i == 3:
            model.load_state_dict(saved["start"])
        if i == 5:
            model[0].weight = nn.Parameter(rnd(10, 6, seed=3))
            opt.param_groups[0]["params"] = list(model.parameters())
        if i == 7:
            with torch.no_grad():
                model[3].bias.copy_(rnd(3))
        if i == 8:
            model[0].bias.data = rnd(10)
    train_both(setup, calls=12, after=after, plans=5)


def test_optimizer_state_loaded_between_calls():
    saved = {}

    def after(i, parts):
        model, opt = parts
        if i == 3:
            saved[id(opt)] = copy.deepcopy(opt.state_dict())
        if i == 7:
            opt.load_state_dict(saved[id(opt)])
    train_both(ordinary(OPTIMIZERS["adam"]), calls=12, after=after, plans=5)


def test_shared_parameters():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = nn.Embedding(7, 5)
            self.mid = nn.Linear(5, 5)
            self.out = nn.Linear(5, 7, bias=False)
            self.out.weight = self.emb.weight

        def forward(self, i):
            return self.out(self.mid(self.emb(i)).tanh())

    def setup():
        torch.manual_seed(0)
        model = Tied()
        opt = optim.Adam(model.parameters(), lr=0.02)
        return training_step(model, opt, F.cross_entropy), (model, opt)
    train_both(setup, calls=15, plans=2, make_batch=lambda i: (torch.tensor([i % 7, 1, 2, 3]), torch.tensor([0, 1, (i * 3) % 7, 3])))


def test_weights_that_are_views_of_others():
    def setup():
        torch.manual_seed(0)
        w = torch.randn(6, 6) * 0.3
        flat = w.view(-1)

        def step(x, y):
            with torch.no_grad():
                out = x @ w
                flat.mul_(0.99)
                w[0].add_(out.sum() * 1e-3)
            return (x @ w).sum() + flat.sum()
        return step, ()
    train_both(setup, calls=6, eager=True)


def test_forward_compiled_optimizer_eager():
    def setup(compiled):
        model = mlp()
        forward = torch.compile(model) if compiled else model
        opt = optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for i in range(STEPS):
            x, y = batch(i)
            opt.zero_grad()
            loss = F.cross_entropy(forward(x), y)
            loss.backward()
            opt.step()
            losses.append(float(loss))
        return losses, {k: values(v) for k, v in model.state_dict().items()}, forward
    a, p, _ = setup(False)
    b, q, f = setup(True)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    for k in p:
        np.testing.assert_allclose(q[k], p[k], atol=TOL * max(1, np.abs(p[k]).max()))
    assert f.cache_info()["plans"] == 1


def test_optimizer_step_compiled_alone():
    def setup():
        model = mlp()
        opt = optim.AdamW(model.parameters(), lr=0.01)
        return opt.step, (model, opt)
    step, (model, opt) = setup()
    other, (twin, twin_opt) = setup()
    compiled = torch.compile(other)
    for i in range(8):
        for m, o, s in ((model, opt, step), (twin, twin_opt, compiled)):
            o.zero_grad()
            F.cross_entropy(m(batch(i)[0]), batch(i)[1]).backward()
            s()
        compare(model, twin, f"step {i}", TOL)
        compare(opt, twin_opt, f"step {i}", TOL)
    assert compiled.cache_info()["plans"] <= 2, compiled.cache_info()


def test_many_steps_stay_within_one_part_in_a_hundred_thousand():
    f = train_both(ordinary(OPTIMIZERS["momentum"]), calls=100, tol=1e-5)
    assert f.cache_info()["hits"] >= 98


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_on_the_simulated_device(name):
    pytest.importorskip("triton")

    def setup():
        model = mlp().to("cuda")
        opt = OPTIMIZERS[name](model.parameters())
        return training_step(model, opt, lambda out, y: F.cross_entropy(F.dropout(out, 0.2), y)), (model, opt)
    with config.override(simulate_cuda=True):
        f = train_both(setup, calls=6, plans=3, make_batch=lambda i: tuple(t.cuda() for t in batch(i)))
    assert f.cache_info()["hits"] >= 3


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    data, labels = datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(data / 16.0, dtype=torch.float32), torch.tensor(labels).long()
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]

    def run(compiled):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        opt = optim.Adam(model.parameters(), lr=5e-3)
        step = training_step(model, opt, F.cross_entropy)
        go = torch.compile(step) if compiled else step
        at = {}
        for i in range(200):
            rows = np.random.default_rng(i).choice(train, 100, replace=False)
            loss = go(x[torch.tensor(rows)], y[torch.tensor(rows)])
            if i == 99:
                at = {k: values(v).copy() for k, v in model.state_dict().items()}
        with torch.no_grad():
            right = (model(x[torch.tensor(test)]).argmax(1) == y[torch.tensor(test)]).float().mean()
        return float(loss), float(right), at, go
    loss, accuracy, params, _ = run(False)
    closs, caccuracy, cparams, step = run(True)
    assert accuracy > 0.95 and caccuracy > 0.95
    assert abs(loss - closs) < 0.02
    for k in params:
        assert np.abs(params[k] - cparams[k]).max() <= 1e-5 * np.abs(params[k]).max(), k
    assert step.cache_info()["plans"] <= 2 and step.cache_info()["hits"] >= 198
    assert step.explain().kernels < step.explain().unfused_kernels / 2
