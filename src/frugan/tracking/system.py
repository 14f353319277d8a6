"""The system that a run was made on: versions, machine, command; and the memory that it takes."""

from __future__ import annotations

import os
import platform
import re
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("frugan", "torch", "numpy", "pillow", "safetensors")


def environment() -> dict[str, Any]:
    """Facts for environment.json: what someone needs to repeat a run or to judge its speed. Nothing personal."""
    return {
        "started": now(),
        "command": list(sys.argv),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "host_memory_bytes": _host_memory(),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "gpus": [_gpu(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }


def now() -> str:
    """The time in ISO 8601, to the second, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def parse_time(text: Any) -> float | None:
    """Seconds since 1970 of what `now` wrote; None where it is no time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def memory(device: torch.device | str) -> dict[str, int]:
    """Peak bytes so far: `memory_bytes` on a GPU as PyTorch counts them, `host_memory_bytes` resident in this process.

    What cannot be known here is left out. MPS tells the present amount, not the peak.
    """
    device = torch.device(device)
    found: dict[str, int] = {}
    if device.type == "cuda":
        found["memory_bytes"] = torch.cuda.max_memory_allocated(device)
    elif device.type == "mps":
        found["memory_bytes"] = torch.mps.driver_allocated_memory()
    if resident := _peak_resident():
        found["host_memory_bytes"] = resident
    return found


def free_memory() -> int | None:
    """Bytes of host memory that programs can still take; where only the total is known, half of it."""
    if kilobytes := _first_match(r"^MemAvailable:\s*(\d+) kB$", "/proc/meminfo"):
        return int(kilobytes) * 1024
    total = _host_memory()
    return total and total // 2


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_match(pattern: str, file: str) -> str | None:
    try:
        match = re.search(pattern, Path(file).read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return None
    return match[1].strip() if match else None


def _cpu_model() -> str:
    return _first_match(r"^model name\s*:(.*)$", "/proc/cpuinfo") or platform.processor() or platform.machine()


def _host_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _peak_resident() -> int | None:
    if kilobytes := _first_match(r"^VmHWM:\s*(\d+) kB$", "/proc/self/status"):
        return int(kilobytes) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "memory_bytes": properties.total_memory}
