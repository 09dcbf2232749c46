"""A recurrence in native code: at every step one matrix product of the BLAS and one native loop, without Python in between.

The sequences of a batch do not meet, so parts of it walk on threads of their own. A *part* is a record of :data:`FIELDS` and a table with
one row a step: the addresses of the product's operand and result, then those of the loop's buffers.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import blas, cpu_jit, cpu_pool
from .cpu_memory import address

FIELDS = ("steps", "gemm", "loop", "block", "units", "pointers", "loop_first", "m", "n", "k", "lda", "b", "ldb", "ldc", "table")

_IR = """
define void @walk(ptr %records, i64 %lo, i64 %hi) {{
e:
  br label %part
part:
  %u = phi i64 [ %lo, %e ], [ %u1, %done ]
  %more = icmp slt i64 %u, %hi
  br i1 %more, label %begin, label %out
begin:
  %at = mul i64 %u, {count}
  %r = getelementptr i64, ptr %records, i64 %at
{fields}
  %product = inttoptr i64 %gemm to ptr
  %fn = inttoptr i64 %loop to ptr
  %to = inttoptr i64 %block to ptr
  %rows = inttoptr i64 %table to ptr
  %bp = inttoptr i64 %b to ptr
  %width = add i64 %pointers, 2
  %first = icmp ne i64 %loop_first, 0
{sizes}
  br label %step
step:
  %s = phi i64 [ 0, %begin ], [ %s1, %next ]
  %left = icmp slt i64 %s, %steps
  br i1 %left, label %go, label %done
go:
  %off = mul i64 %s, %width
  %row = getelementptr i64, ptr %rows, i64 %off
  %a = load ptr, ptr %row
  %cp = getelementptr i64, ptr %row, i64 1
  %c = load ptr, ptr %cp
  br i1 %first, label %run, label %before
before:
  call void %product(i32 101, i32 111, i32 111, {i} %m_, {i} %n_, {i} %k_, {t} 1.0, ptr %a, {i} %lda_,
    ptr %bp, {i} %ldb_, {t} 0.0, ptr %c, {i} %ldc_)
  br label %run
run:
  %from = getelementptr i64, ptr %row, i64 2
  %bytes = mul i64 %pointers, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  call void %fn(ptr %to, i64 0, i64 %units)
  br i1 %first, label %after, label %next
after:
  call void %product(i32 101, i32 111, i32 111, {i} %m_, {i} %n_, {i} %k_, {t} 1.0, ptr %a, {i} %lda_,
    ptr %bp, {i} %ldb_, {t} 0.0, ptr %c, {i} %ldc_)
  br label %next
next:
  %s1 = add i64 %s, 1
  br label %step
done:
  %u1 = add i64 %u, 1
  br label %part
out:
  ret void
}}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


@functools.cache
def walker(d: np.dtype) -> tuple[int, int] | None:
    """The addresses of the native walk for float32 or float64 and of the product it calls; ``None`` where NumPy's BLAS is not one whose
    products can be called."""
    found = blas.product_address("s" if d == np.float32 else "d") if d in (np.float32, np.float64) else None
    if found is None:
        return None
    gemm, bits = found
    fields = "\n".join(f"  %p_{name} = getelementptr i64, ptr %r, i64 {k}\n  %{name} = load i64, ptr %p_{name}"
                       for k, name in enumerate(FIELDS))
    sizes = "\n".join(f"  %{name}_ = trunc i64 %{name} to i32" if bits == 32 else f"  %{name}_ = add i64 %{name}, 0"
                      for name in ("m", "n", "k", "lda", "ldb", "ldc"))
    ir = _IR.format(count=len(FIELDS), fields=fields, sizes=sizes, i=f"i{bits}", t="float" if d == np.float32 else "double")
    return cpu_jit.compile_ir(ir, ["walk"])["walk"], gemm


def run(walk: tuple[int, int], parts: Sequence[dict[str, Any]]) -> None:
    """Runs the parts, each on a thread where one is free."""
    at, gemm = walk
    records = np.array([[gemm if name == "gemm" else p[name] for name in FIELDS] for p in parts], np.int64)
    threads = min(len(parts), cpu_pool.get_num_threads())
    job = np.array(cpu_pool.record(address(records), threads, [(at, len(parts), 1)]), np.int64)
    with blas.one_thread():
        cpu_pool.run(address(job), threads)
