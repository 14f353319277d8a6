"""Pictures at the borders: pixels to numbers, numbers to pixels, and grids of them in one file.

Inside, images are float32 `[N, C, H, W]` in [-1, 1]. Only `to_float` and `to_uint8` cross that border.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

SOFTWARE_KEY = "Software"
"""The PNG text chunk by which frugan knows what it wrote: "frugan VERSION"."""

_TOP = {torch.uint8: 255, torch.uint16: 65535}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def to_float(pixels: Tensor) -> Tensor:
    """uint8 or uint16 `[N, H, W, C]` → float32 `[N, C, H, W]` in [-1, 1] (channels-last in memory)."""
    return pixels.to(torch.float32).mul_(2 / _TOP[pixels.dtype]).sub_(1).permute(0, 3, 1, 2)


def to_uint8(images: Tensor) -> np.ndarray:
    """float `[N, C, H, W]`, nominally in [-1, 1] → uint8 `[N, H, W, C]`, rounded to nearest, clipped."""
    scaled = images.detach().to(torch.float32).add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def picture(pixels: np.ndarray) -> Image.Image:
    """uint8 `[H, W, C]` → a Pillow image: grey, grey + alpha, RGB or RGBA; of other channel counts the first three (or one)."""
    channels = pixels.shape[-1]
    if channels not in _MODES:
        pixels = pixels[..., :3]
    pixels = np.ascontiguousarray(pixels)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def grid(pixels: np.ndarray, *, columns: int | None = None) -> np.ndarray:
    """uint8 `[N, H, W, C]` → one uint8 picture `[rows·H, columns·W, C]`, filled row by row; free cells are zero."""
    n, h, w, c = pixels.shape
    columns = columns or max(1, int(np.ceil(np.sqrt(n * h / w))))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, h, w, c), np.uint8)
    sheet[:n] = pixels
    return sheet.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)


def save_picture(pixels: np.ndarray, path: str | Path, *, text: Mapping[str, str] | None = None) -> Path:
    """Writes one uint8 image `[H, W, C]`; the format follows the file name. Creates parent directories.

    A PNG says in text chunks that frugan wrote it (`SOFTWARE_KEY`), and what `text` says besides.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"pnginfo": _chunks(text or {})} if path.suffix.lower() == ".png" else {}
    picture(pixels).save(path, **options)
    return path


def software() -> str:
    """The value of `SOFTWARE_KEY` in what this version writes."""
    try:
        return f"frugan {metadata.version('frugan')}"
    except metadata.PackageNotFoundError:  # run from its source, not installed
        return "frugan of no version"


def is_own_output(text: Mapping[str, object]) -> bool:
    """Whether a PNG's text chunks (`image.info` or `image.text` of Pillow) say that frugan wrote it."""
    found = text.get(SOFTWARE_KEY)
    return isinstance(found, str) and found.startswith("frugan ")


def _chunks(text: Mapping[str, str]) -> PngInfo:
    chunks = PngInfo()
    for key, value in {SOFTWARE_KEY: software(), **text}.items():
        chunks.add_text(key, value)
    return chunks
