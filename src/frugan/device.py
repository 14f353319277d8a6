"""Choosing a device, and whether bfloat16 is worth it there."""

from __future__ import annotations

import time

import torch

from frugan.errors import FruganError


def choose_device(name: str = "auto") -> torch.device:
    """ "auto": CUDA (or ROCm), then Apple's MPS, then the CPU. Raises `FruganError` if the device asked for is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind = name.split(":")[0]
    if kind not in available:
        raise FruganError(f"device {name!r}: choose auto, {', '.join(available)}")
    if not available[kind]:
        raise FruganError(f"device {name!r} is not available to this PyTorch ({torch.__version__}); try --device auto")
    return torch.device(name)


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 is worth it there: native on a GPU; on a CPU measured, since only some have the instructions."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

    def seconds(dtype: torch.dtype) -> float:
        x = torch.zeros(16, 64, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = torch.zeros(64, 64, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        times = []
        for _ in range(7):
            started = time.perf_counter()
            torch.nn.functional.conv2d(x, w, padding=1)
            times.append(time.perf_counter() - started)
        return min(times)

    return seconds(torch.float32) > 1.3 * seconds(torch.bfloat16)
