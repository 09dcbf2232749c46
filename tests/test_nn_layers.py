"""Layers, initialisation, utilities; layers in compiled functions and beside PyTorch's."""
from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import nn

# ----------------------------------------------------------------------------------------------------------- layers

def test_linear_default_initialisation():
    torch.manual_seed(0)
    layer = nn.Linear(400, 300)
    bound = 1 / math.sqrt(400)
    for t in (layer.weight, layer.bias):
        a = t.detach().numpy()
        assert np.abs(a).max() <= bound and np.abs(a).max() > 0.9 * bound
    a = layer.weight.detach().numpy()
    assert abs(a.std() - bound / math.sqrt(3)) < 1e-3 * bound * 10 and abs(a.mean()) < bound / 100
    x = torch.randn(5, 400)
    want = x.numpy() @ a.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=1e-4, atol=1e-5)


def test_sizes_may_be_numpy_integers():
    three = np.int64(3)
    assert nn.LayerNorm(three).normalized_shape == nn.RMSNorm(three).normalized_shape == (3,)
    assert nn.Conv2d(2, 4, three).kernel_size == nn.MaxUnpool2d(three).kernel_size == (3, 3)
    assert nn.ZeroPad1d(three).padding == (3, 3)


def test_embedding():
    e = nn.Embedding(5, 3, padding_idx=-1)
    assert e.padding_idx == 4 and e.weight[4].tolist() == [0.0] * 3
    out = e(torch.tensor([[0, 4], [2, 2]]))
    assert out.shape == (2, 2, 3)
    out.sum().backward()
    assert e.weight.grad[:, 0].tolist() == [1.0, 0.0, 2.0, 0.0, 0.0]
    fixed = nn.Embedding.from_pretrained(torch.ones(4, 2))
    assert not fixed.weight.requires_grad and fixed.num_embeddings == 4
    with pytest.raises(AssertionError, match="within num_embeddings"):
        nn.Embedding(5, 3, padding_idx=7)


def test_dropout_layer():
    layer = nn.Dropout(0.25)
    torch.manual_seed(0)
    y = layer(torch.ones(10000))
    kept = (y != 0).sum().item()
    assert 7200 < kept < 7800 and sorted(set(y.tolist())) == [0.0, pytest.approx(4 / 3)]
    x = torch.ones(5)
    assert layer.eval()(x).tolist() == [1.0] * 5
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_other_dropouts():
    torch.manual_seed(0)
    for make, shape in ((nn.Dropout1d, (8, 16, 5)), (nn.Dropout2d, (8, 16, 3, 2)), (nn.Dropout3d, (8, 16, 2, 2, 2))):
        y = make(0.5)(torch.ones(shape)).reshape(8 * 16, -1)
        assert ((y == y[:, :1]).all()) and 20 < (y[:, 0] == 0).sum().item() < 108  # whole channels
        assert make(0.5).eval()(torch.ones(shape)).sum().item() == math.prod(shape)
    y = nn.AlphaDropout(0.3)(torch.randn(200, 100))
    assert abs(y.mean().item()) < 0.05 and abs(y.std().item() - 1) < 0.05
    y = nn.FeatureAlphaDropout(0.5)(torch.ones(4, 8, 3)).reshape(32, 3)
    assert (y == y[:, :1]).all()
    assert repr(nn.AlphaDropout()) == "AlphaDropout(p=0.5, inplace=False)"


def test_norms_and_distances_against_formulae():
    x = torch.randn(3, 5)
    a = x.numpy().astype(np.float64)
    layer = nn.LayerNorm(5)
    want = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=1e-4, atol=1e-5)
    assert nn.LayerNorm((2, 3), bias=False).bias is None and nn.LayerNorm(2, elementwise_affine=False).weight is None
    rms = nn.RMSNorm(5, eps=1e-6)
    np.testing.assert_allclose(rms(x).detach().numpy(), a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-6), rtol=1e-4)
    assert repr(rms) == "RMSNorm((5,), eps=1e-06, elementwise_affine=True)"
    y = torch.randn(3, 5)
    b = y.numpy().astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(nn.CosineSimilarity()(x, y).numpy(), cosine, rtol=1e-4, atol=1e-6)
    distance = np.linalg.norm(a - b + 1e-6, axis=1, keepdims=True)
    np.testing.assert_allclose(nn.PairwiseDistance(keepdim=True)(x, y).numpy(), distance, rtol=1e-4)


