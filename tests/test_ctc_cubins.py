"""The CTC kernels compiled for two generations of GPUs."""
from __future__ import annotations

import pytest
from cubin_report import report

from fusetorch import dtypes
from fusetorch.runtime.memory import empty
from fusetorch.runtime.stub import stub_gpu
from fusetorch.triton_kernels import ctc


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dt", [dtypes.float32, dtypes.float64])
@pytest.mark.parametrize("width", [5, 100])
def test_ctc(capability, dt, width):
    with stub_gpu(capability) as stub:
        lp, targets, lengths = empty((50, 4, 30), dt), empty((4, width), dtypes.int64), empty((4,), dtypes.int64)
        loss, alpha = ctc.ctc(lp, targets, lengths, lengths, 0)
        ctc.ctc_backward(loss, lp, targets, lengths, lengths, loss, alpha, 0, True)
        launched = {launch.kernel.name: report(launch.kernel.cubin) for launch in stub.launches}
    assert set(launched) == {"_ctc", "_ctc_backward"}
    assert all(r.spills == 0 for r in launched.values())
