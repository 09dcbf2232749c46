"""Fused against unfused, and against PyTorch where it is installed, in one process.

    python -m bench [--sizes 10000,1000000] [--large] [--threads 1,2] [--seconds 0.3] [--only gelu,digits] [--json]

Six workloads and a training step on digits, each run compiled and eagerly by fusetorch, and eagerly and by torch.compile by PyTorch,
with equal threads, in turns that begin with calls that do not count; every run makes fresh outputs, and on a GPU the time runs until
the GPU is done. Times are medians in microseconds; a ratio below 1 means that fusetorch's compiled function is faster. Then compile
times of the digits step, and the time of an eager ``a + b`` on 4 elements, and the training steps of ``examples/``.
"""
from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fusetorch
from bench import examples
from bench.compile_time import ROOT, all_compile_times
from bench.workloads import WORKLOADS, arrays, digits_batch, digits_step
from fusetorch.cli import cpu_name
from fusetorch.runtime import cpu_pool
from fusetorch.runtime.device import device_name, synchronize
from fusetorch.runtime.timing import compare_interleaved

SIDES = ("fused", "unfused", "torch eager", "torch compiled")
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}
Call = Callable[[], Any]
#: Seconds of a side's turn, and of the calls before it that do not count: OpenMP's threads spin for about 15 ms after PyTorch's last loop.
TURN = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,1000000", help="numbers of elements")
    parser.add_argument("--large", action="store_true", help="16 million elements too")
    parser.add_argument("--threads", default=",".join(map(str, sorted({1, len(os.sched_getaffinity(0))}))), help="numbers of threads")
    parser.add_argument("--seconds", type=float, default=0.3, help="how long each function is measured")
    parser.add_argument("--only", default=",".join([*WORKLOADS, "digits", "compile", "overhead", "examples"]), help="what to measure")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-peer", action="store_true", help="leave PyTorch out")
    parser.add_argument("--json", action="store_true", help="also write bench/results/<date>-<commit>.json")
    args = parser.parse_args()
    warnings.filterwarnings("error", message="fusetorch.compile")  # a function that runs eagerly after all is no result
    peer = None if args.no_peer or importlib.util.find_spec("torch") is None else importlib.import_module("torch")
    only = args.only.split(",")
    sizes = [int(s) for s in args.sizes.split(",")] + [16_000_000] * args.large
    results: dict[str, Any] = {"machine": machine(args.device, peer), "times": [], "unit": "seconds"}
    print(", ".join(f"{k} {v}" for k, v in results["machine"].items()))
    print(f"\n{'workload':12}{'elements':>10}{'threads':>8}" + "".join(f"{s + ' us':>18}" for s in SIDES)
          + f"{'/unfused':>10}{'/eager':>8}{'/compiled':>10}")
    for threads in map(int, args.threads.split(",")):
        set_threads(threads, peer)
        for elements in sizes:
            for name in [w for w in WORKLOADS if w in only]:
                add(results, name, elements, threads, time_sides(workload(name, elements, args.device, peer), args))
        if "digits" in only:
            add(results, "digits", 64 * 64, threads, time_sides(digits(args.device, peer), args))
    means(results["times"])
    if "compile" in only:
        results["compile"] = compile_times(peer)
    if "overhead" in only:
        set_threads(1, peer)
        results["overhead"] = overhead(peer)
    if "examples" in only or set(only) & set(examples.NAMES):
        set_threads(max(map(int, args.threads.split(","))), peer)
        results["examples"] = example_steps([n for n in examples.NAMES if "examples" in only or n in only], peer, args)
    if args.json:
        print(f"\nwritten to {save(results)}")
    return 0


# ---- what is run


def workload(name: str, elements: int, device: str, peer: Any) -> dict[str, Call]:
    """The sides of a workload as calls without arguments, checked against each other."""
    function, kinds = WORKLOADS[name]
    inputs = arrays(kinds, elements)
    calls: dict[str, Call] = {}
    for torch, eager, compiled in ((fusetorch, "unfused", "fused"), (peer, "torch eager", "torch compiled")):
        if torch is not None:
            given = [torch.from_numpy(a).to(device) for a in inputs]
            plain = bind(function, torch)
            forget(torch)
            calls[compiled] = with_arguments(torch.compile(plain, dynamic=False), given, torch, device)
            calls[eager] = with_arguments(plain, given, torch, device)
    want = [np.asarray(t.cpu()) for t in as_list(calls["unfused"]())]
    for side, call in calls.items():
        for w, got in zip(want, as_list(call())):
            np.testing.assert_allclose(np.asarray(got.cpu()), w, **TOLERANCE, err_msg=f"{name}, {side}")
    return calls


def digits(device: str, peer: Any) -> dict[str, Call]:
    """The sides of the digits step; each trains a network of its own."""
    batch = digits_batch()
    calls: dict[str, Call] = {}
    for torch, eager, compiled in ((fusetorch, "unfused", "fused"), (peer, "torch eager", "torch compiled")):
        if torch is not None:
            given = [torch.from_numpy(a).to(device) for a in batch]
            forget(torch)
            calls[compiled] = with_arguments(torch.compile(digits_step(torch)), given, torch, device)
            calls[eager] = with_arguments(digits_step(torch), given, torch, device)
    return calls


def forget(torch: Any) -> None:
    """Drops PyTorch's compilations: it counts them per line of code, all of these functions share one, and past its limit it would
    run what is called compiled eagerly."""
    if torch is not fusetorch:
        torch._dynamo.reset()


