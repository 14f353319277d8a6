"""Colour management: pixels become sRGB by the profile that is embedded in their file, and keep their bits.

LittleCMS computes. Its shortcuts are allowed where they are exact to a level (8-bit RGB by matrix and curves); else it
evaluates the profile for each pixel, and 16 bits are converted in floating point, as its fixed-point tables are off by up to
19 of 255 levels. The intent is perceptual; colours that sRGB has not are clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

from frugan.data.decode.header import ProfileUse, Space

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_PROFILE_SPACES: dict[Space, str] = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
_CMS_SPACES: dict[Space, tuple[str, int]] = {"L": ("gray", 1), "RGB": ("rgb", 1), "CMYK": ("cmyk", 100)}  # name, top
_CLASSES = ("scnr", "mntr", "prtr", "spac")  # input, display, output, colour space
_NEGLIGIBLE = 2  # of 255 levels: profiles that mean sRGB differ by 1
_BAND = 1 << 20  # pixels converted in floating point at once


@dataclass(frozen=True)
class Profile:
    """An embedded profile's name, and what becomes of it; `icc` where it converts."""

    name: str = ""
    use: ProfileUse = "none"
    icc: bytes = b""


@lru_cache(maxsize=64)
def read_profile(icc: bytes | None, space: Space) -> Profile:
    """The profile by which pixels of a colour space are converted. One for other pixels, or a damaged one, is unusable."""
    if icc is None:
        return Profile()
    name = ""
    try:
        profile = _opened(icc)[1]
        name = " ".join((profile.profile_description or "").replace("\0", " ").split())
        if profile.xcolor_space != _PROFILE_SPACES[space] or profile.device_class not in _CLASSES:
            return Profile(name, "unusable")
        levels = np.linspace(0, 255, 9).astype(np.uint8)
        probe = np.stack(np.meshgrid(*[levels] * len(space)), -1).reshape(1, -1, len(space))
        converted = _convert8(probe, icc, space).astype(int)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return Profile(name, "unusable")
    if space != "CMYK" and np.abs(converted - probe).max() <= _NEGLIGIBLE:
        return Profile(name, "srgb")
    return Profile(name, "converted", icc)


def to_srgb(pixels: np.ndarray, space: Space, profile: Profile) -> np.ndarray:
    """Colours of a space as sRGB, by their profile if there is one to be used.

    Args:
        pixels: uint8 or uint16 `[h, w, 1 | 3 | 4]`; CMYK counts ink.
        space: of the pixels.
        profile: an ICC profile, and what to do with it.

    Returns:
        The same type, `[h, w, 1 | 3]`.
    """
    if profile.use != "converted":
        return _without_profile(pixels) if space == "CMYK" else pixels
    if space == "L":
        levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype)[None, :, None]
        return _convert(levels, profile.icc, space)[0][pixels[..., 0]]
    return _convert(pixels, profile.icc, space)


def _without_profile(ink: np.ndarray) -> np.ndarray:
    """R = (1 − C)(1 − K), rounded as Pillow does."""
    top = np.iinfo(ink.dtype).max
    light = top - ink[..., 3:].astype(np.int64)
    return (light - (ink[..., :3] * light + top // 2) // top).astype(ink.dtype)


def _convert(pixels: np.ndarray, icc: bytes, space: Space) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return _convert8(pixels, icc, space)
    rows = max(1, _BAND // pixels.shape[1])
    bands = [_convert16(pixels[row : row + rows], icc, space) for row in range(0, len(pixels), rows)]
    return np.concatenate(bands)


def _convert8(pixels: np.ndarray, icc: bytes, space: Space) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if space == "L" else pixels), space)
    converted = np.asarray(ImageCms.applyTransform(image, _transform8(icc, space)))
    return converted[..., 1:2] if space == "L" else converted


def _opened(icc: bytes) -> tuple[ImageCms.ImageCmsProfile, Any]:
    """A profile and its facts. Raises OSError where LittleCMS cannot read it."""
    profile = ImageCms.core.profile_frombytes(icc)
    return ImageCms.ImageCmsProfile(profile), profile


@lru_cache(maxsize=64)
def _transform8(icc: bytes, space: Space) -> ImageCms.ImageCmsTransform:
    profile, facts = _opened(icc)
    exact = space == "RGB" and facts.is_matrix_shaper
    flags = ImageCms.Flags.NONE if exact else ImageCms.Flags.NOOPTIMIZE
    return ImageCms.buildTransform(profile, _SRGB, space, "RGB", ImageCms.Intent.PERCEPTUAL, flags)


def _convert16(pixels: np.ndarray, icc: bytes, space: Space) -> np.ndarray:
    name, top = _CMS_SPACES[space]
    numbers = pixels.astype(np.float32) * (top / 65535)
    converted = imagecodecs.cms_transform(
        numbers[..., 0] if space == "L" else numbers,
        icc,
        _SRGB.tobytes(),
        colorspace=name,
        outcolorspace="rgb",
        intent=int(ImageCms.Intent.PERCEPTUAL),
    )
    scaled = np.rint(converted * 65535).clip(0, 65535).astype(np.uint16)
    return scaled[..., 1:2] if space == "L" else scaled
