"""``torch.nn.attention.flex_attention``: attention with a function of the user's on each score, or a mask given as a function.

Dong et al., "Flex Attention: A Programming Model for Generating Optimized Attention Kernels" (2024). The user's functions are called once,
with index tensors that broadcast against the scores, so ``score + bias[h, q_idx - kv_idx]`` is one gather. The scores are held in memory:
within ``torch.compile`` what the functions do fuses with the softmax, but blocks that a mask empties are not skipped.
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import fusetorch as torch
from fusetorch import Tensor

__all__ = ["AuxOutput", "AuxRequest", "BlockMask", "and_masks", "create_block_mask", "create_mask", "flex_attention", "noop_mask",
           "or_masks"]

_DEFAULT_SPARSE_BLOCK_SIZE = 128


class AuxRequest(NamedTuple):
    """What :func:`flex_attention` is to give beside its output."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What :func:`flex_attention` gives beside its output; None for what was not asked for."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def noop_mask(batch: Tensor, head: Tensor, token_q: Tensor, token_kv: Tensor) -> Tensor:
    """A mask that lets everything through."""
    return batch.new_ones((), dtype=torch.bool)


def and_masks(*mask_mods: Callable) -> Callable:
    """The mask that lets through what all of these do."""
    _callable(mask_mods)

    def mask(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        result = b.new_ones((), dtype=torch.bool)
        for mod in mask_mods:
            result = result & mod(b, h, q, kv)
        return result
    return mask


def or_masks(*mask_mods: Callable) -> Callable:
    """The mask that lets through what any of these does."""
    _callable(mask_mods)

    def mask(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        result = b.new_zeros((), dtype=torch.bool)
        for mod in mask_mods:
            result = result | mod(b, h, q, kv)
        return result
    return mask


def _callable(mods: tuple) -> None:
    if not all(callable(m) for m in mods):
        raise RuntimeError(f"All inputs should be callable mask_mods: {mods}")


def _indices(sizes: tuple[int, int, int, int], device: Any) -> list[Tensor]:
    """The four index tensors, each along an axis of its own."""
    return [torch.arange(n, device=device).view([-1 if i == axis else 1 for i in range(4)]) for axis, n in enumerate(sizes)]


def create_mask(mod_fn: Callable, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = "cpu") -> Tensor:
    """The mask that a function describes, as a bool tensor ``(B, H, Q_LEN, KV_LEN)``; ``B`` and ``H`` of None are 1.

    A function of five arguments is a ``score_mod``: the result is what it makes of zeros.
    """
    sizes = (B or 1, H or 1, Q_LEN, KV_LEN)
    where = _indices(sizes, device)
    required = [p for p in inspect.signature(mod_fn).parameters.values() if p.default is p.empty and p.kind in (
        p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(required) == 5:
        scores = torch.zeros(sizes, device=device)
        return mod_fn(scores, *where).expand(sizes)
    return mod_fn(*where).expand(sizes)


class BlockMask:
    """A mask given as a function, and which blocks of the scores it leaves empty, cuts, and leaves whole.

    ``kv_num_blocks (B, H, rows)`` and ``kv_indices (B, H, rows, columns)`` list the cut blocks of each row of blocks, ``full_kv_...`` the
    whole ones, ``q_...`` the same by column. Made by :func:`create_block_mask` or :meth:`from_kv_blocks`.
    """

    def __init__(self, seq_lengths: tuple[int, int], partial: Tensor, full: Tensor | None, block_size: tuple[int, int],
                 mask_mod: Callable) -> None:
        self.seq_lengths, self.BLOCK_SIZE, self.mask_mod = seq_lengths, block_size, mask_mod
        self._partial, self._full = partial, full
        self.kv_num_blocks, self.kv_indices = _ordered(partial)
        self.q_num_blocks, self.q_indices = _ordered(partial.transpose(-2, -1))
        self.full_kv_num_blocks, self.full_kv_indices = (None, None) if full is None else _ordered(full)
        self.full_q_num_blocks, self.full_q_indices = (None, None) if full is None else _ordered(full.transpose(-2, -1))

    @classmethod
    def from_kv_blocks(cls, kv_num_blocks: Tensor, kv_indices: Tensor, full_kv_num_blocks: Tensor | None = None,
                       full_kv_indices: Tensor | None = None, BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE,
                       mask_mod: Callable | None = None, seq_lengths: tuple[int, int] | None = None,
                       compute_q_blocks: bool = True) -> BlockMask:
        """A mask from the lists of its blocks."""
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask must have at least 2 dimensions")
        if (full_kv_num_blocks is None) != (full_kv_indices is None):
            raise AssertionError("full_kv_num_blocks and full_kv_indices must be both provided or omitted")
        block = BLOCK_SIZE if isinstance(BLOCK_SIZE, tuple) else (BLOCK_SIZE, BLOCK_SIZE)
        partial = _unordered(kv_num_blocks, kv_indices)
        full = None if full_kv_num_blocks is None else _unordered(full_kv_num_blocks, full_kv_indices)
        lengths = seq_lengths or (partial.shape[-2] * block[0], partial.shape[-1] * block[1])
        return cls(lengths, partial, full, block, mask_mod or noop_mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(B, H, Q_LEN, KV_LEN)``."""
        return (*self._partial.shape[:-2], *self.seq_lengths)

    def numel(self) -> int:
        """How many scores the mask is for."""
        return math.prod(self.shape)

    def sparsity(self) -> float:
        """How many of the scores lie in empty blocks, in percent; below 0 where blocks reach beyond the scores, as in PyTorch."""
        return 100 * (1 - self.to_dense().sum().item() * math.prod(self.BLOCK_SIZE) / self.numel())

    def to_dense(self) -> Tensor:
        """Which blocks are not empty: 0 or 1 for each."""
        kept = self._partial if self._full is None else self._partial | self._full
        return kept.to(torch.int32)

    def to(self, device: Any) -> BlockMask:
        """The mask on a device."""
        return BlockMask(self.seq_lengths, self._partial.to(device), None if self._full is None else self._full.to(device),
                         self.BLOCK_SIZE, self.mask_mod)

    def __getitem__(self, index: Any) -> BlockMask:
        """The mask of some of the batches, heads and rows of blocks; its function is still that of the whole."""
        index = index if isinstance(index, tuple) else (index,)
        index = tuple(slice(i, i + 1) if isinstance(i, int) else i for i in index)
        partial = self._partial[index]
        lengths = (min(partial.shape[-2] * self.BLOCK_SIZE[0], self.seq_lengths[0]), self.seq_lengths[1])
        return BlockMask(lengths, partial, None if self._full is None else self._full[index], self.BLOCK_SIZE, self.mask_mod)

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%)"


def _ordered(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each row has, and the numbers of its columns, those with a block first."""
    order = torch.argsort(blocks.to(torch.int32), dim=-1, descending=True, stable=True)
    return blocks.sum(-1).to(torch.int32), order.to(torch.int32)


def _unordered(count: Tensor, order: Tensor) -> Tensor:
    """Which blocks the lists name."""
    listed = torch.arange(order.shape[-1], device=order.device) < count.unsqueeze(-1)
    return torch.zeros_like(listed).scatter(-1, order.long(), listed)


def create_block_mask(mask_mod: Callable, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = None,
                      BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE, _compile: bool = False, **_: Any) -> BlockMask:
    """A :class:`BlockMask` of a function ``mask_mod(b, h, q_idx, kv_idx)`` that says which scores count.

    Args:
        mask_mod: gets integer tensors, gives a bool one.
        B, H: batches and heads; None where the mask does not depend on them.
        Q_LEN, KV_LEN: how many queries and keys.
        device: where the mask lives; the default device if None.
        BLOCK_SIZE: rows and columns of a block.

    Example:
        >>> from fusetorch.nn.attention.flex_attention import create_block_mask
        >>> create_block_mask(lambda b, h, q, kv: q >= kv, None, None, 256, 256)
        BlockMask(shape=(1, 1, 256, 256), sparsity=25.00%)
    """
    rows, columns = BLOCK_SIZE if isinstance(BLOCK_SIZE, tuple) else (BLOCK_SIZE, BLOCK_SIZE)
    mask = create_mask(mask_mod, B, H, Q_LEN, KV_LEN, device if device is not None else torch.get_default_device())
    mask = torch.nn.functional.pad(mask.to(torch.int32), (0, -KV_LEN % columns, 0, -Q_LEN % rows))
    b, h, q, k = mask.shape
    count = mask.view(b, h, q // rows, rows, k // columns, columns).sum((3, 5))
    full = count == rows * columns
    return BlockMask((Q_LEN, KV_LEN), (count > 0) & ~full, full, (rows, columns), mask_mod)


def flex_attention(query: Tensor, key: Tensor, value: Tensor, score_mod: Callable | None = None, block_mask: BlockMask | None = None,
                   scale: float | None = None, enable_gqa: bool = False, return_lse: bool = False,
                   kernel_options: dict[str, Any] | None = None, *, return_aux: AuxRequest | None = None) -> Any:
    """Attention whose scores go through a function before the softmax.

    Args:
        query, key, value: ``(B, Hq, L, E)``, ``(B, Hkv, S, E)``, ``(B, Hkv, S, Ev)``.
        score_mod: ``score_mod(score, b, h, q_idx, kv_idx)`` gives the score to use; elementwise, with indexing.
        block_mask: which scores count; see :func:`create_block_mask`.
        scale: factor of the scores; ``1 / sqrt(E)`` if None.
        enable_gqa: several query heads share one head of key and value.
        return_lse: also give the logarithm of each row's sum of exponentials, ``(B, Hq, L)``.
        return_aux: which of ``lse`` and the rows' largest scores to give, in an :class:`AuxOutput`.

    Raises:
        ValueError: for shapes or dtypes that do not fit, and for different numbers of heads without ``enable_gqa``.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.nn.attention.flex_attention import flex_attention
        >>> q = torch.ones(1, 1, 2, 4)
        >>> flex_attention(q, q, q, lambda score, b, h, i, j: score - (i - j).abs()).shape
        torch.Size([1, 1, 2, 4])
    """
    if not query.dim() == key.dim() == value.dim() == 4:
        raise ValueError(f"Expected query, key and value to be 4D tensors, but got query {query.shape}, key {key.shape}, "
                         f"value {value.shape}")
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype}, "
                         f"key.dtype: {key.dtype}, and value.dtype: {value.dtype} instead.")
    heads, groups = query.shape[1], key.shape[1]
    if heads != groups:
        if not enable_gqa:
            raise ValueError(f"Expect query and key/value to have the same number of heads but got Hq={heads} and Hkv={groups}. "
                             "Try setting enable_gqa=True for GQA.")
        if heads % groups:
            raise ValueError(f"Expect number of query heads to be a multiple of kv heads for GQA but got Hq={heads} and Hkv={groups}.")
        key, value = key.repeat_interleave(heads // groups, 1), value.repeat_interleave(heads // groups, 1)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    working = torch.float64 if query.dtype == torch.float64 else torch.float32
    scores = (query @ key.transpose(-2, -1)).to(working) * scale
    where = _indices(tuple(scores.shape), query.device)
    if score_mod is not None:
        scores = score_mod(scores, *where).to(working)
    if block_mask is not None:
        length, keys = block_mask.shape[-2:]
        if (length, keys) != tuple(scores.shape[-2:]):
            raise ValueError(f"block_mask was created for block_mask.shape={block_mask.shape} but got q_len={scores.shape[-2]} and "
                             f"kv_len={scores.shape[-1]}. As the block mask was created for a different length than you're using it for, "
                             "you likely need to create a new block mask.")
        scores = scores.masked_fill(~block_mask.mask_mod(*where), -math.inf)
    most = scores.detach().amax(-1, keepdim=True)
    weights = torch.exp(scores - most.masked_fill(most == -math.inf, 0.0))
    total = weights.sum(-1, keepdim=True)
    out = (weights / total.masked_fill(total == 0, 1.0)).to(query.dtype) @ value  # a row without scores gives zeros
    if not return_lse and return_aux is None:
        return out
    lse = (total.log() + most).squeeze(-1) if return_lse or return_aux.lse else None
    return (out, lse) if return_lse else (out, AuxOutput(lse, most.squeeze(-1) if return_aux.max_scores else None))
