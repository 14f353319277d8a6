"""Shards as a data set: all of them decoded on this disk, or as many at a time as a limit allows.

Within a limit, training visits the shards in a seeded order, a window of them at a time; images are shuffled within
the window while the next one is fetched. The position is the sampler's state, so a resume is exact.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from frugan.channels import AS_FILES, CHANNEL_NAMES
from frugan.command_line import command
from frugan.data.cache import CachedPixels, cache_root, headers, refuse_skipped, remove_abandoned
from frugan.data.config import DataConfig
from frugan.data.dataset import Dataset
from frugan.data.decode import Header
from frugan.data.groups import Groups, read_groups
from frugan.data.labels.encode import Labels
from frugan.data.labels.read import find_labels, read_labels, stored_labels
from frugan.data.sampler import Sampler
from frugan.data.shards import remote
from frugan.data.shards.index import Shard, facts_of
from frugan.data.shards.locate import GIVE_UP_AFTER, locate
from frugan.data.shards.pixels import FETCHERS, ShardPixels
from frugan.data.shards.sampler import ShardSampler
from frugan.data.shards.store import ShardLost, Store, survey
from frugan.data.shards.values import ShardValues
from frugan.data.sources.archives import Tar
from frugan.data.sources.base import LARGEST_TEXT, Source
from frugan.data.sources.declared import ChannelFile, Declaration, find_channels
from frugan.data.stats import SourceStats
from frugan.data.store import split, split_key
from frugan.data.target import PixelConfig, Plan
from frugan.data.values import range_name, settle_range
from frugan.data.workers import Progress
from frugan.distributed import rank
from frugan.errors import FruganError

log = logging.getLogger(__name__)


def open_shards(
    config: DataConfig,
    *,
    progress: Progress = None,
    cache_dir: str | Path | None = None,
    labels_optional: bool = False,
) -> Dataset:
    """Opens a set of shards. Shards of which nothing is known yet are read first.

    Shards that cannot be had are named in `skipped` and in the set's `config.without`, so that a run which began
    without them continues without them.

    Args:
        config: where the shards are, and what is made of them.
        progress: called with (done, total) shards.
        cache_dir: the cache's folder; None: the user's.
        labels_optional: whether labels "auto" may find none.

    Raises `FruganError` for every mistake that a user can correct.
    """
    limit = None if config.cache_limit is None else round(config.cache_limit * 1e9)
    own = f"-{rank()}" if rank() else ""  # within a limit, each process keeps its own shards
    root = cache_root(cache_dir) / ("shards" if limit is None else f"streams{own}")
    remove_abandoned(root)
    urls = remote.find(config.path)
    declared = Declaration.of(config.channels, _found_beside(config, remote.parent(urls[0])))
    config = declared_in(config, declared)
    store, shards, lost = _surveyed(
        config, locate(urls, config.without, root, declared), root, limit, declared, progress
    )
    masks = store.join_masks(shards, config.path)
    if masks and limit is None:  # decoded with the values of their own until now, which most have in common
        shards, more = survey(store, shards, progress)
        lost += more
        _refuse_none(config, shards, lost)
    if limit is not None and store.bytes_of(shards) <= limit:  # streaming would gain nothing
        limit = None
    names = [f"{shard.stem}/{name}" for shard in shards for name in facts_of(shard).names]
    skipped = [*lost, *((f"{s.stem}/{name}", why) for s in shards for name, why in facts_of(s).skipped)]
    if config.strict:
        refuse_skipped(skipped, len(names))
    kinds = [kind for shard in shards for kind in facts_of(shard).kinds]
    if not (opaque := store.is_opaque(kinds)):
        store.refuse_mixtures(kinds)
    plan, settings = _without_opacity(store.plan, config.pixels) if opaque else (store.plan, config.pixels)
    stats = replace(_stats(config.value_range, store, shards), masks=list(masks), opaque=opaque)
    digest = _digest(settings, plan, shards, stats)
    pixels = ShardPixels(store, shards, stats.value_range, opaque=plan != store.plan)
    known = range_name(stats.value_range) if plan.depth == 16 else config.value_range
    settings, folder = replace(settings, value_range=known), root / f"set-{digest[:32]}"
    cached = CachedPixels(
        pixels, names, skipped, plan.alpha, digest, folder, settings, stats, plan.dtype, plan.channel_names
    )
    config = replace(config, without=tuple(sorted(url for url, _ in lost)))
    streamed = None if limit is None else StreamedPixels(config, pixels, skipped)
    source = _beside(config, shards)
    labels = _labels(config, source, shards, names, optional=labels_optional)
    groups = read_groups(source, config.group, source.names) if config.group else None
    return Dataset(config, cached, labels, store=streamed, groups=groups)


def _without_opacity(plan: Plan, settings: PixelConfig) -> tuple[Plan, PixelConfig]:
    """The same for images whose opacity, full everywhere, is left out."""
    plan = replace(plan, channels=plan.channels - plan.alpha, alpha=False)
    return plan, replace(settings, channels=CHANNEL_NAMES[plan.channels])


def _surveyed(
    config: DataConfig,
    located: tuple[list[Shard], list[tuple[str, str]]],
    root: Path,
    limit: int | None,
    declared: Declaration,
    progress: Progress,
) -> tuple[Store, list[Shard], list[tuple[str, str]]]:
    """The store, the shards with all that is known of them, and (url, reason) of those that cannot be had.

    With a `limit` of the store, in bytes, or masks, only shards of which nothing is known yet are read.
    """
    shards, lost = located
    kinds = [kind for shard in shards if shard.facts for kind in shard.facts.kinds]
    store = Store(root, config.pixels, kinds, limit, declared)
    if limit is None and not declared.masks:
        shards, more = survey(store, shards, progress)
    else:
        read, more = survey(store, [shard for shard in shards if not shard.facts], progress)
        known = {shard.url: shard for shard in (*shards, *read) if shard.facts}
        shards = [known[shard.url] for shard in shards if shard.url in known]
    lost += more
    _refuse_none(config, shards, lost)
    if config.strict and lost:
        raise FruganError(
            f"{len(lost)} of {len(lost) + len(shards)} shards cannot be had, the first is {_told(lost[0])}; fix them, "
            "or leave out --strict to go on without"
        )
    return store, shards, lost


def _refuse_none(config: DataConfig, shards: Sequence[Shard], lost: Sequence[tuple[str, str]]) -> None:
    if not shards:
        raise FruganError(f"none of the {len(lost)} shards of {config.path} can be had, the first is {_told(lost[0])}")


def _digest(settings: PixelConfig, plan: Plan, shards: Sequence[Shard], stats: SourceStats) -> str:
    """A hash of the shards' contents and of all that decides what becomes of them."""
    drawn = {key: value for key, value in settings.to_dict().items() if key != "value_range"}
    planned = {key: value for key, value in asdict(plan).items() if key not in ("dtype", "channel_names")}
    content: list[Any] = [drawn, planned, [facts_of(shard).sha256 for shard in shards]]
    content += [[int(end) for end in pair] for pair in stats.value_range or ()]
    content += [asdict(mask) for mask in stats.masks]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stats(asked: str, store: Store, shards: Sequence[Shard]) -> SourceStats:
    """The range of values in use, from the highest of every shard ("full" where one is not known), or, by percentiles, from those
    of their images. Sizes without counts."""
    facts = [facts_of(shard) for shard in shards]
    highest = [fact.highest for fact in facts]
    known = max(value for value in highest if value is not None) if None not in highest else 0
    values = _Highest(known, store.plan.channels - store.plan.alpha) if asked == "auto" else ShardValues(store, shards)
    value_range = settle_range(asked, store.plan.dtype, values)
    return SourceStats(
        value_range=value_range, sizes={f"{kind.height}x{kind.width}": 0 for fact in facts for kind in fact.kinds}
    )


