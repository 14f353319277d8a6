"""Labels of sample grids: a class a column, a number from left to right, and each of several numbers along rows of its own."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.data import DataConfig, open_dataset
from frugan.label_parts import measure
from frugan.run.sample_grid import SampleGrid, grid_labels


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


@pytest.mark.parametrize("channels, shown", [(1, 1), (2, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_sample_grid_has_the_bits_and_colours_of_the_data(
    channels: int, shown: int, dtype: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = (
        rng.random((20, 16, 16, channels)) * 2 - 1
        if dtype == "float32"
        else rng.integers(0, 256, (20, 16, 16, channels))
    )
    np.save(tmp_path / "set.npy", pixels.astype(dtype))
    data = open_dataset(DataConfig(str(tmp_path / "set.npy")))
    grid = SampleGrid(data)
    grid.save_reals(tmp_path / "reals.png")
    found = imagecodecs.imread(tmp_path / "reals.png")
    assert found.dtype == (np.uint8 if dtype == "uint8" else np.uint16)
    first = found.reshape(*found.shape[:2], -1)[:16, :16]
    held = np.asarray(grid.reals[0, :shown].permute(1, 2, 0), np.float64)
    assert abs(first / np.iinfo(found.dtype).max * 2 - 1 - held).max() <= 1.01 / np.iinfo(found.dtype).max
    names = {2: "channel 0", 5: "channels 0, 1, 2"}
    told = [note for note in data.notes if "sheets to look at show" in note]
    assert told == [f"sheets to look at show {names.get(channels)} of {channels} (TIFF files hold all)"] * (
        channels in names
    )
