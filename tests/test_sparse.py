"""Tensors in coordinate format, held to ordinary ones."""
from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest

import fusetorch as torch

INDICES = [[0, 1, 1, 0, 2], [2, 0, 2, 2, 1]]
VALUES = [3.0, 4.0, 5.0, 1.0, -2.0]


def sparse(requires_grad=False, device=None):
    return torch.sparse_coo_tensor(INDICES, torch.tensor(VALUES, device=device, requires_grad=requires_grad), (3, 4))


def dense() -> np.ndarray:
    out = np.zeros((3, 4), np.float32)
    np.add.at(out, tuple(np.array(INDICES)), np.array(VALUES, np.float32))
    return out


RIGHT = np.arange(8, dtype=np.float32).reshape(4, 2) - 3


def check(ours, theirs):
    np.testing.assert_allclose(ours.to_dense().detach().numpy() if ours.is_sparse else ours.detach().numpy(), theirs, rtol=1e-6)


def test_what_it_is():
    s = sparse()
    assert isinstance(s, torch.Tensor) and torch.is_tensor(s) and s.is_sparse and s.layout is torch.sparse_coo
    assert (s.shape, s.size(1), s.dim(), len(s), s.numel(), s._nnz(), s.sparse_dim(), s.dense_dim()) == ((3, 4), 4, 2, 3, 12, 5, 2, 0)
    assert not s.is_coalesced()
    with pytest.raises(RuntimeError, match="please call .coalesce"):
        s.values()
    c = s.coalesce()
    assert c.indices().tolist() == [[0, 1, 1, 2], [2, 0, 2, 1]] and c.values().tolist() == [4.0, 4.0, 5.0, -2.0] and c.coalesce() is c
    assert repr(c) == ("tensor(indices=tensor([[0, 1, 1, 2],\n                       [2, 0, 2, 1]]),\n"
                       "       values=tensor([ 4.,  4.,  5., -2.]),\n       size=(3, 4), nnz=4, layout=torch.sparse_coo)")
    check(s, dense())
    check(c, dense())
    for copied in (copy.deepcopy(s), pickle.loads(pickle.dumps(s)), s.clone(), s.detach(), s.to("cpu")):
        check(copied, dense())


@pytest.mark.parametrize("run, expected", [
    (lambda s, x: s @ x, lambda d: d @ RIGHT),
    (lambda s, x: torch.mm(s, x), lambda d: d @ RIGHT),
    (lambda s, x: torch.spmm(s, x), lambda d: d @ RIGHT),
    (lambda s, x: torch.sparse.mm(s, x), lambda d: d @ RIGHT),
    (lambda s, x: s.mm(x[:, :1]), lambda d: d @ RIGHT[:, :1]),
    (lambda s, x: torch.mv(s, x[:, 0]), lambda d: d @ RIGHT[:, 0]),
    (lambda s, x: x.t() @ s.t(), lambda d: RIGHT.T @ d.T),
    (lambda s, x: torch.sparse.addmm(x[:3], s, x, beta=2, alpha=3), lambda d: 2 * RIGHT[:3] + 3 * (d @ RIGHT)),
    (lambda s, x: torch.sparse.mm(s, s.t()), lambda d: d @ d.T),
    (lambda s, x: torch.eye(3, 4) + s, lambda d: np.eye(3, 4) + d),
    (lambda s, x: s + s * 2 - s / 4, lambda d: d * 2.75),
    (lambda s, x: s.coalesce() * torch.full((3, 4), 3.0), lambda d: d * 3),
    (lambda s, x: torch.sparse.sum(s), lambda d: d.sum()),
    (lambda s, x: torch.sparse.sum(s, dim=1), lambda d: d.sum(1)),
    (lambda s, x: torch.sparse.sum(s, dim=[0, 1]), lambda d: d.sum()),
    (lambda s, x: s.abs().sqrt(), lambda d: np.sqrt(np.abs(d))),
    (lambda s, x: s.t(), lambda d: d.T),
    (lambda s, x: s.double(), lambda d: d),
    (lambda s, x: s.to_dense().to_sparse(), lambda d: d),
])
def test_operations(run, expected):
    check(run(sparse(), torch.from_numpy(RIGHT)), expected(dense()))


def test_softmax_over_the_entries_that_are_there():
    d = dense()
    weights = np.where(d != 0, np.exp(d), 0)
    check(torch.sparse.softmax(sparse(), dim=1), weights / weights.sum(1, keepdims=True))


