"""Pieces of LLVM IR text: types, constants, instructions, loops, conversions between dtypes, steps of reductions."""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

from ..dtypes import HALVES, bfloat16, bool_, dtype, float16, float32, float64, uint8
from ..ops.expr import Expr

#: Metadata of an access in a vector loop: iterations touch no common memory. (Elsewhere it means nothing.)
GROUP = ", !llvm.access.group !1"
#: End of a module: what ``#0`` and ``!1`` are.
ATTRIBUTES = """attributes #0 = {{ nounwind "prefer-vector-width"="{width}" "min-legal-vector-width"="0" }}
!1 = distinct !{{}}"""

# metadata of vector loops
PROGRESS = '!"llvm.loop.mustprogress"'
MASKED = '!"llvm.loop.vectorize.predicate.enable", i1 true'
SINGLE = '!"llvm.loop.interleave.count", i32 1'
# and of the loops around them, which gain nothing from copies of their bodies
_PLAIN = ('!"llvm.loop.vectorize.enable", i1 false', '!"llvm.loop.unroll.disable"')


_REGISTER = {"b1": "i1", "u8": "i8", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64", "f16": "float", "bf16": "float",
             "f32": "float", "f64": "double"}
_MEMORY = {"b1": "i8", "f16": "half", "bf16": "i16"}


def register_type(dt: dtype) -> str:
    """The LLVM type of a value of ``dt``; half types are held as float."""
    return _REGISTER[dt.code]


def memory_type(dt: dtype) -> str:
    """The LLVM type of a stored element of ``dt``."""
    return _MEMORY.get(dt.code) or _REGISTER[dt.code]


def literal(value: bool | int | float, dt: dtype) -> str:
    """A constant of ``dt`` as LLVM text."""
    if dt is bool_:
        return "true" if value else "false"
    if dt.category == 1:
        return str(value)
    value = float(value)
    if dt is float16 or dt is bfloat16:
        value = float(dt.np.type(value))
    elif dt is float32:
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = math.copysign(math.inf, value)
    return f"0x{struct.unpack('>Q', struct.pack('>d', value))[0]:016x}"


