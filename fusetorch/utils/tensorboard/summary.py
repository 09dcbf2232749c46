"""Values as TensorBoard's messages: one function for each kind, which gives a ``Summary``."""
from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from . import arrays
from .arrays import make_np


def _shape(*sizes: int) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=n) for n in sizes])


def _metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))


def scalar(tag: str, value: Any, new_style: bool = False, double_precision: bool = False) -> Summary:
    """A number; with ``new_style`` as a tensor of the scalars plugin, which may have double precision."""
    a = make_np(value).squeeze()
    if a.ndim:
        raise AssertionError(f"Tensor should contain one element (0 dimensions). Was given size: {a.size} and {a.ndim} dimensions.")
    number = float(a)
    if not new_style:
        return Summary(value=[Summary.Value(tag=tag, simple_value=number)])
    content = TensorProto(double_val=[number], dtype="DT_DOUBLE") if double_precision else TensorProto(float_val=[number], dtype="DT_FLOAT")
    return Summary(value=[Summary.Value(tag=tag, tensor=content, metadata=_metadata("scalars"))])


def tensor(tag: str, values: Any) -> Summary:
    """A tensor of floats."""
    a = make_np(values)
    return Summary(value=[Summary.Value(tag=tag, metadata=_metadata("tensor"), tensor=TensorProto(
        dtype="DT_FLOAT", float_val=a.reshape(-1).astype(np.float32).tolist(), tensor_shape=_shape(*a.shape)))])


def default_bins() -> np.ndarray:
    """Edges that grow by a tenth each, on both sides of 0."""
    edges = [1e-12]
    while edges[-1] * 1.1 < 1e20:
        edges.append(edges[-1] * 1.1)
    edges = np.array(edges)
    return np.concatenate([-edges[::-1], [0], edges])


def histogram(tag: str, values: Any, bins: Any = "tensorflow", max_bins: int | None = None) -> Summary:
    """How often values lie between edges; ``bins`` as for ``numpy.histogram``, or ``"tensorflow"``."""
    v = make_np(values).astype(np.float64).reshape(-1)
    if not v.size:
        raise ValueError("The input has no element.")
    counts, edges = np.histogram(v, default_bins() if isinstance(bins, str) and bins == "tensorflow" else bins)
    if max_bins is not None and len(counts) > max_bins:
        step = len(counts) // max_bins
        counts = np.add.reduceat(counts, np.arange(0, len(counts), step))
        edges = np.concatenate([edges[:-1:step], edges[-1:]])
    if not counts.any():
        raise ValueError("The histogram is empty, please file a bug report.")
    # from the first bin that has something to the last, and an empty one before them that ends where the first begins
    full = np.flatnonzero(counts)
    first, last = full[0], full[-1]
    return histogram_raw(tag, v.min(), v.max(), v.size, v.sum(), v.dot(v), edges[first:last + 2], [0, *counts[first:last + 1]])


def histogram_raw(tag: str, min: float, max: float, num: float, sum: float, sum_squares: float, bucket_limits: Any,
                  bucket_counts: Any) -> Summary:
    """A histogram whose counts are known; ``bucket_limits`` are right edges."""
    return Summary(value=[Summary.Value(tag=tag, histo=HistogramProto(
        min=min, max=max, num=num, sum=sum, sum_squares=sum_squares, bucket_limit=[float(x) for x in bucket_limits],
        bucket=[float(x) for x in bucket_counts]))])


def image(tag: str, values: Any, dataformats: str = "NCHW", rescale: float = 1) -> Summary:
    """An image, or a grid of them."""
    return _image(tag, arrays.to_bytes(arrays.to_hwc(make_np(values), dataformats)), rescale)


def _image(tag: str, a: np.ndarray, rescale: float = 1) -> Summary:
    if rescale != 1:
        from PIL import Image
        size = int(a.shape[1] * rescale), int(a.shape[0] * rescale)
        a = np.asarray(Image.fromarray(a).resize(size, Image.Resampling.LANCZOS))
    height, width, channels = a.shape
    return Summary(value=[Summary.Value(tag=tag, image=Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=arrays.png(a)))])


def image_boxes(tag: str, values: Any, boxes: Any, rescale: float = 1, dataformats: str = "CHW",
                labels: list[str] | None = None) -> Summary:
    """An image with boxes ``(left, top, right, bottom)`` drawn on it in red; needs Pillow."""
    from PIL import Image, ImageDraw
    picture = Image.fromarray(arrays.to_bytes(arrays.to_hwc(make_np(values), dataformats)))
    draw = ImageDraw.Draw(picture)
    for k, (left, top, right, bottom) in enumerate(make_np(boxes).reshape(-1, 4).tolist()):
        draw.rectangle((left, top, right, bottom), outline="red", width=2)
        if labels is not None:
            draw.text((left, top), labels[k], fill="red")
    return _image(tag, np.asarray(picture), rescale)


