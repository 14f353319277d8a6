"""Zarr folders, read by zarr: an array of images, perhaps one of labels. Codecs are looked at first: some run what they unpack."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frugan.data.sources.packing import PACKERS, check_block, limit_of
from frugan.data.sources.parts import NoImages
from frugan.data.sources.stacks import IMAGE_KEYS, LABEL_KEYS, Stack, find_arrays
from frugan.errors import fault, shown
from frugan.files import read_json

_METADATA = ("zarr.json", ".zarray")
_LARGEST_METADATA = 1 << 20
_MOST_ARRAYS = 1000
_LARGEST_CHUNK = 1 << 28
_CODECS = (
    *(
        "bytes",
        "endian",
        "blosc",
        "zlib",
        "gzip",
        "zstd",
        "lz4",
        "bz2",
        "lzma",
        "crc32",
        "crc32c",
        "adler32",
        "shuffle",
    ),
    *("delta", "transpose", "sharding_indexed"),
)
"""That only pack numbers. The others include "pickle", which runs what a file says."""
_TEXTS = {"fixed_length_utf32": ("U", 4), "null_terminated_bytes": ("S", 1)}  # letter of NumPy, bytes a character


class Zarr(Stack):
    """The images of a Zarr folder, of version 2 or 3."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise NoImages
        try:
            import zarr
        except ImportError:
            raise ValueError("Zarr needs a reader: pip install 'frugan[zarr]'") from None
        arrays, refused = _arrays(path)
        named = [error for name, error in refused.items() if name.rpartition("/")[2] in (*IMAGE_KEYS, *LABEL_KEYS)]
        if named:
            raise named[0]
        try:
            images, labels = find_arrays(arrays)
        except NoImages as error:
            raise next(iter(refused.values()), error) from None
        opened = {name: zarr.open_array(str(path / name), mode="r") for name in (images, labels) if name is not None}
        array = opened[images]
        _check_chunks(path / images, arrays[images])
        blocks = _Blocks(path / images, arrays[images], array)

        def read(number: int) -> np.ndarray:
            blocks.check(None if array.ndim == 2 else number)
            return np.asarray(array[...] if array.ndim == 2 else array[number])

        found = None
        if labels and arrays[labels].is_small:
            _Blocks(path / labels, arrays[labels], opened[labels]).check(None)
            found = np.asarray(opened[labels][...])
        super().__init__(array, read, found, "Zarr")


