"""Time and memory of the metrics themselves, against torchmetrics on the same features.

    python benchmarks/metrics.py --samples 5000 --threads 2

Each case runs in a process of its own, ours and theirs in turn; the features (float32, EfficientNet's 1280 dimensions) come
in batches of 64, as from a network. Memory is the peak resident size above that of the process before its first batch.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch

BATCH = 64


def batches(n: int, dimension: int, seed: int) -> Iterator[np.ndarray]:
    """Correlated, skewed features: a random linear mixture, rectified."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((dimension, dimension)).astype(np.float32) / dimension**0.5
    rng = np.random.default_rng(seed)
    for start in range(0, n, BATCH):
        x = rng.standard_normal((min(BATCH, n - start), dimension)).astype(np.float32)
        yield np.maximum(x @ mixing + 0.05 * seed, 0)


def ours_fid(n: int, dimension: int) -> float:
    from frugan.metrics import Moments, frechet_distance

    a, b = (Moments.of(batches(n, dimension, seed)) for seed in (1, 2))
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def ours_kid(n: int, dimension: int) -> float:
    from frugan.metrics import kernel_distance

    real, generated = (np.concatenate(list(batches(n, dimension, seed))) for seed in (1, 2))
    return kernel_distance(real, generated)[0]


class Same(torch.nn.Module):
    """The features are the images."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def theirs(metric: Callable[[torch.nn.Module], torch.nn.Module], n: int, dimension: int) -> float:
    found = metric(Same(dimension))
    for seed, real in ((1, True), (2, False)):
        for batch in batches(n, dimension, seed):
            found.update(torch.from_numpy(batch), real=real)
    value = found.compute()
    return float(value[0] if isinstance(value, tuple) else value)


def theirs_fid(n: int, dimension: int) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return theirs(lambda same: FrechetInceptionDistance(feature=same, input_img_size=(1, 1, 1)), n, dimension)


def theirs_kid(n: int, dimension: int) -> float:
    from torchmetrics.image.kid import KernelInceptionDistance

    return theirs(lambda same: KernelInceptionDistance(feature=same, subsets=100, subset_size=1000), n, dimension)


CASES = {"fid": (ours_fid, theirs_fid), "kid": (ours_kid, theirs_kid)}


def one(case: str, who: int, n: int, dimension: int, threads: int) -> dict[str, float]:
    """In this process: the value, seconds without the making of features, and peak memory in MB."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    run = CASES[case][who]
    run(1100, 16)  # imports
    started = time.perf_counter()
    for seed in (1, 2):
        for _ in batches(n, dimension, seed):
            pass
    making = time.perf_counter() - started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    value = run(n, dimension)
    seconds = time.perf_counter() - started - making
    return {
        "value": value,
        "seconds": seconds,
        "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[5000])
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], int(args.one[1]), args.samples[0], args.dimension, args.threads)))
        return
    environment = {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads), "PATH": ""}
    print("| metric | samples | ours, value | s | MB | torchmetrics, value | s | MB | ours / theirs, time |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for n in args.samples:
        for case in CASES:
            found: tuple[list[dict[str, float]], ...] = ([], [])
            for _ in range(args.rounds):
                for who in (0, 1):
                    options = ["--samples", str(n), "--dimension", str(args.dimension), "--threads", str(args.threads)]
                    command = [sys.executable, __file__, *options, "--one", case, str(who)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                    found[who].append(json.loads(done.stdout))
            cells, medians = [], []
            for rows in found:
                median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                cells.append(f"{median['value']:.5g} | {median['seconds']:.2f} | {median['mb']:.0f}")
                medians.append(median["seconds"])
            print(f"| {case} | {n} | {cells[0]} | {cells[1]} | {medians[0] / medians[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