class Builder:
    """Text of one module: appends instructions, remembers declarations, makes loops."""

    def __init__(self, width: int, halves: bool = True) -> None:
        self.width = width  # preferred vector width in bits
        self.halves = halves  # whether the machine converts float16; where not, LLVM would call a function that may be missing
        self.declared: dict[str, None] = {}
        self.helpers: dict[str, None] = {}  # whole functions
        self.loops: list[str] = []
        self._n = 0
        self.begin()

    def begin(self) -> None:
        """Starts a function body."""
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self._hidden: dict[tuple[str, str], str] = {}
        self.current = "entry"

    def end(self) -> str:
        """The text of the body."""
        return "\n".join(["entry:", *self.allocas, *self.lines, "  ret void"])

    def alloca(self, t: str) -> str:
        """Memory of the function, 64-byte aligned."""
        r = self.name("a")
        self.allocas.append(f"  {r} = alloca {t}, align 64")
        return r

    def hidden(self, t: str, value: str) -> str:
        """A constant that LLVM does not know: read from memory once, where the function starts."""
        found = self._hidden.get((t, value))
        if found is None:
            p, found = self.alloca(t), self.name()
            self.allocas += [f"  store {t} {value}, ptr {p}", f"  {found} = load volatile {t}, ptr {p}"]
            self._hidden[t, value] = found
        return found

    def name(self, stem: str = "v") -> str:
        self._n += 1
        return f"%{stem}{self._n}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def op(self, text: str) -> str:
        """Appends an instruction with a result; returns its name."""
        r = self.name()
        self.lines.append(f"  {r} = {text}")
        return r

    def start(self, label: str) -> None:
        self.lines.append(label[1:] + ":")
        self.current = label[1:]

    def call(self, name: str, ret: str, args: Sequence[tuple[str, str]], attributes: str = "", flags: str = "") -> str:
        types = ", ".join(t for t, _ in args)
        self.declared[f"declare {ret} @{name}({types}){attributes}"] = None
        return self.op(f"call {flags}{ret} @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    def intrinsic(self, name: str, t: str, *args: str, flags: str = "") -> str:
        suffix = {"float": "f32", "double": "f64"}.get(t, t)
        return self.call(f"llvm.{name}.{suffix}", t, [(t, a) for a in args], flags=flags)

    def libm(self, name: str, t: str, *args: str) -> str:
        # memory(none): errno does not matter here, and a call that writes memory stops the vectoriser
        return self.call(name + ("f" if t == "float" else ""), t, [(t, a) for a in args],
                         " memory(none) nounwind willreturn")

    def loop(self, lo: str, hi: str, carried: Sequence[tuple[str, str]],
             body: Callable[[str, list[str]], list[str]], hints: Sequence[str] = ()) -> list[str]:
        """``for i in range(lo, hi)`` with carried ``(type, start)`` values; returns their values at the end.

        With ``hints`` (for the vectoriser) the loop is one whose iterations touch no common memory.
        """
        before, i, following = self.current, self.name("i"), self.name("n")
        top, end = self.name("loop"), self.name("end")
        self.do(f"br i1 {self.op(f'icmp slt i64 {lo}, {hi}')}, label {top}, label {end}")
        self.start(top)
        values = [self.name("c") for _ in carried]
        at = len(self.lines)
        new = body(i, values)
        latch = self.current
        self.do(f"{following} = add nsw i64 {i}, 1")
        mark = f", !llvm.loop !{self._loop_metadata(hints)}"
        self.do(f"br i1 {self.op(f'icmp slt i64 {following}, {hi}')}, label {top}, label {end}{mark}")
        self.lines[at:at] = [f"  {i} = phi i64 [ {lo}, %{before} ], [ {following}, %{latch} ]"] + [
            f"  {v} = phi {t} [ {s}, %{before} ], [ {n}, %{latch} ]" for v, (t, s), n in zip(values, carried, new)]
        self.start(end)
        return [self.op(f"phi {t} [ {s}, %{before} ], [ {n}, %{latch} ]") for (t, s), n in zip(carried, new)]

    def _loop_metadata(self, hints: Sequence[str]) -> int:
        number = 10 + len(self.loops)
        nodes = [f"!{{{h}}}" for h in hints or _PLAIN]
        if hints:
            nodes.append('!{!"llvm.loop.parallel_accesses", !1}')
        self.loops.append(f"!{number} = distinct !{{{', '.join([f'!{number}', *nodes])}}}")
        return number


# ---- conversions

def convert(b: Builder, v: str, src: dtype, dst: dtype) -> str:
    """Register value ``v`` of ``src`` as ``dst``. Floats out of an integer's range give its nearest end, NaN gives 0."""
    if src is dst:
        return v
    s, d = register_type(src), register_type(dst)
    if dst is bool_:
        if src.category == 2:
            return b.op(f"fcmp une {s} {v}, {literal(0.0, src)}")
        return b.op(f"icmp ne {s} {v}, 0")
    if src.category == 2 and dst.category == 2:
        if dst in HALVES:
            return round_half(b, v, src, dst)
        if s == d:
            return v
        return b.op(f"{'fpext' if d == 'double' else 'fptrunc'} {s} {v} to {d}")
    if src.category == 2:
        wide = "i32" if dst.itemsize < 4 else d  # narrow integers wrap, as C compilers make them on common machines
        n = b.call(f"llvm.fptosi.sat.{wide}.{'f32' if s == 'float' else 'f64'}", wide, [(s, v)])
        return n if wide == d else b.op(f"trunc {wide} {n} to {d}")
    if dst.category == 2:
        f = b.op(f"{'sitofp' if src.is_signed else 'uitofp'} {s} {v} to {d}")
        return round_half(b, f, float32, dst) if dst in HALVES else f
    if src.bits < dst.bits or src is bool_:
        return v if s == d else b.op(f"{'sext' if src.is_signed else 'zext'} {s} {v} to {d}")
    return v if s == d else b.op(f"trunc {s} {v} to {d}")


def round_half(b: Builder, v: str, src: dtype, dst: dtype) -> str:
    """``v`` rounded once to the half type ``dst``, as float."""
    if src is dst:
        return v
    return widen(b, narrow(b, v, src, dst), dst)


def narrow(b: Builder, v: str, src: dtype, dst: dtype) -> str:
    """``v`` rounded to nearest even, as stored bits of the half type ``dst``."""
    if src is float64:
        v = _round_to_odd(b, v)
    if dst is float16:
        return b.op(f"fptrunc float {v} to half") if b.halves else _to_half(b, v)
    bits = b.op(f"bitcast float {v} to i32")
    high = b.op(f"lshr i32 {bits}, 16")
    odd = b.op(f"and i32 {high}, 1")
    bias = b.op(f"add i32 {odd}, 32767")
    rounded = b.op(f"lshr i32 {b.op(f'add i32 {bits}, {bias}')}, 16")
    quiet = b.op(f"or i32 {high}, 64")
    nan = b.op(f"fcmp uno float {v}, {v}")
    return b.op(f"trunc i32 {b.op(f'select i1 {nan}, i32 {quiet}, i32 {rounded}')} to i16")


def widen(b: Builder, v: str, src: dtype) -> str:
    """Stored bits ``v`` of the half type ``src`` as float."""
    if src is float16:
        return b.op(f"fpext half {v} to float") if b.halves else _from_half(b, v)
    wide = b.op(f"zext i16 {v} to i32")
    return b.op(f"bitcast i32 {b.op(f'shl i32 {wide}, 16')} to float")


def _to_half(b: Builder, v: str) -> str:
    """float32 to float16 with float32 arithmetic, which does the rounding (after M. Dukhan's FP16 library)."""
    w = b.op(f"bitcast float {v} to i32")
    twice = b.op(f"shl i32 {w}, 1")
    large = b.op(f"fmul float {b.intrinsic('fabs', 'float', v)}, {literal(2.0**112, float32)}")
    base = b.op(f"fmul float {large}, {literal(2.0**-110, float32)}")
    bias = b.intrinsic("umax", "i32", b.op(f"and i32 {twice}, {0xFF000000}"), str(0x71000000))
    half_bias = b.op(f"lshr i32 {bias}, 1")
    ulp = b.op(f"bitcast i32 {b.op(f'add i32 {half_bias}, {0x07800000}')} to float")
    bits = b.op(f"bitcast float {b.op(f'fadd float {ulp}, {base}')} to i32")
    exponent = b.op(f"and i32 {b.op(f'lshr i32 {bits}, 13')}, {0x7C00}")
    number = b.op(f"add i32 {exponent}, {b.op(f'and i32 {bits}, 4095')}")
    nan = b.op(f"icmp ugt i32 {twice}, {0xFF000000}")
    number = b.op(f"select i1 {nan}, i32 {0x7E00}, i32 {number}")
    sign = b.op(f"and i32 {b.op(f'lshr i32 {w}, 16')}, {0x8000}")
    whole = b.op(f"or i32 {sign}, {number}")
    return b.op(f"bitcast i16 {b.op(f'trunc i32 {whole} to i16')} to half")


def _from_half(b: Builder, v: str) -> str:
    """float16 to float32: a multiplication moves the exponent, which makes subnormals right, too."""
    w = b.op(f"zext i16 {b.op(f'bitcast half {v} to i16')} to i32")
    magnitude = b.op(f"and i32 {w}, 32767")
    wide = b.op(f"bitcast i32 {b.op(f'shl i32 {magnitude}, 13')} to float")
    scaled = b.op(f"fmul float {wide}, {literal(2.0**112, float32)}")
    bits = b.op(f"bitcast float {scaled} to i32")
    infinite = b.op(f"icmp ugt i32 {magnitude}, {0x7BFF}")  # or NaN
    bits = b.op(f"select i1 {infinite}, i32 {b.op(f'or i32 {bits}, {0x7F800000}')}, i32 {bits}")
    sign = b.op(f"shl i32 {b.op(f'and i32 {w}, 32768')}, 16")
    return b.op(f"bitcast i32 {b.op(f'or i32 {bits}, {sign}')} to float")


def _round_to_odd(b: Builder, v: str) -> str:
    """A double as float, inexact results made odd, so that a second rounding rounds as one would (Boldo and Melquiond, 2008)."""
    f = b.op(f"fptrunc double {v} to float")
    back = b.op(f"fpext float {f} to double")
    bits = b.op(f"bitcast float {f} to i32")
    above = b.op(f"fcmp ogt double {b.intrinsic('fabs', 'double', back)}, {b.intrinsic('fabs', 'double', v)}")
    lower = b.op(f"sub i32 {bits}, {b.op(f'zext i1 {above} to i32')}")
    inexact = b.op(f"fcmp one double {back}, {v}")
    odd = b.op(f"select i1 {inexact}, i32 {b.op(f'or i32 {lower}, 1')}, i32 {bits}")
    return b.op(f"bitcast i32 {odd} to float")


# ---- reductions

def combine(b: Builder, kind: str, dt: dtype, a: str, v: str, flags: str = "") -> str:
    """``a`` and ``v`` of ``dt`` under reduction ``kind``."""
    t = register_type(dt)
    if t in ("float", "double"):
        if kind in ("sum", "prod"):
            return b.op(f"{'fadd' if kind == 'sum' else 'fmul'} {flags}{t} {a}, {v}")
        return b.intrinsic(kind + "imum", t, a, v, flags="nsz ")  # which zero wins is left open, as in NumPy
    if kind in ("sum", "prod"):
        return b.op(f"{'add' if kind == 'sum' else 'mul'} {t} {a}, {v}") if dt is not bool_ else b.op(
            f"{'or' if kind == 'sum' else 'and'} i1 {a}, {v}")
    if dt is bool_:
        return b.op(f"{'or' if kind == 'max' else 'and'} i1 {a}, {v}")
    return b.intrinsic(("u" if dt is uint8 else "s") + kind, t, a, v)


def identity(kind: str, dt: dtype) -> str:
    """The start value of reduction ``kind`` in ``dt``."""
    if kind in ("sum", "prod"):
        return literal(0 if kind == "sum" else 1, dt)
    if dt.category == 2:
        return literal(-math.inf if kind == "max" else math.inf, dt)
    if dt is bool_:
        return "false" if kind == "max" else "true"
    low, high = (0, 255) if dt is uint8 else (-(1 << dt.bits - 1), (1 << dt.bits - 1) - 1)
    return str(low if kind == "max" else high)


def total_dtype(e: Expr) -> dtype:
    """What the blocks of reduction ``e`` are added up in."""
    return float64 if e.dtype.category == 2 and e.attr in ("sum", "prod") else e.dtype


def acc_dtype(e: Expr) -> dtype:
    """What reduction ``e`` accumulates in within a block."""
    return float32 if e.dtype in HALVES else e.dtype


# ---- transposition

def pack(b: Builder, t: str, tile: int, src: str, stride: str, dst: str, rows: str, columns: str) -> None:
    """Copies ``src[j * stride + i]`` to ``dst[i * tile + j]`` for ``i < rows``, ``j < columns`` (at most ``tile``)."""
    raw = {"half": "i16", "float": "i32", "double": "i64"}.get(t, t)
    b.helpers[_PACK.format(t=raw, tile=tile, net=_network(raw, tile))] = None
    b.do(f"call void @pack_{raw}(ptr {src}, i64 {stride}, ptr {dst}, i64 {rows}, i64 {columns})")


def _network(t: str, tile: int) -> str:
    """An 8 x 8 transposition as three rounds of shuffles."""
    size = {"i8": 1, "i16": 2, "i32": 4, "i64": 8}[t]
    out, rows = [], []
    for r in range(8):
        out.append(f"  %o{r} = mul i64 %stride, {r}\n  %a{r} = getelementptr {t}, ptr %from, i64 %o{r}\n"
                   f"  %x{r} = load <8 x {t}>, ptr %a{r}, align {size}")
        rows.append(f"%x{r}")
    for step in (4, 2, 1):
        # swap the off-diagonal blocks of size ``step``
        low = ", ".join(f"i32 {c if not c & step else 8 + c - step}" for c in range(8))
        high = ", ".join(f"i32 {c + step if not c & step else 8 + c}" for c in range(8))
        new = list(rows)
        for r in range(8):
            if not r & step:
                for at, mask in ((r, low), (r + step, high)):
                    new[at] = f"%s{step}_{at}"
                    out.append(f"  {new[at]} = shufflevector <8 x {t}> {rows[r]}, <8 x {t}> {rows[r + step]}, <8 x i32> <{mask}>")
        rows = new
    for r in range(8):
        out.append(f"  %b{r} = getelementptr {t}, ptr %to, i64 {r * tile}\n  store <8 x {t}> {rows[r]}, ptr %b{r}, align {size}")
    return "\n".join(out)


_PACK = """define internal void @pack_{t}(ptr %src, i64 %stride, ptr %dst, i64 %rows, i64 %columns) #0 {{
entry:
  %r8 = and i64 %rows, -8
  %c8 = and i64 %columns, -8
  br label %j
j:
  %j0 = phi i64 [ 0, %entry ], [ %j1, %jnext ]
  %jin = icmp slt i64 %j0, %c8
  br i1 %jin, label %i, label %edge
i:
  %i0 = phi i64 [ 0, %j ], [ %i1, %block ]
  %iin = icmp slt i64 %i0, %r8
  br i1 %iin, label %block, label %jnext
block:
  %sj = mul i64 %j0, %stride
  %si = add i64 %sj, %i0
  %from = getelementptr {t}, ptr %src, i64 %si
  %di = mul i64 %i0, {tile}
  %dj = add i64 %di, %j0
  %to = getelementptr {t}, ptr %dst, i64 %dj
{net}
  %i1 = add i64 %i0, 8
  br label %i
jnext:
  %j1 = add i64 %j0, 8
  br label %j
edge:
  %ej = phi i64 [ 0, %j ], [ %ej1, %ejnext ]
  %ejin = icmp slt i64 %ej, %columns
  br i1 %ejin, label %erow, label %out
erow:
  ; a column that blocks cover needs only the rows they do not
  %covered = icmp slt i64 %ej, %c8
  %first = select i1 %covered, i64 %r8, i64 0
  br label %ei
ei:
  %ek = phi i64 [ %first, %erow ], [ %ek1, %ecopy ]
  %ekin = icmp slt i64 %ek, %rows
  br i1 %ekin, label %ecopy, label %ejnext
ecopy:
  %es = mul i64 %ej, %stride
  %es1 = add i64 %es, %ek
  %ep = getelementptr {t}, ptr %src, i64 %es1
  %ev = load {t}, ptr %ep
  %ed = mul i64 %ek, {tile}
  %ed1 = add i64 %ed, %ej
  %eq = getelementptr {t}, ptr %dst, i64 %ed1
  store {t} %ev, ptr %eq
  %ek1 = add i64 %ek, 1
  br label %ei
ejnext:
  %ej1 = add i64 %ej, 1
  br label %edge
out:
  ret void
}}"""
