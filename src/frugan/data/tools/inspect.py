"""A report on a set of images, and on what training would make of it, before anything is trained."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from frugan.channels import CHANNEL_NAMES
from frugan.command_line import command
from frugan.data.cache import digests, headers
from frugan.data.config import DataConfig
from frugan.data.dataset import Dataset, untrained_warning
from frugan.data.decode import Header, resize
from frugan.data.duplicates import MOST_IMAGES, Pair, describe_pair, near_duplicates, split_warning
from frugan.data.labels.read import find_labels, tables_beside
from frugan.data.open import open_dataset, open_images
from frugan.data.shards.locate import is_shards
from frugan.data.sources.base import Derived, Source
from frugan.data.sources.crops import Crops
from frugan.data.sources.declared import DATA_FILE, Named
from frugan.data.stats import kept_share, percent
from frugan.data.target import MixedImages, size_name
from frugan.data.workers import Progress, in_threads, per_image
from frugan.errors import FruganError, by_reason, counted, shown
from frugan.image_files import Kind, choose_sheet
from frugan.images import beside_masks, grid, to_float
from frugan.pixel_format import full_value, is_colour

_SHOWN = 8  # entries of a long list that a row names
_STEPS = 5  # for each image: its header, its hash, and three for decoding it
_NEAR = 0.04  # of the range: values this near to black or white ...
_SELDOM = 0.01  # ... but for this share of them make an image nearly black or white


@dataclass(frozen=True)
class Inspection:
    """The report of `inspect`. `problems` would stop a training run with the config that was asked for; `config` is
    that config with the remedies applied, and `dataset` the set opened with it."""

    path: str
    kind: str
    count: int
    formats: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    label_origin: str
    label_size: int
    classes: dict[str, int]  # images per class or flag
    measured: list[dict[str, Any]]  # of each label column of numbers, in the label's unit: its distribution
    same_files: list[list[str]]
    same_pixels: list[list[str]]  # after decoding and resizing; the same files not told again
    near: list[Pair]  # images that are nearly the same, by number; the most alike first
    near_split: str | None  # what is to be said of those on both sides of the split
    untrained: str | None  # likewise of classes that are held out whole
    kept: dict[str, float]  # share of an image of each size that the crop leaves
    flat: list[str]  # images of a single colour
    black: list[str]  # images that are nearly black where they are not transparent, those of a single colour included
    white: list[str]
    own: list[str]  # images that frugan wrote, which are skipped
    unreadable: list[tuple[str, str]]
    ignored: dict[str, int]
    problems: list[str]
    config: DataConfig
    dataset: Dataset

    def rows(self) -> list[tuple[str, str]]:
        """(what, finding) line by line, to be shown as a table."""
        data = self.dataset
        h, w = data.resolution
        labels = f"{counted(self.label_size, 'column')} from {self.label_origin}, used with --conditional"
        enlarged = sum(n for size, n in self.sizes.items() if _smaller(size, (h, w)))
        return [
            ("images", f"{self.count} readable in {self.kind} {self.path}"),
            ("formats", _listed(self.formats)),
            ("sizes (height x width)", _listed(self.sizes)),
            *self._size_rows(),
            ("modes", _listed(self.modes)),
            ("labels", labels if self.label_size else "none"),
            *((f"  {name}", text) for name, text in data.describe_labels()),
            *((f"values, {value.channel}", str(value)) for value in data.stats.values),
            *self._single_rows(),
            ("identical files", _groups(self.same_files)),
            ("identical pixels", _groups(self.same_pixels)),
            ("near-duplicates", self._near_row()),
            ("unreadable", str(len(self.unreadable) or "none")),
            *(("  skipped", f"{names}: {reason}") for names, reason in by_reason(self.unreadable)),
            *([("other files", _listed(self.ignored))] if self.ignored else []),
            ("training at", f"{size_name((h, w))}, {_channels(data)}, {data.depth} bits"),
            *([("enlarged", f"{enlarged} images are smaller than that")] if enlarged else []),
            *([("groups", data.groups.describe(data.held_out_indices))] if data.groups else []),
            ("held out", f"{len(data.held_out_indices)} of {len(data)}"),
            ("images of an epoch", f"{len(data.stream_indices)}{', x-flips included' if self.config.mirror else ''}"),
            ("decoded", f"{data.pixels.nbytes / 1e6:,.1f} MB in {data.cache_folder}"),
            *(("note", note) for note in data.notes),
            *([("problem", self.near_split)] if self.near_split else []),
            *([("problem", self.untrained)] if self.untrained else []),
            *(("problem", problem) for problem in self.problems),
        ]  # fmt: skip

    def _size_rows(self) -> Iterable[tuple[str, str]]:
        """Rows on what is made of each size, where there are a few of them or something is cropped."""
        sizes = sorted(self.sizes, key=lambda size: self.kept[size])[:_SHOWN]
        if len(self.sizes) > 1 or self.kept[sizes[0]] < 1:
            for size in sizes:
                count = self.sizes[size]
                images = "1 image" if count == 1 else f"{count} images"
                h, w = self.dataset.resolution
                change = "enlarged" if _smaller(size, (h, w)) else "reduced" if size != f"{h}x{w}" else "kept as it is"
                cut = 1 - self.kept[size]
                yield f"  {size}", f"{images}, {change}{f', {percent(cut)} cut away' if cut else ''}"

    def _single_rows(self) -> Iterable[tuple[str, str]]:
        """Images that say little, by name."""
        for what, names in (("of one colour", self.flat), ("nearly black", self.black), ("nearly white", self.white)):
            if names:
                yield what, f"{len(names)} of {self.count}: {_first(names)}"

    def _near_row(self) -> str:
        """Pairs that are nearly the same; those of two groups first, since those of one are as they should be."""
        groups, pairs = self.dataset.groups, self.near
        if not pairs:
            return "none"
        apart = [pair for pair in pairs if groups and groups.numbers[pair.first] != groups.numbers[pair.second]]
        count = f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}"
        first = "; ".join(describe_pair(pair, self.dataset.names) for pair in (apart or pairs)[:_SHOWN])
        between = f", {len(apart)} between groups" if groups else ""
        return f"{count}{between}: {first}{' …' if len(apart or pairs) > _SHOWN else ''}"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it, the pixels left out."""
        skip = ("dataset", "config")
        own = {key: value for key, value in vars(self).items() if key not in skip}
        own["near"] = [
            [self.dataset.names[p.first], self.dataset.names[p.second], p.similarity, p.flipped] for p in self.near
        ]
        found = {"values": [asdict(value) for value in self.dataset.stats.values], "notes": self.dataset.notes}
        return own | found | {"config": asdict(self.config), "training": self.dataset.describe()}


