"""A stub GPU for the tests that compile hand-written kernels: take the fixture by name, ``gpu = cubin_support.gpu``."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from cubin_report import Report, report

from fusetorch.runtime.stub import StubDriver, stub_gpu

#: The kernels that were launched so far, by name.
SEEN: set[str] = set()


class Gpu:
    """``gpu(f)`` calls f and reports the kernels that it launched (of those in ``only``): by name, the first launch of each."""

    def __init__(self, stub: StubDriver, capability: int) -> None:
        self.stub = stub
        self.capability = capability

    def __call__(self, f: Callable[[], Any], only: Collection[str] | None = None) -> dict[str, Report]:
        before = len(self.stub.launches)
        f()
        kernels: dict[str, Any] = {}
        for launch in self.stub.launches[before:]:
            if only is None or launch.kernel.name in only:
                kernels.setdefault(launch.kernel.name, launch.kernel)
        SEEN.update(kernels)
        return {name: report(kernel.cubin) for name, kernel in kernels.items()}


@pytest.fixture(params=[80, 90], ids=["sm_80", "sm_90"])
def gpu(request: pytest.FixtureRequest) -> Iterator[Gpu]:
    """One of each generation."""
    with stub_gpu(request.param) as stub:
        yield Gpu(stub, request.param)
