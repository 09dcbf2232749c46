"""A thread pool for native loops, itself native code: no interpreter lock, no C compiler.

A job is a function ``void f(ptr argument, i64 lo, i64 hi)`` over units ``0 <= u < n``, handed out in chunks. The caller works too.
A *record* says what to run: argument, workers, number of phases, then function, units, chunk, chunks of each phase.

All state is one ticket ``(job number << 32) | (chunks taken from the end << 16) | chunks taken from the start``: a chunk is taken by
compare-and-swap, which succeeds only while that job is unfinished, so a worker that the machine does not run never holds up a job of
which it has no chunk. Between two jobs, while the fields that say what to run change, the ticket is that of a job without chunks: a
worker that is late sees the old fields, or a ticket that gives it nothing. The caller takes chunks from the start and workers from the
end, so that with one worker a part of an array stays in one core's cache from job to job. Idle workers spin briefly, then sleep. One job
runs at a time; a second caller meanwhile runs its job alone.
"""
from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence

from .. import config

# Fields of the shared state, in 8-byte slots; hot ones have a cache line of their own.
_TICKET, _DONE, _FN, _ARG, _N, _CHUNK, _CHUNKS, _LIMIT, _SLEEPING, _MUTEX, _COND = 0, 8, 16, 17, 18, 19, 20, 21, 24, 32, 48
_BYTES = 1024
_SPIN = 2000
#: Chunks of a phase, at most.
_MOST = 65535

