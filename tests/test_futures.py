"""torch.futures."""
from __future__ import annotations

import threading

import pytest

import fusetorch as torch


def test_a_result_reaches_those_who_wait_and_what_comes_after():
    future = torch.futures.Future()
    after = future.then(lambda f: f.value() + 1)
    seen = []
    future.add_done_callback(lambda f: seen.append(f.value()))
    assert not future.done()
    with pytest.raises(RuntimeError, match="not complete"):
        future.value()
    setter = threading.Timer(0.01, future.set_result, [3])
    setter.start()
    assert after.wait() == 4 and future.wait() == 3 and future.done()
    setter.join()
    future.add_done_callback(lambda f: seen.append("late"))
    assert seen == [3, "late"]
    with pytest.raises(RuntimeError, match="already complete"):
        future.set_result(5)


def test_exceptions():
    future = torch.futures.Future()
    after = future.then(lambda f: f.wait())
    with pytest.raises(TypeError, match="not an Exception"):
        future.set_exception("no")
    future.set_exception(KeyError("gone"))
    for f in (future, after):
        with pytest.raises(KeyError, match="gone"):
            f.wait()


def test_several():
    futures = [torch.futures.Future() for _ in range(3)]
    together = torch.futures.collect_all(futures)
    for i, f in enumerate(futures):
        assert not together.done()
        f.set_result(i)
    assert together.wait() is futures and torch.futures.wait_all(futures) == [0, 1, 2]
    assert torch.futures.collect_all([]).wait() == []
    assert torch.jit.wait(torch.jit.fork(lambda x: x * 2, 4)) == 8
