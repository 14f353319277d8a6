"""Nearest pairs: each once, found also where images are equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugan.metrics import ImageSet
from frugan.reports.nearest_pairs import count_identical, pairs_among


@given(st.integers(2, 25), st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_pairs_are_those_of_all_distances(count: int, size: int, seed: int, repeat: bool) -> None:
    x = np.random.default_rng(seed).standard_normal((count, size))
    if repeat:
        x[-1] = x[0]
    far = np.linalg.norm(x[:, None] - x, axis=2)
    np.fill_diagonal(far, np.inf)
    found = pairs_among(x)
    assert [d for *_, d in found] == sorted(d for *_, d in found)
    assert len({(i, j) for i, j, _ in found}) == len(found)
    for i, j, d in found:
        assert i < j
        assert d == pytest.approx(far[i, j], abs=1e-6)
        assert d == pytest.approx(max(far[i].min(), far[j].min()), abs=1e-6)
    assert {i for pair in found for i in pair[:2]} == set(range(count))
    if repeat:
        assert found[0] == (0, count - 1, pytest.approx(0, abs=1e-6))


def test_one_image_has_no_pair() -> None:
    assert pairs_among(np.zeros((1, 3))) == []


def test_identical_images_are_counted() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3), dtype=np.uint8)
    pixels[3] = pixels[1]
    assert count_identical(ImageSet(pixels)) == 2
    assert count_identical(ImageSet(pixels, np.array([0, 1, 2]))) == 0
