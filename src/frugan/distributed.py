"""Several processes at one task, where `torch.distributed` is set up; else the only one.

Every function here that takes part in something is called by all processes, in the same order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from frugan.checks import check_number
from frugan.command_line import command
from frugan.errors import FruganError, shown

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a process waits for the others, unless FRUGAN_PATIENCE says otherwise."""

MOST_PATIENCE = 1e6


def rank() -> int:
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    return dist.get_world_size() if _together() else 1


def own_share(n: int, batch: int = 1) -> range:
    """This process's consecutive part of 0 … n − 1; the parts of all processes, in the order of their ranks, are the whole.

    Each part is of whole batches, but for the last of all, so that batches are those of a single process.
    """
    batches = -(-n // batch)
    first, end = (min(part * batches // world_size() * batch, n) for part in (rank(), rank() + 1))
    return range(first, end)


def gather(value: T) -> list[T]:
    """Every process's value, in the order of their ranks, on every process."""
    if not _together():
        return [value]
    values: list[Any] = [None] * world_size()
    _wait_for_all(lambda: dist.all_gather_object(values, value))
    return values


def from_first(value: Callable[[], T]) -> T:
    """The result of the first process, on every process; the others wait meanwhile."""
    return gather(value() if rank() == 0 else None)[0]  # pyright: ignore[reportReturnType]


def first_before_others(work: Callable[[], T]) -> T:
    """Each process's own result, the others beginning when the first is done: it leaves a cache behind, say."""
    if rank() == 0:
        result = work()
        gather(None)
        return result
    gather(None)
    return work()


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replaces float32 tensors by their sums over all processes, bit for bit the same everywhere; in one message."""
    if _together() and tensors:
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        _wait_for_all(lambda: dist.all_reduce(flat))
        for t, total in zip(tensors, flat.split([t.numel() for t in tensors])):
            t.copy_(total.view_as(t))


def least(tensor: Tensor) -> None:
    """Replaces a tensor by its elementwise minimum over all processes."""
    if _together():
        _wait_for_all(lambda: dist.all_reduce(tensor, dist.ReduceOp.MIN))


def any_of(flag: bool) -> bool:
    """Whether it is true on any process."""
    if not _together():
        return flag
    found = torch.tensor(int(flag))  # in the host's memory: no accelerator is waited for
    _wait_for_all(lambda: dist.all_reduce(found, dist.ReduceOp.MAX))
    return bool(found)


def launched() -> bool:
    """Whether `torchrun`, or another launcher with its variables, started this process.

    Raises `FruganError` where its variables are incomplete or make no sense, as when another program left them behind.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return False
    found = {name: os.environ[name] for name in (*_RANGES, "MASTER_ADDR") if name in os.environ}
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not found.get(name)]
    odd = [name for name, (low, high) in _RANGES.items() if not _is_whole(found.get(name, str(low)), low, high)]
    if not odd:
        odd = [name for name in ("RANK", "LOCAL_RANK") if int(found.get(name, 0)) >= int(found["WORLD_SIZE"])]
    if missing or odd:
        values = ", ".join(f"{name}={shown(value, 60)}" for name, value in found.items())
        fault = f"{' and '.join(missing)} not" if missing else f"{' and '.join(odd)} cannot be so"
        raise FruganError(
            f"the environment holds variables of a launcher ({values}), but {fault}; start with torchrun, or clear them: "
            f"unset {' '.join(found)}"
        )
    return True


_RANGES = {
    "RANK": (0, 1 << 20),
    "WORLD_SIZE": (1, 1 << 20),
    "LOCAL_RANK": (0, 1 << 20),
    "MASTER_PORT": (1, 65535),
    "TORCHELASTIC_RESTART_COUNT": (0, 1 << 30),
}


def _is_whole(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 12 and low <= int(text) <= high


def restarted() -> bool:
    """Whether the launcher started these processes anew, after one of them had failed."""
    return launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(kind: str) -> Iterator[str]:
    """Joins the processes that a launcher started, for as long as the context lasts, on devices of a kind: "cuda", "cpu", …

    Gives the name of this process's device: "cuda:1" for the second on its machine. Without a launcher nothing happens.
    """
    longest = timedelta(seconds=patience())
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", threads.strip()):
        raise FruganError(f"OMP_NUM_THREADS={shown(threads)}: give a whole number above 0, or unset it")
    if not launched():
        yield kind
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise FruganError(
            f"process {local} on this machine has no GPU: there are {torch.cuda.device_count()}; start one process a GPU"
        )
    if kind == "mps":
        raise FruganError("Apple's MPS takes a single process; leave the launcher out, or add --device cpu")
    place = f"cuda:{local}" if kind == "cuda" else kind
    if kind == "cuda":
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    _wait_for_all(lambda: dist.init_process_group(backend, timeout=longest))
    try:
        yield place
    finally:
        dist.destroy_process_group()


def patience() -> float:
    """Seconds that a process waits for the others. Raises `FruganError` where FRUGAN_PATIENCE is no number of them."""
    text = os.environ.get("FRUGAN_PATIENCE", str(PATIENCE))
    try:
        seconds = float(text)
    except ValueError:
        raise FruganError(f"FRUGAN_PATIENCE={shown(text)}: give a number of seconds") from None
    check_number("FRUGAN_PATIENCE", seconds, above=0, at_most=MOST_PATIENCE, hint="seconds that processes wait")
    return seconds


class Unanswered(FruganError):
    """Another process failed or hangs: starting all of them anew may help."""

    exit_code = 75  # EX_TEMPFAIL


def _wait_for_all(work: Callable[[], Any]) -> None:
    try:
        work()
    except RuntimeError as error:
        where = f"process {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}"
        raise Unanswered(
            f"{where}: another process failed or did not answer within {patience():g} s; its own message says why. "
            f"continue from the last checkpoint with: {command('resume', 'RUN')} ({str(error).splitlines()[0]})"
        ) from error


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
