"""Shards as a data set: all of them decoded on this disk, or as many at a time as a limit allows.

Within a limit, training visits the shards in a seeded order, a window of them at a time; images are shuffled within
the window while the next one is fetched. The position is the sampler's state, so a resume is exact.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import shutil
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from frugan.command_line import command
from frugan.data import remote
from frugan.data.cache import CachedPixels, cache_root, refuse_skipped, remove_abandoned
from frugan.data.dataset import DataConfig, Dataset, rank, split
from frugan.data.files import Progress
from frugan.data.labels import Labels, find_labels, read_labels, stored_labels
from frugan.data.plan import Plan
from frugan.data.sampler import Sampler
from frugan.data.shards import GIVE_UP_AFTER, Facts, Shard, ShardLost, Store, locate, survey
from frugan.data.sources import LARGEST_TEXT, Source
from frugan.data.stats import SourceStats
from frugan.data.values import Range, range_name, settle_range, stretch
from frugan.distributed import rank as rank_among_processes
from frugan.errors import FruganError

T = TypeVar("T")
R = TypeVar("R")

FETCHERS = 2  # shards fetched at a time while training

log = logging.getLogger(__name__)


def open_shards(
    config: DataConfig,
    *,
    progress: Progress = None,
    cache_dir: str | Path | None = None,
    labels_optional: bool = False,
) -> Dataset:
    """Opens a set of shards; reads those first of which nothing is known yet. `progress(done, total)` counts shards.

    Shards that cannot be had are named in `skipped` and in the set's `config.without`, so that a run which began
    without them goes on without them. `labels_optional`: labels "auto" may find none. Raises `FruganError` for every
    mistake that a user can fix.
    """
    limit = None if config.cache_limit is None else round(config.cache_limit * 1e9)
    own = (
        f"-{rank_among_processes()}" if rank_among_processes() else ""
    )  # within a limit, each process keeps its own shards
    root = cache_root(cache_dir) / ("shards" if limit is None else f"streams{own}")
    remove_abandoned(root)
    shards, lost = locate(config.path, config.without, root)
    store = Store(root, config.pixels, [kind for shard in shards if shard.facts for kind in shard.facts.kinds], limit)
    if limit is None:
        shards, more = survey(store, shards, progress)
    else:
        read, more = survey(store, [shard for shard in shards if not shard.facts], progress)
        known = {shard.url: shard for shard in (*shards, *read) if shard.facts}
        shards = [known[shard.url] for shard in shards if shard.url in known]
    lost += more
    if not shards:
        raise FruganError(f"none of the {len(lost)} shards of {config.path} can be had, the first is {_told(lost[0])}")
    if config.strict and lost:
        raise FruganError(
            f"{len(lost)} of {len(lost) + len(shards)} shards cannot be had, the first is {_told(lost[0])}; mend them, "
            "or leave out --strict to go on without"
        )
    if limit is not None and store.bytes_of(shards) <= limit:  # streaming would gain nothing
        limit = None
    names = [f"{shard.stem}/{name}" for shard in shards for name in _facts(shard).names]
    skipped = [*lost, *((f"{s.stem}/{name}", why) for s in shards for name, why in _facts(s).skipped)]
    if config.strict:
        refuse_skipped(skipped, len(names))
    stats = _stats(config.value_range, store.plan, [_facts(shard) for shard in shards])
    drawn = {key: value for key, value in asdict(config.pixels).items() if key != "value_range"}
    content = [drawn, asdict(store.plan), [_facts(shard).sha256 for shard in shards]]
    content += [stats.value_range] if stats.value_range else []
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    pixels = cast(np.ndarray, ShardPixels(store, shards, stats.value_range))
    known = range_name(stats.value_range) if store.plan.depth == 16 else config.value_range
    settings = replace(config.pixels, value_range=known)
    folder = root / f"set-{digest[:32]}"
    cached = CachedPixels(pixels, names, skipped, store.plan.alpha, digest, folder, settings, stats)
    config = replace(config, without=tuple(sorted(url for url, _ in lost)))
    kind = Dataset if limit is None else StreamedDataset
    return kind(config, cached, _labels(config, shards, names, optional=labels_optional))


def _stats(asked: str, plan: Plan, facts: Sequence[Facts]) -> SourceStats:
    """The range of values in use, from the highest of every shard; "full" where one is not known. Sizes without counts."""
    highest = [fact.highest for fact in facts]
    known = max(value for value in highest if value is not None) if None not in highest else 0
    value_range = settle_range(asked, plan.depth, known)
    return SourceStats(
        value_range=value_range, sizes={f"{kind.height}x{kind.width}": 0 for fact in facts for kind in fact.kinds}
    )


class ShardPixels:
    """Pixels `[N, H, W, C]` of many shards behind one index: as much of an array as a data set needs.

    A shard is opened when it is first asked for, and fetched again where it is not here. `keep_within` limits how many
    are on disk; then the ones unused for longest are removed, but never those last named to `want`.
    """

    def __init__(self, store: Store, shards: Sequence[Shard], value_range: Range | None = None) -> None:
        """`value_range`: the stored values that are stretched to all that the type holds."""
        self._store, self._shards, self._range = store, shards, value_range
        self.starts = np.cumsum([0, *(len(_facts(shard).names) for shard in shards)])
        plan = store.plan
        self.shape = (int(self.starts[-1]), *plan.resolution, plan.channels)
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
        return int(np.prod(self.shape)) * self.dtype.itemsize

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
            out[mine] = stretch(stored, self._range, alpha=self._store.plan.alpha)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def shard_of(self, rows: np.ndarray) -> np.ndarray:
        """The number of the shard that holds each row."""
        return np.searchsorted(self.starts, rows, "right") - 1

    def url(self, k: int) -> str:
        return self._shards[k].url

    def shard(self, k: int) -> np.ndarray:
        """The pixels of shard k as stored, waiting for them where they must be fetched. Raises `ShardLost`."""
        return self._future(k).result().pixels

    def keep_within(self, slots: int, kept: Sequence[int]) -> None:
        """From now on at most `slots` shards stay on disk, among them always those of `kept`."""
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


class ShardSampler(Sampler):
    """Draws every index once per epoch: shards in an order that follows from (seed, epoch), `window` of them at a time,
    their indices shuffled together. `entering(now, soon)` hears the shards of a window, and of the one after it, before the
    first index of the window is drawn.
    """

    def __init__(
        self,
        indices: np.ndarray,
        shards: np.ndarray,
        *,
        window: int,
        seed: int = 0,
        entering: Callable[[Sequence[int], Sequence[int]], None] = lambda now, soon: None,
    ) -> None:
        """`shards` int `[N]`: the shard of every index."""
        self._members = {int(k): indices[shards == k] for k in np.unique(shards)}
        self._window, self._entering = window, entering
        self._entered: tuple[int, int] | None = None
        super().__init__(indices, seed=seed)

    def next(self, n: int) -> np.ndarray:
        """As of `Sampler`; announces a window one call late, so that what the last call gave is not dropped meanwhile."""
        at = (self._epoch, int(np.searchsorted(self._ends, self._position, "right")))
        if at[1] == len(self._ends):
            at = (self._epoch + 1, 0)
        if at != self._entered:
            windows = [*self._windows(at[0])[at[1] :], *self._windows(at[0] + 1)]
            self._entering(windows[0], windows[1])
            self._entered = at
        return super().next(n)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"window": self._window, "shards": len(self._members)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if (state.get("window"), state.get("shards")) != (self._window, len(self._members)):
            raise FruganError(
                f"the saved run shuffles within {state.get('window', 'all')} shards of {state.get('shards', 'any number')}, "
                f"here it is {self._window} of {len(self._members)}; resume with the same --cache-limit"
            )
        super().load_state_dict(state)
        self._entered = None

    def _windows(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([self._seed, epoch]).permutation(list(self._members)).tolist()
        return [order[i : i + self._window] for i in range(0, len(order), self._window)]

    def _shuffle(self) -> np.ndarray:
        generator = np.random.default_rng([self._seed, self._epoch, 1])
        windows = self._windows(self._epoch)
        parts = [generator.permutation(np.concatenate([self._members[k] for k in window])) for window in windows]
        self._ends = np.cumsum([len(part) for part in parts])
        return np.concatenate(parts)


class StreamedDataset(Dataset):
    """A set of which only some shards are on disk at a time.

    Held-out images lie in as few shards as can be, and those stay. A shard that is lost while training is named in
    `skipped`, and images of the shards after it take the places of its own; with `strict` it ends the run.
    """

    pixels: ShardPixels  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: DataConfig, cached: CachedPixels, labels: Labels) -> None:
        if config.balanced:
            raise FruganError("balanced sampling needs all shards at hand; leave out --balanced or raise --cache-limit")
        super().__init__(config, cached, labels)
        self._lost: set[int] = set()
        pinned = np.unique(self.pixels.shard_of(self.held_out_indices)).tolist()
        largest = int(np.diff(self.pixels.starts).max()) * (self.pixels.nbytes // len(self))
        slots = int(cast(float, config.cache_limit) * 1e9 / largest)
        needed = len(pinned) + 2 + FETCHERS  # what is held out, a window in use, one to come, and others being fetched
        self.window = 1 + (slots - needed) // 2
        if self.window < 1:
            raise FruganError(
                f"--cache-limit {config.cache_limit:g} GB holds {slots} decoded shards, but {needed} are needed"
                f"{f' ({len(pinned)} of them held out)' if pinned else ''}; give {needed * largest / 1e9:.3g} or "
                f"more, or write smaller shards with {command('data', 'shard', '--per-shard')}"
            )
        self.pixels.keep_within(slots, pinned)

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Whole shards are held out, by rank of their names, and of the last one as many images as are still wanted."""
        seed = self.config.held_out_seed
        shards = [rank(self.pixels.url(k).rpartition("/")[2], seed) for k in range(len(self.pixels.starts) - 1)]
        groups = [shards[k] for k in self.pixels.shard_of(np.arange(len(self)))]
        return split(self.names, self.config.held_out, seed, groups)

    def images(self, indices: np.ndarray, *, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        indices = np.asarray(indices, np.int64)
        flipped = indices // len(self) * len(self)
        return super().images(self._present(indices - flipped) + flipped, device=device)

    def sampler(self, seed: int = 0) -> Sampler:
        indices = self.stream_indices
        shards = self.pixels.shard_of(indices % len(self))
        return ShardSampler(indices, shards, window=self.window, seed=seed, entering=self.pixels.want)

    def resident(self, device: torch.device | str, *, limit_bytes: int | None = None) -> bool:
        return False

    def preview(self, count: int) -> np.ndarray:
        return self.train_indices[:count]  # of the first shards only: others would have to be fetched for it

    def _present(self, rows: np.ndarray) -> np.ndarray:
        """The rows, those of a lost shard replaced by ones of the next that holds the same part (training or held out).

        One shard at a time: what takes a row's place must not depend on which other losses are known already.
        """
        rows = rows.copy()
        for _ in range(GIVE_UP_AFTER):
            which = self.pixels.shard_of(rows)
            gone = [k for k in np.unique(which).tolist() if not self._has(k)]
            if not gone:
                return rows
            offset = rows - self.pixels.starts[which]
            for part in (self.train_indices, self.held_out_indices):
                mine, holders = np.isin(rows, part), self.pixels.shard_of(part)
                for k in gone:
                    theirs = part[holders == next((h for h in holders if h > k), holders[0])] if len(part) else part
                    chosen = mine & (which == k)
                    rows[chosen] = theirs[offset[chosen] % max(len(theirs), 1)]
        raise FruganError(
            f"{len(self._lost)} shards cannot be had any more, such as {_told(self.skipped[-1])}; check network and access, "
            f"then continue with: {command('resume', 'RUN')}"
        )

    def _has(self, k: int) -> bool:
        if k in self._lost:
            return False
        try:
            self.pixels.shard(k)
        except ShardLost as error:
            if self.config.strict:
                raise FruganError(
                    f"{self.pixels.url(k)} cannot be had: {error}; mend it and resume, or leave out --strict"
                ) from error
            self._lost.add(k)
            self.skipped.append((self.pixels.url(k), str(error)))
            log.warning("%s is skipped from here on: %s", self.pixels.url(k), error)
            return False
        return True


def _labels(config: DataConfig, shards: Sequence[Shard], names: Sequence[str], *, optional: bool) -> Labels:
    """Labels beside the images in the shards, else a table or dataset.json beside the shards, else class folders in them."""
    raw = [label for shard in shards for label in _facts(shard).labels]
    if config.labels == "array" or (config.labels == "auto" and any(label is not None for label in raw)):
        return stored_labels(raw, names, config.path, "the shards")
    members = [name for shard in shards for name in _facts(shard).names]
    folder = remote.parent(shards[0].url)

    def text(name: str) -> str | None:
        content = remote.read(f"{folder}/{name}", LARGEST_TEXT)
        return None if content is None else content.decode("utf-8-sig")

    def places(name: str) -> list[str]:
        return [name] if text(name) is not None else []

    source = cast(
        Source, SimpleNamespace(path=config.path, names=members, text=text, places=places, stored_labels=lambda: None)
    )
    where = find_labels(source, members) if optional and config.labels == "auto" else config.labels
    return read_labels(source, where, members)


def _facts(shard: Shard) -> Any:
    assert shard.facts is not None, "surveyed"
    return shard.facts


def _told(lost: tuple[str, str]) -> str:
    return f"{lost[0]} ({lost[1]})"
