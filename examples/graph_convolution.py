"""A graph convolutional network finds the communities of a graph from a few labels (Kipf and Welling, 2017).

fusetorch run examples/graph_convolution.py        (or: python examples/graph_convolution.py, where PyTorch is installed)
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from common import arguments, conclude
from torch.nn.parameter import Parameter

NODES, GROUPS, FEATURES = 600, 4, 32


def graph():
    """A stochastic block model: edges (2, E) in both directions, noisy features, the groups, and which are known."""
    group = torch.arange(NODES) % GROUPS
    likely = torch.where(group[:, None] == group[None, :], 0.03, 0.004)
    upper = torch.triu(torch.rand(NODES, NODES) < likely, diagonal=1).nonzero().t()
    edges = torch.cat([upper, upper.flip(0), torch.arange(NODES).repeat(2, 1)], dim=1)
    features = torch.randn(GROUPS, FEATURES)[group] * 0.5 + torch.randn(NODES, FEATURES)
    known = torch.zeros(NODES, dtype=torch.bool)
    known[torch.randperm(NODES)[:80]] = True
    return edges, features, group, known


class GraphConvolution(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = Parameter(torch.empty(inputs, outputs))
        self.bias = Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, edges, norm):
        support = torch.mm(x, self.weight)
        messages = support[edges[0]] * norm.unsqueeze(1)
        return torch.zeros_like(support).index_add_(0, edges[1], messages) + self.bias


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(FEATURES, 32), GraphConvolution(32, GROUPS)

    def forward(self, x, edges, norm):
        x = F.dropout(F.relu(self.gc1(x, edges, norm)), 0.5, training=self.training)
        return F.log_softmax(self.gc2(x, edges, norm), dim=1)


def make():
    """The model, its training step, and a function that gives the (only) batch."""
    edges, features, group, known = graph()
    degree = torch.zeros(NODES).scatter_add_(0, edges[1], torch.ones(edges.shape[1]))
    norm = (degree[edges[0]] * degree[edges[1]]).rsqrt()
    where = known.nonzero().squeeze(1)
    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)

    def step(x, edges, norm, where, answers):
        model.train()
        optimizer.zero_grad()
        loss = F.nll_loss(model(x, edges, norm)[where], answers)
        loss.backward()
        optimizer.step()
        return loss

    def evaluate():
        model.eval()
        with torch.no_grad():
            right = model(features, edges, norm).argmax(1) == group
        return right[~known].float().mean().item()

    def draw():
        return features, edges, norm, where, group[where]

    return model, step, draw, evaluate


if __name__ == "__main__":
    given = arguments(steps=200, small=60)
    model, step, draw, evaluate = make()
    step = torch.compile(step) if given.compile else step
    for i in range(given.steps):
        loss = step(*draw())
        if i % 20 == 19:
            print(f"step {i + 1}  loss {loss.item():.4f}  accuracy {evaluate():.3f}")
    conclude("accuracy on nodes whose group was not told", evaluate(), at_least=0.75 if given.small else 0.85)
