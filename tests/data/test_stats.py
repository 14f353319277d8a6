"""Statistics of stored images against NumPy, and the sentences about them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, open_dataset
from frugan.data.decode import resize
from frugan.data.stats import Histograms, kept_share


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 10),
    depths=st.lists(st.sampled_from([8, 16]), min_size=1, max_size=4),
    alpha=st.booleans(),
)
def test_histograms_are_exact(seed: int, channels: int, depths: list[int], alpha: bool) -> None:
    rng = np.random.default_rng(seed)
    counted = Histograms(alpha=alpha)
    images = []
    for depth in depths:
        shape = (*rng.integers(1, 9, 2), channels)
        top = int(rng.integers(1, 1 << depth))
        images.append(rng.integers(0, top + 1, shape).astype(np.uint8 if depth == 8 else np.uint16))
        counted.add(images[-1])
    for depth in set(depths):
        own = np.concatenate([x.reshape(-1, channels) for x in images if 8 * x.dtype.itemsize == depth])
        found = [value for value in counted.values() if value.depth == depth]
        assert len(found) == (channels if channels <= 8 else 1)
        for i, value in enumerate(found):
            values = own[:, i] if channels <= 8 else own.reshape(-1)
            p1, p99 = np.quantile(values, [0.01, 0.99], method="inverted_cdf")
            assert (value.low, value.p1, value.p99, value.high) == (values.min(), p1, p99, values.max())
        assert (found[-1].channel == "alpha") == (alpha and channels in (2, 4))


@settings(deadline=None, max_examples=60)
@given(sizes=st.tuples(*(st.integers(1, 60) for _ in range(4))))
def test_the_share_that_a_crop_keeps(sizes: tuple[int, int, int, int]) -> None:
    h, w, H, W = sizes
    scale = max(H / h, W / w)
    assert kept_share((h, w), (H, W), "crop") == pytest.approx((H / scale) * (W / scale) / (h * w))
    assert kept_share((h, w), (H, W), "letterbox") == 1


def test_what_is_cut_away_is_gone(noise) -> None:
    """The share is that of the pixels that matter: those outside do not change the result."""
    image = noise(8, 32, 3)
    outside = image.copy()
    outside[:, :10] = 0
    outside[:, -10:] = 255
    assert kept_share((8, 32), (8, 8), "crop") == 0.25
    np.testing.assert_array_equal(resize(image, (8, 8), filter="box"), resize(outside, (8, 8), filter="box"))


def _save(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(folder / name)


def _with_alpha(pixels: np.ndarray, alpha: int) -> np.ndarray:
    return np.concatenate([pixels, np.full_like(pixels[..., :1], alpha)], -1)


@pytest.mark.parametrize(("colour", "mixed", "fit"), list(product((1, 3), (False, True), ("crop", "letterbox"))))
def test_opaque_alpha_is_left_out(colour: int, mixed: bool, fit: str, tmp_path: Path, noise) -> None:
    plain = [noise(8, 8, colour, seed=i) for i in range(4)]
    for i, pixels in enumerate(plain):
        _save(tmp_path / "set", f"{i}.png", pixels if mixed and i < 2 else _with_alpha(pixels, 255))
    data = open_dataset(DataConfig(str(tmp_path / "set"), fit=fit))  # type: ignore[arg-type]
    np.testing.assert_array_equal(data.pixels, plain)
    name = {1: "L", 3: "RGB"}[colour]
    assert data.config.channels == name
    assert any("alpha is opaque in every image" in note and f"--channels {name} " in note for note in data.notes)
    assert open_dataset(data.config).fingerprint == data.fingerprint
    kept = open_dataset(DataConfig(str(tmp_path / "set"), channels=f"{name}A"))  # type: ignore[arg-type]
    assert kept.channels == colour + 1
    assert any("leave it out" in note for note in kept.notes)


def test_one_transparent_pixel_keeps_alpha(tmp_path: Path, noise) -> None:
    for i in range(3):
        pixels = _with_alpha(noise(8, 8, 3, seed=i), 255)
        pixels[0, 0, 3] = 254 if i == 2 else 255
        _save(tmp_path / "set", f"{i}.png", pixels)
    data = open_dataset(DataConfig(str(tmp_path / "set")))
    assert (data.channels, data.config.channels) == (4, "auto")
    assert data.notes == []


def test_alpha_of_nothing_is_told(tmp_path: Path, noise) -> None:
    for i in range(3):
        _save(tmp_path / "set", f"{i}.png", _with_alpha(noise(8, 8, 3, seed=i), 0))
    assert any("alpha is 0 in every image" in note for note in open_dataset(DataConfig(str(tmp_path / "set"))).notes)


def test_a_fourth_channel_of_an_array_is_no_alpha(tmp_path: Path, noise) -> None:
    np.save(tmp_path / "set.npy", _with_alpha(noise(3, 8, 8, 3), 255))
    data = open_dataset(DataConfig(str(tmp_path / "set.npy")))
    assert data.channels == 4
    assert not any("alpha" in note for note in data.notes)


def test_frames_after_the_first_are_counted(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), 80 * i) for i in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.tif", save_all=True, append_images=frames[1:3])
    frames[1].save(tmp_path / "c.png")
    data = open_dataset(DataConfig(str(tmp_path), channels="L"))
    assert (data.stats.frames, data.stats.animated) == (5, 2)
    assert any(note.startswith("2 files hold several frames or pages") for note in data.notes)
