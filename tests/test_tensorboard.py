"""SummaryWriter, read back with TensorBoard's own reader."""

from __future__ import annotations

import struct
import wave
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusetorch as torch

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader  # noqa: E402
from tensorboard.compat.proto.event_pb2 import Event  # noqa: E402
from tensorboard.compat.proto.graph_pb2 import GraphDef  # noqa: E402

from fusetorch.utils.tensorboard import SummaryWriter  # noqa: E402


def events(folder: Path) -> list[Event]:
    return [Event.FromString(raw) for f in sorted(folder.glob("events*")) for raw in RawEventFileLoader(str(f)).Load()]


def values(folder: Path) -> dict[str, Any]:
    """Tag to step and value."""
    return {v.tag: (e.step, v) for e in events(folder) for v in e.summary.value}


def pixels(data: bytes) -> np.ndarray:
    """The pixels of a PNG as we write it."""
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    start, out = 33, b""
    while data[start + 4:start + 8] == b"IDAT":
        n = struct.unpack(">I", data[start:start + 4])[0]
        assert struct.unpack(">I", data[start + 8 + n:start + 12 + n])[0] == zlib.crc32(data[start + 4:start + 8 + n])
        out, start = out + data[start + 8:start + 8 + n], start + 12 + n
    assert (data[:8], depth, kind) == (b"\x89PNG\r\n\x1a\n", 8, 2)
    return np.frombuffer(zlib.decompress(out), np.uint8).reshape(height, 1 + 3 * width)[:, 1:].reshape(height, width, 3)


def test_numbers(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path, purge_step=2, filename_suffix=".x") as writer:
        writer.add_scalar("loss", torch.tensor(1.5, requires_grad=True), 3, walltime=7.0)
        writer.add_scalar("exact", 0.1, torch.tensor(4), new_style=True, double_precision=True)
        writer.add_scalar("half", torch.tensor([2.0], dtype=torch.bfloat16))
        writer.add_scalars("both/of", {"a": 1, "b": torch.tensor(2)}, 5)
        with pytest.raises(AssertionError):
            writer.add_scalar("several", torch.ones(2))
        assert writer.get_logdir() == tmp_path
    got = values(tmp_path)
    assert got["loss"][0] == 3 and got["loss"][1].simple_value == 1.5
    assert got["exact"][0] == 4 and got["exact"][1].tensor.double_val[0] == 0.1
    assert got["half"][1].simple_value == 2
    assert values(tmp_path / "both_of_a")["both/of"][1].simple_value == 1
    assert values(tmp_path / "both_of_b")["both/of"][0] == 5
    first = events(tmp_path)
    assert first[0].file_version and first[1].step == 2 and first[2].session_log.status == 1 and first[3].wall_time == 7.0
    assert next(tmp_path.glob("events*")).name.endswith(".x")


def test_a_closed_writer_opens_a_new_file(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path)
    writer.add_scalar("a", 1)
    writer.close()
    writer.add_scalar("b", 2)
    writer.close()
    assert set(values(tmp_path)) >= {"a", "b"}


def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SummaryWriter(comment="_try").close()
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.endswith("_try")


@pytest.mark.parametrize("bins", ["tensorflow", "auto", 7])
def test_histogram(tmp_path: Path, bins: Any) -> None:
    x = torch.randn(500)
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("h", x, 1, bins)
        writer.add_histogram("few", x, bins=64, max_bins=8)
        with pytest.raises(ValueError, match="no element"):
            writer.add_histogram("none", torch.ones(0))
    got = values(tmp_path)
    h, a = got["h"][1].histo, x.double().numpy()
    assert (h.min, h.max, h.num) == (a.min(), a.max(), 500)
    np.testing.assert_allclose([h.sum, h.sum_squares], [a.sum(), (a * a).sum()])
    limits = np.array(h.bucket_limit)
    inner = np.histogram(a, np.append(limits[:-1], np.nextafter(limits[-1], np.inf)))[0]
    assert h.bucket[0] == 0 and list(h.bucket[1:]) == list(inner)
    few = got["few"][1].histo
    assert sum(few.bucket) == 500 and len(few.bucket) <= 9


