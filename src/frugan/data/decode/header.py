"""Facts about an image file, stated in one place: what it stores, and the `Header` that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from frugan.pixel_format import NumberType

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "DICOM": (".dcm", ".dicom", ".ima"),
}

Space = Literal["L", "RGB", "CMYK", "bands"]
AlphaKind = Literal["none", "straight", "associated", "key", "palette", "outside"]
ProfileUse = Literal["none", "srgb", "converted", "unusable"]

_MOST_BYTES_A_PIXEL = 8  # RGBA of 16 bits: what Pillow's limit, a number of pixels, may take in memory
_MOST_FRAMES = 1_000_000
_MOST_PIXELS_A_FILE = 10**11  # in all frames: an hour of decoding


@dataclass(frozen=True)
class Header:
    """An image file's description of itself before it is decoded; height and width after orientation."""

    height: int
    width: int
    channels: int
    depth: int  # bits of a number: 8 or 16, 32 or 64 of other types than uint8 and uint16
    format: str
    mode: str  # as stored: "P" for a palette, "CMYK", "I;16" …
    orientation: int = 1  # EXIF numbers 1 to 8; already applied to height and width
    bits: int = 0  # per sample, as declared (12 in a depth of 16); 0 where nothing but the depth is known
    alpha: AlphaKind = (
        "none"  # how opacity is stored: a channel, premultiplied, one colour, in the palette, outside a frame
    )
    frames: int = 1  # frames or pages of the file; the first is read
    profile: str = ""  # name of the embedded colour profile
    profile_use: ProfileUse = "none"  # "srgb": its colours are sRGB already; "unusable": ignored
    extra_samples: int = 0  # channels of the file that have no declared meaning and are not read
    number_type: NumberType | Literal[""] = ""  # of the pixels; empty: unsigned whole numbers of `depth` bits
    channel_names: tuple[str, ...] = ()  # as the file calls its channels

    @property
    def dtype(self) -> NumberType:
        return self.number_type or ("uint8" if self.depth == 8 else "uint16")


@dataclass(frozen=True)
class Stored:
    """One image of a file as it is stored: before colour management and before orientation.

    `read()` decodes it: uint8 or uint16 `[height, width, C]` over the full range of the type, or numbers of `number_type` as
    they are, with the channels of `space` and, unless `alpha` is "none", straight opacity. CMYK counts ink: 0 is paper. Raises
    anything at all where the file is broken.
    """

    height: int
    width: int
    space: Space
    bits: int
    format: str
    mode: str
    read: Callable[[], np.ndarray]
    alpha: AlphaKind = "none"
    orientation: int = 1
    frames: int = 1
    profile: bytes | None = None  # ICC; empty where it cannot be read whole
    extra_samples: int = 0
    number_type: NumberType | Literal[""] = ""  # of the pixels, where that is not uint8 or uint16 by `bits`
    bands: int = 0  # channels of the space "bands", which have no meaning as colours
    channel_names: tuple[str, ...] = ()  # as the file calls them, where it has a name for each

    @property
    def channels(self) -> int:
        colours = self.bands if self.space == "bands" else 1 if self.space == "L" else 3
        return colours + (self.alpha != "none")

    @property
    def depth(self) -> int:
        if self.number_type:
            return 8 * np.dtype(self.number_type).itemsize
        return 16 if self.bits > 8 else 8


def check_size(width: int, height: int, bytes_per_pixel: int = 1) -> None:
    """Raises `ValueError` for an image without pixels, and Pillow's `DecompressionBombError` above its limit against
    decompression bombs, a number of pixels of 8 bytes.

    Args:
        width, height: in pixels, as a file claims them.
        bytes_per_pixel: of all channels together, decoded.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image of {height}x{width} pixels")
    if Image.MAX_IMAGE_PIXELS is None:
        return
    limit = 2 * Image.MAX_IMAGE_PIXELS
    if width * height > limit or width * height * bytes_per_pixel > limit * _MOST_BYTES_A_PIXEL:
        raise Image.DecompressionBombError(
            f"{height}x{width} pixels of {bytes_per_pixel} bytes, the limit is {limit:,} pixels of "
            f"{_MOST_BYTES_A_PIXEL}: could be a decompression bomb"
        )


def check_frames(count: int, width: int, height: int) -> None:
    """Raises `ValueError` where a file claims no frames, or more than the limit on a file's frames and pixels.

    Args:
        count: number of frames.
        width, height: of each, in pixels.
    """
    if count < 1:
        raise ValueError("a file of no frames")
    if count > _MOST_FRAMES or count * width * height > _MOST_PIXELS_A_FILE:
        raise ValueError(
            f"{count:,} frames of {height}x{width} pixels; the limit is {_MOST_FRAMES:,} frames and {_MOST_PIXELS_A_FILE:,} "
            "pixels a file: cut it into several"
        )


def cut_short(count: int) -> str:
    """The sentence about a file that ends, cut short or damaged, behind its frame number `count`."""
    frames = f"{count:,} {'frame' if count == 1 else 'frames'}"
    return f"is cut short or damaged behind its first {frames}: what comes before is read, the rest is lost"
