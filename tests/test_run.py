"""``fusetorch run``: PyTorch programs, unmodified, in a process of their own."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
    import sys
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    from torch import Tensor, optim
    from torch.optim.lr_scheduler import StepLR
    from torch.utils.data import DataLoader, TensorDataset
    from neighbour import SCALE


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 16)
            self.last = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(self.last(F.relu(self.first(x)) * SCALE), dim=1)


    if __name__ == "__main__":
        torch.manual_seed(0)
        net = Net()
        optimizer = optim.Adam(net.parameters(), lr=0.01)
        schedule = StepLR(optimizer, 1)
        x = torch.randn(256, 8)
        y = (x.sum(1) > 0).long()
        for epoch in range(5):
            for a, b in DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True):
                optimizer.zero_grad()
                loss = F.nll_loss(net(a), b)
                loss.backward()
                optimizer.step()
        accuracy = (net(x).argmax(1) == y).float().mean().item()
        print("arguments", sys.argv[1:])
        print("device", x.device)
        print("accuracy", round(accuracy, 6))
"""


def program(folder: Path, text: str = PROGRAM, name: str = "program.py") -> Path:
    (folder / "neighbour.py").write_text("SCALE = 1.0\n")
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def run(*arguments: object, code: int = 0, **env: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-m", "fusetorch", *map(str, arguments)], capture_output=True, text=True, timeout=250,
                          env={**os.environ, **env})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def result(out: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in out.splitlines())


def test_a_program_runs_unmodified(tmp_path):
    path = program(tmp_path)
    out, err = run("run", path, "--epochs", "3")
    found = result(out)
    assert float(found["accuracy"]) > 0.9 and err == ""
    assert found["arguments"] == "['--epochs', '3']" and found["device"] == "cpu"
    assert run(path, "--epochs", "3")[0] == out  # the short form


def test_compile_gives_the_same_numbers(tmp_path):
    path = program(tmp_path, PROGRAM.replace('print("arguments"', 'print("calls", net._compiled_call_impl is not None)\n        print("a"'))
    eager, compiled = result(run("run", path)[0]), result(run("run", "--compile", path)[0])
    assert compiled["accuracy"] == eager["accuracy"]
    assert (eager["calls"], compiled["calls"]) == ("False", "True")


def test_device_sets_the_default(tmp_path):
    path = program(tmp_path, "import torch\nprint('device', torch.ones(3).add(1).device)\n")
    assert result(run("run", "--device", "cuda", path, FUSETORCH_SIMULATE_CUDA="1")[0])["device"] == "cuda:0"


def test_report_tells_what_was_used_and_what_was_missing(tmp_path):
    path = program(tmp_path, """
        import torch
        x = torch.ones(3).relu().sum()
        try:
            torch.nn.functional.no_such_function
        except AttributeError:
            pass
        try:
            import torch.no_such_module
        except ImportError as error:
            print(error)
        print(hasattr(x, "no_such_method"))
    """)
    out, err = run("run", "--report", path)
    assert "torch.no_such_module" in out and "False" in out
    used, missing = err.split("names missing")
    for name in ("torch.ones", "Tensor.relu", "Tensor.sum"):
        assert name in used
    for name in ("torch.nn.functional.no_such_function", "torch.no_such_module", "Tensor.no_such_method"):
        assert name in missing and name not in used


@pytest.mark.parametrize(("line", "error", "hint"), [
    ("torch.no_such_norm", "AttributeError", "torch.no_such_norm"),
    ("from torch.nn import Linearr", "ImportError", "Linearr"),
    ("import torch.nn.no_such_part", "ModuleNotFoundError", "torch.nn.no_such_part"),
    ("torch.ones(2).argmaxx()", "AttributeError", "Tensor.argmax"),
])
def test_a_missing_name_is_named(tmp_path, line, error, hint):
    _, err = run("run", program(tmp_path, f"import torch\n{line}\n"), code=1)
    assert error in err and hint in err


def test_exit_codes_and_usage(tmp_path):
    run("run", program(tmp_path, "import sys\nsys.exit(3)\n"), code=3)
    assert "not found" in run("run", tmp_path / "nowhere.py", code=2)[1]
    assert "tpu" in run("run", "--device", "tpu", program(tmp_path), code=2)[1]


def test_spawned_processes_run_the_program_too(tmp_path):
    out, _ = run("run", program(tmp_path, """
        import torch
        import torch.nn as nn
        import torch.multiprocessing as mp


        def train(rank, layer, done):
            assert torch.nn.__name__ == "fusetorch.nn"
            optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
            layer(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            done.put(rank)


        if __name__ == "__main__":
            mp.set_start_method("spawn")
            layer = nn.Linear(2, 1)
            nn.init.zeros_(layer.weight)
            layer.share_memory()
            done = mp.Queue()
            processes = [mp.Process(target=train, args=(rank, layer, done)) for rank in range(2)]
            for p in processes:
                p.start()
                p.join()
            print("ranks", sorted(done.get() for _ in processes), "weight", layer.weight.tolist())
    """))
    assert "ranks [0, 1] weight [[-2.0, -2.0]]" in out


