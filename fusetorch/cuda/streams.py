"""``torch.cuda.streams``: streams and events at their path in PyTorch."""
from ..runtime.streams import Event, Stream

__all__ = ["Event", "Stream"]
