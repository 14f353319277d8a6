"""Does a network trained on other images help when there are only a hundred, and what keeps it from overfitting?

Question: adapt to 100 images of one style a network trained on 5,000 of another, with and without Freeze-D and ADA, and
compare with training from scratch. In Karras et al. 2020, Fig. 9, plain transfer falls steeply and then diverges, Freeze-D
alone slows that, ADA stops it, and both together are best by a little.

    python studies/transfer.py --seeds 0 1 --kimg 60 --jobs 2

Images: 32² avatars (CC0), `critters` as the source, `pixel-art` as the target, 5,000 more of which are held out as the
reference. Network: preset `tiny`. Measure: KID over all pairs, EfficientNet-Lite0 features. Every run resumes where it
stopped. The result stands in docs/project/notebook/results.md.
"""

from __future__ import annotations

import itertools
from typing import Any

from frugan.data import DataConfig
from harness import arguments, avatars, curve, finish, finish_all, tail

FREEZE = {"freeze_d": "4"}  # the block of 32 pixels
ARMS: dict[str, tuple[bool, dict[str, Any]]] = {
    "scratch": (False, {"augment": "none"}),
    "transfer": (True, {"augment": "none"}),
    "transfer + Freeze-D": (True, {"augment": "none", **FREEZE}),
    "transfer + ADA": (True, {}),
    "transfer + ADA + Freeze-D": (True, FREEZE),
}
"""By name: whether it starts from the source, and options."""


def main() -> None:
    parser = arguments(__doc__, out="transfer", kimg=60)
    parser.add_argument("--source", default="critters", help="style that the first network is trained on")
    parser.add_argument("--target", default="pixel-art", help="style that it is adapted to")
    parser.add_argument("--size", type=int, default=100, help="images of the target to train on")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--source-kimg", type=float, default=150)
    parser.add_argument("--every", type=float, default=10, help="kimg between evaluations")
    args = parser.parse_args()

    images = avatars(args.source, 5000, args.out / "source-images")
    source = args.out / "source"
    finish(source, DataConfig(path=str(images)), args.source_kimg, args.threads * args.jobs, {})

    images = avatars(args.target, args.size + 5000, args.out / "target-images")
    data = DataConfig(path=str(images), held_out=5000)
    evaluation = {"evaluate_kimg": args.every, "evaluate_samples": args.samples, "metrics": "kid_full", "tick_kimg": 2}
    runs = {
        (arm, seed): args.out / f"{arm.replace(' + ', '-').lower()}-seed{seed}"
        for seed, arm in itertools.product(args.seeds, args.arms)
    }
    plans = {}
    for (arm, seed), out in runs.items():
        transfers, options = ARMS[arm]
        start = {"init_from": str(source)} if transfers else {}
        plans[out] = data, {**evaluation, "seed": seed, **options, **start}
    finish_all(plans, args)

    print("\n| arm | seed | KID·10³ by kimg | best | last | r_t | r_v | p | s/kimg |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    for (arm, seed), out in runs.items():
        points, end = curve(out), tail(out, ("r_t", "r_v", "p", "seconds_per_kimg"), args.every)
        print(
            f"| {arm} | {seed} | {' '.join(f'{v:.0f}@{k:.0f}' for k, v in points)} | {min(v for _, v in points):.0f} | "
            f"{points[-1][1]:.0f} | {end['r_t']:.2f} | {end['r_v']:.2f} | {end['p']:.2f} | {end['seconds_per_kimg']:.2f} |"
        )


if __name__ == "__main__":
    main()
