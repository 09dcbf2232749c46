"""Modules of PyTorch that only answer: that there is one process, no MPS, no TorchScript. ``compat/jit`` is ``fusetorch.jit``: this folder
is searched for the package's modules after its own (``__path__`` in ``fusetorch/__init__.py``), so that each keeps PyTorch's path."""
