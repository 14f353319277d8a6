"""TIFF: tifffile reads the directory and the samples; this module says what the samples mean.

A sample's declared range becomes the full range of 8 or 16 bits: v · (2ᴰ − 1) / (2ᵇ − 1), for signed ones after adding 2ᵇ⁻¹.
32-bit whole numbers are read where all of them fit into 16 bits, and then as they are. Chroma subsampling, JPEG and CCITT
compression are libtiff's, through Pillow, which is given the first directory without metadata.
"""

from __future__ import annotations

import io
import logging
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image

from frugan.data.decode.header import AlphaKind, Space, Stored, check_size
from frugan.data.decode.metadata import find_orientation

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

logging.getLogger("tifffile").addHandler(
    logging.NullHandler()
)  # what it says of odd metadata is not the user's concern

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _SEPARATED, _YCBCR = range(7)
_SPACES: dict[int, Space] = {
    _WHITE_IS_ZERO: "L",
    _BLACK_IS_ZERO: "L",
    _RGB: "RGB",
    _PALETTE: "RGB",
    _SEPARATED: "CMYK",
    _YCBCR: "RGB",
}
_REFUSED = {
    4: "a transparency mask",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "raw sensor",
    32844: "LogL",
}
_REFUSED |= {32845: "LogLuv", 34892: "linear raw"}
_CCITT_AND_JPEG = (2, 3, 4, 6, 7)
_COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000, 50001)  # none, LZW, Deflate, PackBits, LZMA, Zstandard, WebP
_UNSIGNED, _SIGNED, _FLOAT, _UNKNOWN = range(1, 5)
_ASSOCIATED, _STRAIGHT = 1, 2
_CMYK_INKS = 1
_FOR_PIXELS = (
    *range(256, 260),
    *(262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347),
    *range(512, 522),
    *range(529, 533),
)  # tags that libtiff needs to decode


@dataclass(frozen=True)
class _Layout:
    """The samples of a page: how many make a colour, which is opacity, how they are numbers."""

    photometric: int
    samples: int  # of each pixel, all told
    colours: int
    alpha_at: int | None
    bits: int
    signed: bool
    through_libtiff: bool


def open_tiff(file: BinaryIO) -> Stored:
    """The facts of the first page. Raises ValueError with the reason for a kind that is not read."""
    content = file.read()
    tiff = tifffile.TiffFile(io.BytesIO(content))
    page = tiff.pages.first
    layout, alpha = _layout(page)
    width, height = int(page.imagewidth), int(page.imagelength)
    size = layout.samples * -(-layout.bits // 8)
    check_size(width, height, size)
    if page.is_tiled:
        check_size(int(page.tilewidth), int(page.tilelength), int(page.tiledepth) * size)
    space = _SPACES[layout.photometric]
    tag, xmp = page.tags.valueof(274), page.tags.valueof(700)
    turned = int(tag) if isinstance(tag, int) and 1 <= tag <= 8 else find_orientation(None, _as_bytes(xmp))
    return Stored(
        height,
        width,
        space,
        layout.bits,
        "TIFF",
        _mode(layout, space, alpha),
        lambda: _read(content, page, layout, space, alpha),
        alpha=alpha,
        orientation=turned,
        frames=_count_pages(tiff),
        profile=_as_bytes(page.tags.valueof(34675)),
        extra_samples=layout.samples - layout.colours - (layout.alpha_at is not None),
    )


def _layout(page: tifffile.TiffPage) -> tuple[_Layout, AlphaKind]:
    compression, bits, format = int(page.compression), page.bitspersample, page.sampleformat
    samples = int(page.samplesperpixel)
    if compression not in _COMPRESSIONS + _CCITT_AND_JPEG:
        raise ValueError(f"a TIFF of the compression {page.compression!s}; store it with LZW, Deflate or none")
    photometric = int(page.photometric)
    if 262 not in page.tags and compression not in _CCITT_AND_JPEG:
        photometric = _RGB if samples > 2 else _BLACK_IS_ZERO  # as libtiff guesses
    if photometric not in _SPACES or (photometric == _SEPARATED and page.tags.valueof(332, 1) != _CMYK_INKS):
        raise ValueError(
            f"a TIFF of {_REFUSED.get(photometric, 'inks other than CMYK')} pixels; store grey, RGB or CMYK"
        )
    if page.imagedepth != 1:
        raise ValueError(f"a TIFF of {page.imagedepth} layers; store one image a page")
    if not isinstance(bits, int) or format not in (_UNSIGNED, _SIGNED, _UNKNOWN):
        kind = "floating-point pixels" if format == _FLOAT else f"samples of {bits} bits and format {format}"
        raise ValueError(f"{kind}; store 8 or 16 bits per channel")
    if not (1 <= bits <= 16 or bits == 32):
        raise ValueError(f"{bits}-bit pixels; store 8 or 16 bits per channel")
    colours = 1 if photometric == _PALETTE else {"L": 1, "RGB": 3, "CMYK": 4}[_SPACES[photometric]]
    kinds = [int(kind) for kind in page.extrasamples][: samples - colours]
    if samples == colours + 1 and not kinds and photometric in (_RGB, _YCBCR):
        kinds = [_STRAIGHT]  # undeclared, but there is nothing else that it could be
    if samples < colours or (photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples > 2 and not any(kinds)):
        raise ValueError(
            f"a TIFF of {samples} samples, of which {colours} have a meaning; store grey, RGB or a .npy file"
        )
    extra = next((i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _STRAIGHT)), None)
    alpha: AlphaKind = "none" if extra is None else "associated" if kinds[extra] == _ASSOCIATED else "straight"
    through_libtiff = compression in _CCITT_AND_JPEG or photometric == _YCBCR
    at = None if extra is None else colours + extra
    return _Layout(photometric, samples, colours, at, bits, format == _SIGNED, through_libtiff), alpha


