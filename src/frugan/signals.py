"""Functions that a signal does not break off."""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import TypeVar

F = TypeVar("F", bound=FunctionType)

UNBROKEN: set[CodeType] = set()
"""The code of functions that the command line lets end before a signal ends the program."""


def unbroken(function: F) -> F:
    """Adds a short function to `UNBROKEN`."""
    UNBROKEN.add(function.__code__)
    return function
