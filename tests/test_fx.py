"""``torch.fx``: the code that tracing gives (PyTorch's, to the letter), rewriting, interpreting, copies."""

from __future__ import annotations

import copy
import math
import pickle
from textwrap import dedent
from typing import Any

import pytest

import fusetorch as torch
from fusetorch import fx, nn
from fusetorch.fx.experimental.optimization import fuse, remove_dropout
from fusetorch.fx.passes.shape_prop import ShapeProp
from fusetorch.nn import functional as F


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.param = nn.Parameter(torch.ones(3, 4))
        self.linear = nn.Linear(4, 5)
        self.register_buffer("buf", torch.ones(4))
        self.seq = nn.Sequential(nn.Linear(5, 5), nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.seq(self.linear(x + self.param).clamp(min=0.0, max=1.0)) * self.buf.sum()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn(self.conv(x)), inplace=True)
        y += x
        return {"out": torch.cat([y, y], dim=1), "rest": [y[:, 0:1], y[..., None]]}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block() for _ in range(2)])

    def forward(self, x: Any, *, scale: float = 2.0) -> Any:
        for layer in self.layers:
            x = layer(x)["out"][:, :3]
        return x.view(x.size(0), -1).mean(dim=1, keepdim=True) * scale - math.sqrt(2)


class ConvNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()

    def forward(self, x: Any) -> Any:
        return self.drop(self.norm(self.conv(x)))


def code(f: Any, **options: Any) -> str:
    return fx.symbolic_trace(f, **options).code.strip()


def text(s: str) -> str:
    return dedent(s).strip()


def test_a_module() -> None:
    model = Small()
    gm = fx.symbolic_trace(model)
    assert gm.code.strip() == text("""
        def forward(self, x):
            param = self.param
            add = x + param;  x = param = None
            linear = self.linear(add);  add = None
            clamp = linear.clamp(min = 0.0, max = 1.0);  linear = None
            seq_0 = getattr(self.seq, "0")(clamp);  clamp = None
            seq_1 = getattr(self.seq, "1")(seq_0);  seq_0 = None
            _tensor_constant0 = self._tensor_constant0
            mul = seq_1 * _tensor_constant0;  seq_1 = _tensor_constant0 = None
            return mul""")
    x = torch.randn(3, 4)
    assert torch.equal(gm(x), model(x)) and gm.linear.weight is model.linear.weight
    assert type(gm).__name__ == "Small" and isinstance(gm, fx.GraphModule)
    gm(x).sum().backward()
    assert model.param.grad is not None


def test_calls_indices_and_keywords() -> None:
    model = Net()
    gm = fx.symbolic_trace(model)
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(gm(x), model(x), atol=1e-6) and torch.allclose(gm(x, scale=3.0), model(x, scale=3.0), atol=1e-6)
    assert 'layers_0_conv = getattr(self.layers, "0").conv(x)' in gm.code
    assert "cat[(slice(None, None, None), slice(None, 3, None))]" in gm.code and "add[(Ellipsis, None)]" in gm.code
    assert [n.name for n in gm.graph.find_nodes(op="placeholder")] == ["x", "scale"]


def test_operators() -> None:
    def f(x: Any, y: Any) -> Any:
        return -x, ~y, x @ y, 2 - x, x**2, 3 / x, x // 2, x % 2, x == y, x.T, torch.add(x, y).sum().float(), abs(x)

    gm = fx.symbolic_trace(f)
    for line in ("neg = -x", "invert = ~y", "matmul = x @ y", "sub = 2 - x", "pow_1 = x ** 2", "truediv = 3 / x", "eq = x == y",
                 "getattr_1 = x.T", "sum_1 = add.sum()", "float_1 = sum_1.float()"):
        assert line in gm.code
    x = torch.tensor([[1, 2], [3, 4]])
    for got, want in zip(gm(x, x), f(x, x), strict=True):
        assert torch.equal(got, want)