def test_images(tmp_path: Path) -> None:
    x = torch.rand(3, 4, 6)
    wanted = (x * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("chw", x, 1)
        writer.add_image("hwc", wanted, dataformats="HWC")
        writer.add_image("grey", x[0], dataformats="HW")
        writer.add_images("grid", torch.stack([x] * 9))
        writer.add_images("list", [x, x])
        with pytest.raises(AssertionError, match="different"):
            writer.add_image("wrong", x, dataformats="NCHW")
    got = values(tmp_path)
    for tag in ("chw", "hwc"):
        assert (pixels(got[tag][1].image.encoded_image_string) == wanted).all()
    assert (pixels(got["grey"][1].image.encoded_image_string) == wanted[..., :1]).all()
    grid = pixels(got["grid"][1].image.encoded_image_string)
    assert grid.shape == (8, 48, 3) and (grid[4:, :6] == wanted).all() and not grid[4:, 6:].any()
    assert (got["list"][1].image.width, got["list"][1].image.height) == (12, 4)


def test_sound_text_tensor(tmp_path: Path) -> None:
    sound = torch.linspace(-2, 2, 50)
    with SummaryWriter(tmp_path) as writer:
        writer.add_audio("sound", sound, sample_rate=8000)
        writer.add_text("note", "*hello*", 1)
        writer.add_tensor("t", torch.ones(2, 3))
    got = values(tmp_path)
    with wave.open(BytesIO(got["sound"][1].audio.encoded_audio_string)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        heard = np.frombuffer(file.readframes(100), "<i2")
    assert (heard == (sound.clamp(-1, 1).double() * 32767).numpy().astype("<i2")).all()
    assert got["note/text_summary"][1].tensor.string_val[0] == b"*hello*"
    assert [d.size for d in got["t"][1].tensor.tensor_shape.dim] == [2, 3]


def test_precision_and_recall(tmp_path: Path) -> None:
    y, p = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.8, 0.9])
    with SummaryWriter(tmp_path) as writer:
        writer.add_pr_curve("pr", y, p, num_thresholds=11)
    t = values(tmp_path)["pr"][1].tensor
    tp, fp, tn, fn, precision, recall = np.array(t.float_val).reshape(6, 11)
    for k, edge in enumerate(np.arange(11) / 10):
        chosen = np.floor(p * 10) >= k
        assert (tp[k], fp[k]) == ((chosen & (y == 1)).sum(), (chosen & (y == 0)).sum()), edge
    np.testing.assert_allclose(recall, tp / 3)
    np.testing.assert_allclose(tp + fn, 3)
    np.testing.assert_allclose(fp + tn, 2)
    np.testing.assert_allclose(precision, tp / np.maximum(tp + fp, 1e-7))


def test_hyperparameters(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_hparams({"lr": 0.1, "name": "x", "deep": True}, {"accuracy": 0.5}, {"lr": [0.1, 0.2]}, run_name="one")
        with pytest.raises(TypeError, match="dictionary"):
            writer.add_hparams([1], {})
        with pytest.raises(ValueError, match="value should be one of"):
            writer.add_hparams({"f": print}, {})
    got = values(tmp_path / "one")
    assert got["accuracy"][1].simple_value == 0.5
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
    start = parse_session_start_info_plugin_data(got["_hparams_/session_start_info"][1].metadata.plugin_data.content)
    assert start.hparams["lr"].number_value == 0.1 and start.hparams["name"].string_value == "x"


def test_layout_and_embedding(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_custom_scalars({"c": {"loss": ["Multiline", ["a", "b"]], "band": ["Margin", ["a", "b", "c"]]}})
        writer.add_embedding(torch.ones(3, 2), ["a", "b", "c"], torch.rand(3, 1, 4, 4), 7)
        writer.add_embedding(np.zeros((2, 2)), [["a", 1], ["b", 2]], None, 8, "other", ["name", "n"])
        with pytest.raises(AssertionError):
            writer.add_embedding(torch.ones(3, 2), ["a"])
    assert "custom_scalars__config__" in values(tmp_path)
    assert (tmp_path / "00007/default/tensors.tsv").read_text() == "1.0\t1.0\n" * 3
    assert (tmp_path / "00008/other/metadata.tsv").read_text() == "name\tn\na\t1\nb\t2\n"
    assert pixels((tmp_path / "00007/default/sprite.png").read_bytes()).shape == (8, 8, 3)
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    assert [e.tensor_name for e in config.embeddings] == ["default:00007", "other:00008"]
    assert list(config.embeddings[0].sprite.single_image_dim) == [4, 4]


def test_graph(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Dropout())
    torch.manual_seed(0)
    after = torch.rand(2)
    torch.manual_seed(0)
    with SummaryWriter(tmp_path) as writer:
        writer.add_graph(model, torch.ones(2, 3))
    assert torch.equal(torch.rand(2), after) and not model[1].running_mean.any()
    graph = GraphDef.FromString(next(e.graph_def for e in events(tmp_path) if e.graph_def))
    nodes = {n.name: n for n in graph.node}
    assert {"0/weight", "0/bias", "Sequential/2/relu", "output/output.1"} <= set(nodes)
    assert all(i.split(":")[0] in nodes for n in graph.node for i in n.input)


def test_figures(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    with SummaryWriter(tmp_path) as writer:
        writer.add_figure("one", plt.figure(figsize=(2, 1), dpi=50))
        writer.add_figure("two", [plt.figure(figsize=(2, 1), dpi=50) for _ in range(2)])
    assert not plt.get_fignums()
    got = values(tmp_path)
    assert (got["one"][1].image.width, got["one"][1].image.height) == (100, 50)
    assert got["two"][1].image.width == 200
