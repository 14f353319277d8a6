"""Captions of tables: whole, apart from one another, and told from names that begin alike."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.latent.sheets import LONGEST, table

NAMES = st.text("Il W-+.0é", max_size=LONGEST)


def header(columns: int, size: tuple[int, int], **captions: object) -> np.ndarray:
    """What lies above white images in one row: uint8 `[H, W]`."""
    sheet = table(torch.ones(columns, 3, *size), columns, **captions)  # pyright: ignore[reportArgumentType]
    return sheet[: np.flatnonzero((sheet < 255).any((1, 2))).max(initial=0) + 1, :, 0]


def trimmed(ink: np.ndarray) -> np.ndarray:
    """Without the white to the right."""
    return ink[:, : np.flatnonzero((ink < 255).any(0)).max(initial=0) + 1]


@settings(deadline=None, max_examples=40)
@given(NAMES, st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_a_title_is_whole_on_any_sheet(title: str, size: tuple[int, int]) -> None:
    assert np.array_equal(trimmed(header(1, size, title=title)), trimmed(header(60, size, title=title)))


@settings(deadline=None, max_examples=40)
@given(st.lists(NAMES.map(lambda name: f"I{name}"), min_size=1, max_size=5), st.integers(1, 40), st.integers(1, 40))
def test_names_of_columns_are_whole_and_apart(names: list[str], h: int, w: int) -> None:
    ink = header(len(names), (h, w), column_names=names)
    step = (ink.shape[1] - 4) // len(names)
    for i, name in enumerate(names):
        alone = trimmed(header(1, (h, w), column_names=[name]))[:, 4:]
        assert alone.shape[1] <= step
        cell = trimmed(ink[: len(alone), 4 + i * step : 4 + (i + 1) * step])
        assert np.array_equal(cell, alone)


@given(st.text("ab", min_size=LONGEST, max_size=300))
def test_long_names_differ_at_either_end_within_limits(middle: str) -> None:
    images = torch.ones(1, 3, 8, 8)
    one, other, third = (table(images, 1, row_names=[n]) for n in (f"{middle}1", f"{middle}2", f"1{middle}1"))
    assert one.shape[1] < 20 * LONGEST
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, third)
