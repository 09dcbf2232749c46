"""Makes ``docs/ops.md``, the page of everything public: ``python tests/ops_page.py``. What it says of an operation is what the definition
tests run."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from op_samples import ELSEWHERE
from test_definitions import CREATE, NO_GRADIENT, NOT_TRACED, ONCE_ONLY

import fusetorch as torch
from fusetorch.ops.opdef import REGISTRY, OpDef
from fusetorch.tensor import Tensor

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ops.md"

HEAD = """# What there is

Made by `python tests/ops_page.py` from the registry and from the tables of the definition tests; a test fails where it is stale.

Each operation below is run by `tests/test_definitions.py` against NumPy or SciPy in the ways its row names: on the CPU; on the GPU (in CI
the simulated device, which runs the same kernels); inside a compiled function, on both; its gradient and second gradient
against finite differences. A dash says that the operation has none by nature (a comparison has no gradient), or that it depends on
values and so makes a compiled function run eagerly. Those marked *own tests* change state or make no tensor, and are tested where
they belong.
"""

#: Modules of operations, by the prefix of their names on the page.
SPACES: list[tuple[str, Any]] = [
    ("torch", torch),
    ("Tensor", Tensor),
    ("nn.functional", torch.nn.functional),
    ("linalg", torch.linalg),
    ("fft", torch.fft),
    ("special", torch.special),
]

#: Modules of classes and functions that are written with operations.
LIBRARIES = ["nn", "nn.init", "nn.utils", "nn.utils.rnn", "nn.utils.parametrize", "nn.utils.parametrizations",
             "optim", "optim.lr_scheduler", "optim.swa_utils", "autograd", "autograd.functional", "amp",
             "distributions", "utils.data", "utils.checkpoint", "func", "cuda", "sparse", "nested", "fx", "distributed"]


def names() -> dict[str, list[str]]:
    """Each operation's public names."""
    found: dict[str, list[str]] = {}
    for label, space in SPACES:
        for name in sorted(dir(space)):
            op = getattr(getattr(space, name, None), "op", None)
            if isinstance(op, OpDef) and (not name.startswith("_") or name in ("__getitem__", "__setitem__")):
                found.setdefault(op.name, []).append(f"{label}.{name}")
    return found


def row(op: OpDef, public: list[str]) -> str:
    """One line of the table."""
    if op.name in ELSEWHERE:
        ways = ["own tests"] + [""] * 4
    else:
        traced = "-" if op.name in NOT_TRACED else "yes"
        first = "-" if not op.differentiable or op.name in NO_GRADIENT | CREATE else "yes"
        second = first if op.name not in ONCE_ONLY else "-"
        ways = ["yes", "yes", traced, first, second]
    return f"| {', '.join(f'`{n}`' for n in public)} | {op.kind} | {' | '.join(ways)} |"


def library(path: str) -> Iterator[str]:
    """The public names of a module of classes and functions."""
    try:
        module = importlib.import_module(f"fusetorch.{path}")
    except ModuleNotFoundError:
        return
    public = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    kept = sorted(n for n in public if n[0] != "_" and (inspect.isclass(getattr(module, n, None)) or callable(getattr(module, n, None)))
                  and not isinstance(getattr(module, n), ModuleType))
    if kept:
        yield f"\n## torch.{path}\n"
        yield ", ".join(f"`{n}`" for n in kept)


def page() -> str:
    """The text of the page."""
    public = names()
    lines = [HEAD, f"## Operations ({sum(map(len, public.values()))} names of {len(public)} operations)\n",
             "| names | kind | CPU | GPU | compiled | gradient | second gradient |", "|---|---|---|---|---|---|---|"]
    lines += [row(REGISTRY[name], public[name]) for name in sorted(public)]
    for path in LIBRARIES:
        lines += library(path)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    aside = PAGE.with_suffix(".new")
    aside.write_text(page())
    aside.replace(PAGE)
    print(f"written to {PAGE}")
