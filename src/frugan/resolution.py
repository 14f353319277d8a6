"""Image sizes the networks can make: a small grid, doubled k times."""

from __future__ import annotations

from frugan.errors import FruganError

SMALLEST, LARGEST = 3, 16


def base_grid(height: int, width: int) -> tuple[int, int, int]:
    """(h0, w0, k) with height = h0·2^k and width = w0·2^k, both h0 and w0 in [3, 16], k as large as possible and ≥ 1.

    Powers of two give the usual 4×4. Raises `FruganError` where no such grid exists, naming the nearest size that has one.
    """
    grid = _grid(height, width)
    if grid is None:
        h, w = nearest_size(height, width)
        raise FruganError(
            f"resolution {height}x{width} is not a small grid ({SMALLEST} to {LARGEST} a side) doubled some times; "
            f"the nearest one that is: {h}x{w}"
        )
    return grid


def nearest_size(height: int, width: int) -> tuple[int, int]:
    """The valid (height, width) nearest in area of mismatch; of equals the smaller."""
    sizes = [
        (h << k, w << k)
        for k in range(1, 12)
        for h in range(SMALLEST, LARGEST + 1)
        for w in range(SMALLEST, LARGEST + 1)
        if max(h, w) << k <= 2 * max(height, width, 8)
    ]
    return min(sizes, key=lambda s: (abs(s[0] - height) + abs(s[1] - width), s))


def parse_resolution(text: str) -> tuple[int, int]:
    """ "64" → (64, 64); "48x64" → (48, 64): height x width. Raises `FruganError`."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 10 and int(part) for part in parts):
        raise FruganError(
            f"--resolution {text[:60]!r}: give one number for square images, or HEIGHTxWIDTH, for instance 48x64"
        )
    return int(parts[0]), int(parts[-1])


def _grid(height: int, width: int) -> tuple[int, int, int] | None:
    if min(height, width) <= 0:
        return None
    twos = lambda n: (n & -n).bit_length() - 1  # noqa: E731
    for k in range(min(twos(height), twos(width)), 0, -1):
        h, w = height >> k, width >> k
        if min(h, w) >= SMALLEST:
            return (h, w, k) if max(h, w) <= LARGEST else None
    return None
