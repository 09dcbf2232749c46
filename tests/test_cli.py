"""The command line."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fusetorch
from fusetorch import cli, config

PROGRAM = """
    import fusetorch as torch
    from neighbour import SCALE

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 4)

        def forward(self, x):
            return self.layer(x).relu()

    net = Net()
    number = 3

    def activation(x, w, b):
        return torch.nn.functional.gelu(x * w + b).softmax(-1) * SCALE

    @torch.compile
    def compiled(x, w, b):
        return activation(x, w, b)

    def by_value(x, w, b):
        return x * w if x.sum().item() > 0 else b

    def example_inputs():
        return torch.randn(16, 8), torch.randn(16, 8), torch.randn(8)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A file with functions to compile, and a neighbour that it imports."""
    (tmp_path / "neighbour.py").write_text("SCALE = 2.0\n")
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "program.py"
    sys.modules.pop("neighbour", None)
    sys.modules.pop("fusetorch_target", None)


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize("function", ["activation", "compiled"])
def test_compare(program, capsys, function):
    assert cli.main(["compare", f"{program}:{function}"]) == 0
    out = capsys.readouterr().out
    for row in ("time per call", "kernels", "bytes moved", "peak memory", "largest difference", "speedup"):
        assert row in out


def test_explain_names_the_operations_of_each_kernel(program, capsys):
    assert cli.main(["explain", f"{program}:activation"]) == 0
    out = capsys.readouterr().out
    assert "1 kernels" in out and "gelu" in out and "softmax" in out
    assert "define" not in out and "def graph" not in out


def test_explain_prints_graph_and_source_when_asked(program, capsys):
    assert cli.main(["explain", "--graph", "--source", f"{program}:activation"]) == 0
    out = capsys.readouterr().out
    assert "def graph(rt" in out and "define" in out and "program.py:" in out


def test_inputs_may_be_keywords_or_a_single_tensor(tmp_path, capsys):
    by_name = write(tmp_path / "by_name.py", """
        import fusetorch as torch
        def f(x, *, y): return (x + y).tanh() * 2
        def example_inputs(): return {"x": torch.ones(4), "y": torch.ones(4)}
    """)
    single = write(tmp_path / "single.py", """
        import fusetorch as torch
        def f(x): return (x + 1).tanh() * 2
        def example_inputs(): return torch.ones(4)
    """)
    for path in by_name, single:
        assert cli.main(["explain", f"{path}:f"]) == 0
        assert "add + tanh + mul" in capsys.readouterr().out


def test_a_module_can_be_compiled(tmp_path, capsys):
    path = write(tmp_path / "module.py", """
        import fusetorch as torch
        net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
        def example_inputs(): return torch.randn(2, 8)
    """)
    assert cli.main(["explain", f"{path}:net"]) == 0
    assert "relu" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["compare", "explain"])
@pytest.mark.parametrize("target, message", [
    ("missing.py:f", "file missing.py not found"),
    ("program.py", "write path/to/file.py:function"),
    (":f", "write path/to/file.py:function"),
    ("program.py:", "write path/to/file.py:function"),
    ("program.py:nothing", "has no 'nothing'; it defines: Net, net, activation, compiled, by_value\n"),
    ("program.py:net.nothing", "has no 'net.nothing'"),
    ("program.py:number", "is no function but int"),
    ("without.py:f", "offers no example_inputs()"),
    ("text.txt:f", "no Python file"),
])
def test_wrong_targets_are_named_and_exit_with_2(program, monkeypatch, capsys, command, target, message):
    write(program.parent / "without.py", "def f(x): return x\n")
    write(program.parent / "text.txt", "def f(x): return x\n")
    monkeypatch.chdir(program.parent)
    assert cli.main([command, target]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


@pytest.mark.filterwarnings("ignore:fusetorch.compile")
def test_a_function_that_cannot_be_compiled_says_why(program, capsys):
    assert cli.main(["explain", f"{program}:by_value"]) == 2
    assert "by_value is not compiled" in capsys.readouterr().err


def test_errors_of_the_users_code_pass_through(tmp_path):
    path = write(tmp_path / "wrong.py", """
        import fusetorch as torch
        def f(x, y): return x @ y
        def example_inputs(): return torch.ones(2, 3), torch.ones(2, 3)
    """)
    with pytest.raises(RuntimeError, match="mat1 and mat2|shape"):
        cli.main(["explain", f"{path}:f"])


def test_info(capsys, tmp_path):
    (tmp_path / "cpu" / "ab").mkdir(parents=True)
    (tmp_path / "cpu" / "ab" / "kernel").write_bytes(bytes(1 << 20))
    with config.override(cache_dir=str(tmp_path), num_threads=1):
        assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert f"fusetorch {fusetorch.__version__}" in out
    for word in ("numpy", "triton", "llvmlite", "cupy", "1 files, 1.0 MiB", "0 files, 0.0 MiB", "num_threads = 1", "1 threads"):
        assert word in out
    assert "missing" in out


def test_info_on_systems_that_do_not_say_which_cores_a_process_may_use(capsys, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cli.main(["info"]) == 0 and "threads for native loops" in capsys.readouterr().out


def test_info_names_the_simulated_device(capsys):
    with config.override(simulate_cuda=True):
        assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "cuda:0" in out and "simulated" in out and "compute capability 9.0" in out


def test_version_and_help_from_a_shell():
    run = subprocess.run([sys.executable, "-m", "fusetorch", "--version"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stdout == f"fusetorch {fusetorch.__version__}\n"
    run = subprocess.run([sys.executable, "-m", "fusetorch"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and "compare" in run.stderr
