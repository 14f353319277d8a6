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
    """KID for fewer than 10,000 reference images, which bias FID; else FID."""
    return "kid" if image_set < 10_000 else "fid"


@dataclass(frozen=True)
class EvaluateConfig:
    """`samples` images, drawn with `seed` and truncated by ψ = `truncation`, seen through a feature network (see
    `load_features` for `features`, `weights`, `resize`, `input_size`, `mean` and `std`). `per_class` adds the metrics of
    two sets for each class. `intervals` adds 95 % intervals and floors (see `EvaluationCard`). `statistics`: of the
    user's own, `package.module:callable`, see `load_statistic`. `path_distance` is what perceptual path length measures steps
    by (see `PATH_DISTANCES`).
    `batch` changes speed, not results."""

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
        return any(getattr(METRICS[name], what) for name in self.metrics)
