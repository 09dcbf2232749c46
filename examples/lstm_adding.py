"""An LSTM learns to add two marked numbers of a sequence (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997).

fusetorch run examples/lstm_adding.py        (or: python examples/lstm_adding.py, where PyTorch is installed)
"""
import torch
from common import arguments, conclude
from torch import nn

LENGTH = 16


def draw(batch=64):
    """Sequences of (number, mark), exactly two marked, and the sum of the marked numbers."""
    numbers = torch.rand(batch, LENGTH)
    marks = torch.zeros(batch, LENGTH)
    first = torch.randint(0, LENGTH // 2, (batch, 1))
    second = torch.randint(LENGTH // 2, LENGTH, (batch, 1))
    marks.scatter_(1, first, 1.0).scatter_(1, second, 1.0)
    return torch.stack((numbers, marks), dim=2), (numbers * marks).sum(1)


class Adder(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.lstm = nn.LSTM(input_size=2, hidden_size=hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.head(h[-1]).squeeze(-1)


def make():
    """The model, its training step, and a function that draws a batch."""
    model = Adder()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    criterion = nn.MSELoss()

    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return model, step, draw


if __name__ == "__main__":
    given = arguments(steps=800, small=500)
    model, step, _ = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 100 == 99:
            print(f"step {i + 1}  squared error {loss.item():.4f}")
    with torch.no_grad():
        x, y = draw(1000)
        error = nn.functional.mse_loss(model(x), y).item()
    conclude("squared error (0.167 is that of a guess)", error, at_most=0.1 if given.small else 0.02)
