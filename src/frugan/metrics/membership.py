"""Membership inference: can one tell, from what is published, which images a generator was trained on?

An attack gives every image a score, high for "was trained on". Its success is the area under the curve of true against false
positives (AUC), and the share of members that are found where 1 % of others are accused (Carlini et al., "Membership
Inference Attacks From First Principles", 2022). Both stand beside what scores give that know nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.distances import NOT_FINITE, Array
from frugan.metrics.resampling import Z95, Estimate, group_numbers, group_sums, shares_below, shuffled_sides

NOT_TRIED = (
    "shadow models trained on other subsets of the images (LiRA)",
    "scores calibrated by a second generator",
    "gradients, and several augmented queries of the discriminator",
    "inference of attributes or labels of a known image",
)
"""Attacks that `membership_attack` is given no scores of."""

FEWEST = 10


@dataclass(frozen=True)
class Attack:
    """The success of one attack, and of scores without knowledge."""

    members: int
    non_members: int
    auc: Estimate
    """½: chance. The probability that a member has a higher score than another image."""
    tpr: Estimate
    """Share of members with a higher score than all but `fpr` of the others."""
    fpr: float
    """The share of others accused: the highest up to the one asked for that their number allows."""
    null_auc: Estimate
    """Mean, 2.5 % and 97.5 % quantile where who is a member is drawn at random."""
    null_tpr: Estimate
    p: float
    """Share of these draws with an AUC as high; small where members can be told."""


def membership_attack(
    members: Array,
    non_members: Array,
    *,
    member_groups: np.ndarray | None = None,
    non_member_groups: np.ndarray | None = None,
    fpr: float = 0.01,
    repeats: int = 1000,
    seed: int = 0,
) -> Attack:
    """Measures how well an attack's scores tell training images from others: AUC, and the true-positive rate at a low
    false-positive rate.

    Args:
        members: scores `[m]` of images that were trained on, higher if the attack takes them for training images.
        non_members: scores `[n]` of other images of the same distribution.
        member_groups: `[m]`; images of one group stay together in resampling.
        non_member_groups: `[n]`, likewise.
        fpr: the false-positive rate at which `tpr` is given.
        repeats: bootstrap samples for `tpr`, and permutations for the null distribution.
        seed: of both.
    """
    x, y = (np.asarray(v, np.float64) for v in (members, non_members))
    if min(len(x), len(y)) < FEWEST:
        raise FruganError(f"{len(x)} members and {len(y)} others: an attack is measured on {FEWEST} of each or more")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FruganError(NOT_FINITE)
    rng = np.random.default_rng(seed)
    owners = group_numbers(member_groups, len(x)), group_numbers(non_member_groups, len(y))
    tpr, allowed = true_positive_rate(x, y, fpr)
    drawn = [
        true_positive_rate(x[_resample(owners[0], rng)], y[_resample(owners[1], rng)], fpr)[0] for _ in range(repeats)
    ]
    auc = auc_estimate(x, y, member_groups, non_member_groups)
    scores, null = np.concatenate([x, y]), []
    for _ in range(repeats):
        called = shuffled_sides(len(x), len(y), rng, member_groups, non_member_groups)
        positive, negative = scores[called], scores[~called]
        null.append((shares_below(positive, negative).mean(), true_positive_rate(positive, negative, fpr)[0]))
    null = np.array(null)
    null_auc, null_tpr = (Estimate(float(v.mean()), *map(float, np.quantile(v, (0.025, 0.975)))) for v in null.T)
    p = (1 + int((null[:, 0] >= auc.value).sum())) / (1 + repeats)
    interval = map(float, np.quantile(drawn, (0.025, 0.975)))
    return Attack(len(x), len(y), auc, Estimate(tpr, *interval), allowed, null_auc, null_tpr, p)


def auc_estimate(
    positive: Array,
    negative: Array,
    positive_groups: np.ndarray | None = None,
    negative_groups: np.ndarray | None = None,
) -> Estimate:
    """The area under the ROC curve: the probability that a positive score exceeds a negative one, ties counting half.

    The interval is that of DeLong et al. 1988, on the logit scale. With groups its structural components are summed
    over each group (Obuchowski 1997). Where no pair is in the wrong order, the bound is that of as many successes as
    the smaller side has scores or groups.

    Args:
        positive: `[m]`.
        negative: `[n]`.
        positive_groups: `[m]`; scores of one group may depend on each other. None: all are independent.
        negative_groups: `[n]`, likewise.
    """
    of_positive, of_negative = shares_below(positive, negative), 1 - shares_below(negative, positive)
    auc, m, n = float(of_positive.mean()), len(positive), len(negative)
    parts = [
        group_sums(v - auc, groups) for v, groups in ((of_positive, positive_groups), (of_negative, negative_groups))
    ]
    fewer = min(len(part) for part in parts)
    if fewer < 2:
        return Estimate(auc, 0.0, 1.0)
    if auc in (0.0, 1.0):
        bound = 0.025 ** (1 / fewer)
        return Estimate(auc, bound, 1.0) if auc else Estimate(auc, 0.0, 1 - bound)
    scatter = [len(part) / (len(part) - 1) * np.square(part).sum() for part in parts]
    error = np.sqrt(scatter[0] / m**2 + scatter[1] / n**2) / (auc * (1 - auc))
    low, high = (1 / (1 + np.exp(-(np.log(auc / (1 - auc)) + side * Z95 * error))) for side in (-1, 1))
    return Estimate(auc, float(low), float(high))


def true_positive_rate(positive: Array, negative: Array, fpr: float) -> tuple[float, float]:
    """The true-positive rate at a false-positive rate.

    Args:
        positive: scores `[m]`.
        negative: scores `[n]`.
        fpr: the share of negative scores that may exceed the threshold.

    Returns:
        The share of positive scores above the lowest such threshold, and the share of negative ones above it.
    """
    allowed = int(fpr * len(negative) + 1e-9)
    threshold = np.partition(negative, len(negative) - 1 - allowed)[len(negative) - 1 - allowed]
    return float((positive > threshold).mean()), float((negative > threshold).mean())


def _resample(owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many groups as there are, drawn with replacement."""
    count = int(owner.max()) + 1
    times = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.repeat(np.arange(len(owner)), times[owner])
