"""Threads to read images with, and the progress that they report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None] | None


def per_image(progress: Progress, count: int, steps: int) -> Progress:
    """A progress that takes `steps` steps for each of `count` images and tells images, never fewer than before."""
    if progress is None:
        return None
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        told = max(told, min(done // steps, count))
        progress(told, count)

    return tell


def in_threads(work: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """`map(work, items)` in order, over `workers` threads (the cores, if None), holding only a few results at a time."""
    workers = workers or _cores()
    items = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            window = [pool.submit(work, item) for item in islice(items, 4 * workers)]
            while window:
                result = window.pop(0).result()
                window += [pool.submit(work, item) for item in islice(items, 1)]
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
