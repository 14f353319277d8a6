"""The target format of a data set: one size, one channel count, one depth, decided from the images' headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median_low
from typing import Any, Literal

from frugan.channels import CHANNEL_NAMES, CHANNELS, ChannelChoice, ChannelName, has_alpha
from frugan.data.decode import Background, Filter, Fit, Header, MaskFilter
from frugan.errors import FruganError, shown
from frugan.pixel_format import NumberType, is_plain
from frugan.resolution import SMALLEST

_LARGEST_DERIVED = 8  # a derived size has at most this many cells a side before it is doubled


@dataclass(frozen=True)
class PixelConfig:
    """The settings that decide the cached pixels, besides the images themselves."""

    resolution: tuple[int, int] | None = None
    channels: ChannelChoice = "auto"
    fit: Fit = "crop"
    filter: Filter = "lanczos"
    background: Background = "white"
    value_range: str = "auto"
    masks: int = 0
    mask_filter: MaskFilter = "nearest"

    def to_dict(self) -> dict[str, Any]:
        """The settings as values that tell configurations apart; without masks, as before there were any."""
        return {k: v for k, v in asdict(self).items() if self.masks or k not in ("masks", "mask_filter")}


@dataclass(frozen=True)
class Plan:
    """Pixels `[H, W, C]` of 8 bits, or of more (`depth` 16), masks aside; with `alpha` the last channel is opacity.

    `dtype`: the type of the stored numbers, which says how they are held (`frugan.pixel_format.held_type`). `channel_names`: what
    the files call their channels.
    """

    resolution: tuple[int, int]
    channels: int
    depth: Literal[8, 16]
    alpha: bool
    dtype: NumberType
    channel_names: tuple[str, ...] = ()


def make_plan(
    config: PixelConfig, names: Sequence[str], headers: Sequence[Header], *, alpha: bool = True, opaque: bool = False
) -> Plan:
    """The target format of a set of images, from the configuration and their headers.

    Args:
        config: size, channels and range of values.
        names: of the images, for messages.
        headers: one for each.
        alpha: whether a second or fourth channel is opacity.
        opaque: whether no pixel is transparent: "auto" channels then leave alpha out.

    Raises `FruganError` where sizes or channel counts are mixed and the configuration does not say what to do.
    """
    headers = without_alpha(headers) if opaque else headers
    refuse_mixtures(config, names, headers)
    channels = plan_channels(config, names, headers)
    alpha = has_alpha(channels) and (alpha or config.channels != "auto")
    dtype = plan_dtype(names, headers)
    called = headers[0].channel_names
    told = called if len(called) == channels and all(header.channel_names == called for header in headers) else ()
    alpha = alpha and is_plain(dtype)
    return Plan(plan_resolution(config, headers), channels, 8 if dtype == "uint8" else 16, alpha, dtype, told)


def plan_dtype(names: Sequence[str], headers: Sequence[Header]) -> NumberType:
    """The type that all images have; uint16 where some have 8 bits and others 16. Raises `FruganError` for other mixtures."""
    kinds: list[NumberType] = _number_types(headers)
    types = list(dict.fromkeys(kinds))
    if set(types) == {"uint8", "uint16"}:
        return "uint16"
    if len(types) > 1:
        raise FruganError(
            f"the images differ in their type of numbers: {_differing(kinds, names)}; convert them to one type"
        )
    return types[0]


def _number_types(headers: Sequence[Header]) -> list[NumberType]:
    """The type of each image's numbers: whole ones of DICOM files count as float32 beside such, which holds them all."""
    floats = any(header.dtype == "float32" for header in headers)
    whole = [floats and (header.format, header.dtype) == ("DICOM", "int32") for header in headers]
    return ["float32" if of_scan else header.dtype for header, of_scan in zip(headers, whole)]


def unusual_types(headers: Sequence[Header]) -> dict[int, str]:
    """Images whose type of numbers is not that of most, by position, each with a reason to skip it; 8 and 16 bits go together."""
    ordinary = "8 or 16 bits"
    kinds = [ordinary if kind in ("uint8", "uint16") else kind for kind in _number_types(headers)]
    counts = Counter(kinds)
    usual = max(counts, key=lambda kind: (counts[kind], kind == ordinary), default=ordinary)
    return {i: f"its numbers are {kind}, those of most images {usual}" for i, kind in enumerate(kinds) if kind != usual}


def without_alpha(headers: Sequence[Header]) -> list[Header]:
    """The headers as they are where opacity is left out."""
    return [replace(h, channels=h.channels - 1) if has_alpha(h.channels) else h for h in headers]


class MixedImages(FruganError):
    """Images that differ in channels or size, and the settings that make them alike."""

    def __init__(self, message: str, config: PixelConfig) -> None:
        super().__init__(message)
        self.channels, self.resolution = config.channels, config.resolution


