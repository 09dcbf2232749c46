"""``torch.profiler``: how long operations take.

While a profile is active every operation goes through a timer: times are wall-clock times on the CPU, of an operation with all it
calls, and on CUDA those of queueing the work (give ``ProfilerActivity.CUDA`` to wait for each operation, so that the time is that of the
work).
Compiled functions show as nothing: their replay calls no operations. Nothing is slower while no profile is active.
"""
from __future__ import annotations

import contextlib
import enum
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from fusetorch import dispatch
from fusetorch.ops.opdef import REGISTRY, fn
from fusetorch.tensor import Tensor

__all__ = ["profile", "record_function", "ProfilerActivity", "ProfilerAction", "schedule", "tensorboard_trace_handler",
           "supported_activities"]


class ProfilerActivity(enum.Enum):
    """What to time."""

    CPU = 0
    CUDA = 2
    XPU = 1


class ProfilerAction(enum.Enum):
    """What a schedule says about a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """What can be timed here."""
    from fusetorch.runtime.device import cuda_available
    return {ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda_available() else [])}


def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0,
             skip_first_wait: int = 0) -> Callable[[int], ProfilerAction]:
    """A plan of steps: skip, then cycles of waiting, warming up and recording."""
    def action(step: int) -> ProfilerAction:
        step -= skip_first
        cycle = wait + warmup + active
        if step < 0 or (repeat and step >= repeat * cycle):
            return ProfilerAction.NONE
        at = step % cycle
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if at == cycle - 1 else ProfilerAction.RECORD
    return action


class _Event:
    """One timed call: start and end in nanoseconds, and the time of what it called."""

    __slots__ = ("name", "start", "end", "inner", "thread", "shapes")

    def __init__(self, name: str, thread: int, shapes: list) -> None:
        self.name, self.thread, self.shapes = name, thread, shapes
        self.inner = self.end = 0
        self.start = time.perf_counter_ns()


class _Recorder:
    """Collects events while it is installed; there is one at a time."""

    active: _Recorder | None = None

    def __init__(self, wait: bool, shapes: bool) -> None:
        self.wait, self.with_shapes = wait, shapes
        self.events: list[_Event] = []
        self.open = threading.local()

    def begin(self, name: str, args: Iterable[Any] = ()) -> _Event:
        """Opens an event."""
        event = _Event(name, threading.get_ident(), _shapes(args) if self.with_shapes else [])
        stack = self.open.__dict__.setdefault("stack", [])
        stack.append(event)
        return event

    def finish(self, event: _Event) -> None:
        """Closes it."""
        if self.wait:
            from fusetorch.runtime.device import synchronize
            synchronize()
        event.end = time.perf_counter_ns()
        stack = self.open.stack
        stack.pop()
        if stack:
            stack[-1].inner += event.end - event.start
        self.events.append(event)

    def install(self) -> None:
        """Puts the timer before every operation."""
        if _Recorder.active is not None:
            raise RuntimeError("Profiler is already enabled on this thread")
        _Recorder.active = self
        self.limit, dispatch.fast_limit[0] = dispatch.fast_limit[0], -1
        self.before: list[tuple[dict, str, Callable]] = []
        for op in REGISTRY.values():
            for f in {getattr(fn, op.name, None), getattr(fn, op.name + "_", None)}:
                space = getattr(f, "__globals__", {})
                for name in ("call", "unary"):  # what a derived function calls; see fusetorch.functional
                    if name in space and space.get("op") is op:
                        self.before.append((space, name, space[name]))
                        space[name] = self._timed(space[name], f.__name__)

    def remove(self) -> None:
        """Takes it away."""
        _Recorder.active = None
        dispatch.fast_limit[0] = self.limit
        for space, name, call in self.before:
            space[name] = call

    def _timed(self, call: Callable, name: str) -> Callable:
        name = f"aten::{name}"

        def timed(op: Any, operands: Any, *rest: Any) -> Any:
            event = self.begin(name, operands if isinstance(operands, tuple) else (operands,))
            try:
                return call(op, operands, *rest)
            finally:
                self.finish(event)
        return timed


def _shapes(args: Iterable[Any]) -> list:
    return [list(a.shape) if isinstance(a, Tensor) else [] for a in args]


class record_function(contextlib.ContextDecorator):
    """Names a stretch of the program in a profile; as a context manager or decorator.

    Example:
        >>> import fusetorch as torch
        >>> with torch.profiler.profile() as p, torch.profiler.record_function("mine"):
        ...     x = torch.ones(3) + 1
        >>> sorted(e.key for e in p.key_averages())
        ['aten::add', 'mine']
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name
        self.opened: list[tuple[_Recorder, _Event] | None] = []

    def __enter__(self) -> record_function:
        recorder = _Recorder.active
        self.opened.append(None if recorder is None else (recorder, recorder.begin(self.name)))
        return self

    def __exit__(self, *exc: object) -> None:
        opened = self.opened.pop()
        if opened is not None:
            opened[0].finish(opened[1])


