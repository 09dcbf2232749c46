"""Launching Triton kernels: from a Python call to ``cuLaunchKernel`` in about a microsecond.

Triton's own launcher needs a C compiler on the user's machine and costs ten times as much. Here Triton compiles, and
CuPy's driver API loads and launches. What Triton expects of a launcher:

- it specialises on: one bit whether all pointers are 16-byte aligned; for each integer whether it is 1, divisible by
  16, or needs 64 bits; dtypes; constexprs. Integers equal to 1 and ``None`` are compiled in and leave the parameter
  list;
- after the parameters come two pointers, to global and to profiling scratch memory;
- a block is ``32 * num_warps`` threads; shared memory above 48 KB must be asked for;
- the driver call releases the GIL, so that each thread fills a parameter block of its own.

Each kernel gets a function of its own, generated at its first launch, that builds the specialisation key and looks it
up once. With ``config.simulate_cuda`` the kernel runs in the interpreter instead.
"""
from __future__ import annotations

import ctypes
import struct
import threading
import weakref
from collections.abc import Callable
from typing import Any

from fusetorch import config
from fusetorch.errors import FusetorchError
from fusetorch.runtime import device as _device
from fusetorch.runtime.memory import DeviceArray
from fusetorch.runtime.triton_compile import CompiledKernel, check_kernel, compile_kernel, spec_of

__all__ = ["Kernel", "BoundLaunch", "launch_count", "reset_launch_count"]

#: type of a parameter -> struct code; each takes a slot of 8 bytes
_CODES = {"i1": "B", "u1": "B", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q",
          "u64": "Q", "fp32": "f", "fp64": "d", "f32": "f", "f64": "d"}
STATIC_SHARED = 49152  # bytes of shared memory that need no asking

_launches = [0]


def launch_count() -> int:
    """Kernels launched by this process (simulated ones too) since the start or :func:`reset_launch_count`."""
    return _launches[0]


def reset_launch_count() -> None:
    """Sets :func:`launch_count` to zero."""
    _launches[0] = 0


def discount(count: int) -> None:
    """Takes back ``count`` launches that were recorded into a graph and not run."""
    _launches[0] -= count


class CupyDriver:
    """The CUDA driver through CuPy."""

    def __init__(self) -> None:
        _device.require_cuda()
        import cupy
        self._driver = cupy.cuda.driver
        self._runtime = cupy.cuda.runtime
        self.error = cupy.cuda.driver.CUDADriverError
        self.launch = self._driver.launchKernel
        self.current_stream = cupy.cuda.get_current_stream
        self.alloc = cupy.cuda.alloc
        self.on_device = cupy.cuda.Device  # a context manager

    def enter_thread(self) -> None:
        """Makes the current device's context current in the calling thread."""
        self._runtime.setDevice(self._runtime.getDevice())
        self._runtime.free(0)

    def load(self, kernel: CompiledKernel) -> int:
        """Loads the cubin into the current context; the function's handle."""
        self.enter_thread()
        function = self._driver.moduleGetFunction(self._driver.moduleLoadData(kernel.cubin), kernel.name)
        if kernel.shared > STATIC_SHARED:
            self._driver.funcSetAttribute(function, self._driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                          kernel.shared)
        return function


_driver: Any = None
_kernels: weakref.WeakSet[Kernel] = weakref.WeakSet()
_functions: dict[tuple[int, str], int] = {}  # (device, kernel) -> handle
_load_lock = threading.Lock()


def driver() -> Any:
    """The driver in use, made at first need."""
    global _driver
    if _driver is None:
        _driver = CupyDriver()
    return _driver


def use_driver(new: Any) -> Any:
    """Puts another driver in place (``None``: CuPy's, at need) and returns the one before. All kernels start anew."""
    global _driver
    before, _driver = _driver, new
    _functions.clear()
    for kernel in list(_kernels):
        kernel._forget()
    return before


def _load(kernel: CompiledKernel, device_index: int) -> int:
    used = driver()
    at = (device_index, kernel.key)
    with _load_lock:
        if at not in _functions:
            try:
                _functions[at] = used.load(kernel)
            except used.error as error:
                raise FusetorchError(f"kernel {kernel.name} (sm_{kernel.capability}, {kernel.shared} bytes of shared "
                                     f"memory, {kernel.num_warps} warps) cannot be loaded on cuda:{device_index}: "
                                     f"{error}. If it is memory, use a smaller block or fewer stages") from error
        return _functions[at]


