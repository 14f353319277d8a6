"""What augmentation costs: milliseconds per image, drawing included, for `bgc` at p = 0.6.

    python benchmarks/augment.py [--device cuda] [--threads 2] [--transforms bgc] [--p 0.6]

Prints one line per image size: draw alone, forward (draw + apply), forward + backward. Best of several runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from frugan.augment import AugmentConfig, AugmentPipeline, parse_transforms

SIZES = {32: 16, 64: 16, 256: 4}  # resolution: batch


def milliseconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Best mean time of one call."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    run()
    best = float("inf")
    for _ in range(5):
        start = now()
        for _ in range(repeats):
            run()
        best = min(best, (now() - start) / repeats)
    return best * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--transforms", default="bgc")
    parser.add_argument("--p", type=float, default=0.6)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    config = AugmentConfig(parse_transforms(args.transforms))
    print(f"{args.transforms}, p = {args.p}, {args.device}, {args.threads} threads, torch {torch.__version__}")
    print("resolution  batch  draw  forward  forward + backward   [ms per image]")
    for resolution, batch in SIZES.items():
        pipeline = AugmentPipeline(config, channels=3, resolution=(resolution, resolution), device=args.device)
        generator = torch.Generator(args.device).manual_seed(0)
        images = torch.rand(batch, 3, resolution, resolution, device=args.device, requires_grad=True)
        weights = torch.rand_like(images)

        def draw(pipeline=pipeline, generator=generator, batch=batch) -> object:
            return pipeline.draw(batch, args.p, generator=generator)

        def forward(pipeline=pipeline, generator=generator, images=images) -> object:
            with torch.no_grad():
                return pipeline(images, args.p, generator=generator)

        def both(pipeline=pipeline, generator=generator, images=images, weights=weights) -> object:
            return torch.autograd.grad(pipeline(images, args.p, generator=generator), images, weights)

        times = [milliseconds(run, args.device, max(1, 640 // resolution)) / batch for run in (draw, forward, both)]
        print(f"{resolution:10}  {batch:5}  {times[0]:4.3f}  {times[1]:7.3f}  {times[2]:18.3f}")


if __name__ == "__main__":
    main()
