"""Random crops of a large texture to train on, and how visible the seams of generated images are.

python studies/tiles.py draw crops        # 2,000 crops of 32x32 of one texture of cells that does not repeat in them
python studies/tiles.py seams runs/stone
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, LARGE = 32, 512


def draw(out: Path, count: int = 2000, cells: int = 6000) -> None:
    """Stones of own colours with dark joints between them: which of random points is nearest, and how much nearer."""
    rng = np.random.default_rng(0)
    points, hue = rng.random((cells, 2)) * LARGE, rng.random(cells)
    y, x = np.mgrid[0:LARGE, 0:LARGE]
    nearest, second, tint = np.full((LARGE, LARGE), 1e9), np.full((LARGE, LARGE), 1e9), np.zeros((LARGE, LARGE))
    for (py, px), shade in zip(points, hue):
        distance = (y - py) ** 2 + (x - px) ** 2
        closer = distance < nearest
        second, tint = np.where(closer, nearest, np.minimum(second, distance)), np.where(closer, shade, tint)
        nearest = np.minimum(nearest, distance)
    joint = ((np.sqrt(second) - np.sqrt(nearest)) / 1.5).clip(0, 1)[..., None]
    stone = np.stack([0.55 + 0.3 * tint, 0.45 + 0.2 * tint, 0.35 + 0.1 * tint], -1)
    pixels = joint * stone + (1 - joint) * 0.14 + rng.normal(0, 0.02, (LARGE, LARGE, 1))
    large = (pixels.clip(0, 1) * 255).astype(np.uint8)
    out.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        top, left = rng.integers(0, LARGE - SIDE, 2)
        Image.fromarray(large[top : top + SIDE, left : left + SIDE]).save(out / f"{i:04d}.png")


def steps(run: str, count: int = 256) -> None:
    """Prints the mean step across the border of generated images beside those across all other lines."""
    import frugan

    images = frugan.load(run).sample(range(count), noise="random")
    for name, axis in (("y", 2), ("x", 3)):
        found = (images - images.roll(1, axis)).abs().mean((0, 1, 5 - axis))
        others = found[1:]
        print(f"{name}: seam {found[0]:.4f}; others {others.mean():.4f}, {others.min():.4f} to {others.max():.4f}")


if __name__ == "__main__":
    draw(Path(sys.argv[2])) if sys.argv[1] == "draw" else steps(sys.argv[2])
