"""In which order the dimensions of results lie in memory: what keeps channels-last, what keeps any order, what is row-major."""

from __future__ import annotations

import pytest

import fusetorch as ft

F = ft.nn.functional


def images(n: int = 2, c: int = 3, size: int = 8) -> ft.Tensor:
    return ft.randn(n, c, size, size).contiguous(memory_format=ft.channels_last)


def last(t: ft.Tensor) -> bool:
    return t.is_contiguous(memory_format=ft.channels_last) and not t.is_contiguous()


KEEPS = {
    "sum with a row-major tensor": lambda x: ft.add(x, ft.ones(x.shape), alpha=2),
    "several steps": lambda x: ft.logaddexp(x, ft.ones(x.shape)),
    "clamp": lambda x: x.clamp(-1, 1),
    "convolution": lambda x: F.conv2d(x, ft.randn(4, 3, 3, 3), ft.randn(4), padding=1),
    "transposed convolution": lambda x: F.conv_transpose2d(x, ft.randn(3, 4, 2, 2), stride=2),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 3),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "batch_norm, evaluated": lambda x: F.batch_norm(x, ft.zeros(3), ft.ones(3)),
    "group_norm": lambda x: F.group_norm(x, 3),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "pad": lambda x: F.pad(x, (1, 1, 1, 1)),
    "reflect": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 3),
    "dropout": lambda x: F.dropout2d(x),
    "cat": lambda x: ft.cat([x, x], 1),
    "clone": lambda x: x.clone(),
    "to": lambda x: x.double(),
    "zeros_like": ft.zeros_like,
    "full_like": lambda x: ft.full_like(x, 2.0),
    "randn_like": ft.randn_like,
    "randint_like": lambda x: ft.randint_like(x, 5),
    "flip": lambda x: x.flip(0),
    "sort": lambda x: x.sort(1)[0],
    "index_put": lambda x: x.index_put((ft.tensor([0]),), ft.tensor(0.0)),
}


@pytest.mark.parametrize("name", KEEPS)
def test_channels_last_is_kept(name: str) -> None:
    x = images()
    ft.manual_seed(0)
    y = KEEPS[name](x)
    assert last(y)
    ft.manual_seed(0)
    rows = KEEPS[name](x.contiguous())
    assert rows.is_contiguous()
    if "like" not in name:  # drawn in the order of memory, or uninitialised
        assert ft.allclose(y, rows, atol=1e-5)


ROWS = {
    "sum": lambda x: x.sum(0, keepdim=True),
    "var": lambda x: x.var(0),
    "amax": lambda x: x.amax(3),
    "softmax": lambda x: x.softmax(1),
    "cat with a row-major tensor": lambda x: ft.cat([x, ft.ones(x.shape)]),
    "zeros_like, told": lambda x: ft.zeros_like(x, memory_format=ft.contiguous_format),
    "float, told": lambda x: x.double(memory_format=ft.contiguous_format),
    "kthvalue": lambda x: x.kthvalue(2, 1)[0],
    "tril": lambda x: x.tril(),
    "roll": lambda x: x.roll(1, 1),
    "repeat": lambda x: x.repeat(1, 1, 1, 1),
    "narrow_copy": lambda x: x.narrow_copy(1, 0, 2),
}


@pytest.mark.parametrize("name", ROWS)
def test_results_in_rows(name: str) -> None:
    y = ROWS[name](images())
    assert y.is_contiguous()
    y.view(-1)


def test_convolution_by_its_weight() -> None:
    w = ft.randn(4, 3, 3, 3).contiguous(memory_format=ft.channels_last)
    assert last(F.conv2d(ft.randn(2, 3, 8, 8), w))
    x = ft.randn(2, 8, 3).transpose(1, 2)  # of signals the input's order does not count
    assert F.conv1d(x, ft.randn(4, 3, 3)).is_contiguous()


def test_gradients_through_channels_last() -> None:
    x, w = images().requires_grad_(), ft.randn(4, 3, 3, 3, requires_grad=True)
    rows, v = x.detach().contiguous().requires_grad_(), w.detach().requires_grad_()
    for a, b in ((x, w), (rows, v)):
        y = F.max_pool2d(F.batch_norm(F.conv2d(a, b), None, None, training=True), 2)
        (F.interpolate(y, scale_factor=2.0) * ft.arange(6.0)).sum().backward()
    assert ft.allclose(x.grad, rows.grad, atol=1e-5)
    assert ft.allclose(w.grad, v.grad, atol=1e-3)


def test_the_first_operand_decides() -> None:
    a, b = ft.randn(64, 64), ft.randn(64, 64).t()
    assert ft.logaddexp(a, b).stride() == (64, 1)
    assert ft.logaddexp(b, a).stride() == (1, 64)
    assert (ft.zeros(5, 1).t() + ft.zeros(3, 5)).stride() == (5, 1)
    x = ft.randn(4, 3, 2).permute(2, 0, 1)
    assert ft.empty_like(x).stride() == x.stride() == ft.logaddexp(x, x).stride()


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_other_devices(device: str) -> None:
    names = ["several steps", "max_pool2d", "batch_norm", "batch_norm, evaluated", "interpolate", "cat", "zeros_like", "index_put"]
    with ft.config.override(simulate_cuda=True), ft.device(device):
        x = images()
        assert last(x)
        for name in names:
            assert last(KEEPS[name](x)), name
        assert last(F.conv2d(x, ft.randn(4, 3, 3, 3)))
        assert x.sum(0, keepdim=True).is_contiguous()


def test_moves_keep_the_order() -> None:
    with ft.config.override(simulate_cuda=True):
        x = images()
        assert last(x.cuda()) and last(x.cuda().cpu()) and last(x.to("meta"))
        assert ft.equal(x.cuda().cpu(), x)
        assert last(x.contiguous().cuda(memory_format=ft.channels_last)) and x.cuda().cpu(ft.contiguous_format).is_contiguous()


def test_repeated_scalars_have_memory_of_their_own() -> None:
    x = ft.tensor(3.0).repeat_interleave(2)
    x[0] = 1.0
    assert x.tolist() == [1, 3]


def test_gradients_lie_as_their_leaves() -> None:
    w = ft.randn(4, 3, 3, 3, requires_grad=True)
    (F.conv2d(images(), w) ** 2).sum().backward()
    assert w.grad.is_contiguous()  # though input and result are channels-last
    x = images().requires_grad_()
    (F.max_pool2d(x.contiguous(), 2) ** 2).sum().backward()
    assert last(x.grad)
    p = ft.randn(3, 4, 5, requires_grad=True)
    p.permute(2, 0, 1).contiguous().square().sum().backward()
    assert p.grad.view(-1).shape == (60,) and ft.allclose(p.grad, 2 * p)
