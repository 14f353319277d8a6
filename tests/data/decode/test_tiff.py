"""TIFF: a grid of kinds × layouts × compressions × byte orders × orientations, against what was written; and what is refused."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from frugan.data.decode import Header, read_header, read_pixels

H, W = 19, 37
LAYOUTS = list(
    itertools.product(
        ("contig", "separate"),
        ({}, {"rowsperstrip": 5}, {"tile": (16, 32)}),
        (None, "lzw", "zlib", "packbits"),
        ("<", ">"),
    )
)


def read(content: bytes) -> tuple[Header, np.ndarray]:
    """Header and pixels of a file, which agree."""
    header, pixels = read_header(io.BytesIO(content)), read_pixels(io.BytesIO(content))
    assert pixels.shape == (header.height, header.width, header.channels)
    assert pixels.dtype == header.dtype
    return header, pixels


def written(samples: np.ndarray, **options: Any) -> bytes:
    """`[h, w, C]` as a TIFF."""
    file = io.BytesIO()
    planes = samples.shape[-1] > 1
    if options.get("planarconfig") == "separate" and planes:
        samples = np.moveaxis(samples, -1, 0)
    if not planes:
        options.pop("planarconfig", None)
        samples = samples[..., 0]
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def packed(
    samples: np.ndarray, bits: int, tags: dict[int, int | list[int]], *, planar: bool, zipped: bool, order: str
) -> bytes:
    """A TIFF of samples of any number of bits, written by hand: strips of 5 rows, each row padded to whole bytes."""
    planes = np.moveaxis(samples, -1, 0)[..., None] if planar else samples[None]
    strips = []
    for plane in planes:
        digits = (plane.astype(int)[..., None] >> np.arange(bits)[::-1]) & 1
        rows = np.packbits(digits.reshape(len(plane), -1).astype(np.uint8), axis=1)
        strips += [rows[i : i + 5].tobytes() for i in range(0, len(rows), 5)]
    strips = [zlib.compress(strip) for strip in strips] if zipped else strips
    h, w, count = samples.shape
    places = np.cumsum([8, *map(len, strips)]).tolist()
    tags = {256: w, 257: h, 258: [bits] * count, 259: 8 if zipped else 1, 273: places[:-1], 277: count, 278: 5} | tags
    tags |= {279: [len(strip) for strip in strips], 284: 2 if planar else 1}
    after = places[-1] + 2 + 12 * len(tags) + 4
    directory, behind = struct.pack(f"{order}H", len(tags)), b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        content = struct.pack(f"{order}{len(values)}I", *values)
        inline = content if len(values) == 1 else struct.pack(f"{order}I", after + len(behind))
        behind += content if len(values) > 1 else b""
        directory += struct.pack(f"{order}HHI", tag, 4, len(values)) + inline
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", places[-1])
    return head + b"".join(strips) + directory + bytes(4) + behind


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera held in that orientation stores of an upright image: EXIF 2.32, 4.6.4 (rows and columns of each)."""
    h, w = upright.shape[:2]
    rows, columns = np.mgrid[:h, :w]
    row = [rows, rows, h - 1 - rows, h - 1 - rows, columns, w - 1 - columns, w - 1 - columns, columns][orientation - 1]
    column = [columns, w - 1 - columns, w - 1 - columns, columns, rows, rows, h - 1 - rows, h - 1 - rows][
        orientation - 1
    ]
    found = np.zeros(((h, w) if orientation < 5 else (w, h)) + upright.shape[2:], upright.dtype)
    found[row, column] = upright
    return found


def full(samples: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of so many bits over the full range of 8 or 16."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.rint(samples / (2.0**bits - 1) * np.iinfo(dtype).max).astype(dtype)


Kind = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, dict[str, Any], str]]
KINDS: dict[str, Kind] = {}


def kind(name: str, make: Kind) -> None:
    KINDS[name] = make


def random(rng: np.random.Generator, bits: int, channels: int) -> np.ndarray:
    return rng.integers(0, 1 << bits, (H, W, channels)).astype(np.uint8 if bits <= 8 else np.uint16)


def grey(bits: int, white: bool = False) -> Kind:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        samples = random(rng, bits, 1)
        expected = full((1 << bits) - 1 - samples.astype(int) if white else samples, bits)
        options = {"photometric": "miniswhite" if white else "minisblack"}
        if bits == 1:
            return samples.astype(bool), expected, options, "none"
        return samples, expected, options | ({"bitspersample": bits} if bits not in (8, 16) else {}), "none"

    return make


