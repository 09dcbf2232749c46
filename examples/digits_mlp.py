"""A multilayer perceptron reads handwritten digits.

fusetorch run examples/digits_mlp.py        (or: python examples/digits_mlp.py, where PyTorch is installed)
"""
import torch
from common import arguments, conclude, digits
from torch import nn

images, labels, test_images, test_labels = digits()


def make(batch=64):
    """The model, its training step, and a function that draws a batch."""
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 128), nn.GELU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def draw():
        chosen = torch.randint(0, len(images), (batch,))
        return images[chosen], labels[chosen]

    return model, step, draw


if __name__ == "__main__":
    given = arguments(steps=600, small=150)
    model, step, draw = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 50 == 49:
            print(f"step {i + 1}  loss {loss.item():.4f}")
    model.eval()
    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
    conclude("accuracy on images not seen", accuracy, at_least=0.88 if given.small else 0.94)
