"""The update rules of optimizers, each one kernel per parameter.

The outputs of each rule are the new values of its first operands, which it is called to change in place (``writes=True``): lists of
parameters, state and, last of the lists, ``grad``; then numbers that are shared, and flags. A number may be a 0-d tensor, as it is while a
step is traced.
:mod:`fusetorch.optim` says what the rules are for and where they come from.
"""
from __future__ import annotations

import inspect

from . import primitives as P
from .expr import Expr, cast, const
from .opdef import elementwise


def _rule(f):  # noqa: ANN001, ANN202
    names = inspect.getfullargspec(f).args
    numbers = tuple(n for n in names[names.index("grad") + 1:] if n not in f.__annotations__)  # those with a type are flags
    return elementwise(name="_" + f.__name__, writes=True, method=False, keep=numbers)(f)


def _like(x: Expr, *numbers: Expr | None) -> list[Expr | None]:
    """The numbers in the dtype that ``x`` is computed in."""
    return [None if n is None else cast(n, x.dtype) for n in numbers]


def _descent(param: Expr, grad: Expr, weight_decay: Expr | None, maximize: bool) -> Expr:
    """The gradient to descend, with the weight decay of L2 regularisation."""
    g = -grad if maximize else grad
    return g if weight_decay is None else g + param * cast(weight_decay, param.dtype)


def _shrunk(param: Expr, lr: Expr, weight_decay: Expr | None) -> Expr:
    """The parameter after decoupled weight decay."""
    return param if weight_decay is None else param * (1 - lr * cast(weight_decay, param.dtype))


def _toward(average: Expr, value: Expr, weight: Expr) -> Expr:
    """``average`` moved by ``weight`` of the way to ``value``."""
    return average + weight * (value - average)


@_rule
def sgd_step_(param, grad, lr, weight_decay, maximize: bool):
    """``p -= lr * g``."""
    lr, = _like(param, lr)
    return param - lr * _descent(param, grad, weight_decay, maximize)


@_rule
def momentum_step_(param, buffer, grad, lr, weight_decay, momentum, keep, nesterov: bool, maximize: bool):
    """SGD with momentum; ``keep`` of the gradient enters the buffer (1 - dampening)."""
    lr, momentum, keep = _like(param, lr, momentum, keep)
    g = _descent(param, grad, weight_decay, maximize)
    buffer = momentum * buffer + keep * g
    return param - lr * (g + momentum * buffer if nesterov else buffer), buffer


@_rule
def adam_step_(param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, lr, beta1, beta2, eps, weight_decay, size, root, decoupled: bool,
               maximize: bool):
    """Adam: (m / c1) / (sqrt(v / c2) + eps), numerator and denominator multiplied by ``root`` = sqrt(c2); ``size`` is lr root / c1."""
    lr, beta1, beta2, eps, size, root = _like(param, lr, beta1, beta2, eps, size, root)
    g = _descent(param, grad, None if decoupled else weight_decay, maximize)
    m = _toward(exp_avg, g, 1 - beta1)
    v = beta2 * exp_avg_sq + (1 - beta2) * g * g
    largest = v if max_exp_avg_sq is None else P.maximum(max_exp_avg_sq, v)
    new = _shrunk(param, lr, weight_decay if decoupled else None) - size * (m / (P.sqrt(largest) + eps * root))
    return (new, m, v) if max_exp_avg_sq is None else (new, m, v, largest)


@_rule
def nadam_step_(param, exp_avg, exp_avg_sq, grad, lr, beta1, beta2, eps, weight_decay, root, size, ahead, decoupled: bool,
                maximize: bool):
    """NAdam; ``size`` and ``ahead`` are what the gradient and its average are scaled by."""
    lr, beta1, beta2, eps, root, size, ahead = _like(param, lr, beta1, beta2, eps, root, size, ahead)
    g = _descent(param, grad, None if decoupled else weight_decay, maximize)
    m = _toward(exp_avg, g, 1 - beta1)
    v = beta2 * exp_avg_sq + (1 - beta2) * g * g
    denominator = P.sqrt(v) / root + eps
    return _shrunk(param, lr, weight_decay if decoupled else None) - size * (g / denominator) - ahead * (m / denominator), m, v


