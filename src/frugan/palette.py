"""Palettes: images in a limited set of colours, read from a file or chosen by median cut, with opacity that is 0 or full."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from frugan.checks import beside
from frugan.errors import FruganError, shown
from frugan.files import read_bytes, replacing
from frugan.images import png_chunks

MOST = 256
"""Colours of a PNG with a palette."""

_MOST_BYTES = 64 << 20
_MOST_SAMPLED = 1 << 22  # pixels that a palette is chosen by
_HEX = re.compile(r"#?(?:[0-9a-fA-F]{2})?([0-9a-fA-F]{6})", re.ASCII)
_NUMBERS = re.compile(r"\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})(\s.*)?", re.ASCII)


class Palette:
    """Up to 256 colours uint8 `[K, 3]`, known (`chosen`) or still to be chosen from the images, `count` of them."""

    def __init__(self, colours: np.ndarray | None, count: int) -> None:
        self.colours = np.zeros((0, 3), np.uint8) if colours is None else colours
        self.count, self.chosen = count, colours is not None

    def choose(self, pixels: np.ndarray, *, alpha: bool) -> None:
        """A palette by median cut from the opaque pixels of images uint8 `[N, H, W, C]`."""
        colours = _rgb(pixels, alpha=alpha).reshape(-1, 3)
        if alpha:
            colours = colours[pixels[..., -1].reshape(-1) > 127]
        if not len(colours):
            colours = np.zeros((1, 3), np.uint8)
        colours = colours[:: max(1, -(-len(colours) // _MOST_SAMPLED))]
        distinct = np.unique(colours, axis=0)
        if len(distinct) > self.count:
            image = Image.fromarray(colours[None]).quantize(
                self.count, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
            )
            distinct = np.array(image.getpalette(), np.uint8).reshape(-1, 3)[: self.count]
        self.colours, self.chosen = distinct, True

    def paint(self, pixels: np.ndarray, *, alpha: bool) -> np.ndarray:
        """uint8 `[N, H, W, C]` → the same, each pixel of the nearest colour; opacity becomes 0 or full, what is clear black."""
        painted = self.colours[_nearest(_rgb(pixels, alpha=alpha), self.colours)]
        if pixels.shape[-1] - alpha == 1:
            painted = painted[..., :1]
        if not alpha:
            return painted
        opaque = pixels[..., -1:] > 127
        return np.concatenate([np.where(opaque, painted, 0), np.where(opaque, 255, 0)], -1).astype(np.uint8)

    def fits(self, image: np.ndarray) -> bool:
        """Whether a PNG with a palette holds the painted image `[H, W, C]`: with alpha one index stands for what is clear."""
        return image.shape[-1] == 3 or (image.shape[-1] == 4 and len(self.colours) < MOST)

    def save(self, image: np.ndarray, path: Path, text: Mapping[str, str]) -> None:
        """Writes an image as a PNG with this palette, whole or not at all.

        Args:
            image: RGB or RGBA, uint8 `[H, W, 3]` or `[H, W, 4]`; pixels whose opacity is 0 become transparent.
            path: of the file.
            text: the texts that the file keeps, by key.
        """
        indices = _nearest(image[..., :3], self.colours).astype(np.uint8)
        clear: dict[str, int] = {}
        if image.shape[-1] == 4:
            clear = {"transparency": len(self.colours)}
            indices[image[..., 3] == 0] = len(self.colours)
        made = Image.fromarray(indices, "P")
        made.putpalette([*self.colours.reshape(-1).tolist(), *([0, 0, 0] if clear else [])])
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            made.save(unfinished, "PNG", pnginfo=png_chunks(text), **clear)


def _rgb(pixels: np.ndarray, *, alpha: bool) -> np.ndarray:
    colours = pixels[..., :-1] if alpha else pixels
    return np.repeat(colours, 3, -1) if colours.shape[-1] == 1 else np.ascontiguousarray(colours)


def _nearest(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The number of the nearest colour of every pixel `[…, 3]`, exactly: int64 `[…]`."""
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    known, where = np.unique(codes, return_inverse=True)
    own = np.stack([known >> 16, known >> 8 & 255, known & 255], -1)
    found = np.empty(len(own), np.int64)
    for at in range(0, len(own), 4096):
        part = own[at : at + 4096]
        found[at : at + 4096] = (part[:, None] - colours[None].astype(np.int64)).__pow__(2).sum(-1).argmin(1)
    return found[where].reshape(pixels.shape[:-1])


def read_palette(text: str) -> Palette:
    """A number of colours from 2 to 256, or a file of them: .gpl (GIMP), .pal (JASC), .hex or .txt of RRGGBB lines, or an image.

    Raises `FruganError`.
    """
    if text.isascii() and text.isdecimal():
        if len(text) > 3 or not 2 <= int(text) <= MOST:
            raise FruganError(f"--palette {shown(text, 40)}: give 2 to {MOST} colours, or a file of them")
        return Palette(None, int(text))
    path = Path(text).expanduser()
    if not path.is_file():
        raise FruganError(f"--palette {text}: no such file{beside(path)}; give a number of colours, or a file of them")
    try:
        listed = path.suffix.lower() in (".gpl", ".pal", ".hex", ".txt")
        colours = _listed(read_bytes(path, _MOST_BYTES).decode("utf-8-sig")) if listed else _of_image(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FruganError(f"--palette {path} cannot be read: {shown(error)}") from error
    if not 1 <= len(colours) <= MOST:
        raise FruganError(
            f"--palette {path} holds {len(colours):,} colours; give 1 to {MOST}, or a number to choose so many"
        )
    return Palette(colours, len(colours))


def _listed(text: str) -> np.ndarray:
    """Colours of lines such as "255 0 10 red" or "#ff000a", in their order, each once; others are headings."""
    found = []
    lines = text.splitlines()
    jasc = bool(lines) and lines[0].strip() == "JASC-PAL"
    for line in lines[3 if jasc else 0 :]:
        if match := _HEX.fullmatch(line.strip()):
            found.append(tuple(bytes.fromhex(match[1])))
        elif (match := _NUMBERS.fullmatch(line)) and all(int(match[i]) < 256 for i in (1, 2, 3)):
            found.append((int(match[1]), int(match[2]), int(match[3])))
    return np.array(list(dict.fromkeys(found)), np.uint8).reshape(-1, 3)


def _of_image(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    return np.unique(pixels[pixels[:, 3] > 0][:, :3], axis=0)
