"""``torch._subclasses``: the tensors without memory that PyTorch's compiler traces with; see the device ``meta`` for those of fusetorch."""
