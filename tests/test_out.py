"""``out=``: which memory is refused, when it is resized, and what is left as it is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fusetorch as ft


def test_partial_overlap_is_refused() -> None:
    memory = ft.arange(7.0)
    x, y = memory[:6], memory[1:]
    for call in (lambda: ft.add(x, 1, out=y), lambda: ft.exp(x, out=y), lambda: ft.mul(ft.ones(6), x, out=y),
                 lambda: ft.sum(x.view(2, 3), 0, out=memory[1:4]), lambda: ft.add(x.view(2, 3), x.view(3, 2).t(), out=x.view(2, 3))):
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            call()
    np.testing.assert_array_equal(memory.numpy(), np.arange(7.0))


def test_indexing_shares_no_memory() -> None:
    x = ft.arange(4.0)
    for call in (lambda: ft.index_select(x, 0, ft.tensor([1, 0, 2, 3]), out=x), lambda: ft.take(x, ft.tensor([1, 0]), out=x[2:]),
                 lambda: ft.gather(x, 0, ft.tensor([0]), out=x[3:]), lambda: ft.masked_select(x, x > 0, out=x[:3])):
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            call()
    assert x.tolist() == [0, 1, 2, 3]


def test_whole_overlap_and_gaps_are_fine() -> None:
    x = ft.arange(6.0)
    assert ft.add(x, 1, out=x) is x
    assert x.tolist() == [1, 2, 3, 4, 5, 6]
    ft.add(x[:3], x[3:], out=x[3:])
    assert x.tolist() == [1, 2, 3, 5, 7, 9]
    ft.neg(x[::2], out=x[1::2])
    assert x.tolist() == [1, -1, 3, -3, 7, -7]
    ft.matmul(ft.eye(2), ft.ones(2, 2), out=x[:4].view(2, 2))
    assert x.tolist() == [1, 1, 1, 1, 7, -7]


def test_expanded_memory_is_refused() -> None:
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        ft.add(ft.ones(3), 1, out=ft.zeros(1).expand(3))


def test_overlap_on_a_device() -> None:
    with ft.config.override(simulate_cuda=True):
        memory = ft.arange(7.0).cuda()
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            ft.add(memory[:6], 1, out=memory[1:])
        assert ft.add(memory, 1, out=memory).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_resizing() -> None:
    out = ft.zeros(2)
    with pytest.warns(UserWarning, match="was resized"):
        assert ft.add(ft.ones(3), 1, out=out) is out
    assert out.tolist() == [2, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = ft.empty(0)
        ft.cumsum(ft.ones(3), 0, out=empty)
        assert empty.tolist() == [1, 2, 3]
        ft.arange(4, out=out)  # what makes new tensors resizes as it likes
    assert out.tolist() == [0, 1, 2, 3]
    with pytest.warns(UserWarning, match="was resized"):
        ft.cumsum(ft.ones(3), 0, out=out)


def test_strides_are_kept() -> None:
    memory = ft.zeros(2, 3)
    ft.mul(ft.ones(3, 2), 2, out=memory.t())
    assert memory.tolist() == [[2, 2, 2], [2, 2, 2]] and memory.is_contiguous()


@pytest.mark.parametrize("call", [
    lambda out: ft.where(ft.tensor([True]), ft.ones(1), ft.ones(1), out=out),
    lambda out: ft.max(ft.ones(1, 1), 0, out=(out, ft.zeros(1, dtype=ft.int64))),
    lambda out: ft.nn.functional.linear(ft.ones(1, 1), ft.ones(1, 1), out=out),
], ids=["where", "max", "linear"])
def test_other_dtypes_are_refused(call) -> None:  # noqa: ANN001
    with pytest.raises(RuntimeError, match="dtype"):
        call(ft.zeros(1, dtype=ft.float64))
    call(ft.zeros(0))


def test_strides_of_no_elements() -> None:
    assert ft.zeros(1, 0, 3).stride() == (3, 3, 1)
    assert (ft.zeros(0, 3) + 1).stride() == (3, 1)