class _Block:
    """The parameters of one launch: 8 bytes each, two scratch pointers, and the array of their addresses."""

    __slots__ = ("buffer", "address", "_keep")

    def __init__(self, parameters: int) -> None:
        n = parameters + 2
        self.buffer = bytearray(8 * n)
        view = (ctypes.c_char * len(self.buffer)).from_buffer(self.buffer)
        start = ctypes.addressof(view)
        pointers = (ctypes.c_void_p * n)(*range(start, start + 8 * n, 8))
        self.address = ctypes.addressof(pointers)
        self._keep = view, pointers


class _Launcher:
    """A loaded kernel with the layout of its parameters. ``launch(grid, *values)`` takes addresses and numbers."""

    def __init__(self, kernel: CompiledKernel, device_index: int, arguments: int, keep: Any) -> None:
        self.kernel = kernel
        self.device_index = device_index
        self.function = _load(kernel, device_index)
        self.keep = keep  # objects whose id() is part of the key
        codes = ["Q" if kind[0] == "*" else _CODES[kind] for _, kind in kernel.live]
        self.layout = struct.Struct("<" + "".join(f"{c}{8 - struct.calcsize(c)}x" for c in codes))
        self.launch = self._generate(arguments)

    def _generate(self, arguments: int) -> Callable:
        kernel, used = self.kernel, driver()
        values = "".join(f", v{i}" for i in range(arguments))
        live = "".join(f", v{i}" for i, _ in kernel.live)
        scratch = ""
        if kernel.scratch or kernel.profile_scratch:
            # a pool block freed after the launch is only handed out again to work queued behind it
            scratch = "        scratch = fill_scratch(buffer, gx * gy * gz)\n"
        lines = (f"def launch(grid{values}):\n"
                 "    if len(grid) == 1:\n"
                 "        gx, = grid\n"
                 "        gy = gz = 1\n"
                 "    else:\n"
                 "        gx, gy, gz = grid if len(grid) == 3 else (*grid, 1)\n"
                 "    if gx and gy and gz:\n"
                 "        try:\n"
                 "            buffer, address = local.block\n"
                 "        except AttributeError:\n"
                 "            buffer, address = new_block()\n"
                 f"        pack(buffer, 0{live})\n"
                 f"{scratch}"
                 "        try:\n"
                 f"            cuda(function, gx, gy, gz, {32 * kernel.num_warps}, 1, 1, {kernel.shared}, "
                 "current_stream().ptr, address, 0)\n"
                 "        except failure as error:\n"
                 "            raise explain(error, grid) from error\n"
                 "        launches[0] += 1\n")
        scope = {"local": threading.local(), "new_block": None, "pack": self.layout.pack_into, "cuda": used.launch,
                 "function": self.function, "current_stream": used.current_stream, "failure": used.error,
                 "explain": self.explain, "launches": _launches, "fill_scratch": self.fill_scratch}

        def new_block() -> tuple[bytearray, int]:
            used.enter_thread()
            block = _Block(len(kernel.live))
            local = scope["local"]
            local.keep, local.block = block, (block.buffer, block.address)
            return local.block

        scope["new_block"] = new_block
        exec(lines, scope)
        return scope["launch"]

    def fill_scratch(self, buffer: bytearray, programs: int) -> list[Any]:
        """Allocates the kernel's scratch memory and writes its addresses behind the parameters."""
        sizes = self.kernel.scratch, self.kernel.profile_scratch
        owners = [driver().alloc(size * programs) if size else None for size in sizes]
        struct.pack_into("<QQ", buffer, 8 * len(self.kernel.live), *(o.ptr if o is not None else 0 for o in owners))
        return owners

    def explain(self, error: Exception, grid: tuple[int, ...]) -> FusetorchError:
        """What to raise when the driver refuses a launch."""
        k = self.kernel
        return FusetorchError(f"launch of kernel {k.name} failed on cuda:{self.device_index}: {error} (grid "
                              f"{tuple(grid)}, block {32 * k.num_warps}, shared memory {k.shared} bytes; a grid may be "
                              "up to 2147483647 x 65535 x 65535). An illegal memory access may come from an earlier "
                              "kernel: set CUDA_LAUNCH_BLOCKING=1 to find it")


def _int_class(name: str) -> str:
    """Source of an expression that tells apart the integers that Triton compiles differently."""
    return (f"(1 if {name} == 1 else 0 if {name} & 15 == 0 else 2) if -2147483648 <= {name} <= 2147483647 "
            f"else (3 if {name} & 15 else 4)")


def _kind(value: Any) -> str:
    if isinstance(value, DeviceArray):
        return "p"
    if value is None:
        return "n"
    return "f" if isinstance(value, (bool, float)) else "i"