@dataclass(frozen=True)
class _Highest:
    """A `Distribution` whose highest value alone is known, which is what "auto" asks for."""

    highest: int
    channels: int

    def quantile(self, share: float, channel: int | None = None) -> float:
        assert share == 1, "auto asks for the highest value"
        assert channel is None, "of all channels together"
        return self.highest

    def name(self, channel: int) -> str:
        return f"channel {channel}"


class StreamedPixels:
    """Pixels of which only some shards are on disk at a time.

    Held-out images lie in as few shards as can be, and those stay. A shard that is lost while training is named in
    `skipped`, and images of the shards after it take the places of its own; with `strict` it ends the run.

    Args:
        config: of the data set.
        pixels: the shards' pixels.
        skipped: (name, reason) of images that cannot be had, to which lost shards are added.
    """

    at_hand = False

    def __init__(self, config: DataConfig, pixels: ShardPixels, skipped: list[tuple[str, str]]) -> None:
        if config.balanced:
            raise FruganError("balanced sampling needs all shards at hand; leave out --balanced or raise --cache-limit")
        self.pixels, self.window = pixels, 0
        self._config, self._skipped = config, skipped
        self._lost: set[int] = set()
        self._parts: tuple[np.ndarray, ...] = ()

    def split(
        self,
        names: list[str],
        held_out: float,
        seed: int,
        groups: Groups | None = None,
        classes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Divides images by whole shards, with the arguments as of `PixelStore.split`.

        Shards are ordered by keys of their names; of the last shard held out, as many images are as are still wanted.
        """
        shards = [split_key(self.pixels.url(k).rpartition("/")[2], seed) for k in range(len(self.pixels.starts) - 1)]
        ranks = [shards[k] for k in self.pixels.shard_of(np.arange(len(names)))]
        assert groups is None, "`DataConfig` refuses them"
        assert classes is None, "shards are not divided by classes"
        return split(names, held_out, seed, ranks)

    def begin(self, train: np.ndarray, held_out: np.ndarray) -> None:
        """Raises `FruganError` where the limit of the cache holds too few shards to train on."""
        self._parts = (train, held_out)
        limit = self._config.cache_limit or 0.0
        pinned = np.unique(self.pixels.shard_of(held_out)).tolist()
        largest = int(np.diff(self.pixels.starts).max()) * (self.pixels.nbytes // len(self.pixels))
        slots = int(limit * 1e9 / largest)
        needed = len(pinned) + 2 + FETCHERS  # what is held out, a window in use, one to come, and others being fetched
        self.window = 1 + (slots - needed) // 2
        if self.window < 1:
            raise FruganError(
                f"--cache-limit {limit:g} GB holds {slots} decoded shards, but {needed} are needed"
                f"{f' ({len(pinned)} of them held out)' if pinned else ''}; give {needed * largest / 1e9:.3g} or "
                f"more, or write smaller shards with {command('data', 'shard', '--per-shard')}"
            )
        self.pixels.keep_within(slots, pinned)

    def sampler(
        self, indices: np.ndarray, *, seed: int, classes: np.ndarray | None, groups: np.ndarray | None = None
    ) -> Sampler:
        shards = self.pixels.shard_of(indices % len(self.pixels))
        return ShardSampler(indices, shards, window=self.window, seed=seed, entering=self.pixels.want)

    def preview(self, train: np.ndarray, count: int) -> np.ndarray:
        return train[:count]  # of the first shards only: others would have to be fetched for it

    def present(self, rows: np.ndarray) -> np.ndarray:
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
            for part in self._parts:
                mine, holders = np.isin(rows, part), self.pixels.shard_of(part)
                for k in gone:
                    theirs = part[holders == next((h for h in holders if h > k), holders[0])] if len(part) else part
                    chosen = mine & (which == k)
                    rows[chosen] = theirs[offset[chosen] % max(len(theirs), 1)]
        raise FruganError(
            f"{len(self._lost)} shards cannot be had any more, such as {_told(self._skipped[-1])}; check network and access, "
            f"then continue with: {command('resume', 'RUN')}"
        )

    def _has(self, k: int) -> bool:
        if k in self._lost:
            return False
        try:
            self.pixels.shard(k)
        except ShardLost as error:
            if self._config.strict:
                raise FruganError(
                    f"{self.pixels.url(k)} cannot be had: {error}; fix it and resume, or leave out --strict"
                ) from error
            self._lost.add(k)
            self._skipped.append((self.pixels.url(k), str(error)))
            log.warning("%s is skipped from here on: %s", self.pixels.url(k), error)
            return False
        return True


def _beside(config: DataConfig, shards: Sequence[Shard]) -> Source:
    """The images as their shards name them, and the tables beside the shards."""
    members = [name for shard in shards for name in facts_of(shard).names]
    return _texts(config.path, remote.parent(shards[0].url), members)


def _texts(path: str, folder: str, names: Sequence[str] = ()) -> Source:
    """The text files in a folder of shards as those of a source."""

    def text(name: str) -> str | None:
        content = remote.read(f"{folder}/{name}", LARGEST_TEXT)
        return None if content is None else content.decode("utf-8-sig")

    def places(name: str) -> list[str]:
        return [name] if text(name) is not None else []

    return cast(
        Source, SimpleNamespace(path=path, names=[*names], text=text, places=places, stored_labels=lambda: None)
    )


def shards_beside(path: str) -> Source:
    """The text files beside the shards that a path names."""
    return _texts(path, remote.parent(remote.find(path)[0]))


def _found_beside(config: DataConfig, folder: str) -> ChannelFile | None:
    return None if config.channels == AS_FILES else find_channels(_texts(config.path, folder))


def declared_in(config: DataConfig, declared: Declaration) -> DataConfig:
    """The configuration with channels as declared. Raises `FruganError` where others of its settings do not go with them."""
    try:
        return replace(config, channels=declared.channels)
    except FruganError as error:
        where = declared.found.where if declared.found else config.path
        raise FruganError(f"{where}: {error}") from error


def channels_of_shards(path: str) -> int | None:
    """The number of channels of the first readable image in the first shard that a path names; None where none can be read."""
    url = remote.find(path)[0]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with remote.local_copy(url, Path(scratch), size=None, sha256=None) as (file, _):
                found = [head.channels for head in headers(Tar(file)) if isinstance(head, Header)]
        except Exception:  # is told when the set is opened
            return None
    return found[0] if found else None


def _labels(
    config: DataConfig, source: Source, shards: Sequence[Shard], names: Sequence[str], *, optional: bool
) -> Labels:
    """Labels beside the images in the shards, else a table or dataset.json beside the shards, else class folders in them."""
    raw = [label for shard in shards for label in facts_of(shard).labels]
    if config.labels == "array" or (config.labels == "auto" and any(label is not None for label in raw)):
        return stored_labels(raw, names, config.path, "the shards")
    where = find_labels(source, source.names) if optional and config.labels == "auto" else config.labels
    return read_labels(source, where, source.names)


def _told(lost: tuple[str, str]) -> str:
    return f"{lost[0]} ({lost[1]})"
