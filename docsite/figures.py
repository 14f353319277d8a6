"""Figures of the documentation, made with frugan itself.

python -m docsite.figures                    # docs/images/transforms/: each transform on one image of the sample generator
python -m docsite.figures --run demo/run     # docs/images/ada-curves.png: r_t, p and D's outputs of a run; frugan[plots]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import frugan
from frugan.augment import TRANSFORMS, AugmentConfig, AugmentPipeline
from frugan.images import to_uint8
from frugan.tracking import read_stats

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SEED, DRAWS, SIZE = 5, 5, 64
"""Of the sample generator; draws of each transform; pixels a side."""


def transform_strip(name: str, image: torch.Tensor) -> np.ndarray:
    """uint8 `[SIZE, SIZE · (DRAWS + 1), 3]`: an image `[3, SIZE, SIZE]` in [-1, 1] as it is, and what `DRAWS` draws make of it."""
    pipeline = AugmentPipeline(AugmentConfig((name,)), channels=3, resolution=(SIZE, SIZE))
    draw = pipeline.draw(DRAWS, 1.0, generator=torch.Generator().manual_seed(1))
    made = pipeline.apply(image.expand(DRAWS, -1, -1, -1), draw).clamp(-1, 1)
    return np.concatenate(to_uint8(torch.cat([image[None], made])), axis=1)


def draw_transforms(folder: Path = IMAGES / "transforms") -> None:
    """A strip for each row of `TRANSFORMS`."""
    folder.mkdir(parents=True, exist_ok=True)
    image = frugan.load("sample").sample(seeds=[SEED], truncation=0.7)[0]
    for name in TRANSFORMS:
        Image.fromarray(transform_strip(name, image)).save(folder / f"{name}.webp", quality=85)


def draw_curves(run: Path, out: Path = IMAGES / "ada-curves.png") -> None:
    """r_t with its target, p, and the means of D's outputs on real, held-out and generated images, over kimg."""
    import matplotlib.pyplot as plt

    records = list(read_stats(run / "stats.jsonl"))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axes, name, title in ((left, "r_t", "r_t"), (middle, "p", "p")):
        axes.plot([r["kimg"] for r in records], [r[name] for r in records], color="tab:blue")
        axes.set(title=title, xlabel="kimg", ylim=(0, None))
    left.axhline(frugan.Run(run).config.controller.target or 0.6, color="gray", linestyle=":")
    for name, colour in (("real", "tab:green"), ("held_out", "tab:orange"), ("generated", "tab:red")):
        kept = [(r["kimg"], r[f"logits/{name}"]["mean"]) for r in records if r.get(f"logits/{name}")]
        right.plot(*zip(*kept, strict=True), color=colour, label=name.replace("_", " "))
    right.set(title="mean output of D", xlabel="kimg")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    if given.run:
        draw_curves(given.run)
    else:
        draw_transforms()
