"""What programs can do to the tape: hooks on nodes, saved tensors, edges, anomaly detection, grad mode per thread, functional."""
from __future__ import annotations

import importlib
import threading
import warnings

import pytest

import fusetorch as torch
from fusetorch.autograd import graph

close = torch.testing.assert_close


def test_hooks_of_nodes():
    a = torch.tensor([1.0, 2.0], requires_grad=True)
    b = a * 3
    c = b.sum()
    seen = []
    handle = b.grad_fn.register_hook(lambda grad_inputs, grad_outputs: seen.append((grad_inputs[0], grad_outputs[0])))
    before = b.grad_fn.register_prehook(lambda grad_outputs: (grad_outputs[0] * 2,))
    c.backward(retain_graph=True)
    close(a.grad, torch.tensor([6.0, 6.0])), close(seen[0][0], torch.tensor([6.0, 6.0])), close(seen[0][1], torch.tensor([2.0, 2.0]))
    handle.remove()
    before.remove()
    a.grad = None
    b.grad_fn.register_hook(lambda grad_inputs, grad_outputs: (grad_inputs[0] * 10,))
    c.backward(retain_graph=True)
    close(a.grad, torch.tensor([30.0, 30.0]))
    assert len(seen) == 1 and b.grad_fn.next_functions[0][0].variable is a
    b.grad_fn.metadata["note"] = 1
    assert b.grad_fn.metadata == {"note": 1}


def test_hooks_after_accumulation():
    a = torch.ones(2, requires_grad=True)
    seen = []
    handle = a.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
    (a * 2).sum().backward()
    (a * 3).sum().backward()
    handle.remove()
    (a * 4).sum().backward()
    assert seen == [[2, 2], [5, 5]]
    with pytest.raises(RuntimeError, match="non-leaf"):
        (a * 2).register_post_accumulate_grad_hook(print)
    (a * 1).grad_fn.next_functions[0][0].register_hook(lambda *_: seen.append("node"))
    (a * 1).sum().backward()
    assert seen[-1] == "node"


def test_grad_runs_only_what_it_needs():
    x = torch.randn(3, requires_grad=True)
    y = x.exp()
    z = y * 2
    close(torch.autograd.grad(z.sum(), y)[0], torch.full((3,), 2.0))
    y.sum().backward()  # the part below y was neither run nor freed
    close(x.grad, x.detach().exp())
    side = []
    w = x * 2
    w.register_hook(lambda g: side.append(1))
    v = x * 3
    torch.autograd.grad((w + v).sum(), v)
    assert side == []


def test_edges_stand_for_tensors():
    a = torch.tensor([1.0, 2.0], requires_grad=True)
    b = a * 3
    edge = graph.get_gradient_edge(b)
    close(torch.autograd.grad(b.sum(), edge, retain_graph=True)[0], torch.ones(2))
    close(torch.autograd.grad(edge, a, torch.ones(2))[0], torch.full((2,), 3.0))
    with pytest.raises(RuntimeError):
        graph.get_gradient_edge(torch.ones(2))


def test_saved_tensors_pass_through_hooks():
    x = torch.randn(3, requires_grad=True)
    shapes = []
    with graph.saved_tensors_hooks(lambda t: shapes.append(t.shape) or (t.shape, t.tolist()), lambda kept: torch.tensor(kept[1])):
        y = (x * x).exp()
    y.sum().backward()
    close(x.grad, (x * x * 1).exp().detach() * 2 * x.detach())
    assert len(shapes) == 3
    with graph.save_on_cpu():
        y = (x**3).sum()
    g, = torch.autograd.grad(y, x, create_graph=True)
    close(torch.autograd.grad(g.sum(), x)[0], 6 * x.detach())
    with graph.saved_tensors_hooks(lambda t: 1, lambda kept: kept):
        y = x.exp()
    with pytest.raises(TypeError, match="unpack_hook"):
        y.sum().backward()
    with graph.disable_saved_tensors_hooks("not here"), pytest.raises(RuntimeError, match="not here"):
        with graph.save_on_cpu():
            pass


