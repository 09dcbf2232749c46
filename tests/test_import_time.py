"""``import fusetorch`` loads nothing heavy and is quick."""
from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

HEAVY = ("triton", "cupy", "llvmlite", "networkx", "scipy", "sklearn", "torch", "pandas", "rich", "asyncio", "unittest")


def python(program: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # an installed package has its bytecode
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True, env=env)
    return run.stdout.strip()


def test_import_loads_nothing_heavy():
    loaded = python("import sys, fusetorch; print(' '.join({m.partition('.')[0] for m in sys.modules}))").split()
    assert "numpy" in loaded and "fusetorch" in loaded
    assert sorted(set(loaded) & set(HEAVY)) == []


def test_import_leaves_the_compiler_nn_and_optim_for_later():
    loaded = python("import sys, fusetorch; print(' '.join(m for m in sys.modules if m.startswith('fusetorch.')))").split()
    assert [m for m in loaded if m.split(".")[1] in ("compiler", "nn", "optim", "utils", "demo", "cli", "triton_kernels")] == []


def test_import_time_beside_numpy():
    """Prints the ratio, meant to be below 2; asserts a looser bound, for a busy machine must not fail the suite."""
    python("import fusetorch")
    timed = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    times: dict[str, list[float]] = {"numpy": [], "fusetorch": []}
    for name in ("numpy", "fusetorch") * 8:
        times[name].append(float(python(timed.format(name))))
    numpy, ours = median(times["numpy"]), median(times["fusetorch"])
    ratio = ours / numpy
    print(f"\nimport numpy {numpy * 1e3:.0f} ms, import fusetorch {ours * 1e3:.0f} ms, ratio {ratio:.2f}")
    assert ratio < 3
