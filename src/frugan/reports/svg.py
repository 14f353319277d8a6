"""Charts as static SVG: curves and histograms that need no script, print on paper, and take their colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 36

_TICKS = 5
_DECADES = 12  # of a logarithmic axis, at most


class _Axis:
    """A scale from values to pixels, linear or logarithmic, with round ticks."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool = False) -> None:
        self.log = log and min(values, default=0) > 0
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if self.log:
            low, high = math.log10(low), math.log10(high)
            low = max(low, high - _DECADES)
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-30):
            low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        at = math.log10(max(value, 10**self.low)) if self.log else value
        return self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            whole = [10.0**k for k in range(math.ceil(self.low), math.floor(self.high) + 1)]
            return whole[:: max(len(whole) // _TICKS, 1)] or [10**self.low, 10**self.high]
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def draw(chart: Mapping[str, Any]) -> str:
    """The SVG element of a block of kind "chart". Colours are the classes a, b, …, real and generated of the page."""
    series, xs = chart["series"], [float(x) for x in chart["x"]]
    ys = [v for s in series for part in ("values", "low", "high") for v in s[part] or () if v is not None]
    ys += [line["y"] for line in chart["lines"]] + list(chart["at_least"] or ())
    if chart["draws"] == "histogram":
        ys.append(0.0)
    x = _Axis(xs, LEFT, WIDTH - RIGHT)
    y = _Axis(ys, HEIGHT - BOTTOM, TOP, log=chart["log"])
    parts = [*_grid(x, y, chart["x_label"])]
    parts += [
        f'<line class="level {_word(line["color"])}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(line["y"]):.1f}" '
        f'y2="{y(line["y"]):.1f}"/>'
        for line in chart["lines"]
    ]
    for one in series:
        parts += _curve(xs, one, x, y, steps=chart["draws"] == "histogram")
    legend = [*((s["label"], s["color"]) for s in series), *((n["label"], n["color"]) for n in chart["lines"])]
    label = escape(f"{chart['title']}: {', '.join(name for name, _ in legend if name)}", quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _grid(x: _Axis, y: _Axis, x_label: str) -> Iterator[str]:
    for tick in y.ticks():
        yield f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text x="{LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
    foot = HEIGHT - BOTTOM
    for tick in x.ticks():
        yield f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{foot}" y2="{foot + 4}"/>'
        yield f'<text x="{x(tick):.1f}" y="{foot + 16}" text-anchor="middle">{tick:.4g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'


def _curve(xs: Sequence[float], one: Mapping[str, Any], x: _Axis, y: _Axis, *, steps: bool) -> Iterator[str]:
    """The lines of one series, broken where values are missing, over the band around it."""
    color = _word(one["color"])
    if one["low"] and one["high"]:
        for run in _runs(xs, one["low"], one["high"]):
            there = [f"{x(a):.1f},{y(high):.1f}" for a, _, high in run]
            back = [f"{x(a):.1f},{y(low):.1f}" for a, low, _ in reversed(run)]
            yield f'<polygon class="band {color}" points="{" ".join([*there, *back])}"/>'
    for run in _runs(xs, one["values"]):
        points = [(x(a), y(b)) for a, b in run]
        if steps:
            points = [q for p, n in zip(points, [*points[1:], points[-1]]) for q in (p, (n[0], p[1]))]
        if len(points) == 1:
            yield f'<circle class="dot {color}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
        else:
            text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            yield f'<polyline class="line {color}" points="{text}"/>'


def _runs(*columns: Sequence[float | None]) -> list[list[tuple[float, ...]]]:
    """Stretches of rows in which no column has a gap."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for row in zip(*columns):
        if None in row:
            runs.append([])
        else:
            runs[-1].append(tuple(float(v) for v in row if v is not None))
    return [run for run in runs if run]


def _word(color: str) -> str:
    """A class name of the page's style, and nothing else."""
    return color if color.isidentifier() else "d"
