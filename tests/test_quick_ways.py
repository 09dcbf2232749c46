"""The quick ways of eager calls on small CPU tensors: launched loops, nodes made in line, writes without views."""
from __future__ import annotations

import threading

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import config
from fusetorch.runtime import cpu_call

F = torch.nn.functional


def values(*shape: int, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).to(dtype)


# ---- launched loops


def test_a_launcher_takes_its_operands_only():
    class Array(np.ndarray):
        pass

    x = values(20, 50)
    F.gelu(x)
    launch = next(s.flat for s in F.gelu.op.specs.values()  # other tests may have made others
                  if s.in_dtypes == (torch.float32,) and "tanh" not in s.primitives and s.flat is not None)
    out = np.empty_like(x._a)
    launch(x._a, out, 1000, 1000)
    np.testing.assert_allclose(out, F.gelu(x).numpy())
    for wrong in ((x._a,), (x._a, out), (x._a, out, out, 1000, 1000), (x._a, None, 1000, 1000), (1.0, out, 1000, 1000),
                  (x._a, out.view(Array), 1000, 1000), (x._a, out, "1000", 1000)):
        with pytest.raises(TypeError):
            launch(*wrong)


def test_numbers_of_a_launcher_are_checked():
    x = values(30, 50)
    F.softplus(x, beta=2.0)
    spec = next(s for s in F.softplus.op.specs.values() if s.scalars and s.flat)
    out = np.empty_like(x._a)
    with pytest.raises(TypeError):
        spec.flat(x._a, out, *["two"] * len(spec.scalars), 1500, 1500)
    for beta in (2, True, np.float64(2.0), -1.0):
        np.testing.assert_allclose(F.softplus(x, beta=beta).numpy(), np.log1p(np.exp(float(beta) * x.numpy())) / float(beta), rtol=1e-4,
                                   atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["plain", "transposed", "broadcast", "sliced"])
def test_launched_loops_see_layouts(dtype, layout):
    x = values(24, 30, dtype=dtype)
    x = {"plain": lambda: x, "transposed": x.t, "broadcast": lambda: x[:1].expand(24, 30), "sliced": lambda: x[::2, 1:]}[layout]()
    for f in (F.gelu, lambda t: F.softmax(t, 0), lambda t: t.var(1), lambda t: F.layer_norm(t, t.shape[1:]), lambda t: t.clone().mul_(t)):
        for _ in range(2):
            got = f(x)
        want = f(x.double().contiguous())
        np.testing.assert_allclose(got.double().numpy(), want.numpy(), rtol=2e-2 if dtype.itemsize == 2 else 1e-4,
                                   atol=2e-2 if dtype.itemsize == 2 else 1e-5)


def test_one_launcher_serves_all_sizes():
    for shape in ((1, 100), (7, 33), (0, 5), (3, 4, 50), (70_000,), (200_000,), (130,), (1,), ()):
        x = values(*shape)
        np.testing.assert_allclose(F.silu(x).numpy(), x.numpy() / (1 + np.exp(-x.numpy())), rtol=1e-5, atol=1e-6)
        assert F.silu(x).shape == shape


def test_a_launcher_keeps_its_description():
    """Threads that make the first launchers at once make a description each; only one of them is remembered."""
    F.hardswish(values(30, 40))
    launch = next(s.flat for s in F.hardswish.op.specs.values() if s.in_dtypes == (torch.float32,))
    assert any(kept is cpu_call._maker()[1] for kept in launch.__module__)


def test_threads_share_a_launcher():
    xs = [values(20, 50) + k for k in range(4)]
    want = [F.gelu(x).numpy() for x in xs]
    wrong = []

    def work(k):
        for _ in range(300):
            if not np.array_equal(F.gelu(xs[k]).numpy(), want[k]):
                wrong.append(k)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_overlapping_memory_is_read_before_it_is_written():
    for n in (5, 1000):
        a = np.arange(n + 1, dtype=np.float32)
        x = torch.from_numpy(a.copy())
        for _ in range(3):
            x = torch.from_numpy(a.copy())
            x[1:].add_(x[:-1])
        np.testing.assert_array_equal(x.numpy(), np.concatenate([a[:1], a[1:] + a[:-1]]))


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), torch.optim.Adam])
def test_optimizers_step_parameters_of_all_layouts(make):
    def run():
        torch.manual_seed(0)
        whole = torch.randn(40, 6)
        params = [whole[:20], whole[20:].t(), torch.randn(3), torch.randn(()), torch.randn(30, 40)]
        params = [p.detach().requires_grad_() for p in params]
        opt = make(params)
        for k in range(3):
            for p in params:
                p.grad = torch.full_like(p, 0.5 + k)
            opt.step()
        return [p.detach().clone().numpy() for p in params]
    quick = run()
    with config.override(native_threshold=1 << 40, parallel_threshold=0):
        plain = run()
    for a, b in zip(quick, plain):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# ---- writes without views


@pytest.mark.parametrize("write", [lambda x: x.__setitem__(1, 5.0), lambda x: x.__setitem__((slice(None), 2), torch.ones(3)),
                                   lambda x: x.fill_(2.0), lambda x: x[0].fill_(2.0), lambda x: x.zero_(), lambda x: x[1:].add_(1.0)])
