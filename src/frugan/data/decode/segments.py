"""Strips and tiles of a TIFF that are encoded images: JPEG 2000, JPEG XL, JPEG XR, LERC, PNG.

Each has a size of its own. It is decoded into an array of the size that the TIFF states, so that one of another size is refused
before it takes memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import tifffile

from frugan.data.decode.samples import Content

LERC, JPEG_2000 = 34887, 34712
CODECS: dict[int, Callable[..., np.ndarray]] = {
    JPEG_2000: imagecodecs.jpeg2k_decode,
    33004: imagecodecs.jpeg2k_decode,
    33005: imagecodecs.jpeg2k_decode,
    34933: imagecodecs.png_decode,
    34934: imagecodecs.jpegxr_decode,
    50002: imagecodecs.jpegxl_decode,
}
"""Decoders by the number of the compression; LERC has its own way."""

COMPRESSIONS = (LERC, *CODECS)

_JP2, _CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_LERC_PARAMETERS = 50674  # version, what packs the blobs
_UNPACK = {1: imagecodecs.zlib_decode, 2: imagecodecs.zstd_decode}
_SLACK = 1 << 16  # bytes of a blob of LERC beside its numbers


def read_segments(content: Content, page: tifffile.TiffPage) -> np.ndarray:
    """All samples of a page, as `TiffPage.asarray(squeeze=False)` shapes them: `[planes, 1, h, w, samples]`.

    Raises `ValueError` where a strip or tile has another size, or samples of another type, than the page, and where LERC has pixels
    without data.
    """
    assert page.dtype is not None
    stored = np.empty(page.shaped, page.dtype)
    for index, (offset, size) in enumerate(zip(page.dataoffsets, page.databytecounts)):
        _, (plane, _, top, left, _), shape = page.decode(None, index)
        out = np.empty(shape[1:] if shape[3] > 1 else shape[1:3], page.dtype)
        try:
            _decode(content[offset : offset + size], page, out)
        except _Refused:
            raise
        except Exception as error:
            raise ValueError(
                f"a strip or tile that is damaged, or no {out.shape[0]}x{out.shape[1]} pixels of {page.dtype}: {error}"
            ) from error
        place = stored[plane, 0, top : top + shape[1], left : left + shape[2]]
        place[:] = out.reshape(shape[1:])[: place.shape[0], : place.shape[1]]
    return stored


class _Refused(ValueError):
    """A reason in words of our own."""


def _decode(data: bytes, page: tifffile.TiffPage, out: np.ndarray) -> None:
    compression = int(page.compression)
    if compression == LERC:
        _decode_lerc(data, page.tags.valueof(_LERC_PARAMETERS, (0, 0)), out)
        return
    decode = CODECS[compression]
    if decode is imagecodecs.jpeg2k_decode:  # which looks at `out` only after decoding
        check_jpeg_2000(data, out.shape[0], out.shape[1])
    decode(data, out=out)


def _decode_lerc(data: bytes, parameters: object, out: np.ndarray) -> None:
    packing = parameters[1] if isinstance(parameters, tuple) and len(parameters) > 1 else 0
    if packing in _UNPACK:
        data = bytes(_UNPACK[packing](data, out=out.nbytes + _SLACK))
    _, known = imagecodecs.lerc_decode(data, masks=True, out=out)
    if known is not None and not np.all(known):
        raise _Refused(f"{int(np.sum(known == 0)):,} pixels without data; crop them away, or fill them")


def check_jpeg_2000(data: bytes, height: int, width: int) -> None:
    """Raises `ValueError` where a JPEG 2000 image has another size than its file's header says, before a decoder allocates it.

    Args:
        data: a codestream, or a JP2 file.
        height, width: in pixels, by the header.
    """
    at = _codestream(data)
    right, bottom, left, top = struct.unpack_from(">4L", data.ljust(at + 24, b"\0"), at + 8) if at >= 0 else (0,) * 4
    if (bottom - top, right - left) != (height, width):
        raise ValueError(f"a frame of {bottom - top}x{right - left} pixels where the header says {height}x{width}")


def _codestream(data: bytes) -> int:
    """The offset of the codestream, by itself or in the boxes of a JP2 file; -1 where there is none."""
    at = 0
    if data.startswith(_JP2):
        while data[at + 4 : at + 8] != b"jp2c":
            length = int.from_bytes(data[at : at + 4], "big")
            if length < 8 or at + length >= len(data):
                return -1
            at += length
        at += 16 if data[at : at + 4] == b"\0\0\0\1" else 8
    return at if data[at : at + 4] == _CODESTREAM else -1