def test_gradients_reach_values_and_dense_operands():
    s, x = sparse(requires_grad=True), torch.from_numpy(RIGHT.copy()).requires_grad_()
    assert s.requires_grad
    ((s @ x) ** 2).sum().backward()
    upstream = 2 * dense() @ RIGHT
    np.testing.assert_allclose(x.grad.numpy(), dense().T @ upstream, rtol=1e-5)
    np.testing.assert_allclose(s._values().grad.numpy(), (upstream @ RIGHT.T)[tuple(np.array(INDICES))], rtol=1e-5)


def test_functions_and_modules_hold_them():
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values, x):
            a = torch.sparse_coo_tensor(INDICES, values, (3, 4))
            ctx.save_for_backward(a, x)
            return torch.matmul(a, x)

        @staticmethod
        def backward(ctx, grad):
            a, x = ctx.saved_tensors
            return grad.matmul(x.t())[tuple(a._indices())], a.t().matmul(grad)

    values, x = torch.tensor(VALUES, requires_grad=True), torch.from_numpy(RIGHT.copy()).requires_grad_()
    Product.apply(values, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), dense().T @ np.ones((3, 2)), rtol=1e-6)

    class Propagate(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("adjacency", sparse())
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x):
            return torch.spmm(self.adjacency, self.layer(x))

    net = Propagate().to("cpu").double()
    assert net.adjacency.is_sparse and net(x.double()).shape == (3, 2)


def test_files_hold_them():
    x = torch.sparse_coo_tensor([[0, 2, 0], [1, 0, 1]], [1.0, 2.0, 3.0], (3, 2))
    for written in (x, x.coalesce()):
        file = io.BytesIO()
        torch.save({"x": written}, file)
        assert b"_rebuild_sparse_tensor" in file.getvalue()  # PyTorch's name of it
        file.seek(0)
        read = torch.load(file)["x"]
        assert read.is_sparse and read.is_coalesced() == written.is_coalesced() and read._nnz() == written._nnz()
        assert torch.equal(read.to_dense(), x.to_dense())


@pytest.mark.peer
def test_files_hold_them_for_pytorch(tmp_path):
    peer = pytest.importorskip("torch")
    mine = torch.sparse_coo_tensor([[0, 2, 0], [1, 0, 1]], [1.0, 2.0, 3.0], (3, 2))
    torch.save(mine, tmp_path / "mine")
    theirs = peer.load(tmp_path / "mine")
    assert theirs.is_sparse and theirs.to_dense().tolist() == mine.to_dense().tolist()
    peer.save(theirs, tmp_path / "theirs")
    assert torch.load(tmp_path / "theirs").to_dense().tolist() == mine.to_dense().tolist()


def test_old_constructors_and_sizes():
    made = torch.sparse.FloatTensor(torch.tensor(INDICES), torch.tensor(VALUES), torch.Size([3, 4]))
    assert made.dtype is torch.float32 and made.type() == "torch.sparse.FloatTensor"
    assert torch.sparse_coo_tensor(INDICES, VALUES).shape == (3, 3) and torch.sparse_coo_tensor((2, 3)).shape == (2, 3)
    assert torch.sparse_coo_tensor(INDICES, torch.ones(5, 2), (3, 4, 2)).to_dense().shape == (3, 4, 2)
    with pytest.raises(RuntimeError, match="size is inconsistent"):
        torch.sparse_coo_tensor(INDICES, VALUES, (2, 2), check_invariants=True)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        sparse() @ torch.ones(3, 2)
    with pytest.raises(NotImplementedError, match="exp is not offered for sparse tensors; it works on x.to_dense"):
        torch.exp(sparse())


def test_subclasses_see_functions_that_nobody_has_used_before():
    seen = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs or {})

    t = torch.ones(2).as_subclass(Watched)
    torch.special.erfcx(torch.erfc(t)).logit()
    assert seen == ["erfc", "erfcx" if "erfcx" in seen else "special_erfcx", "logit"]


def compressed() -> torch.Tensor:
    return torch.sparse_csr_tensor(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), torch.tensor([1.0, 2.0, 3.0]), (2, 3))


