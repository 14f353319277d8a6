"""Every format and mode, 16 bits, orientation, conversions, and resizing against Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from frugan.channels import CHANNELS
from frugan.data.decode import FILTERS, FORMATS, convert, read_header, read_pixels, resize
from fuzz.damage import program


def _file(image: Image.Image, format: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def _reread(content: bytes) -> np.ndarray:
    header = read_header(io.BytesIO(content))
    pixels = read_pixels(io.BytesIO(content))
    assert (header.height, header.width, header.channels) == pixels.shape
    assert header.depth == 8 * pixels.dtype.itemsize
    return pixels


OPAQUE = ("JPEG", "GIF", "BMP")  # hold no partial opacity
WRITTEN = [
    format for format in FORMATS if format not in ("HEIF", "DICOM")
]  # whose decoder writes none: test_formats reads files of it
LOSSY = {"JPEG": 3, "AVIF": 4}  # levels


@pytest.mark.parametrize(
    ("format", "mode"), [(f, m) for f in WRITTEN for m in ("L", "RGB", "RGBA") if not (m == "RGBA" and f in OPAQUE)]
)
def test_every_format(format: str, mode: str, noise) -> None:
    size = (6, 9, CHANNELS[mode])
    pixels = np.broadcast_to(noise(1, 1, size[2]), size).copy()
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
    options = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(
        format, {}
    )
    read = _reread(_file(image, format, **options).getvalue())
    expected = pixels
    if mode == "L" and format in ("WEBP", "GIF", "AVIF"):  # colour formats
        expected = pixels.repeat(3, -1)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= LOSSY.get(format, 0)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("P", 3), ("CMYK", 3), ("LA", 2), ("I;16", 1), ("YCbCr", 3)])
def test_modes(mode: str, channels: int, noise) -> None:
    grey = noise(5, 7)
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow writes TIFF files of this mode that it cannot read")
    if mode == "I;16":
        image, format = Image.fromarray(grey.astype(np.uint16) * 200), "PNG"
    else:
        format = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
        image = Image.fromarray(np.stack([grey] * 3, -1)).convert("L" if mode == "LA" else "RGB").convert(mode)
    read = _reread(_file(image, format).getvalue())
    assert read.shape == (5, 7, channels)
    expected = np.asarray(image if mode in ("I;16", "LA") else image.convert("L" if channels == 1 else "RGB"))
    np.testing.assert_array_equal(read.reshape(expected.shape), expected)


def test_palette_with_transparency_becomes_rgba() -> None:
    image = Image.new("P", (4, 4))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    for format in ("PNG", "GIF"):
        read = _reread(_file(image, format, transparency=1).getvalue())
        assert read.shape == (4, 4, 4)
        assert read[0, 1, 3] == 0
        assert read[0, 0].tolist() == [255, 0, 0, 255]


def test_first_frame_of_an_animation(noise) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    for format in ("GIF", "WEBP", "TIFF"):
        read = _reread(_file(frames[0], format, save_all=True, append_images=frames[1:]).getvalue())
        assert np.abs(read[0, 0].astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_survive(channels: int, noise, png16) -> None:
    pixels = noise(11, 7, channels, dtype=np.uint16)
    np.testing.assert_array_equal(_reread(png16(pixels)), pixels)


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
def test_sixteen_bit_grey_tiff(compression: str | None, noise) -> None:
    pixels = noise(5, 6, dtype=np.uint16)
    read = _reread(_file(Image.fromarray(pixels), "TIFF", compression=compression).getvalue())
    np.testing.assert_array_equal(read[..., 0], pixels)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_colour_tiff(channels: int, order: str, noise) -> None:
    pixels = noise(5, 6, channels, dtype=np.uint16)
    np.testing.assert_array_equal(_reread(_tiff16(pixels, order)), pixels)


def _tiff16(pixels: np.ndarray, order: str) -> bytes:
    """A TIFF written by hand: Pillow writes no 16-bit colour."""
    h, w, c = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    tags = [(256, w), (257, h), (258, None), (259, 1), (262, 2), (273, 8), (277, c), (278, h), (279, len(data))]
    tags += [(338, 2)] if c == 4 else []
    number = lambda value, size: int(value).to_bytes(size, "little" if order == "<" else "big")  # noqa: E731
    after = 8 + len(data) + 2 + 12 * len(tags) + 4
    directory = number(len(tags), 2)
    for tag, value in tags:
        if value is None:
            directory += number(tag, 2) + number(3, 2) + number(c, 4) + number(after, 4)
        else:
            directory += number(tag, 2) + number(4, 2) + number(1, 4) + number(value, 4)
    head = (b"II" if order == "<" else b"MM") + number(42, 2) + number(8 + len(data), 4)
    return head + data + directory + number(0, 4) + number(16, 2) * c


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_orientation(orientation: int, dtype: type, noise) -> None:
    image = Image.fromarray(noise(4, 6, dtype=dtype))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _file(image, "PNG", exif=exif).getvalue()
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(_reread(content)[..., 0], upright)


def test_bombs_are_refused() -> None:
    with pytest.raises(Image.DecompressionBombError):
        read_header(_file(Image.new("1", (20_000, 20_000)), "PNG"))


@pytest.mark.parametrize("channels", CHANNELS.values())
@pytest.mark.parametrize("into", CHANNELS)
@pytest.mark.parametrize("background", ["white", "black"])
def test_convert_agrees_with_pillow(channels: int, into: str, background: str, noise) -> None:
    pixels = noise(6, 5, channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if channels in (2, 4) and into in ("L", "RGB"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    expected = np.asarray(image.convert(into)).reshape(6, 5, CHANNELS[into]).astype(int)
    actual = convert(pixels, CHANNELS[into], background)  # type: ignore[arg-type]
    assert actual.dtype == np.uint8
    assert np.abs(actual - expected).max() <= 1


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("shape", [(60, 100, 3), (100, 60, 1), (37, 41, 4), (20, 20, 2), (9, 9, 3)])
@pytest.mark.parametrize("target", [(16, 16), (12, 16), (16, 12)])
def test_crop_is_the_largest_centred_one(filter: str, shape: tuple, target: tuple, noise) -> None:
    pixels = noise(*shape)
    h, w = shape[:2]
    keep = min(h / target[0], w / target[1])
    kh, kw = keep * target[0], keep * target[1]
    box = ((w - kw) / 2, (h - kh) / 2, (w + kw) / 2, (h + kh) / 2)
    image = Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)
    expected = np.asarray(image.resize(target[::-1], FILTERS[filter], box=box)).reshape(*target, -1)
    actual = resize(pixels, target, filter=filter, alpha=shape[2] in (2, 4))  # type: ignore[arg-type]
    assert np.abs(actual.astype(int) - expected).max() <= 1  # the box may differ in its last bit


def test_letterbox_keeps_everything_and_centres_it(noise) -> None:
    pixels = noise(20, 40, 3)
    inner = np.asarray(Image.fromarray(pixels).resize((32, 16), Image.Resampling.LANCZOS))
    for background, value in (("white", 255), ("black", 0)):
        sheet = resize(pixels, (32, 32), fit="letterbox", background=background)  # type: ignore[arg-type]
        np.testing.assert_array_equal(sheet[8:24], inner)
        assert (np.r_[sheet[:8], sheet[24:]] == value).all()
    transparent = resize(noise(20, 40, 4), (32, 32), fit="letterbox", alpha=True)
    assert (transparent[:8] == 0).all()


def test_numbers_outside_eight_bits_follow_the_same_path(noise) -> None:
    """16-bit and many-channel pixels agree with Pillow's 8-bit resizing up to its rounding."""
    pixels = noise(40, 30, 3)
    expected = resize(pixels, (16, 12)).astype(int)
    wide = resize(pixels.astype(np.uint16) * 257, (16, 12))
    assert wide.dtype == np.uint16
    assert np.abs(wide / 257 - expected).max() < 2  # Pillow rounds between the two directions
    many = resize(np.concatenate([pixels, pixels], -1), (16, 12))
    assert np.abs(many.astype(int) - np.concatenate([expected] * 2, -1)).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_weighs_colours(dtype: type) -> None:
    """What transparent pixels hide never bleeds into the visible ones."""
    top = np.iinfo(dtype).max
    pixels = np.zeros((8, 8, 4), dtype)
    pixels[:, :4] = [top, 0, 0, top]
    pixels[:, 4:] = [0, top, 0, 0]
    small = resize(pixels, (2, 3), fit="letterbox", filter="box", alpha=True)
    visible = small[small[..., 3] > top // 8]
    assert (visible[:, 0] >= 0.98 * top).all()
    assert (visible[:, 1] == 0).all()


def test_the_right_size_is_left_alone(noise) -> None:
    pixels = noise(8, 8, 4)
    assert resize(pixels, (8, 8), alpha=True) is pixels


sides = st.one_of(st.integers(1, 40), st.integers(1, 700), st.sampled_from([1, 2, 5000, 20_000]))


@settings(deadline=None, max_examples=300)
@given(
    shape=st.tuples(sides, sides, st.integers(1, 5)).filter(lambda shape: shape[0] * shape[1] < 1 << 18),
    size=st.tuples(*[st.one_of(st.integers(1, 80), st.sampled_from([16, 64, 512]))] * 2),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    fit=st.sampled_from(["crop", "letterbox"]),
    filter=st.sampled_from(list(FILTERS)),
    level=st.floats(0, 1),
)
def test_every_size_becomes_every_size(
    shape: tuple, size: tuple, dtype: type, fit: str, filter: str, level: float
) -> None:
    """Extreme shapes, single pixels, enlarging: never an error, and an even image stays even."""
    value = round(level * np.iinfo(dtype).max)
    pixels = np.full(shape, value, dtype)
    pixels[..., -1] = np.iinfo(dtype).max
    resized = resize(pixels, size, fit=fit, filter=filter, alpha=shape[2] in (2, 4))  # type: ignore[arg-type]
    assert (resized.shape, resized.dtype) == ((*size, shape[2]), dtype)
    if fit == "crop" and shape[2] > 1:
        assert np.abs(resized[..., :-1].astype(int) - value).max() <= 1
    if fit == "letterbox" and shape[2] in (2, 4):
        seen = resized[..., -1] > np.iinfo(dtype).max // 2
        assert seen.any()
        assert np.abs(resized[seen][:, :-1].astype(int) - value).max() <= 1


@given(short=st.integers(1, 4000), size=st.integers(4, 1024))
@settings(deadline=None, max_examples=100)
def test_every_short_side_is_cropped(short: int, size: int) -> None:
    """Where the crop takes a whole side, rounding may not put it outside."""
    for shape in ((short, 2 * short + 3), (2 * short + 3, short)):
        if shape[0] * shape[1] < 1 << 20:
            assert resize(np.zeros((*shape, 1), np.uint8), (size, size)).shape == (size, size, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_box_filter_is_the_mean_of_blocks(dtype: type, noise) -> None:
    pixels = noise(12, 20, 3, dtype=dtype)
    expected = pixels.reshape(3, 4, 5, 4, 3).mean((1, 3))
    assert np.abs(resize(pixels, (3, 5), filter="box") - expected).max() <= 1


CASES = Path(__file__).parents[1] / "cases"


def _prepared(name: str, out: Path, *options: str) -> np.ndarray:
    """What `frugan data prepare` makes of a folder of cases, uint8 or uint16 `[N, H, W, C]`."""
    code, printed = program("data", "prepare", str(CASES / name), str(out), "--labels", "none", *options)
    assert code == 0, printed
    return np.load(out)["images"]


def _inspected(name: str, folder: Path) -> str:
    code, printed = program("data", "inspect", str(CASES / name), "--sheet", str(folder / "sheet.png"))
    assert code == 0, printed
    return printed


@pytest.mark.parametrize("bits", [8, 16])
def test_scans_stored_in_other_orientations(bits: int, tmp_path: Path) -> None:
    """All four are one size and stand upright: the marked corner is top left."""
    assert "32x48: 4" in _inspected(f"tiff-orientation/bits{bits}", tmp_path)
    images = _prepared(f"tiff-orientation/bits{bits}", tmp_path / "out.npz", "--resolution", "32x48")
    assert images.shape[:3] == (4, 32, 48)
    assert images.dtype == (np.uint8 if bits == 8 else np.uint16)
    corners = images[:, :2, :2].astype(int).mean((1, 2))
    assert (corners[:, : 2 if bits == 8 else 1] > 0.8 * np.iinfo(images.dtype).max).all()
    np.testing.assert_array_equal(corners, corners[:1].repeat(4, 0))


def test_odd_exif_costs_no_image(tmp_path: Path) -> None:
    assert "5 readable" in _inspected("exif-odd-tag", tmp_path)
    images = _prepared("exif-odd-tag", tmp_path / "out.npz").astype(int)
    # red grows downwards and green to the right in all of them, or the other way round; blue tells them apart
    assert len(images) == 5
    assert np.abs(images[1:, ..., :2] - images[:1, ..., :2]).max() <= 40
    assert np.abs(images[1:, ..., :2] - images[:1, ..., :2]).mean() < 4


def test_planes_are_read_as_interleaved_samples_are(tmp_path: Path) -> None:
    assert "16 bits" in _inspected("planar-tiff-16", tmp_path)
    images = _prepared("planar-tiff-16", tmp_path / "out.npz")
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images[0], images[1])


def test_one_transparent_colour(tmp_path: Path) -> None:
    _inspected("colour-key-16", tmp_path)
    opacity = _prepared("colour-key-16", tmp_path / "out.npz", "--channels", "RGBA")[..., 3]
    assert opacity.dtype == np.uint16
    for mask in opacity:
        assert set(np.unique(mask)) == {0, 65535}
        np.testing.assert_array_equal(mask, opacity[0])


def test_long_text_and_profiles_cost_no_image(tmp_path: Path) -> None:
    assert "3 readable" in _inspected("png-long-text", tmp_path)
    assert len(_prepared("png-long-text", tmp_path / "out.npz")) == 3


def test_a_wide_gamut_looks_the_same(tmp_path: Path) -> None:
    _inspected("wide-gamut", tmp_path)
    images = _prepared("wide-gamut", tmp_path / "out.npz").astype(int)
    assert np.abs(images[1] - images[0]).mean() < 1.5
    stored = np.asarray(Image.open(CASES / "wide-gamut/b_wide.png"), int)
    assert np.abs(stored - images[0]).mean() > 10  # not without the profile
