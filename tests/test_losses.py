"""The CTC loss against its definition, and what the families' samples leave out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import config
from fusetorch.nn import functional as F


def log_probs(*shape: int) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal(shape)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def by_definition(lp: np.ndarray, targets: Any, inputs: Any, lengths: Any, blank: int) -> np.ndarray:
    """Minus the log of the summed probabilities of all paths that read as the target."""
    losses = []
    for n, (t, s) in enumerate(zip(inputs, lengths)):
        want, total = list(targets[n][:s]), 0.0
        for path in itertools.product(range(lp.shape[2]), repeat=t):
            if [k for k, _ in itertools.groupby(path) if k != blank] == want:
                total += np.exp(sum(lp[k, n, c] for k, c in enumerate(path)))
        losses.append(-np.log(total) if total else np.inf)
    return np.array(losses)


TARGETS, INPUTS, LENGTHS = [[1, 2], [2, 2], [1, 0], [2, 2]], [4, 4, 3, 2], [2, 2, 1, 2]


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("form", ["padded", "joined", "tensors"])
def test_ctc(blank, form):
    lp = log_probs(4, 4, 4)
    targets = [[k if k else 1 for k in row] for row in TARGETS]
    want = by_definition(lp, targets, INPUTS, LENGTHS, blank)
    given = torch.tensor([k for row, n in zip(targets, LENGTHS) for k in row[:n]] if form == "joined" else targets)
    lengths = (torch.tensor(INPUTS), torch.tensor(LENGTHS)) if form == "tensors" else (INPUTS, LENGTHS)
    x = torch.from_numpy(lp)
    np.testing.assert_allclose(F.ctc_loss(x, given, *lengths, blank, "none").numpy(), want, rtol=1e-9)
    kept = F.ctc_loss(x, given, *lengths, blank, "none", zero_infinity=True).numpy()
    np.testing.assert_allclose(kept, np.where(np.isinf(want), 0, want), rtol=1e-9)
    mean = F.ctc_loss(x, given, *lengths, blank, zero_infinity=True).item()
    assert mean == pytest.approx((kept / LENGTHS).mean())
    assert np.isinf(want[3])  # two equal labels need a blank between them


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_ctc_on_simulated_cuda(zero_infinity):
    pytest.importorskip("triton")
    inputs, lengths = torch.tensor([4, 4, 3, 2, 0]), torch.tensor([2, 2, 1, 2, 0])
    targets = torch.tensor([*TARGETS, [1, 1]])
    results = {}
    for device in ("cpu", "cuda"):
        with config.override(simulate_cuda=True):
            x = torch.from_numpy(log_probs(4, 5, 4)).to(device).requires_grad_()
            loss = F.ctc_loss(x, targets.to(device), inputs, lengths, reduction="none", zero_infinity=zero_infinity)
            loss[:4 if zero_infinity else 3].sum().backward()
            results[device] = loss.detach().cpu().numpy(), x.grad.cpu().numpy()
    for cpu, cuda in zip(*results.values()):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-9, atol=1e-12)


def test_ctc_of_one_sample_and_of_empty_targets():
    lp = log_probs(3, 1, 3)
    one = F.ctc_loss(torch.from_numpy(lp[:, 0]), torch.tensor([1]), (3,), (1,), reduction="none")
    assert one.shape == () and one.item() == pytest.approx(by_definition(lp, [[1]], [3], [1], 0)[0])
    empty = F.ctc_loss(torch.from_numpy(lp), torch.zeros(1, 0, dtype=torch.int64), (3,), (0,), reduction="sum")
    assert empty.item() == pytest.approx(-lp[:, 0, 0].sum())


@pytest.mark.parametrize("compiled", [False, True])
def test_ctc_gradient(compiled):
    logits = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 4, 4))).requires_grad_()

    def loss(x):
        return F.ctc_loss(F.log_softmax(x, 2), torch.tensor(TARGETS), torch.tensor(INPUTS), torch.tensor(LENGTHS), zero_infinity=True)

    (torch.compile(loss) if compiled else loss)(logits).backward()
    a = logits.detach().numpy()
    for at in np.ndindex(a.shape):
        before = a[at]
        a[at] = before + 1e-6
        up = loss(logits).item()
        a[at] = before - 1e-6
        down = loss(logits).item()
        a[at] = before
        assert logits.grad[at].item() == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_ctc_errors():
    x, t = torch.from_numpy(log_probs(4, 1, 3)), torch.tensor([[1, 2]])
    with pytest.raises(RuntimeError, match="at most 4"):
        F.ctc_loss(x, t, (5,), (2,))
    with pytest.raises(RuntimeError, match="size at least 3"):
        F.ctc_loss(x, t, (4,), (3,))
    with pytest.raises(RuntimeError, match="batch_size"):
        F.ctc_loss(x, t, (4, 4), (2,))
    with pytest.raises(RuntimeError, match="label range"):
        F.ctc_loss(x, t, (4,), (2,), blank=3)
    with pytest.raises(NotImplementedError, match="float16"):
        F.ctc_loss(x.half(), t, (4,), (2,))


def test_linear_cross_entropy():
    rng = np.random.default_rng(0)
    x, w, b = (torch.from_numpy(rng.standard_normal(s)) for s in ((4, 3), (5, 3), (5,)))
    t = torch.tensor([0, 4, 2, 2])
    got = F.linear_cross_entropy(x, w, t, linear_bias=b, ignore_index=4)
    assert got.item() == pytest.approx(F.cross_entropy(x @ w.T + b, t, ignore_index=4).item())


def test_cross_entropy_where_all_rows_are_ignored():
    x = torch.ones(2, 3, requires_grad=True)
    loss = F.cross_entropy(x, torch.tensor([1, 1]), ignore_index=1)
    loss.backward()
    assert np.isnan(loss.item()) and x.grad.tolist() == [[0.0] * 3] * 2


def test_rrelu_in_place():
    x = torch.tensor([-1.0, 2.0])
    assert F.rrelu_(x, 0.5, 0.5, True) is x and x.tolist() == [-0.5, 2.0]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embeddings_are_renormalised(mode):
    table = torch.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    F.embedding_bag(torch.tensor([[0, 1]]), table, max_norm=1.0, mode=mode)
    np.testing.assert_allclose(table.numpy(), [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]], rtol=1e-5)
    F.embedding(torch.tensor([2]), table, max_norm=5.0)
    np.testing.assert_allclose(table[2].numpy(), [3.0, 4.0], rtol=1e-5)


def test_gradients_by_frequency():
    table = torch.ones(3, 2, requires_grad=True)
    F.embedding(torch.tensor([0, 0, 1]), table, scale_grad_by_freq=True).sum().backward()
    assert table.grad.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


def test_embedding_bag_errors():
    table, index = torch.ones(4, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="offsets has to be a 1D Tensor but got None"):
        F.embedding_bag(index, table)
    with pytest.raises(ValueError, match="2D"):
        F.embedding_bag(index.reshape(1, 2), table, torch.tensor([0]))
    with pytest.raises(ValueError, match="mode has to be"):
        F.embedding_bag(index, table, torch.tensor([0]), mode="min")
    with pytest.raises(NotImplementedError, match="only supported for mode='sum'"):
        F.embedding_bag(index, table, torch.tensor([0]), per_sample_weights=torch.ones(2))


def test_gradient_of_a_short_loss_between_numbers():
    x = torch.tensor(3.0, requires_grad=True)
    F.mse_loss(x, torch.tensor(1.0)).backward()
    assert x.grad.device.type == "cpu" and x.grad.item() == 4.0


@pytest.mark.parametrize("out", [(), (3,)])
def test_linear_cross_entropy_layer(out):
    torch.manual_seed(0)
    layer = torch.nn.LinearCrossEntropyLoss(4, 5, out_features=out, bias=True, weight=torch.rand(5), label_smoothing=0.1,
                                            options=torch.nn.LinearCrossEntropyOptions())
    x, y = torch.randn(6, 4), torch.randint(5, (6, *out))
    logits = layer.linear(x).reshape(6, 5, *out)
    torch.testing.assert_close(layer(x, y), F.cross_entropy(logits, y, layer.weight, label_smoothing=0.1))
    assert list(layer.state_dict()) == ["weight", "linear.weight", "linear.bias"] and "num_classes=5, out_features=" in repr(layer)
    with pytest.raises(RuntimeError, match="weight shape"):
        torch.nn.LinearCrossEntropyLoss(4, 5, weight=torch.rand(4))
