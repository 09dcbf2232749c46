"""Storages, old tensor types, memory formats, other libraries' looks at memory, copies, devices as contexts, settings."""
from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import fusetorch as torch


@pytest.fixture(params=["cpu", "cuda"])
def device(request, monkeypatch):
    monkeypatch.setattr(torch.config, "simulate_cuda", True)
    return request.param


@pytest.mark.parametrize("recorded", [True, False])
def test_offsets_count_from_the_start_of_the_memory(recorded, device):
    x = torch.arange(24.0, device=device).view(2, 3, 4)
    with torch.set_grad_enabled(recorded):
        part = x[1, 1:]
        assert part.storage_offset() == 16 and part.untyped_storage().nbytes() == 96
        assert part.untyped_storage().data_ptr() == x.data_ptr() and part.storage()[5] == 5.0
        assert part.as_strided((2,), (1,), 0).tolist() == [0, 1]
        assert part.detach()[1].storage_offset() == 20
        with pytest.raises(RuntimeError, match="out of bounds"):
            part.as_strided((2,), (1,), 23)


def test_from_numpy_begins_its_own_storage():
    a = np.arange(6.0)
    t = torch.from_numpy(a[2:])
    assert t.storage_offset() == 0 and t.untyped_storage().nbytes() == 32


def test_storages(device):
    x = torch.tensor([1, 2, 3], dtype=torch.int16, device=device)
    s = x.untyped_storage()
    assert s.tolist() == [1, 0, 2, 0, 3, 0] and s.device.type == device and torch.is_storage(s)
    s[0] = 9
    assert x[0] == 9
    t = x.storage()
    t[1] = 5
    assert t.tolist() == [9, 5, 3] and x.tolist() == [9, 5, 3] and len(t) == 3 and t.dtype is torch.int16
    assert x.storage() == x[1:].storage() and x.storage() != x.clone().storage()
    t.fill_(1)
    assert x.tolist() == [1, 1, 1] and t.clone().data_ptr() != t.data_ptr()
    assert torch.FloatStorage([1, 2]).tolist() == [1.0, 2.0]


def test_set_and_resize(device):
    x = torch.arange(6.0, device=device)
    y = torch.empty(0, device=device).set_(x.untyped_storage(), 1, (2, 2), (2, 1))
    assert y.tolist() == [[1, 2], [3, 4]] and y.storage_offset() == 1
    y[0, 0] = 10
    assert x[1] == 10
    assert torch.empty(0, device=device).set_(x).is_set_to(x)
    with pytest.raises(RuntimeError, match="out of bounds"):
        torch.empty(0, device=device).set_(x.untyped_storage(), 4, (3,))
    z = torch.arange(6.0, device=device)
    version = z._version
    assert z.resize_(2, 2).tolist() == [[0, 1], [2, 3]] and z._version > version
    assert z.resize_(6).tolist() == [0, 1, 2, 3, 4, 5]
    assert z.resize_(8)[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert z.resize_as_(torch.ones(3, 1)).shape == (3, 1)


def test_shared_memory_reaches_forked_processes():
    import multiprocessing
    x = torch.zeros(4)
    assert not x.is_shared() and x.share_memory_().is_shared()
    p = multiprocessing.get_context("fork").Process(target=x.fill_, args=(3.0,))
    p.start()
    p.join()
    assert x.tolist() == [3.0] * 4


def test_view_as_another_dtype(device):
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], device=device)
    bits = x.view(torch.int32)
    assert bits.tolist() == np.array([1, 2, 3, 4], np.float32).view(np.int32).tolist()
    bits[0] = 0
    assert x[0] == 0 and x.view(torch.uint8).shape == (16,) and x[2:].view(torch.int64).shape == (1,)
    for bad, dtype in ((x[1:3], torch.int64), (x[:3], torch.int64), (torch.tensor(1.0), torch.int64), (x.view(2, 2).t(), torch.int16)):
        with pytest.raises(RuntimeError, match=r"to view torch\.float32"):
            bad.view(dtype)


