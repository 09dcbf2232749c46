"""The examples in docstrings give what they say."""
from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fusetorch as torch
from fusetorch import config
from fusetorch.ops.opdef import REGISTRY

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = [m.name for m in pkgutil.walk_packages(torch.__path__, "fusetorch.") if not m.name.endswith("__main__")]
OPS = [name for name, op in REGISTRY.items() if ">>>" in (op.doc or "")]


def run(tests: list[doctest.DocTest]) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    default = torch.get_default_dtype()
    torch.manual_seed(0)
    said: list[str] = []
    try:
        with config.override(simulate_cuda=True):
            for test in tests:
                runner.run(test, out=said.append)
    finally:
        torch.set_default_dtype(default)
    assert not runner.failures, "".join(said)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_modules(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as e:  # packages that only some parts need
        pytest.skip(str(e))
    run([t for t in doctest.DocTestFinder().find(module, name) if t.examples])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPS)
def test_examples_of_operations(name: str) -> None:
    run([doctest.DocTestParser().get_doctest(REGISTRY[name].doc, {}, name, None, 0)])
