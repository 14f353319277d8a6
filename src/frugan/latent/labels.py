"""Labels as a person writes them: names of classes, and numbers in the label's own unit."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from frugan.errors import FruganError, shown
from frugan.label_parts import SHOWN, LabelPart, Measured, label_parts

MOST_LABELS = 256
"""Labels of a sweep."""


def parse_label(
    text: str | None,
    label_size: int,
    class_names: Sequence[str] | None = None,
    measured: Sequence[Measured] = (),
) -> Tensor | None:
    """A label given as text → float32 `[K]`, measured numbers in their own units; None for a generator without labels.

    Args:
        text: a class by its name or number; K values joined by commas; or for labels of several parts one value for
            each, in order or as part=value: "cat,1995.5", "year=1995.5,kind=cat".
        label_size: K.
        class_names: of one-hot labels, or None.
        measured: the columns that are numbers.

    Raises `FruganError` listing the labels that are possible.
    """
    if not label_size:
        if text is not None:
            raise FruganError(
                f"label {text!r}: this generator was trained without labels; leave --class and --label out"
            )
        return None
    parts = label_parts(label_size, class_names, measured)
    choices = "; ".join(map(str, parts[:SHOWN]))
    if text is None:
        raise FruganError(f"this generator makes images by label; add --class, {choices}")
    text = text.strip()
    if class_names and text in class_names:
        return torch.eye(label_size)[list(class_names).index(text)]
    if len(parts) == 1 and (value := _value(parts[0], text)) is not None:
        return _filled(label_size, [(parts[0], value)])
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) == label_size and all(_number(cell) is not None for cell in cells):
        return torch.tensor([float(cell) for cell in cells])
    if (values := _values(parts, cells)) is None:
        more = f", or {label_size} values joined by commas" if label_size > 1 else ""
        joined = "; write all of them, joined by commas or as name=value" if len(parts) > 1 else ""
        raise FruganError(f"class {text!r}: give {choices}{joined}{more}")
    return _filled(label_size, values)


def sweep_labels(
    text: str, label_size: int, class_names: Sequence[str] | None = None, measured: Sequence[Measured] = ()
) -> list[str]:
    """The texts of all labels that a text with sweeps stands for, the last sweep changing fastest.

    Args:
        text: a label in which FIRST:LAST:COUNT stands for COUNT evenly spaced numbers: "0:1:3,12" is "0,12", "0.5,12",
            "1,12".
        label_size: K.
        class_names: of one-hot labels, or None.
        measured: the columns that are numbers.

    Raises `FruganError` for counts that are too small or large.
    """
    if class_names and text.strip() in class_names:
        return [text]
    found = [""]
    for cell in text.split(","):
        name, mark, value = cell.rpartition("=")
        choices = _swept(value.strip(), text) if label_size and measured else [value]
        found = [f"{before}{',' if before else ''}{name}{mark}{choice}" for before in found for choice in choices]
        if len(found) > MOST_LABELS:
            raise FruganError(f"label {shown(text)}: more than {MOST_LABELS} labels at once; give smaller counts")
    return found


def _swept(text: str, whole: str) -> list[str]:
    """The numbers of a sweep; anything else is its own."""
    first, *rest = text.split(":")
    if len(rest) != 2 or _number(first) is None or _number(rest[0]) is None:
        return [text]
    if not re.fullmatch(r"[0-9]{1,4}", rest[1]) or not 2 <= int(rest[1]) <= MOST_LABELS:
        raise FruganError(
            f"label {shown(whole)}: {shown(text)} is a sweep FIRST:LAST:COUNT; give a count from 2 to {MOST_LABELS}"
        )
    start, end, count = float(first), float(rest[0]), int(rest[1])
    return [f"{start + (end - start) * i / (count - 1):.6g}" for i in range(count)]


def label_lines(
    label_size: int, class_names: Sequence[str] | None = None, measured: Sequence[Measured] = ()
) -> list[str]:
    """A line of text for each part of a label: its classes, or the range of its numbers in the training images.

    Args:
        label_size: K.
        class_names: of one-hot labels, or None.
        measured: the columns that are numbers.
    """
    if not label_size:
        return ["this generator was trained without labels"]
    return [
        f"{part.name}: {part.measured}" if part.measured else str(part)
        for part in label_parts(label_size, class_names, measured)
    ]


def outside(c: Tensor, measured: Sequence[Measured]) -> list[str]:
    """A sentence for each number of a label `[K]` that lies outside what the generator was trained on."""
    values = c.tolist()
    return [
        f"{m.name} {values[m.column]:g} lies outside {m.minimum:g} to {m.maximum:g}, which the training images have"
        for m in measured
        if not m.minimum - 1e-6 * m.std <= values[m.column] <= m.maximum + 1e-6 * m.std
    ]


def _values(parts: list[LabelPart], cells: list[str]) -> list[tuple[LabelPart, float]] | None:
    """A value for each part, by order or by name; None where that does not come out."""
    if len(cells) != len(parts):
        return None
    named = dict(cell.split("=", 1) for cell in cells if "=" in cell)
    by_name = named.keys() == {part.name for part in parts}
    values = [(part, _value(part, named[part.name] if by_name else cell)) for part, cell in zip(parts, cells)]
    found = [(part, value) for part, value in values if value is not None]
    return found if len(found) == len(parts) else None


def _value(part: LabelPart, text: str) -> float | None:
    """The number, or the class's position; None where it is neither."""
    text = text.strip()
    if part.measured:
        number = _number(text)
        return _number(text.replace(",", ".")) if number is None and re.fullmatch(r"[+-]?\d+,\d+", text) else number
    if text in part.classes:
        return part.classes.index(text)
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return None
    if all(
        name.isdecimal() for name in part.classes
    ):  # 007 is class 7; but the third of 101, 2045, 40017 is not class 2
        return next((i for i, name in enumerate(part.classes) if int(name) == int(text)), None)
    return int(text) if int(text) < len(part.classes) else None


def _filled(label_size: int, values: list[tuple[LabelPart, float]]) -> Tensor:
    c = torch.zeros(label_size)
    for part, value in values:
        if part.measured or part.is_flag:
            c[part.columns[0]] = value
        else:
            c[part.columns[int(value)]] = 1
    return c


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e38 and "_" not in text else None