def test_what_the_code_says() -> None:
    assert code(lambda x: torch.zeros(x.shape[0], dtype=torch.float32, device=x.device).fill_(float("inf"))) == text("""
        def forward(self, x):
            getattr_1 = x.shape
            getitem = getattr_1[0];  getattr_1 = None
            getattr_2 = x.device;  x = None
            zeros = torch.zeros(getitem, dtype = torch.float32, device = getattr_2);  getitem = getattr_2 = None
            fill_ = zeros.fill_(inf);  zeros = None
            return fill_""")
    assert "math_sqrt(getitem)" in code(lambda x: math.sqrt(x.shape[0]) * x)

    def unpacked(x: Any) -> Any:
        a, b = x.split(2)
        return a + b

    assert "getitem_1 = split[1]" in code(unpacked)

    def anything(*args: Any, **kw: Any) -> Any:
        return args[0] + kw["a"]

    gm = fx.symbolic_trace(anything)
    assert "def forward(self, *args, **kw):" in gm.code and gm(torch.ones(1), a=2).item() == 3

    gm = fx.symbolic_trace(lambda x: torch.ones(2) + x + torch.tensor([1.0, 2.0]))
    assert [name for name, _ in gm.named_buffers()] == ["_tensor_constant0", "_tensor_constant1"]
    assert gm(torch.zeros(2)).tolist() == [2, 3]


