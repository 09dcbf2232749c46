"""What the modules of switches share: setting several at once, and pairs of functions around one."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any


def exchange(switches: dict[str, Any], **values: Any) -> tuple:
    """Sets the switches whose value is not ``None``; what all of them were."""
    before = tuple(switches[name] for name in values)
    switches.update({name: value for name, value in values.items() if value is not None})
    return before


def pair(switches: dict[str, bool], name: str) -> tuple[Callable[[], bool], Callable[[bool], None]]:
    """``<name>_sdp_enabled`` and ``enable_<name>_sdp``, PyTorch's functions around a switch of attention kernels."""
    def enabled() -> bool:
        return switches[name]

    def enable(enabled: bool) -> None:
        switches[name] = bool(enabled)

    enabled.__name__, enable.__name__ = f"{name}_sdp_enabled", f"enable_{name}_sdp"
    enabled.__doc__ = f"What :func:`{enable.__name__}` set; fusetorch has one attention kernel."
    enable.__doc__ = "Keeps the switch; fusetorch has one attention kernel."
    return enabled, enable
