"""Levels of a synthesis network by name: "8" is 8×8 (or the level whose larger side is 8), "8-32" a range, "8x12" exact.

The mapping network's ws `[N, num_ws, D]` are named after levels too: level k owns ws 2k and 2k + 1. The second of the pair
is read by two layers, ToRGB of its level and the first convolution of the next one.
"""

from __future__ import annotations

import re

from frugan.errors import FruganError
from frugan.networks import Generator

_PART = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?(?:-(\d{1,5})(?:x(\d{1,5}))?)?")


def level_names(G: Generator) -> list[str]:
    """Names of the levels, from the base grid on: "4", "8", … for squares, "6x8" (height x width) else."""
    return [str(h) if h == w else f"{h}x{w}" for h, w in G.synthesis.sizes]


def parse_levels(text: str | None, G: Generator) -> tuple[int, ...]:
    """ "8-32,64" → indices of levels, ascending; None means all of them.

    Raises `FruganError` for a level that this generator does not have.
    """
    sizes = G.synthesis.sizes
    if text is None:
        return tuple(range(len(sizes)))
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _unknown(part, G)
        first = _index(match[1], match[2], G, part)
        last = _index(match[3], match[4], G, part) if match[3] else first
        if last < first:
            raise FruganError(f"levels {part!r}: the first is finer than the last; write {_reversed(part)}")
        found |= set(range(first, last + 1))
    return tuple(sorted(found))


def ws_of_levels(levels: tuple[int, ...]) -> list[int]:
    """The indices of the ws that belong to these levels."""
    return [index for level in levels for index in (2 * level, 2 * level + 1)]


def _index(number: str, width: str | None, G: Generator, part: str) -> int:
    sizes = G.synthesis.sizes
    wanted = [
        i
        for i, (h, w) in enumerate(sizes)
        if (width is None and max(h, w) == int(number)) or (width and (h, w) == (int(number), int(width)))
    ]
    if not wanted:
        raise _unknown(part, G)
    return wanted[0]


def _unknown(part: str, G: Generator) -> FruganError:
    return FruganError(
        f"level {part!r}: this generator has {', '.join(level_names(G))}; give some, or a range such as 8-32"
    )


def _reversed(part: str) -> str:
    first, _, last = part.partition("-")
    return f"{last}-{first}"
