"""Limits on the size of networks, checked before memory is allocated.

They apply wherever a configuration comes from: options, config.yaml, config.json of a directory or checkpoint, or the
weights of a foreign file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from frugan.checks import Limits, check_number
from frugan.errors import FruganError
from frugan.resolution import base_grid

LARGEST_SIDE = 8192
"""Pixels."""

MOST_WEIGHTS = 1 << 30
"""Of one network; StyleGAN2 at 1024² has 30 million."""

MOST_TAPS = 24

Side = Annotated[int, Limits(at_most=LARGEST_SIDE)]
Width = Annotated[int, Limits(at_least=1, at_most=16384)]
"""Feature maps, or features of a vector."""
Base = Annotated[int, Limits(at_least=1, at_most=1 << 27)]
Channels = Annotated[int, Limits(at_least=1, at_most=4096)]
LabelSize = Annotated[int, Limits(at_least=0, at_most=65536)]
Layers = Annotated[int, Limits(at_least=0, at_most=1000)]
Multiplier = Annotated[float, Limits(at_least=1e-6, at_most=1e3)]
Clamp = Annotated[float, Limits(above=0, at_most=1e12)]


def check_resolution(resolution: Sequence[int]) -> None:
    """Raises `FruganError` unless `resolution` is the (height, width) of images that networks can make."""
    if not isinstance(resolution, (tuple, list)) or len(resolution) != 2:
        raise FruganError(f"resolution {str(resolution)[:40]}: give (height, width)")
    base_grid(*resolution)


def check_filter(taps: Sequence[float]) -> None:
    """Raises `FruganError` unless these are taps of a resampling filter: 1 to `MOST_TAPS` of them, which do not add up to 0."""
    if not isinstance(taps, (tuple, list)) or not 1 <= len(taps) <= MOST_TAPS:
        raise FruganError(f"a resampling filter of {len(taps)} taps: give 1 to {MOST_TAPS}")
    for tap in taps:
        check_number("resampling filter's tap", tap, at_least=-1e6, at_most=1e6)
    if abs(sum(taps)) < max(1e-6, 1e-3 * max(map(abs, taps))):
        raise FruganError("a resampling filter whose taps add up to 0: it would have to be divided by their sum")


def check_size(what: str, levels: Sequence[tuple[int, int, int]], dense: int) -> None:
    """Raises `FruganError` where a network would have too many weights.

    Args:
        what: the network, for the message.
        levels: (feature maps, height, width) of each level.
        dense: the number of weights in its dense layers.
    """
    before, count = 0, dense
    for maps, height, width in levels:
        count += 9 * maps * (maps + before) + 2 * height * width
        before = maps
    if count > MOST_WEIGHTS:
        raise FruganError(
            f"a {what} of some {count:,} weights: the limit is {MOST_WEIGHTS:,}; lower its resolution, channel_base, "
            "channel_max or widths"
        )
