"""Sets that come as shards: tars of some hundred images each, here or on a server, in the WebDataset layout.

A shard is fetched, checked, decoded and kept as a cache entry of its own, so that a set of any size passes through
bounded memory, a killed build goes on with the shards not yet done, and a set larger than the disk is the same thing
with the oldest entries dropped.

    <cache>/shards/<key>/          pixels.npy and meta.json of one shard, as in `frugan.data.cache`
                   <key>.json      what is known of it: names, labels, kinds of images; stays when the pixels go
    <cache>/streams/…              the same for sets that are kept within a limit

`index.json` beside the shards, which `frugan data shard` writes, spares the first pass over all of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from frugan.command_line import command
from frugan.data import remote
from frugan.data.cache import (
    FORMAT,
    CachedPixels,
    NothingReadable,
    build_entry,
    headers,
    load_entry,
    scratch_folder,
)
from frugan.data.decode import Header
from frugan.data.files import Progress, in_threads
from frugan.data.plan import PixelConfig, Plan, make_plan
from frugan.data.sources import SUFFIXES, Tar
from frugan.data.stats import highest
from frugan.data.values import LARGEST
from frugan.errors import FruganError, shown
from frugan.files import parse_json, read_json

INDEX = "index.json"
INDEX_FORMAT = 1
MOST_INDEX = 256 << 20  # bytes: names and labels of some five million images
AT_ONCE = 4  # shards fetched at a time
GIVE_UP_AFTER = 8  # shards lost in a row: then it is the network or the address, not the shards


class ShardLost(FruganError):
    """A shard that cannot be had, and why; the set goes on without it."""


class Kind(NamedTuple):
    """One sort of image in a shard, and the first image of it."""

    name: str
    height: int
    width: int
    channels: int
    depth: int


@dataclass(frozen=True)
class Facts:
    """What is known of a shard without its pixels: readable images by name, their labels as written, kinds of images.

    `highest`: the highest colour value, as 16 bits hold it; None where it is not known.
    """

    names: list[str]
    labels: list[Any]
    kinds: list[Kind]
    sha256: str
    skipped: list[tuple[str, str]]
    highest: int | None = None


@dataclass(frozen=True)
class Shard:
    """Where a shard is, what its server says of its version, and what is known of it from before."""

    url: str
    version: dict[str, Any]
    facts: Facts | None = None

    @property
    def stem(self) -> str:
        return PurePosixPath(self.url).stem


def is_shards(path: str | Path) -> bool:
    """Whether a path means shards: a URL, a pattern that ends in .tar, a .txt list, a folder that holds .tar files only.

    A single tar on this disk is a set like a zip.
    """
    path = str(path)
    if "://" in path or path.lower().endswith((".tar", ".txt")):
        return not Path(path).expanduser().is_file() or path.lower().endswith(".txt")
    here = Path(path).expanduser()
    if not here.is_dir():
        return False
    suffixes = {entry.suffix.lower() for entry in here.iterdir()}
    return ".tar" in suffixes and not suffixes & set(SUFFIXES)


def locate(path: str, without: Sequence[str], root: Path) -> tuple[list[Shard], list[tuple[str, str]]]:
    """The shards that a path names, with what is known of each; and (url, reason) of those that cannot be reached."""
    urls = remote.find(path)
    indexed = read_index(remote.parent(urls[0]))

    def look(url: str) -> Shard | str:
        if (shard := indexed.get(url)) is not None:
            return shard
        try:
            shard = Shard(url, remote.version(url))
        except FruganError:
            raise
        except Exception as error:
            return remote.reason(error, url)
        return Shard(url, shard.version, _read_facts(_facts_file(root, shard)))

    wanted = [url for url in urls if url not in without]
    found, lost = sort_out(wanted, in_threads(look, wanted, AT_ONCE))
    return found, [(url, "left out") for url in urls if url in without] + lost


def sort_out(urls: Sequence[str], results: Iterable[Any]) -> tuple[list[Any], list[tuple[str, str]]]:
    """Results, and (url, reason) where the result is a reason. Raises `FruganError` where too many in a row are lost."""
    found, lost, streak = [], [], 0
    for url, result in zip(urls, results):
        if not isinstance(result, str):
            found.append(result)
            streak = 0
            continue
        lost.append((url, result))
        streak += 1
        if streak >= GIVE_UP_AFTER:
            raise FruganError(
                f"{streak} shards in a row cannot be had, the last is {url} ({result}); check address, network and "
                "access, then run the same command again: the shards already read are kept"
            )
    return found, lost


class Store:
    """Decoded shards on this disk. All get one plan, from `kinds` or from the first shard that is read."""

    def __init__(self, root: Path, config: PixelConfig, kinds: Sequence[Kind], limit: int | None = None) -> None:
        """While shards are surveyed, only those stay on disk that fit within `limit` bytes.

        Pixels are held as stored: the range of values in use is known only when all shards are.
        """
        self.root, self.config, self.limit = root, replace(config, value_range="full"), limit
        self._first = list(kinds)
        self.planned = _planned(config, kinds) if kinds else None
        self._kept = 0
        root.mkdir(parents=True, exist_ok=True)

    @property
    def plan(self) -> Plan:
        assert self.planned is not None, "a shard has been read"
        return self.planned

    def bytes_of(self, shards: Sequence[Shard]) -> int:
        """What surveyed shards take when decoded."""
        images = sum(len(shard.facts.names) for shard in shards if shard.facts)
        return images * math.prod(self.plan.resolution) * self.plan.channels * self.plan.depth // 8

    def folder(self, shard: Shard) -> Path:
        """Where the decoded shard lies, or would."""
        return self.root / _hash([FORMAT, shard.url, shard.version, asdict(self.config), asdict(self.plan)])

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

    def _build(self, shard: Shard) -> Facts:
        expected = shard.facts.sha256 if shard.facts else None
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
                source = Tar(file)
                labels = dict(zip(source.names, source.labels()))
            except FruganError as error:
                raise ShardLost(str(error).replace(f"{file}", shard.stem)) from error
            heads = headers(source)
            kinds = kinds_of((f"{shard.stem}/{name}", head) for name, head in zip(source.names, heads))
            if not kinds:
                raise ShardLost("holds no images that can be read")
            self._settle(kinds)
            try:
                build_entry(self.folder(shard), source, self.config, lambda done: None, self.plan)
            except NothingReadable as error:
                raise ShardLost("holds no images that can be read") from error
        entry = load_entry(self.folder(shard), 1)
        if entry is None:
            raise ShardLost(f"its decoded images in {self.folder(shard)} were damaged at once")
        found = [labels[name] for name in entry.names]
        facts = Facts(entry.names, found, kinds, sha256, entry.skipped, highest(entry.stats.values, 16))
        _write_json(_facts_file(self.root, shard), facts)
        return facts

    def _settle(self, kinds: list[Kind]) -> None:
        """Makes the plan from these images, or raises `FruganError` where they do not fit the one there is."""
        plan = _planned(self.config, self._first + kinds)
        if self.planned is None:
            self.planned, self._first = plan, kinds
        elif plan.depth > self.planned.depth:
            deep = max(kinds, key=lambda kind: kind.depth)
            raise FruganError(
                f"{deep.name} has {deep.depth} bits per channel, the images of the shards before it {self.planned.depth}; "
                f"name its shard first in a .txt list, or write the set anew with {command('data', 'shard')}"
            )


def survey(store: Store, shards: Sequence[Shard], progress: Progress) -> tuple[list[Shard], list[tuple[str, str]]]:
    """Reads the shards, some at once, into the store; those that cannot be had are told apart."""

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


def read_index(folder: str) -> dict[str, Shard]:
    """The shards by URL that an index.json of ours lists; nothing where there is none."""
    content = remote.read(f"{folder}/{INDEX}", MOST_INDEX)
    try:
        index = parse_json(content or b"{}")
        if not isinstance(index, dict) or index.get("frugan_shards") != INDEX_FORMAT:
            return {}
        found = {}
        for row in index["shards"]:
            _check_row(row)
            kinds = [Kind(*kind) for kind in row["kinds"]]
            facts = Facts(row["names"], row["labels"], kinds, row["sha256"], [], _known_highest(row))
            shard = Shard(f"{folder}/{row['file']}", {"size": row["bytes"], "sha256": row["sha256"]}, facts)
            if not facts.names or len(facts.names) != len(facts.labels):
                raise ValueError(f"{row['file']} has {len(facts.names)} names and {len(facts.labels)} labels")
            found[shard.url] = shard
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise FruganError(
            f"{folder}/{INDEX} is damaged ({shown(error)}); write it anew, or remove it to have the shards read"
        ) from error


def _known_highest(row: dict[str, Any]) -> int | None:
    """The highest value that a line of index.json tells; the first ones had none."""
    value = row.get("highest")
    if value is not None and not (isinstance(value, int) and 0 <= value <= LARGEST):
        raise ValueError(f"{row['file']} has the highest value {value!r}")
    return value


def _check_row(row: Any) -> None:
    """Raises `ValueError` unless a line of index.json has all its fields, each of its own type and in range."""
    kinds, size = row["kinds"], row["bytes"]
    whole = lambda value, low, high: type(value) is int and low <= value <= high  # noqa: E731
    sound = (
        all(isinstance(row[key], str) for key in ("file", "sha256"))
        and "/" not in row["file"]
        and all(isinstance(row[key], list) for key in ("names", "labels", "kinds"))
        and all(isinstance(name, str) for name in row["names"])
        and whole(size, 0, 1 << 50)
        and bool(kinds)
    )
    for kind in kinds if sound else ():
        name, height, width, channels, depth = kind
        sizes = whole(height, 1, 1 << 20) and whole(width, 1, 1 << 20) and whole(channels, 1, 4)
        sound = sound and isinstance(name, str) and sizes and type(depth) is int and depth in (8, 16)
    if not sound:
        raise ValueError(f"the entry of {shown(row.get('file'))} has a field that is not what it should be")


def index_row(tar: Path, facts: Facts) -> dict[str, Any]:
    """A shard's line of index.json."""
    row = asdict(facts)
    del row["skipped"]
    return {"file": tar.name, "bytes": tar.stat().st_size, **row}


