"""The table of metrics, whatever stands in it."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from frugan.errors import FruganError
from frugan.metrics import METRICS, Evidence, FeatureSet, Metric, held_out
from frugan.metrics.image_evidence import Task
from frugan.metrics.metric import MEANINGS, explain_value
from frugan.metrics.utility import Examples, UtilityConfig


def test_every_number_has_a_meaning() -> None:
    names = {name for metric in METRICS.values() for name in metric.names}
    assert set(MEANINGS) == names | set(METRICS)
    for name in names:
        assert 20 < len(explain_value(name)) <= 160
    for name, metric in METRICS.items():
        if name == "c_t":
            assert "is better" not in explain_value(name)
            continue
        assert explain_value(name).startswith("higher is better" if metric.higher_is_better else "lower is better")


RNG = np.random.default_rng


def sets(n: int = 150, m: int = 130, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(0)
    return rng.normal(size=(n, d)), rng.normal(0.3, 1.1, size=(m, d))


class OneTask:
    """Evidence of images: a class that is told by brightness, easily, and attacks that were not tried."""

    attacks: ClassVar = {}
    untried: ClassVar = {"discriminator": "there is none"}
    device = "cpu"

    def tasks(self) -> list[Task]:
        dark, bright = (np.full((10, 8, 8, 1), v, np.uint8) for v in (20, 220))
        examples = Examples(np.concatenate([dark, bright]), np.repeat([0, 1], 10))
        return [Task("shade", "classes", examples, examples, examples, np.arange(20))]


def compute(metric: Metric, real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """Training images lie where generated samples come from; logits are features; a path's steps are a sample's norm."""
    evidence = Evidence(
        FeatureSet(real),
        FeatureSet(generated),
        train=FeatureSet(real[::-1] * 1.001),
        classify=lambda x: np.asarray(x, np.float64) * 3,
        path_lengths=lambda space, sampling: np.linalg.norm(np.asarray(generated, np.float64), axis=-1),
        images=OneTask(),  # pyright: ignore[reportArgumentType]
    )
    return metric.measure(evidence).values


IDEAL = {"precision": (1, 1), "recall": (1, 1), "coverage": (1, 1), "density": (1, 1.2)}
OF_ONE_SET = {"is", *(name for name, metric in METRICS.items() if not metric.of_sets)}


@pytest.mark.parametrize("name", [n for n in METRICS if n not in OF_ONE_SET])
def test_every_distance(name: str) -> None:
    """Identical sets are ideal, order is nothing, and farther is worse."""
    metric = METRICS[name]
    real, generated = sets()
    value = partial(lambda x, y: compute(metric, x, y)[name])
    low, high = IDEAL.get(name, (-0.2, 1e-9))  # an unbiased estimate's ideal lies a little below 0
    if name != "fid_infinity":  # it looks at parts of the set: never identical
        assert low - 1e-9 <= value(real, real) <= high + 1e-9
    shuffled = RNG(1).permutation(real), RNG(2).permutation(generated)
    tolerance = {"kid": 0.05, "fid_infinity": 0.25}.get(name, 1e-9)  # their subsets are drawn by position
    assert value(*shuffled) == pytest.approx(value(real, generated), rel=tolerance)
    near, far = value(real, generated), value(real, generated + 2)
    assert (far < near) == metric.higher_is_better
    assert far != near


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_names_its_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = UtilityConfig(seeds=1, steps=10, batch=8)
    monkeypatch.setattr(held_out, "utility", partial(held_out.utility, config=quick))
    real, generated = sets()
    values = compute(METRICS[name], real, generated)
    assert name in values
    assert set(values) <= set(METRICS[name].names)
    assert all(isinstance(value, float) and np.isfinite(value) for value in values.values())
    single = compute(METRICS[name], real.astype(np.float32), generated.astype(np.float32))
    widened = compute(METRICS[name], *(x.astype(np.float32).astype(float) for x in (real, generated)))
    assert single == pytest.approx(widened, rel=1e-4)  # training images are made from them, and rounded


@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].of_sets and n != "is"])
@pytest.mark.parametrize(
    "real, generated, says",
    [
        (np.zeros((20, 3)), np.zeros((20, 4)), "cannot be compared"),
        (np.zeros((20, 3)), np.zeros((1, 3)), r"1 generated|1 samples|of 1"),
        (np.full((20, 3), np.nan), np.zeros((20, 3)), "not finite"),
    ],
)
def test_bad_features_are_refused(name: str, real: np.ndarray, generated: np.ndarray, says: str) -> None:
    with pytest.raises(FruganError, match=says):
        compute(METRICS[name], real, generated)
