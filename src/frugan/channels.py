"""Channels of images: names by count, and which of them are colour. The last of 2 or 4 is opacity."""

from __future__ import annotations

from typing import Literal

ChannelName = Literal["L", "LA", "RGB", "RGBA"]
ChannelChoice = Literal["auto", "L", "LA", "RGB", "RGBA"]
"""What a user may ask for; "auto" is what all images of a set have."""

CHANNEL_NAMES: dict[int, ChannelName] = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
CHANNELS: dict[str, int] = {name: count for count, name in CHANNEL_NAMES.items()}


def has_alpha(count: int) -> bool:
    """Whether the last of `count` channels is opacity, where a file or a set says nothing else."""
    return count in (2, 4)


def colour_channels(count: int) -> int:
    """How many of `count` channels are colour: 1 or 3, and 0 where they have no such meaning."""
    return {1: 1, 2: 1, 3: 3, 4: 3}.get(count, 0)
