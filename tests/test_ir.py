"""The IR: graphs, their verifier, and graphs printed as Python that runs."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from compiler_support import quiet, rnd, same, training_step, values
from test_compile import GRAPHS

import fusetorch as torch
from fusetorch import config, nn
from fusetorch.compiler.interpret import evaluate
from fusetorch.compiler.ir import Graph, Value
from fusetorch.compiler.printer import to_python, to_script
from fusetorch.compiler.repro import Runtime
from fusetorch.compiler.verify import checked, verify_graph
from fusetorch.dtypes import float32, float64, int64
from fusetorch.errors import VerifyError
from fusetorch.ops.opdef import REGISTRY, loop_spec

F = nn.functional
CPU = torch.device("cpu")


def spec(name, *kinds, params=()):
    op = REGISTRY[name]
    return loop_spec(op, [(d, 2) for d in kinds], params)


def small():
    g = Graph()
    x = g.input("x", (4, 6), float32, CPU)
    y = g.loop(spec("exp", float32), [x], (4, 6), None, ())[0]
    t = g.view(y, (6, 4), (1, 6), 0)
    s = g.loop(spec("sum", float32, params=(None,)), [t], (6, 4), (1,), ())[0]
    g.outputs = [s]
    return g, x, y, t, s


# ---------------------------------------------------------------------------------------------------- graphs


def test_equal_nodes_are_one():
    g, x, y, _, _ = small()
    exp = y.node.op
    assert g.loop(exp, [x], (4, 6), None, ())[0] is y
    assert g.full((2,), 1.0, float32, CPU) is g.full((2,), 1.0, float32, CPU)
    assert g.full((2,), 1.0, float32, CPU) is not g.full((2,), 1, float32, CPU)
    assert g.full((2,), 0.0, float32, CPU) is not g.full((2,), -0.0, float32, CPU)
    assert g.full((2,), 1.0, float32, CPU) is not g.full((2,), 1.0, float64, CPU)
    assert g.input("a", (2,), float32, CPU) is not g.input("a", (2,), float32, CPU)


def test_a_view_that_changes_nothing_is_its_operand():
    g, x, y, t, _ = small()
    assert g.view(x, (4, 6), (6, 1), 0) is x
    assert g.view(x, (4, 6), (1, 6), 0) is not x
    one = g.input("one", (1, 6), float32, CPU)
    assert g.view(one, (1, 6), (17, 1), 0) is one


def test_only_what_is_needed_is_live():
    g, x, y, t, s = small()
    g.loop(spec("neg", float32), [x], (4, 6), None, ())
    assert [n.name for n in g.live()] == ["input", "exp", "view", "sum"]
    g.outputs = [x]
    assert [n.name for n in g.live()] == ["input"]


def test_locations_are_the_users():
    f = torch.compile(lambda x: x * 2)  # this line
    f(rnd(3))
    node = f.explain().graph.nodes[-1]
    file, _, line = node.location.rpartition(":")
    assert file == __file__ and "this line" in Path(file).read_text().splitlines()[int(line) - 1]


# ---------------------------------------------------------------------------------------------------- the verifier


def test_a_good_graph_passes():
    g = small()[0]
    verify_graph(g, "making it")
    assert checked(g, "making it") is g


BREAKS = {
    "order": (lambda g, x, y, t, s: setattr(t.node, "id", 0), "does not come after"),
    "operand of another graph": (lambda g, x, y, t, s: setattr(y.node, "inputs", (Graph().input("z", (4, 6), float32,
        CPU),)), "not made by an earlier node"),
    "operand made later": (lambda g, x, y, t, s: setattr(y.node, "inputs", (s,)), "not made by an earlier node"),
    "output of another graph": (lambda g, x, y, t, s: g.outputs.append(Graph().input("z", (1,), float32, CPU)), "output"),
    "kind": (lambda g, x, y, t, s: setattr(y.node, "kind", "lop"), "unknown kind"),
    "no results": (lambda g, x, y, t, s: y.node.outputs.clear(), "no results"),
    "result of another node": (lambda g, x, y, t, s: setattr(y, "node", x.node), "result 0 says"),
    "shape type": (lambda g, x, y, t, s: setattr(x, "shape", [4, 6]), "not a tuple"),
    "negative size": (lambda g, x, y, t, s: setattr(x, "shape", (4, -6)), "not a tuple of sizes"),
    "dtype": (lambda g, x, y, t, s: setattr(x, "dtype", float64), "dtype of operand 0 is"),
    "result dtype": (lambda g, x, y, t, s: setattr(y, "dtype", float64), "dtype of"),
    "not a dtype": (lambda g, x, y, t, s: setattr(x, "dtype", np.float32), "has dtype"),
    "no device": (lambda g, x, y, t, s: setattr(x, "device", None), "no device"),
    "other device": (lambda g, x, y, t, s: setattr(x, "device", torch.device("cuda:0")), "is on cuda:0"),
    "loop shape": (lambda g, x, y, t, s: y.node.attrs.__setitem__("shape", (4, 7)), "does not broadcast"),
    "result shape": (lambda g, x, y, t, s: setattr(y, "shape", (4, 5)), "shape of"),
    "reduced shape": (lambda g, x, y, t, s: setattr(s, "shape", (6, 4)), "shape of"),
    "axes": (lambda g, x, y, t, s: s.node.attrs.__setitem__("axes", (2,)), "reduces dimensions"),
    "axes twice": (lambda g, x, y, t, s: s.node.attrs.__setitem__("axes", (1, 1)), "reduces dimensions"),
    "axes of an elementwise": (lambda g, x, y, t, s: y.node.attrs.__setitem__("axes", (0,)), "does not reduce"),
    "no axes": (lambda g, x, y, t, s: s.node.attrs.__setitem__("axes", None), "that reduces"),
    "operand count": (lambda g, x, y, t, s: setattr(y.node, "inputs", (x, x)), "operands instead of"),
    "scalars": (lambda g, x, y, t, s: y.node.attrs.__setitem__("scalars", (1.0,)), "number of scalars"),
    "view beyond memory": (lambda g, x, y, t, s: t.node.attrs.__setitem__("offset", 1), "addresses elements 1 to 24"),
    "view before memory": (lambda g, x, y, t, s: t.node.attrs.__setitem__("strides", (-1, 6)), "addresses elements -5"),
    "view strides": (lambda g, x, y, t, s: t.node.attrs.__setitem__("strides", (1,)), "differ in length"),
    "view shape": (lambda g, x, y, t, s: t.node.attrs.__setitem__("shape", (4, 6)), "shape is"),
    "view of a view": (lambda g, x, y, t, s: g._add("view", None, (t,), {"shape": (2,), "strides": (1,), "offset": 0},
        [((2,), float32, CPU)], None), "a view, instead"),
    "name": (lambda g, x, y, t, s: x.node.attrs.pop("name"), "no name"),
    "not a spec": (lambda g, x, y, t, s: setattr(y.node, "op", SimpleNamespace(name="exp")), "not a LoopSpec"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_broken_graphs_are_refused(what):
    break_it, message = BREAKS[what]
    parts = small()
    break_it(*parts)
    with pytest.raises(VerifyError, match=re.escape(message)) as e:
        verify_graph(parts[0], "a pass")
    assert "after a pass" in str(e.value)


def test_broken_constants_writes_and_opaques_are_refused():
    def fails(build, message):
        g = Graph()
        x = g.input("x", (4,), float32, CPU)
        build(g, x)
        with pytest.raises(VerifyError, match=message):
            verify_graph(g)
    fails(lambda g, x: g.constant(np.zeros(3, np.float32), float64, CPU), "dtype")
    fails(lambda g, x: setattr(g.constant(np.zeros(3, np.float32), float32, CPU), "shape", (4,)), "shape")
    fails(lambda g, x: g.full((2,), "one", float32, CPU), "not a number")
    fails(lambda g, x: g.write(x, g.full((3,), 1.0, float32, CPU), (2,), (1,), 0), "written value's shape")
    fails(lambda g, x: g.write(x, g.full((2,), 1.0, float64, CPU), (2,), (1,), 0), "dtype")
    fails(lambda g, x: g.write(x, g.full((2,), 1.0, float32, CPU), (2,), (1,), 3), "addresses elements 3 to 4")
    fails(lambda g, x: g.opaque(REGISTRY["cumsum_dim"], [x], (1,), (0,), [((4,), float32, CPU)]), "structure")


def test_empty_views_are_inside_anything():
    g = Graph()
    x = g.input("x", (0, 3), float32, CPU)
    g.outputs = [g.view(x, (3, 0), (1, 3), 7)]
    verify_graph(g)


def test_the_setting_decides(capsys):
    parts = small()
    BREAKS["dtype"][0](*parts)
    with config.override(verify_ir=False):
        checked(parts[0], "x")
    with config.override(verify_ir=True), pytest.raises(VerifyError):
        checked(parts[0], "x")
    with config.override(verify_ir=False, debug=4), pytest.raises(VerifyError):
        checked(parts[0], "x")
    assert "def graph(rt" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- printed graphs


def run_printed(graph, arrays):
    """The results of the printed function and of the script, in this process."""
    inputs = [n.outputs[0] for n in graph.live() if n.kind == "input"]
    chosen = [arrays[v] for v in inputs]
    scope: dict = {}
    exec(compile(to_python(graph), "<graph>", "exec"), scope)
    first = scope["graph"](Runtime(graph), *chosen)
    module: dict = {"__name__": "printed"}
    exec(compile(to_script(graph), "<script>", "exec"), module)
    second = module["graph"](module["rt"], *chosen)
    return first, second


def printed_agree(f, *args):
    compiled = torch.compile(f)
    with quiet():
        compiled(*args)
    if compiled.cache_info()["plans"] == 0:
        pytest.fail(f"not compiled: {compiled.cache_info()}")
    entry = compiled._order[-1]
    leaves = [a for a in args if isinstance(a, torch.Tensor)]
    plans = [entry.plan] + ([entry.backward.plan.plan] if entry.backward is not None else [])
    for plan in plans:
        graph = plan.graph
        if plan is entry.plan:
            arrays = dict(zip(plan.inputs, entry.arrays(leaves)))
        else:
            rng = np.random.default_rng(0)
            arrays = {v: rng.standard_normal(v.shape).astype(v.dtype.np) for v in plan.inputs}
        graph.outputs = list(dict.fromkeys([*plan.results, *(n for _, n in plan.updates)]))
        expected = evaluate(graph, graph.outputs, arrays)
        for got in run_printed(graph, arrays):
            for v, a in zip(graph.outputs, got):
                assert tuple(a.shape) == v.shape and a.dtype == v.dtype.np
                np.testing.assert_array_equal(np.asarray(a).astype(np.float64), np.asarray(expected[v]).astype(np.float64))


@pytest.mark.parametrize("name", GRAPHS)
def test_printed_graphs_run(name):
    with np.errstate(all="ignore"):
        printed_agree(GRAPHS[name], rnd(4, 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_printed_graphs_of_other_dtypes(dtype):
    printed_agree(lambda x: ((x * 2).softmax(-1) @ x.t(), x.sum(0), x + torch.tensor(0.1, dtype=dtype),
        torch.full((3,), 0.1, dtype=dtype)), rnd(4, 6).to(dtype))


def test_printed_training_steps_run():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.LayerNorm(5), nn.Dropout(0.2), nn.Linear(5, 3))
    opt = torch.optim.AdamW(model.parameters(), lr=0.01)
    step = training_step(model, opt, F.cross_entropy)
    for _ in range(2):
        printed_agree(step, rnd(8, 6), torch.arange(8) % 3)
    printed_agree(lambda x: F.layer_norm(x, (6,)).gelu() if hasattr(x, "gelu") else F.gelu(F.layer_norm(x, (6,))),
        rnd(4, 6, requires_grad=True))


def test_odd_constants_are_printed():
    def f(x):
        big = torch.arange(100).float() * 0.5
        return x * float("inf"), x + torch.tensor([float("nan"), -0.0, float("-inf"), 1e-45, 0.1,
            3e38]), x.clamp(min=-float("inf")), torch.tensor(big.shape[0]) + big
    with np.errstate(all="ignore"):
        printed_agree(f, rnd(4, 6))


def test_a_dump_runs_as_a_script(tmp_path):
    with config.override(dump_dir=str(tmp_path)):
        f = torch.compile(lambda x: (x * 2 + torch.arange(300).reshape(50, 6)[:4]).softmax(-1).sum(0))
        f(rnd(4, 6))
    scripts = [p for p in tmp_path.glob("*.py") if p.name.startswith("tracing")]
    assert len(scripts) == 1
    np.savez(tmp_path / "inputs.npz", values(rnd(4, 6)))
    r = subprocess.run([sys.executable, str(scripts[0]), str(tmp_path / "inputs.npz")], capture_output=True, text=True,
                       env={**os.environ, "PYTHONPATH": str(Path(torch.__file__).parent.parent)})
    assert r.returncode == 0, r.stderr
    assert "result 0: float32[1, 6]" in r.stdout
    numbers = np.array([float(x) for x in re.sub(r"[\[\]]", " ", r.stdout.split("\n", 1)[1]).split()])
    np.testing.assert_allclose(numbers, values(f(rnd(4, 6))), rtol=1e-4)
    assert not list(tmp_path.glob(".*"))


def test_integer_inputs_of_a_script():
    a, b = Runtime().inputs([("int64", (3,)), ("float32", (2, 2))])
    assert a.dtype == int64.np and b.dtype == np.float32 and isinstance(Value, type)
    with pytest.raises(AttributeError, match="nonsense"):
        Runtime().nonsense


def test_results_of_a_compiled_function_print_their_graph():
    f = torch.compile(lambda x: x.exp() + 1)
    same(rnd(3).exp() + 1, f(rnd(3)))
    assert "rt.exp(v0)" in str(f.explain().graph)
