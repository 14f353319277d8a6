"""At which p does an augmentation leak into what is generated, and does consistency leak where ADA does not?

Question: pictures that stand upright, every one turned by a uniform right angle with probability p before the discriminator sees
it. By the theory (docs/leaks.md) any p < 1 can be undone, and by Fig. 3 of Karras et al. 2020 generators manage up to about
0.85. And: translations as bCR's augmentation, which D is told to ignore, against the same translations in ADA
and at a fixed p.

    python studies/leaks.py --jobs 2

Pictures: 1,000 `critters` avatars at 32² (CC0). Network: preset `tiny`. Measure: shares of samples in each orientation or place
(`frugan leaks RUN`), of 2,000. Every run resumes where it stopped. The result stands in docs/results.md.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from frugan.data import DataConfig
from harness import arguments, avatars, finish_all

ARMS: dict[str, dict[str, Any]] = {
    **{f"rotate90-p{p:g}": {"augment": "fixed", "p": p, "transforms": "rotate90"} for p in (0.5, 0.8, 1.0)},
    "bcr-translation": {"method": "bcr", "consistency_transforms": "xint", "consistency_reach": 1.0},
    "ada-translation": {"transforms": "xint"},
    "fixed-translation": {"augment": "fixed", "p": 0.8, "transforms": "xint"},
}


def main() -> None:
    parser = arguments(__doc__, out="leaks", kimg=60)
    parser.add_argument("--size", type=int, default=1000, help="pictures to train on")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    args = parser.parse_args()

    data = DataConfig(path=str(avatars("critters", args.size, args.out / "pictures")))
    runs = {
        args.out / f"{arm}-seed{seed}": (data, {**ARMS[arm], "seed": seed}) for arm in args.arms for seed in args.seeds
    }
    finish_all(runs, args)
    command = [sys.executable, "-m", "frugan", "leaks", "--samples", str(args.samples)]
    for kind in ("rotate90", "translation"):
        chosen = [str(run) for run in runs if kind in run.name]
        if chosen:
            subprocess.run([*command, *chosen, "--plot", str(args.out / f"{kind}.png")], check=True)


if __name__ == "__main__":
    main()
