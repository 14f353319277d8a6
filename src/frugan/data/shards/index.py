"""Facts of shards without their pixels: from index.json beside them, or kept from an earlier reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from frugan.channels import MOST_VALUES, has_alpha
from frugan.data.cache import FORMAT
from frugan.data.decode import Header
from frugan.data.shards import remote
from frugan.data.sources.declared import MOST_CHANNELS, are_names
from frugan.data.sources.masks import MaskValues
from frugan.data.values import LARGEST
from frugan.errors import FruganError, shown
from frugan.files import parse_json, read_json, write_text
from frugan.pixel_format import is_plain

INDEX = "index.json"
INDEX_FORMAT = 1
MOST_INDEX = 256 << 20  # bytes: names and labels of some five million images


class Kind(NamedTuple):
    """One sort of image in a shard, and the first image of it."""

    name: str
    height: int
    width: int
    channels: int
    depth: int
    bands: bool = False
    """Whether the last of two or four channels is no opacity."""
    channel_names: tuple[str, ...] = ()
    opaque: bool = False
    """Whether there is opacity, and it is full in all these images; the first index.json did not tell."""


@dataclass(frozen=True)
class ShardFacts:
    """A shard without its pixels: its readable images by name, their labels as written, kinds of images.

    `highest`: the highest colour value, as 16 bits hold it; None where it is not known. `masks`: the values in the last channels
    of the images, where these were declared as masks; `kinds` and `highest` are without them.
    """

    names: list[str]
    labels: list[Any]
    kinds: list[Kind]
    sha256: str
    skipped: list[tuple[str, str]]
    highest: int | None = None
    masks: MaskValues | None = None


@dataclass(frozen=True)
class Shard:
    """A shard's address, its version as the server gives it, and what is known of its content."""

    url: str
    version: dict[str, Any]
    facts: ShardFacts | None = None

    @property
    def stem(self) -> str:
        return PurePosixPath(self.url).stem


def facts_of(shard: Shard) -> Any:
    assert shard.facts is not None, "surveyed"
    return shard.facts


def read_index(folder: str, masks: int = 0) -> dict[str, Shard]:
    """The shards by URL that an index.json of ours lists; nothing where there is none.

    Facts of other mask channels than the last `masks` are left out: they were counted for another declaration.
    """
    content = remote.read(f"{folder}/{INDEX}", MOST_INDEX)
    try:
        index = parse_json(content or b"{}")
        if not isinstance(index, dict) or index.get("frugan_shards") != INDEX_FORMAT:
            return {}
        found = {}
        for row in index["shards"]:
            _check_row(row)
            seen = _mask_values(row)
            facts = ShardFacts(row["names"], row["labels"], _kinds(row), row["sha256"], [], _known_highest(row), seen)
            if not facts.names or len(facts.names) != len(facts.labels):
                raise ValueError(f"{row['file']} has {len(facts.names)} names and {len(facts.labels)} labels")
            known = facts if masks == (len(seen.codes) if seen else 0) else None
            shard = Shard(f"{folder}/{row['file']}", {"size": row["bytes"], "sha256": row["sha256"]}, known)
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


def _kinds(row: dict[str, Any]) -> list[Kind]:
    return [Kind(*kind[:6], *map(tuple, kind[6:7]), *kind[7:]) for kind in row["kinds"]]


def _mask_values(row: dict[str, Any]) -> MaskValues | None:
    """The values of masks that a line of index.json tells, if any."""
    if row.get("masks") is None:
        return None
    codes, depth = row["masks"]
    sound = isinstance(codes, list) and 1 <= len(codes) < MOST_CHANNELS and type(depth) is int and depth in (8, 16)
    for known in codes if sound else ():
        whole = isinstance(known, list) and all(type(code) is int and 0 <= code < 1 << depth for code in known)
        sound = sound and whole and 1 <= len(known) <= MOST_VALUES and known == sorted({*known})
    if not sound:
        raise ValueError(f"the entry of {shown(row.get('file'))} has values of masks that cannot be")
    return MaskValues(tuple(map(tuple, codes)), depth)


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
        name, height, width, channels, depth, bands, called, opaque = (*kind, *(False, [], False)[len(kind) - 5 :])
        sizes = whole(height, 1, 1 << 20) and whole(width, 1, 1 << 20) and whole(channels, 1, MOST_CHANNELS)
        sound = sound and isinstance(name, str) and sizes and type(depth) is int and depth in (8, 16)
        sound = sound and type(bands) is type(opaque) is bool and isinstance(called, list) and are_names(called)
    if not sound:
        raise ValueError(f"the entry of {shown(row.get('file'))} has a field that is not what it should be")


def index_row(tar: Path, facts: ShardFacts) -> dict[str, Any]:
    """A shard's line of index.json."""
    row = asdict(facts)
    del row["skipped"]
    return {"file": tar.name, "bytes": tar.stat().st_size, **row}


def kinds_of(images: Iterable[tuple[str, Header | str, bool]]) -> list[Kind]:
    """The distinct kinds among images by (name, header, whether their opacity is full); what has no header counts as none."""
    kinds: dict[tuple[Any, ...], Kind] = {}
    for name, head, opaque in images:
        if isinstance(head, Header):
            check_plain(name, head)
            bands = has_alpha(head.channels) and head.alpha == "none"
            shape = (head.height, head.width, head.channels, head.depth, bands, head.channel_names, opaque)
            kinds.setdefault(shape, Kind(name, *shape))
    return list(kinds.values())


def check_plain(name: str, header: Header) -> None:
    """Raises `FruganError` for an image of other numbers than shards hold."""
    if not is_plain(header.dtype):
        raise FruganError(
            f"{shown(name)} holds {header.dtype} numbers; shards hold images of 8 or 16 bits: train on the files themselves"
        )


def facts_file(root: Path, shard: Shard, declared: str = "") -> Path:
    """The file of the cache `root` that keeps the facts of a shard, read as is `declared` (see `Declaration.key`)."""
    return root / f"{hash_of([FORMAT, shard.url, shard.version, *([declared] if declared else [])])}.json"


def read_facts(file: Path) -> ShardFacts | None:
    try:
        facts = read_json(file, MOST_INDEX)
        _check_row({"file": "", "bytes": 0, **facts})
        facts["kinds"], facts["masks"] = _kinds(facts), _mask_values(facts)
        facts["skipped"] = [(name, reason) for name, reason in facts["skipped"]]
        return ShardFacts(**facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_facts(file: Path, facts: ShardFacts) -> None:
    write_text(file, json.dumps(asdict(facts)), durable=False)


def hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
