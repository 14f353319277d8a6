"""Range checks for numbers that a user gives: finite, whole where asked, within limits.

Every command and every configuration checks its numbers here, so that all of them are refused by the same sentence.
"""

from __future__ import annotations

import math

from frugan.errors import FruganError


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
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    fits = is_number and (
        not (whole and value != int(value))
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not fits:
        shown = str(value)[:40]
        raise FruganError(
            f"{name} {shown}: give {_described(at_least, above, at_most, below, whole)}{hint and '; ' + hint}"
        )


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
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
