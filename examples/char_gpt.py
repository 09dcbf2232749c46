"""A small GPT learns a text letter by letter (Radford et al., 2019; pre-norm blocks, weight tying, cosine schedule).

fusetorch run examples/char_gpt.py        (or: python examples/char_gpt.py, where PyTorch is installed)
"""
import torch
import torch.nn as nn
from common import arguments, conclude
from torch.nn import functional as F

NUMBERS = "zero one two three four five six seven eight nine ten".split()
#: what there is to learn: sums, written out
text = "\n".join(f"{NUMBERS[a]} and {NUMBERS[b]} make {NUMBERS[a + b]}." for a in range(11) for b in range(11 - a))
letters = sorted(set(text))
codes = torch.tensor([letters.index(c) for c in text])
CONTEXT = 64


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.attention(self.ln_1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, width=96, heads=4, layers=2):
        super().__init__()
        self.wte = nn.Embedding(len(letters), width)
        self.wpe = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, len(letters), bias=False)
        self.apply(self._init_weights)
        self.lm_head.weight = self.wte.weight

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))

    @torch.no_grad()
    def generate(self, prompt, length):
        idx = torch.tensor([[letters.index(c) for c in prompt]])
        for _ in range(length):
            probabilities = F.softmax(self(idx[:, -CONTEXT:])[:, -1], dim=-1)
            idx = torch.cat((idx, torch.multinomial(probabilities, 1)), dim=1)
        return "".join(letters[i] for i in idx[0].tolist())


def make(batch=16):
    """The model, its training step, and a function that draws a batch."""
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01)

    def step(x, y):
        logits = model(x)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def draw():
        starts = torch.randint(len(codes) - CONTEXT - 1, (batch,)).tolist()
        return (torch.stack([codes[i : i + CONTEXT] for i in starts]), torch.stack([codes[i + 1 : i + CONTEXT + 1] for i in starts]))

    return model, step, draw


if __name__ == "__main__":
    given = arguments(steps=400, small=80)
    model, step, draw = make()
    step = torch.compile(step) if given.compile else step
    recent = 0.0
    for i in range(given.steps):
        loss = step(*draw()).item()
        recent = loss if i == 0 else 0.9 * recent + 0.1 * loss
        if i % 40 == 39:
            print(f"step {i + 1}  loss {recent:.3f}")
    print(model.generate("two and ", 60))
    conclude("loss, nats a letter", recent, at_most=1.3 if given.small else 0.45)
