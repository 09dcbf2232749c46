"""fusetorch.optim: optimizers and learning-rate schedules."""
from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import optim

OPTIMIZERS = {
    "sgd": lambda o, p: o.SGD(p, lr=0.1),
    "sgd momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "sgd nesterov": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "adam": lambda o, p: o.Adam(p, lr=0.1),
    "adam all": lambda o, p: o.Adam(p, lr=0.1, weight_decay=0.1, amsgrad=True, maximize=True, betas=(0.8, 0.9)),
    "adamw": lambda o, p: o.AdamW(p, lr=0.1),
    "adamw amsgrad": lambda o, p: o.AdamW(p, lr=0.1, amsgrad=True, weight_decay=0.2),
    "rmsprop": lambda o, p: o.RMSprop(p),
    "rmsprop all": lambda o, p: o.RMSprop(p, centered=True, momentum=0.5, weight_decay=0.1),
    "adamax": lambda o, p: o.Adamax(p),
    "adamax all": lambda o, p: o.Adamax(p, lr=0.1, betas=(0.8, 0.9), weight_decay=0.1, maximize=True),
    "nadam": lambda o, p: o.NAdam(p),
    "nadam all": lambda o, p: o.NAdam(p, lr=0.1, betas=(0.8, 0.9), weight_decay=0.1, momentum_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda o, p: o.RAdam(p),
    "radam all": lambda o, p: o.RAdam(p, lr=0.1, betas=(0.8, 0.9), weight_decay=0.1, maximize=True),
    "radam decoupled": lambda o, p: o.RAdam(p, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "adadelta": lambda o, p: o.Adadelta(p),
    "adadelta all": lambda o, p: o.Adadelta(p, lr=0.5, rho=0.8, weight_decay=0.1, maximize=True),
    "rprop": lambda o, p: o.Rprop(p),
    "rprop all": lambda o, p: o.Rprop(p, lr=0.1, etas=(0.4, 1.3), step_sizes=(0.01, 0.2), maximize=True),
    "asgd": lambda o, p: o.ASGD(p),
    "asgd all": lambda o, p: o.ASGD(p, lr=0.1, lambd=0.01, alpha=0.5, t0=4, weight_decay=0.1, maximize=True),
    "adafactor": lambda o, p: o.Adafactor(p),
    "adafactor all": lambda o, p: o.Adafactor(p, lr=0.1, beta2_decay=-0.5, eps=(1e-5, 1e-2), d=2.0, weight_decay=0.1, maximize=True),
    "adagrad": lambda o, p: o.Adagrad(p),
    "adagrad all": lambda o, p: o.Adagrad(p, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.1),
}
SCHEDULES = {
    "LambdaLR": lambda m, o: m.LambdaLR(o, lambda e: 0.9 ** e),
    "LambdaLR two": lambda m, o: m.LambdaLR(o, [lambda e: 0.9 ** e, lambda e: 1 / (e + 1)]),
    "MultiplicativeLR": lambda m, o: m.MultiplicativeLR(o, lambda e: 0.95),
    "StepLR": lambda m, o: m.StepLR(o, 3),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [3, 5, 5, 9]),
    "ConstantLR": lambda m, o: m.ConstantLR(o),
    "LinearLR": lambda m, o: m.LinearLR(o),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda m, o: m.PolynomialLR(o, 7, 2.0),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 5, 0.001),
    "CosineAnnealingWarmRestarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 2),
    "SequentialLR": lambda m, o: m.SequentialLR(o, [m.LinearLR(o), m.ExponentialLR(o, 0.9), m.CosineAnnealingLR(o, 4)], [4, 8]),
    "ChainedScheduler": lambda m, o: m.ChainedScheduler([m.LinearLR(o), m.ExponentialLR(o, 0.9)]),
    "OneCycleLR": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=20),
    "OneCycleLR three": lambda m, o: m.OneCycleLR(o, [0.5, 0.2], epochs=4, steps_per_epoch=5, three_phase=True,
                                                  anneal_strategy="linear", pct_start=0.4),
    "CyclicLR": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 3),
    "CyclicLR triangular2": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 3, 4, mode="triangular2"),
    "CyclicLR exp_range": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9),
    "CyclicLR scale_fn": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 1 / x, cycle_momentum=False),
    "SWALR": lambda m, o: __import__(m.__name__.split(".")[0]).optim.swa_utils.SWALR(o, [0.05, 0.02], 6),
    "SWALR linear": lambda m, o: __import__(m.__name__.split(".")[0]).optim.swa_utils.SWALR(o, 0.05, 6, "linear"),
    "ReduceLROnPlateau": lambda m, o: m.ReduceLROnPlateau(o, patience=1, cooldown=1),
    "ReduceLROnPlateau max": lambda m, o: m.ReduceLROnPlateau(o, mode="max", threshold_mode="abs", patience=2, min_lr=1e-3),
}


