"""Near-duplicates: copies are found whatever was done to them, other images are not; across the split they are told."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from frugan.data import DataConfig, open_dataset
from frugan.data.duplicates import Pair, near_duplicates, split_duplicates, split_warning
from frugan.errors import FruganError
from tests.program import call


def photos(count: int, size: int = 48, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random images, uint8 `[N, size, size, channels]`."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size, channels))
    smooth = gaussian_filter(noise, (0, size / 12, size / 12, 0))
    smooth = (smooth - smooth.mean((1, 2), keepdims=True)) / smooth.std((1, 2), keepdims=True)
    return (128 + 40 * smooth).round().clip(0, 255).astype(np.uint8)


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


CHANGES = {
    "jpeg": jpeg,
    "smaller": lambda image: image.resize((20, 20), Image.Resampling.BICUBIC),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "flipped": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cut": lambda image: image.crop((1, 1, 47, 47)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("count", [3, 200])
def test_copies_are_found_and_nothing_else(change: str, count: int) -> None:
    images = photos(count)
    copies = [np.asarray(CHANGES[change](Image.fromarray(image))) for image in images[-2:]]
    found = near_duplicates(copies, images)
    assert {(pair.first, pair.second) for pair in found} == {(0, count - 2), (1, count - 1)}
    assert {pair.flipped for pair in found} == {change == "flipped"}
    assert all(0.98 <= pair.similarity <= 1 for pair in found)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_within_one_set_each_pair_once(channels: int, dtype: type) -> None:
    images = photos(90, channels=channels).astype(dtype) * (257 if dtype == np.uint16 else 1)
    images[[3, 50]] = images[70]
    pairs = [(pair.first, pair.second) for pair in near_duplicates(images)]
    assert sorted(pairs) == [(3, 50), (3, 70), (50, 70)]
    assert near_duplicates(images[:60]) == [Pair(3, 50, pytest.approx(1), False)]  # type: ignore[arg-type]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 8), st.integers(0, 99))
def test_any_counts_and_both_ways(a: int, b: int, shared: int, seed: int) -> None:
    common, rest = photos(shared, 16, seed=seed), photos(a + b + 1, 16, seed=seed + 1000)
    first, second = np.concatenate([rest[:a], common]), np.concatenate([common, rest[a : a + b]])
    expected = {(a + i, i) for i in range(shared)}
    assert {pair[:2] for pair in near_duplicates(first, second)} == expected
    assert {pair[1::-1] for pair in near_duplicates(second, first)} == expected
    assert near_duplicates(first[:0], second) == near_duplicates(second, first[:0]) == near_duplicates(first[:0]) == []


def test_images_of_one_colour_have_no_pairs() -> None:
    images = np.full((4, 16, 16, 3), 200, np.uint8)
    images[2:] += np.random.default_rng(0).integers(0, 2, (2, 16, 16, 3), np.uint8)
    assert near_duplicates(images) == []


def test_the_most_alike_are_kept() -> None:
    images = photos(40)
    noise = np.random.default_rng(1).normal(size=images.shape)
    worse = (images + noise * np.arange(1, 41)[:, None, None, None]).clip(0, 255).astype(np.uint8)
    pairs = near_duplicates(worse, images, least=0.5)
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)
    assert near_duplicates(worse, images, least=0.5, most=7) == pairs[:7]


def test_what_all_images_have_in_common_does_not_make_them_alike() -> None:
    """Small differences on one background, as of aligned faces: only true copies count."""
    background = photos(1, seed=5)[0].astype(float)
    images = (background + 0.1 * (photos(150) - 128.0)).clip(0, 255).astype(np.uint8)
    plain = np.corrcoef(images.reshape(150, -1))
    assert np.sort(plain.ravel())[150 * 75] > 0.98
    images[9] = images[100]
    assert [pair[:2] for pair in near_duplicates(images)] == [(9, 100)]


@pytest.mark.parametrize("count", [70, 5000])
def test_sets_that_are_all_alike_take_bounded_time(count: int) -> None:
    images = np.repeat(photos(1, 16), count, axis=0)
    started = time.process_time()
    found = near_duplicates(images, most=50)
    assert time.process_time() - started < 60
    assert len({pair[:2] for pair in found}) == 50
    assert all(pair.first < pair.second for pair in found)


def test_mistakes() -> None:
    with pytest.raises(FruganError, match="images of 3 and 1 channels cannot be compared"):
        near_duplicates(photos(2), photos(2, channels=1))
    with pytest.raises(FruganError, match=r"least 0\.1: give a correlation"):
        near_duplicates(photos(2), least=0.1)


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """40 images by ten people; number 0 and 5 of person 0 and 3 are the same but for brightness."""
    folder = tmp_path / "set"
    for i, image in enumerate(photos(40, seed=3)):
        (folder / f"p{i % 10}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"p{i % 10}/{i:02d}.png")
    for i in range(10):  # a darker copy of each person's first image with the next person
        copy = ImageEnhance.Brightness(Image.open(folder / f"p{i}/{i:02d}.png")).enhance(0.85)
        copy.save(folder / f"p{(i + 1) % 10}/copy{i}.png")
    return folder


def test_across_the_split(leaking: Path) -> None:
    data = open_dataset(DataConfig(str(leaking), resolution=(32, 32), held_out=0.3))
    pairs = split_duplicates(data)
    assert pairs
    held_out, train = set(data.held_out_indices), set(data.train_indices)
    for pair in pairs:
        assert pair.first in held_out
        assert pair.second in train
        assert "copy" in data.names[pair.first] + data.names[pair.second]
    expected = {
        i for i in held_out for j in train
        if {Path(data.names[i]).stem, Path(data.names[j]).stem} in [{f"{k:02d}", f"copy{k}"} for k in range(10)]
    }  # fmt: skip
    assert {pair.first for pair in pairs} == expected
    told = split_warning(data)
    assert told is not None
    assert f"{len(expected)} of 15 held-out images" in told
    assert "~" in told
    assert split_warning(open_dataset(DataConfig(str(leaking), resolution=(32, 32)))) is None


def test_where_no_copies_are_nothing_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", photos(60))
    assert split_warning(open_dataset(DataConfig(str(tmp_path / "set.npy"), resolution=(32, 32), held_out=0.5))) is None


def test_on_the_command_line(leaking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--resolution", "32", "--held-out", "0.3"]
    code, out = call(capsys, tmp_path, "data", "inspect", leaking, *options, "--group", "folder", "--json")
    report = json.loads(out)
    assert code == 0
    assert len(report["near"]) == 10
    assert "near-duplicates of training images" in report["near_split"]
    code, out = call(capsys, tmp_path, "data", "inspect", leaking, *options, "--group", "folder")
    assert "10 pairs, 10 between groups: p" in " ".join(out.split())
    code, out = call(capsys, tmp_path, "train", leaking, *options, "--preset", "tiny", "--threads", "1", "--dry-run")
    assert code == 0, out
    assert "warning: " in out
    assert "held-out images are near-duplicates of training images: p" in out
