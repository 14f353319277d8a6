# pyright: reportArgumentType=false
"""Images written as they were read: every type of numbers × channels × container, read back by other programs' libraries."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, Dataset, open_dataset
from frugan.errors import FruganError
from frugan.image_files import CONTAINERS, SUFFIXES, Output, choose_output, encode, png16, save, save_npz
from frugan.images import SOFTWARE_KEY, software, to_float
from frugan.pixel_format import NumberType, PixelFormat, channel_names

WHOLE: list[NumberType] = ["uint8", "uint16", "int8", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS: list[NumberType] = ["float16", "float32", "float64"]


def identity(dataset: Dataset) -> torch.Tensor:
    """What a generator would make that has learned the images by heart."""
    return to_float(torch.from_numpy(np.array(dataset.pixels)))


def read_by_others(content: bytes, kind: str) -> np.ndarray:
    """`[H, W, C]` as NumPy, tifffile, Pillow or libpng read a file."""
    file = io.BytesIO(content)
    if kind == "tiff":
        found = tifffile.imread(file)
    elif kind == "npy":
        found = np.load(file)
    elif kind == "png" and content[24] == 16:
        found = imagecodecs.png_decode(content)
    else:
        found = np.asarray(Image.open(file))
    return found.reshape(*found.shape[:2], -1)


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(WHOLE),
    channels=st.sampled_from([1, 2, 3, 4, 5, 9]),
    alpha=st.booleans(),
    low=st.integers(-(2**40), 2**40),
    span=st.one_of(st.integers(1, 65535), st.integers(1, 4_000_000)),
    kind=st.sampled_from(["auto", "tiff", "npy", "png"]),
    each=st.booleans(),
    size=st.sampled_from([(8, 8), (8, 12), (1, 3)]),
)
def test_whole_numbers_come_out_bit_for_bit(
    dtype: NumberType, channels: int, alpha: bool, low: int, span: int, kind, each: bool, size: tuple[int, int]
) -> None:  # fmt: skip
    from frugan.data.values import stretch

    limits = np.iinfo(dtype)
    alpha = alpha and channels in (2, 4) and dtype in ("uint8", "uint16")
    span = int(min(span, limits.max - limits.min))
    low = int(np.clip(low, limits.min, min(limits.max, 2**53) - span))
    rng = np.random.default_rng(0)
    colours = (rng.integers(0, span + 1, (2, *size, channels - alpha)) + low).astype(dtype)
    opacity = rng.integers(0, limits.max, (2, *size, 1), endpoint=True, dtype=dtype)
    stored = np.concatenate([colours, opacity], -1) if alpha else colours
    pairs = ((float(low), float(low + span)),) * (channels - alpha if each else 1)
    images = to_float(torch.from_numpy(stretch(stored, pairs, alpha=alpha)))
    pixels = PixelFormat(dtype, pairs, alpha)
    if kind == "png" and (channels > 4 or (channels in (2, 4)) != alpha):
        with pytest.raises(FruganError, match="use --format tiff, npy or npz"):
            choose_output(pixels, channels, kind)
        return
    output = choose_output(pixels, channels, kind)
    if kind == "png" and dtype not in ("uint8", "uint16"):
        assert not output.stored
        assert any("values are" in note for note in output.notes())
        return
    assert output.notes() == []
    values = output.values(images)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, stored)
    names = output.names
    found = read_by_others(encode(values[0], output.kind, alpha=alpha, names=names), output.kind)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, stored[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_come_out_in_the_units_of_the_data(dtype: NumberType, channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = (900 + 40 * rng.normal(size=(6, 8, 12, channels)) * np.arange(1, channels + 1)).astype(dtype)
    np.save(tmp_path / "set.npy", stored)
    data = open_dataset(DataConfig(str(tmp_path / "set.npy")))
    output = choose_output(data.pixel_format, channels)
    assert (output.kind, output.dtype, output.notes()) == ("tiff", "float32", [])
    values = output.values(identity(data))
    assert values.dtype == np.float32
    spans = np.array([hi - lo for lo, hi in data.value_range or ()])
    assert (np.abs(values - stored.astype(np.float64)) <= spans * 2**-24 + np.spacing(np.float32(1500))).all()
    for kind in ("tiff", "npy"):
        np.testing.assert_array_equal(read_by_others(encode(values[0], kind, alpha=False), kind), values[0])
    between = output.values(torch.full((1, channels, 1, 1), 0.1 + 1e-5))
    low = np.array([lo for lo, _ in data.value_range or ()])
    expected = np.broadcast_to(low + (1.1 + 1e-5) / 2 * spans, channels)
    np.testing.assert_allclose(between[0, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_every_container_round_trips_through_a_set(dtype: NumberType, channels: int, tmp_path: Path) -> None:
    """From files of one kind, through the cache, to files of every kind that holds them, read by other libraries."""
    rng = np.random.default_rng(1)
    top = 255 if dtype == "uint8" else 60_000 if dtype in ("uint16", "float32") else 30_000
    stored = rng.integers(0, top, (5, 8, 12, channels)).astype(dtype)
    stored = stored / np.float32(8) if dtype == "float32" else stored
    for i, image in enumerate(stored):
        save(
            image,
            tmp_path / "set" / f"{i}.tif",
            alpha=False,
            names=[f"band {k}" for k in range(channels)],
            text={"Seed": "1"},
        )
    data = open_dataset(DataConfig(str(tmp_path / "set"), use_generated=True))
    assert (data.pixel_format.dtype, data.channels, data.alpha) == (dtype, channels, False)
    images, held = identity(data), 0
    for kind in ("png", "tiff", "npy", "npz"):
        if kind == "png" and (channels not in (1, 3) or dtype not in ("uint8", "uint16")):
            continue
        output = choose_output(data.pixel_format, channels, kind)
        assert (output.dtype, output.stored) == (dtype, True)
        if kind == "npz":
            save_npz([output.values(images)], stored.shape, output.dtype, tmp_path / "all.npz")
            found = list(np.load(tmp_path / "all.npz")["images"])
        else:
            files = output.save(images, [tmp_path / kind / f"{i}" for i in range(5)])
            found = [read_by_others(file.read_bytes(), kind) for file in files]
        for image, expected in zip(found, stored, strict=True):
            assert image.dtype == dtype
            tolerance = 7500 * 2**-24 if dtype == "float32" else 0  # a float32 in [-1, 1] is as fine as that
            np.testing.assert_allclose(image.astype(float), expected, rtol=0, atol=tolerance)
        held += 1
    assert held == (4 if channels in (1, 3) and dtype in ("uint8", "uint16") else 3)


def write_foreign(images: np.ndarray, place: Path, kind: str, alpha: bool) -> Path:
    """Images as Pillow, imagecodecs, tifffile and NumPy write them: a folder of files, or one array."""
    if kind == "npy":
        np.save(place / "set.npy", images)
        return place / "set.npy"
    if kind == "npz":
        np.savez(place / "set.npz", images=images)
        return place / "set.npz"
    (place / "set").mkdir()
    for i, image in enumerate(images):
        flat, file = image[..., 0] if image.shape[-1] == 1 else image, place / "set" / f"{i}.{kind}"
        if kind == "tif":
            rgb = image.shape[-1] == 3 and image.dtype.kind == "u"
            options = {"planarconfig": "contig"} if image.shape[-1] > 1 else {}
            options |= {"extrasamples": ["unassalpha"]} if alpha else {}
            tifffile.imwrite(
                file, flat, photometric="rgb" if rgb or (alpha and image.shape[-1] == 4) else "minisblack", **options
            )
        elif image.dtype == np.uint8:
            Image.fromarray(flat).save(file)
        else:
            file.write_bytes(imagecodecs.png_encode(flat))
    return place / "set"


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["png", "tif", "npy", "npz"])
def test_foreign_files_come_out_for_foreign_readers(
    kind: str, dtype: NumberType, channels: int, tmp_path: Path
) -> None:
    """Every depth, number of channels and container, in and out: bit for bit, of floats as fine as a float32 in [-1, 1]."""
    if kind == "png" and (channels == 5 or dtype == "float32"):
        return  # there are no such files
    rng = np.random.default_rng(0)
    if dtype == "float32":
        stored = rng.normal(300, 40, (4, 8, 12, channels)).astype(np.float32)
    else:
        stored = rng.integers(0, np.iinfo(dtype).max, (4, 8, 12, channels), dtype, endpoint=True)
    alpha = channels in (2, 4) and kind in ("png", "tif") and dtype != "float32"
    data = open_dataset(DataConfig(str(write_foreign(stored, tmp_path, kind, alpha))))
    assert (data.skipped, data.pixel_format.dtype, data.channels) == ([], dtype, channels)
    opaque = data.alpha or not alpha
    assert opaque
    spans = np.array([hi - lo for lo, hi in data.value_range or ()]) if dtype == "float32" else np.zeros(1)
    for out in ("auto", "tiff", "npy", "npz"):
        output = choose_output(data.pixel_format, channels, out)
        assert output.notes() == []
        if output.kind == "npz":
            save_npz([output.values(identity(data))], stored.shape, output.dtype, tmp_path / "all.npz")
            found = np.load(tmp_path / "all.npz")["images"]
        else:
            files = output.save(identity(data), [tmp_path / out / f"{i}" for i in range(4)])
            found = np.stack([read_by_others(file.read_bytes(), output.kind) for file in files])
        assert found.dtype == dtype
        assert (
            np.abs(found.astype(float) - stored) <= spans * 2**-24 + np.where(spans, np.spacing(np.float32(400)), 0)
        ).all()


DICOM: dict[str, tuple[str, dict[str, object]]] = {
    "8 bits": ("uint8", {}),
    "16 bits": ("uint16", {}),
    "signed": ("int16", {}),
    "Hounsfield units": ("uint16", {"BitsStored": 12, "HighBit": 11, "RescaleSlope": "1", "RescaleIntercept": "-1024"}),
}


@pytest.mark.parametrize("name", DICOM)
def test_dicom_comes_out_in_its_own_numbers(name: str, tmp_path: Path) -> None:
    """As pydicom reads the pixels, slope and intercept applied, tifffile and libpng read what is written."""
    pydicom = pytest.importorskip("pydicom")
    from tests import containers

    dtype, tags = DICOM[name]
    top = 4095 if "BitsStored" in tags else np.iinfo(dtype).max
    frames = np.random.default_rng(0).integers(np.iinfo(dtype).min, top, (3, 8, 12, 1), dtype, endpoint=True)
    (tmp_path / "set").mkdir()
    expected = []
    for i, frame in enumerate(frames):
        file = tmp_path / "set" / f"{i}.dcm"
        file.write_bytes(containers.dicom(frame[None], **tags))
        content = pydicom.dcmread(file)
        expected.append(
            content.pixel_array * float(content.get("RescaleSlope", 1)) + float(content.get("RescaleIntercept", 0))
        )
    data = open_dataset(DataConfig(str(tmp_path / "set")))
    assert data.skipped == []
    output = choose_output(data.pixel_format, 1)
    files = output.save(identity(data), [tmp_path / "out" / f"{i}" for i in range(3)])
    for file, stored in zip(files, expected, strict=True):
        found = read_by_others(file.read_bytes(), output.kind)[..., 0]
        span = float(np.ptp(np.stack(expected)))
        measured = output.dtype == "float32"
        np.testing.assert_allclose(found.astype(float), stored, rtol=0, atol=span * 2**-24 + 2**-9 if measured else 0)
        np.testing.assert_array_equal(np.rint(found.astype(float)), stored)


DEPTHS = [("uint8", np.uint8), ("uint16", np.uint16)]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint8", "png"), ("uint16", "png"), ("uint8", "tiff"), ("uint16", "tiff"), ("uint8", "webp")]
)
def test_what_is_written_trains_again_as_the_same(dtype: str, kind, channels: int, tmp_path: Path) -> None:
    """Through our own reader: the same pixels, channels, and opacity. WebP knows neither grey nor grey with alpha."""
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    images = rng.integers(0, top + 1, (4, 8, 8, channels), dtype=dtype)
    images[0, 0] = 0
    images[0, 1] = top
    alpha = channels in (2, 4)
    if kind == "webp" and channels < 3:
        images = np.ascontiguousarray(np.broadcast_to(images[..., :1], images.shape)) if not alpha else images
    (tmp_path / "set").mkdir()
    output = Output(PixelFormat(dtype, None, alpha), channels, kind, dtype, True)
    for i, image in enumerate(images):
        save(image, tmp_path / "set" / f"{i}{output.suffix}", alpha=alpha, names=output.names, text={"Seed": "1"})
    data = open_dataset(
        DataConfig(str(tmp_path / "set"), use_generated=True, channels={1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels])
    )
    assert (data.channels, data.depth, data.alpha) == (channels, np.dtype(dtype).itemsize * 8, alpha)
    found = np.array(data.pixels)
    if alpha:  # nobody sees the colour of what is clear
        found[found[..., -1] == 0], images[images[..., -1] == 0] = 0, 0
    np.testing.assert_array_equal(found, images)


def test_tiff_tells_names_and_what_it_was_made_from(tmp_path: Path) -> None:
    names = ("blue", "vert", "rouge <é>", "nir", "swir & 2")
    values = np.random.default_rng(0).normal(size=(8, 6, 5)).astype(np.float32)
    file = save(values, tmp_path / "a.tif", alpha=False, names=names, text={"Seed": "7"})
    with tifffile.TiffFile(file) as found:
        page = found.pages.first
        (described,) = found.shaped_metadata or ({},)
        assert (described["Seed"], tuple(described["channel_names"])) == ("7", names)
        assert page.tags.valueof("Software") == software()
        gdal = found.gdal_metadata if hasattr(found, "gdal_metadata") else {}
        told = [item for item in str(page.tags.valueof(42112)).split("</Item>") if "role=" in item]
        assert len(told) == 5
        assert 'sample="1" role="description">vert' in told[1]
        assert gdal is not None
        np.testing.assert_array_equal(found.asarray(), values)
        assert page.shape == (8, 6, 5)


def test_png16_agrees_with_libpng_and_keeps_text() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)
    content = png16(pixels, {"Seed": "3", "Class": "猫"})
    np.testing.assert_array_equal(imagecodecs.png_decode(content), pixels)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.text == {SOFTWARE_KEY: software(), "Seed": "3", "Class": "猫"}  # pyright: ignore[reportAttributeAccessIssue]


def test_npz_holds_all_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(7, 8, 8, 5)).astype(np.float32)
    save_npz(iter([images[:3], images[3:]]), images.shape, "float32", tmp_path / "x.npz", seeds=np.arange(7))
    with np.load(tmp_path / "x.npz") as found:
        np.testing.assert_array_equal(found["images"], images)
        np.testing.assert_array_equal(found["seeds"], np.arange(7))
    assert open_dataset(DataConfig(str(tmp_path / "x.npz"))).channels == 5


@pytest.mark.parametrize(
    ("dtype", "channels", "kind", "bits", "says"),
    [
        ("uint8", 5, "png", "auto", "these images have 5 channels (channel 0, channel 1"),
        ("uint8", 5, "webp", "auto", "use --format tiff, npy or npz"),
        ("uint8", 4, "jpg", "auto", "JPEG files hold no transparency"),
        ("uint8", 3, "webp", "16", "--format webp --bits 16: it holds 8 bits"),
        ("uint16", 3, "png", "32f", "--format png --bits 32f: it holds 8 or 16 bits"),
    ],
)
def test_containers_that_cannot_hold_it_are_refused(
    dtype: NumberType, channels: int, kind, bits, says: str
) -> None:  # fmt: skip
    with pytest.raises(FruganError) as raised:
        choose_output(PixelFormat(dtype, None, channels in (2, 4)), channels, kind, bits)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("dtype", "kind", "bits", "expected", "says"),
    [
        ("uint16", "auto", "8", "uint8", "8 bits per channel instead of the data's 16: values are rounded"),
        ("uint16", "jpg", "auto", "uint8", "compressed with losses"),
        (
            "float32",
            "png",
            "auto",
            "uint16",
            "16 bits per channel instead of the data's float32 numbers: values are scaled",
        ),
        ("float32", "auto", "16", "uint16", "0 to 65535 stand for the stored values -2 to 6"),
        ("float32", "tiff", "8", "uint8", "values are rounded"),
        ("int16", "auto", "16", "uint16", "values are scaled"),
        ("int16", "tiff", "16", "int16", ""),
        ("uint8", "auto", "32f", "float32", ""),
        ("uint8", "auto", "16", "uint16", ""),
    ],
)
def test_whatever_is_rounded_or_scaled_is_told(dtype: NumberType, kind, bits, expected: str, says: str) -> None:
    pairs = ((-2.0, 6.0),) if dtype in ("float32", "int16") else None
    output = choose_output(PixelFormat(dtype, pairs), 1, kind, bits)
    assert output.dtype == expected
    assert bool(says) == bool(output.notes())
    assert says in "; ".join(output.notes())
    values = output.values(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)).ravel().astype(float)
    lo, hi = (pairs[0] if pairs else (0, np.iinfo(dtype).max)) if output.stored else (0, np.iinfo(expected).max)
    assert np.abs(values - [lo, (lo + hi) / 2, hi]).max() <= 0.5


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["uint8", "uint16"]), st.sampled_from([2, 4]), st.sampled_from(["auto", "8", "16", "32f"]))
def test_crisp_opacity_stays_crisp(dtype: NumberType, channels: int, bits) -> None:
    images = torch.rand(2, channels, 6, 6, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    for crisp in (True, False):
        output = choose_output(PixelFormat(dtype, None, alpha=True, crisp=crisp), channels, "auto", bits)
        opacity = output.values(images)[..., -1]
        top = np.iinfo(dtype).max if output.stored else np.iinfo(output.dtype).max
        assert (set(np.unique(opacity)) == {0, top}) == crisp
        np.testing.assert_array_equal(opacity > top / 2, images[:, -1].numpy() > 0)


def test_every_container_has_a_suffix() -> None:
    assert set(SUFFIXES.values()) == set(CONTAINERS)
    for kind in CONTAINERS:
        assert SUFFIXES[Output(PixelFormat(), 3, kind, "uint8", True).suffix] == kind


@pytest.mark.parametrize(
    ("format", "says"),
    [
        (lambda: PixelFormat("float32"), "without a value range"),
        (lambda: PixelFormat("uint8", ((5, 5),)), "the lower one first"),
        (lambda: PixelFormat("uint8", ((0, float("nan")),)), "finite numbers"),
        (lambda: PixelFormat("uint8", names=("a",)).check_channels(3), "3 channels with 1 names"),
        (lambda: PixelFormat("uint8", ((0, 1),) * 2).check_channels(3), "and 2 value ranges"),
    ],
)
def test_formats_that_mean_nothing_are_refused(format, says: str) -> None:
    with pytest.raises(FruganError, match=says):
        format()


def test_channels_have_names() -> None:
    assert channel_names(4, alpha=True) == ("red", "green", "blue", "alpha")
    assert channel_names(2, alpha=False) == ("channel 0", "channel 1")
    assert PixelFormat(names=("nir",)).channel_names(1) == ("nir",)
