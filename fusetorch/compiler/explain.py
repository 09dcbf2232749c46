"""What a compiled function can say about itself: groups, traffic, refusals, correctness, and fused against unfused."""
from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import config
from .interpret import backend, evaluate
from .ir import Graph, Value
from .plan import Plan

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .entry import Entry


def mib(n: float) -> str:
    """Bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.2f} {unit}"
        n /= 1024
    raise AssertionError


@dataclass
class Group:
    """One kernel: the operations in it, the bytes it reads and writes (each buffer once), and its generated code."""

    name: str
    kind: str               # "loop" or "opaque"
    ops: list[str]
    nodes: list[Any]
    bytes_read: int
    bytes_written: int
    source: str


@dataclass
class Explanation:
    """The fused plan of one specialisation, and what the same graph costs with one kernel per operation."""

    graph: Graph
    groups: list[Group]
    refusals: list[tuple[str, str, str]]
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    unfused_kernels: int
    unfused_bytes_read: int
    unfused_bytes_written: int
    unfused_peak_bytes: int
    compile_seconds: float
    recompiles: list[str] = field(default_factory=list)
    backward: Explanation | None = None

    @property
    def kernels(self) -> int:
        """Kernels per call."""
        return len(self.groups)

    def __str__(self) -> str:
        lines = [f"{self.kernels} kernels (unfused {self.unfused_kernels}), reads {mib(self.bytes_read)} (unfused "
                 f"{mib(self.unfused_bytes_read)}), writes {mib(self.bytes_written)} (unfused {mib(self.unfused_bytes_written)}), "
                 f"compiled in {self.compile_seconds:.3f} s"]
        for g in self.groups:
            lines.append(f"  {g.name} [{g.kind}]: {' + '.join(g.ops)}  (reads {mib(g.bytes_read)}, writes {mib(g.bytes_written)})")
        if self.refusals:
            lines.append("not fused:")
            lines += [f"  {a} -> {b}: {why}" for a, b, why in self.refusals]
        for r in self.recompiles:
            lines.append(f"recompiled: {r}")
        if self.backward is not None:
            lines.append("backward:")
            lines += ["  " + line for line in str(self.backward).splitlines()]
        return "\n".join(lines)


def explain(entry: Entry, recompiles: list[str]) -> Explanation:
    """Describes an entry's plan (and its backward plan, if it has one)."""
    e = _explain_plan(entry.plan, entry.seconds, recompiles)
    if entry.backward is not None:
        e.backward = _explain_plan(entry.backward.plan.plan, 0.0, [])
    return e


def announce(name: str, number: int, entry: Entry) -> None:
    """Prints what a new plan fused (``debug`` 2 and up), and writes its graph as a script's function into ``dump_dir``."""
    if config.debug >= 2:
        print(f"fusetorch: {name}, plan {number}: {explain(entry, [])}", file=sys.stderr)
    if config.dump_dir:
        folder = Path(config.dump_dir)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{re.sub('[^A-Za-z0-9_]', '_', name)}_{number}.py"
        aside = target.with_suffix(".new")
        aside.write_text(str(entry.plan.graph))
        aside.replace(target)


def _explain_plan(plan: Plan, seconds: float, recompiles: list[str]) -> Explanation:
    groups = []
    for i, g in enumerate(plan.fusion.groups):
        read, written = plan.traffic(g)
        ops = [n.name for n in g.nodes]
        groups.append(Group(f"k{i}_{'_'.join(ops)[:40]}", "loop" if g.fusible else "opaque", ops, list(g.nodes), read, written,
                            source_of(plan, g)))
    flat = unfused(plan, compiled=False)
    traffic = [flat.traffic(g) for g in flat.fusion.groups]
    refusals = list(dict.fromkeys((a.name, b.name, why) for a, b, why in plan.fusion.refusals
                                  if plan.fusion.group[a] is not plan.fusion.group[b]))
    return Explanation(plan.graph, groups, refusals, sum(g.bytes_read for g in groups), sum(g.bytes_written for g in groups),
                       plan.peak_bytes, len(flat.fusion.groups), sum(r for r, _ in traffic), sum(w for _, w in traffic),
                       flat.peak_bytes, seconds, list(recompiles))


def source_of(plan: Plan, g: Any) -> str:
    """The generated code of a group."""
    if not g.fusible:
        return ""
    low = plan.lowered[g]
    if low.writes[0].device.type == "cpu":
        from ..codegen import llvm
        from ..codegen.native import native_loop
        from ..runtime.cpu_jit import vector_bits
        return llvm.emit(low.call.kernel, "kernel", native_loop(low.call.kernel).flavour(low.call.sizes), vector_bits())[0]
    from ..codegen.triton import triton_loop
    return triton_loop(low.call.kernel).bind(low.call.sizes, low.call.strides).source


def unfused(plan: Plan, compiled: bool = True) -> Plan:
    """The same graph with one kernel per operation."""
    graph = plan.graph
    keep = graph.outputs
    graph.outputs = list(plan.results)
    flat = Plan(graph, plan.inputs, plan.updates, limit=0, compiled=compiled)
    graph.outputs = keep
    return flat


# ---------------------------------------------------------------------------------------------------- verify


@dataclass
class Verification:
    """Whether the fused plan agrees with the op-by-op run, the largest differences, and where the first one too large is."""

    ok: bool
    max_abs: float
    max_rel: float
    first_differing: str | None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        tail = "" if self.first_differing is None else f"; first at {self.first_differing}"
        return f"{'ok' if self.ok else 'DIFFERS'}: largest difference {self.max_abs:.3g} ({self.max_rel:.3g} of the result's scale){tail}"


