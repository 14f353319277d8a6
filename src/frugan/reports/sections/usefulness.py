"""Usefulness: training on samples and testing on real images, and the user's own statistics compared as distributions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from frugan.errors import FruganError
from frugan.reports import blocks
from frugan.reports.blocks import Block
from frugan.reports.context import Context
from frugan.reports.measures import interval, networks
from frugan.reports.store import Findings

ARMS = {
    "real": "real images",
    "synthetic": "as many samples",
    "half": "half real, half samples",
    "both": "real images and as many samples",
}


def use(context: Context) -> Findings:
    """Tasks that labels and masks set, and statistics that the user names."""
    subject, settings = context.subject, context.settings
    subject.require_real()
    # utility alone is refused where there are no labels or masks, and then statistics were not computed
    asked: dict[str, Any] = {"statistics": settings.statistics} if settings.statistics else {}
    card = context.card("usefulness", features=networks(context)[0], metrics=("kid_full", "utility"), **asked)
    tasks, statistics = card.details.get("utility", {}), card.details.get("statistics", {})
    if not tasks and not statistics:
        raise FruganError(
            "; ".join(card.missing.values()) or "these images have no labels or masks, and no --statistic was named"
        )
    found = Findings(cards=[asdict(card)])
    found.numbers = {"tasks": tasks, "statistics": statistics, "missing": dict(card.missing)}
    found.blocks += [_task(name, task) for name, task in tasks.items()]
    if statistics:
        found.blocks.append(_statistics(statistics))
    found.blocks += [blocks.paragraph(f"{part}: {reason}", kind="note") for part, reason in card.missing.items()]
    return found


def _task(name: str, task: dict[str, Any]) -> Block:
    rows = [(words, interval(task["arms"][arm])) for arm, words in ARMS.items() if arm in task["arms"]]
    rows.append(("samples less real images", interval(task["difference"])))
    rows.append(("guessing", f"{task['chance']:.3g}"))
    note = (
        f"The score, {task['score']}, is that of a small network on {task['test']:,} real images that nothing was trained on, "
        f"after training on {task['count']:,} images (both: twice as many). It says what a small network learns, not the best "
        "there is."
    )
    return blocks.table(f"Task: {name}", ("trained on", f"{task['score']} (95 % interval)"), rows, note=note)


def _statistics(found: dict[str, Any]) -> Block:
    rows = [
        (
            name,
            f"{one['real_mean']:.4g}",
            f"{one['generated_mean']:.4g}",
            interval(one["difference"]),
            interval(one["ks"]),
            f"{one['null_ks']:.3g}",
            interval(one["wasserstein"]),
            f"{one['null_wasserstein']:.3g}",
            f"{one['p']:.2g}",
        )
        for name, one in found.items()
    ]
    columns = (
        "statistic",
        "mean, real",
        "mean, samples",
        "difference",
        "KS distance",
        "by chance, up to",
        "Wasserstein distance",
        "by chance, up to",
        "p",
    )
    note = "Distributions of a number for each image; by chance: 95 % of random divisions of all images give less."
    return blocks.table("Own statistics", columns, rows, note=note)
