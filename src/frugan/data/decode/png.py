"""PNG: chunks are walked for facts; libpng is given those that pixels need, so that text and odd metadata cost nothing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from frugan.data.decode.header import AlphaKind, Space, Stored, check_size
from frugan.data.decode.metadata import find_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_FACTS = (b"IHDR", b"tRNS", b"sBIT", b"iCCP", b"eXIf", b"acTL")
_TEXTS = {b"tEXt": 0, b"zTXt": 1, b"iTXt": None}  # bytes between the keyword and the text
_XMP = b"XML:com.adobe.xmp"
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")  # as ImageMagick wrote before there was eXIf
_LONGEST = 1 << 24  # bytes of a profile or of metadata, unpacked
_KINDS: dict[int, tuple[Space, AlphaKind, str]] = {
    0: ("L", "none", "L"),
    2: ("RGB", "none", "RGB"),
    3: ("RGB", "none", "P"),
    4: ("L", "straight", "LA"),
    6: ("RGB", "straight", "RGBA"),
}


def open_png(file: BinaryIO) -> Stored:
    """The facts of a PNG; of an animated one those of the image that programs without animation show."""
    chunks = _facts(file)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise ValueError("a PNG without a header")
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    check_size(width, height)
    if colour_type not in _KINDS:
        raise ValueError(f"a PNG of the unknown colour type {colour_type}")
    space, alpha, mode = _KINDS[colour_type]
    if mode == "L":
        mode = {1: "1", 16: "I;16"}.get(bits, mode)
    if b"tRNS" in chunks and alpha == "none":
        alpha = "palette" if mode == "P" else "key"
    significant = max(chunks.get(b"sBIT", b""), default=bits)
    exif = chunks.get(b"eXIf") or next((_from_hex(chunks[key]) for key in _RAW_EXIF if key in chunks), None)
    frames = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    return Stored(
        height,
        width,
        space,
        significant if 8 < significant < bits else bits,
        "PNG",
        mode,
        lambda: _read(file, through_pillow=bool(interlaced) and bits < 16 and alpha != "key"),
        alpha=alpha,
        orientation=find_orientation(exif, chunks.get(_XMP)),
        frames=max(1, frames),
        profile=(_unpack(chunks[b"iCCP"].partition(b"\0")[2][1:]) or b"") if b"iCCP" in chunks else None,
    )


def _walk(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(kind, length) of each chunk, with the file at the beginning of its content; ends where the file does."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        after = file.tell() + length + 4
        yield kind, length
        if kind == b"IEND":
            return
        file.seek(after)


def _facts(file: BinaryIO) -> dict[bytes, bytes]:
    """Contents by chunk kind, and of texts by keyword; the first of each, before or behind the pixels."""
    found: dict[bytes, bytes] = {}
    for kind, length in _walk(file):
        if kind in _FACTS:
            found.setdefault(kind, file.read(min(length, _LONGEST)))
        elif length > _LONGEST:
            continue
        elif kind in _TEXTS:
            keyword, _, text = file.read(length).partition(b"\0")
            if keyword == _XMP or keyword in _RAW_EXIF:
                found.setdefault(keyword, _text(kind, text) or b"")
    return found


def _text(kind: bytes, content: bytes) -> bytes | None:
    """The unpacked text after the keyword of a tEXt, zTXt or iTXt chunk."""
    if kind == b"tEXt":
        return content
    if kind == b"zTXt":
        return _unpack(content[1:])
    packed, text = content[:1] == b"\1", content[2:].split(b"\0", 2)[-1]
    return _unpack(text) if packed else text


def _unpack(content: bytes) -> bytes | None:
    """None where that is damaged or takes more than the limit."""
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(content, _LONGEST)
    except zlib.error:
        return None
    return None if unpacking.unconsumed_tail else text


def _from_hex(text: bytes) -> bytes | None:
    """EXIF written as a name, a length and hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return None


def _read(file: BinaryIO, *, through_pillow: bool) -> np.ndarray:
    """`[h, w, C]` as libpng expands it: palettes, colour keys, 1, 2 and 4 bits.

    Pillow decodes interlaced images as well and, unlike imagecodecs, without a warning on the terminal.
    """
    parts = [SIGNATURE]
    for kind, length in _walk(file):
        if kind in _NEEDED:
            parts += [struct.pack(">I4s", length, kind), file.read(length + 4)]
    if through_pillow:
        image = Image.open(io.BytesIO(b"".join(parts)), formats=("PNG",))
        grey, clear = image.mode in ("1", "L", "LA"), image.has_transparency_data
        pixels = np.asarray(image.convert(("L" if grey else "RGB") + ("A" if clear else "")))
        return pixels if pixels.ndim == 3 else pixels[..., None]
    try:
        pixels = imagecodecs.png_decode(b"".join(parts))
    except imagecodecs.PngError as error:
        reason = "the image is truncated" if "too small" in str(error) else "the image is damaged"
        raise ValueError(f"{reason} ({error})") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]
