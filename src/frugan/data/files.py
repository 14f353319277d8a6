"""Files and folders that appear whole or not at all, and the number of threads to read with."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from frugan.errors import FruganError

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


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A place beside `out` where the block puts a file or folder; renamed to `out` when the block ends well.

    Raises `FruganError` where `out` exists already (an empty folder may).
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FruganError(f"{out} exists already; name another place or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield scratch / out.name
        if out.exists():
            out.rmdir()
        os.rename(scratch / out.name, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
