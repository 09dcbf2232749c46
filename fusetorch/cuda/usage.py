"""What the driver says of a GPU now: load, temperature, processes. It needs the package ``nvidia-ml-py`` (``pynvml``), as in PyTorch."""
from __future__ import annotations

from typing import Any

from . import _index

__all__ = ["clock_rate", "list_gpu_processes", "memory_usage", "power_draw", "temperature", "utilization"]


def _handle(device: Any) -> tuple[Any, Any]:
    try:
        import pynvml
    except ModuleNotFoundError:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported; install it with "
                                  "'pip install nvidia-ml-py'", name="pynvml") from None
    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByIndex(_index(device) or 0)


def utilization(device: Any = None) -> int:
    """Percent of the time in which kernels ran."""
    nvml, gpu = _handle(device)
    return nvml.nvmlDeviceGetUtilizationRates(gpu).gpu


def memory_usage(device: Any = None) -> int:
    """Percent of the time in which memory was read or written."""
    nvml, gpu = _handle(device)
    return nvml.nvmlDeviceGetUtilizationRates(gpu).memory


def temperature(device: Any = None) -> int:
    """Degrees Celsius."""
    nvml, gpu = _handle(device)
    return nvml.nvmlDeviceGetTemperature(gpu, 0)


def power_draw(device: Any = None) -> int:
    """Milliwatts."""
    nvml, gpu = _handle(device)
    return nvml.nvmlDeviceGetPowerUsage(gpu)


def clock_rate(device: Any = None) -> int:
    """Megahertz of the multiprocessors."""
    nvml, gpu = _handle(device)
    return nvml.nvmlDeviceGetClockInfo(gpu, 1)


def list_gpu_processes(device: Any = None) -> str:
    """The processes that use the GPU, with their memory, as text."""
    nvml, gpu = _handle(device)
    lines = [f"GPU:{_index(device) or 0}"]
    for p in nvml.nvmlDeviceGetComputeRunningProcesses(gpu):
        lines.append(f"process {p.pid:>10d} uses {(p.usedGpuMemory or 0) / (1 << 20):>12.3f} MB GPU memory")
    return "\n".join(lines if len(lines) > 1 else [*lines, "no processes are running"])
