"""Model card of a report: the generator's card as the hub reads it, with what was measured and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping

from frugan.interop.model_card import cell, model_card
from frugan.reports.context import Settings
from frugan.reports.store import Findings
from frugan.reports.subject import Subject


def report_card(subject: Subject, sections: Mapping[str, Findings], settings: Settings) -> str:
    """The model card in Markdown: how to use the generator, its data and training, the main numbers, and the statement.

    Args:
        subject: the generator with its run.
        sections: results by the section's name.
        settings: of the report.
    """
    name = subject.source.resolve().name
    still = "what it is meant for, and its licence (`license:` in the header)"
    lines = [model_card(subject.generator, f"USER/{name}", subject.class_names, samples=False, still=still)]
    if (found := sections.get("description")) and not found.empty:
        for title, part in (("Training images", "data"), ("Training", "training")):
            if rows := found.numbers[part]:
                lines += [
                    f"## {title}\n",
                    "| | |\n|---|---|",
                    *(f"| {cell(k)} | {cell(v)} |" for k, v in rows.items()),
                    "",
                ]
    if (found := sections.get("quality")) and not found.empty:
        lines += [
            "## Evaluation\n",
            f"{settings.samples} samples, seed {settings.seed}, ψ = {settings.truncation:g}.\n",
        ]
        lines += ["| network | metric | value |\n|---|---|--:|"]
        lines += [
            f"| {cell(network)} | {cell(metric)} | {value:.4g} |"
            for network, measured in found.numbers["networks"].items()
            for metric, value in measured["values"].items()
        ]
        lines.append("")
    if (found := sections.get("statement")) and not found.empty:
        lines += ["## What the evidence supports, and what not\n"]
        lines += [f"- **{s['verdict']}**: {cell(s['sentence'])}" for s in found.numbers["sentences"]]
        lines += ["", "### Limitations\n", *(f"- {text}" for text in found.numbers["limits"])]
    return "\n".join(lines).rstrip() + "\n"
