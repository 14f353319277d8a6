"""InterFaceGAN: linear boundaries in w or z (Shen et al., "Interpreting the Latent Space of GANs for Semantic Face Editing", 2020).

Latents with the lowest and with the highest scores are told apart by a plane; its normal is the direction. With few
labels a plane in 512 dimensions overfits: then logistic regression, whose ridge penalty cross-validation chooses, takes
the place of the support vector machine.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError
from frugan.latent.direction import Direction, Identity
from frugan.latent.statistics import Statistics
from frugan.networks import Generator

Estimator = Literal["auto", "svm", "logistic"]
FEW = 1000
"""Below so many labels `auto` takes shrunk logistic regression."""
FEWEST = 3
"""Latents of either end: two to fit by, each of which cross-validation leaves out in turn, and one to test by."""
CHOSEN = 0.02
"""Share of the latents taken from either end."""


class Boundary(NamedTuple):
    """A plane in w (or z), and how well it separates latents that it was not fitted to."""

    normal: Tensor
    """float64 `[D]`, unit length, towards high scores."""
    accuracy: float
    """On the held-out 30 % of the chosen ones."""
    rest_accuracy: float
    """On those between both ends, cut half-way between the extreme scores; nan where there are none."""
    fitted: int
    estimator: str


def find_boundary(
    w: Tensor, scores: Tensor, *, chosen: float = CHOSEN, estimator: Estimator = "auto", seed: int = 0
) -> Boundary:
    """The plane between the latents (w or z) with the lowest and those with the highest scores.

    Args:
        w: the latents, `[N, D]`.
        scores: `[N]`.
        chosen: share of the latents taken from either end (at most half), or from 1 on their number.
        estimator: how the plane is fitted; "auto": logistic regression for few latents, else a support vector machine.
        seed: of the split into training and test latents.

    Raises:
        FruganError: for scores that are not finite or all the same, too few latents, or without scikit-learn.
    """
    low, high = _ends(scores, len(w), chosen)
    x = w.cpu().double().numpy()
    picked = np.concatenate([low, high])
    truth = np.repeat([0, 1], [len(low), len(high)])
    rng = np.random.default_rng(seed)
    train = np.zeros(len(picked), bool)
    for kind in (0, 1):
        at = rng.permutation(np.flatnonzero(truth == kind))
        train[at[: max(1, round(0.7 * len(at)))]] = True
    chosen_estimator = ("logistic" if train.sum() < FEW else "svm") if estimator == "auto" else estimator
    normal, offset = _fit(chosen_estimator, x[picked[train]], truth[train])

    def share_right(rows: np.ndarray, wanted: np.ndarray) -> float:
        return float(((x[rows] @ normal + offset > 0) == wanted).mean()) if len(rows) else float("nan")

    values = scores.cpu().double().numpy().reshape(-1)
    rest = np.setdiff1d(np.arange(len(x)), picked)
    middle = values[rest] > (values.min() + values.max()) / 2
    return Boundary(
        torch.from_numpy(normal / np.linalg.norm(normal)),
        share_right(picked[~train], truth[~train] == 1),
        share_right(rest, middle),
        int(train.sum()),
        chosen_estimator,
    )


def boundary_direction(
    G: Generator,
    statistics: Statistics,
    boundary: Boundary,
    *,
    name: str,
    space: Literal["w", "z"] = "w",
    levels: tuple[int, ...] | None = None,
    source: dict[str, Any] | None = None,
) -> Direction:
    """The normal of a decision boundary as a direction; strength 1 is one standard deviation of samples along it, which
    in z is 1.

    Args:
        G: the generator.
        statistics: of its w.
        boundary: the fitted boundary.
        name: of the direction.
        space: that the boundary was found in, "w" or "z".
        levels: that edits act on; None: all.
        source: further facts on its origin.
    """
    n, in_w = boundary.normal, space == "w"
    facts = {"accuracy": boundary.accuracy, "rest_accuracy": boundary.rest_accuracy, "fitted": boundary.fitted}
    return Direction(
        name,
        space,
        n.float(),
        statistics.deviation_along(n) if in_w else 1.0,
        Identity.of(G),
        centre=float(n @ statistics.mean) if in_w else 0.0,
        levels=levels,
        source={"method": "boundary", "estimator": boundary.estimator, **facts, **(source or {})},
    )


def check_scores(scores: Tensor) -> None:
    """Raises `FruganError` where no plane can be found by these scores `[N]`: not finite, all the same, or too few."""
    _ends(scores, scores.numel(), CHOSEN)


def _finite(scores: Tensor) -> np.ndarray:
    """Scores `[N]` as float64."""
    values = scores.detach().cpu().double().numpy().reshape(-1)
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise FruganError(f"score {at} is {values[at]}; give finite numbers, or leave those images out")
    if len(np.unique(values)) < 2:
        raise FruganError(f"all {len(values)} scores are the same; a boundary needs low and high ones (or two classes)")
    return values


def check_estimators() -> None:
    """Raises `FruganError` where scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise FruganError("boundaries need scikit-learn: pip install 'frugan[directions]'") from None


def _ends(scores: Tensor, count: int, chosen: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows with the lowest and with the highest scores."""
    values = _finite(scores)
    if len(values) != count:
        raise FruganError(f"{len(values)} scores for {count} latents; give one for each")
    check_number("chosen", chosen, above=0)
    kinds = np.unique(values)
    if len(kinds) == 2:  # two classes: all of either
        low, high = np.flatnonzero(values == kinds[0]), np.flatnonzero(values == kinds[1])
    else:
        many = round(chosen * count) if chosen < 1 else round(chosen)
        many = min(max(many, 100), count // 2)  # of a few hundred latents 2 % would be a handful
        order = np.argsort(values, kind="stable")
        low, high = order[:many], order[count - many :]
    if min(len(low), len(high)) < FEWEST:
        raise FruganError(
            f"{len(low)} low and {len(high)} high scores: a boundary needs at least {FEWEST} of either; score more images"
        )
    return low, high


def _fit(kind: str, x: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Normal `[D]` and offset, in w, of the plane between both kinds of rows."""
    check_estimators()
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import LinearSVC

    if kind == "svm":
        model: Any = LinearSVC(C=1.0, dual=False, max_iter=2000)  # pyright: ignore[reportArgumentType]
    elif kind == "logistic":
        folds = int(max(2, min(5, np.bincount(truth).min())))
        model = GridSearchCV(
            LogisticRegression(max_iter=500), {"C": np.logspace(-5, 1, 7)}, cv=folds, scoring="neg_log_loss"
        )
    else:
        raise FruganError(f"estimator {kind!r}: choose auto, svm or logistic")
    mean, std = x.mean(0), x.std(0) + 1e-8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: the plane is good long before
        model.fit((x - mean) / std, truth)
    fitted = model if kind == "svm" else model.best_estimator_
    normal = fitted.coef_[0] / std
    return normal, float(fitted.intercept_[0] - mean @ normal)
