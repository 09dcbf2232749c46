"""Kernels in explicit vectors: short names for LLVM instructions on vectors as wide as the machine's.

A function is ``void f(ptr block, i64 lo, i64 hi)`` over independent units, as :mod:`fusetorch.runtime.cpu_pool` runs them; ``block`` is an
array of 8-byte fields with names. Offsets and strides count elements.
"""
from __future__ import annotations

from collections.abc import Sequence

from .llvm_builder import ATTRIBUTES, Builder


class VectorWriter:
    """Writes one function. ``writer["field"]`` is a field of its block."""

    def __init__(self, fields: Sequence[str], double: bool, width: int) -> None:
        self.b = Builder(width)
        self.t = "double" if double else "float"
        self.size = 8 if double else 4
        self.n = width // 8 // self.size
        self.vector = f"<{self.n} x {self.t}>"
        self.mask = f"<{self.n} x i1>"
        self.suffix = f"v{self.n}f{8 * self.size}"
        self._fields: dict[str, str] = {}
        for i, f in enumerate(fields):
            p = self.b.op(f"getelementptr i64, ptr %block, i64 {i}")
            self._fields[f] = self.b.op(f"load i64, ptr {p}")

    def module(self, name: str) -> str:
        """The text of a module with what was written as the function ``name``."""
        body, b = self.b.end(), self.b
        return "\n".join([*b.declared, f"define void @{name}(ptr %block, i64 %lo, i64 %hi) #0 {{", body, "}",
                          ATTRIBUTES.format(width=b.width), *b.loops, ""])

    def __getitem__(self, field: str) -> str:
        return self._fields[field]

    def pointer(self, field: str) -> str:
        return self.b.op(f"inttoptr i64 {self[field]} to ptr")

    def mul(self, a: str, c: str) -> str:
        return self.b.op(f"mul i64 {a}, {c}")

    def add(self, *parts: str) -> str:
        total = parts[0]
        for p in parts[1:]:
            total = self.b.op(f"add i64 {total}, {p}")
        return total

    def least(self, a: str, c: str) -> str:
        return self.b.intrinsic("smin", "i64", a, c)

    def split(self, u: str, n: str) -> tuple[str, str]:
        """(u // n, u % n)."""
        return self.b.op(f"udiv i64 {u}, {n}"), self.b.op(f"urem i64 {u}, {n}")

    def at(self, p: str, offset: str | int) -> str:
        return self.b.op(f"getelementptr {self.t}, ptr {p}, i64 {offset}")

    def entry(self, table: str, i: str) -> str:
        p = self.b.op(f"getelementptr i64, ptr {table}, i64 {i}")
        return self.b.op(f"load i64, ptr {p}")

    def load(self, p: str) -> str:
        return self.b.op(f"load {self.vector}, ptr {p}, align {self.size}")

    def store(self, v: str, p: str) -> None:
        self.b.do(f"store {self.vector} {v}, ptr {p}, align {self.size}")

    def number(self, p: str) -> str:
        return self.b.op(f"load {self.t}, ptr {p}, align {self.size}")

    def splat(self, v: str, t: str = "") -> str:
        t = t or self.t
        first = self.b.op(f"insertelement <{self.n} x {t}> poison, {t} {v}, i64 0")
        return self.b.op(f"shufflevector <{self.n} x {t}> {first}, <{self.n} x {t}> poison, <{self.n} x i32> zeroinitializer")

    def fma(self, a: str, c: str, acc: str) -> str:
        return self.b.call(f"llvm.fma.{self.suffix}", self.vector, [(self.vector, x) for x in (a, c, acc)])

    def below(self, n: str) -> str:
        """The mask of the lanes below ``n``."""
        lanes = ", ".join(f"i64 {i}" for i in range(self.n))
        return self.b.op(f"icmp slt <{self.n} x i64> <{lanes}>, {self.splat(n, 'i64')}")

    def first(self, n: int) -> str:
        """The mask of the first ``n`` lanes, as a constant."""
        return "<" + ", ".join(f"i1 {'true' if i < n else 'false'}" for i in range(self.n)) + ">"

    def masked_load(self, p: str, mask: str) -> str:
        return self.b.call(f"llvm.masked.load.{self.suffix}.p0", self.vector,
                           [("ptr", p), ("i32", str(self.size)), (self.mask, mask), (self.vector, "zeroinitializer")])

    def masked_store(self, v: str, p: str, mask: str) -> None:
        name = f"llvm.masked.store.{self.suffix}.p0"
        self.b.declared[f"declare void @{name}({self.vector}, ptr, i32, {self.mask})"] = None
        self.b.do(f"call void @{name}({self.vector} {v}, ptr {p}, i32 {self.size}, {self.mask} {mask})")

    def lane_pointers(self, p: str, step: str) -> str:
        lanes = ", ".join(f"i64 {i}" for i in range(self.n))
        offsets = self.b.op(f"mul <{self.n} x i64> <{lanes}>, {self.splat(step, 'i64')}")
        return self.b.op(f"getelementptr {self.t}, ptr {p}, <{self.n} x i64> {offsets}")

    def gather(self, p: str, step: str, mask: str) -> str:
        pointers = f"<{self.n} x ptr>"
        return self.b.call(f"llvm.masked.gather.{self.suffix}.v{self.n}p0", self.vector,
                           [(pointers, self.lane_pointers(p, step)), ("i32", str(self.size)), (self.mask, mask),
                            (self.vector, "zeroinitializer")])

    def scatter(self, v: str, p: str, step: str, mask: str) -> None:
        name, pointers = f"llvm.masked.scatter.{self.suffix}.v{self.n}p0", f"<{self.n} x ptr>"
        self.b.declared[f"declare void @{name}({self.vector}, {pointers}, i32, {self.mask})"] = None
        self.b.do(f"call void @{name}({self.vector} {v}, {pointers} {self.lane_pointers(p, step)}, i32 {self.size}, {self.mask} {mask})")

    def transpose(self, rows: Sequence[str]) -> list[str]:
        """n vectors of n lanes, transposed by rounds that swap blocks off the diagonal."""
        rows, step = list(rows), self.n // 2
        while step:
            low = ", ".join(f"i32 {c if not c & step else self.n + c - step}" for c in range(self.n))
            high = ", ".join(f"i32 {c + step if not c & step else self.n + c}" for c in range(self.n))
            new = list(rows)
            for r in range(self.n):
                if not r & step:
                    for at, mask in ((r, low), (r + step, high)):
                        new[at] = self.b.op(f"shufflevector {self.vector} {rows[r]}, {self.vector} {rows[r + step]}, "
                                            f"<{self.n} x i32> <{mask}>")
            rows, step = new, step // 2
        return rows

    def when(self, condition: str, body: object) -> None:
        then, end = self.b.name("then"), self.b.name("fi")
        self.b.do(f"br i1 {condition}, label {then}, label {end}")
        self.b.start(then)
        body()
        self.b.do(f"br label {end}")
        self.b.start(end)

    def units(self, body: object) -> None:
        def one(u: str, _: list[str]) -> list[str]:
            body(u)
            return []
        self.b.loop("%lo", "%hi", [], one)

    def each(self, lo: str, hi: str, body: object) -> None:
        def one(i: str, _: list[str]) -> list[str]:
            body(i)
            return []
        self.b.loop(lo, hi, [], one)