def _constant_kind(value: Any) -> str:
    """``j`` a device function, ``d`` a float, ``v`` any other value."""
    return "j" if hasattr(type(value), "cache_key") else "d" if isinstance(value, float) else "v"


class Kernel:
    """A ``@triton.jit`` function that can be launched on arrays.

    ``kernel(grid, *args, **constexprs)``: ``grid`` is a tuple of one to three numbers of programs (with a zero nothing
    is launched); ``args`` are the other parameters in order, each a :class:`DeviceArray` (its address is passed), int,
    float (float32), bool or ``None``; constexpr parameters go by keyword, ``num_warps`` and ``num_stages`` override the
    defaults. It is launched on the current stream of the arrays' device. ``fp_fusion`` allows fused multiply-add.

    Raises ``TypeError`` for arguments that do not fit the parameters, :class:`CompileError`, ``CudaUnavailableError``,
    and ``FusetorchError`` where the driver refuses.

    Example:
        >>> add = Kernel(add_kernel)                         # doctest: +SKIP
        >>> add((n // 1024,), x, y, out, n, BLOCK=1024)      # doctest: +SKIP
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Kernel:
        # Python looks __call__ up on the class: a class of its own lets each kernel be called without a detour
        return object.__new__(type(cls.__name__, (cls,), {"__module__": cls.__module__, "__slots__": ()}))

    def __init__(self, fn: Any, *, num_warps: int = 4, num_stages: int | None = None,
                 fp_fusion: bool = False) -> None:
        check_kernel(fn)
        self.fn = fn
        self.name: str = fn.__name__
        self.num_warps = num_warps
        self.num_stages = num_stages
        self.fp_fusion = fp_fusion
        self.params = [p for p in fn.params if not p.is_constexpr]
        self.constexprs = [p for p in fn.params if p.is_constexpr]
        self._variants: dict[tuple, _Variant] = {}
        _kernels.add(self)
        reserved = {"grid", "num_warps", "num_stages"} & {p.name for p in self.constexprs}
        if reserved:
            raise TypeError(f"kernel {self.name}: a constexpr may not be called {', '.join(sorted(reserved))}")

    def __repr__(self) -> str:
        return f"Kernel({self.name}, num_warps={self.num_warps}, fp_fusion={self.fp_fusion})"

    def __call__(self, grid: tuple[int, ...], *args: Any, **constexprs: Any) -> None:
        self._launch(grid, args, constexprs)  # until the first launch; then the generated function stands here

    def bind(self, grid: tuple[int, ...], args: tuple, constexprs: dict[str, Any] | None = None,
             num_warps: int | None = None, num_stages: int | None = None) -> BoundLaunch:
        """A launch with everything looked up, to be repeated with the same or other arguments."""
        return BoundLaunch(self, tuple(grid), tuple(args), dict(constexprs or {}), num_warps, num_stages)

    def compile(self, args: tuple, constexprs: dict[str, Any], *, capability: int, num_warps: int | None = None,
                num_stages: int | None = None) -> CompiledKernel:
        """The compiled form for launch arguments like ``args``, without launching."""
        aligned = not any(isinstance(a, DeviceArray) and a.ptr & 15 for a in args)
        specs = {p.name: spec_of(a, aligned, p) for p, a in zip(self.params, args)}
        return compile_kernel(self.fn, specs, constexprs, capability=capability, num_warps=num_warps or self.num_warps,
                              num_stages=num_stages or self.num_stages, fp_fusion=self.fp_fusion)

    def _complete(self, args: tuple, constexprs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Arguments and constexprs with defaults filled in; ``TypeError`` where they do not fit the kernel."""
        if len(args) < len(self.params):
            args += tuple(p.default for p in self.params[len(args):] if p.has_default)
        if len(args) != len(self.params):
            raise TypeError(f"kernel {self.name} takes {len(self.params)} arguments "
                            f"({', '.join(p.name for p in self.params)}) before its constexprs, got {len(args)}")
        for p, a in zip(self.params, args):
            if a is not None and not isinstance(a, (DeviceArray, int, float)):
                raise TypeError(f"kernel {self.name}: argument '{p.name}' must be a DeviceArray, int, float, bool or "
                                f"None, not {type(a).__name__}")
        full = {p.name: constexprs[p.name] if p.name in constexprs else p.default for p in self.constexprs
                if p.name in constexprs or p.has_default}
        wrong = [p.name for p in self.constexprs if p.name not in full] + [n for n in constexprs if n not in full]
        if wrong:
            raise TypeError(f"kernel {self.name}: constexpr '{wrong[0]}' is "
                            + ("unknown" if wrong[0] in constexprs else "missing")
                            + f"; they are: {', '.join(p.name for p in self.constexprs)}")
        return args, full

    def _forget(self) -> None:
        self._variants.clear()
        if "__call__" in vars(type(self)):
            del type(self).__call__

    def _variant(self, args: tuple, constexprs: dict[str, Any]) -> _Variant:
        """The generated functions for arguments of these kinds."""
        kinds = tuple(map(_kind, args)), tuple(map(_constant_kind, constexprs.values()))
        try:
            return self._variants[kinds]
        except KeyError:
            variant = self._variants[kinds] = _Variant(self, *kinds)
            return variant

    def _launch(self, grid: tuple[int, ...], args: tuple, constexprs: dict[str, Any]) -> None:
        """The way of a launch that the generated function does not know."""
        options = {k: constexprs.pop(k, None) for k in ("num_warps", "num_stages")}
        args, constexprs = self._complete(args, constexprs)
        if config.simulate_cuda:
            self._simulate(grid, args, constexprs)
            return
        variant = self._variant(args, constexprs)
        type(self).__call__ = variant.call
        launcher = variant.launcher(args, constexprs, **options)
        launcher.launch(grid, *(a.ptr if isinstance(a, DeviceArray) else a for a in args))

    def _simulate(self, grid: tuple[int, ...], args: tuple, constexprs: dict[str, Any]) -> None:
        from fusetorch.runtime.interpreter import run
        if 0 not in grid:
            run(self.fn, grid, dict(zip((p.name for p in self.params), args)) | constexprs)
            _launches[0] += 1


