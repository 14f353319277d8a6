"""Labels of sample grids: a class a column, a number from left to right, and each of several numbers along rows of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.label_parts import measure
from frugan.run.sample_grid import grid_labels


def test_classes_stand_in_columns() -> None:
    found = grid_labels(torch.eye(3)[[0, 1, 2, 2]], 5, 2)
    assert found is not None
    assert found.argmax(1).tolist() == [0, 1, 2, 0, 1] * 2
    assert grid_labels(torch.zeros(4, 0), 5, 2) is None


def test_one_number_rises_from_left_to_right() -> None:
    years = torch.arange(1990.0, 2021)[:, None]
    found = grid_labels(years, 4, 3, measure(years.numpy(), [0], ["year"]))
    assert found is not None
    assert found[:, 0].tolist() == [1990, 2000, 2010, 2020] * 3


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3), st.integers(0, 3), st.integers(2, 12), st.integers(1, 8), st.integers(0, 99))
def test_each_number_along_rows_of_its_own(numbers: int, classes: int, columns: int, rows: int, seed: int) -> None:
    if numbers + classes < 2:
        return
    rng = np.random.default_rng(seed)
    one_hot = np.eye(classes)[rng.integers(classes, size=20)] if classes else np.zeros((20, 0))
    pool = np.concatenate([one_hot, rng.normal(size=(20, numbers))], axis=1).astype(np.float32)
    measured = measure(pool, range(classes, classes + numbers), [str(i) for i in range(classes + numbers)])
    found = grid_labels(torch.from_numpy(pool), columns, rows, measured)
    assert found is not None
    for i, row in enumerate(found.numpy().reshape(rows, columns, -1)):
        m = measured[i % numbers]
        assert row[:, m.column] == pytest.approx(np.linspace(m.minimum, m.maximum, columns), abs=1e-5)
        rest = np.delete(row, m.column, axis=1)
        assert (rest == rest[0]).all()
        assert (np.delete(pool, m.column, axis=1) == rest[0]).all(1).any()
