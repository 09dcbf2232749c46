"""Subclasses of Tensor and __torch_function__. In a process of their own: the first subclass wraps the public functions."""
from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAMS = {
    "frames_of_functions_can_be_looked_at": """
        import sys
        class My(torch.Tensor):
            pass
        try:
            torch.ones(2, "x")
        except TypeError:
            at = sys.exc_info()[2]
            while at is not None:
                assert isinstance(dict(at.tb_frame.f_locals), dict)
                at = at.tb_next
        else:
            raise AssertionError
    """,
    "objects_that_are_no_tensors_have_a_say_in_what_makes_tensors": """
        class My(torch.Tensor):
            pass
        class Size:
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return func.__name__
        assert torch.zeros(Size()) == "zeros" and type(torch.zeros(2)) is torch.Tensor
        assert type(torch.ones_like(torch.ones(2).as_subclass(My))) is My
    """,
    "operators_of_parameters_inside_a_mode": """
        class Passes(torch.overrides.TorchFunctionMode):
            names = []
            def __torch_function__(self, func, types, args=(), kwargs=None):
                self.names.append(func.__name__)
                return func(*args, **(kwargs or {})) if func.__name__ != "stack" else args[0][0][:1] + 1
        p = torch.nn.Parameter(torch.ones(2))
        with Passes():
            assert torch.stack([p]).tolist() == [2.0]
            assert (p @ p).item() == 2 and "matmul" in Passes.names
    """,
    "results_are_of_the_class": """
        class My(torch.Tensor):
            pass
        y = torch.ones(2).as_subclass(My)
        for r in (y + 1, 1 + y, torch.ones(2) + y, torch.sin(y), y[0], y.sum(), torch.stack([y, y]), y.T, y.max(0).values, My([1, 2])):
            assert type(r) is My, r
        assert repr(My([1, 2])) == "My([1., 2.])" and type(y.shape) is torch.Size and y.dtype is torch.float32
        assert type(torch.Tensor._make_subclass(My, torch.ones(2), True)) is My
        assert type(torch.ones(2) + 1) is torch.Tensor
        x = torch.ones(2, requires_grad=True)
        (x.as_subclass(My) * 3).sum().backward()
        assert x.grad.tolist() == [3, 3]
    """,
    "calls_are_seen": """
        log = []
        class Log(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                log.append(func.__name__)
                return super().__torch_function__(func, types, args, kwargs or {})
        z = torch.ones(2).as_subclass(Log)
        r = torch.nn.functional.relu(torch.add(z, 1) * 2)
        assert log == ["add", "mul", "relu"] and type(r) is Log
        with torch.overrides.DisableTorchFunctionSubclass():
            assert type(z + 1) is torch.Tensor
        assert len(log) == 3
    """,
    "a_call_can_be_replaced": """
        handled = {}
        class Scalar:
            def __init__(self, v): self.v = v
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return handled[func](*args) if func in handled else NotImplemented
        torch.overrides.enable()
        handled[torch.mean] = lambda s: s.v
        assert torch.mean(Scalar(5)) == 5 and torch.overrides.is_tensor_like(Scalar(1))
        try:
            torch.sum(Scalar(5))
        except TypeError as e:
            assert "no implementation found for 'fusetorch.sum'" in str(e)
        else:
            raise AssertionError
    """,
    "methods_of_a_subclass_are_kept": """
        class Mine(torch.Tensor):
            def add(self, other):
                return "mine"
        m = torch.ones(2).as_subclass(Mine)
        assert m.add(1) == "mine" and type(m.mul(2)) is Mine
        class More(Mine):
            pass
        assert torch.ones(2).as_subclass(More).add(1) == "mine" and type(torch.ones(2).as_subclass(More) * m) is More
    """,
    "tables_made_before_go_on_finding_functions": """
        import inspect
        handled = {torch.matmul: "matmul", torch.nn.functional.softmax: "softmax", torch.exp: "exp", torch.Tensor.add_: "add_"}
        before = inspect.signature(torch.matmul)
        class Operator:
            dtype, shape = torch.float32, (2, 2)
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return handled[func]
        torch.overrides.enable()
        t, o = torch.ones(2, 2), Operator()
        assert (torch.matmul(t, o), t @ o, t.matmul(o), torch.nn.functional.softmax(o, -1), torch.exp(o), t.add_(o)) == (
            "matmul", "matmul", "matmul", "softmax", "exp", "add_")
        assert not torch.is_tensor(o)  # asked of none
        assert inspect.signature(torch.matmul) == before and torch.matmul(t, t).sum() == 8
    """,
    "a_class_can_be_left_out": """
        class Plain(torch.Tensor):
            __torch_function__ = torch._C._disabled_torch_function_impl
        p = torch.ones(2).as_subclass(Plain)
        assert type(p + 1) is torch.Tensor and type(torch.exp(p)) is torch.Tensor
    """,
    "modes": """
        log = []
        class Log(torch.overrides.TorchFunctionMode):
            def __init__(self, name):
                super().__init__()
                self.name = name
            def __torch_function__(self, func, types, args=(), kwargs=None):
                log.append(self.name + func.__name__)
                return func(*args, **(kwargs or {}))
        x = torch.ones(2)
        with Log("a "):
            torch.empty(2), x + 1, x.add(1), -x, x[0], x > 1
            with Log("b "):
                x.sum()
            torch.nn.functional.relu(x)
        x + 1, torch.exp(x)
        assert log == ["a empty", "a add", "a add", "a neg", "a __getitem__", "a gt", "b sum", "a sum", "a relu"]
        class Doubled(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return 2 * func(*args, **(kwargs or {}))
        with Doubled():
            y = x + 1
        assert y.tolist() == [4, 4]
        with torch.overrides.BaseTorchFunctionMode():
            assert (x + 1).tolist() == [2, 2]
    """,
    "nothing_is_wrapped_without_subclasses": """
        plain = torch.sin
        torch.nn.Parameter(torch.ones(2)) * 2
        assert torch.sin is plain and not hasattr(torch.sin, "__wrapped__")
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, tmp_path):
    import textwrap
    program = "import fusetorch as torch\n" + textwrap.dedent(PROGRAMS[name])
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