def _mode(layout: _Layout, space: Space, alpha: AlphaKind) -> str:
    """In Pillow's words."""
    name = {_PALETTE: "P", _YCBCR: "YCbCr"}.get(layout.photometric, space)
    if alpha != "none":
        return name + ("a" if alpha == "associated" else "A")
    if name == "L" and layout.bits in (1, 16, 32):
        return {1: "1", 16: "I;16", 32: "I"}[layout.bits]
    return name


def _count_pages(tiff: tifffile.TiffFile) -> int:
    try:
        return max(1, len(tiff.pages))
    except Exception:  # a later page is damaged, which is no reason to lose the first
        return 1


def _as_bytes(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, bytes | tuple) else None


def _read(content: bytes, page: tifffile.TiffPage, layout: _Layout, space: Space, alpha: AlphaKind) -> np.ndarray:
    if layout.through_libtiff:
        return _through_libtiff(content, page, space, alpha)
    _check_segments(content, page)
    if page.compression in (1, 32773):
        page.predictor = tifffile.PREDICTOR.NONE  # which belongs to other compressions
    stored = page.asarray(squeeze=False, maxworkers=1)  # [planes, 1, h, w, 1] or [1, 1, h, w, samples]
    samples = np.moveaxis(stored[:, 0], 0, -1).reshape(*page.shaped[2:4], layout.samples)
    samples = samples.astype(np.uint8) if samples.dtype == bool else samples
    colours = _full_range(samples[..., : layout.colours], layout)
    if layout.photometric == _PALETTE:
        colours = _palette(page)[samples[..., 0]]
    elif layout.photometric == _WHITE_IS_ZERO:
        colours = np.iinfo(colours.dtype).max - colours
    if layout.alpha_at is None:
        return colours
    opacity = _full_range(samples[..., layout.alpha_at : layout.alpha_at + 1], layout)
    if alpha == "associated":
        colours = _divided(colours, opacity)
    return np.concatenate([colours, opacity], -1)


def _check_segments(content: bytes, page: tifffile.TiffPage) -> None:
    """Raises where a strip or tile is missing or leaves the file: what is not there must not be read as black."""
    offsets, sizes = page.dataoffsets, page.databytecounts
    if not offsets or not len(offsets) == len(sizes) >= np.prod(page.chunked):
        raise ValueError("a TIFF without a list of its strips or tiles")
    for offset, size in zip(offsets, sizes):
        if offset < 1 or size < 1 or offset + size > len(content):
            raise ValueError(f"a TIFF cut short: {size:,} bytes at {offset:,} of {len(content):,}")


def _full_range(samples: np.ndarray, layout: _Layout) -> np.ndarray:
    """Samples of any declared range as uint8 or uint16 over the full range of that type."""
    bits, low = layout.bits, 0
    if bits == 32:
        low, high = int(samples.min()), int(samples.max())
        if low < 0 or high > 65535:
            raise ValueError(f"32-bit pixels from {low:,} to {high:,}; store 8 or 16 bits per channel")
        return samples.astype(np.uint16)
    if layout.signed:
        samples = samples.astype(np.int32) + (1 << bits - 1)
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    if bits in (8, 16):
        return samples.astype(dtype)
    steps = np.arange(1 << bits) * (np.iinfo(dtype).max / ((1 << bits) - 1))
    return np.rint(steps).astype(dtype)[samples]


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """uint8 `[colours, 3]`. Entries have 16 bits; where none exceeds 255 they were written with 8."""
    table = np.asarray(page.tags.valueof(320), np.uint16).reshape(3, -1).T
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8)


def _divided(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by their opacity, as they were before; black where nothing is seen."""
    top = np.iinfo(colours.dtype).max
    straight = colours.astype(np.int64) * top // np.maximum(opacity, 1)
    return np.where(opacity > 0, straight.clip(0, top), 0).astype(colours.dtype)


def _through_libtiff(content: bytes, page: tifffile.TiffPage, space: Space, alpha: AlphaKind) -> np.ndarray:
    image = Image.open(io.BytesIO(_first_directory_alone(content, page)), formats=("TIFF",))
    pixels = np.asarray(image.convert(space if alpha == "none" else f"{space}A"))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _first_directory_alone(content: bytes, page: tifffile.TiffPage) -> bytes:
    """The file with one more directory at its end, which its head then points to: only tags that pixels need, no orientation."""
    order, big = page.parent.byteorder, page.parent.is_bigtiff
    count, offset, entry, pointer = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
    tags = sorted((tag for tag in page.tags if tag.code in _FOR_PIXELS), key=lambda tag: tag.code)
    entries = b"".join(content[tag.offset : tag.offset + entry] for tag in tags)
    directory = struct.pack(f"{order}{count}", len(tags)) + entries + struct.pack(f"{order}{offset}", 0)
    at = struct.pack(f"{order}{offset}", len(content))
    return content[:pointer] + at + content[pointer + len(at) :] + directory
