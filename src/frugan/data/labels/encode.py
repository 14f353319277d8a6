"""Classes, several classes at once and measured numbers, encoded as one float32 row per image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frugan.data.labels.tables import (
    is_number,
    parse_numbers,
)
from frugan.errors import FruganError

MOST_CLASSES = 65536  # more distinct ones are taken for identifiers that slipped in
MOST_ENTRIES = 1 << 28  # of one-hot rows: 1 GB
LARGEST = 1e30  # magnitude of a measured number; its square is still a float64, its inverse a float32
FEWEST_IDENTIFIERS = 16  # images from which a column of as many classes as images is taken for one of identifiers


@dataclass(frozen=True)
class Labels:
    """float32 `[N, K]`, one-hot where they are classes; K = 0 when there are none. `origin`: where they were found.

    `measured`: the columns that are numbers in a unit of their own. `column_names`: of all K, as far as they have names.
    """

    values: np.ndarray
    class_names: list[str] | None = None
    origin: str = "none"
    measured: tuple[int, ...] = ()
    column_names: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """A name for each of the K columns."""
        unnamed = [f"label {i}" for i in range(self.values.shape[1])]
        return list(self.column_names) or self.class_names or (unnamed if len(unnamed) > 1 else ["label"])

    @property
    def classes(self) -> np.ndarray | None:
        """Each image's class, int64 `[N]`, measured columns aside; None unless each image has one of two or more."""
        kinds = np.delete(self.values, self.measured, axis=1) if self.measured else self.values
        one_hot = ((kinds == 0) | (kinds == 1)).all() and (kinds.sum(1) == 1).all()
        return kinds.argmax(1) if kinds.shape[1] > 1 and one_hot else None


@dataclass(frozen=True)
class Block:
    """One column of a table as float32 `[N, k]`: class names where it holds classes."""

    values: np.ndarray
    classes: list[str] | None = None
    measured: bool = False


def encode_column(
    cells: Sequence[str],
    names: Sequence[str],
    where: str,
    kind: str = "",
    classes: list[str] | None = None,
    alone: bool = True,
    decimal_comma: bool = False,
) -> Block:
    """One column of a table of labels, encoded as its `kind` says, or as its cells suggest.

    Args:
        cells: one for each image.
        names: of the images, for messages.
        where: the column and its table, for messages.
        kind: how to encode the column; "": by its cells.
        classes: the names of all classes; None: those that occur.
        alone: whether it is the only column.
        decimal_comma: whether a comma is the decimal mark.
    """
    if "" in cells:
        raise FruganError(f"{names[cells.index('')]} has an empty cell in {where}; fill it in or leave the column out")
    if classes is not None:
        code = {name: i for i, name in enumerate(classes)} | {str(i): i for i in range(len(classes))}
        unknown = next((cell for cell in cells if cell not in code), None)
        if unknown is not None:
            raise FruganError(
                f"{where} holds {unknown!r}, but lists only the classes {', '.join(classes)}; add it there"
            )
        return Block(one_hot(np.array([code[cell] for cell in cells]), len(classes)), classes)
    whole = all(re.fullmatch(r"\d{1,9}", cell, re.ASCII) for cell in cells)
    numbers = (
        None
        if whole and kind != "number"
        else parse_numbers(cells, where, decimal_comma=decimal_comma)
        if kind != "class"
        else None
    )
    if kind == "number" and numbers is None:
        raise FruganError(f"{where} holds {cells[0]!r}, which is no number; correct it, or leave out =number")
    if not alone and not kind and set(cells) <= {"0", "1"}:
        return Block(np.array(cells, np.float32)[:, None])
    if numbers is not None:
        return Block(_measured(numbers, where)[:, None], measured=True)
    if not kind:
        _refuse_what_is_no_class(cells, where)
    if whole:
        return Block(*_by_number([int(cell) for cell in cells], where))
    return Block(*by_class(cells))


def _refuse_what_is_no_class(cells: Sequence[str], where: str) -> None:
    """Words beside fractions, and identifiers."""
    column = where.split("'")[1] if "'" in where else ""
    words = [cell for cell in cells if not is_number(cell)]
    fractions = [cell for cell in cells if is_number(cell) and not cell.isdecimal()]
    if words and fractions:
        raise FruganError(
            f"{where} holds numbers such as {fractions[0]!r} and words such as {words[0]!r}; make it one or the other"
        )
    if len(cells) >= FEWEST_IDENTIFIERS and len(set(cells)) == len(cells):
        number = "" if words else f", add :{column}=number if it measures something"
        raise FruganError(
            f"{where} has as many classes as images, for example {cells[0]!r}: are they identifiers? pick other columns "
            f"with --labels FILE:COLUMN{number}, or add :{column}=class if that is meant"
        )


def _measured(numbers: Sequence[float] | np.ndarray, where: str) -> np.ndarray:
    """Numbers as float32 `[N]`. Raises `FruganError` where that type cannot hold them, or what tells them apart."""
    values = np.asarray(numbers, np.float64)
    odd = values[~(np.abs(values) <= LARGEST)]
    if len(odd):
        raise FruganError(f"{where} holds {odd[0]}, but labels must be finite numbers up to 1e30; correct that row")
    kept, spread = values.astype(np.float32), float(values.std())
    lost = float(np.abs(kept - values).max(initial=0))
    if spread and (lost > 1e-3 * spread or spread < 1 / LARGEST):
        raise FruganError(
            f"{where} varies by {spread:.2g} about {values.mean():.10g}, which float32 cannot hold; subtract what all have in "
            "common, or use another unit"
        )
    return kept


