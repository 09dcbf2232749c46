"""The PyTorch program that everyone starts with; only its import differs."""
import fusetorch as torch
import fusetorch.nn as nn
import fusetorch.optim as optim

torch.manual_seed(0)
x = torch.randn(100, 10)
y = torch.randn(100, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(10, 32)
        self.output = nn.Linear(32, 1)

    def forward(self, x):
        return self.output(torch.relu(self.hidden(x)))


model = Net()
optimizer = optim.SGD(model.parameters(), lr=0.01)
criterion = nn.MSELoss()

for epoch in range(100):
    prediction = model(x)
    loss = criterion(prediction, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1:3d}  loss {loss.item():.4f}")
