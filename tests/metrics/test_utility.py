"""Usefulness: small networks on images whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, jaccard_score, r2_score

from frugan.errors import FruganError
from frugan.label_parts import LabelPart, Measured
from frugan.metrics.image_set import mask_numbers
from frugan.metrics.utility import QUESTIONS, Examples, UtilityConfig, task_of, utility

RNG = np.random.default_rng
QUICK = UtilityConfig(seeds=2, steps=60, batch=16, learning_rate=5e-3, side=16)


def stripes(n: int, seed: int, kind: str, *, wrong: float = 0.0, channels: int = 1) -> Examples:
    """Images with a bright band along rows or columns (two classes), or of a brightness that is to be told; over noise."""
    rng = RNG(seed)
    images = rng.normal(100, 25, (n, 16, 16, channels))
    if kind == "classes":
        targets = rng.integers(0, 2, n)
        for image, target, at in zip(images, targets, rng.integers(0, 13, n)):
            image[(slice(at, at + 3), slice(None))[:: 1 - 2 * int(target)]] += 70
        shown = np.where(rng.uniform(size=n) < wrong, 1 - targets, targets)
    else:
        targets = shown = rng.uniform(0, 5, n)
        images += 20 * targets[:, None, None, None]
        shown = np.where(rng.uniform(size=n) < wrong, rng.permutation(targets), targets)
    return Examples(images.clip(0, 255).astype(np.uint8), shown)


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_good_and_useless_synthetic_images_are_told_apart(kind) -> None:
    real, test = stripes(160, 0, kind), stripes(120, 1, kind)
    good = utility(kind, real, stripes(160, 2, kind), test, config=QUICK)
    bad = utility(kind, real, stripes(160, 3, kind, wrong=1.0 if kind == "number" else 0.5), test, config=QUICK)
    assert list(good.arms) == ["real", "synthetic", "half", "both"]
    assert good.arms["real"].value == bad.arms["real"].value > 0.75
    assert good.difference.low <= 0 <= good.difference.high
    assert bad.difference.high < -0.1
    assert bad.arms["synthetic"].value < 0.75
    assert bad.arms["real"].low <= bad.arms["real"].value <= bad.arms["real"].high <= 1
    assert (good.count, good.test, good.chance) == (160, 120, {"classes": 0.5, "number": 0.0}[kind])


def test_counts_are_equal_and_results_repeat() -> None:
    """More synthetic images than real ones bring no advantage: as many are taken; two calls give the same."""
    real, test, synthetic = stripes(40, 0, "classes"), stripes(50, 1, "classes"), stripes(300, 2, "classes")
    config = UtilityConfig(seeds=1, steps=5, batch=8)
    first = utility("classes", real, synthetic, test, config=config)
    assert first.count == 40
    assert utility("classes", real, synthetic, test, config=config) == first
    grouped = utility("classes", real, synthetic, test, config=config, test_groups=np.arange(50) // 10)
    assert grouped.arms["real"].value == first.arms["real"].value
    assert grouped.arms["real"] != first.arms["real"]


def test_numbers_may_be_in_any_unit() -> None:
    real, synthetic, test = (stripes(60, seed, "number") for seed in range(3))
    config = replace(QUICK, seeds=1, steps=10)

    def scores(factor: float, offset: float) -> list[float]:
        sets = [x._replace(targets=factor * x.targets + offset) for x in (real, synthetic, test)]
        return [arm.value for arm in utility("number", *sets, config=config).arms.values()]

    assert scores(1e-3, 1995) == pytest.approx(scores(1, 0), abs=1e-3)
    assert scores(1e4, -3) == pytest.approx(scores(1, 0), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    rng = RNG(seed)
    targets, told = rng.integers(0, 4, 90), rng.integers(0, 6, 90)
    assert QUESTIONS["classes"](targets, told, targets).scores(told).mean() == pytest.approx(
        balanced_accuracy_score(targets, np.where(told < 4, told, (targets + 1) % 4))
    )
    values, numbers = rng.normal(3, 2, 90), rng.normal(3, 2, 90)
    assert QUESTIONS["number"](values, numbers, values).scores(numbers).mean() == pytest.approx(
        r2_score(values, numbers)
    )
    masks, guessed = rng.integers(0, 4, (20, 6, 5)) * rng.integers(0, 2, (20, 1, 1)), rng.integers(0, 3, (20, 6, 5))
    expected = [
        jaccard_score(truth.ravel(), guess.ravel(), average="macro", labels=np.union1d(truth, guess))
        for truth, guess in zip(masks, guessed)
    ]
    assert QUESTIONS["mask"](masks, masks, masks).scores(guessed) == pytest.approx(expected)


def discs(n: int, seed: int, *, wrong: bool = False) -> Examples:
    """Bright and dark discs on a grey ground, with noise; the mask is that of the image, or with `wrong` of another one."""
    rng = RNG(seed)
    y, x = np.mgrid[:20, :16]
    far = np.hypot(y - rng.uniform(4, 16, (n, 1, 1)), x - rng.uniform(4, 12, (n, 1, 1)))
    masks = (far < rng.uniform(3, 5, (n, 1, 1))) * rng.integers(1, 3, (n, 1, 1))
    images = np.choose(masks, [120, 200, 40]) + rng.normal(0, 15, masks.shape)
    return Examples(images.clip(0, 255).astype(np.uint8)[..., None], (masks[::-1] if wrong else masks).astype(np.uint8))


@pytest.mark.parametrize("side", [8, 64])
def test_masks_that_belong_to_their_images_and_masks_that_do_not(side: int) -> None:
    real, test = discs(100, 0), discs(60, 1)
    config = replace(QUICK, side=side)
    good = utility("mask", real, discs(100, 2), test, config=config)
    bad = utility("mask", real, discs(100, 3, wrong=True), test, config=config)
    assert good.score == "intersection over union"
    assert good.arms["real"].value > 0.7
    assert good.difference.low - 0.05 < 0 < good.difference.high + 0.05
    assert bad.difference.high < -0.2
    assert 0.2 < good.chance < 0.6  # ground everywhere: all of it, over the disc; half of the values


def test_mask_numbers_are_those_that_are_stored() -> None:
    for dtype in (np.uint8, np.uint16):
        for count in (2, 3, 7, 32):
            top = np.iinfo(dtype).max
            stored = np.round(np.arange(count) * top / (count - 1)).astype(dtype)[:, None, None, None]
            assert mask_numbers(stored, [count]).ravel().tolist() == list(range(count))


def test_tasks_of_labels() -> None:
    labels = np.array([[1, 0, 0, 2.5, 1], [0, 0, 1, 3.5, 0], [1, 1, 0, 4.5, 0], [0, 0, 0, 5.5, 1]], np.float32)
    kind, rows, answers = task_of(LabelPart("", range(3), ["a", "b", "c"]), labels)
    assert (kind, rows.tolist(), answers.tolist()) == ("classes", [0, 1], [0, 2])  # two and none: no answer
    kind, rows, answers = task_of(LabelPart("n", range(3, 4), ["n"], Measured(3, "n", 4, 1, 2.5, 5.5)), labels)
    assert (kind, rows.tolist(), answers.tolist()) == ("number", [0, 1, 2, 3], [2.5, 3.5, 4.5, 5.5])
    kind, rows, answers = task_of(LabelPart("f", range(4, 5), ["0", "1"]), labels)
    assert (kind, answers.tolist()) == ("classes", [1, 0, 0, 1])


def test_what_cannot_be_learned_is_refused() -> None:
    real, test = stripes(40, 0, "classes"), stripes(40, 1, "classes")
    one = Examples(test.images, np.zeros(40, np.int64))
    for pair in ((real, one), (one, test)):
        with pytest.raises(FruganError, match="one class only"):
            utility("classes", pair[0], real, pair[1], config=QUICK)
        with pytest.raises(FruganError, match="one value only"):
            utility("number", pair[0], real, pair[1], config=QUICK)
    with pytest.raises(FruganError, match="9 test images"):
        utility("classes", real, real, Examples(test.images[:9], test.targets[:9]), config=QUICK)
