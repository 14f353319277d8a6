"""Shapes with exact masks to train on, and how far generated masks agree with their images.

python studies/masks.py draw shapes          # shapes/photos and shapes/masks, 2,000 pairs of 16x16
python studies/masks.py agree out/images out/masks
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE, FINE = 16, 8


def draw(out: Path, count: int = 2000) -> None:
    """One or two light shapes on a dark ground, with noise; the mask is 255 where a shape covers half of a pixel or more."""
    rng = np.random.default_rng(0)
    for name in ("photos", "masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    side = SIDE * FINE
    for i in range(count):
        light, dark = rng.integers(150, 256, 3), rng.integers(0, 100, 3)
        ink = Image.new("L", (side, side), 0)
        for _ in range(rng.integers(1, 3)):
            _shape(ImageDraw.Draw(ink), rng, side)
        cover = np.asarray(ink.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
        pixels = dark + (light - dark) * cover[..., None] + rng.normal(0, 4, (SIDE, SIDE, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out / "photos" / f"{i:04d}.png")
        Image.fromarray(np.where(cover >= 0.5, 255, 0).astype(np.uint8)).save(out / "masks" / f"{i:04d}.png")


def _shape(ink: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    r, (x, y), corners = rng.integers(14, 34), rng.integers(24, side - 24, 2), rng.integers(2, 5)
    if corners == 2:
        ink.ellipse((x - r, y - r, x + r, y + r), fill=255)
        return
    angles = rng.random() * 2 * np.pi + 2 * np.pi * np.arange(corners) / corners
    ink.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for a in angles], fill=255)


def agreement(images: Path, masks: Path) -> np.ndarray:
    """The intersection over union of each mask and of its image, thresholded midway between its dark and its light end."""
    found = []
    for place in sorted(images.glob("*.png")):
        grey = np.asarray(Image.open(place).convert("L"), float)
        mask = np.asarray(Image.open(masks / place.name).convert("L")) > 127
        low, high = np.percentile(grey, (2, 98))
        bright = grey > (low + high) / 2
        if mask.any():
            found.append((bright & mask).sum() / (bright | mask).sum())
    return np.array(found)


if __name__ == "__main__":
    if sys.argv[1] == "draw":
        draw(Path(sys.argv[2]))
    else:
        iou = agreement(Path(sys.argv[2]), Path(sys.argv[3]))
        print(
            f"IoU of {len(iou)} pairs: mean {iou.mean():.3f}, median {np.median(iou):.3f}, 10 % below {np.percentile(iou, 10):.3f}"
        )
