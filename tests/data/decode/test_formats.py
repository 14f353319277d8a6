"""PNG, JPEG, GIF, BMP, WebP, HEIC, AVIF: orientation wherever it is written, keys of every depth, odd metadata, frames, damage."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data.decode import Header, read_header, read_pixels
from frugan.data.decode.metadata import upright

ORIENTATIONS = range(1, 9)
CASES = Path(__file__).parents[2] / "cases"


def read(content: bytes) -> tuple[Header, np.ndarray]:
    """Header and pixels of a file, which agree."""
    header, pixels = read_header(io.BytesIO(content)), read_pixels(io.BytesIO(content))
    assert pixels.shape == (header.height, header.width, header.channels)
    assert 8 * pixels.dtype.itemsize == header.depth
    return header, pixels


def saved(pixels: np.ndarray, format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, format, **options)
    return file.getvalue()


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block that holds an odd tag and the orientation, written by hand."""
    odd = struct.pack(f"{order}HHI4s", 0x011A, 2, 4, b"abc\0")  # a resolution as text
    number = struct.pack(f"{order}{'I' if kind == 4 else 'H'}", orientation).ljust(4, b"\0")
    entry = struct.pack(f"{order}HHI", 0x0112, kind, 1) + number
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2) + entry + odd + bytes(4)


def xmp(orientation: int, element: bool = False) -> bytes:
    tag = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if element else ""
    attribute = "" if element else f' tiff:Orientation="{orientation}"'
    return f"<x:xmpmeta><rdf:RDF><rdf:Description{attribute}>{tag}</rdf:Description></rdf:RDF></x:xmpmeta>".encode()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def put(png: bytes, *chunks: bytes, behind: bool = False) -> bytes:
    """A PNG with more chunks, behind its header or behind its pixels."""
    at = len(png) - 12 if behind else 33
    return png[:at] + b"".join(chunks) + png[at:]


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_png_orientation_wherever_it_is_written(orientation: int, noise) -> None:
    pixels = noise(5, 7, 3)
    png = saved(pixels, "PNG")
    text = b"XML:com.adobe.xmp\0"
    raw = b"\nexif\n%8d\n%s\n" % (len(exif(orientation)) + 6, (b"Exif\0\0" + exif(orientation)).hex().encode())
    found = [
        put(png, chunk(b"eXIf", exif(orientation))),
        put(png, chunk(b"eXIf", exif(orientation, ">", 4)), behind=True),
        put(png, chunk(b"iTXt", text + b"\0\0\0\0" + xmp(orientation))),
        put(png, chunk(b"iTXt", text + b"\1\0\0\0" + zlib.compress(xmp(orientation, True))), behind=True),
        put(png, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))),
        put(png, chunk(b"eXIf", exif(orientation)), chunk(b"iTXt", text + b"\0\0\0\0" + xmp(orientation % 8 + 1))),
    ]
    for content in found:
        header, turned = read(content)
        assert header.orientation == orientation
        np.testing.assert_array_equal(turned, upright(pixels, orientation))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_jpeg_and_webp_orientation(orientation: int, noise) -> None:
    pixels = noise(9, 17, 3)
    jpeg = saved(pixels, "JPEG")
    stored = read(jpeg)[1]
    namespace = b"http://ns.adobe.com/xap/1.0/\0"
    for found in (
        segment(0xE1, b"Exif\0\0" + exif(orientation)),
        segment(0xE1, namespace + xmp(orientation)),
        segment(0xE1, namespace + xmp(orientation, True)),
        segment(0xE2, b"MPF\0" + b"II*\0" + b"\xff" * 40) + segment(0xE1, b"Exif\0\0" + exif(orientation, ">")),
        b"\xff\xff\xff" + segment(0xE1, b"Exif\0\0" + exif(orientation)),
    ):
        np.testing.assert_array_equal(read(jpeg[:2] + found + jpeg[2:])[1], upright(stored, orientation))
    webp = saved(pixels, "WEBP", lossless=True)
    for options in ({"exif": exif(orientation)}, {"xmp": xmp(orientation)}):
        turned = read(saved(pixels, "WEBP", lossless=True, **options))[1]
        np.testing.assert_array_equal(turned, upright(read(webp)[1], orientation))


