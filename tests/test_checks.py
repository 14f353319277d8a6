"""Range checks: what lies within the limits passes, everything else is refused by a sentence with name and limit."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import frugan
from frugan.checks import (
    Limits,
    Probability,
    as_option,
    beside,
    check_choice,
    check_fields,
    check_number,
    checked,
)
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
            check_number("--x", value, whole=whole, **limits)  # pyright: ignore[reportArgumentType]
        else:
            with pytest.raises(FruganError, match="--x"):
                check_number("--x", value, whole=whole, **limits)  # pyright: ignore[reportArgumentType]


def test_none_means_not_given() -> None:
    check_number("--x", None, at_least=1)


@pytest.mark.parametrize("value", ["3", True, 1j])
def test_only_numbers_are_numbers(value: object) -> None:
    with pytest.raises(FruganError, match="give a number"):
        check_number("--x", value)  # pyright: ignore[reportArgumentType]


def test_the_sentence_names_limit_and_remedy() -> None:
    with pytest.raises(FruganError, match=r"--seed -1: give a whole number from 0 to 4,294,967,295; for instance 0$"):
        check_number("--seed", -1, at_least=0, at_most=2**32 - 1, whole=True, hint="for instance 0")


@dataclass(frozen=True)
class Settings:
    """One field of each kind."""

    name: str = "x"
    on: bool = True
    count: Annotated[int | None, Limits(at_least=1, at_most=8)] = None
    share: Probability = 0.5
    plain: float = 0.0
    either: Annotated[int, Limits(at_least=1)] | Literal["auto"] | None = None
    colour: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        check_fields(self, as_option)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "--count 0: give a whole number from 1 to 8"),
        ({"count": 1.5}, "--count 1.5"),
        ({"count": True}, "--count True"),
        ({"share": math.nan}, "--share nan: give a number from 0 to 1"),
        ({"share": "0.5"}, "--share 0.5"),
        ({"plain": math.inf}, "--plain inf: give a number, finite"),
        ({"plain": 10**5000}, "--plain"),
        ({"count": 10**5000}, "--count of thousands of digits"),
        ({"either": "many"}, "--either many"),
        ({"either": 0}, "--either 0"),
        ({"colour": (0.5, math.nan, 1)}, "--colour nan"),
    ],
)
def test_every_number_of_a_configuration_is_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FruganError, match=message):
        Settings(**settings)


def test_what_is_legal_becomes_plain_numbers() -> None:
    settings = Settings(count=np.int64(8), share=np.float32(0.25), plain=2**60, either="auto", colour=(0, 1, 0.5))  # pyright: ignore[reportArgumentType]
    assert settings == Settings(count=8, share=0.25, plain=2**60, either="auto", colour=(0.0, 1.0, 0.5))
    assert type(settings.count) is int
    assert type(settings.share) is float
    assert type(Settings(count=8.0).count) is int  # pyright: ignore[reportArgumentType]


def test_arguments_are_checked_before_a_function_runs() -> None:
    called = []

    @checked
    def work(path: str, count: Annotated[int, Limits(at_least=1)] = 3, *, psi: float = 1.0) -> int:
        """Works."""
        called.append(path)
        return count

    assert work("a") == 3
    assert work("a", np.int8(4), psi=0.5) == 4  # pyright: ignore[reportArgumentType]
    assert (work.__name__, work.__doc__) == ("work", "Works.")
    for arguments in ({"count": 0}, {"psi": math.nan}):
        with pytest.raises(FruganError, match=r"--(count|psi)"):
            work("b", **arguments)  # pyright: ignore[reportArgumentType]
    assert called == ["a", "a"]


def test_what_was_meant() -> None:
    check_choice("preset", "tiny", ["auto", "tiny"])
    with pytest.raises(FruganError, match=r"^preset 'Tinny': did you mean 'tiny'\? choose from auto, tiny$"):
        check_choice("preset", "Tinny", ["auto", "tiny"])
    with pytest.raises(FruganError, match=r"^preset 'zzz': choose from auto, tiny$"):
        check_choice("preset", "zzz", ["auto", "tiny"])


def test_names_beside_a_path_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "Photos" / "cats").mkdir(parents=True)
    assert beside(tmp_path / "Photos" / "cat") == f" (did you mean {tmp_path / 'Photos' / 'cats'}?)"
    assert beside(tmp_path / "photo" / "cats") == f" (did you mean {tmp_path / 'Photos'}?)"
    assert beside(tmp_path / "zzzzz") == beside("") == beside("/") == beside("a\0b") == ""


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000, "\x1b[31m" * 99, int, [1]], ids=range(6))
def test_what_is_no_number_or_beyond_all_of_them(value: object) -> None:
    with pytest.raises(FruganError) as error:
        check_number("--x", value, at_least=0)  # pyright: ignore[reportArgumentType]
    assert len(str(error.value)) < 300
    assert "\x1b" not in str(error.value)


REQUIRED: dict[str, dict[str, Any]] = {
    "GeneratorConfig": {"resolution": (16, 16)},
    "DiscriminatorConfig": {"resolution": (16, 16)},
    "DataConfig": {"path": "photos"},
}


def configurations() -> Iterator[tuple[type, list[str]]]:
    """Every dataclass of the package that checks itself and is a configuration, with the names of its numbers."""
    for module in pkgutil.walk_packages(frugan.__path__, "frugan."):
        for kind in vars(importlib.import_module(module.name)).values() if "__main__" not in module.name else ():
            own = isinstance(kind, type) and kind.__module__ == module.name and "__post_init__" in vars(kind)
            if own and kind.__name__.endswith(("Config", "Options", "Settings", "Schedule")):
                hints = get_type_hints(kind)
                numbers = [name for name, hint in hints.items() if {int, float} & {hint, *get_args(hint)}]
                yield kind, numbers


def test_every_configuration_of_the_package_checks_its_numbers() -> None:
    seen = set()
    for kind, numbers in configurations():
        if kind.__name__ == "RunConfig":  # is made of the others
            continue
        sound = kind(**REQUIRED.get(kind.__name__, {}))
        for name in numbers:
            with pytest.raises(FruganError, match=name.replace("_", "[-_]")):
                replace(sound, **{name: math.nan})
            seen.add((kind.__name__, name))
    assert len(seen) > 150
