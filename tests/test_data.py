"""fusetorch.utils.data: datasets, samplers, loaders."""
from __future__ import annotations

import threading
import time
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import fusetorch as torch
from fusetorch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)

X, Y = torch.arange(46.0).reshape(23, 2), torch.arange(23)


class Squares(Dataset):
    def __init__(self, n=10):
        self.n = n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return i * i

    def __len__(self):
        return self.n


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        return iter(range(10) if info is None else range(info.id, 10, info.num_workers))


def plain(batch):
    """Tensors of a batch as lists with their dtype, for comparing."""
    if isinstance(batch, torch.Tensor):
        return str(batch.dtype), batch.tolist()
    if isinstance(batch, dict):
        return {k: plain(v) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(map(plain, batch))
    return batch


def test_datasets():
    data = TensorDataset(X, Y)
    assert len(data) == 23 and data[3][0].tolist() == [6.0, 7.0] and data[-1][1].item() == 22
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(X, Y[:3])
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset) and [both[i] for i in range(5)] == [0, 1, 4, 0, 1] and both[-1] == 1
    with pytest.raises(IndexError):
        both[5]
    with pytest.raises(ValueError, match="absolute value"):
        both[-6]
    assert [Subset(Squares(), [3, 1])[i] for i in range(2)] == [9, 1]
    assert list(Stream() + Stream()) == list(range(10)) * 2 and isinstance(Stream() + Stream(), ChainDataset)
    assert StackDataset(Squares(3), Squares(3))[2] == (4, 4) and StackDataset(a=Squares(3))[2] == {"a": 4}
    with pytest.raises(NotImplementedError):
        Dataset()[0]


def test_random_split():
    g = torch.Generator().manual_seed(3)
    parts = random_split(Squares(11), [0.3, 0.3, 0.4], g)
    assert [len(p) for p in parts] == [4, 3, 4]  # what rounding leaves goes to the first parts
    assert sorted(i for p in parts for i in p.indices) == list(range(11))
    again = random_split(Squares(11), [4, 3, 4], torch.Generator().manual_seed(3))
    assert [p.indices for p in again] == [p.indices for p in parts]
    with pytest.raises(ValueError, match="does not equal the length"):
        random_split(Squares(11), [4, 3])
    with pytest.raises(ValueError, match="not between 0 and 1"):
        random_split(Squares(11), [1.5, -0.5])


def test_samplers():
    assert list(SequentialSampler(Squares(4))) == [0, 1, 2, 3]
    torch.manual_seed(0)
    a, b = list(RandomSampler(Squares(20))), list(RandomSampler(Squares(20)))
    assert sorted(a) == sorted(b) == list(range(20)) and a != b
    torch.manual_seed(0)
    assert list(RandomSampler(Squares(20))) == a
    many = list(RandomSampler(Squares(5), num_samples=12))
    assert len(many) == 12 and sorted(many[:5]) == sorted(many[5:10]) == list(range(5))
    drawn = list(RandomSampler(Squares(5), replacement=True, num_samples=200))
    assert len(drawn) == 200 and set(drawn) == set(range(5))
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9]
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3 and len(BatchSampler(range(5), 2, True)) == 2
    for bad in (lambda: RandomSampler(Squares(), num_samples=0), lambda: BatchSampler(range(5), 0, False),
                lambda: BatchSampler(range(5), 2, 1), lambda: WeightedRandomSampler([1.0], 0)):
        with pytest.raises(ValueError):
            bad()


def test_weighted_sampler():
    torch.manual_seed(0)
    drawn = list(WeightedRandomSampler([0.0, 1.0, 3.0], 2000))
    assert drawn.count(0) == 0 and 350 < drawn.count(1) < 650
    assert sorted(WeightedRandomSampler([0.5, 1.0, 3.0], 3, replacement=False)) == [0, 1, 2]


