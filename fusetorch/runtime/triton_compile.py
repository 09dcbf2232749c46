"""``@triton.jit`` function -> cubin: without torch, without a GPU, without a C compiler, with a disk cache of our own.

A kernel's arguments are described by strings, as in Triton's ahead-of-time tool: ``"*fp32:16"`` (a 16-byte aligned
pointer), ``"*bf16"`` (any pointer), ``"i32:16"`` (an integer divisible by 16), ``"i32"``, ``"i64"``, ``"fp32"``,
``"u1"``, ``"1"`` (an integer equal to 1) and ``"none"``; the last two are compiled in and are no parameters of the
compiled kernel.

An entry of the cache (``<cache_dir>/triton/<key>.cubin``) is one file: cubin, what the launcher must know, checksum. It
is written aside and renamed, so processes may share the folder; a damaged entry is dropped and compiled anew; a folder
that cannot be written costs one warning and the caching.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusetorch import config, dtypes
from fusetorch.errors import CompileError, NoTritonType
from fusetorch.runtime.interpreter import compiling
from fusetorch.runtime.memory import DeviceArray

__all__ = ["CompiledKernel", "compile_kernel", "spec_of", "type_of", "cache_folder", "compile_count"]

FORMAT = 1
_MAGIC = b"fusetorch-cubin\n"

#: dtype -> Triton's name of it
TYPE_NAMES: dict[dtypes.dtype, str] = {
    dtypes.bool_: "i1", dtypes.uint8: "u8", dtypes.int8: "i8", dtypes.int16: "i16", dtypes.int32: "i32",
    dtypes.int64: "i64", dtypes.float16: "fp16", dtypes.bfloat16: "bf16", dtypes.float32: "fp32",
    dtypes.float64: "fp64"}


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel compiled for one GPU generation.

    ``live`` lists (number among the non-constexpr parameters, type) of the parameters that the compiled kernel takes,
    in order; after them come two scratch pointers. ``shared``, ``scratch`` (bytes of global memory a program needs) and
    ``profile_scratch`` are in bytes; the block is ``32 * num_warps`` threads.
    """

    name: str
    cubin: bytes
    capability: int
    num_warps: int
    num_stages: int
    shared: int
    scratch: int
    profile_scratch: int
    live: tuple[tuple[int, str], ...]
    key: str

    def __repr__(self) -> str:
        return (f"CompiledKernel({self.name}, sm_{self.capability}, {len(self.cubin)} bytes, "
                f"num_warps={self.num_warps}, shared={self.shared})")


def type_of(value: Any, param: Any = None) -> str:
    """Triton's type of a launch argument: ``"*fp32"``, ``"i32"``, ...; ``"constexpr"`` for ``None`` and integers that
    are 1."""
    kind = spec_of(value, True, param)
    return "constexpr" if kind in ("none", "1") else kind.partition(":")[0]


def _type_name(d: dtypes.dtype) -> str:
    try:
        return TYPE_NAMES[d]
    except KeyError:
        raise NoTritonType(f"not implemented for {d} on device 'cuda' yet") from None


def spec_of(value: Any, aligned: bool, param: Any = None) -> str:
    """The argument description of ``value`` (see the module). ``aligned``: all pointers of the launch are 16-byte
    aligned.

    ``param`` (of ``JITFunction.params``) may fix the type by annotation or ask not to specialise. ``TypeError`` for a
    value that no kernel can take.
    """
    if isinstance(value, DeviceArray):
        return "*" + _type_name(value.dtype) + (":16" if aligned else "")
    if value is None:
        return "none"
    annotated = param.annotation_type if param is not None else ""
    specialise = param is None or not param.do_not_specialize
    if annotated:
        integer = annotated[0] in "iu" and annotated != "u1"
        return annotated + (":16" if specialise and integer and value % 16 == 0 else "")
    if isinstance(value, bool):
        return "u1"
    if isinstance(value, int):
        if value == 1 and specialise:
            return "1"
        if -2**31 <= value < 2**31:
            kind = "i32"
        elif -2**63 <= value < 2**63:
            kind = "i64"
        else:
            raise TypeError(f"kernel argument {value} does not fit in 64 bits")
        return kind + (":16" if specialise and value % 16 == 0 else "")
    if isinstance(value, float):
        return "fp32"
    raise TypeError(f"a kernel takes DeviceArray, int, float, bool or None, not {type(value).__name__}")


def _constant_key(value: Any) -> str:
    source = getattr(value, "cache_key", None)  # a @triton.jit function counts by its source
    if source is not None:
        return f"jit:{source}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_constant_key, value)) + ")"
    value = getattr(value, "value", value)  # tl.constexpr
    return f"{type(value).__name__}:{value!r}"


