"""Image files → `Header` and pixels, both from the same facts."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import UnidentifiedImageError

from frugan.data.decode import jpeg, png, tiff
from frugan.data.decode.colour import Profile, read_profile, to_srgb
from frugan.data.decode.header import Header, Stored
from frugan.data.decode.metadata import QUARTER_TURNS, upright
from frugan.data.decode.plain import open_plain

BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
}
"""The first brand of an ISO media file, which tells images from films."""


def read_header(file: BinaryIO) -> Header:
    """Facts of the first image of a file. Raises anything at all where the file is broken or of a kind that is not read."""
    stored = open_image(file)
    return _header(stored, read_profile(stored.profile, stored.space))


def read_pixels(file: BinaryIO) -> np.ndarray:
    """The first image of a file, upright, in sRGB, with its own channels: uint8 or uint16 `[H, W, C]`, as its header says.

    Raises anything at all where the file is broken or of a kind that is not read.
    """
    stored = open_image(file)
    profile = read_profile(stored.profile, stored.space)
    pixels = stored.read()
    if stored.alpha == "none":
        pixels = to_srgb(pixels, stored.space, profile)
    else:
        pixels = np.concatenate([to_srgb(pixels[..., :-1], stored.space, profile), pixels[..., -1:]], -1)
    pixels = upright(pixels, stored.orientation)
    header = _header(stored, profile)
    if pixels.shape != (header.height, header.width, header.channels) or 8 * pixels.dtype.itemsize != header.depth:
        raise ValueError(f"pixels {pixels.shape} of {pixels.dtype} where the file's header says {header}")
    return pixels


def open_image(file: BinaryIO) -> Stored:
    """The facts of a file, whatever its name: the first bytes decide the format."""
    start = file.read(12)
    file.seek(0)
    if start.startswith(png.SIGNATURE):
        return png.open_png(file)
    if start.startswith(jpeg.SIGNATURE):
        return jpeg.open_jpeg(file)
    if start.startswith(tiff.SIGNATURES):
        return tiff.open_tiff(file)
    for signature, format in ((b"RIFF", "WEBP"), (b"GIF8", "GIF"), (b"BM", "BMP")):
        if start.startswith(signature):
            return open_plain(file, format)
    if start[4:8] == b"ftyp" and start[8:12] in BRANDS:
        return open_plain(file, BRANDS[start[8:12]])
    raise UnidentifiedImageError("no image in a known format")


def _header(stored: Stored, profile: Profile) -> Header:
    height, width = stored.height, stored.width
    if stored.orientation in QUARTER_TURNS:
        height, width = width, height
    return Header(
        height,
        width,
        (1 if stored.space == "L" else 3) + (stored.alpha != "none"),
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
    )
