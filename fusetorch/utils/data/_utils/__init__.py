"""``torch.utils.data._utils``: what programs import from inside PyTorch's loader."""
from fusetorch.utils.data._utils import collate

__all__ = ["collate"]
