"""Processes of PyTorch's launcher: only the mark for their entry points."""
