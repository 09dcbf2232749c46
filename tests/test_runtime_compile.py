"""Kernels compiled for real, without a GPU, and the disk cache of cubins."""
from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
import runtime_support
import triton
import triton.language as tl
from cubin_report import report
from runtime_support import (
    add_fn,
    broken_kernel,
    compile_add,
    matmul_kernel,
    scale_kernel,
    softmax_kernel,
    tanh_mul_fn,
    values,
)

from fusetorch import config, dtypes
from fusetorch.errors import CompileError
from fusetorch.runtime import memory
from fusetorch.runtime import triton_compile as tc

cache_dir = runtime_support.cache_dir


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kind, width", [("fp32", 4), ("fp16", 8), ("bf16", 8)])
def test_cubin_has_wide_loads_and_no_spills(capability, kind, width):
    got = compile_add(specs=[f"*{kind}:16"] * 3 + ["i32"], capability=capability)
    assert got.name == "binary_kernel" and got.cubin[:4] == b"\x7fELF" and got.num_warps == 4 and got.shared == 0
    assert got.live == ((0, "*" + kind), (1, "*" + kind), (2, "*" + kind), (3, "i32"))
    r = report(got.cubin)
    assert r.spills == 0 and r.stack == 0 and r.loads_128 == 2 * 1024 // 128 // width
    assert r.stores_128 == 1024 // 128 // width


def test_unaligned_pointers_get_narrow_loads():
    assert report(compile_add(specs=["*fp32", "*fp32", "*fp32", "i32"]).cubin).loads_128 == 0


@pytest.mark.parametrize("capability", [80, 90])
def test_matmul_uses_the_tensor_cores(capability):
    got = tc.compile_kernel(matmul_kernel, ["*bf16:16"] * 3 + ["i32:16"] * 3, {"BM": 128, "BN": 128, "BK": 64},
                            capability=capability, num_warps=8, fp_fusion=True)
    r = report(got.cubin)
    assert r.spills == 0 and got.shared > 0 and got.num_warps == 8
    assert r.hgmma > 0 if capability == 90 else r.hmma > 0


