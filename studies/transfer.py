"""Does a network trained on other pictures help when there are only a hundred, and what keeps it from overfitting?

Question: adapt to 100 pictures of one style a network trained on 5,000 of another, with and without Freeze-D and ADA, and
compare with training from scratch. In Karras et al. 2020, Fig. 9, plain transfer falls steeply and then diverges, Freeze-D
alone slows that, ADA stops it, and both together are best by a little.

    python studies/transfer.py --seeds 0 1 --kimg 60 --jobs 2

Pictures: 32² avatars (CC0), `critters` as the source, `pixel-art` as the target, 5,000 more of which are held out as the
reference. Network: preset `tiny`. Measure: KID over all pairs, EfficientNet-Lite0 features. Every run resumes where it
stopped. The result stands in docs/results.md.
"""

from __future__ import annotations

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import frugan
from frugan.data import DataConfig, draw_avatars
from frugan.run import Run
from frugan.tracking import read_stats

FREEZE = {"freeze_d": "4"}  # the block of 32 pixels
ARMS: dict[str, tuple[bool, dict[str, Any]]] = {
    "scratch": (False, {"augment": "none"}),
    "transfer": (True, {"augment": "none"}),
    "transfer + Freeze-D": (True, {"augment": "none", **FREEZE}),
    "transfer + ADA": (True, {}),
    "transfer + ADA + Freeze-D": (True, FREEZE),
}
"""By name: whether it starts from the source, and options."""


def finish(out: Path, threads: int, kimg: float, pictures: Path, held_out: int = 0, **options: Any) -> str:
    """Trains to `kimg`, from wherever the run is."""
    torch.set_num_threads(threads)
    if (out / "config.yaml").exists():
        records = Run(out).train(kimg=kimg)
    else:
        data = DataConfig(path=str(pictures), held_out=held_out)
        records = frugan.train(data, out, preset="tiny", kimg=kimg, **options)
    for _ in records:
        pass
    return out.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="critters", help="style that the first network is trained on")
    parser.add_argument("--target", default="pixel-art", help="style that it is adapted to")
    parser.add_argument("--size", type=int, default=100, help="pictures of the target to train on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--source-kimg", type=float, default=150)
    parser.add_argument("--kimg", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, help="kimg between evaluations")
    parser.add_argument("--samples", type=int, default=2000, help="generated pictures in one")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads a run")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    args = parser.parse_args()

    counts = {"source": (args.source, 5000), "target": (args.target, args.size + 5000)}
    for name, (style, count) in counts.items():
        if not (args.out / f"{name}-pictures").exists():
            draw_avatars(style, count, 32, args.out / f"{name}-pictures")
    source = args.out / "source"
    finish(source, args.threads * args.jobs, args.source_kimg, args.out / "source-pictures")

    runs = {
        (arm, seed): args.out / f"{arm.replace(' + ', '-').lower()}-seed{seed}"
        for seed, arm in itertools.product(args.seeds, args.arms)
    }
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = []
        for (arm, seed), out in runs.items():
            transfers, options = ARMS[arm]
            options = {"seed": seed, "tick": 2, **options, **({"init_from": str(source)} if transfers else {})}
            options |= {"evaluate_every": args.every, "evaluate_samples": args.samples, "metrics": "kid_full"}
            job = (finish, out, args.threads, args.kimg, args.out / "target-pictures", 5000)
            jobs.append(pool.submit(*job, **options))
        for job in jobs:
            print("finished", job.result(), flush=True)

    print(
        "\n| arm | seed | KID·10³ by kimg | best | last | r_t | r_v | p | s/kimg |\n|---|--:|---|--:|--:|--:|--:|--:|--:|"
    )
    for (arm, seed), out in runs.items():
        records = read_stats(out / "stats.jsonl")
        curve = [(r["kimg"], r["metric/kid_full"] * 1e3) for r in records if r.get("metric/kid_full") is not None]
        end = [r for r in records if r["kimg"] > records[-1]["kimg"] - args.every]
        tail = {k: sum(r[k] for r in end) / len(end) for k in ("r_t", "r_v", "p", "seconds_per_kimg")}
        print(
            f"| {arm} | {seed} | {' '.join(f'{v:.0f}@{k:.0f}' for k, v in curve)} | {min(v for _, v in curve):.0f} | "
            f"{curve[-1][1]:.0f} | {tail['r_t']:.2f} | {tail['r_v']:.2f} | {tail['p']:.2f} | {tail['seconds_per_kimg']:.2f} |"
        )


if __name__ == "__main__":
    main()