class FunctionEventAvg:
    """The calls of one name: ``key``, ``count``, and times in microseconds."""

    def __init__(self, key: str, shapes: list) -> None:
        self.key, self.input_shapes = key, shapes
        self.count = 0
        self.cpu_time_total = self.self_cpu_time_total = 0.0

    @property
    def cpu_time(self) -> float:
        """The mean time of a call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    def __repr__(self) -> str:
        return (f"<FunctionEventAvg key={self.key} self_cpu_time={self.self_cpu_time_total:.3f}us cpu_time={self.cpu_time:.3f}us "
                f"count={self.count}>")


class EventList(list):
    """Averages, with :meth:`table`."""

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_src_column_width: int = 75, max_name_column_width: int = 55,
              max_shapes_column_width: int = 80, header: str | None = None, top_level_events_only: bool = False) -> str:
        """The averages as text, sorted by ``cpu_time_total``, ``self_cpu_time_total``, ``cpu_time`` or ``count``."""
        rows = list(self)
        if sort_by is not None:
            key = sort_by.replace("cuda", "cpu").replace("device", "cpu")
            if key not in ("cpu_time_total", "self_cpu_time_total", "cpu_time", "count"):
                raise ValueError(f"sort_by={sort_by!r} is not one of cpu_time_total, self_cpu_time_total, cpu_time, count")
            rows.sort(key=lambda e: getattr(e, key), reverse=True)
        rows = rows[:row_limit] if row_limit >= 0 else rows
        total = sum(e.self_cpu_time_total for e in self) or 1.0
        lines = [("Name", "Self CPU %", "Self CPU", "CPU total", "CPU time avg", "# of Calls")]
        lines += [(e.key[:max_name_column_width], f"{100 * e.self_cpu_time_total / total:.2f}%", _text(e.self_cpu_time_total),
                   _text(e.cpu_time_total), _text(e.cpu_time), str(e.count)) for e in rows]
        widths = [max(map(len, column)) for column in zip(*lines)]
        bar = "  ".join("-" * w for w in widths)
        body = ["  ".join(cell.rjust(w) for cell, w in zip(line, widths)) for line in lines]
        return "\n".join([*([header] if header else []), bar, body[0], bar, *body[1:], bar, f"Self CPU time total: {_text(total)}", ""])

    def total_average(self) -> FunctionEventAvg:
        """All calls as one."""
        out = FunctionEventAvg("Total", [])
        for e in self:
            out.count += e.count
            out.cpu_time_total += e.self_cpu_time_total
            out.self_cpu_time_total += e.self_cpu_time_total
        return out


def _text(us: float) -> str:
    return f"{us / 1e6:.3f}s" if us >= 1e6 else f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


class profile:
    """Times the operations of a block; see the module's docstring.

    Args:
        activities: with ``ProfilerActivity.CUDA`` each operation is waited for.
        schedule: what to do with each step (a step ends with :meth:`step`); without it everything is recorded.
        on_trace_ready: called with the profile when a recorded stretch ends.
        record_shapes: keep the shapes of operands, for ``key_averages(group_by_input_shape=True)``.

    Memory, stacks, modules and FLOPs are not recorded; those arguments are accepted.
    """

    def __init__(self, *, activities: Iterable[ProfilerActivity] | None = None, schedule: Callable[[int], ProfilerAction] | None = None,
                 on_trace_ready: Callable[[profile], Any] | None = None, record_shapes: bool = False, profile_memory: bool = False,
                 with_stack: bool = False, with_flops: bool = False, with_modules: bool = False, **_: Any) -> None:
        self.wait = activities is not None and ProfilerActivity.CUDA in activities and ProfilerActivity.CUDA in supported_activities()
        self.plan, self.ready, self.shapes = schedule, on_trace_ready, record_shapes
        self.step_num = 0
        self.recorder: _Recorder | None = None
        self.done: list[_Event] = []

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _action(self) -> ProfilerAction:
        return ProfilerAction.RECORD if self.plan is None else self.plan(self.step_num)

    def start(self) -> None:
        """Begins."""
        self._follow(self._action())

    def _follow(self, action: ProfilerAction) -> None:
        if action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE):
            if self.recorder is None:
                self.recorder = _Recorder(self.wait, self.shapes)
                self.recorder.install()

    def _end(self) -> None:
        if self.recorder is not None:
            self.recorder.remove()
            self.done, self.recorder = self.recorder.events, None
            if self.ready is not None:
                self.ready(self)

    def step(self) -> None:
        """The program begins its next step."""
        if self._action() is ProfilerAction.RECORD_AND_SAVE or (self._action() is ProfilerAction.RECORD and self.plan is not None and
                                                                self.plan(self.step_num + 1) is ProfilerAction.NONE):
            self._end()
        self.step_num += 1
        self._follow(self._action())

    def stop(self) -> None:
        """Ends."""
        self._end()

    def events(self) -> list[_Event]:
        """The timed calls in the order of their ends."""
        return self.done if self.recorder is None else self.recorder.events

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        """Count and times by name (and by shapes of operands)."""
        found: dict[Any, FunctionEventAvg] = {}
        for e in self.events():
            key = (e.name, str(e.shapes) if group_by_input_shape else "")
            a = found.setdefault(key, FunctionEventAvg(e.name, e.shapes))
            a.count += 1
            a.cpu_time_total += (e.end - e.start) / 1e3
            a.self_cpu_time_total += (e.end - e.start - e.inner) / 1e3
        return EventList(found.values())

    def export_chrome_trace(self, path: str) -> None:
        """Writes the calls as a JSON file for chrome://tracing or Perfetto."""
        pid = os.getpid()
        trace = [{"name": e.name, "ph": "X", "cat": "cpu_op", "pid": pid, "tid": e.thread, "ts": e.start / 1e3,
                  "dur": (e.end - e.start) / 1e3, "args": {"Input Dims": e.shapes}} for e in self.events()]
        aside = f"{path}.{pid}"
        with open(aside, "w") as f:
            json.dump({"traceEvents": trace, "displayTimeUnit": "ms"}, f)
        os.replace(aside, path)


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None, use_gzip: bool = False) -> Callable[[profile], None]:
    """An ``on_trace_ready`` that writes each trace to a file in a folder."""
    def handler(p: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        p.export_chrome_trace(os.path.join(dir_name, f"{worker_name or os.getpid()}.{time.time_ns()}.pt.trace.json"))
    return handler
