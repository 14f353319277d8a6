"""DICOM as pydicom writes it: values, frames, compression; nothing of the patient anywhere."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from frugan.data import DataConfig, open_dataset
from frugan.data.decode import read_header, read_pixels
from frugan.data.decode.reading import open_frames, pixels_of
from frugan.data.sources.open import open_source
from frugan.data.values import restore
from tests.containers import dicom
from tests.fuzz.damage import program
from tests.program import SMALL_NETWORKS

SECRETS = ("Secretname", "Jane", "ID-77123", "Hidden", "Hospital")


def frames_of(content: bytes) -> np.ndarray:
    frames = open_frames(io.BytesIO(content))
    assert frames is not None
    return np.stack([pixels_of(frames.stored(i)) for i in range(frames.count)])


def full(samples: np.ndarray, bits: int) -> np.ndarray:
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.rint(samples / (2.0**bits - 1) * np.iinfo(dtype).max).astype(dtype)


def literal_rle(frame: np.ndarray) -> bytes:
    """A frame of 32 bits as RLE without runs, which pydicom reads and does not write: a plane for each byte, the highest first."""
    planes = np.ascontiguousarray(frame).view(np.uint8).reshape(-1, 4).T[::-1]
    segments = []
    for plane in planes:
        parts = [plane[i : i + 128] for i in range(0, len(plane), 128)]
        packed = b"".join(bytes([len(part) - 1]) + part.tobytes() for part in parts)
        segments.append(packed + bytes(len(packed) % 2))
    starts = 64 + np.cumsum([0, *map(len, segments[:-1])])
    return struct.pack("<5L", 4, *starts).ljust(64, b"\0") + b"".join(segments)


@settings(max_examples=60)
@given(
    bits=st.integers(1, 32),
    signed=st.booleans(),
    count=st.integers(1, 4),
    white=st.booleans(),
    rescale=st.sampled_from([None, ("1", "0"), ("1", "-1024"), ("-2", "3"), ("1", "0.5"), ("0.25", "7.5")]),
    syntax=st.sampled_from(
        [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless]
    ),
    junk=st.booleans(),
    seed=st.integers(0, 99),
)
def test_grey_of_any_bits(
    bits: int,
    signed: bool,
    count: int,
    white: bool,
    rescale: tuple[str, str] | None,
    syntax: uid.UID,
    junk: bool,
    seed: int,
) -> None:
    """`junk`: the bits that are not used hold something, as overlays once did."""
    rng = np.random.default_rng(seed)
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    values = rng.integers(low, high, (count, 7, 9, 1))
    allocated = next(size for size in (8, 16, 32) if bits <= size)
    stored = values & ((1 << bits) - 1)
    stored = stored | (
        rng.integers(0, 1 << allocated - bits, stored.shape) << bits if junk and syntax != uid.RLELossless else 0
    )
    stored = stored.astype(f"u{allocated // 8}").view(f"{'i' if signed else 'u'}{allocated // 8}")
    elements: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1}
    elements |= {"PhotometricInterpretation": "MONOCHROME1"} if white else {}
    if rescale:
        elements |= {"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]}
    if syntax == uid.RLELossless and allocated == 32:
        content = dicom(stored, syntax, PixelData=encapsulate([*map(literal_rle, stored)]), **elements)
    elif syntax == uid.RLELossless:
        made = pydicom.dcmread(io.BytesIO(dicom(stored, **elements)))
        made.compress(uid.RLELossless)
        file = io.BytesIO()
        pydicom.dcmwrite(file, made)
        content = file.getvalue()
    else:
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        pixels = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        content = dicom(stored, syntax, PixelData=pixels + bytes(len(pixels) % 2), **elements)
    values = low + high - 1 - values if white else values
    slope, intercept = map(float, rescale or (1, 0))
    as_stored, large = (slope, intercept) == (1, 0), bits > 16
    whole = slope.is_integer() and intercept.is_integer() and (as_stored or not large)
    kind = np.uint32 if as_stored and not signed else np.int32 if whole else np.float32
    rescaled = (values * slope + intercept).astype(kind)
    expected = full(values, bits) if as_stored and not signed and not large else rescaled
    np.testing.assert_array_equal(frames_of(content), expected)
    np.testing.assert_array_equal(read_pixels(io.BytesIO(content)), expected[0])
    header = read_header(io.BytesIO(content))
    assert (header.frames, header.dtype) == (count, str(expected.dtype))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_colours(planar: int, count: int, noise) -> None:
    images = noise(count, 6, 5, 3)
    stored = np.moveaxis(images, -1, 1) if planar else images
    content = dicom(images, PlanarConfiguration=planar, PixelData=stored.tobytes() + bytes(stored.size % 2))
    np.testing.assert_array_equal(frames_of(content), images)


def _lossless_jpeg(image: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg_encode(image, lossless=True, bitspersample=12))


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEGLosslessSV1, _lossless_jpeg),
        (uid.JPEGLossless, _lossless_jpeg),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEG2000Lossless, lambda image: imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k")),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_compressed_without_loss(syntax: uid.UID, encode: Any, count: int, noise) -> None:
    images = noise(count, 16, 24, 1, dtype=np.uint16) & 4095
    content = encapsulate([encode(image[..., 0]) for image in images])
    found = frames_of(dicom(images, syntax, PixelData=content, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(found, full(images, 12))


@pytest.mark.parametrize(("photometric", "tolerance"), [("YBR_FULL_422", 6), ("RGB", 6)])
def test_jpeg_colours(photometric: str, tolerance: int) -> None:
    image = np.full((16, 16, 3), [200, 60, 30], np.uint8)
    colorspace = "RGB" if photometric == "RGB" else "YCBCR"
    content = encapsulate([bytes(imagecodecs.jpeg_encode(image, level=95, outcolorspace=colorspace))])
    found = frames_of(
        dicom(image[None], uid.JPEGBaseline8Bit, PixelData=content, PhotometricInterpretation=photometric)
    )
    np.testing.assert_allclose(found[0], image.astype(int), atol=tolerance)


def test_the_rescale_of_every_frame(noise) -> None:
    """Enhanced files keep it in groups: one for all frames, or each its own."""
    images = noise(2, 4, 4, 1, dtype=np.uint16)

    def group(slope: float) -> Dataset:
        values, outer = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = str(slope), "-10"
        outer.PixelValueTransformationSequence = [values]
        return outer

    shared = frames_of(dicom(images, SharedFunctionalGroupsSequence=[group(0.5)]))
    np.testing.assert_array_equal(shared, images * np.float32(0.5) - 10)
    each = frames_of(dicom(images, PerFrameFunctionalGroupsSequence=[group(0.5), group(2)]))
    np.testing.assert_array_equal(each, images * np.array([0.5, 2], np.float32)[:, None, None, None] - 10)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_doses_are_read_in_their_unit(dtype: type, noise, tmp_path: Path, cache: Path) -> None:
    """Each file of a radiotherapy dose has a scaling of its own: stored numbers of two files do not compare."""
    stored = noise(4, 8, 8, 1, dtype=dtype)
    scalings = ("2.5e-8", "5e-8")
    for i, image in enumerate(stored):
        (tmp_path / f"{i}.dcm").write_bytes(dicom(image[None], DoseGridScaling=scalings[i % 2]))
    data = open_dataset(DataConfig(str(tmp_path)), cache_dir=cache)
    assert (data.pixel_format.dtype, data.skipped) == ("float32", [])
    expected = stored * np.array([*map(float, scalings)] * 2)[:, None, None, None]
    found = restore(data.pixels[:], data.value_range, alpha=False, dtype="float32")
    np.testing.assert_allclose(found, expected, rtol=0, atol=expected.max() * 2e-7)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_numbers_of_32_bits_are_held_over_a_range_of_their_own(dtype: type, noise, tmp_path: Path, cache: Path) -> None:
    stored = noise(3, 8, 16, 1, dtype=dtype)
    for i, image in enumerate(stored):
        (tmp_path / f"{i}.dcm").write_bytes(dicom(image[None]))
    data = open_dataset(DataConfig(str(tmp_path)), cache_dir=cache)
    assert (data.pixel_format.dtype, data.resolution, data.skipped) == (np.dtype(dtype).name, (8, 16), [])
    assert data.value_range == ((stored.min(), stored.max()),)
    found = restore(data.pixels[:], data.value_range, alpha=False, dtype="float64")
    np.testing.assert_allclose(found, stored, rtol=0, atol=(int(stored.max()) - int(stored.min())) * 2.0**-25)


@pytest.mark.parametrize("slopes", [("1", "1"), ("1", "0.5"), ("0.5", "0.25")])
def test_scans_of_whole_numbers_and_others_are_one_set(slopes: tuple[str, str], tmp_path: Path, cache: Path) -> None:
    """Whole numbers come back exactly and are held with 16 bits, where all of the set are; else all count as float32."""
    stored = np.arange(0, 4096, 4, dtype=np.uint16).reshape(4, 1, 16, 16, 1)
    for i, image in enumerate(stored):
        (tmp_path / f"{i}.dcm").write_bytes(dicom(image, RescaleSlope=slopes[i % 2], RescaleIntercept="-1024"))
    data = open_dataset(DataConfig(str(tmp_path)), cache_dir=cache)
    assert (len(data), data.skipped) == (4, [])
    whole = slopes == ("1", "1")
    assert (data.pixel_format.dtype, str(data.pixels.dtype)) == (("int32", "uint16") if whole else ("float32",) * 2)
    slope = np.array(slopes * 2, np.float64)[:, None, None, None]
    expected = stored[:, 0] * slope - 1024
    found = restore(data.pixels[:], data.value_range, alpha=False, dtype=data.pixel_format.dtype)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if whole else 1e-3)


SMALL = np.arange(64, dtype=np.uint16).reshape(1, 8, 8, 1)
FRAME = bytes(imagecodecs.jpegls_encode(SMALL[0, ..., 0]))
LARGE = bytes(imagecodecs.jpegls_encode(np.zeros((999, 999), np.uint16)))
REASONS = {
    "cut short": (lambda: dicom(SMALL)[:-40], "cut short: 88 of 128 bytes"),
    "frames that are not there": (lambda: dicom(SMALL, NumberOfFrames=100_000), "cut short: 128 of 12,800,000"),
    "endless frames": (lambda: dicom(SMALL, NumberOfFrames=2_000_000_000), "2,000,000,000 frames"),
    "huge": (lambda: dicom(SMALL, Rows=65535, Columns=65535), "bomb"),
    "no pixels": (lambda: dicom(SMALL, Rows=0), "0x8 pixels"),
    "deflated": (lambda: dicom(SMALL, uid.DeflatedExplicitVRLittleEndian), "transfer syntax 1.2.840.10008.1.2.1.99"),
    "video": (
        lambda: dicom(SMALL, uid.MPEG2MPML, PixelData=encapsulate([b"xxxx"])),
        "transfer syntax 1.2.840.10008.1.2.4.100; convert",
    ),
    "palette": (lambda: dicom(SMALL, PhotometricInterpretation="PALETTE COLOR"), "palette colours"),
    "a slope that is none": (lambda: dicom(SMALL, RescaleSlope="0"), "slope"),
    "an intercept that is none": (lambda: dicom(SMALL, RescaleIntercept="7.5").replace(b"7.5", b"inf"), "slope|damaged"),
    "more bits than there are": (lambda: dicom(SMALL, BitsStored=20), "20 bits in 16"),
    "32 bits, compressed": (
        lambda: dicom(SMALL.astype(np.uint32), uid.JPEG2000Lossless, PixelData=encapsulate([b"xxxx"])),
        "32 bits that is compressed or of colours; convert it to Explicit VR Little Endian",
    ),
    "colours of 32 bits": (lambda: dicom(SMALL.astype(np.uint32).repeat(3, -1)), "32 bits .* of colours"),
    "64 bits": (lambda: dicom(SMALL.astype(np.uint64)), "64 bits in 64; convert it to 8, 16 or 32"),
    "a frame of another size": (
        lambda: dicom(SMALL, uid.JPEGLSLossless, PixelData=encapsulate([LARGE])),
        "999x999 pixels where the header says 8x8",
    ),
    "fewer frames": (
        lambda: dicom(SMALL, uid.JPEGLSLossless, PixelData=encapsulate([FRAME]), NumberOfFrames=9),
        "1 of 9 frames|damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REASONS)
def test_faults_say_why(fault: str) -> None:
    make, reason = REASONS[fault]
    with pytest.raises(Exception, match=reason) as caught:
        read_pixels(io.BytesIO(make()))
    assert not any(secret in str(caught.value) for secret in SECRETS)


@pytest.mark.parametrize(
    "start", [b"II*\0T\x18\x08", b"MM\0*", b"II+\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF"]
)
def test_whatever_the_preamble_begins_with(start: bytes) -> None:
    """Scanners begin it as a TIFF begins: the standard leaves those 128 bytes to other formats."""
    content = start.ljust(128, b"\0") + dicom(SMALL)[128:]
    np.testing.assert_array_equal(read_pixels(io.BytesIO(content)), SMALL[0])
    np.testing.assert_array_equal(frames_of(content), SMALL)


def test_files_without_a_suffix_and_private_elements(tmp_path: Path) -> None:
    """Scanners name files by numbers; DICOMDIR is an index; private elements are nobody's business."""
    made = pydicom.dcmread(io.BytesIO(dicom(SMALL)))
    block = made.private_block(0x0011, "Secretname Inc", create=True)
    block.add_new(0x01, "SQ", [pydicom.Dataset()])
    block.add_new(0x02, "UN", b"Jane" * 1000)
    file = io.BytesIO()
    pydicom.dcmwrite(file, made)
    for name in ("IM000001", "1.2.840.113619.2.55", "scan.DCM", "DICOMDIR"):
        (tmp_path / name).write_bytes(file.getvalue())
    (tmp_path / "README").write_text("no scan")
    source = open_source(tmp_path)
    assert sorted(source.names) == ["1.2.840.113619.2.55", "IM000001", "scan.DCM"]
    for i in range(3):
        np.testing.assert_array_equal(source.pixels(i), SMALL[0])


