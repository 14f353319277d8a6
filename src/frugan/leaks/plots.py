"""Pictures of leaks, after Figures 3 and 4 of Karras et al. 2020: what each transform lets through, and what runs did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frugan.errors import FruganError
from frugan.leaks.groups import GROUPS
from frugan.leaks.recovery import UNRECOVERABLE
from frugan.leaks.shares import Leak
from frugan.leaks.spectra import SPECTRA
from frugan.pictures import SOFTWARE_KEY, software

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RunLeaks:
    """What was found on one run: its p, the leaks, some samples uint8 `[H, W, C]` as one row, and its distance, if measured."""

    name: str
    p: float
    leaks: list[Leak]
    samples: np.ndarray
    distance: float | None = None


def smallest(name: str, p: float, side: int) -> float:
    """What remains, at least, of any difference between distributions after the transform: 0 where it leaks."""
    if name in GROUPS:
        return float(abs(GROUPS[name].eigenvalues(p)).min())
    return SPECTRA[name].smallest(p, side)


def plot_transforms(path: str | Path, *, side: int, names: Sequence[str] = (*GROUPS, *SPECTRA)) -> Path:
    """What remains of the finest difference at each p, a curve for each transform, for images of `side` pixels."""
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    ps = np.linspace(0, 1, 101)
    for i, name in enumerate(names):
        values = [smallest(name, p, side) for p in ps]
        axes.plot(ps, values, label=name, linestyle=("-", "--", ":", "-.")[i % 4], linewidth=1.8)
    axes.axhspan(0, UNRECOVERABLE, color="tab:red", alpha=0.12)
    axes.annotate("leaks in practice", (0.02, UNRECOVERABLE / 3), color="tab:red", fontsize=9)
    axes.set(
        xlabel="p",
        ylabel="smallest modulus",
        xlim=(0, 1),
        ylim=(0, 1),
        title=f"What {side}×{side} pictures keep, at least",
    )
    axes.legend(fontsize=8, ncols=2)
    return _save(figure, path)


def plot_runs(path: str | Path, runs: Sequence[RunLeaks]) -> Path:
    """The share of leaked samples and, where measured, the distance, each against p, and a row of samples for each run."""
    runs = sorted(runs, key=lambda run: run.p)
    distances = [(run.p, run.distance) for run in runs if run.distance is not None]
    columns = 2 if distances else 1
    figure = _figure(5 * columns, 3.2 + 0.55 * len(runs))
    grid = figure.add_gridspec(1 + len(runs), columns, height_ratios=[3.2] + [0.55] * len(runs))
    axes = figure.add_subplot(grid[0, 0])
    for about in dict.fromkeys(leak.about for run in runs for leak in run.leaks):
        found = [(run.p, leak) for run in runs for leak in run.leaks if leak.about == about and leak.answerable]
        if found:
            ps, leaks = zip(*found)
            errors = [[leak.share - leak.low for leak in leaks], [leak.high - leak.share for leak in leaks]]
            axes.errorbar(ps, [leak.share for leak in leaks], errors, marker="o", capsize=3, label=about)
    axes.set(xlabel="p", ylabel="share of samples", title="Leaked", ylim=(-0.05, 1))
    if axes.lines:
        axes.legend(fontsize=8)
    if distances:
        axes = figure.add_subplot(grid[0, 1])
        axes.plot(*zip(*distances), marker="o")
        axes.set(xlabel="p", ylabel="distance", title="Distance to the pictures")
    for row, run in enumerate(runs, 1):
        axes = figure.add_subplot(grid[row, :])
        axes.imshow(run.samples.squeeze(), cmap="gray" if run.samples.shape[2] == 1 else None, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(f"p = {run.p:.2g}", rotation=0, ha="right", va="center", fontsize=9)
    return _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FruganError("plots need matplotlib: pip install 'frugan[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    marked: dict[str, Any] = {"metadata": {SOFTWARE_KEY: software()}} if path.suffix.lower() == ".png" else {}
    try:
        figure.savefig(path, **marked)
    except ValueError as error:
        raise FruganError(f"{path} cannot be drawn: {error}") from error
    return path
