"""torch.profiler: what is counted, when, and that nothing is left behind."""
from __future__ import annotations

import json
import time

import pytest

import fusetorch as torch
from fusetorch.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule


def test_operations_are_counted_and_timed(tmp_path):
    net, x = torch.nn.Linear(8, 8), torch.randn(4, 8)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as p:
        with record_function("outer"):
            for _ in range(3):
                net(x).exp().sum().backward()
            with record_function("sleep"):
                time.sleep(0.02)
    by = {e.key: e for e in p.key_averages()}
    assert by["aten::exp"].count == 3 and by["outer"].count == 1
    assert by["outer"].cpu_time_total >= by["sleep"].cpu_time_total + by["aten::exp"].cpu_time_total
    assert by["sleep"].cpu_time_total >= 20_000 > by["outer"].self_cpu_time_total
    assert "aten::exp" in p.key_averages().table(sort_by="cpu_time_total", row_limit=50)
    assert [4, 8] in next(e for e in p.key_averages(group_by_input_shape=True) if e.key == "aten::exp").input_shapes
    p.export_chrome_trace(str(tmp_path / "trace.json"))
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) == len(p.events())


def test_nothing_is_left_behind():
    x = torch.ones(3)
    with profile() as p:
        x + 1
    n = len(p.events())
    x + 1
    torch.exp(x)
    assert n == 1 == len(p.events())
    with pytest.raises(ZeroDivisionError), profile():
        1 / 0
    with profile(), pytest.raises(RuntimeError, match="already enabled"):
        profile().start()


def test_schedules():
    plan = schedule(wait=1, warmup=1, active=2, repeat=1, skip_first=1)
    assert [plan(i).name for i in range(7)] == ["NONE", "NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE", "NONE", "NONE"]
    assert plan(4) is ProfilerAction.RECORD_AND_SAVE
    counts = []
    x = torch.ones(3)
    with profile(schedule=schedule(wait=1, warmup=0, active=2, repeat=2),
                 on_trace_ready=lambda p: counts.append(p.key_averages().total_average().count)) as p:
        for _ in range(8):
            x + 1
            p.step()
    assert counts == [2, 2]
