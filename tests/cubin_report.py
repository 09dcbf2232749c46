"""Resource usage and instruction counts of a cubin, by the ``cuobjdump`` and ``nvdisasm`` inside Triton's wheel.

Run on a file: ``python tests/cubin_report.py kernel.cubin``.
"""
from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """Counts are of instructions in the program text; ``registers`` per thread; ``stack``, ``static_shared`` and
    ``local`` in bytes."""

    registers: int
    stack: int
    static_shared: int
    local: int
    spill_stores: int  # STL
    spill_loads: int  # LDL
    loads: int  # LDG of any width
    loads_128: int
    stores: int  # STG of any width
    stores_128: int
    async_copies: int  # LDGSTS
    async_copies_128: int
    tensor_loads: int  # UTMALDG
    hgmma: int
    hmma: int
    ffma: int
    instructions: int

    @property
    def spills(self) -> int:
        return self.spill_stores + self.spill_loads


def tools() -> Path:
    """The folder of NVIDIA's tools in Triton's wheel."""
    import triton
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def disassemble(cubin: bytes) -> str:
    """The SASS text of a cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([str(tools() / "nvdisasm"), "-c", file.name], capture_output=True, text=True,
                              check=True).stdout


def report(cubin: bytes) -> Report:
    """What the compiled kernel uses and does."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run([str(tools() / "cuobjdump"), "-res-usage", file.name], capture_output=True, text=True,
                               check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage.stdout + usage.stderr)
    if found is None:
        raise ValueError(f"cuobjdump gave no resource usage: {usage.stdout}{usage.stderr}")
    sass = disassemble(cubin)

    def count(pattern: str) -> int:
        return len(re.findall(pattern, sass))

    registers, stack, shared, local = map(int, found.groups())
    return Report(
        registers, stack, shared, local, spill_stores=count(r"\bSTL\b"), spill_loads=count(r"\bLDL\b"),
        loads=count(r"\bLDG\.E"), loads_128=count(r"\bLDG\.E\S*\.128"), stores=count(r"\bSTG\.E"),
        stores_128=count(r"\bSTG\.E\S*\.128"), async_copies=count(r"\bLDGSTS\.E"),
        async_copies_128=count(r"\bLDGSTS\.E\S*\.128"), tensor_loads=count(r"\bUTMALDG"),
        hgmma=count(r"\b(?:HGMMA|QGMMA|IGMMA)\b"), hmma=count(r"\bHMMA\b"), ffma=count(r"\bFFMA\b"),
        instructions=count(r"/\*[0-9a-f]{4,}\*/"))


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, report(Path(path).read_bytes()))
