"""What a step costs and what augmentation adds: seconds per kimg and peak memory, without `bgc`, and with it at p = 0.1 and 0.6.

    python benchmarks/training.py [--device cuda] [--threads 2] [--precision bf16] [--rounds 3] [--kimg 1]

Every case trains in a process of its own, all four phases, on pictures of noise (their content does not matter), and the
arms of a case take turns. The first tick of a process warms up and is not counted. Prints medians and the spread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# name: resolution, options of frugan.train
CASES = {
    "tiny, 32²": (32, {"preset": "tiny"}),
    "tiny, 64²": (64, {"preset": "tiny"}),
    "4096 / 128, 32², batch 16": (32, {"preset": "tiny", "channel_base": 4096, "path_length_weight": 2.0}),
}
ARMS = {
    "none": {"augment": "none"},
    "p 0.1": {"augment": "fixed", "p": 0.1, "target": None},
    "p 0.6": {"augment": "fixed", "p": 0.6, "target": None},
}


def one_process(job: str) -> None:
    """Trains one arm and prints its seconds per kimg and peak bytes as JSON."""
    import torch

    import frugan

    options = json.loads(job)
    torch.set_num_threads(options.pop("threads"))
    data, kimg = options.pop("data"), options.pop("kimg")
    with tempfile.TemporaryDirectory() as folder:
        records = list(frugan.train(data, Path(folder) / "run", kimg=kimg * 2, tick=kimg, **options))
    last = records[-1]
    print(json.dumps([last["seconds_per_kimg"], last.get("memory_bytes", last["host_memory_bytes"])]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--rounds", type=int, default=3, help="processes per arm")
    parser.add_argument("--kimg", type=float, default=1.024, help="counted per process, after as many to warm up")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        one_process(args.job)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        columns = [*(f"{arm}, s/kimg" for arm in ARMS), *(f"{arm} adds" for arm in ARMS if arm != "none"), "peak MB"]
        print(f"| case | {' | '.join(columns)} |")
        print(f"|---{'|--:' * len(columns)}|")
        for name, (size, options) in CASES.items():
            data = Path(folder) / f"noise-{size}.npy"
            np.save(data, np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8))
            shared = {k: getattr(args, k) for k in ("device", "threads", "precision", "kimg")} | {"data": str(data)}
            found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
            for _ in range(args.rounds):
                for arm, choice in ARMS.items():
                    job = json.dumps(shared | options | choice)
                    done = subprocess.run([sys.executable, __file__, "--job", job], check=True, stdout=subprocess.PIPE)
                    found[arm].append(json.loads(done.stdout.splitlines()[-1]))
            seconds = {arm: [s for s, _ in rows] for arm, rows in found.items()}
            middle = {arm: statistics.median(s) for arm, s in seconds.items()}
            times = [f"{middle[arm]:.2f} ({min(s):.2f}–{max(s):.2f})" for arm, s in seconds.items()]
            added = [f"{middle[arm] / middle['none'] - 1:.0%}" for arm in ARMS if arm != "none"]
            peaks = " / ".join(f"{max(peak for _, peak in rows) / 1e6:.0f}" for rows in found.values())
            print(f"| {name} | {' | '.join(times)} | {' | '.join(added)} | {peaks} |", flush=True)


if __name__ == "__main__":
    main()
