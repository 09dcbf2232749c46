"""A convolutional network with batch normalisation reads handwritten digits.

fusetorch run examples/digits_cnn.py        (or: python examples/digits_cnn.py, where PyTorch is installed)
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from common import arguments, conclude, digits
from torch.optim.lr_scheduler import OneCycleLR

images, labels, test_images, test_labels = digits()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.25)
        self.fc = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x):
        x = x.view(-1, 1, 8, 8)
        x = self.pool(F.relu(self.norm1(self.conv1(x))))
        x = self.pool(F.relu(self.norm2(self.conv2(x))))
        return self.fc(self.dropout(torch.flatten(x, 1)))


def make(batch=64, steps=300):
    """The model, its training step, and a function that draws a batch."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=max(steps, 2))

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def draw():
        chosen = torch.randint(0, len(images), (batch,))
        return images[chosen], labels[chosen]

    return model, step, draw, schedule


if __name__ == "__main__":
    given = arguments(steps=300, small=60)
    model, step, draw, schedule = make(steps=given.steps)
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        schedule.step()
        if i % 50 == 49:
            print(f"step {i + 1}  loss {loss.item():.4f}  learning rate {schedule.get_last_lr()[0]:.4f}")
    model.eval()
    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
    conclude("accuracy on images not seen", accuracy, at_least=0.9 if given.small else 0.97)
