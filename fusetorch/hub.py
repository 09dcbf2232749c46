"""``torch.hub``: files from the network, and models from a folder with a ``hubconf.py``."""
from __future__ import annotations

import builtins
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import fusetorch as torch

try:
    from tqdm import tqdm
except ImportError:
    class tqdm:  # type: ignore[no-redef]  # noqa: N801
        """Stands in for the progress bar of the package of that name where it is not installed: counts, and shows nothing."""

        def __init__(self, iterable: Any = None, *, total: float | None = None, disable: bool = False, **options: Any) -> None:
            self.iterable, self.total, self.n = iterable, total, 0

        def __iter__(self) -> Any:
            return iter(self.iterable)

        def __enter__(self) -> tqdm:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def update(self, n: float = 1) -> None:
            """Counts."""
            self.n += n

        def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
            """Does nothing."""

        set_postfix = set_postfix_str = set_description

        def close(self) -> None:
            """Does nothing."""

HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")
_dir: list[str | None] = [None]


def _get_torch_home() -> str:
    """``$TORCH_HOME``, else ``~/.cache/torch``; torchvision asks for it by this name."""
    return os.path.expanduser(os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))


def get_dir() -> str:
    """Where files are kept: what :func:`set_dir` set, else ``$TORCH_HOME/hub``, else ``~/.cache/torch/hub``."""
    return _dir[0] or os.path.join(_get_torch_home(), "hub")


def set_dir(d: str) -> None:
    """Sets where files are kept."""
    _dir[0] = os.path.expanduser(d)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Downloads ``url`` to the file ``dst``, which appears only when it is whole; ``RuntimeError`` if its SHA256 differs."""
    digest = hashlib.sha256()
    folder = os.path.dirname(os.path.expanduser(dst)) or "."
    with urlopen(Request(url, headers={"User-Agent": "torch.hub"})) as source, \
            tempfile.NamedTemporaryFile(dir=folder, delete=False) as part:
        try:
            while block := source.read(1 << 17):
                part.write(block)
                digest.update(block)
            part.close()
            if hash_prefix and digest.hexdigest()[:len(hash_prefix)] != hash_prefix:
                raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{digest.hexdigest()}")')
            shutil.move(part.name, os.path.expanduser(dst))
        finally:
            part.close()
            Path(part.name).unlink(missing_ok=True)


def load_state_dict_from_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True,
                             check_hash: bool = False, file_name: str | None = None, weights_only: bool = False) -> Any:
    """``torch.load`` of a file that is downloaded unless it is in ``model_dir`` already."""
    model_dir = os.path.join(get_dir(), "checkpoints") if model_dir is None else model_dir
    os.makedirs(model_dir, exist_ok=True)
    name = file_name or os.path.basename(urlparse(url).path)
    path = os.path.join(model_dir, name)
    if not os.path.exists(path):
        sys.stderr.write(f'Downloading: "{url}" to {path}\n')
        found = HASH_REGEX.search(name) if check_hash else None
        download_url_to_file(url, path, found.group(1) if found else None, progress)
    return torch.load(path, map_location=map_location, weights_only=weights_only)


def _hubconf(repo_or_dir: str, source: str) -> Any:
    if source not in ("github", "local"):
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    if source == "github":
        raise NotImplementedError("torch.hub: fusetorch does not download programs. Clone the repository and give its folder with "
                                  "source='local'.")
    path = os.path.join(os.path.expanduser(repo_or_dir), "hubconf.py")
    spec = importlib.util.spec_from_file_location("hubconf", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(repo_or_dir))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(repo_or_dir))
    return module


def _entry(repo_or_dir: str, model: str, source: str) -> Any:
    f = getattr(_hubconf(repo_or_dir, source), model, None)
    if not callable(f):
        raise RuntimeError(f"Cannot find callable {model} in hubconf")
    return f


def list(github: str, force_reload: bool = False, skip_validation: bool = False, trust_repo: Any = None,  # noqa: A001
         verbose: bool = True, source: str = "github") -> builtins.list[str]:
    """The models that a ``hubconf.py`` offers."""
    module = _hubconf(github, source)
    return [n for n in dir(module) if callable(getattr(module, n)) and not n.startswith("_")]


def help(github: str, model: str, force_reload: bool = False, skip_validation: bool = False, trust_repo: Any = None,  # noqa: A001
         source: str = "github") -> str | None:
    """The documentation of a model in a ``hubconf.py``."""
    return _entry(github, model, source).__doc__


def load(repo_or_dir: str, model: str, *args: Any, source: str = "github", trust_repo: Any = None, force_reload: bool = False,
         verbose: bool = True, skip_validation: bool = False, **kwargs: Any) -> Any:
    """``model(*args, **kwargs)`` of the ``hubconf.py`` in a folder, with ``source="local"``."""
    return _entry(repo_or_dir, model, source)(*args, **kwargs)
