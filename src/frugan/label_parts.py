"""Parts of labels: classes, flags, and measured numbers with their distribution in the training set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from frugan.errors import FruganError

SHOWN = 20  # class names that a message lists


@dataclass(frozen=True)
class Measured:
    """One label column that holds measured numbers, and their distribution in the training set, in the label's own unit.

    Networks standardise the column by `mean` and `std`, so that labels are given to them as they were measured.
    """

    column: int
    """Its position among the K label values."""
    name: str
    mean: float
    std: float
    """Standard deviation; 0 where the column is constant, and then without influence."""
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        numbers = (self.mean, self.std, self.minimum, self.maximum)
        if self.column < 0 or self.std < 0 or not all(map(math.isfinite, numbers)):
            raise FruganError(
                f"measured label {self.name!r} has column {self.column}, mean {self.mean}, std {self.std}: "
                "give a column from 0 up, finite numbers, and a deviation of 0 or more"
            )

    def __str__(self) -> str:
        if not self.std:
            return f"{self.mean:g} in every image (no influence)"
        return f"{self.minimum:g} to {self.maximum:g}, mean {self.mean:.6g}, standard deviation {self.std:.4g}"


def measure(labels: np.ndarray, columns: Sequence[int], names: Sequence[str]) -> tuple[Measured, ...]:
    """The distribution of some columns of labels float32 `[N, K]`; `names` are those of all K columns."""
    found = []
    for column in columns:
        values = labels[:, column].astype(np.float64)
        low, high = float(values.min()), float(values.max())
        std = float(values.std()) if low < high else 0.0
        found.append(Measured(column, names[column], float(values.mean()), std, low, high))
    return tuple(found)


@dataclass(frozen=True)
class LabelPart:
    """Adjacent columns that say one thing: classes of which one holds, or a single number (`measured`) or flag (0 or 1)."""

    name: str
    columns: range
    classes: list[str]
    measured: Measured | None = None

    @property
    def is_flag(self) -> bool:
        """Whether it is a single column that is 0 or 1."""
        return self.measured is None and len(self.columns) == 1 and self.classes == ["0", "1"]

    def __str__(self) -> str:
        """The values that may be written for it."""
        name = f"{self.name}: " if self.name else ""
        if self.measured:
            return f"{name}a number, {self.measured.minimum:g} to {self.measured.maximum:g} in the training images"
        shown = ", ".join(self.classes[:SHOWN]) + (
            f", … ({len(self.classes)} classes)" if len(self.classes) > SHOWN else ""
        )
        return f"{name}one of {shown}"


def label_parts(
    label_size: int, class_names: Sequence[str] | None = None, measured: Sequence[Measured] = ()
) -> list[LabelPart]:
    """The parts that labels of some size consist of. Columns named `kind=cat`, `kind=dog` are classes of the part `kind`.

    Args:
        label_size: K.
        class_names: of the K columns, or None.
        measured: the columns that are numbers.
    """
    numbers = {m.column: m for m in measured}
    known = class_names is not None and len(class_names) == label_size
    names = list(class_names) if known and class_names else [str(i) for i in range(label_size)]
    several = bool(numbers) or any("=" in name for name in names)

    def owner(column: int) -> tuple[str, int]:
        prefix, mark, _ = names[column].partition("=")
        if column in numbers or (several and known and not mark):
            return names[column], column  # a part of its own
        return (prefix if several and mark else ""), -1

    parts = []
    for (name, own), columns in groupby(range(label_size), owner):
        found = list(columns)
        if own in numbers:
            name = numbers[own].name
        classes = ["0", "1"] if own >= 0 else [names[i].removeprefix(f"{name}=") if name else names[i] for i in found]
        parts.append(LabelPart(name, range(found[0], found[-1] + 1), classes, numbers.get(own)))
    return parts


def describe_labels(
    labels: np.ndarray, class_names: Sequence[str] | None, measured: Sequence[Measured]
) -> list[tuple[str, str]]:
    """A line for each part of the training images' labels: its name, and the images of each class or the range of its numbers.

    Args:
        labels: float32 `[N, K]`.
        class_names: of the K columns, or None.
        measured: the columns that are numbers.
    """
    rows = []
    for part in label_parts(labels.shape[1], class_names, measured):
        counts = (labels[:, part.columns] != 0).sum(axis=0).tolist()
        if part.measured:
            text = f"numbers, {part.measured}"
        elif part.is_flag:
            text = f"flag, 1 in {counts[0]} of {len(labels)} training images"
        else:
            shown = ", ".join(f"{name}: {n}" for name, n in list(zip(part.classes, counts))[:SHOWN])
            kind = "classes" if sum(counts) == len(labels) else "flags, several or none at once"
            text = f"{len(counts)} {kind}, training images of each: {shown}{', …' if len(counts) > SHOWN else ''}"
            if empty := counts.count(0):
                text += f" ({empty} without any)"
        rows.append((part.name, text))
    return rows
