"""Pixel stores: where a set's pixels lie, and what follows from it for the split, the order of training and lost images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from frugan.data.groups import Groups, nearest_groups
from frugan.data.sampler import Sampler
from frugan.errors import FruganError, shown
from frugan.images import Pixels


class PixelStore(Protocol):
    """The pixels of N images. A data set asks `split` first, then tells `begin` what came of it, then asks the rest.

    `at_hand`: all pixels are on this disk, so that they may be copied to a device as a whole.
    """

    at_hand: bool

    @property
    def pixels(self) -> Pixels: ...

    def split(
        self,
        names: list[str],
        held_out: float,
        seed: int,
        groups: Groups | None = None,
        classes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Divides the images into training and held-out ones: (train, held out), sorted int64 positions.

        Args:
            names: of the images.
            held_out: number (1 or more) or share (below 1).
            seed: of the choice.
            groups: whole groups are held out; None: images.
            classes: int64 `[N]`, each of which gives its share; None: the choice takes no heed of classes.

        Raises `FruganError` where that is impossible.
        """
        ...

    def begin(self, train: np.ndarray, held_out: np.ndarray) -> None: ...

    def present(self, rows: np.ndarray) -> np.ndarray:
        """The rows, int64 `[n]`, with others in the place of those that are lost."""
        ...

    def sampler(
        self, indices: np.ndarray, *, seed: int, classes: np.ndarray | None, groups: np.ndarray | None = None
    ) -> Sampler:
        """An endless stream of images.

        Args:
            indices: of the images; those from N on are x-flipped copies.
            seed: of the order.
            classes, groups: of each index, drawn equally often; or None.
        """
        ...

    def preview(self, train: np.ndarray, count: int) -> np.ndarray:
        """Up to `count` of the training images, sorted: always the same ones."""
        ...


class LocalPixels:
    """Pixels that are all on this disk, in memory or mapped into it."""

    at_hand = True

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def split(
        self,
        names: list[str],
        held_out: float,
        seed: int,
        groups: Groups | None = None,
        classes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        if groups and held_out:
            return split_groups(groups, held_out, seed, classes)
        return split(names, held_out, seed, classes=classes)

    def begin(self, train: np.ndarray, held_out: np.ndarray) -> None:
        pass

    def present(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def sampler(
        self, indices: np.ndarray, *, seed: int, classes: np.ndarray | None, groups: np.ndarray | None = None
    ) -> Sampler:
        return Sampler(indices, seed=seed, classes=classes, groups=groups)

    def preview(self, train: np.ndarray, count: int) -> np.ndarray:
        return np.sort(np.random.default_rng(0).permutation(train)[:count])


def split(
    names: list[str],
    held_out: float,
    seed: int,
    ranks: Sequence[bytes] | None = None,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Divides images into training and held-out ones: (train, held out), sorted int64 positions.

    Every name has a fixed random rank, and the lowest are held out: more images change the division as little as
    possible.

    Args:
        names: of the images.
        held_out: number (1 or more) or share (below 1).
        seed: of the ranks.
        ranks: of each image, ahead of its name's; images with the lowest come first.
        classes: of each image, int64 `[N]`; see `_shared_order`.
    """
    count = _held_out_count(held_out, len(names))
    keys = [split_key(name, seed) for name in names]
    keys = [rank + key for rank, key in zip(ranks, keys)] if ranks else keys
    order = _shared_order(keys, classes, np.ones(len(names), np.int64))
    return np.sort(order[count:]), np.sort(order[:count])


def split_groups(
    groups: Groups, held_out: float, seed: int, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divides images into training and held-out ones by whole groups, as `split` does by images.

    The number of images held out is as near as groups allow to that asked for. The choice follows from the groups'
    names, sizes and the seed: among choices that come equally near it prefers groups of the lowest fixed random rank, or
    those by which each class comes nearest to its share.

    Args:
        groups: of the images.
        held_out: number (1 or more) or share (below 1) of images.
        seed: of the ranks.
        classes: of each image, int64 `[N]`; a group counts with the class that most of its images have.

    Raises `FruganError` where there is only one group.
    """
    sizes = groups.sizes
    count = _held_out_count(held_out, int(sizes.sum()))
    if len(sizes) == 1:
        raise FruganError(
            f"--group {shown(groups.by)} puts all {sizes[0]} images into one group ({shown(groups.names[0])}), so that holding it "
            "out would leave none to train on; group by a finer rule, or leave out --held-out"
        )
    kinds = None if classes is None else groups.most_frequent(classes)
    ranked = _shared_order([split_key(name, seed) for name in groups.names], kinds, sizes)
    chosen = [ranked[place] for place in nearest_groups(sizes[ranked].tolist(), count)]
    is_held_out = np.isin(groups.numbers, chosen)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _shared_order(keys: Sequence[bytes], classes: np.ndarray | None, sizes: np.ndarray) -> np.ndarray:
    """The order in which images, or groups of them, are held out, as int64 positions: by their keys; with classes so that
    as many as are taken from the front divide among these as all images do (Webster's rule: each class gives its share, rounded).

    Args:
        keys: random ranks.
        classes: int64 `[n]`, or None.
        sizes: images of each, int64 `[n]`.
    """
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    if classes is None:
        return order
    rows = order[np.argsort(classes[order], kind="stable")]  # by class, then by key
    totals, place = np.bincount(classes, sizes), np.empty(len(keys))
    before = np.cumsum(sizes[rows]) - (np.cumsum(totals) - totals)[classes[rows]] - sizes[rows] / 2  # within the class
    place[rows] = before / totals[classes[rows]]
    return order[np.argsort(place[order], kind="stable")]


def _held_out_count(held_out: float, images: int) -> int:
    """Images to hold out. Raises `FruganError` where that would be all."""
    count = round(held_out * images) if held_out < 1 else int(held_out)
    count = max(count, 1) if held_out > 0 else 0
    if count >= images:
        raise FruganError(
            f"holding out {count} of {images} images leaves none to train on; choose a smaller --held-out"
        )
    return count


def split_key(name: str, seed: int) -> bytes:
    """A fixed random place in the order of all names."""
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
