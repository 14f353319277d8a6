"""The configuration of a measurement: which metrics, of how many samples, seen through which network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from frugan.checks import Limits, Seed, Truncation, as_option, check_choice, check_fields
from frugan.metrics.features.base import RGB, Resize
from frugan.metrics.features.registry import check_features
from frugan.metrics.metric import METRICS

FEWEST = 10  # samples of either kind: every metric in the table can be computed from them


def default_metric(image_set: int) -> str:
    """The metric for a reference set of that size: KID below 10,000 images, which would bias FID, else FID."""
    return "kid" if image_set < 10_000 else "fid"


@dataclass(frozen=True)
class EvaluateConfig:
    """The settings of an evaluation.

    Attributes:
        metrics: names of `METRICS`.
        samples: number of generated images.
        seed: of latents, labels and noise.
        truncation: ψ; 1 is none.
        per_class: whether the metrics of two sets are computed for each class, too.
        intervals: whether 95 % intervals and floors are computed (see `EvaluationCard`).
        statistics: functions of the user's own, as `package.module:callable` (see `load_statistic`).
        features, weights, resize, input_size, mean, std: the feature network (see `load_features`).
        path_distance: the image distance of perceptual path length, a name of `PATH_DISTANCES`.
        batch: images at once; it changes speed, not results.
    """

    metrics: tuple[str, ...] = ("kid",)
    samples: Annotated[int, Limits(at_least=FEWEST, at_most=10_000_000)] = 5000
    seed: Seed = 0
    truncation: Truncation = 1.0
    per_class: bool = False
    intervals: bool = False
    statistics: tuple[str, ...] = ()
    features: str = "efficientnet-lite0"
    weights: str | None = None
    resize: Resize | None = None
    input_size: Annotated[int, Limits(at_least=1, at_most=4096)] | None = None
    mean: RGB | None = None
    std: RGB | None = None
    path_distance: Literal["features", "lpips"] = "features"
    batch: Annotated[int, Limits(at_least=1, at_most=65536)] = 64

    def __post_init__(self) -> None:
        check_fields(self, as_option)
        for name in self.metrics or ("",):
            check_choice("metric", name, METRICS)
        check_features(self.features, self.input_size, self.mean, self.std)

    def any(self, what: str) -> bool:
        """Whether some metric has that flag of `Metric`."""
        return any(getattr(METRICS[name], what) for name in self.metrics)