def _argument_key(names: list[str], kinds: tuple[str, ...], several_devices: bool) -> list[str]:
    """Source of the expressions that tell apart the arguments that Triton compiles differently."""
    arrays = [n for n, kind in zip(names, kinds) if kind == "p"]
    parts = [f"{n}.dtype" for n in arrays]
    if arrays:
        parts.append(f"({' | '.join(f'{n}.ptr' for n in arrays)}) & 15 == 0")
    if several_devices:
        parts += [f"{n}.storage.device_index" for n in arrays]
    for n, kind in zip(names, kinds):
        parts += {"p": [], "n": [n], "f": [f"{n}.__class__"], "i": [f"{n}.__class__", _int_class(n)]}[kind]
    return parts


def _constant_key(names: list[str], kinds: tuple[str, ...]) -> list[str]:
    # hashing a device function hashes its source: its identity serves, and the launcher keeps it alive;
    # a float's value does not tell 0.0 from -0.0
    ways = {"j": "id({0})", "d": "{0}.hex()", "v": "{0}, {0}.__class__"}
    return [ways[kind].format(n) for n, kind in zip(names, kinds)]


#: ``call`` is the kernel's ``__call__``; its names begin with an underscore so as not to meet the kernel's
_VARIANT = """
def call(self, grid{given}, *{keywords}, num_warps=None, num_stages=None):
    _entry = None
    if not _config.simulate_cuda:
        try:
            _entry = _entries[{key}]
        except (KeyError, AttributeError, TypeError):
            pass  # not compiled yet, or arguments of another kind
    if _entry is None:
        _slow(grid, ({names}), dict({constants}num_warps=num_warps, num_stages=num_stages))
    else:
        _entry(grid, {values})

def key({names}{bare_constants}num_warps, num_stages):
    return {key},

def values(_key{given}):
    _new = {argument_key}
    return _new, ({values}) if _key is None or _key == _new else None
"""


