"""The connectionist temporal classification loss.

Source: Graves, Fernandez, Gomez and Schmidhuber 2006. States are the labels with blanks around and between them: blank, label 1,
blank, ..., label S, blank.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import int64
from ..tensor import tracing
from .losses import loss_reduction
from .opdef import composite, fn, opaque


def _states(labels: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """The states' labels (N, 2S + 1), and where a state may be entered from the one two before."""
    n, s = labels.shape
    states = np.full((n, 2 * s + 1), blank, np.int64)
    states[:, 1::2] = labels
    skip = np.zeros(states.shape, bool)
    skip[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    return states, skip


def _step(before: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """The log-probability of being in each state from staying, from the state before, and from the one two before."""
    r = before.copy()
    r[:, 1:] = np.logaddexp(r[:, 1:], before[:, :-1])
    r[:, 2:] = np.logaddexp(r[:, 2:], np.where(skip[:, 2:], before[:, :-2], -np.inf))
    return r


def _emitted(log_probs: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The log-probability of each state's label at each time: (T, N, 2S + 1)."""
    return np.take_along_axis(log_probs, np.clip(states, 0, log_probs.shape[2] - 1)[None], 2)


@opaque(name="ctc_rows", function=False, method=False)
def ctc_rows(log_probs, targets, input_lengths, target_lengths, blank: int, zero_infinity: bool):
    """Each sample's loss (N,), and the log-probability of each state after each time (T, N, 2S + 1).

    ``log_probs`` (T, N, C); ``targets`` (N, S), of which the first ``target_lengths[n]`` count. With ``zero_infinity`` infinite losses
    have no gradient.
    """
    t, n, _ = log_probs.shape
    return [((n,), log_probs.dtype), ((t, n, 2 * targets.shape[1] + 1), log_probs.dtype)]


@ctc_rows.cpu
def _(log_probs: np.ndarray, targets: np.ndarray, inputs: np.ndarray, labels: np.ndarray, blank: int,
      zero_infinity: bool) -> Any:
    times, n, _ = log_probs.shape
    states, skip = _states(targets, blank)
    emitted = _emitted(log_probs, states)
    alpha = np.full((times, n, states.shape[1]), -np.inf, log_probs.dtype)
    rows = np.arange(n)
    with np.errstate(all="ignore"):
        for t in range(times):
            if t == 0:
                alpha[0, :, :2] = emitted[0, :, :2]
            else:
                alpha[t] = _step(alpha[t - 1], skip) + emitted[t]
        last = np.maximum(inputs - 1, 0)
        end = alpha[last, rows, 2 * labels] if times else np.full(n, -np.inf)
        before = np.where(labels > 0, alpha[last, rows, np.maximum(2 * labels - 1, 0)] if times else -np.inf, -np.inf)
        loss = -np.logaddexp(end, before)
    loss = np.where(inputs == 0, np.where(labels == 0, 0.0, np.inf), loss)
    return loss.astype(log_probs.dtype), alpha


@opaque(name="ctc_grad", function=False, method=False)
def ctc_grad(grad, log_probs, targets, input_lengths, target_lengths, loss, alpha, blank: int, zero_infinity: bool):
    """PyTorch's gradient of ``log_probs``: that of the logits behind them, which is right where they come from log_softmax."""
    return [(log_probs.shape, log_probs.dtype)]


@ctc_grad.cpu
def _(grad: np.ndarray, log_probs: np.ndarray, targets: np.ndarray, inputs: np.ndarray, labels: np.ndarray, loss: np.ndarray,
      alpha: np.ndarray, blank: int, zero_infinity: bool) -> np.ndarray:
    times, n, classes = log_probs.shape
    states, skip = _states(targets, blank)
    emitted = _emitted(log_probs, states)
    rows = np.arange(n)
    count = states.shape[1]
    # backward in time is forward over the reversed states
    skip_back = np.zeros_like(skip)
    skip_back[:, :-2] = skip[:, 2:]
    ends = np.zeros(states.shape, bool)
    ends[rows, 2 * labels] = True
    ends[rows, np.maximum(2 * labels - 1, 0)] = True
    within = np.arange(count) <= 2 * labels[:, None]
    chance = np.zeros((times, n, classes), log_probs.dtype)
    beta = np.full((n, count), -np.inf, log_probs.dtype)
    with np.errstate(all="ignore"):
        for t in range(times - 1, -1, -1):
            on = np.where(within, _step(beta[:, ::-1], skip_back[:, ::-1])[:, ::-1], -np.inf) + emitted[t]
            beta = np.where((inputs == t + 1)[:, None], np.where(ends, emitted[t], -np.inf), on)
            share = np.exp(alpha[t] + beta + loss[:, None] - emitted[t])
            for s in range(count):
                chance[t, rows, states[:, s]] += share[:, s]
        g = (np.exp(log_probs) - chance) * grad[:, None]
    g[np.arange(times)[:, None] >= inputs] = 0.0
    if zero_infinity:
        g[:, np.isinf(loss)] = 0.0
    return g


@ctc_rows.cuda
def _(log_probs: Any, targets: Any, inputs: Any, labels: Any, blank: int, zero_infinity: bool) -> Any:
    from ..triton_kernels import ctc
    return ctc.ctc(log_probs, targets, inputs, labels, blank)


@ctc_grad.cuda
def _(*args: Any) -> Any:
    from ..triton_kernels import ctc
    return ctc.ctc_backward(*args)


@ctc_rows.vjp("log_probs", "targets", "input_lengths", "target_lengths", "out0", "out1")
def _(ctx: Any, g: Any, g_alpha: Any) -> Any:
    if g_alpha is not None:
        raise NotImplementedError("ctc_loss: the states' probabilities have no gradient")
    saved = [ctx[k] for k in ("log_probs", "targets", "input_lengths", "target_lengths", "out0", "out1")]
    return [fn.ctc_grad(g, *saved, ctx.attrs["blank"], ctx.attrs["zero_infinity"]) if ctx.needed[0] else None, None, None, None]


def _lengths(name: str, value: Any, n: int, like: Any) -> Any:
    if not hasattr(value, "numel"):
        value = fn.tensor(list(value), dtype=int64)
    if value.dtype.is_floating_point:
        raise RuntimeError(f"{name} must be integral")
    if value.numel() != n:
        raise RuntimeError(f"{name} must be of size batch_size")
    return value.reshape(n).to(device=like.device, dtype=int64)


def _padded(targets: Any, lengths: Any, n: int) -> Any:
    """Targets that stand one after the other, as (N, S)."""
    if not tracing() and int(lengths.sum()) != targets.numel():
        raise RuntimeError(f"Expected tensor to have size {int(lengths.sum())} at dimension 0, but got size {targets.numel()} for argument "
                           "#2 'targets' (while checking arguments for ctc_loss_allocate_outputs)")
    longest = 0 if not n else targets.numel() if tracing() else int(lengths.max())   # what is not known is bounded
    if not longest:
        return targets.new_zeros((n, 0))
    starts = lengths.cumsum(0) - lengths
    at = starts.unsqueeze(1) + fn.arange(longest, device=targets.device)
    return targets[at.clamp(max=targets.numel() - 1)]


@composite(nn=True, function=False, method=False, autocast="float32")
def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """Minus the log-probability of the target sequences, over all alignments in which blanks and repetitions may be put between labels.

    Args:
        log_probs: (T, N, C) or (T, C), as ``log_softmax`` gives them; float32 or float64.
        targets: labels (N, S), or all samples' one after the other; none is ``blank``.
        input_lengths, target_lengths: (N,), how much of each sample counts.
        reduction: ``"mean"`` divides by the target lengths first.
        zero_infinity: 0, with no gradient, where no alignment is possible.
    """
    reduction = loss_reduction(reduction, None, None)
    if log_probs.dtype.name not in ("float32", "float64"):
        raise NotImplementedError(f'"ctc_loss" not implemented for {log_probs.dtype}')
    single = log_probs.ndim == 2
    x = log_probs.unsqueeze(1) if single else log_probs
    if x.ndim != 3:
        raise RuntimeError(f"ctc_loss: expected log_probs of shape (T, N, C) or (T, C), got {list(log_probs.shape)}")
    times, n, classes = x._a.shape
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    il, tl = _lengths("input_lengths", input_lengths, n, x), _lengths("target_lengths", target_lengths, n, x)
    labels = targets.to(device=x.device, dtype=int64)
    if labels.ndim == 2:
        if labels._a.shape[0] != n:
            raise RuntimeError(f"Expected tensor to have size {n} at dimension 0, but got size {labels._a.shape[0]} for argument #2 "
                               "'targets'")
        if not tracing() and n and int(tl.max()) > labels._a.shape[1]:
            raise RuntimeError(f"Expected tensor to have size at least {int(tl.max())} at dimension 1, but got size {labels._a.shape[1]} "
                               "for argument #2 'targets' (while checking arguments for ctc_loss_allocate_outputs)")
    else:
        labels = _padded(labels, tl, n)
    if not tracing() and n and not 0 <= int(il.min()) <= int(il.max()) <= times:
        raise RuntimeError(f"Expected input_lengths to have value at most {times}, but got value {int(il.max())} (while checking arguments "
                           "for ctc_loss_allocate_outputs)")
    loss = fn.ctc_rows(x, labels, il, tl, blank, zero_infinity)[0]
    if zero_infinity:
        loss = fn.where(loss == float("inf"), fn.zeros_like(loss), loss)
    if reduction == "mean":
        return (loss / tl.clamp(min=1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss.squeeze(0) if single else loss
