"""Opening of data sets: a configuration → a `Dataset`, whatever kind of source it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from frugan.channels import AS_FILES, parse_channels
from frugan.data.cache import STEPS, CachedPixels, cached_pixels, headers, refuse_skipped
from frugan.data.config import DataConfig
from frugan.data.dataset import Dataset
from frugan.data.groups import check_grouping, grouped, read_groups
from frugan.data.labels.read import find_labels, read_labels
from frugan.data.shards.locate import is_shards
from frugan.data.sources.base import Source
from frugan.data.sources.crops import Crops, origin
from frugan.data.sources.declared import Declaration, find_channels
from frugan.data.sources.masks import Masked
from frugan.data.sources.open import open_source
from frugan.data.streaming import channels_of_shards, declared_in, open_shards, shards_beside
from frugan.data.workers import Progress, per_image
from frugan.errors import FruganError, shown


def open_dataset(
    config: DataConfig,
    *,
    progress: Progress = None,
    cache_dir: str | Path | None = None,
    labels_optional: bool = False,
) -> Dataset:
    """Opens a set of images, which are decoded into the cache first where they are not in it.

    Args:
        config: where the images are, and what is made of them.
        progress: called with (done, total) images, or shards of a set of shards.
        cache_dir: the cache's folder; None: the user's.
        labels_optional: whether labels "auto" may find none.

    Raises `FruganError` for every mistake that a user can correct.
    """
    if is_shards(config.path):
        return open_shards(config, progress=progress, cache_dir=cache_dir, labels_optional=labels_optional)
    config, source = open_images(config)
    steps = per_image(progress, len(source.names), STEPS)
    cached = cached_pixels(source, config.pixels, cache_dir=cache_dir, progress=steps)
    if isinstance(source, Crops):
        return _cropped(config, source, cached, labels_optional=labels_optional)
    if config.strict:
        refuse_skipped(cached.skipped, len(cached.names))
    if labels_optional and config.labels == "auto":
        config = replace(config, labels=find_labels(source, cached.names))
    labels = read_labels(source, config.labels, cached.names)
    groups = read_groups(source, config.group, cached.names) if config.group else None
    return Dataset(config, cached, labels, source.own, groups=groups)


def regroup(dataset: Dataset, by: str) -> None:
    """Groups the images of an open set by a rule (see `frugan.data.groups`); which of them are held out stays as it is.

    Raises `FruganError` where an image has no group, or the images are in shards or crops.
    """
    check_grouping(by)
    config = dataset.config
    if is_shards(config.path) or config.crops:
        kind = "shards" if is_shards(config.path) else "crops"
        raise FruganError(
            f"--group {shown(by)}: {config.path} is read as {kind}, whose groups are those that the run trained with"
        )
    dataset.groups = read_groups(open_images(config)[1], by, dataset.names)


def open_images(config: DataConfig) -> tuple[DataConfig, Source]:
    """The images at the configuration's path, with their masks, or crops of these; and the configuration with the channels that a
    data.json beside them declares. Raises `FruganError`."""
    source: Source = open_source(config.path, use_generated=config.use_generated, taken=config.taken)
    declared = Declaration.of(config.channels, None if config.channels == AS_FILES else find_channels(source))
    config, source = declared_in(config, declared), declared.named(source)
    if count := config.pixels.masks:
        masks = open_source(config.masks, use_generated=config.use_generated) if config.masks else None
        images = parse_channels(config.channels).images
        source = Masked(source, masks, images=images, count=count, background=config.background)
    crops = config.crop_config
    return config, Crops(source, headers(source), crops) if crops else source


def declared_masks(config: DataConfig) -> int:
    """How many masks a data.json beside the images declares."""
    beside = shards_beside(config.path) if is_shards(config.path) else None
    found = find_channels(beside or open_source(config.path, use_generated=True, taken=config.taken))
    return parse_channels(found.channels).masks if found else 0


def has_channels_of(channels: str, path: str) -> bool:
    """Whether `channels` tells of masks, and the first readable image at a path has as many channels as it tells of."""
    declared = parse_channels(channels)
    if declared.images is None:
        return False
    if is_shards(path):
        return channels_of_shards(path) == declared.images + declared.masks
    source = open_source(path, use_generated=True)
    for index in range(len(source.names)):
        try:
            return source.header(index).channels == declared.images + declared.masks
        except Exception:  # a decoder given a broken file raises anything at all; it is told when the set is opened
            continue
    return False


def _cropped(config: DataConfig, source: Crops, cached: CachedPixels, *, labels_optional: bool) -> Dataset:
    """The data set of crops: each has the label of the image that it was cut from, and its group, by default that image."""
    origins = [origin(name) for name in cached.names]
    image_of = dict(zip(source.names, source.origins))
    skipped = list(dict.fromkeys((image_of.get(name, name), why) for name, why in cached.skipped))
    cached = replace(cached, skipped=skipped)
    if config.strict:
        refuse_skipped(skipped, len(set(origins)))
    images = list(dict.fromkeys(origins))
    if labels_optional and config.labels == "auto":
        config = replace(config, labels=find_labels(source.source, images))
    labels = read_labels(source.source, config.labels, images)
    row = {image: i for i, image in enumerate(images)}
    rows = [row[image] for image in origins]
    groups = grouped(origins, "source image")
    if config.group:
        of_images = read_groups(source.source, config.group, images)
        groups = replace(of_images, numbers=of_images.numbers[rows])
    return Dataset(config, cached, replace(labels, values=labels.values[rows]), source.own, groups=groups)