def test_collate():
    Point = namedtuple("Point", "x y")
    samples = [{"f": 1.5, "i": 2, "b": True, "s": "a", "t": torch.ones(2), "n": np.arange(3), "z": np.float32(1),
                "p": Point(1, 2.0), "l": [1, (2, 3)]}] * 2
    got = default_collate(samples)
    assert got["f"].dtype is torch.float64 and got["i"].dtype is torch.int64 and got["b"].dtype is torch.bool
    assert got["s"] == ["a", "a"] and got["t"].shape == (2, 2) and got["n"].tolist() == [[0, 1, 2]] * 2
    assert got["z"].dtype is torch.float32 and got["p"].x.tolist() == [1, 1] and isinstance(got["p"], Point)
    assert plain(got["l"]) == [("torch.int64", [1, 1]), [("torch.int64", [2, 2]), ("torch.int64", [3, 3])]]
    assert isinstance(default_collate([OrderedDict(a=1)]), OrderedDict)
    with pytest.raises(TypeError, match="found <class 'object'>"):
        default_collate([object()])
    with pytest.raises(TypeError, match="found"):
        default_collate([np.array(["a"])])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])
    converted = default_convert({"a": np.ones(2), "b": (1, "s")})
    assert converted["a"].tolist() == [1.0, 1.0] and converted["b"] == [1, "s"]


LOADERS = {
    "tensors": lambda **k: DataLoader(TensorDataset(X, Y), batch_size=4, **k),
    "drop_last": lambda **k: DataLoader(TensorDataset(X, Y), batch_size=4, drop_last=True, **k),
    "subset": lambda **k: DataLoader(Subset(Subset(TensorDataset(X, Y), range(2, 20)), [3, 1, 4, 5]), batch_size=3, **k),
    "single": lambda **k: DataLoader(TensorDataset(X, Y), batch_size=None, **k),
    "concat": lambda **k: DataLoader(ConcatDataset([TensorDataset(X, Y)] * 2), batch_size=5, **k),
    "list": lambda **k: DataLoader([{"a": 1.5, "b": "s"}] * 5, batch_size=2, **k),
    "batch_sampler": lambda **k: DataLoader(Squares(), batch_sampler=[[1, 2], [3]], **k),
    "collate_fn": lambda **k: DataLoader(Squares(), batch_size=3, collate_fn=sum, **k),
}


@pytest.mark.parametrize("name", LOADERS)
def test_batches_equal_collated_samples_with_any_workers(name):
    make = LOADERS[name]
    loader = make()
    collate = loader.collate_fn
    wanted = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    expected = [plain(collate(loader.dataset[w] if isinstance(w, int) else [loader.dataset[i] for i in w])) for w in wanted]
    assert [plain(b) for b in loader] == expected and len(loader) == len(expected)
    for workers in (1, 3):
        threaded = make(num_workers=workers)
        assert [plain(b) for b in threaded] == expected
        assert [plain(b) for b in threaded] == expected  # a second pass


def test_tensor_batches_own_their_memory():
    data = TensorDataset(torch.zeros(4, 2))
    for (batch,) in DataLoader(data, batch_size=2):
        batch += 1
    assert data.tensors[0].sum().item() == 0


def test_subclasses_keep_their_getitem():
    class Negated(TensorDataset):
        def __getitem__(self, i):
            return tuple(-t for t in super().__getitem__(i))

    (batch,) = DataLoader(Negated(Y), batch_size=23)
    assert batch[0].tolist() == [-i for i in range(23)]


def test_getitems_is_used():
    class Fetching(Squares):
        def __getitems__(self, indices):
            return [-i for i in indices]

    assert [b.tolist() for b in DataLoader(Fetching(4), batch_size=2)] == [[0, -1], [-2, -3]]


def test_shuffle_is_seeded():
    def order(seed):
        loader = DataLoader(TensorDataset(Y), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return [b.tolist() for (b,) in loader]

    assert order(1) == order(1) != order(2)
    assert sorted(sum(order(1), [])) == list(range(23))
    loader = DataLoader(TensorDataset(Y), batch_size=23, shuffle=True)
    assert next(iter(loader))[0].tolist() != next(iter(loader))[0].tolist()


def test_streams():
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=4, drop_last=True)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(DataLoader(Stream(), batch_size=None)) == list(range(10))
    # each worker makes batches of its own share, taken in turn
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=2, num_workers=3)] == [[0, 3], [1, 4], [2, 5], [6, 9], [7], [8]]
    with pytest.raises(ValueError, match="expected unspecified shuffle"):
        DataLoader(Stream(), shuffle=True)


