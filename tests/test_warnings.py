"""PyTorch's warnings, at the line of the program that is meant."""
from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import fusetorch as torch

nn, F = torch.nn, torch.nn.functional


def readonly() -> np.ndarray:
    a = np.zeros(3)
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("call, text, category", [
    (lambda: F.softmax(torch.zeros(2, 2)), "Implicit dimension choice for softmax has been deprecated", UserWarning),
    (lambda: nn.LogSoftmax()(torch.zeros(2, 2)), "Implicit dimension choice for log_softmax", UserWarning),
    (lambda: (torch.zeros(2, requires_grad=True) * 2).grad, "The .grad attribute of a Tensor that is not a leaf", UserWarning),
    (lambda: torch.meshgrid(torch.arange(2), torch.arange(2)), "torch.meshgrid: in an upcoming release", UserWarning),
    (lambda: torch.tensor(torch.zeros(2)), "rather than torch.tensor", UserWarning),
    (lambda: torch.zeros(1).new_tensor(torch.zeros(2)), "rather than tensor.new_tensor", UserWarning),
    (lambda: nn.utils.weight_norm(nn.Linear(2, 2)), "`torch.nn.utils.weight_norm` is deprecated", FutureWarning),
    (lambda: torch.zeros(2, 3, 4).T, "The use of `x.T` on tensors of dimension other than 2", UserWarning),
    (lambda: torch.from_numpy(readonly()), "The given NumPy array is not writable", UserWarning),
    (lambda: F.upsample(torch.zeros(1, 1, 2, 2), scale_factor=2), "`nn.functional.upsample` is deprecated", UserWarning),
    (lambda: torch.cross(torch.zeros(2, 3), torch.zeros(2, 3)), "Using torch.cross without specifying the dim", UserWarning),
    (lambda: torch.ones(1).std(), r"std\(\): degrees of freedom is <= 0", UserWarning),
    (lambda: torch.ones(2, 1).var(1), r"var\(\): degrees of freedom is <= 0", UserWarning),
    (lambda: torch.cuda.amp.GradScaler(enabled=False), r"`torch.cuda.amp.GradScaler\(args...\)` is deprecated", FutureWarning),
    (lambda: torch.cuda.amp.autocast(enabled=False), r"`torch.cuda.amp.autocast\(args...\)` is deprecated", FutureWarning),
    (lambda: torch.zeros(2)[torch.tensor([1, 0], dtype=torch.uint8)], "indexing with dtype torch.uint8 is now deprecated", UserWarning),
    (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), 1), "enable_nested_tensor is True, but .* batch_first", UserWarning),
    (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(3, 3, batch_first=True), 1), "num_heads is odd", UserWarning),
    (lambda: torch.tensor([np.zeros(2), np.zeros(2)]), "Creating a tensor from a list of numpy.ndarrays is extremely slow", UserWarning),
    (lambda: F.grid_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)), "Default grid_sample and affine_grid", UserWarning),
    (lambda: F.affine_grid(torch.zeros(1, 2, 3), (1, 1, 2, 2)), "Default grid_sample and affine_grid", UserWarning),
    (lambda: torch.utils.data.DataLoader([1], num_workers=9999), "This DataLoader will create 9999 worker processes", UserWarning),
    (lambda: torch.set_default_tensor_type("torch.FloatTensor"), r"torch.set_default_tensor_type\(\) is deprecated", UserWarning),
    (lambda: torch.ones(1, requires_grad=True).sum().backward(create_graph=True), "create a reference cycle", UserWarning)])
def test_warned(call: Callable, text: str, category: type) -> None:
    with pytest.warns(category, match=text) as caught:
        call()
    assert [w.filename for w in caught if w.category is category] == [__file__]


@pytest.mark.parametrize("call", [
    lambda: F.softmax(torch.zeros(2, 2), -1), lambda: torch.zeros(2, requires_grad=True).grad, lambda: torch.zeros(2, 3).T,
    lambda: torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij"), lambda: torch.asarray(torch.zeros(2), copy=True),
    lambda: torch.linalg.cross(torch.zeros(3), torch.zeros(3)), lambda: torch.ones(1).std(correction=0), lambda: torch.zeros(0, 2).std(1),
    lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, batch_first=True), 1), lambda: torch.tensor([np.float32(1.0)]),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), lambda: torch.tensor([torch.ones(1), torch.ones(1)])])
def test_not_warned(call: Callable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call()


def test_a_retained_gradient_may_be_read() -> None:
    y = torch.zeros(2, requires_grad=True) * 2
    y.retain_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert y.grad is None
        y.sum().backward()
        assert y.grad.tolist() == [1.0, 1.0]


def test_warned_where_calls_ask_for_overrides() -> None:
    class Mine(torch.Tensor):  # from the first subclass on, public functions ask for overrides
        pass
    with pytest.warns(UserWarning, match="Implicit dimension choice") as caught:
        F.softmax(torch.zeros(2, 2))
    assert [w.filename for w in caught] == [__file__] and issubclass(Mine, torch.Tensor)