def start(t):
    """Two parameters in float64, the same numbers for any library ``t``."""
    rng = np.random.default_rng(0)
    return [t.nn.Parameter(t.tensor(rng.normal(size=(3, 4)))), t.nn.Parameter(t.tensor(rng.normal(size=5)))]


def train(t, make, steps=20, schedule=None):
    """Parameters, optimizer and rates after some steps on a small problem with two parameter groups."""
    ps = start(t)
    opt = make(t.optim, [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.03}])
    scheduler = schedule and schedule(t.optim.lr_scheduler, opt)
    rng = np.random.default_rng(1)
    rates = []
    for i in range(steps):
        opt.zero_grad()
        x = t.tensor(rng.normal(size=(3, 4)))
        ((ps[0] * x).tanh().sum() + (ps[1] ** 2).sum() * 0.3).backward()
        opt.step()
        if scheduler is not None:
            scheduler.step(*([1 + (i % 7) * 0.1] if isinstance(scheduler, t.optim.lr_scheduler.ReduceLROnPlateau) else []))
            group = opt.param_groups[0]
            rates.append([*scheduler.get_last_lr(), group.get("momentum"), *group.get("betas", ())])
    return ps, opt, rates


# ------------------------------------------------------------------------------------------------------- optimizers

@pytest.mark.peer
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_pytorch(name):
    peer = pytest.importorskip("torch")
    ours, opt, _ = train(torch, OPTIMIZERS[name])
    theirs, peer_opt, _ = train(peer, OPTIMIZERS[name])
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)
    a, b = opt.state_dict(), peer_opt.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert repr(OPTIMIZERS[name](optim, start(torch))) == repr(OPTIMIZERS[name](peer.optim, start(peer)))
    assert {k: sorted(v) for k, v in a["state"].items()} == {k: sorted(v) for k, v in b["state"].items()}
    for key, state in b["state"].items():
        for field, value in state.items():
            np.testing.assert_allclose(a["state"][key][field].numpy(), value.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.peer
def test_pytorchs_own_optimizer_inputs():
    """Every optimizer with every option in PyTorch's database, with closures, 0-d to 3-d parameters, float64."""
    peer = pytest.importorskip("torch")
    from torch.testing._internal.common_optimizers import optim_db

    def ours_of(value):
        if isinstance(value, peer.Tensor):
            return torch.tensor(value.item(), dtype=getattr(torch, str(value.dtype)[6:]))
        return tuple(map(ours_of, value)) if isinstance(value, tuple) else value

    def steps(lib, make, kwargs, values):
        ps = [lib.nn.Parameter(lib.tensor(v)) for v in values]
        opt = make(ps, **kwargs)

        def closure():
            opt.zero_grad()
            loss = sum((p * p).sum() + (p * 1.5).tanh().sum() for p in ps)
            loss.backward()
            return loss
        for _ in range(6):
            opt.step(closure)
        return ps

    compared = 0
    for info in optim_db:
        name = info.optim_cls.__name__
        if name == "SparseAdam":
            continue
        rng = np.random.default_rng(0)
        values = [rng.normal(size=s) for s in ([(3, 4), (5, 3)] if name == "Muon" else [(3, 4), (5,), (2, 3, 2), ()])]
        for given in info.optim_inputs_func(device="cpu", dtype=peer.float64):
            theirs = steps(peer, info.optim_cls, given.kwargs, values)
            ours = steps(torch, getattr(optim, name), {k: ours_of(v) for k, v in given.kwargs.items()}, values)
            tolerance = 1e-2 if name == "Muon" else 1e-12  # Muon computes in bfloat16
            for p, q in zip(ours, theirs):
                np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), tolerance, tolerance, err_msg=f"{name} {given.kwargs}")
            compared += 1
    assert compared > 80


