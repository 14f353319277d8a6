"""Measures that several sections share: which feature networks, which metrics, and how their cards become tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frugan.errors import FruganError
from frugan.metrics import EvaluationCard
from frugan.metrics.features.networks import at_hand
from frugan.reports.context import Context

OF_SETS = ("kid_full", "fid", "fid_infinity", "precision", "density")
OF_COPYING = ("memorisation", "c_t", "authenticity", "fld")


def networks(context: Context) -> tuple[str, ...]:
    """The feature networks asked for, else those whose weights are on this machine. Raises `FruganError` where there are none."""
    found = context.settings.features or at_hand()
    if not found:
        raise FruganError("no feature network is at hand: pip install 'frugan[metrics]', or name one with --features")
    return found


def measured(context: Context, network: str) -> EvaluationCard:
    """Distances, neighbourhoods and copying in one network: one card, since they share samples and features."""
    metrics = (*OF_SETS, *OF_COPYING)
    return context.card("features", features=network, metrics=metrics, intervals=True, per_class=has_classes(context))


def has_classes(context: Context) -> bool:
    """Whether the generator makes images by class, of two or more, and the real images have these classes as well."""
    subject = context.subject
    labels = subject.real.labels if subject.real else None
    if not subject.generator.label_size or labels is None or labels.shape[1] != subject.generator.label_size:
        return False
    one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    return bool(one_hot) and len(np.unique(labels, axis=0)) > 1


def interval(found: Mapping[str, Any] | None, digits: str = ".3g") -> str:
    """An estimate as text: its value, and its 95 % interval in brackets."""
    if found is None:
        return "–"
    return f"{found['value']:{digits}} ({found['low']:{digits}} to {found['high']:{digits}})"


def between(bounds: Sequence[float] | None, digits: str = ".3g") -> str:
    """An interval as text."""
    return "–" if bounds is None else f"{bounds[0]:{digits}} to {bounds[-1]:{digits}}"
