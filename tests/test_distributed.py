"""``torch.distributed`` in one process: the group, collectives, what programs do around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fusetorch as torch
import fusetorch.distributed as dist
from fusetorch.distributed.elastic.multiprocessing.errors import record
from fusetorch.distributed.optim import ZeroRedundancyOptimizer
from fusetorch.utils.data import DistributedSampler


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()


def test_without_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert not dist.is_available() and not dist.is_initialized() and dist.group.WORLD is None
    for name in ("get_rank", "get_world_size", "barrier", "get_backend"):
        with pytest.raises(ValueError, match="has not been initialized"):
            getattr(dist, name)()
    with pytest.raises(ValueError, match="has not been initialized"):
        dist.all_reduce(torch.ones(1))
    with pytest.raises(ValueError, match="RANK expected"):
        dist.init_process_group("gloo")
    with pytest.raises(RuntimeError, match="one process"):
        dist.init_process_group("gloo", rank=0, world_size=2)
    with pytest.raises(ValueError, match="must be given"):
        dist.init_process_group("nccl", init_method="tcp://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="Requires distributed"):
        DistributedSampler([1, 2])
    assert not dist.is_initialized()


@pytest.mark.usefixtures("world")
def test_the_group() -> None:
    assert dist.is_available() and dist.is_initialized()
    assert (dist.get_rank(), dist.get_world_size(), dist.get_backend(), dist.get_node_local_rank()) == (0, 1, "gloo", 0)
    with pytest.raises(ValueError, match="twice"):
        dist.init_process_group("gloo")
    other = dist.new_group([0])
    assert dist.get_world_size(other) == 1 and dist.get_process_group_ranks(other) == [0] and dist.get_global_rank(other, 0) == 0
    with pytest.raises(ValueError, match="only rank 0"):
        dist.new_group([0, 1])
    assert [list(DistributedSampler([1, 2, 3], shuffle=False))] == [[0, 1, 2]]
    with pytest.raises(ValueError, match="no other process"):
        dist.send(torch.ones(1), 1)


@pytest.mark.usefixtures("world")
def test_collectives() -> None:
    t = torch.tensor([1.0, 2.0])
    assert dist.all_reduce(t) is None and dist.all_reduce(t, op=dist.ReduceOp.MAX, async_op=True).wait()
    assert dist.reduce(t, 0) is None and dist.broadcast(t, src=0) is None and t.tolist() == [1, 2]
    with pytest.raises(ValueError, match="invalid rank 1"):
        dist.broadcast(t, 1)
    calls: list[Any] = [lambda o: dist.all_gather([o], t), lambda o: dist.all_gather_into_tensor(o, t), lambda o: dist.gather(t, [o]),
                        lambda o: dist.scatter(o, [t]), lambda o: dist.reduce_scatter(o, [t]), lambda o: dist.reduce_scatter_tensor(o, t),
                        lambda o: dist.all_to_all([o], [t]), lambda o: dist.all_to_all_single(o, t)]
    for call in calls:
        out = torch.zeros(2)
        assert call(out) is None and torch.equal(out, t)
    held: list[Any] = [None]
    dist.all_gather_object(held, {"a": 1})
    assert held == [{"a": 1}]
    dist.scatter_object_list(held, [5])
    assert held == [5] and dist.barrier() is None and dist.barrier(async_op=True).is_completed()
    x = torch.ones(2, requires_grad=True)
    torch.distributed.nn.all_reduce(x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]


@pytest.mark.usefixtures("world")
def test_training() -> None:
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    before = model.module.weight.clone()
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(model.module.weight, before - 0.1 * model.module.weight.grad)
    again = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.2, momentum=0.9)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == 0.1 and list(model.state_dict()) == ["module.weight", "module.bias"]
    assert record(test_the_group) is test_the_group
