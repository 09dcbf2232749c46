"""``torch.utils.benchmark``: times of small pieces of code."""
from __future__ import annotations

import statistics
import timeit as _timeit
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fusetorch as torch

__all__ = ["Measurement", "Timer", "timer"]


def timer() -> float:
    """The time in seconds, after the GPU has finished what it was given."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return _timeit.default_timer()


@dataclass
class Measurement:
    """Times of one piece of code: ``raw_times`` of ``number_per_run`` runs each, in seconds."""

    number_per_run: int
    raw_times: list[float]
    stmt: str = ""
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def times(self) -> list[float]:
        """Seconds per run."""
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def median(self) -> float:
        """The median of :attr:`times`."""
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        """The mean of :attr:`times`."""
        return statistics.fmean(self.times)

    @property
    def iqr(self) -> float:
        """The distance between the quartiles of :attr:`times`."""
        if len(self.raw_times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return high - low

    def __repr__(self) -> str:
        scale, unit = next((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")) if self.median >= s or u == "ns")
        title = self.label or self.stmt
        return (f"<fusetorch.utils.benchmark.Measurement>\n{title}\n  {self.median / scale:.2f} {unit}\n  {len(self.raw_times)} "
                f"measurement{'s' * (len(self.raw_times) > 1)}, {self.number_per_run} runs per measurement")


class Timer:
    """Times ``stmt``, run with the names in ``globals`` after ``setup``.

    Example:
        >>> from fusetorch.utils.benchmark import Timer
        >>> Timer("x * x", globals={"x": 3}).timeit(100).median < 1
        True
    """

    def __init__(self, stmt: str = "pass", setup: str = "pass", global_setup: str = "", timer: Callable[[], float] = timer,
                 globals: dict[str, Any] | None = None, label: str | None = None, sub_label: str | None = None,
                 description: str | None = None, env: str | None = None, num_threads: int = 1, language: Any = "python") -> None:
        if str(getattr(language, "name", language)).lower() not in ("python", "py"):
            raise NotImplementedError("Timer: only Python can be timed")
        self._names = dict(label=label, sub_label=sub_label, description=description, stmt=stmt)
        self._timer = _timeit.Timer(stmt, setup, timer, globals={"torch": torch, **(globals or {})})

    def timeit(self, number: int = 1000000) -> Measurement:
        """One measurement of ``number`` runs, after a short warm-up."""
        self._timer.timeit(max(number // 100, 2))
        return Measurement(number, [self._timer.timeit(number)], **self._names)

    def blocked_autorange(self, callback: Callable[[int, float], Any] | None = None, min_run_time: float = 0.2) -> Measurement:
        """Measurements of as many runs as the clock needs, until ``min_run_time`` seconds have passed."""
        number = 1
        while (taken := self._timer.timeit(number)) < min_run_time / 1000 and number < 10**9:
            number *= 10
        times = [taken]
        while sum(times) < min_run_time:
            times.append(self._timer.timeit(number))
            if callback is not None:
                callback(number, times[-1])
        return Measurement(number, times, **self._names)

    adaptive_autorange = blocked_autorange
