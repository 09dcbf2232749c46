"""The examples reach what they promise, eagerly and compiled, and under PyTorch too where it is installed."""
from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"
EXAMPLES = sorted(p.stem for p in FOLDER.glob("*.py") if "conclude(" in p.read_text() and p.stem != "common")


def outcome(*command: str) -> str:
    done = subprocess.run([sys.executable, *command, "--small"], capture_output=True, text=True, timeout=280, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fusetorch.compile" not in done.stderr, done.stderr  # a step that is not compiled after all says so
    return done.stdout.splitlines()[-1]


def test_they_are_all_here():
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("mode", [[], ["--compile"]], ids=["eager", "compiled"])
def test_example(name, mode):
    assert "promised" in outcome("-m", "fusetorch", "run", f"examples/{name}.py", *mode)


@pytest.mark.peer
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_under_pytorch(name):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    assert "promised" in outcome(f"examples/{name}.py")