def test_losses_against_formulae():
    x = torch.tensor([[1.0, 2.0, 0.5], [0.1, 0.2, 3.0]])
    t = torch.tensor([2, 0])
    p = np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True)
    nll = -np.log(p[[0, 1], [2, 0]])
    assert nn.CrossEntropyLoss()(x, t).item() == pytest.approx(nll.mean(), rel=1e-5)
    assert nn.CrossEntropyLoss(reduction="sum")(x, t).item() == pytest.approx(nll.sum(), rel=1e-5)
    w = torch.tensor([1.0, 2.0, 3.0])
    assert nn.CrossEntropyLoss(weight=w)(x, t).item() == pytest.approx((nll * [3, 1]).sum() / 4, rel=1e-5)
    assert nn.NLLLoss()(nn.LogSoftmax(dim=1)(x), t).item() == pytest.approx(nll.mean(), rel=1e-5)
    assert nn.CrossEntropyLoss(ignore_index=0)(x, t).item() == pytest.approx(nll[0], rel=1e-5)
    a, b = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 1.0])
    assert nn.MSELoss()(a, b).item() == pytest.approx((0.25 + 9) / 2)
    assert nn.L1Loss(reduction="none")(a, b).tolist() == [0.5, 3.0]
    assert nn.SmoothL1Loss()(a, b).item() == pytest.approx((0.125 + 2.5) / 2)
    assert nn.HuberLoss(delta=2.0)(a, b).item() == pytest.approx((0.125 + 2 * (3 - 1)) / 2)
    q, y = torch.tensor([0.2, 0.9]), torch.tensor([0.0, 1.0])
    bce = -np.log([0.8, 0.9]).mean()
    assert nn.BCELoss()(q, y).item() == pytest.approx(bce, rel=1e-5)
    logits = torch.log(q / (1 - q))
    assert nn.BCEWithLogitsLoss()(logits, y).item() == pytest.approx(bce, rel=1e-5)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    assert "weight" in dict(nn.CrossEntropyLoss(weight=w).named_buffers())


# ------------------------------------------------------------------------------------------------------------- init

def _filled(fill, *args, shape=(200, 300), **kwargs):
    torch.manual_seed(1)
    t = nn.Parameter(torch.zeros(shape))
    assert fill(t, *args, **kwargs) is t and t.requires_grad and t.grad_fn is None
    return t.detach().numpy()


def test_init_distributions():
    init = nn.init
    bound = math.sqrt(6 / 500)
    a = _filled(init.xavier_uniform_)
    assert bound * 0.99 < np.abs(a).max() <= bound
    assert _filled(init.xavier_normal_, gain=2.0).std() == pytest.approx(2 * math.sqrt(2 / 500), rel=0.02)
    assert _filled(init.kaiming_normal_, nonlinearity="relu").std() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    a = _filled(init.kaiming_uniform_, a=math.sqrt(5), mode="fan_out")
    assert np.abs(a).max() == pytest.approx(1 / math.sqrt(200), rel=0.01)
    a = _filled(init.uniform_, -2.0, 3.0)
    assert -2 <= a.min() < -1.99 and 2.99 < a.max() <= 3
    a = _filled(init.normal_, 5.0, 0.1)
    assert a.mean() == pytest.approx(5, abs=0.01) and a.std() == pytest.approx(0.1, rel=0.02)
    a = _filled(init.trunc_normal_, std=2.0, a=-1.0, b=1.5)
    assert -1 <= a.min() < -0.99 and 1.49 < a.max() <= 1.5
    a = _filled(init.trunc_normal_, a=2.0, b=4.0)  # a tail: the other way of drawing
    assert 2 <= a.min() < 2.01 and a.max() <= 4 and a.mean() == pytest.approx(2.3661, abs=0.01)  # scipy.stats.truncnorm
    a = _filled(init.sparse_, 0.3, shape=(50, 20))
    assert ((a == 0).sum(0) == 15).all()
    for shape in ((6, 9), (9, 6), (4, 2, 3)):
        a = _filled(init.orthogonal_, gain=2.0, shape=shape).reshape(shape[0], -1)
        small = a @ a.T if a.shape[0] <= a.shape[1] else a.T @ a
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_init_constants_and_errors():
    init = nn.init
    assert _filled(init.constant_, 3.0, shape=(2,)).tolist() == [3.0, 3.0]
    assert _filled(init.ones_, shape=(2,)).tolist() == [1.0, 1.0] and _filled(init.zeros_, shape=(1,)).tolist() == [0.0]
    np.testing.assert_array_equal(_filled(init.eye_, shape=(2, 3)), np.eye(2, 3))
    a = _filled(init.dirac_, shape=(4, 2, 3), groups=2)
    assert a.sum() == 4 and a[0, 0, 1] == a[1, 1, 1] == a[2, 0, 1] == a[3, 1, 1] == 1
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))
    assert init.calculate_gain("tanh") == pytest.approx(5 / 3) and init.calculate_gain("conv2d") == 1
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("gelu")
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(torch.zeros(3))
    with pytest.warns(UserWarning, match="no-op"):
        init.kaiming_normal_(torch.zeros(0, 3))
    with pytest.warns(FutureWarning, match="deprecated"):
        init.normal(torch.zeros(2))