def bind(function: Callable[..., Any], torch: Any) -> Callable[..., Any]:
    """``function`` with its module filled in, as a plain function of tensors."""
    def f(*tensors: Any) -> Any:
        return function(torch, *tensors)
    return f


def with_arguments(f: Callable[..., Any], given: Sequence[Any], torch: Any, device: str) -> Call:
    """A call without arguments that ends when the device is done."""
    if device == "cpu":
        return lambda: f(*given)
    wait = synchronize if torch is fusetorch else torch.cuda.synchronize

    def call() -> Any:
        result = f(*given)
        wait()
        return result
    return call


def as_list(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def set_threads(n: int, peer: Any) -> None:
    """The same number of threads on both sides."""
    cpu_pool.set_num_threads(n)
    if peer is not None:
        peer.set_num_threads(n)


# ---- measuring and showing


def time_sides(calls: dict[str, Call], args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each side."""
    found = compare_interleaved(calls, seconds=args.seconds, warmup=5, turn=TURN)
    return {side: t["median"] for side, t in found.items()}


def add(results: dict[str, Any], name: str, elements: int, threads: int, times: dict[str, float]) -> None:
    """Keeps and prints one row."""
    results["times"].append({"workload": name, "elements": elements, "threads": threads, **times})
    cells = "".join(f"{times[s] * 1e6:18.1f}" if s in times else f"{'-':>18}" for s in SIDES)
    ratios = "".join(f"{times['fused'] / times[s]:{w}.2f}" if s in times else f"{'-':>{w}}"
                     for s, w in zip(SIDES[1:], (10, 8, 10)))
    print(f"{name:12}{elements:10}{threads:8}{cells}{ratios}", flush=True)


def means(times: list[dict[str, Any]]) -> None:
    """Prints the geometric mean of the ratios for each size and number of threads."""
    print()
    groups = sorted({(t["threads"], t["elements"]) for t in times if t["workload"] != "digits"})
    for threads, elements in groups:
        rows = [t for t in times if (t["threads"], t["elements"]) == (threads, elements)]
        parts = []
        for side in SIDES[1:]:
            ratios = [t["fused"] / t[side] for t in rows if side in t]
            if ratios:
                parts.append(f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f} of {side}")
        print(f"geometric mean, {threads} threads, {elements} elements: fused takes {', '.join(parts)}")


def compile_times(peer: Any) -> dict[str, dict[str, float]]:
    """Compile times of the digits step, in new processes."""
    found = {"fusetorch": all_compile_times("fusetorch", repeats=3)}
    if peer is not None:
        found["torch"] = all_compile_times("torch", repeats=1)  # takes a minute
    print("\ncompiling the digits step (s)   empty cache   filled disk cache   empty cache, warm process")
    for name, t in found.items():
        print(f"  {name:28}{t['cold']:13.3f}{t['warm_disk']:20.3f}{t['warm_process']:28.3f}")
    return found


def overhead(peer: Any) -> dict[str, float]:
    """Seconds of an eager ``a + b`` on 4 elements, without and with recording of gradients."""
    calls: dict[str, Call] = {}
    for name, torch in (("fusetorch", fusetorch), ("torch", peer)):
        if torch is not None:
            for grad in (False, True):
                a, b = torch.ones(4, requires_grad=grad), torch.ones(4)
                calls[f"{name}{', recorded' if grad else ''}"] = many(a, b)
    found = {k: t["median"] / REPEATS for k, t in compare_interleaved(calls, seconds=0.5).items()}
    print("\neager a + b on 4 elements: " + ", ".join(f"{k} {t * 1e9:.0f} ns" for k, t in found.items()))
    return found


def example_steps(names: Sequence[str], peer: Any, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of one training step of each example."""
    found = {}
    print(f"\n{'training step':20}" + "".join(f"{s + ' us':>18}" for s in SIDES[:3]) + f"{'unfused/eager':>15}{'fused/eager':>13}")
    for name in names:
        times = found[name] = time_sides(examples.sides(name, peer), args)
        eager = times.get("torch eager", math.nan)
        print(f"{name:20}" + "".join(f"{times.get(s, math.nan) * 1e6:18.1f}" for s in SIDES[:3])
              + f"{times['unfused'] / eager:15.2f}{times['fused'] / eager:13.2f}", flush=True)
    return found


REPEATS = 1000


def many(a: Any, b: Any) -> Call:
    """A loop of additions, whose own cost is small beside them."""
    def call() -> None:
        for _ in range(REPEATS):
            a + b
    return call


def machine(device: str, peer: Any) -> dict[str, str]:
    """Where, when and with what this is measured."""
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    found = {"date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"), "commit": git.stdout.strip() or "unknown",
             "cpu": cpu_name(), "cores": str(len(os.sched_getaffinity(0))), "system": f"{platform.system()} {platform.machine()}",
             "python": platform.python_version(), "numpy": np.__version__, "fusetorch": fusetorch.__version__}
    if device == "cuda":
        found["gpu"] = device_name()
    if peer is not None:
        found["torch"] = peer.__version__
    return found


def save(results: dict[str, Any]) -> Path:
    """Writes the results aside, then renames; one file for a day and commit."""
    m = results["machine"]
    path = ROOT / "bench" / "results" / f"{m['date'][:10]}-{m['commit']}.json"
    path.parent.mkdir(exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(aside, path)
    return path


if __name__ == "__main__":
    sys.exit(main())
