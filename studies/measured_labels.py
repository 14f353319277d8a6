"""Does a measured label steer the images, also at values that no training image has?

Question: a disc's colour follows a year from 1990 to 2020, its place, size and background do not, and no training image lies
between 2003 and 2007. Is the year that was asked for recovered from generated images, with the embedding of measured labels
and with that of classes, which normalises W·c?

    python studies/measured_labels.py --kimg 12 --seeds 0 1 2

A ridge regression from sorted pixel values to the year, fitted on 2,000 other drawn images, recovers the label. The result
stands in docs/reference/data.md.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frugan.config.options import Options
from frugan.data import DataConfig
from frugan.device import choose_device
from frugan.run.load import load
from frugan.run.plan import plan
from frugan.run.train import Run
from harness import arguments

FIRST, LAST, GAP = 1990.0, 2020.0, (2003.0, 2007.0)
SIZE, TRAIN, OTHERS = 16, 300, 2000


def draw(years: np.ndarray, seed: int) -> np.ndarray:
    """One image for each year, uint8 `[N, 16, 16, 3]`: a disc from blue (1990) to orange (2020) before a grey background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    images = np.empty((len(years), SIZE, SIZE, 3))
    for image, year in zip(images, years):
        share = (year - FIRST) / (LAST - FIRST)
        image[:] = rng.uniform(60, 200)
        disc = np.hypot(y - rng.uniform(6, 9), x - rng.uniform(6, 9)) < rng.uniform(4, 6)
        image[disc] = (30 + 220 * share, 40 + 60 * rng.random(), 230 - 200 * share)
    return (images + rng.normal(0, 4, images.shape)).round().clip(0, 255).astype(np.uint8)


def write_set(folder: Path) -> None:
    """Training images whose labels, in labels.csv, leave out the years in the gap."""
    years = np.random.default_rng(0).uniform(FIRST, LAST, 2 * TRAIN).round(1)
    years = years[(years < GAP[0]) | (years > GAP[1])][:TRAIN]
    folder.mkdir(parents=True)
    for i, pixels in enumerate(draw(years, seed=1)):
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "year"], *([f"{i:03d}.png", year] for i, year in enumerate(years))])


class Regressor:
    """The year that a drawn image `[16, 16, 3]` shows."""

    def __init__(self) -> None:
        years = np.random.default_rng(2).uniform(FIRST, LAST, OTHERS)
        self.mean = years.mean()
        x = self.features(draw(years, seed=3))
        self.weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ (years - self.mean))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Of each channel, and of red less blue, the sorted values `[N, F]`, which do not depend on the disc's place."""
        channels = images.astype(float) / 255
        channels = np.concatenate([channels, channels[..., :1] - channels[..., 2:]], axis=3).reshape(len(images), -1, 4)
        values = np.sort(channels, axis=1)[:, ::8].reshape(len(images), -1)
        return np.concatenate([values, np.ones((len(images), 1))], axis=1)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.mean + self.features(images) @ self.weights


def r_squared(asked: np.ndarray, found: np.ndarray) -> float:
    return 1 - float(np.square(found - asked).sum() / np.square(asked - asked.mean()).sum())


def train(data: Path, out: Path, seed: int, kimg: float, *, measured: bool) -> None:
    options = Options(preset="tiny", conditional=True, kimg=kimg, seed=seed, samples_kimg=kimg, checkpoint_kimg=kimg)
    config, _, dataset, _ = plan(options, DataConfig(str(data), labels="auto"), device=choose_device("cpu"))
    if not measured:
        G, D = replace(config.generator, measured=()), replace(config.discriminator, measured=())
        config = replace(config, generator=G, discriminator=D)
    for _ in Run.create(out, config).train(device="cpu", dataset=dataset):
        pass


def recovered(run: Path, years: np.ndarray, regressor: Regressor) -> np.ndarray:
    c = torch.tensor(years, dtype=torch.float32)[:, None]
    images = load(run).sample(range(len(years)), c=c, noise="random")
    return regressor(((images + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy())


def main() -> None:
    parser = arguments(__doc__, out="measured-labels", kimg=12)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = args.out / "images"
    if not data.exists():
        write_set(data)
    regressor = Regressor()
    rng = np.random.default_rng(4)
    years = {"all years": rng.uniform(FIRST, LAST, args.samples), "the gap": rng.uniform(*GAP, args.samples)}
    real = regressor(draw(years["all years"], seed=5))
    print(f"drawn images: R² {r_squared(years['all years'], real):.3f}")
    print("| embedding | seed | R², all years | correlation | mean error | correlation, the gap | mean error |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for measured in (True, False):
        for seed in args.seeds:
            name = "measured" if measured else "classes"
            run = args.out / f"{name}-{seed}"
            if not run.exists():
                train(data, run, seed, args.kimg, measured=measured)
            found = [recovered(run, asked, regressor) for asked in years.values()]
            cells = [f"{r_squared(years['all years'], found[0]):.3f}"]
            for asked, answer in zip(years.values(), found):
                cells += [f"{np.corrcoef(asked, answer)[0, 1]:.3f}", f"{np.abs(answer - asked).mean():.2f}"]
            print(f"| {name} | {seed} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
