"""Plans that a user's own backend runs: ``fusetorch.compile(f, backend=my_backend)``."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .aot import extract
from .interpret import backend
from .ir import Graph, Value
from .plan import Plan


class CustomPlan(Plan):
    """Hands the graph to ``make(graph, example_inputs)`` once, and calls what that returns with one array per input of the graph.

    The callable returns one array per value of ``graph.outputs`` and writes to nothing it is given; in-place updates are made from
    its results here.
    """

    def __init__(self, make: Callable[[Graph, list[Any]], Callable], examples: Sequence[Any], graph: Graph, inputs: Sequence[Value],
                 updates: Sequence[tuple[Value, Value]], own: int) -> None:
        super().__init__(graph, inputs, updates, compiled=False, own=own)
        self.wanted = list(graph.outputs)
        own_graph, _ = extract(graph, self.wanted, self.inputs)  # nothing else in it: no backward, no dead code
        self.call = make(own_graph, list(examples))
        if not callable(self.call):
            raise RuntimeError(f"backend={make!r} must return a callable, got {type(self.call).__name__}")

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Calls the backend's function; updated inputs are overwritten."""
        made = list(self.call(*arrays))
        if len(made) != len(self.wanted) or any(tuple(a.shape) != v.shape for a, v in zip(made, self.wanted)):
            raise RuntimeError(f"the backend returned {len(made)} arrays of shapes {[tuple(a.shape) for a in made]}; "
                               f"the graph's outputs have shapes {[v.shape for v in self.wanted]}")
        values = {v: _copy(a, v) for v, a in zip(self.wanted, made)}
        results = [values[v] if i == self.results.index(v) else _copy(values[v], v) for i, v in enumerate(self.results)]
        for old, new in self.updates:
            backend(old.device).copy(arrays[self.inputs.index(old)], values[new])
        return results


def _copy(a: Any, v: Value) -> Any:
    fresh = backend(v.device).empty(v.shape, v.dtype)
    backend(v.device).copy(fresh, a)
    return fresh
