"""Plots of leaks, after Figures 3 and 4 of Karras et al. 2020: the smallest eigenvalue of transforms, and the leaks of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from frugan.errors import FruganError
from frugan.files import replacing
from frugan.images import SOFTWARE_KEY, software
from frugan.leaks.groups import GROUPS
from frugan.leaks.recovery import UNRECOVERABLE
from frugan.leaks.shares import Leak
from frugan.leaks.spectra import SPECTRA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RunLeaks:
    """The leaks of one run.

    Attributes:
        name: of the run.
        p: its augmentation probability.
        leaks: the answer to each question.
        samples: some generated images as one row, uint8 `[H, W, C]`.
        distance: of the generator from real images, by a metric, or None if it was not measured.
    """

    name: str
    p: float
    leaks: list[Leak]
    samples: np.ndarray
    distance: float | None = None


def smallest(name: str, p: float, side: int) -> float:
    """The smallest factor by which a transform scales a difference between distributions: 0 where it leaks.

    Args:
        name: a key of `GROUPS` or `SPECTRA`.
        p: the probability of the transform.
        side: of the images in pixels.
    """
    if name in GROUPS:
        return float(abs(GROUPS[name].eigenvalues(p)).min())
    return SPECTRA[name].smallest(p, side)


def plot_transforms(path: str | Path, *, side: int, names: Sequence[str] = (*GROUPS, *SPECTRA)) -> Path:
    """Plots `smallest` against p, one curve for each transform.

    Args:
        path: the image file, in a format that matplotlib writes.
        side: of the images in pixels.
        names: keys of `GROUPS` and `SPECTRA`.

    Raises `FruganError` without matplotlib, or where the format is unknown.
    """
    check_plot(path)
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    ps = np.linspace(0, 1, 101)
    curves = _distinct({name: [smallest(name, p, side) for p in ps] for name in names})
    for i, (label, values) in enumerate(curves.items()):
        axes.plot(ps, values, label=label, linestyle=("-", "--", ":", "-.")[i % 4], linewidth=1.8)
    axes.axhspan(0, UNRECOVERABLE, color="tab:red", alpha=0.12)
    axes.annotate("leaks in practice", (0.02, UNRECOVERABLE / 3), color="tab:red", fontsize=9)
    axes.set(
        xlabel="p",
        ylabel="smallest modulus",
        xlim=(0, 1),
        ylim=(0, 1),
        title=f"What {side}×{side} images keep, at least",
    )
    axes.legend(fontsize=8)
    return _save(figure, path)


def plot_runs(path: str | Path, runs: Sequence[RunLeaks]) -> Path:
    """Plots the share of leaked samples and, where measured, the distance, each against p, with a row of samples for each run.

    For a single run the shares are bars, one for each question. Raises `FruganError` as `plot_transforms` does.
    """
    check_plot(path)
    runs = sorted(runs, key=lambda run: run.p)
    distances = [(run.p, run.distance) for run in runs if run.distance is not None and len(runs) > 1]
    columns = 2 if distances else 1
    figure = _figure(5 * columns, 3.2 + 0.55 * len(runs))
    grid = figure.add_gridspec(1 + len(runs), columns, height_ratios=[3.2] + [0.55] * len(runs))
    axes = figure.add_subplot(grid[0, 0])
    if len(runs) == 1:
        _bars(axes, runs[0])
    else:
        _curves(axes, runs)
    if distances:
        axes = figure.add_subplot(grid[0, 1])
        axes.plot(*zip(*distances), marker="o")
        axes.set(xlabel="p", ylabel="distance", title="Distance to the images")
    for row, run in enumerate(runs, 1):
        axes = figure.add_subplot(grid[row, :])
        axes.imshow(run.samples.squeeze(), cmap="gray" if run.samples.shape[2] == 1 else None, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(f"p = {run.p:.2g}", rotation=0, ha="right", va="center", fontsize=9)
    return _save(figure, path)


def _bars(axes: Axes, run: RunLeaks) -> None:
    """The share of leaked samples of one run, with its interval, a bar for each question that its samples answer."""
    leaks = [leak for leak in run.leaks if leak.answerable]
    errors = [[leak.share - leak.low for leak in leaks], [leak.high - leak.share for leak in leaks]]
    axes.barh([leak.about for leak in leaks], [leak.share for leak in leaks], xerr=errors, capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel="share of samples", title=f"Leaked, at p = {run.p:.2g}", xlim=(-0.05, 1))
    if not leaks:
        axes.set(yticks=[])
        axes.annotate("no question that these samples answer", (0.0, 0.5), fontsize=9)


def _curves(axes: Axes, runs: Sequence[RunLeaks]) -> None:
    """The share of leaked samples against p, a line for each question; those that coincide are one line."""
    points = {}
    for about in dict.fromkeys(leak.about for run in runs for leak in run.leaks):
        found = [(run.p, leak) for run in runs for leak in run.leaks if leak.about == about and leak.answerable]
        if found:
            points[about] = [(p, leak.share, leak.low, leak.high) for p, leak in found]
    for about, found in _distinct(points).items():
        ps, shares, low, high = np.transpose(found)
        axes.errorbar(ps, shares, [shares - low, high - shares], marker="o", capsize=3, label=about)
    axes.set(xlabel="p", ylabel="share of samples", title="Leaked", ylim=(-0.05, 1))
    if points:
        axes.legend(fontsize=8)


def _distinct(curves: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The curves, those that coincide (to a thousandth) under one label, which has all their names."""
    groups: list[tuple[list[str], Sequence[Any]]] = []
    for name, values in curves.items():
        for names, known in groups:
            if np.shape(known) == np.shape(values) and np.allclose(known, values, rtol=0, atol=1e-3):
                names.append(name)
                break
        else:
            groups.append(([name], values))
    return {fill(", ".join(names), 48): values for names, values in groups}


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FruganError("plots need matplotlib: pip install 'frugan[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def check_plot(path: str | Path) -> None:
    """Raises `FruganError` where matplotlib is missing, or writes no such kind of file."""
    path, kinds = Path(path), _figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in kinds:
        raise FruganError(f"--plot {path}: give a file that ends in .{', .'.join(sorted(kinds))}")


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    marked: dict[str, Any] = {"metadata": {SOFTWARE_KEY: software()}} if path.suffix.lower() == ".png" else {}
    with replacing(path) as unfinished:
        figure.savefig(unfinished, **marked)
    return path
