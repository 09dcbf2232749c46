"""Settings of PyTorch's code generator. Programs may set them; they change nothing."""
from __future__ import annotations

import functools
from types import SimpleNamespace

from fusetorch.compat.settings import Patch

conv_1x1_as_mm = False
coordinate_descent_check_all_directions = False
coordinate_descent_tuning = False
cpp = SimpleNamespace(simdlen=None, threads=-1, weight_prepack=True)
cpp_wrapper = False
debug = False
epilogue_fusion = True
fallback_random = False
force_fuse_int_mm_with_mul = False
freezing = False
fx_graph_cache = True
layout_optimization = True
max_autotune = False
max_autotune_gemm = False
max_autotune_gemm_backends = "ATEN,TRITON,CPP"
shape_padding = True
split_reductions = True
trace = SimpleNamespace(enabled=False, graph_diagram=False)
triton = SimpleNamespace(autotune_pointwise=True, cudagraph_trees=True, cudagraphs=False, unique_kernel_names=True)
use_mixed_mm = False

patch = functools.partial(Patch, globals())
