"""Batch, instance and group normalisation layers: running statistics, compiled training steps, state dicts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import nn


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_running_statistics_follow_the_batches():
    m = nn.BatchNorm2d(3, momentum=0.3)
    mean, var = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = numbers(4, 3, 2, 5, seed=seed) * 2 + 1
        m(torch.from_numpy(x))
        mean = mean * 0.7 + x.mean((0, 2, 3)) * 0.3
        var = var * 0.7 + x.var((0, 2, 3), ddof=1) * 0.3
    np.testing.assert_allclose(m.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(m.running_var.numpy(), var, rtol=1e-5)
    assert m.num_batches_tracked.item() == 3
    y = m.eval()(torch.from_numpy(x)).detach().numpy()
    by_channel = (1, 3, 1, 1)
    np.testing.assert_allclose(y, (x - mean.reshape(by_channel)) / np.sqrt(var.reshape(by_channel) + 1e-5), rtol=1e-4, atol=1e-5)
    assert m.num_batches_tracked.item() == 3


@pytest.mark.parametrize("compiled", [False, True])
def test_without_momentum_all_batches_count_the_same(compiled):
    m = nn.BatchNorm1d(2, momentum=None)
    batches = [numbers(6, 2, seed=seed) for seed in range(4)]
    call = torch.compile(lambda x: m(x)) if compiled else m
    for x in batches:
        call(torch.from_numpy(x))
    np.testing.assert_allclose(m.running_mean.numpy(), np.mean([x.mean(0) for x in batches], 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(m.running_var.numpy(), np.mean([x.var(0, ddof=1) for x in batches], 0), rtol=1e-5)


@pytest.mark.parametrize("layer", [lambda: nn.BatchNorm2d(4), lambda: nn.BatchNorm2d(4, affine=False), lambda: nn.GroupNorm(2, 4),
                                   lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), lambda: nn.LocalResponseNorm(3),
                                   lambda: nn.BatchNorm2d(4, track_running_stats=False)])
def test_a_compiled_training_step_is_the_eager_one(layer):
    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 5), layer(), nn.ReLU())
        return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def train(model, opt, compiled):
        def step(x):
            opt.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            opt.step()
            return loss
        step = torch.compile(step, fullgraph=True) if compiled else step
        return [step(torch.from_numpy(numbers(3, 4, 2, 5, seed=seed))).item() for seed in range(4)]

    eager, opt = make()
    fused, fused_opt = make()
    np.testing.assert_allclose(train(eager, opt, False), train(fused, fused_opt, True), rtol=1e-5)
    for (name, a), b in zip(eager.state_dict().items(), fused.state_dict().values()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_batch_norm_step_is_few_kernels():
    """Statistics, normalisation, running averages, gradients and the update are one kernel; the count of batches is another."""
    m = nn.BatchNorm2d(3)
    opt = torch.optim.SGD(m.parameters(), 0.1)

    @torch.compile
    def step(x):
        opt.zero_grad()
        m(x).square().mean().backward()
        opt.step()

    x = torch.from_numpy(numbers(4, 3, 5, 5))
    step(x)
    assert str(step.explain(x)).count("[loop]") <= 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_with_float32_parameters(dtype):
    x = numbers(8, 3, 4)
    m, n = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    given = torch.from_numpy(x).to(dtype).requires_grad_()
    y, want = m(given), n(given.float())
    assert y.dtype is dtype and m.running_mean.dtype is torch.float32
    np.testing.assert_allclose(y.float().detach().numpy(), want.detach().numpy(), atol=0.02)
    np.testing.assert_allclose(m.running_var.numpy(), n.running_var.numpy(), rtol=1e-5)
    y.sum().backward()
    assert given.grad.dtype is dtype and m.weight.grad.dtype is torch.float32
    with pytest.raises(RuntimeError, match="expected scalar type"):
        nn.functional.batch_norm(torch.zeros(2, 3), None, None, torch.ones(3, dtype=torch.float64), training=True)


def test_errors():
    with pytest.raises(ValueError, match="expected 4D input"):
        nn.BatchNorm2d(3)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.zeros(1, 3))
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 3"):
        nn.BatchNorm1d(3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="must be divisible"):
        nn.GroupNorm(3, 4)
    with pytest.raises(RuntimeError, match="divisible by num_groups"):
        nn.functional.group_norm(torch.zeros(2, 4, 2), 3)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        nn.InstanceNorm1d(3)(torch.zeros(2, 3, 1))
    with pytest.raises(ValueError, match="3D or higher"):
        nn.LocalResponseNorm(2)(torch.zeros(2, 3))


def test_instance_norm_takes_a_single_sample():
    m, x = nn.InstanceNorm2d(3), torch.from_numpy(numbers(3, 4, 5))
    np.testing.assert_array_equal(m(x).numpy(), m(x.unsqueeze(0))[0].numpy())


def test_state_dicts_from_before_the_batches_were_counted():
    m = nn.BatchNorm1d(2)
    old = {k: v for k, v in m.state_dict().items() if k != "num_batches_tracked"}
    m.num_batches_tracked.fill_(7)
    m.load_state_dict(old)
    assert m.num_batches_tracked.item() == 7


def test_sync_batch_norm():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3, affine=False))).eval()
    new = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(new[0], nn.SyncBatchNorm) and isinstance(new[1][0], nn.SyncBatchNorm) and not new[0].training
    x = torch.from_numpy(numbers(2, 3, 2, 2))
    np.testing.assert_array_equal(new.train()(x).detach().numpy(),
                                  nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))(x).detach().numpy())


def test_copies():
    m = nn.BatchNorm2d(3)
    m(torch.from_numpy(numbers(2, 3, 2, 2)))
    for copied in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert copied.running_mean is not m.running_mean
        for a, b in zip(m.state_dict().values(), copied.state_dict().values()):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_fusing_into_a_linear_layer():
    layer, bn = nn.Linear(5, 3), nn.BatchNorm1d(3)
    bn(torch.from_numpy(numbers(9, 3) * 3))
    x = torch.from_numpy(numbers(4, 5))
    fused = nn.utils.fuse_linear_bn_eval(layer.eval(), bn.eval())
    np.testing.assert_allclose(fused(x).detach().numpy(), bn(layer(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="only for eval"):
        nn.utils.fuse_linear_bn_eval(layer.train(), bn)
