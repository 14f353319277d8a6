"""The range of stored values in use: derived, stretched, restored, for every kind of source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.tools import prepare, shard
from frugan.data.values import parse_range, range_name, restore, settle_range, stretch
from frugan.errors import FruganError

ranges = st.tuples(st.integers(0, 65534), st.integers(1, 65535)).filter(lambda pair: pair[0] < pair[1])


@settings(deadline=None, max_examples=60)
@given(depth=st.sampled_from([8, 16]), ends=ranges, alpha=st.booleans())
def test_restore_undoes_stretch_exactly(depth: int, ends: tuple[int, int], alpha: bool) -> None:
    top = (1 << depth) - 1
    lo, hi = ends[0] * top // 65535, max(ends[1] * top // 65535, ends[0] * top // 65535 + 1)
    dtype = np.uint8 if depth == 8 else np.uint16
    stored = np.arange(top + 1, dtype=dtype).repeat(2).reshape(-1, 2)
    stretched = stretch(stored, (lo, hi), alpha=alpha)
    assert stretched.dtype == dtype
    assert (stretched[: lo + 1, 0] == 0).all()
    assert (stretched[hi:, 0] == top).all()
    assert (np.diff(stretched[lo : hi + 1, 0].astype(int)) > 0).all()  # distinct values stay distinct
    np.testing.assert_array_equal(restore(stretched, (lo, hi), alpha=alpha)[:, 0], stored[:, 0].clip(lo, hi))
    if alpha:
        np.testing.assert_array_equal(stretched[:, 1], stored[:, 1])


@pytest.mark.parametrize("depth", [8, 16])
def test_full_changes_nothing(depth: int) -> None:
    pixels = np.arange(256, dtype=np.uint8 if depth == 8 else np.uint16)[:, None]
    assert stretch(pixels, None, alpha=False) is pixels
    assert restore(pixels, None, alpha=False) is pixels
    assert settle_range("full", depth, 100) is None
    assert settle_range(f"0,{(1 << depth) - 1}", depth, 100) is None


@settings(deadline=None, max_examples=200)
@given(highest=st.integers(0, 65535))
def test_a_derived_range_holds_all_values_and_uses_half_of_itself(highest: int) -> None:
    assert settle_range("auto", 8, min(highest, 255)) is None
    found = settle_range("auto", 16, highest)
    if highest == 0 or highest >= 32768:
        assert found is None
    else:
        assert found is not None
        assert found[0] == 0
        assert (found[1] + 1) & found[1] == 0
        assert highest <= found[1]
        assert found[1] >= 255
        assert found[1] == 255 or 2 * highest >= found[1]


@given(ends=ranges)
def test_a_range_is_named_as_it_is_read(ends: tuple[int, int]) -> None:
    assert parse_range(range_name(ends)) == ends
    assert parse_range(range_name(None)) == "full"


WRONG = [
    "",
    "0",
    "5,5",
    "9,3",
    "-1,9",
    "0,65536",
    "0,1e9",
    "0,nan",
    "a,b",
    "1,2,3",
    "0.5,9",
    "0,99999999999",
    "auto,full",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(FruganError, match="give auto, full, or two whole numbers"):
        DataConfig("photos", value_range=text)


def test_a_range_beyond_eight_bits_is_refused(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a.png"])
    with pytest.raises(FruganError, match=r"8 bits per channel, values from 0 to 255.*--value-range full"):
        open_dataset(DataConfig(str(tmp_path), value_range="0,4095"))


def _grey12(folder: Path, count: int = 6, highest: int = 4095, size: int = 16) -> np.ndarray:
    """Images of 16 bits whose values end at `highest`, as uint16 `[N, H, W, 1]`."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, highest + 1, (count, size, size), np.uint16)
    images[0, 0, :2] = 0, highest
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return images[..., None]


def _as(kind: str, tmp_path: Path) -> DataConfig:
    """The twelve-bit set as a folder, a zip, arrays, shards, or shards of which some are here at a time."""
    images = _grey12(tmp_path / "folder", count=12)
    if kind == "zip":
        prepare(DataConfig(str(tmp_path / "folder")), tmp_path / "set.zip")
    elif kind == "npy":
        np.save(tmp_path / "set.npy", images)
    elif kind == "npz":
        np.savez(tmp_path / "set.npz", images=images)
    elif kind in ("shards", "streaming"):
        shard(tmp_path / "folder", tmp_path / "set", per_shard=1)
        return DataConfig(str(tmp_path / "set"), cache_limit=6 * 512 / 1e9 if kind == "streaming" else None)
    return DataConfig(str(tmp_path / "folder" if kind == "folder" else tmp_path / f"set.{kind}"))


def _values(dataset: Dataset) -> list[np.ndarray]:
    """Pixels by content, since shards are shuffled."""
    return sorted((np.array(dataset.pixels[i]) for i in range(len(dataset))), key=lambda pixels: pixels.tobytes())