def test_fp_fusion_is_chosen_by_the_caller():
    @triton.jit
    def fma(x_ptr, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        x = tl.load(x_ptr + i)
        tl.store(x_ptr + i, x * x + 3.0 * x)

    apart, fused = (report(tc.compile_kernel(fma, ["*fp32:16"], {"BLOCK": 128}, capability=90, fp_fusion=f).cubin)
                    for f in (False, True))
    assert apart.ffma == 0 < fused.ffma


def test_ones_and_none_leave_the_parameter_list():
    specs = {"x_ptr": "*fp32:16", "bias_ptr": "none", "out_ptr": "*fp32:16", "n": "1", "scale": "fp32", "flip": "u1"}
    got = tc.compile_kernel(scale_kernel, specs, {"BLOCK": 128}, capability=90)
    assert got.live == ((0, "*fp32"), (2, "*fp32"), (4, "fp32"), (5, "u1"))


def test_specs():
    specs = [tc.spec_of(v, True) for v in (None, True, 1, 0, 32, 7, -3, 2**31, -2**31, 2**40 + 1, 1.5)]
    assert specs == ["none", "u1", "1", "i32:16", "i32:16", "i32", "i32", "i64:16", "i32:16", "i64", "fp32"]
    with config.override(simulate_cuda=True):
        x = memory.empty((4,), dtypes.bfloat16)
        assert tc.spec_of(x, True) == "*bf16:16" and tc.spec_of(x, False) == "*bf16" and tc.type_of(x) == "*bf16"
    assert tc.type_of(1) == tc.type_of(None) == "constexpr" and tc.type_of(16) == "i32"
    for bad in ("text", 2**64, [1]):
        with pytest.raises(TypeError):
            tc.spec_of(bad, True)


def test_memory_and_disk_hits(cache_dir, monkeypatch):
    count = tc.compile_count()
    first = compile_add()
    assert tc.compile_count() == count + 1
    assert compile_add() is first
    files = list(cache_dir.iterdir())
    assert [f.name for f in files] == [first.key + ".cubin"]
    monkeypatch.setattr(tc, "_memory", {})
    assert compile_add() == first and tc.compile_count() == count + 1


def test_key_separates(monkeypatch):
    keys = {compile_add(**c).key for c in (
        {}, {"capability": 80}, {"num_warps": 8}, {"num_stages": 2}, {"fp_fusion": True},
        {"specs": ["*fp32"] * 3 + ["i32"]}, {"constexprs": {"FN": add_fn, "BLOCK": 512}},
        {"constexprs": {"FN": tanh_mul_fn, "BLOCK": 1024}})}
    assert len(keys) == 8
    assert tc._constant_key(1) != tc._constant_key(True) != tc._constant_key(1.0)
    assert tc._constant_key(tl.constexpr(4)) == tc._constant_key(4)


def load_kernel(folder, body):
    """The kernel of a module written to ``folder``, with a device function that returns ``body``."""
    import importlib.util
    path = folder / "generated.py"
    path.write_text(textwrap.dedent(f"""
        import triton
        import triton.language as tl

        @triton.jit
        def inner(x):
            return {body}

        @triton.jit
        def outer(x_ptr, BLOCK: tl.constexpr):
            i = tl.arange(0, BLOCK)
            tl.store(x_ptr + i, inner(tl.load(x_ptr + i)))
        """))
    import linecache
    linecache.clearcache()
    spec = importlib.util.spec_from_file_location("generated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outer


def test_key_follows_the_source_of_called_functions(tmp_path):
    first, second = (tc.compile_kernel(load_kernel(tmp_path, body), ["*fp32:16"], {"BLOCK": 128}, capability=90)
                     for body in ("x * 2.0", "x * 3.0"))
    assert first.key != second.key


@pytest.mark.parametrize("damage", [lambda d: d[:100], lambda d: b"", lambda d: d[:-1] + bytes([d[-1] ^ 1]),
                                    lambda d: b"x" + d[1:], lambda d: d[:60] + b"\xff" + d[61:]])
def test_damaged_entry_is_compiled_anew(cache_dir, monkeypatch, damage):
    first = compile_add()
    path = cache_dir / f"{first.key}.cubin"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    monkeypatch.setattr(tc, "_memory", {})
    count = tc.compile_count()
    again = compile_add()
    assert tc.compile_count() == count + 1 and again.live == first.live
    monkeypatch.setattr(tc, "_memory", {})
    assert compile_add() == again and tc.compile_count() == count + 1  # the file is whole again
    assert [p.name for p in cache_dir.iterdir()] == [path.name]


def test_entry_of_another_key_is_not_used(cache_dir, monkeypatch):
    one, other = compile_add(), compile_add(num_warps=8)
    (cache_dir / f"{one.key}.cubin").write_bytes((cache_dir / f"{other.key}.cubin").read_bytes())
    monkeypatch.setattr(tc, "_memory", {})
    assert compile_add().num_warps == 4


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with config.override(cache_dir=str(tmp_path / "file")):
        with pytest.warns(UserWarning, match="FUSETORCH_CACHE_DIR"):
            assert compile_add().cubin
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile_add(num_warps=8)  # one warning is enough


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(cache_dir):
    cache_dir.mkdir(parents=True)
    cache_dir.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.warns(UserWarning, match="FUSETORCH_CACHE_DIR"):
        assert compile_add().cubin
    assert list(cache_dir.iterdir()) == []


def test_write_that_fails_leaves_nothing(cache_dir, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    kernel = tc.CompiledKernel("k", b"cubin", 90, 4, 3, 0, 0, 0, ((0, "i32"),), "f" * 64)
    with pytest.warns(UserWarning, match="No space left"):
        tc._save(kernel)
    assert list(cache_dir.iterdir()) == []


def test_cache_can_be_off(cache_dir):
    with config.override(cache=False):
        compile_add()
    assert not cache_dir.exists()


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from fusetorch import config
config.cache_dir = {cache!r}
import runtime_support as t
got = t.compile_add()
print(got.key, t.tc.compile_count())
"""


def test_processes_share_the_cache(cache_dir, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = PROCESS.format(tests=os.path.dirname(__file__), cache=str(cache_dir.parent))
    env = os.environ | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("TRITON_CACHE_DIR", None)

    def start():
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)

    both = [start(), start()]
    keys = {p.communicate(timeout=120)[0].split()[0] for p in both}
    assert [p.returncode for p in both] == [0, 0] and len(keys) == 1
    third = start()
    assert third.communicate(timeout=120)[0].split() == [*keys, "0"]  # nothing compiled
    assert [p.name for p in cache_dir.iterdir()] == [f"{keys.pop()}.cubin"]
    assert list(home.iterdir()) == []  # Triton keeps no files of its own


def test_threads_compile_at_once(monkeypatch):
    from triton import knobs
    before = knobs.cache.manager_class
    got: dict[int, tc.CompiledKernel] = {}

    def work(warps):
        got[warps] = compile_add(num_warps=warps)

    threads = [threading.Thread(target=work, args=(w,)) for w in (1, 2, 4, 8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {w: k.num_warps for w, k in got.items()} == {1: 1, 2: 2, 4: 4, 8: 8}
    assert knobs.cache.manager_class is before


def test_compile_errors_name_the_kernel():
    with pytest.raises(CompileError, match=r"(?s)kernel broken_kernel \(.*runtime_support.py:\d+\) does not compile "
                                           r"for sm_90.*no_such_name"):
        tc.compile_kernel(broken_kernel, ["*fp32"], {"BLOCK": 128}, capability=90)
    with pytest.raises(TypeError, match="constexpr parameter 'BLOCK' has no value"):
        tc.compile_kernel(softmax_kernel, ["*fp32", "*fp32", "i32"], {}, capability=90)
    with pytest.raises(TypeError, match="need a description each"):
        tc.compile_kernel(softmax_kernel, {"x_ptr": "*fp32"}, {"BLOCK": 128}, capability=90)
    with pytest.raises(TypeError, match=r"expected a @triton.jit function"):
        tc.compile_kernel(values, [], {}, capability=90)
