"""The number of CPU threads for training, found by trial.

The threads of an operation wait for one another. A core that another program uses delays all of them, so that fewer
threads are often several times as fast on a busy machine.
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
"""Most threads that can be asked for."""
SECONDS = 2.5
"""About how long `choose_threads` takes."""

_SMALL_NETWORK, _SMALL_IMAGE = 2048, 128**2
_WORTH = 0.95
"""More threads are chosen if they take less than this share of the time with fewer."""


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def counts_to_try(most: int) -> list[int]:
    """The powers of two up to `most`, and `most`."""
    return sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})


def work_of(phases: Phases) -> Callable[[], None]:
    """Work to time, of some 10 ms: a training pass of G for small networks, else some convolutions."""
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
    """A forward and backward pass of one convolution, in place of a network that would take too long."""
    x = torch.ones(4, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    w = torch.ones(64, 64, 3, 3, requires_grad=True)
    F.leaky_relu(F.conv2d(x, w, padding=1)).sum().backward()


def choose_threads(work: Callable[[], None], most: int, seconds: float = SECONDS) -> tuple[int, dict[int, float]]:
    """The number of threads that does the work fastest, and the seconds that each number took.

    Args:
        work: what is timed.
        most: the largest number to try.
        seconds: for the whole trial.
    """
    counts = counts_to_try(most)
    taken = {n: seconds_with(n, work, seconds / len(counts)) for n in counts} if len(counts) > 1 else {}
    return fastest(taken) if taken else most, taken


def fastest(taken: dict[int, float]) -> int:
    """The number of threads with the least time; a smaller one where the gain is below 5 %."""
    best = min(taken)
    for n in sorted(taken):
        if taken[n] < _WORTH * taken[best]:
            best = n
    return best


def seconds_with(threads: int, work: Callable[[], None], budget: float) -> float:
    """Mean seconds of the work with that number of threads, repeated for `budget` seconds."""
    with using(threads):
        work()
        started, times = time.perf_counter(), 0
        while times == 0 or time.perf_counter() - started < budget:
            work()
            times += 1
        return (time.perf_counter() - started) / times


@contextmanager
def using(threads: int | None) -> Iterator[None]:
    """Context with that number of CPU threads, if one is given; afterwards there are as many as before."""
    check_number("threads", threads, at_least=1, at_most=MOST, whole=True)
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_of_others(threads: int) -> float | None:
    """The mean number of other threads that wanted a core within the last minute, by the system's load; None where that
    is unknown.
    """
    try:
        return max(os.getloadavg()[0] - threads, 0.0)
    except (AttributeError, OSError):
        return None
