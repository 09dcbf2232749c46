"""Our layers against PyTorch's module database: results, gradients, text and state. Skipped without PyTorch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from test_peer_definitions import Untranslatable, array, both, translate  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

import fusetorch as ft  # noqa: E402

pytestmark = pytest.mark.peer

#: Lazy modules have no parameters to compare before their first call.
KNOWN = [m for m in module_db if hasattr(ft.nn, m.module_cls.__name__) and not m.module_cls.__name__.startswith("Lazy")]


def named(x: object) -> object:
    """Our function of the same name for a function."""
    return getattr(ft.nn.functional, x.__name__) if callable(x) else x


def apart(x: object) -> object:
    """A leaf of its own: some samples give one tensor twice."""
    return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x


def pair(info: object, constructor: object) -> tuple:
    """PyTorch's layer and ours with its state."""
    args, kwargs = translate(list(constructor.args), []), translate(dict(constructor.kwargs), [])
    if any(isinstance(v, torch.nn.Module) for v in [*args, *kwargs.values()]):
        raise Untranslatable("a layer of layers")
    args, kwargs = [named(v) for v in args], {k: named(v) for k, v in kwargs.items()}
    theirs = info.module_cls(*constructor.args, **constructor.kwargs)
    ours = getattr(ft.nn, info.module_cls.__name__)(*args, **kwargs)
    state = theirs.state_dict()
    assert list(state) == list(ours.state_dict())
    ours.load_state_dict({k: ft.from_numpy(np.array(array(v), order="C")) for k, v in state.items()})
    assert repr(ours) == repr(theirs)
    return theirs, ours


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("info", KNOWN, ids=lambda m: m.name)
def test_module_database(info: object, training: bool) -> None:
    torch.manual_seed(0)
    for sample in info.module_inputs_func(info, "cpu", torch.float32, True, training):
        call = sample.forward_input
        if call is None:
            continue
        try:
            theirs, ours = pair(info, sample.constructor_input)
            theirs.train(training)
            ours.train(training)
            drawn = "Dropout" in info.name or "RReLU" in info.name or getattr(theirs, "_random_samples", 0) is None
            both(theirs, ours, [apart(a) for a in call.args], call.kwargs, values=not drawn)
        except Untranslatable:
            continue