def test_hooks_and_module_paths():
    w = torch.nn.Parameter(torch.ones(2))
    opt = optim.SGD([w], lr=0.1)
    seen = []
    handles = [opt.register_step_pre_hook(lambda o, args, kwargs: seen.append("before")),
               opt.register_step_post_hook(lambda o, args, kwargs: seen.append("after")),
               optim.optimizer.register_optimizer_step_post_hook(lambda o, args, kwargs: seen.append("any"))]
    w.grad = torch.ones(2)
    opt.step()
    assert seen == ["before", "after", "any"] and w.tolist() == pytest.approx([0.9, 0.9])
    for h in handles:
        h.remove()
    opt.step()
    assert len(seen) == 3
    opt.register_state_dict_post_hook(lambda o, d: {**d, "extra": 1})
    opt.register_load_state_dict_pre_hook(lambda o, d: {k: v for k, v in d.items() if k != "extra"})
    saved = opt.state_dict()
    assert saved["extra"] == 1
    opt.load_state_dict(saved)
    assert optim.adam.Adam is optim.Adam and optim.adamw.AdamW is optim.AdamW and optim.lr_scheduler._LRScheduler
    with pytest.raises(RuntimeError, match="dense gradients"):
        s = optim.SparseAdam([w])
        s.step()


def test_a_users_optimizer():
    class Sign(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["n"] = self.state[p].get("n", 0) + 1
                    p.add_(torch.sign(p.grad), alpha=-group["lr"])

    w = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    opt = Sign([w])
    called = []
    opt.register_step_post_hook(lambda *a: called.append(1))
    w.grad = w.detach().clone()
    opt.step()
    assert w.tolist() == pytest.approx([0.9, -0.9]) and called == [1] and opt.state_dict()["state"] == {0: {"n": 1}}


def test_a_step_can_be_differentiated():
    def final(lr):
        w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True).clone()
        rate = torch.tensor(lr, dtype=torch.float64, requires_grad=True)
        opt = optim.SGD([torch.nn.Parameter(w.detach())], lr=0.1, differentiable=True)
        opt.param_groups[0]["params"] = [w]
        opt.param_groups[0]["lr"] = rate
        w.grad = (w ** 2).detach()
        opt.step()
        loss = (w ** 3).sum()
        loss.backward()
        return loss.item(), rate.grad.item()

    (up, _), (down, _), (_, slope) = final(0.1 + 1e-5), final(0.1 - 1e-5), final(0.1)
    assert slope == pytest.approx((up - down) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_finds_the_minimum_of_rosenbrocks_function(search):
    w = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    opt = optim.LBFGS([w], lr=1 if search else 0.05, max_iter=200 if search else 2000, line_search_fn=search, max_eval=3000)

    def closure():
        opt.zero_grad()
        loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
        loss.backward()
        return loss

    opt.step(closure)
    np.testing.assert_allclose(w.detach().numpy(), [1, 1], atol=1e-3)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_averaged_models(decay):
    model = torch.nn.Linear(2, 1)
    average = optim.swa_utils.AveragedModel(model, multi_avg_fn=decay and optim.swa_utils.get_ema_multi_avg_fn(decay))
    seen, expected = [], None
    for k in range(4):
        with torch.no_grad():
            model.weight.fill_(float(k * k))
        average.update_parameters(model)
        seen.append(float(k * k))
        expected = seen[0] if k == 0 else decay * expected + (1 - decay) * seen[-1] if decay else sum(seen) / len(seen)
    assert average.module.weight.tolist()[0] == pytest.approx([expected] * 2) and average.n_averaged.item() == 4
    assert set(average.state_dict()) == {"n_averaged", "module.weight", "module.bias"}


def test_sgd_by_hand():
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    opt = optim.SGD([w], lr=0.1, momentum=0.5, weight_decay=0.1)
    value, buffer = np.array([1.0, -2.0]), None
    for _ in range(4):
        opt.zero_grad()
        (w ** 3).sum().backward()
        opt.step()
        g = 3 * value ** 2 + 0.1 * value
        buffer = g if buffer is None else 0.5 * buffer + g
        value = value - 0.1 * buffer
        np.testing.assert_allclose(w.detach().numpy(), value, rtol=1e-14)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_by_hand(decoupled):
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    make = optim.AdamW if decoupled else optim.Adam
    opt = make([w], lr=0.1, betas=(0.8, 0.9), weight_decay=0.1)
    value, m, v = np.array([1.0, -2.0]), 0.0, 0.0
    for t in range(1, 5):
        opt.zero_grad()
        (w ** 3).sum().backward()
        opt.step()
        g = 3 * value ** 2
        if decoupled:
            value = value * (1 - 0.1 * 0.1)
        else:
            g = g + 0.1 * value
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        value = value - 0.1 * (m / (1 - 0.8 ** t)) / (np.sqrt(v / (1 - 0.9 ** t)) + 1e-8)
        np.testing.assert_allclose(w.detach().numpy(), value, rtol=1e-13)
    step = opt.state[w]["step"]
    assert step.dtype is torch.float32 and step.shape == () and step.item() == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saving_and_loading(name):
    make = OPTIMIZERS[name]
    ps, opt, _ = train(torch, make, steps=3)
    twin_ps = [torch.nn.Parameter(p.detach().clone()) for p in ps]
    twin = make(optim, [{"params": twin_ps[:1]}, {"params": twin_ps[1:]}])
    twin.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    assert twin.param_groups[1]["lr"] == 0.03 and twin.param_groups[0]["params"][0] is twin_ps[0]
    for _ in range(2):
        for params, o in ((ps, opt), (twin_ps, twin)):
            o.zero_grad()
            sum((p ** 2).sum() for p in params).backward()
            o.step()
    # numbers that NAdam and ASGD keep in float32 are loaded in the parameter's float64, as in PyTorch
    rtol = 1e-6 if name.startswith(("nadam", "asgd")) else 0
    for p, q in zip(ps, twin_ps):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol)


