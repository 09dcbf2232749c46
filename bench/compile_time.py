"""Compile times of the digits step, each taken in a new process: ``python -m bench.compile_time fusetorch|torch [--warm]``.

Prints one line of JSON. ``compile_s`` is what the first calls take beyond later ones: tracing, compiling, and whatever else is done
once. ``--warm`` first compiles something else, so that libraries are loaded and code generators started.
"""
from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.workloads import digits_batch, digits_step

ROOT = Path(__file__).resolve().parent.parent
FIRST, LATER = 5, 20  # calls that may compile, and calls after them


def warm_up(torch: Any) -> None:
    """Compiles a small function and its gradient, different from what is measured."""
    x = torch.ones(64, 64).requires_grad_()
    torch.compile(lambda t: (t @ t).sin().sum(-1).exp())(x).sum().backward()


def measure(name: str, warm: bool) -> dict[str, float]:
    """Compiles the digits step in this process."""
    images, labels = digits_batch()
    start = time.perf_counter()
    torch = importlib.import_module(name)
    step = digits_step(torch)
    inputs = torch.from_numpy(images), torch.from_numpy(labels)
    import_s = time.perf_counter() - start
    if warm:
        warm_up(torch)
    compiled = torch.compile(step)
    times = []
    for _ in range(FIRST + LATER):
        start = time.perf_counter()
        compiled(*inputs)
        times.append(time.perf_counter() - start)
    return {"import_s": import_s, "compile_s": sum(times[:FIRST]) - FIRST * median(times[FIRST:]), "step_s": median(times[FIRST:])}


def in_new_process(name: str, cache: str, warm: bool = False) -> dict[str, float]:
    """:func:`measure` in a process of its own, with all compile caches in the folder ``cache``."""
    environment = dict(os.environ, FUSETORCH_CACHE_DIR=f"{cache}/fusetorch", TORCHINDUCTOR_CACHE_DIR=f"{cache}/inductor",
                       PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    command = [sys.executable, "-m", "bench.compile_time", name] + ["--warm"] * warm
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def all_compile_times(name: str, repeats: int) -> dict[str, float]:
    """Medians of ``compile_s``: ``cold`` (new process, empty cache), ``warm_disk`` (new process, filled cache), ``warm_process`` (empty
    cache, after something else was compiled)."""
    found: dict[str, list[float]] = {"cold": [], "warm_disk": [], "warm_process": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            found["cold"].append(in_new_process(name, cache)["compile_s"])
            found["warm_disk"].append(in_new_process(name, cache)["compile_s"])
        with tempfile.TemporaryDirectory() as cache:
            found["warm_process"].append(in_new_process(name, cache, warm=True)["compile_s"])
    return {k: median(v) for k, v in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", choices=("fusetorch", "torch"))
    parser.add_argument("--warm", action="store_true")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.module, arguments.warm)))
