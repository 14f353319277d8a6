"""The evaluator: measures a generator's samples against a reference set of images, in the features of a frozen network."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frugan.distributed import gather, own_share, rank
from frugan.errors import FruganError
from frugan.files import replacing
from frugan.images import to_bytes, to_float, to_pixels, to_uint8
from frugan.label_parts import LabelPart
from frugan.metrics.card import EvaluationCard
from frugan.metrics.config import FEWEST, EvaluateConfig
from frugan.metrics.copying import independent_of
from frugan.metrics.distances import Array, Features2D, Moments
from frugan.metrics.evidence import Evidence, FeatureSet, Measurement, Sampling, Space
from frugan.metrics.features.base import Features
from frugan.metrics.features.registry import load_features
from frugan.metrics.image_evidence import ImageEvidence, ImageScore
from frugan.metrics.image_set import ImageSet
from frugan.metrics.metric import METRICS, NO_INTERVAL, Metric
from frugan.metrics.neighbours import nearest
from frugan.metrics.path_length import Distance, perceptual_path_length
from frugan.metrics.resampling import SetStatistic, floor, half_sample_intervals
from frugan.metrics.sampling import GeneratorLike, sample_images
from frugan.networks.serialization import weights_digest
from frugan.tracking import environment

NEAREST_SAMPLES, NEAREST_NEIGHBOURS = 8, 5
"""Samples on the sheet of nearest neighbours, and the neighbours of each."""
HALF_SAMPLES = 25
"""Random halves of both sets from which an interval is taken."""

Advance = Callable[[int, int], None]


class Evaluator:
    """Measures generators against one reference set, whose features are computed once.

    Where `torch.distributed` is initialised, all processes must construct and call it together; they share the work,
    and all get the result.

    Args:
        reference: the real images to compare with, 10 or more.
        config: which metrics, of how many samples, in which features.
        train: the images that the generator learned from, for metrics of copying, privacy and usefulness. None of them
            may be in the reference.
        labels: float32 `[M, K]`, from whose rows the labels of generated images are drawn; None for a generator without
            labels.
        parts: the meaning of the columns of `labels`, for usefulness.
        device: where the generator lies and the feature network computes.
        cache: a folder that keeps features of real images, by a hash of pixels, network and preprocessing; None keeps none.
        features: a feature network in place of the one that `config` names.
        attacks: scores for membership inference, by the attack's name.
        untried: the reasons why other attacks have no scores, by their names.
        pairs: the generator with the masks that it makes beside images.
        partial: whether a metric that cannot be computed is left out, with the reason on the card. It is an error
            otherwise, and in any case where no metric is left.
        progress: called with (images done, images in all) while the features of real images are computed.

    Raises `FruganError` for too few images, and where a metric cannot be computed.
    """

    def __init__(
        self,
        reference: ImageSet,
        config: EvaluateConfig,
        *,
        train: ImageSet | None = None,
        labels: np.ndarray | None = None,
        parts: Sequence[LabelPart] = (),
        device: torch.device | str = "cpu",
        cache: Path | None = None,
        features: Features | None = None,
        attacks: Mapping[str, ImageScore] | None = None,
        untried: Mapping[str, str] | None = None,
        partial: bool = False,
        pairs: GeneratorLike | None = None,
        progress: Advance | None = None,
    ) -> None:
        if len(reference) < FEWEST:
            raise FruganError(
                f"{len(reference)} reference images are too few to measure against; give at least {FEWEST}"
            )
        self.reference, self.config, self.labels, self.device = reference, config, labels, torch.device(device)
        self.parts, self.attacks, self.untried, self.partial = parts, attacks or {}, untried or {}, partial
        self.pairs = pairs
        self.cache = cache
        self.control = np.arange(len(reference))  # the reference images that samples are compared with for copying
        self.metrics, self.missing = list(config.metrics), dict[str, str]()
        if self._any("needs_train"):
            try:
                self.control = control_in(reference, train)
            except FruganError as error:
                self._leave_out("needs_train", str(error))
        self.train = train if self._any("needs_train") else None
        self.classes = _classes(reference, labels) if config.per_class else {}
        self.features = features or load_features(
            config.features,
            device,
            weights=config.weights,
            resize=config.resize,
            input_size=config.input_size,
            mean=config.mean,
            std=config.std,
        )
        if self.features.classify is None:
            self._leave_out(
                "needs_classifier",
                f"the Inception score needs classes, and {self.features.name} has none; choose another",
            )
        self.path_distance = PATH_DISTANCES[config.path_distance](self.features, self.device)
        self.real = FeatureSet(self._real_features(reference, progress))
        self.trained = FeatureSet(self._real_features(self.train, progress)) if self.train else None

    def _leave_out(self, needs: str, reason: str) -> None:
        """Takes the metrics with that need (a flag of `Metric`) out, for that reason. Raises `FruganError` where one
        may not be left out, or none is left.
        """
        out = [name for name in self.metrics if getattr(METRICS[name], needs)]
        self.metrics = [name for name in self.metrics if name not in out]
        if out and not (self.partial and self.metrics):
            raise FruganError(reason)
        self.missing |= dict.fromkeys(out, reason)

    def _any(self, what: str) -> bool:
        """Whether one of the metrics has a flag of `Metric`, for instance "needs_train"."""
        return any(getattr(METRICS[name], what) for name in self.metrics)

    def __call__(self, generator: GeneratorLike, progress: Advance | None = None) -> EvaluationCard:
        """The evaluation card of a generator, with the values of all metrics that were asked for.

        Samples have fresh noise, and are rounded to the reference's bit depth.

        Args:
            generator: any object with the protocol's four attributes.
            progress: called with (samples made, samples in all).
        """
        card = self.unless_stopped(generator, lambda: False, progress)
        assert card is not None
        return card

    def unless_stopped(
        self, generator: GeneratorLike, stop: Callable[[], bool], progress: Advance | None = None
    ) -> EvaluationCard | None:
        """The evaluation card of a generator, or None where it was stopped. For one process only.

        Args:
            generator: any object with the protocol's four attributes.
            stop: asked after each batch of samples; true ends the measurement.
            progress: called with (samples made, samples in all).
        """
        started, config = time.perf_counter(), self.config
        found = self._generated(generator, progress, stop)
        if found is None:
            return None
        generated, rows = found
        evidence = self._evidence(generator, generated)
        measured = self._measure(evidence)
        floors = self._add_intervals(evidence, measured) if config.intervals else {}
        return EvaluationCard(
            values=measured.values,
            protocol=self.protocol(),
            subject={
                "generator": weights_digest(generator) if isinstance(generator, nn.Module) else None,
                "seed": config.seed,
            },
            conditions={
                "features_weights": config.weights,
                "device": str(self.device),
                "seconds": round(time.perf_counter() - started, 3),
                "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **environment()["packages"],
            },
            per_class={
                name: self._of_class(evidence, real, np.isin(rows, label_rows))
                for name, (real, label_rows) in self.classes.items()
            },
            nearest=self._nearest(evidence),
            intervals={name: [*interval] for name, interval in measured.intervals.items()},
            floor=floors,
            details=measured.details,
            missing=self.missing | measured.missing,
        )

    @property
    def depth(self) -> int:
        """Bits per channel of the reference, to which samples are rounded: 8, 16, or 32 of floating-point numbers."""
        return 8 * self.reference.pixels.dtype.itemsize

    def _evidence(self, generator: GeneratorLike, generated: FeatureSet) -> Evidence:
        """Everything that metrics may look at, from the samples' features."""
        config, train = self.config, self.train
        members = np.zeros(0, np.int64) if train is None else np.flatnonzero(train.chosen < len(train.pixels))
        return Evidence(
            self.real,
            generated,
            self.trained,
            self.features.classify,
            partial(self._path_lengths, generator),
            control=self.control,
            members=members,
            real_groups=self.reference.chosen_groups,
            train_groups=None if train is None else train.owners,
            images=ImageEvidence(
                generator,
                self.pairs,
                self.reference,
                self.control,
                train,
                members,
                self.labels,
                self.parts,
                attacks=self.attacks,
                untried=self.untried,
                samples=config.samples,
                seed=config.seed,
                truncation=config.truncation,
                batch=config.batch,
                device=self.device,
            ),
        )

    def _measure(self, evidence: Evidence) -> Measurement:
        """The values of all metrics, and the comparison of the user's own statistics."""
        total = Measurement()
        for name in self.metrics:
            if name not in total.values:
                self._try(name, total, lambda name=name: total.take(METRICS[name].measure(evidence)))
        if not total.values:
            raise FruganError("; ".join(total.missing.values()))
        for name in self.config.statistics:
            self._try(f"statistic {name}", total, lambda name=name: _add_statistic(name, evidence, total))
        return total

    def _add_intervals(self, evidence: Evidence, measured: Measurement) -> dict[str, list[float]]:
        """Adds 95 % intervals of the metrics that are statistics of two sets; returns the floors of these metrics, by
        the value's name.
        """
        floors: dict[str, list[float]] = {}
        groups, real = evidence.real_groups, evidence.real.features

        def add_interval(metric: Metric, statistic: SetStatistic) -> None:
            generated, limits = evidence.generated.features, metric.limits
            found = half_sample_intervals(
                statistic, real, generated, repeats=HALF_SAMPLES, real_groups=groups, limits=limits
            )
            measured.intervals.update((name, (e.low, e.high)) for name, e in zip(metric.names, found))

        def add_floor(metric: Metric, statistic: SetStatistic) -> None:
            found = floor(statistic, real, repeats=metric.floor_repeats, groups=groups)
            floors.update((name, [e.value, e.low, e.high]) for name, e in zip(metric.names, found))

        for name in self.metrics:
            metric, first = METRICS[name], METRICS[name].names[0]
            if metric.statistic is None or first not in measured.values:
                continue
            if first not in measured.intervals and first not in NO_INTERVAL:
                self._try(f"interval of {name}", measured, partial(add_interval, metric, metric.statistic))
            if first not in floors:
                self._try(f"floor of {name}", measured, partial(add_floor, metric, metric.statistic))
        measured.missing |= {f"interval of {k}": why for k, why in NO_INTERVAL.items() if k in measured.values}
        return floors

    def _try(self, name: str, total: Measurement, work: Callable[[], object]) -> None:
        """Does the work. With `partial`, an error is recorded as a missing value instead of raised."""
        try:
            work()
        except FruganError as error:
            if not self.partial:
                raise
            total.missing[name] = str(error)

    def protocol(self) -> dict[str, Any]:
        """The settings that two cards must share for their values to be comparable, by name."""
        config = self.config
        facts: dict[str, Any] = {
            "reference": self.reference.digest,
            "reference_count": len(self.reference),
            "resolution": list(self.reference.pixels.shape[1:3]),
            "samples": config.samples,
            "truncation": config.truncation,
            "features": self.features.name,
            "preprocessing": self.features.preprocessing,
            "features_digest": self.features.digest,
        }
        if self.depth > 8:  # absent: 8, as in all cards from before
            facts["depth"] = self.depth
        if (channels := self.reference.image_channels) > 4:
            facts["seen"] = f"the first 3 of {channels} channels"
        if self.train:
            facts["train"] = self.train.digest
            if len(self.control) < len(self.reference):
                facts["control_count"] = len(self.control)
        if any(name.startswith("ppl") for name in self.metrics):
            facts["path_distance"] = config.path_distance
        return facts

    def nearest_sheet(self, generator: GeneratorLike, card: EvaluationCard) -> np.ndarray:
        """The samples of `card.nearest` beside their nearest training images: a row for each, the sample first. uint8
        `[rows·H, columns·W, C]`.
        """
        assert self.train is not None
        config, rows = self.config, []
        for entry in card.nearest:
            options = {"seed": config.seed, "truncation": config.truncation, "device": self.device}
            image, _ = next(sample_images(generator, [entry["sample"]], labels=self.labels, **options))
            shown = to_bytes(self.train[np.array(entry["positions"])])
            rows.append(np.concatenate([to_uint8(image), shown]))
        n, h, w, c = rows[0].shape
        sheet = np.stack(rows).transpose(0, 2, 1, 3, 4)
        return sheet.reshape(len(rows) * h, n * w, c)

    def _generated(
        self, generator: GeneratorLike, progress: Advance | None, stop: Callable[[], bool]
    ) -> tuple[FeatureSet, np.ndarray] | None:
        """Makes samples and computes their features.

        Returns:
            The features of all processes' samples, their moments where no metric needs more, or nothing where no metric
            needs either; and int64 `[N]`, the row of `labels` of each sample. None where `stop` returned true.
        """
        config = self.config
        numbers = own_share(config.samples, config.batch)
        batches = sample_images(
            generator,
            numbers,
            seed=config.seed,
            batch=config.batch,
            truncation=config.truncation,
            labels=self.labels,
            device=self.device,
        )
        rows: list[np.ndarray] = []

        def pixels() -> Iterator[np.ndarray]:
            for images, label_rows in batches:
                rows.append(label_rows)
                yield to_pixels(images, self.depth)
                if progress:
                    progress(sum(map(len, rows)), len(numbers))
                if stop():
                    return

        if self._any("holds_features") or config.per_class:
            own = _join(list(self._embed(pixels())))
        elif self._any("of_sets"):
            own = Moments.of(self._embed(pixels()))
        else:
            return FeatureSet(), np.zeros(0, np.int64)
        if sum(map(len, rows)) < len(numbers):  # stopped
            return None
        found = FeatureSet(_join(gather(own))) if isinstance(own, np.ndarray) else FeatureSet(moments=_sum(gather(own)))
        return found, np.concatenate(gather(np.concatenate([np.zeros(0, np.int64), *rows])))

    def _embed(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pixels `[n, H, W, C]` → features float32 `[n, D]`."""
        for pixels in batches:
            yield self.features(to_float(torch.from_numpy(np.ascontiguousarray(pixels)))).cpu().numpy()

    def _of_class(self, evidence: Evidence, real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
        """The metrics of two sets, restricted to one class: rows of real and of generated images. Empty where either
        has fewer than `FEWEST`.
        """
        if min(len(real), generated.sum()) < FEWEST:
            return {}
        sets = (FeatureSet(x) for x in (evidence.real.features[real], evidence.generated.features[generated]))
        own, total = Evidence(*sets, classify=evidence.classify), Measurement()
        for name in self.metrics:
            if METRICS[name].of_sets and name not in total.values:
                total.take(METRICS[name].measure(own))
        return total.values

    def _nearest(self, evidence: Evidence) -> list[dict[str, Any]]:
        """The samples nearest to a training image, nearest first, each with its neighbours and the share of unseen
        images that are as near.
        """
        if self.train is None:
            return []
        samples = evidence.nearest_train[0].argsort(kind="stable")[:NEAREST_SAMPLES]
        k = min(NEAREST_NEIGHBOURS, len(self.train))
        distances, positions = nearest(evidence.generated.features[samples], self.trained.features, k)  # pyright: ignore[reportOptionalMemberAccess]
        return [
            {
                "sample": int(sample),
                "positions": found.tolist(),
                "names": [self.train.name(i) for i in found],
                "distances": [round(float(d), 6) for d in far],
                "unseen_as_near": float((evidence.nearest_unseen <= far[0]).mean()),
            }
            for sample, found, far in zip(samples, positions, distances)
        ]

    def _path_lengths(self, generator: GeneratorLike, space: Space, sampling: Sampling) -> np.ndarray:
        """The perceptual path lengths of all processes' samples, `[N]`."""
        config = self.config
        own = perceptual_path_length(
            generator,
            self.path_distance,
            own_share(config.samples, config.batch),
            space=space,
            sampling=sampling,
            seed=config.seed,
            batch=config.batch,
            labels=self.labels,
            device=self.device,
        )
        return np.concatenate(gather(own))

    def _real_features(self, image_set: ImageSet, progress: Advance | None) -> Features2D:
        """Features of real images, float32 `[N, D]`, memory-mapped where they come from the cache."""
        file = None
        if self.cache is not None:
            key = hashlib.sha256(f"{self.features.digest} {image_set.digest}".encode()).hexdigest()
            file = self.cache / f"{key[:32]}.npy"
            found = _load(file, len(image_set))
            if all(gather(found is not None)) and found is not None:
                return found
        own = own_share(len(image_set), self.config.batch)

        def pixels() -> Iterator[np.ndarray]:
            for i in range(own.start, own.stop, self.config.batch):
                yield image_set[slice(i, min(i + self.config.batch, own.stop))]
                if progress:
                    progress(i - own.start, len(own))

        computed = _join(gather(_join(list(self._embed(pixels())))))
        if file is not None and rank() == 0:
            _save(file, computed)
        return computed


def control_in(reference: ImageSet, train: ImageSet | None) -> np.ndarray:
    """Positions of the reference images that are a control for copying: those that share no group with training images.

    Raises `FruganError` where there are none, or no images but those trained on.
    """
    if train is None:
        raise FruganError(
            "this needs the images that were trained on (--data, of a generator without its run) and others of the same kind: "
            "hold some out (--held-out), or give them (--reference)"
        )
    return np.flatnonzero(independent_of(reference.chosen_groups, train.chosen_groups, len(reference)))


def _add_statistic(name: str, evidence: Evidence, total: Measurement) -> None:
    """Adds the comparison of a user's statistic of images to the details."""
    assert evidence.images is not None
    total.details.setdefault("statistics", {})[name] = asdict(evidence.images.statistic(name))


def _join(parts: list[np.ndarray]) -> np.ndarray:
    """The parts `[n, D]` one below another; `[0, 0]` where all are empty."""
    parts = [part for part in parts if len(part)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def _sum(parts: list[Moments]) -> Moments:
    """The moments of all parts together."""
    total = Moments()
    for part in parts:
        total.merge(part)
    return total


def _classes(reference: ImageSet, labels: np.ndarray | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each class of the labels: its positions in the reference, and the rows of `labels` that have it."""
    own = reference.labels
    if own is None or labels is None or not own.shape[1] or own.shape[1] != labels.shape[1]:
        raise FruganError("metrics for each class need a conditional generator, and a reference with the same labels")
    kinds = np.unique(labels, axis=0)[::-1]
    one_hot = ((kinds == 0) | (kinds == 1)).all() and (kinds.sum(axis=1) == 1).all()
    if not one_hot:
        raise FruganError(
            "metrics for each class need one class per image; these labels are numbers or several at once"
        )

    def name(kind: np.ndarray) -> str:
        number = int(kind.argmax())
        return reference.class_names[number] if reference.class_names else str(number)

    chosen = own[reference.chosen % len(reference.pixels)]
    return {
        name(kind): (np.flatnonzero((chosen == kind).all(axis=1)), np.flatnonzero((labels == kind).all(axis=1)))
        for kind in kinds
    }


def _unit_features(features: Features, device: torch.device) -> Distance:
    """Squared distance between feature vectors of unit length."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        x, y = (nn.functional.normalize(features(images).cpu().double(), dim=1) for images in (a, b))
        return (x - y).square().sum(dim=1)

    return distance


def _lpips(features: Features, device: torch.device) -> Distance:
    """LPIPS by VGG (Zhang et al. 2018), as published path lengths use it; images are reduced to 256 pixels first."""
    try:
        import lpips  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FruganError(f"path lengths by LPIPS need {error.name}: pip install lpips") from error
    network = lpips.LPIPS(net="vgg", verbose=False).to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        factor = max(a.shape[-1] // 256, 1)
        a, b = (nn.functional.avg_pool2d(images[:, :3].expand(-1, 3, -1, -1), factor) for images in (a, b))
        return network(a, b).flatten()

    return distance


PATH_DISTANCES: dict[str, Callable[[Features, torch.device], Distance]] = {"features": _unit_features, "lpips": _lpips}


def _load(file: Path, count: int) -> Array | None:
    """The cached features, or None where there are none or the file is damaged."""
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == count else None


def _save(file: Path, features: np.ndarray[Any, Any]) -> None:
    """Writes the features whole or not at all, even if several processes do at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    features = np.ascontiguousarray(features)
    with replacing(file) as unfinished, unfinished.open("wb") as opened:  # by np.save no full disk is told of
        np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(features))
        opened.write(features.data)