def inspect(
    config: DataConfig | str | Path, *, progress: Progress = None, cache_dir: str | Path | None = None
) -> Inspection:
    """Examines a set of images: it reads every image once, and leaves it decoded in the cache for training.

    What would prevent training is not raised but listed under `problems`.

    Args:
        config: where the images are, and what is made of them; or just the path.
        progress: called with (done, total) images.
        cache_dir: the cache's folder; None: the user's.

    Raises `FruganError` where nothing can be read.
    """
    config = config if isinstance(config, DataConfig) else DataConfig(str(config))
    _refuse_shards(config.path)
    config, source = open_images(config)
    count = len(source.names)
    steps = per_image(progress, count, _STEPS) or (lambda done, total: None)
    heads = headers(source, lambda done: steps(done, _STEPS * count))
    same_files = _same(source.names, _counted(digests(source), lambda done: steps(count + done, _STEPS * count)))
    decoding: Progress = lambda done, total: steps(2 * count + (_STEPS - 2) * done, _STEPS * count)  # noqa: E731
    config, problems = _settled(config, source, heads, decoding, cache_dir)
    opened, label_problems = _opened(source, config, decoding, cache_dir)
    readable = set(opened.names)
    known = [head for name, head in zip(source.names, heads) if isinstance(head, Header) and name in readable]
    sizes = _counts(f"{head.height}x{head.width}" for head in known)
    looks = list(in_threads(lambda row: _look(opened, row), range(len(opened))))
    same_pixels = _same(opened.names, [look.digest for look in looks])
    told = {frozenset(group) for group in same_files}
    return Inspection(
        path=config.path,
        kind=source.kind,
        count=len(opened),
        formats=_counts(head.format for head in known),
        sizes=sizes,
        modes=_counts(head.mode for head in known),
        label_origin=opened.label_origin,
        label_size=opened.label_size,
        classes=_class_counts(opened),
        measured=[asdict(column) for column in opened.measured],
        same_files=same_files,
        same_pixels=[group for group in same_pixels if frozenset(group) not in told],
        near=_near(opened, looks),
        near_split=split_warning(opened),
        untrained=untrained_warning(opened),
        kept={size: kept_share(_size(size), opened.resolution, config.fit) for size in sizes},
        flat=[name for name, look in zip(opened.names, looks) if look.flat],
        black=[name for name, look in zip(opened.names, looks) if look.black],
        white=[name for name, look in zip(opened.names, looks) if look.white],
        own=source.own.names,
        unreadable=opened.skipped,
        ignored=_unused(source, opened.config),
        problems=problems + label_problems,
        config=config,
        dataset=opened,
    )


