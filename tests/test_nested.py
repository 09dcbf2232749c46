"""Nested tensors against the functions of their parts."""

from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch import nested
from fusetorch.nn import functional as F

A, B = torch.arange(6.0).view(2, 3), torch.ones(4, 3)


def made() -> nested.NestedTensor:
    return nested.nested_tensor([A, B])


def test_what_it_is() -> None:
    nt = made()
    assert nt.is_nested and not A.is_nested and torch.is_tensor(nt)
    assert (nt.dim(), nt.size(0), nt.size(2), nt.size(-1), nt.numel()) == (3, 2, 3, 3, 18)
    assert nt.dtype is torch.float32 and nt.layout is torch.strided
    with pytest.raises(RuntimeError, match="dimension 1 is irregular"):
        nt.size(1)
    with pytest.raises(IndexError):
        nt.size(3)
    assert [t.shape for t in nt.unbind()] == [(2, 3), (4, 3)] and torch.equal(nt[0], A) and torch.equal(nt[1, 2], B[2])
    assert repr(nested.nested_tensor([[1, 2], [3]])) == "nested_tensor([\n  tensor([1, 2]),\n  tensor([3])\n])"
    with pytest.raises(RuntimeError, match="same dimension"):
        nested.nested_tensor([A, torch.ones(2)])
    with pytest.raises(NotImplementedError, match="to_padded_tensor"):
        nt.tolist()


def test_padding() -> None:
    nt = made()
    padded = nt.to_padded_tensor(-1.0)
    assert padded.shape == (2, 4, 3) and torch.equal(padded[0, :2], A) and (padded[0, 2:] == -1).all() and torch.equal(padded[1], B)
    wide = nested.to_padded_tensor(nt, 0.0, (2, 5, 4))
    assert wide.shape == (2, 5, 4) and torch.equal(wide[1, :4, :3], B) and wide.sum() == A.sum() + B.sum()
    with pytest.raises(RuntimeError, match="less than"):
        nt.to_padded_tensor(0.0, (2, 3, 3))


def test_functions_of_the_parts() -> None:
    nt, layer = made(), torch.nn.Linear(3, 2)
    cases = [(nt * 2 + nt, lambda t: t * 3), (nt.relu(), torch.relu), (torch.softmax(nt, -1), lambda t: t.softmax(-1)),
             (torch.softmax(nt, dim=2), lambda t: t.softmax(1)), (layer(nt), layer), (nt.transpose(1, 2), lambda t: t.t()),
             (torch.matmul(nt, nt.transpose(1, 2)), lambda t: t @ t.t()), (torch.bmm(nt, nt.transpose(-1, -2)), lambda t: t @ t.t()),
             (F.layer_norm(nt, (3,)), lambda t: F.layer_norm(t, (3,))), (nt.sum(2), lambda t: t.sum(1)),
             (nt.double(), lambda t: t.double()),
             (nt.reshape(2, -1, 3, 1), lambda t: t.reshape(-1, 3, 1)), (nt.chunk(3, 2)[1], lambda t: t.chunk(3, 1)[1]),
             (nt.max(-1)[1], lambda t: t.max(-1)[1]), (nt - nested.nested_tensor([B[:2], B]), lambda t: t - 1)]
    for got, want in cases:
        for g, t in zip(got.unbind(), (A, B), strict=True):
            torch.testing.assert_close(g, want(t))
    q = nested.nested_tensor([torch.randn(2, 5, 4), torch.randn(2, 3, 4)])
    for g, t in zip(F.scaled_dot_product_attention(q, q, q), q, strict=True):
        torch.testing.assert_close(g, F.scaled_dot_product_attention(t, t, t))
    assert nt.sum() == A.sum() + B.sum() and nt.mean() == (A.sum() + B.sum()) / 18
    with pytest.raises(RuntimeError, match="counts its parts"):
        nt.sum(0)
    with pytest.raises(RuntimeError, match="2 and 3 parts"):
        nt + nested.nested_tensor([A, B, B])


def test_gradients() -> None:
    p, q = torch.ones(2, 2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    both = nested.as_nested_tensor([p, q])
    assert both.requires_grad
    (both * 3).to_padded_tensor(0.0).sum().backward()
    assert p.grad.tolist() == [[3, 3]] * 2 and q.grad.tolist() == [[3, 3]] * 3
    own = nested.nested_tensor([p, q], requires_grad=True)
    own.to_padded_tensor(1.0).sum().backward()
    assert own.grad[1].tolist() == [[1, 1]] * 3 and not own.detach().requires_grad


def test_jagged() -> None:
    nt = nested.nested_tensor([A, B], layout=torch.jagged)
    assert nt.layout is torch.jagged and nt.offsets().tolist() == [0, 2, 6] and torch.equal(nt.values(), torch.cat([A, B]))
    pieces = nested.nested_tensor_from_jagged(torch.arange(6.0), torch.tensor([0, 2, 6]))
    assert [t.tolist() for t in pieces.unbind()] == [[0, 1], [2, 3, 4, 5]]
    assert [len(t) for t in nested.nested_tensor_from_jagged(torch.arange(6.0), lengths=torch.tensor([1, 5]))] == [1, 5]
    rows = torch.arange(12.0).view(2, 6)
    assert [t.tolist() for t in nested.narrow(rows, 1, torch.tensor([0, 1]), torch.tensor([2, 3]))] == [[0, 1], [7, 8, 9]]
    chosen = nested.masked_select(torch.arange(4.0).view(2, 2), torch.tensor([[True, False], [True, True]]))
    assert [t.tolist() for t in chosen] == [[0], [2, 3]]