def _key(fn: Any, specs: Mapping[str, str], constexprs: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    import triton
    from triton._C.libtriton import get_cache_invalidating_env_vars
    parts = {"format": FORMAT, "triton": triton.__version__, "source": fn.cache_key, "name": fn.__name__,
             "specs": dict(specs), "constexprs": {k: _constant_key(v) for k, v in constexprs.items()},
             "options": dict(options), "env": dict(get_cache_invalidating_env_vars())}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


_memory: dict[str, CompiledKernel] = {}
_compilations = 0


def compile_count() -> int:
    """Kernels that this process compiled (found in no cache)."""
    return _compilations


def compile_kernel(fn: Any, specs: Mapping[str, str] | Sequence[str], constexprs: Mapping[str, Any] | None = None, *,
                   capability: int, num_warps: int = 4, num_stages: int | None = None,
                   fp_fusion: bool = False) -> CompiledKernel:
    """Compiles a ``@triton.jit`` function for ``sm_<capability>``, or takes it from the cache.

    ``specs`` describes each non-constexpr parameter, by name or in order; ``constexprs`` gives the rest (values, or
    ``@triton.jit`` functions). ``fp_fusion`` allows ``a * b + c`` to be rounded once. Raises :class:`CompileError`
    naming kernel and source line.

    Example:
        >>> specs = ["*fp32:16", "*fp32:16", "*fp32:16", "i32"]
        >>> compile_kernel(add, specs, {"BLOCK": 1024}, capability=90)  # doctest: +SKIP
        CompiledKernel(add, sm_90, 9840 bytes, num_warps=4, shared=0)
    """
    check_kernel(fn)
    constexprs = dict(constexprs or {})
    missing = [p.name for p in fn.params if p.is_constexpr and p.name not in constexprs]
    if missing:
        raise TypeError(f"kernel {fn.__name__}: constexpr parameter '{missing[0]}' has no value")
    runtime = [p.name for p in fn.params if p.name not in constexprs]
    given = list(specs)
    if not isinstance(specs, Mapping) and len(given) == len(runtime):
        specs = dict(zip(runtime, given))
    if not isinstance(specs, Mapping) or sorted(runtime) != sorted(specs):
        raise TypeError(f"kernel {fn.__name__}: parameters {runtime} need a description each, got {given}")
    specs = {name: specs[name] for name in runtime}
    options = {"num_warps": num_warps, "num_stages": 3 if num_stages is None else num_stages,
               "enable_fp_fusion": bool(fp_fusion), "capability": capability}
    with compiling():  # a source hash, too, needs triton.language as it is
        key = _key(fn, specs, constexprs, options)
        found = _memory.get(key) or _load(key)
        if found is None:
            found = _compile(fn, specs, constexprs, options, key)
            _save(found)
    _memory[key] = found
    return found


def check_kernel(fn: Any) -> None:
    """Returns for a ``@triton.jit`` function; ``TypeError`` for anything else."""
    from triton.runtime.jit import JITFunction
    if not isinstance(fn, JITFunction):
        raise TypeError(f"expected a @triton.jit function, got {type(fn).__name__}"
                        + (" (TRITON_INTERPRET is set; unset it, and use FUSETORCH_SIMULATE_CUDA=1 instead)"
                           if type(fn).__name__ == "InterpretedFunction" else ""))


def _compile(fn: Any, specs: Mapping[str, str], constexprs: Mapping[str, Any], options: Mapping[str, Any],
             key: str) -> CompiledKernel:
    global _compilations
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.errors import TritonError
    signature, constants, attributes, live = {}, {}, {}, []
    for i, param in enumerate(fn.params):
        if param.name in constexprs:
            signature[param.name] = "constexpr"
            constants[(i,)] = constexprs[param.name]
            continue
        kind, _, multiple = specs[param.name].partition(":")
        if kind in ("none", "1"):
            signature[param.name] = "constexpr"
            constants[(i,)] = 1 if kind == "1" else None
            continue
        signature[param.name] = kind
        if multiple:
            attributes[(i,)] = [["tt.divisibility", int(multiple)]]
        live.append((list(specs).index(param.name), kind))
    chosen = dict(options)
    capability = chosen.pop("capability")
    try:
        with _scratch_cache():
            source = ASTSource(fn, signature, constants, attributes)
            got = triton.compile(source, GPUTarget("cuda", capability, 32), chosen)
    except (TritonError, RuntimeError, ValueError) as error:
        where = fn.fn.__code__
        raise CompileError(f"kernel {fn.__name__} ({where.co_filename}:{where.co_firstlineno}) does not compile for "
                           f"sm_{capability} with {dict(specs)}, constexprs {constexprs}: {error}") from error
    _compilations += 1
    meta = got.metadata
    if meta.num_ctas != 1 or meta.launch_cooperative_grid or meta.launch_pdl:
        raise CompileError(f"kernel {fn.__name__}: clusters, cooperative and dependent launches are not supported")
    _dump(fn, key, got.asm)
    return CompiledKernel(meta.name, got.asm["cubin"], capability, meta.num_warps, meta.num_stages, meta.shared,
                          meta.global_scratch_size, getattr(meta, "profile_scratch_size", 0) or 0, tuple(live), key)


def _dump(fn: Any, key: str, stages: Mapping[str, Any]) -> None:
    if config.dump_dir:
        folder = Path(config.dump_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for stage in ("ttgir", "ptx"):
            (folder / f"{fn.__name__}-{key[:12]}.{stage}").write_text(stages[stage])


# -- Triton keeps files of its own while it compiles: give it a folder that goes away --------------------------------

_local = threading.local()
_scratch_lock = threading.Lock()
_scratch_users = 0
_saved: list[tuple[Any, str, Any]] = []


def _scratch_manager() -> type:
    from triton.runtime.cache import FileCacheManager

    class ScratchCache(FileCacheManager):
        def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
            folder = getattr(_local, "folder", None)
            if override or dump or folder is None:
                super().__init__(key, override=override, dump=dump)
            else:
                self.key = key
                self.cache_dir = os.path.join(folder, key[:32])
                self.lock_path = os.path.join(self.cache_dir, "lock")
                os.makedirs(self.cache_dir, exist_ok=True)
    return ScratchCache


@contextlib.contextmanager
def _scratch_cache() -> Iterator[None]:
    """Triton's files go to a temporary folder, and its key (a hash of its whole library, 0.4 s) is not computed."""
    global _scratch_users
    from triton import knobs
    from triton.compiler import compiler
    with tempfile.TemporaryDirectory(prefix="fusetorch-") as folder:
        with _scratch_lock:
            _scratch_users += 1
            if _scratch_users == 1:
                _saved[:] = [(knobs.cache, "manager_class", knobs.cache.manager_class),
                             (compiler, "get_cache_key", compiler.get_cache_key)]
                knobs.cache.manager_class = _scratch_manager()
                compiler.get_cache_key = lambda source, *args, **kwargs: source.hash()
        _local.folder = folder
        try:
            yield
        finally:
            _local.folder = None
            with _scratch_lock:
                _scratch_users -= 1
                if not _scratch_users:
                    for obj, name, value in _saved:
                        setattr(obj, name, value)


# -- the disk cache --------------------------------------------------------------------------------------------------

def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(config.cache_dir) / "triton"


_unwritable: set[Path] = set()


def _load(key: str) -> CompiledKernel | None:
    if not config.cache:
        return None
    path = cache_folder() / f"{key}.cubin"
    try:
        data = path.read_bytes()
    except OSError:
        return None
    found = _unpack(data, key)
    if found is None:
        if config.debug:
            warnings.warn(f"dropped the damaged cache entry {path}; the kernel is compiled anew", stacklevel=3)
        with contextlib.suppress(OSError):
            path.unlink()
    return found


def _pack(kernel: CompiledKernel) -> bytes:
    fields = asdict(kernel)
    cubin = fields.pop("cubin")
    head = json.dumps(fields).encode()
    body = len(head).to_bytes(4, "little") + head + cubin
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(data: bytes, key: str) -> CompiledKernel | None:
    """The kernel in a cache file, or ``None`` if the file is not whole or holds something else."""
    start = len(_MAGIC) + 32
    body = data[start:]
    if data[:len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC):start]:
        return None
    end = 4 + int.from_bytes(body[:4], "little")
    fields = json.loads(body[4:end])
    fields["live"] = tuple((i, kind) for i, kind in fields["live"])
    kernel = CompiledKernel(cubin=body[end:], **fields)
    return kernel if kernel.key == key else None


def _save(kernel: CompiledKernel) -> None:
    folder = cache_folder()
    if not config.cache or folder in _unwritable:
        return
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=folder, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(_pack(kernel))
        os.replace(aside, folder / f"{kernel.key}.cubin")
    except OSError as error:
        if aside is not None:
            with contextlib.suppress(OSError):
                os.unlink(aside)
        _unwritable.add(folder)
        warnings.warn(f"compiled kernels cannot be kept in {folder} ({error}); each process will compile them anew. "
                      "Set FUSETORCH_CACHE_DIR to a folder that can be written", stacklevel=3)
