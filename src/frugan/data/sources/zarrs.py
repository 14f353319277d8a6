"""Zarr folders, read by zarr: an array of images, perhaps one of labels. Codecs are looked at first: some run what they unpack."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from frugan.data.sources.parts import NoImages
from frugan.data.sources.stacks import Stack, find_arrays
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


class Zarr(Stack):
    """The images of a Zarr folder, of version 2 or 3."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise NoImages
        try:
            import zarr
        except ImportError:
            raise ValueError("Zarr needs a reader: pip install 'frugan[zarr]'") from None
        arrays = _arrays(path)
        images, labels = find_arrays(arrays)
        opened = {name: zarr.open_array(str(path / name), mode="r") for name in (images, labels) if name is not None}
        array = opened[images]
        _check_chunks(path / images, arrays[images])
        super().__init__(
            array,
            lambda number: np.asarray(array[...] if array.ndim == 2 else array[number]),
            np.asarray(opened[labels][...]) if labels and arrays[labels].is_small else None,
            "Zarr",
        )


class _Array:
    """The metadata of an array. Raises `ValueError` for layouts that are not supported."""

    def __init__(self, path: Path, facts: Any) -> None:
        try:
            three = facts["zarr_format"] == 3
            self.shape: tuple[int, ...] = tuple(map(int, facts["shape"]))
            self.dtype = np.dtype(facts["data_type"] if three else facts["dtype"])
            grid = facts["chunk_grid"]["configuration"]["chunk_shape"] if three else facts["chunks"]
            self.chunks: tuple[int, ...] = tuple(map(int, grid))
            if three:
                codecs = list(_names(facts["codecs"]))
                if facts["chunk_grid"]["name"] != "regular" or facts.get("storage_transformers"):
                    raise ValueError("irregular blocks")
            else:
                codecs = [part["id"] for part in [facts.get("compressor"), *(facts.get("filters") or [])] if part]
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

    @property
    def is_small(self) -> bool:
        return math.prod(self.shape) * self.dtype.itemsize <= 1 << 26


def _names(codecs: Any) -> list[str]:
    """The names of all codecs, those within shards included."""
    found = []
    for codec in codecs:
        found.append(str(codec["name"]))
        inner = codec.get("configuration") or {}
        found += _names(inner.get("codecs", [])) + _names(inner.get("index_codecs", []))
    return found


def _arrays(path: Path) -> dict[str, _Array]:
    """The arrays in a folder, by path. Links that leave it are not followed."""
    found: dict[str, _Array] = {}
    top = path.resolve()
    for folder, subfolders, files in os.walk(path):
        here = Path(folder)
        subfolders[:] = sorted(name for name in subfolders if not (here / name).is_symlink())
        for name in (name for name in _METADATA if name in files):
            if not (here / name).resolve().is_relative_to(top):
                raise ValueError(f"{name} is a link to another place")
            facts = read_json(here / name, _LARGEST_METADATA)
            if name == ".zarray" or (isinstance(facts, dict) and facts.get("node_type") == "array"):
                found[here.relative_to(path).as_posix().removeprefix(".")] = _Array(here / name, facts)
                subfolders.clear()
        if len(found) > _MOST_ARRAYS:
            raise ValueError(f"more than {_MOST_ARRAYS:,} arrays; store the images in one")
    if not found:
        raise NoImages
    return found


def _check_chunks(path: Path, array: _Array) -> None:
    """Raises where blocks are missing, which would be read as black, or lie elsewhere."""
    blocks = [entry for entry in _files(path) if not entry.name.startswith((".z", "zarr.json"))]
    if any(entry.is_symlink() for entry in blocks):
        raise ValueError("blocks are links to another place; copy them")
    wanted = math.prod(-(-n // m) for n, m in zip(array.shape, array.chunks))
    if len(blocks) < wanted:
        raise ValueError(f"{len(blocks):,} of {wanted:,} blocks are there: cut short, or never written")


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
