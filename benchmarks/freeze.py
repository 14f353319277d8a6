"""What freezing layers of the discriminator saves: seconds per kimg of the whole step and of the discriminator's phases.

    python benchmarks/freeze.py [--device cuda] [--threads 2] [--rounds 5] [--resolution 32 64]

Arms take turns in one process, all on images of noise (their content does not matter), after a round to warm up.
Prints medians over the rounds, and each arm's ratio to nothing frozen.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch

import frugan
from frugan.config.options import Options
from frugan.data import DataConfig
from frugan.device import choose_device
from frugan.run.estimate import estimate
from frugan.run.plan import plan

ARMS: dict[str, dict[str, str | bool]] = {
    "nothing": {},
    "D: 2 layers": {"freeze_d": "2"},
    "D: 4 layers (a block)": {"freeze_d": "4"},
    "D: 8 layers (two blocks)": {"freeze_d": "8"},
    "mapping": {"freeze_mapping": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--resolution", type=int, nargs="+", default=[32, 64])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print("| resolution | frozen | s/kimg | of nothing frozen |\n|--:|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for size in args.resolution:
            data = Path(folder) / f"noise-{size}.npy"
            np.save(data, np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8))
            source = Path(folder) / f"source-{size}"
            for _ in frugan.train(data, source, preset=args.preset, kimg=0.032, batch=16, device=args.device):
                pass
            configs = {
                arm: plan(
                    Options(preset=args.preset, init_from=str(source), batch=16, **choice),  # pyright: ignore[reportArgumentType]
                    DataConfig(path=str(data)),
                    device=choose_device(args.device),
                ).config
                for arm, choice in ARMS.items()
            }
            seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
            for _ in range(args.rounds + 1):
                for arm, config in configs.items():
                    seconds[arm].append(estimate(config, args.device).seconds_per_kimg)
            first = statistics.median(seconds["nothing"][1:])
            for arm, found in seconds.items():
                middle = statistics.median(found[1:])
                print(f"| {size}² | {arm} | {middle:.2f} | {middle / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
