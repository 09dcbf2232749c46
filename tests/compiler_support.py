"""Shared by the compiler's tests: run something eagerly and compiled, and compare all that can be seen of it."""
from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fusetorch as torch

#: Largest difference allowed between eager and compiled, as a share of the largest value.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def same(a: Any, b: Any, where: str = "result", tol: float | None = None) -> None:
    """Asserts that two trees of tensors and Python values are equal: structure, types, shapes, dtypes, values within rounding."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor), f"{where}: a tensor and a {type(b).__name__}"
        assert type(a) is type(b), f"{where}: {type(a)} and {type(b)}"
        assert tuple(a.shape) == tuple(b.shape), f"{where}: shapes {a.shape} and {b.shape}"
        assert a.dtype is b.dtype, f"{where}: dtypes {a.dtype} and {b.dtype}"
        assert a.device == b.device, f"{where}: devices {a.device} and {b.device}"
        assert a.requires_grad == b.requires_grad, f"{where}: requires_grad {a.requires_grad} and {b.requires_grad}"
        assert a.is_leaf == b.is_leaf, f"{where}: is_leaf {a.is_leaf} and {b.is_leaf}"
        x, y = values(a), values(b)
        if a.dtype.is_floating_point:
            x, y = x.astype(np.float64), y.astype(np.float64)
            finite = x[np.isfinite(x)]
            scale = max(float(np.abs(finite).max(initial=0.0)), 1.0)  # the data are of order 1
            limit = (TOLERANCE[a.dtype] if tol is None else tol) * scale
            np.testing.assert_allclose(y, x, rtol=0, atol=limit, err_msg=where)
        else:
            np.testing.assert_array_equal(y, x, err_msg=where)
        if (a.grad is None) != (b.grad is None):
            raise AssertionError(f"{where}.grad: {a.grad} and {b.grad}")
        if a.grad is not None:
            same(a.grad, b.grad, where + ".grad", tol)
        return
    assert type(a) is type(b), f"{where}: {a!r} and {b!r}"
    if isinstance(a, dict):
        assert list(a) == list(b), f"{where}: keys {list(a)} and {list(b)}"
        for k in a:
            same(a[k], b[k], f"{where}[{k!r}]", tol)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), f"{where}: {len(a)} and {len(b)} items"
        for i, (p, q) in enumerate(zip(a, b)):
            same(p, q, f"{where}[{i}]", tol)
    elif isinstance(a, float):
        assert a == b or abs(a - b) <= 1e-6 * abs(a) or (a != a and b != b), f"{where}: {a} and {b}"
    else:
        assert a == b, f"{where}: {a!r} and {b!r}"


def training_step(model: torch.nn.Module, opt: torch.optim.Optimizer, loss: Callable[..., torch.Tensor],
                  set_to_none: bool = True) -> Callable[..., torch.Tensor]:
    """A step of training as programs write it: ``step(x, y)`` gives the loss."""
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        opt.zero_grad(set_to_none=set_to_none)
        value = loss(model(x), y)
        value.backward()
        opt.step()
        return value
    return step


def values(t: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor."""
    return t.detach().cpu().numpy()


def both(make: Callable[[], tuple], calls: int = 3, tol: float | None = None, plans: int | None = None, eager: bool = False,
         **options: Any) -> Any:
    """Runs ``make() -> (function, args)`` twice from the same seed, eagerly and compiled, several calls each, and compares results and
    arguments after every call. Anything else that ``make`` returns is compared too, after each call.

    ``plans``: how many specialisations there must be in the end. Returns the compiled function.
    """
    torch.manual_seed(0)
    f, args, *rest = make()
    torch.manual_seed(0)
    g, copies, *others = make()
    compiled = torch.compile(g, **options)
    with contextlib.ExitStack() as stack:
        if not eager:
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("error", message="fusetorch")
        for i in range(calls):
            torch.manual_seed(i)
            a = f(*args)
            after = torch.rand(1)
            torch.manual_seed(i)
            b = compiled(*copies)
            same(a, b, f"call {i}", tol)
            same(after, torch.rand(1), f"generator after call {i}")
            same(args, copies, f"arguments after call {i}", tol)
            same(rest, others, f"state after call {i}", tol)
    info = compiled.cache_info()
    if not eager:
        assert info["eager"] is None, info
    if plans is not None:
        assert info["plans"] == plans, info
    return compiled


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lets a function say that it runs eagerly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rnd(*shape: int, dtype: Any = None, seed: int = 0, requires_grad: bool = False, device: Any = "cpu") -> torch.Tensor:
    """Normal numbers that depend on nothing but the arguments."""
    a = np.random.default_rng([seed, *shape]).standard_normal(shape)
    t = torch.tensor(a, dtype=dtype or torch.float32, device=device)
    return t.requires_grad_(True) if requires_grad else t


