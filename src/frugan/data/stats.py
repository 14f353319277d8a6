"""Statistics of the stored images of a set, counted while they are decoded, and the sentences to say about them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from frugan.channels import MaskChannel, has_alpha
from frugan.data.decode import Fit
from frugan.data.values import range_name
from frugan.pixel_format import Range, channel_names, held_type, is_plain
from frugan.structure import converter

LITTLE_KEPT = 0.5
"""A crop that keeps less of an image than this is worth a sentence."""

_MOST_CHANNELS = 8  # more than these are counted together
_AT_ONCE = 1 << 20  # values that are counted at a time
_MOST_SAMPLED = 1 << 22  # values that are kept of types which cannot be counted
_SPANS_SHOWN = 3
_NARROW = 0.1  # of the range: where 98 % of all values lie within it, few others take most of it
_DARK = 0.25  # of the range: where 99 % of all values lie below, training would use little of it


@dataclass(frozen=True)
class ChannelValues:
    """Stored values of one channel over all images: the lowest, the 1 % and 99 % quantiles, the highest.

    `dtype`: their type of numbers, where it is neither uint8 nor uint16; then the quantiles are those of a sample.
    """

    channel: str
    depth: int
    low: float
    p1: float
    p99: float
    high: float
    dtype: str = ""

    def __str__(self) -> str:
        kind = self.dtype or f"{self.depth} bits"
        return f"min {self.low:.7g}, 1 % {self.p1:.7g}, 99 % {self.p99:.7g}, max {self.high:.7g} ({kind})"


class Histograms:
    """Counts of stored values by channel: exact ones of uint8 and uint16, of other types extremes and an even sample.

    `add` may be called by several threads. A `Distribution` of the colour values.
    """

    def __init__(self, *, alpha: bool, images: int = 1, each: bool = False, names: Sequence[str] = ()) -> None:
        """`alpha`: whether a second or fourth channel is opacity. `images`: how many share the sample. `each`: channels are
        counted by themselves, however many there are. `names`: of the channels, for images of as many."""
        self._alpha, self._images, self._each = alpha, max(images, 1), each
        self._names = tuple(names) if len({*names}) == len(names) else ()
        self._counts: defaultdict[tuple[str, int], Any] = defaultdict(int)
        self._samples: defaultdict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
        self._layout: list[str] = []
        self._lock = threading.Lock()

    def add(self, pixels: np.ndarray) -> None:
        """`[H, W, C]` of any type; numbers that are finite."""
        together = not self._each and is_plain(pixels.dtype)
        names = _channel_names(pixels.shape[-1], self._alpha, self._names, together=together)
        parts = [pixels[..., i] if len(names) > 1 else pixels for i in range(len(names))]
        plain = is_plain(pixels.dtype)
        found = [_count(part) if plain else self._sample(part, len(names)) for part in parts]
        with self._lock:
            self._layout = max(self._layout, [name for name in names if name != "alpha"], key=len)
            for name, counts in zip(names, found):
                if plain:
                    self._counts[name, 8 * pixels.dtype.itemsize] += counts
                else:
                    self._samples[name, str(pixels.dtype)].append(counts)

    def _sample(self, values: np.ndarray, channels: int) -> np.ndarray:
        """float64: the lowest and the highest value, and evenly spread ones between them."""
        flat = values.reshape(-1)
        step = max(1, -(-flat.size * self._images * channels // _MOST_SAMPLED))
        return np.concatenate([[flat.min(), flat.max()], flat[::step]]).astype(np.float64)

    @property
    def channels(self) -> int:
        return len(self._layout)

    def name(self, channel: int) -> str:
        return self._layout[channel]

    def quantile(self, share: float, channel: int | None = None) -> float:
        """The value that `share` of all colour values do not exceed, as a set of the highest depth holds it; 0 of none."""
        chosen = (
            {self._layout[channel]} if channel is not None else {name for name, _ in (*self._counts, *self._samples)}
        )
        chosen.discard("alpha")
        if samples := [part for (name, _), parts in self._samples.items() if name in chosen for part in parts]:
            ends = np.array([[part[0], part[1]] for part in samples])
            inner = np.concatenate([part[2:] for part in samples])
            if share in (0, 1):
                return float(ends.max() if share else ends.min())
            return float(np.quantile(inner, share, method="lower"))
        depth = max((depth for _, depth in self._counts), default=8)
        total = np.zeros(1 << depth, np.int64)
        for (name, own), counts in self._counts.items():
            if name in chosen:
                total[:: 257 if own < depth else 1] += counts
        return float(_quantiles(total, share)) if total.any() else 0.0

    def values(self) -> list[ChannelValues]:
        found = []
        for (channel, depth), counts in self._counts.items():
            low, p1, p99, high = (_quantiles(counts, share) for share in (0, 0.01, 0.99, 1))
            found.append(ChannelValues(channel, depth, low, p1, p99, high))
        for (channel, dtype), parts in self._samples.items():
            low, high = min(part[0] for part in parts), max(part[1] for part in parts)
            p1, p99 = np.quantile(np.concatenate([part[2:] for part in parts]), (0.01, 0.99))
            depth = 8 * np.dtype(dtype).itemsize
            found.append(ChannelValues(channel, depth, float(low), float(p1), float(p99), float(high), dtype))
        return found

    def share_outside(self, value_range: Range, depth: int) -> float:
        """The share of colour values outside the range, as a set of `depth` bits holds them; of other types, in the sample."""
        outside = total = 0
        for (channel, own), counts in self._counts.items():
            if channel != "alpha":
                lo, hi = self._pair(channel, value_range)
                stored = np.arange(len(counts)) * (257 if own < depth else 1)
                outside += int(counts[(stored < lo) | (stored > hi)].sum())
                total += int(counts.sum())
        for (channel, _), parts in self._samples.items():
            lo, hi = self._pair(channel, value_range)
            for part in parts:
                outside += int(((part < lo) | (part > hi)).sum())
                total += part.size
        return outside / max(total, 1)

    def _pair(self, channel: str, value_range: Range) -> tuple[float, float]:
        return value_range[0 if len(value_range) == 1 else self._layout.index(channel)]

    @property
    def is_crisp(self) -> bool:
        """Whether there is alpha, and all of it is 0 or full."""
        alpha = [counts for (name, _), counts in self._counts.items() if name == "alpha"]
        return bool(alpha) and not any(counts[1:-1].any() for counts in alpha)


def _quantiles(counts: np.ndarray, share: float) -> int:
    """The lowest value that `share` of all do not exceed."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, max(share * total[-1], 1)))


