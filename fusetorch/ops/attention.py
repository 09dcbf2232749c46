"""Attention.

Source: Vaswani et al., "Attention Is All You Need", 2017.
"""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import HALVES, bool_, float32, float64
from ..shapes import broadcast_shapes
from . import primitives as P
from .expr import cast, reduce
from .opdef import composite, fn, reduction
from .views import sum_to_size


@composite(nn=True, function=False, method=False, autocast="lower", layout="heads")
def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """``softmax(query @ key.T * scale + mask) @ value``.

    Args:
        query, key, value: (..., L, E), (..., S, E) and (..., S, Ev); leading dimensions broadcast.
        attn_mask: bool (True takes part) or floating (added), broadcastable to (..., L, S).
        dropout_p: probability with which attention weights are zeroed.
        is_causal: position i attends to positions 0 .. i only (of those that ``attn_mask`` allows).
        scale: 1 / sqrt(E) unless given.
        enable_gqa: key and value may have fewer heads (dimension -3), each serving a group of query heads.

    Returns: (..., L, Ev).
    """
    if not query.dtype is key.dtype is value.dtype:
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype} key.dtype: "
                           f"{key.dtype} and value.dtype: {value.dtype} instead.")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(f"Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: {query.ndim}, key.dim: "
                           f"{key.ndim} and value.dim: {value.ndim} instead.")
    if not query.dtype.is_floating_point:
        raise NotImplementedError(f"scaled_dot_product_attention: expected a floating-point dtype, got {query.dtype}")
    if not 0.0 <= dropout_p <= 1.0:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    if attn_mask is not None and attn_mask.dtype is not bool_ and attn_mask.dtype is not query.dtype:
        raise RuntimeError(f"Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                           f"{attn_mask.dtype} and  query.dtype: {query.dtype} instead.")
    if enable_gqa:
        key, value = _shared_heads(query, key, value)
    if scale is None:
        scale = 1.0 / math.sqrt(query._a.shape[-1]) if query._a.shape[-1] else 1.0
    if dropout_p == 0.0:
        out = _in_one_kernel(query, key, value, attn_mask, is_causal, float(scale), enable_gqa)
        if out is not None:
            return out
    if enable_gqa:
        key, value = _repeated(query, key), _repeated(query, value)
    broadcast_shapes(query._a.shape[:-2], key._a.shape[:-2])  # RuntimeError where they do not
    half = query.dtype if query.dtype in HALVES else None
    if half is not None:  # scores and weights in float32, as the fused kernels have them
        query, key, value = query.to(float32), key.to(float32), value.to(float32)
    scores = fn.matmul(query, key.transpose(-1, -2))
    mask = _added(attn_mask, is_causal, query, key)
    weights = fn.attention_weights(scores, mask, scale, -1, True)
    if dropout_p > 0.0:
        weights = fn.dropout(weights, dropout_p, True)
    out = fn.matmul(weights, value)
    return out if half is None else out.to(half)


#: The longest rows of queries and values that the kernels on ``cuda`` take.
_WIDEST = 256


def _in_one_kernel(query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: float, grouped: bool) -> Any:
    """The result by ``flash_attention``; ``None`` where that does not take the operands."""
    q, k, v = query._a.shape, key._a.shape, value._a.shape
    if query.device.type != "cpu" and (query.dtype is float64 or max(q[-1], v[-1]) > _WIDEST):
        return None
    if 0 in q or 0 in k or 0 in v or q[-1] != k[-1] or k[-2] != v[-2]:
        return None  # nothing to do, or an error that matmul explains
    if grouped:
        batch = tuple(broadcast_shapes(q[:-3], k[:-3], v[:-3]))
        lead, lead_keys = (*batch, q[-3]), (*batch, k[-3])
    else:
        lead = lead_keys = tuple(broadcast_shapes(q[:-2], k[:-2], v[:-2]))
    whole = (*lead, q[-2], k[-2])
    if mask is not None:
        mask = _added(mask, False, query, key)
        m = (1,) * (4 - mask.ndim) + tuple(mask._a.shape)
        if tuple(broadcast_shapes(m, whole)[-len(whole):]) != whole or mask.ndim > len(whole):
            return None
        if all(n == 1 for n in m[:-3]):
            mask = mask.reshape(1, *m[-3:])
        elif len(lead) != 2:
            mask = mask.expand(*lead[:-1], *m[-3:]).reshape(-1, *m[-3:])
    folded = [_four(x, want) for x, want in ((query, (*lead, *q[-2:])), (key, (*lead_keys, *k[-2:])), (value, (*lead_keys, *v[-2:])))]
    out = fn.flash_attention(*folded, mask, scale, bool(is_causal))[0]
    return out if len(lead) == 2 else out.reshape(*lead, q[-2], v[-1])


def _four(x: Any, shape: tuple[int, ...]) -> Any:
    """``x`` expanded to ``shape``, as four dimensions of which the last three are its own."""
    if tuple(x._a.shape) != shape:
        x = x.expand(shape)
    return x if len(shape) == 4 else x.reshape(-1 if len(shape) > 4 else 1, *((1,) * (3 - len(shape)) + shape)[-3:])


def _shared_heads(query: Any, key: Any, value: Any) -> tuple[Any, Any]:
    """Keys and values with as many heads as each other, which serve groups of query heads."""
    heads = query._a.shape[-3]
    for x in (key, value):
        own = x._a.shape[-3]
        if own == 0 or heads % own:
            raise RuntimeError(f"Number of heads in key and value must divide the number of heads in query, got {own} and {heads}")
    if key._a.shape[-3] != value._a.shape[-3]:
        key, value = _repeated(query, key), _repeated(query, value)
    return key, value


def _repeated(query: Any, x: Any) -> Any:
    """Keys or values with each head repeated for its group of query heads."""
    heads, own = query._a.shape[-3], x._a.shape[-3]
    return x if own == heads else fn.repeat_interleave(x, heads // own, -3)


def _added(mask: Any, is_causal: bool, query: Any, key: Any) -> Any:
    """Both masks as one to be added to the scores: once here, not for every head."""
    d, device = query.dtype, query.device
    causal = None
    if is_causal:
        rows = fn.arange(query._a.shape[-2], device=device).unsqueeze(-1)
        causal = rows >= fn.arange(key._a.shape[-2], device=device)
    if mask is not None and mask.dtype is bool_:
        mask, causal = None, mask if causal is None else mask & causal
    if causal is not None:
        zero, never = (fn.full((), v, dtype=d, device=device) for v in (0.0, -math.inf))
        causal = fn.where(causal, zero, never)
    return causal if mask is None else mask if causal is None else mask + causal


@reduction(name="attention_weights", function=False, method=False, promote="floating", keep=("mask",))
def attention_weights(scores, mask, scale: float, dim=None, keepdim=False):
    """``softmax(scores * scale + mask)``, zero in rows that attend to nothing."""
    s = scores * scale if mask is None else scores * scale + cast(mask, scores.dtype)
    largest = reduce("max", s)
    e = P.exp(s - P.where(P.eq(largest, -math.inf), 0.0, largest))
    total = reduce("sum", e)
    return e / P.where(P.eq(total, 0.0), 1.0, total)


@reduction(name="attention_weights_grad", function=False, method=False, promote="floating")
def attention_weights_grad(grad, result, scale: float, dim=None, keepdim=False):
    """The gradient of the scores of ``attention_weights`` from its result."""
    return result * (grad - reduce("sum", grad * result)) * scale


@attention_weights.vjp("mask", "out")
def _(ctx: Any, g: Any) -> Any:
    dim, y, mask = ctx.attrs["dim"], ctx["out"], ctx["mask"]
    g_scores = fn.attention_weights_grad(g, y, ctx.attrs["scale"], dim, True) if ctx.needed[0] else None
    if mask is None:
        return g_scores
    if not ctx.needed[1]:
        return g_scores, None
    return g_scores, sum_to_size(fn.attention_weights_grad(g, y, 1.0, dim, True), ctx.shape(1)).to(mask.dtype)


@attention_weights_grad.vjp("grad", "result")
def _(ctx: Any, g: Any) -> Any:
    grad, y, dim = ctx["grad"], ctx["result"], ctx.attrs["dim"]
    g = g * ctx.attrs["scale"]
    gy = (g * y).sum(dim, keepdim=True)
    return y * (g - gy), g * (grad - (grad * y).sum(dim, keepdim=True)) - grad * gy


def _mask(mask: Any, name: str, target: Any) -> Any:
    """A mask to be added: True (not to be attended to) becomes minus infinity."""
    if mask is None:
        return None
    if mask.dtype is bool_:
        return fn.zeros_like(mask, dtype=target).masked_fill(mask, float("-inf"))
    if not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask


def _heads(rows: Any, parts: int, heads: int) -> Any:
    """(L, N, parts * E) as ``parts`` tensors (N, heads, L, E / heads) over the same memory."""
    length, batch, width = rows._a.shape
    return rows.reshape(length, batch, parts, heads, width // (parts * heads)).permute(2, 1, 3, 0, 4)


def _projected(query: Any, key: Any, value: Any, weight: Any, bias: Any, heads: int) -> list[Any]:
    """The heads of queries, keys and values from one weight (3 E, E): one product where the inputs are the same tensor."""
    e = query._a.shape[-1]

    def made(x: Any, start: int, stop: int) -> list[Any]:
        whole = start == 0 and stop == 3
        w, b = [t if t is None or whole else t[start * e:stop * e] for t in (weight, bias)]
        found = _heads(fn.linear(x, w, b), stop - start, heads)
        return [found[k] for k in range(stop - start)]
    if key is value:
        return made(query, 0, 3) if query is key else made(query, 0, 1) + made(key, 1, 3)
    return made(query, 0, 1) + made(key, 1, 2) + made(value, 2, 3)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_ranks(query: Any, key: Any, value: Any, padding: Any, mask: Any, heads: int) -> bool:
    """Whether the inputs are batched; ``AssertionError`` where ranks do not fit, as in PyTorch."""
    _check(query.ndim in (2, 3), f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor")
    batched, n = query.ndim == 3, query.ndim
    kind = "batched (3-D)" if batched else "unbatched (2-D)"
    _check(key.ndim == value.ndim == n, f"For {kind} `query`, expected `key` and `value` to be {n}-D but found {key.ndim}-D and "
                                        f"{value.ndim}-D tensors respectively")
    if padding is not None:
        _check(padding.ndim == n - 1, f"For {kind} `query`, expected `key_padding_mask` to be `None` or {n - 1}-D but found "
                                      f"{padding.ndim}-D tensor instead")
    if mask is not None:
        _check(mask.ndim in (2, 3), f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found "
                                       f"{mask.ndim}-D tensor instead")
        if not batched and mask.ndim == 3:
            want = (heads, query._a.shape[0], key._a.shape[0])
            _check(tuple(mask.shape) == want, f"Expected `attn_mask` shape to be {want} but got {mask.shape}")
    return batched


@composite(nn=True, function=False, method=False)
def multi_head_attention_forward(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
                                 add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None,
                                 need_weights=True, attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None,
                                 k_proj_weight=None, v_proj_weight=None, static_k=None, static_v=None, average_attn_weights=True,
                                 is_causal=False):
    """Attention with several heads, from projections of ``query``, ``key`` and ``value``; see ``nn.MultiheadAttention``.

    Args:
        query, key, value: (L, N, E), (S, N, Ek), (S, N, Ev), or without N.
        embed_dim_to_check: E. num_heads: divides E.
        in_proj_weight, in_proj_bias: (3 E, E) and (3 E), or with ``use_separate_proj_weight`` ``q_proj_weight`` (E, E), ``k_proj_weight``
            (E, Ek), ``v_proj_weight`` (E, Ev).
        bias_k, bias_v: (1, 1, E), one more key and value. add_zero_attn: one more of zeros.
        key_padding_mask: (N, S), bool (True: left out) or floating (added).
        attn_mask: (L, S) or (N * heads, L, S), bool (True: left out) or floating (added).
        need_weights: also give the weights, (N, L, S), or (N, heads, L, S) unless ``average_attn_weights``.
        static_k, static_v: (N * heads, S, E / heads), in place of projected keys and values.
        is_causal: a hint that ``attn_mask`` is the causal mask.

    Returns: output (L, N, E), and the weights or None. ``AssertionError`` or ``RuntimeError`` where shapes do not fit.
    """
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        same, shared = key is value, query is key
        query = query.unsqueeze(1)
        key = query if shared else key.unsqueeze(1)
        value = key if same else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, e = query._a.shape
    key_padding_mask = _mask(key_padding_mask, "key_padding_mask", query.dtype)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                           "`generate_square_subsequent_mask` to create this mask.")
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None  # the hint says it all
    else:
        attn_mask, is_causal = _mask(attn_mask, "attn_mask", query.dtype), False
    _check(e == embed_dim_to_check, f"was expecting embedding dimension of {embed_dim_to_check}, but got {e}")
    _check(e % num_heads == 0, f"embed_dim {e} not divisible by num_heads {num_heads}")
    head = e // num_heads
    if use_separate_proj_weight:
        _check(key._a.shape[:2] == value._a.shape[:2], f"key's sequence and batch dims {key.shape[:2]} do not match "
                                                          f"value's {value.shape[:2]}")
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        for n, w in zip("qkv", weights):
            _check(w is not None, f"use_separate_proj_weight is True but {n}_proj_weight is None")
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        q, k, v = [_heads(fn.linear(x, w, b), 1, num_heads)[0] for x, w, b in zip((query, key, value), weights, biases)]
    else:
        _check(key._a.shape == value._a.shape, f"key shape {key.shape} does not match value shape {value.shape}")
        _check(in_proj_weight is not None, "use_separate_proj_weight is False but in_proj_weight is None")
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias, num_heads)
    if attn_mask is not None:
        want = (length, key._a.shape[0]) if attn_mask.ndim == 2 else (batch * num_heads, length, key._a.shape[0])
        if tuple(attn_mask.shape) != want:
            raise RuntimeError(f"The shape of the {attn_mask.ndim}D attn_mask is {attn_mask.shape}, but should be {want}.")
    _check((bias_k is None) == (bias_v is None), "bias_k and bias_v must be given together")
    more = 0
    if bias_k is not None:
        _check(static_k is None and static_v is None, "bias cannot be added to static key or value.")
        k, v = [fn.cat([x, _heads(b.expand(1, batch, e), 1, num_heads)[0]], 2) for x, b in ((k, bias_k), (v, bias_v))]
        more = 1
    for name, x in (("static_k", static_k), ("static_v", static_v)):
        if x is not None:
            _check(x._a.shape[0] == batch * num_heads, f"expecting {name}.size(0) of {batch * num_heads}, but got {x._a.shape[0]}")
            _check(x._a.shape[2] == head, f"expecting {name}.size(2) of {head}, but got {x._a.shape[2]}")
    k, v = [x if s is None else s.reshape(batch, num_heads, s._a.shape[1], head) for x, s in ((k, static_k), (v, static_v))]
    if add_zero_attn:
        zero = fn.zeros((batch, num_heads, 1, head), dtype=k.dtype, device=k.device)
        k, v, more = fn.cat([k, zero], 2), fn.cat([v, zero], 2), more + 1
    if more:
        attn_mask, key_padding_mask = [None if m is None else fn.pad(m, (0, more)) for m in (attn_mask, key_padding_mask)]
    size = k._a.shape[2]
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.reshape(batch, num_heads, *attn_mask._a.shape[1:])
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (batch, size):
            raise AssertionError(f"expecting key_padding_mask shape of {(batch, size - more)}, but got "
                                 f"{(key_padding_mask.shape[0], key_padding_mask.shape[1] - more)}")
        each = key_padding_mask.reshape(batch, 1, 1, size)
        attn_mask = each if attn_mask is None else attn_mask + each
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        scores = fn.matmul(q * (1.0 / math.sqrt(head)), k.transpose(-1, -2))
        weights = fn.softmax(scores if attn_mask is None else scores + attn_mask, -1)
        if dropout_p > 0.0:
            weights = fn.dropout(weights, dropout_p, True)
        out = fn.matmul(weights, v)
        weights = weights.mean(1) if average_attn_weights else weights
        weights = weights if batched else weights.squeeze(0)
    else:
        out, weights = scaled_dot_product_attention.body(q, k, v, attn_mask, dropout_p, is_causal), None
    out = fn.linear(out.permute(2, 0, 1, 3).reshape(length * batch, e), out_proj_weight, out_proj_bias)
    out = out.reshape(length, batch, out._a.shape[1])
    return out if batched else out.squeeze(1), weights
