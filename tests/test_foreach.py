"""torch._foreach_*: operations on lists of tensors."""
from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch import foreach

OTHERS = {"add": [2, 0.5], "clamp_max": [1.0, 0.3], "pow": [2, 3], "addcmul": [0.5, 2.0], "lerp": [0.2, 0.8]}


def lists():
    return [torch.tensor([0.3, 0.6]), torch.tensor(0.9, dtype=torch.float64)]


def arguments(name):
    """Argument lists after the first for an operation, one entry for each tensor."""
    if name in ("addcmul", "addcdiv", "lerp"):
        more = [[t + 1 for t in lists()], [t + 2 for t in lists()]][:1 if name == "lerp" else 2]
        return [(*more, OTHERS.get(name, [1, 3]))]
    if name in foreach._BINARY:
        return [([t * 2 for t in lists()],)] + ([(OTHERS[name],)] if name in OTHERS else [])
    return [()]


@pytest.mark.parametrize("name", [*foreach._UNARY, *foreach._BINARY, "addcmul", "addcdiv", "lerp"])
def test_each_tensor(name):
    own = {"minimum": "clamp_max", "maximum": "clamp_min"}.get(name, name)
    for args in arguments(name):
        last = "value" if name.startswith("addc") else None
        rows = list(zip(*args)) or [()] * 2
        want = [getattr(torch.Tensor, own)(t, *row) if last is None else getattr(t, own)(*row[:-1], value=row[-1])
                for t, row in zip(lists(), rows)]
        got = getattr(torch, f"_foreach_{name}")(lists(), *args)
        changed = lists()
        assert type(got) is tuple and getattr(torch, f"_foreach_{name}_")(changed, *args) is changed
        for w, g, c in zip(want, got, changed):
            torch.testing.assert_close(g, w, rtol=0, atol=0)
            torch.testing.assert_close(c, w, rtol=1e-6, atol=0)


def test_numbers_and_keywords():
    a = torch._foreach_add(lists(), 1)
    for other in ({"scalar": 1}, {"scalars": [1, 1]}, {"other": torch.tensor(0.5), "alpha": 2}):
        for x, y in zip(a, torch._foreach_add(lists(), **other)):
            torch.testing.assert_close(x, y)
    assert [t.tolist() for t in torch._foreach_pow(2.0, [torch.tensor([1.0, 3.0])])] == [[2, 8]]
    assert torch._foreach_addcdiv(lists(), lists(), lists(), torch.tensor([1.0, 2.0]))[1].item() == pytest.approx(2.9)


def test_other_functions():
    x = [torch.tensor([3.0, -4.0]), torch.tensor([[5.0]])]
    assert [t.item() for t in torch._foreach_norm(x)] == [5, 5]
    assert [t.item() for t in torch._foreach_norm(x, 1, dtype=torch.float64)] == [7, 5]
    assert [t.item() for t in torch._foreach_max(x)] == [3, 5] and [t.item() for t in torch._foreach_powsum(x, 2)] == [25, 25]
    copied = torch._foreach_clone(x)
    assert torch._foreach_zero_(x) is x and copied[0].tolist() == [3, -4] and x[0].tolist() == [0, 0]
    torch._foreach_copy_(x, copied)
    assert x[1].item() == 5 and torch._foreach_mm([torch.eye(2)], [torch.ones(2, 1)])[0].tolist() == [[1], [1]]


def test_refusals():
    for call, error, text in (
            (lambda: torch._foreach_add([], 1), RuntimeError, "at least one tensor"),
            (lambda: torch._foreach_add(lists(), [1]), RuntimeError, "same number of elements as scalar list"),
            (lambda: torch._foreach_mul(lists(), lists()[:1]), RuntimeError, "same number of tensors, got 2 and 1"),
            (lambda: torch._foreach_add(lists(), torch.ones(2)), RuntimeError, "expected to be 0 dim"),
            (lambda: torch._foreach_add(lists(), 1, alpha=2), TypeError, "invalid combination"),
            (lambda: torch._foreach_exp(torch.ones(2)), TypeError, "list or tuple")):
        with pytest.raises(error, match=text):
            call()


def test_gradients_and_compiled():
    @torch.compile(fullgraph=True)
    def f(a, b):
        return torch._foreach_addcmul([a, b], [a, b], [b, a], 2.0)

    a, b = (torch.tensor(v, requires_grad=True) for v in ([0.3, 0.6], [1.5, 2.0]))
    x, y = f(a, b)
    torch.testing.assert_close(x, a + 2 * a * b)
    (x * y).sum().backward()
    p, q = (t.detach().requires_grad_() for t in (a, b))
    ((p + 2 * p * q) * (q + 2 * p * q)).sum().backward()
    torch.testing.assert_close(a.grad, p.grad)
    torch.testing.assert_close(b.grad, q.grad)


def test_groups():
    from fusetorch.utils._foreach_utils import _group_tensors_by_device_and_dtype as group
    x, y = lists()
    groups = group([[x, y, x], [y, x, None]], with_indices=True)
    assert list(groups) == [(x.device, torch.float32), (x.device, torch.float64)]
    (first, rest), indices = groups[x.device, torch.float32]
    assert first[0] is x and first[1] is x and rest[0] is y and rest[1] is None and indices == [0, 2]


@pytest.mark.peer
def test_pytorchs_names():
    peer = pytest.importorskip("torch")
    assert {n for n in dir(peer) if n.startswith("_foreach_")} == set(foreach.__all__)