class _Variant:
    """The functions generated for one kernel and one kind of arguments: ``p`` array, ``n`` None, ``i`` int, ``f`` float
    or bool; and of constexprs: ``j`` device function, ``d`` float, ``v`` other."""

    def __init__(self, kernel: Kernel, kinds: tuple[str, ...], constant_kinds: tuple[str, ...]) -> None:
        self.kernel = kernel
        self.launchers: dict[tuple, _Launcher] = {}
        self.entries: dict[tuple, Callable] = {}
        self.several_devices = _device.device_count() > 1
        taken = {"self", "grid", "num_warps", "num_stages"}
        names = [f"_{i}" if p.name in taken or p.name[0] == "_" else p.name for i, p in enumerate(kernel.params)]
        constants = [p.name for p in kernel.constexprs]
        scope = {"_entries": self.entries, "_config": config, "_slow": kernel._launch}

        def signature(params: list[Any], names: list[str]) -> str:
            scope.update({f"_default_{p.name}": p.default for p in params if p.has_default})
            return "".join(f", {n}=_default_{p.name}" if p.has_default else f", {n}" for p, n in zip(params, names))

        arguments = _argument_key(names, kinds, self.several_devices)
        exec(_VARIANT.format(
            given=signature(kernel.params, names) + (", /" if names else ""),
            keywords=signature(kernel.constexprs, constants),
            names="".join(f"{n}, " for n in names),
            bare_constants="".join(f"{n}, " for n in constants),
            constants="".join(f"{n}={n}, " for n in constants),
            key=", ".join([*arguments, *_constant_key(constants, constant_kinds), "num_warps", "num_stages"]),
            argument_key=f"({''.join(part + ', ' for part in arguments)})",
            values="".join(f"{n}.ptr, " if kind == "p" else f"{n}, " for n, kind in zip(names, kinds))), scope)
        self.call: Callable = scope["call"]
        self.call.__name__ = self.call.__qualname__ = f"kernel {kernel.name}"  # for Python's own error messages
        self.key: Callable = scope["key"]
        self.values: Callable = scope["values"]

    def launcher(self, args: tuple, constexprs: dict[str, Any], num_warps: int | None,
                 num_stages: int | None) -> _Launcher:
        """The loaded kernel for these arguments, compiled if need be."""
        key = self.key(*args, *constexprs.values(), num_warps, num_stages)
        try:
            return self.launchers[key]
        except KeyError:
            pass
        index = next((a.device_index for a in args if isinstance(a, DeviceArray)), None)
        index = _device.current_device() if index is None else index
        others = {a.device_index for a in args if isinstance(a, DeviceArray)} - {index}
        if others:
            raise RuntimeError(f"kernel {self.kernel.name}: Expected all tensors to be on the same device, but "
                               f"found at least two devices, cuda:{index} and cuda:{others.pop()}!")
        compiled = self.kernel.compile(args, constexprs, capability=_device.compute_capability(index),
                                       num_warps=num_warps, num_stages=num_stages)
        with driver().on_device(index):
            made = _Launcher(compiled, index, len(args), tuple(constexprs.values()))
        if self.several_devices:
            made.launch = _with_device(made.launch, index)
        self.entries[key] = made.launch
        self.launchers[key] = made
        return made


def _with_device(launch: Callable, index: int) -> Callable:
    on_device = driver().on_device

    def launch_there(grid: tuple[int, ...], *values: Any) -> None:
        with on_device(index):
            launch(grid, *values)
    return launch_there


class BoundLaunch:
    """A launch with kernel, grid, arguments and constexprs fixed, made by :meth:`Kernel.bind`.

    ``bound()`` launches again with the last arguments; ``bound(*args)`` with new ones (all of them, in order), and
    keeps them. Arguments that need another specialisation (alignment, dtype, an integer that becomes 1 ...) are looked
    up anew. It holds no lock: use one object in one thread at a time.
    """

    __slots__ = ("kernel", "grid", "args", "constexprs", "num_warps", "num_stages", "_launcher", "_values_of", "_key",
                 "_values")

    def __init__(self, kernel: Kernel, grid: tuple[int, ...], args: tuple, constexprs: dict[str, Any],
                 num_warps: int | None, num_stages: int | None) -> None:
        self.kernel = kernel
        self.grid = grid
        self.num_warps = num_warps
        self.num_stages = num_stages
        self.args, self.constexprs = kernel._complete(args, constexprs)
        self._launcher: _Launcher | None = None
        if not config.simulate_cuda:
            self._resolve()

    @property
    def compiled(self) -> CompiledKernel | None:
        """What is launched (``None`` when simulated)."""
        return None if self._launcher is None else self._launcher.kernel

    def _resolve(self) -> None:
        variant = self.kernel._variant(self.args, self.constexprs)
        self._launcher = variant.launcher(self.args, self.constexprs, self.num_warps, self.num_stages)
        self._values_of = variant.values
        self._key, self._values = variant.values(None, *self.args)

    def __call__(self, *args: Any) -> None:
        if config.simulate_cuda:
            if args:
                self.args, _ = self.kernel._complete(args, self.constexprs)
            self.kernel._simulate(self.grid, self.args, self.constexprs)
            return
        if args:
            try:
                _, values = self._values_of(self._key, *args)
            except (AttributeError, TypeError):  # not bound yet, or arguments of another kind
                values = None
            if values is None:
                self.args, _ = self.kernel._complete(args, self.constexprs)
                self._resolve()
            else:
                self.args, self._values = args, values
        elif self._launcher is None:
            self._resolve()
        self._launcher.launch(self.grid, *self._values)