def colour(bits: int, alpha: str = "none", extra: int = 0) -> Kind:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        samples = random(rng, bits, 3 + (alpha != "none") + extra)
        kept = samples.shape[-1] if extra > 1 else 3 + (alpha != "none")  # several are bands
        expected = full(samples[..., :kept], bits)
        if alpha == "associated":
            opacity = expected[..., 3:].astype(int)
            expected[..., :3] = samples[..., :3] = expected[..., :3] % (opacity + 1)  # no colour exceeds its opacity
            straight = expected[..., :3].astype(int) * np.iinfo(expected.dtype).max // np.maximum(opacity, 1)
            expected[..., :3] = np.where(opacity > 0, straight, 0)
        kinds = [{"straight": "unassalpha", "associated": "assocalpha"}[alpha]] if alpha != "none" else []
        kinds += ["unspecified"] * extra
        options = {"photometric": "rgb", "extrasamples": kinds} | (
            {"bitspersample": bits} if bits not in (8, 16) else {}
        )
        return samples, expected, options, alpha

    return make


def grey_and(alpha: str, bits: int) -> Kind:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        samples = random(rng, bits, 2)
        kinds = {"straight": "unassalpha", "none": "unspecified"}
        return samples, samples, {"photometric": "minisblack", "extrasamples": [kinds[alpha]]}, alpha

    return make


def palette(bits: int, table_bits: int) -> Kind:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        samples = random(rng, bits, 1)
        table = rng.integers(0, 256, (3, 1 << bits)).astype(np.uint16)
        expected = table.T[samples[..., 0]].astype(np.uint8)
        options = {"photometric": "palette", "colormap": table * (257 if table_bits == 16 else 1)}
        return samples, expected, options | ({"bitspersample": bits} if bits != 8 else {}), "none"

    return make


def signed(bits: int) -> Kind:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        expected = random(rng, bits, 1)
        samples = (expected.astype(int) - (1 << bits - 1)).astype(f"i{bits // 8}")
        return samples, samples, {"photometric": "minisblack"}, "none"

    return make


def wide(dtype: str, channels: int) -> Kind:
    """Numbers that are read as they are, over the whole range of their type."""

    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        size = np.dtype(dtype).itemsize
        samples = np.frombuffer(rng.bytes(H * W * channels * size), dtype).reshape(H, W, channels)
        return samples, samples, {"photometric": "minisblack"}, "none"

    return make


def cmyk(bits: int) -> Kind:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any], str]:
        samples = random(rng, bits, 4)
        ink = samples / (2.0**bits - 1)
        light = (1 - ink[..., :3]) * (1 - ink[..., 3:])
        return samples, np.rint(light * (2**bits - 1)).astype(samples.dtype), {"photometric": "separated"}, "none"

    return make


for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16):
    kind(f"grey {bits}", grey(bits))
    kind(f"white is zero {bits}", grey(bits, white=True))
for bits in (4, 8, 10, 12, 16):
    kind(f"RGB {bits}", colour(bits))
for bits in (8, 16):
    kind(f"RGB, straight alpha {bits}", colour(bits, "straight"))
    kind(f"RGB, associated alpha {bits}", colour(bits, "associated"))
    kind(f"RGB and one sample more {bits}", colour(bits, extra=1))
    kind(f"RGB and two samples more {bits}", colour(bits, extra=2))
    kind(f"RGB, alpha and one sample more {bits}", colour(bits, "straight", extra=1))
    kind(f"grey, alpha {bits}", grey_and("straight", bits))
    kind(f"grey and one sample more {bits}", grey_and("none", bits))
    kind(f"signed {bits}", signed(bits))
    kind(f"CMYK {bits}", cmyk(bits))
for bits, table_bits in itertools.product((1, 2, 4, 8), (8, 16)):
    kind(f"palette {bits}, table {table_bits}", palette(bits, table_bits))
