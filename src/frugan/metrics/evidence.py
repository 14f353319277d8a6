"""Evidence for metrics: features and images of real and generated sets, and the measurements made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from frugan.metrics.distances import Array, Features2D, Moments
from frugan.metrics.image_evidence import ImageEvidence
from frugan.metrics.neighbours import nearest
from frugan.metrics.resampling import Estimate

_MOMENTS_BATCH = 4096

Space = Literal["w", "z"]
Sampling = Literal["full", "end"]


class FeatureSet:
    """Features `[N, D]` of a set of images, or only their moments where the features were not kept.

    Args:
        features: `[N, D]`, from which moments are computed when they are first asked for.
        moments: given where there are no features.
    """

    def __init__(self, features: Features2D | None = None, moments: Moments | None = None) -> None:
        self._features = features
        if moments is not None:
            self.moments = moments

    @property
    def features(self) -> Features2D:
        assert self._features is not None, "a metric with holds_features=False asked for features"
        return self._features

    @cached_property
    def moments(self) -> Moments:
        x = self.features
        return Moments.of(x[i : i + _MOMENTS_BATCH] for i in range(0, len(x), _MOMENTS_BATCH))


@dataclass(frozen=True)
class Evidence:
    """Everything that a metric may look at.

    Attributes:
        real: features of the reference set.
        generated: features of the samples.
        train: features of the training images, where the reference consists of other images.
        classify: features → the network's class logits `[N, K]`; None for a network without classes.
        path_lengths: `path_lengths(space, sampling)` → `[N]`, see `perceptual_path_length`.
        control: positions in the reference whose images share no group with training images; None means all.
        members: positions in `train` that are not x-flipped copies; None means all.
        real_groups, train_groups: the group of each image of these sets (patient, film, …), or None. Copies of an image
            are of one group.
        images: images and labels themselves, for what features do not hold.
    """

    real: FeatureSet
    generated: FeatureSet
    train: FeatureSet | None = None
    classify: Callable[[Features2D], Array] | None = None
    path_lengths: Callable[[Space, Sampling], np.ndarray] | None = None
    control: np.ndarray | None = None
    members: np.ndarray | None = None
    real_groups: np.ndarray | None = None
    train_groups: np.ndarray | None = None
    images: ImageEvidence | None = None

    @cached_property
    def nearest_train(self) -> tuple[Array, np.ndarray]:
        """For each generated image, the distance to the nearest training image, and that image's row: `[N]`, `[N]`."""
        assert self.train is not None
        distances, rows = nearest(self.generated.features, self.train.features)
        return distances[:, 0], rows[:, 0]

    @cached_property
    def unseen(self) -> Features2D:
        """Features of the reference images that share no group with training images."""
        x = self.real.features
        return x if self.control is None else x[self.control]

    @property
    def unseen_groups(self) -> np.ndarray | None:
        groups = self.real_groups
        return groups if groups is None or self.control is None else groups[self.control]

    @cached_property
    def nearest_unseen(self) -> Array:
        """For each unseen image, the distance to the nearest training image: `[n]`."""
        assert self.train is not None
        return nearest(self.unseen, self.train.features)[0][:, 0]


@dataclass
class Measurement:
    """Results of metrics.

    Attributes:
        values: numbers by name.
        intervals: 95 % intervals (low, high) of some of them.
        details: whole results by the metric's name, for JSON.
        missing: the parts that could not be computed, each with the reason.
    """

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, found: Estimate) -> None:
        self.values[name], self.intervals[name] = found.value, (found.low, found.high)

    def take(self, other: Measurement) -> None:
        for part in ("values", "intervals", "details", "missing"):
            getattr(self, part).update(getattr(other, part))
