"""Crops of large images: where they lie, what they hold, their labels and groups, and what is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, open_dataset
from frugan.data.sources.crops import CropConfig, Crops, places
from frugan.data.sources.folder import Folder
from frugan.data.tools import inspect
from frugan.errors import FruganError
from tests.program import call

SIDES = st.integers(8, 60)


@settings(deadline=None, max_examples=150)
@given(SIDES, SIDES, st.integers(8, 20), st.sampled_from([None, 1, 3, 50]), st.floats(0, 0.9), st.booleans())
def test_crops_lie_within_the_image(
    h: int, w: int, size: int, count: int | None, overlap: float, rotations: bool
) -> None:
    size = min(size, h, w)
    config = CropConfig(count, size, overlap if count is None else 0, rotations)
    found = places("a.png", h, w, config)
    assert found == sorted(set(found)) == places("a.png", h, w, config)
    assert all(
        0 <= y <= h - size and 0 <= x <= w - size and 0 <= turn < (4 if rotations else 1) for y, x, turn in found
    )
    if count:
        assert len(found) == min(count, (h - size + 1) * (w - size + 1) * (4 if rotations else 1))
        return
    tops = sorted({y for y, _, _ in found})
    stride = max(round(size * (1 - overlap)), 1)
    assert len(tops) == (h - size) // stride + 1
    assert set(np.diff(tops)) <= {stride}
    assert abs(tops[0] - (h - size - tops[-1])) <= 1  # what is left over is cut away at both ends


def test_places_at_random_are_spread_evenly_and_by_seed_and_name() -> None:
    config = CropConfig(4000, 10)
    tops = np.array(places("a", 209, 109, config))[:, 0]
    assert np.histogram(tops, 4, (0, 200))[0].min() > 850
    assert places("b", 209, 109, config) != places("a", 209, 109, config)
    assert places("a", 209, 109, CropConfig(4000, 10, seed=1)) != places("a", 209, 109, config)


@pytest.fixture
def scans(tmp_path: Path, make_images) -> tuple[Path, dict[str, np.ndarray]]:
    names = ["ice/a.png", "ice/b@2.png", "rock/c.png"]
    found = {}
    for name, size in zip(names, [(40, 64), (33, 32), (70, 50)]):
        found |= {name: make_images(tmp_path / "scans", [name], size)[0]}
    return tmp_path / "scans", found


@pytest.mark.parametrize("crops", ["grid", "9"])
def test_pixels_are_those_of_the_image(crops: str, scans: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, wholes = scans
    data = open_dataset(DataConfig(str(folder), crops=crops, crop_size=16, crop_rotations=True, labels="folders"))
    assert data.resolution == (16, 16)
    turned = set()
    for pixels, name, label in zip(data.pixels, data.names, data.labels):  # pyright: ignore[reportArgumentType]
        image, _, place = name.rpartition("@")
        place, _, turns = place.partition("r")
        y, x = map(int, place.split(","))
        np.testing.assert_array_equal(pixels, np.rot90(wholes[image][y : y + 16, x : x + 16], int(turns or 0)))
        assert data.class_names is not None
        assert data.class_names[label.argmax()] == image.split("/")[0]
        turned.add(turns)
    assert len(turned) > 1
    counts = {"grid": [2 * 4 * 4, 2 * 2 * 4, 4 * 3 * 4], "9": [9, 9, 9]}[crops]
    assert data.groups is not None
    assert (data.groups.names, data.groups.sizes.tolist()) == (list(wholes), counts)
    assert f"{sum(counts)} crops of 16x16 pixels from 3 images" in data.notes


def test_an_image_is_held_out_whole(scans: tuple[Path, dict[str, np.ndarray]]) -> None:
    config = DataConfig(str(scans[0]), crops="20", crop_size=16, held_out=0.3)
    data = open_dataset(config)
    assert data.groups is not None
    assert len(data.held_out_indices) == 20
    assert len(set(data.groups.numbers[data.held_out_indices])) == 1
    by_folder = open_dataset(DataConfig(str(scans[0]), crops="20", crop_size=16, group="folder", held_out=0.3))
    assert by_folder.groups is not None
    assert (by_folder.groups.names, by_folder.groups.sizes.tolist()) == (["ice", "rock"], [40, 20])


def test_another_image_moves_no_crop_and_settings_do(scans: tuple[Path, dict[str, np.ndarray]], make_images) -> None:
    folder, _ = scans

    def names(**change: object) -> set[str]:
        return set(open_dataset(DataConfig(str(folder), **{"crops": "5", "crop_size": 16, **change})).names)  # type: ignore[arg-type]

    before = names()
    assert names(crop_seed=1) != before
    make_images(folder, ["rock/a.png"], (40, 40))
    assert before < names()


def test_the_cache_knows_sizes_apart(scans: tuple[Path, dict[str, np.ndarray]]) -> None:
    sizes = [open_dataset(DataConfig(str(scans[0]), crops="1", crop_size=size)).resolution for size in (16, 32, 16)]
    assert sizes == [(16, 16), (32, 32), (16, 16)]


def test_one_image_is_decoded_at_a_time_and_once(scans: tuple[Path, dict[str, np.ndarray]], monkeypatch) -> None:
    decoding: list[int] = []
    at_once = threading.Semaphore(1)
    plain = Folder.pixels

    def counted(self: Folder, index: int) -> np.ndarray:
        assert at_once.acquire(blocking=False), "two images are being decoded"
        decoding.append(index)
        try:
            return plain(self, index)
        finally:
            at_once.release()

    monkeypatch.setattr(Folder, "pixels", counted)
    open_dataset(DataConfig(str(scans[0]), crops="50", crop_size=16))
    assert len(decoding) < 40  # of 150 crops: those of two images may alternate where one ends


def test_a_broken_image_is_skipped_and_named_once(scans: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, _ = scans
    whole = (folder / "ice/a.png").read_bytes()
    (folder / "ice/a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "ice/d@1.png").write_bytes(b"nothing")
    data = open_dataset(DataConfig(str(folder), crops="9", crop_size=16))
    assert [name for name, _ in data.skipped] == ["ice/a.png", "ice/d@1.png"]
    assert len(data) == 18
    with pytest.raises(FruganError, match="2 of 4 images cannot be read"):
        open_dataset(DataConfig(str(folder), crops="9", crop_size=16, strict=True))


MISTAKES = {
    "--crop-size is of crops": {"crop_size": 16},
    "--crop-overlap is of crops": {"crop_overlap": 0.5},
    "--crop-rotations is of crops": {"crop_rotations": True},
    "--crops 0: give their number": {"crops": "0", "crop_size": 16},
    "--crops many: give their number": {"crops": "many", "crop_size": 16},
    "--crops grid needs a size in pixels": {"crops": "grid"},
    "--crop-size 4: give": {"crops": "grid", "crop_size": 4},
    "--crop-overlap 1: give": {"crops": "grid", "crop_size": 16, "crop_overlap": 1},
    "--crop-overlap is of a grid": {"crops": "3", "crop_size": 16, "crop_overlap": 0.5},
    r"--crop-size 34: 1 of 3 images are smaller, the first is ice/b@2\.png of 33x32": {"crops": "3", "crop_size": 34},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str, scans: tuple[Path, dict[str, np.ndarray]]) -> None:
    with pytest.raises(FruganError, match=message):
        open_dataset(DataConfig(str(scans[0]), **MISTAKES[message]))  # type: ignore[arg-type]
    with pytest.raises(FruganError, match="shards are read as they are"):
        DataConfig("set-{0..3}.tar", crops="3", crop_size=16)


def test_too_many(scans: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugan.data.sources.crops.MOST_CROPS", 26)
    with pytest.raises(FruganError, match="gives 27 crops, the limit is 26"):
        open_dataset(DataConfig(str(scans[0]), crops="9", crop_size=16))


def test_a_single_image_cannot_be_held_out(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "one", ["a.png"], (64, 64))
    config = DataConfig(str(tmp_path / "one"), crops="20", crop_size=16)
    assert len(open_dataset(config)) == 20
    with pytest.raises(FruganError, match=r"source image puts all 20 images into one group"):
        open_dataset(DataConfig(str(tmp_path / "one"), crops="20", crop_size=16, held_out=0.1))


def test_sixteen_bits_and_opacity(tmp_path: Path, png16) -> None:
    for channels in (1, 4):
        pixels = np.random.default_rng(channels).integers(0, 65536, (40, 40, channels), np.uint16)
        folder = tmp_path / str(channels)
        folder.mkdir()
        (folder / "a.png").write_bytes(png16(pixels))
        data = open_dataset(DataConfig(str(folder), crops="grid", crop_size=16))
        assert (data.depth, data.channels, data.alpha) == (16, channels, channels == 4)
        np.testing.assert_array_equal(data.pixels[0], pixels[4:20, 4:20])


def test_inspect_and_dry_run_tell_how_many(
    scans: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = inspect(DataConfig(str(scans[0]), crops="9", crop_size=16))
    assert report.count == 27
    assert ("note", "27 crops of 16x16 pixels from 3 images") in report.rows()
    assert report.classes == {"ice": 18, "rock": 9}
    options = ["--crops", "9", "--crop-size", "16", "--held-out", "0.3", "--preset", "tiny", "--threads", "1"]
    code, out = call(capsys, tmp_path, "train", scans[0], *options, "--dry-run")
    assert code == 0, out
    assert "note: 27 crops of 16x16 pixels from 3 images" in out
    assert "groups: 3 by source image, of 9 images each; held out: 9 images of 1" in out
    Image.new("RGB", (12, 40)).save(scans[0] / "ice/small.png")
    code, out = call(capsys, tmp_path, "data", "inspect", scans[0], *options[:4])
    assert code == 2
    assert "1 of 4 images are smaller, the first is ice/small.png of 40x12; give a smaller size" in out


def test_crops_are_a_source(scans: tuple[Path, dict[str, np.ndarray]]) -> None:
    source = Folder(scans[0])
    heads = [source.header(i) for i in range(len(source.names))]
    crops = Crops(source, heads, CropConfig(2, 16))
    assert crops.stamp() != Crops(source, heads, CropConfig(3, 16)).stamp()
    assert len({crops.digest(i) for i in range(len(crops.names))}) == 6
    assert (crops.header(0).height, crops.header(0).width) == (16, 16)
