"""Tables of images with captions: strips of edits, mixing grids, truncation sweeps, contact sheets of directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from frugan.images import drawable, pil_image, to_uint8

MARGIN = 4
_FONT = 13
SMALLEST = 96
"""Images are enlarged by whole factors until they are about so large, so that they can be looked at."""
LONGEST = 40
"""Characters of a column's or a row's name."""


def table(
    images: Tensor, columns: int, *, column_names: Sequence[str] = (), row_names: Sequence[str] = (), title: str = ""
) -> np.ndarray:
    """A sheet of images with captions, as wide as these need: uint8 RGB `[H', W', 3]`.

    Transparent images lie on grey; of other channel counts the first three (or one) are shown.

    Args:
        images: `[N, C, H, W]` in [-1, 1], row by row.
        columns: number of columns.
        column_names, row_names: captions; none by default. Of names longer than `LONGEST`, the middle is left out.
        title: above the sheet.
    """
    h, w = images.shape[2:]
    factor = max(1, round(SMALLEST / max(h, w)))
    cells = [_opaque(pixels, factor) for pixels in to_uint8(images)]
    rows = -(-len(cells) // columns)
    columns_at, rows_at = ([drawable(_short(name), _FONT) for name in names] for names in (column_names, row_names))
    shown, title_font = drawable(title, _FONT)
    left = MARGIN + (_widest(rows_at) + MARGIN if row_names else 0)
    top = MARGIN + (_FONT + MARGIN) * bool(title) + (_FONT + MARGIN) * bool(column_names)
    step_x, step_y = max(w * factor, _widest(columns_at)) + MARGIN, h * factor + MARGIN
    width = max(columns * step_x, _widest([(shown, title_font)]) + MARGIN)
    sheet = Image.new("RGB", (left + width, top + rows * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((left, MARGIN), shown, fill="black", font=title_font)
    for i, (name, font) in enumerate(columns_at):
        draw.text((left + i * step_x, top - _FONT - MARGIN), name, fill="black", font=font)
    for i, (name, font) in enumerate(rows_at):
        draw.text((MARGIN, top + i * step_y + (step_y - _FONT) // 2), name, fill="black", font=font)
    for i, cell in enumerate(cells):
        sheet.paste(cell, (left + i % columns * step_x, top + i // columns * step_y))
    return np.asarray(sheet)


def stacked(sheets: Sequence[np.ndarray]) -> np.ndarray:
    """RGB sheets one below the other, white to the right of narrower ones."""
    width = max(sheet.shape[1] for sheet in sheets)
    return np.concatenate([np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets])


def blank(like: Tensor) -> Tensor:
    """A white image `[1, C, H, W]` to leave a cell empty."""
    return F.pad(like[:1], (0, 0, 0, 0)).fill_(1.0)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2 - 3]}...{name[-LONGEST // 2 :]}"


def _widest(texts: Sequence[tuple[str, Any]]) -> int:
    """Pixels of the longest of texts, each with its font."""
    return max((math.ceil(font.getlength(text)) for text, font in texts), default=0)


def _opaque(pixels: np.ndarray, factor: int) -> Image.Image:
    cell = pil_image(pixels)
    cell = cell.resize((cell.width * factor, cell.height * factor), Image.Resampling.NEAREST)
    if cell.mode in ("LA", "RGBA"):
        behind = Image.new("RGBA", cell.size, (200, 200, 200, 255))
        cell = Image.alpha_composite(behind, cell.convert("RGBA"))
    return cell.convert("RGB")
