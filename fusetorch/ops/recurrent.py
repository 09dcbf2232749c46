"""Recurrent layers: one operation walks a layer through time, another back.

The products of inputs and weights do not depend on time: they are one matrix product outside. What is left for each step is one product
with the state before it and one fused elementwise loop, the *cell*. ``<kind>_layer`` does all steps of a layer in one direction and
keeps what ``<kind>_layer_grad`` needs; the gradient of the weights is again one product over all steps. A gradient that is itself to be
differentiated is written with public operations, step by step.

Rows are those of packed sequences: ``sizes[t]`` sequences, longest first, are still running at step t, and their rows of all steps follow
each other. A batch of equal lengths is the case in which all sizes are the same.

Sources: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (LSTM); Cho et al. 2014 (GRU, here with the reset gate after the product, as
in cuDNN); Elman 1990 (RNN).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import FROM_NUMPY, HALVES, dtype
from . import primitives as P
from .opdef import LoopSpec, OpDef, elementwise, fn, loop_spec, opaque

# ---- cells: one step after the products


@elementwise(name="lstm_step", function=False, method=False, promote="floating", numbers="none", n_outputs=6)
def lstm_step(xi, xf, xg, xo, hi, hf, hg, ho, c):
    """The gates i, f, g, o, the new cell and the new state, from the products of input (``x``) and state (``h``) with the weights."""
    i, f, g, o = P.sigmoid(xi + hi), P.sigmoid(xf + hf), P.tanh(xg + hg), P.sigmoid(xo + ho)
    new = f * c + i * g
    return i, f, g, o, new, o * P.tanh(new)


@elementwise(name="lstm_step_grad", function=False, method=False, promote="floating", numbers="none", n_outputs=5)
def lstm_step_grad(i, f, g, o, before, after, g_out, g_next, g_cell, carry):
    """Gradients of the four sums under the gates, and of the cell before. ``g_cell`` and ``carry``: of the cell after."""
    t, dh = P.tanh(after), g_out + g_next
    dc = (carry if g_cell is None else carry + g_cell) + dh * o * (1.0 - t * t)
    return dc * g * i * (1.0 - i), dc * before * f * (1.0 - f), dc * i * (1.0 - g * g), dh * t * o * (1.0 - o), dc * f


@elementwise(name="gru_step", function=False, method=False, promote="floating", numbers="none", n_outputs=5)
def gru_step(xr, xz, xn, hr, hz, hn, bias, h):
    """The gates r, z, n, the state's part of n before its reset, and the new state. ``bias`` belongs to that part."""
    r, z = P.sigmoid(xr + hr), P.sigmoid(xz + hz)
    m = hn if bias is None else hn + bias
    n = P.tanh(xn + r * m)
    return r, z, n, m, (h - n) * z + n


@elementwise(name="gru_step_grad", function=False, method=False, promote="floating", numbers="none", n_outputs=5)
def gru_step_grad(r, z, n, m, before, g_out, g_next, carry):
    """Gradients of the sums under r and z, of the state's part of n, of the sum under n, and directly of the state before."""
    dh = g_out + g_next + carry
    dn = dh * (1.0 - z) * (1.0 - n * n)
    return dn * m * r * (1.0 - r), dh * (before - n) * z * (1.0 - z), dn * r, dn, dh * z


@elementwise(name="rnn_step", function=False, method=False, promote="floating", numbers="none")
def rnn_step(x, h, relu: bool = False):
    """The new state."""
    return P.maximum(x + h, 0.0) if relu else P.tanh(x + h)


@elementwise(name="rnn_step_grad", function=False, method=False, promote="floating", numbers="none")
def rnn_step_grad(after, g_out, g_next, relu: bool = False):
    """The gradient of the sum."""
    g = g_out + g_next
    return P.where(after > 0.0, g, 0.0) if relu else g * (1.0 - after * after)


class Cell(NamedTuple):
    """How a kind of layer uses its cell. Columns are counted in hidden sizes."""

    step: OpDef
    step_grad: OpDef
    gates: int              # columns of the products
    saved: int              # columns kept for the backward
    grads: int              # columns of the gradient; the first ``gates`` are those of the state's product
    cell: bool = False      # has a cell beside the state
    params: tuple = ()


LSTM = Cell(lstm_step, lstm_step_grad, 4, 4, 4, cell=True)
GRU = Cell(gru_step, gru_step_grad, 3, 4, 4)
TANH = Cell(rnn_step, rnn_step_grad, 1, 0, 1, params=(False,))
RELU = Cell(rnn_step, rnn_step_grad, 1, 0, 1, params=(True,))


