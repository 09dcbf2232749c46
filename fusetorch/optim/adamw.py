"""AdamW, where PyTorch has it."""
from fusetorch.optim.adam import AdamW

__all__ = ["AdamW"]
