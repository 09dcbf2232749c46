"""Our layers against PyTorch's module database: results, gradients, text and state. Skipped without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from test_peer_definitions import DTYPES, Untranslatable, array, both, flat, same, strides, translate, with_strides  # noqa: E402
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


def drawn(info: object, theirs: object) -> bool:
    """Whether the result depends on numbers drawn."""
    return "Dropout" in info.name or "RReLU" in info.name or getattr(theirs, "_random_samples", 0) is None


def samples(info: object, d: object, training: bool) -> Iterator[tuple]:
    """The layers of the database's samples, and what they are called with."""
    torch.manual_seed(0)
    for sample in info.module_inputs_func(info, "cpu", d, True, training):
        if sample.forward_input is None:
            continue
        try:
            theirs, ours = pair(info, sample.constructor_input)
        except Untranslatable:
            continue
        yield theirs.to(d).train(training), ours.to(DTYPES[d]).train(training), sample.forward_input


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("info", KNOWN, ids=lambda m: m.name)
def test_module_database(info: object, training: bool) -> None:
    for theirs, ours, call in samples(info, torch.float32, training):
        try:
            both(theirs, ours, [apart(a) for a in call.args], call.kwargs, values=not drawn(info, theirs))
        except Untranslatable:
            continue
        for (name, b), (_, c) in zip(theirs.named_buffers(), ours.named_buffers()):
            np.testing.assert_allclose(c.numpy(), b.numpy(), 1e-4, 1e-5, err_msg=name)


#: How far apart half-precision results may be that are rounded at another step.
HALF = {"nn.CrossEntropyLoss": 4}


@pytest.mark.parametrize("d", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("info", KNOWN, ids=lambda m: m.name)
def test_gradients_of_parameters(info: object, d: object) -> None:
    if d not in info.dtypes:
        pytest.skip("PyTorch does not have it for this dtype")
    for _, (theirs, ours, call) in zip(range(6), samples(info, d, True)):
        parameters = list(zip(theirs.parameters(), ours.parameters()))
        if drawn(info, theirs) or not parameters:
            continue
        try:
            args, kwargs = translate([apart(a) for a in call.args], []), translate(dict(call.kwargs), [])
        except Untranslatable:
            continue
        pairs = [(p, q) for p, q in zip(flat(theirs(*call.args, **call.kwargs)), flat(ours(*args, **kwargs)))
                 if isinstance(p, torch.Tensor) and p.requires_grad]
        same([p for p, _ in pairs], [q for _, q in pairs], slack=HALF.get(info.name, 1))
        sum((p * p).sum() for p, _ in pairs).backward()
        sum((q * q).sum() for _, q in pairs).backward()
        for p, q in parameters:
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                same(p.grad, q.grad, slack=40)
                assert strides(p.grad) == strides(q.grad)


def channels_last(x: object) -> object:
    """A leaf of its own in a channels-last format, if it is an image or a volume."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if not isinstance(x, torch.Tensor) or x.ndim not in formats:
        return x
    return x.detach().to(memory_format=formats[x.ndim])


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("info", [m for m in KNOWN if m.name != "nn.TransformerDecoderLayer"], ids=lambda m: m.name)
def test_channels_last(info: object, training: bool) -> None:
    for theirs, ours, call in samples(info, torch.float32, training):
        args = [channels_last(a) for a in call.args]
        try:
            mine, kwargs = with_strides(args), translate(dict(call.kwargs), [])
        except Untranslatable:
            continue
        want, got = theirs(*args, **call.kwargs), ours(*mine, **kwargs)
        if not drawn(info, theirs):
            same(want, got)
        assert strides(want) == strides(got)


@pytest.mark.parametrize("info", [m for m in KNOWN if m.module_error_inputs_func], ids=lambda m: m.name)
def test_errors(info: object) -> None:
    for sample in info.module_error_inputs_func(info, "cpu", torch.float32, False, True):
        made, call = sample.module_error_input.constructor_input, sample.module_error_input.forward_input
        try:
            args, kwargs = translate(list(made.args), []), translate(dict(made.kwargs), [])
        except Untranslatable:
            continue
        with pytest.raises((RuntimeError, TypeError, ValueError, IndexError, AssertionError)) as error:
            theirs = info.module_cls(*made.args, **made.kwargs)
            theirs(*call.args, **call.kwargs)
        with pytest.raises(error.type):
            ours = getattr(ft.nn, info.module_cls.__name__)(*args, **kwargs)
            ours(*translate(list(call.args), []), **translate(dict(call.kwargs), []))
