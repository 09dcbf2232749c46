"""The modules that programs import for switches and questions: backends, distributed, multiprocessing, jit, hub, onnx, benchmark."""
from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

import fusetorch as torch
from fusetorch import config


def test_questions_have_true_answers():
    assert not torch.backends.cudnn.is_available() and torch.backends.cudnn.version() is None
    assert not torch.backends.mps.is_available() and not torch.mps.is_available() and not torch.xpu.is_available()
    assert not torch.distributed.is_available() and not torch.distributed.is_initialized()
    assert torch.accelerator.is_available() == torch.cuda.is_available()
    assert (torch.accelerator.current_accelerator() is None) == (not torch.cuda.is_available())
    assert not torch.jit.is_scripting() and not torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export()
    assert torch.cpu.is_available() and torch.backends.cpu.get_cpu_capability()


def test_switches_are_kept():
    cudnn = torch.backends.cudnn
    cudnn.benchmark, cudnn.deterministic = True, True
    with cudnn.flags(enabled=False):
        assert not cudnn.enabled and not cudnn.benchmark
    assert cudnn.enabled and cudnn.benchmark
    cudnn.benchmark = cudnn.deterministic = False
    before = torch.get_float32_matmul_precision()
    torch.backends.cuda.matmul.allow_tf32 = True
    assert torch.get_float32_matmul_precision() == "high" and torch.backends.cuda.matmul.allow_tf32
    torch.set_float32_matmul_precision(before)
    assert torch.backends.cuda.matmul.allow_tf32 == (before != "highest")
    torch.backends.cuda.enable_flash_sdp(False)
    assert not torch.backends.cuda.flash_sdp_enabled()
    torch.backends.cuda.enable_flash_sdp(True)


def double(i, queue):
    queue.put((i, torch.ones(2) * 2))


def fill(i, shared, copied, layer):
    with torch.no_grad():
        shared[1:] = 7
        copied.fill_(7)
        layer.weight.fill_(3)


def fail(i):
    raise ValueError(f"in process {i}")


def test_processes():
    mp = torch.multiprocessing
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(double, (queue,), nprocs=1)
    i, t = queue.get()
    assert i == 0 and t.tolist() == [2.0, 2.0]
    with pytest.raises(mp.ProcessRaisedException, match="in process 0"):
        mp.spawn(fail, nprocs=1)
    mp.set_sharing_strategy("file_system")
    assert mp.get_sharing_strategy() == "file_system" and mp.cpu_count() > 0


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_shared_memory(method):
    mp = torch.multiprocessing
    shared, copied, layer = torch.zeros(4), torch.zeros(4), torch.nn.Linear(2, 1)
    shared.share_memory_()
    layer.share_memory()
    assert shared.is_shared() and layer.weight.is_shared() and not copied.is_shared()
    mp.start_processes(fill, (shared[1:], copied, layer), start_method=method)
    assert shared.tolist() == [0.0, 0.0, 7.0, 7.0] and copied.tolist() == [0.0] * 4
    assert layer.weight.tolist() == [[3.0, 3.0]] and layer.weight.requires_grad


def test_jit_gives_back_what_it_is_given(tmp_path):
    jit = torch.jit

    @jit.script
    def f(x):
        return x * 2

    class M(torch.nn.Module):
        def forward(self, x):
            return f(x) + 1

        @jit.export
        def other(self, x):
            return x

        @jit.ignore
        def free(self):
            return 1

        @jit.unused
        def never(self):
            return 2

    m = M()
    assert jit.script(m) is m and jit.trace(m, torch.ones(1)) is m and m(torch.ones(1)).tolist() == [3.0] and m.free() == 1
    assert jit.annotate(int, 3) == 3 and jit.fork(f, torch.ones(1)).wait().tolist() == [2.0]
    assert issubclass(jit.ScriptModule, torch.nn.Module)
    assert jit.isinstance([1, 2], list[int]) and not jit.isinstance([1, "a"], list[int])
    for call in (lambda: jit.save(m, tmp_path / "m.pt"), lambda: jit.load(tmp_path / "m.pt")):
        with pytest.raises(NotImplementedError, match="state_dict"):
            call()


def test_what_is_missing_says_so():
    with pytest.raises(RuntimeError, match="ONNX"):
        torch.onnx.export(None, None, "f")
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
            importlib.import_module("fusetorch.utils.tensorboard")
    with pytest.raises(NotImplementedError, match="source='local'"):
        torch.hub.load("pytorch/vision", "resnet18")