def test_workers():
    seen = set()

    class Who(Squares):
        def __getitem__(self, i):
            info = get_worker_info()
            seen.add((info.id, info.num_workers, threading.current_thread().name.startswith("DataLoader")))
            return i

    started = []
    loader = DataLoader(Who(8), num_workers=2, worker_init_fn=started.append, prefetch_factor=1)
    assert [b.item() for b in loader] == list(range(8))
    assert seen == {(0, 2, True), (1, 2, True)} and sorted(started) == [0, 1] and get_worker_info() is None


def test_worker_errors_and_timeouts_reach_the_caller():
    class Bad(Squares):
        def __getitem__(self, i):
            if i == 3:
                raise KeyError("sample 3")
            return i

    got = []
    with pytest.raises(KeyError, match="sample 3"):
        for b in DataLoader(Bad(), num_workers=2):
            got.append(b.item())
    assert got == [0, 1, 2]

    class Slow(Squares):
        def __getitem__(self, i):
            time.sleep(0.3)
            return i

    with pytest.raises(RuntimeError, match="timed out after 0.02 seconds"):
        list(DataLoader(Slow(2), num_workers=1, timeout=0.02))

    def fail(worker):
        raise ValueError("cannot start")

    with pytest.raises(ValueError, match="cannot start"):
        list(DataLoader(Squares(), num_workers=1, worker_init_fn=fail))
    iterator = iter(DataLoader(Slow(50), num_workers=2))
    next(iterator)
    begun = time.perf_counter()
    iterator.close()  # an abandoned pass does not load the rest
    assert time.perf_counter() - begun < 2


def test_loader_arguments():
    for bad, message in (({"batch_size": 0}, "positive integer"), ({"num_workers": -1}, "non-negative"),
                         ({"prefetch_factor": 2}, "prefetch_factor"), ({"persistent_workers": True}, "num_workers > 0"),
                         ({"shuffle": True, "sampler": [0]}, "mutually exclusive"),
                         ({"batch_sampler": [[0]], "batch_size": 3}, "mutually exclusive"),
                         ({"batch_size": None, "drop_last": True}, "disables auto-batching"), ({"timeout": -1}, "timeout")):
        with pytest.raises(ValueError, match=message):
            DataLoader(Squares(), **bad)
    loader = DataLoader(Squares(), batch_size=4)
    assert len(loader) == 3 and len(DataLoader(Squares(), batch_size=4, drop_last=True)) == 2
    with pytest.raises(ValueError, match="should not be set after DataLoader is initialized"):
        loader.batch_size = 3
    with pytest.raises(ValueError, match="positive integer"):
        DataLoader([], shuffle=True)


@pytest.mark.peer
def test_batches_equal_pytorch():
    peer = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 3)).astype("float32"), np.arange(23)
    for options in ({"batch_size": 4}, {"batch_size": 7, "drop_last": True}, {"batch_size": None}):
        ours = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), **options)
        theirs = peer.utils.data.DataLoader(peer.utils.data.TensorDataset(peer.tensor(x), peer.tensor(y)), **options)
        a = [[(str(t.dtype), t.tolist()) for t in batch] for batch in ours]
        assert a == [[(str(t.dtype), t.tolist()) for t in batch] for batch in theirs] and len(ours) == len(theirs)
    samples = [{"a": 1.5, "b": "s", "c": [1, (2.0, True)], "n": np.float32(3), "m": np.arange(3)}] * 5
    a, b = default_collate(samples), peer.utils.data.default_collate(samples)
    for key in ("a", "n", "m"):
        assert str(a[key].dtype) == str(b[key].dtype) and a[key].tolist() == b[key].tolist()
    assert a["b"] == b["b"] and type(a["c"]) is type(b["c"]) and a["c"][1][1].tolist() == b["c"][1][1].tolist()
