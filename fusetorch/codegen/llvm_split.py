"""Reductions of few long rows: the inner range is cut into units, which threads share.

Each pass is a function that leaves one partial result a unit, followed by a function that combines them in order. The values of an
outer position are worked out again in every unit from the combined results.
"""
from __future__ import annotations

from collections.abc import Callable

from .llvm import Emitter, Frame
from .llvm_builder import combine, convert, identity, register_type, total_dtype


class SplitEmitter(Emitter):
    """The ``split`` flavour."""

    def parts(self) -> list[tuple[str, Callable[[str, str], None]]]:
        parts: list[tuple[str, Callable[[str, str], None]]] = []
        for s in range(self.a.stages):
            parts.append((f"{s}u", lambda lo, hi, s=s: self._split_stage(s, lo, hi)))
            if self.reduces(s):
                parts.append((f"{s}o", lambda lo, hi, s=s: self._split_combine(s, lo, hi)))
        if not all(s.full for s in self.k.stores):
            parts.append(("o", self._split_outer))
        return parts

    def _split_stage(self, s: int, lo: str, hi: str) -> None:
        b, reduces, n_steps = self.b, self.reduces(s), self.n_steps()

        def unit(u: str, _: list[str]) -> list[str]:
            o = b.op(f"udiv i64 {u}, {self.extra['units']}")
            f = self._at_outer(o)
            self._load_results(f, o, s)
            s0, s1 = self.range(b.op(f"urem i64 {u}, {self.extra['units']}"), self.extra["per_unit"], n_steps)
            for r, (e, v) in enumerate(zip(reduces, self.stage_pass(f, s, s0, s1))):
                b.do(f"store {register_type(total_dtype(e))} {v}, "
                     f"ptr {self.cell(self.extra['partials'], u, len(reduces), r)}, align 8")
            return []

        b.loop(lo, hi, [], unit)

    def _split_combine(self, s: int, lo: str, hi: str) -> None:
        b, reduces = self.b, self.reduces(s)

        def outer(o: str, _: list[str]) -> list[str]:
            u0 = b.op(f"mul i64 {o}, {self.extra['units']}")
            u1 = b.op(f"add i64 {u0}, {self.extra['units']}")

            def add(u: str, totals: list[str]) -> list[str]:
                out = []
                for r, (e, total) in enumerate(zip(reduces, totals)):
                    p = self.cell(self.extra["partials"], u, len(reduces), r)
                    part = b.op(f"load {register_type(total_dtype(e))}, ptr {p}, align 8")
                    out.append(combine(b, e.attr, total_dtype(e), total, part))
                return out

            start = [(register_type(total_dtype(e)), identity(e.attr, total_dtype(e))) for e in reduces]
            for e, v in zip(reduces, b.loop(u0, u1, start, add)):
                p = self.cell(self.extra["results"], o, len(self.results), self.results.index(e))
                b.do(f"store {register_type(e.dtype)} {convert(b, v, total_dtype(e), e.dtype)}, ptr {p}, align 8")
            return []

        b.loop(lo, hi, [], outer)

    def _split_outer(self, lo: str, hi: str) -> None:
        def outer(o: str, _: list[str]) -> list[str]:
            f = self._at_outer(o)
            self._load_results(f, o, len(self.a.reduces))
            self.outer_stores(f)
            return []

        self.b.loop(lo, hi, [], outer)

    def _load_results(self, f: Frame, o: str, s: int) -> None:
        """The results, at outer position ``o``, of the reductions before pass ``s``."""
        for e in (e for level in self.a.reduces[:s] for e in level):
            p = self.cell(self.extra["results"], o, len(self.results), self.results.index(e))
            f.values[e] = self.b.op(f"load {register_type(e.dtype)}, ptr {p}, align 8")

    def _at_outer(self, o: str) -> Frame:
        return self.enter(self.root, dict(zip(self.outer_axes, self.digits(o, [self.sizes[x] for x in self.outer_axes]))))
