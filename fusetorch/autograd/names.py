"""What PyTorch calls the nodes of its operations, such as ``MulBackward0``: printed tensors and graphs of gradients show it.

PyTorch has a node for each operation with a derivative of its own; here such an operation may be a composite of others. The last node of
its result then gets its name (:func:`labels`, set by :mod:`fusetorch.functional`).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: By operation: the name before ``Backward0``, where it is not the operation's own name in CamelCase.
_NAMES = {
    "true_divide": "Div", "square": "Pow", "cube": "Pow", "max_with_index": "Max", "min_with_index": "Min", "bmm_general": "Bmm",
    "permute_dims": "Permute", "view_as_shape": "View", "slice_dims": "Slice", "diagonal_dims": "Diagonal", "unfold_dim": "Unfold",
    "expand_to": "Expand", "as_strided_view": "AsStrided", "cat_dim": "Cat", "softmax_dims": "Softmax",
    "log_softmax_dims": "LogSoftmax", "convert": "ToCopy", "move_to_device": "ToCopy", "clone_contiguous": "Clone",
    "where_elementwise": "Where", "vector_norm_dims": "LinalgVectorNorm", "gather_dim": "Gather", "layer_norm_stats": "NativeLayerNorm",
    "layer_norm": "NativeLayerNorm", "embedding_rows": "Embedding", "cumsum_dim": "Cumsum", "prod_dims": "Prod", "var_mean_dims": "Var",
    "convolution_forward": "Convolution", "channel_norm_stats": "NativeBatchNorm", "dropout_draw": "Mul", "log1p": "Log1P",
    "deg2rad": "Deg2Rad", "rad2deg": "Rad2Deg", "selu": "Elu", "relu6": "Hardtanh", "logsigmoid": "LogSigmoid", "softsign": "Div",
    "tanhshrink": "Sub", "trunc_divide": "Div", "floor_divide": "Div", "fft_c2c": "FftC2C", "fft_r2c": "FftR2C", "fft_c2r": "FftC2R",
    "im2col": "Im2Col", "unfold_image": "Im2Col", "diagonal_put": "DiagonalScatter", "tril_elementwise": "Tril",
    "triu_elementwise": "Triu", "topk_dim": "Topk", "sort_dim": "Sort", "cumprod_dim": "Cumprod", "scatter_dim": "Scatter",
    "special_i0e": "SpecialI0E", "special_i1e": "SpecialI1E", "special_xlog1py": "SpecialXlog1Py", "polygamma_order": "Polygamma",
    "squared_difference": "MseLoss", "absolute_difference": "Abs", "smooth_l1_elementwise": "SmoothL1Loss",
    "huber_elementwise": "HuberLoss", "binary_cross_entropy_elementwise": "BinaryCrossEntropy", "prelu_elementwise": "PreluKernel",
    "inverse_matrix": "LinalgInvEx", "pseudo_inverse": "LinalgPinv",
}

#: Composites whose result PyTorch gives a node of this name, before ``Backward0``; ``None``: their own name in CamelCase.
_LABELS: dict[str, str | None] = {
    **dict.fromkeys((
        "addmm", "addmv", "addbmm", "baddbmm", "addr", "dot", "vdot", "mv", "mm", "bmm", "block_diag", "cholesky", "cholesky_inverse",
        "cholesky_solve", "cummax", "cummin", "diag_embed", "diagonal_scatter", "flip", "frexp", "kthvalue", "lu_unpack",
        "masked_scatter", "masked_select", "var_mean", "std_mean", "std", "aminmax", "soft_margin_loss", "multi_margin_loss", "glu",
        "topk", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mode", "mvlgamma", "dist", "roll", "split",
        "split_with_sizes", "unsafe_split", "select", "select_scatter", "slice_scatter", "triangular_solve", "polygamma", "gather",
        "index_copy", "index_select", "index_add", "index_reduce", "index_put", "take", "put", "scatter", "scatter_add",
        "scatter_reduce", "stack", "unbind", "renorm", "repeat", "unsqueeze", "trace", "transpose", "t", "tril", "triu", "unfold",
        "multilabel_margin_loss", "mse_loss", "huber_loss", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
        "embedding_bag", "native_group_norm", "fill", "nansum", "linalg_cross", "linalg_det", "linalg_slogdet", "linalg_eig",
        "linalg_eigh", "linalg_svd", "linalg_qr", "linalg_lu", "linalg_lu_solve", "linalg_lstsq", "linalg_householder_product",
        "linalg_solve_triangular", "linalg_pinv", "cdist", "smooth_l1_loss", "cumprod", "ormqr"), None),
    "chunk": "Split", "unsafe_chunk": "UnsafeSplit", "clamp_max": "ClampMax", "clamp_min": "ClampMin", "fliplr": "Flip",
    "flipud": "Flip", "group_norm": "NativeGroupNorm", "batch_norm": "NativeBatchNorm", "instance_norm": "View",
    "native_batch_norm": "NativeBatchNorm", "conv_transpose1d": "Convolution", "conv_transpose2d": "Convolution",
    "conv_transpose3d": "Convolution", "tile": "Repeat", "qr": "LinalgQr", "svd": "LinalgSvd", "lu_solve": "LinalgLuSolve",
    "det": "LinalgDet", "slogdet": "LinalgSlogdet", "logdet": "Log", "diagflat": "DiagEmbed", "kron": "UnsafeView", "cross": "LinalgCross",
    "avg_pool2d": "AvgPool2D", "avg_pool3d": "AvgPool3D", "max_pool2d": "MaxPool2DWithIndices", "max_pool3d": "MaxPool3DWithIndices",
    "max_unpool2d": "MaxUnpool2D", "max_unpool3d": "MaxUnpool3D", "adaptive_max_pool2d": "AdaptiveMaxPool2D",
    "adaptive_max_pool3d": "AdaptiveMaxPool3D", "fractional_max_pool2d": "FractionalMaxPool2D",
    "fractional_max_pool3d": "FractionalMaxPool3D", "repeat_interleave": "IndexSelect", "rrelu": "RreluWithNoise",
    "prelu": "PreluKernel", "msort": "Sort", "constant_pad_nd": "ConstantPadNd",
    "rot90": "Rot90", "cholesky_ex": "LinalgCholeskyEx", "linalg_cholesky": "LinalgCholeskyEx", "linalg_cholesky_ex": "LinalgCholeskyEx",
    "linalg_solve": "LinalgSolveEx", "linalg_solve_ex": "LinalgSolveEx", "linalg_svdvals": "LinalgSvd", "linalg_eigvalsh": "LinalgEigh",
    "linalg_eigvals": "LinalgEig", "linalg_lu_factor": "LinalgLuFactorEx", "linalg_lu_factor_ex": "LinalgLuFactorEx",
    "linalg_tensorinv": "View", "pdist": "Pdist", "segment_reduce": "SegmentReduce", "_segment_reduce": "SegmentReduce",
    "grid_sampler_2d": "GridSampler2D", "grid_sampler_3d": "GridSampler3D", "narrow_copy": "NarrowCopy",
}


def node_name(op: str, number: int = 0) -> str:
    """What PyTorch calls the node of an operation, such as ``MulBackward0``."""
    return (_NAMES.get(op) or _camel(op)) + f"Backward{number}"


def _camel(op: str) -> str:
    return "".join([p.capitalize() for p in op.strip("_").split("_")])


def number_of(op: str, scalars: int, dims: bool) -> int:
    """Which of an operation's derivatives PyTorch uses: of numbers or tensors, over all dimensions or some."""
    if op in ("sum", "mean", "prod"):
        return int(dims)
    if op == "round":
        return int(scalars > 0)
    if op in ("clamp", "trunc_divide", "floor_divide", "max", "min"):
        return (1 if scalars else 0) if op == "clamp" else 2 if op.endswith("divide") else int(not dims)
    return int(not scalars) if op in ("pow", "fmod", "remainder", "lerp", "masked_fill") else 0


