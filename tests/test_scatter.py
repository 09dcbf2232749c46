"""Native scatter-add against NumPy's."""
from __future__ import annotations

import numpy as np
import pytest

from fusetorch.codegen import scatter

RNG = np.random.default_rng(0)
CASES = {
    "rows": ((50, 32), [RNG.integers(-50, 50, 300)], (300, 32)),
    "one column": ((50,), [RNG.integers(0, 50, 3000)], (3000,)),
    "inner dimension": ((4, 50, 8), [None, RNG.integers(-50, 50, 100)], (4, 100, 8)),
    "last dimension": ((6, 50), [None, RNG.integers(0, 50, 400)], (6, 400)),
    "two index arrays": ((20, 30, 4), [RNG.integers(-20, 20, (40, 1)), RNG.integers(0, 30, 25)], (40, 25, 4)),
    "elements": ((40, 60), list(np.broadcast_arrays(RNG.integers(0, 40, (30, 60)), np.arange(60))), (30, 60)),
    "broadcast values": ((50, 32), [RNG.integers(0, 50, 300)], (32,)),
    "apart": ((9, 10, 11), [RNG.integers(0, 9, 200), None, RNG.integers(0, 11, 200)], (200, 10)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.int16])
@pytest.mark.parametrize("name", CASES)
def test_add_at(name, dtype, monkeypatch):
    monkeypatch.setattr(scatter, "FROM", 1)
    shape, indices, values = CASES[name]
    values = (RNG.standard_normal(values) * 9).astype(dtype)
    got = (RNG.standard_normal(shape) * 9).astype(dtype)
    want = got.copy()
    np.add.at(want, tuple(slice(None) if i is None else i for i in indices), values)
    scatter.add_at(got, indices, values)
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-4 if dtype == np.float32 else 1e-12)


def test_transposed_memory():
    got = np.zeros((30, 20)).T
    scatter.add_at(got, [np.arange(20)], np.ones((20, 30)))
    assert (got == 1).all()
