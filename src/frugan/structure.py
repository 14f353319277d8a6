"""Dataclasses made of plain values, as they come from JSON and YAML: unknown keys and values of other types are refused."""

from __future__ import annotations

from typing import Any

import cattrs
import cattrs.v

from frugan.errors import shown


def _whole(value: Any, _: type) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise ValueError(f"{shown(repr(value)[:99])} is no whole number")
    return int(value)


def real(value: Any, _: Any = float) -> float:
    """A number, or the text of one, as float. Raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):  # YAML takes 1e-3 for text
        raise ValueError(f"{shown(repr(value)[:99])} is no number")
    try:
        return float(value)
    except (OverflowError, ValueError):
        raise ValueError("it is no number that can be computed with") from None


def _truth(value: Any, _: type) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(repr(value)[:99])} is neither true nor false")
    return value


def _text(value: Any, _: type) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(repr(value)[:99])} is no text")
    return value


def reasons(error: Exception, path: str) -> str:
    """The faults that `converter` found, each with its place below `path`: "generator 0: give a whole number… @
    config.generator".
    """
    found = cattrs.transform_error(error, path=path, format_exception=_sentence)
    return shown("; ".join(found), 600)


def _sentence(error: BaseException, wanted: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, wanted)


def converter() -> cattrs.Converter:
    """Makes dataclasses of plain values: unknown keys, and values of another type than the field's, are refused."""
    made = cattrs.Converter(forbid_extra_keys=True)
    made.register_structure_hook(int, _whole)
    made.register_structure_hook(float, real)
    made.register_structure_hook(bool, _truth)
    made.register_structure_hook(str, _text)
    return made
