"""Masks beside images: the last channels of the files themselves, or a folder of files of the same names.

A mask holds few different values, which mean something: 0 and 255, 0 and 1, classes, or colours. They become even steps over the
range of the images' type, in ascending order, and are remembered for the way out. Beside images of other numbers than uint8 and
uint16, whose range is not known yet, they become places in that order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from frugan.channels import MOST_VALUES, MaskChannel, has_alpha
from frugan.data.decode import Background, Header, convert
from frugan.data.sources.base import Derived, Source
from frugan.data.workers import in_threads
from frugan.errors import FruganError, shown
from frugan.pixel_format import full_value, is_plain

_WHOLE = 0
"""Stands for the bits of mask values that are stored in another type than uint8 and uint16."""

_GREY = 0x010101
"""A grey value times this is the colour that looks like it."""


class MaskValues(NamedTuple):
    """The values stored in masks: of each mask channel, in ascending order, and their bits (8, 16, or 0 for another type)."""

    codes: tuple[tuple[int, ...], ...]
    depth: int

    @classmethod
    def joined(cls, parts: Iterable[MaskValues], where: object) -> MaskValues:
        """The values of all masks. Raises `FruganError` where they are too many to mean something, or their bits differ."""
        found = list(parts)
        if len({part.depth for part in found}) > 1:
            raise FruganError(f"some masks in {where} have 8 bits and some have more; save all alike")
        codes = tuple(tuple(sorted(set().union(*same))) for same in zip(*(part.codes for part in found)))
        if any(len(known) > MOST_VALUES for known in codes):
            raise FruganError(
                f"the masks in {where} have more than {MOST_VALUES} different values: a mask has few, which mean something; save "
                "masks as PNG without smooth edges, or declare that channel as image"
            )
        return cls(codes, found[0].depth)

    def channels(self, where: object, *, colours: bool = False) -> tuple[MaskChannel, ...]:
        """The masks with their values. `colours`: codes of 8 bits are 0xRRGGBB. Raises `FruganError` where all hold one value."""
        for known in self.codes:
            lowest, *others = known
            if not others:
                raise FruganError(f"the masks in {where} say nothing: all hold one value only, {_as_grey(lowest)}")
        colours = colours and self.depth == 8
        if colours and any(code % _GREY for known in self.codes for code in known):
            return tuple(MaskChannel(known, 24) for known in self.codes)
        factor = _GREY if colours else 1
        bits = [self.depth or (8 if known[-1] < 256 else 16) for known in self.codes]
        return tuple(MaskChannel(tuple(code // factor for code in known), n) for known, n in zip(self.codes, bits))


class UnreadableMasks(FruganError):
    """Images none of whose masks can be read."""


class Masked(Derived):
    """A source whose images come with masks: channels behind those of the image, see `frugan.data.sources.base.Source`.

    Headers are of the image alone; pixels have the masks behind it, once `learn` has seen them all. Transparency of images that
    have a mask from another file is laid over the background.
    """

    alpha = False

    def __init__(
        self, source: Source, masks: Source | None, *, images: int | None, count: int, background: Background = "white"
    ) -> None:
        """`masks`: files of the same names as `source` has; None: the last `count` of `images` + `count` channels."""
        super().__init__(source)
        self.masks, self.images, self.count = masks, images, count
        self.background: Background = background
        self.kind, self.names, self.unreadable = source.kind, source.names, list(source.unreadable)
        self.channels: tuple[MaskChannel, ...] = ()
        self._codes: list[np.ndarray] = []
        self._rows: list[tuple[int, int]] = [(i, i) for i in range(len(source.names))]
        if masks is not None:
            self._pair(masks)

    def _pair(self, masks: Source) -> None:
        """Keeps the images that have a mask of the same name, folders included and suffixes aside."""
        places: dict[PurePosixPath, int] = {}
        for i, name in enumerate(masks.names):
            stem = PurePosixPath(name).with_suffix("")
            if stem in places:
                raise FruganError(
                    f"{masks.path} has two masks of one name, {shown(masks.names[places[stem]])} and {shown(name)}; remove one"
                )
            places[stem] = i
        found = [places.get(PurePosixPath(name).with_suffix("")) for name in self.source.names]
        if all(place is None for place in found):
            raise FruganError(
                f"no image in {self.path} has a mask of the same name in {masks.path}: the first image is "
                f"{shown(self.source.names[0])}, the first mask {shown(masks.names[0])}; name them alike, suffixes aside"
            )
        self._rows = [(i, place) for i, place in enumerate(found) if place is not None]
        self.names = [self.source.names[i] for i, _ in self._rows]
        lost = [name for name, place in zip(self.source.names, found) if place is None]
        self.unreadable += [(name, f"no mask of that name in {masks.path}") for name in lost]

    def stamp(self) -> str:
        return self.source.stamp() if self.masks is None else _joined(self.source.stamp(), self.masks.stamp()).hex()

    def digest(self, index: int) -> bytes:
        image, mask = self._rows[index]
        found = self.source.digest(image)
        return found if self.masks is None else _joined(found.hex(), self.masks.digest(mask).hex())

    def header(self, index: int) -> Header:
        image, mask = self._rows[index]
        header = self.source.header(image)
        if self.masks is None:
            assert self.images is not None
            if header.channels != self.images + self.count:
                raise FruganError(f"has {header.channels} channels, and --channels names {self.images + self.count}")
            return replace(header, channels=self.images, channel_names=header.channel_names[: self.images])
        try:
            other = self.masks.header(mask)
        except Exception as error:  # a decoder given a broken file raises anything at all
            raise FruganError(f"its mask cannot be read: {error}") from error
        if (other.height, other.width) != (header.height, header.width):
            raise FruganError(
                f"has {header.height}x{header.width} pixels, and its mask {other.height}x{other.width}; make them alike"
            )
        return replace(header, channels=header.channels - self._has_opacity(header))

    def _has_opacity(self, header: Header) -> bool:
        return has_alpha(header.channels) and header.alpha != "none" and self.source.alpha

    def pixels(self, index: int) -> np.ndarray:
        """`[H, W, C + masks]` of the images' type."""
        pixels = self._image(index)
        planes = [_steps(plane, codes, pixels.dtype) for plane, codes in zip(self._planes(index)[0], self._codes)]
        return np.concatenate([pixels, np.stack(planes, -1)], -1)

    def _image(self, index: int) -> np.ndarray:
        image, _ = self._rows[index]
        pixels = self.source.pixels(image)
        if self.masks is None:
            return pixels[..., : self.images]
        drops = has_alpha(pixels.shape[-1]) and self._has_opacity(self.source.header(image))
        return convert(pixels, pixels.shape[-1] - 1, self.background) if drops else pixels

    def stacked(self, index: int) -> np.ndarray:
        """`[H, W, C + 1]`, uint8 or uint16 as the image: an image, and behind it its mask, from a file of its own, as stored.

        Raises `FruganError` for a mask of colours, or of values that the type cannot hold.
        """
        pixels, ((plane,), depth) = self._image(index), self._planes(index)
        if depth == 8 and (plane % _GREY).any():
            raise FruganError("its mask has colours, which one channel cannot hold; save it as grey values")
        values = plane // _GREY if depth == 8 else plane
        if (top := int(values.max())) > full_value(pixels.dtype):
            raise FruganError(f"its mask holds {top}, which images of 8 bits cannot; save it with 8 bits")
        return np.concatenate([pixels, values[..., None].astype(pixels.dtype)], -1)

    def learn(self, rows: Sequence[int], *, at_once: int | None = None) -> tuple[MaskChannel, ...]:
        """Finds the values of all masks, of `at_once` images at a time, by default some.

        Raises `FruganError` where the values are too many to mean something, or only one.
        """
        if not self._codes:
            found = self.observe(rows, at_once=at_once)
            self.channels = found.channels((self.masks or self.source).path, colours=self.masks is not None)
            self.use(found)
        return self.channels

    def observe(self, rows: Sequence[int], *, at_once: int | None = None) -> MaskValues:
        """The values in the masks of these images. Raises `FruganError` as `learn`, but not of a single value."""
        where, found, first = (self.masks or self.source).path, None, ""

        def look(row: int) -> MaskValues | str:
            try:
                return self.values(row)
            except Exception as error:  # is told when the image is decoded
                return f"{shown(self.names[row])}: {error}"

        for row, new in zip(rows, in_threads(look, rows, at_once)):
            if isinstance(new, str):
                first = first or new
            else:
                found = MaskValues.joined([found, new] if found else [new], f"{where} (up to {shown(self.names[row])})")
        if found is None:
            raise UnreadableMasks(f"none of the masks in {where} can be read, the first is {first}")
        return found

    def values(self, index: int) -> MaskValues:
        """The values in one image, of each mask at most one more than a mask may have."""
        planes, depth = self._planes(index)
        return MaskValues(tuple(tuple(np.unique(plane)[: MOST_VALUES + 1].tolist()) for plane in planes), depth)

    def use(self, values: MaskValues) -> None:
        """Has the masks counted in steps of these values, which are known from elsewhere, instead of learning them."""
        self._codes = [np.array(known) for known in values.codes]

    def _planes(self, index: int) -> tuple[list[np.ndarray], int]:
        """The masks of an image and their bits: `[H, W]` each of stored values, those of 8 bits from files of their own as colours
        0xRRGGBB, because what is grey in one may stand beside colours in another."""
        image, mask = self._rows[index]
        if self.masks is None:
            pixels, depth = _whole(self.source.pixels(image)[..., self.images :])
            return [pixels[..., i] for i in range(self.count)], depth
        pixels, depth = _whole(self.masks.pixels(mask))
        if has_alpha(pixels.shape[-1]) and self.masks.alpha:
            if (pixels[..., -1] != np.iinfo(pixels.dtype).max).any():
                raise FruganError("its mask has transparent pixels; save it as grey values or colours")
            pixels = pixels[..., :-1]
        if pixels.shape[-1] not in (1, 3):
            raise FruganError(f"its mask has {pixels.shape[-1]} channels; one of grey values, or RGB, is expected")
        if depth != 8:
            if (pixels != pixels[..., :1]).any():
                raise FruganError("its mask has colours of more than 8 bits; save it with 8 bits, or as grey values")
            return [pixels[..., 0]], depth
        red, green, blue = (pixels[..., i % pixels.shape[-1]].astype(np.uint32) for i in range(3))
        return [red << 16 | green << 8 | blue], depth


