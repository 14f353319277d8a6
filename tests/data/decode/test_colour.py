"""Colour management against closed forms: profiles written here, byte by byte, with the gamma and the primaries that they say."""

from __future__ import annotations

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from frugan.data.decode import Header, read_header, read_pixels

# XYZ of the primaries (columns), adapted to D50, as the profiles' own specifications give them
PRIMARIES = {
    "sRGB": [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]],
    "Display P3": [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]],
    "Adobe RGB": [[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]],
}


def icc(space: bytes, name: str, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2.1."""
    text = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": xyz(0.9642, 1, 0.8249),
    } | tags
    table, content, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        value += bytes(-len(value) % 4)
        table += key + struct.pack(">II", start + len(content), len(value))
        content += value
    head = struct.pack(">I4sI4s4s4s", start + len(content), b"test", 0x02100000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + xyz(0.9642, 1, 0.8249)[8:]
    return head.ljust(128, b"\0") + table + content


def xyz(*numbers: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(number * 65536) for number in numbers))


def gamma_curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(name: str, gamma: float) -> bytes:
    columns = np.array(PRIMARIES[name]).T
    tags = {key: xyz(*column) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns)}
    return icc(b"RGB ", name, tags | {key: gamma_curve(gamma) for key in (b"rTRC", b"gTRC", b"bTRC")})


def grey_profile(gamma: float) -> bytes:
    return icc(b"GRAY", f"grey {gamma}", {b"kTRC": gamma_curve(gamma)})


def cmyk_profile() -> bytes:
    """Two-point tables: L* falls with the sum of ink, a* and b* stay 0."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T  # ink of each of the 16 nodes
    lightness = np.clip(255 - 60 * corners[:, :3].sum(1) - 180 * corners[:, 3], 0, 255).astype(np.uint8)
    nodes = np.stack([lightness, np.full(16, 128, np.uint8), np.full(16, 128, np.uint8)], -1)
    line = bytes(range(256))
    matrix = struct.pack(">9i", *(np.eye(3).ravel() * 65536).astype(int))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + line * 4 + nodes.tobytes() + line * 3
    return icc(b"CMYK", "press", {b"A2B0": table}, b"prtr", b"Lab ")


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def expected_rgb(values: np.ndarray, name: str, gamma: float) -> np.ndarray:
    """Values in [0, 1] → sRGB in [0, 1] by the definition of matrix profiles (ICC.1, annex F)."""
    linear = values ** (round(gamma * 256) / 256) @ np.array(PRIMARIES[name]).T
    return srgb_curve(linear @ np.linalg.inv(PRIMARIES["sRGB"]).T)


def encoded(pixels: np.ndarray, profile: bytes, format: str) -> bytes:
    """uint8 or uint16 `[h, w, C]` with a profile in its file."""
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    file = io.BytesIO()
    if format == "TIFF":
        photometric = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}[pixels.shape[-1]]
        alpha: dict[str, Any] = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] in (2, 4) else {}
        tifffile.imwrite(file, flat, photometric=photometric, iccprofile=profile, metadata=None, **alpha)
    elif (
        pixels.dtype == np.uint16
    ):  # Pillow writes no 16-bit colour: the profile goes behind the header of another's file
        content = imagecodecs.png_encode(flat)
        with_profile = io.BytesIO()
        Image.new("L", (1, 1)).save(with_profile, "PNG", icc_profile=profile)
        start = with_profile.getvalue().index(b"iCCP") - 4
        length = struct.unpack(">I", with_profile.getvalue()[start : start + 4])[0]
        return content[:33] + with_profile.getvalue()[start : start + length + 12] + content[33:]  # pyright: ignore[reportReturnType]
    else:
        lossless = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 100, "subsampling": 0}}
        options = lossless.get(format, {})
        Image.fromarray(flat).save(file, format, icc_profile=profile, **options)
    return file.getvalue()