def test_memory_formats(device):
    x = torch.arange(24.0, device=device).view(1, 2, 3, 4).requires_grad_()
    y = x.to(memory_format=torch.channels_last)
    assert y.stride() == (24, 1, 8, 2) and y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    assert y.tolist() == x.tolist() and y.contiguous().stride() == (24, 12, 4, 1)
    y.sum().backward()
    assert x.grad.tolist() == torch.ones(1, 2, 3, 4).tolist()
    assert torch.zeros_like(x, memory_format=torch.channels_last).stride() == (24, 1, 8, 2)
    assert x.clone(memory_format=torch.channels_last).stride() == (24, 1, 8, 2)
    assert torch.empty(1, 2, 3, 4, memory_format=torch.channels_last).stride() == (24, 1, 8, 2)
    assert repr(torch.channels_last) == "torch.channels_last" and pickle.loads(pickle.dumps(torch.strided)) is torch.strided
    with pytest.raises(RuntimeError, match="required rank 4"):
        torch.ones(2).contiguous(memory_format=torch.channels_last)


def test_memory_formats_compiled():
    x = torch.randn(2, 3, 4, 5)
    f = torch.compile(lambda t: (t * 2).contiguous(memory_format=torch.channels_last))
    assert torch.equal(f(x), x * 2) and f(x).stride() == (60, 1, 15, 3)


def test_old_types(device):
    assert torch.FloatTensor([1, 2]).dtype is torch.float32 and torch.LongTensor(2, 3).shape == (2, 3)
    assert isinstance(torch.ones(2), torch.FloatTensor) and not isinstance(torch.ones(2), torch.LongTensor)
    assert torch.ones(2).type() == "torch.FloatTensor" and torch.ones(2).type("torch.LongTensor").dtype is torch.int64
    assert torch.ones(2).type(torch.HalfTensor).dtype is torch.float16 and torch.ones(2, device="cuda").type() == "torch.cuda.FloatTensor"
    with pytest.raises(ValueError, match="invalid type"):
        torch.ones(2).type("float")
    with pytest.raises(TypeError):
        torch.Tensor(2.5)
    torch.set_default_tensor_type(torch.DoubleTensor)
    try:
        assert torch.ones(1).dtype is torch.float64
    finally:
        torch.set_default_tensor_type("torch.FloatTensor")


def test_devices_as_contexts(monkeypatch):
    monkeypatch.setattr(torch.config, "simulate_cuda", True)
    seen = []
    with torch.device("cuda"):
        assert torch.ones(1).device.type == "cuda" and torch.get_default_device().type == "cuda"
        with torch.device("cpu"):
            assert torch.zeros(1).device.type == "cpu"
        thread = threading.Thread(target=lambda: seen.append(torch.ones(1).device.type))
        thread.start()
        thread.join()
    assert seen == ["cpu"] and torch.ones(1).device.type == "cpu"
    assert torch.device("cuda")(lambda: torch.ones(1))().device.type == "cuda"


def test_copies_keep_sharing():
    x = torch.arange(6.0)
    both = copy.deepcopy([x, x[2:4], x.view(2, 3).t()])
    both[0][2] = 50
    assert both[1][0] == 50 and both[2][2, 0] == 50 and x[2] == 2
    y = copy.copy(x)
    y[0] = 9
    assert x[0] == 9
    p = torch.nn.Parameter(torch.ones(2))
    assert isinstance(copy.deepcopy(p), torch.nn.Parameter) and copy.deepcopy(p).data_ptr() != p.data_ptr()
    assert copy.copy(p).data_ptr() == p.data_ptr() and copy.copy(p).requires_grad
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(p * 2)


def test_dlpack_and_buffers():
    a = np.arange(3.0)
    t = torch.from_dlpack(a)
    t[0] = 7
    assert a[0] == 7
    back = np.from_dlpack(t)
    assert back.tolist() == [7, 1, 2]
    assert torch.from_dlpack(torch.to_dlpack(t)).data_ptr() == t.data_ptr()
    with pytest.raises(BufferError):
        torch.ones(2, requires_grad=True).__dlpack__()
    b = bytearray(b"\x01\x00\x02\x00")
    n = torch.frombuffer(b, dtype=torch.int16, offset=2)
    n[0] = 3
    assert b[2] == 3
    for kwargs in ({"offset": 5}, {"count": 5}, {"offset": 1}, {"count": 0}):
        with pytest.raises(ValueError):
            torch.frombuffer(b, dtype=torch.int16, **kwargs)
    shared = torch.asarray(a)
    shared[1] = 8
    assert a[1] == 8 and torch.asarray(a, copy=True).data_ptr() != shared.data_ptr()
    with pytest.raises(ValueError, match="alias"):
        torch.asarray([1, 2], copy=False)


