"""Whether a long run stays flat: memory and speed, sampled at every tick, and their slopes.

    python benchmarks/soak.py [--minutes 60] [--device cpu] [--threads 2] [--size 32] [--out soak.jsonl]

One process trains on noise with checkpoints, sample grids and the page as in a real run. The first tenth warms up and
is not counted. A slope is the least-squares line over the rest, per hour; Theil–Sen's median of slopes stands beside it,
which a few slow ticks do not move.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import frugan

PER_HOUR = 3600


def resident() -> int:
    """Bytes of this process in memory now, not at its peak."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def slopes(hours: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """(least squares, median of the slopes between all pairs), in units of values per hour."""
    i, j = np.triu_indices(len(hours), 1)
    return float(np.polyfit(hours, values, 1)[0]), float(np.median((values[j] - values[i]) / (hours[j] - hours[i])))


def soak(args: argparse.Namespace) -> list[dict[str, float]]:
    torch.set_num_threads(args.threads)
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "noise.npy"
        np.save(data, np.random.default_rng(0).integers(0, 256, (256, args.size, args.size, 3), dtype=np.uint8))
        started = time.perf_counter()
        ended = lambda: time.perf_counter() - started > 60 * args.minutes  # noqa: E731
        run = frugan.train(
            data, Path(folder) / "run", device=args.device, stop=ended, preset="tiny", kimg=10**6, tick_kimg=args.tick,
            samples_kimg=10 * args.tick, checkpoint_kimg=10 * args.tick, held_out=32,
        )  # fmt: skip
        for record in run:
            on_device = torch.cuda.memory_allocated() if args.device.startswith("cuda") else 0
            samples.append(
                {
                    "hours": (time.perf_counter() - started) / PER_HOUR,
                    "kimg": record["kimg"],
                    "MB resident": resident() / 1e6,
                    "MB on the device": on_device / 1e6,
                    "objects": float(len(gc.get_objects())),
                    "s/kimg": record["seconds_per_kimg"],
                }
            )
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--tick", type=float, default=0.256, help="kimg between samples")
    parser.add_argument("--out", type=Path, help="where to keep the samples, as JSON lines")
    args = parser.parse_args()
    samples = soak(args)
    if args.out:
        args.out.write_text("".join(json.dumps(s) + "\n" for s in samples))
    kept = samples[len(samples) // 10 : -1]  # the last tick is cut short
    print(f"{samples[-1]['hours'] * 60:.1f} minutes, {samples[-1]['kimg']:.1f} kimg, {len(kept)} samples counted")
    if len(kept) < 3:
        raise SystemExit("too few samples for a slope; let it run longer, or lower --tick")
    print("| figure | first | last | slope per hour | median slope per hour |\n|---|--:|--:|--:|--:|")
    hours = np.array([s["hours"] for s in kept])
    for name in ("MB resident", "MB on the device", "objects", "s/kimg"):
        values = np.array([s[name] for s in kept])
        fit, median = slopes(hours, values)
        print(f"| {name} | {values[0]:.4g} | {values[-1]:.4g} | {fit:+.3g} | {median:+.3g} |")


if __name__ == "__main__":
    main()