# ---------------------------------------------------------------------------------------------------- names that depend on the call


def _given(args: tuple, kwargs: dict[str, Any], i: int, name: str, default: Any = None) -> Any:
    return args[i] if len(args) > i else kwargs.get(name, default)


def _linear(args: tuple, kwargs: dict[str, Any]) -> str:
    x, bias = _given(args, kwargs, 0, "input"), _given(args, kwargs, 2, "bias")
    if x.ndim == 2:
        return "MmBackward0" if bias is None else "AddmmBackward0"
    return "SqueezeBackward4" if x.ndim < 2 else "UnsafeViewBackward0" if bias is None else "ViewBackward0"


def _matmul(args: tuple, kwargs: dict[str, Any]) -> str:
    a, b = _given(args, kwargs, 0, "input").ndim, _given(args, kwargs, 1, "other").ndim
    return ({(1, 1): "Dot", (2, 1): "Mv", (2, 2): "Mm"}.get((a, b)) or ("Squeeze" if a == 1 and b == 2 else "UnsafeView")) + \
        ("Backward4" if (a, b) == (1, 2) else "Backward0")


def _squeeze(args: tuple, kwargs: dict[str, Any]) -> str:
    dim = _given(args, kwargs, 1, "dim")
    return f"SqueezeBackward{0 if dim is None else 1 if isinstance(dim, int) else 2}"


