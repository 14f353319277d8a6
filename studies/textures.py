"""Large images of textures without an up, drawn to be cut into crops.

    python studies/textures.py textures
    frugan train textures --out run --crops 1000 --crop-size 64 --crop-rotations --resolution 32 --preset tiny --kimg 30

Cracked earth: cells around random points, with dark borders where two points are equally near, an own brown for each cell, and fine
grain. Three images of 1200×1600 pixels, of larger and smaller cells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

HEIGHT, WIDTH = 1200, 1600
CELLS = (24.0, 30.0, 38.0)  # pixels from one to the next


def draw(side: float, seed: int) -> np.ndarray:
    """uint8 `[1200, 1600, 3]`: cells about `side` pixels wide."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-side, -side), (HEIGHT + side, WIDTH + side), (int(HEIGHT * WIDTH / side**2), 2))
    pixels = np.indices((HEIGHT, WIDTH)).reshape(2, -1).T
    bend = [gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), side / 6) * side for _ in range(2)]
    distances, cells = cKDTree(points).query(pixels + np.stack(bend, axis=-1).reshape(-1, 2), k=2)
    crack = np.clip((distances[:, 1] - distances[:, 0]) / (0.14 * side), 0, 1).reshape(HEIGHT, WIDTH, 1)
    browns = np.array([150.0, 110, 70]) + rng.normal(0, 18, (len(points), 1)) + rng.normal(0, 5, (len(points), 3))
    grain = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), 1.2)[..., None] * 60
    image = (browns[cells[:, 0]].reshape(HEIGHT, WIDTH, 3) + grain) * (0.25 + 0.75 * crack)
    return image.round().clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for i, side in enumerate(CELLS):
        Image.fromarray(draw(side, i)).save(out / f"earth-{i}.png")


if __name__ == "__main__":
    main()
