"""Storages, attributes and other libraries' looks at memory: tested in test_memory.py."""
from __future__ import annotations

SAMPLES: dict = {}
ORACLES: dict = {}
ELSEWHERE = {
    "untyped_storage", "storage", "storage_type", "is_set_to", "set_", "share_memory_", "is_shared", "resize_", "resize_as_", "view_dtype",
    "is_signed", "is_nonzero", "get_device", "to_dlpack", "from_dlpack", "frombuffer",
}
