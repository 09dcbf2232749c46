"""Limited-memory BFGS."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero
from fusetorch.tensor import Tensor


class LBFGS(Optimizer):
    """A quasi-Newton method for whole batches; each step calls the closure up to ``max_eval`` times.

    Source: Nocedal and Wright, "Numerical optimization", 2006: algorithm 7.4, and 3.5 and 3.6 for the strong Wolfe conditions;
    the heuristics are those of Schmidt's minFunc, as in PyTorch.

    Args:
        params: tensors (one group only).
        max_iter: iterations in a step.
        max_eval: evaluations in a step; ``None`` is ``max_iter * 1.25``.
        tolerance_grad: stops when no element of the gradient is larger.
        tolerance_change: stops when neither parameters nor loss change more.
        history_size: how many updates the Hessian is estimated from.
        line_search_fn: ``None`` or ``"strong_wolfe"``.

    Example:
        >>> import fusetorch as torch
        >>> w = torch.nn.Parameter(torch.tensor([3.0]))
        >>> opt = torch.optim.LBFGS([w], line_search_fn="strong_wolfe")
        >>> def closure():
        ...     opt.zero_grad()
        ...     loss = ((w - 1) ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> _ = opt.step(closure); round(w.item(), 4)
        1.0
    """

    def __init__(self, params: Iterable[Any], lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        check_at_least_zero(lr=lr)
        super().__init__(params, dict(lr=lr, max_iter=max_iter, max_eval=max_iter * 5 // 4 if max_eval is None else max_eval,
                                      tolerance_grad=tolerance_grad, tolerance_change=tolerance_change, history_size=history_size,
                                      line_search_fn=line_search_fn))
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._params = self.param_groups[0]["params"]

    def _flat_grad(self) -> Tensor:
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self._params])

    def _move(self, step: float, direction: Tensor) -> None:
        at = 0
        for p in self._params:
            p.add_(direction[at:at + p.numel()].view_as(p), alpha=step)
            at += p.numel()

    def _evaluate(self, closure: Callable[[], Any], start: list[Tensor], step: float, direction: Tensor) -> tuple[float, Tensor]:
        """Loss and gradient ``step`` along ``direction`` from ``start``, where the parameters are left."""
        self._move(step, direction)
        loss = float(closure())
        grad = self._flat_grad()
        for p, value in zip(self._params, start):
            p.copy_(value)
        return loss, grad

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:
        """Up to ``max_iter`` iterations; returns the loss that they started from."""
        closure = torch.enable_grad()(closure)
        group = self.param_groups[0]
        lr, tolerance = float(group["lr"]), group["tolerance_change"]
        search = group["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        first_loss = closure()
        loss = float(first_loss)
        evaluations = 1
        state["func_evals"] += 1
        grad = self._flat_grad()
        if grad.abs().max() <= group["tolerance_grad"]:
            return first_loss

        d, t, h = state.get("d"), state.get("t"), state.get("H_diag")
        ys, steps, ro = state.get("old_dirs"), state.get("old_stps"), state.get("ro")
        before, loss_before = state.get("prev_flat_grad"), state.get("prev_loss")
        n = 0
        while n < group["max_iter"]:
            n += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d, ys, steps, ro, h = -grad, [], [], [], 1
            else:
                y, s = grad - before, d * t
                curvature = y.dot(s)
                if curvature > 1e-10:
                    if len(ys) == group["history_size"]:
                        for old in (ys, steps, ro):
                            old.pop(0)
                    ys.append(y)
                    steps.append(s)
                    ro.append(1.0 / curvature)
                    h = curvature / y.dot(y)
                d = _two_loops(grad, ys, steps, ro, h)
            before, loss_before = grad.clone(), loss

            t = min(1.0, 1.0 / float(grad.abs().sum())) * lr if state["n_iter"] == 1 else lr
            slope = grad.dot(d)
            if slope > -tolerance:
                break
            used = 0
            if search is not None:
                start = [p.clone() for p in self._params]
                loss, grad, t, used = strong_wolfe(lambda step, d=d, start=start: self._evaluate(closure, start, step, d),
                                                   t, d, loss, grad, slope, tolerance)
                self._move(t, d)
            else:
                self._move(t, d)
                if n != group["max_iter"]:
                    loss = float(closure())
                    grad = self._flat_grad()
                    used = 1
            evaluations += used
            state["func_evals"] += used
            if (n == group["max_iter"] or evaluations >= group["max_eval"] or grad.abs().max() <= group["tolerance_grad"]
                    or (d * t).abs().max() <= tolerance or abs(loss - loss_before) < tolerance):
                break

        state.update(d=d, t=t, old_dirs=ys, old_stps=steps, ro=ro, H_diag=h, prev_flat_grad=before, prev_loss=loss_before)
        return first_loss


def _two_loops(grad: Tensor, ys: list[Tensor], steps: list[Tensor], ro: list[Tensor], scale: Any) -> Tensor:
    """The direction of descent: minus the estimated inverse Hessian times ``grad``."""
    q = -grad
    shares = []
    for y, s, r in zip(reversed(ys), reversed(steps), reversed(ro)):
        shares.append(s.dot(q) * r)
        q = q - y * shares[-1]
    d = q * scale
    for y, s, r, share in zip(ys, steps, ro, reversed(shares)):
        d = d + s * (share - y.dot(d) * r)
    return d


def cubic_minimum(x1: Any, f1: float, g1: Any, x2: Any, f2: float, g2: Any, bounds: tuple[Any, Any] | None = None) -> Any:
    """Where the cubic through two points with these values and slopes is least, within ``bounds`` (the points by default)."""
    low, high = bounds if bounds is not None else ((x1, x2) if x1 <= x2 else (x2, x1))
    a = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = a ** 2 - g1 * g2
    if square < 0:
        return (low + high) / 2.0
    root = square ** 0.5
    at = x2 - (x2 - x1) * ((g2 + root - a) / (g2 - g1 + 2 * root)) if x1 <= x2 else x1 - (x1 - x2) * (
        (g1 + root - a) / (g1 - g2 + 2 * root))
    return min(max(at, low), high)


def strong_wolfe(evaluate: Callable[[Any], tuple[float, Tensor]], t: Any, d: Tensor, loss: float, grad: Tensor, slope: Tensor,
                 tolerance: float, c1: float = 1e-4, c2: float = 0.9, limit: int = 25) -> tuple[float, Tensor, Any, int]:
    """A step along ``d`` that satisfies the strong Wolfe conditions: its loss, gradient and size, and the evaluations used."""
    size = d.abs().max()
    start, steep = loss, slope
    f, g = evaluate(t)
    used = 1
    slope_now = g.dot(d)
    last = (0, loss, grad, slope)
    done = False
    bracket: list[tuple] = []
    n = 0
    # go out until a minimum is enclosed
    while n < limit:
        here = (t, f, g.clone(), slope_now)
        if f > start + c1 * t * steep or (n > 1 and f >= last[1]):
            bracket = [last, here]
            break
        if abs(slope_now) <= -c2 * steep:
            bracket, done = [here], True
            break
        if slope_now >= 0:
            bracket = [last, here]
            break
        nearest, farthest = t + 0.01 * (t - last[0]), t * 10
        t = cubic_minimum(last[0], last[1], last[3], t, f, slope_now, (nearest, farthest))
        last = here
        f, g = evaluate(t)
        used += 1
        slope_now = g.dot(d)
        n += 1
    if n == limit:
        bracket = [(0, loss, grad, slope), (t, f, g, slope_now)]

    # close in on it
    stalled = False
    low, high = (0, 1) if bracket[0][1] <= bracket[-1][1] else (1, 0)
    while not done and n < limit:
        (x1, f1, _, s1), (x2, f2, _, s2) = bracket
        if abs(x2 - x1) * size < tolerance:
            break
        t = cubic_minimum(x1, f1, s1, x2, f2, s2)
        left, right = min(x1, x2), max(x1, x2)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            # too near to an end: twice in a row, or outside, means a tenth of the way from it
            if stalled or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        f, g = evaluate(t)
        used += 1
        slope_now = g.dot(d)
        n += 1
        here = (t, f, g.clone(), slope_now)
        if f > start + c1 * t * steep or f >= bracket[low][1]:
            bracket[high] = here
            low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
        else:
            if abs(slope_now) <= -c2 * steep:
                done = True
            elif slope_now * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = here
    t, f, g, _ = bracket[low if len(bracket) > 1 else 0]
    return f, g, t, used
