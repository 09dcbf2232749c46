"""The documentation tells the truth: its code blocks run, its table of settings is current, its links lead somewhere."""
from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusetorch import config

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def python(program: str, folder: Path, path: Path = ROOT) -> str:
    """Runs a program in a new process with fusetorch from ``path``; returns what it prints."""
    run = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=240, check=False,
                         env={**os.environ, "PYTHONPATH": str(path)})
    assert run.returncode == 0, f"{program}\n{run.stderr}"
    assert "runs eagerly" not in run.stderr, run.stderr
    return run.stdout


def file_name(block: str) -> str | None:
    """``my_functions.py`` for a block that begins with that name as a comment."""
    found = re.match(r"# (\S+\.py)\n", block)
    return found and found[1]


def test_every_fence_is_of_a_language_that_is_run():
    for page in PAGES:
        languages = re.findall(r"^```(\w*)$", page.read_text(), re.M)[::2]
        allowed = {"python", "sh"} if page == README or page.name == "adding-an-op.md" else {"", "python", "sh"}
        assert set(languages) <= allowed, page.name


def test_the_readmes_python_runs_in_order(tmp_path):
    out = python("\n".join(b for b in blocks(README, "python") if not file_name(b)), tmp_path)
    assert "kernels" in out and "gelu" in out and "define" in out and "speedup" in out and "ok: largest difference" in out


def test_the_readmes_shell_commands_run(tmp_path):
    files = {file_name(b): b for b in blocks(README, "python") if file_name(b)}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    makefile = (ROOT / "Makefile").read_text()
    ran = 0
    for line in "".join(blocks(README, "sh")).splitlines():
        command = shlex.split(line)
        if command[0] == "make":
            assert re.search(rf"^{command[1]}:", makefile, re.M), line
        else:
            assert command[0] == "fusetorch", f"{line}: no test knows how to run this"
            run = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
                                 env={**os.environ, "PYTHONPATH": str(ROOT)})
            assert run.returncode == 0 and run.stdout, f"{line}\n{run.stderr}"
            ran += 1
    assert ran == 5


def test_the_readme_starts_with_two_commands():
    assert blocks(README, "sh")[0].split("\n") == ["make demo", "make test", ""]


def test_adding_an_op(tmp_path):
    """The page's new file, put into a copy of the package, works as the page's second block says."""
    definition, use = blocks(ROOT / "docs" / "adding-an-op.md", "python")
    shutil.copytree(ROOT / "fusetorch", tmp_path / "fusetorch", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fusetorch" / "ops" / "squareplus.py").write_text(definition)
    check = """
import numpy as np
v = x.detach().numpy().astype(np.float64)
np.testing.assert_allclose(y.detach().numpy(), (v + np.sqrt(v * v + 1)) / 2, rtol=1e-6)
np.testing.assert_allclose(x.grad.numpy(), (1 + v / np.sqrt(v * v + 1)) / 2, rtol=1e-6)
e = f.explain(torch.ones(8))
assert e.kernels == 1 and e.groups[0].ops == ["mul", "squareplus", "add"], e
"""
    out = python(use + check, tmp_path, tmp_path)
    assert "torch.float32" in out
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/test_definitions.py", "-k", "squareplus"], cwd=tmp_path, check=False,
                         capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert run.returncode == 0 and int(re.search(r"(\d+) passed", run.stdout)[1]) > 8, run.stdout


def test_the_first_program_learns():
    run = subprocess.run([sys.executable, str(ROOT / "examples" / "first_program.py")], capture_output=True, text=True, timeout=120,
                         check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    losses = [float(line.split()[-1]) for line in run.stdout.splitlines()]
    assert len(losses) == 10 and losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]


def settings_table() -> str:
    rows = ["| setting | environment variable | default | meaning |", "|---|---|---|---|"]
    for name, (default, meaning) in config.SETTINGS.items():
        shown = "~/.cache/fusetorch" if name == "cache_dir" else int(default) if isinstance(default, bool) else default
        shown = f"`{shown}`" if shown != "" else "empty"
        rows.append(f"| `{name}` | `FUSETORCH_{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_current():
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("<!-- settings")[2].partition("-->\n")[2].partition("\n<!-- /settings -->")[0]
    assert table == settings_table(), f"put this table into docs/architecture.md:\n{settings_table()}"
    assert len(config.SETTINGS) <= 20


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_files_that_the_architecture_page_names_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`((?:ops|codegen|runtime|compiler|triton_kernels)/[\w.]*)`", page):
        assert (ROOT / "fusetorch" / name).exists(), name
    assert (ROOT / "tests" / "test_layering.py").exists()
