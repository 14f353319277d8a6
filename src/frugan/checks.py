"""Checks of what a user gives: numbers within limits, names out of a table.

Limits stand where a field or parameter is declared, `batch: Annotated[int, Limits(at_least=1)]`, and are checked in one loop:
`check_fields` for a configuration, `checked` for a function. So everything is refused by the same sentence.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

from frugan.errors import FruganError, shown

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_MOST_NAMES = 10_000  # of a folder that are compared with a misspelt one


@dataclass(frozen=True)
class Limits:
    """Limits of a number: `at_least` and `at_most` inclusive, `above` and `below` exclusive; `hint`: a remedy or example."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    hint: str = ""


@runtime_checkable
class Check(Protocol):
    """A check of its own of a parameter's value, in the parameter's annotation."""

    def check(self, name: str, given: inspect.BoundArguments) -> None:
        """Raises `FruganError`, or warns, where the value of the parameter `name` does not go with the others."""


@dataclass(frozen=True)
class Only:
    """The mark of an option that counts only where another one has a certain value; elsewhere a warning tells so.

    `option`: the other one's name; `values` of it with which this one counts (of several joined by commas one is enough), none: any
    but its default; `called`: what the user calls this one, where it is not as its parameter.
    """

    option: str
    values: tuple[Any, ...] = ()
    called: str = ""

    def check(self, name: str, given: inspect.BoundArguments) -> None:
        """Logs a warning where the option was given in vain."""
        defaults = {key: parameter.default for key, parameter in given.signature.parameters.items()}
        if told := self.vain(name, given.arguments, defaults):
            log.warning("warning: %s", told)

    def vain(self, name: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
        """A sentence where the option `name` is not at its default and has no effect.

        Args:
            name: of this option's field.
            values: of all options.
            defaults: of all options.
        """
        value, other = values.get(name), values.get(self.option)
        given = str(other).split(",")
        counts = (
            any(one in self.values for one in given)
            if self.values
            else other not in (None, False, defaults[self.option])
        )
        if value == defaults[name] or value is None or counts:
            return None
        which = " ".join([as_option(self.option), " or ".join(map(str, self.values))]).strip()
        return no_effect(self.called or as_option(name), value, which)


def no_effect(option: str, value: Any, belongs_to: str) -> str:
    """The sentence on an option that has no effect where it was given.

    Args:
        option: what the user calls it.
        value: its value.
        belongs_to: what it would count with.
    """
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return (
        f"{option}{'' if isinstance(value, bool) else f' {shown(text, 60)}'} has no effect: it belongs to {belongs_to}"
    )


Count = Annotated[int, Limits(at_least=1, at_most=1_000_000_000)]
Positive = Annotated[float, Limits(above=0, at_most=1e12)]
NotNegative = Annotated[float, Limits(at_least=0, at_most=1e12)]
Probability = Annotated[float, Limits(at_least=0, at_most=1)]
Seed = Annotated[int, Limits(at_least=0, at_most=2**32 - 1)]
Factor = Annotated[float, Limits(above=0, at_most=1)]
Truncation = Annotated[float, Limits(at_least=-2, at_most=2)]
"""ψ: 1 leaves w as it is, 0 is its average."""


def check_number(
    name: str,
    value: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    whole: bool = False,
    hint: str = "",
) -> None:
    """Raises `FruganError` unless `value` is None or a finite number (`whole`: an integer) within the limits.

    Args:
        name: what the user calls it, for instance "--seed".
        at_least, at_most: inclusive limits.
        above, below: exclusive limits.
        hint: a remedy or an example, appended to the sentence.
    """
    if value is None:
        return
    fits = (
        _is_finite(value)
        and not (whole and value != int(value))
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not fits:
        described = _described(at_least, above, at_most, below, whole)
        raise FruganError(f"{name} {_shown(value)}: give {described}{hint and '; ' + hint}")


def check_fields(config: Any, name: Callable[[str], str] = str) -> None:
    """Checks a dataclass's fields: numbers are finite, whole where the type is int, within the declared `Limits`; where the
    type is a `Literal`, the value is one of it.

    `name` makes of a field what the user calls it, see `as_option`. NumPy's numbers become Python's, and 8.0 where a whole
    number belongs 8, also in a frozen dataclass.
    """
    for field, allowed in _allowed(type(config)):
        object.__setattr__(config, field, allowed.check(name(field), getattr(config, field)))


def as_option(name: str) -> str:
    """A field's name as the command line has it: "ada_kimg" → "--ada-kimg"."""
    return "--" + name.replace("_", "-")


def checked(function: F) -> F:
    """The function with its arguments checked before it runs, as `check_fields` does, named as options are; and by every
    `Check`.

    Its annotations are evaluated once, here: Typer asks for them several times, and compiles texts each time.
    """
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        for name, allowed in _allowed(function):
            if name in given.arguments:
                given.arguments[name] = allowed.check(as_option(name), given.arguments[name])
        for name, one in _own_checks(function):
            if given.arguments.get(name) is not None:
                one.check(name, given)
        return function(*given.args, **given.kwargs)

    call.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
    call.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return call  # pyright: ignore[reportReturnType]


def check_choice(what: str, value: Any, choices: Iterable[str]) -> None:
    """Raises `FruganError` unless a value is one of the choices; the message proposes the one that was probably meant.

    Args:
        what: the value's name, for the message.
        value: what was given.
        choices: what is possible.
    """
    names = list(choices)
    if value not in names:
        raise FruganError(
            f"{what} {_shown(value, quote=True)}: {meant(str(value), names)}choose from {', '.join(names)}"
        )


def meant(text: str, names: Iterable[str]) -> str:
    """ "did you mean 'paper256'? " if one of the names is much like the text, else nothing."""
    lower = {name.lower(): name for name in names}
    found = get_close_matches(text.lower(), lower, n=1)
    return f"did you mean {lower[found[0]]!r}? " if found else ""


def check_file_name(what: str, name: str) -> None:
    """Raises `FruganError` for a name that would lead the files named by it out of their folder."""
    if not name or Path(name).name != name or "\0" in name:
        raise FruganError(f"{what} {_shown(name, quote=True)}: files are named by it; give a name without slashes")


def beside(path: str | Path) -> str:
    """Names in the folder of a missing path that are like it, as " (did you mean photos/cats?)", or nothing."""
    path = Path(path)
    try:
        while not path.parent.exists():
            path = path.parent
        names = [entry.name for entry in islice(path.parent.iterdir(), _MOST_NAMES)]
    except (OSError, ValueError):
        return ""
    like = {name.lower(): name for name in names}
    found = get_close_matches(path.name.lower(), like, n=2)
    return f" (did you mean {' or '.join(str(path.with_name(like[name])) for name in found)}?)" if found else ""


@dataclass(frozen=True)
class _Allowed:
    """The values that a type allows: a number within limits, one of a few words, or either."""

    is_number: bool
    whole: bool
    limits: Limits
    words: tuple[str, ...]

    def check(self, name: str, value: Any) -> Any:
        """The value, with numbers as Python's. Raises `FruganError` where it is not allowed."""
        if value is None or value in self.words:
            return value
        if not self.is_number:
            return check_choice(name, value, self.words)
        if isinstance(value, (tuple, list)):
            return type(value)(self.check(name, number) for number in value)
        limits = asdict(self.limits)
        if self.words:
            limits["hint"] = f"or {', '.join(self.words)}"
        check_number(name, value, whole=self.whole, **limits)
        return int(value) if self.whole or isinstance(value, Integral) else float(value)


@functools.cache
def _allowed(owner: Any) -> tuple[tuple[str, _Allowed], ...]:
    """(name, what is allowed) of each field of a class, or parameter of a function, that is a number or one of some words."""
    hints = get_type_hints(owner, include_extras=True)
    found = []
    for name in inspect.signature(owner).parameters:
        leaves = list(_leaves(hints.get(name)))
        is_number = int in leaves or float in leaves
        words = tuple(leaf for leaf in leaves if isinstance(leaf, str))
        if is_number or (words and str not in leaves):
            limits = next((leaf for leaf in leaves if isinstance(leaf, Limits)), Limits())
            found.append((name, _Allowed(is_number, float not in leaves, limits, words)))
    return tuple(found)


@functools.cache
def _own_checks(function: Any) -> tuple[tuple[str, Check], ...]:
    """(name, check) of each parameter of a function whose annotation has one."""
    hints = get_type_hints(function, include_extras=True)
    found = ((name, leaf) for name, hint in hints.items() for leaf in _leaves(hint))
    return tuple((name, leaf) for name, leaf in found if isinstance(leaf, Check) and not isinstance(leaf, type))


def _leaves(hint: Any) -> Iterator[Any]:
    """The types, limits and literals that an annotation is made of."""
    if get_origin(hint) in (Literal, None):
        yield from get_args(hint) or (hint,)
    elif get_origin(hint) is Annotated:
        yield from _leaves(hint.__origin__)
        yield from hint.__metadata__
    else:
        for part in get_args(hint):
            yield from _leaves(part)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _described(
    at_least: float | None, above: float | None, at_most: float | None, below: float | None, whole: bool
) -> str:
    """The limits in words, for instance "a whole number from 1 to 8"."""
    kind = "a whole number" if whole else "a number"
    if at_least is not None and at_most is not None:
        return f"{kind} from {_plain(at_least)} to {_plain(at_most)}"
    limits = []
    if at_least is not None:
        limits.append(f"of at least {_plain(at_least)}")
    if above is not None:
        limits.append(f"above {_plain(above)}")
    if at_most is not None:
        limits.append(f"of at most {_plain(at_most)}")
    if below is not None:
        limits.append(f"below {_plain(below)}")
    return " ".join([kind, " and ".join(limits)]) if limits else f"{kind}, finite"


def _plain(limit: float) -> str:
    return f"{int(limit):,}" if limit == int(limit) else f"{limit:g}"


def _shown(value: Any, *, quote: bool = False) -> str:
    """A value in a sentence, cut short, control characters as escapes."""
    try:
        text = repr(value) if quote else str(value)
    except ValueError:  # Python prints no whole number of more than 4300 digits
        return "of thousands of digits"
    return shown(text if len(text) <= 60 else f"{text[:40]}…")
