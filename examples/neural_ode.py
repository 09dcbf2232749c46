"""A neural ordinary differential equation learns a spiral (Chen et al., "Neural Ordinary Differential Equations", 2018).

Gradients go through the solver's steps. fusetorch run examples/neural_ode.py        (or with PyTorch)
"""
import torch
import torch.nn as nn
from common import arguments, conclude


def rk4(f, y, times):
    """The classical Runge-Kutta method; the solution at each time, stacked."""
    out = [y]
    for a, b in zip(times[:-1], times[1:]):
        h = b - a
        k1 = f(a, y)
        k2 = f(a + h / 2, y + h * k1 / 2)
        k3 = f(a + h / 2, y + h * k2 / 2)
        k4 = f(b, y + h * k3)
        y = y + h * (k1 + 2 * k2 + 2 * k3 + k4) / 6
        out.append(y)
    return torch.stack(out)


class Truth(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]))

    def forward(self, t, y):
        return y**3 @ self.matrix


class Derivative(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
        for m in self.net.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, mean=0, std=0.1)
                nn.init.constant_(m.bias, val=0)

    def forward(self, t, y):
        return self.net(y**3)


with torch.no_grad():
    PATH = rk4(Truth(), torch.tensor([[2.0, 0.0]]), torch.linspace(0.0, 25.0, 1001))


def make(batch=20, span=11):
    """The model, its training step, and a function that draws a batch of short stretches of the true path."""
    model = Derivative()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    times = torch.linspace(0.0, 0.025 * (span - 1), span)

    def step(start, path):
        optimizer.zero_grad()
        loss = torch.mean(torch.abs(rk4(model, start, times) - path))
        loss.backward()
        optimizer.step()
        return loss

    def draw():
        first = torch.randperm(len(PATH) - span)[:batch]
        path = torch.stack([PATH[first + i, 0] for i in range(span)])
        return path[0], path

    return model, step, draw


if __name__ == "__main__":
    given = arguments(steps=800, small=100)
    model, step, draw = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 100 == 99:
            print(f"step {i + 1}  error {loss.item():.4f}")
    with torch.no_grad():
        start, path = draw()
        error = (rk4(model, start, 0.025 * torch.arange(len(path))) - path).abs().mean().item()
        still = (start - path).abs().mean().item()
    conclude("error, as a share of standing still", error / still, at_most=0.3 if given.small else 0.1)
