"""A normalising flow of affine couplings learns two moons (Dinh et al., "Density estimation using Real NVP", 2017).

fusetorch run examples/normalizing_flow.py        (or: python examples/normalizing_flow.py, where PyTorch is installed)
"""
import math

import torch
from common import arguments, conclude
from torch import nn
from torch.distributions import Independent, Normal


def moons(n):
    """Points on two half circles, with noise."""
    angle = math.pi * torch.rand(n)
    upper = torch.rand(n) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], dim=1) + 0.08 * torch.randn(n, 2)


class Coupling(nn.Module):
    """Scales and shifts the coordinates that the mask hides, by functions of those that it shows."""

    def __init__(self, mask, hidden=64):
        super().__init__()
        self.register_buffer("mask", mask)
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 4))

    def terms(self, shown):
        scale, shift = self.net(shown).chunk(2, dim=-1)
        return torch.tanh(scale) * (1 - self.mask), shift * (1 - self.mask)

    def forward(self, x):
        scale, shift = self.terms(x * self.mask)
        return x * torch.exp(scale) + shift, scale.sum(-1)

    def inverse(self, z):
        scale, shift = self.terms(z * self.mask)
        return (z - shift) * torch.exp(-scale)


class Flow(nn.Module):
    def __init__(self, layers=6):
        super().__init__()
        self.couplings = nn.ModuleList([Coupling(torch.tensor([i % 2, 1 - i % 2], dtype=torch.float32)) for i in range(layers)])
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))

    def log_prob(self, x):
        log_det = x.new_zeros(x.shape[0])
        for coupling in self.couplings:
            x, more = coupling(x)
            log_det = log_det + more
        return Independent(Normal(self.loc, self.scale), 1).log_prob(x) + log_det

    def sample(self, n):
        z = Independent(Normal(self.loc, self.scale), 1).sample((n,))
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z)
        return z


def make(batch=256):
    """The model, its training step, and a function that draws a batch."""
    model = Flow()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def step(x):
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        optimizer.step()
        return loss

    def draw():
        return (moons(batch),)

    return model, step, draw


if __name__ == "__main__":
    given = arguments(steps=1000, small=150)
    model, step, draw = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 100 == 99:
            print(f"step {i + 1}  loss {loss.item():.3f}")
    with torch.no_grad():
        x = moons(2000)
        entropy = -model.log_prob(x).mean().item()
        back = x[:100]
        for coupling in model.couplings:
            back, _ = coupling(back)
        for coupling in reversed(model.couplings):
            back = coupling.inverse(back)
    torch.testing.assert_close(back, x[:100], rtol=1e-3, atol=1e-3)  # the flow is invertible
    conclude("nats a point (2.1 for one Gaussian)", entropy, at_most=1.6 if given.small else 1.15)
