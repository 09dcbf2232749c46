"""Python time from a call to the CUDA driver, in microseconds: what eager operations and generated kernels cost the host.

Runs anywhere: launches and allocations go to a stub of the driver that does nothing. ``python bench/launch_overhead.py``
"""
from __future__ import annotations

import argparse
from collections.abc import Callable

import fusetorch as torch
from fusetorch.codegen.loop import Operand, schedule
from fusetorch.codegen.triton import triton_loop
from fusetorch.dtypes import float32
from fusetorch.ops import primitives as P
from fusetorch.ops.expr import load
from fusetorch.runtime import timing
from fusetorch.runtime.stub import stub_gpu


def cases() -> dict[str, Callable[[], object]]:
    """Name -> call, over small CUDA tensors."""
    a, b = torch.empty(64, 64, device="cuda"), torch.empty(64, 64, device="cuda")
    w = torch.empty(64, 64, device="cuda", requires_grad=True)
    row = torch.empty(64, device="cuda")
    gelu, softmax = torch.nn.functional.gelu, torch.softmax
    call = schedule((64, 64), (), [Operand(float32, (64, 1))] * 2, [Operand(float32, (64, 1))],
                    [P.exp(load(0, float32)) * load(1, float32)], [True])
    bound = triton_loop(call.kernel).bind(call.sizes, call.strides)
    arrays = [a._a, b._a, torch.empty_like(a)._a]
    pointers = [x.ptr for x in arrays]
    return {"a + b": lambda: a + b, "a + 1.0": lambda: a + 1.0, "a < b": lambda: a < b, "a + row (broadcast)": lambda: a + row,
            "w * a (recorded)": lambda: w * a, "a.exp()": lambda: a.exp(), "gelu(a)": lambda: gelu(a),
            "a.sum(1)": lambda: a.sum(1), "softmax(a, -1)": lambda: softmax(a, -1), "a @ b": lambda: a @ b,
            "a.add_(b)": lambda: a.add_(b), "generated, arrays": lambda: bound(arrays), "generated, addresses": lambda: bound(pointers)}


def measure(seconds: float = 0.2) -> dict[str, float]:
    """Microseconds per call of each case."""
    with stub_gpu(record=False):
        got = timing.compare_interleaved(cases(), seconds=seconds)
    return {name: 1e6 * x["median"] for name, x in got.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.2, help="time to measure each case")
    for name, us in measure(parser.parse_args().seconds).items():
        print(f"{name:24s} {us:6.2f} us")
