"""What a set of pictures is, and what training would make of it, before anything is trained."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frugan.data.cache import digests, headers
from frugan.data.dataset import DataConfig, Dataset
from frugan.data.decode import CHANNEL_NAMES, Header, resize
from frugan.data.files import Progress, in_threads
from frugan.data.labels import find_labels
from frugan.data.opening import open_dataset
from frugan.data.plan import plan_channels, plan_resolution, size_name, suggest_channels, suggest_resolution
from frugan.data.shards import is_shards
from frugan.data.sources import Source, open_source
from frugan.errors import FruganError
from frugan.pictures import grid

_SHOWN = 8  # entries of a long list that a row names


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
    classes: dict[str, int]  # pictures per class (or per label column, where not 0)
    same_files: list[list[str]]
    same_pixels: list[list[str]]  # after decoding and resizing; the same files not told again
    unreadable: list[tuple[str, str]]
    ignored: dict[str, int]
    problems: list[str]
    config: DataConfig
    dataset: Dataset

    def rows(self) -> list[tuple[str, str]]:
        """(what, finding) line by line, to be shown as a table."""
        data = self.dataset
        h, w = data.resolution
        bits = 8 * data.pixels.dtype.itemsize
        channels = CHANNEL_NAMES.get(data.channels, "") if data.alpha or data.channels in (1, 3) else ""
        labels = f"{self.label_size} columns from {self.label_origin}, used with --conditional"
        enlarged = sum(n for size, n in self.sizes.items() if _smaller(size, (h, w)))
        return [
            ("pictures", f"{self.count} readable in {self.kind} {self.path}"),
            ("formats", _listed(self.formats)),
            ("sizes (height x width)", _listed(self.sizes)),
            ("modes", _listed(self.modes)),
            ("labels", labels if self.label_size else "none"),
            *([("pictures per class", _listed(self.classes))] if self.classes else []),
            ("identical files", _groups(self.same_files)),
            ("identical pixels", _groups(self.same_pixels)),
            ("unreadable", str(len(self.unreadable) or "none")),
            *(("  skipped", f"{name}: {reason}") for name, reason in self.unreadable),
            *([("other files", _listed(self.ignored))] if self.ignored else []),
            ("training at", f"{size_name((h, w))}, {data.channels} channels {channels}, {bits} bits"),
            *([("enlarged", f"{enlarged} pictures are smaller than that")] if enlarged else []),
            ("held out", f"{len(data.held_out_indices)} of {len(data)}"),
            ("one epoch", f"{len(data.stream_indices)} pictures{', x-flips included' if self.config.mirror else ''}"),
            ("decoded", f"{data.pixels.nbytes / 1e6:,.1f} MB in {data.cache_folder}"),
            *(("problem", problem) for problem in self.problems),
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it, the pixels left out."""
        skip = ("dataset", "config")
        own = {key: value for key, value in vars(self).items() if key not in skip}
        return own | {"config": asdict(self.config), "training": self.dataset.describe()}


def inspect(
    config: DataConfig | str | Path, *, progress: Progress = None, cache_dir: str | Path | None = None
) -> Inspection:
    """Reads every picture once, and leaves them decoded in the cache for the training that follows.

    What would stop training is not raised but told under `problems`; `FruganError` only where nothing can be read.
    """
    config = config if isinstance(config, DataConfig) else DataConfig(str(config))
    if is_shards(config.path):
        raise FruganError(
            f"{config.path} is a set of shards, which inspect does not read: look at one .tar of it on this disk, or see "
            "what training makes of all with frugan train --dry-run"
        )
    source = open_source(config.path)
    count = len(source.names)

    def step(stage: int, done: int) -> None:
        if progress:
            progress(stage * count + done, 5 * count)

    heads = headers(source, lambda done: step(0, done))
    pairs = [(name, head) for name, head in zip(source.names, heads) if isinstance(head, Header)]
    config, problems = _mended(config, *(list(column) for column in zip(*pairs))) if pairs else (config, [])
    same_files = _same(source.names, _counted(digests(source), lambda done: step(1, done)))
    opened, label_problems = _opened(source, config, lambda done, total: step(2, done), cache_dir)
    told = {frozenset(group) for group in same_files}
    readable = set(opened.names)
    known = [head for name, head in pairs if name in readable]
    return Inspection(
        path=config.path,
        kind=source.kind,
        count=len(opened),
        formats=_counts(head.format for head in known),
        sizes=_counts(f"{head.height}x{head.width}" for head in known),
        modes=_counts(head.mode for head in known),
        label_origin=opened.label_origin,
        label_size=opened.label_size,
        classes=_class_counts(opened),
        same_files=same_files,
        same_pixels=[group for group in _same(opened.names, _pixel_digests(opened)) if frozenset(group) not in told],
        unreadable=opened.skipped,
        ignored=dict(source.ignored),
        problems=problems + label_problems,
        config=config,
        dataset=opened,
    )