def _norm(args: tuple, kwargs: dict[str, Any]) -> str:
    return "SumBackward1" if _given(args, kwargs, 1, "p") == "nuc" else "LinalgVectorNormBackward0"


def _nll(args: tuple, kwargs: dict[str, Any]) -> str:
    x = _given(args, kwargs, 0, "input")
    target, smoothing = _given(args, kwargs, 1, "target"), kwargs.get("label_smoothing") or 0
    if smoothing:
        return "AddBackward0"
    if target.is_floating_point():
        return "DivBackward1"
    return "NllLoss2DBackward0" if x.ndim > 2 else "NllLossBackward0"


def _sized(name: str, last: str = "Backward0", first: str | None = None) -> Callable[[tuple, dict[str, Any]], str]:
    """The name with the number of spatial dimensions, ``1D`` ..., of an image in a batch."""
    def named(args: tuple, kwargs: dict[str, Any]) -> str:
        n = _given(args, kwargs, 0, "input").ndim - 2
        return first if first is not None and n == 1 else f"{name}{n}D{last}"
    return named


def _interpolate(args: tuple, kwargs: dict[str, Any]) -> str:
    mode = _given(args, kwargs, 3, "mode", "nearest")
    n = _given(args, kwargs, 0, "input").ndim - 2
    if mode == "area":
        return "SqueezeBackward1" if n == 1 else f"AdaptiveAvgPool{n}DBackward0"
    aa = "Aa" if kwargs.get("antialias") else ""
    return f"Upsample{'NearestExact' if mode == 'nearest-exact' else mode.capitalize()}{n}D{aa}Backward0"


def _pad(args: tuple, kwargs: dict[str, Any]) -> str | None:
    mode = _given(args, kwargs, 2, "mode", "constant")
    n = len(_given(args, kwargs, 1, "pad")) // 2
    return {"constant": "ConstantPadNdBackward0", "reflect": f"ReflectionPad{n}DBackward0",
            "replicate": f"ReplicationPad{n}DBackward0"}.get(mode, "torch::autograd::CopySlices")


def _adaptive(n: int) -> Callable[[tuple, dict[str, Any]], str]:
    def named(args: tuple, kwargs: dict[str, Any]) -> str:
        size = _given(args, kwargs, 1, "output_size")
        ones = all(s == 1 for s in (size if isinstance(size, (tuple, list)) else (size,)))
        return "MeanBackward1" if ones else f"AdaptiveAvgPool{n}DBackward0"
    return named