def test_compressed_rows_and_columns() -> None:
    a = compressed()
    dense = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    assert torch.equal(a.to_dense(), dense) and (a.layout, a.is_sparse, a.is_sparse_csr) == (torch.sparse_csr, False, True)
    assert repr(a) == ("tensor(crow_indices=tensor([0, 2, 3]),\n       col_indices=tensor([0, 2, 1]),\n"
                       "       values=tensor([1., 2., 3.]), size=(2, 3), nnz=3,\n       layout=torch.sparse_csr)")
    assert a.crow_indices().tolist() == [0, 2, 3] and a.col_indices().tolist() == [0, 2, 1] and a.values().tolist() == [1, 2, 3]
    for again in (dense.to_sparse_csr(), dense.to_sparse(layout=torch.sparse_csr), dense.to_sparse().to_sparse_csr(),
                  a.to_sparse_csc().to_sparse_csr(), a.to_sparse().to_sparse_csr(), a.t().t()):
        assert again.layout is torch.sparse_csr and again.crow_indices().tolist() == [0, 2, 3] and torch.equal(again.to_dense(), dense)
    c = dense.to_sparse_csc()
    assert c.ccol_indices().tolist() == [0, 1, 2, 3] and c.row_indices().tolist() == [0, 1, 0] and c.values().tolist() == [1, 3, 2]
    assert a.t().layout is torch.sparse_csc and torch.equal(a.t().to_dense(), dense.t())
    assert torch.equal(c.to_sparse().to_dense(), dense) and dense.to_sparse_coo().layout is torch.sparse_coo
    assert torch.sparse_csr_tensor([0, 1, 2], [0, 1], [1, 2.0]).shape == (2, 2)
    assert torch.sparse_compressed_tensor([0, 1, 2], [0, 1], [1, 2.0], layout=torch.sparse_csc).layout is torch.sparse_csc


def test_compressed_products_and_sums() -> None:
    a, d = compressed(), torch.randn(3, 2)
    dense = a.to_dense()
    for got in (a @ d, torch.mm(a, d), a.matmul(d), torch.sparse.mm(a, d), torch.addmm(torch.zeros(2, 2), a, d)):
        torch.testing.assert_close(got, dense @ d)
    torch.testing.assert_close(a @ d[:, 0], dense @ d[:, 0])
    both = a @ d.to_sparse_csr()
    assert both.layout is torch.sparse_csr
    torch.testing.assert_close(both.to_dense(), dense @ d)
    for made, want in ((a + a, dense * 2), (a * 3, dense * 3), (-a, -dense), (a.abs(), dense.abs()), (torch.relu(-a), dense * 0),
                       (a.double(), dense.double()), (a.clone().detach(), dense)):
        assert made.layout is torch.sparse_csr and torch.equal(made.to_dense(), want)
    assert a.sum() == 6 and torch.equal(copy.deepcopy(a).to_dense(), dense)
    x, y = torch.randn(2, 4), torch.randn(4, 3)
    got = torch.sparse.sampled_addmm(a, x, y, beta=2, alpha=0.5)
    torch.testing.assert_close(got.to_dense(), 2 * dense + 0.5 * (x @ y) * (dense != 0))
    diagonals = torch.sparse.spdiags(torch.arange(9).reshape(3, 3), torch.tensor([0, -1, 1]), (3, 3))
    assert diagonals.to_dense().tolist() == [[0, 7, 0], [3, 1, 8], [0, 4, 2]]


def test_gradients_of_compressed_values() -> None:
    v = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = torch.arange(6.0).view(3, 2).requires_grad_()
    (torch.sparse_csr_tensor(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), v, (2, 3)) @ x).sum().backward()
    assert v.grad.tolist() == [1, 9, 5] and x.grad.tolist() == [[1, 1], [3, 3], [2, 2]]


def test_refusals_of_layouts() -> None:
    a, d = compressed(), torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="ccol_indices expected sparse column compressed tensor layout but got SparseCsr"):
        a.ccol_indices()
    with pytest.raises(RuntimeError, match="indices expected sparse coordinate tensor layout but got SparseCsr"):
        a.indices()
    for name in ("coalesce", "is_coalesced", "indices", "values", "crow_indices"):
        with pytest.raises(RuntimeError, match=f"{name} expected sparse .*layout but got Strided"):
            getattr(d, name)()
    with pytest.raises(RuntimeError, match="do not describe a matrix"):
        torch.sparse_csr_tensor([0, 2, 1], [0, 1], [1.0, 2.0], check_invariants=True)
    with pytest.raises(NotImplementedError, match="sparse_bsr"):
        torch.sparse_compressed_tensor([0, 1], [0], [1.0], layout=torch.sparse_bsr)
    with pytest.raises(NotImplementedError, match="dimensions"):
        torch.ones(2, 2, 2).to_sparse_csr()
