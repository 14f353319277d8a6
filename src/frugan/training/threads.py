"""The number of CPU threads to train with, found by trying: beside other programs, fewer are often many times as fast.

Threads of one operation wait for one another, so that a single core taken away stops all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from frugan.checks import check_number
from frugan.training.phases import Phases, training_only
from frugan.training.trial import passes

MOST = 4096
SECONDS = 2.5
"""That choosing takes, about."""

_SMALL_NETWORK, _SMALL_IMAGE = 2048, 128**2
_WORTH = 0.95  # of the time with fewer threads: more of them must save at least 5 %


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def counts_to_try(most: int) -> list[int]:
    """1, 2, 4, … and `most`."""
    return sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})


def work_of(phases: Phases) -> Callable[[], None]:
    """Something like a piece of training, of some 10 ms: the generator's pass of small networks, else convolutions."""
    G = phases.G
    if G.config.synthesis.channel_base <= _SMALL_NETWORK and G.resolution[0] * G.resolution[1] <= _SMALL_IMAGE:
        one = passes(phases, 4, torch.Generator().manual_seed(0))[0]

        def train() -> None:
            with training_only(one.network, one.other):
                one.run()
            one.network.zero_grad(set_to_none=True)

        return train
    return convolutions


def convolutions() -> None:
    x = torch.ones(4, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    w = torch.ones(64, 64, 3, 3, requires_grad=True)
    F.leaky_relu(F.conv2d(x, w, padding=1)).sum().backward()


def choose_threads(work: Callable[[], None], most: int, seconds: float = SECONDS) -> tuple[int, dict[int, float]]:
    """The count, up to `most`, that does the work soonest, and the seconds that each count took for it."""
    counts = counts_to_try(most)
    taken = {n: seconds_with(n, work, seconds / len(counts)) for n in counts} if len(counts) > 1 else {}
    return fastest(taken) if taken else most, taken


def fastest(taken: dict[int, float]) -> int:
    """The count of the least time; the smaller one where the gain is below 5 %."""
    best = min(taken)
    for n in sorted(taken):
        if taken[n] < _WORTH * taken[best]:
            best = n
    return best


def seconds_with(threads: int, work: Callable[[], None], budget: float) -> float:
    """Mean seconds of the work with so many threads, done again and again for `budget` seconds."""
    with using(threads):
        work()
        started, times = time.perf_counter(), 0
        while times == 0 or time.perf_counter() - started < budget:
            work()
            times += 1
        return (time.perf_counter() - started) / times


@contextmanager
def using(threads: int | None) -> Iterator[None]:
    """Computes with so many threads, if a number is given, and afterwards with as many as before."""
    check_number("threads", threads, at_least=1, at_most=MOST, whole=True)
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_of_others(threads: int) -> float | None:
    """How many other threads wanted a core within the last minute, by the system's load; None where it does not tell."""
    try:
        return max(os.getloadavg()[0] - threads, 0.0)
    except (AttributeError, OSError):
        return None
