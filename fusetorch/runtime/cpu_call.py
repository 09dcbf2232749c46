"""Calls of native loops without ``ctypes``: a loop at fixed sizes becomes a built-in function of its arrays and scalars.

``ctypes`` costs more than a small loop. A launcher is native code that reads the arrays' data pointers and the numbers straight from the
interpreter's objects, writes them into the loop's argument block and runs it. It holds the interpreter lock, which is what keeps the block
its own: only loops that end soon are called so.
"""
from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import cpu_jit, cpu_pool
from .cpu_memory import DATA, DIRECT

_IR = """
declare double @PyFloat_AsDouble(ptr)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_SetString(ptr, ptr)
declare void @Py_IncRef(ptr)
@PyExc_TypeError = external global ptr
@_Py_NoneStruct = external global i8
@message = private constant [54 x i8] c"a native loop was called with other than its operands\\00"

; self: the address of a plan: argument block, number of arrays, number of scalars, a bit for each scalar (1: floating), the function that
; runs a record, record, the type of arrays, and where in the block each scalar goes
define ptr @launch(ptr %self, ptr %args, i64 %count) {
e:
  %plan = call ptr @PyLong_AsVoidPtr(ptr %self)
  %block = load ptr, ptr %plan
  %p1 = getelementptr i64, ptr %plan, i64 1
  %arrays = load i64, ptr %p1
  %p2 = getelementptr i64, ptr %plan, i64 2
  %scalars = load i64, ptr %p2
  %p3 = getelementptr i64, ptr %plan, i64 3
  %floating = load i64, ptr %p3
  %p4 = getelementptr i64, ptr %plan, i64 4
  %do = load ptr, ptr %p4
  %p5 = getelementptr i64, ptr %plan, i64 5
  %record = load ptr, ptr %p5
  %p6 = getelementptr i64, ptr %plan, i64 6
  %array = load ptr, ptr %p6
  %all = add i64 %arrays, %scalars
  %right = icmp eq i64 %all, %count
  br i1 %right, label %pointers, label %wrong
pointers:
  %i = phi i64 [ 0, %e ], [ %i1, %pointer ]
  %more = icmp slt i64 %i, %arrays
  br i1 %more, label %read, label %numbers
read:
  %pa = getelementptr ptr, ptr %args, i64 %i
  %a = load ptr, ptr %pa
  %pt = getelementptr i8, ptr %a, i64 TYPE_AT
  %t = load ptr, ptr %pt
  %known = icmp eq ptr %t, %array
  br i1 %known, label %pointer, label %wrong
pointer:
  %pd = getelementptr i8, ptr %a, i64 DATA_AT
  %d = load ptr, ptr %pd
  %slot = getelementptr ptr, ptr %block, i64 %i
  store ptr %d, ptr %slot
  %i1 = add i64 %i, 1
  br label %pointers
numbers:
  %j = phi i64 [ 0, %pointers ], [ %j1, %stored ]
  %k = add i64 %j, %arrays
  %left = icmp slt i64 %j, %scalars
  br i1 %left, label %number, label %run
number:
  %pn = getelementptr ptr, ptr %args, i64 %k
  %n = load ptr, ptr %pn
  %j7 = add i64 %j, 7
  %pw = getelementptr i64, ptr %plan, i64 %j7
  %where = load i64, ptr %pw
  %at = getelementptr i64, ptr %block, i64 %where
  %shifted = lshr i64 %floating, %j
  %bit = trunc i64 %shifted to i1
  br i1 %bit, label %real, label %whole
real:
  %x = call double @PyFloat_AsDouble(ptr %n)
  store double %x, ptr %at
  %odd = fcmp oeq double %x, -1.0
  br i1 %odd, label %doubt, label %stored
whole:
  %w = call i64 @PyLong_AsLongLong(ptr %n)
  store i64 %w, ptr %at
  %minus = icmp eq i64 %w, -1
  br i1 %minus, label %doubt, label %stored
doubt:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %stored, label %failed
stored:
  %j1 = add i64 %j, 1
  br label %numbers
run:
  call void %do(ptr %record)
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
wrong:
  %kind = load ptr, ptr @PyExc_TypeError
  call void @PyErr_SetString(ptr %kind, ptr @message)
  br label %failed
failed:
  ret ptr null
}
"""

_FASTCALL = 0x80


class _MethodDef(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


@functools.cache
def _maker() -> tuple[Callable[..., Any], _MethodDef]:
    """What makes a launcher, and the description of its code."""
    ir = _IR.replace("TYPE_AT", str(DATA - ctypes.sizeof(ctypes.c_void_p))).replace("DATA_AT", str(DATA))
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.argtypes, new.restype = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object], ctypes.py_object
    return new, _MethodDef(b"native_loop", cpu_jit.compile_ir(ir, ["launch"])["launch"], _FASTCALL, None)


def _locked() -> bool:
    """Whether the interpreter has its lock, which threads that share a launcher need."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def launcher(block: Any, record: int, arrays: int, floating: Sequence[bool], keep: Any,
             places: Sequence[int] = ()) -> Callable[..., None] | None:
    """A built-in function of ``arrays`` arrays and a number for each of ``floating`` (whether it is a floating one): writes them to the
    argument block and runs the job record at address ``record`` on this thread. ``None`` where the interpreter's objects are not laid out
    as expected. The function keeps ``block`` and ``keep`` alive. Numbers go behind the arrays' addresses, those after them to ``places`` in
    the block: whole ones."""
    if not (DIRECT and _locked()) or len(floating) + len(places) > 64:
        return None
    new, method = _maker()
    slots = [*range(arrays, arrays + len(floating)), *places]
    plan = (ctypes.c_int64 * (7 + len(slots)))(ctypes.addressof(block), arrays, len(slots), sum([f << i for i, f in enumerate(floating)]),
                                               cpu_pool.alone_at(), record, id(np.ndarray), *slots)
    return new(ctypes.addressof(method), ctypes.addressof(plan), (plan, block, keep, method))  # threads that race make several
