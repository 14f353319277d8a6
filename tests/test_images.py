"""Pixels to numbers and back, grids, captions and image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

import frugan
from frugan.errors import FruganError
from frugan.images import (
    SOFTWARE_KEY,
    captioned_grid,
    drawable,
    grid,
    is_own_output,
    pil_image,
    save_image,
    save_images,
    to_float,
    to_pixels,
    to_uint8,
    upscale,
)
from frugan.latent.sheets import table
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
    path = save_image(np.zeros((4, 6, channels), np.uint8), tmp_path / "deep" / "x.png")
    with Image.open(path) as image:
        assert (image.mode, image.size) == (mode, (6, 4))
        assert is_own_output(image.info)


def test_own_output_is_known_by_its_mark(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    path = save_image(pixels, tmp_path / "x.PNG", text={"frugan.class": "épée 猫"})
    with Image.open(path) as image:
        assert image.text["frugan.class"] == "épée 猫"  # pyright: ignore[reportAttributeAccessIssue]
        assert image.text[SOFTWARE_KEY].startswith("frugan ")  # pyright: ignore[reportAttributeAccessIssue]
    pil_image(pixels).save(tmp_path / "y.png")  # as data is written
    with Image.open(tmp_path / "y.png") as image:
        assert not is_own_output(image.info)
    assert not is_own_output({SOFTWARE_KEY: "GIMP 3"})
    assert not is_own_output({SOFTWARE_KEY: 3})


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 5), h=st.integers(1, 9), w=st.integers(1, 9), channels=st.integers(1, 6), scale=st.integers(1, 3)
)
def test_saved_images_come_back(
    n: int, h: int, w: int, channels: int, scale: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of every size and channel count: each file holds the nearest of 256 levels."""
    images = torch.rand(n, channels, h, w, generator=torch.Generator().manual_seed(n)) * 2.4 - 1.2
    folder = tmp_path_factory.mktemp("x") / "new"
    paths = frugan.save_images(images, folder, scale=scale, text={"Note": "ü"})
    assert [path.name for path in paths] == [f"{i:04d}.png" for i in range(n)]
    kept = images[:, : channels if channels <= 4 else 3]
    for path, image in zip(paths, kept):
        with Image.open(path) as file:
            found = np.asarray(file).reshape(h * scale, w * scale, -1)
            assert is_own_output(file.info)
            assert file.info["Note"] == "ü"
        wanted = (image.clamp(-1, 1).double() + 1) * 127.5
        assert abs(found[::scale, ::scale].transpose(2, 0, 1) - wanted.numpy()).max() <= 0.5 + 1e-4
        assert np.array_equal(found, upscale(found[None, ::scale, ::scale], scale)[0])


def test_saved_as_one_file(tmp_path: Path) -> None:
    images = torch.zeros(5, 3, 10, 20)
    assert save_images(images, tmp_path / "grid.png", columns=2) == [tmp_path / "grid.png"]
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == (2 * 24 + 4, 3 * 14 + 4)
        pixels = np.asarray(image)
    assert (pixels[:4] == 255).all()
    assert (pixels[4:14, 4:24] == 128).all()
    assert (pixels[32:42, 28:48] == 255).all()  # the sixth cell is free
    save_images(images[:1], tmp_path / "one.jpg")
    with Image.open(tmp_path / "one.jpg") as image:
        assert image.size == (20, 10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"images": torch.zeros(3, 8, 8)}, r"float32 \[3, 8, 8\]: give a float tensor \[N, C, H, W\]"),
        ({"images": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "uint8"),
        ({"images": np.zeros((1, 3, 8, 8), np.float32)}, "ndarray"),
        ({"images": torch.zeros(0, 3, 8, 8)}, "N at least 1"),
        ({"images": torch.full((1, 3, 8, 8), torch.nan)}, "not finite"),
        ({"scale": 0}, "scale 0"),
        ({"columns": 1.5}, "columns 1.5"),
        ({"captions": ["a"]}, "1 captions for 2 images"),
        ({"images": torch.zeros(1, 4, 8, 8), "path": "x.jpg"}, "no transparency"),
    ],
)
def test_odd_images_are_refused_before_anything_is_written(arguments: dict, says: str, tmp_path: Path) -> None:
    arguments = {"images": torch.zeros(2, 3, 8, 8), "path": "out", **arguments}
    path = tmp_path / arguments.pop("path")
    with pytest.raises(FruganError, match=says):
        save_images(path=path, **arguments)
    assert not path.exists()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("width", [1, 8, 40, 200])
def test_captions_stand_below_their_image(channels: int, width: int) -> None:
    pixels = np.full((3, 10, width, channels), 7, np.uint8)
    plain = captioned_grid(pixels, columns=3)
    sheet = captioned_grid(pixels, columns=3, captions=["long enough to be cut off somewhere", "", "m"])
    assert sheet.shape[0] == plain.shape[0] + 16
    assert sheet.shape[1:] == plain.shape[1:]
    assert np.array_equal(sheet[:14], plain[:14])
    below = sheet[14:30, :, 0]
    assert (below[:, 4 + width : 8 + width] == 255).all()  # nothing leaves its column
    assert (below[:, 8 + width : 8 + 2 * width] == 255).all()
    assert (below < 128).any() == (width >= 40)
    if channels in (2, 4):
        assert (sheet[14:, :, -1] == 255).all()  # opaque


def test_captions_in_any_letters() -> None:
    assert drawable("seed 3: cat\n")[0] == "seed 3: cat"
    assert drawable("a\U0010fffe\u202e")[0] == "a??"
    pixels = np.zeros((1, 8, 60, 3), np.uint8)
    assert captioned_grid(pixels, captions=["a\nb\tc 猫 \U0010fffe"]).shape == (8 + 16 + 8, 68, 3)


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters() | st.sampled_from("aZ 日本é🙂مΩ\u202e\0"), max_size=12), st.booleans())
def test_what_a_font_has_is_drawn_and_the_rest_is_a_question_mark(text: str, bare: bool) -> None:
    """On a machine with fonts, and on one where only the font that comes with Pillow is there."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if bare:
            monkeypatch.setattr("frugan.images._fonts", lambda size: [ImageFont.load_default(size)])
        shown, font = drawable(text)
        sheet = table(torch.zeros(1, 3, 8, 8), 1, column_names=[text], row_names=[text], title=text)
        same = table(torch.zeros(1, 3, 8, 8), 1, column_names=[shown], row_names=[shown], title=shown)
    line = " ".join(text.split())
    assert len(shown) == len(line)
    box = bytes(font.getmask("\U0010ffff"))
    for c, drawn in zip(line, shown):
        assert drawn == c if c.isascii() and c.isprintable() else drawn in (c, "?")
        assert drawn == " " or bytes(font.getmask(drawn)) != box
    assert np.array_equal(sheet, same)


def test_pixels_of_both_depths() -> None:
    images = to_float(torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(1, 256, 256, 1))
    assert (to_pixels(images, 16).ravel() == np.arange(65536)).all()
    assert np.array_equal(to_pixels(images, 8), to_uint8(images))
    assert to_pixels(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2), 16).ravel().tolist() == [0, 65535]


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
