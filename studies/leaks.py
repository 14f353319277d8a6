"""At which p does an augmentation leak into what is generated, and does consistency leak where ADA does not?

Question: images that stand upright, every one turned by a uniform right angle with probability p before the discriminator sees
it. By the theory (docs/explanation/leaks.md) any p < 1 can be undone, and by Fig. 3 of Karras et al. 2020 generators manage up
to about 0.85. And: translations as bCR's augmentation, which D is told to ignore, against the same translations in ADA
and at a fixed p.

    python studies/leaks.py --jobs 2

Images: 1,000 `critters` avatars at 32² (CC0). Network: preset `tiny`. Measure: shares of samples in each orientation or place
(`frugan leaks RUN`), of 2,000; and, as all critters stand in the middle, the columns that samples stand at. Every run resumes
where it stopped. The result stands in docs/project/notebook/results.md.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugan.data import DataConfig, open_dataset
from frugan.run.load import load
from frugan.run.train import Run
from harness import arguments, avatars, finish_all

ARMS: dict[str, dict[str, Any]] = {
    **{f"rotate90-p{p:g}": {"augment": "fixed", "p": p, "transforms": "rotate90"} for p in (0.5, 0.8, 1.0)},
    "bcr-translation": {"method": "bcr", "consistency_transforms": "xint", "consistency_reach": 1.0},
    "ada-translation": {"transforms": "xint"},
    "fixed-translation": {"augment": "fixed", "p": 0.8, "transforms": "xint"},
}


def columns(images: Tensor) -> Tensor:
    """The mean column of each figure `[N]`, below the first quarter of the image: of what differs from the upper corners."""
    corners = torch.stack([images[:, :, :3, :3], images[:, :, :3, -3:]], dim=2).flatten(2).median(dim=2).values
    figure = (images - corners[:, :, None, None]).square().sum(1).sqrt()[:, images.shape[2] // 4 :] > 0.5
    return (figure * torch.arange(images.shape[3])).sum((1, 2)) / figure.sum((1, 2)).clamp_min(1)


def print_columns(runs: list[Path], samples: int) -> None:
    print("\n| run | column of the figures: median | standard deviation | more than 1 px from the images' |")
    print("|---|--:|--:|--:|")
    dataset = open_dataset(Run(runs[0]).config.data)
    real = columns(dataset.images(dataset.train_indices)[0])
    found = {"the images": real}
    for run in runs:
        images = load(run).sample_batches(range(samples), batch=50, noise="random")
        found[run.name] = torch.cat([columns(x) for x in images])
    for name, x in found.items():
        away = (x - real.median()).abs().gt(1).float().mean()
        print(f"| {name} | {x.median():.2f} | {x.std():.2f} | {away:.0%} |")


def main() -> None:
    parser = arguments(__doc__, out="leaks", kimg=60)
    parser.add_argument("--size", type=int, default=1000, help="images to train on")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    args = parser.parse_args()

    data = DataConfig(path=str(avatars("critters", args.size, args.out / "images")))
    runs = {
        args.out / f"{arm}-seed{seed}": (data, {**ARMS[arm], "seed": seed}) for arm in args.arms for seed in args.seeds
    }
    finish_all(runs, args)
    command = [sys.executable, "-m", "frugan", "leaks", "--samples", str(args.samples)]
    for kind in ("rotate90", "translation"):
        chosen = [run for run in runs if kind in run.name]
        if chosen:
            subprocess.run([*command, *map(str, chosen), "--plot", str(args.out / f"{kind}.png")], check=True)
        if chosen and kind == "translation":
            print_columns(chosen, args.samples)


if __name__ == "__main__":
    main()
