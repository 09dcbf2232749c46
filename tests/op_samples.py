"""What the definition tests call each operation with, and what NumPy or SciPy say the result is.

An operation that says nothing here is called with samples made from its kind (:func:`samples_of`); its oracle is the one in its
definition. Floating NumPy arrays stand for tensors of the dtype that a mode works in, other arrays for tensors of their own dtype.
"""
from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
from numpy.lib.stride_tricks import sliding_window_view

import fusetorch as torch
from fusetorch import dtypes
from fusetorch.ops.opdef import REGISTRY, OpDef, Sample

_count = [0]


def f(*shape: int, lo: float = -2.0, hi: float = 2.0) -> np.ndarray:
    """Floating numbers between ``lo`` and ``hi``, none twice."""
    _count[0] += 1
    rng = np.random.default_rng(_count[0])
    n = int(np.prod(shape))
    return (lo + (hi - lo) * (rng.permutation(n) + rng.uniform(0.2, 0.8, n)) / max(n, 1)).reshape(shape)


def i(*shape: int, lo: int = 0, hi: int = 5) -> np.ndarray:
    """int64 in [lo, hi)."""
    _count[0] += 1
    return np.random.default_rng(_count[0]).integers(lo, hi, shape)


def b(*shape: int) -> np.ndarray:
    """bool."""
    return i(*shape, hi=2).astype(bool)


def S(*args: Any, grad: bool = True, **kwargs: Any) -> Sample:
    """A sample."""
    return Sample(args, kwargs, grad)


