"""``fusetorch run script.py``: runs a PyTorch program with ``torch`` and its modules resolved to fusetorch."""
from __future__ import annotations

import difflib
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import multiprocessing.spawn
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import fusetorch
import fusetorch.version
from fusetorch import overrides
from fusetorch.dispatch import active_tracer
from fusetorch.errors import FusetorchError
from fusetorch.nn import Module
from fusetorch.tensor import Tensor
from fusetorch.torch_version import TorchVersion

#: The PyTorch whose behaviour is followed: what ``torch.__version__`` says to programs that ask.
API_VERSION = "2.13.0+fusetorch"


class AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Resolves ``torch`` to fusetorch and ``torch.a.b`` to ``fusetorch.a.b``: the same module objects under a second name.

    Classes say that they come from where PyTorch keeps them: ``print(type(x))`` shows ``<class 'torch.Tensor'>``, and what is pickled
    names PyTorch's classes.
    """

    def __init__(self) -> None:
        self.missing: Counter[str] = Counter()
        self._seen = 0
        self._loading: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """The spec of an alias. Raises ModuleNotFoundError, naming the module, if fusetorch does not have it."""
        top = name.partition(".")[0]
        if top == "fusetorch":
            spec = importlib.machinery.PathFinder.find_spec(name, path, target)
            if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                spec.loader = _Relocating(spec.loader.name, spec.loader.path)
            return spec
        if top != "torch":
            self._look_for_overrides()
            return None
        ours = "fusetorch" + name[5:]
        try:
            found = importlib.util.find_spec(ours)
        except ModuleNotFoundError:
            found = None
        if found is None and not isinstance(_attribute(ours), ModuleType):
            self.missing[name] += 1
            raise ModuleNotFoundError(f"No module named {name!r}: fusetorch does not have it", name=name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _look_for_overrides(self) -> None:
        """Shows modules whose import has ended since the last time to :func:`fusetorch.overrides.look_for`."""
        names = list(sys.modules)
        fresh, self._seen = self._loading + names[self._seen:], len(names)
        found = [(name, module) for name in fresh if type(module := sys.modules.get(name)) is ModuleType]
        self._loading = [name for name, module in found if getattr(module.__spec__, "_initializing", False)]
        overrides.look_for(module for name, module in found if name not in self._loading)

    @staticmethod
    def find_distributions(context: importlib.metadata.DistributionFinder.Context | None = None) -> Iterator[_Distribution]:
        """Says to ``importlib.metadata``, which libraries ask, that ``torch`` is installed."""
        if context is None or context.name is None or context.name.lower() == "torch":
            yield _Distribution()

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module of fusetorch that stands for ``spec.name``."""
        ours = "fusetorch" + spec.name[5:]
        already = _attribute(ours)
        module = already if isinstance(already, ModuleType) else importlib.import_module(ours)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run; the import system has put the alias's spec on the module, which keeps its own."""
        module.__spec__ = self._spec