def test_what_cannot_be_traced() -> None:
    def branches(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    with pytest.raises(fx.proxy.TraceError, match="control flow"):
        fx.symbolic_trace(branches)
    with pytest.raises(fx.proxy.TraceError, match="iterated"):
        fx.symbolic_trace(lambda x: [a for a in x])
    with pytest.raises(RuntimeError, match="'len' is not supported"):
        fx.symbolic_trace(lambda x: len(x))
    with pytest.raises(NotImplementedError, match="argument of type"):
        fx.symbolic_trace(lambda x: x + nn.Linear(1, 1))


def test_concrete_arguments() -> None:
    def f(x: Any, more: bool = True, y: Any = None) -> Any:
        if more:
            return x + 1
        return x * 2 if y is None else y

    gm = fx.symbolic_trace(f, concrete_args={"more": False, "y": None})
    assert "def forward(self, x, more_1 = True, y_1 = None):" in gm.code
    assert gm(torch.ones(1), False).item() == 2
    with pytest.raises(AssertionError, match="more has been specialized to have value False"):
        gm(torch.ones(1), True)
    with pytest.raises(AssertionError, match="y has been specialized"):
        gm(torch.ones(1), False, 3)


fx.wrap("marked")


def marked(x: Any) -> Any:
    return x if isinstance(x, torch.Tensor) and x.sum() > 0 else -x


def test_wrap() -> None:
    gm = fx.symbolic_trace(lambda x: marked(x) + 1)
    assert [n.target for n in gm.graph.nodes if n.op == "call_function"][0] is marked
    assert gm(torch.tensor([-1.0])).item() == 2 and marked(torch.ones(1)).item() == 1
    with pytest.raises(NotImplementedError, match="top level"):
        fx.wrap("len")


def test_rewriting_by_hand() -> None:
    gm = fx.symbolic_trace(lambda x, y: torch.add(x, y))
    for node in gm.graph.nodes:
        if node.op == "call_function" and node.target == torch.add:
            node.target = torch.mul
    gm.graph.lint()
    gm.recompile()
    assert gm(torch.tensor(3), torch.tensor(4)).item() == 12

    gm = fx.symbolic_trace(lambda x: torch.relu(x).neg())
    relu = gm.graph.find_nodes(op="call_function", target=torch.relu)[0]
    with gm.graph.inserting_after(relu):
        sigmoid = gm.graph.call_function(torch.sigmoid, (relu.args[0],))
    assert relu.replace_all_uses_with(sigmoid) == [sigmoid.next.next] or relu.users == {}
    gm.graph.erase_node(relu)
    gm.recompile()
    assert [n.name for n in gm.graph.nodes] == ["x", "sigmoid", "neg", "output"] and sigmoid.all_input_nodes[0].name == "x"
    with pytest.raises(RuntimeError, match="still had 1 users"):
        gm.graph.erase_node(sigmoid)
    with pytest.raises(NotImplementedError, match="does not support mutation"):
        fx.symbolic_trace(lambda x: torch.cat([x, x])).graph.find_nodes(op="call_function")[0].args[0].append(1)


def test_lint_and_dead_code() -> None:
    gm = fx.symbolic_trace(lambda x: (x + 1, x * 2)[0])
    assert gm.graph.eliminate_dead_code() and not gm.graph.eliminate_dead_code()
    assert [n.name for n in gm.graph.nodes] == ["x", "add", "output"] and len(gm.graph.nodes) == 3
    nodes = list(gm.graph.nodes)
    nodes[0].prepend(nodes[1])
    with pytest.raises(RuntimeError, match="used before it has been defined"):
        gm.graph.lint()


def test_a_graph_made_by_hand() -> None:
    graph = fx.Graph()
    x, y = fx.Proxy(graph.placeholder("x")), fx.Proxy(graph.placeholder("y", default_value=1.0))
    graph.output((torch.cos(x) + y).node)
    gm = fx.GraphModule({}, graph, "ByHand")
    assert gm(torch.zeros(1)).item() == 2 and str(graph) == text("""
        graph():
            %x : [num_users=1] = placeholder[target=x]
            %y : [num_users=1] = placeholder[target=y](default=1.0)
            %cos : [num_users=1] = call_function[target=torch.cos](args = (%x,), kwargs = {})
            %add : [num_users=1] = call_function[target=operator.add](args = (%cos, %y), kwargs = {})
            return add""")
    assert "class ByHand(torch.nn.Module):" in gm.print_readable(print_output=False)


def test_replace_pattern() -> None:
    gm = fx.symbolic_trace(lambda a, b, c: torch.add(torch.add(a, b).relu(), c).relu() + 1)
    found = fx.replace_pattern(gm, lambda x, y: torch.add(x, y).relu(), lambda x, y: torch.maximum(x, y))
    assert len(found) == 2 and gm.code.strip() == text("""
        def forward(self, a, b, c):
            maximum = torch.maximum(a, b);  a = b = None
            maximum_1 = torch.maximum(maximum, c);  maximum = c = None
            add_2 = maximum_1 + 1;  maximum_1 = None
            return add_2""")
    gm = fx.symbolic_trace(lambda a: (lambda s: (s.relu(), s))(a + 1))  # what is inside is used outside
    assert not fx.replace_pattern(gm, lambda x: (x + 1).relu(), lambda x: x)


def test_interpreter_and_transformer() -> None:
    class Negates(fx.Interpreter):
        def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
            return super().call_function(torch.neg if target is torch.relu else target, args, kwargs)

    assert Negates(fx.symbolic_trace(lambda x: torch.relu(x))).run(torch.ones(1)).item() == -1
    model = Small()
    x = torch.randn(3, 4)
    assert torch.equal(fx.Interpreter(fx.symbolic_trace(model)).run(x), model(x))
    with pytest.raises(RuntimeError, match="While executing"):
        fx.Interpreter(fx.symbolic_trace(model)).run(torch.ones(2))

    class Tanh(fx.Transformer):
        def call_method(self, target: str, args: tuple, kwargs: dict) -> Any:
            return super().call_method("tanh" if target == "sigmoid" else target, args, kwargs)

    assert "tanh = x.tanh()" in Tanh(fx.symbolic_trace(lambda x: x.sigmoid())).transform().code
    assert torch.equal(fx.Transformer(fx.symbolic_trace(model)).transform()(x), model(x))


def test_own_leaves() -> None:
    class Deep(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return not isinstance(m, nn.ReLU) and super().is_leaf_module(m, module_qualified_name)

    assert any(n.op == "call_function" and n.target is F.relu for n in Deep().trace(Small()).nodes)


def test_copies_and_pickles() -> None:
    gm = fx.symbolic_trace(Small())
    x = torch.randn(3, 4)
    for other in (copy.deepcopy(gm), pickle.loads(pickle.dumps(gm))):
        assert other.code == gm.code and torch.equal(other(x), gm(x)) and other.linear.weight is not gm.linear.weight
        assert other.graph.owning_module is other
    assert copy.copy(gm).linear is gm.linear
    assert torch.allclose(torch.compile(gm)(x), gm(x))


def test_submodules() -> None:
    gm = fx.symbolic_trace(Small())
    assert gm.add_submodule("new.inner", nn.ReLU()) and isinstance(gm.new.inner, nn.ReLU)
    gm.delete_all_unused_submodules()
    assert not hasattr(gm, "new") and hasattr(gm, "linear") and gm.delete_submodule("linear") and not gm.delete_submodule("linear")


def test_shapes() -> None:
    gm = fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    ShapeProp(gm).propagate(torch.ones(2, 3))
    assert [tuple(n.meta["tensor_meta"].shape) for n in gm.graph.nodes] == [(2, 3), (2, 4), (2, 4), (2, 4)]
    meta = list(gm.graph.nodes)[1].meta["tensor_meta"]
    assert meta.requires_grad and meta.dtype is torch.float32 and meta.stride == (4, 1)


def test_folding_batch_norm() -> None:
    model = ConvNorm().eval()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.weight.uniform_(0.5, 2)
    x = torch.randn(2, 1, 6, 6)
    fused = fuse(model)
    torch.testing.assert_close(fused(x), model(x))
    assert [name for name, _ in fused.named_children()] == ["conv", "drop"]
    assert "drop" not in remove_dropout(model).code
