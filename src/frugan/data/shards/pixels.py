"""Pixels of many shards behind one index, fetched as they are asked for."""

from __future__ import annotations

import queue
import shutil
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from frugan.data.cache import CachedPixels
from frugan.data.shards.index import Shard, facts_of
from frugan.data.shards.store import ShardLost, Store
from frugan.data.values import stretch
from frugan.errors import FruganError
from frugan.images import Pixels
from frugan.pixel_format import Range

T = TypeVar("T")
R = TypeVar("R")
FETCHERS = 2  # shards fetched at a time while training


class ShardPixels:
    """Pixels `[N, H, W, C]` of many shards behind one index: as much of an array as a data set needs.

    A shard is opened when it is first asked for, and fetched again where it is not here. `keep_within` limits how many
    are on disk; then the ones unused for longest are removed, but never those last named to `want`.

    Args:
        store: where shards are decoded and kept.
        shards: in the order of their images.
        value_range: the stored values that are stretched to all that the type holds; None: none are.
        opaque: whether the last channel, opacity that is full everywhere, is left out.
    """

    def __init__(
        self, store: Store, shards: Sequence[Shard], value_range: Range | None = None, *, opaque: bool = False
    ) -> None:
        self._store, self._shards, self._range, self._opaque = store, shards, value_range, opaque
        self.starts = np.cumsum([0, *(len(facts_of(shard).names) for shard in shards)])
        plan = store.plan
        self.shape = (int(self.starts[-1]), *plan.resolution, store.channels - opaque)
        self.dtype = np.dtype(np.uint8 if plan.depth == 8 else np.uint16)
        self._open: dict[int, Future[CachedPixels]] = {}
        self._here: OrderedDict[int, None] = OrderedDict()  # on disk or about to be; the one unused for longest first
        self._slots: int | None = None
        self._kept: frozenset[int] = frozenset()
        self._protected: set[int] = set()
        self._lock = threading.Lock()
        self._fetchers = _Fetchers(FETCHERS)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take on the disk."""
        return int(np.prod(self.shape[:3])) * self._store.channels * self.dtype.itemsize

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        rows = np.arange(len(self))[rows]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = self.shard_of(rows)
        for k in np.unique(which):
            mine = which == k
            try:
                stored = self.shard(int(k))[rows[mine] - self.starts[k]]
            except ShardLost as error:
                raise FruganError(f"{self.url(k)} cannot be had any more: {error}; check network and access") from error
            plan = self._store.plan
            image = stretch(stored[..., : plan.channels], self._range, alpha=plan.alpha)
            kept = plan.channels - self._opaque
            out[mine, ..., :kept] = image[..., :kept]
            out[mine, ..., kept:] = stored[..., plan.channels :]  # masks
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def shard_of(self, rows: np.ndarray) -> np.ndarray:
        """The number of the shard that holds each row."""
        return np.searchsorted(self.starts, rows, "right") - 1

    def url(self, k: int) -> str:
        return self._shards[k].url

    def shard(self, k: int) -> Pixels:
        """The pixels of shard k as stored, waiting for them where they must be fetched. Raises `ShardLost`."""
        return self._future(k).result().pixels

    def keep_within(self, slots: int, kept: Sequence[int]) -> None:
        """Limits the shards on disk to `slots` from now on, always with those of `kept` among them."""
        self._slots, self._kept = slots, frozenset(kept)
        self._protected = set(self._kept)
        here = [k for k, shard in enumerate(self._shards) if self._store.folder(shard).is_dir()]
        for k in sorted(here, key=lambda k: k not in self._kept)[slots:]:
            shutil.rmtree(self._store.folder(self._shards[k]), ignore_errors=True)
        for k in here:
            if self._store.folder(self._shards[k]).is_dir():
                self._future(k)

    def want(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """These shards are about to be asked for: fetches those that are missing, in the background, and keeps them."""
        with self._lock:
            self._protected = {*self._kept, *now, *soon}
        for k in (*self._kept, *now, *soon):
            self._future(k)

    def _future(self, k: int) -> Future[CachedPixels]:
        with self._lock:
            if k in self._here:
                self._here.move_to_end(k)
            elif k not in self._open:
                self._open[k] = self._fetchers.submit(self._fetch, k)
            return self._open[k]

    def _fetch(self, k: int) -> CachedPixels:
        with self._lock:
            self._make_room()
            self._here[k] = None
        try:
            return self._store.load(self._shards[k])
        except BaseException:
            with self._lock:
                del self._here[k]
            raise

    def _make_room(self) -> None:
        while self._slots is not None and len(self._here) >= self._slots:
            spare = (k for k in self._here if k not in self._protected and self._open[k].done())
            if (k := next(spare, None)) is None:
                return
            del self._here[k], self._open[k]
            shutil.rmtree(self._store.folder(self._shards[k]), ignore_errors=True)


class _Fetchers:
    """Threads in the background. A program that ends does not wait for them, as it would for a pool's, retries and all."""

    def __init__(self, count: int) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=_serve, args=(self._tasks,), daemon=True).start()
            weakref.finalize(self, self._tasks.put, None)

    def submit(self, work: Callable[[T], R], item: T) -> Future[R]:
        future: Future[R] = Future()

        def task() -> None:
            try:
                future.set_result(work(item))
            except BaseException as error:
                future.set_exception(error)

        self._tasks.put(task)
        return future


def _serve(tasks: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # what it holds must not outlive it here
