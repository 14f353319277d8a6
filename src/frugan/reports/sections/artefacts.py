"""Artefacts: leaked augmentations, spectrum, histograms and sharpness of samples against real images, each with its floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from frugan.errors import FruganError
from frugan.images import to_float, to_pixels
from frugan.leaks import fitting, measure_leaks
from frugan.metrics import auc_estimate
from frugan.reports import blocks
from frugan.reports.context import MOST_COMPARED, Context, some_of
from frugan.reports.looks import Array, histogram_distance, histograms, sharpness, spectra, wasserstein
from frugan.reports.store import Findings
from frugan.tracking.report.charts import Chart, Series
from frugan.tracking.text import number

SPLITS = 20
FINE = 0.25
"""Cycles per pixel from which on a frequency counts as fine: the upper half of what a pixel grid holds."""
_BINS = 64
_FEWEST = 20  # real images to be halved
_COUNTED = 64  # images whose histograms are counted at once: 65,536 values each at 16 bits


@dataclass(frozen=True)
class Comparison:
    """A distance between samples and real images; `floor`: the largest of those between two halves of the real images, but for
    the upper 2.5 %."""

    distance: float
    floor: float

    @property
    def above_floor(self) -> bool:
        return self.distance > self.floor


def examine(context: Context) -> Findings:
    """Pixels of samples against pixels of real images, at the images' own bit depth."""
    subject = context.subject
    images = subject.require_real()
    count = min(len(images), context.settings.samples, MOST_COMPARED)
    if count < _FEWEST:
        raise FruganError(f"{count} real images are too few to compare pixels; give {_FEWEST} or more")
    real_pixels = images[some_of(images, count, context.settings.seed)]
    real = to_float(torch.from_numpy(real_pixels))
    made = context.samples(min(context.settings.samples, MOST_COMPARED))
    made_pixels = to_pixels(made, subject.depth)
    made = to_float(torch.from_numpy(made_pixels))
    found = Findings(blocks=[blocks.paragraph(f"{len(made):,} samples against {count:,} {subject.real_name}.")])
    _leaks(context, found, made)
    _spectrum(found, real, made)
    if subject.depth > 16:  # too many values to count
        real_pixels, made_pixels = to_pixels(real, 16), to_pixels(made, 16)
    _values(found, real_pixels, made_pixels, min(subject.depth, 16))
    _sharpness(found, real, made)
    return found


def _leaks(context: Context, found: Findings, made: torch.Tensor) -> None:
    """Whether samples look augmented, beside training images: unseen ones may differ from them."""
    images = context.subject.train or context.subject.require_real()
    real = to_float(torch.from_numpy(images[some_of(images, len(made))]))
    try:
        leaks = measure_leaks(made, real, fitting(real.shape[1], (real.shape[2], real.shape[3])))
    except FruganError as error:
        found.numbers["leaks"] = {"missing": str(error)}
        found.blocks.append(blocks.paragraph(f"Leaks were not measured: {error}.", kind="note"))
        return
    found.numbers["leaks"] = {leak.name: leak.to_dict() for leak in leaks}
    rows = [(leak.about, leak.sentence()) for leak in leaks]
    note = "A share is that of samples which look as if that augmentation had carried them off."
    found.blocks.append(blocks.table("Leaks of augmentations", ("augmentation", "finding"), rows, note=note))


