"""Do the metrics order images as they should, and find what was simulated?

Question: with the offline network, do distances grow with noise, blur, lost modes and duplicates; are two halves of one set as
near as KID's own error allows; and are training images found among "generated" ones?

    python studies/metrics_sanity.py

Images: `critters` avatars at 32² (CC0): 5,000 as the reference, 1,000 to "train" on, 1,000 others to change. The result
stands in docs/reference/metrics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from frugan.data import DataConfig, open_dataset
from frugan.data.tools import draw_avatars
from frugan.images import to_float
from frugan.metrics import METRICS, Evidence, FeatureSet, load_features

REFERENCE, TRAIN, OTHERS = 5000, 1000, 1000


def changed(pixels: np.ndarray, train: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    yield "1,000 others, unchanged", pixels
    yield "colour channels exchanged", pixels[..., ::-1]
    for radius in (0.5, 1.0):
        blur = ImageFilter.GaussianBlur(radius)
        yield f"Gaussian blur, {radius:g} pixels", each(pixels, lambda image, blur=blur: image.filter(blur))
    for sigma in (4, 16):
        noisy = pixels + rng.normal(0, sigma, pixels.shape)
        yield f"Gaussian noise, σ = {sigma} of 255", noisy.round().clip(0, 255).astype(np.uint8)
    yield "uniform noise", rng.integers(0, 256, pixels.shape, dtype=np.uint8)
    warm = np.sort(np.argsort(pixels[:, -1, 0, 0].astype(int) - pixels[:, -1, 0, 2])[-500:])
    yield "half of the modes: the 500 with the warmest backgrounds", pixels[np.repeat(warm, 2)]
    for kept in (200, 50):
        yield (
            f"duplicates: {kept} of them, {OTHERS // kept} times each",
            np.repeat(pixels[:kept], OTHERS // kept, axis=0),
        )
    for share in (0.02, 0.1, 0.5):
        copies = round(share * OTHERS)
        yield f"{share:.0%} are training images", np.concatenate([train[:copies], pixels[copies:]])


def each(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in pixels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/metrics-sanity"))
    args = parser.parse_args()
    images = args.out / "images"
    if not images.exists():
        draw_avatars("critters", REFERENCE + TRAIN + OTHERS, 32, images)
    pixels = np.array(open_dataset(DataConfig(str(images), channels="RGB")).pixels)
    network = load_features("efficientnet-lite0")

    def features(some: np.ndarray) -> FeatureSet:
        batches = (to_float(torch.from_numpy(np.ascontiguousarray(some[i : i + 64]))) for i in range(0, len(some), 64))
        return FeatureSet(np.concatenate([network(batch).numpy() for batch in batches]))

    real, train = features(pixels[:REFERENCE]), features(pixels[REFERENCE : REFERENCE + TRAIN])
    names = ("kid_full", "fid", "fid_infinity", "precision", "recall", "density", "coverage", "memorisation", "copied")
    print(f"| images | {' | '.join(names).replace('kid_full', 'kid_full × 1000')} |")
    print(f"|---{'|--:' * len(names)}|")
    for label, some in changed(pixels[REFERENCE + TRAIN :], pixels[REFERENCE : REFERENCE + TRAIN]):
        evidence, values = Evidence(real, features(some), train=train), {}
        for name in names:
            metric = METRICS.get(name)
            if metric and name not in values:
                values |= metric.measure(evidence).values
        values["kid_full"] *= 1000
        print(f"| {label} | {' | '.join(f'{values[name]:.3g}' for name in names)} |", flush=True)

    halves = np.random.default_rng(0).permutation(REFERENCE)
    a, b = (FeatureSet(real.features[rows]) for rows in (halves[: REFERENCE // 2], halves[REFERENCE // 2 :]))
    halved = METRICS["kid"].measure(Evidence(a, b)).values
    kid, kid_std = halved["kid"] * 1e3, halved["kid_std"] * 1e3
    print(f"\ntwo halves of the reference: kid × 1000 {kid:.2f} ± {kid_std:.2f} (one subset of 1,000)")


if __name__ == "__main__":
    main()
