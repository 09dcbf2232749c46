"""Convolutions beyond the samples: native tiles of every form, threads, layers, errors, training steps."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from compiler_support import training_step
from vectors_support import vectors

import fusetorch as torch
from fusetorch import config
from fusetorch.codegen import convolution as native
from fusetorch.nn import functional as F
from fusetorch.ops import convolution as windows

# ---- the native kernels against products with windows

GEOMETRIES = {  # batch, groups, channels in and out of a group, size, kernel, stride, padding, dilation
    "digits": (3, 1, 16, 32, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "one channel": (2, 1, 1, 32, (28, 28), (3, 3), (1, 1), (0, 0), (1, 1)),
    "odd channels": (2, 1, 33, 17, (7, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    "many channels of few positions": (2, 1, 70, 100, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1)),
    "strided": (2, 1, 20, 40, (13, 14), (3, 3), (2, 2), (1, 1), (1, 1)),
    "stride beyond the kernel": (2, 1, 20, 20, (9, 9), (2, 1), (3, 2), (0, 0), (1, 1)),
    "dilated": (2, 1, 16, 16, (12, 11), (3, 2), (1, 1), (2, 3), (2, 3)),
    "strided and dilated": (2, 1, 3, 18, (12, 11), (3, 3), (2, 3), (2, 2), (3, 2)),
    "one by one": (2, 1, 24, 48, (6, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    "planes a page apart": (1, 1, 16, 64, (32, 32), (1, 1), (1, 1), (0, 0), (1, 1)),
    "one by one, padded and strided": (2, 1, 8, 20, (6, 7), (1, 1), (2, 2), (1, 1), (1, 1)),
    "depthwise": (2, 24, 1, 1, (14, 33), (3, 3), (1, 1), (1, 1), (1, 1)),
    "depthwise, strided": (2, 24, 1, 1, (14, 15), (3, 3), (2, 2), (1, 1), (1, 1)),
    "depthwise, strided, long": (2, 3, 1, 1, (3, 91), (2, 4), (1, 2), (0, 1), (1, 2)),
    "depthwise, every third": (2, 6, 1, 1, (50,), (3,), (3,), (1,), (1,)),
    "depthwise with a multiplier": (2, 5, 1, 3, (9, 20), (5, 5), (1, 1), (2, 2), (1, 1)),
    "groups": (2, 3, 4, 8, (9, 40), (3, 5), (1, 2), (2, 1), (2, 1)),
    "a long line": (2, 1, 16, 32, (200,), (5,), (1,), (2,), (1,)),
    "a long kernel": (1, 1, 2, 17, (60,), (37,), (2,), (5,), (1,)),
    "a volume": (1, 1, 3, 20, (5, 6, 7), (2, 3, 3), (1, 2, 1), (1, 0, 2), (1, 1, 2)),
    "a large image": (1, 1, 2, 16, (101, 150), (3, 3), (1, 1), (1, 1), (1, 1)),
    "large planes": (1, 2, 1, 1, (300, 470), (2, 3), (1, 1), (0, 1), (1, 1)),
    "lines of one": (2, 1, 16, 16, (30, 1), (3, 1), (1, 1), (1, 0), (1, 1)),
}


def _arrays(case: tuple, d: Any) -> tuple[list[np.ndarray], tuple]:
    n, groups, c, o, size, kernel, stride, padding, dilation = case
    rng = np.random.default_rng(3)
    out = windows.output_size(size, kernel, stride, padding, dilation)
    shapes = ((n, c * groups, *size), (o * groups, c, *kernel), (o * groups,), (n, o * groups, *out), (c * groups,))
    return [rng.standard_normal(s).astype(d) for s in shapes], (stride, padding, dilation, groups)


def _three(case: tuple, d: Any) -> list[np.ndarray]:
    (x, w, b, g, b_in), how = _arrays(case, d)
    return [native.forward(x, w, b, *how), native.input_grad(g, w, b_in, x.shape[2:], *how), native.weight_grad(g, x, w.shape[2:], *how)]


@pytest.mark.parametrize("d", [np.float32, np.float64])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_native_kernels(name: str, d: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(shape: tuple, dt: Any) -> np.ndarray:
        return np.full(shape, np.nan, dt)  # what a kernel leaves out shows
    monkeypatch.setattr(native, "empty", poisoned)
    (x, w, b, g, b_in), how = _arrays(GEOMETRIES[name], d)
    across = (-1, *(1,) * (x.ndim - 2))
    want = [windows.forward_by_windows(x, w, *how) + b.reshape(across),
            windows.input_grad_by_windows(g, w, x.shape[2:], *how) + b_in.reshape(across),
            windows.weight_grad_by_windows(g, x, w.shape[2:], *how)]
    tolerance = 2e-5 if d is np.float32 else 1e-13
    for got, expected in zip(_three(GEOMETRIES[name], d), want):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("name", ["odd channels", "strided", "depthwise, strided, long", "groups"])
def test_narrower_vectors(name: str, bits: int) -> None:
    want = _three(GEOMETRIES[name], np.float32)
    with vectors(bits):
        got = _three(GEOMETRIES[name], np.float32)
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["digits", "depthwise", "strided", "a volume"])
def test_threads_do_not_change_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_SMALL", 0)
    results = []
    for threads in (1, 3):
        native._forward_plan.cache_clear()
        native._input_plan.cache_clear()
        native._weight_plan.cache_clear()
        with config.override(num_threads=threads):
            results.append(_three(GEOMETRIES[name], np.float32))
    for one, several in zip(*results):
        np.testing.assert_array_equal(one, several)


def test_images_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, w, b, g, _), how = _arrays((5, 1, 4, 20, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1)), np.float32)
    native._forward_plan.cache_clear()
    monkeypatch.setattr(native, "_PADDED", 2 * 4 * 11 * 13 * 4)
    try:
        got = native.forward(x, w, b, *how)
    finally:
        native._forward_plan.cache_clear()
    want = windows.forward_by_windows(x, w, *how) + b.reshape(-1, 1, 1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_integers_and_layouts() -> None:
    x, w = torch.arange(48).reshape(1, 3, 4, 4), torch.arange(54).reshape(2, 3, 3, 3)
    whole = F.conv2d(x, w, padding=1)
    assert whole.dtype is torch.int64
    np.testing.assert_array_equal(whole.numpy(), F.conv2d(x.double(), w.double(), padding=1).numpy())
    turned = torch.randn(4, 5, 3, 2).permute(3, 2, 0, 1)  # not row-major
    weight = torch.randn(3, 3, 3, 8).permute(3, 0, 1, 2)
    np.testing.assert_allclose(F.conv2d(turned, weight).numpy(), F.conv2d(turned.contiguous(), weight.contiguous()).numpy())
    assert F.conv2d(torch.ones(2, 3, 4, 4)[:, :, ::2], torch.ones(2, 3, 2, 2)).flatten().tolist() == [12.0] * 12


@pytest.mark.parametrize("compiled", [False, True])
def test_complex(compiled: bool) -> None:
    rng = np.random.default_rng(0)

    def new(*shape: int) -> Any:
        return torch.from_numpy(rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).requires_grad_()
    x, w, b = new(2, 3, 6), new(4, 3, 3), new(4)

    def run(x: Any, w: Any, b: Any) -> Any:
        y = F.conv1d(x, w, b, padding=1)
        return y, torch.autograd.grad((y * y.conj()).real.sum(), [x, w])
    y, grads = (torch.compile(run) if compiled else run)(x, w, b)
    xs, ws = x.detach().numpy(), w.detach().numpy()
    seen = windows.windows(xs, (3,), (1,), (1,), (1,))
    want = np.einsum("nckl,ock->nol", seen, ws) + b.detach().numpy()[:, None]
    np.testing.assert_allclose(y.detach().numpy(), want, rtol=1e-10)
    # the gradient of a real function is that of the conjugate
    np.testing.assert_allclose(grads[1].numpy(), 2 * np.einsum("nol,nckl->ock", want, seen.conj()), rtol=1e-10)
    back = windows.overlap_add(np.einsum("nol,ock->nckl", want, ws.conj()), (6,), (1,), (1,), (1,))
    np.testing.assert_allclose(grads[0].numpy(), 2 * back, rtol=1e-10)


# ---- layers

LAYERS = [(torch.nn.Conv1d, 1), (torch.nn.Conv2d, 2), (torch.nn.Conv3d, 3)]
TRANSPOSED = [(torch.nn.ConvTranspose1d, 1), (torch.nn.ConvTranspose2d, 2), (torch.nn.ConvTranspose3d, 3)]


@pytest.mark.parametrize("layer, n", LAYERS + TRANSPOSED)
def test_layers_start_as_in_pytorch(layer: Any, n: int) -> None:
    torch.manual_seed(0)
    m = layer(8, 12, 3, groups=4)
    transposed = (layer, n) in TRANSPOSED
    first, second = (8, 3) if transposed else (12, 2)
    assert tuple(m.weight.shape) == (first, second, *(3,) * n) and tuple(m.bias.shape) == (12,)
    assert list(m.state_dict()) == ["weight", "bias"]
    bound = 1 / math.sqrt(second * 3**n)
    for p in (m.weight, m.bias):
        assert 0.5 * bound < p.abs().max().item() <= bound
    assert layer(8, 12, 3, bias=False).bias is None
    assert m(torch.randn(2, 8, *(6,) * n)).shape == (2, 12, *(8 if transposed else 4,) * n)
    assert m(torch.randn(8, *(6,) * n)).shape == (12, *(8 if transposed else 4,) * n)


def test_layers_show_what_differs_from_the_defaults() -> None:
    nn = torch.nn
    assert repr(nn.Conv2d(3, 6, 3)) == "Conv2d(3, 6, kernel_size=(3, 3), stride=(1, 1))"
    assert repr(nn.Conv2d(4, 6, (3, 2), 2, (1, 0), 2, 2, False, "reflect")) == (
        "Conv2d(4, 6, kernel_size=(3, 2), stride=(2, 2), padding=(1, 0), dilation=(2, 2), groups=2, bias=False, padding_mode=reflect)")
    assert repr(nn.Conv1d(3, 6, 3, padding="same")) == "Conv1d(3, 6, kernel_size=(3,), stride=(1,), padding=same)"
    assert repr(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)) == (
        "ConvTranspose2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1))")
    assert repr(nn.Unfold((2, 3), padding=1)) == "Unfold(kernel_size=(2, 3), dilation=1, padding=1, stride=1)"
    assert repr(nn.Fold(4, 2)) == "Fold(output_size=4, kernel_size=2, dilation=1, padding=0, stride=1)"


@pytest.mark.parametrize("mode, numpy_mode", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_padding_modes(mode: str, numpy_mode: str) -> None:
    m = torch.nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode=mode)
    x = torch.randn(2, 3, 6, 5)
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (2, 2), (1, 1)], mode=numpy_mode))
    np.testing.assert_allclose(m(x).detach().numpy(), F.conv2d(padded, m.weight, m.bias).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_output_size() -> None:
    up, x = torch.nn.ConvTranspose2d(4, 6, 3, 2), torch.randn(2, 4, 5, 5)
    assert up(x).shape == (2, 6, 11, 11)
    assert up(x, output_size=(12, 11)).shape == up(x, (2, 6, 12, 11)).shape == (2, 6, 12, 11)
    np.testing.assert_allclose(up(x, (12, 12))[..., :11, :11].detach().numpy(), up(x).detach().numpy())
    with pytest.raises(ValueError, match=r"requested an output size of \(3, 3\), but valid sizes range from \[11, 11\] to \[12, 12\]"):
        up(x, output_size=(3, 3))
    with pytest.raises(ValueError, match="output_size must have 2 or 4 elements"):
        up(x, output_size=(3, 3, 3))


def test_fold_undoes_unfold_where_blocks_do_not_overlap() -> None:
    x = torch.randn(2, 3, 6, 8)
    blocks = torch.nn.Unfold((2, 4), stride=(2, 4))(x)
    assert blocks.shape == (2, 24, 6)
    np.testing.assert_array_equal(torch.nn.Fold((6, 8), (2, 4), stride=(2, 4))(blocks).numpy(), x.numpy())


# ---- errors

X, W = torch.ones(2, 4, 8, 8), torch.ones(6, 4, 3, 3)
ERRORS = {
    "dimensions": (lambda: F.conv2d(X[0, 0], W), r"Expected 3D \(unbatched\) or 4D \(batched\) input to conv2d"),
    "channels": (lambda: F.conv2d(X, W[:, :3]), "expected input.* to have 3 channels, but got 4 channels instead"),
    "groups": (lambda: F.conv2d(X, W[:5, :2], groups=2), "expected weight to be divisible by 2 at dimension 0"),
    "no groups": (lambda: F.conv2d(X, W, groups=0), "non-positive groups"),
    "stride": (lambda: F.conv2d(X, W, stride=0), "non-positive stride"),
    "strides": (lambda: F.conv2d(X, W, stride=(1, 1, 1)), "expected stride to be a single integer value or a list of 2 values"),
    "padding": (lambda: F.conv2d(X, W, padding=-1), "negative padding"),
    "word": (lambda: F.conv2d(X, W, padding="foo"), "Invalid padding string: 'foo'"),
    "same": (lambda: F.conv2d(X, W, padding="same", stride=2), "padding='same' is not supported for strided convolutions"),
    "size": (lambda: F.conv2d(X, W, dilation=9), "Kernel size can't be greater than actual input size"),
    "bias": (lambda: F.conv2d(X, W, torch.ones(5)), "expected bias to be 1-dimensional with 6 elements"),
    "dtype": (lambda: F.conv2d(X, W.double()), "should be the same"),
    "output padding": (lambda: F.conv_transpose2d(X, W[:4], output_padding=1), "output padding must be smaller than either stride or"),
    "output size": (lambda: F.conv_transpose2d(X, W[:4], padding=8), "Output size is too small"),
    "blocks": (lambda: F.unfold(X, 9), "its components must be at least one"),
    "columns": (lambda: F.fold(torch.ones(2, 12, 8), (4, 4), 2), "expected size of input's dimension 2 to match"),
    "rows": (lambda: F.fold(torch.ones(2, 13, 9), (4, 4), 2), "divisible by the product of kernel_size"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, message = ERRORS[name]
    with pytest.raises(RuntimeError, match=message):
        call()


def test_errors_of_other_classes() -> None:
    with pytest.raises(TypeError, match="argument 'stride' must be tuple of ints, not float"):
        F.conv2d(X, W, stride=1.5)
    with pytest.raises(TypeError, match="argument 'padding' must be tuple of ints, not str"):
        F.conv_transpose2d(X, W, padding="same")
    with pytest.raises(NotImplementedError):
        F.conv2d(X > 0, W > 0)
    for arguments in ({"groups": 3}, {"groups": 0}, {"padding": "foo"}, {"padding": "same", "stride": 2}, {"padding_mode": "foo"}):
        with pytest.raises(ValueError):
            torch.nn.Conv2d(4, 6, 3, **arguments)
    with pytest.raises(ValueError, match="Only \"zeros\" padding mode is supported"):
        torch.nn.ConvTranspose2d(4, 6, 3, padding_mode="reflect")


# ---- training


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_training_step_compiles(device: str) -> None:
    with config.override(simulate_cuda=device == "cuda"):
        losses = {}
        for compiled in (False, True):
            torch.manual_seed(0)
            nn = torch.nn
            net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.ReLU(),
                                nn.ConvTranspose2d(6, 3, 2, stride=2), nn.Flatten(), nn.Linear(3 * 36, 5)).to(device)
            x, y = torch.randn(4, 1, 8, 8).to(device), torch.tensor([0, 1, 2, 3]).to(device)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
            step = training_step(net, optimizer, F.cross_entropy)
            run = torch.compile(step, fullgraph=True) if compiled else step
            losses[compiled] = [run(x, y).item() for _ in range(4)]
        assert losses[True][-1] < losses[True][0]
        np.testing.assert_allclose(losses[True], losses[False], rtol=1e-5)