def test_numpy_functions_take_tensors():
    x = torch.tensor([0.0, 1.0])
    assert isinstance(np.exp(x), torch.Tensor) and np.exp(x).tolist() == pytest.approx([1.0, np.e])
    assert np.asarray(x).dtype == np.float32 and np.array(x, dtype=np.int64).tolist() == [0, 1]
    assert x.requires_grad_().numpy(force=True).tolist() == [0, 1]


def test_data_and_grad_are_checked():
    p = torch.ones(3, requires_grad=True)
    p.data = torch.zeros(2)
    p.data[0] = 5
    assert p.tolist() == [5, 0] and p.is_leaf
    with pytest.raises(RuntimeError, match="floating point"):
        p.data = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError):
        p.grad = 3


def test_callbacks_on_elements():
    assert torch.ones(3).apply_(lambda v: v + 1).tolist() == [2, 2, 2]
    assert torch.ones(3).map_(torch.arange(3.0), lambda a, b: a + b).tolist() == [1, 2, 3]


def test_settings():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(RuntimeError):
        torch.set_num_threads(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("high")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
    assert torch.typename(torch.ones(1)) == "torch.FloatTensor" and torch.Size([2, 3]).numel() == 6
    assert (0,) + torch.Size([1]) == torch.Size([0, 1]) and type(torch.Size([1]) * 2) is torch.Size


def test_assert_close():
    torch.testing.assert_close({"a": [torch.ones(2), 1.0]}, {"a": [torch.ones(2) + 1e-6, 1.0]})
    with pytest.raises(AssertionError, match=r"Mismatched elements: 1 / 2 \(50.0%\)\n.*at index \(1,\)"):
        torch.testing.assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]))
    with pytest.raises(AssertionError, match="'dtype'"):
        torch.testing.assert_close(torch.ones(2), torch.ones(2, dtype=torch.float64))
    with pytest.raises(AssertionError, match=r"item \['a'\]\[0\]"):
        torch.testing.assert_close({"a": [1]}, {"a": [2]})
    with pytest.raises(AssertionError):
        torch.testing.assert_close(torch.tensor(float("nan")), torch.tensor(float("nan")))
    torch.testing.assert_close(torch.tensor(float("nan")), torch.tensor(float("nan")), equal_nan=True)
    with pytest.raises(ValueError, match="both"):
        torch.testing.assert_close(1.0, 1.0, rtol=1)
    x = torch.testing.make_tensor(3, 4, dtype=torch.int8, low=1, high=3, noncontiguous=True)
    assert not x.is_contiguous() and set(x.flatten().tolist()) <= {1, 2}


@pytest.mark.parametrize("dtype", ["f", "d", "i", "l", "b", "e"])
def test_large_copies_convert_no_bits_whatever_the_layouts(dtype):
    from fusetorch import cpu_backend
    rng = np.random.default_rng(0)

    def draw(*shape):
        return (100 * rng.standard_normal(shape)).astype(dtype)
    for source in (draw(300, 400)[::-1], draw(400, 300).T, draw(400), draw(300, 800)[:, ::-2], draw(300, 1), draw(300, 400)):
        for target in (np.empty((300, 400), dtype), np.empty((400, 300), dtype).T, np.empty((300, 2, 400), dtype)[:, 1]):
            cpu_backend.copy(target, source)
            assert np.array_equal(target, np.broadcast_to(source, target.shape))


def test_large_copies_between_overlapping_parts_of_one_memory_read_before_they_write():
    from fusetorch import cpu_backend
    x = np.arange(200_000, dtype=np.float32)
    cpu_backend.copy(x[1:], x[:-1])
    assert np.array_equal(x[1:], np.arange(199_999, dtype=np.float32))
