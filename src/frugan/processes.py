"""Several processes at one task, where `torch.distributed` is set up; else the only one."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def rank() -> int:
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    return dist.get_world_size() if _together() else 1


def own_share(n: int) -> range:
    """This process's consecutive part of 0 … n − 1; the parts of all processes, in the order of their ranks, are the whole."""
    return range(rank() * n // world_size(), (rank() + 1) * n // world_size())


def gather(value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks, on every process."""
    if not _together():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