def test_load_fits_dtype_and_checks_groups():
    w = torch.nn.Parameter(torch.ones(2))
    opt = optim.Adam([w])
    w.grad = torch.ones(2)
    opt.step()
    half = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    other = optim.Adam([half])
    other.load_state_dict(opt.state_dict())
    assert other.state[half]["exp_avg"].dtype is torch.float64 and other.state[half]["step"].dtype is torch.float32
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([{"params": [w]}, {"params": [half]}]).load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size"):
        optim.Adam([w, half]).load_state_dict(opt.state_dict())


def test_copy_and_pickle():
    ps, opt, _ = train(torch, OPTIMIZERS["adam"], steps=2, schedule=SCHEDULES["StepLR"])
    twin = pickle.loads(pickle.dumps(opt))
    assert repr(twin) == repr(opt) and len(twin.state) == 2
    params, twin = copy.deepcopy((ps, opt))
    assert twin.param_groups[0]["params"][0] is params[0] and twin.state[params[0]]["step"].item() == 2


def test_groups_and_their_errors():
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    opt = optim.SGD([{"params": a, "lr": 1.0}], lr=0.1)
    opt.add_param_group({"params": [b], "momentum": 0.5})
    assert [g["lr"] for g in opt.param_groups] == [1.0, 0.1] and opt.param_groups[1]["momentum"] == 0.5
    with pytest.raises(ValueError, match="more than one parameter group"):
        opt.add_param_group({"params": [a]})
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([], lr=0.1)
    with pytest.raises(TypeError, match="iterable of Tensors"):
        optim.SGD(a, lr=0.1)
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        optim.SGD([3.0], lr=0.1)
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([a * 2], lr=0.1)
    with pytest.raises(TypeError, match="ordered collections"):
        optim.SGD([{"params": {a}}], lr=0.1)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([a, a], lr=0.1)
    named = optim.SGD([("a", a), ("b", b)], lr=0.1)
    assert named.param_groups[0]["param_names"] == ["a", "b"]


