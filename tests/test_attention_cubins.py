"""The attention kernels compiled for two generations of GPUs."""
from __future__ import annotations

import pytest
from cubin_report import Report, report

from fusetorch import dtypes
from fusetorch.runtime.memory import empty
from fusetorch.runtime.stub import stub_gpu
from fusetorch.triton_kernels import attention


def compiled(capability: int, dt: dtypes.dtype, width: int, masked: bool = False, causal: bool = True) -> dict[str, Report]:
    """Reports of the kernels that one forward and backward launch."""
    with stub_gpu(capability) as stub:
        q, k, v = (empty((2, heads, 1024, width), dt) for heads in (4, 2, 2))
        mask = empty((1, 1, 1024, 1024), dt) if masked else None
        out, lse = attention.attention(q, k, v, mask, 0.1, causal)
        attention.attention_backward(out, q, k, v, mask, out, lse, 0.1, causal)
        return {launch.kernel.name: report(launch.kernel.cubin) for launch in stub.launches}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dt, width", [(dtypes.float16, 64), (dtypes.bfloat16, 128), (dtypes.float32, 64), (dtypes.float32, 128)])
def test_nothing_spills_and_halves_use_the_tensor_cores(capability, dt, width):
    found = compiled(capability, dt, width)
    assert set(found) == {"_attention", "_delta", "_query_grad", "_key_grad"}
    for name, r in found.items():
        assert r.spills == 0 and r.stack == 0, (name, r)
        assert r.loads_128 + r.async_copies_128 and (name == "_delta" or r.stores_128), (name, r)
        if name != "_delta":
            tensor_cores = r.hgmma if capability == 90 else r.hmma
            assert bool(tensor_cores) == (dt is not dtypes.float32), (name, r)


@pytest.mark.parametrize("capability, width, masked, causal", [(80, 64, True, True), (90, 128, True, False), (90, 80, False, True),
                                                               (80, 256, False, False)])
def test_other_forms_compile(capability, width, masked, causal):
    found = compiled(capability, dtypes.float16, width, masked, causal)
    assert all(r.hgmma + r.hmma for name, r in found.items() if name != "_delta")


def test_what_is_refused():
    with stub_gpu(90):
        for q in (empty((1, 1, 4, 8), dtypes.float64), empty((1, 1, 4, 300), dtypes.float16)):
            with pytest.raises(NotImplementedError, match="flash_attention"):
                attention.attention(q, q, q, None, 1.0, False)
