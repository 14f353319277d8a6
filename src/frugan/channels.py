"""Channels of images: names by count, and which of them are colour. The last of 2 or 4 is opacity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from frugan.errors import FruganError

ChannelName = Literal["L", "LA", "RGB", "RGBA"]
ChannelChoice = Literal["auto", "L", "LA", "RGB", "RGBA"]
"""What a user may ask for; "auto" is what all images of a set have."""

CHANNEL_NAMES: dict[int, ChannelName] = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
CHANNELS: dict[str, int] = {name: count for count, name in CHANNEL_NAMES.items()}


def has_alpha(count: int) -> bool:
    """Whether the last of `count` channels is opacity, where a file or a set says nothing else."""
    return count in (2, 4)


def colour_channels(count: int) -> int:
    """The number of colour channels among `count` channels: 1 or 3, and 0 where they have no such meaning."""
    return {1: 1, 2: 1, 3: 3, 4: 3}.get(count, 0)


AS_FILES = "files"
"""A choice of channels: all that the files have, whatever a data.json beside them tells."""

MOST_VALUES = 32
"""A mask of more different values is taken for an image."""

_PART = re.compile(r"\s*(L|RGB|\d{1,4}(?:-\d{1,4})?)\s*=\s*(image|mask)\s*", re.IGNORECASE | re.ASCII)


class Declared(NamedTuple):
    """The meaning of `--channels`: what image channels are converted to ("auto": nothing), and the count of masks
    behind `images`.

    `images` is None where images have whatever channels they have.
    """

    choice: ChannelChoice
    images: int | None = None
    masks: int = 0


def parse_channels(text: str, where: str = "--channels") -> Declared:
    """ "RGB", "auto", "files", or roles: "RGB=image,3=mask", "0-4=image,5-6=mask". Raises `FruganError` for anything else.

    `where`: what messages call the place that the text stands in.

    A part is L or RGB (the first channel, the first three), a channel's number from 0 on, or a range of numbers. All channels of
    the files are named once, images before masks.
    """
    if text == AS_FILES:
        return Declared("auto")
    if text == "auto" or text in CHANNELS:
        return Declared(cast(ChannelChoice, text))
    wanted = "give auto, L, LA, RGB, RGBA, files, or what each channel is, for instance RGB=image,3=mask"
    named: list[str] = []
    choice: ChannelChoice = "auto"
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise FruganError(f"{where} {text[:60]!r}: {wanted}")
        place, role = match[1].upper(), match[2].lower()
        if place in CHANNELS:
            first, last = 0, CHANNELS[place] - 1
            choice = cast(ChannelChoice, place) if role == "image" else choice
        else:
            low, _, high = place.partition("-")
            first, last = int(low), int(high or low)
        if first != len(named) or last < first or last >= 4096:
            raise FruganError(
                f"{where} {text[:60]!r}: channels are named in order, each once and from 0 on; {part.strip()} stands where "
                f"channel {len(named)} is due"
            )
        named += [role] * (last - first + 1)
    masks = named.count("mask")
    if not masks or "mask" in named[: len(named) - masks] or masks == len(named):
        raise FruganError(f"{where} {text[:60]!r}: one image channel or more, then one mask or more; {wanted}")
    images = len(named) - masks
    return Declared(choice if CHANNELS.get(choice) == images else "auto", images, masks)


@dataclass(frozen=True)
class MaskChannel:
    """A channel whose stored values mean something: the background and an object, or several classes.

    Networks see the values at even steps from -1 to 1, in this order. `bits`: 8 or 16 for grey values, 24 for colours, which are
    numbers 0xRRGGBB.
    """

    values: tuple[int, ...]
    bits: int = 8

    def __post_init__(self) -> None:
        top = 1 << self.bits if self.bits in (8, 16, 24) else 0
        if (
            not 2 <= len(self.values) <= MOST_VALUES
            or list(self.values) != sorted({*self.values})
            or self.values[0] < 0
        ):
            raise FruganError(f"a mask has 2 to {MOST_VALUES} different values, from the lowest on")
        if self.values[-1] >= top:
            raise FruganError(f"a mask of {self.bits} bits cannot hold the value {self.values[-1]}")

    def __str__(self) -> str:
        shown = [f"#{value:06x}" if self.bits == 24 else str(value) for value in self.values]
        return ", ".join(shown)
