"""Random programs: whatever operations are put together, compiled equals eager, with any amount of fusion, and so do gradients."""
from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fusetorch as torch
from fusetorch import config

F = torch.nn.functional
EXAMPLES = int(os.environ.get("FUSETORCH_TEST_EXAMPLES", "60"))
SIZES = (1, 2, 3, 4, 6)
HUNT = "FUSETORCH_TEST_EXAMPLES" in os.environ      # other programs each time, and no time spent on making them small
LIMIT = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not HUNT,
                 phases=[Phase.explicit, Phase.generate] if HUNT else list(Phase))

UNARY = ["neg", "exp_tanh", "tanh", "sigmoid", "sin", "square", "scale", "shift", "reverse", "relu", "abs", "clone", "gelu", "clamp"]
SMOOTH = ["neg", "exp_tanh", "tanh", "sigmoid", "sin", "square", "scale", "shift", "reverse", "clone", "gelu"]
BINARY = ["add", "sub", "mul", "div", "where", "maximum"]
REDUCE = ["sum", "mean", "amax", "var", "logsumexp"]
VIEW = ["permute", "unsqueeze", "squeeze", "expand", "slice", "reshape", "flip", "flatten", "chunk"]
OTHER = ["softmax", "layer_norm", "matmul", "cat", "stack", "cumsum", "iota", "standardise", "index"]
WRITE = ["add_", "mul_", "tanh_", "slice_add_", "copy_", "view_mul_", "row_set"]


def apply(op: str, t: list[Any], p: tuple) -> Any:
    """Runs one instruction on tensors ``t``."""
    x = t[0]
    if op == "neg":
        return -x
    if op == "exp_tanh":
        return x.tanh().exp()
    if op in ("tanh", "sigmoid", "sin", "relu", "abs", "clone"):
        return getattr(x, op)()
    if op == "square":
        return (x * x).tanh()
    if op == "scale":
        return x * p[0]
    if op == "shift":
        return x + p[0]
    if op == "reverse":
        return p[0] - x
    if op == "gelu":
        return F.gelu(x, approximate="tanh")
    if op == "clamp":
        return x.clamp(-p[0], p[0] + 0.5)
    if op == "add":
        return x + t[1]
    if op == "sub":
        return x - t[1]
    if op == "mul":
        return x * t[1]
    if op == "div":
        return x / (t[1] * t[1] + 1)
    if op == "maximum":
        return torch.maximum(x, t[1] + 0.125)
    if op == "where":
        return torch.where(torch.arange(x.shape[-1] if x.ndim else 1, device=x.device) % 2 == 0, x, t[1])
    if op in REDUCE:
        if op == "var":
            return x.var(p[0], correction=0, keepdim=p[1])
        return getattr(x, op)(p[0], keepdim=p[1])
    if op == "permute":
        return x.permute(p[0])
    if op == "unsqueeze":
        return x.unsqueeze(p[0])
    if op == "squeeze":
        return x.squeeze()
    if op == "expand":
        return x.unsqueeze(0).expand(p[0], *x.shape)
    if op == "slice":
        return x[p[0]]
    if op == "reshape":
        return x.reshape(p[0])
    if op == "flip":
        return x.flip(p[0])
    if op == "flatten":
        return x.flatten()
    if op == "chunk":
        return x.chunk(2, p[0])[-1]
    if op == "softmax":
        return x.softmax(p[0])
    if op == "layer_norm":
        return F.layer_norm(x, x.shape[-1:])
    if op == "standardise":
        return (x - x.mean(p[0], keepdim=True)) / (x.var(p[0], correction=0, keepdim=True) + 0.5).sqrt()
    if op == "matmul":
        return (x @ t[1].transpose(-1, -2)) * 0.3
    if op == "cat":
        return torch.cat([x, t[1]], p[0])
    if op == "stack":
        return torch.stack([x, x * 2], p[0])
    if op == "cumsum":
        return x.cumsum(p[0])
    if op == "iota":
        return x * torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
    if op == "index":
        return x[torch.tensor(p[0], device=x.device)]
    if op == "add_":
        return x.add_(t[1])
    if op == "mul_":
        return x.mul_(p[0])
    if op == "tanh_":
        return x.tanh_()
    if op == "slice_add_":
        x[p[0]] += p[1]
        return x
    if op == "copy_":
        return x.copy_(t[1])
    if op == "view_mul_":
        x.permute(p[0]).mul_(p[1])
        return x
    if op == "row_set":
        x[-1] = t[1].sum()
        return x
    raise AssertionError(op)


