"""Measuring a finished generator: which images it is held against, and the card that comes of it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from frugan.channels import CHANNEL_NAMES
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.open import has_channels_of, regroup
from frugan.data.shards.locate import is_shards
from frugan.data.values import range_name
from frugan.device import choose_device
from frugan.errors import FruganError
from frugan.files import check_writable
from frugan.images import save_image
from frugan.label_parts import LabelPart, label_parts
from frugan.metrics import (
    EvaluateConfig,
    EvaluationCard,
    Evaluator,
    ImageScore,
    ImageSet,
    default_metric,
    load_statistic,
)
from frugan.networks import Generator
from frugan.pixel_format import is_colour
from frugan.run.directory import Advance, RunDirectory
from frugan.run.load import generator_folder, load_with_notes
from frugan.tracking import Page

if TYPE_CHECKING:
    import torch

Part = Literal["held-out", "train", "all"]
Against = Literal["auto", Part]


def evaluate(
    source: str | Path,
    *,
    data: str | None = None,
    reference: str | None = None,
    group: str | None = None,
    against: Against = "auto",
    out: str | Path | None = None,
    device: str = "auto",
    progress: Advance | None = None,
    written: Callable[[Path], object] = lambda _: None,
    **options: Any,
) -> EvaluationCard:
    """Measures the generator of a run, of a checkpoint or of a foreign file; `options` are the fields of `EvaluateConfig`.

    The images are the run's own (`data`: where they are now, or for a checkpoint without a run). It is measured
    `against` those held out ("auto": where there are any, else those trained on), or against `reference`, other
    images, all of them. `group` says which images belong together, of the reference too (see `frugan.data.groups`); by
    default as the run was trained. The card is saved to `out`, by default in the run's `evaluations`; beside it a sheet of
    nearest neighbours where memorisation is measured; `written` hears the path of each.
    """
    source = Path(source)
    if reference is not None and against not in ("auto", "all"):
        raise FruganError(
            f"--against {against} with --reference: other images are measured against as a whole; leave one out"
        )
    if out is not None:
        check_writable(out)
        _refuse_card(Path(out))
    folder = source if source.is_file() else generator_folder(source)
    run = RunDirectory(source) if (source / "config.yaml").is_file() else run_of(folder)
    home = run.path / "evaluations" if run else Path()
    if out is None:
        check_writable(home, "folder")
    place = choose_device(device)
    whole, notes = load_with_notes(folder)
    generator = whole.to(place).without_masks()
    own = own_images(run, data, generator, group)
    judged = own
    if reference is not None:
        judged = _other_images(reference, own, generator, group, per_class=options.get("per_class", False))
    if judged is None:
        raise FruganError(f"{source} does not know its images: say where they are with --data, or give a --reference")
    check_shape(judged, generator)
    part = _part_of(judged, against, own=judged is own)
    images = image_set_of(judged, part)
    unseen = own is not None and (judged is not own or part == "held-out")
    config = EvaluateConfig(**{"metrics": (default_metric(len(images)),), **options})
    for name in config.statistics:
        load_statistic(name)
    attacks, untried = _attacks(folder, generator, place) if "membership" in config.metrics else ({}, {})
    evaluator = Evaluator(
        images,
        config,
        train=image_set_of(own, "stream") if own is not None and unseen else None,
        labels=(own or judged).label_pool.numpy(),
        parts=_label_parts(own or judged),
        pairs=whole if whole.config.masks else None,
        attacks=attacks,
        untried=untried,
        partial=True,
        device=place,
        cache=judged.cache_folder / "features",
        progress=progress,
    )
    card = evaluator(generator, progress)
    card.subject.update(path=str(source), checkpoint=folder.name, **({"notes": notes} if notes else {}))
    card.conditions.update(reference=judged.config.path, against=part)
    file = Path(out) if out else _free_name(home / f"{folder.name}-{config.samples}-samples.json")
    _save_card(card, file, lambda: evaluator.nearest_sheet(generator, card), written)
    if run and not out:
        Page(run.path).write()
    return card


def _save_card(
    card: EvaluationCard, file: Path, nearest_sheet: Callable[[], np.ndarray], written: Callable[[Path], object]
) -> None:
    """Writes the card, after the sheet of nearest neighbours beside it where it has any; `written` hears the path of each."""
    sheet = file.with_name(f"{file.name.removesuffix('.json')}.nearest.png")
    sheets = [save_image(nearest_sheet(), sheet)] if card.nearest else []
    for path in (card.save(file), *sheets):
        written(path)


def _attacks(folder: Path, generator: Generator, device: torch.device) -> tuple[dict[str, ImageScore], dict[str, str]]:
    """`membership_scores`, imported where it is needed: it loads projection, for which training has no use."""
    from frugan.run.membership import membership_scores

    return membership_scores(folder, generator, device)


def _other_images(
    path: str, own: Dataset | None, generator: Generator, group: str | None, *, per_class: bool
) -> Dataset:
    """Images in the generator's shape that it was not trained on; those that are marked as generated, too."""
    labels = generator.label_size > 0 and (own is None or per_class)
    config = same_shape(own.config if own else None, path, generator, labels=labels)
    images = open_dataset(dataclasses.replace(config, use_generated=True))
    if group:
        regroup(images, group)
    return images