@pytest.mark.parametrize("make, message", [
    (lambda p: optim.SGD(p, lr=-1.0), "Invalid learning rate: -1.0"),
    (lambda p: optim.SGD(p, momentum=-1), "Invalid momentum value: -1"),
    (lambda p: optim.SGD(p, nesterov=True), "Nesterov momentum requires"),
    (lambda p: optim.Adam(p, betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"),
    (lambda p: optim.Adam(p, eps=-1.0), "Invalid epsilon value: -1.0"),
    (lambda p: optim.AdamW(p, weight_decay=math.nan), "Invalid weight_decay value: nan"),
])
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make([torch.nn.Parameter(torch.ones(1))])


def test_closure_missing_gradients_and_zero_grad():
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    opt = optim.Adam([a, b], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (a * 2).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 2.0
    assert a.item() == pytest.approx(0.9) and b.item() == 1.0 and b not in opt.state
    opt.zero_grad(set_to_none=False)
    assert a.grad.item() == 0.0
    opt.zero_grad()
    assert a.grad is None
    assert a.requires_grad and a.is_leaf


def test_learning_rate_may_be_a_tensor():
    for make in OPTIMIZERS.values():
        with_float, opt, _ = train(torch, make, steps=5)
        ps = start(torch)
        twin = make(optim, [{"params": ps[:1]}, {"params": ps[1:]}])
        twin.param_groups[0]["lr"] = torch.tensor(opt.param_groups[0]["lr"], dtype=torch.float64)
        twin.param_groups[1]["lr"] = torch.tensor(0.03, dtype=torch.float64)
        rng = np.random.default_rng(1)
        for _ in range(5):
            twin.zero_grad()
            ((ps[0] * torch.tensor(rng.normal(size=(3, 4)))).tanh().sum() + (ps[1] ** 2).sum() * 0.3).backward()
            twin.step()
        for p, q in zip(ps, with_float):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_a_zero_learning_rate_changes_nothing():
    for name, make in OPTIMIZERS.items():
        if name.startswith("rprop"):  # its smallest step is an option of its own
            continue
        w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        opt = make(optim, [w])
        opt.param_groups[0]["lr"] = 0.0
        w.grad = torch.tensor([0.0, 1.0])
        opt.step()
        assert w.tolist() == [1.0, 2.0]


def test_training_reaches_the_solution():
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.25
    for make in (lambda p: optim.SGD(p, lr=0.1), lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.0)):
        model = torch.nn.Linear(3, 1)
        opt = make(model.parameters())
        loss_fn = torch.nn.MSELoss()
        for _ in range(300):
            opt.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            opt.step()
        assert loss.item() < 1e-5
        np.testing.assert_allclose(model.weight.detach().numpy(), [[1.0, -2.0, 0.5]], atol=0.01)


def test_training_on_the_simulated_gpu_equals_the_cpu():
    with torch.config.override(simulate_cuda=True):
        for make in (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01), lambda p: optim.AdamW(p, lr=0.01)):
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))
            twin = copy.deepcopy(model).to("cuda")
            assert all(p.device.type == "cuda" and p.is_leaf for p in twin.parameters())
            x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
            for net, a, b in ((model, x, y), (twin, x.cuda(), y.cuda())):
                opt = make(net.parameters())
                for _ in range(2):
                    opt.zero_grad()
                    torch.nn.CrossEntropyLoss()(net(a), b).backward()
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    opt.step()
                state = opt.state[next(net.parameters())]
                assert all(v.device == a.device for v in state.values())
            for p, q in zip(model.parameters(), twin.parameters()):
                np.testing.assert_allclose(q.detach().cpu().numpy(), p.detach().numpy(), rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- schedules

@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["adam", "sgd momentum"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_equal_pytorch(name, base):
    peer = pytest.importorskip("torch")
    _, _, ours = train(torch, OPTIMIZERS[base], schedule=SCHEDULES[name])
    _, _, theirs = train(peer, OPTIMIZERS[base], schedule=SCHEDULES[name])
    assert ours == theirs


def _rates(schedule, steps):
    opt = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0, momentum=0.9)
    scheduler = schedule(optim.lr_scheduler, opt)
    rates = [opt.param_groups[0]["lr"]]
    for _ in range(steps):
        opt.step()
        scheduler.step()
        rates.append(opt.param_groups[0]["lr"])
    return rates


def test_rates_by_formula():
    close = pytest.approx
    assert _rates(lambda m, o: m.StepLR(o, 2, 0.5), 4) == close([1, 1, 0.5, 0.5, 0.25])
    assert _rates(lambda m, o: m.MultiStepLR(o, [1, 3], 0.1), 4) == close([1, 0.1, 0.1, 0.01, 0.01])
    assert _rates(lambda m, o: m.LinearLR(o, 0.5, 1.0, 2), 3) == close([0.5, 0.75, 1, 1])
    assert _rates(lambda m, o: m.ConstantLR(o, 0.5, 2), 3) == close([0.5, 0.5, 1, 1])
    assert _rates(lambda m, o: m.ExponentialLR(o, 0.5), 2) == close([1, 0.5, 0.25])
    assert _rates(lambda m, o: m.LambdaLR(o, lambda e: e + 1), 2) == close([1, 2, 3])
    cosine = [(1 + math.cos(math.pi * e / 4)) / 2 for e in range(9)]
    assert _rates(lambda m, o: m.CosineAnnealingLR(o, 4), 8) == close(cosine, abs=1e-15)
    assert _rates(lambda m, o: m.CosineAnnealingWarmRestarts(o, 4), 4) == close([*cosine[:4], 1.0])
    assert _rates(lambda m, o: m.SequentialLR(o, [m.ConstantLR(o, 0.1, 9), m.ExponentialLR(o, 0.5)], [2]), 4) == close(
        [0.1, 0.1, 1.0, 0.5, 0.25])
    one = _rates(lambda m, o: m.OneCycleLR(o, 1.0, total_steps=10), 9)
    assert one[0] == close(1 / 25) and max(one) == close(1.0) and one.index(max(one)) == 2 and one[-1] == close(1 / 25e4)


def test_plateau():
    opt = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(opt, patience=1, factor=0.5)
    rates = []
    for metric in (3.0, 2.0, torch.tensor(2.0), 2.0, 2.0, 1.0):
        scheduler.step(metric)
        rates.append(scheduler.get_last_lr()[0])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in SCHEDULES if "Plateau" not in n])
