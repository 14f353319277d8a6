"""From a configuration to a data set, whatever kind of source it names."""

from __future__ import annotations

from pathlib import Path

from frugan.data.cache import cached_pixels, refuse_skipped
from frugan.data.dataset import DataConfig, Dataset
from frugan.data.files import Progress
from frugan.data.labels import read_labels
from frugan.data.shards import is_shards
from frugan.data.sources import open_source
from frugan.data.streaming import open_shards


def open_dataset(
    config: DataConfig,
    *,
    progress: Progress = None,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Opens a set of pictures, decoding them into the cache first where that has not been done.

    `progress(done, total)` counts steps, three per picture; of a set of shards, shards. Raises `FruganError` for every
    mistake a user can mend.
    """
    if is_shards(config.path):
        return open_shards(config, progress=progress, cache_dir=cache_dir)
    source = open_source(config.path)
    cached = cached_pixels(source, config.pixels, cache_dir=cache_dir, progress=progress)
    if config.strict:
        refuse_skipped(cached.skipped, len(cached.names))
    return Dataset(config, cached, read_labels(source, config.labels, cached.names))
