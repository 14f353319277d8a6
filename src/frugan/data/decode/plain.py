"""WebP, GIF, BMP and AVIF: what Pillow states and decodes itself; HEIC with the plug-in pi-heif."""

from __future__ import annotations

from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image

from frugan.data.decode.header import AlphaKind, Space, Stored, check_size
from frugan.data.decode.metadata import find_orientation

Box = tuple[int, int, int, int]


def open_plain(file: BinaryIO, format: str) -> Stored:
    """The facts of the first frame. Raises what Pillow raises."""
    if format == "HEIF":
        _register_heif()
    image = Image.open(file, formats=(format,))
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # a later frame is damaged, which is no reason to lose the first
        frames, image = 1, Image.open(file, formats=(format,))
    width, height = image.size
    check_size(width, height)
    space: Space = "L" if image.mode in ("1", "L", "LA") else "RGB"
    alpha, drawn = _opacity(image)
    xmp = image.info.get("xmp")
    return Stored(
        height,
        width,
        space,
        8,
        format,
        image.mode,
        partial(_read, image, space, alpha, drawn),
        alpha=alpha,
        orientation=find_orientation(image.info.get("exif"), xmp if isinstance(xmp, bytes) else None),
        frames=frames,
        profile=image.info.get("icc_profile"),
    )


def _register_heif() -> None:
    """pi-heif decodes the photos of phones; it turns them upright itself, and says so in their EXIF."""
    try:
        import pi_heif
    except ImportError:
        raise ValueError("HEIC needs a decoder: pip install 'frugan[heif]', or convert it to JPEG or PNG") from None
    pi_heif.register_heif_opener()


def _opacity(image: Image.Image) -> tuple[AlphaKind, Box]:
    """The kind of alpha, and the box (left, top, right, bottom) that the first frame of a GIF draws."""
    whole = (0, 0, *image.size)
    if image.has_transparency_data:
        return ("palette" if "transparency" in image.info else "straight"), whole
    drawn = next((tile.extents or whole for tile in vars(image).get("tile", [])), whole)
    return ("outside", drawn) if image.format == "GIF" and drawn != whole else ("none", whole)


def _read(image: Image.Image, space: Space, alpha: AlphaKind, drawn: Box) -> np.ndarray:
    if alpha == "outside":
        image, left_out = image.convert(space), Image.new("L", image.size, 0)
        left_out.paste(255, drawn)
        image.putalpha(left_out)
    else:
        image = image.convert(space if alpha == "none" else f"{space}A")
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
