"""LLVM IR text to native functions, through llvmlite, with compiled objects kept on disk.

The disk cache is ``<config.cache_dir>/cpu``: one file an entry, named by a hash of the IR, the CPU and its features, and the LLVM
version; written aside and renamed, so processes may share the folder. A damaged entry is dropped and compiled again.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import llvmlite.binding as llvm

from .. import config

#: Bumped when the same IR must be compiled anew (other passes or options).
VERSION = 1

_MAGIC = b"fusetorch-object\n"
_lock = threading.RLock()


class _Machine:
    """The host's code generator and linker: made once a process."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        # a stride is never 1 where it is a run-time value; without this, LLVM vectorises such loops for stride 1 only
        llvm.set_option("fusetorch", "-enable-mem-access-versioning=false")
        self.cpu = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features()
        self.target = llvm.Target.from_default_triple().create_target_machine(
            cpu=self.cpu, features=self.features.flatten(), opt=3, jit=True)
        self.triple = llvm.get_default_triple()
        self.layout = str(self.target.target_data)
        self.linker = llvm.create_lljit_compiler(self.target, use_jit_link=False)
        self.fingerprint = "\n".join(map(str, (VERSION, llvm.llvm_version_info, self.triple, self.cpu,
                                               self.features.flatten()))).encode()
        self.keep: list[object] = []  # code lives as long as the process

    @property
    def vector_bits(self) -> int:
        """The widest vectors worth using."""
        return 512 if self.features.get("avx512f") else 256 if self.features.get("avx") else 128


@functools.cache
def _machine() -> _Machine:
    with _lock:
        machine = _Machine()
        # never freed, so that pool threads may still be inside our code while the interpreter shuts down
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(machine))
        return machine


def vector_bits() -> int:
    """Preferred vector width of this CPU in bits."""
    return _machine().vector_bits


def has_halves() -> bool:
    """Whether this CPU converts float16 to float32 and back."""
    return not is_x86() or bool(_machine().features.get("f16c"))


def is_x86() -> bool:
    """Whether the host is x86-64."""
    return _machine().triple.startswith(("x86_64", "i686"))


def compile_ir(ir: str, names: Sequence[str]) -> dict[str, int]:
    """Compiles module text (no target lines) and returns the addresses of the functions ``names``.

    The code stays loaded for the life of the process. Raises ``RuntimeError`` with LLVM's message if the text is wrong.

    Example:
        >>> compile_ir("define i64 @two() { ret i64 2 }", ["two"])  # doctest: +SKIP
        {'two': 139637976727552}
    """
    with _lock:
        m = _machine()
        key = hashlib.sha256(m.fingerprint + ir.encode()).hexdigest()
        obj = _read(key)
        if obj is None:
            obj = _compile(m, ir)
            _write(key, obj)
        builder = llvm.JITLibraryBuilder().add_object_img(obj).add_current_process()
        for n in names:
            builder.export_symbol(n)
        tracker = builder.link(m.linker, f"fusetorch_{len(m.keep)}")
        m.keep.append(tracker)
        return {n: tracker[n] for n in names}


def _optimise(m: _Machine, ir: str) -> llvm.ModuleRef:
    module = llvm.parse_assembly(f'target triple = "{m.triple}"\ntarget datalayout = "{m.layout}"\n{ir}')
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.loop_interleaving = tuning.loop_unrolling = True
    tuning.slp_vectorization = False
    passes = llvm.create_pass_builder(m.target, tuning)
    passes.getModulePassManager().run(module, passes)
    return module


def _compile(m: _Machine, ir: str) -> bytes:
    return m.target.emit_object(_optimise(m, ir))


def optimised(ir: str) -> str:
    """The module after LLVM's passes, as text: for reading."""
    with _lock:
        return str(_optimise(_machine(), ir))


def assembly(ir: str) -> str:
    """The machine code of a module as assembly text: for reading."""
    with _lock:
        m = _machine()
        return m.target.emit_assembly(_optimise(m, ir))


# ---- disk

_warned = False


def _path(key: str) -> Path:
    return Path(config.cache_dir) / "cpu" / key[:2] / key[2:40]


def _read(key: str) -> bytes | None:
    if not config.cache:
        return None
    path = _path(key)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[len(_MAGIC) + 32:]
    if data.startswith(_MAGIC) and hashlib.sha256(key.encode() + body).digest() == data[len(_MAGIC):len(_MAGIC) + 32]:
        return body
    path.unlink(missing_ok=True)
    return None


def _write(key: str, obj: bytes) -> None:
    global _warned
    if not config.cache:
        return
    path = _path(key)
    aside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(_MAGIC + hashlib.sha256(key.encode() + obj).digest() + obj)
        os.replace(aside, path)
    except OSError as error:
        if not _warned:
            _warned = True
            warnings.warn(f"compiled kernels are not kept: {config.cache_dir} cannot be written ({error}). "
                          "Set FUSETORCH_CACHE_DIR to a folder that can, or FUSETORCH_CACHE=0", stacklevel=2)