class _Distribution(importlib.metadata.Distribution):
    """The installed package ``torch``, of which there is a name and a version."""

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: torch\nVersion: {API_VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        return Path(fusetorch.__file__).parent.parent / path


def _public_name(module: ModuleType) -> str | None:
    """``torch.nn`` of ``fusetorch.nn``; None for a module of others."""
    first, _, rest = ModuleType.__getattribute__(module, "__name__").partition(".")
    return None if first not in ("fusetorch", "torch") else f"torch.{rest}" if rest else "torch"


class _Relocating(importlib.machinery.SourceFileLoader):
    """Loads a file of fusetorch, whose classes then say that they are PyTorch's."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the file."""
        super().exec_module(module)
        relocate(module)


#: Files whose public classes PyTorch keeps elsewhere than under the same path.
_PLACES = {**dict.fromkeys(("tensor", "shapes", "dtypes", "runtime.device", "formats"), "torch"), "ops.random": "torch._C",
           "autograd.modes": "torch.autograd.grad_mode", "storage": "torch.storage", "return_types": "torch.return_types",
           "nn.multihead_attention": "torch.nn.modules.activation", "nn.parameter": "torch.nn.parameter",
           "nn.common_types": "torch.nn.common_types"}


def relocate(module: ModuleType) -> None:
    """Gives the classes that a module of fusetorch defines the ``__module__`` that they have in PyTorch."""
    path = module.__name__.partition(".")[2]
    place = _PLACES.get(path)
    if place is None:
        if path.startswith(("runtime", "codegen", "compiler", "ops", "triton_kernels", "demo")) or "." not in path:
            return
        parts = path.split(".")
        if parts[0] == "nn" and len(parts) == 2 and not hasattr(module, "__path__"):
            parts.insert(1, "modules")
        place = ".".join(["torch", *(parts[:2] if parts[1] == "lr_scheduler" else parts)])
        if place.replace(".nn.modules", ".nn") == "torch" + module.__name__[9:]:
            sys.modules.setdefault(place, module)  # typing.get_type_hints looks there
    public = place in ("torch", "torch._C")
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == module.__name__ and not (public and getattr(fusetorch, name, None) is not value):
            value.__module__ = place


def _attribute(path: str) -> Any:
    """``fusetorch.a.b`` by attributes, without importing anything; None if it is not there."""
    found: Any = fusetorch
    for part in path.split(".")[1:]:
        found = getattr(found, "__dict__", {}).get(part)
    return found


def alias_torch() -> AliasFinder:
    """Makes ``import torch`` give fusetorch from here on in this process.

    Raises:
        FusetorchError: if PyTorch itself has been imported already.

    Example:
        >>> import fusetorch.run
        >>> finder = fusetorch.run.alias_torch()  # doctest: +SKIP
        >>> import torch.nn.functional as F  # doctest: +SKIP
        >>> F.__name__  # doctest: +SKIP
        'fusetorch.nn.functional'
    """
    if sys.modules.get("torch", fusetorch) is not fusetorch:
        raise FusetorchError("PyTorch has been imported in this process; start fusetorch run in one of its own")
    for finder in sys.meta_path:
        if isinstance(finder, AliasFinder):
            return finder
    finder = AliasFinder()
    sys.meta_path.insert(0, finder)
    for name, module in list(sys.modules.items()):
        if name.startswith("fusetorch.") and module is not None:
            relocate(module)
    sys.modules["torch"] = fusetorch
    fusetorch.__name__ = "torch"  # libraries compare it
    fusetorch.__version__ = fusetorch.version.__version__ = TorchVersion(API_VERSION)
    # a process that multiprocessing spawns unpickles this before it imports the program
    preparation = multiprocessing.spawn.get_preparation_data
    multiprocessing.spawn.get_preparation_data = lambda name: {**preparation(name), "torch": _Alias()}
    return finder


class _Alias:
    """Pickled, it is a call of :func:`alias_torch`."""

    def __reduce__(self) -> tuple:
        return alias_torch, ()


def compile_modules() -> None:
    """Makes every Module compile its forward when it is called, but for those called inside one that is being traced."""
    call = Module.__call__

    def compiled(self: Module, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is None and active_tracer() is None:
            self.compile()
        return call(self, *args, **kwargs)

    Module.__call__ = compiled


# ---------------------------------------------------------------------------------------------------- the report


class Usage:
    """Counts the names of fusetorch that a program looks up, and those that it looks for in vain."""

    def __init__(self, finder: AliasFinder) -> None:
        self.used: Counter[str] = Counter()
        self.missing = finder.missing

    def watch(self) -> None:
        """Starts counting: attributes of the modules under ``torch`` and of tensors, looked up from outside fusetorch."""
        usage = self

        class Watched(ModuleType):
            def __getattribute__(self, name: str) -> Any:
                return usage.note(self, _public_name(self), name,
                                  super().__getattribute__, sys._getframe(1))

            def __getattr__(self, name: str) -> Any:
                # the lookup above has failed: the module's own __getattr__ is asked, then the name is missing
                more = self.__dict__.get("__getattr__")
                label = _public_name(self)
                try:
                    if more is None:
                        raise AttributeError(f"module {label!r} has no attribute {name!r}", name=name, obj=self)
                    return usage.note(self, label, name, more, sys._getframe(1))
                except AttributeError:
                    if _outside(sys._getframe(1)) and not name.startswith("__"):
                        usage.missing[f"{label}.{name}"] += 1
                    raise

        for name, module in list(sys.modules.items()):
            if module is not None and name.split(".")[0] == "fusetorch" and type(module) is ModuleType:
                module.__class__ = Watched
        getattribute, getattr_ = Tensor.__getattribute__, getattr(Tensor, "__getattr__", None)

        def tensor_attribute(self: Tensor, name: str) -> Any:
            try:
                return usage.note(self, "Tensor", name, lambda n: getattribute(self, n), sys._getframe(1))
            except AttributeError:
                if getattr_ is None and _outside(sys._getframe(1)) and not name.startswith("__"):
                    usage.missing[f"Tensor.{name}"] += 1
                raise

        Tensor.__getattribute__ = tensor_attribute

    def note(self, owner: Any, label: str, name: str, get: Any, frame: FrameType) -> Any:
        """Looks a name up and counts it if user code asked."""
        value = get(name)
        if not name.startswith("__") and not isinstance(value, ModuleType) and _outside(frame):
            self.used[f"{label}.{name}"] += 1
        return value

    def __str__(self) -> str:
        def table(names: Counter[str]) -> list[str]:
            return [f"  {n:>8}  {name}" for name, n in sorted(names.items(), key=lambda e: (-e[1], e[0]))] or ["  nothing"]
        return "\n".join(["", "names used (look-ups)", *table(self.used), "names missing (look-ups)", *table(self.missing)])


def _outside(frame: FrameType) -> bool:
    """Whether a frame is the user's code."""
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package not in ("fusetorch", "importlib", "inspect", "typing", "dataclasses") and frame.f_code.co_filename[0] != "<"


# ---------------------------------------------------------------------------------------------------- running


def run(script: str, arguments: Sequence[str] = (), *, compile: bool = False, device: str | None = None, report: bool = False) -> int:
    """Runs a PyTorch program as ``__main__`` and returns its exit code.

    Args:
        script: path of a Python file.
        arguments: its command line.
        compile: compile the forward of every Module.
        device: the default device of new tensors.
        report: print to stderr, when the program ends, which names of PyTorch it used, and which were missing.

    Raises:
        FusetorchError: if the file does not exist, or PyTorch has been imported in this process.
    """
    path = Path(script)
    if not path.is_file():
        raise FusetorchError(f"file {script} not found (looked in {Path.cwd()})")
    finder = alias_torch()
    if device is not None:
        fusetorch.set_default_device(device)
    if compile:
        compile_modules()
    usage = Usage(finder)
    if report:
        for name in ("nn", "optim", "utils.data", "autograd"):
            importlib.import_module(f"fusetorch.{name}")
        usage.watch()
    source = path.read_bytes()
    if b"__torch_function__" in source:
        overrides.enable()
    main = ModuleType("__main__")
    main.__file__ = str(path)
    main.__dict__["__builtins__"] = __builtins__
    code = __import__("builtins").compile(source, str(path), "exec", dont_inherit=True)
    before = sys.argv, sys.path[0], sys.modules["__main__"]
    sys.argv, sys.path[0], sys.modules["__main__"] = [str(path), *arguments], str(path.resolve().parent), main
    try:
        exec(code, main.__dict__)  # noqa: S102
    except (AttributeError, ImportError) as error:
        _explain(error)
        raise
    finally:
        sys.argv, sys.path[0], sys.modules["__main__"] = before
        if report:
            print(usage, file=sys.stderr)
    return 0


def _explain(error: AttributeError | ImportError) -> None:
    """Says on stderr, beside the traceback, what to use for a name of PyTorch that fusetorch does not have."""
    owner = getattr(error, "obj", None) if isinstance(error, AttributeError) else sys.modules.get(error.name or "")
    name = error.name if isinstance(error, AttributeError) else getattr(error, "name_from", None)
    if not name or not (isinstance(owner, Tensor) or (isinstance(owner, ModuleType) and _public_name(owner) is not None)):
        return
    label = "Tensor" if isinstance(owner, Tensor) else _public_name(owner)
    near = difflib.get_close_matches(name, [n for n in dir(owner) if not n.startswith("_")], 3)
    hint = f"; similar names that it has: {', '.join(f'{label}.{n}' for n in near)}" if near else ""
    print(f"fusetorch does not have {label}.{name}{hint}", file=sys.stderr)
