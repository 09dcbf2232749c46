"""torch.save and torch.load: round trips, sharing, safety, and files exchanged with PyTorch."""
from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest

import fusetorch as torch
from fusetorch.unpickling import RestrictedUnpickler

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
          torch.bool]


def round_trip(obj, **options):
    f = io.BytesIO()
    torch.save(obj, f, **{k: v for k, v in options.items() if k.startswith("_")})
    f.seek(0)
    return torch.load(f, **{k: v for k, v in options.items() if not k.startswith("_")})


def checkpoint():
    x = torch.arange(12.0).view(3, 4)
    state = OrderedDict(weight=x, column=x[:, 1], turned=x.t(), part=x[1:, 2:])
    return {"state": state, "step": 3, "rate": 1e-3, "names": ["a", ("b", None)], "flag": True, "size": torch.Size([1, 2]),
            "dtype": torch.float16, "device": torch.device("cpu"), "parameter": torch.nn.Parameter(torch.ones(2)), "none": None,
            "empty": torch.empty(0, 3), "scalar": torch.tensor(7), "layout": torch.strided, "set": {1, 2}}


@pytest.mark.parametrize("zipped", [True, False])
def test_round_trip_keeps_values_and_sharing(zipped):
    d = round_trip(checkpoint(), _use_new_zipfile_serialization=zipped)
    s = d["state"]
    assert type(s) is OrderedDict
    assert s["turned"].stride() == (1, 4) and s["part"].storage_offset() == 6
    s["weight"][1, 1] = 100
    assert s["column"][1] == 100 and s["turned"][1, 1] == 100
    s["part"][0, 0] = -1
    assert s["weight"][1, 2] == -1
    assert isinstance(d["parameter"], torch.nn.Parameter) and d["parameter"].requires_grad
    assert d["size"] == torch.Size([1, 2]) and type(d["size"]) is torch.Size and d["dtype"] is torch.float16
    assert d["empty"].shape == (0, 3) and d["scalar"].item() == 7 and d["layout"] is torch.strided
    assert (d["step"], d["rate"], d["names"], d["flag"], d["none"], d["set"]) == (3, 1e-3, ["a", ("b", None)], True, None, {1, 2})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    x = torch.arange(5).to(dtype)
    y = round_trip(x)
    assert y.dtype is dtype and torch.equal(x, y)