def _against_halves(statistic: Callable[[Any, Any], float], real: Array, made: Array) -> Comparison:
    """The statistic of all rows of both, and of random halves of the real rows."""
    rng = np.random.default_rng(0)
    halves = []
    for _ in range(SPLITS):
        order = rng.permutation(len(real))
        halves.append(statistic(real[order[: len(order) // 2]], real[order[len(order) // 2 :]]))
    return Comparison(statistic(real, made), float(np.quantile(halves, 0.975)))


def _spectrum(found: Findings, real: torch.Tensor, made: torch.Tensor) -> None:
    frequencies, ours = spectra(real)
    theirs = spectra(made)[1]
    fine = frequencies >= FINE

    def largest(a: Array, b: Array) -> float:
        return float(np.abs(a.mean(0) - b.mean(0)).max())

    result = _against_halves(largest, ours, theirs)
    gap = theirs.mean(0) - ours.mean(0)
    found.numbers["spectrum"] = {
        "largest_difference_db": result.distance,
        "floor_db": result.floor,
        "fine_difference_db": float(gap[fine].mean()),
    }
    series = [_band("real", ours, "real"), _band("generated", theirs, "generated")]
    note = (
        f"Mean and standard deviation over images. The means differ by {result.distance:.2g} dB at most; halves of the real "
        f"images by up to {result.floor:.2g} dB. In fine detail (from {FINE:g} cycles per pixel) samples have "
        f"{gap[fine].mean():+.2g} dB."
    )
    found.blocks.append(
        blocks.chart(Chart("Power spectrum, dB", frequencies.tolist(), series, note, x_label="cycles per pixel"))
    )


def _band(label: str, values: Array, color: str) -> Series:
    mean, std = values.mean(0), values.std(0)
    return Series(label, _short(mean), color, _short(mean - std), _short(mean + std))


def _short(values: Array) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


def _values(found: Findings, real: np.ndarray, made: np.ndarray, depth: int) -> None:
    """Histograms of each channel at the images' depth; extremes are the values 0 and the largest."""
    ours, theirs = _summed(real), _summed(made)
    names = _channel_names(real.shape[3])
    rows, numbers = [], {}
    for k, name in enumerate(names):
        result = _against_halves(lambda a, b: histogram_distance(a.mean(0), b.mean(0)), ours[:, k], theirs[:, k])
        a, b = ours[:, k].mean(0), theirs[:, k].mean(0)
        numbers[name] = {
            "distance": result.distance,
            "floor": result.floor,
            "extremes_real": float(a[0] + a[-1]),
            "extremes_generated": float(b[0] + b[-1]),
        }
        rows.append(
            (name, f"{result.distance:.4f}", f"{result.floor:.4f}", f"{a[0] + a[-1]:.2%}", f"{b[0] + b[-1]:.2%}")
        )
        found.blocks.append(blocks.chart(_value_chart(name, a, b, depth)))
    found.numbers["values"] = {"depth": depth, "channels": numbers}
    columns = ("channel", "distance", "between halves of real images, up to", "extremes, real", "extremes, generated")
    note = (
        f"1-Wasserstein distance of the {1 << depth:,} values of {depth} bits, as a share of their range; extremes: share of "
        "pixels at either end."
    )
    found.blocks.append(blocks.table("Values", columns, rows, note=note))


def _summed(pixels: np.ndarray) -> Array:
    """Histograms `[G, C, V]`: of each image at 8 bits; at 16, where each has 65,536 values, of groups of images."""
    group = 1 if pixels.dtype == np.uint8 else max(1, len(pixels) // _COUNTED)
    parts = [histograms(pixels[i : i + group]).mean(0) for i in range(0, len(pixels) - len(pixels) % group, group)]
    return np.stack(parts)


def _channel_names(count: int) -> list[str]:
    known = {1: ["grey"], 2: ["grey", "alpha"], 3: ["red", "green", "blue"], 4: ["red", "green", "blue", "alpha"]}
    return known.get(count) or [f"channel {k}" for k in range(count)]


def _value_chart(name: str, real: Array, made: Array, depth: int) -> Chart:
    bins = [part.astype(np.float64).reshape(_BINS, -1).sum(1) for part in (real, made)]
    edges = np.linspace(0, (1 << depth) - 1, _BINS + 1)
    series = [Series(label, [*_short(part), 0.0], label) for label, part in zip(("real", "generated"), bins)]
    note = f"Share of pixels in each of {_BINS} bins of the values at {depth} bits."
    return Chart(f"Values, {name}", edges.tolist(), series, note, kind="histogram", x_label="value")


def _sharpness(found: Findings, real: torch.Tensor, made: torch.Tensor) -> None:
    if min(real.shape[2:]) < 3:
        return
    ours, theirs = sharpness(real), sharpness(made)
    result = _against_halves(wasserstein, ours, theirs)
    sharper = auc_estimate(theirs, ours)
    found.numbers["sharpness"] = {
        "real_median": float(np.median(ours)),
        "generated_median": float(np.median(theirs)),
        "chance_sharper": sharper.value,
        "chance_sharper_interval": [sharper.low, sharper.high],
        "distance": result.distance,
        "floor": result.floor,
    }
    low, high = np.quantile(np.concatenate([ours, theirs]), (0.001, 0.999))
    edges = np.linspace(low, max(high, low + 1e-6), _BINS // 2 + 1)
    shares = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for v in (ours, theirs)]
    series = [Series(label, [*_short(s), 0.0], label) for label, s in zip(("real", "generated"), shares)]
    note = (
        f"Standard deviation of each image's Laplacian. A sample is sharper (or noisier) than a real image with chance "
        f"{sharper.value:.2f} (95 % {sharper.low:.2f} to {sharper.high:.2f}); 0.5 is no "
        f"difference. Medians: {number(float(np.median(ours)))} real, "
        f"{number(float(np.median(theirs)))} generated."
    )
    found.blocks.append(
        blocks.chart(
            Chart("Sharpness", edges.tolist(), series, note, kind="histogram", x_label="deviation of the Laplacian")
        )
    )
