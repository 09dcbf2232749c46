"""torch.library, torch.ops, and the parts of torch.fx and torch.onnx that libraries import."""
from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch


@pytest.fixture
def sine():
    """An operator that autograd cannot look into: NumPy computes it."""
    @torch.library.custom_op("testing::sine", mutates_args=())
    def sine(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return torch.from_numpy(np.sin(x.numpy()) * np.float32(scale))

    yield sine
    torch.library.Library("testing", "FRAGMENT")._destroy()


def test_custom_op_runs_by_both_names(sine):
    x = torch.tensor([0.0, 1.0])
    expected = np.sin([0.0, 1.0])
    np.testing.assert_allclose(sine(x).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(torch.ops.testing.sine(x, scale=2.0).numpy(), 2 * expected, rtol=1e-6)
    np.testing.assert_allclose(torch.ops.testing.sine.default(x).numpy(), expected, rtol=1e-6)


def test_gradient_is_what_was_registered(sine):
    x = torch.tensor([0.5, 1.0], requires_grad=True)
    y = sine(x, 3.0)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        y.sum().backward()

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.scale = inputs[1]

    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos() * ctx.scale, None

    sine.register_autograd(backward, setup_context=setup_context)
    sine(x, 3.0).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * np.cos([0.5, 1.0]), rtol=1e-6)


def test_custom_op_of_tensor_code_compiles():
    @torch.library.custom_op("testing::gate", mutates_args=())
    def gate(x: torch.Tensor) -> torch.Tensor:
        return x.sigmoid() * x

    x = torch.randn(5)
    compiled = torch.compile(lambda x: gate(x) + 1, fullgraph=True)
    assert torch.allclose(compiled(x), torch.nn.functional.silu(x) + 1)


def test_mutating_custom_op():
    @torch.library.custom_op("testing::add_one_", mutates_args=("x",))
    def add_one_(x: torch.Tensor) -> None:
        x += 1

    x = torch.zeros(3)
    assert add_one_(x) is None
    assert x.tolist() == [1, 1, 1]


def test_library_defines_by_schema():
    lib = torch.library.Library("testing_schema", "DEF")
    assert lib.define("shift(Tensor x, int[] by=[1, 2], *, float scale=2.0) -> Tensor") == "shift"
    with pytest.raises(NotImplementedError, match="Could not run 'testing_schema::shift'"):
        torch.ops.testing_schema.shift(torch.ones(1))

    @torch.library.impl("testing_schema::shift", "cpu")
    def shift(x, by, *, scale):
        return x * scale + sum(by)

    assert torch.ops.testing_schema.shift(torch.ones(1)).item() == 5
    assert torch.ops.testing_schema.shift(torch.ones(1), [5], scale=1.0).item() == 6
    assert "shift" in dir(torch.ops.testing_schema)


def test_composite_kernels_are_differentiated_through():
    lib = torch.library.Library("testing_composite", "DEF")
    lib.define("square(Tensor x) -> Tensor")
    lib.impl("square", lambda x: x * x, "CompositeImplicitAutograd")
    x = torch.tensor(3.0, requires_grad=True)
    torch.ops.testing_composite.square(x).backward()
    assert x.grad.item() == 6


def test_aten_names():
    a, b = torch.ones(2), torch.full((2,), 3.0)
    assert torch.ops.aten.add.Tensor(a, b).tolist() == [4, 4]
    assert torch.ops.aten.mul(a, b).tolist() == [3, 3]
    with pytest.raises(AttributeError, match="'_OpNamespace' 'aten' object has no attribute"):
        torch.ops.aten.no_such_operator  # noqa: B018


def test_compiled_libraries_are_refused():
    with pytest.raises(OSError, match="Could not load this library"):
        torch.ops.load_library("operators.so")


def test_infer_schema():
    def f(x: torch.Tensor, n: int, flag: bool = True, *, other: torch.Tensor | None = None) -> torch.Tensor:
        return x

    assert torch.library.infer_schema(f, mutates_args=()) == "(Tensor x, SymInt n, bool flag=True, *, Tensor? other=None) -> Tensor"
    assert torch.library.infer_schema(f, mutates_args=("x",)).startswith("(Tensor(a!) x")


def test_marks_for_other_compilers_change_nothing():
    from fusetorch.onnx.symbolic_helper import parse_args

    def f(x):
        return x

    assert parse_args("v", "i")(f) is f


def test_dtypes_that_are_only_names():
    assert torch.finfo(torch.float8_e4m3fn).max == 448
    assert torch.finfo(torch.float8_e5m2).eps == 0.25
    assert torch.iinfo(torch.uint16).max == 65535
    assert torch.float8_e4m3fn.itemsize == 1 and torch.float8_e4m3fn.is_floating_point and repr(torch.uint32) == "torch.uint32"
    assert torch.float32 != torch.float8_e4m3fn
    for make in (lambda d: torch.zeros(2, dtype=d), lambda d: torch.ones(2).to(d), lambda d: torch.tensor([1.0], dtype=d)):
        with pytest.raises(NotImplementedError, match="no tensors of this dtype"):
            make(torch.float8_e4m3fn)


def test_numpy_without_recording():
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert x.numpy().tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="requires grad"):
        x.numpy()


