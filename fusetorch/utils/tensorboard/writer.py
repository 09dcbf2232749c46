"""``SummaryWriter``: puts values into event files, one call for each."""
from __future__ import annotations

import os
import time
from typing import Any

from tensorboard.compat.proto.config_pb2 import RunMetadata
from tensorboard.compat.proto.event_pb2 import Event, SessionLog, TaggedRunMetadata
from tensorboard.compat.proto.step_stats_pb2 import DeviceStepStats, StepStats
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from . import arrays, summary

__all__ = ["FileWriter", "SummaryWriter"]


class FileWriter:
    """An event file in ``log_dir``, written by a thread: events wait in a queue of ``max_queue`` and reach the disk after at most
    ``flush_secs`` seconds."""

    def __init__(self, log_dir: str | os.PathLike, max_queue: int = 10, flush_secs: float = 120, filename_suffix: str = "") -> None:
        self.event_writer = EventFileWriter(str(log_dir), max_queue, flush_secs, filename_suffix)

    def get_logdir(self) -> str:
        """The folder."""
        return self.event_writer.get_logdir()

    def add_event(self, event: Event, step: Any = None, walltime: float | None = None) -> None:
        """Writes an event, at a step and a time in seconds (now by default)."""
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        self.event_writer.add_event(event)

    def add_summary(self, value: Summary, global_step: Any = None, walltime: float | None = None) -> None:
        """Writes a summary."""
        self.add_event(Event(summary=value), global_step, walltime)

    def add_graph(self, graph: Any, walltime: float | None = None) -> None:
        """Writes a ``GraphDef``, or one with what its operations took."""
        definition, statistics = graph if isinstance(graph, tuple) else (graph, None)
        self.add_event(Event(graph_def=definition.SerializeToString()), None, walltime)
        if statistics is not None:
            tagged = TaggedRunMetadata(tag="step1", run_metadata=statistics.SerializeToString())
            self.add_event(Event(tagged_run_metadata=tagged), None, walltime)

    def flush(self) -> None:
        """Waits until everything is on the disk."""
        self.event_writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.event_writer.close()

    def reopen(self) -> None:
        """Opens a new file."""
        self.event_writer.reopen()


