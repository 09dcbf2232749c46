"""The tensor: aliasing, dtypes and promotion, printing, exchange with NumPy, copying and pickling, Python's protocols."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import dtypes

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
ALL = [torch.bool, *INTEGERS, *FLOATS]


# ---- views and memory


def test_views_share_memory_and_version() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    for view in (
        x[1:],
        x.t(),
        x.view(4, 3),
        x.unsqueeze(0),
        x[:, 1],
        x.diagonal(),
        x.unfold(1, 2, 2),
        x.expand(2, 3, 4),
        x.detach(),
        x.flatten(),
        x.permute(1, 0),
        x.chunk(2)[1],
        x.narrow(0, 1, 1),
        x.movedim(0, 1),
        x.squeeze(),
    ):
        before = x._version
        assert np.shares_memory(view.numpy(), x.numpy())
        if 0 not in view.stride():
            view.add_(0.0)
            assert view._version == x._version == before + 1


def test_reshape_copies_only_where_it_must() -> None:
    x = torch.zeros(3, 4)
    assert np.shares_memory(x.reshape(12).numpy(), x.numpy())
    assert not np.shares_memory(x.t().reshape(12).numpy(), x.numpy())
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.t().view(12)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        x.view(5, 3)


def test_contiguous() -> None:
    x = torch.zeros(3, 4)
    assert x.contiguous() is x and x.is_contiguous() and not x.t().is_contiguous()
    y = x.t().contiguous()
    assert y.is_contiguous() and y.stride() == (3, 1)
    assert torch.zeros(1, 3).t().is_contiguous() and torch.zeros(0, 3).t().is_contiguous()


def test_elementwise_results_keep_a_permuted_layout() -> None:
    x = torch.randn(3, 4).t()
    assert (x + 1).stride() == x.stride() and x.exp().stride() == x.stride()


def test_strides_and_sizes() -> None:
    x = torch.zeros(2, 3, 4)
    assert x.stride() == (12, 4, 1) and x.stride(1) == 4 and x.size(-1) == 4 and x.size() == torch.Size([2, 3, 4])
    assert (
        x.dim() == x.ndim == 3
        and x.numel() == x.nelement() == 24
        and x.nbytes == 96
        and x.itemsize == x.element_size() == 4
    )
    assert x.T.shape == (4, 3, 2) and x.mT.shape == (2, 4, 3)
    assert repr(x.shape) == "torch.Size([2, 3, 4])" and x.shape.numel() == 24
    with pytest.raises(IndexError, match="Dimension out of range"):
        x.size(3)


# ---- promotion


@pytest.mark.parametrize("a", ALL, ids=str)
def test_promotion_is_symmetric_and_a_lattice(a: torch.dtype) -> None:
    for b in ALL:
        c = torch.promote_types(a, b)
        assert c is torch.promote_types(b, a)
        assert torch.promote_types(a, c) is c and torch.promote_types(b, c) is c
        x, y = torch.ones(2, dtype=a), torch.ones(2, dtype=b)
        assert (x + y).dtype is c or a is b is torch.bool
        assert (x * y).dtype is c and torch.result_type(x, y) is c
        assert (x / y).dtype is (c if c.is_floating_point else torch.float32)
        assert (x == y).dtype is torch.bool


def test_numbers_and_zero_dimensional_tensors_only_lift_the_category() -> None:
    h = torch.ones(2, dtype=torch.float16)
    i = torch.ones(2, dtype=torch.int32)
    assert (h + 1).dtype is (h + 1.5).dtype is torch.float16
    assert (h + torch.tensor(1.5, dtype=torch.float64)).dtype is torch.float16
    assert (i + 1).dtype is torch.int32 and (i + 1.5).dtype is torch.float32
    assert (i + torch.tensor(1, dtype=torch.int64)).dtype is torch.int32
    assert (i + torch.tensor(1.0, dtype=torch.float64)).dtype is torch.float64
    assert (torch.tensor(1, dtype=torch.int8) + torch.ones(2, dtype=torch.bool)).dtype is torch.int8
    assert (torch.tensor(1.0) + torch.tensor(1.0, dtype=torch.float64)).dtype is torch.float64
    assert (torch.ones(2, dtype=torch.uint8) + torch.ones(2, dtype=torch.int8)).dtype is torch.int16
    assert (torch.ones(2, dtype=torch.bfloat16) * h).dtype is torch.float32


def test_reductions_of_integers() -> None:
    for d in (torch.bool, *INTEGERS):
        x = torch.ones(3, dtype=d)
        assert x.sum().dtype is x.prod().dtype is x.cumsum(0).dtype is torch.int64
        assert x.max().dtype is d and (d is torch.bool or x.argmax().dtype is torch.int64)
    assert torch.ones(3, dtype=torch.uint8).sum().item() == 3
    assert torch.full((300,), 200, dtype=torch.uint8).sum().item() == 60000
    with pytest.raises(RuntimeError, match="mean"):
        torch.ones(3, dtype=torch.int64).mean()
    assert torch.ones(3, dtype=torch.int64).mean(dtype=torch.float32).item() == 1.0


def test_half_types_add_up_in_float32() -> None:
    assert torch.ones(5000, dtype=torch.float16).sum().item() == 5000.0
    assert torch.ones(1000, dtype=torch.bfloat16).sum().item() == 1000.0
    x = torch.full((4096,), 0.1, dtype=torch.float16)
    np.testing.assert_allclose(x.mean().item(), 0.1, rtol=1e-3)


def test_bool_arithmetic() -> None:
    a, b = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    assert (a + b).tolist() == [True, True, False] and (a * b).tolist() == [True, False, False]
    assert (
        (~a).tolist() == [False, False, True]
        and (a & b).tolist() == [True, False, False]
        and (a ^ b).tolist() == [False, True, False]
    )
    with pytest.raises(RuntimeError, match="bool"):
        a - b
    with pytest.raises(RuntimeError, match="bool"):
        _ = -a


def test_an_unknown_rounding_mode_is_refused() -> None:
    for divide in (torch.div, torch.Tensor.div, torch.Tensor.div_):
        with pytest.raises(RuntimeError, match="rounding_mode"):
            divide(torch.ones(2), 2, rounding_mode="up")


def test_integer_division_and_powers() -> None:
    a, b = torch.tensor([7, -7, 7, -7]), torch.tensor([2, 2, -2, -2])
    assert (a // b).tolist() == [3, -4, -4, 3] and (a % b).tolist() == [1, 1, -1, -1]
    assert torch.fmod(a, b).tolist() == [1, -1, 1, -1] and torch.div(a, b, rounding_mode="trunc").tolist() == [
        3,
        -3,
        -3,
        3,
    ]
    assert (a / b).tolist() == [3.5, -3.5, -3.5, 3.5]
    assert (torch.tensor([2, 3]) ** 3).tolist() == [8, 27] and (2 ** torch.tensor([3, 0])).tolist() == [8, 1]
    assert torch.pow(torch.tensor([2, 1, -1, 0]), torch.tensor([-1, -3, -3, 0])).tolist() == [0, 1, -1, 1]
    assert (
        (5 - torch.tensor([1])).tolist() == [4]
        and (1 / torch.tensor([4.0])).tolist() == [0.25]
        and (7 // torch.tensor([2])).tolist() == [3]
    )


def test_integers_wrap() -> None:
    assert (torch.tensor([250], dtype=torch.uint8) + 10).tolist() == [4]
    assert (torch.tensor([3], dtype=torch.uint8) * -1).tolist() == [253]
    assert torch.tensor([300.0, -1.0]).to(torch.uint8).tolist() == [44, 255]
    assert (-torch.tensor([1], dtype=torch.uint8)).tolist() == [255]


# ---- NumPy


def test_numpy_shares_memory_both_ways() -> None:
    a = np.zeros(3, np.float32)
    t = torch.from_numpy(a)
    t[0] = 5.0
    a[1] = 6.0
    assert t.tolist() == [5.0, 6.0, 0.0] and t.numpy() is not None and np.shares_memory(t.numpy(), a)
    assert np.shares_memory(torch.as_tensor(a).numpy(), a) and not np.shares_memory(torch.tensor(a).numpy(), a)
    assert np.asarray(t).tolist() == [5.0, 6.0, 0.0] and np.add(t, 1).tolist() == [6.0, 7.0, 1.0]


@pytest.mark.parametrize("d", ALL, ids=str)
def test_numpy_round_trip(d: torch.dtype) -> None:
    x = torch.tensor([0, 1, 1]).to(d)
    y = torch.from_numpy(x.numpy())
    assert y.dtype is d and torch.equal(x, y)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: x.split([5, -1]), "only non-negative entries"),
    (lambda x: x.reshape(1, 4).squeeze((0, -2)), "dim 0 appears multiple times"),
    (lambda x: x.unflatten(0, ()), "sizes must be non-empty"),
    (lambda x: x.permute(0, 1), "permute: number of dimensions in the tensor input does not match"),
    (lambda x: x.masked_fill(torch.tensor([1, 0, 0, 1]), 0), "masked_fill_ only supports boolean masks, but got mask with dtype Long"),
    (lambda x: x.masked_fill_(torch.ones(4), 0), "boolean masks, but got mask with dtype Float"),
    (lambda x: torch.where(torch.tensor([1, 0, 0, 1]), x, x), "condition to be a boolean tensor, but got a tensor with dtype Long"),
])
def test_mistakes_of_shape_and_masks(call, message) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(torch.ones(4))


def test_conditions() -> None:
    x, y = torch.zeros(2), torch.ones(2)
    with pytest.warns(UserWarning, match="uint8 condition"):
        assert torch.where(torch.tensor([0, 1], dtype=torch.uint8), x, y).tolist() == [1, 0]
    with pytest.raises(TypeError, match="argument 'condition' .* must be Tensor, not bool"):
        torch.where(True, x, y)


def test_numpy_refusals() -> None:
    with pytest.raises(RuntimeError, match="requires grad"):
        torch.ones(2, requires_grad=True).numpy()
    with pytest.raises(TypeError):
        torch.from_numpy([1, 2])
    with pytest.raises(TypeError):
        torch.from_numpy(np.zeros(2, np.clongdouble))
    assert torch.ones(2, requires_grad=True).numpy(force=True).tolist() == [1.0, 1.0]


def test_data_types_of_python_data() -> None:
    assert (
        torch.tensor(1).dtype is torch.int64
        and torch.tensor(1.0).dtype is torch.float32
        and torch.tensor(True).dtype is torch.bool
    )
    assert (
        torch.tensor([1, 2.5]).dtype is torch.float32
        and torch.tensor([True, 2]).dtype is torch.int64
        and torch.tensor([]).dtype is torch.float32
    )
    assert torch.tensor(np.float64(1)).dtype is torch.float64 and torch.tensor(np.arange(2)).dtype is torch.int64
    assert torch.tensor([[1, 2], [3, 4]]).shape == (2, 2) and torch.tensor(
        [torch.tensor(1), torch.tensor(2)]
    ).tolist() == [1, 2]
    with pytest.raises(ValueError):
        torch.tensor([[1, 2], [3]])
    with pytest.raises((TypeError, ValueError)):
        torch.tensor("text")
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.tensor(1.0).dtype is torch.zeros(1).dtype is (torch.tensor([1]) / 2).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


# ---- copies


def test_deepcopy() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    pair = copy.deepcopy({"a": x, "b": x})
    assert pair["a"] is pair["b"] and pair["a"].requires_grad and pair["a"].grad.tolist() == [2.0, 4.0]
    assert not np.shares_memory(pair["a"].detach().numpy(), x.detach().numpy())
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


@pytest.mark.parametrize("d", ALL, ids=str)
def test_pickle(d: torch.dtype) -> None:
    x = torch.tensor([[0, 1], [1, 1]]).to(d).t()
    y = pickle.loads(pickle.dumps(x))
    assert y.dtype is d and torch.equal(x, y)
    z = pickle.loads(pickle.dumps(torch.ones(2, requires_grad=True)))
    assert z.requires_grad
    assert pickle.loads(pickle.dumps(d)) is d and copy.deepcopy(d) is d


def test_clone_and_to() -> None:
    x = torch.zeros(2)
    assert x.to(torch.float32) is x and x.to("cpu") is x and x.float() is x
    assert x.to(torch.float32, copy=True) is not x and x.clone() is not x
    assert (
        x.to(torch.int64).dtype is x.long().dtype is x.type(torch.int64).dtype is torch.int64
        and x.type() == "torch.FloatTensor"
    )
    assert x.to(torch.ones(1, dtype=torch.float64)).dtype is torch.float64


# ---- Python's protocols


def test_truth_numbers_and_iteration() -> None:
    assert (
        bool(torch.tensor([[1]]))
        and not torch.tensor(0.0)
        and int(torch.tensor(3.7)) == 3
        and float(torch.tensor(2)) == 2.0
    )
    assert [1, 2, 3][torch.tensor(1)] == 2 and f"{torch.tensor(1.5):.2f}" == "1.50" and len(torch.zeros(3, 2)) == 3
    assert (
        [r.tolist() for r in torch.eye(2)] == [[1, 0], [0, 1]]
        and 2 in torch.tensor([1, 2])
        and 5 not in torch.tensor([1, 2])
    )
    assert hash(torch.zeros(1)) and len({torch.zeros(1), torch.zeros(1)}) == 2
    with pytest.raises(RuntimeError, match="more than one value"):
        bool(torch.zeros(2))
    with pytest.raises(RuntimeError, match="no values"):
        bool(torch.zeros(0))
    with pytest.raises(TypeError, match="0-d"):
        len(torch.tensor(1))
    with pytest.raises(TypeError, match="0-d"):
        iter(torch.tensor(1))
    with pytest.raises(RuntimeError, match="converted to Scalar"):
        torch.zeros(2).item()
    with pytest.raises(TypeError):
        [1, 2][torch.tensor(1.0)]


def test_comparisons_with_other_things() -> None:
    x = torch.tensor([1, 2])
    assert (x == 1).tolist() == [True, False] and (x != None) is True and (x == "a") is False  # noqa: E711
    assert (np.array([1, 2]) == x).tolist() == [True, True]
    with pytest.raises(TypeError):
        x < "a"  # noqa: B015
    with pytest.raises(TypeError):
        x + "a"
    with pytest.raises(TypeError):
        x + None
    assert (np.float32(2.0) * torch.ones(2)).dtype is torch.float32
    assert isinstance(np.float32(2.0) * torch.ones(2), torch.Tensor)


def test_missing_names_say_so() -> None:
    with pytest.raises(AttributeError, match="nosuchthing"):
        torch.nosuchthing  # noqa: B018
    with pytest.raises(AttributeError, match="nosuchthing"):
        torch.zeros(1).nosuchthing  # noqa: B018


def test_devices_do_not_mix() -> None:
    pytest.importorskip("triton")
    from fusetorch import config

    with config.override(simulate_cuda=True):
        x, y = torch.zeros(2), torch.zeros(2, device="cuda")
        with pytest.raises(RuntimeError, match="same device"):
            x + y
        assert (y + torch.tensor(1.0)).device.type == "cuda"
        assert y.cpu().device == torch.device("cpu") and y.is_cuda
        with pytest.raises(TypeError, match="cpu"):
            y.numpy()


def test_without_a_gpu_cuda_says_what_is_missing() -> None:
    from fusetorch.runtime import device

    if device.cuda_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="(?i)cuda"):
        torch.zeros(1, device="cuda")


def test_out_arguments() -> None:
    x = torch.tensor([1.0, 4.0])
    out = torch.zeros(2)
    assert torch.sqrt(x, out=out) is out and out.tolist() == [1.0, 2.0]
    small = torch.zeros(0)
    torch.add(x, 1, out=small)
    assert small.tolist() == [2.0, 5.0]
    assert torch.matmul(torch.eye(2), x, out=out).tolist() == [1.0, 4.0]
    values, indices = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    torch.sort(x, descending=True, out=(values, indices))
    assert values.tolist() == [4.0, 1.0] and indices.tolist() == [1, 0]
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.sqrt(x, out=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="automatic differentiation"):
        torch.sqrt(x.clone().requires_grad_(), out=torch.zeros(2))


# ---- printing, as PyTorch prints

PRINTED = [
    (lambda: torch.tensor([1.0, 2.5, -3.0]), "tensor([ 1.0000,  2.5000, -3.0000])"),
    (lambda: torch.tensor([1.0, 2.0]), "tensor([1., 2.])"),
    (lambda: torch.tensor(3.14159), "tensor(3.1416)"),
    (lambda: torch.tensor([1, 20, -3]), "tensor([ 1, 20, -3])"),
    (lambda: torch.tensor([True, False]), "tensor([ True, False])"),
    (lambda: torch.tensor([1e10, 1.0]), "tensor([1.0000e+10, 1.0000e+00])"),
    (lambda: torch.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (lambda: torch.tensor([float("nan"), float("inf"), -1.5]), "tensor([    nan,     inf, -1.5000])"),
    (lambda: torch.zeros(2, dtype=torch.float64), "tensor([0., 0.], dtype=torch.float64)"),
    (lambda: torch.zeros(2, dtype=torch.int32), "tensor([0, 0], dtype=torch.int32)"),
    (lambda: torch.tensor([1.5], dtype=torch.bfloat16), "tensor([1.5000], dtype=torch.bfloat16)"),
    (lambda: torch.zeros(0), "tensor([])"),
    (lambda: torch.zeros(2, 0), "tensor([], size=(2, 0))"),
    (lambda: torch.zeros(0, dtype=torch.int64), "tensor([], dtype=torch.int64)"),
    (lambda: torch.eye(2), "tensor([[1., 0.],\n        [0., 1.]])"),
    (lambda: torch.zeros(1, 2, 2), "tensor([[[0., 0.],\n         [0., 0.]]])"),
    (lambda: torch.zeros(2, 1, 2), "tensor([[[0., 0.]],\n\n        [[0., 0.]]])"),
    (lambda: torch.arange(2000), "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    (lambda: torch.ones(2, requires_grad=True), "tensor([1., 1.], requires_grad=True)"),
    (lambda: torch.ones(2, requires_grad=True) * 2, "tensor([2., 2.], grad_fn=<MulBackward0>)"),
    (
        lambda: torch.arange(30.0),
        "tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12., 13.,\n"
        "        14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27.,\n        28., 29.])",
    ),
    (
        lambda: torch.zeros(1001, 2),
        "tensor([[0., 0.],\n        [0., 0.],\n        [0., 0.],\n        ...,\n        [0., 0.],\n        [0., 0.],\n"
        "        [0., 0.]])",
    ),
]


@pytest.mark.parametrize("k", range(len(PRINTED)))
def test_printing(k: int) -> None:
    make, text = PRINTED[k]
    assert repr(make()) == text


def test_print_options() -> None:
    try:
        torch.set_printoptions(precision=2, sci_mode=False)
        assert repr(torch.tensor([1.23456, 1e6])) == "tensor([      1.23, 1000000.00])"
        torch.set_printoptions(profile="default")
        assert repr(torch.tensor(1.23456)) == "tensor(1.2346)"
        torch.set_printoptions(threshold=2, edgeitems=1)
        assert repr(torch.arange(4)) == "tensor([0,  ..., 3])"
    finally:
        torch.set_printoptions(profile="default")


def test_dtype_objects() -> None:
    assert torch.half is torch.float16 and torch.long is torch.int64 and str(torch.float32) == "torch.float32"
    assert (
        torch.finfo(torch.float16).max == 65504
        and torch.finfo(torch.bfloat16).eps == 2.0**-7
        and torch.iinfo(torch.int8).min == -128
    )
    assert dtypes.promote_types(torch.int64, torch.float16) is torch.float16


def test_functions_can_be_pickled():
    import fusetorch.nn.functional as F
    for f in (F.relu, F.gelu, F.adaptive_avg_pool2d, F.cross_entropy, torch.relu, torch.tanh, torch.where, torch.exp_, torch.linalg.inv,
              torch.special.erf, torch.Tensor.view_as, torch.Tensor.add_):
        for protocol in (2, 4):
            assert pickle.loads(pickle.dumps(f, protocol)) is f


def test_any_sequence_makes_a_tensor():
    from collections import UserList, deque
    assert torch.tensor(deque([1.0, 2.0])).tolist() == [1.0, 2.0] and torch.tensor(deque([1.0])).dtype == torch.float32
    assert torch.as_tensor(UserList([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(RuntimeError, match="Could not infer dtype of dict"):
        torch.tensor({1: 2})


def test_formatting_shows_the_number_of_a_0d_tensor():
    t = torch.tensor(3.5, requires_grad=True)
    assert f"{t} {t * 2:.2f} {torch.tensor(3):d} {torch.tensor(True)}" == "3.5 7.00 3 True"
    assert f"{torch.ones(1)}" == "tensor([1.])" and f"{torch.nn.Parameter(torch.tensor(1.0))}".startswith("Parameter containing")
    with pytest.raises(TypeError, match="unsupported format string passed to Tensor.__format__"):
        f"{torch.ones(1):.2f}"


def test_nodes_show_themselves_as_objects():
    x = torch.ones(2, requires_grad=True)
    assert re.fullmatch(r"<MulBackward0 object at 0x[0-9a-f]+>", repr((x * 2).grad_fn))
    assert re.fullmatch(r"<AccumulateGrad object at 0x[0-9a-f]+>", repr((x * 2).grad_fn.next_functions[0][0]))


def test_sizes_by_name():
    for make in (torch.zeros, torch.ones, torch.empty, torch.rand, torch.randn, torch.ones(1).new_zeros, torch.ones(1).new_ones,
                 torch.ones(1).new_empty):
        assert make(size=(2, 3)).shape == (2, 3) and make(size=[4], dtype=torch.float64).dtype == torch.float64
        with pytest.raises(TypeError, match="by position and by name"):
            make(2, size=(2,))
    assert torch.randint(high=3, size=(2,)).max() < 3 and torch.randint(5, size=(2,)).shape == (2,)
    assert torch.compile(lambda: torch.zeros(size=(2,)) + 1)().tolist() == [1, 1]


def test_axis_and_keepdims_are_dim_and_keepdim():
    x = torch.arange(6.0).reshape(2, 3)
    for f in (torch.sum, torch.mean, torch.std, torch.argmax, torch.amax, torch.logsumexp):
        assert torch.equal(f(x, axis=1), f(x, dim=1)) or not (f(x, axis=1) - f(x, dim=1)).any()
        kept = getattr(x, f.__name__)(axis=1) if f is torch.argmax else getattr(x, f.__name__)(axis=1, keepdims=True)
        assert kept.shape == ((2,) if f is torch.argmax else (2, 1))
    assert x.sum(axis=(0, 1)).item() == 15 and x.max(axis=1).values.tolist() == [2.0, 5.0]
    assert torch.cat([x, x], axis=1).shape == (2, 6) and torch.stack([x, x], axis=2).shape == (2, 3, 2)
    assert x.unsqueeze(axis=0).squeeze(axis=0).cumsum(axis=0).tolist() == x.cumsum(0).tolist() and x.softmax(axis=1).shape == (2, 3)
    with pytest.raises(TypeError, match="mean the same"):
        x.sum(dim=0, axis=0)


def test_pythons_types_are_dtypes():
    x = torch.tensor([0.0, 2.5])
    for made, kind in ((torch.zeros(2, dtype=int), torch.int64), (torch.tensor([1], dtype=float), torch.float64), (x.to(bool), torch.bool),
                       (torch.empty(2, dtype=complex), torch.complex128), (x.to("cpu", int), torch.int64), (x.to(dtype=bool), torch.bool),
                       (x.sum(dtype=float), torch.float64), (torch.softmax(x, 0, dtype=float), torch.float64), (x.view(int), torch.int64),
                       (torch.arange(3, dtype=float), torch.float64), (torch.zeros_like(x, dtype=int), torch.int64),
                       (torch.randn(2, dtype=float), torch.float64), (torch.nn.Linear(2, 1, dtype=float).weight, torch.float64),
                       (torch.nn.Linear(2, 1).to(float).weight, torch.float64)):
        assert made.dtype is kind
    assert torch.promote_types(int, float) is torch.float64 and torch.can_cast(bool, int) and torch.finfo(float).bits == 64
    for refused in (str, "float32", np.float32):
        with pytest.raises(TypeError, match="argument 'dtype' must be torch.dtype"):
            torch.zeros(2, dtype=refused)
