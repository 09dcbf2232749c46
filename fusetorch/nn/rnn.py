"""Recurrent layers and cells."""
from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import fusetorch as torch
from fusetorch.nn import init
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter
from fusetorch.nn.utils.rnn import PackedSequence
from fusetorch.tensor import Tensor

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class RNNBase(Module):
    """What RNN, LSTM and GRU share: parameters, checks, packed sequences.

    Parameters of layer k: ``weight_ih_lk`` (gates * hidden, in), ``weight_hh_lk`` (gates * hidden, hidden), ``bias_ih_lk`` and
    ``bias_hh_lk`` (gates * hidden), with ``proj_size`` ``weight_hr_lk`` (proj, hidden); those of the walk from the end with
    ``_reverse`` behind. All start uniform in ±1/sqrt(hidden).
    """

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
        if dropout > 0 and num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers greater "
                          f"than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=2)
        for name, value, kind in (("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int),
                                  ("hidden_size", hidden_size, int)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        rows, state = _GATES[mode] * hidden_size, proj_size or hidden_size
        ways = ("", "_reverse") if bidirectional else ("",)
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else state * len(ways)
            for way in ways:
                shapes = {"weight_ih": (rows, width), "weight_hh": (rows, state)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{layer}{way}", Parameter(torch.empty(shape, device=device, dtype=dtype)))
                self._all_weights.append([f"{name}_l{layer}{way}" for name in shapes])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the starting values anew."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels take the parameters as they are."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [w for weights in self.all_weights for w in weights]

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
                            ("bidirectional", False)):
            value = getattr(self, name)
            if value != usual:
                parts.append(f"{name}={value}")
        return ", ".join(parts)

    # ---- calling

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raises unless input and states fit: ``ValueError`` for the dtype, ``RuntimeError`` for shapes."""
        weight = self._parameters["weight_ih_l0"]
        if input.dtype is not weight.dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: "
                             f"input.to({weight.dtype}), or convert model: model.to({input.dtype})")
        rank = 3 if batch_sizes is None else 2
        if input.dim() != rank:
            raise RuntimeError(f"input must have {rank} dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}")
        n = int(batch_sizes[0]) if batch_sizes is not None else input.shape[0 if self.batch_first else 1]
        states = hidden if self.mode == "LSTM" else (hidden,)
        for k, state in enumerate(states):
            want = self._state_shape(n, k)
            if tuple(state.shape) != want:
                what = "hidden size" if self.mode != "LSTM" else f"hidden[{k}] size"
                raise RuntimeError(f"Expected {what} {want}, got {list(state.shape)}")

    def _state_shape(self, n: int, k: int) -> tuple[int, int, int]:
        width = self.proj_size if k == 0 and self.proj_size else self.hidden_size
        return self.num_layers * (2 if self.bidirectional else 1), n, width

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states with their sequences in another order."""
        if permutation is None:
            return hx
        if isinstance(hx, tuple):
            return tuple(h.index_select(1, permutation) for h in hx)
        return hx.index_select(1, permutation)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        packed, pair = isinstance(input, PackedSequence), self.mode == "LSTM"
        batch_sizes = order = back = None
        batched = True
        if packed:
            data, batch_sizes, order, back = input
            n = int(batch_sizes[0])
        else:
            data = input
            if data.dim() not in (2, 3):
                raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {data.dim()}D instead")
            batched = data.dim() == 3
            if hx is not None:
                hx = self._batched_states(hx, batched)
            if not batched:
                data = data.unsqueeze(0 if self.batch_first else 1)
            n = data.shape[0 if self.batch_first else 1]
        if hx is None:
            zeros = [torch.zeros(self._state_shape(n, k), dtype=data.dtype, device=data.device) for k in range(2 if pair else 1)]
            hx = tuple(zeros) if pair else zeros[0]
        else:
            hx = self.permute_hidden(hx, order)
        self.check_forward_args(data, hx, batch_sizes)
        run = getattr(torch, self.mode.lower())
        rest = (self._flat_weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        output, *states = run(data, batch_sizes, hx, *rest) if packed else run(data, hx, *rest, self.batch_first)
        if packed:
            output = PackedSequence(output, batch_sizes, order, back)
        elif not batched:
            output = output.squeeze(0 if self.batch_first else 1)
            states = [s.squeeze(1) for s in states]
        return output, self.permute_hidden(tuple(states) if pair else states[0], back)

    def _batched_states(self, hx: Any, batched: bool) -> Any:
        states = hx if self.mode == "LSTM" else (hx,)
        rank = 3 if batched else 2
        if any(s.dim() != rank for s in states):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            found = ", ".join(f"{s.dim()}-D" for s in states)
            names = "hx and cx should" if self.mode == "LSTM" else "hx should"
            raise RuntimeError(f"For {kind} input, {names} also be {rank}-D but got {found} tensor{'s' * (len(states) > 1)}")
        if not batched:
            states = tuple(s.unsqueeze(1) for s in states)
        return tuple(states) if self.mode == "LSTM" else states[0]


class RNN(RNNBase):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`` over a sequence (``nonlinearity="relu"``: relu in place of tanh).

    Args:
        input_size, hidden_size: widths of input and state.
        num_layers: layers on top of each other.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias, batch_first, dropout, bidirectional: as for :class:`LSTM`.

    Called with ``(input, hx=None)``; gives ``(output, final states)`` in the shapes of :class:`LSTM`.

    Example:
        >>> import fusetorch as torch
        >>> output, h = torch.nn.RNN(10, 20, num_layers=2)(torch.randn(5, 3, 10))
        >>> output.shape, h.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None, **kwargs: Any) -> None:
        _no_projection(kwargs)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         device=device, dtype=dtype)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) over a sequence.

    Args:
        input_size, hidden_size: widths of input and state.
        num_layers: layers on top of each other.
        bias: with ``bias_ih`` and ``bias_hh``.
        batch_first: input and output are (N, T, width) rather than (T, N, width); states are not affected.
        dropout: between layers, in training.
        bidirectional: a second walk from the end; outputs side by side.
        proj_size: if above 0, states are projected to this width (Sak et al. 2014).

    Called with ``(input, (h0, c0)=None)``: input (T, N, input_size), (T, input_size), or a packed sequence. Gives
    ``(output, (h, c))``: (T, N, directions * width), (layers * directions, N, width) and (layers * directions, N, hidden_size).
    Raises ``ValueError`` or ``RuntimeError`` for inputs that do not fit.

    Example:
        >>> import fusetorch as torch
        >>> output, (h, c) = torch.nn.LSTM(10, 20, bidirectional=True)(torch.randn(5, 3, 10))
        >>> output.shape, h.shape
        (torch.Size([5, 3, 40]), torch.Size([2, 3, 20]))
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None) -> None:
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)


