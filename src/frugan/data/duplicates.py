"""Near-duplicate images: copies that were resized, recompressed, made brighter or of more contrast, or flipped left to right.

An image is averaged to 16×16 pixels, and its mean and contrast are taken away, x' = (x − mean x) / std x; then what all images of
the set have in common, their mean. Two images are near-duplicates where the correlation of what is left is `LEAST` or more. All
pairs are compared, both ways around, first in the 64 directions in which the set varies most, where no distance is larger than in
all: 30,000 images take 8 s of a processor, 10⁵ eleven times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from frugan.data.dataset import Dataset
from frugan.data.decode import resize
from frugan.data.workers import in_threads
from frugan.errors import FruganError, shown
from frugan.images import to_bytes

LEAST = 0.98
"""Correlation from which two images count as near-duplicates."""
MOST_IMAGES = 100_000
"""Images of a set that are compared when training begins; of larger ones so many, evenly spread."""
_SIDE = 16
_DIRECTIONS = 64
_FLAT = 1.5  # standard deviation of grey levels below which an image is of one colour
_FEWEST_FOR_MEAN = 64  # of fewer images the mean is too much of each
_LEAST_LENGTH = (
    0.05  # of an image that differs from the mean by less of its contrast, differences count as if it were so much
)
_BLOCK = 1 << 22  # products at once
_EXAMINED = 1 << 18  # pairs that are alike in some directions, and compared in all: more only where a set is all alike
_SHOWN = 5


class Images(Protocol):
    """Images `[H, W, C]` by number: an array `[N, H, W, C]`, memory-mapped or not, or a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> np.ndarray: ...


class Pair(NamedTuple):
    """Two images by their numbers, the correlation of their thumbnails, and whether one is like the other flipped left to right."""

    first: int
    second: int
    similarity: float
    flipped: bool


def near_duplicates(
    images: Images,
    others: Images | None = None,
    *,
    least: float = LEAST,
    most: int = 10_000,
) -> list[Pair]:
    """Pairs of images that are nearly the same, the most alike first: within `images`, or between them and `others`.

    Args:
        images, others: uint8, uint16 or float32 in [0, 1] `[N, H, W, C]`, also memory-mapped; of equal channels, of any sizes.
        least: lowest correlation, 0.5 to 1.
        most: pairs to return at most, the most alike of all.

    Images of one colour have no pairs.
    """
    if not 0.5 <= least <= 1:
        raise FruganError(f"least {least}: give a correlation from 0.5 to 1")
    first = _thumbnails(images)
    second = first if others is None else _thumbnails(others)
    if len(first) and len(second) and first.shape[-1] != second.shape[-1]:
        raise FruganError(
            f"images of {first.shape[-1]} and {second.shape[-1]} channels cannot be compared; convert either"
        )
    return _compare(first, second, least, most, within=others is None)


def split_duplicates(dataset: Dataset, *, most: int = 10_000) -> list[Pair]:
    """Near-duplicates across the split: (held-out image, training image, …), the most alike first.

    None of sets whose pixels are not all on this disk.
    """
    if not (len(dataset.held_out_indices) and dataset.store.at_hand):
        return []
    held_out, train = (_spread(rows) for rows in (dataset.held_out_indices, dataset.train_indices))
    views = _Rows(dataset, held_out), _Rows(dataset, train)
    return [
        pair._replace(first=int(held_out[pair.first]), second=int(train[pair.second]))
        for pair in near_duplicates(*views, most=most)
    ]


def training_duplicates(dataset: Dataset, *, most: int = 10_000) -> list[Pair]:
    """Near-duplicates among the training images, the most alike first; none of sets whose pixels are not all on this disk."""
    if not dataset.store.at_hand:
        return []
    rows = _spread(dataset.train_indices)
    return [
        pair._replace(first=int(rows[pair.first]), second=int(rows[pair.second]))
        for pair in near_duplicates(_Rows(dataset, rows), most=most)
    ]


def split_warning(dataset: Dataset) -> str | None:
    """A sentence that names held-out images with near-duplicates among the training images; None where there are none."""
    pairs = split_duplicates(dataset)
    if not pairs:
        return None
    count = len({pair.first for pair in pairs})
    best = {pair.first: pair for pair in reversed(pairs)}.values()
    named = [describe_pair(pair, dataset.names) for pair in sorted(best, key=lambda pair: -pair.similarity)[:_SHOWN]]
    return (
        f"{count} of {len(dataset.held_out_indices)} held-out images {'is a' if count == 1 else 'are'} near-duplicate"
        f"{'' if count == 1 else 's'} of training images: {'; '.join(named)}{' …' if count > _SHOWN else ''}. What is measured on "
        "them rewards copying: keep such images together with --group, or remove one of each"
    )


