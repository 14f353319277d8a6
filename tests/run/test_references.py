"""Other images to measure against: of every kind of file, in the shape, channels and range of values that a network makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from frugan.data import DataConfig, open_dataset
from frugan.pixel_format import PixelFormat
from frugan.run.evaluate import check_shape, image_set_of, same_shape
from tests.containers import FRAMES, SETS, write_pages
from tests.latent.conftest import make_generator


@pytest.mark.parametrize("suffix", [*SETS, *FRAMES, ".npy"])
def test_references_of_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    place = tmp_path / f"set{suffix}"
    if suffix == ".npy":
        np.save(place, images)
    else:
        ({**SETS, **FRAMES}[suffix])(place, images)
    G = make_generator((16, 16))
    like = DataConfig("somewhere", mirror=True, held_out=2)
    found = open_dataset(same_shape(like, str(place), G, labels=False), cache_dir=tmp_path / "cache")
    check_shape(found, G)
    judged = image_set_of(found, "all")
    assert len(judged) == 5
    assert judged[:].shape == (5, 16, 16, 3)
    if suffix != ".gif":  # of a palette for each frame
        assert np.array_equal(judged[:], images)


@pytest.mark.parametrize(("channels", "dtype", "high"), [(1, "uint16", 4095), (4, "uint16", 1023), (2, "float32", 9.5)])
def test_a_network_without_its_run_knows_the_range(channels: int, dtype: str, high: float, tmp_path: Path) -> None:
    images = (np.random.default_rng(0).random((5, 16, 16, channels)) * high / 3).astype(
        dtype
    )  # a darker set than its own
    write_pages(tmp_path / "set.tif", images)
    pixels = PixelFormat(dtype, ((0.0, high),))  # pyright: ignore[reportArgumentType]
    G = make_generator((16, 16), channels=channels, pixels=pixels)
    found = open_dataset(same_shape(None, str(tmp_path / "set.tif"), G, labels=False), cache_dir=tmp_path / "cache")
    check_shape(found, G)
    assert (found.value_range, found.alpha) == (((0.0, high),), False)
    shares = (found.images(np.arange(5))[0] + 1).permute(0, 2, 3, 1).numpy() / 2
    assert np.abs(shares - images / high).max() < 1e-3


def test_a_streamed_run_is_measured_against_a_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    like = DataConfig("shards/{0..9}.tar", cache_limit=0.5, without=("shards/3.tar",))
    found = open_dataset(same_shape(like, str(tmp_path / "set.npy"), make_generator((16, 16)), labels=False))
    assert len(found) == 5
