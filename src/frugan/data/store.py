"""Pixel stores: where a set's pixels lie, and what follows from it for the split, the order of training and lost images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from frugan.data.sampler import Sampler
from frugan.errors import FruganError
from frugan.images import Pixels


class PixelStore(Protocol):
    """The pixels of N images. A data set asks `split` first, then tells `begin` what came of it, then asks the rest.

    `at_hand`: all pixels are on this disk, so that they may be copied to a device as a whole.
    """

    at_hand: bool

    @property
    def pixels(self) -> Pixels: ...

    def split(self, names: list[str], held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(train, held out): sorted int64 positions."""
        ...

    def begin(self, train: np.ndarray, held_out: np.ndarray) -> None: ...

    def present(self, rows: np.ndarray) -> np.ndarray:
        """The rows, int64 `[n]`, with others in the place of those that are lost."""
        ...

    def sampler(self, indices: np.ndarray, *, seed: int, classes: np.ndarray | None) -> Sampler:
        """An endless stream of `indices`; those from N on are x-flipped copies. `classes`: one for each, drawn equally often."""
        ...

    def preview(self, train: np.ndarray, count: int) -> np.ndarray:
        """Up to `count` of the training images, sorted: always the same ones."""
        ...


class LocalPixels:
    """Pixels that are all on this disk, in memory or mapped into it."""

    at_hand = True

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def split(self, names: list[str], held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return split(names, held_out, seed)

    def begin(self, train: np.ndarray, held_out: np.ndarray) -> None:
        pass

    def present(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def sampler(self, indices: np.ndarray, *, seed: int, classes: np.ndarray | None) -> Sampler:
        return Sampler(indices, seed=seed, classes=classes)

    def preview(self, train: np.ndarray, count: int) -> np.ndarray:
        return np.sort(np.random.default_rng(0).permutation(train)[:count])


def split(
    names: list[str], held_out: float, seed: int, groups: Sequence[bytes] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(train, held out): sorted int64 positions. Which are held out follows from their names and the seed alone.

    Every name has a fixed random rank and the lowest are held out: more images change the split as little as can be.
    With `groups`, one rank per name, those of the lowest group come first.
    """
    count = round(held_out * len(names)) if held_out < 1 else int(held_out)
    count = max(count, 1) if held_out > 0 else 0
    if count >= len(names):
        raise FruganError(
            f"holding out {count} of {len(names)} images leaves none to train on; choose a smaller --held-out"
        )
    keys = [split_key(name, seed) for name in names]
    keys = [group + key for group, key in zip(groups, keys)] if groups else keys
    order = np.array(sorted(range(len(names)), key=keys.__getitem__), np.int64)
    return np.sort(order[count:]), np.sort(order[:count])


def split_key(name: str, seed: int) -> bytes:
    """A fixed random place in the order of all names."""
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
