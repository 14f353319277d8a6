"""Demo images that need nothing but Pillow: shapes with faces, their kind, colours and mood as labels.

Shape number i of seed s is always the same image, as an avatar is (`frugan.data.tools.avatars`). Place, size and angle vary
continuously, so that no two are equal.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

KINDS = ("circle", "square", "triangle", "hexagon", "star", "flower")
COLORS = {
    "red": "#d64545", "orange": "#f0892b", "yellow": "#f2c531", "green": "#3d9a57", "blue": "#3a6fd0", "violet": "#8a52c4",
}  # fmt: skip
BACKGROUNDS = {"cream": "#fbf3df", "mint": "#d5f0e0", "sky": "#d4e8fa", "rose": "#fadde3", "night": "#2b3050"}
MOODS = ("happy", "calm", "surprised")

_OVERSAMPLED = 4


def attributes(*, background: bool) -> dict[str, list[str]]:
    """The choices that an image makes, with their classes in a fixed order."""
    chosen = {"kind": list(KINDS), "shapeColor": list(COLORS), "mood": list(MOODS)}
    return chosen | ({"backgroundColor": list(BACKGROUNDS)} if background else {})


def draw(seed: str, size: int) -> tuple[Image.Image, dict[str, str]]:
    """The image of a seed, RGBA of size×size pixels on a transparent ground, and the class of each attribute."""
    chance = random.Random(seed)  # of a text: the same on every machine
    chosen = {name: names[int(chance.random() * len(names))] for name, names in attributes(background=True).items()}
    side = size * _OVERSAMPLED
    image = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(image)
    radius = side * (0.24 + 0.08 * chance.random())
    x, y = (side * (0.5 + 0.16 * (chance.random() - 0.5)) for _ in range(2))
    turn = math.radians(40 * (chance.random() - 0.5))
    color = COLORS[chosen["shapeColor"]]
    pen.polygon(_outline(chosen["kind"], x, y, radius, turn), fill=color)
    _face(pen, chosen["mood"], x, y, radius)
    return image.resize((size, size), Image.Resampling.BOX), chosen


def _outline(kind: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """Points of an outline around (x, y): a radius for each angle."""
    reach = {
        "circle": lambda angle: 1.0,
        "square": lambda angle: _polygon(angle + math.pi / 4, 4),
        "triangle": lambda angle: _polygon(angle, 3) * 0.8,
        "hexagon": lambda angle: _polygon(angle, 6),
        "star": lambda angle: 0.95 + 0.25 * math.cos(5 * angle),
        "flower": lambda angle: 0.9 + 0.12 * math.cos(8 * angle),
    }[kind]
    angles = [2 * math.pi * i / 180 for i in range(180)]
    return [(x + radius * reach(a) * math.sin(a + turn), y - radius * reach(a) * math.cos(a + turn)) for a in angles]


def _polygon(angle: float, sides: int) -> float:
    """The radius, at an angle from a corner, of a regular polygon with the area of the unit circle."""
    half = math.pi / sides
    circumscribed = math.sqrt(math.pi / (sides * math.sin(half) * math.cos(half)))
    return circumscribed * math.cos(half) / math.cos(angle % (2 * half) - half)


def _face(pen: ImageDraw.ImageDraw, mood: str, x: float, y: float, radius: float) -> None:
    ink, eye = "#1d1a26", 0.13 * radius
    for side in (-1, 1):
        pen.ellipse(_box(x + side * 0.33 * radius, y - 0.12 * radius, eye, eye * 1.3), fill=ink)
    mouth = _box(x, y + 0.28 * radius, 0.26 * radius, 0.2 * radius)
    if mood == "happy":
        pen.chord(mouth, 0, 180, fill=ink)
    elif mood == "calm":
        pen.rectangle(_box(x, y + 0.36 * radius, 0.24 * radius, 0.05 * radius), fill=ink)
    else:
        pen.ellipse(_box(x, y + 0.38 * radius, 0.12 * radius, 0.15 * radius), fill=ink)


def _box(x: float, y: float, half_width: float, half_height: float) -> Sequence[float]:
    return (x - half_width, y - half_height, x + half_width, y + half_height)
