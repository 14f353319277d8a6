"""Large images of textures without an up, drawn to be cut into crops.

    python studies/textures.py textures
    frugan train textures run --crops 1000 --crop-size 64 --crop-rotations --resolution 16 --preset tiny --kimg 15

Hides: a smooth random field decides by its sign where the dark spots are. Three images of 1200×1600 pixels, of smaller and larger
spots and other colours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

HEIGHT, WIDTH = 1200, 1600
KINDS = (
    (10.0, (60, 40, 30), (225, 210, 190)),
    (12.0, (120, 60, 20), (240, 220, 170)),
    (14.0, (30, 30, 40), (200, 190, 180)),
)
"""Of each image the smoothness of its field in pixels, and the colours of spots and ground."""


def draw(smoothness: float, spots: tuple[int, ...], ground: tuple[int, ...], seed: int) -> np.ndarray:
    """uint8 `[1200, 1600, 3]`."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), smoothness)
    share = 0.5 + 0.5 * np.tanh(4 * field / field.std())[..., None]
    image = share * np.array(spots) + (1 - share) * np.array(ground)
    return (image + rng.normal(0, 4, (HEIGHT, WIDTH, 1))).round().clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for i, kind in enumerate(KINDS):
        Image.fromarray(draw(*kind, seed=i)).save(out / f"hide-{i}.png")


if __name__ == "__main__":
    main()