_IR = """
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()
{pause_declaration}

define internal void @chunks(ptr %j, i64 %job, i1 %caller) {{
e:
{fields}
  %fn = load atomic ptr, ptr %p_fn monotonic, align 8
  %arg = load atomic ptr, ptr %p_arg monotonic, align 8
  %n = load atomic i64, ptr %p_n monotonic, align 8
  %ch = load atomic i64, ptr %p_chunk monotonic, align 8
  %nc = load atomic i64, ptr %p_chunks monotonic, align 8
  fence acquire
  %step = select i1 %caller, i64 1, i64 65536
  %last = sub i64 %nc, 1
  br label %next
next:
  %t = load atomic i64, ptr %p_ticket seq_cst, align 8
  %tj = lshr i64 %t, 32
  %same = icmp eq i64 %tj, %job
  br i1 %same, label %mine, label %out
mine:
  %front = and i64 %t, 65535
  %t16 = lshr i64 %t, 16
  %back = and i64 %t16, 65535
  %taken = add i64 %front, %back
  %left = icmp slt i64 %taken, %nc
  br i1 %left, label %take, label %out
take:
  %from_end = sub i64 %last, %back
  %i = select i1 %caller, i64 %front, i64 %from_end
  %t1 = add i64 %t, %step
  %cx = cmpxchg ptr %p_ticket, i64 %t, i64 %t1 seq_cst seq_cst
  %won = extractvalue {{ i64, i1 }} %cx, 1
  br i1 %won, label %work, label %next
work:
  %lo = mul i64 %i, %ch
  %h = add i64 %lo, %ch
  %c = icmp slt i64 %h, %n
  %hi = select i1 %c, i64 %h, i64 %n
  call void %fn(ptr %arg, i64 %lo, i64 %hi)
  %d = atomicrmw add ptr %p_done, i64 1 seq_cst
  br label %next
out:
  ret void
}}

; start routine of a worker: its argument is the state's address plus its number, which is below 64
define ptr @pool_worker(i64 %tagged) {{
e:
  %index = and i64 %tagged, 63
  %base = and i64 %tagged, -64
  %j = inttoptr i64 %base to ptr
{fields}
  %first = load atomic i64, ptr %p_ticket seq_cst, align 8
  br label %idle
idle:
  %last = phi i64 [ 0, %e ], [ %job, %done ]
  br label %spin
spin:
  %k = phi i64 [ 0, %idle ], [ %k1, %spin1 ]
  %t = load atomic i64, ptr %p_ticket seq_cst, align 8
  %tj = lshr i64 %t, 32
  %new = icmp ne i64 %tj, %last
  br i1 %new, label %wake, label %spin1
spin1:
  {pause}
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, {spin}
  br i1 %more, label %spin, label %lock
lock:
  %r0 = call i32 @pthread_mutex_lock(ptr %p_mutex)
  %s0 = atomicrmw add ptr %p_sleeping, i64 1 seq_cst
  br label %check
check:
  %t2 = load atomic i64, ptr %p_ticket seq_cst, align 8
  %tj2 = lshr i64 %t2, 32
  %new2 = icmp ne i64 %tj2, %last
  br i1 %new2, label %unlock, label %sleep
sleep:
  %r1 = call i32 @pthread_cond_wait(ptr %p_cond, ptr %p_mutex)
  br label %check
unlock:
  %s1 = atomicrmw sub ptr %p_sleeping, i64 1 seq_cst
  %r2 = call i32 @pthread_mutex_unlock(ptr %p_mutex)
  br label %wake
wake:
  %t3 = load atomic i64, ptr %p_ticket seq_cst, align 8
  %job = lshr i64 %t3, 32
  %limit = load atomic i64, ptr %p_limit seq_cst, align 8
  %part = icmp slt i64 %index, %limit
  br i1 %part, label %run, label %done
run:
  call void @chunks(ptr %j, i64 %job, i1 false)
  br label %done
done:
  br label %idle
}}

; one phase of a job, by the workers and the caller
define internal void @phase(ptr %j, ptr %fn, ptr %arg, i64 %n, i64 %chunk, i64 %chunks, i64 %limit) {{
e:
{fields}
  %t = load atomic i64, ptr %p_ticket seq_cst, align 8
  %tj = lshr i64 %t, 32
  %shut = add i64 %tj, 1
  %shut32 = shl i64 %shut, 32
  %closed = or i64 %shut32, 4294967295
  store atomic i64 %closed, ptr %p_ticket seq_cst, align 8
  fence release
  store atomic ptr %fn, ptr %p_fn monotonic, align 8
  store atomic ptr %arg, ptr %p_arg monotonic, align 8
  store atomic i64 %n, ptr %p_n monotonic, align 8
  store atomic i64 %chunk, ptr %p_chunk monotonic, align 8
  store atomic i64 %chunks, ptr %p_chunks monotonic, align 8
  store atomic i64 %limit, ptr %p_limit monotonic, align 8
  store atomic i64 0, ptr %p_done seq_cst, align 8
  %up = add i64 %tj, 2
  %job = and i64 %up, 4294967295
  %t1 = shl i64 %job, 32
  store atomic i64 %t1, ptr %p_ticket seq_cst, align 8
  %s = load atomic i64, ptr %p_sleeping seq_cst, align 8
  %any = icmp ne i64 %s, 0
  br i1 %any, label %post, label %work
post:
  %r0 = call i32 @pthread_mutex_lock(ptr %p_mutex)
  %r1 = call i32 @pthread_cond_broadcast(ptr %p_cond)
  %r2 = call i32 @pthread_mutex_unlock(ptr %p_mutex)
  br label %work
work:
  call void @chunks(ptr %j, i64 %job, i1 true)
  br label %wait
wait:
  %k = phi i64 [ 0, %work ], [ %k1, %again ]
  %d = load atomic i64, ptr %p_done seq_cst, align 8
  %ok = icmp eq i64 %d, %chunks
  br i1 %ok, label %end, label %hold
hold:
  %k1 = add i64 %k, 1
  %long = icmp sgt i64 %k1, 4000
  br i1 %long, label %yield, label %pause
yield:
  %r3 = call i32 @sched_yield()
  br label %again
pause:
  {pause}
  br label %again
again:
  br label %wait
end:
  ret void
}}

define void @pool_run(ptr %j, ptr %record) {{
e:
{record}
  br label %next
next:
  %i = phi i64 [ 0, %e ], [ %i1, %done ]
  %more = icmp slt i64 %i, %phases
  br i1 %more, label %one, label %out
one:
{phase}
  %chunks = load i64, ptr %p_chunks
  %several = icmp sgt i64 %chunks, 1
  br i1 %several, label %many, label %alone
many:
  %chunk = load i64, ptr %p_chunk
  call void @phase(ptr %j, ptr %fn, ptr %arg, i64 %n, i64 %chunk, i64 %chunks, i64 %limit)
  br label %done
alone:
  call void %fn(ptr %arg, i64 0, i64 %n)
  br label %done
done:
  %i1 = add i64 %i, 1
  br label %next
out:
  ret void
}}
"""

_ALONE = """
define void @run_alone(ptr %record) {{
e:
{record}
  br label %next
next:
  %i = phi i64 [ 0, %e ], [ %i1, %one ]
  %more = icmp slt i64 %i, %phases
  br i1 %more, label %one, label %out
one:
{phase}
  call void %fn(ptr %arg, i64 0, i64 %n)
  %i1 = add i64 %i, 1
  br label %next
out:
  ret void
}}
"""

