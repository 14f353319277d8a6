"""Image files → `Header` and pixels, both from the same facts."""

from __future__ import annotations

from typing import BinaryIO, Protocol

import numpy as np
from PIL import UnidentifiedImageError

from frugan.data.decode import dicom, jpeg, png, tiff
from frugan.data.decode.animation import Animation
from frugan.data.decode.colour import Profile, read_profile, to_srgb
from frugan.data.decode.header import Header, Stored
from frugan.data.decode.metadata import QUARTER_TURNS, upright
from frugan.data.decode.plain import open_plain

BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
}
"""The first brand of an ISO media file, which tells images from films."""

_ANIMATED = {b"RIFF": "WEBP", b"GIF8": "GIF"}


class Frames(Protocol):
    """Images of one file, by number. `stored` may be asked by several threads at once."""

    count: int
    lost: str  # why there are no more, where the file is known to have held some; or ""

    def stored(self, number: int) -> Stored: ...


def read_header(file: BinaryIO, *, pages_are_channels: bool = False) -> Header:
    """Facts of the first image of a file. Raises anything at all where the file is broken or of a kind that is not read."""
    return header_of(open_image(file, pages_are_channels=pages_are_channels))


def read_pixels(file: BinaryIO, *, pages_are_channels: bool = False) -> np.ndarray:
    """The first image of a file, upright, in sRGB, with its own channels: `[H, W, C]` of the type that its header says.

    Raises anything at all where the file is broken or of a kind that is not read.
    """
    return pixels_of(open_image(file, pages_are_channels=pages_are_channels))


def header_of(stored: Stored) -> Header:
    return _header(stored, read_profile(stored.profile, stored.space))


def pixels_of(stored: Stored) -> np.ndarray:
    """As `read_pixels`."""
    profile = read_profile(stored.profile, stored.space)
    pixels = stored.read()
    if stored.alpha == "none":
        pixels = to_srgb(pixels, stored.space, profile)
    else:
        pixels = np.concatenate([to_srgb(pixels[..., :-1], stored.space, profile), pixels[..., -1:]], -1)
    pixels = upright(pixels, stored.orientation)
    header = _header(stored, profile)
    if pixels.shape != (header.height, header.width, header.channels) or pixels.dtype != header.dtype:
        raise ValueError(f"pixels {pixels.shape} of {pixels.dtype} where the file's header says {header}")
    return pixels


def open_frames(file: BinaryIO) -> Frames | None:
    """The images of a file, where it is of a format that may hold several. Raises anything at all where it is broken."""
    start = _start(file)
    if start[128:] == dicom.SIGNATURE:  # first: the bytes before it may begin as a TIFF does
        return dicom.Dicom(file)
    if start.startswith(tiff.SIGNATURES):
        return tiff.Pages(file)
    if start.startswith(png.SIGNATURE):
        return Animation(file, "PNG") if png.open_png(file).frames > 1 else None
    format = next((format for signature, format in _ANIMATED.items() if start.startswith(signature)), None)
    if start[4:12] == b"ftypavis":
        format = "AVIF"
    return Animation(file, format) if format else None


def open_image(file: BinaryIO, *, pages_are_channels: bool = False) -> Stored:
    """The facts of a file, whatever its name: the first bytes decide the format.

    `pages_are_channels`: all pages of a TIFF are channels of one image, instead of the first being the image.
    """
    start = _start(file)
    if start[128:] == dicom.SIGNATURE:
        return dicom.open_dicom(file)
    if start.startswith(png.SIGNATURE):
        return png.open_png(file)
    if start.startswith(jpeg.SIGNATURE):
        return jpeg.open_jpeg(file)
    if start.startswith(tiff.SIGNATURES):
        return tiff.open_tiff(file, pages_are_channels=pages_are_channels)
    for signature, format in ((b"RIFF", "WEBP"), (b"GIF8", "GIF"), (b"BM", "BMP")):
        if start.startswith(signature):
            return open_plain(file, format)
    if start[4:8] == b"ftyp" and start[8:12] in BRANDS:
        return open_plain(file, BRANDS[start[8:12]])
    raise UnidentifiedImageError("no image in a known format")


def _start(file: BinaryIO) -> bytes:
    start = file.read(132)
    file.seek(0)
    return start


def _header(stored: Stored, profile: Profile) -> Header:
    height, width = stored.height, stored.width
    if stored.orientation in QUARTER_TURNS:
        height, width = width, height
    return Header(
        height,
        width,
        stored.channels,
        stored.depth,
        stored.format,
        stored.mode,
        orientation=stored.orientation,
        bits=stored.bits,
        alpha=stored.alpha,
        frames=stored.frames,
        profile=profile.name,
        profile_use=profile.use,
        extra_samples=stored.extra_samples,
        number_type=stored.number_type,
        channel_names=stored.channel_names,
    )
