"""Measured images to train on, heights of 16 bits and five spectral bands, and whether generated bands stay physical.

python studies/measurements.py heights heights     # 1,000 grey PNGs of 16 bits, 32x32, heights of 200 m to some 2,850 m
python studies/measurements.py bands fields        # 1,000 TIFFs of five bands of 16 bits, 16x16, and data.json with their names
python studies/measurements.py mixtures fields runs/fields/generated
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

COUNT = 1000
BANDS = ("blue", "green", "red", "nir", "swir")
SPECTRA = np.array(
    [[600, 500, 300, 100, 50], [300, 700, 400, 4500, 2000], [900, 1300, 1800, 2600, 3400]], float
)  # reflectance times 10,000 of water, plants and soil in each band


def draw_heights(out: Path, side: int = 32) -> None:
    """Sums of one to four hills on a plain of 200 m."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    for i in range(COUNT):
        metres = np.full((side, side), 200.0)
        for _ in range(rng.integers(1, 5)):
            (cy, cx), width = rng.uniform(0, side, 2), rng.uniform(3, 9)
            metres += rng.uniform(200, 1400) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
        (out / f"{i:04d}.png").write_bytes(imagecodecs.png_encode(metres.clip(0, 2850).round().astype(np.uint16)))


def draw_bands(out: Path, side: int = 16) -> None:
    """Lakes, plants and soil, mixed along their borders; brightness varies from image to image."""
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        fields = gaussian_filter(rng.normal(size=(side, side, 3)), (3, 3, 0), mode="wrap")
        shares = np.exp(6 * fields / fields.std())
        shares /= shares.sum(-1, keepdims=True)
        pixels = shares @ SPECTRA * rng.uniform(0.8, 1.2) + rng.normal(0, 20, (side, side, len(BANDS)))
        tifffile.imwrite(
            out / f"{i:04d}.tif",
            pixels.clip(0, 10_000).round().astype(np.uint16),
            photometric="minisblack",
            planarconfig="contig",
        )
    (out / "data.json").write_text(json.dumps({"channel_names": BANDS}))


def residuals(folder: Path) -> np.ndarray:
    """The distance of each pixel's five bands from mixtures of the three spectra, as a share of their length."""
    pixels = np.concatenate([tifffile.imread(file).reshape(-1, len(BANDS)) for file in sorted(folder.glob("*.tif"))])
    shares = np.linalg.lstsq(SPECTRA.T, pixels.T.astype(float), rcond=None)[0]
    return np.linalg.norm(pixels - shares.T @ SPECTRA, axis=1) / np.linalg.norm(pixels, axis=1).clip(1)


def main() -> None:
    command, *folders = sys.argv[1:]
    if command == "mixtures":
        for folder in folders:
            found = residuals(Path(folder))
            print(f"{folder}: {np.median(found):.1%} of the length, a tenth above {np.percentile(found, 90):.1%}")
        return
    Path(folders[0]).mkdir(parents=True, exist_ok=True)
    {"heights": draw_heights, "bands": draw_bands}[command](Path(folders[0]))


if __name__ == "__main__":
    main()
