"""Nearest pairs: samples and their nearest training images, unseen images and theirs, training images among themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from frugan.images import to_float
from frugan.metrics import EvaluateConfig, EvaluationCard, Evaluator, ImageSet, nearest, sample_images
from frugan.metrics.distances import Features2D
from frugan.reports import blocks
from frugan.reports.blocks import Block
from frugan.reports.context import Context
from frugan.reports.sheets import sheet
from frugan.reports.store import Findings

PAIRS, NEIGHBOURS = 8, 3

Neighbours = tuple[Sequence[int], Sequence[float]]
"""Positions of training images, and their distances."""


def show_pairs(context: Context, network: str, card: EvaluationCard, found: Findings) -> None:
    """Adds the nearest pairs of samples and training images: their distances, and sheets where real images may be shown.

    Args:
        context: of the report.
        network: name of the feature network.
        card: an evaluation in these features.
        found: the results to which they are added.
    """
    subject = context.subject
    stream, unseen = subject.require_stream(), subject.require_unseen()
    known = subject.data or subject.reference
    evaluator = Evaluator(
        unseen,
        EvaluateConfig(metrics=("memorisation",), features=network, batch=context.settings.batch),
        train=stream,
        device=subject.device,
        cache=known.cache_folder / "features" if known else None,
        progress=context.progress,
    )
    assert evaluator.trained is not None
    features = np.asarray(evaluator.trained.features)
    control = _nearest(evaluator.real.features, features)
    order = np.argsort([distances[0] for _, distances in control], kind="stable")[:PAIRS]
    once = subject.require_train()  # the stream begins with it; x-flipped copies follow
    among = pairs_among(features[: len(once)])[:PAIRS]
    of_samples = card.nearest[:PAIRS]
    found.numbers["identical_training_images"] = count_identical(once)
    found.numbers["nearest_pairs"] = {
        "samples": [entry["distances"][0] for entry in of_samples],
        "unseen": [control[i][1][0] for i in order],
        "training": [distance for *_, distance in among],
    }
    if not context.settings.real_images:
        text = "Real images were to be left out of this report, so the nearest pairs are not shown."
        found.blocks.append(blocks.paragraph(text, kind="note"))
        return
    if of_samples:
        rows = [(e["positions"][:NEIGHBOURS], e["distances"][:NEIGHBOURS]) for e in of_samples]
        firsts = [_sample(context, e["sample"]) for e in of_samples]
        found.blocks.append(_sheet("Samples nearest to training images", firsts, stream, rows))
    firsts = [_float(unseen[[int(i)]]) for i in order]
    title = "Control: unseen images nearest to training images"
    found.blocks.append(_sheet(title, firsts, stream, [control[i] for i in order]))
    if among:
        firsts = [_float(once[[i]]) for i, _, _ in among]
        rows = [([j], [distance]) for _, j, distance in among]
        found.blocks.append(_sheet("Training images nearest to each other", firsts, once, rows))


def pairs_among(features: Features2D) -> list[tuple[int, int, float]]:
    """(i, j, distance) of images `[N, D]` and the nearest other image, i < j, nearest first, each pair once."""
    if len(features) < 2:
        return []
    distances, rows = nearest(features, features, 2)
    own = np.arange(len(features))
    column = (rows[:, 0] == own).astype(int)  # of equal images, the other one may come first
    other, far = rows[own, column], distances[own, column]
    found = {(min(i, j), max(i, j)): float(d) for i, j, d in zip(own.tolist(), other.tolist(), far)}
    return sorted(((i, j, d) for (i, j), d in found.items()), key=lambda pair: pair[2])


def count_identical(images: ImageSet) -> int:
    """The number of images with exactly the pixels of another one."""
    digests = Counter(sha256(images[[i]].tobytes()).digest() for i in range(len(images)))
    return sum(count for count in digests.values() if count > 1)


def _nearest(points: Features2D, features: Features2D) -> list[Neighbours]:
    distances, rows = nearest(points, features, min(NEIGHBOURS, len(features)))
    return list(zip(rows.tolist(), distances.tolist()))


def _sheet(title: str, firsts: Sequence[Tensor], train: ImageSet, rows: Sequence[Neighbours]) -> Block:
    """Each image followed by its nearest training images; distances as the names of rows."""

    def images() -> Iterator[Tensor]:
        for first, (positions, _) in zip(firsts, rows):
            yield first
            yield _float(train[np.asarray(positions)])

    names = [", ".join(f"{d:.3g}" for d in distances) for _, distances in rows]
    note = "First the image, then the nearest training images; on the left their distances in features."
    return sheet(title, torch.cat(list(images())), 1 + len(rows[0][0]), row_names=names, note=note)


def _float(pixels: np.ndarray) -> Tensor:
    return to_float(torch.from_numpy(pixels))


def _sample(context: Context, number: int) -> Tensor:
    """Sample i of the measurement, `[1, C, H, W]`."""
    settings = context.settings
    options = {"seed": settings.seed, "truncation": settings.truncation, "device": context.subject.device}
    ((image, _),) = sample_images(context.subject.generator, [number], labels=context.label_pool, **options)
    return image.clamp(-1, 1).cpu()
