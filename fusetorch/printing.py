"""PyTorch's tensor printing."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .tensor import Tensor

_OPTIONS = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def set_printoptions(precision: int | None = None, threshold: int | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Sets how tensors print (see ``torch.set_printoptions``)."""
    if profile is not None:
        _OPTIONS.update({"default": dict(precision=4, threshold=1000, edgeitems=3, linewidth=80),
                         "short": dict(precision=2, threshold=1000, edgeitems=2, linewidth=80),
                         "full": dict(precision=4, threshold=math.inf, edgeitems=3, linewidth=80)}[profile])
    for k, v in dict(precision=precision, threshold=threshold, edgeitems=edgeitems, linewidth=linewidth).items():
        if v is not None:
            _OPTIONS[k] = v
    _OPTIONS["sci_mode"] = sci_mode


def get_printoptions() -> dict[str, Any]:
    """How tensors print now."""
    return dict(_OPTIONS)


class _Formatter:
    """Chooses one width and notation for all elements shown."""

    def __init__(self, values: np.ndarray) -> None:
        self.kind = values.dtype.kind
        self.width = 1
        if self.kind in "biu":
            self.width = max([len(str(v)) for v in values.ravel().tolist()], default=1)
            return
        finite = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        size = np.abs(finite)
        p = _OPTIONS["precision"]
        self.int_mode = bool(np.all(finite == np.ceil(finite)))
        self.sci = False
        if size.size:
            hi, lo = float(size.max()), float(size.min())
            self.sci = hi / lo > 1000.0 or hi > 1e8 or (not self.int_mode and lo < 1e-4)
        if _OPTIONS["sci_mode"] is not None:
            self.sci = _OPTIONS["sci_mode"]
        self.spec = f".{p}e" if self.sci else ".0f" if self.int_mode else f".{p}f"
        # zeros, infinities and NaN do not count for the width
        self.width = max([len(self.text(v)) for v in finite.tolist()], default=1)

    def text(self, v: Any) -> str:
        if self.kind == "b":
            return str(bool(v))
        if self.kind in "iu":
            return str(v)
        if math.isnan(v) or math.isinf(v):
            return str(v)
        s = format(v, self.spec)
        return s + "." if self.int_mode and not self.sci else s

    def __call__(self, v: Any) -> str:
        return self.text(v).rjust(self.width)


class _ComplexFormatter:
    """The two parts, each with a width and notation of its own."""

    def __init__(self, values: np.ndarray) -> None:
        self.real, self.imag = _Formatter(values.real), _Formatter(values.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, v: complex) -> str:
        imag = self.imag(v.imag).lstrip()
        return self.real(v.real) + ("" if imag[0] in "+-" else "+") + imag + "j"

    text = __call__


def _formatter(values: np.ndarray) -> _Formatter | _ComplexFormatter:
    return _ComplexFormatter(values) if values.dtype.kind == "c" else _Formatter(values)


def _rows(a: np.ndarray, indent: int, summarize: bool, f: _Formatter | _ComplexFormatter) -> str:
    e = _OPTIONS["edgeitems"]
    if a.ndim == 0:
        return f.text(a.item())
    if a.ndim == 1:
        items = a.tolist()
        if summarize and len(items) > 2 * e:
            data = [f(v) for v in items[:e]] + [" ..."] + [f(v) for v in items[-e:]]
        else:
            data = [f(v) for v in items]
        per = max(1, int((_OPTIONS["linewidth"] - indent) / (f.width + 2)))
        lines = [", ".join(data[i:i + per]) for i in range(0, len(data), per)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    n = a.shape[0]
    if summarize and n > 2 * e:
        parts = [_rows(a[i], indent + 1, summarize, f) for i in range(e)] + ["..."]
        parts += [_rows(a[i], indent + 1, summarize, f) for i in range(n - e, n)]
    else:
        parts = [_rows(a[i], indent + 1, summarize, f) for i in range(n)]
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _shown(a: np.ndarray, summarize: bool) -> np.ndarray:
    e = _OPTIONS["edgeitems"]
    if not summarize:
        return a
    for d in range(a.ndim):
        if a.shape[d] > 2 * e:
            a = np.concatenate([a.take(range(e), d), a.take(range(a.shape[d] - e, a.shape[d]), d)], d)
    return a


def elements(t: Tensor, indent: int) -> str:
    """The elements in brackets; lines after the first are indented by ``indent``."""
    from .ops.conversion import host_array
    a = host_array(t.detach())
    if t.dtype.np.kind == "V" or t.dtype.name in ("bfloat16", "float16"):
        a = a.astype(np.float32)
    summarize = a.size > _OPTIONS["threshold"]
    return _rows(a, indent, summarize, _formatter(_shown(a, summarize)))


def with_suffixes(text: str, suffixes: list[str], indent: int, force_newline: bool = False) -> str:
    """``text`` and what is said after the elements, on new lines where it would get too long, and the closing bracket."""
    for s in suffixes:
        line = text[text.rfind("\n") + 1:]
        long = len(line) + len(s) + 3 > _OPTIONS["linewidth"]
        text += (",\n" + " " * indent if long or force_newline else ", ") + s
        force_newline = False
    return text + ")"


def tensor_repr(t: Tensor) -> str:
    """What ``print(t)`` shows."""
    from .dtypes import bool_, complex64, complex128, float64, get_default_dtype, int64
    name = "tensor" if type(t).__module__.partition(".")[0] in ("fusetorch", "torch") else type(t).__name__
    prefix = name + "("
    suffix = []
    default_complex = complex128 if get_default_dtype() is float64 else complex64
    if t.device.type != "cpu":
        suffix.append(f"device='{t.device}'")
    if t.is_meta:
        suffix.append(f"size={tuple(t.shape)}")
        body = "..."
        if t.dtype is not get_default_dtype():
            suffix.append(f"dtype={t.dtype}")
    elif t.numel() == 0:
        if t.ndim != 1:
            suffix.append(f"size={tuple(t.shape)}")
        body = "[]"
        if t.dtype is not get_default_dtype():
            suffix.append(f"dtype={t.dtype}")
    else:
        if t.dtype not in (get_default_dtype(), default_complex, int64, bool_):
            suffix.append(f"dtype={t.dtype}")
        body = elements(t, len(prefix))
    if t.grad_fn is not None:
        suffix.append(f"grad_fn=<{t.grad_fn.name()}>")
    elif t.requires_grad:
        suffix.append("requires_grad=True")
    text = with_suffixes(prefix + body, suffix, len(prefix))
    if type(t) is not Tensor and type(t).__name__ == "Parameter":
        return "Parameter containing:\n" + text
    return text