def refuse_mixtures(config: PixelConfig, names: Sequence[str], headers: Sequence[Header]) -> None:
    """Raises `MixedImages` where images differ in size or channels and the configuration does not say what to do: one
    sentence for both.

    Args:
        config: size and channels.
        names: of the images.
        headers: one for each.
    """
    findings, remedies, settled = [], [], config
    if config.channels == "auto" and len({header.channels for header in headers}) > 1:
        wanted = suggest_channels(headers)
        settled = replace(settled, channels=wanted)
        kinds = [CHANNEL_NAMES.get(header.channels, f"of {header.channels} channels") for header in headers]
        findings.append(f"the images differ in channels: {_differing(kinds, names)}")
        remedies.append(f"--channels {wanted}")
    if config.resolution is None and len({(header.height, header.width) for header in headers}) > 1:
        settled = replace(settled, resolution=suggest_resolution(headers))
        sizes = [f"{header.height}x{header.width}" for header in headers]
        findings.append(f"the images differ in size (height x width): {_differing(sizes, names)}")
        remedies.append(f"--resolution {size_name(suggest_resolution(headers))}")
    if findings:
        ask = f"{' and '.join(findings)}; choose for all, for example {' '.join(remedies)}"
        if config.channels == "auto" and settled.channels in ("LA", "RGBA"):
            ask += f", or --channels {settled.channels[:-1]}, which lays transparent pixels over --background"
        raise MixedImages(ask, settled)


def _differing(kinds: Sequence[str], names: Sequence[str]) -> str:
    """The most frequent kind and the first of the others, each with an image's name."""
    counts = Counter(kinds)
    usual, count = counts.most_common(1)[0]
    first = kinds.index(usual)
    odd = next(i for i, kind in enumerate(kinds) if kind != usual)
    rest = f", {len(counts)} kinds in all" if len(counts) > 2 else ""
    share = f"{len(kinds) - count} of {len(kinds)} are not {usual}{rest}"
    return f"{shown(names[first])} is {usual}, {shown(names[odd])} is {kinds[odd]} ({share})"


def suggest_resolution(headers: Sequence[Header]) -> tuple[int, int]:
    """A size that at least half of the images fill; square where some stand and others lie."""
    h, w = (median_low([getattr(header, side) for header in headers]) for side in ("height", "width"))
    standing = any(header.height > header.width for header in headers)
    lying = any(header.height < header.width for header in headers)
    return derive_resolution(min(h, w), min(h, w)) if standing and lying else derive_resolution(h, w)


def suggest_channels(headers: Sequence[Header]) -> ChannelName:
    """The fewest channels that lose nothing."""
    kinds = {header.channels for header in headers}
    alpha, colour = kinds & {2, 4}, kinds & {3, 4}
    return ("RGBA" if alpha else "RGB") if colour else ("LA" if alpha else "L")


def derive_resolution(height: int, width: int) -> tuple[int, int]:
    """The size to train at for images of this size: a small grid doubled, no larger than they are.

    A size that is such a grid (at most 8 a side) stays; other squares give a power of two; else the grid that keeps
    most of the image.
    """
    sizes = [
        (h << k, w << k)
        for k in range(1, 12)
        for h in range(SMALLEST, _LARGEST_DERIVED + 1)
        for w in range(SMALLEST, _LARGEST_DERIVED + 1)
        if h << k <= height and w << k <= width
    ]
    if (height, width) in sizes:
        return height, width
    if height == width:
        sizes = [(h, w) for h, w in sizes if h == w and h & (h - 1) == 0]
    if not sizes:
        raise FruganError(
            f"images of {height}x{width} pixels are too small to derive a size; give one with --resolution, such as 8"
        )

    def kept(size: tuple[int, int]) -> float:
        aspect = (size[0] * width) / (size[1] * height)
        return size[0] * size[1] * min(aspect, 1 / aspect)

    return max(sizes, key=kept)


def size_name(size: tuple[int, int]) -> str:
    """ "64" for a square, "48x64" (height x width) else: as `--resolution` takes it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def plan_resolution(config: PixelConfig, headers: Sequence[Header]) -> tuple[int, int]:
    """(H, W): as configured, else derived from the size of all images, which is one."""
    return config.resolution or derive_resolution(headers[0].height, headers[0].width)


def plan_channels(config: PixelConfig, names: Sequence[str], headers: Sequence[Header]) -> int:
    """The number of channels: as configured, else that of all images.

    Args:
        config: with `channels`.
        names: of the images, for messages.
        headers: one for each.

    Raises `FruganError` for channels that cannot be converted.
    """
    if config.channels == "auto":
        return headers[0].channels
    odd = next((i for i, header in enumerate(headers) if header.channels not in CHANNEL_NAMES), None)
    if odd is not None:
        raise FruganError(
            f"{names[odd]} has {headers[odd].channels} channels, which cannot become {config.channels}; use --channels auto"
        )
    return CHANNELS[config.channels]
