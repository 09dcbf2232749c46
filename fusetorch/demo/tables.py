"""What the demonstration shows, as rows of text: shared by the terminal and the report."""
from __future__ import annotations

import platform
import time
from collections.abc import Callable

import numpy as np

import fusetorch
from fusetorch.demo.measure import Outcome, Run
from fusetorch.runtime.cpu_pool import get_num_threads
from fusetorch.runtime.device import device_name


def size(n: float) -> str:
    """Bytes in words."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def rows(o: Outcome) -> list[tuple[str, str, str]]:
    """(what, eager, compiled) for every measured figure."""
    def both(label: str, text: Callable[[Run], str]) -> tuple[str, str, str]:
        return label, text(o.eager), text(o.compiled)

    return [
        both("training steps per second", lambda r: f"{o.steps_per_second(r):,.0f}"),
        both("kernels per step", lambda r: str(r.kernels)),
        both("bytes read per step", lambda r: size(r.bytes_read)),
        both("bytes written per step", lambda r: size(r.bytes_written)),
        both("peak memory of a step", lambda r: size(r.peak_bytes)),
        ("compile time", "none", f"{o.compiled.compile_seconds:.2f} s"),
        both("final training loss", lambda r: f"{r.losses[-1]:.6f}"),
        both("test accuracy", lambda r: f"{r.accuracy:.1%}"),
    ]


def closing(o: Outcome) -> list[tuple[str, str]]:
    """(what, value) for the figures that compare the two."""
    return [
        ("speedup", f"{o.speedup:.2f}x (median of {len(o.eager.epoch_seconds)} interleaved repeats of {o.steps_per_epoch} steps)"),
        ("largest difference of a parameter", f"{o.difference:.2g} ({o.relative_difference:.2g} of its tensor's largest value) after "
                                              f"{o.epochs * o.steps_per_epoch} steps"),
    ]


def machine(o: Outcome) -> str:
    """Where and when this was measured."""
    where = device_name() if o.device == "cuda" else f"CPU, {get_num_threads()} threads"
    return (f"{where}; {platform.system()} {platform.machine()}; Python {platform.python_version()}, NumPy {np.__version__}, "
            f"fusetorch {fusetorch.__version__}; {time.strftime('%Y-%m-%d %H:%M')}")


def costs(o: Outcome) -> list[tuple[str, float, float]]:
    """(what, eager, compiled) as numbers, smaller is better, for the chart."""
    def both(label: str, number: Callable[[Run], float]) -> tuple[str, float, float]:
        return label, number(o.eager), number(o.compiled)

    return [both("time per step (µs)", lambda r: 1e6 / o.steps_per_second(r)), both("kernels per step", lambda r: r.kernels),
            both("bytes read (KiB)", lambda r: r.bytes_read / 1024), both("bytes written (KiB)", lambda r: r.bytes_written / 1024),
            both("peak memory (KiB)", lambda r: r.peak_bytes / 1024)]