def describe_pair(pair: Pair, names: Sequence[str]) -> str:
    """A pair as text, such as "a.png ~ b.png (0.998, flipped)"."""
    flipped = ", flipped" if pair.flipped else ""
    return f"{shown(names[pair.first])} ~ {shown(names[pair.second])} ({pair.similarity:.3f}{flipped})"


class _Rows:
    """Some images of a set."""

    def __init__(self, dataset: Dataset, rows: np.ndarray) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> np.ndarray:
        return self.dataset.pixels[self.rows[i]]


def _spread(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= MOST_IMAGES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_IMAGES).round().astype(np.int64)]


def _thumbnails(images: Images) -> np.ndarray:
    """uint8 `[N, 16, 16, C]`."""

    def small(i: int) -> np.ndarray:
        return resize(to_bytes(images[i]), (_SIDE, _SIDE), fit="crop", filter="box", alpha=False)

    found = list(in_threads(small, range(len(images))))
    return np.stack(found) if found else np.zeros((0, _SIDE, _SIDE, 1), np.uint8)


def _compare(first: np.ndarray, second: np.ndarray, least: float, most: int, *, within: bool) -> list[Pair]:
    if not (len(first) and len(second)):
        return []
    common = _Common(first if within else np.concatenate([first, second]))
    a = common.residuals(first)
    best: dict[tuple[int, int], Pair] = {}
    for flipped in (False, True):
        b = common.residuals(second[:, :, ::-1] if flipped else second)
        for i, j, similarity in _alike(a, b, common.directions, least, most, within=within):
            pair = Pair(i, j, similarity, flipped)
            if (known := best.setdefault((i, j), pair)).similarity < similarity:  # of symmetric images both are alike
                best[i, j] = known._replace(similarity=similarity, flipped=flipped)
    return sorted(best.values(), key=lambda pair: (-pair.similarity, pair))[:most]


class _Common:
    """The mean of a set's images, and the directions in which they differ most, `[D, 64]`."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        values, flat = _standardised(thumbnails[:: max(len(thumbnails) // 20_000, 1)])
        self.mean = values[~flat].mean(0) if (~flat).sum() >= _FEWEST_FOR_MEAN else np.zeros_like(values[0])
        self.directions = None
        if len(thumbnails) > _BLOCK // 1024:
            centred = values[~flat] - self.mean
            _, vectors = np.linalg.eigh(centred.T @ centred)
            self.directions = vectors[:, ::-1][:, :_DIRECTIONS].astype(np.float32)

    def residuals(self, thumbnails: np.ndarray) -> np.ndarray:
        """float32 `[N, D]` of length 1, less for images that hardly differ from the mean; NaN for those of one colour."""
        values, flat = _standardised(thumbnails)
        values -= self.mean
        length = np.linalg.norm(values, axis=1, keepdims=True)
        values /= np.maximum(length, _LEAST_LENGTH * np.sqrt(values.shape[1]))
        values[flat] = np.nan
        return values


def _standardised(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 `[N, D]` of mean 0 and standard deviation 1; and which images are of one colour, bool `[N]`."""
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    std = values.std(1, keepdims=True)
    values /= np.maximum(std, 1e-6)
    return values, std[:, 0] < _FLAT


def _alike(
    a: np.ndarray, b: np.ndarray, directions: np.ndarray | None, least: float, most: int, *, within: bool
) -> list[tuple[int, int, float]]:
    """(i, j, similarity) of the `most` rows that are most alike; `within` one set each pair once, and no image with itself.

    The similarity is 1 − |a − b|² / 2, which is the correlation of rows of length 1.
    """
    some_a, some_b = (a, b) if directions is None else (a @ directions, b @ directions)
    squares_a, squares_b = np.square(some_a).sum(1), np.square(some_b).sum(1)
    limit = 2 - 2 * least + 1e-5
    found = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    examined, step = 0, max(_BLOCK // len(b), 1)
    for start in range(0, len(a), step):
        rows, offset = slice(start, start + step), start if within else 0
        distances = squares_a[rows, None] + squares_b[None, offset:] - 2 * (some_a[rows] @ some_b[offset:].T)
        i, j = np.nonzero(distances <= limit)
        i, j = i + start, j + offset
        if within:
            i, j = i[i < j], j[i < j]
        i, j = i[: _EXAMINED - examined], j[: _EXAMINED - examined]
        similarity = np.zeros(len(i), np.float32)
        for k in range(0, len(i), 4096):
            some = slice(k, k + 4096)
            similarity[some] = 1 - np.square(a[i[some]] - b[j[some]]).sum(1) / 2
        examined += len(i)
        joined = [np.concatenate(pair) for pair in zip(found, (i, j, similarity))]
        order = np.argsort(-joined[2], kind="stable")[:most]
        found = tuple(part[order[joined[2][order] >= least]] for part in joined)
        if examined >= _EXAMINED:
            break
    return list(zip(*(part.tolist() for part in found)))
