"""Monitors: what a run's records say about its health, and what to try.

Each looks at all records so far and at nothing else, so that a run that goes on warns like one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from frugan.tracking.jsonl import finite
from frugan.tracking.tracker import Record

OVERFITTING, OVERFITTING_KIMG = 0.95, 50  # r_t, and for how long
CAP_KIMG = 20  # that p rests at its cap
WIDE_OUTPUTS = 100  # logits between D's outputs; a trained D stays within some ten
LOST_DIVERSITY = (
    0.5  # of the highest so far, or of what training images have where that is less: early noise may differ more
)
WORSE_EVALUATIONS = 5  # in a row

_SCALARS = ("kimg", "p", "r_t", "non_finite", "diversity")
_OUTPUTS = ("logits/real", "logits/generated")


@dataclass(frozen=True)
class Setting:
    """The facts on a run for the monitors: the cap of a moving p (0: none), the metric that it is judged by."""

    p_max: float = 0.0
    metric: str | None = None
    higher_is_better: bool = False


@dataclass(frozen=True)
class Monitor:
    """`check` says what is wrong now, or None. Where that is `divergence`, going back to a checkpoint may help."""

    check: Callable[[Sequence[Record], Setting], str | None]
    advice: str
    divergence: bool = False


def digest(record: Record) -> dict[str, Any]:
    """The part of a record that monitors need: small enough to keep for a whole run."""
    small: dict[str, Any] = {"kimg": finite(record.get("kimg")) or 0.0}
    small |= {k: v for k, v in record.items() if (k in _SCALARS or k.startswith("metric/")) and finite(v) is not None}
    for name in _OUTPUTS:
        if isinstance(histogram := record.get(name), Mapping):
            small[name] = {k: finite(histogram.get(k)) for k in ("count", "mean", "std")}
    return small


def check(records: Sequence[Record], setting: Setting) -> dict[str, str]:
    """The sentences of the monitors that have something to say, by their names; records oldest first."""
    found = {name: monitor.check(records, setting) for name, monitor in MONITORS.items()} if records else {}
    return {name: f"{finding}; {MONITORS[name].advice}" for name, finding in found.items() if finding}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _since(records: Sequence[Record], holds: Callable[[Record], bool]) -> tuple[float, float]:
    """(kimg since when it has held, for how many kimg); (0, -1) where it does not hold now."""
    held = list(takewhile(holds, reversed(records)))
    return (held[-1]["kimg"], held[0]["kimg"] - held[-1]["kimg"]) if held else (0.0, -1.0)


def _overfitting(records: Sequence[Record], setting: Setting) -> str | None:
    since, length = _since(records, lambda r: _number(r.get("r_t")) and r["r_t"] >= OVERFITTING)
    return f"r_t has stayed above {OVERFITTING} since {since:.0f} kimg" if length >= OVERFITTING_KIMG else None


def _at_cap(records: Sequence[Record], setting: Setting) -> str | None:
    cap = setting.p_max
    since, length = _since(records, lambda r: bool(cap) and _number(r.get("p")) and r["p"] > cap - 1e-6)
    return f"p has rested at its cap of {cap:g} since {since:.0f} kimg" if length >= CAP_KIMG else None


def _wide_outputs(records: Sequence[Record], setting: Setting) -> str | None:
    real, fake = (records[-1].get(name) for name in _OUTPUTS)
    if not (real and fake and real["count"] and fake["count"]):
        return None
    if not all(_number(h[part]) for h in (real, fake) for part in ("mean", "std")):
        return "D's outputs are too large to be added up"
    width = abs(real["mean"] - fake["mean"]) + max(real["std"], fake["std"])
    return f"D's outputs spread over {width:.3g} logits" if width > WIDE_OUTPUTS else None


def _diversity(records: Sequence[Record], setting: Setting) -> str | None:
    values = [r["diversity"] for r in records if _number(r.get("diversity"))]
    if not values or values[-1] >= LOST_DIVERSITY * min(max(values), 1.0):
        return None
    return f"samples differ {values[-1]:.0%} as much as training images do, after {max(values):.0%} before"


def _worse(records: Sequence[Record], setting: Setting) -> str | None:
    sign = -1 if setting.higher_is_better else 1
    name = f"metric/{setting.metric}"
    values = [r[name] for r in records if _number(r.get(name))][-WORSE_EVALUATIONS - 1 :]
    if len(values) <= WORSE_EVALUATIONS or any(sign * b <= sign * a for a, b in pairwise(values)):
        return None
    return f"{setting.metric} got worse {WORSE_EVALUATIONS} times in a row, from {values[0]:.4g} to {values[-1]:.4g}"


def _non_finite(records: Sequence[Record], setting: Setting) -> str | None:
    bad = [r for r in records if r.get("non_finite")]
    total = sum(r["non_finite"] for r in bad)
    return (
        f"{total:.0f} updates had gradients that are not finite, the last before {bad[-1]['kimg']:.0f} kimg"
        if bad
        else None
    )


MONITORS = {
    "overfitting": Monitor(
        _overfitting,
        "D knows the training images by heart: add images or --mirror, let p move faster (--ada-kimg) or start from a "
        "trained network (--init-from)",
    ),
    "p at its cap": Monitor(
        _at_cap,
        "the set is very small for this network and augmentation alone no longer holds overfitting back: add images, "
        "lower --d-capacity, or take the best checkpoint so far",
    ),
    "wide outputs": Monitor(
        _wide_outputs, "training diverges: raise --r1-gamma, lower --lr, or try --precision fp32", divergence=True
    ),
    "lost diversity": Monitor(
        _diversity, "the generator collapses: raise --r1-gamma, lower --lr, or go back to an earlier checkpoint"
    ),
    "worse metric": Monitor(
        _worse, "the best checkpoint is kept; more training is unlikely to help: stop, or add images"
    ),
    "non-finite": Monitor(_non_finite, "a few are harmless; if more come, lower --lr or try --precision fp32"),
}