def _attention(args: tuple, kwargs: dict[str, Any]) -> str:
    fused = _given(args, kwargs, 0, "query").ndim == 4 and not _given(args, kwargs, 4, "dropout_p", 0.0)
    return "ScaledDotProductFlashAttentionForCpuBackward0" if fused else "UnsafeViewBackward0"


def _index(args: tuple, kwargs: dict[str, Any]) -> str | None:
    if type(args[1]) is int:
        return "SelectBackward0"
    if type(args[1]) is slice:
        return "AliasBackward0" if args[1] == slice(None) else "SliceBackward0"
    parts = args[1] if isinstance(args[1], tuple) else (args[1],)
    if not {type(i) for i in parts} <= {int, slice, type(None), type(...)}:
        return None
    last = next((i for i in reversed(parts) if i is not ... and i != slice(None)), slice(None))
    return "SelectBackward0" if type(last) is int else "UnsqueezeBackward0" if last is None else \
        "AliasBackward0" if last == slice(None) else "SliceBackward0"


def _dims(name: str) -> Callable[[tuple, dict[str, Any]], str]:
    """Of reductions that are written as composites: the number says whether ``dim`` was given."""
    first = name in ("Prod", "Median", "Nanmedian")

    def named(args: tuple, kwargs: dict[str, Any]) -> str | None:
        if hasattr(_given(args, kwargs, 1, "other"), "ndim"):  # torch.max(a, b)
            return f"{name}imumBackward0"
        some = len(args) > 1 or "dim" in kwargs
        return f"{name}Backward{int(some if first else not some)}"
    return named


_OF_CALL: dict[str, Callable[[tuple, dict[str, Any]], str | None]] = {
    "linear": _linear, "matmul": _matmul, "squeeze": _squeeze, "norm": _norm, "cross_entropy": _nll, "nll_loss": _nll,
    "interpolate": _interpolate, "pad": _pad, "grid_sample": _sized("GridSampler"), "__getitem__": _index,
    "adaptive_avg_pool2d": _adaptive(2), "adaptive_avg_pool3d": _adaptive(3), "max": _dims("Max"), "min": _dims("Min"),
    "prod": _dims("Prod"), "median": _dims("Median"), "nanmedian": _dims("Nanmedian"),
    "split": lambda args, kwargs: "SplitBackward0" if isinstance(_given(args, kwargs, 1, "split_size_or_sections"), int) else
    "SplitWithSizesBackward0",
    "scaled_dot_product_attention": _attention,
    "sort": lambda args, kwargs: f"SortBackward{int('stable' in kwargs)}",
    "index_fill": lambda args, kwargs: f"IndexFillBackward{int(hasattr(_given(args, kwargs, 3, 'value'), 'ndim'))}",
    "clamp_min": lambda args, kwargs: f"ClampMinBackward{int(hasattr(_given(args, kwargs, 1, 'min'), 'ndim'))}",
    "clamp_max": lambda args, kwargs: f"ClampMaxBackward{int(hasattr(_given(args, kwargs, 1, 'max'), 'ndim'))}",
    "rsub": lambda args, kwargs: f"RsubBackward{int(not hasattr(_given(args, kwargs, 1, 'other'), 'ndim'))}",
    **dict.fromkeys(("avg_pool1d", "max_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "max_unpool1d"),
                    lambda args, kwargs: "SqueezeBackward1"),
}


def labels(op: str) -> str | Callable[[tuple, dict[str, Any]], str | None] | None:
    """The name of the last node of a composite's result, or what makes it of the call's arguments; ``None``: the node keeps its own."""
    found = _OF_CALL.get(op)
    return found if found is not None or op not in _LABELS else (_LABELS[op] or _camel(op)) + "Backward0"
