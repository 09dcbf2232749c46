"""Taking times: medians of many samples, on the CPU by the clock and on the GPU by events.

Times are in seconds. A sample of a fast function is a run of several calls, long enough for the clock. Things to be
compared are run in turn (:func:`compare_interleaved`), so that a machine that slows down slows all of them.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fusetorch import config
from fusetorch.runtime.device import require_cuda

__all__ = ["Timer", "bench", "compare_interleaved"]

MIN_SAMPLE = 1e-4  # seconds of one sample; the clock reads to well below a hundredth of it


class Timer:
    """Takes the time of a ``with`` block, in ``seconds``; with ``device="cuda"`` by events on the current stream.

    Example:
        >>> with Timer() as t:
        ...     sum(range(1000))
        499500
        >>> t.seconds > 0
        True
    """

    def __init__(self, device: str = "cpu") -> None:
        self.on_gpu = _on_gpu(device)
        self.seconds = float("nan")

    def __enter__(self) -> Timer:
        if self.on_gpu:
            from fusetorch.runtime.streams import Event
            self._start, self._end = Event(enable_timing=True), Event(enable_timing=True)
            self._start.record()
        else:
            self._from = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.on_gpu:
            self._end.record()
            self._end.synchronize()
            self.seconds = self._start.elapsed_time(self._end) * 1e-3
        else:
            self.seconds = time.perf_counter() - self._from


def _on_gpu(device: str) -> bool:
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if device == "cuda":
        require_cuda()
    return device == "cuda" and not config.simulate_cuda


def _sample(fn: Callable[[], Any], calls: int, device: str) -> float:
    with Timer(device) as timer:
        for _ in range(calls):
            fn()
    return timer.seconds / calls


def _samples(fn: Callable[[], Any], calls: int, device: str, seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    found = [_sample(fn, calls, device)]
    while time.perf_counter() < end:
        found.append(_sample(fn, calls, device))
    return found


def _calls_per_sample(fn: Callable[[], Any], device: str) -> int:
    calls = 1
    while (taken := _sample(fn, calls, device) * calls) < MIN_SAMPLE:
        calls = max(calls * 2, min(calls * 100, int(calls * MIN_SAMPLE / max(taken, 1e-9))))
    return calls


def _summary(samples: list[float]) -> dict[str, float]:
    low, median, high = np.percentile(samples, (25, 50, 75))
    return {"median": float(median), "iqr": float(high - low), "n": len(samples)}


def bench(fn: Callable[[], Any], *, device: str = "cpu", seconds: float = 0.3, warmup: int = 3,
          max_samples: int = 10_000) -> dict[str, float]:
    """Times ``fn()``: ``{"median", "iqr", "n"}``, seconds a call and number of samples.

    ``seconds`` is about how long to measure (at least 5 samples); ``warmup`` calls before do not count. With
    ``device="cuda"`` GPU time is taken, by events; host work that the GPU waits for is part of it.

    Example:
        >>> sorted(bench(lambda: None, seconds=0.01))
        ['iqr', 'median', 'n']
    """
    return compare_interleaved({"fn": fn}, device=device, seconds=seconds, warmup=warmup, max_samples=max_samples)["fn"]


def compare_interleaved(functions: Mapping[str, Callable[[], Any]], *, device: str = "cpu", seconds: float = 0.3,
                        warmup: int = 3, max_samples: int = 10_000, turn: float = 0.0) -> dict[str, dict[str, float]]:
    """:func:`bench` of several functions, one sample of each in turn; ``seconds`` counts for each of them.

    With ``turn``, each turn has calls that do not count, then samples, for so many seconds each: what comes before a turn, such as threads
    of another library that spin on a core for milliseconds after their work, then weighs on nobody's times.

    Example:
        >>> got = compare_interleaved({"a": lambda: None, "b": lambda: sum(range(100))}, seconds=0.01)
        >>> got["a"]["median"] < got["b"]["median"]
        True
    """
    if not functions:
        return {}
    calls = {}
    for name, fn in functions.items():
        for _ in range(warmup):
            fn()
        calls[name] = _calls_per_sample(fn, device)
    samples: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds * len(functions)
    rounds = 0
    while rounds < 5 or (time.perf_counter() < end and rounds < max_samples):
        for name, fn in functions.items():
            if turn:
                _samples(fn, calls[name], device, turn)
            samples[name] += _samples(fn, calls[name], device, turn)
        rounds += 1
    return {name: _summary(got) for name, got in samples.items()}
