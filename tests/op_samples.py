"""What the definition tests call each operation with.

An operation that says nothing here is called with samples made from its kind (:func:`samples_of`). Floating NumPy arrays stand for
tensors of the dtype that a mode works in, other arrays for tensors of their own dtype.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import families
import numpy as np
from sample_makers import S, b, f, i, permutation, restart

from fusetorch import dtypes
from fusetorch.ops.opdef import REGISTRY, OpDef, Sample

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
    "clamp": lambda: [
        S(f(3, 4), -0.5, 0.5),
        S(f(3, 4), f(4, lo=-2, hi=-1), f(3, 1, lo=0, hi=1)),
        S(f(6), None, 0.3),
        S(i(8, lo=-5), min=-1),
    ],
    "convert": lambda: [
        S(f(3, 4), dtypes.float64),
        S(f(3, 4), dtypes.float16, grad=False),
        S(i(6), dtypes.float32),
        S(i(6), dtypes.uint8),
        S(b(4), dtypes.int32),
        S(f(5), dtypes.int64, grad=False),
    ],
    "nan_to_num": lambda: [S(np.array([1.0, np.nan, np.inf, -np.inf]), 0.5, 9.0, -9.0, grad=False), S(f(4))],
    "heaviside": lambda: [S(np.array([-1.0, 0.0, 2.0]), np.array([0.5, 0.25, 0.5])), S(f(3, 4), f(4))],
    "isclose": lambda: [
        S(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.1, np.nan])),
        S(np.array([1.0, np.nan]), np.array([1.05, np.nan]), 0.1, 0.0, True),
    ],
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
    "round": lambda: [
        S(f(3, 4)),
        S(f(6, lo=-300, hi=300), decimals=1),
        S(f(6, lo=-3000, hi=3000), decimals=-2),
        S(i(4)),
    ],
    # reductions with arguments
    "vector_norm_dims": lambda: (
        [
            S(f(3, 4), o, d, k)
            for o, d, k in (
                (2.0, None, False),
                (1.0, -1, True),
                (3.0, 0, False),
                (float("inf"), 1, False),
                (float("-inf"), 1, False),
                (0.5, 1, False),
            )
        ]
        + [S(f(3, 4), 0.0, 1, grad=False)]
    ),
    "softmax_dims": lambda: [S(f(3, 4), 1, True), S(f(3, 4), 0, True), S(f(2, 3, 4), 1, True)],
    "log_softmax_dims": lambda: [S(f(3, 4), 1, True), S(f(3, 4), 0, True)],
    "softmax_grad": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=1), 1, True)],
    "log_softmax_grad": lambda: [S(f(3, 4), f(3, 4, lo=-3, hi=0), 1, True)],
    "layer_norm_stats": lambda: [
        S(f(3, 4), f(4), f(4), eps=1e-5, dim=1, keepdim=True),
        S(f(2, 3, 4), None, None, eps=1e-3, dim=(1, 2), keepdim=True),
        S(f(3, 4), f(4), None, eps=1e-5, dim=1, keepdim=True),
    ],
    "layer_norm_grad": lambda: [
        S(f(3, 4), f(3, 4), f(3, 1), f(3, 1, lo=0.5, hi=2), f(4), 1, True),
        S(f(3, 4), f(3, 4), f(3, 1), f(3, 1, lo=0.5, hi=2), None, 1, True),
    ],
    "max_with_index": lambda: [S(f(3, 4), 1), S(f(2, 3, 4), 0, True), S(i(4, 5), 1)],
    "min_with_index": lambda: [S(f(3, 4), 1), S(f(2, 3, 4), 0, True), S(i(4, 5), 1)],
    "cross_entropy_rows": lambda: [
        S(f(3, 5), i(3, 1), None, 1, True, ignore_index=-100, label_smoothing=None),
        S(f(3, 5), i(3, 1), None, 1, True, ignore_index=1, label_smoothing=0.2),
        S(
            f(2, 5, 3),
            i(2, 1, 3),
            f(1, 5, 1, lo=0.5, hi=2).astype(np.float32),
            1,
            True,
            ignore_index=-100,
            label_smoothing=0.1,
            grad=False,
        ),
    ],
    "cross_entropy_grad": lambda: [
        S(f(3, 5), f(3, 1), i(3, 1), f(3, 1, lo=2, hi=3), None, 1, True, ignore_index=-100, label_smoothing=None),
        S(f(3, 5), f(3, 1), i(3, 1), f(3, 1, lo=2, hi=3), None, 1, True, ignore_index=2, label_smoothing=0.1),
    ],
    "nll_rows": lambda: [
        S(f(3, 5), i(3, 1), None, 1, True, ignore_index=-100),
        S(f(2, 5, 3), i(2, 1, 3), None, 1, True, ignore_index=0),
    ],
    "nll_grad": lambda: [S(f(3, 1), f(3, 5), i(3, 1), None, 1, True, ignore_index=-100)],
    # views: (input, *static attributes)
    "view_as_shape": lambda: [S(f(3, 4), (12,)), S(f(2, 6), (2, 3, 2)), S(f(0, 3), (3, 0)), S(f(1), ())],
    "permute_dims": lambda: [S(f(2, 3, 4), (2, 0, 1)), S(f(), ())],
    "expand_to": lambda: [S(f(3, 1), (2, 3, 4)), S(f(), (2, 2)), S(f(1, 3), (0, 3))],
    "slice_dims": lambda: [
        S(f(5, 4), ((1, 5, 2), 3)),
        S(f(5, 4), (None, (4, -1, -1), (0, 4, 1))),
        S(f(5), ((2, 2, 1),)),
        S(f(3, 4), (1, 2)),
    ],
    "diagonal_dims": lambda: [S(f(3, 4), 0, 0, 1), S(f(2, 3, 4), 1, 2, 1), S(f(3, 3), -5, 0, 1)],
    "as_strided_view": lambda: [S(f(6), (3, 2), (1, 1), 0, (1,)), S(f(3, 4), (2, 2), (4, 2), 1, (4, 1))],
    "unfold_dim": lambda: [S(f(7, 3), 0, 3, 2), S(f(3, 5), 1, 2, 1)],
    # opaque
    "move_to_device": lambda: [S(f(3, 4), "cpu")],
    "embedding_rows": lambda: [S(f(5, 3), i(2, 4), -1), S(f(5, 3), i(0), -1), S(f(5, 3), i(), -1)],
    "embedding_grad": lambda: [S(f(2, 4, 3), i(2, 4), 5, -1), S(f(6, 3), i(6), 5, 2)],
    "index": lambda: [
        S(f(5, 4), [i(3), i(3, hi=4)], (0, 1)),
        S(f(5, 2, 4), [i(3), i(3, hi=4)], (0, 2)),
        S(f(5, 4), [i(2, 3, lo=-5)], (0,)),
        S(f(2, 5, 4), [i(2, 1), i(3, hi=4)], (1, 2)),
    ],
    "put_at": lambda: [
        S(f(5, 4), f(3), [permutation(5)[:3], i(3, hi=4)], (0, 1), False),
        S(f(5, 4), f(3, 4), [i(3)], (0,), True),
        S(f(5), f(), [i(4)], (0,), True),
    ],
    "index_sum": lambda: [S(f(3), [i(3), i(3, hi=4)], (5, 4), (0, 1)), S(f(5, 2, 3), [i(2, 3, lo=-4, hi=4)], (5, 4), (1,))],
    "slice_scatter_dims": lambda: [S(f(2, 4), (5, 4), ((1, 5, 2), (0, 4, 1))), S(f(4), (5, 4), (2, (0, 4, 1)), 1.5)],
    "slice_put": lambda: [S(f(5, 4), f(2, 4), ((1, 5, 2), (0, 4, 1))), S(f(5, 4), f(4), (2, (3, -1, -1)))],
    "diagonal_put": lambda: [S(f(3, 4), f(3), 0, 0, 1), S(f(2, 3, 4), f(2, 2), -1, 1, 2)],
    "gather_dim": lambda: [S(f(3, 5), i(3, 2), 1), S(f(5, 3), i(4, 3), 0), S(f(5, 3), i(2, 2), 0)],
    "scatter_dim": lambda: [
        S(f(5, 3), f(5, 3), np.stack([permutation(5)] * 3, 1), 0, "none", True),
        S(f(5, 3), f(4, 3), i(4, 3), 0, "sum", True),
        S(f(5, 3), f(4, 3), i(4, 2), 0, "sum", False),
        S(f(5, 3), f(4, 3), i(4, 3), 0, "amax", True),
        S(f(5, 3), f(4, 3), i(4, 3), 0, "amin", False),
    ],
    "cat_dim": lambda: [S([f(2, 3), f(1, 3)], 0), S([f(2, 3), f(2, 0), f(2, 2)], 1), S([f(2, 3)], 1)],
    "bmm_general": lambda: [
        S(f(3, 4), f(4, 5)),
        S(f(2, 3, 4), f(2, 4, 5)),
        S(f(2, 1, 3, 4), f(5, 4, 2)),
        S(f(0, 4), f(4, 2)),
        S(f(2, 0), f(0, 3)),
        S(i(3, 4), i(4, 2)),
    ],
    "sort_dim": lambda: [
        S(f(3, 5), 1, False),
        S(f(3, 5), 0, True),
        S(i(3, 7, hi=3), 1, True),
        S(f(), 0, False),
        S(np.array([2.0, np.nan, 1.0]), 0, False, grad=False),
    ],
    "topk_dim": lambda: [S(f(3, 5), 2, 1, True), S(f(3, 5), 2, 0, False), S(i(6), 0, 0, True)],
    "search_sorted": lambda: [S(np.sort(f(6)), f(2, 3), False), S(np.sort(i(2, 6)), i(2, 3), True)],
    "cumsum_dim": lambda: [S(f(3, 4), 1), S(f(3, 4), 0), S(i(5), 0), S(f(0, 3), 0)],
    "linear_scan": lambda: [S(f(3, 4), f(3, 4), 1), S(f(5, 2), f(5, 2), 0)],
    "cumprod_dim": lambda: [S(f(3, 4), 1), S(np.array([2.0, 0.0, 3.0, 0.0, 1.5]), 0), S(i(5, lo=1), 0)],
    "cum_extremum": lambda: [S(f(3, 5), 1, True), S(f(4, 2), 0, False), S(i(9), 0, True)],
    "logcumsumexp_dim": lambda: [S(f(3, 4), 1), S(f(5), 0)],
    # composites
    "scaled_dot_product_attention": lambda: [
        S(f(2, 3, 4), f(2, 5, 4), f(2, 5, 6)),
        S(f(2, 3, 4), f(2, 3, 4), f(2, 3, 4), is_causal=True),
        S(f(3, 4), f(5, 4), f(5, 2), b(3, 5) | np.eye(3, 5, dtype=bool)),
        S(f(3, 4), f(5, 4), f(5, 2), f(3, 5), scale=0.3),
    ],
    "tensor": lambda: [S([[1.0, 2.0], [3.0, 4.0]]), S([1, 2, 3]), S(True), S([1, 2], dtype=dtypes.float16)],
    "as_tensor": lambda: [S([1.5, 2.5]), S([1, 2], dtype=dtypes.float64)],
    "asarray": lambda: [S([1.5, 2.5])],
    "from_numpy": lambda: [],
    "scalar_tensor": lambda: [S(2.5), S(3, dtype=dtypes.int64)],
    "empty": lambda: [],
    "empty_like": lambda: [],
    "new_empty": lambda: [],
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
    "view_as": lambda: [S(f(3, 4), f(2, 6))],
    "reshape_as": lambda: [S(f(3, 4).T, f(2, 6))],
    "permute": lambda: [S(f(2, 3, 4), 2, 0, 1), S(f(2, 3), dims=(1, -2))],
    "transpose": lambda: [S(f(2, 3, 4), 0, -1), S(f(), 0, 0)],
    "t": lambda: [S(f(2, 3)), S(f(4))],
    "movedim": lambda: [S(f(2, 3, 4), 0, 2), S(f(2, 3, 4), (0, 1), (-1, 0))],
    "expand": lambda: [S(f(3, 1), 2, -1, 4)],
    "expand_as": lambda: [S(f(3, 1), f(3, 4))],
    "broadcast_to": lambda: [S(f(3, 1), (2, 3, 4))],
    "squeeze": lambda: [S(f(1, 3, 1)), S(f(1, 3, 1), 0), S(f(1, 3, 1), (0, 1))],
    "unsqueeze": lambda: [S(f(3), 0), S(f(3), -1)],
    "flatten": lambda: [S(f(2, 3, 4)), S(f(2, 3, 4), 1), S(f())],
    "ravel": lambda: [S(f(3, 4).T)],
    "unflatten": lambda: [S(f(6, 2), 0, (2, -1))],
    "narrow": lambda: [S(f(5, 3), 0, 1, 3), S(f(5, 3), 1, -2, 2)],
    "select": lambda: [S(f(5, 3), 0, -1), S(f(5, 3), 1, 0)],
    "split": lambda: [S(f(5, 3), 2), S(f(5, 3), [1, 4])],
    "chunk": lambda: [S(f(5, 3), 2), S(f(2), 4)],
    "unbind": lambda: [S(f(3, 2)), S(f(3, 2), 1)],
    "diagonal": lambda: [S(f(3, 4)), S(f(2, 3, 4), 1, 1, 2)],
    "unfold": lambda: [S(f(7), 0, 3, 2)],
    "contiguous": lambda: [S(f(3, 4).T), S(f(3))],
    "as_strided": lambda: [S(f(6), (3, 2), (1, 1)), S(f(3, 4), (2, 2), (4, 2), 1)],
    "split_with_sizes": lambda: [S(f(5, 3), [1, 4])],
    "unsafe_split": lambda: [S(f(5, 3), 2)],
    "unsafe_chunk": lambda: [S(f(5, 3), 2)],
    "tensor_split": lambda: [S(f(7), 3), S(f(5, 3), (1, 2), 1)],
    "hsplit": lambda: [S(f(2, 4), 2)],
    "vsplit": lambda: [S(f(4, 2), 2)],
    "dsplit": lambda: [S(f(1, 2, 4), 2)],
    "storage_offset": lambda: [S(f(3))],
    "ldexp": lambda: [S(f(3, 4), f(4))],
    "clamp_min": lambda: [S(f(3, 4), 0.1)],
    "clamp_max": lambda: [S(f(3, 4), f(4))],
    "float_power": lambda: [S(f(3, 4, lo=0.3), 1.5)],
    "isposinf": lambda: [S(np.array([1.0, np.nan, np.inf, -np.inf])), S(i(3))],
    "isneginf": lambda: [S(np.array([1.0, np.nan, np.inf, -np.inf])), S(i(3))],
    "nansum": lambda: [S(np.array([[1.0, np.nan], [2.0, 3.0]]), 0, grad=False), S(f(3, 4))],
    "nanmean": lambda: [S(np.array([[1.0, np.nan], [2.0, 3.0]]), 0, grad=False), S(f(3, 4))],
    "sum_to_size": lambda: [S(f(2, 3, 4), (3, 1)), S(f(2, 3), 1, 3)],
    "trace": lambda: [S(f(3, 4))],
    "vdot": lambda: [S(f(3), f(3))],
    "dist": lambda: [S(f(3), f(3))],
    "cdist": lambda: [S(f(3, 4), f(2, 4)), S(f(2, 3, 4), f(2, 2, 4), 1.0)],
    "renorm": lambda: [S(f(3, 4), 2, 0, 1.5)],
    "trapezoid": lambda: [S(f(3, 4)), S(f(4), np.sort(f(4))), S(f(3, 4), dx=0.5, dim=0)],
    "cumulative_trapezoid": lambda: [S(f(3, 4))],
    "cov": lambda: [S(f(3, 5)), S(f(5), correction=0)],
    "corrcoef": lambda: [S(f(3, 5))],
    "kron": lambda: [S(f(2, 3), f(3, 2)), S(f(2), f(2, 2))],
    "cross": lambda: [S(f(4, 3), f(4, 3)), S(f(3, 2), f(3, 2), 0)],
    "combinations": lambda: [S(f(4)), S(f(3), 2, True)],
    "unravel_index": lambda: [S(i(4, hi=12), (3, 4))],
    "pixel_shuffle": lambda: [S(f(2, 8, 2, 3), 2)],
    "pixel_unshuffle": lambda: [S(f(2, 2, 4, 6), 2)],
    "__getitem__": lambda: [
        S(f(5, 4), 1),
        S(f(5, 4), (slice(None, None, 2), None, -1)),
        S(f(5, 4), (Ellipsis, [0, 2])),
        S(f(5, 4), i(2, 3)),
        S(f(2, 5, 4), (slice(None), i(3), i(3, hi=4))),
        S(f(2, 5, 4), (i(3, hi=2), slice(1, 3), i(3, hi=4))),
        S(f(5, 4), b(5)),
        S(f(5, 4), True),
    ],
    "index_put": lambda: [S(f(5, 4), (permutation(5)[:3],), f(3, 4)), S(f(5, 4), (i(3), i(3, hi=4)), f(3), True)],
    "nonzero": lambda: [S(i(3, 4, hi=2)), S(b(5), as_tuple=True)],
    "argwhere": lambda: [S(i(3, 4, hi=2))],
    "masked_select": lambda: [S(f(3, 4), b(3, 4)), S(f(3, 4), b(4))],
    "masked_scatter": lambda: [S(f(3, 4), b(3, 4), f(12))],
    "select_scatter": lambda: [S(f(3, 4), f(3), 1, 2)],
    "slice_scatter": lambda: [S(f(5, 4), f(2, 4), 0, 1, 5, 2)],
    "diagonal_scatter": lambda: [S(f(3, 4), f(3))],
    "index_select": lambda: [S(f(3, 5), 1, i(4)), S(f(5), 0, i(2))],
    "index_add": lambda: [S(f(5, 3), 0, i(4), f(4, 3)), S(f(3, 5), 1, i(2), f(3, 2), alpha=0.5)],
    "index_copy": lambda: [S(f(5, 3), 0, permutation(5)[:2], f(2, 3))],
    "index_fill": lambda: [S(f(5, 3), 0, i(2), 1.5)],
    "take": lambda: [S(f(3, 4), i(2, 2, hi=12))],
    "put": lambda: [S(f(3, 4), permutation(12)[:3], f(3)), S(f(3, 4), i(5, hi=12), f(5), True)],
    "gather": lambda: [S(f(3, 5), 1, i(3, 2)), S(f(4), 0, i(2, hi=4))],
    "scatter": lambda: [
        S(f(5, 3), 0, np.stack([permutation(5)] * 3, 1), f(5, 3)),
        S(f(5, 3), 0, np.array([[1, 2, 0]]), 2.5),
        S(f(5, 3), 0, np.array([[1, 2, 0]]), f(1, 3), reduce="add"),
    ],
    "scatter_add": lambda: [S(f(5, 3), 0, i(4, 3), f(4, 3))],
    "scatter_reduce": lambda: (
        [
            S(f(5, 3), 0, i(4, 3), f(4, 3), r, include_self=s)
            for r in ("sum", "mean", "amax", "amin")
            for s in (True, False)
        ]
        + [S(f(5, 3), 0, i(4, 3), f(4, 3), "prod")]
    ),
    "take_along_dim": lambda: [S(f(3, 5), i(3, 2), 1), S(f(3, 5), i(4, hi=15))],
    "cat": lambda: [S([f(2, 3), f(1, 3)]), S([f(2, 3), i(2, 1)], 1), S([f(0), f(2, 3)])],
    "stack": lambda: [S([f(2, 3), f(2, 3)]), S([f(2), f(2)], -1)],
    "atleast_1d": lambda: [S(f()), S(f(2, 3))],
    "atleast_2d": lambda: [S(f(3))],
    "atleast_3d": lambda: [S(f(3)), S(f(2, 3))],
    "hstack": lambda: [S([f(2, 3), f(2, 1)]), S([f(2), f(3)])],
    "vstack": lambda: [S([f(3), f(3)])],
    "dstack": lambda: [S([f(2, 3), f(2, 3)])],
    "column_stack": lambda: [S([f(3), f(3, 2)])],
    "block_diag": lambda: [S(f(2, 2), f(1, 3))],
    "repeat": lambda: [S(f(2, 3), 2, 1, 2)],
    "tile": lambda: [S(f(2, 3), 2), S(f(3), (2, 2))],
    "repeat_interleave": lambda: [S(f(2, 3), 2, 1), S(f(3), np.array([1, 0, 2]), 0), S(f(2, 2), 3)],
    "flip": lambda: [S(f(2, 3), 0, 1), S(f(2, 3), dims=(1,))],
    "fliplr": lambda: [S(f(2, 3))],
    "flipud": lambda: [S(f(2, 3))],
    "roll": lambda: [S(f(2, 5), 2, 1), S(f(2, 5), 3), S(f(3, 4), (1, -1), (0, 1))],
    "rot90": lambda: [S(f(2, 3), k) for k in (0, 1, 2, 3)],
    "broadcast_tensors": lambda: [S(f(3, 1), f(4))],
    "broadcast_shapes": lambda: [S((3, 1), (4,))],
    "meshgrid": lambda: [S(f(2), f(3), indexing="ij"), S(f(2), f(3), indexing="xy")],
    "cartesian_prod": lambda: [S(f(2), f(3))],
    "tril": lambda: [S(f(3, 4)), S(f(2, 3, 3), -1)],
    "triu": lambda: [S(f(3, 4)), S(f(3, 3), 1)],
    "tril_indices": lambda: [S(3, 4), S(3, 3, -1)],
    "triu_indices": lambda: [S(3, 4), S(3, 3, 1)],
    "diag_embed": lambda: [S(f(2, 3)), S(f(3), 1)],
    "diag": lambda: [S(f(3)), S(f(3, 4), 1)],
    "diagflat": lambda: [S(f(2, 2))],
    "one_hot": lambda: [S(i(4), 5), S(i(), 6), S(i(2, 3))],
    "pad": lambda: [
        S(f(2, 3), (1, 2)),
        S(f(2, 3), (1, 0, 0, 1), "constant", 1.5),
        S(f(2, 3, 4), (1, 2), "reflect"),
        S(f(2, 3, 4), (1, 2), "replicate"),
        S(f(2, 3, 4), (1, 2), "circular"),
        S(f(3, 4), (-1, 1)),
    ],
    "einsum": lambda: [
        S("ij,jk->ik", f(2, 3), f(3, 4)),
        S("bij,bkj->bik", f(2, 2, 3), f(2, 4, 3)),
        S("ii->i", f(3, 3)),
        S("...i,i", f(2, 3), f(3)),
        S("ij->", f(2, 3)),
        S("i,j,k->kji", f(2), f(3), f(2)),
    ],
    "cross_entropy": lambda: [
        S(f(3, 5), i(3)),
        S(f(3, 5), i(3), label_smoothing=0.1),
        S(f(2, 5, 3), i(2, 3), reduction="none"),
        S(f(3, 5), i(3), ignore_index=1, reduction="sum"),
        S(f(5), i()),
        S(f(3, 5), np.full((3, 5), 0.2)),
        S(f(3, 5), i(3), f(5, lo=0.5, hi=2), grad=False),
    ],
    "nll_loss": lambda: [
        S(f(3, 5, lo=-4, hi=-1), i(3)),
        S(f(3, 5, lo=-4, hi=-1), i(3), reduction="none"),
        S(f(3, 5), i(3), f(5, lo=0.5, hi=2), grad=False),
    ],
    "mse_loss": lambda: [S(f(3, 4), f(3, 4)), S(f(3), f(3), reduction="sum"), S(f(3), f(3), reduction="none")],
    "l1_loss": lambda: [S(f(3, 4), f(3, 4))],
    "smooth_l1_loss": lambda: [S(f(3, 4), f(3, 4), beta=0.5)],
    "huber_loss": lambda: [S(f(3, 4), f(3, 4), delta=0.7)],
    "binary_cross_entropy": lambda: [S(f(3, 4, lo=0.1, hi=0.9), f(3, 4, lo=0, hi=1))],
    "binary_cross_entropy_with_logits": lambda: [
        S(f(3, 4), f(3, 4, lo=0, hi=1)),
        S(f(3, 4), f(3, 4, lo=0, hi=1), pos_weight=f(4, lo=1, hi=2)),
    ],
    "kl_div": lambda: [
        S(f(3, 4), f(3, 4, lo=0.1, hi=1), reduction="batchmean"),
        S(f(3, 4), f(3, 4), reduction="sum", log_target=True),
    ],
    "gaussian_nll_loss": lambda: [S(f(3, 4), f(3, 4), f(3, 4, lo=0.5, hi=1))],
    "poisson_nll_loss": lambda: [S(f(3, 4), f(3, 4, lo=0, hi=3))],
    "cosine_similarity": lambda: [S(f(3, 4), f(3, 4)), S(f(2, 3, 4), f(2, 3, 4), 2)],
    "pairwise_distance": lambda: [S(f(3, 4), f(3, 4))],
    "normalize": lambda: [S(f(3, 4)), S(f(3, 4), p=1.0, dim=0)],
    "cosine_embedding_loss": lambda: [S(f(3, 4), f(3, 4), np.array([1.0, -1.0, 1.0]))],
    "hinge_embedding_loss": lambda: [S(f(4), np.array([1.0, -1.0, 1.0, -1.0]))],
    "margin_ranking_loss": lambda: [S(f(4), f(4), np.array([1.0, -1.0, 1.0, -1.0]), 0.1)],
    "soft_margin_loss": lambda: [S(f(4), np.array([1.0, -1.0, 1.0, -1.0]))],
    "triplet_margin_loss": lambda: [S(f(3, 4), f(3, 4), f(3, 4))],
    "prelu": lambda: [S(f(2, 3, 4), f(3)), S(f(4), f(1))],
    "glu": lambda: [S(f(3, 4)), S(f(4, 3), 0)],
    "matmul": lambda: [
        S(f(3, 4), f(4, 5)),
        S(f(4), f(4)),
        S(f(3, 4), f(4)),
        S(f(4), f(4, 2)),
        S(f(2, 3, 4), f(4, 2)),
        S(f(2, 3, 4), f(2, 4, 2)),
        S(f(2, 0, 4), f(4, 2)),
    ],
    "mm": lambda: [S(f(3, 4), f(4, 2))],
    "bmm": lambda: [S(f(2, 3, 4), f(2, 4, 2))],
    "mv": lambda: [S(f(3, 4), f(4))],
    "dot": lambda: [S(f(4), f(4))],
    "inner": lambda: [S(f(3, 4), f(2, 4))],
    "outer": lambda: [S(f(3), f(4))],
    "tensordot": lambda: [S(f(3, 4), f(4, 2), 1), S(f(2, 3, 4), f(4, 3, 2), ([1, 2], [1, 0]))],
    "addmm": lambda: [S(f(4), f(3, 2), f(2, 4)), S(f(3, 4), f(3, 2), f(2, 4), beta=0.5, alpha=2.0)],
    "addbmm": lambda: [S(f(3, 4), f(2, 3, 2), f(2, 2, 4))],
    "baddbmm": lambda: [S(f(2, 3, 4), f(2, 3, 2), f(2, 2, 4), beta=0.5)],
    "addmv": lambda: [S(f(3), f(3, 4), f(4))],
    "addr": lambda: [S(f(3, 4), f(3), f(4), beta=0.5)],
    "linear": lambda: [S(f(3, 4), f(2, 4), f(2)), S(f(2, 3, 4), f(2, 4)), S(f(4), f(2, 4))],
    "softmax": lambda: [S(f(3, 4), 1), S(f(2, 3, 4), 1)],
    "log_softmax": lambda: [S(f(3, 4), -1)],
    "softmin": lambda: [S(f(3, 4), 1)],
    "layer_norm": lambda: [S(f(3, 4), (4,)), S(f(2, 3, 4), (3, 4), f(3, 4), f(3, 4)), S(f(3, 4), (4,), f(4))],
    "rms_norm": lambda: [S(f(3, 4), (4,), None, 1e-5), S(f(3, 4), (4,), f(4), 1e-3)],
    "max": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(f(3, 4), f(4))],
    "min": lambda: [S(f(3, 4)), S(f(3, 4), 0, True), S(f(3, 4), f(4))],
    "aminmax": lambda: [S(f(3, 4)), S(f(3, 4), dim=1)],
    "argmax": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(i(3, 4), 0, True)],
    "argmin": lambda: [S(f(3, 4)), S(f(3, 4), 1)],
    "prod": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(i(3, lo=1))],
    "count_nonzero": lambda: [S(i(3, 4, hi=2)), S(i(3, 4, hi=2), 1)],
    "var": lambda: [S(f(3, 4)), S(f(3, 4), 1), S(f(3, 4), 0, correction=0, keepdim=True)],
    "std": lambda: [S(f(3, 4)), S(f(3, 4), 1, False)],
    "var_mean": lambda: [S(f(3, 4), 1)],
    "std_mean": lambda: [S(f(3, 4), 0)],
    "norm": lambda: [S(f(3, 4)), S(f(3, 4), 1, 1), S(f(3, 4), float("inf"), 0), S(f(3, 4), 3, -1, True)],
    "where": lambda: [S(b(3, 4), f(3, 4), f(4)), S(b(3), 1.0, 2.0)],
    "result_type_of_numbers": lambda: [],
    "result_type": lambda: [S(f(2), i(3)), S(i(2), 1.5)],
    "div": lambda: [
        S(f(3, 4), f(4, lo=1, hi=2)),
        S(f(5), f(5, lo=0.3, hi=1), rounding_mode="floor"),
        S(f(5), f(5, lo=0.3, hi=1), rounding_mode="trunc"),
    ],
    "rsub": lambda: [S(f(3), f(3)), S(f(3), 2.0, alpha=0.5)],
    "sort": lambda: [S(f(3, 5)), S(f(3, 5), 0, True)],
    "argsort": lambda: [S(f(3, 5)), S(f(3, 5), 0, True)],
    "msort": lambda: [S(f(3, 5))],
    "topk": lambda: [S(f(3, 5), 2), S(f(3, 5), 2, 0, False)],
    "kthvalue": lambda: [S(f(3, 5), 2), S(f(3, 5), 1, 0, True)],
    "median": lambda: [S(f(3, 5)), S(f(3, 4), 1)],
    "nanmedian": lambda: [S(f(3, 5)), S(f(3, 4), 1)],
    "mode": lambda: [S(i(3, 7, hi=3))],
    "quantile": lambda: [
        S(f(3, 5), 0.3),
        S(f(3, 5), np.array([0.1, 0.9]), 1, interpolation="nearest"),
        S(f(5), 0.5, keepdim=True),
    ],
    "nanquantile": lambda: [S(f(3, 5), 0.3)],
    "searchsorted": lambda: [S(np.sort(f(6)), f(3)), S(np.sort(f(6)), f(3), right=True)],
    "bucketize": lambda: [S(f(3), np.sort(f(4)))],
    "bincount": lambda: [S(i(8)), S(i(8), f(8)), S(i(3), None, 9)],
    "histc": lambda: [S(f(20), 5, -2, 2)],
    "unique": lambda: [S(i(9)), S(i(9), True, True, True)],
    "unique_consecutive": lambda: [S(np.array([1, 1, 2, 2, 2, 1])), S(np.array([1, 1, 2]), True, True)],
    "isin": lambda: [S(i(6), np.array([1, 3])), S(i(6), np.array([1, 3]), invert=True)],
    "cumsum": lambda: [S(f(3, 4), 1), S(i(5), 0)],
    "cumprod": lambda: [S(f(3, 4), 1)],
    "cummax": lambda: [S(f(3, 5), 1)],
    "cummin": lambda: [S(f(3, 5), 0)],
    "logcumsumexp": lambda: [S(f(3, 4), 1)],
    "diff": lambda: [S(f(3, 4)), S(f(3, 4), 2, 0), S(f(4), prepend=f(1))],
    "equal": lambda: [S(f(3), f(3))],
    "allclose": lambda: [S(np.ones(3), np.ones(3) + 1e-9)],
    "is_same_size": lambda: [S(f(3), f(3))],
    "item": lambda: [S(f(1)), S(i())],
    "tolist": lambda: [S(i(2, 2))],
    "numel": lambda: [S(f(3, 4))],
    "is_floating_point": lambda: [S(f(2)), S(i(2))],
    "is_tensor": lambda: [S(f(2)), S(3)],
    "detach": lambda: [S(f(3), grad=False)],
}

for _name in ("float", "double", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool"):
    SAMPLES[_name] = lambda: [S(i(3, 2)), S(f(4, lo=0, hi=3), grad=False)]
for _name in ("rand", "randn"):
    SAMPLES[_name] = lambda: [S(3, 4), S(2, dtype=dtypes.float64), S((0, 2)), S(2000)]
SAMPLES.update(
    {
        "randint": lambda: [S(5, (3, 4)), S(-3, 3, (4,), dtype=dtypes.int32)],
        "randperm": lambda: [S(7), S(0)],
        "rand_like": lambda: [S(f(3, 4))],
        "randn_like": lambda: [S(f(3, 4))],
        "randint_like": lambda: [S(f(3, 4), 3, 9)],
        "bernoulli": lambda: [S(f(3, 4, lo=0, hi=1))],
        "normal": lambda: [S(f(5), f(5, lo=0.5, hi=1), grad=False), S(1.0, f(5, lo=0.5, hi=1), grad=False)],
        "multinomial": lambda: [S(f(3, 5, lo=0.1, hi=1), 2), S(f(5, lo=0.1, hi=1), 9, True), S(f(5, lo=0.1, hi=1), 1)],
        "dropout": lambda: [S(f(3, 4), 0.3), S(f(3, 4), 0.5, False), S(f(4), 1.0)],
        "dropout1d": lambda: [S(f(2, 3, 4), 0.3)],
        "dropout2d": lambda: [S(f(2, 3, 4, 2), 0.3)],
        "dropout3d": lambda: [S(f(2, 3, 2, 2, 2), 0.3)],
        "feature_dropout": lambda: [S(f(2, 3, 4), 0.3)],
        "alpha_dropout": lambda: [S(f(3, 4), 0.3, True)],
        "feature_alpha_dropout": lambda: [S(f(2, 3, 4), 0.3, True)],
    }
)

#: Random draws: the same seed must give the same numbers in every mode; their distributions are tested in test_random.py.
RANDOM = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "randint_like",
    "bernoulli",
    "normal",
    "multinomial",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
}

#: In-place and stateful operations, and what gives no tensor: tested where they belong (test_tensor.py, test_autograd.py, test_random.py).
ELSEWHERE = {
    "from_numpy",
    "empty",
    "empty_like",
    "new_empty",
    "cpu",
    "cuda",
    "detach_",
    "numpy",
    "data_ptr",
    "retain_grad",
    "register_hook",
    "backward",
    "copy_",
    "fill_",
    "zero_",
    "set_",
    "squeeze_",
    "unsqueeze_",
    "transpose_",
    "t_",
    "swapaxes_",
    "swapdims_",
    "__setitem__",
    "index_put_",
    "masked_scatter_",
    "index_add_",
    "index_copy_",
    "index_fill_",
    "scatter_",
    "scatter_add_",
    "scatter_reduce_",
    "manual_seed",
    "seed",
    "initial_seed",
    "get_rng_state",
    "set_rng_state",
    "uniform_",
    "normal_",
    "exponential_",
    "random_",
    "bernoulli_",
    "div_",
    "result_type_of_numbers",
    "draw_uniform",
    "draw_normal",
    "draw_exponential",
    "draw_integers",
    "draw_bernoulli",
    "draw_normal_like",
    "dropout_draw",
    "requires_grad_",
    "float_power_",
    "as_strided_",
}

for _family in families.ALL:
    SAMPLES.update(_family.SAMPLES)
    RANDOM |= getattr(_family, "RANDOM", set())
    ELSEWHERE |= getattr(_family, "ELSEWHERE", set())


# ---------------------------------------------------------------------------------------------------- derived samples


def _elementwise(op: OpDef) -> list[Sample]:
    lo, hi = op.domain
    n = sum(p.role == "operand" and (p.default is not None) for p in op.params)
    floats = [f(3, 4, lo=lo, hi=hi) for _ in range(n)]
    out = [
        S(*floats),
        S(*[f(lo=lo, hi=hi) for _ in range(n)]),
        S(*[f(0, 3, lo=lo, hi=hi) for _ in range(n)]),
        S(*[f(4, 3, lo=lo, hi=hi).T for _ in range(n)]),
    ]
    if n > 1:
        out.append(S(*[f(*((3, 1), (4,), (2, 1, 1))[k % 3], lo=lo, hi=hi) for k in range(n)]))
    if op.promote != "floating" and not any(p.role == "scalar" and p.default is None for p in op.params):
        low, high = (int(np.ceil(lo)), int(np.floor(hi)) + 1)
        if high > low:
            low = (
                max(low, 1)
                if op.name
                in ("true_divide", "floor_divide", "trunc_divide", "remainder", "fmod", "reciprocal", "addcdiv", "pow")
                else low
            )
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
    restart(zlib.crc32(op.name.encode()) % 10000)
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
