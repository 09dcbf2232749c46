"""A generative adversarial network learns a ring of eight Gaussians (Goodfellow et al., "Generative Adversarial Nets", 2014).

fusetorch run examples/gan.py        (or: python examples/gan.py, where PyTorch is installed)
"""
import math

import torch
from common import arguments, conclude
from torch import nn

angles = torch.arange(8) * (2 * math.pi / 8)
centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)


def real(n):
    """Points near the centres."""
    return centres[torch.randint(8, (n,))] + 0.1 * torch.randn(n, 2)


def network(inputs, outputs, activation):
    return nn.Sequential(nn.Linear(inputs, 128), activation, nn.Linear(128, 128), activation, nn.Linear(128, outputs))


def make(batch=256):
    """The generator, its training step, and a function that draws a batch."""
    generator, critic = network(8, 2, nn.ReLU()), network(2, 1, nn.LeakyReLU(0.2))
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    d_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    criterion = nn.BCEWithLogitsLoss()

    def step(x):
        yes, no = torch.ones(len(x), 1), torch.zeros(len(x), 1)
        d_optimizer.zero_grad()
        fake = generator(torch.randn(len(x), 8))
        d_loss = criterion(critic(x), yes) + criterion(critic(fake.detach()), no)
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        g_loss = criterion(critic(fake), yes)
        g_loss.backward()
        g_optimizer.step()
        return d_loss + g_loss

    def draw():
        return (real(batch),)

    return generator, step, draw


if __name__ == "__main__":
    given = arguments(steps=4000, small=1500)
    generator, step, draw = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 500 == 499:
            print(f"step {i + 1}  losses {loss.item():.3f}")
    with torch.no_grad():
        distance, nearest = torch.cdist(generator(torch.randn(2000, 8)), centres).min(dim=1)
    close = distance < 0.5
    share = torch.bincount(nearest[close], minlength=8) / len(distance)
    print("share of the points near each centre:", " ".join(f"{s:.2f}" for s in share.tolist()))
    conclude("points near a centre", close.float().mean().item(), at_least=0.4 if given.small else 0.8)
