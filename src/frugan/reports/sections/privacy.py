"""Privacy: membership inference, the success of attacks that tell training images from others, beside that of chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from frugan.errors import FruganError
from frugan.reports import blocks
from frugan.reports.context import Context
from frugan.reports.measures import interval, networks
from frugan.reports.sections.statement import ATTACKS
from frugan.reports.store import Findings


def attack(context: Context) -> Findings:
    """Attacks by the discriminator's output, by the distance to samples, and by reconstruction."""
    subject = context.subject
    train, unseen = subject.require_train(), subject.require_unseen()
    card = context.card("membership", features=networks(context)[0], metrics=("membership",))
    details = dict(card.details.get("membership", {}))
    not_tried = details.pop("not_tried", [])
    if not details:
        raise FruganError("; ".join(card.missing.values()) or "no attack could be made")
    found = Findings(cards=[asdict(card)])
    found.numbers = {"attacks": details, "not_tried": list(not_tried), "missing": dict(card.missing)}
    found.blocks.append(
        blocks.paragraph(
            f"An attacker who holds an image asks whether it was trained on. {len(train):,} training images and {len(unseen):,} "
            f"{subject.real_name} are scored; AUC 0.5 is chance, and so is a true-positive rate equal to the false-positive one."
        )
    )
    found.blocks.append(_table_of(details))
    found.blocks += [blocks.paragraph(f"{part}: {reason}", kind="note") for part, reason in card.missing.items()]
    if not_tried:
        found.blocks.append(blocks.paragraph(f"Not tried: {'; '.join(map(str, not_tried))}.", kind="note"))
    return found


def _table_of(attacks: Mapping[str, Mapping[str, Any]]) -> blocks.Block:
    """The block that shows how far each attack came, beside chance."""
    columns = (
        "attack by",
        "members and others",
        "AUC",
        "AUC by chance",
        "true positives at false positives",
        "by chance",
        "p",
    )
    rows = [
        (
            ATTACKS.get(name, name),
            f"{one['members']:,} and {one['non_members']:,}",
            interval(one["auc"]),
            interval(one["null_auc"]),
            f"{interval(one['tpr'], '.1%')} at {one['fpr']:.1%}",
            interval(one["null_tpr"], ".1%"),
            f"{one['p']:.2g}",
        )
        for name, one in attacks.items()
    ]
    note = "p: how often chance gives an AUC as high. Attacks by the discriminator need its weights, the others do not."
    return blocks.table("Membership inference", columns, rows, note=note)
