"""A set of real images to measure against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from frugan.images import Pixels


@dataclass(frozen=True)
class ImageSet:
    """A set of real images: rows of an array of pixels.

    Attributes:
        pixels: uint8, uint16, or float32 in [0, 1], `[N, H, W, C]`, preferably memory-mapped.
        rows: int64, the images of the set; a row i ≥ N is the x-flipped copy of image i − N. None means all.
        labels: float32 `[N, K]`, or None.
        names: of the N images, or None.
        class_names: of the K columns of one-hot labels, or None.
        groups: `[N]`, the group of each image by name (patient, film, slide), or None.
        channels: the number of the first channels that are the image; masks follow, which no metric looks at. None
            means all.
    """

    pixels: Pixels
    rows: np.ndarray | None = None
    labels: np.ndarray | None = None
    names: Sequence[str] | None = None
    class_names: Sequence[str] | None = None
    groups: np.ndarray | None = None
    channels: int | None = None
    """How many of the first channels are the image; what follows are masks, which usefulness alone looks at. None: all."""
    mask_values: Sequence[int] = ()
    """How many values each of the masks has."""

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def chosen(self) -> np.ndarray:
        return np.arange(len(self.pixels)) if self.rows is None else np.asarray(self.rows)

    def __getitem__(self, positions: Any) -> np.ndarray:
        """Pixels `[n, H, W, C]` at positions within the set."""
        rows = self.chosen[positions]
        pixels = np.ascontiguousarray(self.pixels[rows % len(self.pixels)][..., : self.channels])
        flipped = rows >= len(self.pixels)
        pixels[flipped] = pixels[flipped, :, ::-1]
        return pixels

    @property
    def image_channels(self) -> int:
        return self.channels or self.pixels.shape[3]

    def masks_of(self, positions: np.ndarray) -> np.ndarray:
        """Masks of some of the chosen ones, as the numbers of their values: uint8 `[n, H, W, M]`."""
        return mask_numbers(self.with_masks[positions][..., self.image_channels :], self.mask_values)

    @property
    def with_masks(self) -> ImageSet:
        """The same with all channels."""
        return replace(self, channels=None)

    @cached_property
    def own_rows(self) -> np.ndarray:
        """The row of `pixels` of each image of the set, of the original for an x-flipped copy."""
        return self.chosen % len(self.pixels)

    @property
    def chosen_groups(self) -> np.ndarray | None:
        """The group of each of the chosen ones."""
        return None if self.groups is None else np.asarray(self.groups)[self.own_rows]

    @property
    def owners(self) -> np.ndarray:
        """The group of each image of the set; without groups, which of the N images it is or is a copy of."""
        groups = self.chosen_groups
        return self.own_rows if groups is None else groups

    def labels_of(self, positions: np.ndarray) -> np.ndarray | None:
        """Labels `[n, K]` at positions within the set, or None."""
        return None if self.labels is None else np.asarray(self.labels)[self.own_rows[positions]]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, type and pixels, in order."""
        digest = hashlib.sha256(f"{self.pixels.shape[1:]} {self.pixels.dtype}".encode())
        for i in range(0, len(self), 256):
            digest.update(self[slice(i, i + 256)].data)
        return digest.hexdigest()

    def name(self, position: int) -> str:
        row = int(self.chosen[position])
        own = row % len(self.pixels)
        return (self.names[own] if self.names else str(own)) + (" (mirrored)" if row >= len(self.pixels) else "")


def mask_numbers(stored: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Masks `[N, H, W, M]` of 8 or 16 bits, whose values are even steps over the range → the values' numbers, uint8."""
    steps = np.array([count - 1 for count in counts], np.float32) / np.iinfo(stored.dtype).max
    return (stored * steps).round().astype(np.uint8)