def contact_sheet(dataset: Dataset, *, count: int = 64, columns: int | None = None, largest: int = 128) -> np.ndarray:
    """Up to `count` pictures, evenly spread over the set, each at most `largest` pixels a side: uint8 `[H, W, C]`."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    scale = min(1.0, largest / max(dataset.resolution))
    size = round(dataset.resolution[0] * scale), round(dataset.resolution[1] * scale)
    pixels = np.stack([resize(dataset.pixels[row], size, filter="box", alpha=dataset.alpha) for row in chosen])
    return grid((pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels, columns=columns)


def _mended(config: DataConfig, names: list[str], heads: list[Header]) -> tuple[DataConfig, list[str]]:
    """The config with the remedies applied that the problems propose."""
    problems = []
    try:
        plan_channels(config.pixels, names, heads)
    except FruganError as error:
        problems.append(str(error))
        config = replace(config, channels=suggest_channels(heads))
    try:
        plan_resolution(config.pixels, names, heads)
    except FruganError as error:
        problems.append(str(error))
        config = replace(config, resolution=suggest_resolution(heads))
    return config, problems


def _opened(
    source: Source, config: DataConfig, progress: Progress, cache_dir: str | Path | None
) -> tuple[Dataset, list[str]]:
    """The set with the labels asked for, else those found; without, where they are at fault."""
    problems = []
    lenient = replace(config, strict=False)
    dataset = open_dataset(replace(lenient, labels="none", balanced=False), progress=progress, cache_dir=cache_dir)
    try:
        labels = find_labels(source, dataset.names) if config.labels in ("none", "auto") else config.labels
        if labels != "none" or config.balanced:
            dataset = open_dataset(replace(lenient, labels=labels), cache_dir=cache_dir)
    except FruganError as error:
        problems.append(str(error))
    if config.strict and dataset.skipped:
        problems.append(
            f"{len(dataset.skipped)} pictures cannot be read, and --strict refuses that; mend or remove them"
        )
    return dataset, problems


def _class_counts(dataset: Dataset) -> dict[str, int]:
    names = dataset.class_names or [str(i) for i in range(dataset.label_size)]
    return {name: int(n) for name, n in zip(names, (dataset.labels != 0).sum(0))}


def _pixel_digests(dataset: Dataset) -> Iterable[bytes]:
    return in_threads(lambda row: hashlib.sha256(dataset.pixels[row].tobytes()).digest(), range(len(dataset)))


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


def _smaller(size: str, than: tuple[int, int]) -> bool:
    h, w = map(int, size.split("x"))
    return h < than[0] or w < than[1]


def _listed(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name or 'no suffix'}: {n}" for name, n in list(counts.items())[:_SHOWN])
    return f"{shown}, and {len(counts) - _SHOWN} more kinds" if len(counts) > _SHOWN else shown


def _groups(groups: list[list[str]]) -> str:
    if not groups:
        return "none"
    shown = "; ".join(" = ".join(group[:4]) for group in groups[:_SHOWN])
    return f"{sum(len(group) - 1 for group in groups)} copies: {shown}{' …' if len(groups) > _SHOWN else ''}"