def test_nothing_of_the_patient_is_written_anywhere(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by inspect and prepare nor by a run: not on the screen, not in the cache, not in any file."""
    monkeypatch.chdir(tmp_path)
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(8):
        (scans / f"{i}.dcm").write_bytes(dicom((SMALL + i).repeat(2, 1).repeat(2, 2), PatientComments="Jane Hidden"))
    (scans / "bad.dcm").write_bytes(dicom(SMALL)[:-40])
    (scans / "worse.dcm").write_bytes(dicom(SMALL).replace(b"MONOCHROME2", b"Secretname "))
    tiny = [*SMALL_NETWORKS.split(), "--kimg", "0.008"]
    said = ""
    for command in (
        ("data", "inspect", "scans"),
        ("data", "inspect", "scans", "--json"),
        ("data", "prepare", "scans", "out.zip"),
        ("data", "prepare", "scans", "strict.zip", "--strict"),
        ("train", "scans", "-o", "run", "--held-out", "2", "--device", "cpu", "--threads", "1", *tiny),
    ):
        code, printed = program(*command)
        assert code == (2 if "--strict" in command else 0), printed
        said += printed
    assert "bad.dcm" in said
    assert json.loads((tmp_path / "run/data.json").read_text())["images"] == 8
    written = [*tmp_path.glob("*.*"), *(tmp_path / "run").rglob("*"), *cache.parent.rglob("*")]
    files = {file: file.read_bytes() for file in written if file.is_file()}
    assert len(files) > 10
    for secret in SECRETS:
        assert secret not in said
        assert not [file for file, content in files.items() if secret.encode() in content]
