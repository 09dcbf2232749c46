"""Trains the same network twice, eagerly and compiled, in turns, and measures both."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import fusetorch as torch
from fusetorch.compiler.explain import Explanation
from fusetorch.demo import digits
from fusetorch.errors import FusetorchError
from fusetorch.nn import Module
from fusetorch.runtime.device import synchronize


@dataclass
class Run:
    """One way of training: what it cost and where it arrived.

    ``epoch_seconds`` holds the epochs that count for the speed; ``losses`` the mean loss of every epoch. Kernels and bytes are
    those of one step, ``peak_bytes`` the most that its intermediate results take at one time.
    """

    name: str
    kernels: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    peak_bytes: int = 0
    compile_seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0


@dataclass
class Outcome:
    """Both runs, and what the compiled step says about itself.

    ``difference`` is the largest absolute difference of a parameter between the two, ``relative_difference`` the largest as a share of
    the largest parameter of the same tensor.
    """

    device: str
    epochs: int
    steps_per_epoch: int
    eager: Run
    compiled: Run
    difference: float
    relative_difference: float
    explanation: Explanation

    def steps_per_second(self, run: Run) -> float:
        """The median over epochs."""
        return self.steps_per_epoch / median(run.epoch_seconds)

    @property
    def speedup(self) -> float:
        """How many times faster the compiled step is: the median over epochs, each run once eagerly and once compiled."""
        return median(e / c for e, c in zip(self.eager.epoch_seconds, self.compiled.epoch_seconds))


def measure(device: str = "cpu", epochs: int = 30, progress: Callable[[int, float, float], None] = lambda *_: None) -> Outcome:
    """Trains eagerly and compiled for ``epochs`` (at least 2) with the same seed and batches, alternating at each epoch.

    ``progress(epoch, eager loss, compiled loss)`` is called after each epoch. The first epoch, in which the step is compiled, counts
    for everything but the speed. :class:`FusetorchError` if the step ran eagerly after all.
    """
    if epochs < 2:
        raise ValueError(f"epochs must be at least 2 (the first one compiles and is not timed), got {epochs}")
    data = digits.load(device)
    eager_model, eager_step = digits.training(device)
    model, step = digits.training(device)
    compiled_step = torch.compile(step, fullgraph=True)
    eager, compiled = Run("eager"), Run("compiled")
    sides = [(eager, eager_step), (compiled, compiled_step)]
    for epoch in range(epochs):
        batches = data.batches(epoch)
        for run, f in sides[::-1] if epoch % 2 else sides:
            losses, seconds = _train(f, batches, device)
            run.losses.append(sum(loss.item() for loss in losses) / len(losses))
            if epoch:
                run.epoch_seconds.append(seconds)
        progress(epoch + 1, eager.losses[-1], compiled.losses[-1])

    difference, relative = parameter_difference(eager_model, model)
    for run, m in (eager, eager_model), (compiled, model):
        run.accuracy = digits.accuracy(m, data.test_images, data.test_labels)
    info = compiled_step.cache_info()
    if info["eager"] is not None:
        raise FusetorchError(f"the training step ran eagerly instead of compiled: {info['eager']}")
    compiled.compile_seconds = info["seconds"]
    explanation = compiled_step.explain(*batches[0])
    compiled.kernels, compiled.peak_bytes = explanation.kernels, explanation.peak_bytes
    compiled.bytes_read, compiled.bytes_written = explanation.bytes_read, explanation.bytes_written
    eager.kernels, eager.peak_bytes = explanation.unfused_kernels, explanation.unfused_peak_bytes
    eager.bytes_read, eager.bytes_written = explanation.unfused_bytes_read, explanation.unfused_bytes_written
    return Outcome(device, epochs, len(batches), eager, compiled, difference, relative, explanation)


def _train(step: digits.Step, batches: list, device: str) -> tuple[list[torch.Tensor], float]:
    """One epoch: the losses, and the seconds until the device had finished."""
    wait = synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    losses = [step(images, labels) for images, labels in batches]
    wait()
    return losses, time.perf_counter() - start


def parameter_difference(a: Module, b: Module) -> tuple[float, float]:
    """The largest difference between two networks' parameters: absolute, and as a share of its tensor's largest value."""
    absolute = relative = 0.0
    with torch.no_grad():
        for p, q in zip(a.parameters(), b.parameters()):
            d = (p - q).abs().max().item()
            absolute = max(absolute, d)
            relative = max(relative, d / p.abs().max().item())
    return absolute, relative
