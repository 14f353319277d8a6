"""Images from files, brought to a generator's size and channels, to be projected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugan.channels import CHANNEL_NAMES, has_alpha
from frugan.checks import beside
from frugan.data.decode import FORMATS, convert, read_pixels, resize
from frugan.data.values import stretch
from frugan.errors import FruganError, abbreviated, shown
from frugan.images import to_float
from frugan.latent.code import different
from frugan.networks import Generator
from frugan.pixel_format import is_plain

MOST = 10_000
RESERVED = ("sheet", "progress")
"""Names of files that a projection writes beside those of its images."""


class Targets(NamedTuple):
    """Images to project."""

    names: list[str]
    """Of the files, without suffix, each different."""
    images: Tensor
    """float32 `[N, C, H, W]` in [-1, 1]."""
    notes: list[str]
    """A sentence for each kind of change that was made to fit the generator."""


def read_targets(paths: Sequence[str | Path], G: Generator) -> Targets:
    """Image files, and folders of them, as the generator makes images: in its channels, cropped to its shape, of its size.

    Alpha is laid on white where the generator makes none; 16 bits per channel keep their precision. Files of the data's own type
    of numbers are taken in its range of values. Raises `FruganError` for what is missing or no image, all files being read before.
    """
    files = _files(paths)
    images, changes = [], dict[str, list[str]]()
    for file in files:
        pixels = _read(file)
        h, w = pixels.shape[:2]
        size = G.resolution
        if (h, w) != size:
            cropped = ", cropped" if h * size[1] != w * size[0] else ""
            action = "enlarged" if min(h, w) < min(size) else "reduced"
            changes.setdefault(f"{action}{cropped} to {size[0]}x{size[1]}", []).append(f"{file.name} ({h}x{w})")
        pixels = _scaled(pixels, G, file, changes)
        if pixels.shape[2] != G.channels:
            what = f"{CHANNEL_NAMES[pixels.shape[2]]} became {CHANNEL_NAMES[G.channels]}"
            over = " on white" if pixels.shape[2] in (2, 4) and G.channels in (1, 3) else ""
            changes.setdefault(what + over, []).append(file.name)
        fitted = resize(convert(pixels, G.channels), size, alpha=G.pixels.alpha)
        images.append(to_float(torch.from_numpy(np.array(fitted))[None]))
    notes = [f"{what}: {abbreviated(names)}" for what, names in changes.items()]
    return Targets(different([file.stem for file in files], RESERVED), torch.cat(images).contiguous(), notes)


def _scaled(pixels: np.ndarray, G: Generator, file: Path, changes: dict[str, list[str]]) -> np.ndarray:
    """Pixels of a file as networks were trained on: uint8 or uint16 over the range of values. Raises `FruganError`."""
    data, pairs, own = G.pixels, G.pixels.value_range, pixels.shape[2] == G.channels
    if not own and not (pixels.shape[2] in CHANNEL_NAMES and G.channels in CHANNEL_NAMES):
        raise FruganError(f"{file} has {pixels.shape[2]} channels, this generator makes {G.channels}")
    if str(pixels.dtype) == data.dtype and (own or pairs is None or len(pairs) == 1):
        return stretch(pixels, pairs, alpha=has_alpha(pixels.shape[2]) and (data.alpha or not own))
    if not is_plain(pixels.dtype):
        raise FruganError(f"{file} holds {pixels.dtype} numbers, the data of this generator {data.dtype} ones")
    if pairs is not None:
        what = f"taken from black to white, since the data holds {data.dtype} numbers of {G.channels} channels"
        changes.setdefault(what, []).append(file.name)
    return pixels


def check_apart(paths: Sequence[str | Path], out: Path) -> None:
    """Raises `FruganError` where an image lies in the folder that results, under the same names, are to be written into."""
    for file in _files(paths):
        if file.resolve().parent == out.resolve():
            raise FruganError(f"{file} lies in --out {out}, where results would replace it; choose another --out")


def read_mask(file: str | Path, G: Generator) -> Tensor:
    """An image, white where the target counts and black where it is to be filled in → bool `[H, W]`. Raises `FruganError`."""
    pixels = convert(_read(_existing(Path(file))), 1)
    if tuple(pixels.shape[:2]) != G.resolution:
        h, w = G.resolution
        raise FruganError(f"mask {file} is {pixels.shape[0]}x{pixels.shape[1]}: draw one of {h}x{w} pixels")
    return torch.from_numpy(pixels[..., 0] > np.iinfo(pixels.dtype).max // 2)


def _files(paths: Sequence[str | Path]) -> list[Path]:
    suffixes = tuple(suffix for kinds in FORMATS.values() for suffix in kinds)
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.name.lower().endswith(suffixes))
            if not inside:
                raise FruganError(f"{path} holds no images")
            found += inside
        else:
            found.append(_existing(path))
    if not found:
        raise FruganError("no images were given: name image files, or a folder of them")
    if len(found) > MOST:
        raise FruganError(f"{len(found):,} images: project {MOST:,} at most at once")
    return found


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FruganError(f"there is no image {file}{beside(file)}")
    return file


def _read(file: Path) -> np.ndarray:
    try:
        with open(file, "rb") as opened:
            return read_pixels(opened)
    except Exception as error:  # a damaged file can be wrong in any way
        raise FruganError(f"{file} cannot be read as an image: {shown(error)}") from error
