"""``torch.utils.model_zoo``: the former place of :func:`fusetorch.hub.load_state_dict_from_url`."""
from fusetorch.hub import load_state_dict_from_url as load_url
from fusetorch.hub import tqdm

__all__ = ["load_url", "tqdm"]