class SummaryWriter:
    """Writes event files to ``log_dir`` for TensorBoard.

    Args:
        log_dir: the folder; by default ``runs/<date and time>_<host><comment>``.
        comment: the end of the default folder's name.
        purge_step: TensorBoard hides what an earlier, crashed run wrote at this step and later.
        max_queue, flush_secs: how many events, and how long, may wait before they are written.
        filename_suffix: the end of the event files' names.

    Tensors, NumPy arrays and numbers are taken alike; ``global_step`` and ``walltime`` (seconds, now by default) say when a value was.

    Example (not run here):
        with SummaryWriter("runs/first") as writer:
            for step in range(100):
                writer.add_scalar("loss", 1 / (step + 1), step)
    """

    def __init__(self, log_dir: str | os.PathLike | None = None, comment: str = "", purge_step: int | None = None, max_queue: int = 10,
                 flush_secs: float = 120, filename_suffix: str = "") -> None:
        if not log_dir:
            import socket
            from datetime import datetime
            log_dir = os.path.join("runs", datetime.now().strftime("%b%d_%H-%M-%S") + "_" + socket.gethostname() + comment)
        self.log_dir = log_dir
        self.purge_step, self.max_queue, self.flush_secs, self.filename_suffix = purge_step, max_queue, flush_secs, filename_suffix
        self.file_writer: FileWriter | None = None
        self.all_writers: dict[str, FileWriter] | None = None
        self._get_file_writer()
        self._projected: set[str] = set()

    def _get_file_writer(self) -> FileWriter:
        if self.all_writers is None or self.file_writer is None:
            writer = self.file_writer = self._open(self.log_dir)
            self.all_writers = {writer.get_logdir(): writer}
            if self.purge_step is not None:
                writer.add_event(Event(step=self.purge_step, file_version="brain.Event:2"))
                writer.add_event(Event(step=self.purge_step, session_log=SessionLog(status=SessionLog.START)))
                self.purge_step = None
        return self.file_writer

    def _open(self, folder: str | os.PathLike) -> FileWriter:
        return FileWriter(folder, self.max_queue, self.flush_secs, self.filename_suffix)

    def get_logdir(self) -> str | os.PathLike:
        """The folder."""
        return self.log_dir

    def _add(self, value: Summary, step: Any, walltime: float | None) -> None:
        self._get_file_writer().add_summary(value, step, walltime)

    # ---- numbers

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None, walltime: float | None = None, new_style: bool = False,
                   double_precision: bool = False) -> None:
        """A number. ``new_style``: as a tensor, which is read faster; ``double_precision``: that of float64."""
        self._add(summary.scalar(tag, scalar_value, new_style, double_precision), global_step, walltime)

    def add_scalars(self, main_tag: str, tag_scalar_dict: dict[str, Any], global_step: Any = None, walltime: float | None = None) -> None:
        """Several numbers in one chart, each in a folder of its own."""
        walltime = time.time() if walltime is None else walltime
        folder = self._get_file_writer().get_logdir()
        for tag, value in tag_scalar_dict.items():
            place = folder + "/" + main_tag.replace("/", "_") + "_" + tag
            if place not in self.all_writers:
                self.all_writers[place] = self._open(place)
            self.all_writers[place].add_summary(summary.scalar(main_tag, value), global_step, walltime)

    def add_tensor(self, tag: str, tensor: Any, global_step: Any = None, walltime: float | None = None) -> None:
        """A tensor."""
        self._add(summary.tensor(tag, tensor), global_step, walltime)

    def add_histogram(self, tag: str, values: Any, global_step: Any = None, bins: Any = "tensorflow", walltime: float | None = None,
                      max_bins: int | None = None) -> None:
        """How values are distributed. ``bins``: ``"tensorflow"``, or as for ``numpy.histogram``."""
        self._add(summary.histogram(tag, values, bins, max_bins), global_step, walltime)

    def add_histogram_raw(self, tag: str, min: float, max: float, num: int, sum: float, sum_squares: float, bucket_limits: Any,
                          bucket_counts: Any, global_step: Any = None, walltime: float | None = None) -> None:
        """A histogram whose counts are known; ``bucket_limits`` are right edges."""
        if len(bucket_limits) != len(bucket_counts):
            raise ValueError("len(bucket_limits) != len(bucket_counts), see the document.")
        self._add(summary.histogram_raw(tag, min, max, num, sum, sum_squares, bucket_limits, bucket_counts), global_step, walltime)

    def add_pr_curve(self, tag: str, labels: Any, predictions: Any, global_step: Any = None, num_thresholds: int = 127, weights: Any = None,
                     walltime: float | None = None) -> None:
        """Precision and recall of probabilities ``predictions`` for binary ``labels``."""
        self._add(summary.pr_curve(tag, labels, predictions, num_thresholds, weights), global_step, walltime)

    def add_pr_curve_raw(self, tag: str, true_positive_counts: Any, false_positive_counts: Any, true_negative_counts: Any,
                         false_negative_counts: Any, precision: Any, recall: Any, global_step: Any = None, num_thresholds: int = 127,
                         weights: Any = None, walltime: float | None = None) -> None:
        """A precision-recall curve whose counts at each threshold are known."""
        self._add(summary.pr_curve_raw(tag, true_positive_counts, false_positive_counts, true_negative_counts, false_negative_counts,
                                       precision, recall, num_thresholds), global_step, walltime)

    # ---- pictures and sound

    def add_image(self, tag: str, img_tensor: Any, global_step: Any = None, walltime: float | None = None,
                  dataformats: str = "CHW") -> None:
        """An image, floating in [0, 1] or uint8."""
        self._add(summary.image(tag, img_tensor, dataformats), global_step, walltime)

    def add_images(self, tag: str, img_tensor: Any, global_step: Any = None, walltime: float | None = None,
                   dataformats: str = "NCHW") -> None:
        """A batch of images as a grid; a list of images is stacked."""
        if isinstance(img_tensor, list):
            import numpy as np
            img_tensor = np.stack([arrays.make_np(x) for x in img_tensor])
        self._add(summary.image(tag, img_tensor, dataformats), global_step, walltime)

    def add_image_with_boxes(self, tag: str, img_tensor: Any, box_tensor: Any, global_step: Any = None, walltime: float | None = None,
                             rescale: float = 1, dataformats: str = "CHW", labels: Any = None) -> None:
        """An image with boxes ``(left, top, right, bottom)`` on it; needs Pillow."""
        labels = [labels] if isinstance(labels, str) else labels
        if labels is not None and len(labels) != arrays.make_np(box_tensor).shape[0]:
            labels = None
        self._add(summary.image_boxes(tag, img_tensor, box_tensor, rescale, dataformats, labels), global_step, walltime)

    def add_figure(self, tag: str, figure: Any, global_step: Any = None, close: bool = True, walltime: float | None = None) -> None:
        """A Matplotlib figure, or a list of them; ``close`` closes them."""
        image = arrays.figure_image(figure, close)
        (self.add_images if image.ndim == 4 else self.add_image)(tag, image, global_step, walltime)

    def add_video(self, tag: str, vid_tensor: Any, global_step: Any = None, fps: float = 4, walltime: float | None = None) -> None:
        """Videos (n, t, c, h, w), floating in [0, 1] or uint8, as a GIF; needs Pillow."""
        self._add(summary.video(tag, vid_tensor, fps), global_step, walltime)

    def add_audio(self, tag: str, snd_tensor: Any, global_step: Any = None, sample_rate: int = 44100,
                  walltime: float | None = None) -> None:
        """One channel of sound in [-1, 1]."""
        self._add(summary.audio(tag, snd_tensor, sample_rate), global_step, walltime)

    def add_mesh(self, tag: str, vertices: Any, colors: Any = None, faces: Any = None, config_dict: dict | None = None,
                 global_step: Any = None, walltime: float | None = None) -> None:
        """Points, or triangles over them (``faces``), in space: arrays (batch, n, 3)."""
        self._add(summary.mesh(tag, vertices, colors, faces, config_dict), global_step, walltime)

    # ---- text and more

    def add_text(self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None) -> None:
        """Text in Markdown."""
        self._add(summary.text(tag, text_string), global_step, walltime)

    def add_graph(self, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True) -> None:
        """The operations of ``model`` on a tensor or a tuple of inputs. The model is traced, so it must not depend on values."""
        from .graph import model_graph
        graph = model_graph(model, input_to_model)
        if verbose:
            print(graph)
        statistics = RunMetadata(step_stats=StepStats(dev_stats=[DeviceStepStats(device="/device:CPU:0")]))
        self._get_file_writer().add_graph((graph, statistics))

    def add_onnx_graph(self, prototxt: Any) -> None:
        """Not supported."""
        raise NotImplementedError("add_onnx_graph: fusetorch does not read ONNX files; add_graph writes the graph of a model")

    def add_embedding(self, mat: Any, metadata: Any = None, label_img: Any = None, global_step: Any = None, tag: str = "default",
                      metadata_header: Any = None) -> None:
        """Points (n, d) for the projector, with a label and an image (n, c, h, w) for each."""
        step = 0 if global_step is None else int(global_step)
        folder = str(self._get_file_writer().get_logdir())
        config = summary.embedding(folder, f"{step:05d}/{tag}", mat, metadata, label_img, metadata_header, tag)
        first = not self._projected
        if config not in self._projected:
            self._projected.add(config)
            with open(os.path.join(folder, "projector_config.pbtxt"), "w" if first else "a", encoding="utf-8") as file:
                file.write(config)

    def add_custom_scalars(self, layout: dict[str, dict[str, list]]) -> None:
        """Charts over tags already written: ``{category: {chart: ["Multiline" or "Margin", [tags]]}}``."""
        self._add(summary.custom_scalars(layout), None, None)

    def add_custom_scalars_multilinechart(self, tags: list[str], category: str = "default", title: str = "untitled") -> None:
        """One chart with several lines."""
        self.add_custom_scalars({category: {title: ["Multiline", tags]}})

    def add_custom_scalars_marginchart(self, tags: list[str], category: str = "default", title: str = "untitled") -> None:
        """One chart of a value between bounds: three tags."""
        if len(tags) != 3:
            raise AssertionError(f"add_custom_scalars_marginchart takes three tags (value, lower, upper), got {len(tags)}")
        self.add_custom_scalars({category: {title: ["Margin", tags]}})

    def add_hparams(self, hparam_dict: dict[str, Any], metric_dict: dict[str, Any], hparam_domain_discrete: dict[str, list] | None = None,
                    run_name: str | None = None, global_step: Any = None) -> None:
        """Hyperparameters of a run and what it reached, in a folder ``run_name`` of its own (by default the time)."""
        if type(hparam_dict) is not dict or type(metric_dict) is not dict:
            raise TypeError("hparam_dict and metric_dict should be dictionary.")
        parts = summary.hparams(hparam_dict, metric_dict, hparam_domain_discrete)
        folder = os.path.join(self._get_file_writer().get_logdir(), run_name or str(time.time()))
        with SummaryWriter(log_dir=folder) as inner:
            for part in parts:
                inner._get_file_writer().add_summary(part, global_step)
            for key, value in metric_dict.items():
                inner.add_scalar(key, value, global_step)

    # ---- the end

    def flush(self) -> None:
        """Waits until everything is on the disk."""
        for writer in (self.all_writers or {}).values():
            writer.flush()

    def close(self) -> None:
        """Flushes and closes the files; a later call opens new ones."""
        for writer in (self.all_writers or {}).values():
            writer.flush()
            writer.close()
        self.file_writer = self.all_writers = None

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
