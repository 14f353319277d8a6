"""Feature likelihood divergence (FLD): whether samples explain held-out images as well as they explain training images.

Jiralerspong et al., "Feature Likelihood Divergence", 2023. The density is a mixture of isotropic Gaussians centred on
the samples q_j:

    p(x) = 1/(m + 1) · Σ_j N(x; q_j, σ_j²·I), j over the m samples and one broad Gaussian at T's mean

The variances σ_j² are fitted to the training images T. A Gaussian on a copy of a training image shrinks until it
explains nothing but that image, so the likelihood of held-out images P falls behind that of T.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D, checked
from frugan.metrics.neighbours import squared_distances
from frugan.metrics.resampling import Estimate, mean_error, mean_estimate, split_halves

LOG_VARIANCE = (-20.0, 40.0)
"""Limits of log σ². The published lower one is −40; below −20 an exact copy's distance is rounding, and FLD would measure that."""
MOST_STEPS, TOLERANCE = 100, 1e-5
FEWEST = 10
_KEPT_PAIRS = 1 << 25  # of squared distances that are kept between steps, 256 MiB


@dataclass(frozen=True)
class FeatureLikelihood:
    """The result, in 100 · nats per feature."""

    fld: Estimate
    """How much worse the samples explain held-out images than half of the training images do. 0: as well; lower is better."""
    gap: Estimate
    """Negative log-likelihood of T less that of P, as published. The variances were fitted to T: it is not 0 by chance."""
    copying: Estimate
    """The gap less the one that comes of exchanging T and P, both cut to one count. 0: nothing copied; below 0: copies."""


def feature_likelihood(
    generated: Features2D,
    train: Features2D,
    unseen: Features2D,
    *,
    train_groups: np.ndarray | None = None,
    unseen_groups: np.ndarray | None = None,
    seed: int = 0,
) -> FeatureLikelihood:
    """FLD and its generalisation gap, in features standardised by the held-out images'.

    With mixtures f fitted to T and g fitted to P, of one count, the excess of the gap over chance is symmetric about 0 where
    samples depend on neither set: (f_T − f_P) − (g_P − g_T) for the mean negative log-likelihoods of T and P. Intervals are
    those of the held-out (and training) images drawn, given the samples.

    Args:
        generated: Q `[m, D]`; more samples explain more.
        train: T `[t, D]`.
        unseen: P `[n, D]`.
        train_groups: `[t]`; halves keep groups together, and intervals know of them. x-flipped copies of one image are one group.
        unseen_groups: `[n]`, of which intervals know.
        seed: of the baseline's halves, and of the cut.
    """
    generated, train = checked(generated, train)
    unseen, _ = checked(unseen, train)
    if min(map(len, (generated, train, unseen))) < FEWEST:
        raise FruganError(
            f"{len(generated)} generated, {len(train)} training and {len(unseen)} held-out images: a likelihood needs "
            f"{FEWEST} of each"
        )
    q, t, p = _standardised(unseen, generated, train, unseen)
    rng = np.random.default_rng(seed)
    first, second = (t[rows] for rows in split_halves(len(t), rng, train_groups))
    expected, own = _Mixture(first, second).nll(p), _Mixture(q, t)
    of_unseen, of_train = own.nll(p), own.nll(t)
    error = np.hypot(mean_error(of_train, train_groups), mean_error(of_unseen, unseen_groups))
    return FeatureLikelihood(
        fld=mean_estimate(100 * (of_unseen - expected), unseen_groups),
        gap=Estimate.of(100 * (of_train.mean() - of_unseen.mean()), 100 * error),
        copying=_excess(generated, train, unseen, train_groups, unseen_groups, rng),
    )


def _excess(
    generated: Array,
    train: Array,
    unseen: Array,
    train_groups: np.ndarray | None,
    unseen_groups: np.ndarray | None,
    rng: np.random.Generator,
) -> Estimate:
    """The gap less that of T and P exchanged, at the count of the smaller set, standardised by both."""
    count = min(len(train), len(unseen))
    rows = [np.sort(rng.permutation(len(x))[:count]) for x in (train, unseen)]
    cut = [x[own] for x, own in zip((train, unseen), rows)]
    q, t, p = _standardised(np.concatenate(cut), generated, *cut)
    f, g = _Mixture(q, t), _Mixture(q, p)
    of_train, of_unseen = (100 * (f.nll(x) + g.nll(x)) for x in (t, p))
    groups = [None if g is None else g[own] for g, own in zip((train_groups, unseen_groups), rows)]
    error = float(np.hypot(mean_error(of_train, groups[0]), mean_error(of_unseen, groups[1])))
    return Estimate.of(of_train.mean() - of_unseen.mean(), error)


def _standardised(reference: Array, *sets: Array) -> list[Array]:
    """The features of some sets less the reference's mean, over its deviation; constant ones are left out."""
    mean, std = reference.mean(axis=0), reference.std(axis=0)
    varies = std > 1e-8 * np.abs(std).max()
    if not varies.any():
        raise FruganError("all held-out images have the same features; check the images and the feature network")
    return [(x[:, varies] - mean[varies]) / std[varies] for x in sets]


class _Mixture:
    """Isotropic Gaussians at centres `[m, D]` and at the data's mean, whose variances are fitted to data `[t, D]` by expectation
    maximisation: log σ² starts at the nearest squared distance over D."""

    def __init__(self, centres: Array, data: Array) -> None:
        self.centres, self.dims = np.concatenate([centres, data.mean(axis=0, keepdims=True)]), data.shape[1]
        kept = list(self._blocks(data)) if len(data) * len(centres) <= _KEPT_PAIRS else None
        start = np.min([block.min(axis=0) for block in kept or self._blocks(data)], axis=0)
        start[-1] = np.square(data - data.mean(axis=0)).sum() / len(data)
        self.log_variance = _log_variance(start / self.dims)
        before = np.inf
        for _ in range(MOST_STEPS):
            weight, scatter, nll = np.zeros(len(self.centres)), np.zeros(len(self.centres)), 0.0
            for squared in kept or self._blocks(data):
                joint, total = self._log_densities(squared)
                share = np.exp(joint - total[:, None])
                weight += share.sum(axis=0)
                scatter += (share * squared).sum(axis=0)
                nll -= total.sum() / (len(data) * self.dims)
            if before - nll < TOLERANCE:
                break
            before = nll
            seen = weight > 1e-12
            self.log_variance[seen] = _log_variance(scatter[seen] / (weight[seen] * self.dims))

    def nll(self, points: Array) -> Array:
        """Negative log-likelihood of each point, in nats per feature `[N]`."""
        return -np.concatenate([self._log_densities(block)[1] for block in self._blocks(points)]) / self.dims

    def _blocks(self, points: Array) -> Iterator[Array]:
        return squared_distances(points, self.centres)

    def _log_densities(self, squared: Array) -> tuple[Array, Array]:
        """Squared distances `[n, m + 1]` → log of each weighted density `[n, m + 1]`, and of their sum `[n]`."""
        scale = self.dims * (np.log(2 * np.pi) + self.log_variance)
        joint = -0.5 * (scale + squared * np.exp(-self.log_variance)) - np.log(len(self.centres))
        top = joint.max(axis=1)
        return joint, top + np.log(np.exp(joint - top[:, None]).sum(axis=1))


def _log_variance(variance: Array) -> Array:
    return np.log(np.clip(variance, *np.exp(LOG_VARIANCE)))
