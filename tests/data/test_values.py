"""The range of stored values in use: derived, stretched, restored, for every kind of source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.duplicates import near_duplicates
from frugan.data.tools import prepare, shard
from frugan.data.values import explicit_range, parse_range, range_name, restore, settle_range, stretch
from frugan.errors import FruganError
from frugan.image_files import png16
from frugan.images import to_bytes, to_pixels
from frugan.pixel_format import NumberType

ranges = st.tuples(st.integers(0, 65534), st.integers(1, 65535)).filter(lambda pair: pair[0] < pair[1])
NUMBERS = get_args(NumberType)


@dataclass
class Counted:
    """Values whose highest is known."""

    highest: float
    channels: int = 1

    def quantile(self, share: float, channel: int | None = None) -> float:
        assert share == 1
        return self.highest

    def name(self, channel: int) -> str:
        return f"channel {channel}"


@settings(deadline=None, max_examples=60)
@given(depth=st.sampled_from([8, 16]), ends=ranges, alpha=st.booleans())
def test_restore_undoes_stretch_exactly(depth: int, ends: tuple[int, int], alpha: bool) -> None:
    top = (1 << depth) - 1
    lo, hi = ends[0] * top // 65535, max(ends[1] * top // 65535, ends[0] * top // 65535 + 1)
    dtype = np.uint8 if depth == 8 else np.uint16
    stored = np.arange(top + 1, dtype=dtype).repeat(2).reshape(-1, 2)
    stretched = stretch(stored, ((lo, hi),), alpha=alpha)
    assert stretched.dtype == dtype
    assert (stretched[: lo + 1, 0] == 0).all()
    assert (stretched[hi:, 0] == top).all()
    assert (np.diff(stretched[lo : hi + 1, 0].astype(int)) > 0).all()  # distinct values stay distinct
    np.testing.assert_array_equal(restore(stretched, ((lo, hi),), alpha=alpha)[:, 0], stored[:, 0].clip(lo, hi))
    if alpha:
        np.testing.assert_array_equal(stretched[:, 1], stored[:, 1])


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from([dtype for dtype in NUMBERS if dtype.startswith(("int", "uint"))]),
    span=st.integers(1, 65535),
    data=st.data(),
)
def test_whole_numbers_of_any_type_come_back_exactly(dtype: str, span: int, data: st.DataObject) -> None:
    """Where no more than 65,536 lie within the range; each channel by its own."""
    least, most = np.iinfo(dtype).min, min(np.iinfo(dtype).max, 1 << 53)
    span = min(span, most - max(least, -(1 << 53)))
    lows = data.draw(st.lists(st.integers(max(least, -(1 << 53)), most - span), min_size=3, max_size=3))
    pairs = tuple((float(low), float(low + span)) for low in lows)
    values = np.random.default_rng(0).integers(0, span + 1, (9, 9, 3))
    stored = (values + np.array(lows)).astype(dtype)
    stretched = stretch(stored, pairs, alpha=False)
    assert stretched.dtype == (np.uint8 if dtype == "uint8" else np.uint16)
    if dtype != "uint8" or span <= 255:
        back = restore(stretched, pairs, alpha=False, dtype=dtype)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, stored)


@settings(deadline=None, max_examples=40)
@given(
    dtype=st.sampled_from(["float32", "float64", "int32"]),
    low=st.integers(-(10**6), 10**6),
    span=st.sampled_from([1e-3, 1.0, 3.5, 1e6]),
)
def test_other_numbers_come_back_to_a_float32_of_their_range(dtype: str, low: int, span: float) -> None:
    stored = (low + span * np.random.default_rng(0).random((8, 8, 2))).astype(dtype)
    pair = (float(low), float(low + span))
    back = restore(stretch(stored, (pair,), alpha=False), (pair,), alpha=False, dtype=dtype)
    spacing = np.spacing(np.abs(stored).max()) if dtype.startswith("float") else 1
    assert np.abs(back.astype(np.float64) - stored.clip(*pair)).max() <= span * 2**-25 + spacing


@pytest.mark.parametrize("depth", [8, 16])
def test_full_changes_nothing(depth: int) -> None:
    dtype = f"uint{depth}"
    pixels = np.arange(256, dtype=dtype)[:, None]
    assert stretch(pixels, None, alpha=False) is pixels
    assert restore(pixels, None, alpha=False) is pixels
    assert settle_range("full", dtype, Counted(100)) is None
    assert settle_range(f"0,{(1 << depth) - 1}", dtype, Counted(100)) is None


@settings(deadline=None, max_examples=200)
@given(highest=st.integers(0, 65535))
def test_a_derived_range_holds_all_values_and_uses_half_of_itself(highest: int) -> None:
    assert settle_range("auto", "uint8", Counted(min(highest, 255))) is None
    found = settle_range("auto", "uint16", Counted(highest))
    if highest == 0 or highest >= 32768:
        assert found is None
    else:
        assert found is not None
        ((lo, hi),) = found
        assert lo == 0
        assert (int(hi) + 1) & int(hi) == 0
        assert highest <= hi
        assert hi >= 255
        assert hi == 255 or 2 * highest >= hi


numbers = st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9))
pairs = st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1])


@given(ends=st.lists(pairs, min_size=1, max_size=4))
def test_a_range_is_named_as_it_is_read(ends: list[tuple[float, float]]) -> None:
    assert explicit_range(range_name(tuple(ends))) == tuple(ends)
    assert parse_range(range_name(None)) == "full"


WRONG = [
    "",
    "0",
    "5,5",
    "9,3",
    "0,1e99",
    "0,nan",
    "0,inf",
    "a,b",
    "1,2,3",
    "p99,p1",
    "p5,p5",
    "p1,p101",
    "p-1,p5",
    "each:",
    "each:auto",
    "each:0,1;2,3",
    "0,1;",
    "0,1;5",
    "auto,full",
    "0,1" * 20_000,
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(FruganError, match="give auto, full, or LOW,HIGH"):
        DataConfig("photos", value_range=text)


def _saved(tmp_path: Path, array: np.ndarray, value_range: str = "auto") -> Dataset:
    np.save(tmp_path / "set.npy", array)
    return open_dataset(DataConfig(str(tmp_path / "set.npy"), value_range=value_range))


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_type_of_numbers_trains_and_comes_back(dtype: str, channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    top = 100.0 if dtype.endswith("int8") else 3000.0
    stored = (top * rng.random((8, 8, 8, channels)) - (0 if dtype.startswith("uint") else 40)).astype(dtype)
    data = _saved(tmp_path, stored)
    assert data.pixel_format.dtype == dtype
    assert data.pixels.dtype == (np.float32 if dtype.startswith("float") else "uint8" if dtype == "uint8" else "uint16")
    back = restore(np.asarray(data.pixels), data.value_range, alpha=False, dtype=dtype)
    assert back.dtype == dtype
    if dtype.startswith("float"):
        assert np.abs(back.astype(np.float64) - stored).max() <= 3040 * 2**-25 + np.spacing(np.dtype(dtype).type(3000))
        assert any(f"{dtype} numbers are held as float32, 4 bytes each" in note for note in data.notes)
    else:
        np.testing.assert_array_equal(back, stored)
    if dtype not in ("uint8", "uint16"):
        images, _ = data.images(np.arange(8))
        assert (float(images.min()), float(images.max())) == (-1, 1)
        assert len(data.value_range or ()) == (channels if channels > 4 else 1)
    again = open_dataset(data.config, cache_dir=tmp_path / "another")
    assert (again.fingerprint, again.pixel_format) == (data.fingerprint, data.pixel_format)


def test_floats_are_not_brought_to_steps(tmp_path: Path) -> None:
    """Values that lie closer than a 65,536th of the range stay apart, in the set, in a prepared copy and for metrics."""
    stored = np.linspace(0.5, 0.50001, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8, 1)
    stored[0, 0, 0], stored[0, 0, 1] = 0, 1
    data = _saved(tmp_path, stored)
    images, _ = data.images(np.arange(4))
    assert len(images.unique()) == len(np.unique(stored))
    assert data.depth == 32
    prepare(data.config, tmp_path / "copy.npz")
    with np.load(tmp_path / "copy.npz") as copy:
        np.testing.assert_allclose(copy["images"], stored, rtol=0, atol=2**-25)
    assert (to_pixels(images, 32) == data.pixels).all()
    assert (to_bytes(data.pixels[:]) == np.rint(stored * 255)).all()
    assert near_duplicates(data.pixels) == near_duplicates(to_bytes(data.pixels[:]))


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_floats_are_resized_within_their_range(fit: Any, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).random((3, 40, 28, 2)).astype(np.float32) * 1e6 - 500
    np.save(tmp_path / "set.npy", stored)
    data = open_dataset(DataConfig(str(tmp_path / "set.npy"), resolution=(16, 16), fit=fit))
    pixels = data.pixels[:]
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert len(np.unique(pixels)) > 700  # no steps


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_percentiles_are_those_of_the_values(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stored = (rng.gamma(2, [3, 9, 20], (16, 8, 8, 3))).clip(0, 255).astype(dtype)
    joint = _saved(tmp_path, stored, "p1,p99")
    assert joint.value_range is not None
    ((lo, hi),) = joint.value_range
    assert (stored < lo).mean() <= 0.0101 <= (stored <= lo).mean() + 0.001
    assert (stored < hi).mean() <= 0.9901 <= (stored <= hi).mean() + 0.001
    assert any(f"lie outside {lo:.7g} to {hi:.7g} and are clipped" in note for note in joint.notes)
    each = open_dataset(replace(joint.config, value_range="each:0,p90"))
    assert each.value_range is not None
    for channel, (lo, hi) in enumerate(each.value_range):
        assert lo == 0
        assert (stored[..., channel] < hi).mean() <= 0.901 <= (stored[..., channel] <= hi).mean() + 0.002
    assert each.fingerprint != joint.fingerprint
    assert open_dataset(each.config).fingerprint == each.fingerprint
    images, _ = each.images(np.arange(16))
    assert [float(images[:, i].max()) for i in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_values_in_a_small_part_of_their_range_are_told(dtype: str, channels: int, tmp_path: Path) -> None:
    """Few values far off, or a channel beside one of larger numbers; with the range that is advised nothing is left to tell."""
    rng = np.random.default_rng(0)
    stored = rng.uniform(0, 1000, (8, 16, 16, channels))
    if channels in (2, 4):
        stored[..., 0] *= 0.05
    else:
        stored[0, 0, 0] = 30000
    plain = _saved(tmp_path, stored.astype(dtype), "auto")
    each = "each:" if channels > 1 else ""
    assert [
        note
        for note in plain.notes
        if f"a small part of the range: cut off the rest with --value-range {each}p1,p99" in note
    ]
    advised = open_dataset(replace(plain.config, value_range=f"{each}p1,p99"))
    assert not [note for note in advised.notes if "a small part" in note]


def test_channels_that_hold_one_value_are_refused(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(size=(4, 8, 8, 5)).astype(np.float32)
    stored[..., 3] = 7
    with pytest.raises(FruganError, match="channel 3: the range of values from 7 to 7 holds one value"):
        _saved(tmp_path, stored)
    assert _saved(tmp_path, stored, "-9,9").value_range == ((-9, 9),)
    with pytest.raises(FruganError, match="holds one value or none"):
        _saved(tmp_path, np.zeros((4, 8, 8), np.int16))


@pytest.mark.parametrize("value_range", ["auto", "-5,5"])
def test_images_that_hold_nan_are_left_out_and_named(value_range: str, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)
    stored[1, 0, :3] = np.nan
    stored[2, 0, 0] = np.inf
    data = _saved(tmp_path, stored, value_range)
    assert [(name, reason[:30]) for name, reason in data.skipped] == [
        ("000001", "3 of its 64 values are not fin"),
        ("000002", "1 of its 64 values are not fin"),
    ]
    assert len(data) == 2
    with pytest.raises(FruganError, match="64 of its 64 values are not finite"):
        _saved(tmp_path, np.full((2, 8, 8), np.nan, np.float32), value_range)


@pytest.mark.parametrize(
    ("value_range", "says"),
    [
        ("0,1;2,3", "a value range for each of 2 channels, but the images have 5"),
        ("full", "float32 numbers have no full range"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(value_range: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(FruganError, match=says):
        _saved(tmp_path, np.random.default_rng(0).normal(size=(4, 8, 8, 5)).astype(np.float32), value_range)


@pytest.mark.parametrize("asked", ["p1,p99", "0,p90", "each:p5,p95", "p0,p100"])
@pytest.mark.parametrize("limit", [None, 6])
def test_percentiles_of_shards_are_those_of_their_images(asked: str, limit: int | None, tmp_path: Path) -> None:
    """As of a folder of the same images; within a limit of the cache, too, which counting does not pass for long."""
    images = np.random.default_rng(0).integers(0, 3000, (60, 8, 8, 3), np.uint16)
    images[..., 1] //= 2
    (tmp_path / "set").mkdir()
    for i, image in enumerate(images):
        (tmp_path / "set" / f"{i:02d}.png").write_bytes(png16(image))
    shard(tmp_path / "set", tmp_path / "shards", per_shard=5)
    whole = open_dataset(DataConfig(str(tmp_path / "set"), value_range=asked))
    limit_gb = None if limit is None else limit * 5 * 8 * 8 * 3 * 2 / 1e9
    found = open_dataset(DataConfig(str(tmp_path / "shards"), value_range=asked, cache_limit=limit_gb))
    assert found.value_range == whole.value_range
    assert found.config.value_range == whole.config.value_range
    again = open_dataset(replace(found.config, value_range=found.config.value_range))
    assert again.fingerprint == found.fingerprint
    assert again.value_range == found.value_range
    as_stored = {image.tobytes() for image in np.array(whole.pixels)}
    assert {image.tobytes() for image in found.pixels[np.arange(60)]} == as_stored
    if limit:
        kept = [entry for entry in (found.cache_folder.parent).iterdir() if (entry / "pixels.npy").is_file()]
        assert len(kept) <= limit


def test_each_channels_range_tells_sets_of_shards_apart(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    np.save(tmp_path / "set.npy", images)
    shard(tmp_path / "set.npy", tmp_path / "shards")
    found = {
        open_dataset(DataConfig(str(tmp_path / "shards"), value_range=f"0,200;0,{top};0,200")).fingerprint
        for top in (200, 210)
    }
    assert len(found) == 2


def test_shards_hold_no_measured_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "float.npy", np.random.default_rng(0).normal(size=(4, 8, 8)))
    with pytest.raises(FruganError, match="float64 numbers; shards hold images of 8 or 16 bits"):
        shard(tmp_path / "float.npy", tmp_path / "float")
    with pytest.raises(FruganError, match="cannot be written as PNG"):
        prepare(DataConfig(str(tmp_path / "float.npy")), tmp_path / "float.zip")
    assert not (tmp_path / "float").exists()
    assert not (tmp_path / "float.zip").exists()


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
    assert data.value_range == ((0, 4095),)
    assert (data.describe()["depth"], data.describe()["value_range"]) == (16, [0, 4095])
    assert data.config.value_range == "0,4095"
    found = np.stack(_values(data))
    assert (found.min(), found.max()) == (0, 65535)
    np.testing.assert_array_equal(np.sort(restore(found, ((0, 4095),), alpha=False), 0), np.sort(stored, 0))
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
    assert (asked.value_range, int(np.max(asked.pixels))) == (((0, 15),), 255)


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
    assert data.value_range == ((0, 4095),)
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