def _joined(*hashes: str) -> bytes:
    return hashlib.sha256("\0".join(hashes).encode()).digest()


def _whole(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Values of a mask and their bits; those of other types as uint16. Raises `FruganError` where that cannot hold them."""
    if is_plain(pixels.dtype):
        return pixels, 8 * pixels.dtype.itemsize
    odd = ~((pixels >= 0) & (pixels <= 65535) & (pixels == np.rint(pixels)))
    if odd.any():
        raise FruganError(f"its mask holds {pixels[odd][0]:g}; values of a mask are whole numbers from 0 to 65535")
    return pixels.astype(np.uint16), _WHOLE


def _as_grey(code: int) -> int:
    return code // _GREY if code and code % _GREY == 0 else code


def _steps(plane: np.ndarray, codes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Stored values `[H, W]` → even steps over the range of uint8 or uint16, of another `dtype` their places 0, 1, 2 …"""
    places = np.searchsorted(codes, plane)
    return even_steps(len(codes), dtype)[places] if is_plain(dtype) else places.astype(dtype)


def even_steps(count: int, dtype: np.dtype) -> np.ndarray:
    """So many numbers from 0 to what stands for 1 in pixels that are held as uint8, uint16 or float32."""
    steps = np.arange(count) * (full_value(dtype) / max(count - 1, 1))
    return (steps if dtype.kind == "f" else np.rint(steps)).astype(dtype)
