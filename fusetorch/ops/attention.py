"""Attention.

Source: Vaswani et al., "Attention Is All You Need", 2017.
"""
from __future__ import annotations

import math

from ..dtypes import bool_
from .opdef import composite, fn


@composite(nn=True, function=False, method=False, autocast="lower")
def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """``softmax(query @ key.T * scale + mask) @ value``.

    Args:
        query, key, value: (..., L, E), (..., S, E) and (..., S, Ev); leading dimensions broadcast.
        attn_mask: bool (True takes part) or floating (added), broadcastable to (..., L, S).
        dropout_p: probability with which attention weights are zeroed.
        is_causal: position i attends to positions 0 .. i only; excludes ``attn_mask``.
        scale: 1 / sqrt(E) unless given.
        enable_gqa: key and value may have fewer heads (dimension -3), each serving a group of query heads.

    Returns: (..., L, Ev).
    """
    if not query.dtype is key.dtype is value.dtype:
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got query.dtype: "
                           f"{query.dtype} key.dtype: {key.dtype} "
                           f"and value.dtype: {value.dtype} instead.")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(f"Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: {query.ndim}, key.dim: "
                           f"{key.ndim} and value.dim: {value.ndim} instead.")
    if is_causal and attn_mask is not None:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa:
        heads = query._a.shape[-3]
        key = fn.repeat_interleave(key, heads // key._a.shape[-3], -3)
        value = fn.repeat_interleave(value, heads // value._a.shape[-3], -3)
    factor = 1.0 / math.sqrt(query._a.shape[-1]) if scale is None else scale
    scores = fn.matmul(query, key.transpose(-1, -2)) * factor
    if is_causal:
        rows = fn.arange(query._a.shape[-2], device=query.device).unsqueeze(-1)
        attn_mask = rows >= fn.arange(key._a.shape[-2], device=query.device)
    if attn_mask is not None:
        if attn_mask.dtype is bool_:
            scores = fn.where(attn_mask, scores, float("-inf"))
        else:
            if attn_mask.dtype is not query.dtype:
                raise RuntimeError(f"Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                                   f"{attn_mask.dtype} and  query.dtype: {query.dtype} instead.")
            scores = scores + attn_mask
    weights = fn.softmax(scores, -1)
    if attn_mask is not None and attn_mask.dtype is bool_:
        # a row that attends to nothing is zero
        weights = weights.masked_fill((~attn_mask).all(-1, keepdim=True), 0.0)
    if dropout_p > 0.0:
        weights = fn.dropout(weights, dropout_p, True)
    return fn.matmul(weights, value)
