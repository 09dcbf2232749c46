"""Layers of pooling, padding and resizing: their text, their errors, and a small network with them, eager and compiled."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import config, nn

REPR = [
    (nn.MaxPool2d(3, 2), "MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (nn.MaxUnpool1d(3, stride=2, padding=1), "MaxUnpool1d(kernel_size=(3,), stride=(2,), padding=(1,))"),
    (nn.AvgPool1d(2), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
    (nn.AvgPool2d((3, 2)), "AvgPool2d(kernel_size=(3, 2), stride=(3, 2), padding=0)"),
    (nn.LPPool2d(2, 3), "LPPool2d(norm_type=2, kernel_size=3, stride=None, ceil_mode=False)"),
    (nn.AdaptiveAvgPool2d((3, None)), "AdaptiveAvgPool2d(output_size=(3, None))"),
    (nn.FractionalMaxPool2d(3, output_size=4), "FractionalMaxPool2d()"),
    (nn.ReflectionPad2d(1), "ReflectionPad2d((1, 1, 1, 1))"),
    (nn.ConstantPad1d(2, 3.5), "ConstantPad1d(padding=(2, 2), value=3.5)"),
    (nn.ZeroPad2d(1), "ZeroPad2d((1, 1, 1, 1))"),
    (nn.CircularPad1d((1, 2)), "CircularPad1d((1, 2))"),
    (nn.Upsample(scale_factor=(2, 3)), "Upsample(scale_factor=(2.0, 3.0), mode='nearest')"),
    (nn.UpsamplingBilinear2d(size=4), "UpsamplingBilinear2d(size=4, mode='bilinear')"),
    (nn.PixelShuffle(2), "PixelShuffle(upscale_factor=2)"),
    (nn.ChannelShuffle(2), "ChannelShuffle(groups=2)"),
]


@pytest.mark.parametrize(("layer", "text"), REPR, ids=lambda v: v if isinstance(v, str) else "")
def test_repr(layer: nn.Module, text: str) -> None:
    assert repr(layer) == text
    assert not list(layer.parameters()) and not layer.state_dict()


ERRORS = [
    (RuntimeError, lambda: nn.MaxPool2d(2, padding=2)(torch.zeros(1, 1, 4, 4))),
    (RuntimeError, lambda: nn.MaxPool2d(5)(torch.zeros(1, 1, 4, 4))),
    (RuntimeError, lambda: nn.AvgPool2d(2, stride=0)(torch.zeros(1, 1, 4, 4))),
    (RuntimeError, lambda: nn.AvgPool2d(2, divisor_override=0)(torch.zeros(1, 1, 4, 4))),
    (RuntimeError, lambda: nn.MaxPool1d(2)(torch.zeros(4))),
    (ValueError, lambda: nn.FractionalMaxPool2d(3)),
    (ValueError, lambda: nn.FractionalMaxPool2d(3, output_ratio=1.5)),
    (ValueError, lambda: nn.MaxUnpool2d(2)(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int64), output_size=(9, 9))),
    (ValueError, lambda: nn.CircularPad2d(1)(torch.zeros(2, 2))),
    (RuntimeError, lambda: nn.ReflectionPad1d(3)(torch.zeros(1, 1, 3))),
    (ValueError, lambda: nn.Upsample()(torch.zeros(1, 1, 3))),
    (ValueError, lambda: nn.Upsample(size=2, mode="nearest", align_corners=True)(torch.zeros(1, 1, 3))),
    (NotImplementedError, lambda: nn.Upsample(size=2, mode="bilinear")(torch.zeros(1, 1, 3))),
]


@pytest.mark.parametrize("k", range(len(ERRORS)))
def test_errors(k: int) -> None:
    error, call = ERRORS[k]
    with pytest.raises(error):
        call()


def test_not_a_number_stays_and_does_not_spread() -> None:
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 2, 3] = float("nan")
    assert torch.isnan(nn.functional.max_pool2d(x, 2)).sum() == 1
    assert torch.isnan(nn.functional.avg_pool2d(x, 2)).sum() == 1
    assert torch.isnan(nn.functional.adaptive_avg_pool2d(x, 4)).sum() < 16
    y = nn.functional.interpolate(x, (12, 12), mode="bilinear")
    assert 0 < torch.isnan(y).sum() <= 36


def test_maxima_of_lowest_values_have_a_position_inside() -> None:
    x = torch.full((1, 1, 4, 4), float("-inf"))
    _, at = nn.functional.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert at.flatten().tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_network_trains_alike_compiled(device: str) -> None:
    def loss_of(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = nn.functional.max_pool2d(torch.relu(x * w), 3, 2, 1)
        y = nn.functional.interpolate(y, scale_factor=1.5, mode="bilinear")
        y = nn.functional.pad(y, (1, 1, 1, 1), "reflect")
        y = nn.functional.avg_pool2d(y, 2)
        return (nn.functional.adaptive_avg_pool2d(y, 1) ** 2).sum()

    def step(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss = loss_of(x, w)
        return loss.detach(), torch.autograd.grad(loss, w)[0]

    with config.override(simulate_cuda=device == "cuda"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        x = torch.randn(2, 3, 12, 12).to(device)
        w = torch.randn(3, 1, 1).to(device).requires_grad_()
        eager, compiled = step(x, w), torch.compile(step, fullgraph=True)(x, w)
        for a, b in zip(eager, compiled):
            np.testing.assert_allclose(a.cpu().numpy(), b.cpu().numpy(), rtol=1e-5)
