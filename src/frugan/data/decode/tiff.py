"""TIFF: tifffile reads directories and samples; this module says what they mean: colours, bands, pages that are images or channels.

An unsigned sample's declared range becomes the full range of 8 or 16 bits: v · (2ᴰ − 1) / (2ᵇ − 1), that of a signed one of
neither 8 nor 16 bits after adding 2ᵇ⁻¹. Other numbers (signed, of 32 or 64 bits, floating-point) are read as they are. Chroma
subsampling, JPEG and CCITT compression are libtiff's, through Pillow, which is given the first directory without metadata.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, Literal, get_args

import numpy as np
import tifffile
from PIL import Image

from frugan.data.decode import segments
from frugan.data.decode.channel_names import names_of_pages, names_of_samples
from frugan.data.decode.header import AlphaKind, Space, Stored, check_frames, check_size, cut_short
from frugan.data.decode.metadata import find_orientation
from frugan.data.decode.samples import Content, full_range, mapped
from frugan.pixel_format import NumberType

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
_MOST_CHANNELS = 4096
_REDUCED = 1  # bit of the kind of a page that is a smaller copy of another one
_NO_DATA = 42113  # GDAL's tag: the value of pixels that are not known
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
    colours: int  # those read beside opacity: all, where they are bands
    alpha_at: int | None
    bits: int
    signed: bool
    through_libtiff: bool
    number_type: NumberType | Literal[""]


def open_tiff(file: BinaryIO, *, pages_are_channels: bool = False) -> Stored:
    """The facts of the first page, or of all pages as channels of one image. Raises ValueError for a kind that is not read."""
    content = file.read()
    tiff = tifffile.TiffFile(io.BytesIO(content), _multifile=False)
    if pages_are_channels:
        if len(tiff.pages) > _MOST_CHANNELS:
            raise ValueError(f"{len(tiff.pages):,} pages, which are too many channels; the limit is {_MOST_CHANNELS:,}")
        pages = [_stored(content, tiff, page) for _, page in _full_pages(tiff)]
        return _stacked(pages, names_of_pages(tiff, len(pages)))
    return replace(_stored(content, tiff, tiff.pages.first), frames=_count_pages(tiff))


class Pages:
    """Pages as images, smaller copies left out. Where OME or ImageJ says that pages are channels, those of an image are joined."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises ValueError with the reason for a kind that is not read."""
        self._content = mapped(file)
        file.seek(0)
        self._tiff = tifffile.TiffFile(file, _multifile=False)
        self._lock = threading.Lock()
        first = self._tiff.pages.first
        check_frames(len(self._tiff.pages), int(first.imagewidth), int(first.imagelength))
        self._pages = np.array(
            [number for number, _ in _full_pages(self._tiff)], np.intp
        )  # a page itself takes kilobytes
        self._groups = _channels_of(self._tiff, len(self._pages)) or [(number,) for number in range(len(self._pages))]
        self.count = len(self._groups)
        self.lost = "" if _ends(self._content, self._tiff) else cut_short(self.count)
        self._names = names_of_pages(self._tiff, len(self._groups[0])) if len(self._groups[0]) > 1 else ()

    def stored(self, number: int) -> Stored:
        with self._lock:
            numbers = self._pages[list(self._groups[number])].tolist()
            pages = [_stored(self._content, self._tiff, self._tiff.pages[i].aspage()) for i in numbers]
            found = pages[0] if len(pages) == 1 else _stacked(pages, self._names)
        return replace(found, read=partial(self._read, found), frames=1)

    def _read(self, stored: Stored) -> np.ndarray:
        with self._lock:  # pages share one place in the file
            return stored.read()


def _ends(content: Content, tiff: tifffile.TiffFile) -> bool:
    """Whether the last page that is read says that no other follows it."""
    form = tiff.tiff
    at = tiff.pages[-1].aspage().offset
    (tags,) = struct.unpack_from(form.tagnoformat, content, at)
    at += form.tagnosize + tags * form.tagsize
    return not any(content[at : at + form.offsetsize])