def per_batch(g: Callable[..., Any]) -> Callable[..., Any]:
    """An oracle that ignores ``dtype``/``device`` arguments."""
    def call(*args: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
        return g(*args, **kwargs)
    return call


def permutation(n: int) -> np.ndarray:
    """0 .. n-1 in some order."""
    return np.random.default_rng(n).permutation(n)


# ---------------------------------------------------------------------------------------------------- samples

SAMPLES: dict[str, Callable[[], list[Sample]]] = {
    # elementwise with what cannot be guessed
    "threshold": lambda: [S(f(3, 4), 0.5, 7.0), S(i(5, lo=-3), 0, 9)],
    "bitwise_left_shift": lambda: [S(i(3, 4), i(3, 4)), S(i(4, hi=100), 3)],
    "bitwise_right_shift": lambda: [S(i(3, 4, hi=1000), i(3, 4)), S(i(4, hi=100), 3)],
    "bitwise_and": lambda: [S(i(3, 4, lo=-9, hi=99), i(4, hi=99)), S(b(6), b(6))],
    "bitwise_or": lambda: [S(i(3, 4, lo=-9, hi=99), i(4, hi=99)), S(b(6), b(6))],
    "bitwise_xor": lambda: [S(i(3, 4, lo=-9, hi=99), i(4, hi=99)), S(b(6), b(6))],
    "bitwise_not": lambda: [S(i(3, 4, lo=-9, hi=99)), S(b(6))],
    "where_elementwise": lambda: [S(b(3, 4), f(3, 4), f(3, 4)), S(b(3, 1), f(4), f()), S(b(0, 2), f(0, 2), 1.0)],
    "masked_fill": lambda: [S(f(3, 4), b(3, 4), 2.5), S(f(3, 4), b(4), f()), S(i(3, 4), b(3, 1), 7)],
    "clamp": lambda: [S(f(3, 4), -0.5, 0.5), S(f(3, 4), f(4, lo=-2, hi=-1), f(3, 1, lo=0, hi=1)), S(f(6), None, 0.3), S(i(8, lo=-5), min=-1)],
    "convert": lambda: [S(f(3, 4), dtypes.float64), S(f(3, 4), dtypes.float16, grad=False), S(i(6), dtypes.float32), S(i(6), dtypes.uint8),
                        S(b(4), dtypes.int32), S(f(5), dtypes.int64, grad=False)],
    "nan_to_num": lambda: [S(np.array([1.0, np.nan, np.inf, -np.inf]), 0.5, 9.0, -9.0, grad=False), S(f(4))],
    "heaviside": lambda: [S(np.array([-1.0, 0.0, 2.0]), np.array([0.5, 0.25, 0.5])), S(f(3, 4), f(4))],
    "isclose": lambda: [S(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.1, np.nan])), S(np.array([1.0, np.nan]), np.array([1.05, np.nan]), 0.1, 0.0, True)],
    "isnan": lambda: [S(np.array([1.0, np.nan, np.inf])), S(i(3))],
    "isinf": lambda: [S(np.array([1.0, np.nan, np.inf, -np.inf])), S(i(3))],
    "isfinite": lambda: [S(np.array([1.0, np.nan, np.inf])), S(i(3))],
    "erfinv": lambda: [S(f(3, 4, lo=-0.9, hi=0.9)), S(f(lo=0.1, hi=0.2)), S(f(0, 3))],
    "prelu_elementwise": lambda: [S(f(3, 4), f(1, 4))],
    "binary_cross_entropy_elementwise": lambda: [S(f(3, 4, lo=0.1, hi=0.9), f(3, 4, lo=0, hi=1))],
    "kl_div_elementwise": lambda: [S(f(3, 4), f(3, 4, lo=0.1, hi=1))],
    "bce_with_logits_pos_elementwise": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=1), f(4, lo=0.5, hi=2))],
    "tril_elementwise": lambda: [S(f(3, 4), 0, 2), S(f(2, 4, 4), -1, 3)],
    "triu_elementwise": lambda: [S(f(3, 4), 0, 2), S(f(2, 4, 4), 1, 3)],
    "round": lambda: [S(f(3, 4)), S(f(6, lo=-300, hi=300), decimals=1), S(f(6, lo=-3000, hi=3000), decimals=-2), S(i(4))],
    # reductions with arguments
    "vector_norm_dims": lambda: [S(f(3, 4), o, d, k) for o, d, k in ((2.0, None, False), (1.0, -1, True), (3.0, 0, False), (float("inf"), 1, False),
                                                                     (float("-inf"), 1, False), (0.5, 1, False))] + [S(f(3, 4), 0.0, 1, grad=False)],
    "softmax_dims": lambda: [S(f(3, 4), 1, True), S(f(3, 4), 0, True), S(f(2, 3, 4), 1, True)],
    "log_softmax_dims": lambda: [S(f(3, 4), 1, True), S(f(3, 4), 0, True)],
    "softmax_grad": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=1), 1, True)],
    "log_softmax_grad": lambda: [S(f(3, 4), f(3, 4, lo=-3, hi=0), 1, True)],
    "layer_norm_stats": lambda: [S(f(3, 4), f(4), f(4), eps=1e-5, dim=1, keepdim=True), S(f(2, 3, 4), None, None, eps=1e-3, dim=(1, 2), keepdim=True),
                                 S(f(3, 4), f(4), None, eps=1e-5, dim=1, keepdim=True)],
    "layer_norm_grad": lambda: [S(f(3, 4), f(3, 4), f(3, 1), f(3, 1, lo=0.5, hi=2), f(4), 1, True), S(f(3, 4), f(3, 4), f(3, 1), f(3, 1, lo=0.5, hi=2), None, 1, True)],
    "max_with_index": lambda: [S(f(3, 4), 1), S(f(2, 3, 4), 0, True), S(i(4, 5), 1)],
    "min_with_index": lambda: [S(f(3, 4), 1), S(f(2, 3, 4), 0, True), S(i(4, 5), 1)],
    "cross_entropy_rows": lambda: [S(f(3, 5), i(3, 1), None, 1, True, ignore_index=-100, label_smoothing=None),
                                   S(f(3, 5), i(3, 1), None, 1, True, ignore_index=1, label_smoothing=0.2),
                                   S(f(2, 5, 3), i(2, 1, 3), f(1, 5, 1, lo=0.5, hi=2).astype(np.float32), 1, True, ignore_index=-100,
                                     label_smoothing=0.1, grad=False)],
    "cross_entropy_grad": lambda: [S(f(3, 5), f(3, 1), i(3, 1), f(3, 1, lo=2, hi=3), None, 1, True, ignore_index=-100, label_smoothing=None),
                                   S(f(3, 5), f(3, 1), i(3, 1), f(3, 1, lo=2, hi=3), None, 1, True, ignore_index=2, label_smoothing=0.1)],
    "nll_rows": lambda: [S(f(3, 5), i(3, 1), None, 1, True, ignore_index=-100), S(f(2, 5, 3), i(2, 1, 3), None, 1, True, ignore_index=0)],
    "nll_grad": lambda: [S(f(3, 1), f(3, 5), i(3, 1), None, 1, True, ignore_index=-100)],
    # views: (input, *static attributes)
    "view_as_shape": lambda: [S(f(3, 4), (12,)), S(f(2, 6), (2, 3, 2)), S(f(0, 3), (3, 0)), S(f(1), ())],
    "permute_dims": lambda: [S(f(2, 3, 4), (2, 0, 1)), S(f(), ())],
    "expand_to": lambda: [S(f(3, 1), (2, 3, 4)), S(f(), (2, 2)), S(f(1, 3), (0, 3))],
    "slice_dims": lambda: [S(f(5, 4), ((1, 5, 2), 3)), S(f(5, 4), (None, (4, -1, -1), (0, 4, 1))), S(f(5), ((2, 2, 1),)), S(f(3, 4), (1, 2))],
    "diagonal_dims": lambda: [S(f(3, 4), 0, 0, 1), S(f(2, 3, 4), 1, 2, 1), S(f(3, 3), -5, 0, 1)],
    "unfold_dim": lambda: [S(f(7, 3), 0, 3, 2), S(f(3, 5), 1, 2, 1)],
    # opaque
    "move_to_device": lambda: [S(f(3, 4), "cpu")],
    "embedding_rows": lambda: [S(f(5, 3), i(2, 4), -1), S(f(5, 3), i(0), -1), S(f(5, 3), i(), -1)],
    "embedding_grad": lambda: [S(f(2, 4, 3), i(2, 4), 5, -1), S(f(6, 3), i(6), 5, 2)],
    "index": lambda: [S(f(5, 4), [i(3), i(3, hi=4)], (0, 1)), S(f(5, 2, 4), [i(3), i(3, hi=4)], (0, 2)), S(f(5, 4), [i(2, 3, lo=-5)], (0,)),
                      S(f(2, 5, 4), [i(2, 1), i(3, hi=4)], (1, 2))],
    "put_at": lambda: [S(f(5, 4), f(3), [permutation(5)[:3], i(3, hi=4)], (0, 1), False), S(f(5, 4), f(3, 4), [i(3)], (0,), True), S(f(5), f(), [i(4)], (0,), True)],
    "slice_scatter_dims": lambda: [S(f(2, 4), (5, 4), ((1, 5, 2), (0, 4, 1))), S(f(4), (5, 4), (2, (0, 4, 1)), 1.5)],
    "slice_put": lambda: [S(f(5, 4), f(2, 4), ((1, 5, 2), (0, 4, 1))), S(f(5, 4), f(4), (2, (3, -1, -1)))],
    "diagonal_put": lambda: [S(f(3, 4), f(3), 0, 0, 1), S(f(2, 3, 4), f(2, 2), -1, 1, 2)],
    "gather_dim": lambda: [S(f(3, 5), i(3, 2), 1), S(f(5, 3), i(4, 3), 0), S(f(5, 3), i(2, 2), 0)],
    "scatter_dim": lambda: [S(f(5, 3), f(5, 3), np.stack([permutation(5)] * 3, 1), 0, "none", True), S(f(5, 3), f(4, 3), i(4, 3), 0, "sum", True),
                            S(f(5, 3), f(4, 3), i(4, 2), 0, "sum", False), S(f(5, 3), f(4, 3), i(4, 3), 0, "amax", True),
                            S(f(5, 3), f(4, 3), i(4, 3), 0, "amin", False)],
    "cat_dim": lambda: [S([f(2, 3), f(1, 3)], 0), S([f(2, 3), f(2, 0), f(2, 2)], 1), S([f(2, 3)], 1)],
    "bmm_general": lambda: [S(f(3, 4), f(4, 5)), S(f(2, 3, 4), f(2, 4, 5)), S(f(2, 1, 3, 4), f(5, 4, 2)), S(f(0, 4), f(4, 2)), S(f(2, 0), f(0, 3)),
                            S(i(3, 4), i(4, 2))],
    "sort_dim": lambda: [S(f(3, 5), 1, False), S(f(3, 5), 0, True), S(i(3, 7, hi=3), 1, True), S(f(), 0, False), S(np.array([2.0, np.nan, 1.0]), 0, False, grad=False)],
    "topk_dim": lambda: [S(f(3, 5), 2, 1, True), S(f(3, 5), 2, 0, False), S(i(6), 0, 0, True)],
    "search_sorted": lambda: [S(np.sort(f(6)), f(2, 3), False), S(np.sort(i(2, 6)), i(2, 3), True)],
    "cumsum_dim": lambda: [S(f(3, 4), 1), S(f(3, 4), 0), S(i(5), 0), S(f(0, 3), 0)],
    "linear_scan": lambda: [S(f(3, 4), f(3, 4), 1), S(f(5, 2), f(5, 2), 0)],
    "cumprod_dim": lambda: [S(f(3, 4), 1), S(np.array([2.0, 0.0, 3.0, 0.0, 1.5]), 0), S(i(5, lo=1), 0)],
    "cum_extremum": lambda: [S(f(3, 5), 1, True), S(f(4, 2), 0, False), S(i(9), 0, True)],
    "logcumsumexp_dim": lambda: [S(f(3, 4), 1), S(f(5), 0)],
    # composites
    "scaled_dot_product_attention": lambda: [S(f(2, 3, 4), f(2, 5, 4), f(2, 5, 6)), S(f(2, 3, 4), f(2, 3, 4), f(2, 3, 4), is_causal=True),
                                             S(f(3, 4), f(5, 4), f(5, 2), b(3, 5) | np.eye(3, 5, dtype=bool)), S(f(3, 4), f(5, 4), f(5, 2), f(3, 5), scale=0.3)],
    "tensor": lambda: [S([[1.0, 2.0], [3.0, 4.0]]), S([1, 2, 3]), S(True), S([1, 2], dtype=dtypes.float16)],
    "as_tensor": lambda: [S([1.5, 2.5]), S([1, 2], dtype=dtypes.float64)],
    "asarray": lambda: [S([1.5, 2.5])],
    "from_numpy": lambda: [],
    "scalar_tensor": lambda: [S(2.5), S(3, dtype=dtypes.int64)],
    "empty": lambda: [], "empty_like": lambda: [], "new_empty": lambda: [],
    "zeros": lambda: [S(2, 3), S((0, 2)), S(()), S(3, dtype=dtypes.bool_)],
    "ones": lambda: [S(2, 3), S((2,), dtype=dtypes.int32)],
    "full": lambda: [S((2, 3), 1.5), S((2,), 7), S((), True), S((2,), 3, dtype=dtypes.float16)],
    "zeros_like": lambda: [S(f(3, 2)), S(i(3), dtype=dtypes.float32)],
    "ones_like": lambda: [S(f(3, 2)), S(b(3))],
    "full_like": lambda: [S(f(3, 2), 4.5), S(i(3), 2)],
    "new_zeros": lambda: [S(f(3), 2, 2), S(i(2), (3,))],
    "new_ones": lambda: [S(f(3), (2, 2))],
    "new_full": lambda: [S(f(3), (2, 2), 1.5)],
    "new_tensor": lambda: [S(f(3), [1.0, 2.0])],
    "arange": lambda: [S(5), S(2, 9, 3), S(1.0, 2.0, 0.25), S(5, 0, -2), S(3, dtype=dtypes.float32), S(0)],
    "linspace": lambda: [S(-1.0, 2.0, 7), S(0, 10, 5, dtype=dtypes.int64), S(3.0, 4.0, 1)],
    "logspace": lambda: [S(-1.0, 2.0, 4), S(0, 3, 4, base=2.0)],
    "eye": lambda: [S(3), S(2, 4), S(3, dtype=dtypes.int64)],
    "to": lambda: [S(f(3), dtypes.float64), S(i(3), dtype=dtypes.float32), S(f(2), f(3))],
    "type_as": lambda: [S(i(3), f(2))],
    "type": lambda: [S(f(3), dtypes.float64)],
    "embedding": lambda: [S(i(2, 3), f(5, 4)), S(i(4), f(5, 4), 2)],
    "view": lambda: [S(f(3, 4), 2, 6), S(f(3, 4), (-1, 2))],
    "reshape": lambda: [S(f(3, 4), 2, -1), S(f(3, 4).T, (12,)), S(f(2, 3), shape=(3, 2)), S(f(1), ())],
    "view_as": lambda: [S(f(3, 4), f(2, 6))], "reshape_as": lambda: [S(f(3, 4).T, f(2, 6))],
    "permute": lambda: [S(f(2, 3, 4), 2, 0, 1), S(f(2, 3), dims=(1, -2))],
    "transpose": lambda: [S(f(2, 3, 4), 0, -1), S(f(), 0, 0)],
    "t": lambda: [S(f(2, 3)), S(f(4))],
    "movedim": lambda: [S(f(2, 3, 4), 0, 2), S(f(2, 3, 4), (0, 1), (-1, 0))],
    "expand": lambda: [S(f(3, 1), 2, -1, 4)], "expand_as": lambda: [S(f(3, 1), f(3, 4))], "broadcast_to": lambda: [S(f(3, 1), (2, 3, 4))],
    "squeeze": lambda: [S(f(1, 3, 1)), S(f(1, 3, 1), 0), S(f(1, 3, 1), (0, 1))], "unsqueeze": lambda: [S(f(3), 0), S(f(3), -1)],
    "flatten": lambda: [S(f(2, 3, 4)), S(f(2, 3, 4), 1), S(f())], "ravel": lambda: [S(f(3, 4).T)],
    "unflatten": lambda: [S(f(6, 2), 0, (2, -1))],
    "narrow": lambda: [S(f(5, 3), 0, 1, 3), S(f(5, 3), 1, -2, 2)], "select": lambda: [S(f(5, 3), 0, -1), S(f(5, 3), 1, 0)],
    "split": lambda: [S(f(5, 3), 2), S(f(5, 3), [1, 4])], "chunk": lambda: [S(f(5, 3), 2), S(f(2), 4)],
    "unbind": lambda: [S(f(3, 2)), S(f(3, 2), 1)],
    "diagonal": lambda: [S(f(3, 4)), S(f(2, 3, 4), 1, 1, 2)], "unfold": lambda: [S(f(7), 0, 3, 2)],
    "contiguous": lambda: [S(f(3, 4).T), S(f(3))],
    "__getitem__": lambda: [S(f(5, 4), 1), S(f(5, 4), (slice(None, None, 2), None, -1)), S(f(5, 4), (Ellipsis, [0, 2])), S(f(5, 4), i(2, 3)),
                            S(f(2, 5, 4), (slice(None), i(3), i(3, hi=4))), S(f(2, 5, 4), (i(3, hi=2), slice(1, 3), i(3, hi=4))), S(f(5, 4), b(5)), S(f(5, 4), True)],
    "index_put": lambda: [S(f(5, 4), (permutation(5)[:3],), f(3, 4)), S(f(5, 4), (i(3), i(3, hi=4)), f(3), True)],
    "nonzero": lambda: [S(i(3, 4, hi=2)), S(b(5), as_tuple=True)], "argwhere": lambda: [S(i(3, 4, hi=2))],
    "masked_select": lambda: [S(f(3, 4), b(3, 4)), S(f(3, 4), b(4))], "masked_scatter": lambda: [S(f(3, 4), b(3, 4), f(12))],
    "select_scatter": lambda: [S(f(3, 4), f(3), 1, 2)], "slice_scatter": lambda: [S(f(5, 4), f(2, 4), 0, 1, 5, 2)],
    "diagonal_scatter": lambda: [S(f(3, 4), f(3))],
    "index_select": lambda: [S(f(3, 5), 1, i(4)), S(f(5), 0, i(2))], "index_add": lambda: [S(f(5, 3), 0, i(4), f(4, 3)), S(f(3, 5), 1, i(2), f(3, 2), alpha=0.5)],
    "index_copy": lambda: [S(f(5, 3), 0, permutation(5)[:2], f(2, 3))], "index_fill": lambda: [S(f(5, 3), 0, i(2), 1.5)],
    "take": lambda: [S(f(3, 4), i(2, 2, hi=12))], "put": lambda: [S(f(3, 4), permutation(12)[:3], f(3)), S(f(3, 4), i(5, hi=12), f(5), True)],
    "gather": lambda: [S(f(3, 5), 1, i(3, 2)), S(f(4), 0, i(2, hi=4))],
    "scatter": lambda: [S(f(5, 3), 0, np.stack([permutation(5)] * 3, 1), f(5, 3)), S(f(5, 3), 0, np.array([[1, 2, 0]]), 2.5),
                        S(f(5, 3), 0, np.array([[1, 2, 0]]), f(1, 3), reduce="add")],
    "scatter_add": lambda: [S(f(5, 3), 0, i(4, 3), f(4, 3))],
    "scatter_reduce": lambda: [S(f(5, 3), 0, i(4, 3), f(4, 3), r, include_self=s) for r in ("sum", "mean", "amax", "amin") for s in (True, False)]
    + [S(f(5, 3), 0, i(4, 3), f(4, 3), "prod")],
    "take_along_dim": lambda: [S(f(3, 5), i(3, 2), 1), S(f(3, 5), i(4, hi=15))],
    "cat": lambda: [S([f(2, 3), f(1, 3)]), S([f(2, 3), i(2, 1)], 1), S([f(0), f(2, 3)])], "stack": lambda: [S([f(2, 3), f(2, 3)]), S([f(2), f(2)], -1)],
    "atleast_1d": lambda: [S(f()), S(f(2, 3))], "atleast_2d": lambda: [S(f(3))], "atleast_3d": lambda: [S(f(3)), S(f(2, 3))],
    "hstack": lambda: [S([f(2, 3), f(2, 1)]), S([f(2), f(3)])], "vstack": lambda: [S([f(3), f(3)])], "dstack": lambda: [S([f(2, 3), f(2, 3)])],
    "column_stack": lambda: [S([f(3), f(3, 2)])], "block_diag": lambda: [S(f(2, 2), f(1, 3))],
    "repeat": lambda: [S(f(2, 3), 2, 1, 2)], "tile": lambda: [S(f(2, 3), 2), S(f(3), (2, 2))],
    "repeat_interleave": lambda: [S(f(2, 3), 2, 1), S(f(3), np.array([1, 0, 2]), 0), S(f(2, 2), 3)],
    "flip": lambda: [S(f(2, 3), 0, 1), S(f(2, 3), dims=(1,))], "fliplr": lambda: [S(f(2, 3))], "flipud": lambda: [S(f(2, 3))],
    "roll": lambda: [S(f(2, 5), 2, 1), S(f(2, 5), 3), S(f(3, 4), (1, -1), (0, 1))], "rot90": lambda: [S(f(2, 3), k) for k in (0, 1, 2, 3)],
    "broadcast_tensors": lambda: [S(f(3, 1), f(4))], "broadcast_shapes": lambda: [S((3, 1), (4,))],
    "meshgrid": lambda: [S(f(2), f(3), indexing="ij"), S(f(2), f(3), indexing="xy")], "cartesian_prod": lambda: [S(f(2), f(3))],
    "tril": lambda: [S(f(3, 4)), S(f(2, 3, 3), -1)], "triu": lambda: [S(f(3, 4)), S(f(3, 3), 1)],
    "tril_indices": lambda: [S(3, 4), S(3, 3, -1)], "triu_indices": lambda: [S(3, 4), S(3, 3, 1)],
    "diag_embed": lambda: [S(f(2, 3)), S(f(3), 1)], "diag": lambda: [S(f(3)), S(f(3, 4), 1)], "diagflat": lambda: [S(f(2, 2))],
    "one_hot": lambda: [S(i(4), 5), S(i(), 6), S(i(2, 3))],
    "pad": lambda: [S(f(2, 3), (1, 2)), S(f(2, 3), (1, 0, 0, 1), "constant", 1.5), S(f(2, 3, 4), (1, 2), "reflect"), S(f(2, 3, 4), (1, 2), "replicate"),
                    S(f(2, 3, 4), (1, 2), "circular"), S(f(3, 4), (-1, 1))],
    "einsum": lambda: [S("ij,jk->ik", f(2, 3), f(3, 4)), S("bij,bkj->bik", f(2, 2, 3), f(2, 4, 3)), S("ii->i", f(3, 3)), S("...i,i", f(2, 3), f(3)),
                       S("ij->", f(2, 3)), S("i,j,k->kji", f(2), f(3), f(2))],
    "cross_entropy": lambda: [S(f(3, 5), i(3)), S(f(3, 5), i(3), label_smoothing=0.1), S(f(2, 5, 3), i(2, 3), reduction="none"),
                              S(f(3, 5), i(3), ignore_index=1, reduction="sum"), S(f(5), i()), S(f(3, 5), np.full((3, 5), 0.2)),
                              S(f(3, 5), i(3), f(5, lo=0.5, hi=2), grad=False)],
    "nll_loss": lambda: [S(f(3, 5, lo=-4, hi=-1), i(3)), S(f(3, 5, lo=-4, hi=-1), i(3), reduction="none"), S(f(3, 5), i(3), f(5, lo=0.5, hi=2), grad=False)],
    "mse_loss": lambda: [S(f(3, 4), f(3, 4)), S(f(3), f(3), reduction="sum"), S(f(3), f(3), reduction="none")],
    "l1_loss": lambda: [S(f(3, 4), f(3, 4))], "smooth_l1_loss": lambda: [S(f(3, 4), f(3, 4), beta=0.5)], "huber_loss": lambda: [S(f(3, 4), f(3, 4), delta=0.7)],
    "binary_cross_entropy": lambda: [S(f(3, 4, lo=0.1, hi=0.9), f(3, 4, lo=0, hi=1))],
    "binary_cross_entropy_with_logits": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=1)), S(f(3, 4), f(3, 4, lo=0, hi=1), pos_weight=f(4, lo=1, hi=2))],
    "kl_div": lambda: [S(f(3, 4), f(3, 4, lo=0.1, hi=1), reduction="batchmean"), S(f(3, 4), f(3, 4), reduction="sum", log_target=True)],
    "gaussian_nll_loss": lambda: [S(f(3, 4), f(3, 4), f(3, 4, lo=0.5, hi=1))], "poisson_nll_loss": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=3))],
    "cosine_similarity": lambda: [S(f(3, 4), f(3, 4)), S(f(2, 3, 4), f(2, 3, 4), 2)], "pairwise_distance": lambda: [S(f(3, 4), f(3, 4))],
    "normalize": lambda: [S(f(3, 4)), S(f(3, 4), p=1.0, dim=0)], "cosine_embedding_loss": lambda: [S(f(3, 4), f(3, 4), np.array([1.0, -1.0, 1.0]))],
    "hinge_embedding_loss": lambda: [S(f(4), np.array([1.0, -1.0, 1.0, -1.0]))], "margin_ranking_loss": lambda: [S(f(4), f(4), np.array([1.0, -1.0, 1.0, -1.0]), 0.1)],
    "soft_margin_loss": lambda: [S(f(4), np.array([1.0, -1.0, 1.0, -1.0]))], "triplet_margin_loss": lambda: [S(f(3, 4), f(3, 4), f(3, 4))],
    "prelu": lambda: [S(f(2, 3, 4), f(3)), S(f(4), f(1))], "glu": lambda: [S(f(3, 4)), S(f(4, 3), 0)],
    "matmul": lambda: [S(f(3, 4), f(4, 5)), S(f(4), f(4)), S(f(3, 4), f(4)), S(f(4), f(4, 2)), S(f(2, 3, 4), f(4, 2)), S(f(2, 3, 4), f(2, 4, 2)), S(f(2, 0, 4), f(4, 2))],
    "mm": lambda: [S(f(3, 4), f(4, 2))], "bmm": lambda: [S(f(2, 3, 4), f(2, 4, 2))], "mv": lambda: [S(f(3, 4), f(4))], "dot": lambda: [S(f(4), f(4))],
    "inner": lambda: [S(f(3, 4), f(2, 4))], "outer": lambda: [S(f(3), f(4))], "tensordot": lambda: [S(f(3, 4), f(4, 2), 1), S(f(2, 3, 4), f(4, 3, 2), ([1, 2], [1, 0]))],
    "addmm": lambda: [S(f(4), f(3, 2), f(2, 4)), S(f(3, 4), f(3, 2), f(2, 4), beta=0.5, alpha=2.0)], "addbmm": lambda: [S(f(3, 4), f(2, 3, 2), f(2, 2, 4))],
    "baddbmm": lambda: [S(f(2, 3, 4), f(2, 3, 2), f(2, 2, 4), beta=0.5)], "addmv": lambda: [S(f(3), f(3, 4), f(4))], "addr": lambda: [S(f(3, 4), f(3), f(4), beta=0.5)],
    "linear": lambda: [S(f(3, 4), f(2, 4), f(2)), S(f(2, 3, 4), f(2, 4)), S(f(4), f(2, 4))],
    "softmax": lambda: [S(f(3, 4), 1), S(f(2, 3, 4), 1)], "log_softmax": lambda: [S(f(3, 4), -1)], "softmin": lambda: [S(f(3, 4), 1)],
    "layer_norm": lambda: [S(f(3, 4), (4,)), S(f(2, 3, 4), (3, 4), f(3, 4), f(3, 4)), S(f(3, 4), (4,), f(4))], "rms_norm": lambda: [S(f(3, 4), (4,), None, 1e-5), S(f(3, 4), (4,), f(4), 1e-3)],
    "max": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(f(3, 4), f(4))], "min": lambda: [S(f(3, 4)), S(f(3, 4), 0, True), S(f(3, 4), f(4))],
    "aminmax": lambda: [S(f(3, 4)), S(f(3, 4), dim=1)], "argmax": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(i(3, 4), 0, True)], "argmin": lambda: [S(f(3, 4)), S(f(3, 4), 1)],
    "prod": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(i(3, lo=1))], "count_nonzero": lambda: [S(i(3, 4, hi=2)), S(i(3, 4, hi=2), 1)],
    "var": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(f(3, 4), 0, correction=0, keepdim=True)], "std": lambda: [S(f(3, 4)), S(f(3, 4), 1, False)],
    "var_mean": lambda: [S(f(3, 4), 1)], "std_mean": lambda: [S(f(3, 4), 0)],
    "norm": lambda: [S(f(3, 4)), S(f(3, 4), 1, 1), S(f(3, 4), float("inf"), 0), S(f(3, 4), 3, -1, True)],
    "where": lambda: [S(b(3, 4), f(3, 4), f(4)), S(b(3), 1.0, 2.0)], "result_type_of_numbers": lambda: [], "result_type": lambda: [S(f(2), i(3)), S(i(2), 1.5)],
    "div": lambda: [S(f(3, 4), f(4, lo=1, hi=2)), S(f(5), f(5, lo=0.3, hi=1), rounding_mode="floor"), S(f(5), f(5, lo=0.3, hi=1), rounding_mode="trunc")],
    "rsub": lambda: [S(f(3), f(3)), S(f(3), 2.0, alpha=0.5)],
    "sort": lambda: [S(f(3, 5)), S(f(3, 5), 0, True)], "argsort": lambda: [S(f(3, 5)), S(f(3, 5), 0, True)], "msort": lambda: [S(f(3, 5))],
    "topk": lambda: [S(f(3, 5), 2), S(f(3, 5), 2, 0, False)], "kthvalue": lambda: [S(f(3, 5), 2), S(f(3, 5), 1, 0, True)],
    "median": lambda: [S(f(3, 5)), S(f(3, 4), 1)], "nanmedian": lambda: [S(f(3, 5)), S(f(3, 4), 1)], "mode": lambda: [S(i(3, 7, hi=3))],
    "quantile": lambda: [S(f(3, 5), 0.3), S(f(3, 5), np.array([0.1, 0.9]), 1, interpolation="nearest"), S(f(5), 0.5, keepdim=True)], "nanquantile": lambda: [S(f(3, 5), 0.3)],
    "searchsorted": lambda: [S(np.sort(f(6)), f(3)), S(np.sort(f(6)), f(3), right=True)], "bucketize": lambda: [S(f(3), np.sort(f(4)))],
    "bincount": lambda: [S(i(8)), S(i(8), f(8)), S(i(3), None, 9)], "histc": lambda: [S(f(20), 5, -2, 2)],
    "unique": lambda: [S(i(9)), S(i(9), True, True, True)], "unique_consecutive": lambda: [S(np.array([1, 1, 2, 2, 2, 1])), S(np.array([1, 1, 2]), True, True)],
    "isin": lambda: [S(i(6), np.array([1, 3])), S(i(6), np.array([1, 3]), invert=True)],
    "cumsum": lambda: [S(f(3, 4), 1), S(i(5), 0)], "cumprod": lambda: [S(f(3, 4), 1)], "cummax": lambda: [S(f(3, 5), 1)], "cummin": lambda: [S(f(3, 5), 0)],
    "logcumsumexp": lambda: [S(f(3, 4), 1)], "diff": lambda: [S(f(3, 4)), S(f(3, 4), 2, 0), S(f(4), prepend=f(1))],
    "equal": lambda: [S(f(3), f(3))], "allclose": lambda: [S(np.ones(3), np.ones(3) + 1e-9)], "is_same_size": lambda: [S(f(3), f(3))],
    "item": lambda: [S(f(1)), S(i())], "tolist": lambda: [S(i(2, 2))], "numel": lambda: [S(f(3, 4))], "is_floating_point": lambda: [S(f(2)), S(i(2))],
    "is_tensor": lambda: [S(f(2)), S(3)], "detach": lambda: [S(f(3), grad=False)],
}

