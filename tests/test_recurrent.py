"""Recurrent layers: the native walk against the plain one, packed sequences, and modules against cells."""

from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import config
from fusetorch.nn.utils import rnn


def _run(kind: str, d: torch.dtype, shape: tuple[int, int, int], bidirectional: bool) -> list[np.ndarray]:
    torch.manual_seed(0)
    steps, batch, hidden = shape
    model = getattr(torch.nn, kind)(5, hidden, bidirectional=bidirectional, dtype=d)
    x = torch.randn(steps, batch, 5, dtype=d, requires_grad=True)
    y, last = model(x)
    states = last if isinstance(last, tuple) else (last,)
    (y.sin().sum() + sum(s.square().sum() for s in states)).backward()
    return [t.detach().numpy() for t in (y, *states, x.grad, *[p.grad for p in model.parameters()])]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("shape", [(6, 33, 64), (3, 1, 700)], ids=str)
def test_native_walk(kind: str, shape: tuple[int, int, int]) -> None:
    for d, tol in ((torch.float32, 1e-3), (torch.float64, 1e-10)):
        native = _run(kind, d, shape, True)
        with config.override(native_threshold=1 << 40):
            plain = _run(kind, d, shape, True)
        for a, b in zip(native, plain):
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_are_walked_one_by_one(kind: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    model = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=bidirectional)
    sequences = [torch.randn(n, 3) for n in (2, 5, 1, 5)]
    out, last = model(rnn.pack_sequence(sequences, enforce_sorted=False))
    last = last if isinstance(last, tuple) else (last,)
    for k, (x, y) in enumerate(zip(sequences, rnn.unpack_sequence(out))):
        want, state = model(x)
        np.testing.assert_allclose(y.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-6)
        for s, t in zip(last, state if isinstance(state, tuple) else (state,)):
            np.testing.assert_allclose(s[:, k].detach().numpy(), t.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_padding() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0])
    padded = rnn.pad_sequence([b, a], batch_first=True, padding_value=-1.0)
    assert padded.tolist() == [[4, -1, -1], [1, 2, 3]]
    assert rnn.pad_sequence([b, a], batch_first=True, padding_side="left").tolist() == [[0, 0, 4], [1, 2, 3]]
    packed = rnn.pack_padded_sequence(padded, [1, 3], batch_first=True, enforce_sorted=False)
    assert packed.data.tolist() == [1, 4, 2, 3]
    assert packed.batch_sizes.tolist() == [2, 1, 1]
    back, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=9.0, total_length=4)
    assert back.tolist() == [[4, 9, 9, 9], [1, 2, 3, 9]]
    assert lengths.tolist() == [1, 3]
    with pytest.raises(RuntimeError, match="enforce_sorted"):
        rnn.pack_padded_sequence(padded, [1, 3], batch_first=True)
    with pytest.raises(RuntimeError, match="greater than 0"):
        rnn.pack_padded_sequence(padded, [3, 0], batch_first=True)


def test_cells_are_steps_of_layers() -> None:
    torch.manual_seed(0)
    for layer, cell in ((torch.nn.LSTM(3, 4), torch.nn.LSTMCell(3, 4)), (torch.nn.GRU(3, 4), torch.nn.GRUCell(3, 4))):
        cell.load_state_dict({k[:-3]: v for k, v in layer.state_dict().items()})
        x = torch.randn(5, 2, 3)
        h = None
        for t in range(5):
            h = cell(x[t], h)
        want = layer(x)[1]
        for a, b in zip(h if isinstance(h, tuple) else (h,), want if isinstance(want, tuple) else (want,)):
            np.testing.assert_allclose(a.detach().numpy(), b[0].detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda m: m(torch.zeros(2, 3, 7)), RuntimeError),
        (lambda m: m(torch.zeros(2, 3, 5, dtype=torch.float64)), ValueError),
        (lambda m: m(torch.zeros(5)), ValueError),
        (lambda m: m(torch.zeros(2, 3, 5), (torch.zeros(1, 2, 4), torch.zeros(1, 3, 4))), RuntimeError),
        (lambda m: m(torch.zeros(2, 5), (torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))), RuntimeError),
        (lambda m: torch.nn.LSTM(5, 4, proj_size=4), ValueError),
        (lambda m: torch.nn.GRU(5, 4, proj_size=2), ValueError),
        (lambda m: torch.nn.LSTM(5, 4.0), TypeError),
    ],
)
def test_errors(wrong, error: type) -> None:
    with pytest.raises(error):
        wrong(torch.nn.LSTM(5, 4))


def test_compiled_training_step_drops_the_same_elements() -> None:
    def steps(compiled: bool) -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.ModuleList([torch.nn.LSTM(4, 8, 2, dropout=0.5), torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, weight = torch.randn(5, 3, 4), torch.randn(5, 3, 8)

        def step() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model[1](model[0](x)[0]) * weight).mean()
            loss.backward()
            optimizer.step()
            return loss

        step = torch.compile(step) if compiled else step
        torch.manual_seed(1)
        return [step().item() for _ in range(3)]

    np.testing.assert_allclose(steps(True), steps(False), rtol=1e-5)