#: Differences allowed between a fused and an op-by-op run, as a share of the largest element of the value and its operands.
TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def _copies(entry: Entry, leaves: list[Tensor]) -> list[Any]:
    out = []
    for a, v in zip(entry.arrays(leaves), entry.plan.inputs):
        b = backend(v.device)
        fresh = b.empty(v.shape, v.dtype)
        b.copy(fresh, a)
        out.append(fresh)
    return out


def verify(entry: Entry, leaves: list[Tensor]) -> Verification:
    """Compares every value that the fused plan stores with an op-by-op run on the same inputs."""
    plan = entry.plan
    first = _copies(entry, leaves)
    given = dict(zip(plan.inputs, first))
    stored = [v for g in plan.fusion.groups for v in plan.writes(g)]
    keep = list(plan.results)
    probe = Plan(_with_outputs(plan.graph, list(dict.fromkeys([*keep, *stored, *(n for _, n in plan.updates)]))), plan.inputs, (),
                 plan.fusion.limit)
    plan.graph.outputs = list(dict.fromkeys([*keep, *(n for _, n in plan.updates)]))
    got = dict(zip(probe.results, probe.run(first)))
    expected = evaluate(plan.graph, list(got), given)
    worst_abs = worst_rel = 0.0
    culprit = None
    for v in sorted(got, key=lambda v: v.node.id):
        x, y = to_numpy(v, got[v]), to_numpy(v, expected[v])
        if x.size == 0:
            continue
        both_nan = np.isnan(x) & np.isnan(y)
        with np.errstate(invalid="ignore"):
            diff = np.where(both_nan | (x == y), 0.0, np.abs(x - y))
        diff = np.where(np.isnan(diff), np.inf, diff)
        # a result near zero, as a small loss, carries the rounding of what it was made from
        operands = [_magnitude(to_numpy(u, expected[u])) for u in v.node.inputs if u.dtype.is_floating_point]
        scale = max(_magnitude(y), *operands, 0.0) or 1.0
        worst_abs, rel = max(worst_abs, float(diff.max())), float(diff.max()) / scale
        worst_rel = max(worst_rel, rel)
        if culprit is None and rel > TOLERANCE.get(v.dtype.name, 0.0):
            culprit = f"{v.node.name} {v} ({v.node.location})"
    return Verification(culprit is None, worst_abs, worst_rel, culprit)


def to_numpy(v: Value, a: Any) -> np.ndarray:
    """A value's array on the host, as float64."""
    return np.asarray(backend(v.device).to_host(a)).astype(np.float64)


def _magnitude(a: np.ndarray) -> float:
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))


def _with_outputs(graph: Graph, outputs: list[Value]) -> Graph:
    graph.outputs = outputs
    return graph


# ---------------------------------------------------------------------------------------------------- compare


@dataclass
class Comparison:
    """Fused against unfused (the same graph, one kernel per operation) in one interleaved measurement. Times in seconds (medians)."""

    time_fused: float
    time_unfused: float
    kernels_fused: int
    kernels_unfused: int
    bytes_fused: int
    bytes_unfused: int
    peak_fused: int
    peak_unfused: int
    max_difference: float

    @property
    def speedup(self) -> float:
        """Unfused time over fused time."""
        return self.time_unfused / self.time_fused

    def __str__(self) -> str:
        rows = [("", "fused", "unfused"), ("time per call", f"{self.time_fused * 1e6:.1f} us", f"{self.time_unfused * 1e6:.1f} us"),
                ("kernels", str(self.kernels_fused), str(self.kernels_unfused)),
                ("bytes moved", mib(self.bytes_fused), mib(self.bytes_unfused)),
                ("peak memory", mib(self.peak_fused), mib(self.peak_unfused)),
                ("largest difference", f"{self.max_difference:.3g}", ""), ("speedup", f"{self.speedup:.2f}x", "")]
        w = [max(len(r[i]) for r in rows) for i in range(3)]
        return "\n".join(f"{a:<{w[0]}}  {b:>{w[1]}}  {c:>{w[2]}}".rstrip() for a, b, c in rows)


def compare(entry: Entry, leaves: list[Tensor]) -> Comparison:
    """Measures both plans on copies of the inputs; nothing the function holds is changed."""
    from ..runtime.timing import compare_interleaved
    fused, flat = entry.plan, unfused(entry.plan)
    a, b = _copies(entry, leaves), _copies(entry, leaves)
    difference = 0.0
    for x, y, v in zip(fused.run(a), flat.run(b), fused.results):
        p, q = to_numpy(v, x), to_numpy(v, y)
        if p.size:
            difference = max(difference, float(np.nanmax(np.abs(p - q), initial=0.0)))
    device = fused.results[0].device.type if fused.results else "cpu"
    times = compare_interleaved({"fused": lambda: fused.run(a), "unfused": lambda: flat.run(b)}, device=device)
    tf, tu = [fused.traffic(g) for g in fused.fusion.groups], [flat.traffic(g) for g in flat.fusion.groups]
    return Comparison(_median(times["fused"]), _median(times["unfused"]), len(tf), len(tu), sum(map(sum, tf)), sum(map(sum, tu)),
                      fused.peak_bytes, flat.peak_bytes, difference)


def _median(x: Any) -> float:
    return x["median"] if isinstance(x, dict) else x.median


