"""Adaptive softmax: cheap softmax over many classes of which few are frequent."""
from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.nn.container import ModuleList, Sequential
from fusetorch.nn.linear import Linear
from fusetorch.nn.module import Module
from fusetorch.tensor import Tensor

_ASMoutput = namedtuple("_ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax over classes ordered by falling frequency, in clusters cut at ``cutoffs``.

    The first cluster and one entry for each other form the head; cluster *i* of the tail has a projection of
    ``in_features / div_value ** i`` features. Called with (N, in_features) or (in_features) and class numbers, it gives the target's
    log-probabilities and their negative mean, ``(output, loss)``.

    Source: Grave et al., "Efficient softmax approximation for GPUs", 2017.
    """

    def __init__(self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0, head_bias: bool = False,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (cutoffs != sorted(cutoffs) or min(cutoffs) <= 0 or max(cutoffs) > n_classes - 1 or len(set(cutoffs)) != len(cutoffs)
                or any(int(c) != c for c in cutoffs)):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each value is "
                             "between 1 and n_classes-1")
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        made = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **made)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            hidden = int(in_features // div_value ** (i + 1))
            self.tail.append(Sequential(Linear(in_features, hidden, bias=False, **made),
                                        Linear(hidden, self.cutoffs[i + 1] - self.cutoffs[i], bias=False, **made)))

    def reset_parameters(self) -> None:
        """Draws the starting values anew."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        single = target_.dim() == 0
        if target_.dim() > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if single and input_.dim() != 1:
            raise RuntimeError("0D target tensor expects 1D input tensor")
        if not single and input_.dim() != 2:
            raise RuntimeError("1D target tensor expects 2D input tensor")
        if not single and input_.size(0) != target_.size(0):
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        x, target = (input_.unsqueeze(0), target_.unsqueeze(0)) if single else (input_, target_)
        if target.numel() and not (0 <= int(target.min()) and int(target.max()) < self.n_classes):
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range [{int(target.min())}, "
                               f"{int(target.max())}] were found. ")
        output = x.new_zeros(target.shape)
        column = target
        for i, cluster in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if not rows.numel():
                continue
            logprob = F.log_softmax(cluster(x.index_select(0, rows)), dim=1)
            local = logprob.gather(1, (target[rows] - low).unsqueeze(1))
            output = output.index_copy(0, rows, local.squeeze(1).to(output.dtype))
            column = column.index_fill(0, rows, self.shortlist_size + i)
        head = F.log_softmax(self.head(x), dim=1)
        output = output + head.gather(1, column.unsqueeze(1)).squeeze(1)
        loss = (-output).mean()
        return _ASMoutput(output.squeeze(0) if single else output, loss)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probabilities of all classes: (N, in_features) to (N, n_classes)."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, :self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            entry = self.shortlist_size + i
            parts.append(F.log_softmax(cluster(input), dim=1) + head[:, entry:entry + 1])
        return torch.cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most likely class of each row: (N,)."""
        return self.log_prob(input).argmax(dim=1)
