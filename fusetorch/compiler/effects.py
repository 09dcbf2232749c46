"""What a traced function does beside tensor operations: Python that a replay would not run again."""
from __future__ import annotations

import contextlib
import datetime
import io
import os
import random
import sys
import time
from collections.abc import Sequence
from types import FrameType, GeneratorType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Tensor, meta

if TYPE_CHECKING:
    from .guards import StateGuard
    from .trace import Tracer

#: Functions whose result is another one each time, and objects that hold what the process is told from outside.
IMPURE = {id(f): f"time.{n}()" for n in ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time",
                                         "process_time_ns", "thread_time", "localtime", "gmtime", "strftime", "ctime")
          if (f := getattr(time, n, None)) is not None}
IMPURE |= {id(os.urandom): "os.urandom()", id(os.getenv): "os.getenv()", id(os.environ): "os.environ", id(input): "input()"}

#: Classes of the standard library with methods that read a clock.
CLOCKS = {datetime.datetime: ("now", "utcnow", "today"), datetime.date: ("today",)}


class _Watched:
    """Standard output that remembers whether anything was written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.used = stream, False

    def write(self, text: str) -> int:
        """Passes on what is written."""
        self.used = True
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Effects:
    """A context manager around a trace; afterwards :meth:`seen` says what the function did.

    Args:
        clocks: also watch for calls of what gives another result each time (``IMPURE``, ``CLOCKS``); :attr:`clock` is the first.
        generators: also watch for steps of these.
    """

    def __init__(self, clocks: bool = False, generators: Sequence[GeneratorType] = ()) -> None:
        self._clocks = clocks or bool(generators)
        self._generators = generators
        self.clock: str | None = None

    def _call(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and any(g.gi_frame is frame for g in self._generators):
            self.clock = self.clock or f"the generator {frame.f_code.co_name}"
        if event != "c_call" or self.clock is not None or frame.f_globals.get("__name__", "").partition(".")[0] == "fusetorch":
            return
        owner = getattr(function, "__self__", None)
        if id(function) in IMPURE:
            self.clock = IMPURE[id(function)]
        elif isinstance(owner, type) and any(issubclass(owner, c) and function.__name__ in names for c, names in CLOCKS.items()):
            self.clock = f"{owner.__name__}.{function.__name__}()"

    def __enter__(self) -> Effects:
        if self._clocks:
            sys.setprofile(self._call)
        self._randomness = _randomness()
        self._stdout = sys.stdout
        self._watch = _Watched(sys.stdout)
        if sys.stdout is not None:  # a program without a console has none
            sys.stdout = self._watch
        return self

    def __exit__(self, *error: object) -> None:
        if self._clocks:
            sys.setprofile(None)
        if sys.stdout is self._watch:
            sys.stdout = self._stdout

    def seen(self) -> str | None:
        """The first thing that only Python can do again, in words; ``None`` if there was nothing."""
        if self._watch.used:
            return "it prints"
        if _randomness() != self._randomness:
            return "it draws Python's or NumPy's random numbers"
        return None


class Rehearsal:
    """A context manager around the trace of what Python will run again later: what it prints is thrown away, and :attr:`seen` says what
    else it did to the world, which :meth:`undo` takes back.

    Args:
        guard: knows what the function reaches.
        tracer: records it.
    """

    def __init__(self, guard: StateGuard, tracer: Tracer) -> None:
        self.guard, self.tracer = guard, tracer
        self.seen: str | None = None

    def __enter__(self) -> Rehearsal:
        t = self.tracer
        self._before = self.guard.failure()
        from .undo import Snapshot  # which needs to know gradients, whose trace is rehearsed
        self._python = Snapshot(self.guard)
        self._random = random.getstate(), np.random.get_state() if "numpy.random" in sys.modules else None
        self._randomness = _randomness()
        self._grads = {id(x): (x, _gradient(x)) for x in (*self.guard.tensors.values(), *[x for x, _, _ in t.lifted.values()])}
        self._values = {id(s): s.value for s in t.inputs}
        self._offsets = {k: g._offset for k, (g, _) in t.generators.items()}
        self._printed = io.StringIO()
        self._stdout = contextlib.redirect_stdout(self._printed)
        self._stdout.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stdout.__exit__(*error)
        t = self.tracer
        for x, _, _ in t.lifted.values():  # what it was the first to touch
            self._grads.setdefault(id(x), (x, t.grads_before.get(id(x))))
        if self._printed.getvalue():
            self.seen = "prints"
        elif _randomness() != self._randomness or any(g._offset != self._offsets.get(k, start) for k, (g, start) in t.generators.items()):
            self.seen = "draws random numbers"
        elif any(_gradient(x) is not g for x, g in self._grads.values()):
            self.seen = "accumulates gradients"
        elif any(s.value is not self._values.get(id(s), s.initial) for s in t.inputs):
            self.seen = "writes to a tensor that was there before"
        elif self._before is None and (failure := self.guard.failure()) is not None:
            self.seen = f"changes Python's state ({failure})"

    def undo(self) -> None:
        """Puts everything back."""
        t = self.tracer
        self._python.restore()
        random.setstate(self._random[0])
        if self._random[1] is not None:
            np.random.set_state(self._random[1])
        for x, g in self._grads.values():
            if _gradient(x) is not g:
                meta(x).grad = g
        for s in t.inputs:
            s.value = self._values.get(id(s), s.initial)
        for k, (g, start) in t.generators.items():
            g._offset = self._offsets.get(k, start)


def _gradient(t: Tensor) -> Tensor | None:
    """A tensor's gradient, without the trace noting that somebody asked."""
    return None if t._x is None else t._x.grad


def _randomness() -> list[Any]:
    """The state of Python's and NumPy's global random numbers."""
    state: list[Any] = [random.getstate()]
    if "numpy.random" in sys.modules:
        kind, keys, *rest = np.random.get_state()
        state.append((kind, keys.tobytes(), rest))
    return state
