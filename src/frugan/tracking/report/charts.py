"""The charts of a run's page as plain data: what belongs together, thinned out so that a long run is a small page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import numpy as np

from frugan.tracking.jsonl import finite
from frugan.tracking.tracker import Record

POINTS = 400  # of a curve, about: more than a chart has pixels to tell apart

_MOST_NAMES = 300  # of figures in the records

_HIGHER_IS_BETTER = ("precision", "recall", "density", "coverage", "inception_score")

Color = str
"""A variable of page.css, which knows light and dark."""

_COLORS: tuple[Color, ...] = ("a", "b", "c", "d")
_SOURCES: dict[Color, str] = {"real": "real", "generated": "generated", "held_out": "held out"}


@dataclass(frozen=True)
class Series:
    """One curve; `low` and `high` bound a band around it. Values may be None."""

    label: str
    values: Sequence[float | None]
    color: Color
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


@dataclass(frozen=True)
class Line:
    """A horizontal line to compare with."""

    label: str
    y: float
    color: Color


@dataclass(frozen=True)
class Chart:
    """A chart for the page's script. `x` is kimg for curves, the bins' lower edges for a histogram."""

    title: str
    x: Sequence[float]
    series: Sequence[Series]
    note: str = ""
    lines: Sequence[Line] = ()
    kind: Literal["curve", "histogram"] = "curve"
    log: bool = False
    best: tuple[float, float] | None = None
    x_label: str = "kimg"
    at_least: tuple[float, float] | None = None
    """What the vertical axis shows in any case, so that charts of several runs can be compared."""


@dataclass(frozen=True)
class _Curve:
    """A column of the records and how it is drawn."""

    label: str
    column: np.ndarray
    color: Color
    spread: np.ndarray | None = None


def charts(records: Sequence[Record], controller: Mapping[str, Any] | None = None) -> list[Chart]:
    """Every chart that the records have figures for. `controller` is the configuration's: kind, target, p_max."""
    names = list(dict.fromkeys(name for record in records for name in record))[:_MOST_NAMES]
    return [
        chart
        for chart in (
            _augmentation(records, controller or {}),
            _outputs(records),
            _latest_outputs(records),
            _family(records, names, "Losses", "loss/"),
            *_metrics(records, names),
            _family(records, names, "Penalties", "penalty/", log=True),
            _family(records, names, "Path length", "path_length", note="Running mean of |Jᵀy|."),
            _family(records, names, "Gradient norms", "grad_norm/", log=True),
            _family(records, names, "Speed", "seconds_per_kimg", note="Seconds for 1,000 images shown."),
            _memory(records),
        )
        if chart
    ]