def test_memory_is_stored_once_and_aligned(tmp_path):
    x = torch.randn(1000)
    torch.save([x, x[10:], x.view(10, 100)], tmp_path / "many.pt")
    torch.save([x], tmp_path / "one.pt")
    assert (tmp_path / "many.pt").stat().st_size < (tmp_path / "one.pt").stat().st_size + 1000
    with zipfile.ZipFile(tmp_path / "many.pt") as z:
        assert z.testzip() is None
        for info in z.infolist():
            assert info.compress_type == zipfile.ZIP_STORED and info.filename.startswith("many/")
            z.fp.seek(info.header_offset + 26)
            name, extra = np.frombuffer(z.fp.read(4), "<u2")
            assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_mmap_is_private(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"x": torch.arange(100.0)}, path)
    x = torch.load(path, mmap=True)["x"]
    x[0] = 5
    assert torch.load(path)["x"][0] == 0 and x[99] == 99
    with pytest.raises(ValueError, match="mmap"):
        torch.load(io.BytesIO(path.read_bytes()), mmap=True)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    torch.save(torch.ones(2), path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        torch.save(lambda: None, path)
    assert torch.equal(torch.load(path), torch.ones(2)) and [p.name for p in tmp_path.iterdir()] == ["x.pt"]


def test_unknown_names_are_refused():
    f = io.BytesIO()
    torch.save({"x": Fraction(1, 2)}, f)
    f.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global: GLOBAL fractions.Fraction"):
        torch.load(f)
    f.seek(0)
    assert torch.load(f, weights_only=False)["x"] == Fraction(1, 2)
    f.seek(0)
    with torch.serialization.safe_globals([Fraction]):
        assert torch.load(f)["x"] == Fraction(1, 2)
    assert torch.serialization.get_safe_globals() == []


class Attack:
    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("what", [(eval, ("1/0",)), (getattr, (int, "real")), (dict.fromkeys, ([1],))])
def test_nothing_is_called(what):
    f = io.BytesIO()
    torch.save(Attack(what), f)
    f.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(f)


def test_the_state_of_a_listed_function_cannot_be_set():
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(pickle.UnpicklingError, match="Can only build"):
        RestrictedUnpickler(io.BytesIO(data)).load()


def test_map_location(monkeypatch):
    monkeypatch.setattr(torch.config, "simulate_cuda", True)
    f = io.BytesIO()
    torch.save({"a": torch.arange(4.0, device="cuda"), "b": torch.ones(2)}, f)
    for where, expected in ((None, ["cuda", "cpu"]), ("cpu", ["cpu", "cpu"]), ({"cuda:0": "cpu"}, ["cpu", "cpu"]),
                            ("cuda", ["cuda", "cuda"]),
                            (torch.device("cpu"), ["cpu", "cpu"]), (lambda s, place: s.cpu(), ["cpu", "cpu"])):
        f.seek(0)
        d = torch.load(f, map_location=where)
        assert [t.device.type for t in d.values()] == expected and d["a"].tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(torch.config, "simulate_cuda", False)
    if not torch.cuda.is_available():
        f.seek(0)
        with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
            torch.load(f)


@pytest.mark.parametrize("data, error", [(b"", EOFError), (b"not a checkpoint", pickle.UnpicklingError), (b"PK\x03\x04 cut", RuntimeError)])
def test_damaged_files(data, error):
    with pytest.raises(error):
        torch.load(io.BytesIO(data))


def test_a_training_checkpoint():
    def make():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        return net, torch.optim.Adam(net.parameters(), lr=0.1)

    def step(net, optimizer):
        optimizer.zero_grad()
        loss = net(torch.ones(2, 3)).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    net, optimizer = make()
    step(net, optimizer)
    saved = round_trip({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    expected = [step(net, optimizer) for _ in range(3)]
    again, other = make()
    again.load_state_dict(saved["net"])
    other.load_state_dict(saved["optimizer"])
    assert [step(again, other) for _ in range(3)] == expected


@pytest.mark.peer
@pytest.mark.parametrize("zipped", [True, False])
def test_files_go_to_pytorch_and_come_back(zipped, tmp_path):
    real = pytest.importorskip("torch")
    path = str(tmp_path / "x.pt")
    ours = checkpoint()
    ours["state"].update({str(d): torch.arange(3).to(d) for d in DTYPES})
    torch.save(ours, path, _use_new_zipfile_serialization=zipped)
    theirs = real.load(path)
    assert isinstance(theirs["parameter"], real.nn.Parameter) and theirs["dtype"] is real.float16
    assert theirs["size"] == real.Size([1, 2]) and theirs["device"] == real.device("cpu")
    for k, t in ours["state"].items():
        assert str(theirs["state"][k].dtype) == str(t.dtype) and theirs["state"][k].tolist() == t.tolist(), k
        assert theirs["state"][k].stride() == t.stride() and theirs["state"][k].storage_offset() == t.storage_offset()
    theirs["state"]["weight"][1, 1] = 100
    assert theirs["state"]["column"][1] == 100
    real.save(theirs, path, _use_new_zipfile_serialization=zipped)
    back = torch.load(path)
    for k, t in theirs["state"].items():
        assert str(back["state"][k].dtype) == str(t.dtype) and back["state"][k].tolist() == t.tolist(), k
    back["state"]["weight"][1, 1] = 7
    assert back["state"]["column"][1] == 7
    assert isinstance(back["parameter"], torch.nn.Parameter) and back["layout"] is torch.strided


@pytest.mark.peer
def test_modules_exchange_state_with_pytorch(tmp_path):
    real = pytest.importorskip("torch")

    def make(t):
        return t.nn.Sequential(t.nn.Linear(3, 5), t.nn.ReLU(), t.nn.LayerNorm(5), t.nn.Linear(5, 2))

    theirs, ours = make(real), make(torch)
    path = str(tmp_path / "state.pt")
    real.save(theirs.state_dict(), path)
    ours.load_state_dict(torch.load(path))
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(torch.from_numpy(x)).detach().numpy(), theirs(real.from_numpy(x)).detach().numpy(), rtol=1e-5,
                               atol=1e-6)
    torch.save(ours.state_dict(), path)
    make(real).load_state_dict(real.load(path))


def test_records_of_a_file(tmp_path):
    torch.save({"a": torch.tensor([1.0, 2.0])}, tmp_path / "x.pt")
    reader = torch.PyTorchFileReader(str(tmp_path / "x.pt"))
    assert reader.has_record("data.pkl") and "data/0" in reader.get_all_records() and reader.get_record_size("data/0") == 8
    assert np.frombuffer(reader.get_record("data/0"), np.float32).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="nothing"):
        reader.get_record("nothing")
    (tmp_path / "no.pt").write_bytes(b"no archive")
    for name in ("no.pt", "nowhere.pt"):
        with pytest.raises(RuntimeError, match="failed"):
            torch.PyTorchFileReader(str(tmp_path / name))
