"""Grouped splits: the images of one patient, film, slide or scene as a group that stays on one side of the split.

A specification says what an image's group is: "folder", the folder that holds it; "folder:N", the first N folders of its path;
"regex:PATTERN", what the parentheses of a regular expression catch in its path, several joined by "/"; or FILE:COLUMN, its cell in
a table that is found and read as labels are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugan.data.labels.read import read_column
from frugan.data.sources.base import Source
from frugan.errors import FruganError, shown

_TABLE = re.compile(r"(?P<path>.+\.(?:csv|tsv|jsonl)):(?P<column>[^/\\]+)", re.IGNORECASE)
_FOLDER = re.compile(r"folder(?::(?P<depth>[1-9]\d?))?", re.ASCII)
_REGEX = "regex:"
_REMEDY = "give folder, folder:1, regex:PATTERN with parentheses, or FILE.csv:COLUMN"


@dataclass(frozen=True)
class Groups:
    """Which images belong together: `numbers` int64 `[N]`, each image's group; `names` of the groups, sorted; `by`: the rule."""

    numbers: np.ndarray
    names: list[str]
    by: str

    @property
    def sizes(self) -> np.ndarray:
        """Images of each group, int64 `[len(names)]`, all above 0."""
        return np.bincount(self.numbers, minlength=len(self.names))

    def most_frequent(self, classes: np.ndarray) -> np.ndarray:
        """The class of most images of each group, the lowest of equally many, int64 `[len(names)]`; `classes`: int64 `[N]`."""
        (groups, kinds), counts = np.unique(np.stack([self.numbers, classes]), axis=1, return_counts=True)
        order = np.lexsort((kinds, -counts, groups))
        return kinds[order][np.unique(groups[order], return_index=True)[1]]

    def describe(self, held_out: np.ndarray) -> str:
        """How many groups there are and, of the held-out images (int64 `[n]`, their rows), how many of these are whole groups."""
        sizes = self.sizes
        images = f"{sizes.min()} to {sizes.max()}" if sizes.min() < sizes.max() else f"{sizes.min()}"
        told = f"{len(self.names)} by {shown(self.by)}, of {images} images each"
        if len(held_out):
            kept = np.unique(self.numbers[held_out])
            told += f"; held out: {len(held_out)} images of {len(kept)}"
        return told


def check_grouping(by: str) -> None:
    """Raises `FruganError` unless the specification is one of those that the module names."""
    if by.startswith(_REGEX):
        _compiled(by)
    elif not (_FOLDER.fullmatch(by) or _TABLE.fullmatch(by)):
        raise FruganError(f"--group {shown(by)}: {_REMEDY}")


def read_groups(source: Source, by: str, names: Sequence[str]) -> Groups:
    """The groups of images, in the order of their names.

    Args:
        source: the images, beside which a table may lie.
        by: the rule: a table's column, a folder, or a regular expression (`check_grouping`).
        names: of the images.

    Raises `FruganError` where an image has no group.
    """
    if by.startswith(_REGEX):
        found = [_caught(_compiled(by), name, by) for name in names]
    elif folder := _FOLDER.fullmatch(by):
        found = [_folder(name, int(folder["depth"] or 0), by) for name in names]
    else:
        table = _TABLE.fullmatch(by)
        assert table, "`check_grouping` has seen it"
        found = read_column(source, table["path"], table["column"], names)
        if (empty := next((name for name, cell in zip(names, found) if not cell), None)) is not None:
            raise FruganError(f"--group {shown(by)}: {shown(empty)} has an empty cell there; fill it in")
    return grouped(found, by)


def grouped(found: Sequence[str], by: str) -> Groups:
    """Groups from the name of each image's group."""
    names, numbers = np.unique(np.array(found, object), return_inverse=True)
    return Groups(numbers.astype(np.int64), names.tolist(), by)


def nearest_groups(sizes: Sequence[int], wanted: int) -> list[int]:
    """The groups, by place, whose sizes add up as near as can be to `wanted`: at least one of them, not all.

    Of sums equally near the smaller one counts; of the groups that give it, those are taken whose last place comes first, so
    that of groups of equal sizes it is the first ones. `sizes`: two or more, all above 0. Time O(groups · wanted) at most.
    """
    limit = min(sum(sizes) - 1, max(2 * wanted, min(sizes)))
    last = np.full(limit + 1, -1, np.int64)  # the first group with which a sum is reached; it completes that sum
    reached = np.zeros(limit + 1, bool)
    reached[0] = True
    for place, size in enumerate(sizes):
        if size <= limit:
            new = np.flatnonzero(reached[: limit + 1 - size] & ~reached[size:]) + size
            last[new], reached[new] = place, True
        if wanted <= limit and reached[wanted]:
            break
    sums = np.flatnonzero(reached[1:]) + 1
    left = int(sums[np.abs(sums - wanted).argmin()])
    chosen = []
    while left:
        chosen.append(int(last[left]))
        left -= sizes[chosen[-1]]
    return chosen[::-1]


def _compiled(by: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(by.removeprefix(_REGEX))
    except (re.error, RecursionError, OverflowError) as error:
        raise FruganError(f"--group {shown(by)}: no regular expression ({error}); correct it") from error
    if not pattern.groups:
        raise FruganError(
            f"--group {shown(by)}: nothing in it is in parentheses; put them around what names the group, for instance "
            r"regex:^(patient\d+)_"
        )
    return pattern


def _caught(pattern: re.Pattern[str], name: str, by: str) -> str:
    match = pattern.search(name)
    caught = [part for part in match.groups() if part] if match else []
    if not caught:
        found = "does not match" if match is None else "matches with nothing in the parentheses"
        raise FruganError(f"--group {shown(by)}: {shown(name)} {found}; correct the expression, or move the image away")
    return "/".join(caught)


def _folder(name: str, depth: int, by: str) -> str:
    folders = name.split("/")[:-1]
    if len(folders) < max(depth, 1):
        raise FruganError(
            f"--group {shown(by)}: {shown(name)} lies {len(folders)} folders deep; move it into the folder of its group, or group "
            "by another rule"
        )
    return "/".join(folders[:depth] if depth else folders)
