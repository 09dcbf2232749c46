"""``torch.utils.flop_counter``: how many floating-point operations the products and convolutions of a program make, module by module."""
from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from fusetorch.nn.module import Module, register_module_forward_hook, register_module_forward_pre_hook
from fusetorch.overrides import TorchFunctionMode
from fusetorch.tensor import Tensor

__all__ = ["FlopCounterMode", "flop_registry"]


def _product(a: Any, b: Any, out: Tensor) -> int:
    """Of ``a @ b``: two for each element of the result and each term of its sum."""
    return 2 * out.numel() * a.shape[-1]


def _linear(input: Tensor, weight: Tensor, bias: Any = None, *, out: Tensor) -> int:
    return 2 * out.numel() * input.shape[-1]


def _convolution(input: Tensor, weight: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    return 2 * out.numel() * math.prod(weight.shape[1:])


def _transposed(input: Tensor, weight: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    return 2 * input.numel() * math.prod(weight.shape[1:])


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * pairs * query.shape[-1] + 2 * pairs * value.shape[-1]


def _multi_head(query: Tensor, key: Tensor, value: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """Of the projections (of as many features as the query's) and the attention between them."""
    width, n, m = query.shape[-1], query.numel() // query.shape[-1], key.numel() // key.shape[-1]
    others = key.shape[0] if key.dim() == 3 else m  # keys that each query sees; the first dimension is time
    return 2 * width * (2 * n * width + m * (key.shape[-1] + value.shape[-1])) + 4 * n * others * width


def _einsum(equation: Any, *operands: Any, out: Tensor) -> int:
    operands = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    if not isinstance(equation, str) or len(operands) < 2:
        return 0
    sizes: dict[str, int] = {}
    for term, t in zip(equation.replace(" ", "").split("->")[0].split(","), operands):
        if "." in term:  # dimensions without a letter are in the result
            term = term.replace("...", "")
        sizes.update(zip(term, t.shape[-len(term):] if term else ()))
    summed = [n for letter, n in sizes.items() if letter not in equation.replace(" ", "").partition("->")[2]]
    return 2 * out.numel() * math.prod(summed)


#: Function: PyTorch's name for it on the table, and its count, from its arguments and ``out``.
flop_registry: dict[str, tuple[str, Callable[..., int]]] = {
    "mm": ("aten.mm", lambda a, b, *, out: _product(a, b, out)), "bmm": ("aten.bmm", lambda a, b, *, out: _product(a, b, out)),
    "matmul": ("aten.mm", lambda a, b, *, out: _product(a, b, out)),
    "multi_head_attention_forward": ("aten._scaled_dot_product_attention", _multi_head),
    "addmm": ("aten.addmm", lambda c, a, b, *, out, **_: _product(a, b, out)),
    "baddbmm": ("aten.baddbmm", lambda c, a, b, *, out, **_: _product(a, b, out)),
    "linear": ("aten.addmm", _linear), "einsum": ("aten.bmm", _einsum),
    "scaled_dot_product_attention": ("aten._scaled_dot_product_attention", _attention),
    **{f"conv{n}d": ("aten.convolution", _convolution) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": ("aten.convolution", _transposed) for n in (1, 2, 3)},
}


class FlopCounterMode(TorchFunctionMode):
    """A block whose products and convolutions are counted, forward and backward (each gradient of a factor costs as much as the product),
    by module and kind. Elementwise operations are not.

    Args:
        mods: not needed: modules are found as they run.
        depth: how deep the table goes.
        display: prints the table at the end.
        custom_mapping: more functions: name or function to ``f(*arguments, out=result)``, which gives the count.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.utils.flop_counter import FlopCounterMode
        >>> with FlopCounterMode(display=False) as counter:
        ...     y = torch.nn.Linear(3, 4)(torch.ones(2, 3))
        >>> counter.get_total_flops()
        48
    """

    def __init__(self, mods: Any = None, depth: int = 2, display: bool = True, custom_mapping: dict[Any, Callable] | None = None) -> None:
        super().__init__()
        self.depth, self.display = depth, display
        self._counts = dict(flop_registry)
        for key, f in (custom_mapping or {}).items():
            name = key if isinstance(key, str) else key.__name__
            self._counts[name] = name, f
        self.flop_counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._running: list[str] = []
        self._names: dict[int, str] = {}
        self._hooks: list[Any] = []
        self._active = False

    def __enter__(self) -> FlopCounterMode:
        self.flop_counts.clear()
        self._hooks = [register_module_forward_pre_hook(self._begin), register_module_forward_hook(self._end, always_call=True)]
        self._running, self._active = [], True
        super().__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._active = False
        for hook in self._hooks:
            hook.remove()
        if self.display:
            print(self.get_table(self.depth))

    def _begin(self, module: Module, args: Any) -> None:
        if not self._running:
            self._names = {id(m): ".".join(filter(None, (type(module).__name__, name))) for name, m in module.named_modules()}
        self._running.append(self._names.get(id(module), type(module).__name__))

    def _end(self, module: Module, args: Any, output: Any) -> None:
        if self._running:
            self._running.pop()

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        result = made[0] if isinstance(made, tuple) and made else made
        name, count = self._counts.get(getattr(func, "__name__", ""), ("", None))
        if count is not None and isinstance(result, Tensor):
            n = count(*args, **{k: v for k, v in kwargs.items() if k != "out"}, out=result)
            places = ["Global", *dict.fromkeys(self._running)]
            self._add(places, name, n)
            if result.requires_grad and result.grad_fn is not None:
                factors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.requires_grad and a.dim() > 1]
                result.register_hook(lambda g: self._add(places, _backward(name), n * len(factors)))
        return made

    def _add(self, places: Sequence[str], name: str, n: int) -> None:
        if self._active:
            for place in places:
                self.flop_counts[place][name] += n

    def get_total_flops(self) -> int:
        """All operations counted."""
        return sum(self.flop_counts["Global"].values())

    def get_flop_counts(self) -> dict[str, dict[str, int]]:
        """Module (``"Global"``: all) to kind to count."""
        return {place: dict(kinds) for place, kinds in self.flop_counts.items()}

    def get_table(self, depth: int | None = None) -> str:
        """The counts as text, modules as deep as ``depth``."""
        depth = self.depth if depth is None else depth
        total = max(self.get_total_flops(), 1)
        rows = [("Module", "FLOP", "% Total")]
        for place, kinds in sorted(self.get_flop_counts().items(), key=lambda item: (item[0] != "Global", item[0])):
            level = 0 if place == "Global" else place.count(".") + 1
            if level > depth:
                continue
            n = sum(kinds.values())
            rows.append((" " * level + place, _short(n), f"{100 * n / total:.2f}%"))
            rows += [(" " * level + " - " + kind, _short(m), f"{100 * m / total:.2f}%") for kind, m in kinds.items()]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def _backward(name: str) -> str:
    """What PyTorch calls the operation that makes the gradients."""
    return {"aten.convolution": "aten.convolution_backward", "aten._scaled_dot_product_attention":
            "aten._scaled_dot_product_attention_backward", "aten.addmm": "aten.mm"}.get(name, name)


def _short(n: int) -> str:
    """A count with three digits behind the point: ``1.500M``."""
    for power, letter in ((12, "T"), (9, "B"), (6, "M"), (3, "K")):
        if n >= 10**power:
            return f"{n / 10**power:.3f}{letter}"
    return str(n)