def read(content: bytes) -> tuple[Header, np.ndarray]:
    header, pixels = read_header(io.BytesIO(content)), read_pixels(io.BytesIO(content))
    assert pixels.shape == (header.height, header.width, header.channels)
    return header, pixels


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_becomes_srgb(format: str, name: str, dtype: type, alpha: bool, noise) -> None:
    if (dtype == np.uint16 and format in ("JPEG", "WEBP")) or (alpha and format == "JPEG"):
        pytest.skip("the format has no such images")
    pixels = noise(16, 24, 4 if alpha else 3, dtype=dtype)
    if format == "JPEG":  # which loses something: even blocks
        pixels = noise(2, 3, 3).repeat(8, 0).repeat(8, 1)
    header, converted = read(encoded(pixels, rgb_profile(name, 2.2), format))
    top = np.iinfo(dtype).max
    expected = expected_rgb(pixels[..., :3] / top, name, 2.2) * top
    assert (header.profile, header.profile_use, converted.dtype) == (name, "converted", dtype)
    error = np.abs(converted[..., :3] - expected)
    assert error.max() <= (top / 700 if dtype == np.uint16 else 8 if format == "JPEG" else 1.5)
    if alpha:
        np.testing.assert_array_equal(converted[..., 3], pixels[..., 3])


def test_sixteen_bits_are_not_dropped() -> None:
    """65,536 levels of red stay thousands, in order; not 256."""
    ramp = np.zeros((256, 256, 3), np.uint16)
    ramp[:] = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    converted = read(encoded(ramp, rgb_profile("Display P3", 2.0), "PNG"))[1].reshape(-1, 3)
    assert len(np.unique(converted[:, 1])) > 30_000
    assert (np.diff(converted[:, 1].astype(int)) >= 0).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
def test_grey_becomes_srgb_grey(format: str, gamma: float, dtype: type, alpha: bool, noise) -> None:
    if format == "PNG" and alpha and dtype == np.uint8:
        pytest.skip("Pillow writes no profile of that space")
    pixels = noise(16, 24, 2 if alpha else 1, dtype=dtype)
    header, converted = read(encoded(pixels, grey_profile(gamma), format))
    top = np.iinfo(dtype).max
    expected = srgb_curve((pixels[..., 0] / top) ** (round(gamma * 256) / 256)) * top
    assert (header.profile_use, header.channels) == ("converted", 1 + alpha)
    assert np.abs(converted[..., 0] - expected).max() <= (
        1 if dtype == np.uint8 else 130
    )  # 0.2 %: LittleCMS's own sRGB curve
    if alpha:
        np.testing.assert_array_equal(converted[..., 1], pixels[..., 1])


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ink_becomes_srgb_by_its_profile(format: str, dtype: type) -> None:
    """Half the black ink lies half-way down the lightness of the table; JPEG stores ink the other way round."""
    if format == "JPEG" and dtype == np.uint16:
        pytest.skip("the format has no such images")
    top = np.iinfo(dtype).max
    black = np.linspace(0, 1, 6)
    ink = np.zeros((8, 48, 4), dtype)
    ink[..., 3] = np.rint(black * top).astype(dtype).repeat(8)
    file = io.BytesIO()
    if format == "JPEG":
        Image.fromarray(ink, "CMYK").save(file, "JPEG", icc_profile=cmyk_profile(), quality=100)
    else:
        tifffile.imwrite(file, ink, photometric="separated", iccprofile=cmyk_profile(), metadata=None)
    header, converted = read(file.getvalue())
    lightness = 100 * (1 - black * 180 / 255)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    expected = srgb_curve(luminance) * top
    assert (header.profile, header.profile_use, converted.dtype) == ("press", "converted", dtype)
    assert np.abs(converted[4, 4::8] - expected[:, None]).max() <= top * 0.012
    naive = (1 - black[3]) * top
    assert abs(expected[3] - naive) > 5 * top * 0.012  # not without the profile


def test_profiles_that_mean_srgb_change_nothing(noise) -> None:
    pixels = noise(9, 8, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    header, same = read(encoded(pixels, profile, "PNG"))
    assert header.profile_use == "srgb"
    assert "sRGB" in header.profile
    np.testing.assert_array_equal(same, pixels)


@pytest.mark.parametrize("profile", ["damaged", "cut", "of grey", "of ink", "long"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_an_unusable_profile_is_ignored_and_told(profile: str, format: str, noise) -> None:
    whole = rgb_profile("Display P3", 2.2)
    profiles = {"damaged": b"x" * 300, "cut": whole[:200], "of grey": grey_profile(1.0), "of ink": cmyk_profile()}
    profiles["long"] = b"x" * ((1 << 24) + 1 if format == "PNG" else 1 << 17)
    pixels = noise(9, 8, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, icc_profile=profiles[profile])
    plain = io.BytesIO()
    Image.fromarray(pixels).save(plain, format)
    header, same = read(file.getvalue())
    assert header.profile_use == "unusable"
    np.testing.assert_array_equal(same, read(plain.getvalue())[1])
