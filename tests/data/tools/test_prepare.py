"""Sets written out and read back."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from frugan.data import DataConfig, open_dataset
from frugan.data.tools import prepare
from frugan.errors import FruganError
from tests.containers import write_hdf5, write_zarr

OUTPUTS = ("out", "out.zip", "out.npz")


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("channels", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("labels", ["none", "folders"])
def test_round_trip(out: str, channels: str, labels: str, tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "set", [f"{i % 2}/{i}.png" for i in range(6)], (20, 30), 4)
    config = DataConfig(str(tmp_path / "set"), (12, 16), channels, labels=labels)  # type: ignore[arg-type]
    seen: list[int] = []
    report = prepare(config, tmp_path / out, progress=lambda done, total: seen.append(done))
    assert seen == sorted(seen)
    assert report.count == 6
    files = [report.path] if report.path.is_file() else [f for f in report.path.rglob("*") if f.is_file()]
    assert report.bytes == sum(file.stat().st_size for file in files)
    again = open_dataset(DataConfig(str(report.path), labels="none" if labels == "none" else "auto"))
    np.testing.assert_array_equal(again.pixels, report.dataset.pixels)
    np.testing.assert_array_equal(again.labels, report.dataset.labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out, "set"])


def test_the_layout_is_stylegans(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "set", [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(2)])
    prepare(DataConfig(str(tmp_path / "set"), labels="folders"), tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = [f"00000/img{i:08d}.png" for i in range(4)]
        assert archive.namelist() == [*names, "dataset.json"]
        index = json.loads(archive.read("dataset.json"))
    assert index == {"labels": [list(pair) for pair in zip(names, [0, 0, 1, 1])], "class_names": ["cat", "dog"]}
    assert open_dataset(DataConfig(str(tmp_path / "out.zip"), labels="auto")).class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    "labels", [[[0.5, 1], [2, 3], [4, 5]], [[1, 0, 0], [0, 1, 0], [1, 0, 0]], [[1, 1], [0, 1], [0, 0]]]
)
@pytest.mark.parametrize("out", OUTPUTS)
def test_labels_keep_their_size(labels: list, out: str, tmp_path: Path, noise) -> None:
    np.savez(tmp_path / "set.npz", images=noise(3, 8, 8), labels=np.array(labels, np.float32))
    prepare(DataConfig(str(tmp_path / "set.npz"), labels="auto"), tmp_path / out)
    again = open_dataset(DataConfig(str(tmp_path / out), labels="auto"))
    np.testing.assert_array_equal(again.labels, np.array(labels, np.float32))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_sixteen_bits(channels: int, tmp_path: Path, noise) -> None:
    np.save(tmp_path / "set.npy", noise(3, 8, 8, channels, dtype=np.uint16))
    config = DataConfig(str(tmp_path / "set.npy"))
    for out in OUTPUTS:
        if channels <= 4 or out == "out.npz":
            prepare(config, tmp_path / out)
            again = open_dataset(replace(config, path=str(tmp_path / out), channels="auto"))
            np.testing.assert_array_equal(again.pixels, open_dataset(config).pixels)
        else:
            with pytest.raises(FruganError, match=r"5 channels of uint16 numbers.*\.npz"):
                prepare(config, tmp_path / out)
            assert not (tmp_path / out).exists()


@pytest.mark.parametrize("kind", [".npy", ".npz", ".h5", ".zarr", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("out", OUTPUTS)
def test_a_channel_that_is_no_opacity_stays_none(
    kind: str, dtype: type, channels: int, out: str, tmp_path: Path, noise
) -> None:
    """As opacity it would weigh the other channels in resizing and leave them out where it is 0."""
    images = noise(3, 16, 16, channels, dtype=dtype)
    if kind == ".tif":
        (tmp_path / "set.tif").mkdir()
        for i, image in enumerate(images):
            tifffile.imwrite(tmp_path / f"set.tif/{i}.tif", image, photometric="minisblack", planarconfig="contig")
    else:
        writers: dict[str, Any] = {".npy": np.save, ".h5": write_hdf5, ".zarr": write_zarr}
        writers.get(kind, lambda path, images: np.savez(path, images=images))(tmp_path / f"set{kind}", images)
    config = DataConfig(str(tmp_path / f"set{kind}"))
    prepare(config, tmp_path / out)
    for small in (config, replace(config, resolution=(8, 8))):
        before, after = open_dataset(small), open_dataset(replace(small, path=str(tmp_path / out)))
        assert before.alpha == after.alpha
        np.testing.assert_array_equal(before.pixels, after.pixels)


def test_nothing_is_overwritten(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "set", ["a.png"])
    for out in OUTPUTS:
        taken = tmp_path / out
        if taken.suffix:
            taken.write_text("mine")
        else:
            make_images(taken, ["mine.png"])
        with pytest.raises(FruganError, match="exists already"):
            prepare(DataConfig(str(tmp_path / "set")), taken)


@pytest.mark.parametrize("out", OUTPUTS)
def test_images_can_be_changed_on_the_way(out: str, tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "set", [f"{i}.png" for i in range(4)], (16, 16), 3)
    config = DataConfig(str(tmp_path / "set"))
    report = prepare(config, tmp_path / out, change=lambda row, pixels: pixels // 2 + row)
    again = open_dataset(DataConfig(str(report.path)))
    rows = np.arange(4)[:, None, None, None]
    np.testing.assert_array_equal(again.pixels, np.asarray(report.dataset.pixels) // 2 + rows)
