"""Evidence for metrics that features do not hold: images with labels (usefulness), scores (membership), user statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from frugan.distributed import gather, own_share
from frugan.images import to_pixels
from frugan.label_parts import LabelPart
from frugan.metrics.distances import Array
from frugan.metrics.image_set import ImageSet, mask_numbers
from frugan.metrics.sampling import GeneratorLike, sample_images
from frugan.metrics.user_statistics import StatisticComparison, compare_statistic, load_statistic, statistic_values
from frugan.metrics.utility import Examples, Kind, task_of

MOST_EXAMPLES = 5000
"""Images of each kind that usefulness and statistics look at."""


@dataclass(frozen=True)
class ImageScore:
    """An attack's score of images, high for "was trained on": of pixels `[n, H, W, C]` and labels `[n, K]` or None, `[n]`.

    Each image's must not depend on those beside it. `most`: images of either side that it is worth computing for; `batch`:
    how many at once; `with_masks`: of all channels `[n, H, W, C + M]`.
    """

    score: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
    most: int
    batch: int = 64
    with_masks: bool = False


@dataclass(frozen=True)
class AttackScores:
    """Scores of training images and of others, with their positions in the training set and in the reference."""

    members: Array
    member_positions: np.ndarray
    non_members: Array
    non_member_positions: np.ndarray


@dataclass(frozen=True)
class Task:
    """A prediction task from labels or masks: real images that were trained on, generated ones, and real ones for
    testing, with answers.
    """

    name: str
    kind: Kind
    real: Examples
    synthetic: Examples
    test: Examples
    test_positions: np.ndarray
    """Of the test images in the reference."""


@dataclass
class ImageEvidence:
    """Images of a generator and of the real sets that it is compared with.

    Attributes:
        generator: what draws the samples.
        reference: the real images to compare with.
        control: positions in the reference whose images share no group with training images.
        train: the training images, or None.
        members: positions in `train` that are no x-flipped copies.
        labels: float32 `[M, K]`, from whose rows the labels of generated images are drawn, or None.
        parts: the meaning of the columns of `labels`.
        pairs: the generator with its masks, if it makes any.
        attacks: scores for membership inference, by the attack's name.
        untried: the reasons why other attacks have none.
        samples, seed, truncation, batch, device: of the generated images, as in `EvaluateConfig`.
    """

    generator: GeneratorLike
    pairs: GeneratorLike | None
    reference: ImageSet
    control: np.ndarray
    train: ImageSet | None
    members: np.ndarray
    labels: np.ndarray | None
    parts: Sequence[LabelPart]
    attacks: Mapping[str, ImageScore] = field(default_factory=dict)
    untried: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0
    seed: int = 0
    truncation: float = 1.0
    batch: int = 64
    device: torch.device | str = "cpu"

    @cached_property
    def generated(self) -> tuple[np.ndarray, np.ndarray]:
        """The first samples `[n, H, W, C]` in the reference's bit depth, and the rows of `labels` `[n]` that they were made for."""
        return self._made(self.generator)

    @cached_property
    def generated_masks(self) -> np.ndarray:
        """The masks of the first samples, as the numbers of their values: uint8 `[n, H, W, M]`."""
        assert self.pairs is not None
        pixels, _ = self._made(self.pairs)
        return mask_numbers(pixels[..., self.reference.image_channels :], self.reference.mask_values)

    def _made(self, generator: GeneratorLike) -> tuple[np.ndarray, np.ndarray]:
        own = own_share(min(self.samples, MOST_EXAMPLES), self.batch)
        depth = 8 * self.reference.pixels.dtype.itemsize
        made = sample_images(
            generator,
            own,
            seed=self.seed,
            batch=self.batch,
            truncation=self.truncation,
            labels=self.labels,
            device=self.device,
        )
        parts = [(to_pixels(images, depth), rows) for images, rows in made]
        pixels, rows = zip(*(part for own_parts in gather(parts) for part in own_parts))
        return np.concatenate(pixels), np.concatenate(rows)

    def tasks(self) -> Iterator[Task]:
        """A task for each part of the labels, and for each mask, where the reference has the same ones; see `task_of`."""
        if self.train is None:
            return
        trained = _spread_over(self.members, MOST_EXAMPLES)
        tested = _spread_over(self.control, MOST_EXAMPLES)
        yield from self._label_tasks(self.train, trained, tested)
        yield from self._mask_tasks(self.train, trained, tested)

    def _mask_tasks(self, train: ImageSet, trained: np.ndarray, tested: np.ndarray) -> Iterator[Task]:
        values = self.reference.mask_values
        if self.pairs is None or not values or values != train.mask_values:
            return
        masks = train.masks_of(trained), self.generated_masks, self.reference.masks_of(tested)
        images = train[trained], self.generated[0], self.reference[tested]
        for k in range(len(values)):
            real, synthetic, test = (Examples(pixels, own[..., k]) for pixels, own in zip(images, masks))
            yield Task("mask" if len(values) == 1 else f"mask {k + 1}", "mask", real, synthetic, test, tested)

    def _label_tasks(self, train: ImageSet, trained: np.ndarray, tested: np.ndarray) -> Iterator[Task]:
        if self.labels is None or not self.parts:
            return
        labels = train.labels_of(trained), self.reference.labels_of(tested)
        if any(own is None or own.shape[1] != self.labels.shape[1] for own in labels):
            return
        pixels, rows = self.generated
        sets = (
            (train[trained], labels[0]),
            (pixels, self.labels[rows]),
            (self.reference[tested], labels[1]),
        )
        for part in self.parts:
            found = [(task_of(part, own), images) for images, own in sets]  # pyright: ignore[reportArgumentType]
            real, synthetic, test = (Examples(images[rows], answers) for (_, rows, answers), images in found)
            yield Task(part.name or "label", found[0][0][0], real, synthetic, test, tested[found[2][0][1]])

    def scores(self, name: str) -> AttackScores:
        """The scores of the attack of that name, on at most as many images of either side as it asks for."""
        assert self.train is not None
        attack = self.attacks[name]
        positions = _spread_over(self.members, attack.most), _spread_over(self.control, attack.most)
        members, others = (
            self._score(attack, images, rows) for images, rows in zip((self.train, self.reference), positions)
        )
        return AttackScores(members, positions[0], others, positions[1])

    def statistic(self, name: str) -> StatisticComparison:
        """The comparison of a user statistic, `package.module:callable`, between the reference and the samples."""
        function, positions = load_statistic(name), _spread_over(np.arange(len(self.reference)), MOST_EXAMPLES)
        real = statistic_values(name, function, self.reference[positions])
        generated, groups = statistic_values(name, function, self.generated[0]), self.reference.chosen_groups
        return compare_statistic(name, real, generated, real_groups=None if groups is None else groups[positions])

    def _score(self, attack: ImageScore, images: ImageSet, positions: np.ndarray) -> Array:
        own = positions[own_share(len(positions), attack.batch)]
        images = images.with_masks if attack.with_masks else images
        found = [
            attack.score(images[some], images.labels_of(some))
            for some in (own[i : i + attack.batch] for i in range(0, len(own), attack.batch))
        ]
        return np.concatenate(gather(np.concatenate([np.zeros(0), *found])))


def _spread_over(positions: np.ndarray, most: int) -> np.ndarray:
    """At most that many of the positions, sorted; a fixed random choice where there are more."""
    if len(positions) <= most:
        return positions
    return np.sort(np.random.default_rng(0).permutation(positions)[:most])