def test_hooks_on_several_gradients():
    p, q = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    every, first = [], []
    handle = graph.register_multi_grad_hook([p, q], lambda gs: every.append([None if g is None else g.tolist() for g in gs]))
    graph.register_multi_grad_hook([p, q], lambda g: first.append(g.tolist()), mode="any")
    (p * 2 + q).sum().backward()
    (p * 2).sum().backward()
    handle.remove()
    q.sum().backward()
    assert every == [[[2, 2], [1, 1]], [[2, 2], None]] and len(first) == 3


def test_gradients_for_a_batch_of_vectors():
    a = torch.tensor([1.0, 2.0], requires_grad=True)
    y = torch.stack([a[0] * a[1], a[0]])
    close(torch.autograd.grad(y, a, torch.eye(2), is_grads_batched=True)[0], torch.tensor([[2.0, 1.0], [1.0, 0.0]]))


def test_anomalies_name_the_forward_line():
    x = torch.tensor(0.0, requires_grad=True)
    with warnings.catch_warnings(record=True) as caught, pytest.raises(RuntimeError, match="'DivBackward0' returned nan"):
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly():
            y = x * (1.0 / (x * 1.0))  # the line to be named
            y.backward()
    assert any("the line to be named" in str(w.message) for w in caught)
    assert not torch.is_anomaly_enabled()
    a = torch.ones(2, requires_grad=True)
    (a + a).sum().backward()
    close(a.grad, torch.full((2,), 2.0))


def test_anomalies_name_programs_in_folders_that_are_called_like_the_package():
    program = compile("y = (x * 0).sqrt()", "/home/someone/fusetorch/train.py", "exec")
    x = torch.tensor(0.0, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        names = {"x": x}
        exec(program, names)
        with pytest.warns(UserWarning, match="someone/fusetorch/train.py"), pytest.raises(RuntimeError, match="nan"):
            names["y"].backward()


def test_grad_mode_is_the_threads_own():
    seen = []

    def run():
        seen.append(torch.is_grad_enabled())
        torch.set_grad_enabled(False)

    with torch.no_grad():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert not torch.is_grad_enabled()
    assert seen == [True] and torch.is_grad_enabled()


def test_inference_mode():
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        with torch.inference_mode(False):
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch.inference_mode()(torch.is_inference_mode_enabled)() and torch.inference_mode(torch.is_inference_mode_enabled)()


def test_functional():
    f = torch.autograd.functional
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])
    jx, jy = f.jacobian(lambda a, b: a * b, (x, y))
    close(jx, torch.diag(y)), close(jy, torch.diag(x))
    close(f.hessian(lambda a: (a**3).sum(), x), torch.diag(6 * x))
    close(f.hvp(lambda a: (a**3).sum(), x, torch.ones(2)), (torch.tensor(9.0), 6 * x))
    close(f.jvp(torch.square, x, torch.ones(2)), (x * x, 2 * x))
    close(f.vjp(torch.square, x, torch.ones(2)), (x * x, 2 * x))
    w = x.clone().requires_grad_()
    j = f.jacobian(lambda a: a**3, w, create_graph=True)
    close(torch.autograd.grad(j.sum(), w)[0], 6 * x)
    with pytest.raises(RuntimeError, match="independent of input 1"):
        f.jacobian(lambda a, b: a * 2, (x, y), strict=True)


def test_gradcheck_stays_a_function_after_its_module_is_imported():
    module = importlib.import_module("fusetorch.autograd.gradcheck")
    assert torch.autograd.gradcheck is module.gradcheck


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 3

    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(torch.sin, x) and torch.autograd.gradgradcheck(torch.sin, x)
    assert not torch.autograd.gradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Wrong.apply, x)


def test_a_context_may_have_any_attribute():
    class F(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.function, ctx.places, ctx.saved, ctx.hooks, ctx.edges, ctx.name, ctx.shape = 1, 2, 3, 4, 5, 6, x.shape
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            assert (ctx.function, ctx.places, ctx.saved, ctx.hooks, ctx.edges, ctx.name, ctx.shape) == (1, 2, 3, 4, 5, 6, x.shape)
            return 2 * x * g

    x = torch.ones(2, requires_grad=True)
    y = F.apply(x)
    assert y.grad_fn.saved == 3
    y.sum().backward()
    close(x.grad, torch.full((2,), 2.0))


def test_once_differentiable():
    from fusetorch.autograd.function import once_differentiable

    class F(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return g * 2

    x = torch.ones(2, requires_grad=True)
    g, = torch.autograd.grad((F.apply(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()
