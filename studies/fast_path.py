"""Does speed cost quality?

Question: bfloat16, channels-last, with weights shared in a batch and filters folded, against the same networks computed by their
definitions in float32: are losses, heuristics and distances the same to within what seeds do? And fast in float32, to tell
precision from operations.

    PYTHONPATH=. python studies/fast_path.py --seeds 0 1 2 --kimg 40

Images: 1,000 `critters` avatars at 32² (CC0) to train on, 3,000 held out as the reference. Network: preset `tiny` with ADA. All
arms of a seed begin with the same weights and draw the same numbers.
Measure: KID over all pairs, EfficientNet-Lite0 features; mean losses of the second half. Results:
docs/project/notebook/performance.md.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks import reference
from frugan.data import DataConfig
from frugan.tracking import read_stats
from harness import arguments, avatars, finish, workers

ARMS = {"definitions-fp32": "fp32", "fast-fp32": "fp32", "fast-bf16": "bf16"}
FIGURES = ("metric/kid_full", "loss/generator", "loss/discriminator", "penalty/r1", "r_t", "p", "seconds_per_kimg")


def one_run(out: Path, data: DataConfig, kimg: float, threads: int, options: dict[str, Any]) -> str:
    if out.name.startswith("definitions"):
        reference.specification()
    return finish(out, data, kimg, threads, options)


def figures(run: Path) -> dict[str, float]:
    """The last distance, and means over the second half of the run."""
    records = read_stats(run / "stats.jsonl")
    late = [r for r in records if r["kimg"] > records[-1]["kimg"] / 2]
    found = {name: [r[name] for r in late if r.get(name) is not None] for name in FIGURES}
    return {k: v[-1] if k.startswith("metric") else statistics.fmean(v) for k, v in found.items() if v}


def main() -> None:
    args = arguments(__doc__, out="fast-path", kimg=40).parse_args()
    data = DataConfig(str(avatars("critters", 4000, args.out / "images")), held_out=3000)
    common = {"evaluate_kimg": args.kimg / 2, "evaluate_samples": args.samples, "metrics": "kid_full", "tick_kimg": 1}
    runs = {
        (seed, arm): (args.out / f"{arm}-seed{seed}", common | {"seed": seed, "precision": precision})
        for seed in args.seeds
        for arm, precision in ARMS.items()
    }
    with workers(args.jobs) as pool:
        jobs = [pool.submit(one_run, out, data, args.kimg, args.threads, options) for out, options in runs.values()]
        for job in jobs:
            print("finished", job.result(), flush=True)

    found = {key: figures(out) for key, (out, _) in runs.items()}
    print("| arm | seed | " + " | ".join(FIGURES) + " |\n|---|--:|" + "--:|" * len(FIGURES))
    for (seed, arm), values in found.items():
        print(f"| {arm} | {seed} | " + " | ".join(f"{values.get(name, float('nan')):.4g}" for name in FIGURES) + " |")
    slow = [found[seed, "definitions-fp32"] for seed in args.seeds]
    for arm in list(ARMS)[1:]:
        print(f"\n| {arm}, minus definitions | mean | its standard error | spread of seeds |\n|---|--:|--:|--:|")
        for name in FIGURES[:-1]:
            gaps = [found[seed, arm][name] - one[name] for seed, one in zip(args.seeds, slow)]
            error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
            spread = statistics.stdev([one[name] for one in slow]) if len(slow) > 1 else float("nan")
            print(f"| {name} | {statistics.fmean(gaps):+.3g} | {error:.3g} | {spread:.3g} |")


if __name__ == "__main__":
    main()
