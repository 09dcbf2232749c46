"""Benchmarks: ``python -m bench`` (or ``make bench``) measures fused against unfused, and against PyTorch where it is installed."""
