"""A recurrence in native code: at every step one matrix product and one native loop, without Python in between.

The sequences of a batch do not meet, so parts of it walk on threads of their own. A *part* is a record of :data:`FIELDS` and a table with
one row a step: the addresses of the product's operand and result, then those of the loop's buffers. Both functions take a block of
arguments and a range of units.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import cpu_jit, cpu_pool
from .cpu_memory import address

FIELDS = ("steps", "product", "product_block", "product_units", "loop", "block", "units", "pointers", "loop_first", "table")

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
  %multiply = inttoptr i64 %product to ptr
  %operands = inttoptr i64 %product_block to ptr
  %pa = getelementptr i64, ptr %operands, i64 {left}
  %pc = getelementptr i64, ptr %operands, i64 {result}
  %fn = inttoptr i64 %loop to ptr
  %to = inttoptr i64 %block to ptr
  %rows = inttoptr i64 %table to ptr
  %width = add i64 %pointers, 2
  %first = icmp ne i64 %loop_first, 0
  br label %step
step:
  %s = phi i64 [ 0, %begin ], [ %s1, %next ]
  %left = icmp slt i64 %s, %steps
  br i1 %left, label %go, label %done
go:
  %off = mul i64 %s, %width
  %row = getelementptr i64, ptr %rows, i64 %off
  %a = load i64, ptr %row
  %cp = getelementptr i64, ptr %row, i64 1
  %c = load i64, ptr %cp
  store i64 %a, ptr %pa
  store i64 %c, ptr %pc
  br i1 %first, label %run, label %before
before:
  call void %multiply(ptr %operands, i64 0, i64 %product_units)
  br label %run
run:
  %from = getelementptr i64, ptr %row, i64 2
  %bytes = mul i64 %pointers, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  call void %fn(ptr %to, i64 0, i64 %units)
  br i1 %first, label %after, label %next
after:
  call void %multiply(ptr %operands, i64 0, i64 %product_units)
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
def _walk(left: int, result: int) -> int:
    fields = "\n".join(f"  %p_{name} = getelementptr i64, ptr %r, i64 {k}\n  %{name} = load i64, ptr %p_{name}"
                       for k, name in enumerate(FIELDS))
    return cpu_jit.compile_ir(_IR.format(count=len(FIELDS), fields=fields, left=left, result=result), ["walk"])["walk"]


def run(parts: Sequence[dict[str, Any]], left: int, result: int) -> None:
    """Runs the parts, each on a thread where one is free. ``left`` and ``result``: where the addresses of a product's operand and result
    go in its block."""
    records = np.array([[p[name] for name in FIELDS] for p in parts], np.int64)
    threads = min(len(parts), cpu_pool.get_num_threads())
    job = np.array(cpu_pool.record(address(records), threads, [(_walk(left, result), len(parts), 1)]), np.int64)
    cpu_pool.run(address(job), threads)