class _Blocks:
    """The blocks of an array, each looked at before it is first unpacked. Not for several threads at once."""

    def __init__(self, path: Path, array: _Array, opened: Any) -> None:
        self._path, self._array, self._key = path, array, opened.metadata.encode_chunk_key
        self._seen: set[str] = set()

    def check(self, number: int | None) -> None:
        """Raises `ValueError` where a block of image `number`, or of all, would unpack to far more than its size."""
        counts = [range(-(-n // m)) for n, m in zip(self._array.shape, self._array.chunks)]
        if number is not None:
            first = number // self._array.chunks[0]
            counts[0] = range(first, first + 1)
        for place in itertools.product(*counts):
            key = self._key(place)
            if key not in self._seen and (self._path / key).is_file():
                self._array.packing.check((self._path / key).read_bytes())
                self._seen.add(key)


@dataclass(frozen=True)
class _Packing:
    """How blocks are packed: by one packer or none; as they are, or `inner` ones of a shard with an index."""

    packer: str | None
    checksum: int  # bytes behind what is packed
    size: int  # bytes of a block, unpacked
    inner: int = 0  # blocks in a shard; 0: there are no shards
    index_checksum: int = 0
    index_first: bool = False

    def check(self, data: bytes) -> None:
        if self.packer is None:
            return
        for block in self._inner(data) if self.inner else [data]:
            check_block(self.packer, block[: len(block) - self.checksum], limit_of(self.size))

    def _inner(self, data: bytes) -> Iterator[bytes]:
        size = 16 * self.inner
        at = 0 if self.index_first else len(data) - size - self.index_checksum
        if at < 0 or len(data) < size:
            raise ValueError("a shard without its index: cut short")
        for begin, length in np.frombuffer(data, "<u8", 2 * self.inner, at).reshape(-1, 2).tolist():
            if begin + length <= len(data):  # an empty one tells the highest number twice
                yield data[begin : begin + length]


def _packing_of(codecs: list[Any], shape: tuple[int, ...], itemsize: int) -> _Packing:
    """The packing that a list of codecs of version 3 describes. Raises `ValueError` for others than are looked through."""
    names = [str(codec["name"]).removeprefix("numcodecs.") for codec in codecs]
    if "sharding_indexed" in names:
        facts = codecs[0]["configuration"]
        inner_shape = tuple(map(int, facts["chunk_shape"]))
        inside = _packing_of(facts["codecs"], inner_shape, itemsize)
        index = [str(codec["name"]) for codec in facts.get("index_codecs", [{"name": "bytes"}, {"name": "crc32c"}])]
        if len(names) > 1 or inside.inner or index not in (["bytes"], ["bytes", "crc32c"]):
            raise ValueError("shards within shards, packed, or with a packed index; write plain shards")
        count = math.prod(-(-n // m) for n, m in zip(shape, inner_shape))
        first = facts.get("index_location", "end") == "start"
        return replace(inside, inner=count, index_checksum=4 * (len(index) - 1), index_first=first)
    packers = [i for i, name in enumerate(names) if name in PACKERS]
    behind = names[packers[0] + 1 :] if packers else []
    if len(packers) > 1 or behind not in ([], ["crc32c"]):
        raise ValueError(f"blocks packed by {' and then '.join(names[-3:])}; pack them once")
    return _Packing(names[packers[0]] if packers else None, 4 * len(behind), math.prod(shape) * itemsize)


class _Array:
    """The metadata of an array. Raises `ValueError` for layouts that are not supported."""

    def __init__(self, path: Path, facts: Any) -> None:
        try:
            three = facts["zarr_format"] == 3
            self.shape: tuple[int, ...] = tuple(map(int, facts["shape"]))
            self.dtype = _dtype(facts["data_type"] if three else facts["dtype"])
            grid = facts["chunk_grid"]["configuration"]["chunk_shape"] if three else facts["chunks"]
            self.chunks: tuple[int, ...] = tuple(map(int, grid))
            if three:
                codecs = list(_names(facts["codecs"]))
                packing = facts["codecs"]
                if facts["chunk_grid"]["name"] != "regular" or facts.get("storage_transformers"):
                    raise ValueError("irregular blocks")
            else:
                parts = [part for part in [*(facts.get("filters") or []), facts.get("compressor")] if part]
                codecs = [part["id"] for part in parts]
                packing = [{"name": name} for name in codecs]
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{path.name} describes no array that is read: {fault(error, 'its entries are of other types')}"
            ) from error
        if unknown := [codec for codec in codecs if str(codec).removeprefix("numcodecs.") not in _CODECS]:
            raise ValueError(f"an array packed by {shown(unknown[0])}; write it with blosc, zstd, gzip or without")
        if self.dtype.hasobject or len(self.chunks) != len(self.shape) or min(self.chunks, default=1) < 1:
            raise ValueError(f"an array of {self.dtype} in blocks of {self.chunks}; store numbers")
        if math.prod(self.chunks) * self.dtype.itemsize > _LARGEST_CHUNK:
            raise ValueError(f"blocks of {self.chunks}; the limit is {_LARGEST_CHUNK:,} bytes a block")
        try:
            self.packing = _packing_of(packing, self.chunks, self.dtype.itemsize)
        except (KeyError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
            raise ValueError(f"{path.name} describes blocks that are not read") from error

    @property
    def is_small(self) -> bool:
        return math.prod(self.shape) * self.dtype.itemsize <= 1 << 26


def _dtype(kind: Any) -> np.dtype:
    """The type of an array; version 3 describes text of a fixed length by an object. Others raise `KeyError` or `TypeError`."""
    if isinstance(kind, str):
        return np.dtype(kind)
    letter, size = _TEXTS[kind["name"]]
    return np.dtype(f"{letter}{int(kind['configuration']['length_bytes']) // size}")


def _names(codecs: Any) -> list[str]:
    """The names of all codecs, those within shards included."""
    found = []
    for codec in codecs:
        found.append(str(codec["name"]))
        inner = codec.get("configuration") or {}
        found += _names(inner.get("codecs", [])) + _names(inner.get("index_codecs", []))
    return found


def _arrays(path: Path) -> tuple[dict[str, _Array], dict[str, ValueError]]:
    """The arrays in a folder, by path, and those that are not read, with the reason. Links that leave it are not followed."""
    found: dict[str, _Array] = {}
    refused: dict[str, ValueError] = {}
    top = path.resolve()
    for folder, subfolders, files in os.walk(path):
        here = Path(folder)
        subfolders[:] = sorted(name for name in subfolders if not (here / name).is_symlink())
        for name in (name for name in _METADATA if name in files):
            if not (here / name).resolve().is_relative_to(top):
                raise ValueError(f"{name} is a link to another place")
            facts = read_json(here / name, _LARGEST_METADATA)
            if name == ".zarray" or (isinstance(facts, dict) and facts.get("node_type") == "array"):
                place = here.relative_to(path).as_posix().removeprefix(".")
                try:
                    found[place] = _Array(here / name, facts)
                except ValueError as error:
                    refused[place] = error
                subfolders.clear()
        if len(found) + len(refused) > _MOST_ARRAYS:
            raise ValueError(f"more than {_MOST_ARRAYS:,} arrays; store the images in one")
    return found, refused


def _check_chunks(path: Path, array: _Array) -> None:
    """Raises where blocks are missing, which would be read as black, or lie elsewhere."""
    blocks = [entry for entry in _files(path) if not entry.name.startswith((".z", "zarr.json"))]
    if any(entry.is_symlink() for entry in blocks):
        raise ValueError("blocks are links to another place; copy them")
    wanted = math.prod(-(-n // m) for n, m in zip(array.shape, array.chunks))
    if len(blocks) < wanted:
        raise ValueError(
            f"{len(blocks):,} of {wanted:,} blocks are there: cut short, or those of one value left out; write all of them "
            "(write_empty_chunks)"
        )


def _files(path: Path) -> list[os.DirEntry[str]]:
    found: list[os.DirEntry[str]] = []
    folders: list[str] = [str(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    found.append(entry)
    return found
