"""The task: 1797 handwritten digits of 8 x 8 pixels, and a small network that tells them apart.

Source of the data: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI, 1998, as shipped with scikit-learn.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fusetorch as torch
from fusetorch import nn
from fusetorch.utils.data import DataLoader, TensorDataset

BATCH = 64
SEED = 0


@dataclass
class Digits:
    """Images (float32, 64 pixels in [0, 1]) and labels (int64, 0-9), for training and for the test."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def batches(self, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The full batches of an epoch, in an order that depends on its number alone."""
        order = torch.Generator().manual_seed(SEED + epoch)
        loader = DataLoader(TensorDataset(self.train_images, self.train_labels), BATCH, shuffle=True, drop_last=True, generator=order)
        return [(images, labels) for images, labels in loader]


def load(device: str) -> Digits:
    """The data on a device; a fifth is the test set, with as many of each digit as in the rest."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.data / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.2, random_state=SEED, stratify=labels)
    return Digits(*[torch.tensor(a, device=device) for a in (train_x, train_y, test_x, test_y)])


class Classifier(nn.Module):
    """64 pixels to 10 scores: three linear layers, with layer norm and GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 128), nn.LayerNorm(128), nn.GELU(),
                                    nn.Linear(128, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``[n, 64]`` to scores ``[n, 10]``."""
        return self.layers(images)


Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def training(device: str) -> tuple[Classifier, Step]:
    """A fresh network, always with the same initial values, and the function that trains it on one batch."""
    torch.manual_seed(SEED)
    model = Classifier().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, step


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images that the network labels rightly."""
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()
