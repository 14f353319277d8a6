"""Channels and sizes: pixels `[h, w, C]` of one image → the channels and the size that are wanted.

1, 2, 3 or 4 channels are grey, grey + alpha, RGB, RGBA.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from frugan.channels import CHANNEL_NAMES, has_alpha
from frugan.pixel_format import full_value

Fit = Literal["crop", "letterbox"]
Filter = Literal["lanczos", "box"]
MaskFilter = Literal["nearest", "smooth"]
"""How masks are resized and moved: values stay what they are, or are filtered as those of images."""
Background = Literal["white", "black"]

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


def convert(pixels: np.ndarray, channels: int, background: Background = "white") -> np.ndarray:
    """Pixels with another number of channels: grey, grey + alpha, RGB and RGBA into one another.

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, as in Pillow).

    Args:
        pixels: uint8 or uint16 `[h, w, C]`.
        channels: 1 to 4.
        background: that the image is laid on where alpha is dropped.
    """
    if pixels.shape[-1] == channels:
        return pixels
    top = full_value(pixels.dtype)
    with_alpha, wants_alpha = has_alpha(pixels.shape[-1]), has_alpha(channels)
    colour, alpha = (pixels[..., :-1], pixels[..., -1:]) if with_alpha else (pixels, np.full_like(pixels[..., :1], top))
    if with_alpha and not wants_alpha:
        behind = top if background == "white" else 0
        opacity = alpha / np.float32(top)
        colour = _of_type(colour * opacity + behind * (1 - opacity), pixels.dtype)
    if channels > 2:
        colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    elif colour.shape[-1] == 3:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        colour = _of_type((colour @ weights)[..., None], pixels.dtype)
    return np.concatenate([colour, alpha], -1) if wants_alpha else np.ascontiguousarray(colour)


def resize(
    pixels: np.ndarray,
    size: tuple[int, int],
    *,
    fit: Fit = "crop",
    filter: Filter | Literal["nearest"] = "lanczos",
    background: Background = "white",
    alpha: bool = False,
) -> np.ndarray:
    """Pixels `[h, w, C]` resized to `[H, W, C]`, antialiased, with the aspect ratio kept. Those of that size already
    are returned unchanged.

    Args:
        pixels: uint8 or uint16.
        size: (H, W).
        fit: "crop" takes the largest centred crop, "letterbox" all of the image with borders added.
        filter: of the resampling.
        background: colour of added borders.
        alpha: whether the last channel is opacity: it weights the others, and added borders are transparent.
    """
    h, w = pixels.shape[:2]
    H, W = size
    if (h, w) == (H, W):
        return pixels
    if fit == "crop":
        scale = max(H / h, W / w)
        ch, cw = H / scale, W / scale
        y, bottom = _centred(h, ch)
        x, right = _centred(w, cw)
        return _resample(pixels, size, (x, y, right, bottom), filter, alpha)
    scale = min(H / h, W / w)
    inner = min(H, max(1, round(h * scale))), min(W, max(1, round(w * scale)))
    y, x = (H - inner[0]) // 2, (W - inner[1]) // 2
    sheet = np.zeros((H, W, pixels.shape[-1]), pixels.dtype)
    if not alpha and background == "white":
        sheet[:] = full_value(pixels.dtype)
    sheet[y : y + inner[0], x : x + inner[1]] = _resample(pixels, inner, (0, 0, w, h), filter, alpha)
    return sheet


def _centred(length: int, kept: float) -> tuple[float, float]:
    """The begin and end of the centred part of a side: never outside, whatever the rounding."""
    begin = max(0.0, (length - kept) / 2)
    return begin, min(begin + kept, length)


def _resample(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float], filter: str, alpha: bool
) -> np.ndarray:
    width_height = (size[1], size[0])
    channels = pixels.shape[-1]
    if pixels.dtype == np.uint8 and channels in CHANNEL_NAMES and alpha == has_alpha(channels):
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
    return _of_type(resized, pixels.dtype)


def _of_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float values as held numbers of a type: clipped, and rounded where these are whole."""
    values = values.clip(0, full_value(dtype))
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)
