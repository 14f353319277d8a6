"""Statistics of the stored images of a set, counted while they are decoded, and the sentences to say about them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from frugan.channels import has_alpha
from frugan.data.decode import Fit
from frugan.data.values import Range, range_name, settle_range
from frugan.structure import converter

LITTLE_KEPT = 0.5
"""A crop that keeps less of an image than this is worth a sentence."""

_MOST_CHANNELS = 8  # more than these are counted together
_AT_ONCE = 1 << 20  # values that are counted at a time
_DARK = 0.25  # of the range: where 99 % of all values lie below, training would use little of it


@dataclass(frozen=True)
class ChannelValues:
    """Stored values of one channel over all images: the lowest, the 1 % and 99 % quantiles, the highest."""

    channel: str
    depth: int
    low: int
    p1: int
    p99: int
    high: int

    def __str__(self) -> str:
        return f"min {self.low}, 1 % {self.p1}, 99 % {self.p99}, max {self.high} ({self.depth} bits)"


class Histograms:
    """Exact counts of every value by channel and depth. `add` may be called by several threads."""

    def __init__(self, *, alpha: bool) -> None:
        """`alpha`: whether a second or fourth channel is opacity."""
        self._alpha = alpha
        self._counts: defaultdict[tuple[str, int], Any] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, pixels: np.ndarray) -> None:
        """uint8 or uint16 `[H, W, C]`."""
        depth = 8 * pixels.dtype.itemsize
        names = _channel_names(pixels.shape[-1], self._alpha)
        found = [_count(pixels[..., i] if len(names) > 1 else pixels) for i in range(len(names))]
        with self._lock:
            for name, counts in zip(names, found):
                self._counts[name, depth] += counts

    def values(self) -> list[ChannelValues]:
        found = []
        for (channel, depth), counts in self._counts.items():
            total = np.cumsum(counts)
            p1, p99 = (int(np.searchsorted(total, share * total[-1])) for share in (0.01, 0.99))
            there = np.flatnonzero(counts)
            found.append(ChannelValues(channel, depth, int(there[0]), p1, p99, int(there[-1])))
        return found

    def share_outside(self, value_range: Range, depth: int) -> float:
        """Of the colour values, as a set of `depth` bits holds them."""
        outside = total = 0
        for (channel, own), counts in self._counts.items():
            if channel != "alpha":
                stored = np.arange(len(counts)) * (257 if own < depth else 1)
                outside += int(counts[(stored < value_range[0]) | (stored > value_range[1])].sum())
                total += int(counts.sum())
        return outside / max(total, 1)


@dataclass(frozen=True)
class SourceStats:
    """What decoding found out about the stored images, and the range of values that was stretched (None: all).

    `clipped`: share of the colour values outside that range. `sizes`: how many images have "HxW" pixels (0: not counted).
    `frames`: frames and pages after the first, which are skipped, in `animated` files. `opaque`: an alpha channel was left
    out, because nothing is transparent.
    """

    values: list[ChannelValues] = field(default_factory=list)
    value_range: Range | None = None
    clipped: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)
    frames: int = 0
    animated: int = 0
    opaque: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> SourceStats:
        """Raises `cattrs.BaseValidationError` for what `to_dict` did not write."""
        return converter().structure(facts, cls)


def highest(values: Iterable[ChannelValues], depth: int) -> int:
    """The highest colour value as a set of `depth` bits holds it; 0 where none is known."""
    return max((_held(value, value.high, depth) for value in values if value.channel != "alpha"), default=0)


def _held(values: ChannelValues, value: int, depth: int) -> int:
    """A value as a set of `depth` bits holds it: 8 bits beside 16 become 16."""
    return value * 257 if values.depth < depth else value


def kept_share(size: tuple[int, int], resolution: tuple[int, int], fit: Fit) -> float:
    """The share of an image of `size` (h, w) that training sees; the rest is cut away."""
    if fit == "letterbox":
        return 1.0
    across, down = resolution[0] * size[1], resolution[1] * size[0]
    return min(across, down) / max(across, down)


def stats_notes(stats: SourceStats, *, depth: int, resolution: tuple[int, int], fit: Fit) -> list[str]:
    """Sentences for the user: the values used, alpha that is the same everywhere, what the crop cuts away, frames skipped."""
    return [
        *_value_notes(stats, depth),
        *_alpha_notes(stats),
        *_crop_notes(stats, resolution, fit),
        *_frame_notes(stats),
    ]


def _value_notes(stats: SourceStats, depth: int) -> Iterable[str]:
    colour = [value for value in stats.values if value.channel != "alpha"]
    top, high = (1 << depth) - 1, highest(stats.values, depth)
    if stats.value_range is not None:
        lo, hi = stats.value_range
        if stats.value_range == settle_range("auto", depth, high):
            yield f"values end at {high}: {hi.bit_length()} of {depth} bits (--value-range full trains without stretching)"
        yield f"stored values {lo} to {hi} are black to white for training and are shown so on sheets; output has stored values"
        if stats.clipped:
            yield f"{percent(stats.clipped)} of all values lie outside {lo} to {hi} and are clipped"
    elif high and (most := max(_held(value, value.p99, depth) for value in colour)) < _DARK * top:
        yield (
            f"99 % of all values are at most {most} of {top}: training sees nearly black images; stretch them with "
            f"--value-range {range_name((0, max(high if high < _DARK * top else most, 1)))}"
        )


def _alpha_notes(stats: SourceStats) -> Iterable[str]:
    alpha = [value for value in stats.values if value.channel == "alpha"]
    plain = "RGB" if any(value.channel == "red" for value in stats.values) else "L"
    if stats.opaque:
        yield f"alpha is opaque in every image, so it is left out, as with --channels {plain} (--channels {plain}A keeps it)"
    elif alpha and all(value.low == (1 << value.depth) - 1 for value in alpha):
        yield f"alpha is opaque in every image, a channel that says nothing: leave it out with --channels {plain}"
    elif alpha and all(value.high == 0 for value in alpha):
        yield "alpha is 0 in every image, so that nothing can be seen: write them again without alpha"


def _crop_notes(stats: SourceStats, resolution: tuple[int, int], fit: Fit) -> Iterable[str]:
    little = [(kept, size) for size in stats.sizes if (kept := kept_share(_size(size), resolution, fit)) < LITTLE_KEPT]
    if little:
        kept, worst = min(little)
        count = sum(stats.sizes[size] for _, size in little)
        images = {0: "some images", 1: "1 image"}.get(count, f"{count} images")
        yield (
            f"--fit crop cuts away most of {images}: of {worst} pixels (height x width), {percent(kept)} are kept; "
            "use --fit letterbox, another --resolution, or cut the images to shape before"
        )


def _frame_notes(stats: SourceStats) -> Iterable[str]:
    if stats.frames:
        files = "1 file holds" if stats.animated == 1 else f"{stats.animated} files hold"
        yield f"{files} several frames or pages: the first is used, {stats.frames} are skipped"


def _channel_names(count: int, alpha: bool) -> list[str]:
    """One name per channel; a single one for all where they are too many."""
    if count > _MOST_CHANNELS:
        return [f"all {count} channels"]
    if has_alpha(count) and alpha:
        return [*_channel_names(count - 1, alpha), "alpha"]
    return {1: ["grey"], 3: ["red", "green", "blue"]}.get(count) or [f"channel {i}" for i in range(count)]


def _count(values: np.ndarray) -> np.ndarray:
    """int64: how often each value occurs."""
    if values.dtype == np.uint8:
        flat = np.ascontiguousarray(values).reshape(len(values), -1)
        return np.array(Image.fromarray(flat).histogram(), np.int64)
    flat = values.reshape(-1)
    parts = (np.bincount(flat[at : at + _AT_ONCE], minlength=1 << 16) for at in range(0, len(flat), _AT_ONCE))
    return sum(parts, np.zeros(1 << 16, np.int64))


def _size(name: str) -> tuple[int, int]:
    h, w = map(int, name.split("x"))
    return h, w


def percent(share: float) -> str:
    """ "0.3 %", "57 %"."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
