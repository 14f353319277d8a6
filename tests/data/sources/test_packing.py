"""Packed blocks: honest ones of every packer are read, and those that unpack to far more are refused within bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.checksum32 import CRC32C
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from frugan.data import DataConfig, open_dataset
from frugan.data.sources.packing import PACKERS, check_block, limit_of
from frugan.errors import FruganError

CODECS: dict[str, Any] = {
    "blosc": numcodecs.Blosc(),
    "lz4": numcodecs.LZ4(),
    "zstd": numcodecs.Zstd(),
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
}


def test_every_packer_is_looked_through() -> None:
    assert set(CODECS) == set(PACKERS)


@pytest.mark.parametrize("packer", PACKERS)
@settings(deadline=None, max_examples=20)
@given(st.integers(2, 1 << 16), st.booleans(), st.integers(0, 3))
def test_the_limit_is_that_of_the_unpacked_size(packer: str, size: int, zeros: bool, checksum: int) -> None:
    content = np.zeros(size, np.uint8) if zeros else np.random.default_rng(0).integers(0, 256, size, np.uint8)
    data = bytes(CODECS[packer].encode(content))
    check_block(packer, data, size)
    if packer in ("zlib", "gzip", "bz2"):
        check_block(packer, data + b"\xff" * checksum, size)  # as Fletcher's checksum behind it
    with pytest.raises(ValueError, match="unpacks to more"):
        check_block(packer, data, size - 1)


@pytest.mark.parametrize("packer", ["gzip", "bz2", "lzma"])
def test_streams_behind_one_another_count_together(packer: str) -> None:
    data = bytes(CODECS[packer].encode(bytes(1000))) * 3
    check_block(packer, data, 3000)
    with pytest.raises(ValueError, match="unpacks to more"):
        check_block(packer, data, 2999)


@pytest.mark.parametrize("packer", PACKERS)
def test_memory_stays_within_the_limit(packer: str) -> None:
    data = bytes(CODECS[packer].encode(bytes(1 << 27)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to more"):
        check_block(packer, data, 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24


@pytest.mark.parametrize("packer", PACKERS)
def test_damaged_blocks_are_left_to_their_unpacker(packer: str) -> None:
    data = bytes(CODECS[packer].encode(np.arange(1000, dtype=np.uint16)))
    for content in (b"", data[: len(data) // 2]):
        check_block(packer, content, 2000)


IMAGES = np.random.default_rng(0).integers(0, 255, (5, 12, 16, 3), dtype=np.uint8)
LAYOUTS: dict[str, dict[str, Any]] = {
    "blosc": {"compressors": BloscCodec()},
    "zstd with a checksum behind": {"compressors": [ZstdCodec(), Crc32cCodec()]},
    "gzip": {"compressors": GzipCodec()},
    "as they are": {"compressors": None},
    "shards": {"chunks": (1, 12, 16, 3), "shards": (2, 12, 16, 3)},
    "shards of many": {"chunks": (1, 4, 8, 3), "shards": (5, 12, 16, 3), "compressors": GzipCodec()},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_honest_arrays_are_read(name: str, tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w").create_array("images", data=IMAGES, **LAYOUTS[name])
    found = open_dataset(DataConfig(str(tmp_path / "a.zarr"), resolution=(12, 16)), cache_dir=tmp_path / "cache")
    assert found.skipped == []
    assert np.array_equal(found.pixels, IMAGES)


def test_a_block_in_a_shard_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    """The last inner block of each shard is replaced, and the index says so."""
    options: dict[str, Any] = {
        "chunks": (1, 12, 16, 3),
        "shards": (5, 12, 16, 3),
        "compressors": GzipCodec(),
    }
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w").create_array("images", data=IMAGES, **options)
    (block,) = (tmp_path / "a.zarr/images/c").rglob("0/0/0/0")
    content, bomb = block.read_bytes(), bytes(numcodecs.GZip().encode(bytes(1 << 26)))
    index = np.frombuffer(content, "<u8", 10, len(content) - 84).reshape(-1, 2).copy()
    body = content[: len(content) - 84]
    index[4] = len(body), len(bomb)
    packed = index.tobytes()
    checked = bytes(CRC32C(location="end").encode(packed))
    block.write_bytes(body + bomb + checked)
    with pytest.raises(FruganError, match="unpacks to more than 1,048,576"):
        open_dataset(DataConfig(str(tmp_path / "a.zarr"), resolution=(12, 16)), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}]
)
def test_honest_blocks_of_hdf5_are_read(options: dict[str, Any], tmp_path: Path) -> None:
    """Large enough that they are looked at: noise does not pack, and its blocks could unpack to more."""
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(2, 64, 64, 3), **options)
    found = open_dataset(DataConfig(str(tmp_path / "a.h5")), cache_dir=tmp_path / "cache")
    assert found.skipped == []
    assert np.array_equal(found.pixels, images)


def test_filters_behind_gzip_are_refused(tmp_path: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(IMAGES.shape)
    plan.set_deflate(1)
    plan.set_shuffle()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple(IMAGES.shape)
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, plan).write(space, space, IMAGES)
    with pytest.raises(FruganError, match="packed by gzip and then by other filters; write it with gzip last"):
        open_dataset(DataConfig(str(tmp_path / "a.h5")), cache_dir=tmp_path / "cache")


def test_numbers_that_filters_widen_have_room() -> None:
    assert limit_of(1 << 24) == 1 << 27
    assert limit_of(10) == 1 << 20
