"""Operations inside compiled functions: a trace freezes no value, and results lie where eager ones do."""
from __future__ import annotations

import warnings

import numpy as np
import pytest
from compiler_support import rnd, same

import fusetorch as torch
from fusetorch.errors import DataDependentError

F = torch.nn.functional


def replayed(f, *calls, fullgraph=True):
    """Calls ``f`` compiled with each tuple of arguments in turn and compares with eager results: one plan serves all."""
    c = torch.compile(f, fullgraph=fullgraph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for args in calls:
            same(f(*args), c(*args))
    assert c.cache_info()["plans"] == 1, c.cache_info()
    return c


def test_a_value_that_is_read_before_any_operation_ends_the_trace():
    f = torch.compile(lambda x: x.item() + 1)
    with pytest.warns(RuntimeWarning, match="runs eagerly"):
        assert f(torch.tensor(2.0)) == 3.0
    assert f(torch.tensor(5.0)) == 6.0
    with pytest.raises(DataDependentError):
        torch.compile(lambda x: x.tolist(), fullgraph=True)(torch.ones(2))


def test_sizes_as_arguments():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    values, at = F.max_pool2d(x, 2, return_indices=True)
    replayed(lambda v, i, size: F.max_unpool2d(v, i, 2, output_size=size), (values, at, x.size()), (values + 1, at, x.size()))
    assert [1, *torch.Size([2])] == [1, 2]
    a = [1]
    a += torch.Size([2])
    assert a == [1, 2] and type(a) is list
    with pytest.raises(TypeError):
        [1] + torch.Size([2])


def test_gradients_given_from_outside_are_read_at_each_call():
    g = torch.tensor(2.0)

    def f(x):
        return torch.autograd.grad((x * x).sum(), x, g)[0]
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    c = torch.compile(f)
    for value in (2.0, 5.0, 7.0):
        g.fill_(value)
        same(f(x), c(x))
    assert c.cache_info()["plans"] == 1


def test_a_gradient_that_comes_back_as_it_was_given():
    g = torch.ones(2, 2)
    x = torch.ones(2, 2, requires_grad=True)
    c = torch.compile(lambda x: torch.autograd.grad(x.sum_to_size(2, 2), x, g)[0])
    for value in (1.0, 4.0):
        g.fill_(value)
        same(torch.full((2, 2), value), c(x))
    assert c.cache_info()["plans"] == 1


def test_results_lie_in_the_memory_that_eager_results_lie_in():
    x = torch.arange(6.0)
    c = torch.compile(lambda x: (x.split(3), (x * 2)[2:]))
    for _ in range(2):
        (a, b), d = c(x)
        assert [t.storage_offset() for t in (a, b, d)] == [0, 3, 2]
        assert b.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() and d.untyped_storage().nbytes() == 24


@pytest.mark.parametrize("f", [
    lambda x: x.transpose(1, 3) + 1, lambda x: (x.permute(0, 2, 3, 1) * 2).relu(), lambda x: x.permute(1, 0, 2, 3).clone(),
    lambda x: x.contiguous(memory_format=torch.channels_last) * x[:, :1], lambda x: x.mT * x.mT.sum(-1, keepdim=True) - 1,
    lambda x: F.max_pool2d(x.contiguous(memory_format=torch.channels_last), 2), lambda x: torch.cat([x.mT, x.mT]),
    lambda x: (x.mT * 2).transpose(0, 1)[1:], lambda x: torch.zeros_like(x.mT) + x.mT])
def test_results_have_the_strides_of_eager_results(f):
    x = torch.arange(120.0).reshape(2, 3, 4, 5) / 7
    c = replayed(f, (x,), (x + 1,))
    assert c(x).stride() == f(x).stride()


def test_one_number_gathered():
    replayed(lambda x, i: x.take(i), (torch.tensor(3.0), torch.tensor(0)), (torch.tensor(4.0), torch.tensor(0)))


def test_spaces_of_no_elements_do_not_fuse():
    def f(x, u):
        return F.fractional_max_pool3d(x, 1, output_size=(2, 2, 2), _random_samples=u) + 1
    replayed(f, (torch.zeros(0, 1, 3, 3, 3), torch.zeros(0, 1, 3)), (torch.zeros(0, 1, 3, 3, 3), torch.zeros(0, 1, 3)))


def test_masked_scatter_and_histograms_need_no_values():
    rng = np.random.default_rng(0)
    x = [torch.from_numpy(rng.standard_normal((3, 4)).astype(np.float32)) for _ in range(3)]
    replayed(lambda x, y: x.masked_scatter(x > 0, y), (x[0], x[1]), (x[1], x[2]))
    replayed(lambda x: torch.histc(x, 5), (x[0],), (x[1],), (x[1] * 0,))
    assert torch.histc(torch.tensor([1.0, 2.0, 2.0, 3.0]), 2).tolist() == [1.0, 3.0]
    with pytest.raises(RuntimeError, match="not finite"):
        torch.histc(torch.tensor([1.0, float("inf")]))
    with pytest.raises(RuntimeError, match="too few"):
        x[0].masked_scatter(x[0] < 9, x[1][0])


def test_spaces_end_where_they_are_told_to():
    ends = [(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)) for a, b in
            np.random.default_rng(0).standard_normal((40, 2))]
    c = replayed(lambda a, b: torch.linspace(a, b, 8, dtype=torch.float64), *ends)
    assert all(c(a, b)[-1] == b and c(a, b)[0] == a for a, b in ends)
    replayed(lambda x: torch.histogramdd(x.view(-1, 1), 1)[0], *[(rnd(30, seed=i, dtype=torch.float64),) for i in range(10)])