# ------------------------------------------------------------------------------------------------------------ utils

def test_gradient_clipping():
    ps = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    ps[0].grad, ps[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert nn.utils.clip_grad_norm_(ps, 10.0).item() == 5.0 and ps[0].grad.tolist() == [3.0, 0.0]
    nn.utils.clip_grad_norm_(iter(ps), 1.0)
    np.testing.assert_allclose(ps[0].grad.tolist(), [0.6, 0.0], rtol=1e-5)
    assert nn.utils.clip_grad_norm_(ps, 1.0, norm_type=math.inf).item() == pytest.approx(0.8)
    ps[0].grad = torch.tensor([-3.0, 0.25])
    nn.utils.clip_grad_value_(ps, 0.5)
    assert ps[0].grad.tolist() == [-0.5, 0.25]
    ps[0].grad = torch.tensor([math.nan, 0.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


def test_parameters_to_vector_and_back():
    net = nn.Linear(2, 3)
    v = nn.utils.parameters_to_vector(net.parameters())
    assert v.shape == (9,)
    nn.utils.vector_to_parameters(torch.arange(9.0), net.parameters())
    assert net.weight.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] and net.bias.tolist() == [6.0, 7.0, 8.0]
    assert net.weight.requires_grad


def test_buffers_and_parameters_are_tensors():
    p = nn.Parameter(torch.arange(3.0))
    assert isinstance(p, torch.Tensor) and type(p + 1) is torch.Tensor and (p * 2).sum().requires_grad
    assert nn.Parameter(torch.arange(3), requires_grad=False).dtype is torch.int64
    with pytest.raises(RuntimeError, match="floating"):
        nn.Parameter(torch.arange(3))
    m = nn.Module()
    m.b = nn.Buffer(torch.zeros(2), persistent=False)
    assert dict(m.named_buffers())["b"] is m.b and not m.state_dict() and not m.b.requires_grad


# --------------------------------------------------------------------------------------------------------- compiled

def test_a_compiled_module_equals_the_eager_one():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 2))
    compiled = torch.compile(model)
    x = torch.randn(3, 4)
    runs = []
    for f in (compiled, model):
        torch.manual_seed(0)
        runs.append([f(x).tolist(), f(x).tolist()])
    assert runs[0][0] != runs[0][1]  # a new mask at each call
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5, atol=1e-6)
    model.eval()
    np.testing.assert_allclose(compiled(x).tolist(), model(x).tolist(), rtol=1e-5, atol=1e-6)
    model[3].weight = nn.Parameter(torch.zeros(2, 8))
    assert compiled(x).tolist() == model(x).tolist() == [model[3].bias.tolist()] * 3
    with torch.no_grad():
        model[3].bias.fill_(7)
    assert compiled(x).tolist() == [[7.0, 7.0]] * 3


def test_a_module_compiled_in_place():
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh())
    x = torch.randn(3, 4)
    want = model(x).tolist()
    model.compile()
    np.testing.assert_allclose(model(x).tolist(), want, rtol=1e-6, atol=1e-6)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(twin(x).tolist(), want, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- peer

ACTIVATIONS = {
    "CELU": (), "ELU": (1.5,), "GELU": ("tanh",), "GLU": (0,), "Hardshrink": (0.3,), "Hardsigmoid": (), "Hardswish": (),
    "Hardtanh": (-2.0, 1.0), "LeakyReLU": (0.2,), "LogSigmoid": (), "LogSoftmax": (1,), "Mish": (), "PReLU": (), "ReLU": (),
    "ReLU6": (), "SELU": (), "SiLU": (), "Sigmoid": (), "Softmax": (1,), "Softmin": (0,), "Softplus": (2.0, 1.5),
    "Softshrink": (), "Softsign": (), "Tanh": (), "Tanhshrink": (), "Threshold": (0.1, 20.0)}


@pytest.mark.peer
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_pytorch(name):
    peer = pytest.importorskip("torch")
    ours, theirs = (getattr(t.nn, name)(*ACTIVATIONS[name]).double() for t in (torch, peer))
    assert repr(ours) == repr(theirs)
    data = np.random.default_rng(0).normal(size=(4, 7)) * 3
    x, y = torch.tensor(data, requires_grad=True), peer.tensor(data, requires_grad=True)
    (ours(x) ** 2).sum().backward()
    (theirs(y) ** 2).sum().backward()
    np.testing.assert_allclose(ours(x).detach().numpy(), theirs(y).detach().numpy(), rtol=1e-12, atol=1e-12)
    # PyTorch's hardsigmoid gradient is 1/6 rounded to float32
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-7 if name == "Hardsigmoid" else 1e-10, atol=1e-12)
    if hasattr(theirs, "inplace"):
        ours, theirs = (getattr(t.nn, name)(*ACTIVATIONS[name], inplace=True) for t in (torch, peer))
        assert repr(ours) == repr(theirs)
        z = x.detach().clone()
        assert ours(z) is z
        np.testing.assert_allclose(z.numpy(), theirs(y.detach().clone()).numpy(), rtol=1e-12, atol=1e-12)


