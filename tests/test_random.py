"""Random numbers: generators, distributions, the same numbers everywhere, dropout."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.stats

import fusetorch as torch
import fusetorch.nn.functional as F
from fusetorch import config
from fusetorch.ops import philox

N = 20000


def test_the_same_seed_gives_the_same_numbers() -> None:
    def draw() -> list[torch.Tensor]:
        torch.manual_seed(3)
        return [torch.rand(4), torch.randn(3, 2), torch.randint(0, 9, (5,)), torch.randperm(6), torch.bernoulli(torch.full((7,), 0.5))]

    a, b = draw(), draw()
    assert all(torch.equal(p, q) for p, q in zip(a, b))
    assert not torch.equal(torch.rand(4), a[0])


def test_numbers_are_philox_at_their_position() -> None:
    g = torch.Generator().manual_seed(11)
    torch.rand(100, generator=g)
    got = torch.rand(8, generator=g).numpy()
    bits = philox.bits(11, 100 + np.arange(8), 0)
    np.testing.assert_array_equal(got, ((bits >> 8) & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24))


@pytest.mark.parametrize("way", ["small", "native", "cuda", "compiled", "compiled cuda"])
def test_every_way_gives_the_same_numbers(way: str) -> None:
    def draw(device: str) -> list[torch.Tensor]:
        x = torch.ones(40, 3, device=device)
        return [
            torch.rand(40, 3, device=device),
            torch.randint(-5, 90, (40, 3), device=device),
            F.dropout(x, 0.3),
            torch.bernoulli(x * 0.2),
        ]

    torch.manual_seed(9)
    want = draw("cpu")
    device = "cuda" if "cuda" in way else "cpu"
    if device == "cuda":
        pytest.importorskip("triton")
    native = {"native_threshold": 0, "parallel_threshold": 0} if way == "native" else {}
    with config.override(simulate_cuda=device == "cuda", **native):
        f = torch.compile(draw, fullgraph=True) if "compiled" in way else draw
        torch.manual_seed(9)
        got = [t.cpu() for t in f(device)]
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_generators_are_independent_and_restorable() -> None:
    g = torch.Generator().manual_seed(5)
    state = g.get_state()
    assert state.dtype is torch.uint8 and state.shape == (16,)
    a = torch.rand(3, generator=g)
    torch.rand(3)
    b = torch.rand(3, generator=g)
    g.set_state(state)
    assert torch.equal(torch.rand(3, generator=g), a) and torch.equal(torch.rand(3, generator=g), b)
    h = pickle.loads(pickle.dumps(g))
    assert torch.equal(torch.rand(2, generator=h), torch.rand(2, generator=g))
    assert g.initial_seed() == 5 and g.seed() == g.initial_seed() != 5
    with pytest.raises(RuntimeError, match="wrong size"):
        g.set_state(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(TypeError, match="Generator"):
        torch.rand(3, generator="cpu")


def test_the_default_generator() -> None:
    torch.manual_seed(-1)
    assert torch.initial_seed() == 2**64 - 1
    with pytest.raises(RuntimeError, match="Overflow"):
        torch.manual_seed(2**64)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a = torch.rand(3)
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(3), a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_uniform(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.rand(N, dtype=dtype)
    assert x.dtype is dtype
    a = x.double().numpy()
    assert a.min() >= 0 and a.max() < 1
    assert scipy.stats.kstest(a[::10], "uniform").pvalue > 0.001
    y = torch.empty(N, dtype=torch.float32).uniform_(-3, 5)
    assert scipy.stats.kstest(y.numpy(), "uniform", (-3, 8)).pvalue > 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    assert scipy.stats.kstest(torch.randn(N, dtype=dtype).numpy(), "norm").pvalue > 0.001
    assert scipy.stats.kstest(torch.empty(N, dtype=dtype).normal_(2, 3).numpy(), "norm", (2, 3)).pvalue > 0.001
    assert scipy.stats.kstest(torch.normal(2.0, 3.0, (N,)).numpy(), "norm", (2, 3)).pvalue > 0.001
    mean = torch.tensor([0.0, 100.0]).repeat(N // 2)
    x = torch.normal(mean, torch.ones(N)) - mean
    assert scipy.stats.kstest(x.numpy(), "norm").pvalue > 0.001


def test_exponential() -> None:
    torch.manual_seed(0)
    assert scipy.stats.kstest(torch.empty(N).exponential_(2.0).numpy(), "expon", (0, 0.5)).pvalue > 0.001


def test_integers() -> None:
    torch.manual_seed(0)
    x = torch.randint(-3, 4, (N,))
    assert x.dtype is torch.int64
    counts = np.bincount(x.numpy() + 3, minlength=7)
    assert len(counts) == 7 and scipy.stats.chisquare(counts).pvalue > 0.001
    assert torch.randint(5, (3,), dtype=torch.int32).dtype is torch.int32
    big = torch.randint(-(2**62), 2**62, (1000,))
    assert big.min().item() < -(2**60) and big.max().item() > 2**60
    with pytest.raises(RuntimeError, match="from"):
        torch.randint(3, 3, (1,))
    for dtype in (torch.uint8, torch.int16, torch.float16, torch.bool):
        y = torch.empty(1000, dtype=dtype).random_()
        assert y.double().max().item() > y.double().min().item()
    z = torch.empty(1000).random_(2, 5)
    assert set(z.tolist()) == {2.0, 3.0, 4.0}


def test_permutations() -> None:
    torch.manual_seed(0)
    orders = {tuple(torch.randperm(3).tolist()) for _ in range(100)}
    assert len(orders) == 6
    assert sorted(torch.randperm(100).tolist()) == list(range(100))


def test_bernoulli() -> None:
    torch.manual_seed(0)
    p = torch.tensor([0.0, 0.25, 1.0]).repeat(N, 1)
    means = torch.bernoulli(p).mean(0)
    np.testing.assert_allclose(means.numpy(), [0, 0.25, 1], atol=0.01)
    np.testing.assert_allclose(torch.empty(N).bernoulli_(0.7).mean().item(), 0.7, atol=0.015)
    with pytest.raises(RuntimeError, match="p_in"):
        torch.bernoulli(torch.tensor([1.5]))


def test_multinomial() -> None:
    torch.manual_seed(0)
    w = torch.tensor([1.0, 0.0, 3.0])
    counts = np.bincount(torch.multinomial(w, N, replacement=True).numpy(), minlength=3)
    assert counts[1] == 0
    np.testing.assert_allclose(counts[2] / N, 0.75, atol=0.02)
    for _ in range(20):
        assert sorted(torch.multinomial(w, 2).tolist()) == [0, 2]
    firsts = torch.stack([torch.multinomial(w, 1)[0] for _ in range(400)])
    np.testing.assert_allclose((firsts == 2).float().mean().item(), 0.75, atol=0.08)
    with pytest.raises(RuntimeError, match="without replacement"):
        torch.multinomial(w, 4)
    with pytest.raises(RuntimeError, match="inf|nan"):
        torch.multinomial(torch.tensor([-1.0, 2.0]), 1)


def test_dropout_keeps_the_mean_and_draws_one_mask_for_both_passes() -> None:
    torch.manual_seed(0)
    x = torch.ones(N, requires_grad=True)
    y = F.dropout(x, 0.25)
    kept = (y != 0).float()
    np.testing.assert_allclose(kept.mean().item(), 0.75, atol=0.02)
    np.testing.assert_allclose(y.detach().numpy(), kept.numpy() / 0.75, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert F.dropout(x, 0.5, training=False) is x
    assert not F.dropout(x, 1.0).any()
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.dropout(x, 1.5)


def test_feature_dropout_drops_whole_channels() -> None:
    torch.manual_seed(0)
    y = F.dropout2d(torch.ones(50, 20, 3, 3), 0.5).numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y.min(axis=(2, 3)) == y.max(axis=(2, 3))).all()


def test_feature_dropout_of_other_ranks() -> None:
    with pytest.raises(RuntimeError, match="dropout1d: Expected 2D or 3D input, but received a 4D input"):
        F.dropout1d(torch.ones(1, 2, 3, 4))
    with pytest.warns(UserWarning, match="dropout2d: Received a 3D input"):
        F.dropout2d(torch.ones(2, 3, 4))
    with pytest.warns(UserWarning, match="dropout3d: Received a 2-D input"):  # channels without a batch
        r = F.dropout3d(torch.ones(200, 3))
    assert set(r.sum(1).tolist()) == {0.0, 6.0}
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 2"):
        F.alpha_dropout(torch.ones(3), 2)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    torch.manual_seed(0)
    y = F.alpha_dropout(torch.randn(N), 0.3, training=True)
    np.testing.assert_allclose([y.mean().item(), y.std().item()], [0, 1], atol=0.05)


def test_a_fork_restores_the_state() -> None:
    torch.manual_seed(0)
    with torch.random.fork_rng():
        torch.rand(5)
    a = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), a)
