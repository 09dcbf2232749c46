"""Filling in place, memory of a given layout, and approximations by random projections."""

from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (9, 3), (3, 3, 3)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape: tuple[int, ...], wrap: bool) -> None:
    want = np.zeros(shape)
    np.fill_diagonal(want, 5, wrap)
    got = torch.zeros(shape, dtype=torch.float64)
    assert got.fill_diagonal_(5, wrap) is got
    np.testing.assert_array_equal(got.numpy(), want)
    seen = torch.zeros(shape[::-1], dtype=torch.float64).permute(*reversed(range(len(shape))))
    if not wrap:
        np.testing.assert_array_equal(seen.fill_diagonal_(5).numpy(), want)
    with pytest.raises(RuntimeError, match="larger than 1"):
        torch.zeros(3).fill_diagonal_(1)
    with pytest.raises(RuntimeError, match="equal length"):
        torch.zeros(2, 2, 3).fill_diagonal_(1)


def test_layouts() -> None:
    t = torch.empty_strided((2, 3), (1, 2), dtype=torch.int64)
    assert t.stride() == (1, 2) and t.shape == (2, 3) and t.dtype is torch.int64
    assert torch.empty_strided((0, 3), (3, 1)).shape == (0, 3)
    assert torch.zeros(2).double().new_empty_strided((2, 2), (1, 2)).dtype is torch.float64
    p = torch.empty_permuted((2, 3, 4), (2, 0, 1))
    assert p.shape == (2, 3, 4) and p.stride() == (3, 1, 6) and p.permute(2, 0, 1).is_contiguous()
    with pytest.raises(RuntimeError):
        torch.empty_permuted((2, 3), (0, 0))


@pytest.mark.parametrize("make", [lambda **k: torch.zeros(2, **k), lambda **k: torch.rand_like(torch.ones(2), **k),
                                  lambda **k: torch.ones(3).new_full((2,), 1, **k), lambda **k: torch.hann_window(2, **k),
                                  lambda **k: torch.signal.windows.hann(2, **k)])
def test_tensors_of_other_layouts_are_refused(make) -> None:
    assert make(layout=torch.strided).layout is torch.strided
    with pytest.raises((NotImplementedError, ValueError), match="strided tensors"):
        make(layout=torch.sparse_coo)


def test_copies_are_copies() -> None:
    x = torch.zeros(2, 3)
    for y in (torch.t_copy(x), torch.view_copy(x, (6,)), torch.unbind_copy(x)[0], torch.alias_copy(x)):
        y.fill_(1)
    assert not x.any()


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (3, 20, 30)])
def test_low_rank_approximations(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    a = torch.randn(*shape[:-1], 4, dtype=torch.float64) @ torch.randn(*shape[:-2], 4, shape[-1], dtype=torch.float64)
    u, s, v = torch.svd_lowrank(a, q=5)
    np.testing.assert_allclose((u * s.unsqueeze(-2) @ v.mT).numpy(), a.numpy(), atol=1e-9)
    np.testing.assert_allclose(s[..., :4].numpy(), torch.linalg.svdvals(a)[..., :4].numpy(), rtol=1e-9)
    u, s, v = torch.pca_lowrank(a, q=6)
    centred = a - a.mean(-2, keepdim=True)
    np.testing.assert_allclose((u * s.unsqueeze(-2) @ v.mT).numpy(), centred.numpy(), atol=1e-9)
    m = torch.ones(shape[-1], dtype=torch.float64)
    u, s, v = torch.svd_lowrank(a, q=6, M=m)
    np.testing.assert_allclose((u * s.unsqueeze(-2) @ v.mT).numpy(), (a - m).numpy(), atol=1e-9)


def test_functions_in_place() -> None:
    x = torch.tensor([1.0, 4.0])
    assert torch.sqrt_(x) is x and x.tolist() == [1.0, 2.0]
    assert torch.clamp_(x, max=1.5).tolist() == [1.0, 1.5]
    assert torch.fill_(x, 3).tolist() == [3.0, 3.0] and torch.zero_(x) is x and not x.any()
    assert not hasattr(torch, "add_")
