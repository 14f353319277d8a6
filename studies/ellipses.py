"""Are two measured labels of an image, a size and an angle, recovered from generated images, and does vicinity help?

Question: an ellipse of a given length and angle lies anywhere on a noisy background, with any contrast; 250 images,
whose labels are scattered over both ranges. `tiny` is trained on them without vicinity, with hard and with soft vicinity (CcGAN).

    python studies/ellipses.py --kimg 12 --seeds 0

Kernel ridge regression from pixels to both labels, fitted on 3,000 other drawn images, recovers them from 2,000 samples of labels
drawn from both ranges. The result stands in docs/project/notebook/crops-and-labels.md.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from frugan.config.options import Options
from frugan.data import DataConfig
from frugan.device import choose_device
from frugan.run.load import load
from frugan.run.plan import plan
from frugan.run.train import Run
from harness import arguments

SIZE, TRAIN, OTHERS = 16, 250, 3000
LOW, HIGH = np.array([3.0, 0.0]), np.array([6.5, 90.0])  # half the length in pixels, degrees
WIDTH = 2.0  # half of it, in pixels


def draw(labels: np.ndarray, seed: int) -> np.ndarray:
    """One grey image for each (half length, angle) `[N, 2]`: uint8 `[N, 16, 16]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    images = np.empty((len(labels), SIZE, SIZE))
    for image, (length, angle) in zip(images, labels):
        along = np.deg2rad(angle)
        dy, dx = y - rng.uniform(-1.5, 1.5), x - rng.uniform(-1.5, 1.5)
        u, v = dx * np.cos(along) - dy * np.sin(along), dx * np.sin(along) + dy * np.cos(along)
        inside = np.clip((1 - np.hypot(u / length, v / WIDTH)) * WIDTH + 0.5, 0, 1)  # with soft edges
        image[:] = rng.uniform(30, 90) + rng.uniform(100, 150) * inside
    return (images + rng.normal(0, 4, images.shape)).round().clip(0, 255).astype(np.uint8)


def labels_of(count: int, seed: int) -> np.ndarray:
    """(half length, angle) `[count, 2]`, uniform over both ranges."""
    return np.random.default_rng(seed).uniform(LOW, HIGH, (count, 2)).round(2)


def write_set(folder: Path) -> None:
    """Training images with their labels in labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = labels_of(TRAIN, 0)
    for i, image in enumerate(draw(labels, 1)):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["name", "length", "angle"], *([f"{i:03d}.png", *row] for i, row in enumerate(labels))]
        )


class Regressor:
    """Kernel ridge regression from images to standardised labels."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = _standardised(images)
        self.width = np.median(cdist(self.images[:500], self.images[:500])) / 2
        kernel = self._kernel(self.images)
        self.weights = np.linalg.solve(kernel + 1e-2 * np.eye(len(kernel)), (labels - LOW) / (HIGH - LOW) - 0.5)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Labels `[N, 2]` of uint8 images."""
        return (self._kernel(_standardised(images)) @ self.weights + 0.5) * (HIGH - LOW) + LOW

    def _kernel(self, images: np.ndarray) -> np.ndarray:
        return np.exp(-((cdist(images, self.images) / self.width) ** 2) / 2)


def _standardised(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float64)
    return (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)


def agreement(asked: np.ndarray, found: np.ndarray) -> str:
    """R² and correlation of both labels."""
    r2 = 1 - ((asked - found) ** 2).mean(0) / asked.var(0)
    correlation = [np.corrcoef(asked[:, k], found[:, k])[0, 1] for k in range(2)]
    return " | ".join(f"{a:.3f} | {b:.3f}" for a, b in zip(r2, correlation))


def main() -> None:
    args = arguments(__doc__, out="ellipses", kimg=12).parse_args()
    torch.set_num_threads(args.threads)
    folder = args.out / "set"
    write_set(folder)
    regress = Regressor(draw(labels_of(OTHERS, 2), 3), labels_of(OTHERS, 2))
    asked = labels_of(args.samples, 4)
    print(f"drawn images: {agreement(asked, regress(draw(asked, 5)))}")
    print("| vicinity | seed | length: R² | correlation | angle: R² | correlation |\n|---|--:|--:|--:|--:|--:|")
    for seed in args.seeds:
        for vicinity in ("none", "hard", "soft"):
            out = args.out / f"{vicinity}-{seed}"
            if not (out / "config.yaml").exists():
                config = DataConfig(str(folder), labels="labels.csv")
                options = Options(
                    preset="tiny", kimg=args.kimg, seed=seed, conditional=True, vicinity=vicinity, threads=args.threads
                )
                Run.create(out, plan(options, config, device=choose_device("cpu")).config)
            for _ in Run(out).train(device="cpu"):
                pass
            with torch.no_grad():
                made = load(out).sample(range(args.samples), c=torch.from_numpy(asked).float(), batch=100)
            found = regress(((made[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy())
            print(f"| {vicinity} | {seed} | {agreement(asked, found)} |", flush=True)


if __name__ == "__main__":
    main()
