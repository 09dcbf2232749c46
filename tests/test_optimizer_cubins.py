"""The update rules of optimizers, and gamma numbers, compiled for sm_80 and sm_90 through the launch path."""
from __future__ import annotations

import cubin_support
import pytest

import fusetorch as torch
from fusetorch import dtypes
from fusetorch.ops.opdef import fn
from fusetorch.runtime.memory import empty
from fusetorch.tensor import wrap

gpu = cubin_support.gpu


def some(n, dt=dtypes.float32, shape=(64, 32)):
    return [[wrap(empty(shape, dt))] for _ in range(n)]


RULES = {
    "sgd": lambda: torch._sgd_step_(*some(2), 0.1, None, False),
    "momentum": lambda: torch._momentum_step_(*some(3), 0.1, 0.01, 0.9, 1.0, True, False),
    "adam": lambda: torch._adam_step_(*some(3), None, *some(1), 0.1, 0.9, 0.99, 1e-8, 0.01, 0.1, 0.1, True, False),
    "adam half": lambda: torch._adam_step_(*some(5, dtypes.bfloat16), 0.1, 0.9, 0.99, 1e-8, None, 0.1, 0.1, False, True),
    "nadam": lambda: torch._nadam_step_(*some(4), 0.1, 0.9, 0.99, 1e-8, 0.01, 0.1, 0.1, 0.1, False, False),
    "radam": lambda: torch._radam_step_(*some(4), 0.1, 0.9, 0.99, 1e-8, None, 0.1, 0.1, False, False),
    "adamax": lambda: torch._adamax_step_(*some(4), 0.9, 0.99, 1e-8, None, 0.1, False),
    "adagrad": lambda: torch._adagrad_step_(*some(3), 0.1, 1e-8, None, False),
    "adadelta": lambda: torch._adadelta_step_(*some(4), 0.1, 0.9, 1e-8, None, False),
    "rmsprop": lambda: torch._rmsprop_step_(*some(5), 0.1, 0.9, 1e-8, None, 0.9, False),
    "rprop": lambda: torch._rprop_step_(*some(4), 1.2, 0.5, 1e-6, 50.0, False),
    "asgd": lambda: torch._asgd_step_(*some(3), None, 0.1, 0.99, 1.0, False),
}


@pytest.mark.parametrize("name", RULES)
def test_rules(gpu, name):
    before = len(gpu.stub.launches)
    found = gpu(RULES[name])
    assert len(gpu.stub.launches) == before + 1, found.keys()  # one kernel for one parameter
    assert all(r.spills == 0 for r in found.values())


@pytest.mark.slow
def test_gamma_numbers(gpu):
    (x,), = some(1, dtypes.float32, (1000,))
    before = len(gpu.stub.launches)
    fn.draw_gamma(x, torch.tensor(3), torch.tensor(5))
    assert len(gpu.stub.launches) > before
