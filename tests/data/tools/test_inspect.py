"""The report on a set, and its contact sheet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.data import DataConfig, open_dataset
from frugan.data.tools import contact_sheet, inspect
from frugan.errors import FruganError


def test_a_good_set(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(4)], (32, 32))
    report = inspect(tmp_path)
    assert report.problems == []
    assert (report.count, report.kind, report.unreadable) == (8, "folder", [])
    assert report.formats == {"PNG": 8}
    assert report.sizes == {"32x32": 8}
    assert report.modes == {"RGB": 8}
    assert report.classes == {"cat": 4, "dog": 4}
    assert report.config == DataConfig(str(tmp_path))
    assert report.same_files == report.same_pixels == []


@pytest.fixture
def messy(tmp_path: Path, make_images, noise) -> Path:
    make_images(tmp_path, ["a.png", "b.png", "d.png"], (40, 40))
    shutil.copy(tmp_path / "a.png", tmp_path / "copy of a.png")
    Image.fromarray(noise(40, 40, 3, seed=1)).save(tmp_path / "b again.bmp")
    Image.fromarray(noise(70, 40, seed=8)).save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "d.png").read_bytes()[:500])
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def test_a_messy_set(messy: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = inspect(messy, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)
    assert seen == sorted(seen)
    assert report.same_files == [["a.png", "copy of a.png"]]
    assert ["b again.bmp", "b.png"] in report.same_pixels
    assert [name for name, _ in report.unreadable] == ["broken.png"]
    assert report.ignored == {".txt": 1}
    assert report.formats == {"PNG": 5, "BMP": 1}
    assert len(report.problems) == 1
    assert "--channels RGB --resolution 40" in report.problems[0]
    assert (report.config.resolution, report.config.channels) == ((40, 40), "RGB")
    assert report.dataset.pixels.shape == (6, 40, 40, 3)
    open_dataset(report.config)  # the remedies do help
    text = "\n".join(f"{what}: {finding}" for what, finding in report.rows())
    for expected in ("6 readable", "40x40: 5, 70x40: 1", "a.png = copy of a.png", "broken.png: ", "40, 3 channels RGB"):
        assert expected in text
    assert json.loads(json.dumps(report.to_dict()))["training"]["resolution"] == [40, 40]


def test_labels_at_fault_are_a_problem_not_an_end(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.csv").write_text("name,kind\na.png,1")
    report = inspect(tmp_path)
    assert report.label_size == 0
    assert "b.png has no label" in report.problems[0]


TABLE = "name,kind\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(4))
IN_USE = {
    "labels.csv": ({"labels.csv": TABLE, "labels.json": '{"kind": ["b", "a"]}'}, {}),
    "named": ({"kinds.csv": TABLE}, {"labels": "kinds.csv"}),
    "by its path": ({"kinds.csv": TABLE}, {"labels": "set/kinds.csv"}),
    "dataset.json": ({"dataset.json": json.dumps({"labels": {f"{i}.png": i % 2 for i in range(4)}})}, {}),
    "groups": ({"who.csv": TABLE}, {"group": "who.csv:kind"}),
    "channels": ({"data.json": '{"channels": 3}'}, {}),
}


@pytest.mark.parametrize("name", IN_USE)
def test_what_is_in_use_is_no_other_file(
    name: str, tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "set", [f"{i}.png" for i in range(4)], (16, 16))
    texts, options = IN_USE[name]
    for file, text in {**texts, "notes.txt": "x", "others.csv": TABLE, "others.json": "{}"}.items():
        (tmp_path / "set" / file).write_text(text)
    report = inspect(DataConfig("set", **options))
    assert report.problems == []
    assert report.ignored == {".txt": 1, ".csv": 1, ".json": 1}


def test_strict_tells_of_unreadable_images(messy: Path) -> None:
    report = inspect(DataConfig(str(messy), resolution=(32, 32), channels="RGB", strict=True))
    assert report.problems == ["1 images cannot be read, and --strict refuses that; fix or remove them"]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FruganError, match="none of the 1 images"):
        inspect(tmp_path)


def test_contact_sheet(tmp_path: Path, noise) -> None:
    pixels = noise(30, 8, 6, 3, dtype=np.uint16)
    np.save(tmp_path / "set.npy", pixels)
    data = open_dataset(DataConfig(str(tmp_path / "set.npy")))
    sheet = contact_sheet(data, count=4, columns=2)
    assert sheet.shape == (16, 12, 3)
    assert sheet.dtype == np.uint16
    np.testing.assert_array_equal(sheet[:8, :6], pixels[0])
    np.testing.assert_array_equal(sheet[8:, 6:], pixels[-1])
    small = contact_sheet(data, count=4, columns=2, kind="jpg")
    assert small.dtype == np.uint8
    assert abs(small.astype(int) * 257 - sheet).max() <= 129
    assert contact_sheet(data, count=100, columns=6).shape == (40, 36, 3)
    assert contact_sheet(data, count=4, columns=2, largest=4).shape == (8, 6, 3)