def test_ends_counts_and_borders_that_are_not_known_while_tracing():
    x, y = torch.tensor([3.0, 1.0, 3.0, 2.0]), torch.tensor([0.5, 4.0, 2.0, 2.0])
    replayed(lambda a, b: (torch.linspace(a, b, 5), torch.linspace(0, b, 4, dtype=torch.float64), torch.logspace(a, 2, 3)),
             (x[0], y[1]), (x[1], y[0]))
    replayed(lambda x: torch.histogram(x, 3), (x,), (y,), (y * 0,))
    replayed(lambda x: x.mode(), (x,), (y,))
    n, m = torch.tensor([1, 0, 2, 1]), torch.tensor([0, 3, 1, 0])
    replayed(lambda x, n: x.repeat_interleave(n, output_size=4), (x, n), (x, m))
    replayed(lambda x, n: torch.segment_reduce(x, "max", lengths=n), (x, n), (y, m))
    replayed(lambda x, n: torch.special.hermite_polynomial_h(x, n), (x, n), (y, m), (y, n * 3))
    with pytest.raises(RuntimeError, match="add up to 4"):
        x.repeat_interleave(n, output_size=5)


def test_ctc_loss_of_targets_in_one_row():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((6, 2, 4)).astype(np.float32)).log_softmax(-1).requires_grad_()
    lengths = torch.tensor([6, 5])

    def f(x, labels, n):
        return torch.autograd.grad(F.ctc_loss(x, labels, lengths, n), x)[0]
    replayed(f, (x, torch.tensor([1, 2, 3]), torch.tensor([1, 2])), (x, torch.tensor([3, 3, 1]), torch.tensor([2, 1])))


def attention(x, w):
    q, k, v = (x @ w).split(8, dim=2)
    q, k, v = [t.view(2, 5, 2, 4).transpose(1, 2) for t in (q, k, v)]
    y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
    return torch.autograd.grad((y.transpose(1, 2).reshape(2, 5, 8) ** 2).sum(), [x, w])


def test_gradients_of_pieces_are_written_side_by_side():
    rng = np.random.default_rng(0)
    x, w = [torch.from_numpy(rng.standard_normal(s).astype(np.float32)).requires_grad_() for s in ((2, 5, 6), (6, 24))]
    c = replayed(attention, (x, w), (w[:2].reshape(2, 4, 6)[:, [0, 1, 2, 3, 0]].detach().requires_grad_(), w))
    e = c.explain(x, w)
    ops = [op for g in e.groups for op in g.ops]
    assert ops.count("write") == 1 and not any("scatter" in op for op in ops)
    assert ops.count("clone_contiguous") == 1  # of the forward
    c.verify(x, w)


@pytest.mark.parametrize("pieces", [lambda x: (x[:, :2], x[:, 3:]), lambda x: (x[:, :3], x[:, 2:]), lambda x: (x[::2], x[1::2]),
                                    lambda x: (x[1], x[2:], x[0, 1:]), lambda x: x.unbind(1), lambda x: (x.flip(0)[:1], x[1:, None]),
                                    lambda x: x.chunk(2), lambda x: (x[:0], x[:1], x[2:])])
def test_gradients_of_pieces(pieces):
    def f(x):
        y = x * 1
        total = sum((p ** 3).sum() * (i + 1) for i, p in enumerate(pieces(y)))
        return torch.autograd.grad(total, x)[0]
    x = torch.arange(15.0).reshape(3, 5).requires_grad_()
    replayed(f, (x,), ((x * 2).detach().requires_grad_(),))


def test_a_chain_of_writes_is_one():
    def f(x):
        y = torch.zeros(4, 3)
        y[0] = x
        y[1:3] = x * 2
        y[2, 1:] = 7
        z = y.clone()
        y[3] = z[1]
        return y, z
    c = replayed(f, (torch.arange(3.0),), (torch.ones(3),))
    assert sum(op == "write" for g in c.explain(torch.ones(3)).groups for op in g.ops) == 2


def test_masks_and_positions_need_no_counts():
    x, y = torch.tensor([[1.0, -1.0, 2.0], [3.0, 0.0, -2.0]]), torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    replayed(lambda x: (x.index_put((x > 0,), torch.tensor(2.0)), x.index_put((x.sum(1) > 2,), torch.tensor(5.0))), (x,), (y,))
    replayed(lambda x: x.clone().index_put_((x > 0,), torch.tensor(2.0)), (x,), (y,))
    replayed(lambda x: (torch.nonzero_static(x, size=2), torch.nonzero_static(x, size=7, fill_value=9)), (x,), (y,), (x * 0,))
    assert torch.nonzero_static(torch.tensor([0, 3, 4]), size=3).tolist() == [[1], [2], [-1]]


@pytest.mark.parametrize("d", [torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.int16], ids=str)
def test_kernels_read_and_writes_reach_parts_of_memory(d):
    def f(x):
        y = x.clone()
        y[:, ::2] = x[:, 1:3]
        y[1:, 3] = x[1:, 0]
        z = torch.zeros(3, 0, dtype=x.dtype)
        return y, y[:, 1:3].sort(dim=1)[0] if not x.is_complex() else y[:, 1:].cumsum(1), torch.cat([y[:, :1], z, y[:, 2:]], 1)
    x = torch.arange(12).reshape(3, 4)
    replayed(f, ((x % 5).to(d),), ((x % 3).to(d),))
