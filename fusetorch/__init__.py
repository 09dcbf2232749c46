"""fusetorch: a torch-free tensor runtime with PyTorch's names, and a compiler that fuses what you write.

``import fusetorch as torch`` and write PyTorch; decorate with ``@torch.compile`` to fuse.
"""
from __future__ import annotations

import math as _math
import warnings as _warnings

# NumPy's floating-point warnings are not PyTorch's behaviour; only those raised from our own frames are silenced
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"fusetorch\.")
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"<fusetorch")
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"<numpy kernel>")

from . import attach as _attach  # noqa: E402
from . import autograd, config, functional  # noqa: E402
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # noqa: E402
from .dtypes import (  # noqa: E402
    bfloat16,
    complex64,
    complex128,
    dtype,
    finfo,
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
)
from .dtypes import bool_ as bool  # noqa: E402
from .ops.creation import get_default_device, set_default_device  # noqa: E402
from .ops.random import Generator, default_generator  # noqa: E402
from .printing import set_printoptions  # noqa: E402
from .runtime.device import device  # noqa: E402
from .shapes import Size  # noqa: E402
from .tensor import Tensor  # noqa: E402

half, float, double = float16, float32, float64
cfloat, cdouble = complex64, complex128
short, int, long = int16, int32, int64
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
strided = "strided"
contiguous_format, preserve_format = "contiguous_format", "preserve_format"

__version__ = "0.1.0"

globals().update(functional.functions(nn=False))


def compile(model=None, **options):  # noqa: ANN001, ANN003, ANN201 - see compiler.api.compile
    """Compiles a function or module; see :func:`fusetorch.compiler.api.compile`. A module gives a module."""
    from .compiler.api import CompiledFunction
    from .compiler.api import compile as compile_
    made = compile_(model, **options)
    if isinstance(made, CompiledFunction) and hasattr(model, "_parameters") and hasattr(model, "_modules"):
        from .nn.compiled import OptimizedModule
        return OptimizedModule(model, made)
    return made


_LAZY = ("nn", "optim", "utils", "amp", "cuda", "compiler", "random", "linalg", "fft", "special", "distributions", "func", "backends",
         "jit", "distributed", "multiprocessing", "profiler", "version", "testing", "types", "serialization", "overrides")


def __getattr__(name: str) -> object:
    import importlib
    import importlib.util
    if name in _LAZY and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'fusetorch' has no attribute {name!r}: fusetorch does not have torch.{name}"
                         if not name.startswith("__") else name)
