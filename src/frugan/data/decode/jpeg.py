"""JPEG: segments are walked for facts; Pillow is given those that pixels need, so that odd metadata costs nothing."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

from frugan.data.decode.header import Space, Stored, check_size
from frugan.data.decode.metadata import find_orientation

SIGNATURE = b"\xff\xd8\xff"

_START_OF_SCAN, _END = 0xDA, 0xD9
_ALONE = (0x01, *range(0xD0, 0xDA))  # markers without content
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_APP1, _APP2 = 0xE1, 0xE2
_METADATA = (*range(0xE1, 0xEE), 0xEF, 0xFE)  # APP1 to APP13, APP15, comments; APP0 (JFIF) and APP14 (Adobe) matter
_SPACES: dict[int, Space] = {1: "L", 3: "RGB", 4: "CMYK"}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ICC = b"ICC_PROFILE\0"


def open_jpeg(file: BinaryIO) -> Stored:
    """The facts of a JPEG; of several images in one file (MPO) those of the first."""
    segments = _segments(file)
    frame = next((content for marker, content in segments if marker in _FRAMES), b"")
    if len(frame) < 6:
        raise ValueError("a JPEG without a frame, or cut short")
    bits, height, width, components = frame[0], *np.frombuffer(frame, ">u2", 2, 1).tolist(), frame[5]
    check_size(width, height)
    if bits != 8 or components not in _SPACES:
        raise ValueError(f"a JPEG of {components} components of {bits} bits; store grey, RGB or CMYK of 8 bits")
    after = file.tell()

    def read() -> np.ndarray:
        file.seek(after)
        kept = (_segment(marker, content) for marker, content in segments if marker not in _METADATA)
        image = Image.open(io.BytesIO(b"\xff\xd8" + b"".join(kept) + b"\xff\xda" + file.read()), formats=("JPEG",))
        pixels = np.asarray(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    app1 = [content for marker, content in segments if marker == _APP1]
    exif = next((content for content in app1 if content.startswith(b"Exif\0")), None)
    xmp = next((content for content in app1 if content.startswith(_XMP)), None)
    space = _SPACES[components]
    return Stored(
        height,
        width,
        space,
        8,
        "JPEG",
        space,
        read,
        orientation=find_orientation(exif, xmp),
        profile=_profile([content for marker, content in segments if marker == _APP2]),
    )


def _segments(file: BinaryIO) -> list[tuple[int, bytes]]:
    """(marker, content) up to the pixels, with the file left behind the marker that begins the first scan."""
    file.seek(2)
    found: list[tuple[int, bytes]] = []
    while byte := file.read(1):
        if byte != b"\xff":
            continue  # junk between segments, which libjpeg skips too
        while byte == b"\xff":
            byte = file.read(1)
        marker = byte[0] if byte else _END
        if marker in (_START_OF_SCAN, _END):
            break
        if marker == 0 or marker in _ALONE:
            continue
        length = int.from_bytes(file.read(2), "big")
        found.append((marker, file.read(max(0, length - 2))))
    return found


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _profile(app2: list[bytes]) -> bytes | None:
    """The ICC profile, which lies in numbered parts; None where there is none, empty where parts are missing."""
    parts = {content[12]: content[14:] for content in app2 if content.startswith(_ICC) and len(content) > 14}
    counts = {content[13] for content in app2 if content.startswith(_ICC) and len(content) > 14}
    if parts and counts != {len(parts)}:
        return b""
    return b"".join(parts[number] for number in sorted(parts)) if parts else None
