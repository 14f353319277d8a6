"""Numbers as people read them."""

from __future__ import annotations

import math


def duration(seconds: float | None) -> str:
    """The two largest units in words: 4 → "4 seconds", 4000 → "1 hour 7 minutes", 187200 → "2 days 4 hours"."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    left = max(round(seconds), 0)
    units = [(86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")]
    at = next((i for i, (size, _) in enumerate(units) if left >= size), 3)
    large, name = units[at]
    small, small_name = units[min(at + 1, 3)]
    if large == small or (at == 0 and left >= 20 * 86400):
        return _counted(round(left / large), name)
    fine = round(left / small)  # rounded in the smaller unit, so that no "60 minutes" come out
    count, rest = divmod(fine, large // small)
    if at and count == units[at - 1][0] // large:
        return _counted(1, units[at - 1][1])
    return _counted(count, name) + (f" {_counted(rest, small_name)}" if rest else "")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def number(value: float | None) -> str:
    """Four significant digits, thousands grouped: 1234567 → "1,234,567", 0.0123456 → "0.01235"."""
    if value is None:
        return "?"
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def size(count: float) -> str:
    """Bytes in decimal units: 2147483648 → "2.1 GB"."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.3g} {units[0]}" if count < 100 else f"{count:.0f} {units[0]}"
