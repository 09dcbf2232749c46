"""Native loops against torch.compile on six workloads, at several sizes and thread counts.

    python bench/native_workloads.py [--sizes 10000,1000000,16000000] [--threads 1,2] [--seconds 0.3]

Both sides make fresh outputs at each call; the two are timed in turns in one process, and the smallest time of each counts.
Without PyTorch only our times are printed. The ratio is ours over PyTorch's: below 1 is faster.
"""
from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from fusetorch.codegen.loop import Operand, schedule
from fusetorch.codegen.native import native_loop
from fusetorch.dtypes import float32
from fusetorch.ops import primitives as P
from fusetorch.ops.expr import Expr, cast, count, load, reduce
from fusetorch.runtime import cpu_memory, cpu_pool

B1, B2, LR, EPS = 0.9, 0.999, 1e-3, 1e-8
C1, C2 = 1 / (1 - B1**10), 1 / (1 - B2**10)


def gelu() -> list[Expr]:
    x = load(0, float32)
    return [x * 0.5 * (P.tanh((x + x * x * x * 0.044715) * 0.79788456) + 1.0)]


def chain() -> list[Expr]:
    x, y, a, b = (load(i, float32) for i in range(4))
    return [P.sigmoid(x * a + b) * P.maximum(y, 0.0) - P.exp(-abs(x)) + y * 0.5]


def softmax() -> list[Expr]:
    x = load(0, float32)
    e = P.exp(x - reduce("max", x))
    return [e / reduce("sum", e)]


def layer_norm() -> list[Expr]:
    x, w, b = (load(i, float32) for i in range(3))
    n = cast(count(), float32)
    d = x - reduce("sum", x) / n
    return [d * P.rsqrt(reduce("sum", d * d) / n + 1e-5) * w + b]


def distance() -> list[Expr]:
    d = load(0, float32) - load(1, float32)
    return [reduce("sum", d * d)]


def adam() -> list[Expr]:
    p, g, m, v = (load(i, float32) for i in range(4))
    m1, v1 = m * B1 + g * (1 - B1), v * B2 + g * g * (1 - B2)
    return [p - LR * (m1 * C1) / (P.sqrt(v1 * C2) + EPS), m1, v1]


#: name: (values, inputs: "f" full or "r" one row, reduced dimensions)
WORKLOADS: dict[str, tuple[Callable[[], list[Expr]], str, tuple[int, ...]]] = {
    "gelu": (gelu, "f", ()), "chain": (chain, "ffrr", ()), "softmax": (softmax, "f", (1,)),
    "layer_norm": (layer_norm, "frr", (1,)), "distance": (distance, "ff", (0, 1)), "adam": (adam, "ffff", ()),
}


def arrays(kinds: str, shape: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.abs(rng.standard_normal(shape if k == "f" else shape[1:], np.float32)) for k in kinds]


def ours(name: str, inputs: list[np.ndarray], shape: tuple[int, int], threads: int) -> Callable[[], list[np.ndarray]]:
    make, kinds, reduced = WORKLOADS[name]
    full = name != "distance"
    out_shape = shape if full else ()
    strides = {"f": (shape[1], 1), "r": (0, 1)}
    values = make()
    call = schedule(shape, reduced, [Operand(float32, strides[k]) for k in kinds],
                    [Operand(float32, strides["f"] if full else (0, 0))] * len(values), values, [full] * len(values))
    bound = native_loop(call.kernel).bind(call.sizes, call.strides, threads)
    address, empty = cpu_memory.address, cpu_memory.empty

    def run() -> list[np.ndarray]:
        outs = [empty(out_shape, np.float32) for _ in values]
        bound([address(a) for a in inputs] + [address(a) for a in outs])
        return outs

    return run


def peer(name: str, inputs: list[np.ndarray], shape: tuple[int, int]) -> Callable[[], object]:
    import torch
    F = torch.nn.functional
    functions = {
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
        "chain": lambda x, y, a, b: torch.sigmoid(x * a + b) * torch.relu(y) - torch.exp(-torch.abs(x)) + 0.5 * y,
        "softmax": lambda x: torch.softmax(x, -1),
        "layer_norm": lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b),
        "distance": lambda x, y: ((x - y) ** 2).sum(),
    }

    def torch_adam(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        m1, v1 = m * B1 + g * (1 - B1), v * B2 + g * g * (1 - B2)
        return p - LR * (m1 * C1) / (torch.sqrt(v1 * C2) + EPS), m1, v1

    compiled = torch.compile(functions.get(name, torch_adam), dynamic=False)
    tensors = [torch.from_numpy(a) for a in inputs]
    return lambda: compiled(*tensors)


def best(functions: list[Callable[[], object]], seconds: float) -> list[float]:
    """Smallest time per call of each function, measured in turns."""
    repeats, smallest = [], [math.inf] * len(functions)
    for f in functions:
        for _ in range(3):
            f()
        t = time.perf_counter()
        f()
        repeats.append(max(1, int(2e-4 / max(1e-7, time.perf_counter() - t))))
    end = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < end or smallest[0] == math.inf:
        for i, f in enumerate(functions):
            t = time.perf_counter()
            for _ in range(repeats[i]):
                f()
            smallest[i] = min(smallest[i], (time.perf_counter() - t) / repeats[i])
    return smallest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,1000000,16000000")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--only", default=",".join(WORKLOADS))
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        torch = None
    ratios: dict[tuple[int, int], list[float]] = {}
    print(f"{'workload':12}{'elements':>10}{'threads':>8}{'ours us':>11}{'torch us':>11}{'ratio':>7}")
    for threads in map(int, args.threads.split(",")):
        cpu_pool.set_num_threads(threads)
        if torch:
            torch.set_num_threads(threads)
        for n in map(int, args.sizes.split(",")):
            side = math.isqrt(n)
            shape = (side, n // side)
            for name in args.only.split(","):
                inputs = arrays(WORKLOADS[name][1], shape)
                mine = ours(name, inputs, shape, threads)
                if torch is None:
                    t = best([mine], args.seconds)
                    print(f"{name:12}{n:10}{threads:8}{t[0] * 1e6:11.1f}", flush=True)
                    continue
                theirs = peer(name, inputs, shape)
                want, got = theirs(), mine()
                want = want if isinstance(want, tuple) else (want,)
                for w, g in zip(want, got):
                    np.testing.assert_allclose(g, w.numpy(), rtol=2e-4, atol=2e-5)
                t = best([mine, theirs], args.seconds)
                ratios.setdefault((threads, n), []).append(t[0] / t[1])
                print(f"{name:12}{n:10}{threads:8}{t[0] * 1e6:11.1f}{t[1] * 1e6:11.1f}{t[0] / t[1]:7.2f}", flush=True)
    for (threads, n), r in ratios.items():
        print(f"geometric mean, {threads} threads, {n} elements: {math.exp(sum(map(math.log, r)) / len(r)):.2f}")


if __name__ == "__main__":
    main()