def encode(
    labels: Sequence[Any], names: Sequence[str], where: str, origin: str, class_names: list[str] | None = None
) -> Labels:
    """Labels of one value or one list for each image, encoded: integers and words one-hot, lists of numbers and
    fractions as they are.

    Args:
        labels: one for each image.
        names: of the images, for messages.
        where: the labels' file, for messages.
        origin: how the labels were found, for reports.
        class_names: of the integers; None: those that occur.
    """
    missing = next((name for name, label in zip(names, labels) if label is None), None)
    if missing is not None:
        raise FruganError(f"{missing} has the label null in {where}; give it one, or move the image away")
    words = [isinstance(label, str) for label in labels]
    if any(words):
        if not all(words):
            odd = words.index(not words[0])
            raise FruganError(
                f"{names[0]} has the label {labels[0]!r} in {where}, {names[odd]} {labels[odd]!r}; make all of them words, "
                "or all numbers"
            )
        block = encode_column([str(label).strip() for label in labels], names, where, classes=class_names)
        return Labels(block.values, block.classes, origin, (0,) if block.measured else ())
    if all(isinstance(label, (bool, int)) for label in labels):
        values, found = from_integers([int(label) for label in labels], names, where, class_names)
        return Labels(values, found, origin)
    rows = [label if isinstance(label, list) else [label] for label in labels]
    if not rows[0]:
        raise FruganError(
            f"{names[0]} has an empty list of label values in {where}; give at least one, or leave labels out"
        )
    for name, row in zip(names, rows):
        if len(row) != len(rows[0]):
            raise FruganError(
                f"{name} has {len(row)} label values in {where}, {names[0]} has {len(rows[0])}; give all as many"
            )
        if not all(isinstance(value, (int, float)) and abs(value) <= LARGEST for value in row):
            raise FruganError(
                f"{name} has the label {str(row)[:80]} in {where}, but labels must be finite numbers; correct that row"
            )
    return from_vectors(rows, where, origin, class_names)


def from_vectors(rows: Sequence[Sequence[float]], where: str, origin: str, class_names: list[str] | None) -> Labels:
    """Labels that are lists of numbers: columns of only 0 and 1 are classes or flags; all others, and a single column,
    are measured.

    Args:
        rows: equally long, one for each image.
        where: the labels' file, for messages.
        origin: how the labels were found, for reports.
        class_names: of the columns, or None.
    """
    table = np.array(rows, np.float64)
    size = table.shape[1]
    measured = tuple(i for i in range(size) if size == 1 or not np.isin(table[:, i], (0, 1)).all())
    if class_names is not None and len(class_names) != size:
        raise FruganError(
            f"{where} lists {len(class_names)} class_names, but its labels have {size} values; make these agree"
        )
    values = [_measured(column, f"value {i} of the labels in {where}") for i, column in enumerate(table.T)]
    return Labels(np.stack(values, axis=1), class_names, origin, measured)


def from_integers(
    codes: Sequence[int], names: Sequence[str], where: str, class_names: list[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """One-hot rows of class numbers, and the classes' names: those listed, or the numbers, if some are left out; else None.

    Args:
        codes: 0 or more, one for each image.
        names: of the images, for messages.
        where: the labels' file, for messages.
        class_names: by number, or None.
    """
    for name, code in zip(names, codes):
        if code < 0:
            raise FruganError(
                f"{name} has class {code} in {where}, but classes count from 0 up; renumber them, or write numbers that "
                f"measure something with a fraction ({code}.0)"
            )
        if class_names is not None and code >= len(class_names):
            raise FruganError(f"{name} has class {code} in {where}, which lists {len(class_names)} class_names; add it")
    if class_names is not None:
        return one_hot(np.array(codes, np.int64), len(class_names)), class_names
    values, found = _by_number(codes, where)
    return values, None if found == [str(i) for i in range(len(found))] else found


def spread(labels: Labels) -> Labels | None:
    """Numbered classes as runs had them at first: a column for every number up to the largest, and no names.

    None where labels are no such classes, or have no gap in their numbers.
    """
    names = labels.class_names
    if not names or not all(name.isdecimal() and len(name) < 6 for name in names):
        return None
    numbers = np.array([int(name) for name in names])
    size = int(numbers.max()) + 1
    if size > MOST_CLASSES or len(labels.values) * size > MOST_ENTRIES:  # which were refused
        return None
    return Labels(one_hot(numbers[labels.values.argmax(1)], size), None, labels.origin)


def _by_number(codes: Sequence[int], where: str) -> tuple[np.ndarray, list[str]]:
    """One-hot rows over the sorted distinct numbers, and these as names."""
    distinct = sorted(set(codes))
    if len(distinct) > MOST_CLASSES:
        raise FruganError(
            f"{where} has {len(distinct)} classes, the limit is {MOST_CLASSES}; are they identifiers? give fewer, broader ones"
        )
    return one_hot(np.searchsorted(distinct, codes), len(distinct)), [str(code) for code in distinct]


def by_class(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """One-hot rows over the sorted distinct names, and these."""
    classes = sorted(set(names))
    code = {name: i for i, name in enumerate(classes)}
    return one_hot(np.array([code[name] for name in names]), len(classes)), classes


def one_hot(codes: np.ndarray, classes: int) -> np.ndarray:
    """int `[N]` in [0, classes) → float32 `[N, classes]`. Raises `FruganError` where that takes more than 1 GB."""
    if len(codes) * classes > MOST_ENTRIES:
        raise FruganError(
            f"{classes} classes of {len(codes)} images take {len(codes) * classes * 4 / 1e9:.0f} GB, the limit is "
            f"{MOST_ENTRIES * 4 / 1e9:.1f}; are they identifiers? give fewer, broader classes"
        )
    return (codes[:, None] == np.arange(classes)).astype(np.float32)
