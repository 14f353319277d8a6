from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frugan.pictures import SOFTWARE_KEY, grid, is_own_output, picture, save_picture, to_float, to_uint8
from frugan.resolution import base_grid, nearest_size


def test_every_byte_comes_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    images = to_float(pixels)
    assert images.min() == -1
    assert images.max() == 1
    assert (to_uint8(images) == pixels.numpy()).all()


def test_sixteen_bits() -> None:
    pixels = torch.tensor([0, 65535, 257 * 100], dtype=torch.uint16).view(1, 1, 3, 1)
    torch.testing.assert_close(to_float(pixels).flatten(), torch.tensor([-1.0, 1.0, 100 / 127.5 - 1]))


def test_out_of_range_is_clipped() -> None:
    assert to_uint8(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2)).ravel().tolist() == [0, 255]


def test_grid_fills_rows() -> None:
    tiles = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8) + 1
    sheet = grid(tiles, columns=3)
    assert sheet.shape == (4, 9, 1)
    assert sheet[0, ::3, 0].tolist() == [1, 2, 3]
    assert sheet[2, ::3, 0].tolist() == [4, 5, 0]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA"), (7, "RGB")])
def test_saved_modes(tmp_path: Path, channels: int, mode: str) -> None:
    path = save_picture(np.zeros((4, 6, channels), np.uint8), tmp_path / "deep" / "x.png")
    with Image.open(path) as image:
        assert (image.mode, image.size) == (mode, (6, 4))
        assert is_own_output(image.info)


def test_own_output_is_known_by_its_mark(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    path = save_picture(pixels, tmp_path / "x.PNG", text={"frugan.class": "épée 猫"})
    with Image.open(path) as image:
        assert image.text["frugan.class"] == "épée 猫"
        assert image.text[SOFTWARE_KEY].startswith("frugan ")
    picture(pixels).save(tmp_path / "y.png")  # as data is written
    with Image.open(tmp_path / "y.png") as image:
        assert not is_own_output(image.info)
    assert not is_own_output({SOFTWARE_KEY: "GIMP 3"})
    assert not is_own_output({SOFTWARE_KEY: 3})


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 32), (4, 4, 3)),
        ((1024, 1024), (4, 4, 8)),
        ((48, 64), (3, 4, 4)),
        ((64, 96), (4, 6, 4)),
        ((8, 8), (4, 4, 1)),
    ],
)
def test_base_grid(size: tuple[int, int], expected: tuple[int, int, int]) -> None:
    assert base_grid(*size) == expected


def test_nearest_size_is_valid_and_near() -> None:
    for size in ((17, 32), (100, 100), (1, 1), (33, 35), (720, 1280)):
        h, w = nearest_size(*size)
        base_grid(h, w)
        assert abs(h - size[0]) + abs(w - size[1]) <= 0.15 * sum(size) + 12
