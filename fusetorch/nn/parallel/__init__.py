"""Modules over several devices or processes. fusetorch runs them on one, so that these wrappers hand the call on."""
from __future__ import annotations

from fusetorch.nn.parallel.data_parallel import DataParallel, data_parallel
from fusetorch.nn.parallel.distributed import DistributedDataParallel
from fusetorch.nn.parallel.scatter_gather import gather, scatter

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel", "gather", "scatter"]
