"""Locating of shards: a path → the shards that it names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from frugan.data.shards import remote
from frugan.data.shards.index import Shard, facts_file, read_facts, read_index
from frugan.data.sources.base import SUFFIXES
from frugan.data.sources.declared import Declaration
from frugan.data.workers import in_threads
from frugan.errors import FruganError

AT_ONCE = 4  # shards fetched at a time
GIVE_UP_AFTER = 8  # shards lost in a row: then it is the network or the address, not the shards


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


def locate(
    urls: Sequence[str], without: Sequence[str], root: Path, declared: Declaration
) -> tuple[list[Shard], list[tuple[str, str]]]:
    """The shards, with what is known of each; and (url, reason) of those that cannot be reached.

    Args:
        urls: as `remote.find` finds them.
        without: those that are left out.
        root: the cache, which remembers the shards' contents.
        declared: of their channels.
    """
    indexed = read_index(remote.parent(urls[0]), declared.masks)

    def look(url: str) -> Shard | str:
        if (shard := indexed.get(url)) is not None and shard.facts:
            return shard
        try:
            shard = shard or Shard(url, remote.version(url))
        except FruganError:
            raise
        except Exception as error:
            return remote.reason(error, url)
        return Shard(url, shard.version, read_facts(facts_file(root, shard, declared.key)))

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
