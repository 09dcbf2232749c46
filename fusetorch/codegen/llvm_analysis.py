"""What a kernel needs to be emitted: passes over the inner axes, what each value varies over, which values are kept."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..dtypes import HALVES, bool_, int64
from ..ops.expr import Expr, const, substitute, walk
from ..ops.primitives import PRIMITIVES
from .loop import LoopKernel, Store


@dataclass
class Analysis:
    """A kernel made ready for emission: arg-reductions rewritten, each node given its stage and what it varies over."""

    kernel: LoopKernel
    stores: list[Store]
    reduces: list[list[Expr]]  # per stage
    stage: dict[Expr, int]
    varies: dict[Expr, frozenset[int]]  # axes of the kernel

    @property
    def stages(self) -> int:
        """How many passes over the inner axes there are."""
        full = [self.stage[s.value] + 1 for s in self.stores if s.full]
        return max([len(self.reduces), *full])


def analyse(kernel: LoopKernel, lanes: frozenset[int] = frozenset()) -> Analysis:
    """Stages and variation of every node of ``kernel``. Results of reductions are taken to vary over the axes ``lanes``."""
    values = _without_arg_reductions([s.value for s in kernel.stores])
    stores = [Store(s.access, v, s.full) for s, v in zip(kernel.stores, values)]
    outer = frozenset(range(kernel.n_outer))
    inner = frozenset(range(kernel.n_outer, kernel.n_outer + kernel.n_inner))
    stage: dict[Expr, int] = {}
    varies: dict[Expr, frozenset[int]] = {}
    reduces: list[list[Expr]] = []
    for e in walk(values):
        stage[e] = max((stage[a] for a in e.args), default=0)
        varies[e] = frozenset().union(*(varies[a] for a in e.args))
        if e.op == "load":
            varies[e] = _axes(kernel.inputs[e.attr].pattern)
        elif e.op == "iota":
            varies[e] = inner if e.attr == "position" else _axes(kernel.iotas[e.attr])
        elif e.op == "reduce":
            level = stage[e]
            while len(reduces) <= level:
                reduces.append([])
            reduces[level].append(e)
            stage[e] = level + 1
            varies[e] = varies[e] & outer | lanes
    return Analysis(kernel, stores, reduces, stage, varies)


def _axes(pattern: str) -> frozenset[int]:
    return frozenset(k for k, c in enumerate(pattern) if c != "0")


def _without_arg_reductions(values: Sequence[Expr]) -> list[Expr]:
    """argmax(e) as the smallest position where e equals max(e) (or is NaN): two plain reductions, which vectorise."""
    P = PRIMITIVES
    while True:
        found = [e for e in walk(values) if e.op == "reduce" and e.attr in ("argmax", "argmin")
                 and not any(a.op == "reduce" and a.attr in ("argmax", "argmin") for a in walk(e.args))]
        if not found:
            return list(values)
        mapping = {}
        for e in found:
            x = e.args[0]
            hit = P["eq"](x, Expr("reduce", (x,), e.attr[3:], x.dtype))
            if x.dtype.category == 2:
                hit = P["bitwise_or"](hit, P["isnan"](x))
            position = P["where"](hit, Expr("iota", (), "position", int64), const((1 << 63) - 1, int64))
            mapping[e] = Expr("reduce", (position,), "min", int64)
        values = substitute(values, mapping)


#: What recomputing a primitive costs, where that is not 1; for :func:`kept`.
_COSTS = {"div": 3, "sqrt": 3, "rsqrt": 5} | dict.fromkeys(
    ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
     "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma", "digamma", "pow", "fmod", "remainder", "philox"), 10)
_WORTH_KEEPING = 10


def kept(a: Analysis, axis: int) -> dict[Expr, tuple[int, int]]:
    """Costly values that a later pass needs again: ``{value: (pass that computes it, number of the store)}``.

    Such a value waits in the memory of an output that is written last and contiguous along ``axis``, so softmax computes each
    exponential once.
    """
    inner = frozenset(range(a.kernel.n_outer, a.kernel.n_outer + a.kernel.n_inner))
    passes: list[list[Expr]] = []
    for s in range(a.stages):
        roots = [e.args[0] for e in (a.reduces[s] if s < len(a.reduces) else [])]
        roots += [x.value for x in a.stores if x.full and a.stage[x.value] == s]
        passes.append([e for e in inside(roots) if a.varies[e] & inner])
    free = {i: a.stage[x.value] for i, x in enumerate(a.stores)
            if x.full and x.access.pattern[axis] == "1" and x.access.dtype not in HALVES and x.access.dtype is not bool_}
    out: dict[Expr, tuple[int, int]] = {}
    for t in range(1, a.stages):
        users = {arg for e in passes[t] for arg in e.args}
        for s in range(t):
            before = set(passes[s])
            for e in passes[t]:
                if e not in before or e in out or e.op in ("load", "iota") or any(
                        e in u.args for u in passes[t] if u in before) or (
                        e not in users and not any(e is x.value for x in a.stores)):
                    continue
                cost = sum(_COSTS.get(x.op, 1) for x in inside([e]) if a.varies[x] & inner)
                last = max(u for u in range(a.stages) if e in passes[u])
                home = next((i for i, stage in free.items() if a.stores[i].access.dtype is e.dtype and stage >= last), None)
                if cost >= _WORTH_KEEPING and home is not None:
                    out[e] = (s, home)
                    del free[home]
    return out


def inside(roots: Iterable[Expr]) -> list[Expr]:
    """Nodes below ``roots`` without looking into reductions."""
    seen: dict[Expr, None] = {}
    stack = list(roots)
    while stack:
        e = stack.pop()
        if e not in seen:
            seen[e] = None
            stack.extend(() if e.op == "reduce" else e.args)
    return list(seen)


def prefers_columns(kernel: LoopKernel) -> bool:
    """Whether more operands are contiguous along the last outer axis than along the last inner one."""
    if not kernel.n_inner:
        return False
    outer, inner = kernel.n_outer - 1, kernel.n_outer + kernel.n_inner - 1
    votes = 0
    for a in [*kernel.inputs, *(s.access for s in kernel.stores if s.full)]:
        if any(c != "0" for c in a.pattern[kernel.n_outer:]):
            votes += (a.pattern[outer] == "1") - (a.pattern[inner] == "1")
    return votes > 0


def tiled_axis(kernel: LoopKernel) -> int | None:
    """The axis along which an operand is contiguous that is strided along the last axis, if there is one: a transposed operand."""
    last = kernel.n_outer - 1
    if kernel.n_inner:
        return None
    for a in kernel.inputs:
        if a.pattern[last] == "s" and "1" in a.pattern:
            return a.pattern.index("1")
    return None