def _unused(source: Source, config: DataConfig) -> dict[str, int]:
    """Files by suffix that are neither images nor in use: for labels, groups, or what channels are."""
    counts = Counter(source.ignored)
    used = {place for table in (config.labels, config.group or "") for place in tables_beside(source, table)}
    within: Any = source
    while isinstance(within, Derived):
        used |= {*source.places(DATA_FILE)} if isinstance(within, Named) else set()
        within = within.source
    counts.subtract(Path(place).suffix.lower() for place in used)
    return dict(+counts)


def _refuse_shards(path: str) -> None:
    if is_shards(path):
        raise FruganError(
            f"{path} is a set of shards, which inspect does not read: look at one .tar of it on this disk, or see "
            f"what training makes of all with {command('train', path, '--dry-run')}"
        )


def contact_sheet(
    dataset: Dataset, *, count: int = 64, columns: int | None = None, largest: int = 128, kind: Kind = "png"
) -> np.ndarray:
    """A sheet of images evenly spread over the set: uint8 or uint16 `[H, W, C]`.

    Args:
        dataset: the images.
        count: at most so many.
        columns: of the sheet; None: about square.
        largest: side of each image in pixels, at most.
        kind: of file that it is for.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    scale = min(1.0, largest / max(dataset.resolution))
    size = round(dataset.resolution[0] * scale), round(dataset.resolution[1] * scale)
    pixels = np.stack([resize(dataset.pixels[row], size, filter="box", alpha=dataset.alpha) for row in chosen])
    images = beside_masks(to_float(torch.from_numpy(pixels)), len(dataset.masks), alpha=dataset.alpha)
    sheet = choose_sheet(dataset.pixel_format, dataset.image_channels, kind)
    return grid(sheet.values(images), columns=columns)


def _settled(
    config: DataConfig, source: Source, heads: Sequence[Header | str], progress: Progress, cache_dir: str | Path | None
) -> tuple[DataConfig, list[str]]:
    """The config with the remedies applied that the problem proposes, if there is one."""
    try:
        open_dataset(
            replace(config, labels="none", balanced=False, strict=False, group=None, held_out=0),
            progress=progress,
            cache_dir=cache_dir,
        )
        return config, []
    except MixedImages as error:
        return replace(config, channels=error.channels, resolution=error.resolution), [str(error)]


def _opened(
    source: Source, config: DataConfig, progress: Progress, cache_dir: str | Path | None
) -> tuple[Dataset, list[str]]:
    """The set split as asked for, with the labels asked for, else those found; without, where either is at fault."""
    problems = []
    plain = replace(config, strict=False, labels="none", balanced=False, group=None, held_out=0)
    dataset = open_dataset(plain, progress=progress, cache_dir=cache_dir)

    def split() -> DataConfig:
        return replace(plain, group=config.group, held_out=config.held_out)

    def labelled() -> DataConfig:
        images, names = source, dataset.names
        if isinstance(source, Crops):
            images, names = source.source, list(dict.fromkeys(source.origins))
        labels = find_labels(images, names) if config.labels in ("none", "auto") else config.labels
        return replace(plain, labels=labels, balanced=config.balanced)

    for asked in (split, labelled):
        try:
            if (more := asked()) != plain:
                dataset, plain = open_dataset(more, cache_dir=cache_dir), more
        except FruganError as error:
            problems.append(str(error))
    if config.strict and dataset.skipped:
        problems.append(f"{len(dataset.skipped)} images cannot be read, and --strict refuses that; fix or remove them")
    return dataset, problems


def _channels(data: Dataset) -> str:
    """ "3 channels RGB", "4 channels RGB and a mask", "5 channels (blue, green, red, nir, swir)"."""
    count, own, names = len(data.masks), data.image_channels, data.pixel_format.names
    known = f" {CHANNEL_NAMES[own]}" if is_colour(own, alpha=data.alpha) else ""
    kind = f" ({_first(names)})" if names else known
    masks = f" and {count} masks" if count > 1 else " and a mask" if count else ""
    return f"{data.channels} {'channel' if data.channels == 1 else 'channels'}{kind}{masks}"


def _class_counts(dataset: Dataset) -> dict[str, int]:
    names = dataset.class_names or [str(i) for i in range(dataset.label_size)]
    counts = zip(names, (dataset.labels != 0).sum(0))
    return {name: int(n) for i, (name, n) in enumerate(counts) if i not in dataset.measured_columns}


def _near(dataset: Dataset, looks: Sequence[_Look]) -> list[Pair]:
    """Pairs that are nearly, but not quite the same; none of more images than can be compared in bounded time."""
    if len(dataset) > MOST_IMAGES:
        return []
    pairs = near_duplicates(dataset.pixels)
    return [pair for pair in pairs if looks[pair.first].digest != looks[pair.second].digest]


class _Look(NamedTuple):
    """Findings on one image's pixels, as training sees them."""

    digest: bytes
    flat: bool
    black: bool
    white: bool


