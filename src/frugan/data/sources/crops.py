"""Crops of a few large images as a source of many small ones: at random places, or on a grid.

Where they are cut follows from the seed and an image's own name, so that one more image moves none. A crop is called
NAME@TOP,LEFT, with r1, r2 or r3 behind where it was turned by so many quarters. One image is decoded at a time, and kept until a
crop of another one is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from threading import Lock
from typing import NamedTuple

import numpy as np

from frugan.channels import MaskChannel
from frugan.data.decode import Header
from frugan.data.sources.base import Derived, Source
from frugan.data.sources.masks import Masked
from frugan.errors import FruganError, shown

MOST_CROPS = 5_000_000


@dataclass(frozen=True)
class CropConfig:
    """`count` crops of each image at random places (None: a grid) of `size` pixels a side.

    Neighbours in a grid share `overlap` of their side. `rotations`: each is turned by quarters, at random; in a grid all four ways.
    """

    count: int | None
    size: int
    overlap: float = 0.0
    rotations: bool = False
    seed: int = 0


class Crop(NamedTuple):
    """Where a crop lies in which image (its number), and by how many quarters it is turned."""

    image: int
    top: int
    left: int
    turns: int


class Crops(Derived):
    """A `Source` of crops. `origins`: the images that they are cut from, by name, one for each crop.

    Args:
        source: the images to cut from.
        heads: of each image its header, or the reason why it has none.
        config: size, number and places of the crops.

    Raises `FruganError` where images are too small, or crops too many.
    """

    def __init__(self, source: Source, heads: Sequence[Header | str], config: CropConfig) -> None:
        super().__init__(source)
        self.heads, self.config = heads, config
        self.kind = f"crops of {len(source.names)} images in {source.kind}"
        self.alpha = source.alpha
        pairs = list(zip(source.names, heads))
        self.unreadable = source.unreadable + [(name, head) for name, head in pairs if isinstance(head, str)]
        self._refuse_small()
        self.crops = [
            Crop(i, *place)
            for i, (name, head) in enumerate(pairs)
            if isinstance(head, Header)
            for place in places(name, head.height, head.width, config)
        ]
        if len(self.crops) > MOST_CROPS:
            raise FruganError(
                f"--crops gives {len(self.crops):,} crops, the limit is {MOST_CROPS:,}; ask for fewer, or larger ones"
            )
        self.origins = [source.names[crop.image] for crop in self.crops]
        self.names = [_name(origin, crop) for origin, crop in zip(self.origins, self.crops)]
        self._lock = Lock()
        self._digests: dict[int, bytes] = {}
        self._decoded: tuple[int, np.ndarray | Exception] | None = None

    def _refuse_small(self) -> None:
        size, readable = self.config.size, [head for head in self.heads if isinstance(head, Header)]
        small = [
            (name, head)
            for name, head in zip(self.source.names, self.heads)
            if isinstance(head, Header) and min(head.height, head.width) < size
        ]
        if small:
            name, head = small[0]
            raise FruganError(
                f"--crop-size {size}: {len(small)} of {len(readable)} images are smaller, the first is {shown(name)} of "
                f"{head.height}x{head.width}; give a smaller size, or move them away"
            )

    def learn(self, rows: Sequence[int]) -> tuple[MaskChannel, ...]:
        """The masks that are cut with the images, see `frugan.data.sources.masks.Masked.learn`; none where there are none."""
        if not isinstance(self.source, Masked):
            return ()
        return self.source.learn(sorted({self.crops[row].image for row in rows}), at_once=1)

    def stamp(self) -> str:
        return hashlib.sha256(f"{self.source.stamp()}{astuple(self.config)}".encode()).hexdigest()

    def digest(self, index: int) -> bytes:
        image = self.crops[index].image
        with self._lock:
            if image not in self._digests:
                self._digests[image] = self.source.digest(image)
        return hashlib.sha256(self._digests[image] + f"{self.crops[index][1:]}{self.config.size}".encode()).digest()

    def header(self, index: int) -> Header:
        head = self.heads[self.crops[index].image]
        assert isinstance(head, Header)
        return replace(head, height=self.config.size, width=self.config.size)

    def pixels(self, index: int) -> np.ndarray:
        crop, size = self.crops[index], self.config.size
        with self._lock:
            whole = self._image(crop.image)
            found = np.rot90(whole[crop.top : crop.top + size, crop.left : crop.left + size], crop.turns).copy()
        if found.shape[:2] != (size, size):
            raise FruganError("holds fewer pixels than its header says")
        return found

    def _image(self, image: int) -> np.ndarray:
        """The decoded image; why it cannot be decoded is remembered too, for its other crops."""
        if self._decoded is None or self._decoded[0] != image:
            self._decoded = None  # before the next one is decoded: there is room for one
            try:
                self._decoded = image, self.source.pixels(image)
            except Exception as error:  # a decoder given a broken file raises anything at all
                if isinstance(error, MemoryError):
                    raise
                self._decoded = image, error
        found = self._decoded[1]
        if isinstance(found, Exception):
            raise found
        return found


def places(name: str, height: int, width: int, config: CropConfig) -> list[tuple[int, int, int]]:
    """The crops of one image, sorted, as (top, left, quarter turns): `count` different ones, or as many as there are.

    Args:
        name: of the image, from which, with the seed, the choice follows.
        height, width: of the image.
        config: size, number and rotations.
    """
    turns = 4 if config.rotations else 1
    if config.count is None:
        rows, columns = _starts(height, config), _starts(width, config)
        return [(y, x, turn) for y in rows for x in columns for turn in range(turns)]
    shape = height - config.size + 1, width - config.size + 1, turns
    seed = int.from_bytes(
        hashlib.sha256(f"{config.seed}\0{name}".encode("utf-8", "surrogateescape")).digest()[:8], "big"
    )
    chosen = _sample(int(np.prod(shape)), config.count, np.random.default_rng(seed))
    return sorted(zip(*(axis.tolist() for axis in np.unravel_index(chosen, shape))))


def origin(name: str) -> str:
    """The image that a crop was cut from, by their names."""
    return name.rpartition("@")[0]


def _name(image: str, crop: Crop) -> str:
    return f"{image}@{crop.top:05d},{crop.left:05d}{f'r{crop.turns}' if crop.turns else ''}"


def _starts(length: int, config: CropConfig) -> list[int]:
    """The starts of the crops in a row; what remains is cut off equally at both ends."""
    stride = max(round(config.size * (1 - config.overlap)), 1)
    count = (length - config.size) // stride
    first = (length - config.size - count * stride) // 2
    return [first + i * stride for i in range(count + 1)]


def _sample(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` different numbers below `total`, or all of them, without memory for all."""
    if total <= 4 * count:
        return rng.permutation(total)[:count]
    found: dict[int, None] = {}
    while len(found) < count:
        found |= dict.fromkeys(rng.integers(total, size=count).tolist())
    return np.array(list(found)[:count])
