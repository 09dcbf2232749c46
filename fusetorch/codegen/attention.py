"""Attention on the CPU: calls of native kernels (:mod:`fusetorch.codegen.llvm_attention`)."""
from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence

import numpy as np

from ..dtypes import FROM_NUMPY, HALVES
from ..runtime import cpu_jit, cpu_pool
from ..runtime.cpu_memory import address, empty
from .llvm_attention import FIELDS, Variant, emit, tile_vectors
from .vector_functions import function, registers

#: Multiply-adds below which one thread does the work.
_SMALL = 400_000
#: Query rows of a block: a multiple of the rows of all tiles.
_FORWARD, _BACKWARD = 24, 48


def _rows(x: np.ndarray) -> np.ndarray:
    """``x`` with neighbours of the last dimension side by side."""
    return x if x.strides[-1] == x.itemsize or x.shape[-1] == 1 else np.ascontiguousarray(x)


def forward(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, scale: float,
            causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """``softmax(q @ k.T * scale + mask) @ v`` for q (B, H, L, E), k (B, G, S, E), v (B, G, S, Ev), mask as the scores, with H a multiple of
    G; and the logarithm of each row's sum of exponentials (B, H, L), in float32 for half types."""
    if FROM_NUMPY[q.dtype] in HALVES:
        out, lse = forward(*[x if x is None else x.astype(np.float32) for x in (q, k, v, mask)], scale, causal)
        return out.astype(q.dtype), lse
    out = empty((*q.shape[:3], v.shape[3]), q.dtype)
    lse = empty(q.shape[:3], q.dtype)
    if out.size:
        _call("forward", [_rows(x) for x in (q, k, v)], None, mask, scale, causal, {"out": out, "lse": lse})
    return out, lse


def backward(grad: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, out: np.ndarray, lse: np.ndarray,
             scale: float, causal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of q, k and v from that of the result of :func:`forward`."""
    if FROM_NUMPY[q.dtype] in HALVES:
        wide = [x if x is None else x.astype(np.float32) for x in (grad, q, k, v, mask, out)]
        return tuple([x.astype(q.dtype) for x in backward(*wide, lse.astype(np.float32), scale, causal)])  # type: ignore[return-value]
    grads = [empty(x.shape, x.dtype) for x in (q, k, v)]
    q, k, v, grad = [_rows(x) for x in (q, k, v, grad)]
    out, lse = np.ascontiguousarray(out), np.ascontiguousarray(lse)
    if not q.size:  # no rows: nothing flows to the keys
        for g in grads:
            g.fill(0)
    else:
        _call("backward", [q, k, v], grad, mask, scale, causal, {"out": out, "lse": lse, "dq": grads[0], "dk": grads[1], "dv": grads[2]})
    return grads[0], grads[1], grads[2]


def _call(kind: str, operands: list[np.ndarray], grad: np.ndarray | None, mask: np.ndarray | None, scale: float, causal: bool,
          others: dict[str, np.ndarray]) -> None:
    q = operands[0]
    if mask is not None:
        keys = operands[1].shape[2]
        mask = _rows(mask if mask.shape[-1] == keys else np.broadcast_to(mask, (*mask.shape[:-1], keys)))
        mask = np.broadcast_to(mask, (*q.shape[:3], keys))
    arrays = [*operands, grad, mask]
    layouts = tuple([None if x is None else (x.shape, x.strides) for x in arrays])
    make, at, size, number, record, threads, _ = _plan(kind, q.itemsize == 8, layouts, causal, cpu_pool.get_num_threads())
    scratch = empty((size * number,), q.dtype)
    block = make()
    for name, x in zip(("q", "k", "v", "grad", "mask"), arrays):
        if x is not None:
            block[at[name]] = address(x)
    for name, x in others.items():
        block[at[name]] = address(x)
    block[at["scratch"]] = address(scratch)
    block[at["scale"]] = struct.unpack("q", struct.pack("d", scale))[0]
    base = ctypes.addressof(block)
    block[record] = base
    cpu_pool.run(base + 8 * record, threads)


@functools.lru_cache(512)
def _plan(kind: str, double: bool, layouts: tuple, causal: bool, threads: int) -> tuple:
    """``(argument block, places of fields, elements of scratch, how many times, place of the record, threads, table)``."""
    item = 8 if double else 4
    n = cpu_jit.vector_bits() // (8 * item)
    wide = n * tile_vectors(registers())
    (b, h, rows, width), (_, g, keys, _), (_, _, _, v_width) = (shape for shape, _ in layouts[:3])
    group, heads = h // g, b * g
    work = b * h * rows * keys * (width + v_width) // (2 if causal else 1)
    threads = threads if work >= _SMALL else 1
    size = _FORWARD if kind == "forward" else _BACKWARD
    padded, v_padded = (-(-w // n) * n for w in (width, v_width))
    splits = max(1, min(-(-rows // size), threads // heads)) if kind == "forward" else 1
    units = heads * splits
    parts = 1 if threads == 1 else min(units, 4 * threads)
    all_keys = -(-keys // wide) * wide
    p_row = all_keys + n
    if kind == "forward":
        needs = {"at_kt": all_keys * padded, "at_v": keys * v_padded, "at_p": size * p_row, "at_dq": size * v_padded, "at_sums": size}
    else:
        needs = {"at_kt": all_keys * padded, "at_k": keys * padded, "at_vt": all_keys * v_padded, "at_p": size * p_row,
                 "at_ds": size * p_row, "at_q": size * padded, "at_grad": size * v_padded, "at_dq": size * padded, "at_dk": keys * padded,
                 "at_dv": keys * v_padded}
    places, end = {}, 0
    for name, count in needs.items():
        places[name] = end
        end += -(-count // 16) * 16
    end += 16 * (1 - end // 16 % 2)
    steps: list[Sequence[int]] = [(0,) * 4 if x is None else [s // item if d > 1 else 0 for d, s in zip(*x)] for x in layouts]

    def offsets(x: int) -> np.ndarray:
        s = steps[x]
        heads_of = g if x in (1, 2) else h
        return (np.arange(b)[:, None] * s[0] + np.arange(heads_of) * s[1]).reshape(heads, -1)
    each = np.stack([offsets(0), offsets(3), offsets(4)], -1).reshape(heads, 3 * group)
    table = np.ascontiguousarray(np.concatenate([offsets(1), offsets(2), each], 1).astype(np.int64))
    values = {"table": address(table), "scratch_size": end, "parts": parts, "splits": splits, "units": units, "group": group, "rows": rows,
              "keys": keys, "width": width, "v_width": v_width, "padded": padded, "v_padded": v_padded, "p_row": p_row,
              "q_row": steps[0][2], "k_row": steps[1][2], "v_row": steps[2][2], "grad_row": steps[3][2], "mask_row": steps[4][2],
              "causal": int(causal), "block": size, **places}
    found = function(emit, Variant(kind, double, layouts[4] is not None, registers()))
    record = cpu_pool.record(0, threads, [(found, parts, 1)])[1:]
    fields = [values.get(name, 0) for name in FIELDS]
    fields = [*fields, 0, *record]
    make = functools.partial(ctypes.c_int64 * len(fields), *fields)
    return make, {f: i for i, f in enumerate(FIELDS)}, end, parts, len(FIELDS), threads, table