def video(tag: str, values: Any, fps: float = 4) -> Summary:
    """Videos (n, t, c, h, w) side by side."""
    frames = arrays.to_bytes(arrays.videos(make_np(values)))
    _, height, width, channels = frames.shape
    return Summary(value=[Summary.Value(tag=tag, image=Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=arrays.gif(frames, fps)))])


def audio(tag: str, values: Any, sample_rate: int = 44100) -> Summary:
    """One channel of sound, in [-1, 1]."""
    a = make_np(values).squeeze().astype(np.float64)
    if a.ndim != 1:
        raise AssertionError("input tensor should be 1 dimensional.")
    return Summary(value=[Summary.Value(tag=tag, audio=Summary.Audio(
        sample_rate=sample_rate, num_channels=1, length_frames=a.size, content_type="audio/wav",
        encoded_audio_string=arrays.wav(a.clip(-1, 1), sample_rate)))])


def text(tag: str, value: str) -> Summary:
    """Text, which TensorBoard reads as Markdown."""
    from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData
    return Summary(value=[Summary.Value(
        tag=tag + "/text_summary", metadata=_metadata("text", TextPluginData(version=0).SerializeToString()),
        tensor=TensorProto(dtype="DT_STRING", string_val=[value.encode("utf-8")], tensor_shape=_shape(1)))])


def pr_curve_raw(tag: str, tp: Any, fp: Any, tn: Any, fn: Any, precision: Any, recall: Any, num_thresholds: int = 127) -> Summary:
    """A precision-recall curve whose counts at each threshold are known."""
    from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData
    num_thresholds = min(num_thresholds, 127)  # what the plugin shows
    rows = np.stack([np.asarray(make_np(x), np.float64) for x in (tp, fp, tn, fn, precision, recall)])
    content = PrCurvePluginData(version=0, num_thresholds=num_thresholds).SerializeToString()
    return Summary(value=[Summary.Value(tag=tag, metadata=_metadata("pr_curves", content), tensor=TensorProto(
        dtype="DT_FLOAT", float_val=rows.reshape(-1).tolist(), tensor_shape=_shape(*rows.shape)))])


def pr_curve(tag: str, labels: Any, predictions: Any, num_thresholds: int = 127, weights: Any = None) -> Summary:
    """Precision and recall of probabilities ``predictions`` for binary ``labels`` at evenly spaced thresholds."""
    num_thresholds = min(num_thresholds, 127)
    y, p = make_np(labels).reshape(-1), make_np(predictions).reshape(-1)
    w = np.ones(y.shape) if weights is None else np.broadcast_to(make_np(weights).reshape(-1), y.shape)
    place = np.floor(p * (num_thresholds - 1)).astype(np.int64)
    yes, no = [np.histogram(place, num_thresholds, (0, num_thresholds - 1), weights=w * which)[0] for which in (y, 1 - y)]
    tp, fp = [np.cumsum(counts[::-1])[::-1] for counts in (yes, no)]
    tn, fn = fp[0] - fp, tp[0] - tp
    tiny = 1e-7
    return pr_curve_raw(tag, tp, fp, tn, fn, tp / np.maximum(tiny, tp + fp), tp / np.maximum(tiny, tp + fn), num_thresholds)


def custom_scalars(layout: dict[str, dict[str, list]]) -> Summary:
    """A layout of charts: ``{category: {chart: ["Multiline" or "Margin", [tags]]}}``."""
    from tensorboard.plugins.custom_scalar import layout_pb2 as m
    categories = []
    for category, charts in layout.items():
        made = []
        for title, (kind, tags) in charts.items():
            if kind == "Margin":
                if len(tags) != 3:
                    raise AssertionError("a margin chart has three tags: value, lower and upper bound")
                series = m.MarginChartContent.Series(value=tags[0], lower=tags[1], upper=tags[2])
                made.append(m.Chart(title=title, margin=m.MarginChartContent(series=[series])))
            else:
                made.append(m.Chart(title=title, multiline=m.MultilineChartContent(tag=tags)))
        categories.append(m.Category(title=category, chart=made))
    return Summary(value=[Summary.Value(
        tag="custom_scalars__config__", metadata=_metadata("custom_scalars"), tensor=TensorProto(
            dtype="DT_STRING", string_val=[m.Layout(category=categories).SerializeToString()], tensor_shape=TensorShapeProto()))])


def mesh(tag: str, vertices: Any, colors: Any, faces: Any, config_dict: dict | None) -> Summary:
    """Points (and triangles over them) in space: arrays (batch, n, 3)."""
    from tensorboard.plugins.mesh import metadata
    from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData
    given = [(MeshPluginData.VERTEX, vertices), (MeshPluginData.FACE, faces), (MeshPluginData.COLOR, colors)]
    given = [(kind, data) for kind, data in given if data is not None]
    parts = metadata.get_components_bitmask([kind for kind, _ in given])
    values = []
    for kind, data in given:
        a = make_np(data)
        about = metadata.create_summary_metadata(tag, None, kind, parts, list(a.shape), "", json_config=json.dumps(config_dict or {}))
        values.append(Summary.Value(tag=metadata.get_instance_name(tag, kind), metadata=about, tensor=TensorProto(
            dtype="DT_FLOAT", tensor_shape=_shape(*a.shape), float_val=a.reshape(-1).astype(np.float32).tolist())))
    return Summary(value=values)


