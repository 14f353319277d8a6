"""From a configuration to a data set, whatever kind of source it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from frugan.data.cache import STEPS, cached_pixels, refuse_skipped
from frugan.data.config import DataConfig
from frugan.data.dataset import Dataset
from frugan.data.groups import read_groups
from frugan.data.labels.read import find_labels, read_labels
from frugan.data.shards.locate import is_shards
from frugan.data.sources.open import open_source
from frugan.data.streaming import open_shards
from frugan.data.workers import Progress, per_image


def open_dataset(
    config: DataConfig,
    *,
    progress: Progress = None,
    cache_dir: str | Path | None = None,
    labels_optional: bool = False,
) -> Dataset:
    """Opens a set of images, decoding them into the cache first where that has not been done.

    `progress(done, total)` counts images; of a set of shards, shards. `labels_optional`: labels "auto" may find none. Raises
    `FruganError` for every mistake that a user can fix.
    """
    if is_shards(config.path):
        return open_shards(config, progress=progress, cache_dir=cache_dir, labels_optional=labels_optional)
    source = open_source(config.path, use_generated=config.use_generated)
    steps = per_image(progress, len(source.names), STEPS)
    cached = cached_pixels(source, config.pixels, cache_dir=cache_dir, progress=steps)
    if config.strict:
        refuse_skipped(cached.skipped, len(cached.names))
    if labels_optional and config.labels == "auto":
        config = replace(config, labels=find_labels(source, cached.names))
    labels = read_labels(source, config.labels, cached.names)
    groups = read_groups(source, config.group, cached.names) if config.group else None
    return Dataset(config, cached, labels, source.own, groups=groups)
