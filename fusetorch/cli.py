"""The command line: ``fusetorch run | compare | explain | info``; ``fusetorch script.py`` is short for ``fusetorch run script.py``.

``compare`` and ``explain`` take ``path/to/file.py:function``; the file offers ``example_inputs()``, which returns the function's
arguments: a tuple of them, a dict of keyword arguments, or a single one.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any

import fusetorch
from fusetorch import config
from fusetorch.errors import CudaUnavailableError, FusetorchError
from fusetorch.runtime.cpu_pool import get_num_threads
from fusetorch.runtime.device import compute_capability, cuda_available, cuda_missing, device_count, device_name


class UsageError(FusetorchError):
    """What was asked for on the command line does not exist."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, or 2 with a message on stderr if the command cannot be carried out."""
    parser = argparse.ArgumentParser(prog="fusetorch", description="See what fusetorch.compile does with a function.")
    parser.add_argument("--version", action="version", version=f"fusetorch {fusetorch.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    target = argparse.ArgumentParser(add_help=False)
    target.add_argument("target", metavar="path/to/file.py:function",
                        help="the function; its file also offers example_inputs(), which returns the arguments")
    commands.add_parser("compare", parents=[target], help="time, kernels, bytes, peak memory and difference, fused against unfused")
    explain = commands.add_parser("explain", parents=[target], help="which operations went into which kernel, and what was not fused")
    explain.add_argument("--source", action="store_true", help="print the generated code too")
    explain.add_argument("--graph", action="store_true", help="print the graph too")
    commands.add_parser("info", help="versions, devices, caches, and what is missing")
    runs = commands.add_parser("run", help="run a PyTorch program: import torch gives fusetorch")
    runs.add_argument("--compile", action="store_true", help="compile the forward of every Module")
    runs.add_argument("--device", help="the default device: cpu or cuda")
    runs.add_argument("--report", action="store_true", help="print which names of PyTorch the program used, and which were missing")
    runs.add_argument("script", help="the program")
    runs.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0].endswith(".py"):
        argv.insert(0, "run")
    args = parser.parse_args(argv)
    try:
        return {"compare": compare, "explain": show, "info": info, "run": run}[args.command](args)
    except (UsageError, CudaUnavailableError) as error:
        print(f"fusetorch {args.command}: {error}", file=sys.stderr)
        return 2


# ---- the target


def load(target: str) -> tuple[Any, tuple, dict[str, Any]]:
    """``file.py:function`` to the compiled function, called once, and its example arguments. Raises :class:`UsageError`."""
    name, colon, attribute = target.rpartition(":")
    if not colon or not name or not attribute:
        raise UsageError(f"{target!r} does not name a function; write path/to/file.py:function")
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"file {name} not found (looked in {Path.cwd()})")
    module = _import(path)
    f = module
    for part in attribute.split("."):
        f = getattr(f, part, None)
    if f is None:
        found = ", ".join(k for k, v in vars(module).items()
                          if callable(v) and getattr(v, "__module__", None) == module.__name__ and k != "example_inputs")
        raise UsageError(f"{name} has no {attribute!r}; it defines: {found or 'no functions'}")
    if not callable(f):
        raise UsageError(f"{attribute!r} in {name} is no function but {type(f).__name__}")
    inputs = getattr(module, "example_inputs", None)
    if not callable(inputs):
        raise UsageError(f"{name} offers no example_inputs(). Add a function of that name that returns {attribute}'s arguments as a tuple")
    given = inputs()
    args, kwargs = ((), given) if isinstance(given, dict) else (given if isinstance(given, tuple) else (given,), {})
    if not hasattr(f, "cache_info"):
        f = fusetorch.compile(f)
    f(*args, **kwargs)
    why = f.cache_info()["eager"]
    if why is not None:
        raise UsageError(f"{attribute} is not compiled: {why}")
    return f, args, kwargs


def _import(path: Path) -> Any:
    """Runs a file as a module that can import its neighbours."""
    spec = importlib.util.spec_from_file_location("fusetorch_target", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file; its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


# ---- commands


def compare(args: argparse.Namespace) -> int:
    """``fusetorch compare``."""
    f, inputs, named = load(args.target)
    print(f.compare(*inputs, **named))
    return 0


def show(args: argparse.Namespace) -> int:
    """``fusetorch explain``."""
    f, inputs, named = load(args.target)
    explanation = f.explain(*inputs, **named)
    print(explanation)
    if args.graph:
        print(f"\n{explanation.graph}")
    if args.source:
        for group in explanation.groups:
            if group.source:
                print(f"\n# ---- {group.name}\n{group.source}")
    return 0


def run(args: argparse.Namespace) -> int:
    """``fusetorch run``."""
    from fusetorch import run as program
    if not Path(args.script).is_file():
        raise UsageError(f"file {args.script} not found (looked in {Path.cwd()})")
    if args.device is not None:
        try:
            wanted = fusetorch.device(args.device)
        except RuntimeError as error:
            raise UsageError(f"--device {args.device}: {error}") from None
        if wanted.type == "cuda" and not cuda_available():
            raise CudaUnavailableError(f"--device {args.device}: {cuda_missing()}")
    return program.run(args.script, args.arguments, compile=args.compile, device=args.device, report=args.report)


def info(args: argparse.Namespace) -> int:
    """``fusetorch info``."""
    missing: list[str] = []
    lines = [f"fusetorch {fusetorch.__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}", "",
             "packages"]
    for package, needed_for in (("numpy", ""), ("ml_dtypes", ""), ("networkx", ""), ("llvmlite", ""),
                                ("triton", "kernels for the GPU"), ("cupy", "the GPU")):
        version = _version(package)
        lines.append(f"  {package:<10} {version or 'not installed'}")
        if version is None and package == "triton":
            missing.append(f"triton ({needed_for}): pip install 'triton>=3.6,<3.10' (Linux on x86-64 or aarch64)")
    lines += ["", "devices", f"  cpu        {cpu_name()}; {get_num_threads()} threads for native loops"]
    if cuda_available():
        for i in range(device_count()):
            capability = compute_capability(i)
            lines.append(f"  cuda:{i}     {device_name(i)}, compute capability {capability // 10}.{capability % 10}")
    else:
        lines.append("  cuda       none")
        missing.append(f"cuda: {cuda_missing()}")
    lines += ["", f"compiled kernels ({config.cache_dir}{'' if config.cache else ', switched off'})"]
    for kind, folder in (("cpu", "cpu"), ("gpu", "triton")):
        files, size = _folder_size(Path(config.cache_dir) / folder)
        lines.append(f"  {kind:<10} {files} files, {size / 2**20:.1f} MiB")
    changed = {k: getattr(config, k) for k, (default, _) in config.SETTINGS.items() if getattr(config, k) != default}
    lines += ["", "settings", *([f"  {k} = {v!r}" for k, v in changed.items()] or ["  all at their defaults"])]
    lines += ["", "missing", *([f"  {m}" for m in missing] or ["  nothing"])]
    print("\n".join(lines))
    return 0


def _version(package: str) -> str | None:
    """The installed version, of whichever distribution holds the package (CuPy has one for each CUDA version)."""
    found = importlib.metadata.packages_distributions().get(package)
    return importlib.metadata.version(found[0]) if found else None


def cpu_name() -> str:
    """The processor, as the system calls it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _folder_size(folder: Path) -> tuple[int, int]:
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return len(sizes), sum(sizes)


if __name__ == "__main__":
    sys.exit(main())
