"""fusetorch: a torch-free tensor runtime with PyTorch's names, and a compiler that fuses what you write.

``import fusetorch as torch`` and write PyTorch; decorate with ``@torch.compile`` to fuse.
"""
from __future__ import annotations

import math as _math
import os as _os
import sys as _sys
import warnings as _warnings

__path__.append(_os.path.join(__path__[0], "compat"))

# NumPy's floating-point warnings are not PyTorch's behaviour; only those raised from our own frames are silenced
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"fusetorch\.")
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"<fusetorch")
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"<numpy kernel>")

from . import attach as _attach  # noqa: E402
from . import autograd, config, functional  # noqa: E402
from .autograd import (  # noqa: E402
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .dtypes import (  # noqa: E402
    bfloat16,
    can_cast,
    complex32,
    complex64,
    complex128,
    dtype,
    finfo,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .dtypes import bool_ as bool  # noqa: E402
from .formats import (  # noqa: E402
    channels_last,
    channels_last_3d,
    contiguous_format,
    jagged,
    layout,
    memory_format,
    preserve_format,
    sparse_bsc,
    sparse_bsr,
    sparse_coo,
    sparse_csc,
    sparse_csr,
    strided,
)
from .ops.creation import get_default_device, set_default_device  # noqa: E402
from .ops.random import Generator, default_generator  # noqa: E402
from .printing import get_printoptions, set_printoptions  # noqa: E402
from .runtime.device import device  # noqa: E402
from .shapes import Size  # noqa: E402
from .tensor import Tensor  # noqa: E402

half, float, double = float16, float32, float64
chalf, cfloat, cdouble = complex32, complex64, complex128
short, int, long = int16, int32, int64
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
newaxis = None
torch = _sys.modules[__name__]  # programs write torch.torch.Tensor

__version__ = "0.1.0"

#: Made when first asked for; but a function goes before what was imported under its name, such as the module ``tensor``.
_FUNCTIONS = frozenset(functional.names(nn=False))
globals().update({_name: getattr(functional.fn, _name) for _name in _FUNCTIONS & globals().keys()})


def compile(model=None, **options):  # noqa: ANN001, ANN003, ANN201 - see compiler.api.compile
    """Compiles a function or module; see :func:`fusetorch.compiler.api.compile`. A module gives a module."""
    from .compiler.api import CompiledFunction
    from .compiler.api import compile as compile_
    made = compile_(model, **options)
    if isinstance(made, CompiledFunction) and hasattr(model, "_parameters") and hasattr(model, "_modules"):
        from .nn.compiled import OptimizedModule
        return OptimizedModule(model, made)
    return made


_LAZY = ("nn", "optim", "utils", "amp", "cuda", "compiler", "random", "linalg", "fft", "signal", "special", "distributions", "func",
         "backends", "jit", "distributed", "multiprocessing", "profiler", "version", "testing", "types", "serialization", "overrides",
         "storage", "return_types", "cpu", "hub", "onnx", "mps", "xpu", "accelerator", "masked", "sparse", "fx", "library",
         "_custom_ops", "_C", "_utils", "nested", "_higher_order_ops", "__config__", "futures",
         "_dynamo", "_inductor", "ao", "quantization")

#: Names that live in modules loaded when first asked for.
_LAZY_NAMES = {name: module for module, names in {
    "serialization": "save load",
    "_C": "PyTorchFileReader",
    "futures": "Future",
    "storage": "UntypedStorage TypedStorage is_storage FloatStorage DoubleStorage HalfStorage BFloat16Storage LongStorage IntStorage "
               "ShortStorage CharStorage ByteStorage BoolStorage ComplexFloatStorage ComplexDoubleStorage",
    "legacy": "FloatTensor DoubleTensor HalfTensor BFloat16Tensor LongTensor IntTensor ShortTensor CharTensor ByteTensor BoolTensor "
              "set_default_tensor_type",
    "settings": "get_num_threads set_num_threads get_num_interop_threads set_num_interop_threads use_deterministic_algorithms "
                "are_deterministic_algorithms_enabled is_deterministic_algorithms_warn_only_enabled set_deterministic_debug_mode "
                "get_deterministic_debug_mode set_float32_matmul_precision get_float32_matmul_precision set_flush_denormal "
                "set_warn_always is_warn_always_enabled typename compiled_with_cxx11_abi",
    "checks": "_assert _assert_async _check _check_index _check_value _check_type _check_not_implemented _check_is_size _check_tensor_all "
              "_check_with _check_tensor_all_with",
    "autograd.anomaly_mode": "is_anomaly_enabled is_anomaly_check_nan_enabled set_anomaly_enabled",
    "native_forms": "lobpcg fake_quantize_per_tensor_affine fake_quantize_per_channel_affine "
                    "embedding embedding_renorm_ batch_norm instance_norm adaptive_max_pool1d native_dropout dropout_ alpha_dropout_ "
                    "feature_dropout_ feature_alpha_dropout_ binary_cross_entropy_with_logits kl_div poisson_nll_loss ctc_loss range "
                    "from_file view_as_real_copy view_as_complex_copy is_inference is_distributed cudnn_is_acceptable "
                    "get_device_module has_lapack has_mkl has_openmp has_spectral SymInt SymFloat SymBool sym_int sym_float sym_not "
                    "sym_max sym_min sym_sqrt sym_sum sym_ite matrix_rank lstsq eig symeig solve",
    "_higher_order_ops": "cond while_loop",
    "cuda": "Stream Event OutOfMemoryError",
    "amp.grad_scaler": "GradScaler",
    "jit": "fork wait",
    "func": "vmap",
    "sparse": "sparse_coo_tensor spmm dsmm",
    "sparse_compressed": "sparse_compressed_tensor sparse_csc_tensor sparse_csr_tensor",
    "amp.autocast_mode": "autocast is_autocast_enabled set_autocast_enabled get_autocast_dtype set_autocast_dtype is_autocast_available "
                         "is_autocast_cache_enabled set_autocast_cache_enabled clear_autocast_cache autocast_increment_nesting "
                         "autocast_decrement_nesting get_autocast_gpu_dtype get_autocast_cpu_dtype is_autocast_cpu_enabled "
                         "set_autocast_gpu_dtype set_autocast_cpu_dtype set_autocast_cpu_enabled",
}.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name.startswith("_foreach_"):
        from . import foreach
        return getattr(foreach, name)
    if name in _FUNCTIONS:
        value = globals()[name] = getattr(functional.fn, name)
        return value
    import importlib
    if name in _LAZY:
        return importlib.import_module(f"fusetorch.{name}")
    if name in _LAZY_NAMES:
        value = globals()[name] = getattr(importlib.import_module(f"fusetorch.{_LAZY_NAMES[name]}"), name)
        return value
    raise AttributeError(f"module 'fusetorch' has no attribute {name!r}: fusetorch does not have torch.{name}"
                         if not name.startswith("__") else name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS, *_LAZY, *_LAZY_NAMES})
