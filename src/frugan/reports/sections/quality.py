"""Quality: distances and neighbourhoods of samples and real images in feature networks, each with its interval and floor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from frugan.metrics import EvaluationCard
from frugan.metrics.metric import explain_value
from frugan.reports import blocks
from frugan.reports.blocks import Block
from frugan.reports.context import Context
from frugan.reports.measures import OF_COPYING, between, measured, networks
from frugan.reports.store import Findings

_NOT_HERE = ("memorisation", "copied", "c_t", "authenticity", "fld")
_PER_CLASS = ("kid_full", "precision", "recall", "density", "coverage")


def compare(context: Context) -> Findings:
    """Samples against real images as sets, in each feature network."""
    subject, settings = context.subject, context.settings
    real = subject.require_real()
    names = networks(context)
    own_discriminator = (
        "The discriminator of this run learned from pixels alone, so that no feature network here was part of its training."
        if subject.run
        else "Where the discriminator of this network stood on a feature network, distances in that network flatter it: from the "
        "generator alone this cannot be seen."
    )
    found = Findings(numbers={"networks": {}, "truncation": settings.truncation, "samples": settings.samples})
    found.numbers |= {"against": "unseen" if subject.unseen else "train", "reference_count": len(real)}
    found.blocks.append(
        blocks.paragraph(
            f"{settings.samples:,} samples against {len(real):,} {subject.real_name}. Floor: the same number between two random "
            "halves of the real images, its middle and 95 % of cases; half as many images make it larger than the whole would. "
            f"Nothing can be told from real images that lies within it. {own_discriminator}"
        )
    )
    for name in names:
        card = measured(context, name)
        values = {k: v for k, v in card.values.items() if k not in _hidden(card)}
        found.numbers["networks"][name] = {
            "values": values,
            "intervals": {k: v for k, v in card.intervals.items() if k in values},
            "floor": {k: v for k, v in card.floor.items() if k in values},
            "per_class": card.per_class,
        }
        found.cards.append(asdict(card))
        found.blocks.append(_table(name, card, values))
        found.blocks += _classes(name, card)
        reasons = [f"{part}: {why}" for part, why in card.missing.items() if part not in OF_COPYING]
        found.blocks += [blocks.paragraph(reason, kind="note") for reason in reasons]
    return found


def _hidden(card: EvaluationCard) -> set[str]:
    """Values of the card that belong to the section on copying."""
    return {name for name in card.values if name.startswith(_NOT_HERE)}


def _table(network: str, card: EvaluationCard, values: dict[str, float]) -> Block:
    rows = [
        (
            name,
            f"{value:.4g}",
            between(card.intervals.get(name)),
            _floor(card.floor.get(name)),
            explain_value(name),
        )
        for name, value in values.items()
    ]
    columns = ("metric", "value", "95 % interval", "floor", "meaning")
    return blocks.table(f"In the features of {network}", columns, rows)


def _floor(found: list[float] | None) -> str:
    return "–" if found is None else f"{found[0]:.3g} ({found[1]:.3g} to {found[2]:.3g})"


def _classes(network: str, card: EvaluationCard) -> list[Block]:
    if not card.per_class:
        return []
    names = [n for n in _PER_CLASS if any(n in values for values in card.per_class.values())]
    rows: list[list[Any]] = [
        [label, *(f"{values[n]:.4g}" if n in values else "too few images" for n in names)]
        for label, values in card.per_class.items()
    ]
    note = (
        "Each class against the real images of that class; with few of them all of these are coarse. They have no intervals, which "
        "would take half of these few images: read the order of classes from them, not small differences."
    )
    return [blocks.table(f"For each class, by {network}", ("class", *names), rows, note=note)]