def test_hub_reads_a_folder_and_a_file(tmp_path):
    (tmp_path / "hubconf.py").write_text("def answer(x=1):\n    'The answer.'\n    return x + 41\n")
    assert torch.hub.load(str(tmp_path), "answer", source="local", x=1) == 42
    assert torch.hub.list(str(tmp_path), source="local") == ["answer"]
    assert torch.hub.help(str(tmp_path), "answer", source="local") == "The answer."
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    got = torch.utils.model_zoo.load_url((tmp_path / "w.pt").as_uri(), model_dir=str(tmp_path / "kept"))
    assert got["w"].tolist() == [1.0, 1.0] and (tmp_path / "kept" / "w.pt").exists()
    with pytest.raises(RuntimeError, match="invalid hash"):
        torch.hub.download_url_to_file((tmp_path / "w.pt").as_uri(), str(tmp_path / "x"), hash_prefix="00000000")
    assert not (tmp_path / "x").exists()


def test_benchmark_timer():
    from fusetorch.utils.benchmark import Timer
    got = Timer("x + x", globals={"x": torch.ones(3)}).blocked_autorange(min_run_time=0.02)
    assert 0 < got.median < 0.1 and "runs per measurement" in repr(got)


def test_cuda_names_without_a_gpu():
    cuda = torch.cuda
    if cuda.is_available():
        pytest.skip("there is a GPU")
    assert cuda.device_count() == 0 and cuda.memory_allocated() == 0 and cuda.max_memory_reserved() == 0 and cuda.memory_stats() == {}
    cuda.empty_cache()
    cuda.manual_seed_all(3)
    assert cuda.get_rng_state_all() == [] and not cuda.is_current_stream_capturing()
    with cuda.nvtx.range("x"):
        cuda.nvtx.mark("y")
    with cuda.device(None), cuda.StreamContext(None):
        pass
    with pytest.raises(RuntimeError, match="CUDA"):
        cuda.synchronize()
    with pytest.raises(AttributeError, match="does not have torch.cuda.nothing"):
        cuda.nothing  # noqa: B018


def test_a_share_of_a_dataset():
    from fusetorch.utils.data.distributed import DistributedSampler
    shares = [list(DistributedSampler(range(10), 3, r, shuffle=False)) for r in range(3)]
    assert shares == [[0, 3, 6, 9], [1, 4, 7, 0], [2, 5, 8, 1]]
    shuffled = [DistributedSampler(range(10), 2, r) for r in range(2)]
    first = [list(s) for s in shuffled]
    for s in shuffled:
        s.set_epoch(1)
    assert sorted(first[0] + first[1]) == list(range(10)) and [list(s) for s in shuffled] != first
    assert [len(DistributedSampler(range(10), 3, r, drop_last=True)) for r in range(3)] == [3, 3, 3]


@pytest.mark.parametrize("name", ["utils.data.dataloader", "utils.data.dataset", "utils.data.sampler", "utils.data.distributed", "cuda.amp",
                                  "cuda.amp.grad_scaler", "cpu.amp", "optim.lr_scheduler", "optim.swa_utils", "optim.adamw", "hub",
                                  "backends.cudnn", "multiprocessing.spawn", "accelerator", "cuda.nvtx", "cuda.memory", "cuda.random"])
def test_modules_can_be_imported(name):
    importlib.import_module(f"fusetorch.{name}")


def test_none_of_them_is_loaded_early():
    program = "import sys, fusetorch; print([m for m in sys.modules if m.startswith(('fusetorch.jit', 'fusetorch.hub', 'fusetorch.dist'))])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == "[]"


def test_parts_for_devices():
    from fusetorch.nn.parallel import gather, scatter
    x = torch.arange(6.0).reshape(3, 2)
    parts = scatter((x, {"a": [x, 1]}), ["cpu", "cpu"])
    assert [p[0].shape[0] for p in parts] == [2, 1] and parts[1][1]["a"][0].tolist() == [[4, 5]] and parts[0][1]["a"][1] == 1
    assert torch.equal(gather([p[0] for p in parts], "cpu"), x)
    assert torch.equal(gather([{"b": (p[0],)} for p in parts], -1)["b"][0], x)
    positional, named = torch.nn.parallel.scatter_gather.scatter_kwargs((x,), None, ["cpu", "cpu"])
    assert [p[0].shape[0] for p in positional] == [2, 1] and named == ({}, {})
    layer = torch.nn.Linear(2, 1)
    assert torch.equal(torch.nn.parallel.data_parallel(layer, x), layer(x))


