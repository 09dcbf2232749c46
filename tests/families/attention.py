"""Attention: samples, and oracles that follow the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_makers import S, b, f


def _weights(scores, mask, scale, dim, keepdim):
    s = scores * scale + (0 if mask is None else mask)
    m = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isinf(m), 0, m))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def _scores(q, k, mask, scale, causal):
    s = q @ np.swapaxes(k.repeat(q.shape[1] // k.shape[1], 1), -1, -2) * scale + (0 if mask is None else mask)
    return np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf) if causal else s


def _flash(q, k, v, mask, scale, causal):
    s = _scores(q, k, mask, scale, causal)
    e = np.exp(s)
    total = e.sum(-1, keepdims=True)
    out = e / np.where(total == 0, 1, total) @ v.repeat(q.shape[1] // v.shape[1], 1)
    return out, np.where(total == 0, np.inf, np.log(np.where(total == 0, 1, total)))[..., 0]


def _flash_grad(grad, q, k, v, mask, out, lse, scale, causal):
    p = np.exp(_scores(q, k, mask, scale, causal) - lse[..., None])
    group = q.shape[1] // k.shape[1]
    ds = p * (grad @ np.swapaxes(v.repeat(group, 1), -1, -2) - (grad * out).sum(-1, keepdims=True)) * scale

    def summed(x):
        return x.reshape(x.shape[0], -1, group, *x.shape[2:]).sum(2)
    return ds @ k.repeat(group, 1), summed(np.swapaxes(ds, -1, -2) @ q), summed(np.swapaxes(p, -1, -2) @ grad)


def _weights_grad(grad, result, scale, dim, keepdim):
    return result * (grad - (grad * result).sum(-1, keepdims=True)) * scale


def _heads(q, k, v, e, heads, w, bias, bias_k, bias_v, zero, p, out_w, out_b, training=True, key_padding_mask=None, need_weights=True,
           attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None,
           average_attn_weights=True) -> Any:
    parts = np.split(w, 3) if w is not None else (q_proj_weight, k_proj_weight, v_proj_weight)
    bs = np.split(bias, 3) if bias is not None else (0, 0, 0)
    q, k, v = (x @ m.T + c for x, m, c in zip((q, k, v), parts, bs))
    n = q.shape[1]
    if bias_k is not None:
        k, v = np.concatenate([k, bias_k.repeat(n, 1)]), np.concatenate([v, bias_v.repeat(n, 1)])
    if zero:
        k, v = np.concatenate([k, 0 * k[:1]]), np.concatenate([v, 0 * v[:1]])
    out, weights = np.zeros_like(q), np.zeros((n, heads, len(q), len(k)))
    for j in range(n):
        for h in range(heads):
            at = slice(h * e // heads, (h + 1) * e // heads)
            s = q[:, j, at] @ k[:, j, at].T / np.sqrt(e // heads)
            if attn_mask is not None:
                s[:, : attn_mask.shape[1]] += np.where(attn_mask, -np.inf, 0) if attn_mask.dtype == bool else attn_mask
            if key_padding_mask is not None:
                s[:, : key_padding_mask.shape[1]] += np.where(key_padding_mask[j], -np.inf, 0)
            weights[j, h] = _weights(s, None, 1.0, -1, True)
            out[:, j, at] = weights[j, h] @ v[:, j, at]
    out = out @ out_w.T + out_b
    return out, (weights.mean(1) if average_attn_weights else weights) if need_weights else None


def _first_true(*shape: int) -> np.ndarray:
    m = b(*shape)
    m[..., 0] = True
    return m


def _small(*shape: int) -> np.ndarray:
    """Numbers whose sums of products stay near 1: half types round each of them."""
    return f(*shape, lo=-0.7, hi=0.7)


def _own(n: int, e: int) -> list:
    return [_small(n, 2, e), _small(n, 2, e), _small(n, 2, e), e, 2, _small(3 * e, e), _small(3 * e)]


SAMPLES = {
    "attention_weights": lambda: [
        S(f(2, 3, 5), None, 0.5, -1, True),
        S(f(2, 3, 5), f(3, 5), 1.0, -1, True),
        S(f(2, 3, 4), f(2, 1, 4), 2.0, -1, True),
        S(f(2, 3), np.array([[0, -np.inf, 0], [-np.inf] * 3]), 1.0, -1, True, grad=False),
    ],
    "attention_weights_grad": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=1), 0.5, -1, True)],
    "flash_attention": lambda: [
        S(f(2, 4, 3, 5), f(2, 2, 6, 5), f(2, 2, 6, 3), None, 0.5, False),
        S(f(1, 2, 5, 4), f(1, 2, 3, 4), f(1, 2, 3, 4), f(1, 2, 1, 3), 0.7, True),
        S(f(1, 1, 40, 17), f(1, 1, 37, 17), f(1, 1, 37, 33), f(1, 1, 40, 37), 0.2, True, grad=False),
        S(f(1, 1, 2, 3), f(1, 1, 3, 3), f(1, 1, 3, 3), np.array([[[[0, -np.inf, 0], [-np.inf] * 3]]]), 1.0, False, grad=False),
    ],
    "flash_attention_grad": lambda: [
        S(f(1, 4, 3, 3), f(1, 4, 3, 5), f(1, 2, 4, 5), f(1, 2, 4, 3), None, f(1, 4, 3, 3), f(1, 4, 3, lo=1, hi=3), 0.5, False),
        S(f(1, 1, 3, 2), f(1, 1, 3, 2), f(1, 1, 3, 2), f(1, 1, 3, 2), f(1, 1, 3, 3), f(1, 1, 3, 2), f(1, 1, 3, lo=1, hi=3), 0.5, True),
        S(f(1, 2, 50, 17), f(1, 2, 50, 20), f(1, 2, 37, 20), f(1, 2, 37, 17), None, f(1, 2, 50, 17), f(1, 2, 50, lo=4, hi=6), 0.1, True,
          grad=False),
    ],
    "multi_head_attention_forward": lambda: [
        S(*_own(3, 4), None, None, False, 0.0, _small(4, 4), _small(4)),
        S(*_own(3, 4), _small(1, 1, 4), _small(1, 1, 4), True, 0.0, _small(4, 4), _small(4), attn_mask=np.triu(np.ones((3, 3), bool), 1),
          average_attn_weights=False),
        S(*_own(3, 4), None, None, True, 0.0, _small(4, 4), _small(4), key_padding_mask=~_first_true(2, 3), need_weights=False),
        S(_small(3, 2, 4), _small(5, 2, 3), _small(5, 2, 6), 4, 2, None, _small(12), None, None, False, 0.0, _small(4, 4), _small(4),
          attn_mask=_small(3, 5),
          use_separate_proj_weight=True, q_proj_weight=_small(4, 4), k_proj_weight=_small(4, 3), v_proj_weight=_small(4, 6)),
    ],
}

ORACLES = {"attention_weights": _weights, "attention_weights_grad": _weights_grad, "flash_attention": _flash,
           "flash_attention_grad": _flash_grad, "multi_head_attention_forward": _heads}