def _full_pages(tiff: tifffile.TiffFile) -> Iterator[tuple[int, tifffile.TiffPage]]:
    """Pages with their numbers, without those that are smaller copies of others."""
    for number, page in enumerate(tiff.pages):
        page = page.aspage()
        kind = page.tags.valueof(254, 0)
        if not (isinstance(kind, int) and kind & _REDUCED):
            yield number, page


def _channels_of(tiff: tifffile.TiffFile, count: int) -> list[tuple[int, ...]] | None:
    """The pages of each image, where the file names an axis of channels among its pages."""
    if not (tiff.is_imagej or tiff.is_ome):
        return None
    series = tiff.series[0]
    outer = [(axis, size) for axis, size in zip(series.axes, series.shape) if axis not in "YXS"]
    axes, shape = [axis for axis, _ in outer], [size for _, size in outer]
    if "C" not in axes:
        return None
    if math.prod(shape) != count:
        raise ValueError(f"{series.axes} of shape {series.shape} in {count} pages; write a page for each plane")
    order = np.moveaxis(np.arange(count).reshape(shape), axes.index("C"), -1)
    return [tuple(row) for row in order.reshape(-1, order.shape[-1]).tolist()]


def _stacked(pages: Sequence[Stored], names: tuple[str, ...]) -> Stored:
    """Pages of one size and depth as the channels of one image, with their names, if any."""
    first = pages[0]
    odd = next((i for i, page in enumerate(pages) if _kind(page) != _kind(first)), None)
    if odd is not None:
        raise ValueError(
            f"pages cannot be channels: page {odd} has {_named(pages[odd])}, the first one {_named(first)}; store them alike"
        )
    channels = len(pages) * first.channels
    check_size(first.width, first.height, channels * first.depth // 8)
    return replace(
        first,
        space="bands",
        bands=channels,
        alpha="none",
        profile=None,
        channel_names=names if len(names) == channels else (),
        read=lambda: np.concatenate([page.read() for page in pages], -1),
    )


def _kind(page: Stored) -> tuple[int, ...]:
    return page.height, page.width, page.channels, page.bits, page.orientation


def _named(page: Stored) -> str:
    return f"{page.height}x{page.width} pixels of {page.channels} channels of {page.bits} bits"


def _stored(content: Content, tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Stored:
    layout, space, alpha = _layout(page, geographic=bool(tiff.is_geotiff))
    width, height = int(page.imagewidth), int(page.imagelength)
    size = layout.samples * -(-layout.bits // 8)
    check_size(width, height, size)
    if page.is_tiled:
        check_size(int(page.tilewidth), int(page.tilelength), int(page.tiledepth) * size)
    tag, xmp = page.tags.valueof(274), page.tags.valueof(700)
    turned = int(tag) if isinstance(tag, int) and 1 <= tag <= 8 else find_orientation(None, _as_bytes(xmp))
    found = Stored(
        height,
        width,
        space,
        layout.bits,
        "TIFF",
        _mode(layout, space, alpha),
        lambda: _read(content, page, layout, space, alpha),
        alpha=alpha,
        orientation=turned,
        profile=None if space == "bands" else _as_bytes(page.tags.valueof(34675)),
        extra_samples=layout.samples - layout.colours - (layout.alpha_at is not None),
        bands=layout.colours if space == "bands" else 0,
        number_type=layout.number_type,
    )
    alike = found.channels == layout.samples  # as many are read as there are
    return replace(found, channel_names=names_of_samples(page, found.channels, alpha=alpha != "none") if alike else ())


def _photometric(page: tifffile.TiffPage, compression: int) -> int:
    """The meaning of samples, a key of `_SPACES`. Raises `ValueError` where it is none of these."""
    photometric = int(page.photometric)
    if 262 not in page.tags and compression not in _CCITT_AND_JPEG:
        photometric = _RGB if page.samplesperpixel > 2 else _BLACK_IS_ZERO  # as libtiff guesses
    if photometric not in _SPACES or (photometric == _SEPARATED and page.tags.valueof(332, 1) != _CMYK_INKS):
        raise ValueError(
            f"a TIFF of {_REFUSED.get(photometric, 'inks other than CMYK')} pixels; store grey, RGB or CMYK"
        )
    return photometric


def _layout(page: tifffile.TiffPage, *, geographic: bool) -> tuple[_Layout, Space, AlphaKind]:
    compression, bits, format = int(page.compression), page.bitspersample, page.sampleformat
    samples = int(page.samplesperpixel)
    if compression not in (*_COMPRESSIONS, *_CCITT_AND_JPEG, *segments.COMPRESSIONS):
        known = {int(kind): kind.name for kind in tifffile.COMPRESSION}
        raise ValueError(
            f"a TIFF of the compression {known.get(compression, compression)}; store it with LZW, Deflate or none"
        )
    photometric = _photometric(page, compression)
    if page.imagedepth != 1:
        raise ValueError(f"a TIFF of {page.imagedepth} layers; store one image a page")
    number_type = _number_type(bits, format, page)
    colours = 1 if photometric == _PALETTE else {"L": 1, "RGB": 3, "CMYK": 4}.get(_SPACES[photometric], 0)
    kinds = [int(kind) for kind in page.extrasamples][: samples - colours]
    if samples == colours + 1 and not kinds and photometric in (_RGB, _YCBCR):
        kinds = [_STRAIGHT]  # undeclared, but there is nothing else that it could be
    if samples < colours:
        raise ValueError(f"a TIFF of {samples} samples, where its colours need {colours}")
    if photometric == _YCBCR and compression in segments.COMPRESSIONS:
        raise ValueError(
            f"a TIFF of YCbCr pixels with the compression {tifffile.COMPRESSION(compression).name}; store RGB"
        )
    if number_type and photometric not in (_BLACK_IS_ZERO, _RGB):
        raise ValueError(f"{number_type} samples of other colours than grey or RGB; store them as grey")
    if (number_type and samples > colours) or _are_bands(photometric, samples - colours, kinds, geographic=geographic):
        return (
            _Layout(photometric, samples, samples, None, bits, format == _SIGNED, False, number_type),
            "bands",
            "none",
        )
    extra = next((i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _STRAIGHT)), None)
    alpha: AlphaKind = "none" if extra is None else "associated" if kinds[extra] == _ASSOCIATED else "straight"
    through_libtiff = compression in _CCITT_AND_JPEG or photometric == _YCBCR
    at = None if extra is None else colours + extra
    layout = _Layout(photometric, samples, colours, at, bits, format == _SIGNED, through_libtiff, number_type)
    return layout, _SPACES[photometric], alpha


def _number_type(bits: object, format: object, page: tifffile.TiffPage) -> NumberType | Literal[""]:
    """The type of samples that are read as they are; "" where their declared range is stretched."""
    if isinstance(bits, int) and format in (_UNSIGNED, _SIGNED, _UNKNOWN) and 1 <= bits <= 16:
        return {8: "int8", 16: "int16"}.get(bits, "") if format == _SIGNED else ""  # pyright: ignore[reportReturnType]
    found = str(page.dtype)
    if found not in get_args(NumberType):
        raise ValueError(f"samples of {bits} bits and format {format}; store 8, 16, 32 or 64 bits per channel")
    return found  # pyright: ignore[reportReturnType]


def _are_bands(photometric: int, extra: int, kinds: Sequence[int], *, geographic: bool) -> bool:
    """Whether samples are measurements rather than colours: beside grey, or several beside RGB, none of them opacity."""
    if extra == 0 or any(kinds):
        return False
    return photometric == _BLACK_IS_ZERO or (photometric == _RGB and (extra > 1 or geographic))


def _mode(layout: _Layout, space: Space, alpha: AlphaKind) -> str:
    """The layout by Pillow's name."""
    name = {_PALETTE: "P", _YCBCR: "YCbCr"}.get(layout.photometric, space)
    if alpha != "none":
        return name + ("a" if alpha == "associated" else "A")
    if layout.number_type:
        return layout.number_type
    if name == "L" and layout.bits in (1, 16):
        return {1: "1", 16: "I;16"}[layout.bits]
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


def _read(content: Content, page: tifffile.TiffPage, layout: _Layout, space: Space, alpha: AlphaKind) -> np.ndarray:
    if layout.through_libtiff:
        return _through_libtiff(content, page, space, alpha)
    _check_segments(content, page)
    if page.compression in (1, 32773):
        page.predictor = tifffile.PREDICTOR.NONE  # which belongs to other compressions
    if page.compression in segments.COMPRESSIONS:
        stored = segments.read_segments(content, page)
    else:
        stored = page.asarray(squeeze=False, maxworkers=1)  # [planes, 1, h, w, 1] or [1, 1, h, w, samples]
    samples = np.moveaxis(stored[:, 0], 0, -1).reshape(*page.shaped[2:4], layout.samples)
    samples = samples.astype(np.uint8) if samples.dtype == bool else samples
    _refuse_missing(samples, page)
    if layout.number_type:
        return samples.astype(layout.number_type)
    colours = full_range(samples[..., : layout.colours], layout.bits, signed=layout.signed)
    if layout.photometric == _PALETTE:
        colours = _palette(page)[samples[..., 0]]
    elif layout.photometric == _WHITE_IS_ZERO:
        colours = np.iinfo(colours.dtype).max - colours
    if layout.alpha_at is None:
        return colours
    opacity = full_range(samples[..., layout.alpha_at : layout.alpha_at + 1], layout.bits, signed=layout.signed)
    if alpha == "associated":
        colours = _divided(colours, opacity)
    return np.concatenate([colours, opacity], -1)


def _refuse_missing(samples: np.ndarray, page: tifffile.TiffPage) -> None:
    """Raises where pixels have the value that GDAL's tag gives to those that are not known."""
    text = page.tags.valueof(_NO_DATA)
    if not isinstance(text, str):
        return
    try:
        unknown = int((samples == float(text.strip("\0 "))).all(-1).sum())
    except (ValueError, OverflowError):
        return
    if unknown:
        raise ValueError(
            f"{unknown:,} pixels without data (GDAL_NODATA {text[:20].strip()}); crop them away, or fill them and remove the tag"
        )


def _check_segments(content: Content, page: tifffile.TiffPage) -> None:
    """Raises where a strip or tile is missing or leaves the file: what is not there must not be read as black."""
    offsets, sizes = page.dataoffsets, page.databytecounts
    if not offsets or not len(offsets) == len(sizes) >= np.prod(page.chunked):
        raise ValueError("a TIFF without a list of its strips or tiles")
    for offset, size in zip(offsets, sizes):
        if offset < 1 or size < 1 or offset + size > len(content):
            raise ValueError(f"a TIFF cut short: {size:,} bytes at {offset:,} of {len(content):,}")


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """uint8 `[colours, 3]`. Entries have 16 bits; where none exceeds 255 they were written with 8."""
    table = np.asarray(page.tags.valueof(320), np.uint16).reshape(3, -1).T
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8)


def _divided(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by their opacity, as they were before; black where nothing is seen."""
    top = np.iinfo(colours.dtype).max
    straight = colours.astype(np.int64) * top // np.maximum(opacity, 1)
    return np.where(opacity > 0, straight.clip(0, top), 0).astype(colours.dtype)


def _through_libtiff(content: Content, page: tifffile.TiffPage, space: Space, alpha: AlphaKind) -> np.ndarray:
    image = Image.open(io.BytesIO(_first_directory_alone(content, page)), formats=("TIFF",))
    pixels = np.asarray(image.convert(space if alpha == "none" else f"{space}A"))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _first_directory_alone(content: Content, page: tifffile.TiffPage) -> bytes:
    """The file with one more directory at its end, which its head then points to: only tags that pixels need, no orientation."""
    order, big = page.parent.byteorder, page.parent.is_bigtiff
    count, offset, entry, pointer = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
    tags = sorted((tag for tag in page.tags if tag.code in _FOR_PIXELS), key=lambda tag: tag.code)
    entries = b"".join(content[tag.offset : tag.offset + entry] for tag in tags)
    directory = struct.pack(f"{order}{count}", len(tags)) + entries + struct.pack(f"{order}{offset}", 0)
    at = struct.pack(f"{order}{offset}", len(content))
    return content[:pointer] + at + content[pointer + len(at) :] + directory