def test_trees_with_paths():
    from fusetorch.utils import _pytree as pytree

    class Output(dict):
        pass

    pytree.register_pytree_node(Output, pytree._dict_flatten, lambda v, k: Output(pytree._dict_unflatten(v, k)),
                                serialized_type_name="Output", flatten_with_keys_fn=pytree._dict_flatten_with_keys)
    tree = {"a": [1, 2], "b": Output(c=3)}
    leaves, spec = pytree.tree_flatten_with_path(tree)
    assert [(pytree.keystr(p), x) for p, x in leaves] == [("['a'][0]", 1), ("['a'][1]", 2), ("['b']['c']", 3)]
    assert all(pytree.key_get(tree, p) == x for p, x in leaves)
    assert type(pytree.tree_unflatten([1, 2, 3], spec)["b"]) is Output
    assert pytree.tree_map_with_path(lambda p, x, y: (len(p), x + y), tree, tree)["a"] == [(2, 2), (2, 4)]
    pytree.register_pytree_node(Output, pytree._dict_flatten, lambda v, k: Output(pytree._dict_unflatten(v, k)))


def test_excluded_autocast():
    from fusetorch import _C
    keys = _C.DispatchKeySet(_C.DispatchKey.AutocastCPU) | _C.DispatchKeySet(_C.DispatchKey.AutocastCUDA)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")
        with _C._ExcludeDispatchKeyGuard(keys):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")


def test_settings_and_marks_of_other_compilers():
    torch._dynamo.config.cache_size_limit = 64
    torch._dynamo.config.suppress_errors = True
    with torch._dynamo.config.patch(suppress_errors=False, cache_size_limit=3), torch._inductor.config.patch({"new": 1}):
        assert torch._dynamo.config.cache_size_limit == 3 and torch._inductor.config.new == 1
    assert torch._dynamo.config.cache_size_limit == 64 and not hasattr(torch._inductor.config, "new")
    patch = torch._dynamo.config.patch("cache_size_limit", 3)
    with patch, patch:
        assert torch._dynamo.config.cache_size_limit == 3
    assert torch._dynamo.config.cache_size_limit == 64
    torch._inductor.config.coordinate_descent_tuning = True
    torch._inductor.config.triton.unique_kernel_names = True
    torch._dynamo.reset()
    x = torch.ones(3)
    torch._dynamo.mark_dynamic(x, 0)

    @torch._dynamo.optimize("inductor")
    def f(x):
        torch._dynamo.graph_break()
        return torch.compiler.allow_in_graph(torch.sin)(x) + 1

    with torch.compiler.set_stance("force_eager"):
        assert torch.allclose(f(x), torch.sin(x) + 1)
    with pytest.raises(RuntimeError, match="invalid torch.compile stance"):
        torch.compiler.set_stance("other")


def test_quantization_marks_pass_floats_through():
    x = torch.tensor([-1.0, 2.0])
    model = torch.ao.quantization.QuantWrapper(torch.nn.ReLU())
    assert model(x).tolist() == [0, 2]
    f = torch.nn.quantized.FloatFunctional()
    assert f.add_relu(x, x).tolist() == [0, 4] and f.cat([x, x]).shape == (4,) and f.mul(x, x).tolist() == [1, 4]
    with pytest.raises(RuntimeError, match="not intended"):
        f(x)
    with pytest.raises(NotImplementedError, match="no quantized tensors"):
        torch.quantization.convert(model)


