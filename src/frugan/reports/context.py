"""Context of a report's sections: the subject, the settings, and evaluation cards that sections share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from frugan.checks import Limits, Seed, Truncation, as_option, check_choice, check_fields
from frugan.distributed import from_first
from frugan.errors import FruganError
from frugan.images import software
from frugan.metrics import FEATURES, EvaluationCard, ImageSet, sample_images
from frugan.reports.store import digest
from frugan.reports.subject import Subject
from frugan.run.directory import Advance
from frugan.run.evaluate import evaluate

FEWEST_SAMPLES = 100
MOST_COMPARED = 5000
"""Real images, and samples, that pixels are compared of; features are compared of all."""


@dataclass(frozen=True)
class Settings:
    """The settings that decide a report's numbers, besides the generator and the images.

    `features`: names of `FEATURES`; empty: those whose weights are at hand. `statistics`:
    "package.module:callable" of an image, see `load_statistic`. `licence`: of the images, as their owner states it.
    `real_images`: whether real images are shown. `batch` changes speed, not results.
    """

    samples: Annotated[int, Limits(at_least=FEWEST_SAMPLES, at_most=1_000_000)] = 2000
    seed: Seed = 0
    truncation: Truncation = 1.0
    features: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    licence: str | None = None
    real_images: bool = True
    batch: Annotated[int, Limits(at_least=1, at_most=65536)] = 64

    def __post_init__(self) -> None:
        check_fields(self, as_option)
        for name in self.features:
            check_choice("feature network", name, FEATURES)

    def deciding(self) -> dict[str, Any]:
        """The settings that results depend on."""
        return {k: v for k, v in asdict(self).items() if k != "batch"}


@dataclass
class Context:
    """The input of a section. `cards` is the folder of evaluation cards, kept by the hash of what they depend on."""

    subject: Subject
    settings: Settings
    cards: Path
    data: str | None = None
    reference: str | None = None
    group: str | None = None
    progress: Advance = lambda done, total: None
    _samples: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that every section depends on, for its hash."""
        s = self.subject
        return {
            "software": software(),
            "generator": s.digest,
            "data": s.data.fingerprint if s.data else None,
            "reference": s.reference.fingerprint if s.reference else None,
            "group": self.group,
            "settings": self.settings.deciding(),
        }

    def card(self, purpose: str, **options: Any) -> EvaluationCard:
        """The evaluation card of these options (see `frugan.metrics.EvaluateConfig`), measured unless it is kept."""
        settings = self.settings
        asked = {
            "samples": settings.samples,
            "seed": settings.seed,
            "truncation": settings.truncation,
            **options,
        }
        key = digest(purpose, self.identity, asked)
        file = self.cards / f"{purpose}-{settings.samples}-{key[:12]}.json"
        if (kept := from_first(lambda: _kept(file))) is not None:
            return kept
        return evaluate(
            self.subject.source,
            data=self.data,
            reference=self.reference,
            group=self.group,
            out=file,
            device=str(self.subject.device),
            progress=self.progress,
            batch=settings.batch,
            **asked,
        )

    @property
    def label_pool(self) -> np.ndarray | None:
        """Rows `[M, K]` that samples' labels are drawn from; None for a generator without labels."""
        known = self.subject.data or self.subject.reference
        return known.label_pool.numpy() if known and self.subject.generator.label_size else None

    def samples(self, count: int) -> Tensor:
        """Images `[count, C, H, W]` in [-1, 1] on the CPU, as metrics see them: image i follows from (seed, i) alone."""
        made: list[Tensor] = self._samples.setdefault("images", [])
        have = sum(map(len, made))
        settings, subject = self.settings, self.subject
        if have < count:
            batches = sample_images(
                subject.generator,
                range(have, count),
                seed=settings.seed,
                batch=settings.batch,
                truncation=settings.truncation,
                labels=self.label_pool,
                device=subject.device,
            )
            for images, _ in batches:
                made.append(images.clamp(-1, 1).cpu())
                self.progress(sum(map(len, made)), count)
        return torch.cat(made)[:count]


def _kept(file: Path) -> EvaluationCard | None:
    """The card in a file; None where there is none. A damaged one is removed, so that it is measured again."""
    try:
        return EvaluationCard.load(file)
    except FruganError:
        file.unlink(missing_ok=True)
        return None


def some_of(images: ImageSet, count: int, seed: int = 0) -> np.ndarray:
    """Positions of some of the images, drawn without replacement, sorted: int64 `[n]`.

    Args:
        images: to draw from.
        count: at most so many.
        seed: of the draw.
    """
    return np.sort(np.random.default_rng(seed).permutation(len(images))[:count])
