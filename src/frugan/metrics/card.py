"""Evaluation cards: measured values with everything that is needed to cite them and to compare them with others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from frugan.errors import FruganError, shown
from frugan.files import plain, read_json, write_text

FORMAT = 1


@dataclass(frozen=True)
class EvaluationCard:
    """The result of an evaluation, as it is saved in JSON.

    Attributes:
        values: the metrics' values by name.
        protocol: the settings that two cards must share to be comparable.
        subject: which generator, and the seed.
        conditions: package versions, device, time: they should not matter.
        per_class: values by name for each class, where asked for.
        nearest: the samples nearest to training images, with those images' names and distances, where copying was measured.
        intervals: 95 % intervals `[low, high]` of some values.
        floor: for some values, that value between two random halves of the reference: `[median, low, high]`.
        details: whole results by metric.
        missing: what could not be computed, with the reason.
    """

    values: dict[str, float]
    protocol: dict[str, Any]
    subject: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    nearest: list[dict[str, Any]] = field(default_factory=list)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    floor: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keeps plain Python values: NumPy's numbers and arrays become numbers and lists."""
        for one in fields(self):
            object.__setattr__(self, one.name, plain(getattr(self, one.name), finite=False))

    def save(self, file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))
        return file

    @classmethod
    def load(cls, file: Path) -> EvaluationCard:
        """Reads a card. Raises `FruganError` where the file is none."""
        if not file.exists():
            raise FruganError(f"{file}: there is no such evaluation card; those of a run lie in its folder evaluations")
        try:
            value = read_json(file)
            if value.pop("format") != FORMAT:
                raise FruganError(f"{file} is an evaluation card of another format than {FORMAT}; measure again")
            card = cls(**value)
            _check_tables(card)
            return card
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise FruganError(f"{file} is not an evaluation card: {shown(error)}") from error

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Everything but the nearest neighbours as text: (part, name, value)."""
        yield from (("value", k, f"{v:.6g}") for k, v in self.values.items())
        for name, values in self.per_class.items():
            yield from ((f"class {name}", k, f"{v:.6g}") for k, v in values.items())
        for part in ("protocol", "subject", "conditions"):
            yield from ((part, k, str(v)) for k, v in getattr(self, part).items())


def _check_tables(card: EvaluationCard) -> None:
    """Raises `ValueError` unless the parts are tables, those of values of numbers."""
    tables = (card.values, card.protocol, card.subject, card.conditions, card.per_class)
    for table in (*tables, card.intervals, card.floor, card.details, card.missing):
        if not isinstance(table, dict):
            raise ValueError("a part of it is no table")
    for values in (card.values, *card.per_class.values()):
        if not isinstance(values, dict) or not all(isinstance(v, (int, float)) for v in values.values()):
            raise ValueError("a value of it is no number")
    for kind, length in ((card.intervals, 2), (card.floor, 3)):
        for numbers in kind.values():
            if not isinstance(numbers, list) or [isinstance(v, (int, float)) for v in numbers] != [True] * length:
                raise ValueError("an interval of it is not of numbers")


def compare(a: EvaluationCard, b: EvaluationCard) -> dict[str, tuple[float, float]]:
    """The values that two cards share, side by side. Raises `FruganError` that names each difference of their protocols."""
    names = a.protocol | b.protocol
    if different := [k for k in names if a.protocol.get(k) != b.protocol.get(k)]:
        says = "; ".join(f"{k} is {a.protocol.get(k)} and {b.protocol.get(k)}" for k in different)
        raise FruganError(f"these numbers cannot be compared, their protocols differ: {says}")
    return {k: (a.values[k], b.values[k]) for k in a.values if k in b.values}