def test_programs_see_a_version_of_pytorch(tmp_path):
    out, _ = run("run", program(tmp_path, """
        import torch
        from torch.torch_version import TorchVersion
        v = torch.__version__
        print(v >= (1, 10), v > "2.9", v < "1.0", v == torch.version.__version__, TorchVersion("2.1.0") < "2.10", int(v.split(".")[0]))
    """))
    assert out.split("\n")[0] == "True True False True True 2"


def test_aliases_are_the_same_modules(tmp_path):
    out, _ = run("run", program(tmp_path, """
        import fusetorch, torch, sys
        import torch.nn.functional, torch.optim.lr_scheduler
        from torch.nn.functional import relu
        print("same", torch is fusetorch and torch.nn.functional is fusetorch.nn.functional and relu is torch.nn.functional.relu)
        print("name", torch.nn.functional.__spec__.name)
        print("main", sys.modules["__main__"].relu is relu)
    """))
    assert result(out) == {"same": "True", "name": "fusetorch.nn.functional", "main": "True"}


def test_classes_are_where_pytorch_has_them(tmp_path):
    out, _ = run("run", program(tmp_path, """
        import copy, io, pickle, torch
        from torch import nn
        x = torch.zeros(2)
        model = nn.Sequential(nn.Linear(2, 4), nn.LSTM(4, 4), nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2))
        for thing in (x, nn.Parameter(x), x.dtype, x.shape, x.device, model[2], torch.optim.SGD([x], lr=1.0),
                      torch.optim.lr_scheduler.StepLR(torch.optim.SGD([x], lr=1.0), 1), torch.utils.data.TensorDataset(x),
                      torch.distributions.Normal(0.0, 1.0), torch.no_grad()):
            print(type(thing))
        print(nn.Linear, repr(x), nn.Linear.__module__)
        torch.save(model, file := io.BytesIO())
        file.seek(0)
        assert type(torch.load(file, weights_only=False)[1]) is nn.LSTM is type(pickle.loads(pickle.dumps(copy.deepcopy(model)))[1])
        assert pickle.loads(pickle.dumps([x.dtype, x.device, x.shape])) == [x.dtype, x.device, x.shape]
        class Own(torch.Tensor): ...
        print(Own([1.0]), type(Own([1.0]) + 1).__name__)
    """))
    assert out.splitlines() == [f"<class 'torch.{name}'>" for name in (
        "Tensor", "nn.parameter.Parameter", "dtype", "Size", "device", "nn.modules.activation.MultiheadAttention", "optim.sgd.SGD",
        "optim.lr_scheduler.StepLR", "utils.data.dataset.TensorDataset", "distributions.normal.Normal",
        "autograd.grad_mode.no_grad")] + [
        "<class 'torch.nn.modules.linear.Linear'> tensor([0., 0.]) torch.nn.modules.linear", "Own([1.]) Own"]


def test_a_module_that_overrides_functions_is_seen(tmp_path):
    (tmp_path / "operators.py").write_text(textwrap.dedent("""
        import torch
        handled = {torch.matmul: "matmul"}

        class Operator:
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return handled[func]
    """))
    path = program(tmp_path, """
        import torch
        import operators
        import torch.nn.functional as F
        import colorsys  # whatever is imported next

        assert torch.__name__ == "torch"
        print("product", torch.matmul(torch.ones(2, 2), operators.Operator()))
    """)
    assert result(run(path)[0])["product"] == "matmul"


def test_functions_ask_nobody_where_no_class_overrides_them(tmp_path):
    path = program(tmp_path, """
        import torch
        import colorsys
        import calendar

        torch.ones(2).relu()
        print("asking", torch.overrides._enabled[0])
    """)
    assert result(run(path)[0])["asking"] == "False"


def test_libraries_find_torch_installed(tmp_path):
    path = program(tmp_path, """
        import importlib.metadata
        import importlib.util
        print("version", importlib.metadata.version("torch"))
        print("spec", importlib.util.find_spec("torch") is not None)
        print("other", importlib.metadata.version("numpy") is not None)
    """)
    found = result(run(path)[0])
    assert found["version"].startswith("2.") and found["spec"] == found["other"] == "True"


def test_annotations_of_layers_are_found(tmp_path):
    path = program(tmp_path, """
        import typing
        import torch

        class Net(torch.nn.Linear):
            scale: float = 1.0

        from torch.nn.modules.utils import _pair
        from torch.nn.utils import clip_grad_norm_
        assert _pair(2) == (2, 2) and torch.Future is torch.futures.Future
        print("hints", typing.get_type_hints(Net)["scale"] is float, typing.get_type_hints(torch.nn.Conv2d)["training"])
    """)
    assert result(run(path)[0])["hints"] == "True <class 'bool'>"
