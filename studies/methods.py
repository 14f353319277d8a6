"""How do the methods that ADA's paper compares, and later ones, do on a small set of real images?

Question: the shape of Fig. 8a of Karras et al. 2020, at a scale that a CPU can do: every method with the same images,
network and budget; the distance to images held out, and what it costs in time.

    python studies/methods.py --jobs 2
    python studies/methods.py --timing

Images: 250 `critters` avatars at 32² (CC0), and 5,000 more as the reference. Network: preset `tiny` with a mapping network of 8
layers as in the paper (2 in the shallow arm) and γ = 2, since the preset's 8 holds overfitting back by itself.
Measure: KID over all pairs, EfficientNet-Lite0 features. `--timing` times one pass of each phase in turn with the baseline's,
three rounds. Every run resumes where it stopped. The result stands in docs/project/notebook/results.md.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch

from frugan.config.methods import METHODS
from frugan.data import DataConfig
from frugan.run.estimate import estimate
from frugan.run.train import Run
from harness import arguments, avatars, curve, finish_all, tail

SHARED: dict[str, Any] = {"r1_gamma": 2.0, "mapping_layers": 8, "tick_kimg": 2}
ARMS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in METHODS},
    "half capacity": {"method": "none", "d_capacity": 0.5},
    "ada,bcr": {"method": "ada,bcr"},
    "ada,apa": {"method": "ada,apa"},
    "ada,diffaugment": {"method": "ada,diffaugment"},
    "r3gan,scheduled": {"method": "r3gan,scheduled"},
}
for _name, _options in ARMS.items():
    _options.update({k: v for k, v in SHARED.items() if k not in METHODS.get(_name, METHODS["none"]).preset})
ARMS["wgan-gp"].pop("r1_gamma")
ARMS["shallow-mapping"].pop("mapping_layers", None)


def main() -> None:
    parser = arguments(__doc__, out="methods", kimg=60)
    parser.add_argument("--size", type=int, default=250, help="images to train on")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--every", type=float, default=20, help="kimg between evaluations")
    parser.add_argument("--timing", action="store_true", help="no training: time the arms that have run")
    args = parser.parse_args()

    folder = avatars("critters", args.size + 5000, args.out / f"images-{args.size}")
    data = DataConfig(path=str(folder), held_out=5000)
    evaluation = {"evaluate_kimg": args.every, "evaluate_samples": args.samples, "metrics": "kid_full"}
    places = {(arm, seed): place(args.out, arm, args.size, seed) for seed in args.seeds for arm in args.arms}
    if args.timing:
        torch.set_num_threads(args.threads)
        time_all([(arm, out) for (arm, _), out in places.items() if out.exists()])
        return
    finish_all({out: (data, {**ARMS[arm], **evaluation, "seed": seed}) for (arm, seed), out in places.items()}, args)
    print("\n| method | seed | KID·10³ by kimg | last | r_t | r_v | p |\n|---|--:|---|--:|--:|--:|--:|")
    rows = {key: curve(out) for key, out in places.items()}
    for (arm, seed), points in sorted(rows.items(), key=lambda row: row[1][-1][1]):
        end = tail(places[arm, seed], ("r_t", "r_v", "p"), args.every)
        path = " ".join(f"{v:.0f}@{k:.0f}" for k, v in points)
        print(
            f"| {arm} | {seed} | {path} | {points[-1][1]:.0f} | {end['r_t']:.2f} | {end['r_v']:.2f} | {end['p']:.2f} |"
        )


def place(root: Path, arm: str, size: int, seed: int) -> Path:
    return root / f"n{size}-{arm.replace(',', '-').replace(' ', '-')}-seed{seed}"


def time_all(runs: list[tuple[str, Path]], rounds: int = 3) -> None:
    """Seconds per kimg of each arm over the baseline's, medians of ratios taken in turn."""
    configs = {arm: Run(out).config for arm, out in runs}
    ratios: dict[str, list[float]] = {arm: [] for arm in configs}
    for _ in range(rounds):
        for arm, config in configs.items():
            baseline = estimate(configs["none"], "cpu").seconds_per_kimg
            ratios[arm].append(estimate(config, "cpu").seconds_per_kimg / baseline)
    print("| method | seconds per kimg over the baseline's | spread |\n|---|--:|---|")
    for arm, values in sorted(ratios.items(), key=lambda row: statistics.median(row[1])):
        print(f"| {arm} | {statistics.median(values):.2f} | {min(values):.2f}–{max(values):.2f} |")


if __name__ == "__main__":
    main()
