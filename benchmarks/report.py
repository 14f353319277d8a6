"""What the parts of `frugan report` cost, by the count of samples and the size of images.

python -m benchmarks.report                         # all of them
python -m benchmarks.report --counts 2000 --sizes 128 --only fld
python -m benchmarks.report --whole --counts 1000 --sizes 64      # a whole report, by section

Parts that look at features get random ones, [N, 1280] as EfficientNet-Lite0's, N samples beside N training and N unseen images.
Parts that look at images get 200 random ones of each kind; the generator is untrained, of preset tiny: times do not depend on its
weights. Each part runs in a process of its own, on one thread. CPU seconds hold on a machine that is busy, too; the peak of
memory is the process's, what is imported and the images included.

Whole reports are of a run of two classes, preset tiny, that has made a few steps: 1,000 random images to train on and 1,000
held out. Features of real images are computed in it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import frugan
from frugan.leaks import fitting, measure_leaks
from frugan.metrics import METRICS, Evidence, Examples, FeatureSet, load_features, sample_images, utility
from frugan.metrics.resampling import floor, half_sample_intervals
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig
from frugan.reports.looks import histograms, sharpness, spectra
from frugan.run.membership import RECONSTRUCTED_AT_ONCE, membership_scores

IMAGES, WHOLE_IMAGES = 200, 1000
OF_FEATURES = (
    "kid_full",
    "fid",
    "fid_infinity",
    "precision",
    "density",
    "memorisation",
    "c_t",
    "authenticity",
    "fld",
    "membership",
)

WITH_FLOOR = ("kid_full", "precision", "density")


def of_features(name: str, count: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    real, made, train = (FeatureSet(rng.normal(size=(count, 1280)).astype(np.float32)) for _ in range(3))
    return lambda: METRICS[name].measure(Evidence(real, made, train=train))


def intervals(name: str, count: int) -> Callable[[], object]:
    """A metric's interval and floor."""
    rng, statistic = np.random.default_rng(0), METRICS[name].statistic
    real, made = (rng.normal(size=(count, 1280)).astype(np.float32) for _ in range(2))
    assert statistic is not None
    return lambda: (half_sample_intervals(statistic, real, made, repeats=25), floor(statistic, real))


def of_images(name: str, size: int) -> Callable[[], object]:
    synthesis = SynthesisConfig(channel_base=512, channel_max=128)
    G = (
        Generator(GeneratorConfig((size, size), 3, z_dim=128, w_dim=128, synthesis=synthesis))
        .eval()
        .requires_grad_(False)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    numbers = np.arange(IMAGES)
    masks = (numbers % 2)[:, None, None] * np.ones((size, size), np.uint8)
    parts: dict[str, Callable[[], object]] = {
        "samples": lambda: [*sample_images(G, range(IMAGES))],
        "features": lambda: [load_features("efficientnet-lite0")(some) for some in images.split(64)],
        "spectrum, values, sharpness": lambda: (spectra(images), histograms(pixels), sharpness(images)),
        "leaks": lambda: measure_leaks(images, images.flip(0), fitting(3, (size, size))),
        "reconstruction of 8": lambda: _reconstruct(G, pixels[:RECONSTRUCTED_AT_ONCE]),
        "usefulness, classes": lambda: utility("classes", *[Examples(pixels, numbers % 2)] * 3),
        "usefulness, masks": lambda: utility("mask", *[Examples(pixels, masks.astype(np.uint8))] * 3),
    }
    return parts[name]


IMAGE_PARTS = (
    "samples", "features", "spectrum, values, sharpness", "leaks", "reconstruction of 8", "usefulness, classes",
    "usefulness, masks",
)  # fmt: skip


def _reconstruct(G: Generator, pixels: np.ndarray) -> Any:
    scores, _ = membership_scores(Path("none"), G, torch.device("cpu"))
    return scores["reconstruction"].score(pixels, None)


def _measured(make: Callable[[], Callable[[], object]], out: Any) -> None:
    torch.set_num_threads(1)
    work = make()
    used = time.process_time()
    work()
    out.put((time.process_time() - used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def _train(out: Path, size: int) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2 * WHOLE_IMAGES, size // 8, size // 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(8, axis=1).repeat(8, axis=2)
    labels = np.arange(len(pixels)) % 2
    np.savez(out / "images.npz", images=pixels, labels=labels, allow_pickle=False)
    options: dict[str, Any] = {"preset": "tiny", "kimg": 0.064, "batch": 16, "labels": "auto"}
    for _ in frugan.train(out / "images.npz", out / "run", conditional=True, held_out=WHOLE_IMAGES, **options):
        pass


def _report(run: Path, samples: int, out: Any) -> None:
    """Puts (section, processor seconds until its end), then the peak of memory."""
    torch.set_num_threads(1)

    def told(sentence: str) -> None:
        out.put((sentence, time.process_time()))

    frugan.report(run, run.parent / f"report-{samples}", samples=samples, features=("efficientnet-lite0",), told=told)
    out.put(("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def measure_whole(size: int, samples: int) -> None:
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for target, args in (
            (_train, (Path(folder), size)),
            (_report, (Path(folder) / "run", samples, out := context.Queue())),
        ):
            process = context.Process(target=target, args=args)
            process.start()
            process.join()
            assert process.exitcode == 0
        before = total = 0.0
        while (found := out.get(timeout=60))[0] != "memory":
            total = found[1]
            print(f"| {size}, {samples:,} | {found[0]} (clock) | {total - before:.1f} | |", flush=True)
            before = total
        print(f"| {size}, {samples:,} | all | {total:.1f} | {found[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 2000, 5000])
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--only", nargs="+", help="names of parts")
    parser.add_argument("--whole", action="store_true", help="whole reports in place of their parts")
    args = parser.parse_args()
    if args.whole:
        print("| size, samples | section | processor, s | memory, GB |\n|---|---|--:|--:|")
        for size in args.sizes:
            for count in args.counts:
                measure_whole(size, count)
        return
    jobs: list[tuple[str, int, Callable[[], Callable[[], object]]]] = [
        *((name, n, partial(of_features, name, n)) for n in args.counts for name in OF_FEATURES),
        *((f"interval of {name}", n, partial(intervals, name, n)) for n in args.counts for name in WITH_FLOOR),
        *((name, size, partial(of_images, name, size)) for size in args.sizes for name in IMAGE_PARTS),
    ]  # fmt: skip
    print("| part | samples, or size | processor, s | memory, GB |\n|---|--:|--:|--:|")
    context = get_context("fork")  # imported once; nothing was computed yet
    for name, n, make in jobs:
        if args.only and name not in args.only:
            continue
        out = context.Queue()
        process = context.Process(target=_measured, args=(make, out))
        process.start()
        process.join()
        seconds, memory = out.get()
        print(f"| {name} | {n:,} | {seconds:.1f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