def _look(dataset: Dataset, row: int) -> _Look:
    pixels = dataset.pixels[row]
    top = full_value(pixels.dtype)
    colours = pixels.reshape(-1, pixels.shape[-1])
    if dataset.alpha:
        colours = colours[colours[:, -1] > 0][:, :-1]
    few, digest = _SELDOM * colours.size, hashlib.sha256(pixels.tobytes()).digest()
    if not colours.size:
        return _Look(digest, flat=True, black=False, white=False)
    return _Look(
        digest,
        flat=bool((colours == colours[0]).all()),
        black=bool(np.count_nonzero(colours > _NEAR * top) <= few),
        white=bool(np.count_nonzero(colours < (1 - _NEAR) * top) <= few),
    )


def _same(names: Sequence[str], found: Iterable[bytes | None]) -> list[list[str]]:
    groups: defaultdict[bytes | None, list[str]] = defaultdict(list)
    for name, digest in zip(names, found):
        groups[digest].append(name)
    groups.pop(None, None)
    return [group for group in groups.values() if len(group) > 1]


def _counted(items: Iterable[Any], step: Any) -> Iterable[Any]:
    for done, item in enumerate(items, 1):
        yield item
        step(done)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _size(name: str) -> tuple[int, int]:
    h, w = map(int, name.split("x"))
    return h, w


def _smaller(size: str, than: tuple[int, int]) -> bool:
    h, w = _size(size)
    return h < than[0] or w < than[1]


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(map(shown, names[:_SHOWN]))}{', …' if len(names) > _SHOWN else ''}"


def _listed(counts: dict[str, int]) -> str:
    first = ", ".join(f"{shown(name) or 'no suffix'}: {n}" for name, n in list(counts.items())[:_SHOWN])
    return f"{first}, and {len(counts) - _SHOWN} more kinds" if len(counts) > _SHOWN else first


def _groups(groups: list[list[str]]) -> str:
    if not groups:
        return "none"
    first = "; ".join(" = ".join(map(shown, group[:4])) for group in groups[:_SHOWN])
    count = sum(len(group) - 1 for group in groups)
    return f"{count} {'copy' if count == 1 else 'copies'}: {first}{' …' if len(groups) > _SHOWN else ''}"
