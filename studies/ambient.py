"""Can a generator learn clean images from corrupted ones alone?

Question: AmbientGAN (Bora et al. 2018) shows the discriminator only measurements. From critters with half of their pixels
dropped, and from noisy ones: does a generator behind the same measurement make images that are closer to the clean ones
than a generator trained on the corrupted images directly?

    python studies/ambient.py --jobs 2

Images: 1,000 `critters` avatars at 32² (CC0), corrupted; 5,000 clean ones as the reference. Network: preset `tiny`, ADA.
Measure: KID over all pairs, EfficientNet-Lite0 features. Every run resumes where it stopped. The result stands in
docs/project/notebook/results.md.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import frugan
from frugan.data import DataConfig
from frugan.data.tools import draw_avatars
from harness import arguments, avatars, finish_all

MEASUREMENTS = ("drop-pixels:0.5", "noise:0.3")


def corrupted(clean: Path, measurement: str, out: Path) -> Path:
    if not out.exists():
        command = [sys.executable, "-m", "frugan", "data", "corrupt", clean, out, "--measurement", measurement]
        subprocess.run([*map(str, command), "--labels", "none"], check=True)
    return out


def main() -> None:
    parser = arguments(__doc__, out="ambient", kimg=60)
    parser.add_argument("--size", type=int, default=1000, help="images to train on")
    args = parser.parse_args()

    clean = avatars("critters", args.size, args.out / "clean")
    reference = args.out / "reference"
    if not reference.exists():
        draw_avatars("critters", 5000, 32, reference, offset=args.size)
    runs, names = {}, {}
    for seed in args.seeds:
        for measurement in MEASUREMENTS:
            kind = measurement.split(":")[0]
            data = DataConfig(path=str(corrupted(clean, measurement, args.out / kind)))
            for arm, options in (("ambient", {"measurement": measurement}), ("direct", {})):
                out = args.out / f"{kind}-{arm}-seed{seed}"
                runs[out], names[out] = (data, {**options, "seed": seed}), (measurement, arm, seed)
    finish_all(runs, args)
    print("\n| corruption | arm | seed | KID·10³ to clean images |\n|---|---|--:|--:|")
    for out, (measurement, arm, seed) in names.items():
        kid = frugan.evaluate(out, reference=str(reference), metrics=("kid_full",), samples=args.samples).values[
            "kid_full"
        ]
        print(f"| {measurement} | {arm} | {seed} | {kid * 1e3:.0f} |")


if __name__ == "__main__":
    main()