@settings(deadline=None, max_examples=60)
@given(block=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda rest: b"II*\0\x08\0\0\0" + rest)))
def test_odd_metadata_costs_no_image(block: bytes) -> None:
    pixels = np.arange(63, dtype=np.uint8).reshape(7, 3, 3)
    jpeg, png = saved(pixels, "JPEG"), saved(pixels, "PNG")
    for content in (
        jpeg[:2]
        + segment(0xE1, b"Exif\0\0" + block)
        + segment(0xE2, b"MPF\0" + block)
        + segment(0xED, block)
        + jpeg[2:],
        put(png, chunk(b"eXIf", block), chunk(b"iTXt", block), chunk(b"zTXt", block), chunk(b"iCCP", block)),
    ):
        header, read_back = read(content)
        assert sorted(read_back.shape) == [3, 3, 7]
        assert header.orientation in ORIENTATIONS


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_colour_keys_of_every_depth(bits: int, channels: int, noise) -> None:
    if channels == 3 and bits < 8:
        pytest.skip("PNG has no such images")
    samples = noise(6, 11, channels, dtype=np.uint16) % min(1 << bits, 5)
    digits = (samples[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(digits.reshape(6, -1).astype(np.uint8), axis=1)
    scan = b"".join(b"\0" + row.tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 6, bits, 0 if channels == 1 else 2, 0, 0, 0))
    key = samples[2, 3]
    body = chunk(b"tRNS", key.astype(">u2").tobytes()) + chunk(b"IDAT", zlib.compress(scan)) + chunk(b"IEND", b"")
    header, pixels = read(b"\x89PNG\r\n\x1a\n" + head + body)
    top = 65535 if bits == 16 else 255
    assert (header.alpha, header.bits) == ("key", bits)
    np.testing.assert_array_equal(pixels[..., :-1], np.rint(samples * (top / ((1 << bits) - 1))))
    np.testing.assert_array_equal(pixels[..., -1], np.where((samples == key).all(-1), 0, top))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("clear", [False, True])
def test_palettes_of_every_depth(bits: int, clear: bool, noise) -> None:
    indices = noise(6, 11) & ((1 << bits) - 1)
    indices[0, 0] = 1  # the colour that may be clear occurs
    table = noise(1 << bits, 3, seed=1)
    image = Image.frombytes("P", (11, 6), indices.tobytes())
    image.putpalette(table.ravel().tolist())
    for format, options in (("PNG", {"bits": bits}), ("GIF", {}), ("BMP", {})):
        if clear and format == "BMP":
            continue
        file = io.BytesIO()
        image.save(file, format, **options, **({"transparency": 1} if clear else {}))
        header, pixels = read(file.getvalue())
        seen = np.ones(indices.shape, bool) if not clear else indices != 1
        np.testing.assert_array_equal(pixels[..., :3][seen], table[indices][seen])
        assert header.alpha == ("palette" if clear else "none")
        if clear:
            np.testing.assert_array_equal(pixels[..., 3] > 0, seen)


def test_significant_bits_are_stated() -> None:
    png = imagecodecs.png_encode(np.full((4, 4), 4095, np.uint16))
    header, pixels = read(put(png, chunk(b"sBIT", b"\x0c")))  # pyright: ignore[reportArgumentType]
    assert (header.bits, header.depth, int(pixels.max())) == (12, 16, 4095)


def test_frames_are_counted_and_the_first_is_read() -> None:
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "lime", "blue")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, format, save_all=True, append_images=frames[1:])
        header, pixels = read(file.getvalue())
        assert header.frames == 3
        assert np.abs(pixels[..., :3].astype(int) - [255, 0, 0]).max() <= 2


def test_what_a_gif_frame_leaves_out_is_transparent() -> None:
    """A frame of 2×3 at (1, 2) on a screen of 6×5."""
    palette = bytes([10, 20, 30, 200, 100, 50])
    flat = Image.new("P", (3, 2), 1)
    flat.putpalette(list(palette))
    file = io.BytesIO()
    flat.save(file, "GIF", optimize=False)
    content = bytearray(file.getvalue())
    content[6:10] = struct.pack("<HH", 6, 5)
    at = content.rindex(struct.pack("<BHHHH", 0x2C, 0, 0, 3, 2))
    content[at + 1 : at + 5] = struct.pack("<HH", 2, 1)
    header, pixels = read(bytes(content))
    assert (header.height, header.width, header.alpha) == (5, 6, "outside")
    expected = np.zeros((5, 6), np.uint8)
    expected[1:3, 2:5] = 255
    np.testing.assert_array_equal(pixels[..., 3], expected)
    assert (pixels[1:3, 2:5, :3] == [200, 100, 50]).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_a_truncated_image_is_an_error(format: str, noise) -> None:
    content = saved(noise(64, 64, 3), format)
    if format == "TIFF":  # whose directory Pillow writes first
        assert content[4] == 8
    for share in (0.3, 0.7, 0.95):
        with pytest.raises(Exception, match=r"."):
            read_pixels(io.BytesIO(content[: int(share * len(content))]))


