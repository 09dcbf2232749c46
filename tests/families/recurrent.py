"""Recurrent layers and cells: samples, and oracles that take one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_makers import S, f


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _lstm_step(xi, xf, xg, xo, hi, hf, hg, ho, c):
    i, f_, g, o = _sigmoid(xi + hi), _sigmoid(xf + hf), np.tanh(xg + hg), _sigmoid(xo + ho)
    new = f_ * c + i * g
    return i, f_, g, o, new, o * np.tanh(new)


def _lstm_step_grad(i, f_, g, o, before, after, g_out, g_next, g_cell, carry):
    t = np.tanh(after)
    dh = g_out + g_next
    dc = carry + (0 if g_cell is None else g_cell) + dh * o * (1 - t**2)
    return dc * g * i * (1 - i), dc * before * f_ * (1 - f_), dc * i * (1 - g**2), dh * t * o * (1 - o), dc * f_


def _gru_step(xr, xz, xn, hr, hz, hn, bias, h):
    r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
    m = hn if bias is None else hn + bias
    n = np.tanh(xn + r * m)
    return r, z, n, m, (1 - z) * n + z * h


def _gru_step_grad(r, z, n, m, before, g_out, g_next, carry):
    dh = g_out + g_next + carry
    dn = dh * (1 - z) * (1 - n**2)
    return dn * m * r * (1 - r), dh * (before - n) * z * (1 - z), dn * r, dn, dh * z


def _rnn_step(x, h, relu=False):
    return np.maximum(x + h, 0) if relu else np.tanh(x + h)


def _rnn_step_grad(after, g_out, g_next, relu=False):
    return (g_out + g_next) * ((after > 0) if relu else 1 - after**2)


def _parts(x: np.ndarray, n: int) -> list[np.ndarray]:
    return [x[:, k : k + n] for k in range(0, x.shape[1], n)]


def _layer(x, h0, c0, weight, bias, kind, sizes, reverse):
    """Every sequence by itself."""
    hidden, starts = h0.shape[1], np.concatenate([[0], np.cumsum(sizes)])
    states = np.zeros((x.shape[0], hidden))
    cells = np.zeros_like(states)
    saved = np.zeros((x.shape[0], 4 * hidden))
    for s in range(sizes[0]):
        steps = [t for t in range(len(sizes)) if sizes[t] > s]
        h, c = h0[s : s + 1], None if c0 is None else c0[s : s + 1]
        for t in steps[::-1] if reverse else steps:
            at = slice(starts[t] + s, starts[t] + s + 1)
            both = _parts(x[at], hidden) + _parts(h @ weight.T, hidden)
            if kind == "lstm":
                *gates, c, h = _lstm_step(*both, c)
                cells[at] = c
                saved[at] = np.concatenate(gates, 1)
            elif kind == "gru":
                *gates, h = _gru_step(*both, bias, h)
                saved[at] = np.concatenate(gates, 1)
            else:
                h = _rnn_step(*both, kind == "rnn_relu")
            states[at] = h
    return (states, cells, saved) if kind == "lstm" else (states, saved) if kind == "gru" else states


def _layer_grad(g_out, g_cells, states, cells, saved, h0, c0, weight, kind, sizes, reverse):
    hidden, starts = h0.shape[1], np.concatenate([[0], np.cumsum(sizes)])
    columns = 1 if kind.startswith("rnn") else 4
    grads, g_h, g_c = np.zeros((len(g_out), columns * hidden)), np.zeros_like(h0), np.zeros_like(h0)
    for s in range(sizes[0]):
        rows = [starts[t] + s for t in range(len(sizes)) if sizes[t] > s]
        rows = rows[::-1] if reverse else rows
        following, carry = np.zeros((1, hidden)), np.zeros((1, hidden))
        for k in reversed(range(len(rows))):
            at = slice(rows[k], rows[k] + 1)
            gates = [] if saved is None else _parts(saved[at], hidden)
            if kind == "lstm":
                before = cells[rows[k - 1]][None] if k else c0[s][None]
                extra = None if g_cells is None else g_cells[at]
                *d, carry = _lstm_step_grad(*gates, before, cells[at], g_out[at], following, extra, carry)
            elif kind == "gru":
                before = states[rows[k - 1]][None] if k else h0[s][None]
                *d, carry = _gru_step_grad(*gates, before, g_out[at], following, carry)
            else:
                d = [_rnn_step_grad(states[at], g_out[at], following, kind == "rnn_relu")]
            grads[at] = np.concatenate(d, 1)
            following = grads[at][:, : weight.shape[0]] @ weight
        g_h[s], g_c[s] = following[0], carry[0]
    return (grads, g_h) if columns == 1 else (grads, g_h, g_c)


def _cell(kind: str, name: str) -> Any:
    def oracle(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        h, c = hx if kind == "lstm" else (hx, None)
        n = h.shape[1]
        both = _parts(x @ w_ih.T + (0 if b_ih is None else b_ih), n) + _parts(h @ w_hh.T + (0 if b_hh is None else b_hh), n)
        if kind == "lstm":
            return _lstm_step(*both, c)[:-3:-1]
        return _gru_step(*both, None, h)[-1] if kind == "gru" else _rnn_step(*both, kind == "rnn_relu")

    return oracle


def _network(kind: str) -> Any:
    def oracle(x, hx, params, biases, layers, dropout, train, bidirectional, batch_first):
        x = x.swapaxes(0, 1) if batch_first else x
        t, n, _ = x.shape
        h0, c0 = hx if kind == "lstm" else (hx, None)
        hidden, ways, each = h0.shape[2], 1 + bidirectional, 4 if biases else 2
        hs, cs = [], []
        for layer in range(layers):
            outs = []
            for way in range(ways):
                k = layer * ways + way
                w_ih, w_hh, *b = params[k * each : (k + 1) * each]
                b_ih, b_hh = b or (0, np.zeros(len(w_hh)))
                inner = b_hh[2 * hidden :] if kind == "gru" else None
                outer = b_hh if kind != "gru" else np.concatenate([b_hh[: 2 * hidden], np.zeros(hidden)])
                rows = x.reshape(t * n, -1) @ w_ih.T + b_ih + outer
                made = _layer(rows, h0[k], None if c0 is None else c0[k], w_hh, inner, kind, (n,) * t, way == 1)
                made = made if isinstance(made, tuple) else (made,)
                last = slice(0, n) if way else slice(t * n - n, t * n)
                outs.append(made[0].reshape(t, n, hidden))
                hs.append(made[0][last])
                cs.append(made[1][last] if kind == "lstm" else None)
            x = np.concatenate(outs, 2)
        x = x.swapaxes(0, 1) if batch_first else x
        return (x, np.stack(hs), np.stack(cs)) if kind == "lstm" else (x, np.stack(hs))

    return oracle


def _params(gates: int, width: int, hidden: int, layers: int, ways: int, biases: bool = True) -> list[np.ndarray]:
    out = []
    for layer in range(layers):
        for _ in range(ways):
            out += [f(gates * hidden, width if layer == 0 else hidden * ways), f(gates * hidden, hidden)]
            out += [f(gates * hidden), f(gates * hidden)] if biases else []
    return out


def _networks(gates: int, pair: bool) -> list:
    def states(n: int) -> Any:
        return (f(n, 2, 3), f(n, 2, 3)) if pair else f(n, 2, 3)

    return [
        S(f(3, 2, 4), states(1), _params(gates, 4, 3, 1, 1), True, 1, 0.0, True, False, False),
        S(f(2, 3, 4), states(4), _params(gates, 4, 3, 2, 2, False), False, 2, 0.0, True, True, True),
    ]


def _unit(*shape: int) -> np.ndarray:
    return f(*shape, lo=0.1, hi=0.9)


SAMPLES = {
    "lstm_step": lambda: [S(*[f(3, 4) for _ in range(9)])],
    "lstm_step_grad": lambda: [
        S(*[_unit(3, 4) for _ in range(4)], *[f(3, 4) for _ in range(6)]),
        S(*[_unit(3, 4) for _ in range(4)], *[f(3, 4) for _ in range(4)], None, f(3, 4)),
    ],
    "gru_step": lambda: [S(*[f(3, 4) for _ in range(6)], f(4), f(3, 4)), S(*[f(3, 4) for _ in range(6)], None, f(3, 4))],
    "gru_step_grad": lambda: [S(*[_unit(3, 4) for _ in range(2)], *[f(3, 4) for _ in range(6)])],
    "rnn_step": lambda: [S(f(3, 4), f(3, 4)), S(f(3, 4), f(3, 4), True)],
    "rnn_step_grad": lambda: [S(f(3, 4), f(3, 4), f(3, 4)), S(f(3, 4), f(3, 4), f(3, 4), True)],
    "recurrent_layer": lambda: [
        S(f(6, 12), f(2, 3), f(2, 3), f(12, 3), None, "lstm", (2, 2, 2), False),
        S(f(6, 12), f(3, 3), f(3, 3), f(12, 3), None, "lstm", (3, 2, 1), True),
        S(f(6, 9), f(2, 3), None, f(9, 3), f(3), "gru", (2, 2, 2), True),
        S(f(5, 9), f(3, 3), None, f(9, 3), None, "gru", (3, 1, 1), False),
        S(f(4, 3), f(2, 3), None, f(3, 3), None, "rnn_tanh", (2, 2), True),
        S(f(4, 3), f(2, 3), None, f(3, 3), None, "rnn_relu", (2, 1, 1), False),
    ],
    "recurrent_layer_grad": lambda: [
        S(f(6, 3), f(6, 3), f(6, 3), f(6, 3), _unit(6, 12), f(2, 3), f(2, 3), f(12, 3), "lstm", (2, 2, 2), False),
        S(f(6, 3), None, f(6, 3), f(6, 3), _unit(6, 12), f(3, 3), f(3, 3), f(12, 3), "lstm", (3, 2, 1), True),
        S(f(6, 3), None, f(6, 3), None, _unit(6, 12), f(3, 3), None, f(9, 3), "gru", (3, 2, 1), False),
        S(f(4, 3), None, f(4, 3), None, None, f(2, 3), None, f(3, 3), "rnn_tanh", (2, 2), True),
    ],
    "lstm_cell": lambda: [
        S(f(2, 4), (f(2, 3), f(2, 3)), f(12, 4), f(12, 3), f(12), f(12)),
        S(f(2, 4), (f(2, 3), f(2, 3)), f(12, 4), f(12, 3)),
    ],
    "gru_cell": lambda: [S(f(2, 4), f(2, 3), f(9, 4), f(9, 3), f(9), f(9)), S(f(2, 4), f(2, 3), f(9, 4), f(9, 3))],
    "rnn_tanh_cell": lambda: [S(f(2, 4), f(2, 3), f(3, 4), f(3, 3), f(3), f(3))],
    "rnn_relu_cell": lambda: [S(f(2, 4), f(2, 3), f(3, 4), f(3, 3), f(3), f(3))],
    "lstm": lambda: _networks(4, True),
    "gru": lambda: _networks(3, False),
    "rnn_tanh": lambda: _networks(1, False),
    "rnn_relu": lambda: _networks(1, False)[:1],
}

ORACLES = {
    "lstm_step": _lstm_step,
    "lstm_step_grad": _lstm_step_grad,
    "gru_step": _gru_step,
    "gru_step_grad": _gru_step_grad,
    "rnn_step": _rnn_step,
    "rnn_step_grad": _rnn_step_grad,
    "recurrent_layer": _layer,
    "recurrent_layer_grad": _layer_grad,
    "lstm_cell": _cell("lstm", "lstm_cell"),
    "gru_cell": _cell("gru", "gru_cell"),
    "rnn_tanh_cell": _cell("rnn_tanh", "rnn_tanh_cell"),
    "rnn_relu_cell": _cell("rnn_relu", "rnn_relu_cell"),
    "lstm": _network("lstm"),
    "gru": _network("gru"),
    "rnn_tanh": _network("rnn_tanh"),
    "rnn_relu": _network("rnn_relu"),
}
