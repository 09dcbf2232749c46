"""fusetorch.amp: autocast and loss scaling."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import fusetorch as torch
import fusetorch.nn.functional as F
from fusetorch import amp

A, B = torch.ones(4, 4), torch.full((4, 4), 2.0)


def test_regions_choose_dtypes_and_restore_them():
    assert not torch.is_autocast_enabled("cpu") and (A @ B).dtype is torch.float32
    with torch.autocast("cpu"):
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
        assert (A @ B).dtype is torch.matmul(A, B).dtype is F.linear(A, B).dtype is A.mm(B).dtype is torch.bfloat16
        assert F.mse_loss((A @ B), B).dtype is torch.float32
        assert torch.cat([A @ B, A]).dtype is torch.float32  # the widest
        assert (A.double() @ B.double()).dtype is torch.float64
        assert (A + B).dtype is torch.float32
        with torch.autocast("cpu", enabled=False):
            assert (A @ B).dtype is torch.float32
        with torch.autocast("cpu", dtype=torch.float16):
            assert (A @ B).dtype is torch.float16
        assert (A @ B).dtype is torch.bfloat16
    assert (A @ B).dtype is torch.float32 and not torch.is_autocast_enabled("cpu")


def test_as_a_decorator_and_in_its_former_places():
    @torch.autocast("cpu")
    def f(x):
        return x @ x

    assert f(A).dtype is torch.bfloat16
    with torch.cpu.amp.autocast():
        assert (A @ B).dtype is torch.bfloat16
    with pytest.raises(RuntimeError, match="unsupported autocast device_type"):
        torch.autocast("tpu")
    with pytest.warns(UserWarning, match="supports"), torch.autocast("cpu", dtype=torch.float64):
        assert (A @ B).dtype is torch.float32
    if not torch.cuda.is_available():
        with pytest.warns(UserWarning, match="not available"), torch.cuda.amp.autocast():
            assert not torch.is_autocast_enabled()


def test_a_weight_is_cast_once_in_a_region_and_gets_a_float32_gradient():
    w = torch.nn.Parameter(torch.full((4, 4), 0.5))
    with torch.autocast("cpu"):
        y = A @ w
        z = (A @ w) * 2 + y
        from fusetorch.casting import state
        assert len(state.cache) == 1
    assert not state.cache
    z.sum().backward()
    assert w.grad.dtype is torch.float32 and w.grad.tolist() == [[12.0] * 4] * 4


def test_backward_inside_a_region():
    layer = torch.nn.Linear(4, 3)
    with torch.autocast("cpu"):
        loss = F.cross_entropy(layer(A), torch.tensor([0, 1, 2, 0]))
        loss.backward()
    assert loss.dtype is torch.float32 and layer.weight.grad.dtype is torch.float32
    assert torch.isfinite(layer.weight.grad).all()


def test_compiled_functions_know_the_region():
    @torch.compile
    def f(x, y):
        return x @ y + 1

    assert f(A, B).dtype is torch.float32
    with torch.autocast("cpu"):
        assert f(A, B).dtype is torch.bfloat16
    assert f(A, B).dtype is torch.float32

    @torch.compile
    def g(x, y):
        with torch.autocast("cpu"):
            return x @ y

    assert g(A, B).dtype is torch.bfloat16 and g(A, B).dtype is torch.bfloat16 and f(A, B).dtype is torch.float32


def test_training_in_a_region_learns():
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = (x[:, :1] * 2 - x[:, 1:2]).detach()
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    opt = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        opt.zero_grad()
        with torch.autocast("cpu"):
            loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
    assert loss.item() < 0.1


def test_custom_functions():
    seen = []

    class Square(torch.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx, x):
            seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            seen.append(torch.is_autocast_enabled("cpu"))
            return 2 * ctx.saved_tensors[0] * g

    x = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu"):
        y = Square.apply(x)
    y.sum().backward()
    assert seen == [(torch.float32, False), False] and x.grad.tolist() == [2.0, 2.0]


def test_scaler_skips_bad_steps_and_adapts():
    w = torch.nn.Parameter(torch.ones(2))
    opt = torch.optim.SGD([w], lr=0.5)
    scaler = amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    for k in range(2):
        opt.zero_grad()
        scaler.scale(w.sum()).backward()
        assert w.grad.tolist() == [8.0, 8.0]
        scaler.step(opt)
        scaler.update()
    assert w.tolist() == [0.0, 0.0] and scaler.get_scale() == 16.0
    opt.zero_grad()
    scaler.scale((w * float("inf")).sum()).backward()
    scaler.unscale_(opt)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(opt)
    assert scaler.step(opt) is None
    scaler.update()
    assert w.tolist() == [0.0, 0.0] and scaler.get_scale() == 8.0
    twin = amp.GradScaler("cpu")
    twin.load_state_dict(scaler.state_dict())
    assert twin.state_dict() == scaler.state_dict()
    off = amp.GradScaler("cpu", enabled=False)
    assert off.scale(A) is A and off.state_dict() == {} and off.get_scale() == 1.0
    with pytest.raises(AssertionError, match="scale"):
        twin.step(opt)


@pytest.mark.peer
@pytest.mark.parametrize("low", ["bfloat16", "float16"])
def test_dtypes_equal_pytorch(low):
    peer = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y, batch = rng.random((4, 4), np.float32) + 0.1, rng.random((4, 4), np.float32) + 0.1, rng.random((2, 4, 4), np.float32)
    calls = {
        "matmul": lambda t, a, b, c: a @ b, "bmm": lambda t, a, b, c: t.bmm(c, c), "addmm": lambda t, a, b, c: t.addmm(a, a, b),
        "linear": lambda t, a, b, c: t.nn.functional.linear(a, b), "baddbmm": lambda t, a, b, c: t.baddbmm(c, c, c),
        "softmax": lambda t, a, b, c: t.softmax(a @ b, -1), "exp": lambda t, a, b, c: t.exp(a @ b), "sum": lambda t, a, b, c: (a @ b).sum(),
        "mse": lambda t, a, b, c: t.nn.functional.mse_loss(a @ b, b), "cat": lambda t, a, b, c: t.cat([a @ b, b]),
        "l1": lambda t, a, b, c: t.nn.functional.l1_loss(a @ b, a @ b), "prod": lambda t, a, b, c: (a @ b).prod(),
        "stack": lambda t, a, b, c: t.stack([a @ b, b]), "mv": lambda t, a, b, c: t.mv(a, b[0]), "norm": lambda t, a, b, c: (a @ b).norm(),
        "sdpa": lambda t, a, b, c: t.nn.functional.scaled_dot_product_attention(c, c, c), "pow": lambda t, a, b, c: (a @ b) ** 2,
        "layer_norm": lambda t, a, b, c: t.nn.functional.layer_norm(a @ b, (4,)), "cumsum": lambda t, a, b, c: (a @ b).cumsum(0),
        "conv": lambda t, a, b, c: t.nn.functional.conv1d(c, c), "add": lambda t, a, b, c: a @ b + a,
        "mean": lambda t, a, b, c: (a @ b).mean(),
        "kl_div": lambda t, a, b, c: t.nn.functional.kl_div(a @ b, b), "prelu": lambda t, a, b, c: t.nn.functional.prelu(a, b[0]),
        "ce": lambda t, a, b, c: t.nn.functional.cross_entropy(a @ b, t.tensor([0, 1, 2, 3])), "dot": lambda t, a, b, c: t.dot(a[0], b[0]),
        "bce": lambda t, a, b, c: t.nn.functional.binary_cross_entropy_with_logits(a @ b, b), "trace": lambda t, a, b, c: (a @ b).trace(),
        "tensordot": lambda t, a, b, c: t.tensordot(a, b), "einsum": lambda t, a, b, c: t.einsum("ij,jk->ik", a, b),
        "outer": lambda t, a, b, c: t.outer(a[0], b[0]), "inverse": lambda t, a, b, c: t.inverse(a @ b + 3 * t.eye(4)),
    }
    got, wanted = {}, {}
    for name, call in calls.items():
        for t, results in ((torch, got), (peer, wanted)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with t.autocast("cpu", dtype=getattr(t, low)):
                    try:
                        r = call(t, *(t.tensor(v) for v in (x, y, batch)))
                        results[name] = str(r.dtype).removeprefix("torch."), r.float().numpy()
                    except (RuntimeError, NotImplementedError) as error:
                        results[name] = type(error).__name__, np.zeros(())
    assert {k: v[0] for k, v in got.items()} == {k: v[0] for k, v in wanted.items()}
    for k in calls:
        np.testing.assert_allclose(got[k][1], wanted[k][1], 0.05, 0.05, err_msg=k)


@pytest.mark.peer
def test_the_cuda_lists_equal_pytorch():
    """PyTorch's own lists of what autocast does on CUDA, as far as its test data name them."""
    pytest.importorskip("torch")
    from torch.testing._internal.autocast_test_lists import AutocastTestLists

    from fusetorch.ops.opdef import REGISTRY
    lists = AutocastTestLists("cpu")
    wrong = []
    for expected, entries in (("lower", [*lists.torch_fp16, *lists.nn_fp16]), ("float32", [*lists.torch_fp32, *lists.nn_fp32]),
                              ("promote", lists.torch_need_autocast_promote)):
        for entry in entries:
            op = REGISTRY.get(entry[0])
            if op is not None:
                policies = dict((w.partition(":")[2], w.partition(":")[0]) for w in op.autocast.split())
                if policies.get("cuda", policies.get("")) != expected:
                    wrong.append((entry[0], expected, op.autocast))
    assert wrong == []