def _part_of(images: Dataset, against: Against, *, own: bool) -> Part:
    """The part of the images that is measured against: "auto" means those held out of the run's own, where there are
    any, else those trained on; and all of others. Raises `FruganError` where none were held out.
    """
    held_out = len(images.held_out_indices) > 0
    if against == "auto":
        return ("held-out" if held_out else "train") if own else "all"
    if against == "held-out" and not held_out:
        raise FruganError("no images were held out from this run's training; give others with --reference")
    return against


def _refuse_card(file: Path) -> None:
    """Raises `FruganError` where the file is an evaluation card."""
    try:
        EvaluationCard.load(file)
    except FruganError:
        return
    raise FruganError(
        f"{file} is an evaluation card already, and cards are not overwritten: give another --out, or remove it"
    )


def _free_name(file: Path) -> Path:
    """The file, or where that is there already, it with the next number."""
    numbered = (file.with_name(f"{file.name.removesuffix('.json')}-{i}.json") for i in itertools.count(2))
    return next(f for f in itertools.chain([file], numbered) if not f.exists())


def _label_parts(dataset: Dataset) -> list[LabelPart]:
    return label_parts(dataset.label_size, dataset.class_names, dataset.measured)


def run_of(folder: Path) -> RunDirectory | None:
    """The run that a checkpoint directory lies in."""
    home = folder.resolve().parent.parent
    return RunDirectory(home) if (home / "config.yaml").is_file() else None


def own_images(
    run: RunDirectory | None, data: str | None, generator: Generator, group: str | None = None
) -> Dataset | None:
    """The images that a generator was trained on; None where they are unknown.

    Args:
        run: its directory, or None for a generator without.
        data: where the images are now; None: where they were.
        generator: for their shape.
        group: a rule that says which images belong together, in place of the run's.
    """
    if run is not None:
        own = run.open_data(data)
    elif data:
        own = open_dataset(same_shape(None, data, generator, labels=generator.label_size > 0))
    else:
        return None
    if group:
        regroup(own, group)
    return own


def same_shape(like: DataConfig | None, path: str, generator: Generator, *, labels: bool) -> DataConfig:
    """The configuration of other images in the generator's shape, made as the run's own images are; none mirrored, none
    held out.

    Args:
        like: the run's own, or None.
        path: of the other images; a single file is read with all its frames or pages.
        generator: for size and channels.
        labels: whether labels are wanted.
    """
    like = like or DataConfig(path, value_range=_range_of(generator))
    changes = {
        "path": path,
        "cache_limit": like.cache_limit if is_shards(path) else None,
        "without": (),
        "mirror": False,
        "balanced": False,
        "held_out": 0,
        "masks": None,
        "labels": "auto" if labels else "none",
        **({"frames": "all"} if Path(path).expanduser().is_file() else {}),
    }
    colour = is_colour(generator.channels, alpha=generator.pixels.alpha)
    channels = CHANNEL_NAMES[generator.channels] if colour else "auto"
    channels = like.channels if has_channels_of(like.channels, path) else channels
    return dataclasses.replace(like, resolution=generator.resolution, channels=channels, **changes)


def _range_of(generator: Generator) -> str:
    pixels = generator.pixels
    return "auto" if pixels.dtype == "uint8" else range_name(pixels.value_range)


def check_shape(dataset: Dataset, generator: Generator) -> None:
    theirs, ours = (*dataset.resolution, dataset.image_channels), (*generator.resolution, generator.channels)
    if theirs != ours:
        raise FruganError(
            f"the images at {dataset.config.path} are {theirs} (height, width, channels), the generator makes {ours}"
        )


def image_set_of(dataset: Dataset, which: Literal[Part, "stream"]) -> ImageSet:
    """Part of a data set as metrics take it; "stream" is what training sees, x-flipped copies included."""
    rows = {
        "train": dataset.train_indices,
        "held-out": dataset.held_out_indices,
        "all": np.arange(len(dataset)),
        "stream": dataset.stream_indices,
    }[which]
    groups = None if dataset.groups is None else np.array(dataset.groups.names)[dataset.groups.numbers]
    channels = dataset.image_channels if dataset.masks else None
    values = [len(mask.values) for mask in dataset.masks]
    return ImageSet(dataset.pixels, rows, dataset.labels, dataset.names, dataset.class_names, groups, channels, values)
