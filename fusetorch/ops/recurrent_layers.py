"""``torch.lstm`` and its relatives: layers of :mod:`recurrent` stacked, in one or two directions; and single cells."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor
from .opdef import composite, fn
from .recurrent import CELLS, final_rows, split_columns, walk_public


def _direction(kind: str, data: Any, sizes: tuple, h0: Any, c0: Any, weights: Sequence[Any], biases: bool, reverse: bool,
               ) -> tuple[Any, Any, Any]:
    """(states in every row, final state, final cell) of one layer in one direction."""
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = rest[:2] if biases else (None, None)
    project = rest[-1] if len(rest) % 2 else None
    hidden = w_hh._a.shape[0] // CELLS[kind].gates
    bias, inner = None, None
    if biases:
        bias = b_ih + b_hh
        if kind == "gru":  # that of the new gate belongs inside the reset
            bias, inner = fn.cat([bias[:2 * hidden], b_ih[2 * hidden:]]), b_hh[2 * hidden:]
    x = fn.linear(data, w_ih, bias)
    cells = None
    if project is not None:
        out, *more = walk_public(x, h0, c0, w_hh, inner, kind, sizes, reverse, project)
    else:
        made = fn.recurrent_layer(x, h0, c0, w_hh, inner, kind, sizes, reverse)
        out, *more = made if isinstance(made, tuple) else (made,)
    if kind == "lstm":
        cells = more[0]
    b = sizes[0]
    if len(set(sizes)) == 1:
        last = slice(0, b) if reverse else slice(len(sizes) * b - b, len(sizes) * b)
    else:
        last = fn.from_numpy(final_rows(sizes, reverse)).to(out.device)
    return out, out[last], None if cells is None else cells[last]


def _stack(kind: str, data: Any, sizes: tuple, h: Any, c: Any, params: Sequence[Any], biases: bool, layers: int, dropout: float,
           train: bool, bidirectional: bool) -> tuple[Any, Any, Any]:
    """All layers over rows: (states of the last layer in every row, final states, final cells)."""
    ways = 2 if bidirectional else 1
    each = len(params) // (layers * ways)
    final_h, final_c = [], []
    for layer in range(layers):
        outs = []
        for way in range(ways):
            k = layer * ways + way
            start = None if c is None else c[k]
            out, hn, cn = _direction(kind, data, sizes, h[k], start, params[k * each:(k + 1) * each], biases, way == 1)
            outs.append(out)
            final_h.append(hn)
            final_c.append(cn)
        data = outs[0] if ways == 1 else fn.cat(outs, 1)
        if dropout and train and layer < layers - 1:
            data = fn.dropout(data, dropout, True)
    return data, fn.stack(final_h), None if c is None else fn.stack(final_c)


def _layers(kind: str, input: Any, *rest: Any) -> tuple[Any, Any, Any]:
    """Both forms: ``(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)`` and, for packed rows,
    ``(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)``."""
    packed = isinstance(rest[0], Tensor) and isinstance(rest[1], (Tensor, list, tuple)) and not isinstance(rest[2], bool)
    if packed:
        batch_sizes, hx, params, biases, layers, dropout, train, bidirectional = rest
        sizes = tuple(batch_sizes.tolist())
        data = input
    else:
        hx, params, biases, layers, dropout, train, bidirectional, batch_first = rest
        if batch_first:
            input = input.transpose(0, 1)
        steps, batch = input._a.shape[:2]
        if not steps:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        sizes = (batch,) * steps
        data = input.reshape(steps * batch, input._a.shape[2])
    h, c = hx if kind == "lstm" else (hx, None)
    out, hn, cn = _stack(kind, data, sizes, h, c, list(params), biases, layers, dropout, train, bidirectional)
    if not packed:
        out = out.reshape(steps, batch, out._a.shape[1])
        if batch_first:
            out = out.transpose(0, 1)
    return out, hn, cn


@composite(method=False)
def lstm(*args):
    """Long short-term memory: ``lstm(input, (h, c), params, has_biases, num_layers, dropout, train, bidirectional, batch_first)``, or with
    packed rows ``lstm(data, batch_sizes, (h, c), params, has_biases, num_layers, dropout, train, bidirectional)``.

    Returns: output (T, N, directions * hidden), final states and cells (layers * directions, N, hidden). See ``nn.LSTM``.
    """
    return _layers("lstm", *args)


@composite(method=False)
def gru(*args):
    """Gated recurrent units; arguments as for ``lstm``, with one state. Returns: output, final states."""
    return _layers("gru", *args)[:2]


@composite(method=False)
def rnn_tanh(*args):
    """The recurrence ``tanh(W x + V h + b)``; arguments as for ``lstm``, with one state. Returns: output, final states."""
    return _layers("rnn_tanh", *args)[:2]


@composite(method=False)
def rnn_relu(*args):
    """The recurrence ``relu(W x + V h + b)``; arguments as for ``lstm``, with one state. Returns: output, final states."""
    return _layers("rnn_relu", *args)[:2]


def _check_cell(name: str, input: Any, h: Any, w_ih: Any, gates: int) -> None:
    hidden = w_ih._a.shape[0] // gates
    if input._a.shape[1] != w_ih._a.shape[1]:
        raise RuntimeError(f"{name}: input has inconsistent input_size: got {input._a.shape[1]} expected {w_ih._a.shape[1]}")
    if input._a.shape[0] != h._a.shape[0]:
        raise RuntimeError(f"{name}: Input batch size {input._a.shape[0]} doesn't match hidden batch size {h._a.shape[0]}")
    if h._a.shape[1] != hidden:
        raise RuntimeError(f"{name}: hidden has inconsistent hidden_size: got {h._a.shape[1]}, expected {hidden}")


def _products(name: str, kind: str, input: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> list[Any]:
    gates = CELLS[kind].gates
    _check_cell(name, input, h, w_ih, gates)
    hidden = w_ih._a.shape[0] // gates
    return split_columns(fn.linear(input, w_ih, b_ih), hidden) + split_columns(fn.linear(h, w_hh, b_hh), hidden)


@composite(method=False, autocast="lower")
def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of an LSTM: ``input`` (N, in), ``hx`` a state and a cell (N, hidden). Returns: the next state and cell."""
    h, c = hx
    *_, c, h = fn.lstm_step(*_products("lstm_cell", "lstm", input, h, w_ih, w_hh, b_ih, b_hh), c)
    return h, c


@composite(method=False, autocast="lower")
def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of a GRU: ``input`` (N, in), ``hx`` (N, hidden). Returns: the next state."""
    return fn.gru_step(*_products("gru_cell", "gru", input, hx, w_ih, w_hh, b_ih, b_hh), None, hx)[-1]


@composite(method=False, autocast="lower")
def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """``tanh(w_ih x + b_ih + w_hh h + b_hh)``."""
    return fn.rnn_step(*_products("rnn_tanh_cell", "rnn_tanh", input, hx, w_ih, w_hh, b_ih, b_hh), False)


@composite(method=False, autocast="lower")
def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """``relu(w_ih x + b_ih + w_hh h + b_hh)``."""
    return fn.rnn_step(*_products("rnn_relu_cell", "rnn_relu", input, hx, w_ih, w_hh, b_ih, b_hh), True)