def thin(columns: Sequence[np.ndarray], points: int = POINTS) -> np.ndarray:
    """Indices of the rows to draw: the first, the last, and each stretch's smallest and largest value of every column.

    All of them where there are at most `points` rows, else about as many. Columns are float `[rows]`; nan is a gap.
    """
    rows = len(columns[0])
    if rows <= points:
        return np.arange(rows)
    keep = {0, rows - 1}
    width = -(-rows // max(points // (2 * len(columns)), 1))
    for column in columns:
        padded = np.pad(column, (0, -rows % width), constant_values=np.nan).reshape(-1, width)
        starts = np.flatnonzero(~np.isnan(padded).all(1))
        for pick in (np.nanargmin, np.nanargmax):
            keep.update((starts * width + pick(padded[starts], axis=1)).tolist())
    return np.array(sorted(keep))


def _column(records: Sequence[Record], name: str, part: str | None = None) -> np.ndarray:
    """One figure of all records as float64, nan where it is missing; `part` of a histogram's dict."""
    values = (r.get(name) for r in records)
    if part:
        values = (v.get(part) if isinstance(v, Mapping) else None for v in values)
    return np.array([np.nan if (v := finite(value)) is None else v for value in values], np.float64)


def _short(values: np.ndarray) -> list[float | None]:
    """Five digits are more than a chart shows."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]


def _chart(title: str, records: Sequence[Record], curves: Sequence[_Curve], **options: Any) -> Chart | None:
    """A chart over kimg of the curves that have any value."""
    curves = [c for c in curves if not np.isnan(c.column).all()]
    if not curves:
        return None
    kimg = _column(records, "kimg")
    there = ~np.isnan(kimg) & np.any([~np.isnan(c.column) for c in curves], axis=0)
    rows = np.flatnonzero(there)
    if not len(rows):
        return None
    rows = rows[thin([c.column[rows] for c in curves])]
    series = [
        Series(
            c.label,
            _short(c.column[rows]),
            c.color,
            low=None if c.spread is None else _short((c.column - c.spread)[rows]),
            high=None if c.spread is None else _short((c.column + c.spread)[rows]),
        )
        for c in curves
    ]
    return Chart(title, kimg[rows].round(3).tolist(), series, **options)


def _family(
    records: Sequence[Record], names: Sequence[str], title: str, prefix: str, *, note: str = "", log: bool = False
) -> Chart | None:
    """All scalars whose names begin alike."""
    curves = [
        _Curve(name.removeprefix(prefix).replace("_", " ") or title.lower(), _column(records, name), color)
        for name, color in zip((n for n in names if n.startswith(prefix)), cycle(_COLORS))
    ]
    return _chart(title, records, curves, note=note, log=log)


def _augmentation(records: Sequence[Record], controller: Mapping[str, Any]) -> Chart | None:
    curves = [
        _Curve("p", _column(records, "p"), "a"),
        _Curve("r_t", _column(records, "r_t"), "b"),
        _Curve("r_v", _column(records, "r_v"), "c"),
    ]
    lines: list[Line] = []
    steering: dict[Any, tuple[str, Color, float]] = {"rt": ("r_t", "b", 0.6), "rv": ("r_v", "c", 0.5)}
    if (kind := controller.get("kind")) in list(steering):
        name, color, usual = steering[kind]
        target = finite(controller.get("target"))
        lines.append(Line(f"target {name}", usual if target is None else target, color))
        if p_max := finite(controller.get("p_max")):
            lines.append(Line("cap of p", p_max, "a"))
    note = "p is the probability of each augmentation; r_t and r_v say how far the discriminator overfits."
    return _chart("Augmentation", records, curves, note=note, lines=lines, at_least=(0.0, 1.0))


def _outputs(records: Sequence[Record]) -> Chart | None:
    curves = [
        _Curve(label, _column(records, f"logits/{s}", "mean"), s, _column(records, f"logits/{s}", "std"))
        for s, label in _SOURCES.items()
    ]
    note = "Mean ± one standard deviation. Held-out images scored like generated ones: the discriminator memorises."
    return _chart("Discriminator outputs", records, curves, note=note, lines=[Line("", 0.0, "d")])


def _newest(records: Sequence[Record], name: str) -> Mapping[str, Any] | None:
    """The last histogram of that name that is whole and not empty."""
    return next((h for r in reversed(records) if (h := _histogram(r.get(name)))), None)


def _histogram(value: Any) -> Mapping[str, Any] | None:
    """The output of `Histogram.to_dict`, or None: a record on disk may hold anything."""
    if not isinstance(value, Mapping):
        return None
    edges, counts = value.get("edges"), value.get("counts")
    if not isinstance(edges, list) or not isinstance(counts, list) or len(edges) != 2 or not 0 < len(counts) <= 10_000:
        return None
    numbers = [finite(v) for v in (*edges, *counts, value.get("below"), value.get("above"), value.get("count"))]
    if None in numbers or not edges[0] < edges[1] or not value["count"] > 0 or not any(n for n in numbers[2:-1]):
        return None
    return value


def _latest_outputs(records: Sequence[Record]) -> Chart | None:
    """The newest distribution of each source over one another; what lies outside the edges is put into the end bins."""
    newest = {source: h for source in _SOURCES if (h := _newest(records, f"logits/{source}"))}
    if not newest:
        return None
    low, high = next(iter(newest.values()))["edges"]
    bins = len(next(iter(newest.values()))["counts"])
    newest = {s: h for s, h in newest.items() if h["edges"] == [low, high] and len(h["counts"]) == bins}
    shares: dict[Color, np.ndarray] = {}
    for source, h in newest.items():
        counts = np.array(h["counts"], np.float64)
        counts[[0, -1]] += h["below"], h["above"]
        shares[source] = counts / h["count"]
    filled = np.flatnonzero(sum(shares.values()))
    first, last = max(filled[0] - 1, 0), min(filled[-1] + 2, bins)
    edges = np.linspace(low, high, bins + 1)[first : last + 1].tolist()
    series = [Series(_SOURCES[s], [*_short(share[first:last]), 0.0], s) for s, share in shares.items()]
    note = "Share of the images in each bin, in the last tick that scored them."
    return Chart("Discriminator outputs now", edges, series, note=note, kind="histogram", x_label="output")


def _metrics(records: Sequence[Record], names: Sequence[str]) -> list[Chart | None]:
    """One chart a metric, its best value marked."""
    found: list[Chart | None] = []
    for name in (n for n in names if n.startswith("metric/")):
        column = _column(records, name)
        if np.isnan(column).all():
            continue
        short = name.removeprefix("metric/")
        higher = any(word in short for word in _HIGHER_IS_BETTER)
        at = int(np.nanargmax(column) if higher else np.nanargmin(column))
        kimg = float(finite(records[at].get("kimg")) or 0)
        note = f"{'Higher' if higher else 'Lower'} is better; best {column[at]:.4g} at {kimg:g} kimg."
        curve = _Curve(short, column, "a")
        found.append(_chart(short.replace("_", " "), records, [curve], note=note, best=(kimg, float(column[at]))))
    return found


def _memory(records: Sequence[Record]) -> Chart | None:
    curves = [
        _Curve("device", _column(records, "memory_bytes") / 1e9, "a"),
        _Curve("host", _column(records, "host_memory_bytes") / 1e9, "b"),
    ]
    return _chart("Peak memory", records, curves, note="GB (10⁹ bytes) so far.")
