"""Indexing, read and write, against NumPy where the rules are the same, and case by case where PyTorch's differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusetorch as torch

X = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
I = np.array([1, 0, 1])  # noqa: E741 - an index
M = X % 7 == 0

#: read and written as NumPy does
KEYS: list[Any] = [
    0,
    -1,
    slice(None),
    slice(1, 3),
    slice(None, None, 2),
    slice(-3, -1),
    slice(5, 2),
    Ellipsis,
    None,
    (),
    (0, 1),
    (slice(None), 1),
    (0, slice(None), 2),
    (Ellipsis, 1),
    (1, Ellipsis, 0),
    (None, 0, None, Ellipsis, None),
    (slice(0, 2), None, slice(1, 4, 2)),
    (0, 1, 2, 3),
    I,
    (I, I),
    [0, 1],
    (slice(None), [0, 2]),
    (I, slice(None), I),
    (slice(None), I, I),
    (slice(None), I, slice(None), I),
    (Ellipsis, I),
    (I[:, None], I),
    (slice(None), I[:, None], np.array([0, 2])),
    M,
    (Ellipsis, M[0, 0, 0]),
    (0, M[0]),
    (slice(None), M[0, :, :, 0]),
    (M[:, 0, 0, 0], 0 * I[:1]),
    (Ellipsis, np.array([], dtype=np.int64)),
    (slice(None), np.array([[0, 1], [2, 0]])),
    (np.array(1), slice(None), np.array(2)),
    True,
    False,
    np.array(True),
    (True, 0),
    (slice(1, 2), np.array([-1, -2])),
    (None, I),
    (I, None, slice(0, 1)),
    range(2),
    (slice(None), range(0, 3, 2)),
    np.int64(1),
    (0, np.bool_(True)),
]


def as_key(key: Any) -> Any:
    """The key with tensors for arrays."""
    if isinstance(key, tuple):
        return tuple(as_key(k) for k in key)
    return (
        torch.from_numpy(key)
        if isinstance(key, np.ndarray) and key.ndim
        else torch.tensor(key.item())
        if isinstance(key, np.ndarray)
        else key
    )


@pytest.mark.parametrize("k", range(len(KEYS)))
def test_reading(k: int) -> None:
    key = KEYS[k]
    if isinstance(key, range):
        want = X[list(key)]
    elif isinstance(key, tuple) and any(isinstance(p, range) for p in key):
        want = X[tuple(list(p) if isinstance(p, range) else p for p in key)]
    else:
        want = X[key]
    got = torch.from_numpy(X)[as_key(key)]
    assert tuple(got.shape) == np.shape(want)
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("k", range(len(KEYS)))
def test_writing(k: int) -> None:
    key = KEYS[k]
    np_key = (
        list(key)
        if isinstance(key, range)
        else tuple(list(p) if isinstance(p, range) else p for p in key)
        if isinstance(key, tuple)
        else key
    )
    for value in (7, np.array(-3), None):
        want, got = X.copy(), torch.from_numpy(X.copy())
        part = want[np_key]
        if value is None:
            value = -np.arange(part.size).reshape(part.shape)
            if isinstance(np_key, np.ndarray) and np_key.dtype != bool:
                value = value[:1]  # repeated positions: which value stays is not defined
            elif k >= 18 and part.ndim:
                value = value[:1] if part.shape[0] else value
        want[np_key] = value
        got[as_key(key)] = torch.from_numpy(np.asarray(value)) if isinstance(value, np.ndarray) else value
        np.testing.assert_array_equal(got.numpy(), want)


def test_basic_indexing_gives_views_and_index_tensors_copies() -> None:
    x = torch.zeros(3, 4)
    x[1][2] = 5.0
    x[:, 0].add_(1.0)
    x[0:2, 1:3].fill_(7.0)
    assert x.tolist() == [[1, 7, 7, 0], [1, 7, 7, 0], [1, 0, 0, 0]]
    y = x[[0, 1]]
    y.zero_()
    assert x.sum().item() == 31


def test_an_int_beside_an_index_tensor_is_a_select_as_in_pytorch() -> None:
    # NumPy would put the indexed dimension first
    x = torch.from_numpy(X)
    assert x[0, :, torch.tensor([1, 2])].shape == (3, 2, 5)
    assert X[0, :, np.array([1, 2])].shape == (2, 3, 5)
    assert torch.equal(x[0, :, torch.tensor([1, 2])], x[0][:, [1, 2]])


def test_zero_dimensional_integer_tensors_select() -> None:
    x = torch.zeros(3, 4)
    x[torch.tensor(1)].fill_(2.0)  # a view
    assert x[1].tolist() == [2.0] * 4


def test_negative_steps_and_other_errors() -> None:
    x = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="step must be greater than zero"):
        x[::-1]
    with pytest.raises(IndexError, match="out of bounds for dimension 0 with size 3"):
        x[3]
    with pytest.raises(IndexError, match="too many indices"):
        x[0, 0, 0]
    with pytest.raises(IndexError, match="out of bounds"):
        x[torch.tensor([0, 7])]
    with pytest.raises(IndexError, match="mask"):
        x[torch.zeros(2, dtype=torch.bool)]
    with pytest.raises(IndexError, match="tensors used as indices"):
        x[torch.zeros(2)]
    with pytest.raises(IndexError, match="could not be broadcast"):
        x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])]
    with pytest.raises(IndexError):
        x["a"]
    with pytest.raises(IndexError, match="0-dim"):
        torch.tensor(1.0)[0]
    with pytest.raises(RuntimeError, match="shape mismatch|must match"):
        x[0] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        x[torch.tensor([0, 1])] = torch.zeros(3, 4)


def test_values_are_converted_and_leading_ones_dropped() -> None:
    x = torch.zeros(2, 3)
    x[0] = torch.tensor([[1, 2, 3]])
    x[1] = True
    assert x.tolist() == [[1, 2, 3], [1, 1, 1]]
    x[x > 1] = torch.tensor(9, dtype=torch.int64)
    assert x.tolist() == [[1, 9, 9], [1, 1, 1]]
    n = torch.zeros(3, dtype=torch.int64)
    n[0] = 2.7
    assert n.tolist() == [2, 0, 0]


def test_repeated_positions_accumulate() -> None:
    x = torch.zeros(3)
    x.index_put_((torch.tensor([0, 0, 2]),), torch.tensor([1.0, 2.0, 4.0]), accumulate=True)
    assert x.tolist() == [3, 0, 4]
    x.index_add_(0, torch.tensor([1, 1]), torch.ones(2), alpha=0.5)
    assert x.tolist() == [3, 1, 4]
    x.scatter_add_(0, torch.tensor([2, 2]), torch.ones(2))
    assert x.tolist() == [3, 1, 6]


def test_in_place_forms_equal_the_others() -> None:
    x, index = torch.randn(5, 3), torch.tensor([[0, 1, 2], [3, 3, 0]])
    src = torch.randn(2, 3)
    for name, args in {
        "scatter": (0, index, src),
        "scatter_add": (0, index, src),
        "index_fill": (0, torch.tensor([1, 3]), 2.0),
        "index_copy": (0, torch.tensor([4, 1]), src),
        "index_add": (0, torch.tensor([4, 4]), src),
        "put": (torch.tensor([0, 14]), torch.tensor([1.0, 2.0])),
    }.items():
        y = x.clone()
        assert getattr(y, name + "_")(*args) is y
        np.testing.assert_array_equal(y.numpy(), getattr(x, name)(*args).numpy(), err_msg=name)
    y = x.clone()
    y.scatter_reduce_(0, index, src, "amax")
    assert torch.equal(y, x.scatter_reduce(0, index, src, "amax"))


def test_writes_see_overlapping_sources_as_they_were() -> None:
    x = torch.arange(6.0)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    x[torch.tensor([0, 1])] = x[1:3]
    assert x.tolist() == [0, 1, 1, 2, 3, 4]


def test_gradients_of_writes() -> None:
    base = torch.randn(4, 3, requires_grad=True)
    value = torch.randn(2, 3, requires_grad=True)
    x = base * 2
    x[torch.tensor([0, 2])] = value
    x[3, 1] = 5.0
    (x * x).sum().backward()
    want = 8 * base.detach()
    want[0] = want[2] = 0
    want[3, 1] = 0
    np.testing.assert_allclose(base.grad.numpy(), want.numpy(), rtol=1e-6)
    np.testing.assert_allclose(value.grad.numpy(), (2 * value.detach()).numpy(), rtol=1e-6)


def test_masked_writes_with_gradient() -> None:
    w = torch.randn(3, 4, requires_grad=True)
    x = w * 1
    x[x.detach() > 0] = 0.0
    x.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), (w.detach().numpy() <= 0).astype(np.float32))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_both_devices_agree(device: str) -> None:
    if device == "cuda":
        pytest.importorskip("triton")
    from fusetorch import config

    with config.override(simulate_cuda=device == "cuda"):
        x = torch.from_numpy(X.astype(np.float32)).to(device)
        index = torch.tensor([1, 0], device=device)
        x[:, index] = x[:, index] * 2
        x[..., 1:3] = -1.0
        x[x > 100] = 0.0
        got = x[index, :, index].cpu().numpy()
    want = X.astype(np.float32)
    want[:, [1, 0]] *= 2
    want[..., 1:3] = -1
    want[want > 100] = 0
    np.testing.assert_array_equal(got, want[[1, 0], :, [1, 0]])