def test_private_modules_answer():
    assert "USE_MKL=OFF" in torch.__config__.show() and "threads" in torch.__config__.parallel_info()
    functorch = importlib.import_module("fusetorch._C._functorch")
    assert not functorch.is_batchedtensor(torch.ones(1)) and functorch.maybe_get_level(torch.ones(1)) == -1
    with pytest.raises(RuntimeError, match="No wrappers"):
        functorch.get_unwrapped(torch.ones(1))
    assert torch._C._nn._parse_to("cpu", torch.float64, True) == (torch.device("cpu"), torch.float64, True, None)
    assert not importlib.import_module("fusetorch._subclasses.fake_tensor").is_fake(torch.ones(1))
    with pytest.raises(ValueError, match="has not been initialized"):
        importlib.import_module("fusetorch.distributed.nn").all_reduce(torch.ones(1))
    assert importlib.import_module("fusetorch.distributed.distributed_c10d").get_rank is torch.distributed.get_rank
    utils = importlib.import_module("fusetorch._utils")
    parts = [torch.ones(2, 2), torch.zeros(3)]
    assert [t.shape for t in utils._unflatten_dense_tensors(utils._flatten_dense_tensors(parts), parts)] == [(2, 2), (3,)]
    assert [len(g) for g in utils._take_tensors([torch.ones(4), torch.ones(4), torch.ones(4)], 32)] == [2, 1]
    collate = importlib.import_module("fusetorch.utils.data._utils.collate")
    joined = collate.collate([{"a": (1, "x")}, {"a": (2, "y")}], collate_fn_map={str: lambda batch, collate_fn_map: "".join(batch)})
    assert joined["a"][0].tolist() == [1, 2] and joined["a"][1] == "xy"
    assert collate.collate([torch.ones(2)] * 3, collate_fn_map=collate.default_collate_fn_map).shape == (3, 2)
    with pytest.raises(RuntimeError, match="cannot compile or load extensions"):
        importlib.import_module("fusetorch.utils.cpp_extension").load(name="x", sources=[])
    bias = importlib.import_module("fusetorch.nn.attention.bias")
    q, k = torch.randn(1, 2, 4), torch.randn(1, 3, 4)
    assert torch.allclose(torch.nn.functional.scaled_dot_product_attention(q, k, k, bias.causal_upper_left(2, 3)),
                          torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True))
    assert bias.causal_lower_right(2, 3).tolist() == [[True, True, False], [True, True, True]]


def test_parts_of_a_repr():
    parts = importlib.import_module("fusetorch._tensor_str")
    x = torch.tensor([1.0, 2.5])
    assert parts._tensor_str(x, 0) == "[1.0000, 2.5000]" and parts._tensor_str(torch.empty(0), 0) == "[]"
    assert parts._add_suffixes("My([1.0000]", ["a=1", "b=2"], 3) == "My([1.0000], a=1, b=2)"
    assert parts._add_suffixes("My([1.0000]", ["a=1", "b=2"], 3, force_newline=True) == "My([1.0000],\n   a=1, b=2)"
    assert parts.PRINT_OPTS.linewidth == 80


def test_names_of_cuda():
    cuda = torch.cuda
    with config.override(simulate_cuda=True):
        x = torch.arange(6.0).view(3, 2)
        assert len(cuda.default_generators) == 1 and cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"]["current"] >= 0
        assert [t.tolist() for t in cuda.comm.scatter(x, [0, 0])] == [[[0, 1], [2, 3]], [[4, 5]]]
        assert [len(t) for t in cuda.comm.scatter(x, [0, 0], [1, 2])] == [1, 2]
        both = cuda.comm.broadcast(x, [0, 0])
        assert both[1].is_cuda and torch.equal(cuda.comm.gather(both, 1, -1), torch.cat([x, x], 1))
        assert torch.equal(cuda.comm.reduce_add(both).cpu(), 2 * x)
        out = torch.zeros(6, 2)
        assert cuda.comm.gather([x, x], out=out) is out and out.sum() == 30
        with cuda.profiler.profile():
            cuda.set_stream(cuda.Stream())
    assert cuda.streams.Event is cuda.Event and cuda.memory_snapshot() == [] and not cuda.nccl.is_available([])
    if importlib.util.find_spec("pynvml") is None:
        with pytest.raises(ModuleNotFoundError, match="nvidia-ml-py"):
            cuda.utilization()


def test_no_calls_into_other_processes():
    rpc = importlib.import_module("fusetorch.distributed.rpc")
    assert not rpc.is_available() and not hasattr(rpc, "api")