def test_long_text_is_skipped_without_being_unpacked() -> None:
    pixels = np.full((4, 5, 3), 9, np.uint8)
    long = zlib.compress(bytes((1 << 24) + 1), 1)
    content = put(
        saved(pixels, "PNG"),
        chunk(b"zTXt", b"workflow\0\0" + long),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + long),
        chunk(b"iCCP", b"profile\0\0" + long),
    )
    header, read_back = read(content)
    assert header.profile_use == "unusable"
    np.testing.assert_array_equal(read_back, pixels)


def interlaced(samples: np.ndarray, bits: int, colour_type: int, *chunks: bytes) -> bytes:
    """Samples `[h, w, C]` in the seven passes of Adam7 (PNG, 8.2)."""
    h, w = samples.shape[:2]
    body = b""
    for y, x, dy, dx in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        part = samples[y::dy, x::dx]
        if part.size:
            digits = (part[..., None].astype(int) >> np.arange(bits)[::-1]) & 1
            body += b"".join(
                b"\0" + row.tobytes() for row in np.packbits(digits.reshape(len(part), -1).astype(np.uint8), 1)
            )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, colour_type, 0, 0, 1))
    pixels = chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels


@pytest.mark.parametrize(
    ("bits", "colour_type", "channels"), [(1, 0, 1), (4, 0, 1), (8, 0, 1), (8, 2, 3), (8, 4, 2), (8, 6, 4)]
)
def test_interlaced_images_are_read_quietly(bits: int, colour_type: int, channels: int, noise, capfd) -> None:
    samples = noise(13, 11, channels) & ((1 << bits) - 1)
    pixels = read(interlaced(samples, bits, colour_type))[1]
    np.testing.assert_array_equal(pixels, samples * (255 // ((1 << bits) - 1)))
    assert capfd.readouterr().err == ""


def test_interlaced_palettes_keys_and_sixteen_bits(noise) -> None:
    table, indices, wide = noise(4, 3), noise(13, 11, 1, seed=1) & 3, noise(13, 11, 3, dtype=np.uint16)
    palette = (chunk(b"PLTE", table.tobytes()), chunk(b"tRNS", b"\0"))
    pixels = read(interlaced(indices, 2, 3, *palette))[1]
    np.testing.assert_array_equal(pixels[..., :3], table[indices[..., 0]])
    np.testing.assert_array_equal(pixels[..., 3:] == 0, indices == 0)
    np.testing.assert_array_equal(read(interlaced(wide, 16, 2))[1], wide)
    keyed = read(interlaced(indices, 2, 0, chunk(b"tRNS", b"\0\3")))[1]
    np.testing.assert_array_equal(keyed[..., 1:] == 0, indices == 3)


def test_photos_of_phones_are_read_upright() -> None:
    """HEIC plain, stored sideways, with alpha; AVIF: a yellow corner at the upper left, a red one at the lower right."""
    for name, channels in (("plain.heic", 3), ("turned.heic", 3), ("alpha.heic", 4), ("plain.avif", 3)):
        content = (CASES / "heif" / name).read_bytes()
        header, pixels = read_header(io.BytesIO(content)), read_pixels(io.BytesIO(content))
        assert (header.height, header.width, header.channels) == (32, 48, channels), name
        assert header.format == ("AVIF" if name.endswith("avif") else "HEIF")
        for place, colour in (((4, 4), (250, 220, 30)), ((28, 44), (200, 30, 30)), ((28, 4), (40, 90, 160))):
            assert np.abs(pixels[place][:3].astype(int) - colour).max() < 25, (name, place)


def test_without_its_decoder_a_photo_is_skipped_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ValueError, match=r"pip install 'frugan\[heif\]'"):
        read_header(io.BytesIO((CASES / "heif" / "plain.heic").read_bytes()))
