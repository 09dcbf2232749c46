"""nn.attention.flex_attention: against the formula."""
from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import fusetorch as torch
from fusetorch.nn.attention.flex_attention import (
    AuxRequest,
    BlockMask,
    and_masks,
    create_block_mask,
    create_mask,
    flex_attention,
    noop_mask,
    or_masks,
)


def attention(q, k, v, bias):
    scores = np.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1]) + bias
    e = np.exp(scores - np.where(np.isfinite(m := scores.max(-1, keepdims=True)), m, 0))
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.einsum("bhij,bhjd->bhid", e / np.where(total == 0, 1, total), v), np.log(total[..., 0]) + m[..., 0]


@pytest.fixture
def qkv():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((2, 3, n, 8)).astype("float32") for n in (20, 30, 30)]


def causal(b, h, i, j):
    return i >= j


def test_score_mod_with_a_table(qkv):
    table = np.random.default_rng(1).standard_normal((3, 60)).astype("float32")
    t = torch.from_numpy(table)
    out = flex_attention(*map(torch.from_numpy, qkv), lambda s, b, h, i, j: s + t[h, i - j + 30])
    where = np.arange(20)[:, None] - np.arange(30) + 30
    np.testing.assert_allclose(out.numpy(), attention(*qkv, table[:, where])[0], atol=1e-5)


def test_masked_rows_are_zero_and_lse_is_given(qkv):
    mask = create_block_mask(lambda b, h, i, j: (i >= j) & (i != 4), None, None, 20, 30)
    out, lse = flex_attention(*map(torch.from_numpy, qkv), block_mask=mask, return_lse=True)
    i, j = np.arange(20)[:, None], np.arange(30)
    expected, logs = attention(*qkv, np.where((i >= j) & (i != 4), 0, -np.inf))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(lse.numpy(), logs, atol=1e-5)
    assert (out[:, :, 4] == 0).all() and (lse[:, :, 4] == -math.inf).all()
    aux = flex_attention(*map(torch.from_numpy, qkv), return_aux=AuxRequest(max_scores=True))[1]
    assert aux.lse is None and aux.max_scores.shape == (2, 3, 20)


def test_gradients_and_compilation(qkv):
    q, k, v = [torch.from_numpy(a).double()[:1, :1, :5].requires_grad_() for a in qkv]
    mask = create_block_mask(causal, None, None, 5, 5)

    def f(q, k, v):
        return flex_attention(q, k, v, lambda s, b, h, i, j: torch.tanh(s) - (i - j).abs(), block_mask=mask)

    assert torch.autograd.gradcheck(f, (q, k, v))
    assert torch.allclose(torch.compile(f, fullgraph=True)(q, k, v), f(q, k, v))


def test_grouped_heads(qkv):
    q, k, v = map(torch.from_numpy, qkv)
    out = flex_attention(q, k[:, :1], v[:, :1], enable_gqa=True)
    assert torch.allclose(out, flex_attention(q, k[:, :1].expand(-1, 3, -1, -1), v[:, :1].expand(-1, 3, -1, -1)), atol=1e-6)
    with pytest.raises(ValueError, match="same number of heads"):
        flex_attention(q, k[:, :1], v[:, :1])
    with pytest.raises(ValueError, match="4D"):
        flex_attention(q[0], k, v)
    with pytest.raises(ValueError, match="same dtype"):
        flex_attention(q.double(), k, v)


def test_blocks():
    mask = create_block_mask(causal, None, 2, 64, 64, BLOCK_SIZE=16)
    assert mask.shape == (1, 2, 64, 64)
    assert mask.kv_num_blocks.tolist() == [[[1] * 4] * 2]
    assert mask.full_kv_num_blocks[0, 0].tolist() == [0, 1, 2, 3]
    assert mask.full_kv_indices[0, 0, 3, :3].tolist() == [0, 1, 2]
    assert mask.to_dense()[0, 0].tolist() == np.tri(4).tolist()
    assert mask.sparsity() == 37.5 and "sparsity=37.50%" in repr(mask)
    again = BlockMask.from_kv_blocks(mask.kv_num_blocks, mask.kv_indices, mask.full_kv_num_blocks, mask.full_kv_indices, 16, causal)
    assert again.to_dense().equal(mask.to_dense()) and again.shape == mask.shape
    assert mask[:, 0, :2].shape == (1, 1, 32, 64)
    with pytest.raises(ValueError, match="different length"):
        flex_attention(*[torch.ones(1, 2, 32, 4)] * 3, block_mask=mask)


def test_masks_combine():
    both = create_mask(and_masks(causal, lambda b, h, i, j: i - j < 2), None, None, 4, 4)
    assert both[0, 0].tolist() == (np.tri(4) - np.tri(4, k=-2)).astype(bool).tolist()
    assert create_mask(or_masks(causal, lambda b, h, i, j: i <= j), None, None, 3, 3).all()
    assert create_mask(noop_mask, 2, None, 3, 3).all() and create_mask(noop_mask, 2, None, 3, 3).shape == (2, 1, 3, 3)
    with pytest.raises(RuntimeError, match="callable"):
        and_masks(3)


def test_masks_may_be_methods_objects_and_partial_functions():
    class Within:
        def __init__(self, n):
            self.n = n

        def mask(self, b, h, q, kv):
            return (q - kv).abs() < self.n

        __call__ = mask

    def within(b, h, q, kv, n):
        return (q - kv).abs() < n

    wanted = create_mask(lambda b, h, q, kv: (q - kv).abs() < 2, None, None, 4, 4)
    for mod in (Within(2), Within(2).mask, functools.partial(within, n=2)):
        assert torch.equal(create_mask(mod, None, None, 4, 4), wanted)
