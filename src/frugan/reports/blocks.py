"""Blocks of a report: paragraphs, lists of facts, tables, images and charts, as plain values that JSON keeps and a page shows."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from frugan.errors import shown
from frugan.images import pil_image
from frugan.tracking.report.charts import Chart

Block = dict[str, Any]
"""`kind` says which of the functions here made it, and with that which other keys it has."""

LONGEST = 2000
"""Characters of one text; longer ones are cut in the middle."""


def paragraph(text: str, *, kind: str = "text") -> Block:
    """A paragraph. `kind`: "text", or "note" for what limits or explains."""
    return {"kind": kind, "text": shown(text, LONGEST)}


def facts(title: str, rows: Sequence[tuple[str, object]]) -> Block:
    """Names with their values, a line each."""
    return {"kind": "facts", "title": title, "rows": [[shown(k), shown(v, LONGEST)] for k, v in rows]}


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, note: str = "") -> Block:
    """A block with a table.

    Args:
        title: above it.
        columns: headings.
        rows: cells; the first one names the row.
        note: below it.
    """
    cells = [[shown(cell, LONGEST) for cell in row] for row in rows]
    return {"kind": "table", "title": title, "columns": [*map(shown, columns)], "rows": cells, "note": note}


def image(title: str, pixels: np.ndarray, *, note: str = "", row_names: Sequence[str] = ()) -> Block:
    """A block with an image, as PNG within it.

    Args:
        title: above it.
        pixels: uint8 `[H, W, C]`.
        note: below it.
        row_names: captions of rows of equal height, from the top; none by default.
    """
    buffer = io.BytesIO()
    picked: Image.Image = pil_image(pixels)
    picked.save(buffer, "PNG", optimize=True)
    data = b64encode(buffer.getvalue()).decode("ascii")
    return {
        "kind": "image",
        "title": title,
        "png": data,
        "size": list(picked.size),
        "note": shown(note, LONGEST),
        "row_names": [*map(shown, row_names)],
    }


def chart(made: Chart) -> Block:
    """A chart of numbers, see `frugan.tracking.report.charts`."""
    return {"kind": "chart", **{("draws" if k == "kind" else k): v for k, v in asdict(made).items()}}
