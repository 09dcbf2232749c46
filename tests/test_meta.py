"""The meta device: shapes, dtypes and layouts without memory."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from op_samples import all_ops, samples_of
from test_definitions import NOT_TRACED, flat, prepare

import fusetorch as torch
from fusetorch import dtypes, nn
from fusetorch.tensor import Tensor

#: Results that depend on values, Python values, or memory itself.
VALUES = NOT_TRACED | {"move_to_device", "tensor", "as_tensor", "asarray"}
#: Look at values for some arguments, as in PyTorch: masks as indices, the number of classes, checks.
SOME_VALUES = {"__getitem__", "one_hot", "gaussian_nll_loss", "istft"}
#: Subtracts tensors of different layouts: small ones on the CPU take NumPy's layout, not that of the first operand.
LAYOUTS = {"ormqr"}
NAMES = [op.name for op in all_ops() if op.name not in VALUES]
OPS = {op.name: op for op in all_ops()}


def described(x: Any) -> list[Any]:
    return [(tuple(t.shape), t.dtype, t.stride()) if isinstance(t, Tensor) else t for t in flat(x)]


@pytest.mark.parametrize("name", NAMES)
def test_as_on_the_cpu(name: str) -> None:
    op = OPS[name]
    shown = 0
    for sample in samples_of(op):
        want = described(_run(op, sample, "cpu"))
        try:
            got = _run(op, sample, "meta")
        except RuntimeError as error:
            assert name in SOME_VALUES and "meta tensor" in str(error), name
            continue
        shown += 1
        assert all(t.is_meta for t in flat(got) if isinstance(t, Tensor)), f"{name}: a result is not on the meta device"
        assert [_visible(name, g) for g in described(got)] == [_visible(name, w) for w in want], name
    assert shown or name in SOME_VALUES


def _visible(name: str, d: Any) -> Any:
    """Without strides that are never taken."""
    if not isinstance(d, tuple) or len(d) != 3:
        return d
    shape, kind, strides = d
    return shape, kind, None if 0 in shape or name in LAYOUTS else [s for n, s in zip(shape, strides, strict=True) if n != 1]


def _run(op: Any, sample: Any, device: str) -> Any:
    call, found = prepare(op, sample, dtypes.float32, device)
    if device != "cpu":
        assert all(t.device.type == device for t in found)
    return call(*found)


def test_an_index_on_the_cpu() -> None:
    m = torch.empty(4, 3, device="meta")
    assert m[torch.tensor([0, 2, 1])].shape == (3, 3)
    assert m[torch.tensor([True, False, True, False])].shape == (2, 3)


def test_what_needs_values() -> None:
    m = torch.empty(2, 3, device="meta")
    with pytest.raises(RuntimeError, match=r"Tensor.item\(\) cannot be called on meta tensors"):
        m[0, 0].item()
    for needs in (bool, int, float):
        with pytest.raises(RuntimeError, match=r"Tensor.item\(\) cannot be called on meta tensors"):
            needs(m[0, 0])
    with pytest.raises(TypeError, match="can't convert meta device type tensor to numpy"):
        m.numpy()
    for needs in (torch.Tensor.tolist, torch.Tensor.cpu, torch.nonzero, torch.unique, lambda t: t[t > 0], lambda t: t.numpy(force=True),
                  torch.zeros(2, 3).copy_):
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor; no data!"):
            needs(m)
    with pytest.raises(RuntimeError, match="same device"):
        m + torch.ones(2, 3)
    with pytest.raises(BufferError, match="meta"):
        np.from_dlpack(m)


def test_what_a_meta_tensor_is() -> None:
    m = torch.empty(2, 3, device="meta", requires_grad=True)
    assert (m.is_meta, m.is_cpu, m.is_cuda, m.get_device(), m.data_ptr()) == (True, False, False, -1, 0)
    assert (m.device, m.type(), m.untyped_storage().nbytes()) == (torch.device("meta"), "torch.meta.FloatTensor", 24)
    assert not torch.ones(1).is_meta
    assert repr(m) == "tensor(..., device='meta', size=(2, 3), requires_grad=True)"
    assert repr(m.half()[0, 0].detach()) == f"{m.half()[0, 0].detach()}" == "tensor(..., device='meta', size=(), dtype=torch.float16)"
    assert (m + torch.ones(())).is_meta and (2 * m).is_meta and torch.zeros_like(m, device="cpu").sum() == 0
    assert m.detach().copy_(torch.ones(2, 3)).is_meta
    assert torch.ones(4, 2, 3).permute(2, 0, 1).to("meta").stride() == (1, 6, 3)  # of the memory of ones, made dense
    assert torch.empty(2, device="meta:0").device == torch.device("meta")


def test_gradients() -> None:
    x = torch.empty(4, 2, device="meta", requires_grad=True)
    layer = nn.Linear(2, 3, device="meta")
    layer(x).relu().sum().backward()
    assert x.grad.is_meta and x.grad.shape == (4, 2) and layer.weight.grad.shape == (3, 2)
    torch.optim.AdamW(layer.parameters(), lr=0.1).step()
    assert layer.weight.is_meta


def test_nothing_is_drawn() -> None:
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    with torch.device("meta"):
        nn.Transformer(8, 2, 1, 1, 16)
        torch.rand(3), torch.randn(3), torch.randint(3, (2,)), torch.dropout(torch.ones(4), 0.5, True)
    assert torch.equal(torch.rand(3), first)


def test_a_module_without_memory() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 1 << 20, 3), nn.BatchNorm2d(1 << 20), nn.Linear(1 << 20, 1 << 20))
    assert sum(p.numel() for p in model.parameters()) > 1 << 40
    assert all(t.is_meta for t in model.state_dict().values())
    assert model[:2](torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 1 << 20, 6, 6)
    with pytest.raises(NotImplementedError, match="to_empty"):
        model.to("cpu")
    assert copy.deepcopy(model)[2].weight.is_meta


def test_from_meta_to_memory() -> None:
    source = nn.Linear(2, 3)
    with torch.device("meta"):
        made = nn.Linear(2, 3)
    with pytest.warns(UserWarning, match="assign=True"):
        made.load_state_dict(source.state_dict())
    assert made.weight.is_meta
    made.load_state_dict(source.state_dict(), assign=True)
    assert isinstance(made.weight, nn.Parameter) and made.weight.requires_grad
    assert torch.equal(made.weight, source.weight) and made.weight.data_ptr() == source.weight.data_ptr()
    empty = nn.Linear(2, 3, device="meta")
    with pytest.raises(RuntimeError, match='While copying the parameter named "weight"'):
        source.load_state_dict(empty.state_dict())
    assert empty.to_empty(device="cpu").weight.device.type == "cpu" and isinstance(empty.weight, nn.Parameter)
    nn.init.ones_(empty.weight)
    assert empty.weight.sum() == 6


def test_skip_init() -> None:
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    made = nn.utils.skip_init(nn.Linear, 2, 3, bias=False)
    assert made.weight.shape == (3, 2) and made.bias is None and torch.equal(torch.rand(3), first)


def test_saved() -> None:
    given = {"a": torch.empty(2, 3, device="meta").t(), "b": torch.ones(2), "c": nn.Parameter(torch.empty(2, device="meta"))}
    f = io.BytesIO()
    torch.save(given, f)
    f.seek(0)
    back = torch.load(f)
    assert back["a"].is_meta and back["a"].stride() == (1, 3) and back["b"].is_cpu and isinstance(back["c"], nn.Parameter)
    f.seek(0)
    assert torch.load(f, map_location="meta")["b"].is_meta
    again = pickle.loads(pickle.dumps(given))
    assert again["a"].is_meta and again["a"].stride() == (1, 3) and again["c"].requires_grad


def test_compiled() -> None:
    f = torch.compile(lambda x: x.sin() + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f(torch.empty(3, device="meta")).is_meta
        assert torch.compile(lambda x: (x + 1).to("meta"))(torch.ones(3)).is_meta
    assert torch.allclose(f(torch.zeros(3)), torch.ones(3))
