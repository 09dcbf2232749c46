"""Counting the operations of products and convolutions."""

from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.utils.flop_counter import FlopCounterMode


def counted(f) -> FlopCounterMode:
    with FlopCounterMode(display=False) as counter:
        f()
    return counter


def test_products() -> None:
    a, b = torch.ones(2, 3), torch.ones(3, 4)
    for f in (lambda: a @ b, lambda: torch.mm(a, b), lambda: torch.matmul(a, b), lambda: torch.addmm(torch.ones(4), a, b),
              lambda: torch.einsum("ij,jk->ik", a, b), lambda: F.linear(a, b.T), lambda: torch.bmm(a[None], b[None])):
        assert counted(f).get_total_flops() == 48
    assert counted(lambda: torch.ones(5, 2, 3) @ b).get_total_flops() == 240
    assert counted(lambda: a + a).get_total_flops() == 0
    q, k, v = torch.ones(1, 2, 5, 8), torch.ones(1, 2, 7, 8), torch.ones(1, 2, 7, 4)
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v)).get_total_flops() == 2 * 2 * 5 * 7 * (8 + 4)


def test_convolutions() -> None:
    assert counted(lambda: F.conv2d(torch.ones(2, 2, 8, 8), torch.ones(4, 1, 3, 3), groups=2)).get_total_flops() == 5184
    assert counted(lambda: F.conv_transpose2d(torch.ones(1, 3, 4, 4), torch.ones(3, 2, 3, 3))).get_total_flops() == 1728


def test_modules_and_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, groups=2), torch.nn.Flatten(), torch.nn.Linear(144, 10))
    x = torch.randn(2, 2, 8, 8)
    counts = counted(lambda: model(x)).get_flop_counts()
    assert counts["Sequential.0"] == {"aten.convolution": 5184} and counts["Sequential.2"] == {"aten.addmm": 5760}
    assert counts["Global"] == counts["Sequential"] == {"aten.convolution": 5184, "aten.addmm": 5760}
    with FlopCounterMode() as counter:
        model(x).sum().backward()
    # both gradients of the layer, and that of the weight alone of the convolution, whose input needs none
    assert counter.get_flop_counts()["Global"] == {"aten.convolution": 5184, "aten.addmm": 5760, "aten.mm": 11520,
                                                   "aten.convolution_backward": 5184}
    shown = capsys.readouterr().out
    assert "Global" in shown and "27.648K" in shown and "100.00%" in shown
    before = counter.get_total_flops()
    model(x).sum().backward()
    assert counter.get_total_flops() == before


def test_attention_and_own_counts() -> None:
    layer = torch.nn.MultiheadAttention(8, 2)
    x, y = torch.randn(3, 1, 8), torch.randn(5, 1, 8)
    projections, attention = 2 * 8 * 8 * (3 + 5 + 5 + 3), 4 * 3 * 5 * 8
    assert counted(lambda: layer(x, y, y)).get_total_flops() == projections + attention
    with FlopCounterMode(display=False, custom_mapping={torch.relu: lambda t, *, out: t.numel()}) as counter:
        torch.relu(torch.ones(7))
    assert counter.get_total_flops() == 7


def test_a_whole_transformer() -> None:
    model = torch.nn.Transformer(8, 2, 1, 1, 16, batch_first=False)
    counts = counted(lambda: model(torch.ones(3, 1, 8), torch.ones(3, 1, 8)).sum().backward()).get_flop_counts()
    assert {"Global", "Transformer.encoder.layers.0.linear1", "Transformer.decoder.layers.0.multihead_attn"} <= set(counts)