def _planned(config: PixelConfig, kinds: Sequence[Kind]) -> Plan:
    heads = [Header(k.height, k.width, k.channels, cast(Any, k.depth), "", "") for k in kinds]
    return make_plan(config, [kind.name for kind in kinds], heads)


def kinds_of(pairs: Iterable[tuple[str, Header | str]]) -> list[Kind]:
    """The distinct kinds among (name, header) pairs; what has no header counts as none."""
    kinds: dict[tuple[int, ...], Kind] = {}
    for name, head in pairs:
        if isinstance(head, Header):
            shape = (head.height, head.width, head.channels, head.depth)
            kinds.setdefault(shape, Kind(name, *shape))
    return list(kinds.values())


def _facts_file(root: Path, shard: Shard) -> Path:
    return root / f"{_hash([FORMAT, shard.url, shard.version])}.json"


def _read_facts(file: Path) -> Facts | None:
    try:
        facts = read_json(file, MOST_INDEX)
        _check_row({"file": "", "bytes": 0, **facts})
        facts["kinds"] = [Kind(*kind) for kind in facts["kinds"]]
        facts["skipped"] = [(name, reason) for name, reason in facts["skipped"]]
        return Facts(**facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_json(file: Path, facts: Facts) -> None:
    scratch = file.with_name(f"{uuid.uuid4().hex}.part")
    scratch.write_text(json.dumps(asdict(facts)), "utf-8")
    os.replace(scratch, file)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