def test_writes_count_as_versions(write):
    x, w = values(3, 4), values(3, 4).requires_grad_()
    y = (x * w).sum()
    before = x._version
    write(x)
    assert x._version == before + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_writes_are_seen_by_views_and_refused_as_ever():
    x = torch.zeros(3, 4)
    row = x[1]
    x[1, ::2] = 7.0
    assert row.tolist() == [7, 0, 7, 0]
    x[...] = torch.arange(4.0)
    assert x.tolist() == [[0, 1, 2, 3]] * 3
    x[:, :2] = x[:, 1:3]  # overlapping
    assert x.tolist() == [[1, 2, 2, 3]] * 3
    x[0] = float("nan")
    x[1] = float("-inf")
    assert x[0].isnan().all() and bool((x[1] == -float("inf")).all())
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.zeros(1, 3).expand(2, 3)[:, 0] = 1.0
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.zeros(1, 3).expand(2, 3).fill_(1.0)
    with pytest.raises(RuntimeError):
        x[0] = torch.ones(3)
    with pytest.raises(RuntimeError, match="leaf"):
        torch.zeros(3, requires_grad=True)[0] = 1.0
    with pytest.raises(RuntimeError, match="leaf"):
        torch.zeros(3, requires_grad=True).fill_(1.0)
    with pytest.raises(IndexError):
        x[5] = 1.0
    half = torch.zeros(2, dtype=torch.float16)
    half[0] = 2.5
    count = torch.zeros(2, dtype=torch.int64)
    count[1] = 3
    assert half.tolist() == [2.5, 0] and count.tolist() == [0, 3]


def test_writes_of_tensors_with_gradients_are_recorded():
    x, v = torch.zeros(3), torch.tensor(2.0, requires_grad=True)
    x[1] = v
    (x * 3).sum().backward()
    assert v.grad.item() == 3


# ---- nodes made in line


def test_history_of_a_view_follows_writes_to_its_base():
    a = values(4, 3).requires_grad_()
    base = a * 1
    view = base[1]
    base.mul_(3.0)
    for f in (lambda v: v.exp(), lambda v: v * v, lambda v: v.reshape(3, 1), lambda v: F.relu(v), lambda v: v.sum()):
        want = np.zeros((4, 3), np.float32)
        x = (a.detach()[1] * 3).requires_grad_()
        f(x).sum().backward()
        want[1] = x.grad.numpy() * 3
        got, = torch.autograd.grad(f(view).sum(), a, retain_graph=True)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)


@pytest.mark.parametrize("f", [torch.tanh, F.relu, lambda x: x.sum(0), lambda x: x.t(), lambda x: x[1:], lambda x: torch.cat([x, x]),
                               lambda x: F.softmax(x, 1), lambda x: x[torch.tensor([0, 1])], lambda x: F.layer_norm(x, (4,)),
                               lambda x: F.group_norm(x, 2), lambda x: torch.stack([x, x])])
def test_nothing_is_recorded_without_gradients(f):
    x = values(3, 4).requires_grad_()
    with torch.no_grad():
        assert f(x).grad_fn is None and not f(x).requires_grad
    assert f(x.detach()).grad_fn is None
    y = f(x)
    assert y.requires_grad
    seen = []
    y.register_hook(lambda g: seen.append(g.shape))
    first, = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    assert seen == [y.shape] and first.requires_grad
    again, = torch.autograd.grad(first.square().sum(), x)
    assert again.shape == x.shape


def test_the_mode_of_recording_is_restored_after_an_error():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward()
    assert torch.is_grad_enabled()


def test_gradients_of_indexing_add_up():
    x = values(4, 3).requires_grad_()
    at = torch.tensor([1, -3, 1])
    x[at].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.array([[0.0] * 3, [3.0] * 3, [0.0] * 3, [0.0] * 3], np.float32))
    with pytest.raises(IndexError, match="out of bounds"):
        x[torch.tensor([4])]
    with pytest.raises(IndexError, match="out of bounds"):
        x[torch.tensor([0]), torch.tensor([-4])]
    with pytest.raises(IndexError, match="out of range"):
        F.embedding(torch.tensor([-1]), x)
    with pytest.raises(RuntimeError, match="out of bounds"):
        x.gather(0, torch.tensor([[-1]]))


@pytest.mark.parametrize("n", [10, 50_000])
def test_gradients_are_copied_only_where_something_else_sees_them(n):
    x, y = torch.ones(n, requires_grad=True), torch.ones(n)
    copied = []
    plain = torch.Tensor.clone
    torch.Tensor.clone = lambda t: copied.append(t) or plain(t)
    try:
        (x.tanh() * y).sum().backward()
        F.linear(torch.ones(4, n), x.reshape(1, n)).sum().backward()
        assert not copied
        x.grad = None
        g = torch.ones(n)
        (x + x.detach()).backward(g)
        x.grad.zero_()
        assert len(copied) == 1 and g.sum() == n
        a, b = torch.ones(n, requires_grad=True), torch.ones(n, requires_grad=True)
        ((a + b) * y).sum().backward()
        a.grad.zero_()
        assert b.grad.sum() == n and len(copied) == 3
        seen = []
        c = torch.ones(n, requires_grad=True)
        c.register_hook(seen.append)
        (c * y).sum().backward()
        c.grad.zero_()
        assert seen[0].sum() == n
        d = torch.ones(2, n, requires_grad=True)
        parts = d.unbind(0)
        (parts[0] * y + parts[1]).sum().backward()
        assert d.grad.sum() == 2 * n
    finally:
        torch.Tensor.clone = plain