for dtype, channels in itertools.product(("i1", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"), (1, 2, 3, 4, 7)):
    kind(f"{dtype} of {channels}", wide(dtype, channels))
for bits, channels in itertools.product((8, 16), (3, 4, 7)):
    kind(f"{channels} bands of {bits} bits", wide(f"u{bits // 8}", channels))


PHOTOMETRIC = {"miniswhite": 0, "minisblack": 1, "rgb": 2, "palette": 3}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_in_every_layout(name: str) -> None:
    """Each kind in a tenth of the layouts, which together are all of them."""
    number = list(KINDS).index(name)
    samples, expected, options, alpha = KINDS[name](np.random.default_rng(number))
    bits = options.pop("bitspersample", None)
    for i, (planar, strips, compression, order) in list(enumerate(LAYOUTS))[number % 10 :: 10]:
        orientation = (i + number) % 8 + 1
        where = f"{name} {planar} {strips} {compression} {order} orientation {orientation}"
        turned = stored(samples, orientation)
        if bits:
            tags = {262: PHOTOMETRIC[options["photometric"]], 274: orientation}
            tags |= {320: options["colormap"].ravel().tolist()} if "colormap" in options else {}
            content = packed(turned, bits, tags, planar=planar == "separate", zipped=bool(compression), order=order)  # pyright: ignore[reportArgumentType]
        else:
            options |= {"planarconfig": planar, "compression": compression, "byteorder": order, "bigtiff": i % 3 == 0}
            content = written(turned, extratags=[(274, "H", 1, orientation, True)], **strips, **options)
        header, pixels = read(content)
        assert (header.orientation, header.alpha) == (orientation, alpha), where
        assert header.bits == bits or (1 if samples.dtype == bool else 8 * samples.dtype.itemsize), where
        np.testing.assert_array_equal(pixels, expected, where)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "compression"), [("1", "group4"), ("L", "jpeg"), ("RGB", "jpeg"), ("YCbCr", "tiff_lzw")]
)
def test_what_libtiff_decodes_is_upright_too(mode: str, compression: str, orientation: int, noise) -> None:
    image = Image.fromarray(noise(16, 24, 3)).convert(mode)
    plain, turned = io.BytesIO(), io.BytesIO()
    image.save(plain, "TIFF", compression=compression)
    image.save(turned, "TIFF", compression=compression, tiffinfo={274: orientation})
    header, upright = read(turned.getvalue())
    assert header.orientation == orientation
    np.testing.assert_array_equal(stored(upright, orientation), read(plain.getvalue())[1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_from_xmp(orientation: int, noise) -> None:
    pixels = noise(5, 7, 3)
    xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'.encode()
    content = written(stored(pixels, orientation), photometric="rgb", extratags=[(700, "B", len(xmp), xmp, True)])
    np.testing.assert_array_equal(read(content)[1], pixels)


@pytest.mark.parametrize(
    ("samples", "options", "reason"),
    [
        (np.zeros((4, 5, 3), np.uint8), {"photometric": "cielab"}, "L\\*a\\*b\\*"),
        (np.zeros((4, 5, 1), np.complex64), {"photometric": "minisblack"}, "64 bits and format 6"),
    ],
)
def test_kinds_that_are_not_read_say_why(samples: np.ndarray, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(written(samples, **options))


@pytest.mark.parametrize(("number", "name"), [(34661, "JBIG"), (34676, "SGILOG"), (48124, "JETRAW"), (60001, "60001")])
def test_compressions_that_are_not_read_are_named(number: int, name: str) -> None:
    content = bytearray(written(np.zeros((16, 16, 1), np.uint8), photometric="minisblack"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tag = file.pages.first.tags[259]
    content[tag.offset + 8 : tag.offset + 10] = struct.pack("<H", number)
    with pytest.raises(ValueError, match=f"compression {name}; store it with LZW"):
        read(bytes(content))


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (-9999.0, "-9999"), (0, " 0 \0"), (7, "no number")])
@pytest.mark.parametrize("bands", [1, 3])
def test_pixels_without_data_are_refused_with_their_number(value: float, text: str, bands: int) -> None:
    samples = np.full((4, 5, bands), 3, np.float32)
    tag = [(42113, 2, 0, text, True)]
    layout = {"photometric": "minisblack", "planarconfig": "contig"} if bands > 1 else {"photometric": "minisblack"}
    assert read(written(samples, extratags=tag, **layout))[1].shape == (4, 5, bands)
    samples[1, 2:4] = value
    if text == "no number":
        assert read(written(samples, extratags=tag, **layout))[1].shape == (4, 5, bands)
        return
    with pytest.raises(ValueError, match=r"2 pixels without data .* fill them and remove the tag"):
        read(written(samples, extratags=tag, **layout))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_a_strip_that_is_not_there_is_an_error(compression: str | None, noise) -> None:
    content = written(noise(64, 32, 3), photometric="rgb", compression=compression, rowsperstrip=8)
    for missing in (1, 700):
        with pytest.raises(ValueError, match="cut short"):
            read_pixels(io.BytesIO(content[:-missing]))


@pytest.mark.parametrize("codes", [(256, 257), (322, 323), (257,)])
@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
def test_a_tiff_that_claims_to_be_huge(codes: tuple[int, ...], compression: str) -> None:
    """Image or tiles of 100,000 × 100,000 pixels are a bomb; more rows than there are strips for are cut short."""
    storage = {"tile": (16, 16)} if 322 in codes else {"rowsperstrip": 2}
    pixels = np.zeros((8, 5, 1), np.uint8)
    content = bytearray(written(pixels, photometric="minisblack", compression=compression, **storage))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        for code in codes:
            tag = file.pages.first.tags[code]
            content[tag.offset + 2 : tag.offset + 12] = struct.pack("<HII", 4, 1, 100_000)
    error = ValueError if len(codes) == 1 else Image.DecompressionBombError
    with pytest.raises(error, match="bomb" if len(codes) > 1 else "strips"):
        read_pixels(io.BytesIO(content))
