"""What a traced function does beside tensor operations: Python that a replay would not run again."""
from __future__ import annotations

import datetime
import os
import random
import sys
import time
from collections.abc import Sequence
from types import FrameType, GeneratorType
from typing import Any

import numpy as np

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


def _randomness() -> list[Any]:
    """The state of Python's and NumPy's global random numbers."""
    state: list[Any] = [random.getstate()]
    if "numpy.random" in sys.modules:
        kind, keys, *rest = np.random.get_state()
        state.append((kind, keys.tobytes(), rest))
    return state
