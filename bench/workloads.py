"""What is measured: functions written once, with the module to use (fusetorch or torch) as their first argument."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

BETA1, BETA2, LR, EPS = 0.9, 0.999, 1e-3, 1e-8
BIAS1, BIAS2 = 1 / (1 - BETA1**10), 1 / (1 - BETA2**10)


def gelu(torch: Any, x: Any) -> Any:
    return torch.nn.functional.gelu(x, approximate="tanh")


def chain(torch: Any, x: Any, y: Any, a: Any, b: Any) -> Any:
    return torch.sigmoid(x * a + b) * torch.relu(y) - torch.exp(-torch.abs(x)) + 0.5 * y


def softmax(torch: Any, x: Any) -> Any:
    return torch.softmax(x, -1)


def layer_norm(torch: Any, x: Any, w: Any, b: Any) -> Any:
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), w, b)


def distance(torch: Any, x: Any, y: Any) -> Any:
    return ((x - y) ** 2).sum()


def adam(torch: Any, p: Any, g: Any, m: Any, v: Any) -> Any:
    m1 = m * BETA1 + g * (1 - BETA1)
    v1 = v * BETA2 + g * g * (1 - BETA2)
    return p - LR * (m1 * BIAS1) / (torch.sqrt(v1 * BIAS2) + EPS), m1, v1


#: name: (function, its inputs: "f" for a full array, "r" for one row)
WORKLOADS: dict[str, tuple[Callable[..., Any], str]] = {
    "gelu": (gelu, "f"), "chain": (chain, "ffrr"), "softmax": (softmax, "f"), "layer_norm": (layer_norm, "frr"),
    "distance": (distance, "ff"), "adam": (adam, "ffff"),
}


def arrays(kinds: str, elements: int) -> list[np.ndarray]:
    """Positive float32 inputs of about ``elements`` elements in a nearly square array."""
    side = math.isqrt(elements)
    shape = (side, elements // side)
    rng = np.random.default_rng(0)
    return [np.abs(rng.standard_normal(shape if k == "f" else shape[1:], np.float32)) for k in kinds]


def digits_batch() -> tuple[np.ndarray, np.ndarray]:
    """64 handwritten digits: pixels in [0, 1] and labels."""
    from sklearn.datasets import load_digits
    data = load_digits()
    return (data.data[:64] / 16).astype(np.float32), data.target[:64].astype(np.int64)


def digits_step(torch: Any) -> Callable[[Any, Any], Any]:
    """A whole training step on digits: forward, loss, backward, AdamW. Every call trains a little further."""
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 128), nn.LayerNorm(128), nn.GELU(),
                          nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def step(images: Any, labels: Any) -> Any:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
