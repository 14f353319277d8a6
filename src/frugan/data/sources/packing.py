"""Packed blocks of arrays that would unpack to far more than the block that they stand for, found before they are unpacked."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs

PACKERS = ("blosc", "lz4", "zstd", "zlib", "gzip", "bz2", "lzma")
_STEP = 1 << 20  # bytes unpacked at a time
_ROOM = 1 << 26  # of memory for an unpacker's own tables
_SIZE_AT = {"blosc": 4, "lz4": 0}  # where the unpacked size stands in a block

_STREAMS: dict[str, Callable[[], Any]] = {
    "zlib": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),  # of either header
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lambda: lzma.LZMADecompressor(memlimit=_ROOM),
}


def limit_of(size: int) -> int:
    """The most bytes that a block of so many may unpack to: filters before packing may widen numbers."""
    return max(_STEP, 8 * size)


def check_block(packer: str, data: bytes, limit: int) -> None:
    """Raises `ValueError` where a block unpacks to more than `limit` bytes. Memory stays within that, whatever the block holds.

    Args:
        packer: one of `PACKERS`.
        data: the block; where it is damaged, that is left to be found by unpacking.
        limit: bytes.
    """
    if packer in _SIZE_AT:
        at = _SIZE_AT[packer]
        within = int.from_bytes(data[at : at + 4], "little") <= limit
    elif packer == "zstd":
        within = _zstd_within(data, limit)
    else:
        within = _stream_within(_STREAMS[packer], data, limit)
    if not within:
        raise ValueError(
            f"a block of {len(data):,} bytes that unpacks to more than {limit:,}, its size several times over"
        )


def _zstd_within(data: bytes, limit: int) -> bool:
    try:
        imagecodecs.zstd_decode(data, out=limit)
    except imagecodecs.ZstdError as error:
        return "too small" not in str(error)
    return True


def _stream_within(begin: Callable[[], Any], data: bytes, limit: int) -> bool:
    """Whether all streams of a block, one behind the other, unpack to `limit` bytes at most."""
    total = 0
    try:
        while data:
            unpacker = begin()
            while not unpacker.eof:
                part = unpacker.decompress(data, _STEP)
                data = getattr(unpacker, "unconsumed_tail", b"")  # the others keep what they have not unpacked
                total += len(part)
                if total > limit:
                    return False
                if not part and not data:
                    return True  # cut short
            data = unpacker.unused_data
    except lzma.LZMAError as error:
        return "memory" not in str(error).lower()
    except (zlib.error, OSError, EOFError):  # a checksum behind the stream, or damage
        pass
    return True
