"""``torch.distributed.elastic``: what programs import for PyTorch's launcher."""