@dataclass(frozen=True)
class SourceStats:
    """Statistics of the stored images from decoding, and the range of values that was stretched (None: all).

    `clipped`: share of the colour values outside that range. `sizes`: how many images have "HxW" pixels (0: not counted).
    `frames`: frames and pages after the first, which are skipped, in `animated` files. `opaque`: an alpha channel was left
    out, because nothing is transparent. `crisp`: alpha is 0 or full everywhere.
    """

    values: list[ChannelValues] = field(default_factory=list)
    value_range: Range | None = None
    clipped: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)
    frames: int = 0
    animated: int = 0
    opaque: bool = False
    crisp: bool = False
    masks: list[MaskChannel] = field(default_factory=list)
    """The values of each mask channel."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> SourceStats:
        """Raises `cattrs.BaseValidationError` for what `to_dict` did not write."""
        return converter().structure(facts, cls)


def highest(values: Iterable[ChannelValues], depth: int) -> int:
    """The highest colour value as a set of `depth` bits holds it; 0 where none is known."""
    return int(max((_held(value, value.high, depth) for value in values if value.channel != "alpha"), default=0))


def _held(values: ChannelValues, value: float, depth: int) -> float:
    """A value as a set of `depth` bits holds it: 8 bits beside 16 become 16."""
    return value * 257 if values.depth < depth else value


def kept_share(size: tuple[int, int], resolution: tuple[int, int], fit: Fit) -> float:
    """The share of an image that training sees; the rest is cropped.

    Args:
        size: (height, width) of the image.
        resolution: (height, width) of training.
        fit: "crop" or "letterbox".
    """
    if fit == "letterbox":
        return 1.0
    across, down = resolution[0] * size[1], resolution[1] * size[0]
    return min(across, down) / max(across, down)


def stats_notes(stats: SourceStats, *, depth: int, channels: int, resolution: tuple[int, int], fit: Fit) -> list[str]:
    """Sentences for the user: the values in use, alpha that is constant, the part that is cropped, frames that are skipped.

    Args:
        stats: of the source.
        depth: bits per channel.
        channels: of the images, masks aside.
        resolution: (height, width) of training.
        fit: "crop" or "letterbox".
    """
    return [
        *_value_notes(stats, depth),
        *_alpha_notes(stats, channels),
        *_crop_notes(stats, resolution, fit),
        *_frame_notes(stats),
        *(f"mask values: {mask}" for mask in stats.masks),
    ]


def _value_notes(stats: SourceStats, depth: int) -> Iterable[str]:
    colour = [value for value in stats.values if value.channel != "alpha"]
    top, high = (1 << depth) - 1, highest(stats.values, depth)
    types = {value.dtype for value in colour} - {""}
    if stats.value_range is not None:
        if not types and depth == 16 and stats.value_range == _bits_in_use(high):
            hi = int(stats.value_range[0][1])
            yield f"values end at {high}: {hi.bit_length()} of {depth} bits (--value-range full trains without stretching)"
        yield (
            f"stored values {spans(stats.value_range)} are black to white for training and are shown so on sheets; output has "
            "stored values"
        )
        if types and held_type(next(iter(types)), stats.value_range) == "float32":
            yield (
                f"{next(iter(types))} numbers are held as float32, 4 bytes each; networks see all of their digits with "
                "--precision fp32"
            )
        if stats.clipped:
            yield f"{percent(stats.clipped)} of all values lie outside {spans(stats.value_range)} and are clipped"
        pairs = stats.value_range * (len(colour) if len(stats.value_range) == 1 else 1)
        narrow = [value for value, (lo, hi) in zip(colour, pairs) if value.p99 - value.p1 < _NARROW * (hi - lo)]
        if types and narrow:
            yield (
                f"98 % of all values ({narrow[0].channel}) lie from {narrow[0].p1:.4g} to {narrow[0].p99:.4g}, a small part of the "
                f"range: cut off the rest with --value-range {'each:' if len(colour) > 1 else ''}p1,p99"
            )
    elif high and (most := max(_held(value, value.p99, depth) for value in colour)) < _DARK * top:
        end = max(high if high < _DARK * top else most, 1)
        yield (
            f"99 % of all values are at most {most} of {top}: training sees nearly black images; stretch them with "
            f"--value-range {range_name(((0, end),))}"
        )


def _bits_in_use(high: int) -> Range:
    """The range that "auto" takes for uint16 values up to `high`."""
    return ((0, (1 << max(high.bit_length(), 8)) - 1),)


def spans(value_range: Range) -> str:
    """ "0 to 4095", or of some channels "0 to 4095, 3 to 9, … (5 channels)"."""
    shown = ", ".join(f"{lo:.7g} to {hi:.7g}" for lo, hi in value_range[:_SPANS_SHOWN])
    more = ", …" if len(value_range) > _SPANS_SHOWN else ""
    return shown if len(value_range) == 1 else f"{shown}{more} ({len(value_range)} channels)"


def _alpha_notes(stats: SourceStats, channels: int) -> Iterable[str]:
    alpha = [value for value in stats.values if value.channel == "alpha"]
    plain = "RGB" if channels >= 3 else "L"
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


def _channel_names(count: int, alpha: bool, told: Sequence[str], *, together: bool) -> list[str]:
    """A name for each channel, as `told` where that has as many; with `together` a single one for all where they are too many."""
    if together and count > _MOST_CHANNELS:
        return [f"all {count} channels"]
    opacity = alpha and has_alpha(count)
    if len(told) == count:
        return [*told[:-1], "alpha"] if opacity else list(told)
    return list(channel_names(count, alpha=opacity))


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
