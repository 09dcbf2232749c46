"""Attention in one kernel, which keeps no scores: only the logarithm of each row's sum of exponentials, from which the backward computes
them again.

Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", 2023.
"""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import HALVES, dtype, float32
from .opdef import fn, opaque
from .views import sum_to_size


def _sums(d: dtype) -> dtype:
    return float32 if d in HALVES else d


@opaque(name="flash_attention", function=False, method=False, n_outputs=2, refuses="complex")
def flash_attention(query, key, value, mask, scale: float, causal: bool):
    """``softmax(query @ key.T * scale + mask) @ value``, and for each row the logarithm of the sum of exponentials.

    ``query`` (B, H, L, E), ``key`` (B, G, S, E), ``value`` (B, G, S, Ev), all of one floating dtype; H is a multiple of G, and each head of
    keys serves H / G query heads in a row. ``mask`` has four dimensions that broadcast to (B, H, L, S). With ``causal`` position i sees
    keys 0 .. i. A row that sees no key is zero, and its logarithm infinite."""
    b, h, rows, _ = query.shape
    return [((b, h, rows, value.shape[-1]), query.dtype), ((b, h, rows), _sums(query.dtype))]


@opaque(name="flash_attention_grad", function=False, method=False, n_outputs=3, refuses="complex")
def flash_attention_grad(grad, query, key, value, mask, result, lse, scale: float, causal: bool):
    """The gradients of query, key and value of ``flash_attention`` from that of its first result; ``result`` and
    ``lse`` are its results."""
    return [(tuple(x.shape), x.dtype) for x in (query, key, value)]


@flash_attention.cpu
def _(*args: Any) -> Any:
    from ..codegen import attention
    return attention.forward(*args)


@flash_attention_grad.cpu
def _(*args: Any) -> Any:
    from ..codegen import attention
    return attention.backward(*args)


@flash_attention.cuda
def _(*args: Any) -> Any:
    from ..triton_kernels import attention
    return attention.attention(*args)


@flash_attention_grad.cuda
def _(*args: Any) -> Any:
    from ..triton_kernels import attention
    return attention.attention_backward(*args)


# ---- with public operations, for what the kernels do not give


class _Formula:
    """The weights and what belongs to them, written out: heads of keys and their groups of query heads are two dimensions."""

    def __init__(self, query: Any, key: Any, value: Any, mask: Any, lse: Any, scale: float, causal: bool) -> None:
        d = lse.dtype
        self.heads = query._a.shape[1], key._a.shape[1]
        self.scale = scale
        self.q, self.k, self.v = self.grouped(query).to(d), key.unsqueeze(2).to(d), value.unsqueeze(2).to(d)
        scores = self.q @ self.k.transpose(-1, -2) * scale
        if mask is not None:
            scores = scores + (self.grouped(mask) if mask._a.shape[1] > 1 else mask.unsqueeze(2)).to(d)
        if causal:
            seen = fn.ones(query._a.shape[2], key._a.shape[2], dtype=d, device=query.device).tril() > 0
            scores = fn.where(seen, scores, fn.full((), -math.inf, dtype=d, device=query.device))
        self.weights = (scores - self.grouped(lse).unsqueeze(-1)).exp()

    def grouped(self, x: Any) -> Any:
        """(B, H, ...) as (B, G, H / G, ...)."""
        h, g = self.heads
        return x.reshape(x._a.shape[0], g, h // g, *x._a.shape[2:])

    def back(self, x: Any, like: tuple[int, ...]) -> Any:
        """The gradient of a query-like operand of shape ``like`` from its grouped form, or of a key-like one, summed over the group."""
        return x.reshape(like) if like[1] == self.heads[0] else x.sum(2)


@flash_attention.vjp("query", "key", "value", "mask", "out0", "out1")
def _(ctx: Any, g: Any, g_lse: Any) -> Any:
    q, k, v, mask, out, lse = [ctx[n] for n in ("query", "key", "value", "mask", "out0", "out1")]
    scale, causal = ctx.attrs["scale"], ctx.attrs["causal"]
    found: list[Any] = [None, None, None]
    if g is not None and any(ctx.needed[:3]):
        found = list(fn.flash_attention_grad(g, q, k, v, mask, out, lse, scale, causal))
    needs_mask = mask is not None and ctx.needed[3]
    if g_lse is None and not needs_mask:
        return found if mask is None else [*found, None]
    f = _Formula(q, k, v, mask, lse, scale, causal)
    slope = 0.0 if g_lse is None else f.grouped(g_lse).unsqueeze(-1) * f.weights
    if g_lse is not None:
        more = f.back(slope @ f.k * scale, q._a.shape), (slope.transpose(-1, -2) @ f.q * scale).sum(2)
        found = [x if t is None else t if x is None else x + t for x, t in zip(found, (more[0].to(q.dtype), more[1].to(k.dtype), None))]
    if mask is None:
        return found
    if not needs_mask:
        return [*found, None]
    if g is not None:
        wide = f.grouped(g).to(lse.dtype)
        delta = (wide * f.grouped(out)).sum(-1, keepdim=True)
        slope = slope + f.weights * (wide @ f.v.transpose(-1, -2) - delta)
    whole = slope.reshape(*q._a.shape[:3], k._a.shape[2])
    return [*found, sum_to_size(whole, mask._a.shape).to(mask.dtype)]


@flash_attention_grad.vjp("grad", "query", "key", "value", "mask", "result", "lse")
def _(ctx: Any, h_q: Any, h_k: Any, h_v: Any) -> Any:
    grad, q, k, v, mask, out, lse = [ctx[n] for n in ("grad", "query", "key", "value", "mask", "result", "lse")]
    scale, d = ctx.attrs["scale"], lse.dtype
    f = _Formula(q, k, v, mask, lse, scale, ctx.attrs["causal"])
    g, o, p = f.grouped(grad).to(d), f.grouped(out).to(d), f.weights
    h_q = fn.zeros_like(f.q) if h_q is None else f.grouped(h_q).to(d)
    h_k = fn.zeros_like(f.k) if h_k is None else h_k.unsqueeze(2).to(d)
    h_v = fn.zeros_like(f.v) if h_v is None else h_v.unsqueeze(2).to(d)
    excess = g @ f.v.transpose(-1, -2) - (g * o).sum(-1, keepdim=True)
    ds = p * excess * scale
    # dq = ds k, dk = ds.T q, dv = p.T g, where ds = p (g v.T - sum(g o)) scale
    on_ds = (h_q @ f.k.transpose(-1, -2) + f.q @ h_k.transpose(-1, -2)) * scale
    on_dp = p * on_ds
    on_delta = -on_dp.sum(-1, keepdim=True)
    on_score = p * (g @ h_v.transpose(-1, -2) + on_ds * excess)
    g_grad = p @ h_v + on_dp @ f.v + on_delta * o
    g_q = ds @ h_k + on_score @ f.k * scale
    g_k = ds.transpose(-1, -2) @ h_q + on_score.transpose(-1, -2) @ f.q * scale
    found = [f.back(g_grad, grad._a.shape), f.back(g_q, q._a.shape), g_k.sum(2), (on_dp.transpose(-1, -2) @ g).sum(2)]
    if mask is not None:
        found.append(sum_to_size(on_score.reshape(*q._a.shape[:3], k._a.shape[2]), mask._a.shape))
    found += [(on_delta * g).reshape(out._a.shape), -on_score.sum(-1).reshape(lse._a.shape)]
    given = [t for t in (grad, q, k, v, mask, out, lse) if t is not None]
    return [x.to(t.dtype) for x, t in zip(found, given)]