# ---- time


def _steps(sizes: Sequence[int], reverse: bool) -> Iterator[tuple[int, int, int, int]]:
    """In the order of the walk: first row and rows of the step, first row and rows of the step before (-1, 0 at the start)."""
    starts = [0]
    for n in sizes:
        starts.append(starts[-1] + n)
    last, count = -1, 0
    for t in reversed(range(len(sizes))) if reverse else range(len(sizes)):
        yield starts[t], sizes[t], last, count
        last, count = starts[t], sizes[t]


def _before(sizes: Sequence[int], reverse: bool) -> np.ndarray:
    """For each row, where the state before it is in (initial state, rows)."""
    b = max(sizes)
    return np.concatenate([np.zeros(0, np.int64), *[
        np.concatenate([b + last + np.arange(min(n, count)), np.arange(min(n, count), n)])
        for _, n, last, count in sorted(_steps(sizes, reverse))]]).astype(np.int64)


def final_rows(sizes: Sequence[int], reverse: bool) -> np.ndarray:
    """For each sequence, the row after which it ends."""
    b, out = max(sizes), np.zeros(max(sizes), np.int64)
    for start, n, _, _ in _steps(sizes, reverse):
        out[:n] = start + np.arange(n)
    return out[:b]


# ---- one walk over arrays of either device

#: An operand of a step: an array of rows, its first column, and which of the step's rows it starts at.
Entry = tuple[Any, int, int]
OWN, SCRATCH, BEFORE = 0, 1, 2


#: Argument blocks of steps that no walk uses now, by loop, sizes and strides.
_blocks: dict[tuple, list[tuple]] = {}