for _name in ("float", "double", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool"):
    SAMPLES[_name] = lambda: [S(i(3, 2)), S(f(4, lo=0, hi=3), grad=False)]
for _name in ("rand", "randn"):
    SAMPLES[_name] = lambda: [S(3, 4), S(2, dtype=dtypes.float64), S((0, 2)), S(2000)]
SAMPLES.update({
    "randint": lambda: [S(5, (3, 4)), S(-3, 3, (4,), dtype=dtypes.int32)], "randperm": lambda: [S(7), S(0)],
    "rand_like": lambda: [S(f(3, 4))], "randn_like": lambda: [S(f(3, 4))], "randint_like": lambda: [S(f(3, 4), 3, 9)],
    "bernoulli": lambda: [S(f(3, 4, lo=0, hi=1))], "normal": lambda: [S(f(5), f(5, lo=0.5, hi=1), grad=False), S(1.0, f(5, lo=0.5, hi=1), grad=False)],
    "multinomial": lambda: [S(f(3, 5, lo=0.1, hi=1), 2), S(f(5, lo=0.1, hi=1), 9, True), S(f(5, lo=0.1, hi=1), 1)],
    "dropout": lambda: [S(f(3, 4), 0.3), S(f(3, 4), 0.5, False), S(f(4), 1.0)],
    "dropout1d": lambda: [S(f(2, 3, 4), 0.3)], "dropout2d": lambda: [S(f(2, 3, 4, 2), 0.3)], "dropout3d": lambda: [S(f(2, 3, 2, 2, 2), 0.3)],
    "feature_dropout": lambda: [S(f(2, 3, 4), 0.3)], "alpha_dropout": lambda: [S(f(3, 4), 0.3, True)], "feature_alpha_dropout": lambda: [S(f(2, 3, 4), 0.3, True)],
})

#: Random draws: the same seed must give the same numbers in every mode; their distributions are tested in test_random.py.
RANDOM = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "normal", "multinomial", "dropout",
          "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}

#: In-place and stateful operations, and what gives no tensor: tested where they belong (test_tensor.py, test_autograd.py, test_random.py).
ELSEWHERE = {
    "from_numpy", "empty", "empty_like", "new_empty", "cpu", "cuda", "detach_", "numpy", "data_ptr", "retain_grad", "register_hook", "backward",
    "copy_", "fill_", "zero_", "set_", "squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "swapdims_", "__setitem__", "index_put_",
    "masked_scatter_", "index_add_", "index_copy_", "index_fill_", "scatter_", "scatter_add_", "scatter_reduce_", "manual_seed", "seed",
    "initial_seed", "get_rng_state", "set_rng_state", "uniform_", "normal_", "exponential_", "random_", "bernoulli_", "div_",
    "result_type_of_numbers", "draw_uniform", "draw_normal", "draw_exponential", "draw_integers", "draw_bernoulli", "draw_normal_like",
    "dropout_draw", "requires_grad_",
}


# ---------------------------------------------------------------------------------------------------- oracles

def _put(x: np.ndarray, values: np.ndarray, indices: list, dims: tuple, accumulate: bool) -> np.ndarray:
    out = x.copy()
    at = [slice(None)] * x.ndim
    for d, k in zip(dims, indices):
        at[d] = k
    if accumulate:
        np.add.at(out, tuple(at), values)
    else:
        out[tuple(at)] = values
    return out


def _index(x: np.ndarray, indices: list, dims: tuple) -> np.ndarray:
    at = [slice(None)] * x.ndim
    for d, k in zip(dims, indices):
        at[d] = k
    return x[tuple(at)]


def _slices(index: tuple) -> tuple:
    return tuple(k if k is None or isinstance(k, int) else slice(k[0], None if k[1] < 0 else k[1], k[2]) for k in index)


def _write(x: np.ndarray, at: Any, value: Any) -> np.ndarray:
    out = x.copy()
    out[at] = value
    return out


def _embedding_grad(g: np.ndarray, index: np.ndarray, rows: int, pad: int) -> np.ndarray:
    out = np.zeros((rows, g.shape[-1]))
    np.add.at(out, index, g)
    if pad >= 0:
        out[pad] = 0
    return out


def _scatter(x: np.ndarray, src: np.ndarray, index: np.ndarray, dim: int, reduce: str, include_self: bool = True) -> np.ndarray:
    out, hit = x.copy(), np.zeros(x.shape, int)
    for pos in np.ndindex(index.shape):
        to = tuple(index[pos] if d == dim else p for d, p in enumerate(pos))
        if reduce == "none" or (hit[to] == 0 and not include_self):
            out[to] = src[pos]
        else:
            out[to] = {"sum": np.add, "mean": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[reduce](out[to], src[pos])
        hit[to] += 1
    if reduce == "mean":
        out = out / np.maximum(hit + (1 if include_self else 0), 1)
    return out


def _diagonal_put(x: np.ndarray, src: np.ndarray, offset: int = 0, dim1: int = 0, dim2: int = 1) -> np.ndarray:
    out = x.copy()
    d = out.diagonal(offset, dim1, dim2)
    d.flags.writeable = True
    d[...] = src
    return out


def _scan(decay: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    y = np.moveaxis(x.copy(), dim, 0)
    a = np.moveaxis(decay, dim, 0)
    for k in range(1, y.shape[0]):
        y[k] = a[k] * y[k - 1] + y[k]
    return np.moveaxis(y, 0, dim)


def _sorted(x: np.ndarray, dim: int = -1, descending: bool = False) -> tuple[np.ndarray, np.ndarray]:
    if x.ndim == 0:
        return x, np.zeros((), int)
    order = np.argsort(-x if descending else x, axis=dim, kind="stable")
    return np.take_along_axis(x, order, dim), order


def _topk(x: np.ndarray, k: int, dim: int = -1, largest: bool = True) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.take(a, range(k), axis=dim) for a in _sorted(x, dim, largest))


def _extreme(g: Callable, argument: Callable) -> Callable:
    def call(x: np.ndarray, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return g(x)
        if isinstance(dim, np.ndarray):
            return (np.maximum if g is np.max else np.minimum)(x, dim)
        return g(x, axis=dim, keepdims=keepdim), argument(x, axis=dim, keepdims=keepdim)
    return call


def _arg(argument: Callable) -> Callable:
    def call(x: np.ndarray, dim: Any = None, keepdim: bool = False) -> Any:
        return argument(x, axis=dim, keepdims=keepdim)
    return call


def _running(g: np.ufunc, x: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    values = g.accumulate(x, axis=dim)
    moved, best = np.moveaxis(x, dim, 0), np.moveaxis(values, dim, 0)
    at = np.zeros(moved.shape, int)
    for k in range(1, moved.shape[0]):
        at[k] = np.where(moved[k] == best[k], k, at[k - 1])
    return values, np.moveaxis(at, 0, dim)


def _attention(q: Any, k: Any, v: Any, attn_mask: Any = None, is_causal: bool = False, scale: Any = None) -> np.ndarray:
    s = q @ np.swapaxes(k, -1, -2) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = np.tril(np.ones(s.shape[-2:], bool))
    if attn_mask is not None:
        s = np.where(attn_mask, s, -np.inf) if attn_mask.dtype == bool else s + attn_mask
    return scipy.special.softmax(s, -1) @ v


def _reduced(x: np.ndarray, reduction: str) -> Any:
    return x if reduction == "none" else x.mean() if reduction == "mean" else x.sum()


def _loss(g: Callable[..., np.ndarray]) -> Callable[..., Any]:
    def call(*args: Any, reduction: str = "mean", **kwargs: Any) -> Any:
        return _reduced(g(*args, **kwargs), reduction)
    return call


def _picked(x: np.ndarray, target: np.ndarray, dim: int) -> np.ndarray:
    return np.take_along_axis(x, np.clip(target, 0, x.shape[dim] - 1), dim)


def _ce_rows(x: Any, target: Any, weight: Any, dim: int, keepdim: bool, ignore_index: int, label_smoothing: Any, full: bool = True) -> Any:
    lse = scipy.special.logsumexp(x, axis=dim, keepdims=True)
    w = np.ones([1] * x.ndim) if weight is None else weight
    valid = target != ignore_index
    row = np.where(valid, _picked(np.broadcast_to(w, x.shape), target, dim), 0.0)
    loss = row * (lse - _picked(x, target, dim))
    if label_smoothing:
        smooth = np.where(valid, ((lse - x) * w).mean(dim, keepdims=True), 0.0)
        loss = (1 - label_smoothing) * loss + label_smoothing * smooth
    return (loss, row, lse) if full else loss


def _ce_grad(x: Any, grad: Any, target: Any, lse: Any, weight: Any, dim: int, keepdim: bool, ignore_index: int, label_smoothing: Any) -> np.ndarray:
    valid = target != ignore_index
    classes = np.arange(x.shape[dim]).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    onehot = (classes == target) * valid
    s = label_smoothing or 0.0
    wanted = (1 - s) * onehot + s * valid / x.shape[dim]
    return (np.exp(x - lse) * valid - wanted) * grad


def _cross_entropy(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    if target.shape == x.shape:
        loss = -(scipy.special.log_softmax(x, 1) * target).sum(1)
        return _reduced(loss, reduction)
    k = 0 if x.ndim == 1 else 1
    w = None if weight is None else weight.reshape([-1 if d == k else 1 for d in range(x.ndim)])
    loss, row, _ = _ce_rows(x, np.expand_dims(target, k), w, k, True, ignore_index, label_smoothing)
    loss, row = loss.squeeze(k), row.squeeze(k)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / row.sum()


def _nll(x: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    w = np.ones(x.shape[1]) if weight is None else weight
    loss = -x[np.arange(len(x)), target] * w[target]
    return loss if reduction == "none" else loss.sum() / w[target].sum()


def _nll_rows(x: Any, target: Any, weight: Any, dim: int, keepdim: bool, ignore_index: int) -> Any:
    valid = (target != ignore_index).astype(float)
    return -_picked(x, target, dim) * valid, valid


def _layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> np.ndarray:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def _layer_norm_stats(x: Any, weight: Any, bias: Any, eps: float, dim: Any, keepdim: bool) -> Any:
    mean, rstd = x.mean(dim, keepdims=True), 1 / np.sqrt(x.var(dim, keepdims=True) + eps)
    return (x - mean) * rstd * (1 if weight is None else weight) + (0 if bias is None else bias), mean, rstd


def _layer_norm_grad(g: Any, x: Any, mean: Any, rstd: Any, weight: Any, dim: int, keepdim: bool) -> np.ndarray:
    xhat, wg = (x - mean) * rstd, g * (1 if weight is None else weight)
    return rstd * (wg - wg.mean(dim, keepdims=True) - xhat * (wg * xhat).mean(dim, keepdims=True))


def _spread(correction_of: Callable, root: bool, with_mean: bool) -> Callable:
    def call(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None) -> Any:
        ddof = correction if correction is not None else 0 if unbiased is False else 1
        v = x.var(axis=dim, ddof=ddof, keepdims=keepdim)
        v = np.sqrt(v) if root else v
        return (v, x.mean(axis=dim, keepdims=keepdim)) if with_mean else v
    return call


def _norm(x: Any, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    return np.linalg.norm(x.ravel() if dim is None else x, p, axis=dim, keepdims=keepdim)


def _pad(x: Any, pad: Any, mode: str = "constant", value: float = 0.0) -> np.ndarray:
    width = [(0, 0)] * x.ndim
    for k in range(len(pad) // 2):
        d, lo, hi = x.ndim - 1 - k, pad[2 * k], pad[2 * k + 1]
        x = np.moveaxis(np.moveaxis(x, d, 0)[max(-lo, 0):x.shape[d] - max(-hi, 0)], 0, d)
        width[d] = max(lo, 0), max(hi, 0)
    if mode == "constant":
        return np.pad(x, width, constant_values=value)
    return np.pad(x, width, mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])


def _bce(x: Any, t: Any, pos_weight: Any = 1.0) -> np.ndarray:
    p = scipy.special.expit(x)
    return -(pos_weight * t * np.log(p) + (1 - t) * np.log1p(-p))


def _median(x: Any, dim: Any = None) -> Any:
    if dim is None:
        return np.sort(x.ravel())[(x.size - 1) // 2]
    order = np.argsort(x, axis=dim)
    at = np.take(order, (x.shape[dim] - 1) // 2, axis=dim)
    return np.take_along_axis(x, np.expand_dims(at, dim), dim).squeeze(dim), at


def _quantile(x: Any, q: Any, dim: Any = None, keepdim: bool = False, interpolation: str = "linear") -> Any:
    return np.quantile(x, q, axis=dim, keepdims=keepdim, method=interpolation)


def _rms(x: Any, shape: Any, weight: Any, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * (1.0 if weight is None else weight)


def _repeat_interleave(x: Any, n: Any, dim: Any = None) -> np.ndarray:
    return np.repeat(x, n, axis=dim)


def _kl(x: Any, t: Any, reduction: str, log_target: bool = False) -> Any:
    r = np.exp(t) * (t - x) if log_target else t * (np.log(t) - x)
    return r.sum() / (len(x) if reduction == "batchmean" else 1)


def _cosine(a: Any, b: Any, dim: int = 1) -> np.ndarray:
    return (a * b).sum(dim) / np.linalg.norm(a, axis=dim) / np.linalg.norm(b, axis=dim)


def _blend(x: Any, product: Any, beta: float, alpha: float) -> np.ndarray:
    return beta * x + alpha * product


def _chunk(x: Any, chunks: int, dim: int = 0) -> list:
    step = max(-(-x.shape[dim] // chunks), 1)
    return [np.take(x, range(k, min(k + step, x.shape[dim])), axis=dim) for k in range(0, x.shape[dim], step)]


def _getitem(x: Any, key: Any) -> np.ndarray:
    return x[key]


def _mode(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    best = [int(np.bincount(row).argmax()) for row in x]
    return np.array(best), np.array([int(np.flatnonzero(row == m)[-1]) for row, m in zip(x, best)])


_d = per_batch

ORACLES: dict[str, Callable[..., Any]] = {
    "tril_elementwise": lambda x, k, rank: np.tril(x, k), "triu_elementwise": lambda x, k, rank: np.triu(x, k),
    "softmax_dims": lambda x, d, k: scipy.special.softmax(x, d), "log_softmax_dims": lambda x, d, k: scipy.special.log_softmax(x, d),
    "softmax_grad": lambda g, y, d, k: y * (g - (g * y).sum(d, keepdims=True)), "log_softmax_grad": lambda g, y, d, k: g - np.exp(y) * g.sum(d, keepdims=True),
    "vector_norm_dims": _norm, "layer_norm_stats": _layer_norm_stats, "layer_norm_grad": _layer_norm_grad,
    "max_with_index": _extreme(np.max, np.argmax), "min_with_index": _extreme(np.min, np.argmin), "argmax_dims": _arg(np.argmax), "argmin_dims": _arg(np.argmin),
    "var_mean_dims": lambda x, dim=None, keepdim=False, correction=1.0: (x.var(dim, ddof=correction, keepdims=keepdim), x.mean(dim, keepdims=keepdim)),
    "count_nonzero_dims": lambda x, dim=None, keepdim=False: np.count_nonzero(x, axis=dim, keepdims=keepdim),
    "cross_entropy_rows": _ce_rows, "cross_entropy_grad": _ce_grad, "nll_rows": _nll_rows,
    "nll_grad": lambda g, x, t, w, d, k, ignore_index: -g * (np.arange(x.shape[1]) == t),
    "move_to_device": lambda x, device: x, "embedding_rows": lambda w, k, pad: w[k], "embedding_grad": _embedding_grad, "index": _index, "put_at": _put,
    "slice_scatter_dims": lambda x, shape, at, fill=0: _write(np.full(shape, float(fill)), _slices(at), x), "slice_put": lambda x, s, at: _write(x, _slices(at), s),
    "diagonal_put": _diagonal_put, "gather_dim": lambda x, k, d: np.take_along_axis(x[tuple(slice(None) if e == d else slice(n) for e, n in enumerate(k.shape))], k, d),
    "scatter_dim": lambda x, s, k, d, r, inc: _scatter(x, s, k, d, r, inc), "cat_dim": np.concatenate, "bmm_general": np.matmul, "sort_dim": _sorted, "topk_dim": _topk,
    "search_sorted": lambda s, v, right: np.searchsorted(s, v, "right" if right else "left") if s.ndim == 1 else np.stack(
        [np.searchsorted(p, q, "right" if right else "left") for p, q in zip(s, v)]),
    "cumsum_dim": np.cumsum, "linear_scan": _scan, "cumprod_dim": np.cumprod,
    "cum_extremum": lambda x, d, largest: _running(np.maximum if largest else np.minimum, x, d), "logcumsumexp_dim": lambda x, d: np.logaddexp.accumulate(x, axis=d),
    "scaled_dot_product_attention": _attention,
    "tensor": _d(np.array), "as_tensor": _d(np.array), "asarray": _d(np.array), "scalar_tensor": _d(np.array),
    "zeros": _d(lambda *s: np.zeros(s[0] if isinstance(s[0], tuple) else s)), "ones": _d(lambda *s: np.ones(s[0] if isinstance(s[0], tuple) else s)), "full": _d(np.full),
    "zeros_like": _d(np.zeros_like), "ones_like": _d(np.ones_like), "full_like": _d(np.full_like),
    "new_zeros": lambda x, *s: np.zeros(s[0] if isinstance(s[0], tuple) else s), "new_ones": lambda x, s: np.ones(s), "new_full": lambda x, s, v: np.full(s, v),
    "new_tensor": lambda x, data: np.array(data), "arange": _d(np.arange), "linspace": _d(lambda a, z, n: np.linspace(a, z, n)), "logspace": np.logspace, "eye": _d(np.eye),
    "to": lambda x, *a, **k: x, "type_as": lambda x, y: x, "type": lambda x, d: x, "clone": np.copy, "detach": np.copy, "contiguous": np.copy,
    "embedding": lambda k, w, pad=None: w[k], "view": lambda x, *s: x.reshape(*s), "reshape": lambda x, *s, shape=None: x.reshape(*s) if shape is None else x.reshape(shape),
    "view_as": lambda x, y: x.reshape(y.shape), "reshape_as": lambda x, y: x.reshape(y.shape), "permute": lambda x, *d, dims=None: x.transpose(dims or d),
    "transpose": lambda x, p, q: np.swapaxes(x, p, q) if x.ndim else x, "t": np.transpose, "movedim": np.moveaxis,
    "expand": lambda x, *s: np.broadcast_to(x, (2, 3, 4)), "expand_as": lambda x, y: np.broadcast_to(x, y.shape), "broadcast_to": np.broadcast_to,
    "squeeze": lambda x, d=None: np.squeeze(x, d if d is None else tuple(k for k in np.atleast_1d(d) if x.shape[k] == 1)), "unsqueeze": np.expand_dims,
    "flatten": lambda x, s=0: x.reshape(x.shape[:s] + (-1,)), "ravel": np.ravel, "unflatten": lambda x, d, s: x.reshape(2, 3, 2),
    "narrow": lambda x, d, s, n: np.take(x, range(s % x.shape[d], s % x.shape[d] + n), axis=d), "select": lambda x, d, k: np.take(x, k, axis=d),
    "split": lambda x, s: np.split(x, [2, 4] if s == 2 else [1]), "chunk": _chunk, "unbind": lambda x, d=0: [np.take(x, k, axis=d) for k in range(x.shape[d])],
    "diagonal": np.diagonal, "unfold": lambda x, d, n, s: sliding_window_view(x, n)[::s], "__getitem__": _getitem,
    "index_put": lambda x, at, v, acc=False: _put(x, v, list(at), tuple(range(len(at))), acc),
    "nonzero": lambda x, as_tuple=False: np.nonzero(x) if as_tuple else np.argwhere(x), "argwhere": np.argwhere, "masked_select": lambda x, m: x[np.broadcast_to(m, x.shape)],
    "masked_scatter": lambda x, m, s: _write(x, m, s[:m.sum()]), "select_scatter": lambda x, s, d, k: _write(x, (slice(None), k), s),
    "slice_scatter": lambda x, s, d, p, q, r: _write(x, slice(p, q, r), s), "diagonal_scatter": _diagonal_put,
    "index_select": lambda x, d, k: np.take(x, k, axis=d), "index_add": lambda x, d, k, s, alpha=1: _put(x, alpha * s, [k], (d,), True),
    "index_copy": lambda x, d, k, s: _put(x, s, [k], (d,), False), "index_fill": lambda x, d, k, v: _put(x, v, [k], (d,), False), "take": np.take,
    "put": lambda x, k, s, acc=False: _put(x.ravel(), s, [k], (0,), acc).reshape(x.shape), "gather": lambda x, d, k: np.take_along_axis(x, k, d),
    "scatter": lambda x, d, k, s, reduce=None: _scatter(x, np.broadcast_to(s, k.shape), k, d, "sum" if reduce else "none"),
    "scatter_add": lambda x, d, k, s: _scatter(x, s, k, d, "sum"), "scatter_reduce": lambda x, d, k, s, r, include_self=True: _scatter(x, s, k, d, r, include_self),
    "take_along_dim": lambda x, k, d=None: np.take_along_axis(x, k, d),
    "cat": lambda ts, d=0: np.concatenate([t for t in ts if t.shape != (0,)], d), "stack": np.stack, "atleast_1d": np.atleast_1d, "atleast_2d": np.atleast_2d,
    "atleast_3d": np.atleast_3d, "hstack": np.hstack, "vstack": np.vstack, "dstack": np.dstack, "column_stack": np.column_stack,
    "block_diag": lambda p, q: np.block([[p, np.zeros((2, 3))], [np.zeros((1, 2)), q]]), "repeat": lambda x, *r: np.tile(x, r),
    "tile": lambda x, *r: np.tile(x, r[0] if isinstance(r[0], tuple) else r), "repeat_interleave": _repeat_interleave,
    "flip": lambda x, *d, dims=None: np.flip(x, dims or d), "fliplr": np.fliplr, "flipud": np.flipud, "roll": np.roll, "rot90": np.rot90,
    "broadcast_tensors": np.broadcast_arrays, "meshgrid": np.meshgrid, "cartesian_prod": lambda p, q: np.array([(u, v) for u in p for v in q]),
    "tril": np.tril, "triu": np.triu, "tril_indices": lambda r, c, k=0: np.stack(np.tril_indices(r, k, c)), "triu_indices": lambda r, c, k=0: np.stack(np.triu_indices(r, k, c)),
    "diag_embed": lambda x, k=0: np.stack([np.diag(r, k) for r in x]) if x.ndim == 2 else np.diag(x, k), "diag": np.diag, "diagflat": np.diagflat,
    "one_hot": lambda x, n=None: np.eye(x.max() + 1 if n is None else n, dtype=int)[x], "pad": _pad, "einsum": np.einsum,
    "cross_entropy": _cross_entropy, "nll_loss": _nll, "mse_loss": _loss(lambda x, t: (x - t) ** 2), "l1_loss": _loss(lambda x, t: np.abs(x - t)),
    "smooth_l1_loss": _loss(lambda x, t, beta: np.where(np.abs(x - t) < beta, 0.5 * (x - t) ** 2 / beta, np.abs(x - t) - beta / 2)),
    "huber_loss": _loss(lambda x, t, delta: np.where(np.abs(x - t) <= delta, 0.5 * (x - t) ** 2, delta * (np.abs(x - t) - delta / 2))),
    "binary_cross_entropy": _loss(lambda p, t: -(t * np.log(p) + (1 - t) * np.log1p(-p))), "binary_cross_entropy_with_logits": _loss(_bce), "kl_div": _kl,
    "gaussian_nll_loss": _loss(lambda x, t, v: 0.5 * (np.log(v) + (x - t) ** 2 / v)), "poisson_nll_loss": _loss(lambda x, t: np.exp(x) - t * x),
    "cosine_similarity": _cosine, "pairwise_distance": lambda p, q: np.linalg.norm(p - q + 1e-6, axis=-1),
    "normalize": lambda x, p=2, dim=1: x / np.linalg.norm(x, p, axis=dim, keepdims=True),
    "cosine_embedding_loss": lambda p, q, t: np.where(t == 1, 1 - _cosine(p, q), np.maximum(_cosine(p, q), 0)).mean(),
    "hinge_embedding_loss": lambda x, t: np.where(t == 1, x, np.maximum(1 - x, 0)).mean(), "margin_ranking_loss": lambda p, q, t, m: np.maximum(-t * (p - q) + m, 0).mean(),
    "soft_margin_loss": lambda x, t: np.log1p(np.exp(-t * x)).mean(),
    "triplet_margin_loss": lambda p, q, r: np.maximum(np.linalg.norm(p - q + 1e-6, axis=1) - np.linalg.norm(p - r + 1e-6, axis=1) + 1, 0).mean(),
    "prelu": lambda x, w: np.where(x > 0, x, x * (w.reshape(-1, 1) if x.ndim == 3 else w)),
    "glu": lambda x, d=-1: np.split(x, 2, d)[0] * scipy.special.expit(np.split(x, 2, d)[1]),
    "matmul": np.matmul, "mm": np.matmul, "bmm": np.matmul, "mv": np.matmul, "dot": np.dot, "inner": np.inner, "outer": np.outer, "tensordot": np.tensordot,
    "addmm": lambda x, p, q, beta=1, alpha=1: _blend(x, p @ q, beta, alpha), "addbmm": lambda x, p, q: x + (p @ q).sum(0),
    "baddbmm": lambda x, p, q, beta=1: _blend(x, p @ q, beta, 1), "addmv": lambda x, m, v: x + m @ v, "addr": lambda x, p, q, beta=1: _blend(x, np.outer(p, q), beta, 1),
    "linear": lambda x, w, bias=0: x @ w.T + bias, "softmin": lambda x, d: scipy.special.softmax(-x, d), "layer_norm": _layer_norm, "rms_norm": _rms,
    "max": _extreme(np.max, np.argmax), "min": _extreme(np.min, np.argmin), "aminmax": lambda x, dim=None: (x.min(dim), x.max(dim)),
    "argmax": _arg(np.argmax), "argmin": _arg(np.argmin), "prod": lambda x, d=None: x.prod(axis=d), "count_nonzero": np.count_nonzero,
    "var": _spread(None, False, False), "std": _spread(None, True, False), "var_mean": _spread(None, False, True), "std_mean": _spread(None, True, True), "norm": _norm,
    "where": np.where, "div": lambda p, q, rounding_mode=None: {None: p / q, "floor": np.floor(p / q), "trunc": np.trunc(p / q)}[rounding_mode],
    "rsub": lambda x, y, alpha=1: y - alpha * x, "sort": _sorted, "argsort": lambda *a: _sorted(*a)[1], "msort": lambda x: np.sort(x, 0), "topk": _topk,
    "kthvalue": lambda x, k, d=-1, keep=False: tuple((np.expand_dims(a, d) if keep else a) for a in (np.take(p, k - 1, axis=d) for p in _sorted(x, d))),
    "median": _median, "nanmedian": _median, "quantile": _quantile, "nanquantile": _quantile,
    "searchsorted": lambda s, v, right=False: np.searchsorted(s, v, "right" if right else "left"), "bucketize": lambda v, s: np.searchsorted(s, v),
    "histc": lambda x, n, lo, hi: np.histogram(x, n, (lo, hi))[0], "isin": np.isin,
    "cumsum": np.cumsum, "cumprod": np.cumprod, "cummax": lambda x, d: _running(np.maximum, x, d), "cummin": lambda x, d: _running(np.minimum, x, d),
    "logcumsumexp": lambda x, d: np.logaddexp.accumulate(x, axis=d), "diff": lambda x, n=1, axis=-1, prepend=None: np.diff(x, n, axis, *([] if prepend is None else [prepend])),
    "equal": np.array_equal, "allclose": np.allclose, "is_same_size": lambda p, q: p.shape == q.shape, "item": lambda x: x.item(), "tolist": lambda x: x.tolist(),
    "numel": lambda x: x.size, "is_floating_point": lambda x: x.dtype.kind == "f", "is_tensor": lambda x: isinstance(x, np.ndarray),
    "broadcast_shapes": lambda *s: torch.Size(np.broadcast_shapes(*s)),
}
ORACLES["bincount"] = lambda x, w=None, minlength=0: np.bincount(x, w, minlength)
ORACLES["unique"] = lambda x, s=True, inverse=False, counts=False: np.unique(x, return_inverse=inverse, return_counts=counts)
ORACLES["unique_consecutive"] = lambda x, *more: ((np.array([1, 2, 1]) if not more else (np.array([1, 2]), np.array([0, 0, 1]), np.array([2, 1]))))
ORACLES["mode"] = _mode
ORACLES["result_type"] = lambda x, y: dtypes.float32
for _name in ("float", "double", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool"):
    ORACLES[_name] = {"long": np.trunc, "int": np.trunc, "short": np.trunc, "char": np.trunc, "byte": np.trunc, "bool": lambda x: x != 0}.get(_name, np.copy)


def oracle_of(op: OpDef) -> Callable[..., Any] | None:
    """NumPy's word on what the operation gives, over float64 arrays."""
    if op.kind == "view":
        return op.kernels["numpy"]
    return ORACLES.get(op.name) or op.oracle


# ---------------------------------------------------------------------------------------------------- derived samples


def _elementwise(op: OpDef) -> list[Sample]:
    lo, hi = op.domain
    n = sum(p.role == "operand" and (p.default is not None) for p in op.params)
    floats = [f(3, 4, lo=lo, hi=hi) for _ in range(n)]
    out = [S(*floats), S(*[f(lo=lo, hi=hi) for _ in range(n)]), S(*[f(0, 3, lo=lo, hi=hi) for _ in range(n)]), S(*[f(4, 3, lo=lo, hi=hi).T for _ in range(n)])]
    if n > 1:
        out.append(S(*[f(*((3, 1), (4,), (2, 1, 1))[k], lo=lo, hi=hi) for k in range(n)]))
    if op.promote != "floating" and not any(p.role == "scalar" and p.default is None for p in op.params):
        low, high = (int(np.ceil(lo)), int(np.floor(hi)) + 1)
        if high > low:
            low = max(low, 1) if op.name in ("true_divide", "floor_divide", "trunc_divide", "remainder", "fmod", "reciprocal", "addcdiv", "pow") else low
            out.append(S(*[i(3, 4, lo=low, hi=high) for _ in range(n)], grad=False))
    return out


def _reduction(op: OpDef) -> list[Sample]:
    calls = [(None, False), (0, False), (-1, True), ((0, 1), False)]
    if op.name in ("argmax_dims", "argmin_dims"):
        calls = calls[:3]
    out = [S(f(3, 4), d, k) for d, k in calls]
    out += [S(f(4, 3).T, 1), S(f(2, 3, 4), 1, True), S(f())]
    if op.name not in ("mean", "var_mean_dims", "logsumexp"):
        out.append(S(i(3, 4), 1, grad=False))
    return out


def samples_of(op: OpDef) -> list[Sample]:
    """The samples of an operation: its own, those listed here, or those that follow from its kind."""
    _count[0] = zlib.crc32(op.name.encode()) % 10000
    if op.samples is not None:
        return op.samples()
    if op.name in SAMPLES:
        return SAMPLES[op.name]()
    if op.kind == "elementwise" and all(p.role == "operand" or p.default is not p.empty for p in _params(op)):
        return _elementwise(op)
    if op.kind == "reduction":
        return _reduction(op)
    return []


class _Param:
    def __init__(self, p: Any) -> None:
        import inspect
        self.role, self.default, self.empty = p.role, p.default, inspect.Parameter.empty


def _params(op: OpDef) -> list[_Param]:
    return [_Param(p) for p in op.params]


def all_ops() -> list[OpDef]:
    """Every operation but those tested elsewhere."""
    return [op for op in REGISTRY.values() if op.name not in ELSEWHERE]
