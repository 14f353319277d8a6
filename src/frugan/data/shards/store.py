"""Decoded shards on this disk, each a cache entry of its own, all of one plan."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from frugan.channels import MaskChannel, has_alpha
from frugan.command_line import command
from frugan.data.cache import (
    FORMAT,
    CachedPixels,
    NothingReadable,
    build_entry,
    has_full_opacity,
    headers,
    load_entry,
    scratch_folder,
)
from frugan.data.decode import Header
from frugan.data.shards import remote
from frugan.data.shards.index import INDEX, Kind, Shard, ShardFacts, facts_file, hash_of, kinds_of, write_facts
from frugan.data.shards.locate import AT_ONCE, sort_out
from frugan.data.sources.archives import Tar
from frugan.data.sources.base import Source
from frugan.data.sources.declared import Declaration
from frugan.data.sources.masks import Masked, MaskValues, UnreadableMasks
from frugan.data.stats import highest
from frugan.data.target import PixelConfig, Plan, make_plan, refuse_mixtures
from frugan.data.workers import Progress, in_threads
from frugan.errors import FruganError


class ShardLost(FruganError):
    """A shard that cannot be had, and why; the set goes on without it."""


class Store:
    """Decoded shards on this disk, all in one target format, which follows from the first images.

    Args:
        root: the folder.
        config: size and channels.
        kinds: kinds of images that are known already; without any, those of the first shard that is read.
        limit: bytes of decoded shards that stay on disk while shards are surveyed; None: no limit.
        declared: of the images' channels. Masks in them are counted in steps of the values of all shards once `join_masks` has been
            called, of each shard's own before.
    """

    def __init__(
        self,
        root: Path,
        config: PixelConfig,
        kinds: Sequence[Kind],
        limit: int | None = None,
        declared: Declaration = Declaration(),  # noqa: B008 — frozen
    ) -> None:
        """While shards are surveyed, only those stay on disk that fit within `limit` bytes.

        Pixels are held as stored: the range of values in use is known only when all shards are.
        """
        self.root, self.config, self.limit = root, replace(config, value_range="full"), limit
        self._first, self._declared = list(kinds), declared
        self.planned = self._planned(kinds) if kinds else None
        self._masks: MaskValues | None = None
        self._kept = 0
        root.mkdir(parents=True, exist_ok=True)

    @property
    def plan(self) -> Plan:
        assert self.planned is not None, "a shard has been read"
        return self.planned

    @property
    def channels(self) -> int:
        """The number of channels of decoded pixels, masks included."""
        return self.plan.channels + self.config.masks

    def join_masks(self, shards: Sequence[Shard], where: str) -> tuple[MaskChannel, ...]:
        """The masks of all shards, with the values that they hold. From here on a shard is decoded with these values; where it has
        been decoded with fewer, those pixels are removed. Raises `FruganError` as `Masked.learn`."""
        own = [shard.facts.masks for shard in shards if shard.facts and shard.facts.masks]
        if not own:
            return ()
        joined = MaskValues.joined(own, where)
        for shard in shards:
            if shard.facts and shard.facts.masks != joined:
                shutil.rmtree(self.folder(shard), ignore_errors=True)
        self._masks = joined
        return joined.channels(where)

    def bytes_of(self, shards: Sequence[Shard]) -> int:
        """The bytes that surveyed shards take when decoded."""
        images = sum(len(shard.facts.names) for shard in shards if shard.facts)
        return images * math.prod(self.plan.resolution) * self.channels * self.plan.depth // 8

    def folder(self, shard: Shard) -> Path:
        """The folder of a decoded shard, which need not exist."""
        return self._folder(shard, self._masks or (shard.facts.masks if shard.facts else None))

    def _folder(self, shard: Shard, masks: MaskValues | None) -> Path:
        parts = [FORMAT, shard.url, shard.version, asdict(self.config), asdict(self.plan)]
        return self.root / hash_of([*parts, *([masks] if masks else []), *filter(None, [self._declared.key])])

    def load(self, shard: Shard) -> CachedPixels:
        """The decoded shard, fetched and built where it is not there. Raises `ShardLost`."""
        entry = load_entry(self.folder(shard), 1)
        if entry is None:
            self._build(shard)
            entry = load_entry(self.folder(shard), 1)
        if entry is None:
            raise ShardLost(f"its decoded images in {self.folder(shard)} were damaged or removed at once")
        if shard.facts and entry.names != shard.facts.names:
            raise ShardLost(f"holds other images than {INDEX} says")
        return entry

    def survey(self, shard: Shard) -> Shard:
        """The shard with its facts; its pixels are in the store then, too, unless the limit is passed. Raises `ShardLost`."""
        if shard.facts is None:
            shard = Shard(shard.url, shard.version, self._build(shard))
        else:
            entry = self.load(shard)
            if shard.facts.highest is None:
                facts = replace(shard.facts, highest=highest(entry.stats.values, 16))
                shard = Shard(shard.url, shard.version, facts)
        if self.limit is not None:
            self._kept += self.bytes_of([shard])
            if self._kept > self.limit:
                self._kept -= self.bytes_of([shard])
                shutil.rmtree(self.folder(shard), ignore_errors=True)
        return shard

    def _build(self, shard: Shard) -> ShardFacts:
        expected = shard.facts.sha256 if shard.facts else shard.version.get("sha256")
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder(self.root))
            try:
                copy = remote.local_copy(shard.url, scratch, size=shard.version.get("size"), sha256=expected)
                file, sha256 = stack.enter_context(copy)
            except FruganError:
                raise
            except Exception as error:
                if remote.disk_full(error):
                    raise FruganError(
                        f"{self.root} has no room for {shard.url}; make some, set FRUGAN_CACHE to another disk, or "
                        "stream with --cache-limit"
                    ) from error
                raise ShardLost(remote.reason(error, shard.url)) from error
            try:
                tar = Tar(file)
                labels = dict(zip(tar.names, tar.labels()))
            except FruganError as error:
                raise ShardLost(str(error).replace(f"{file}", shard.stem)) from error
            source = self._declared.of_files(tar)
            heads = headers(source)
            full = in_threads(lambda numbered: _is_opaque(source, *numbered), enumerate(heads))
            kinds = kinds_of((f"{shard.stem}/{name}", *of) for name, of in zip(source.names, zip(heads, full)))
            if not kinds:
                raise ShardLost("holds no images that can be read")
            self._settle(kinds)
            try:
                masks = self._masks_in(source, heads, shard)
                folder = self._folder(shard, self._masks or masks)
                build_entry(folder, source, self.config, lambda done: None, self.plan)
            except (NothingReadable, UnreadableMasks) as error:
                raise ShardLost("holds no images that can be read") from error
        entry = load_entry(folder, 1)
        if entry is None:
            raise ShardLost(f"its decoded images in {folder} were damaged at once")
        found = [labels[name] for name in entry.names]
        facts = ShardFacts(entry.names, found, kinds, sha256, entry.skipped, highest(entry.stats.values, 16), masks)
        write_facts(facts_file(self.root, shard, self._declared.key), facts)
        return facts

    def _masks_in(self, source: Source, heads: Sequence[Header | str], shard: Shard) -> MaskValues | None:
        """The values of the masks in a shard, after the source has been told which ones to count in."""
        if not isinstance(source, Masked):
            return None
        rows = [i for i, head in enumerate(heads) if isinstance(head, Header)]
        known = shard.facts.masks if shard.facts else None
        try:
            own = known or source.observe(rows)
        except UnreadableMasks:
            raise
        except FruganError as error:
            raise FruganError(str(error).replace(str(source.path), shard.url)) from error
        source.use(self._masks or own)
        return own

    def _settle(self, kinds: list[Kind]) -> None:
        """Makes the plan from these images, or raises `FruganError` where they do not fit the one there is."""
        plan = self._planned(self._first + kinds)
        if self.planned is None:
            self.planned, self._first = plan, kinds
        elif plan.depth > self.planned.depth:
            deep = max(kinds, key=lambda kind: kind.depth)
            raise FruganError(
                f"{deep.name} has {deep.depth} bits per channel, the images of the shards before it {self.planned.depth}; "
                f"name its shard first in a .txt list, or write the set anew with {command('data', 'shard')}"
            )

    def is_opaque(self, kinds: Sequence[Kind]) -> bool:
        """Whether channels are "auto", some images of these kinds have opacity, and it is full in all of them."""
        full = [kind.opaque for kind in kinds if has_alpha(kind.channels)]
        return self.config.channels == "auto" and self._declared.alpha and bool(full) and all(full)

    def refuse_mixtures(self, kinds: Sequence[Kind]) -> None:
        """Raises `FruganError` where images of these kinds differ in size or channels and nothing says what to do."""
        refuse_mixtures(self.config, [kind.name for kind in kinds], _heads(kinds))

    def _planned(self, kinds: Sequence[Kind]) -> Plan:
        """Opacity that is full so far is kept in the store, unless other images have none: more may be known later."""
        alpha = self._declared.alpha and not any(kind.bands for kind in kinds)
        opaque = alpha and len({kind.channels for kind in kinds}) > 1 and self.is_opaque(kinds)
        return make_plan(self.config, [kind.name for kind in kinds], _heads(kinds), alpha=alpha, opaque=opaque)


def _heads(kinds: Sequence[Kind]) -> list[Header]:
    return [
        Header(k.height, k.width, k.channels, cast(Any, k.depth), "", "", channel_names=k.channel_names) for k in kinds
    ]


def _is_opaque(source: Source, row: int, head: Header | str) -> bool:
    alpha = isinstance(head, Header) and source.alpha and has_alpha(head.channels) and head.alpha != "none"
    return alpha and has_full_opacity(source, row)


def survey(store: Store, shards: Sequence[Shard], progress: Progress) -> tuple[list[Shard], list[tuple[str, str]]]:
    """Reads shards into the store, several at once.

    Args:
        store: which keeps them.
        shards: to be read.
        progress: called with (done, total) shards.

    Returns:
        The shards that were read, and (url, reason) of those that could not be.
    """

    def read(shard: Shard) -> Shard | str:
        try:
            return store.survey(shard)
        except ShardLost as error:
            return str(error)

    def read_all() -> Iterable[Shard | str]:
        rest = list(shards)
        while rest and store.planned is None:  # one alone, that the others can be held against
            yield read(rest.pop(0))
        yield from in_threads(read, rest, AT_ONCE)

    def counted() -> Iterable[Shard | str]:
        for done, result in enumerate(read_all(), 1):
            if progress:
                progress(done, len(shards))
            yield result

    return sort_out([shard.url for shard in shards], counted())
