"""Deep Q-learning balances a pole (Mnih et al., "Human-level control through deep reinforcement learning", 2015).

The environment is a cart and pole after Barto, Sutton and Anderson (1983). fusetorch run examples/dqn.py   (or with PyTorch)
"""
import math
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F
from common import arguments, conclude


class CartPole:
    """A pole on a cart: push left or right; over when it has fallen, or after 200 moves."""

    def reset(self):
        self.state = [random.uniform(-0.05, 0.05) for _ in range(4)]
        self.moves = 0
        return list(self.state)

    def step(self, action):
        x, v, angle, spin = self.state
        push = 10.0 if action == 1 else -10.0
        s, c = math.sin(angle), math.cos(angle)
        pushed = (push + 0.05 * spin**2 * s) / 1.1
        turn = (9.8 * s - c * pushed) / (0.5 * (4 / 3 - 0.1 * c**2 / 1.1))
        self.state = [x + 0.02 * v, v + 0.02 * (pushed - 0.05 * turn * c / 1.1), angle + 0.02 * spin, spin + 0.02 * turn]
        self.moves += 1
        fallen = abs(self.state[0]) > 2.4 or abs(self.state[2]) > 0.21
        return list(self.state), 1.0, fallen, fallen or self.moves >= 200


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2, self.layer3 = nn.Linear(4, 128), nn.Linear(128, 128), nn.Linear(128, 2)

    def forward(self, x):
        return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


def make(batch=128):
    """The networks, the training step, and a function that draws a batch of moves."""
    policy, target = QNetwork(), QNetwork()
    target.load_state_dict(policy.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, amsgrad=True)
    memory = deque([([0.0] * 4, 0, 1.0, [0.0] * 4, 0.0)] * batch, maxlen=10000)

    def step(state, action, reward, following, fallen):
        value = policy(state).gather(1, action.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            expected = reward + 0.99 * target(following).max(1).values * (1 - fallen)
        loss = F.smooth_l1_loss(value, expected)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(policy.parameters(), 100)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), policy.parameters()):
                slow.lerp_(fast, 0.01)
        return loss

    def draw():
        state, action, reward, following, fallen = zip(*random.sample(memory, batch))
        return (torch.tensor(state), torch.tensor(action), torch.tensor(reward), torch.tensor(following), torch.tensor(fallen))

    return policy, step, draw, memory


if __name__ == "__main__":
    given = arguments(steps=8000, small=1200)
    random.seed(0)
    policy, step, draw, memory = make()
    step = torch.compile(step) if given.compile else step
    environment, lengths = CartPole(), deque([0], maxlen=20)
    state, best = environment.reset(), 0.0
    for i in range(given.steps):
        if random.random() < 0.05 + 0.85 * math.exp(-i / 500):
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = policy(torch.tensor(state).unsqueeze(0)).argmax(1).item()
        following, reward, fallen, over = environment.step(action)
        memory.append((state, action, reward, following, float(fallen)))
        state = following
        step(*draw())
        if over:
            lengths.append(environment.moves)
            best = max(best, sum(lengths) / len(lengths))
            state = environment.reset()
        if i % 500 == 499:
            print(f"move {i + 1}  mean length of the last games {sum(lengths) / len(lengths):.1f}")
    conclude("best mean length of 20 games (20 by chance)", best, at_least=30 if given.small else 120)
