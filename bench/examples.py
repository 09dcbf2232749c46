"""The training steps of ``examples/``, loaded once with fusetorch as ``torch`` and once with PyTorch."""
from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fusetorch
from fusetorch.run import AliasFinder

FOLDER = Path(__file__).resolve().parent.parent / "examples"

#: Those that promise a result and offer ``make()``.
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if "def make(" in p.read_text())


@contextlib.contextmanager
def torch_is_fusetorch() -> Iterator[None]:
    """``import torch`` gives fusetorch for a while; PyTorch's modules are put back afterwards."""
    theirs = {name: m for name, m in sys.modules.items() if name.partition(".")[0] == "torch"}
    finder = AliasFinder()
    for name in theirs:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    sys.modules["torch"] = fusetorch
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] == "torch"]:
            del sys.modules[name]
        sys.modules.update(theirs)


def load(name: str) -> ModuleType:
    """A fresh copy of an example, with whatever ``import torch`` gives now."""
    sys.modules.pop("common", None)
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("common", None)
    return module


def sides(name: str, peer: ModuleType | None) -> dict[str, Callable[[], Any]]:
    """A training step on one batch as calls without arguments: compiled and eager by fusetorch, eager by PyTorch. Each trains a model
    of its own."""
    calls: dict[str, Callable[[], Any]] = {}
    with torch_is_fusetorch():
        for side in ("fused", "unfused"):
            fusetorch.manual_seed(0)
            _, step, draw, *_ = load(name).make()
            calls[side] = _call(fusetorch.compile(step) if side == "fused" else step, draw())
    if peer is not None:
        peer.manual_seed(0)
        _, step, draw, *_ = load(name).make()
        calls["torch eager"] = _call(step, draw())
    return calls


def _call(step: Callable[..., Any], batch: tuple) -> Callable[[], Any]:
    return lambda: step(*batch)
