"""The benchmark program runs, and its workloads compute what they say."""
from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fusetorch as torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench import __main__ as bench  # noqa: E402
from bench.workloads import WORKLOADS, arrays  # noqa: E402


def test_workloads_against_numpy():
    x, y = arrays("ff", 100)
    row = arrays("r", 100)[0]
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    e = np.exp(x - x.max(-1, keepdims=True))
    want = {"softmax": e / e.sum(-1, keepdims=True), "layer_norm": (x - mean) / np.sqrt(var + 1e-5) * row + row,
            "distance": ((x - y) ** 2).sum(), "chain": 1 / (1 + np.exp(-(x * row + row))) * np.maximum(y, 0) - np.exp(-abs(x)) + 0.5 * y}
    given = {"softmax": (x,), "layer_norm": (x, row, row), "distance": (x, y), "chain": (x, y, row, row)}
    for name, expected in want.items():
        got = WORKLOADS[name][0](torch, *map(torch.from_numpy, given[name]))
        np.testing.assert_allclose(got.numpy(), expected, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", WORKLOADS)
def test_both_sides_of_a_workload_agree(name):
    calls = bench.workload(name, 5000, "cpu", None)  # raises where they differ
    assert set(calls) == {"fused", "unfused"}


@pytest.mark.parametrize("exponent", [2, 3, -1, 2.0])
def test_small_powers_are_products(exponent):
    x = torch.tensor([-2.0, -0.5, 3.0], requires_grad=True)
    f = torch.compile(lambda t: t**exponent)
    assert "pow" not in f.explain(x.detach()).groups[0].ops[0]
    y = x**exponent
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy()**exponent, rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), exponent * x.detach().numpy()**(exponent - 1.0), rtol=1e-6)
    assert (torch.arange(4)**2).tolist() == [0, 1, 4, 9]


def test_the_program_prints_a_table_and_writes_results(monkeypatch, tmp_path, capsys):
    (tmp_path / "bench").mkdir()
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "--sizes", "100", "--threads", "1", "--seconds", "0.001", "--no-peer", "--json",
                                      "--only", "gelu,digits,overhead"])
    before = torch.config.num_threads
    try:
        with warnings.catch_warnings():
            assert bench.main() == 0
    finally:
        torch.config.num_threads = before
    out = capsys.readouterr().out
    assert "gelu" in out and "digits" in out and "geometric mean, 1 threads, 100 elements" in out and "eager a + b" in out
    (path,) = (tmp_path / "bench" / "results").iterdir()
    found = json.loads(path.read_text())
    assert [t["workload"] for t in found["times"]] == ["gelu", "digits"] and found["machine"]["numpy"] == np.__version__
    assert all(t["fused"] > 0 and t["unfused"] > 0 for t in found["times"])


@pytest.mark.slow
def test_compile_times_in_new_processes(tmp_path):
    pytest.importorskip("sklearn")
    run = subprocess.run([sys.executable, "-m", "bench.compile_time", "fusetorch"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["compile_s"] > 0 and 0 < found["step_s"] < found["compile_s"]
