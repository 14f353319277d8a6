"""From one encoded picture to pixels of the wanted shape.

Pixels are uint8 or uint16 arrays `[H, W, C]`; 1, 2, 3 or 4 channels of a picture are grey, grey + alpha, RGB, RGBA.
Pillow decodes; its limit against decompression bombs stays on.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

Fit = Literal["crop", "letterbox"]
Filter = Literal["lanczos", "box"]
Background = Literal["white", "black"]

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
}
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
CHANNEL_NAMES = {count: name for name, count in CHANNELS.items()}
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}

_SIXTEEN_BITS = re.compile(r"(RGB|RGBA|LA);16[BLN]")
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_ORIENTATION_TAG = 0x0112


AlphaKind = Literal["none", "straight", "associated", "key", "palette", "outside"]
ProfileUse = Literal["none", "srgb", "converted", "unusable"]


@dataclass(frozen=True)
class Header:
    """All that an image file says of itself before it is decoded; height and width as seen, after orientation."""

    height: int
    width: int
    channels: int
    depth: Literal[8, 16]
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


def open_picture(file: BinaryIO) -> Image.Image:
    return Image.open(file, formats=tuple(FORMATS))


def read_header(file: BinaryIO) -> Header:
    image = open_picture(file)
    width, height = image.size
    if _orientation(image) in _QUARTER_TURNS:
        height, width = width, height
    mode, depth = _natural(image)
    return Header(height, width, CHANNELS[mode], depth, image.format or "?", image.mode)


def read_pixels(file: BinaryIO) -> np.ndarray:
    """The first frame, upright, with its own channels: uint8, or uint16 `[H, W, C]`. Raises whatever Pillow raises."""
    image = open_picture(file)
    mode, depth = _natural(image)
    if depth == 8:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert(mode))
        return pixels if pixels.ndim == 3 else pixels[..., None]
    orientation = _orientation(image)
    pixels = _grey16(image) if mode == "L" else _colour16(image, file)
    return _upright(pixels, orientation)


def convert(pixels: np.ndarray, channels: int, background: Background = "white") -> np.ndarray:
    """Between grey, grey + alpha, RGB and RGBA; where alpha is dropped the picture is laid over the background.

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, as in Pillow).
    """
    if pixels.shape[-1] == channels:
        return pixels
    top = np.iinfo(pixels.dtype).max
    has_alpha, wants_alpha = pixels.shape[-1] in (2, 4), channels in (2, 4)
    colour, alpha = (pixels[..., :-1], pixels[..., -1:]) if has_alpha else (pixels, np.full_like(pixels[..., :1], top))
    if has_alpha and not wants_alpha:
        behind = top if background == "white" else 0
        opacity = alpha / np.float32(top)
        colour = np.rint(colour * opacity + behind * (1 - opacity)).astype(pixels.dtype)
    if channels > 2:
        colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    elif colour.shape[-1] == 3:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        colour = np.rint((colour @ weights)[..., None]).astype(pixels.dtype)
    return np.concatenate([colour, alpha], -1) if wants_alpha else np.ascontiguousarray(colour)


def resize(
    pixels: np.ndarray,
    size: tuple[int, int],
    *,
    fit: Fit = "crop",
    filter: Filter = "lanczos",
    background: Background = "white",
    alpha: bool = False,
) -> np.ndarray:
    """`[h, w, C]` → `[H, W, C]`, antialiased, aspect kept: the largest centred crop, or all of it with borders added.

    With `alpha` the last channel weighs the others, and added borders are transparent. Pixels that already have the
    wanted size are returned as they are.
    """
    (h, w), (H, W) = pixels.shape[:2], size
    if (h, w) == (H, W):
        return pixels
    if fit == "crop":
        scale = max(H / h, W / w)
        ch, cw = H / scale, W / scale
        y, x = (h - ch) / 2, (w - cw) / 2
        return _resample(pixels, size, (x, y, min(x + cw, w), min(y + ch, h)), filter, alpha)
    scale = min(H / h, W / w)
    inner = min(H, max(1, round(h * scale))), min(W, max(1, round(w * scale)))
    y, x = (H - inner[0]) // 2, (W - inner[1]) // 2
    sheet = np.zeros((H, W, pixels.shape[-1]), pixels.dtype)
    if not alpha and background == "white":
        sheet[:] = np.iinfo(pixels.dtype).max
    sheet[y : y + inner[0], x : x + inner[1]] = _resample(pixels, inner, (0, 0, w, h), filter, alpha)
    return sheet


def _resample(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float], filter: Filter, alpha: bool
) -> np.ndarray:
    width_height = (size[1], size[0])
    channels = pixels.shape[-1]
    if pixels.dtype == np.uint8 and channels in CHANNEL_NAMES and alpha == (channels in (2, 4)):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else np.ascontiguousarray(pixels))
        return np.asarray(image.resize(width_height, FILTERS[filter], box)).reshape(*size, channels)
    planes = pixels.astype(np.float32)
    if alpha:
        planes[..., :-1] *= planes[..., -1:]
    resized = np.stack(
        [
            np.asarray(Image.fromarray(np.ascontiguousarray(planes[..., i])).resize(width_height, FILTERS[filter], box))
            for i in range(channels)
        ],
        -1,
    )
    if alpha:
        opacity = resized[..., -1:]
        resized[..., :-1] = np.where(opacity >= 0.5, resized[..., :-1] / np.maximum(opacity, 0.5), 0)
    return np.rint(resized).clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # where Pillow would decode the whole picture to look for a late tag
    return image.getexif().get(_ORIENTATION_TAG, 1)


def _natural(image: Image.Image) -> tuple[str, Literal[8, 16]]:
    """The mode of `CHANNELS` that loses nothing, and the bits per channel. Raises ValueError where there is none."""
    if image.mode.startswith("I;16") or image.mode == "I":
        return "L", 16
    if image.mode == "F":
        raise ValueError("floating-point pixels; store 8 or 16 bits per channel")
    if match := _SIXTEEN_BITS.fullmatch(_raw_mode(image)):
        return match[1], 16
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return ("LA" if grey else "RGBA"), 8
    return ("L" if grey else "RGB"), 8


def _grey16(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)[..., None]
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("32-bit pixels; store 8 or 16 bits per channel")
    return pixels.astype(np.uint16)


def _colour16(image: Image.Image, file: BinaryIO) -> np.ndarray:
    """Pillow keeps the high bytes of 16-bit colour only: the low ones come from decoding with swapped byte order."""
    mode, order = _raw_mode(image).split(";16")
    if mode == "LA":  # two big-endian channels of 16 bits have the layout of four of 8
        image._mode = "RGBA"
        halves = _decode_as(image, "RGBA").astype(np.uint16)
        return halves[..., ::2] << 8 | halves[..., 1::2]
    high = np.asarray(image).astype(np.uint16)
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    file.seek(0)
    return high << 8 | _decode_as(open_picture(file), f"{mode};16{'B' if little else 'L'}")


def _decode_as(image: Image.Image, raw_mode: str) -> np.ndarray:
    vars(image)["tile"] = [
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
        for tile in vars(image)["tile"]
    ]
    return np.asarray(image)


def _raw_mode(image: Image.Image) -> str:
    tiles = vars(image).get("tile")
    args = tiles[0].args if tiles else None
    return str(args[0] if isinstance(args, tuple) and args else args)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF orientation 1 … 8: turn and mirror so that the picture stands as it was seen."""
    if orientation in _QUARTER_TURNS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
