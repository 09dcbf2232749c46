"""Functions of ``torch`` in the form that ``nn.functional`` calls, against ``nn.functional`` and what is plain to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fusetorch as torch
from fusetorch.nn import functional as F


def test_embedding() -> None:
    weight, at = torch.randn(5, 2, requires_grad=True), torch.tensor([[0, 4], [4, 1]])
    assert torch.equal(torch.embedding(weight, at), F.embedding(at, weight))
    torch.embedding(weight, at, 4).sum().backward()
    assert weight.grad.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0], [0, 0]]
    w = torch.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    assert torch.embedding_renorm_(w, torch.tensor([0, 1]), 1.0, 2.0) is w
    torch.testing.assert_close(w, torch.tensor([[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]]))


def test_normalization() -> None:
    x, w, b, m, v = torch.randn(4, 3, 5), torch.rand(3), torch.randn(3), torch.randn(3), torch.rand(3)
    assert torch.equal(torch.batch_norm(x, w, b, m, v, False, 0.1, 1e-5, True), F.batch_norm(x, m, v, w, b))
    assert torch.equal(torch.batch_norm(x, w, b, None, None, True, 0.1, 1e-5, True), F.batch_norm(x, None, None, w, b, True))
    assert torch.equal(torch.instance_norm(x, w, b, None, None, True, 0.1, 1e-5, True), F.instance_norm(x, None, None, w, b))


@pytest.mark.parametrize(("number", "name"), [(0, "none"), (1, "mean"), (2, "sum")])
def test_losses(number: int, name: str) -> None:
    x, y = torch.randn(3, 4), torch.rand(3, 4)
    assert torch.equal(torch.binary_cross_entropy_with_logits(x, y, None, None, number),
                       F.binary_cross_entropy_with_logits(x, y, reduction=name))
    assert torch.equal(torch.kl_div(x, y, number, log_target=True), F.kl_div(x, y, reduction=name, log_target=True))
    assert torch.equal(torch.poisson_nll_loss(x, y, True, True, 1e-8, number), F.poisson_nll_loss(x, y, full=True, reduction=name))
    given = torch.randn(5, 2, 4).log_softmax(-1), torch.tensor([[1, 2], [3, 1]]), torch.tensor([5, 5]), torch.tensor([2, 1])
    assert torch.equal(torch.ctc_loss(*given, 0, number), F.ctc_loss(*given, reduction=name))


def test_dropout() -> None:
    x = torch.ones(400)
    assert torch.dropout_(x, 0.5, True) is x and set(x.tolist()) == {0.0, 2.0}
    y = torch.ones(40, 20, 3)
    torch.feature_dropout_(y, 0.5, True)
    assert set(y.sum(-1).flatten().tolist()) == {0.0, 6.0}
    out, kept = torch.native_dropout(torch.ones(400), 0.5, True)
    assert torch.equal(out, kept * 2.0) and 100 < kept.sum() < 300
    assert torch.native_dropout(x, 0.5, False)[1].all()


def test_range() -> None:
    with pytest.warns(UserWarning, match="deprecated"):
        assert torch.range(1, 2, 0.25).tolist() == [1, 1.25, 1.5, 1.75, 2]
        assert torch.range(3, 1, -1, dtype=torch.int64).tolist() == [3, 2, 1]
        with pytest.raises(RuntimeError, match="inconsistent"):
            torch.range(1, 0)


def test_from_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    np.arange(4, dtype=np.float32).tofile(path)
    private = torch.from_file(path, size=3)
    private += 1
    assert private.tolist() == [1, 2, 3] and np.fromfile(path, np.float32).tolist() == [0, 1, 2, 3]
    shared = torch.from_file(path, shared=True, size=6, dtype=torch.float32)
    shared[4:] = 7
    assert np.fromfile(path, np.float32).tolist() == [0, 1, 2, 3, 7, 7]


def test_questions_and_sizes() -> None:
    x = torch.ones(2)
    assert not torch.is_distributed(x) and not torch.is_inference(x) and torch.get_device_module("cpu") is torch.cpu
    assert not isinstance(3, torch.SymInt)
    assert torch.sym_max(1, 2.0) == 2.0 and isinstance(torch.sym_max(3, 2.0), float) and torch.sym_min(1, 2) == 1
    assert torch.sym_not(0) is True and torch.sym_ite(False, 1, 2) == 2 and torch.sym_sum([1, 2, 3]) == 6
    assert torch.view_as_real_copy(torch.tensor([1 + 2j])).tolist() == [[1, 2]]
    values, places = torch.adaptive_max_pool1d(torch.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    assert values.tolist() == [[3, 2]] and places.tolist() == [[1, 2]]


@pytest.mark.parametrize("largest", [True, False])
def test_lobpcg(largest: bool) -> None:
    a, b = torch.randn(2, 9, 9, dtype=torch.float64), torch.randn(9, 9, dtype=torch.float64)
    a, b = a + a.mT, b @ b.T + torch.eye(9, dtype=torch.float64)
    values, vectors = torch.lobpcg(a, 2, b, largest=largest)
    assert values.shape == (2, 2) and vectors.shape == (2, 9, 2)
    torch.testing.assert_close(a @ vectors, b @ vectors * values.unsqueeze(-2))
    everything = torch.linalg.eigvals(torch.linalg.solve(b, a)).real.sort(-1)[0]
    torch.testing.assert_close(values, everything[:, -2:].flip(-1) if largest else everything[:, :2])
    torch.testing.assert_close(torch.lobpcg(a[0].to_sparse(), 1)[0], torch.linalg.eigvalsh(a[0])[-1:])
    with pytest.raises(ValueError, match="3 x the number"):
        torch.lobpcg(a, 4)


def test_fake_quantization() -> None:
    x = torch.tensor([-1.0, -0.26, 0.0, 0.24, 0.26, 5.0], requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(x, 0.5, 1, 0, 7)
    assert y.tolist() == [-0.5, -0.5, 0, 0, 0.5, 3.0]
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    rows = torch.tensor([[0.3, 2.0], [0.3, 2.0]])
    both = torch.fake_quantize_per_channel_affine(rows, torch.tensor([0.5, 0.25]), torch.tensor([0, 2]), 0, 0, 7)
    assert both.tolist() == [[0.5, 2.0], [0.25, 1.25]]
    with pytest.raises(RuntimeError, match="quant_min"):
        torch.fake_quantize_per_tensor_affine(x, 0.5, 1, 7, 0)


def test_what_pytorch_removed() -> None:
    for f in (torch.lstsq, torch.eig, torch.symeig, torch.solve, torch.matrix_rank):
        with pytest.raises(RuntimeError, match="removed"):
            f(torch.eye(2))


def test_old_names() -> None:
    with pytest.warns(FutureWarning, match="assert_close"):
        torch.testing.assert_allclose(torch.tensor([1.0]), [1.00005])
        torch.testing.assert_allclose(torch.tensor([1, 2]), torch.tensor([1.0, 2.0]))
        with pytest.raises(AssertionError):
            torch.testing.assert_allclose(torch.tensor([1.0]), [1.001])

    class Double(torch.autograd.function.InplaceFunction):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = torch.ones(1, requires_grad=True)
    Double.apply(x).backward()
    assert x.grad.item() == 2
