"""Imports run downwards only, and nothing imports torch."""
from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusetorch

ROOT = Path(fusetorch.__file__).parent

#: From the bottom up; docs/architecture.md says what each layer does. A name is a module or a package with all it holds.
LAYERS = [
    ("torch_version", "dtypes", "formats", "shapes", "errors", "config", "return_types"),
    ("runtime",),
    ("tensor",),
    ("ops", "triton_kernels", "codegen"),
    ("casting", "autograd", "cpu_backend", "cuda_backend", "meta_backend", "batched_backend", "dispatch", "writing", "overlap", "recorded",
     "short", "attach", "functional", "random", "printing", "linalg", "fft", "signal", "special", "masked"),
    ("compiler",),
    ("cuda", "cpu", "mps", "xpu", "accelerator", "hub", "onnx", "nn", "optim", "utils", "amp", "distributions", "func", "backends", "jit",
     "distributed", "multiprocessing", "profiler", "version", "testing", "types", "serialization", "unpickling", "storage", "legacy",
     "settings", "transforms", "overrides", "sparse", "fx", "library", "_custom_ops", "_C", "_dynamo", "_inductor", "ao", "quantization",
     "checks", "native_forms", "sparse_compressed", "nested", "_utils", "_higher_order_ops", "futures", "foreach", "__config__",
     "_subclasses", "_tensor_str"),
    ("demo", "cli", "run", "__main__"),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> list[str]:
    """``fusetorch/nn/loss.py`` to ``["nn", "loss"]``, ``fusetorch/compat/onnx/__init__.py`` to ``["onnx"]``; ``[]`` for the packages."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "compat":
        parts = parts[1:]
    return parts[:-1] if parts[-1] == "__init__" else parts


def type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def statements(body: list[ast.stmt], lazily: bool) -> Iterator[ast.stmt]:
    """The import statements of a body; with ``lazily`` those inside functions too."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif type_checking(node) or (not lazily and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            continue
        else:
            for child in ast.iter_child_nodes(node):
                yield from statements([child], lazily)


def imported(path: Path, lazily: bool) -> Iterator[tuple[int, list[str]]]:
    """(line, absolute module parts) of all that a file imports; ``from a import b`` counts as ``a.b``."""
    package = ["fusetorch", *module_of(path)]
    if path.name != "__init__.py":
        package.pop()
    for node in statements(ast.parse(path.read_text()).body, lazily):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")) for alias in node.names)
        else:
            base = package[:len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from ((node.lineno, [*base, alias.name]) for alias in node.names)


def test_every_module_has_a_layer():
    assert {module_of(p)[0] for p in FILES if module_of(p)} <= set(RANK)


@pytest.mark.parametrize("path", [p for p in FILES if module_of(p)], ids=lambda p: ".".join(module_of(p)))
def test_imports_run_downwards(path):
    here = module_of(path)[0]
    upwards = []
    for line, target in imported(path, lazily=False):
        if target[0] != "fusetorch" or len(target) == 1:
            continue
        there = target[1]
        # the rest of the public names, as users write them, is for those above them: nn, optim, utils, demo, cli
        rank = RANK.get(there, RANK["compiler"])
        if rank > RANK[here] or (there not in RANK and RANK[here] <= RANK["compiler"]):
            upwards.append(f"{path.name}:{line} imports {'.'.join(target)}")
    assert upwards == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: ".".join(module_of(p)) or "fusetorch")
def test_torch_is_imported_nowhere(path):
    assert [line for line, target in imported(path, lazily=True) if target[0] == "torch"] == []


def test_the_checks_see_relative_and_hidden_imports(tmp_path, monkeypatch):
    """The tests above would find what they look for."""
    package = tmp_path / "ops"
    package.mkdir()
    file = package / "wrong.py"
    file.write_text("from ..compiler import api\nfrom ..nn import Module\ntry:\n    from . import expr\nexcept ImportError:\n    pass\n"
                    "def f():\n    import torch.nn\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert [".".join(t) for _, t in imported(file, lazily=False)] == ["fusetorch.compiler.api", "fusetorch.nn.Module", "fusetorch.ops.expr"]
    assert [".".join(t) for _, t in imported(file, lazily=True)][-1] == "torch.nn"


def test_eager_work_does_not_load_the_compiler():
    program = ("import sys, fusetorch as torch\n"
               "x = torch.randn(4, 4).requires_grad_()\n"
               "torch.nn.functional.gelu(x @ x).sum().backward()\n"
               "print([m for m in sys.modules if m.startswith('fusetorch.compiler')])")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == "[]"