def hparams(hparam_dict: dict[str, Any] | None = None, metric_dict: dict[str, Any] | None = None,
            hparam_domain_discrete: dict[str, list] | None = None) -> tuple[Summary, Summary, Summary]:
    """What an experiment varies and measures, and the start and the end of a session with these values."""
    from google.protobuf import struct_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    for name, given in (("hparam_dict", hparam_dict), ("metric_dict", metric_dict)):
        if not isinstance(given, dict):
            raise TypeError(f"parameter: {name} should be a dictionary, nothing logged.")
    domains = hparam_domain_discrete or {}
    if not isinstance(domains, dict):
        raise TypeError("parameter: hparam_domain_discrete should be a dictionary, nothing logged.")
    for key, values in domains.items():
        if key not in hparam_dict or not isinstance(values, list) or not all(isinstance(v, type(hparam_dict[key])) for v in values):
            raise TypeError(f"parameter: hparam_domain_discrete[{key}] should be a list of same type as hparam_dict[{key}].")

    start = SessionStartInfo()
    infos = []
    for key, value in hparam_dict.items():
        if value is None:
            continue
        if isinstance(value, bool):
            kind, field = "DATA_TYPE_BOOL", "bool_value"
        elif isinstance(value, (int, float)):
            kind, field = "DATA_TYPE_FLOAT64", "number_value"
        elif isinstance(value, str):
            kind, field = "DATA_TYPE_STRING", "string_value"
        elif not isinstance(value, (Exception, type)) and hasattr(value, "numel") and value.numel() == 1:
            kind, field, value = "DATA_TYPE_FLOAT64", "number_value", float(make_np(value)[0])
        else:
            raise ValueError("value should be one of int, float, str, bool, or torch.Tensor")
        setattr(start.hparams[key], field, value)
        domain = None
        if key in domains:
            domain = struct_pb2.ListValue(values=[struct_pb2.Value(**{field: v}) for v in domains[key]])
        infos.append(api_pb2.HParamInfo(name=key, type=api_pb2.DataType.Value(kind), domain_discrete=domain))
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=key)) for key in metric_dict]

    def message(tag: str, **content: Any) -> Summary:
        data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
        about = metadata.create_summary_metadata(data)
        return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])

    return (message(metadata.EXPERIMENT_TAG, experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)),
            message(metadata.SESSION_START_INFO_TAG, session_start_info=start),
            message(metadata.SESSION_END_INFO_TAG, session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)))


def embedding(folder: str, sub: str, mat: Any, metadata: Any, label_img: Any, metadata_header: Any, tag: str) -> str:
    """Writes the points of the projector under ``folder/sub``; what ``projector_config.pbtxt`` says of them."""
    place = os.path.join(folder, sub)
    os.makedirs(place, exist_ok=True)
    points = make_np(mat)
    if points.ndim != 2:
        raise AssertionError("mat should be 2D, where mat.size(0) is the number of data points")
    lines = [f'tensor_name: "{tag}:{sub.split("/")[0]}"', f'tensor_path: "{sub}/tensors.tsv"']
    if metadata is not None:
        if len(points) != len(metadata):
            raise AssertionError("#labels should equal with #data points")
        rows = [str(m) for m in metadata] if not metadata_header else ["\t".join(map(str, m)) for m in (metadata_header, *metadata)]
        with open(os.path.join(place, "metadata.tsv"), "w", encoding="utf-8") as file:
            file.write("\n".join(rows) + "\n")
        lines.append(f'metadata_path: "{sub}/metadata.tsv"')
    if label_img is not None:
        images = make_np(label_img)
        if len(points) != len(images):
            raise AssertionError("#images should equal with #data points")
        side = int(np.ceil(np.sqrt(len(images))))
        if images.shape[2] != images.shape[3] or side * images.shape[2] > 8192:
            raise AssertionError("Image should be square, see tensorflow/tensorboard#670, and the sprite at most 8192 pixels wide")
        sheet = arrays.grid(np.repeat(images, 3, 1) if images.shape[1] == 1 else images, side)
        with open(os.path.join(place, "sprite.png"), "wb") as file:
            file.write(arrays.png(arrays.to_bytes(sheet.transpose(1, 2, 0))))
        lines += ["sprite {", f'  image_path: "{sub}/sprite.png"', f"  single_image_dim: {images.shape[3]}",
                  f"  single_image_dim: {images.shape[2]}", "}"]
    with open(os.path.join(place, "tensors.tsv"), "w", encoding="utf-8") as file:
        file.writelines("\t".join(repr(float(x)) for x in row) + "\n" for row in points)
    return "embeddings {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
