"""Range checks: what lies within the limits passes, everything else is refused by a sentence with name and limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugan.checks import check_number
from frugan.errors import FruganError


@given(st.floats() | st.integers(), st.integers(-5, 5), st.integers(-5, 5), st.booleans())
def test_exactly_the_numbers_within_the_limits_pass(value: float, low: int, high: int, whole: bool) -> None:
    inclusive = math.isfinite(value) and low <= value <= high and (not whole or value == int(value))
    exclusive = math.isfinite(value) and low < value < high and (not whole or value == int(value))
    for allowed, limits in (
        (inclusive, {"at_least": low, "at_most": high}),
        (exclusive, {"above": low, "below": high}),
    ):
        if allowed:
            check_number("--x", value, whole=whole, **limits)
        else:
            with pytest.raises(FruganError, match="--x"):
                check_number("--x", value, whole=whole, **limits)


def test_none_means_not_given() -> None:
    check_number("--x", None, at_least=1)


@pytest.mark.parametrize("value", ["3", True, 1j])
def test_only_numbers_are_numbers(value: object) -> None:
    with pytest.raises(FruganError, match="give a number"):
        check_number("--x", value)  # pyright: ignore[reportArgumentType]


def test_the_sentence_names_limit_and_remedy() -> None:
    with pytest.raises(FruganError, match=r"--seed -1: give a whole number from 0 to 4,294,967,295; for instance 0$"):
        check_number("--seed", -1, at_least=0, at_most=2**32 - 1, whole=True, hint="for instance 0")
