"""Every kernel generated for the demo's training step compiles to GPU machine code that keeps to its resources."""
from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch import config

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def lowered():
    from fusetorch.demo.digits import training
    with config.override(simulate_cuda=True):
        _, step = training("cuda")
        compiled = torch.compile(step)
        images, labels = torch.randn(64, 64, device="cuda"), torch.randint(0, 10, (64,), device="cuda")
        for _ in range(3):
            compiled(images, labels)
        plan = compiled._order[-1].plan
    return [plan.lowered[g] for g in plan.fusion.groups if g.fusible and plan.lowered[g].writes[0].device.type == "cuda"]


@pytest.mark.parametrize("capability", [80, 90])
def test_generated_kernels_of_the_demo(lowered, capability):
    from cubin_report import report

    from fusetorch.codegen.triton import triton_loop
    assert len(lowered) > 10
    wide = 0
    for low in lowered:
        k, call = low.call.kernel, low.call
        for kernel in triton_loop(k).compile(call, capability):
            r = report(kernel.cubin)
            assert r.spills == 0, f"{k.key}: {r.spill_stores} + {r.spill_loads} spills"
            contiguous = sum(a.pattern[-1] == "1" for a in k.inputs)
            if not k.n_inner and contiguous and call.sizes[-1] % 1024 == 0:
                assert r.loads_128 >= contiguous, f"{k.key}: {r.loads_128} of {r.loads} loads are 128 bits wide"
                wide += 1
    assert wide > 0
