"""The demonstration: what it measures, and the report that it writes."""
from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("rich")

from fusetorch import compile as torch_compile
from fusetorch.demo import __main__ as program
from fusetorch.demo import digits, report, tables
from fusetorch.demo import measure as measure_module
from fusetorch.demo.measure import measure
from fusetorch.errors import FusetorchError

EPOCHS = 5  # of 22 steps: over 100


@pytest.fixture(scope="module")
def outcome():
    seen = []
    o = measure("cpu", EPOCHS, lambda *a: seen.append(a))
    assert [s[0] for s in seen] == list(range(1, EPOCHS + 1))
    return o


def test_compiled_training_arrives_where_eager_training_does(outcome):
    assert outcome.steps_per_epoch * outcome.epochs >= 100
    assert outcome.relative_difference < 1e-5
    for a, b in zip(outcome.eager.losses, outcome.compiled.losses):
        assert b == pytest.approx(a, rel=1e-4)


def test_both_learn(outcome):
    for run in outcome.eager, outcome.compiled:
        assert len(run.losses) == EPOCHS and run.losses[-1] < 0.2 * run.losses[0]
        assert run.accuracy > 0.95


def test_fusion_saves_kernels_bytes_and_memory(outcome):
    e, c = outcome.eager, outcome.compiled
    assert 0 < c.kernels < e.kernels / 2
    assert 0 < c.bytes_read < e.bytes_read and 0 < c.bytes_written < e.bytes_written
    # in bytes: the eager step, whose optimizer rules are kernels too, needs less than half of what it did when this was a comparison
    assert 0 < c.peak_bytes < 900_000 and e.peak_bytes < 900_000
    assert c.compile_seconds > 0 and e.compile_seconds == 0
    assert len(e.epoch_seconds) == len(c.epoch_seconds) == EPOCHS - 1
    assert outcome.speedup > 0 and outcome.steps_per_second(c) > 0


def test_a_step_that_is_not_compiled_is_no_result(monkeypatch):
    monkeypatch.setattr(measure_module.torch, "compile", lambda f, **options: torch_compile(f, backend="eager"))
    with pytest.raises(FusetorchError, match="ran eagerly instead of compiled: backend='eager'"):
        measure("cpu", 2)


def test_the_same_epoch_has_the_same_batches():
    data = digits.load("cpu")
    assert tuple(data.train_images.shape) == (1437, 64) and tuple(data.test_labels.shape) == (360,)
    first, again, other = data.batches(3), data.batches(3), data.batches(4)
    assert len(first) == 1437 // digits.BATCH
    assert all((a[1] == b[1]).all() and (a[0] == b[0]).all() for a, b in zip(first, again))
    assert not all((a[1] == b[1]).all() for a, b in zip(first, other))


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed."""

    VOID = {"meta", "rect", "line", "polyline", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag, attrs):
        assert tag in self.VOID
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_report_is_whole_and_needs_nothing_from_outside(outcome, tmp_path):
    path = tmp_path / "new" / "report.html"
    report.write(outcome, path)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.references == [] and "@import" not in text and "url(" not in text and "script" not in page.tags
    assert list(path.parent.iterdir()) == [path], "something half-written was left"
    for what, eager, compiled in tables.rows(outcome):
        assert what in page.text and eager in page.text and compiled in page.text
    assert page.tags.count("svg") == 2


def test_the_report_shows_every_kernel_with_its_code(outcome):
    text = report.render(outcome)
    page = Page(text)
    for group in outcome.explanation.groups:
        assert group.name in page.text
        for op in group.ops:
            assert op in page.text
        if group.source:
            assert group.source.strip().splitlines()[0] in page.text
    loops = [g for g in outcome.explanation.groups if g.kind == "loop"]
    assert loops and all(g.source for g in loops)
    assert "digits.py:" in page.text, "the lines of the training program"
    assert page.tags.count("details") == len(outcome.explanation.groups) + 1 + bool(outcome.explanation.refusals)


def test_a_report_that_cannot_be_written_leaves_nothing(outcome, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "render", lambda o: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(outcome, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_program(tmp_path, capsys):
    path = tmp_path / "out.html"
    assert program.main(["--epochs", "2", "--report", str(path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for word in ("kernels per step", "bytes read per step", "peak memory", "compile time", "test accuracy", "speedup",
                 "largest difference"):
        assert word in out
    assert str(path) in re.sub(r"\n", "", out) and path.exists()


def test_bad_arguments(capsys, monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as stop:
        program.main(["--epochs", "1"])
    assert stop.value.code == 2 and "at least 2" in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least 2"):
        measure("cpu", 1)
    monkeypatch.setattr(program, "cuda_available", lambda: False)
    monkeypatch.setattr(program, "cuda_missing", lambda: "CuPy cannot be imported")
    assert program.main(["--device", "cuda"]) == 2
    assert "CuPy cannot be imported" in capsys.readouterr().err
    monkeypatch.setattr(program, "MISSING", ["rich"])
    assert program.main(["--report", str(tmp_path / "r.html")]) == 2
    assert "pip install 'fusetorch[demo]'" in capsys.readouterr().err
