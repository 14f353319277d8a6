"""What the pictures will become: one size, one channel count, one depth, decided from their headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Literal

from frugan.data.decode import CHANNEL_NAMES, CHANNELS, Background, Filter, Fit, Header
from frugan.errors import FruganError
from frugan.resolution import SMALLEST

_LARGEST_DERIVED = 8  # a derived size has at most this many cells a side before it is doubled


@dataclass(frozen=True)
class PixelConfig:
    """Everything that decides the cached pixels, beside the pictures themselves."""

    resolution: tuple[int, int] | None = None
    channels: Literal["auto", "L", "LA", "RGB", "RGBA"] = "auto"
    fit: Fit = "crop"
    filter: Filter = "lanczos"
    background: Background = "white"


@dataclass(frozen=True)
class Plan:
    """Pixels `[H, W, C]` of 8 or 16 bits; with `alpha` the last channel is opacity."""

    resolution: tuple[int, int]
    channels: int
    depth: Literal[8, 16]
    alpha: bool


def make_plan(config: PixelConfig, names: Sequence[str], headers: Sequence[Header], *, alpha: bool = True) -> Plan:
    """Raises `FruganError` where sizes or channel counts are mixed and the config does not say what to do.

    `alpha` says whether a second or fourth channel of these pictures is opacity.
    """
    channels = plan_channels(config, names, headers)
    alpha = channels in (2, 4) and (alpha or config.channels != "auto")
    return Plan(plan_resolution(config, names, headers), channels, max(header.depth for header in headers), alpha)


def suggest_resolution(headers: Sequence[Header]) -> tuple[int, int]:
    """A size that at least half of the pictures fill; square where some stand and others lie."""
    h, w = (median_low([getattr(header, side) for header in headers]) for side in ("height", "width"))
    standing = any(header.height > header.width for header in headers)
    lying = any(header.height < header.width for header in headers)
    return derive_resolution(min(h, w), min(h, w)) if standing and lying else derive_resolution(h, w)


def suggest_channels(headers: Sequence[Header]) -> Literal["L", "LA", "RGB", "RGBA"]:
    """The fewest channels that lose nothing."""
    kinds = {header.channels for header in headers}
    alpha, colour = kinds & {2, 4}, kinds & {3, 4}
    return ("RGBA" if alpha else "RGB") if colour else ("LA" if alpha else "L")


def derive_resolution(height: int, width: int) -> tuple[int, int]:
    """The size to train at for pictures of this size: a small grid doubled, no larger than they are.

    A size that is such a grid (at most 8 a side) stays; other squares give a power of two; else the grid that keeps
    most of the picture.
    """
    sizes = [
        (h << k, w << k)
        for k in range(1, 12)
        for h in range(SMALLEST, _LARGEST_DERIVED + 1)
        for w in range(SMALLEST, _LARGEST_DERIVED + 1)
        if h << k <= height and w << k <= width
    ]
    if (height, width) in sizes:
        return height, width
    if height == width:
        sizes = [(h, w) for h, w in sizes if h == w and h & (h - 1) == 0]
    if not sizes:
        raise FruganError(
            f"pictures of {height}x{width} pixels are too small to derive a size; give one with --resolution, such as 8"
        )

    def kept(size: tuple[int, int]) -> float:
        aspect = (size[0] * width) / (size[1] * height)
        return size[0] * size[1] * min(aspect, 1 / aspect)

    return max(sizes, key=kept)


def size_name(size: tuple[int, int]) -> str:
    """ "64" for a square, "48x64" (height x width) else: as `--resolution` takes it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def plan_resolution(config: PixelConfig, names: Sequence[str], headers: Sequence[Header]) -> tuple[int, int]:
    """(H, W): as configured, else derived from the size of all pictures. Raises `FruganError` for mixed sizes."""
    if config.resolution is not None:
        return config.resolution
    sizes = [(header.height, header.width) for header in headers]
    if (other := _first_other(sizes)) is not None:
        a, b = sizes[0], sizes[other]
        raise FruganError(
            f"the pictures differ in size: {names[0]} is {a[0]}x{a[1]} (height x width), {names[other]} is "
            f"{b[0]}x{b[1]}, {len(set(sizes))} sizes in all; choose one, for example with --resolution "
            f"{size_name(suggest_resolution(headers))}"
        )
    return derive_resolution(*sizes[0])


def plan_channels(config: PixelConfig, names: Sequence[str], headers: Sequence[Header]) -> int:
    """As configured, else what all pictures have. Raises `FruganError` for mixed or inconvertible channels."""
    counts = [header.channels for header in headers]
    if config.channels != "auto":
        odd = next((i for i, count in enumerate(counts) if count not in CHANNEL_NAMES), None)
        if odd is not None:
            raise FruganError(
                f"{names[odd]} has {counts[odd]} channels, which cannot become {config.channels}; use --channels auto"
            )
        return CHANNELS[config.channels]
    if (other := _first_other(counts)) is not None:
        a, b = CHANNEL_NAMES[counts[0]], CHANNEL_NAMES[counts[other]]
        raise FruganError(
            f"the pictures differ in channels: {names[0]} is {a}, {names[other]} is {b} "
            f"({sum(count != counts[0] for count in counts)} of {len(counts)} are not {a}); "
            f"convert all, for example with --channels {suggest_channels(headers)}"
        )
    return counts[0]


def _first_other(values: Sequence[object]) -> int | None:
    return next((i for i, value in enumerate(values) if value != values[0]), None)