class GRU(RNNBase):
    """Gated recurrent units (Cho et al. 2014) over a sequence; arguments and shapes as for :class:`LSTM`, with one state.

    Example:
        >>> import fusetorch as torch
        >>> output, h = torch.nn.GRU(10, 20, batch_first=True)(torch.randn(3, 5, 10))
        >>> output.shape, h.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None, **kwargs: Any) -> None:
        _no_projection(kwargs)
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype)


def _no_projection(rest: dict[str, Any]) -> None:
    if "proj_size" in rest:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
    if rest:
        raise TypeError(f"got an unexpected keyword argument '{next(iter(rest))}'")


# ---- cells


class RNNCellBase(Module):
    """What the cells share. Parameters: ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``, uniform in ±1/sqrt(hidden)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        for name, shape in (("weight_ih", (rows, input_size)), ("weight_hh", (rows, hidden_size)), ("bias_ih", rows), ("bias_hh", rows)):
            if name.startswith("weight") or bias:
                setattr(self, name, Parameter(torch.empty(shape, device=device, dtype=dtype)))
            else:
                self.register_parameter(name, None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the starting values anew."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")
        kind = getattr(self, "nonlinearity", "tanh")
        return text if kind == "tanh" else text + f", nonlinearity={kind}"

    def _call(self, name: str, input: Tensor, hx: Any, states: int) -> Any:
        cell = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{cell}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        given = [] if hx is None else list(hx) if states == 2 else [hx]
        for k, h in enumerate(given):
            if h.dim() not in (1, 2):
                what = f"hx[{k}]" if states == 2 else "hidden"
                raise ValueError(f"{cell}: Expected {what} to be 1D or 2D, got {h.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if hx is None:
            zeros = torch.zeros(x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
            given = [zeros] * states
        elif not batched:
            given = [h.unsqueeze(0) for h in given]
        out = getattr(torch, name)(x, tuple(given) if states == 2 else given[0], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if batched:
            return out
        return tuple(h.squeeze(0) for h in out) if states == 2 else out.squeeze(0)


class RNNCell(RNNCellBase):
    """One step of :class:`RNN`: ``(input (N, in), hx (N, hidden)=None)`` gives the next state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._call(f"rnn_{self.nonlinearity}_cell", input, hx, 1)


class LSTMCell(RNNCellBase):
    """One step of :class:`LSTM`: ``(input (N, in), (h, c)=None)`` gives the next ``(h, c)``."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return self._call("lstm_cell", input, hx, 2)


class GRUCell(RNNCellBase):
    """One step of :class:`GRU`: ``(input (N, in), hx (N, hidden)=None)`` gives the next state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._call("gru_cell", input, hx, 1)