@pytest.mark.parametrize("kind", ["folder", "zip", "npy", "npz", "shards", "streaming"])
def test_twelve_bits_train_at_full_range_from_every_source(kind: str, tmp_path: Path) -> None:
    config = _as(kind, tmp_path)
    stored = np.stack(_values(open_dataset(replace(config, value_range="full"))))
    data = open_dataset(config)
    assert data.value_range == (0, 4095)
    assert (data.describe()["depth"], data.describe()["value_range"]) == (16, [0, 4095])
    assert data.config.value_range == "0,4095"
    found = np.stack(_values(data))
    assert (found.min(), found.max()) == (0, 65535)
    np.testing.assert_array_equal(np.sort(restore(found, (0, 4095), alpha=False), 0), np.sort(stored, 0))
    images, _ = data.images(data.sampler().next(12))
    assert (float(images.min()), float(images.max())) == (-1, 1)
    again = open_dataset(data.config)  # as a run's config.yaml has it
    assert again.fingerprint == data.fingerprint
    assert open_dataset(replace(config, value_range="full")).fingerprint != data.fingerprint
    assert open_dataset(replace(config, value_range="0,2000")).fingerprint != data.fingerprint


def test_a_resolved_range_finds_the_entry_of_auto(tmp_path: Path) -> None:
    _grey12(tmp_path / "set")
    data = open_dataset(DataConfig(str(tmp_path / "set")))
    assert open_dataset(data.config).cache_folder == data.cache_folder
    others = [open_dataset(DataConfig(str(tmp_path / "set"), value_range=text)) for text in ("full", "0,4000")]
    assert len({data.cache_folder, *(other.cache_folder for other in others)}) == 3


def test_the_cache_may_be_lost_before_a_resume(tmp_path: Path) -> None:
    """What "auto" found and what its result gives are the same pixels, resized or not."""
    _grey12(tmp_path / "set", size=20)
    config = DataConfig(str(tmp_path / "set"), (12, 12))
    data = open_dataset(config, cache_dir=tmp_path / "one")
    assert open_dataset(data.config, cache_dir=tmp_path / "two").fingerprint == data.fingerprint


def test_eight_bits_are_never_stretched_unasked(tmp_path: Path, noise) -> None:
    np.save(tmp_path / "dark.npy", noise(4, 8, 8) // 16)
    data = open_dataset(DataConfig(str(tmp_path / "dark.npy")))
    assert (data.value_range, data.config.value_range, int(np.max(data.pixels))) == (None, "auto", 15)
    assert any("--value-range 0,15" in note for note in data.notes)
    asked = open_dataset(DataConfig(str(tmp_path / "dark.npy"), value_range="0,15"))
    assert (asked.value_range, int(np.max(asked.pixels))) == ((0, 15), 255)


def test_one_bright_image_keeps_the_full_range(tmp_path: Path) -> None:
    _grey12(tmp_path / "set")
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save(tmp_path / "set" / "bright.png")
    assert open_dataset(DataConfig(str(tmp_path / "set"))).value_range is None


def test_eight_bits_beside_twelve_in_sixteen_keep_the_full_range(tmp_path: Path, noise) -> None:
    _grey12(tmp_path / "set")
    Image.fromarray(noise(16, 16)).save(tmp_path / "set" / "eight.png")
    assert open_dataset(DataConfig(str(tmp_path / "set"))).value_range is None


def test_alpha_is_not_stretched(tmp_path: Path, png16) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (16, 16, 4), np.uint16)
    pixels[0, 0] = 4095, 4095, 4095, 65535
    (tmp_path / "a.png").write_bytes(png16(pixels))
    data = open_dataset(DataConfig(str(tmp_path)))
    assert data.value_range == (0, 4095)
    np.testing.assert_array_equal(data.pixels[0][..., 3], pixels[..., 3])
    assert data.pixels[0][..., :3].max() == 65535


@pytest.mark.parametrize("out", ["out", "out.zip", "out.npz"])
@pytest.mark.parametrize("highest", [300, 1023, 4095])
def test_prepared_sets_hold_stored_values(out: str, highest: int, tmp_path: Path) -> None:
    images = _grey12(tmp_path / "set", highest=highest)
    prepare(DataConfig(str(tmp_path / "set")), tmp_path / out)
    stored = open_dataset(DataConfig(str(tmp_path / out), value_range="full")).pixels
    np.testing.assert_array_equal(stored, images)


def test_clipped_values_are_told(tmp_path: Path) -> None:
    images = _grey12(tmp_path / "set")
    data = open_dataset(DataConfig(str(tmp_path / "set"), value_range="1000,3000"))
    outside = float(((images < 1000) | (images > 3000)).mean())
    assert data.stats.clipped == pytest.approx(outside)
    assert any(f"{100 * outside:.0f} % of all values lie outside 1000 to 3000" in note for note in data.notes)