_RECORD = """  %arg = load ptr, ptr %record
  %p_limit = getelementptr i64, ptr %record, i64 1
  %limit = load i64, ptr %p_limit
  %p_phases = getelementptr i64, ptr %record, i64 2
  %phases = load i64, ptr %p_phases"""

_PHASE = """  %i4 = mul i64 %i, 4
  %at = add i64 %i4, 3
  %p_fn = getelementptr i64, ptr %record, i64 %at
  %fn = load ptr, ptr %p_fn
  %p_n = getelementptr i64, ptr %p_fn, i64 1
  %n = load i64, ptr %p_n
  %p_chunk = getelementptr i64, ptr %p_fn, i64 2
  %p_chunks = getelementptr i64, ptr %p_fn, i64 3"""


def _ir() -> str:
    from . import cpu_jit  # loads LLVM, which asking for the number of threads need not
    fields = "\n".join(f"  %p_{name} = getelementptr i64, ptr %j, i64 {at}" for name, at in (
        ("ticket", _TICKET), ("done", _DONE), ("fn", _FN), ("arg", _ARG), ("n", _N), ("chunk", _CHUNK),
        ("chunks", _CHUNKS), ("limit", _LIMIT), ("sleeping", _SLEEPING), ("mutex", _MUTEX), ("cond", _COND)))
    x86 = cpu_jit.is_x86()
    return _IR.format(fields=fields, spin=_SPIN, record=_RECORD, phase=_PHASE,
                      pause="call void @llvm.x86.sse2.pause()" if x86 else "fence seq_cst",
                      pause_declaration="declare void @llvm.x86.sse2.pause()" if x86 else "")


class _Pool:
    """The workers of this process. Their memory is never freed: they may look at it until the process ends."""

    def __init__(self) -> None:
        from . import cpu_jit
        code = cpu_jit.compile_ir(_ir(), ["pool_worker", "pool_run"])
        self.libc = ctypes.CDLL(None)
        self.libc.calloc.restype = ctypes.c_void_p
        self.state = (self.libc.calloc(1, _BYTES + 64) + 63) // 64 * 64
        self.libc.pthread_mutex_init(ctypes.c_void_p(self.state + 8 * _MUTEX), None)
        self.libc.pthread_cond_init(ctypes.c_void_p(self.state + 8 * _COND), None)
        self.worker = ctypes.c_void_p(code["pool_worker"])
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(code["pool_run"])
        self.workers = 0

    def grow(self, workers: int) -> None:
        while self.workers < min(workers, 64):
            thread = ctypes.c_void_p()
            failed = self.libc.pthread_create(ctypes.byref(thread), None, self.worker,
                                              ctypes.c_void_p(self.state + self.workers))
            if failed:
                break  # the system gives no more threads: fewer workers do the same work
            self.libc.pthread_detach(thread)
            self.workers += 1


_pool: _Pool | None = None
_busy = threading.Lock()


def _after_fork() -> None:
    global _pool, _busy
    _pool, _busy = None, threading.Lock()  # the child has no workers, and the lock may have been held


os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def get_num_threads() -> int:
    """Threads that a native loop may use: ``config.num_threads``, or the cores this process could run on when first asked."""
    return config.num_threads or _cores()


def set_num_threads(n: int) -> None:
    """Sets how many threads native loops use. Results do not depend on it. ``RuntimeError`` unless ``n`` is positive."""
    if n < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer, got {n}")
    config.num_threads = n


@functools.cache
def alone_at() -> int:
    """The address of the function that runs the job of a record on the calling thread."""
    from . import cpu_jit
    return cpu_jit.compile_ir(_ALONE.format(record=_RECORD, phase=_PHASE), ["run_alone"])["run_alone"]


@functools.cache
def _alone() -> Callable[[int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(alone_at())


def record(argument: int, threads: int, phases: Sequence[tuple[int, int, int]]) -> list[int]:
    """The slots of a job record: phases ``(address of the loop, units, smallest chunk)`` run one after another."""
    out = [argument, threads - 1, len(phases)]
    for fn, units, grain in phases:
        chunk = max(1, units if threads == 1 else max(grain, units // (8 * threads), -(-units // _MOST)))
        out += [fn, units, chunk, -(-units // chunk)]
    return out


def run(at: int, threads: int) -> None:
    """Runs the job whose record is at address ``at``, on ``threads`` threads where they are free."""
    global _pool
    if threads < 2 or not _busy.acquire(blocking=False):
        _alone()(at)
        return
    try:
        if _pool is None:
            _pool = _Pool()
        if _pool.workers < threads - 1:
            _pool.grow(threads - 1)
        _pool.call(_pool.state, at)
    finally:
        _busy.release()
