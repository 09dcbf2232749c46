"""A variational autoencoder of handwritten digits (Kingma and Welling, "Auto-Encoding Variational Bayes", 2013).

fusetorch run examples/vae.py        (or: python examples/vae.py, where PyTorch is installed)
"""
import torch
from common import arguments, conclude, digits
from torch import nn
from torch.nn import functional as F

images, _, test_images, _ = digits()


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc21 = nn.Linear(128, latent)
        self.fc22 = nn.Linear(128, latent)
        self.fc3 = nn.Linear(latent, 128)
        self.fc4 = nn.Linear(128, 64)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def bound(model, x):
    """The negative evidence lower bound, in nats an image."""
    reconstruction, mu, logvar = model(x)
    likelihood = F.binary_cross_entropy(reconstruction, x, reduction="sum")
    divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (likelihood + divergence) / len(x)


def make(batch=128):
    """The model, its training step, and a function that draws a batch."""
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def step(x):
        optimizer.zero_grad()
        loss = bound(model, x)
        loss.backward()
        optimizer.step()
        return loss

    def draw():
        return (images[torch.randint(0, len(images), (batch,))],)

    return model, step, draw


if __name__ == "__main__":
    given = arguments(steps=1500, small=300)
    model, step, draw = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 100 == 99:
            print(f"step {i + 1}  bound {loss.item():.3f}")
    with torch.no_grad():
        held_out = bound(model, test_images).item()
        invented = model.decode(torch.randn(4, 8)).view(4, 8, 8)
    for row in range(8):  # four digits that were never written
        print("   ".join("".join(" .:*#"[min(int(p * 5), 4)] * 2 for p in image[row].tolist()) for image in invented))
    conclude("bound on images not seen, nats", held_out, at_most=26.5 if given.small else 25.0)