def test_schedules_resume(name):
    _, _, whole = train(torch, OPTIMIZERS["adam"], steps=12, schedule=SCHEDULES[name])
    ps = start(torch)
    opt = OPTIMIZERS["adam"](optim, [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.03}])
    first = SCHEDULES[name](optim.lr_scheduler, opt)
    for _ in range(5):
        first.step()
    other = OPTIMIZERS["adam"](optim, [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.03}])
    resumed = SCHEDULES[name](optim.lr_scheduler, other)
    other.load_state_dict(opt.state_dict())
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    for want in whole[5:]:
        resumed.step()
        assert resumed.get_last_lr() == want[:2]


def test_order_of_steps_is_checked():
    opt = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(opt, 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    opt = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=torch.tensor(1.0))
    scheduler = optim.lr_scheduler.ExponentialLR(opt, 0.5)
    rate = opt.param_groups[0]["lr"]
    opt.step()
    scheduler.step()
    assert opt.param_groups[0]["lr"] is rate and rate.item() == 0.5
    with pytest.raises(TypeError, match="is not an Optimizer"):
        optim.lr_scheduler.StepLR(3, 1)


# --------------------------------------------------------------------------------------------------------- compiled

def _train_compiled(make, schedule, compiled, steps=6):
    ps = start(torch)
    opt = make(optim, [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.03}])
    scheduler = schedule(optim.lr_scheduler, opt)

    def step(x):
        opt.zero_grad()
        loss = (ps[0] * x).tanh().sum() + (ps[1] ** 2).sum() * 0.3
        loss.backward()
        opt.step()
        return loss

    run = torch.compile(step) if compiled else step
    rng = np.random.default_rng(1)
    losses = []
    for _ in range(steps):
        losses.append(run(torch.tensor(rng.normal(size=(3, 4)))).item())
        scheduler.step()
    return ps, losses, run


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_compiled_step_equals_the_eager_one_under_a_schedule(name):
    cycles = "adam" in name or "momentum" in name  # OneCycleLR changes momentum or betas too
    schedule = SCHEDULES["OneCycleLR"] if cycles else SCHEDULES["ExponentialLR"]
    eager, losses, _ = _train_compiled(OPTIMIZERS[name], schedule, compiled=False)
    ps, compiled_losses, run = _train_compiled(OPTIMIZERS[name], schedule, compiled=True)
    for p, q in zip(ps, eager):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(compiled_losses, losses, rtol=1e-12)
    # one plan for the first step, which makes the state, and one for all others: no schedule recompiles
    assert run.cache_info()["plans"] <= 2


def test_a_compiled_step_notices_an_option_that_decides_what_runs():
    w = torch.nn.Parameter(torch.tensor([1.0]))
    opt = optim.SGD([w], lr=1)

    @torch.compile
    def step():
        w.grad = torch.ones(1)
        opt.step()

    for _ in range(3):
        step()
    assert w.item() == -2.0
    opt.param_groups[0]["lr"] = 0.5
    step()
    assert w.item() == -2.5
    opt.param_groups[0]["weight_decay"] = 1.0
    step()
    assert w.item() == -2.5 - 0.5 * (1 - 2.5)


def test_a_schedule_inside_a_compiled_step_is_followed():
    def run(compiled):
        w = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        opt = optim.SGD([w], lr=0.5)
        scheduler = optim.lr_scheduler.ExponentialLR(opt, 0.5)

        def step():
            w.grad = torch.ones(1, dtype=torch.float64)
            opt.step()
            scheduler.step()

        step = torch.compile(step) if compiled else step
        for _ in range(5):
            step()
        return w.item(), scheduler.last_epoch, opt.param_groups[0]["lr"]

    assert run(True) == run(False)