class _Numpy:
    """Array work of a walk on the CPU. Small layers run in NumPy, others in native loops whose addresses are counted, not sliced."""

    def __init__(self, spec: LoopSpec, rows: int, hidden: int) -> None:
        from .. import config
        self.spec, self.hidden = spec, hidden
        self.native = rows * hidden >= config.native_threshold
        self.bound: dict[int, Any] = {}

    @staticmethod
    def empty(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
        from ..cpu_backend import empty
        return empty(shape, FROM_NUMPY[like.dtype])

    zeros = staticmethod(lambda shape, like: np.zeros(shape, like.dtype))
    join = staticmethod(lambda a, b: np.concatenate([a, b]))
    repeat = staticmethod(lambda a, n: np.broadcast_to(a, (n, a.shape[0])))
    rows = staticmethod(lambda a, start, n: a[start:start + n])

    @staticmethod
    def columns(a: np.ndarray, n: int) -> np.ndarray:
        return a[:, :n]

    @staticmethod
    def product(a: np.ndarray, w: np.ndarray, out: np.ndarray) -> None:
        np.matmul(a, w, out)

    def table(self, entries: Sequence[Entry]) -> Any:
        """What ``step`` takes in place of the entries."""
        if not self.native:
            return entries
        from ..runtime.cpu_memory import address
        start = {k: address(a) for k, a in {id(a): a for a, _, _ in entries}.items()}
        return [(start[id(a)] + c * a.itemsize, a.strides[0], which) for a, c, which in entries], entries

    def step(self, table: Any, n: int, at: tuple[int, int, int], inputs: int) -> None:
        from .. import cpu_backend
        if not self.native:
            views = [a[at[w]:at[w] + n, c:c + self.hidden] for a, c, w in table]
            cpu_backend.loop(self.spec, views[:inputs], (), None, views[inputs:])
            return
        numbers, entries = table
        bound = self.bound.get(n)
        if bound is None:
            views = [a[at[w]:at[w] + n, c:c + self.hidden] for a, c, w in entries]
            run, sizes, strides = cpu_backend.native_plan(self.spec, views, inputs, (n, self.hidden), None)
            bound = self.bound[n] = run.bind(sizes, strides)
        bound([base + step * at[which] for base, step, which in numbers])


    def natively(self, entries: Callable[[bool], list[Entry]], inputs: int, steps: Sequence[tuple[int, int, int, int]],
                 operand: Callable[[bool], np.ndarray], w: np.ndarray, result: np.ndarray, loop_first: bool) -> bool:
        """Does a walk of equal lengths in native code, in parts of the batch; False where that cannot be. ``entries`` and ``operand`` (of
        the product, ``w`` its other one) are asked for the step at the start of the sequences and for the others."""
        from ..codegen import product
        from ..runtime import cpu_pool, cpu_walk
        k, n = w.shape
        if not self.native or min(k, n) < 2 or len({m for _, m, _, _ in steps}) > 1:
            return False
        b = steps[0][1]
        parts = max(1, min(cpu_pool.get_num_threads(), b // 8, len(steps) * b * k * n // 2_000_000))
        cuts = [b * i // parts for i in range(parts + 1)]
        tables = {start: self.table(entries(start)) for start in (True, False)}
        row = operand(False).shape[1]
        packed = {m: product.PackedOperand(w, m, row) for m in {hi - lo for lo, hi in zip(cuts, cuts[1:])}}
        jobs = [self._part(tables, inputs, steps, operand, packed[hi - lo], result, loop_first, lo, hi) for lo, hi in zip(cuts, cuts[1:])]
        cpu_walk.run(jobs, product.LEFT, product.RESULT)
        for job in jobs:
            key, made = job["made"]
            _blocks.setdefault(key, []).append(made)
        return True

    def _part(self, tables: dict[bool, Any], inputs: int, steps: Sequence[tuple[int, int, int, int]],
              operand: Callable[[bool], np.ndarray], packed: Any, result: np.ndarray, loop_first: bool, lo: int, hi: int) -> dict[str, Any]:
        from .. import cpu_backend
        from ..runtime.cpu_memory import address
        m, item = hi - lo, result.itemsize
        begins = np.array([not count for *_, count in steps])
        rows = np.array([(start, 0, last if count else 0) for start, _, last, count in steps], np.int64) + lo
        views = [a[:m, c:c + self.hidden] for a, c, _ in tables[True][1]]
        run, sizes, strides = cpu_backend.native_plan(self.spec, views, inputs, (m, self.hidden), None)
        key = run, tuple(sizes), tuple(strides)
        free = _blocks.get(key)
        made = free.pop() if free else run.bind(sizes, strides, 1).block()
        loop, block, units, _ = made
        table = np.empty((len(steps), 2 + len(views)), np.int64)
        for start in (True, False):
            base, step, which = np.array(tables[start][0], np.int64).T
            mine = begins == start
            table[mine, 2:] = base + step * rows[mine][:, which]
            a = operand(start)
            table[mine, 0] = address(a) + rows[mine, OWN if loop_first else BEFORE] * (a.shape[1] * item)
        table[:, 1] = address(result) + lo * result.shape[1] * item
        operands, at = packed.block()
        return {"steps": len(steps), "product": packed.function, "product_block": at, "product_units": packed.units, "loop": loop,
                "block": block, "units": units, "pointers": len(views), "loop_first": int(loop_first), "table": address(table),
                "keep": (table, operands), "made": (key, made)}


class _Cuda:
    """Array work of a walk on the GPU."""

    def __init__(self, spec: LoopSpec, rows: int, hidden: int) -> None:
        self.spec, self.hidden = spec, hidden

    @staticmethod
    def empty(shape: tuple[int, ...], like: Any) -> Any:
        from ..runtime.memory import empty
        return empty(shape, like.dtype, like.storage.device_index)

    @classmethod
    def zeros(cls, shape: tuple[int, ...], like: Any) -> Any:
        from ..triton_kernels.pointwise import fill
        out = cls.empty(shape, like)
        fill(out, 0)
        return out

    @classmethod
    def join(cls, a: Any, b: Any) -> Any:
        from ..triton_kernels.pointwise import copy
        out = cls.empty((a.shape[0] + b.shape[0], a.shape[1]), a)
        copy(a, cls.rows(out, 0, a.shape[0]))
        copy(b, cls.rows(out, a.shape[0], b.shape[0]))
        return out

    repeat = staticmethod(lambda a, n: a.view((n, a.shape[0]), (0, a.strides[0]), a.offset))
    rows = staticmethod(lambda a, start, n: a.view((n, a.shape[1]), a.strides, a.offset + start * a.strides[0]))
    columns = staticmethod(lambda a, n: a.view((a.shape[0], n), a.strides, a.offset))

    @staticmethod
    def product(a: Any, w: Any, out: Any) -> None:
        from ..triton_kernels.matmul import matmul_into
        matmul_into(a, w, out)

    @staticmethod
    def table(entries: Sequence[Entry]) -> Sequence[Entry]:
        return entries

    @staticmethod
    def natively(*args: Any) -> bool:
        return False

    def step(self, table: Sequence[Entry], n: int, at: tuple[int, int, int], inputs: int) -> None:
        from .. import cuda_backend
        views = [a.view((n, self.hidden), a.strides, a.offset + at[w] * a.strides[0] + c * a.strides[1]) for a, c, w in table]
        cuda_backend.loop(self.spec, views[:inputs], (), None, views[inputs:])


@cache
def _spec(op: OpDef, d: dtype, missing: str | None, params: tuple) -> LoopSpec:
    return loop_spec(op, [None if name == missing else (d, 2) for name in op.operands], params)


def _before_step(lib: Any, start: Any, rows: Any, n: int, last: int, count: int) -> tuple[Any, int]:
    """Where the state (or cell) before a step is: an array and its first row."""
    if not count:
        return start, 0
    if n <= count:
        return rows, last
    # sequences that begin at this step of a walk from the end
    return lib.join(lib.rows(rows, last, count), lib.rows(start, count, n - count)), 0


def _walk(make: Any, cell: Cell, x: Any, h0: Any, c0: Any, w: Any, bias: Any, d: dtype, sizes: Sequence[int],
          reverse: bool) -> list[Any]:
    """All steps: states, then cells (of an LSTM), then what the backward needs (where there is something). ``w``: (hidden, columns)."""
    rows, hidden = x.shape[0], h0.shape[1]
    lib = make(_spec(cell.step, d, "bias" if bias is None else None, cell.params), rows, hidden)
    out = lib.empty((rows, hidden), x)
    cells = lib.empty((rows, hidden), x) if cell.cell else None
    saved = lib.empty((rows, cell.saved * hidden), x) if cell.saved else None
    product = lib.empty((max(sizes), cell.gates * hidden), x)
    if bias is not None:
        bias = lib.repeat(bias, max(sizes))

    def entries(h: Any, c: Any) -> list[Entry]:
        found = [(a, k * hidden, which) for a, which in ((x, OWN), (product, SCRATCH)) for k in range(cell.gates)]
        if cell.cell:
            found.append((c, 0, BEFORE))
        elif cell.saved:
            found += ([] if bias is None else [(bias, 0, SCRATCH)]) + [(h, 0, BEFORE)]
        found += [(saved, k * hidden, OWN) for k in range(cell.saved)]
        return found + ([(cells, 0, OWN)] if cell.cell else []) + [(out, 0, OWN)]
    steps = list(_steps(sizes, reverse))
    inputs = len(entries(h0, c0)) - cell.saved - cell.cell - 1
    if not lib.natively(lambda start: entries(h0, c0) if start else entries(out, cells), inputs, steps,
                        lambda start: h0 if start else out, w, product, False):
        for start, n, last, count in steps:
            h, at = _before_step(lib, h0, out, n, last, count)
            c = _before_step(lib, c0, cells, n, last, count)[0] if cell.cell else None
            lib.product(lib.rows(h, at, n), w, lib.rows(product, 0, n))
            lib.step(lib.table(entries(h, c)), n, (start, 0, at), inputs)
    return [a for a in (out, cells, saved) if a is not None]


def _walk_back(make: Any, cell: Cell, g_out: Any, g_cells: Any, out: Any, cells: Any, saved: Any, h0: Any, c0: Any, w: Any,
               d: dtype, sizes: Sequence[int], reverse: bool) -> list[Any]:
    """Gradients of the sums in every row, of the initial state, and of the initial cell (of an LSTM). ``w``: (columns, hidden)."""
    rows, hidden = g_out.shape[0], h0.shape[1]
    lib = make(_spec(cell.step_grad, d, "g_cell" if g_cells is None else None, cell.params), rows, hidden)
    grads = lib.empty((rows, cell.grads * hidden), g_out)
    g_next = lib.zeros(h0.shape, g_out)
    carry = lib.zeros(h0.shape, g_out) if cell.saved else None
    first, rest = (c0, cells) if cell.cell else (h0, out)

    def entries(before: Any) -> list[Entry]:
        found = [(saved, k * hidden, OWN) for k in range(cell.saved)]
        found += [(before, 0, BEFORE)] if cell.saved else []
        found += [] if cell is GRU else [(cells if cell.cell else out, 0, OWN)]
        found += [(g_out, 0, OWN), (g_next, 0, SCRATCH)] + ([] if g_cells is None else [(g_cells, 0, OWN)])
        carried = [] if carry is None else [(carry, 0, SCRATCH)]
        return found + carried + [(grads, k * hidden, OWN) for k in range(cell.grads)] + carried
    steps = list(_steps(sizes, reverse))[::-1]
    inputs = len(entries(first)) - cell.grads - (carry is not None)
    if not lib.natively(lambda start: entries(first if start else rest), inputs, steps, lambda start: grads, w, g_next, True):
        for start, n, last, count in steps:
            before, at = _before_step(lib, first, rest, n, last, count)
            lib.step(lib.table(entries(before)), n, (start, 0, at), inputs)
            lib.product(lib.columns(lib.rows(grads, start, n), cell.gates * hidden), w, lib.rows(g_next, 0, n))
    return [a for a in (grads, g_next, carry) if a is not None]


# ---- operations

CELLS = {"lstm": LSTM, "gru": GRU, "rnn_tanh": TANH, "rnn_relu": RELU}


@opaque(name="recurrent_layer", function=False, method=False, n_outputs=3)
def recurrent_layer(x, h0, c0, weight, bias, kind: str, sizes: tuple, reverse: bool):
    """One layer in one direction.

    Args:
        x: products of the inputs with their weights, biases added: (rows, gates * hidden).
        h0, c0: initial state, and cell of an LSTM: (sequences, hidden).
        weight: of the state, (gates * hidden, hidden).
        bias: of a GRU's new gate inside the reset, (hidden,); None: none.
        kind: ``lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu``.
        sizes: how many sequences run at each step, not increasing.
        reverse: walk from the last step to the first.

    Returns: the states (rows, hidden); of an LSTM the cells; of an LSTM or GRU what the gradient needs.
    """
    cell, hidden = CELLS[kind], h0.shape[1]
    widths = [hidden] * (2 if cell.cell else 1) + ([cell.saved * hidden] if cell.saved else [])
    return [((x.shape[0], n), x.dtype) for n in widths]


@opaque(name="recurrent_layer_grad", function=False, method=False, n_outputs=3, differentiable=False)
def recurrent_layer_grad(g_out, g_cells, states, cells, saved, h0, c0, weight, kind: str, sizes: tuple, reverse: bool):
    """Gradients for the results of ``recurrent_layer``: of the sums under the gates in every row, of ``h0``, and of ``c0`` (LSTM) or
    the part of that of ``h0`` which is already in it (GRU: to be added)."""
    cell, hidden = CELLS[kind], h0.shape[1]
    rule = [((g_out.shape[0], cell.grads * hidden), g_out.dtype), (tuple(h0.shape), g_out.dtype)]
    return rule + ([(tuple(h0.shape), g_out.dtype)] if cell.saved else [])


def _wide(arrays: Sequence[Any]) -> tuple[list[Any], np.dtype]:
    """Row-major arrays, half types as float32; and the dtype they were."""
    first = next(a for a in arrays if a is not None).dtype
    target = np.float32 if FROM_NUMPY[first] in HALVES else first
    return [None if a is None else np.ascontiguousarray(a, target) for a in arrays], first


@recurrent_layer.cpu
def _(x, h0, c0, weight, bias, kind, sizes, reverse):  # noqa: ANN001, ANN202
    (x, h0, c0, w, bias), own = _wide([x, h0, c0, weight, bias])
    results = _walk(_Numpy, CELLS[kind], x, h0, c0, w.T, bias, FROM_NUMPY[x.dtype], sizes, reverse)
    return [r.astype(own, copy=False) for r in results]


@recurrent_layer_grad.cpu
def _(g_out, g_cells, out, cells, saved, h0, c0, weight, kind, sizes, reverse):  # noqa: ANN001, ANN202
    (g_out, g_cells, out, cells, saved, h0, c0, w), own = _wide([g_out, g_cells, out, cells, saved, h0, c0, weight])
    results = _walk_back(_Numpy, CELLS[kind], g_out, g_cells, out, cells, saved, h0, c0, w, FROM_NUMPY[w.dtype], sizes, reverse)
    return [r.astype(own, copy=False) for r in results]


def _dense(arrays: Sequence[Any]) -> list[Any]:
    from ..triton_kernels.pointwise import contiguous
    return [None if a is None else contiguous(a) for a in arrays]


@recurrent_layer.cuda
def _(x, h0, c0, weight, bias, kind, sizes, reverse):  # noqa: ANN001, ANN202
    x, h0, c0, w, bias = _dense([x, h0, c0, weight, bias])
    return _walk(_Cuda, CELLS[kind], x, h0, c0, w.view(w.shape[::-1], w.strides[::-1], w.offset), bias, x.dtype, sizes, reverse)


@recurrent_layer_grad.cuda
def _(g_out, g_cells, out, cells, saved, h0, c0, weight, kind, sizes, reverse):  # noqa: ANN001, ANN202
    return _walk_back(_Cuda, CELLS[kind], *_dense([g_out, g_cells, out, cells, saved, h0, c0, weight]), g_out.dtype, sizes, reverse)


def split_columns(x: Any, hidden: int) -> list[Any]:
    """The parts of ``hidden`` columns."""
    n, width = x._a.shape
    return [fn.slice_dims(x, ((0, n, 1), (k, min(k + hidden, width), 1))) for k in range(0, width, hidden)]


def walk_public(x: Any, h: Any, c: Any, weight: Any, bias: Any, kind: str, sizes: Sequence[int], reverse: bool,
                project: Any = None) -> list[Any]:
    """What ``recurrent_layer`` computes, with public operations. ``project`` (P, hidden): the state is the LSTM's times this."""
    cell, first, first_c = CELLS[kind], h, c
    states, cells, saved = {}, {}, {}
    hidden = weight._a.shape[0] // cell.gates
    for start, n, _, count in _steps(sizes, reverse):
        if count and n <= count:
            h, c = h[:n], c if c is None else c[:n]
        elif count:
            h, c = fn.cat([h, first[count:n]]), c if c is None else fn.cat([c, first_c[count:n]])
        else:
            h, c = first[:n], c if c is None else first_c[:n]
        parts = split_columns(x[start:start + n], hidden) + split_columns(fn.matmul(h, weight.t()), hidden)
        if cell.cell:
            *gates, c, h = fn.lstm_step(*parts, c)
            cells[start], saved[start] = c, fn.cat(gates, 1)
            h = h if project is None else fn.matmul(h, project.t())
        elif cell.saved:
            *gates, h = fn.gru_step(*parts, bias, h)
            saved[start] = fn.cat(gates, 1)
        else:
            h = fn.rnn_step(*parts, *cell.params)
        states[start] = h
    return [fn.cat([d[k] for k in sorted(d)]) for d in (states, cells, saved) if d]


@recurrent_layer.vjp("x", "h0", "c0", "weight", "bias", "out0", "out1", "out2")
def _(ctx: Any, g_out: Any, *more: Any) -> Any:
    from ..autograd import GradMode, enable_grad, grad
    kind, sizes, reverse = (ctx.attrs[k] for k in ("kind", "sizes", "reverse"))
    cell = CELLS[kind]
    x, h0, c0, w, bias = operands = [ctx[n] for n in ("x", "h0", "c0", "weight", "bias")]
    g_cells = more[0] if cell.cell else None
    if GradMode.enabled or (cell.saved and more[-1] is not None):  # to be differentiated again, or unusual: step by step
        again = GradMode.enabled
        with enable_grad():
            pairs = [(o, g) for o, g in zip(walk_public(*operands, kind, sizes, reverse), (g_out, *more)) if g is not None]
        wanted = [t for t, need in zip([t for t in operands if t is not None], ctx.needed) if need]
        found = iter(grad([o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=again, allow_unused=True))
        return [next(found) if need else None for need in ctx.needed]
    out, hidden = ctx["out0"], h0._a.shape[1]
    cells, saved = (ctx["out1"], ctx["out2"]) if cell.cell else (None, ctx["out1"] if cell.saved else None)
    g_out = fn.zeros_like(out) if g_out is None else g_out
    grads, g_h, *rest = fn.recurrent_layer_grad(g_out, g_cells, out, cells, saved, h0, c0, w, kind, sizes, reverse)
    if kind == "gru":
        g_h = g_h + rest.pop()
        gx = fn.cat([grads[:, :2 * hidden], grads[:, 3 * hidden:]], 1)
        grads = grads[:, :3 * hidden]
    else:
        gx = grads
    results = [gx, g_h, *rest]
    b = sizes[0]
    if len(set(sizes)) == 1:
        before = fn.cat([out[b:], h0] if reverse else [h0, out[:-b]])
    else:
        before = fn.cat([h0, out])[fn.from_numpy(_before(sizes, reverse)).to(out.device)]
    results.append(fn.matmul(grads.t(), before) if ctx.needed[len(results)] else None)
    if bias is not None:
        results.append(grads[:, 2 * hidden:].sum(0))
    return results