def test_cuda_graphs_are_refused():
    with pytest.raises(NotImplementedError, match="torch.compile"):
        torch.cuda.CUDAGraph()


def test_checks():
    torch._assert(True, "m")
    torch._check(True)
    torch._check_tensor_all(torch.ones(2, dtype=torch.bool))
    for check, error in ((torch._check, RuntimeError), (torch._check_index, IndexError), (torch._check_value, ValueError),
                         (torch._check_type, TypeError), (torch._check_not_implemented, NotImplementedError)):
        with pytest.raises(error, match="^why$"):
            check(False, lambda: "why")
    with pytest.raises(TypeError, match="cond must be a bool"):
        torch._check(3)
    with pytest.raises(AssertionError, match="why"):
        torch._assert(torch.tensor(0), "why")
    with pytest.raises(RuntimeError):
        torch._check_is_size(-1)
    with pytest.raises(TypeError, match="must be a tensor"):
        torch._check_tensor_all(True)


def test_devices_that_are_only_names():
    mps = torch.device("mps")
    assert mps.type == "mps" and mps != torch.device("cpu") and str(torch.device("mps", 0)) == "mps:0"
    with mps:
        assert torch.get_default_device() == mps
        with pytest.raises(NotImplementedError, match="'mps' device"):
            torch.zeros(2)
    for make in (lambda: torch.ones(2, device="mps"), lambda: torch.ones(2).to("mps"), lambda: torch.nn.Linear(2, 2).to(mps),
                 lambda: torch.randn(2, device=mps), lambda: torch.set_default_device("xla"),
                 lambda: torch.ones(2).new_zeros(2, device=mps)):
        with pytest.raises(NotImplementedError, match="fusetorch has tensors on 'cpu', 'cuda' and 'meta'"):
            make()
    with pytest.raises(RuntimeError, match="device type at start of device string: gpu"):
        torch.device("gpu")


def test_names_of_aten():
    aten, x = torch.ops.aten, torch.arange(6.0).reshape(2, 3)
    assert aten._to_copy.default(x, dtype=torch.float64).dtype is torch.float64 and aten._to_copy(x) is not x
    assert aten.slice.Tensor(x, 1, 0, 3, 2).tolist() == [[0, 2], [3, 5]] and aten.alias.default(x).data_ptr() == x.data_ptr()
    assert aten.index.Tensor(x, [None, torch.tensor([2, 0])]).tolist() == [[2, 0], [5, 3]]
    assert aten.sym_size.int(x, 1) == 3 and aten._local_scalar_dense(x.sum()) == 15
    with pytest.raises(AttributeError, match="no_such"):
        aten.no_such  # noqa: B018


def test_names_of_aten_that_are_only_keys():
    table = {torch.ops.aten._sparse_addmm.default: 1}
    with pytest.raises(NotImplementedError, match="aten._sparse_addmm is not supported"):
        next(iter(table))(torch.ones(1))
    assert torch.functional.einsum is torch.einsum and torch.functional.broadcast_tensors is torch.broadcast_tensors
    with pytest.raises(AttributeError, match="no_such"):
        torch.functional.no_such  # noqa: B018


def test_names_that_checks_of_libraries_need():
    torch._assert_async(torch.tensor(2.0))
    for zero in (torch.tensor(0), torch.tensor(False)):
        with pytest.raises(RuntimeError, match="why"):
            torch._assert_async(zero, "why")
    assert torch.complex32.is_complex and torch.complex32.itemsize == 4 and torch.chalf.to_real() is torch.float16
    with pytest.raises(NotImplementedError, match="complex32"):
        torch.zeros(2, dtype=torch.complex32)
    assert torch.autograd.forward_ad.unpack_dual(torch.ones(1)).tangent is None
    from fusetorch.utils.data.dataloader import _BaseDataLoaderIter
    assert not isinstance(iter(torch.utils.data.DataLoader([1, 2])), _BaseDataLoaderIter)