LOSSES = {
    "BCELoss": ("unit", "unit"), "BCEWithLogitsLoss": ("real", "unit"), "HuberLoss": ("real", "real"),
    "KLDivLoss": ("real", "unit"), "L1Loss": ("real", "real"), "MSELoss": ("real", "real"), "SmoothL1Loss": ("real", "real"),
    "PoissonNLLLoss": ("real", "unit"), "GaussianNLLLoss": ("real", "real", "unit"), "SoftMarginLoss": ("real", "sign"),
    "MarginRankingLoss": ("row", "row", "signs"), "HingeEmbeddingLoss": ("real", "sign"),
    "CosineEmbeddingLoss": ("real", "real", "signs"), "TripletMarginLoss": ("real", "real", "real"),
    "CrossEntropyLoss": ("real", "class"), "NLLLoss": ("real", "class")}


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_pytorch(name, reduction):
    peer = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    make = {"real": lambda: rng.normal(size=(5, 4)), "unit": lambda: rng.uniform(0.1, 0.9, size=(5, 4)),
            "sign": lambda: np.sign(rng.normal(size=(5, 4))), "signs": lambda: np.sign(rng.normal(size=5)),
            "row": lambda: rng.normal(size=5), "class": lambda: rng.integers(0, 4, size=5)}
    data = [make[kind]() for kind in LOSSES[name]]
    results = []
    for t in (torch, peer):
        args = [t.tensor(a) for a in data]
        args[0].requires_grad_()
        loss = getattr(t.nn, name)(reduction=reduction)
        out = loss(*args)
        out.sum().backward()
        results.append((repr(loss), out.detach().numpy(), args[0].grad.numpy()))
    (a, out_a, grad_a), (b, out_b, grad_b) = results
    assert a == b
    np.testing.assert_allclose(out_a, out_b, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grad_a, grad_b, rtol=1e-9, atol=1e-12)


@pytest.mark.peer
def test_model_equals_pytorch():
    peer = pytest.importorskip("torch")

    def build(t):
        return t.nn.Sequential(t.nn.Embedding(10, 6, padding_idx=0), t.nn.Linear(6, 8), t.nn.GELU(), t.nn.LayerNorm(8),
                               t.nn.Dropout(0.0), t.nn.Flatten(), t.nn.Linear(24, 3)).double()

    ours, theirs = build(torch), build(peer)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: torch.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    index = np.array([[0, 1, 2], [3, 9, 9]])
    target = np.array([2, 0])
    a = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(ours(torch.tensor(index)), torch.tensor(target))
    b = peer.nn.CrossEntropyLoss(label_smoothing=0.1)(theirs(peer.tensor(index)), peer.tensor(target))
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    a.backward()
    b.backward()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_to_changes_the_memory_format_of_images_and_kernels():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2)).to(memory_format=torch.channels_last)
    assert net[0].weight.stride() == (27, 1, 9, 3) and net[3].weight.stride() == (8, 1)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_convolution_weights_change_their_memory_format():
    for rank, convert, wanted in ((2, nn.utils.convert_conv2d_weight_memory_format, torch.channels_last),
                                  (3, nn.utils.convert_conv3d_weight_memory_format, torch.channels_last_3d)):
        layer = getattr(nn, f"Conv{rank}d")(4, 6, 3)
        net, parameter, before = nn.Sequential(layer, nn.Conv1d(4, 4, 3)), layer.weight, layer.weight.detach().clone()
        assert convert(net, wanted) is net and layer.weight is parameter
        assert layer.weight.is_contiguous(memory_format=wanted) and not layer.weight.is_contiguous()
        assert torch.equal(layer.weight, before) and net[1].weight.is_contiguous()