@_rule
def radam_step_(param, exp_avg, exp_avg_sq, grad, lr, beta1, beta2, eps, weight_decay, plain, adaptive, decoupled: bool, maximize: bool):
    """RAdam: steps of ``plain`` times the average, and of ``adaptive`` times it over the root of the squares."""
    lr, beta1, beta2, eps, plain, adaptive = _like(param, lr, beta1, beta2, eps, plain, adaptive)
    g = _descent(param, grad, None if decoupled else weight_decay, maximize)
    m = _toward(exp_avg, g, 1 - beta1)
    v = beta2 * exp_avg_sq + (1 - beta2) * g * g
    return _shrunk(param, lr, weight_decay if decoupled else None) - m * (plain + adaptive / (P.sqrt(v) + eps)), m, v


@_rule
def adamax_step_(param, exp_avg, exp_inf, grad, beta1, beta2, eps, weight_decay, size, maximize: bool):
    """Adamax: divided by a decaying maximum."""
    beta1, beta2, eps, size = _like(param, beta1, beta2, eps, size)
    g = _descent(param, grad, weight_decay, maximize)
    m = _toward(exp_avg, g, 1 - beta1)
    norm = P.maximum(exp_inf * beta2, P.abs(g) + eps)
    return param - size * (m / norm), m, norm


@_rule
def adagrad_step_(param, total, grad, lr, eps, weight_decay, maximize: bool):
    """Adagrad: divided by the root of the sum of all squares."""
    lr, eps = _like(param, lr, eps)
    g = _descent(param, grad, weight_decay, maximize)
    total = total + g * g
    return param - lr * (g / (P.sqrt(total) + eps)), total


@_rule
def adadelta_step_(param, square_avg, acc_delta, grad, lr, rho, eps, weight_decay, maximize: bool):
    """Adadelta: the ratio of the roots of two running averages is the rate."""
    lr, rho, eps = _like(param, lr, rho, eps)
    g = _descent(param, grad, weight_decay, maximize)
    square = rho * square_avg + (1 - rho) * g * g
    delta = P.sqrt(acc_delta + eps) / P.sqrt(square + eps) * g
    return param - lr * delta, square, rho * acc_delta + (1 - rho) * delta * delta


@_rule
def rmsprop_step_(param, square_avg, grad_avg, buffer, grad, lr, alpha, eps, weight_decay, momentum, maximize: bool):
    """RMSprop; without ``grad_avg`` not centred, without ``buffer`` without momentum."""
    lr, alpha, eps, momentum = _like(param, lr, alpha, eps, momentum)
    g = _descent(param, grad, weight_decay, maximize)
    square = alpha * square_avg + (1 - alpha) * g * g
    new = [square]
    spread = square
    if grad_avg is not None:
        mean = _toward(grad_avg, g, 1 - alpha)
        new.append(mean)
        spread = square - mean * mean
    step = g / (P.sqrt(spread) + eps)
    if buffer is not None:
        step = momentum * buffer + step
        new.append(step)
    return (param - lr * step, *new)


@_rule
def rprop_step_(param, prev, step_size, grad, up, down, low, high, maximize: bool):
    """Rprop: only signs of gradients count."""
    up, down, low, high = _like(param, up, down, low, high)
    g = -grad if maximize else grad
    agreement = g * prev
    factor = P.where(agreement > 0, up, P.where(agreement < 0, down, const(1, param.dtype)))
    size = P.minimum(P.maximum(step_size * factor, low), high)
    g = P.where(agreement < 0, const(0, param.dtype), g)
    return param - P.sign(g) * size, g, size


@_rule
def asgd_step_(param, ax, grad, weight_decay, size, shrink, weight, maximize: bool):
    """Averaged SGD: ``p`` shrinks by ``shrink`` and steps by ``size``; ``ax`` moves by ``weight`` of the way to it."""
    size, shrink, weight = _like(param, size, shrink, weight)
    g = _descent(param, grad, weight_decay, maximize)
    new = param * shrink - size * g
    return new, P.where(P.eq(weight, 1), new, ax + weight * (new - ax))