class Program:
    """Instructions over a growing list of tensors, starting with the arguments; ``outputs`` are the ones returned."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.code: list[tuple[str, tuple[int, ...], tuple]] = []
        self.outputs: list[int] = []

    def __call__(self, *args: Any) -> list[Any]:
        values = list(args)
        for op, operands, p in self.code:
            values.append(apply(op, [values[i] for i in operands], p))
        return [values[i] for i in self.outputs]

    def __repr__(self) -> str:
        lines = [f"program{self.shapes}"]
        lines += [f"  v{i + len(self.shapes)} = {op}({', '.join(f'v{k}' for k in operands)}{', ' if p else ''}{', '.join(map(repr, p))})"
                  for i, (op, operands, p) in enumerate(self.code)]
        return "\n".join([*lines, f"  return {', '.join(f'v{i}' for i in self.outputs)}"])


@st.composite
def programs(draw: Any, unary: list[str], writes: bool, reductions: list[str], max_ops: int = 22) -> Program:
    """Programs whose instructions all fit the shapes: they are run while they are drawn."""
    shapes = [tuple(draw(st.lists(st.sampled_from(SIZES), max_size=3))) for _ in range(draw(st.integers(1, 3)))]
    program = Program(shapes)
    values = [data(s, i, torch.float64) for i, s in enumerate(shapes)]
    kinds = ["unary"] * 3 + ["binary"] * 4 + ["reduce"] * 2 + ["view"] * 3 + ["other"] * 2 + (["write"] * 2 if writes else [])
    for _ in range(draw(st.integers(3, max_ops))):
        kind = draw(st.sampled_from(kinds))
        # recent values more often: deep programs
        a = len(values) - 1 - min(draw(st.integers(0, len(values) - 1)), draw(st.integers(0, len(values) - 1)))
        b = draw(st.integers(0, len(values) - 1))
        x = values[a]
        number = draw(st.sampled_from([0.5, 2, -1.5, 0.25]))
        dim = draw(st.integers(0, x.ndim - 1)) if x.ndim else 0
        operands: tuple[int, ...] = (a,)
        p: tuple = ()
        if kind == "unary":
            op = draw(st.sampled_from(unary))
            p = (number,) if op in ("scale", "shift", "reverse") else (abs(number),) if op == "clamp" else ()
        elif kind == "binary":
            op = draw(st.sampled_from(BINARY if unary is UNARY else BINARY[:5]))
            operands = (a, b)
        elif kind == "reduce":
            op = draw(st.sampled_from(reductions))
            dims = tuple(sorted(draw(st.sets(st.integers(0, x.ndim - 1), min_size=1)))) if x.ndim else ()
            p = (dims, draw(st.booleans()))
        elif kind == "view":
            op = draw(st.sampled_from(VIEW))
            p = parameters(draw, op, x, dim, number)
        elif kind == "other":
            op = draw(st.sampled_from(OTHER))
            operands = (a, b) if op in ("matmul", "cat") else (a,)
            p = parameters(draw, op, x, dim, number)
        else:
            op = draw(st.sampled_from(WRITE))
            operands = (a, b) if op in ("add_", "copy_", "row_set") else (a,)
            p = parameters(draw, op, x, dim, number)
        try:
            r = apply(op, [values[i] for i in operands], p)
        except (RuntimeError, IndexError, TypeError, ValueError):
            continue  # these shapes do not go together
        if r.numel() > 400 or r.numel() and not float(r.detach().abs().max()) < 1e4:
            if op in WRITE:
                break
            continue
        values.append(r)
        program.code.append((op, operands, p))
    n = len(values)
    program.outputs = sorted(draw(st.sets(st.integers(max(0, n - 8), n - 1), min_size=1, max_size=4)))
    return program


def parameters(draw: Any, op: str, x: Any, dim: int, number: float) -> tuple:
    """What an instruction is given beside tensors."""
    if op in ("softmax", "standardise", "cat", "cumsum", "flip", "chunk"):
        return (dim,)
    if op in ("unsqueeze", "stack"):
        return (draw(st.integers(0, x.ndim)),)
    if op in ("permute", "view_mul_"):
        order = tuple(draw(st.permutations(range(x.ndim))))
        return (order, number) if op == "view_mul_" else (order,)
    if op in ("slice", "slice_add_"):
        index = slices(draw, x.shape)
        return (index, number) if op == "slice_add_" else (index,)
    if op == "expand":
        return (draw(st.sampled_from(SIZES)),)
    if op == "reshape":
        return (reshaped(draw, x),)
    if op == "index":
        return (draw(st.lists(st.integers(0, max(x.shape[0] - 1, 0) if x.ndim else 0), min_size=1, max_size=3)),)
    return (number,) if op == "mul_" else ()


def slices(draw: Any, shape: tuple[int, ...]) -> tuple:
    out: list[Any] = []
    for n in shape:
        start = draw(st.integers(0, max(n - 1, 0)))
        out.append(draw(st.sampled_from([slice(None), slice(start, None), slice(None, max(n - start, 1)), slice(None, None, 2), start])))
    return tuple(out)


def reshaped(draw: Any, x: Any) -> tuple[int, ...]:
    n = x.numel()
    return draw(st.sampled_from([(n,), (1, n), (n, 1), (2, n // 2) if n % 2 == 0 else (n,), (n // 3, 3) if n % 3 == 0 else (n,),
                                 tuple(reversed(x.shape))]))


def data(shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
    return torch.tensor(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype=dtype)


def largest(program: Program, args: list[Any]) -> float:
    values, top = [a.double() for a in args], 1.0
    for op, operands, p in program.code:
        values.append(apply(op, [values[i] for i in operands], p))
        if values[-1].numel():
            top = max(top, float(values[-1].detach().abs().max()))
    return top


def agree(program: Program, dtype: Any, limit: int, tol: float, device: str = "cpu") -> None:
    with config.override(fuse_limit=limit):
        compiled = torch.compile(program)
        for seed in (0, 10):
            a = [data(s, seed + i, dtype).to(device) for i, s in enumerate(program.shapes)]
            b = [t.clone() for t in a]
            bound = tol * largest(program, [t.clone() for t in a])
            expected, got = program(*a), compiled(*b)
            for i, (x, y) in enumerate(zip([*expected, *a], [*got, *b])):
                assert x.shape == y.shape and x.dtype is y.dtype
                np.testing.assert_allclose(y.cpu().numpy(), x.cpu().numpy(), rtol=0, atol=bound, err_msg=f"result {i} of\n{program!r}")
    info = compiled.cache_info()
    assert info["plans"] == 1 and info["hits"] == 1 and info["eager"] is None, (info, program)


@LIMIT
@given(programs(UNARY, False, REDUCE), st.sampled_from([-1, -1, -1, 0, 1, 2, 5]))
def test_pure_programs(program, limit):
    agree(program, torch.float64, limit, 1e-11)


@LIMIT
@given(programs(UNARY, True, REDUCE), st.sampled_from([-1, -1, -1, 0, 1, 2, 5]))
def test_programs_that_write(program, limit):
    agree(program, torch.float64, limit, 1e-11)


@LIMIT
@given(programs(UNARY, True, REDUCE, 12))
def test_float32(program):
    agree(program, torch.float32, -1, 2e-4)


def grads_agree(program: Program, inside: bool, writes: bool, limit: int) -> None:
    def loss(args):
        copies = [a * 1 for a in args] if writes else args
        outs = program(*copies)
        total = sum((o * torch.arange(1, o.numel() + 1, dtype=o.dtype).reshape(o.shape)).sum() * (i + 1) for i, o in enumerate(outs))
        return total

    def step(*args):
        value = loss(args)
        if value.requires_grad:
            value.backward()
        return value.detach()
    with config.override(fuse_limit=limit):
        compiled = torch.compile(step if inside else lambda *args: loss(args))
        for seed in (0, 10):
            a, b = ([data(s, seed + i, torch.float64).requires_grad_() for i, s in enumerate(program.shapes)] for _ in range(2))
            try:
                expected = step(*a)
            except RuntimeError as e:  # such as a write to what backward needs
                with pytest.raises(RuntimeError, match=str(e).split(":")[0]), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    got = compiled(*b)
                    if not inside:
                        got.backward()
                return
            got = compiled(*b)
            if not inside and got.requires_grad:
                got.backward()
            scale = max([1.0, abs(float(expected)), *[float(t.grad.abs().max()) for t in a if t.grad is not None and t.numel()]])
            np.testing.assert_allclose(got.detach().numpy(), expected.numpy(), rtol=0, atol=1e-10 * scale, err_msg=repr(program))
            for i, (x, y) in enumerate(zip(a, b)):
                # a gradient that is nothing but zeros may also be none at all
                g, h = (np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (x, y))
                np.testing.assert_allclose(h, g, rtol=0, atol=1e-10 * scale, err_msg=f"gradient {i} of\n{program!r}")
    info = compiled.cache_info()
    assert info["plans"] == 1 and info["eager"] is None, (info, program)


@LIMIT
@given(programs(SMOOTH, False, ["sum", "mean", "var", "logsumexp"], 14), st.booleans(), st.sampled_from([-1, -1, 0, 3]))
def test_gradients(program, inside, limit):
    grads_agree(program, inside, False, limit)


@LIMIT
@given(programs(SMOOTH, True, ["sum", "mean", "var", "logsumexp"], 12), st.booleans())
def test_gradients_of_programs_that_write(program, inside):
    grads_agree(program, inside, True, -1)


@settings(LIMIT, max_examples=min(EXAMPLES, 15))
@given(programs(UNARY, True, REDUCE, 8), st.sampled_from([-1, 0, 2]))
def test_on_the_simulated_device(program, limit):
    pytest.importorskip("triton")
    with config.override(simulate_cuda=True):
        agree(program, torch.float32, limit, 5e-4, "cuda")
