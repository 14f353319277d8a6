"""Evaluation report: sections computed one by one, kept as they come, and written as a page, as JSON and as a model card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from frugan.checks import check_choice
from frugan.distributed import from_first, rank
from frugan.errors import FruganError, explain
from frugan.files import check_writable, refilling, write_json, write_text
from frugan.reports.card import report_card
from frugan.reports.context import Context, Settings
from frugan.reports.page import render
from frugan.reports.sections.artefacts import examine
from frugan.reports.sections.copying import compare_with_training
from frugan.reports.sections.description import describe
from frugan.reports.sections.privacy import attack
from frugan.reports.sections.quality import compare
from frugan.reports.sections.statement import state
from frugan.reports.sections.usefulness import use
from frugan.reports.store import FORMAT, Findings, Store, digest
from frugan.reports.subject import Subject, open_subject
from frugan.run.directory import Advance
from frugan.tracking import now

PAGE, NUMBERS, CARD = "report.html", "report.json", "README.md"
_PARTS, _CARDS = "sections", "cards"


class Section(NamedTuple):
    """A section that is computed from the context: its title on the page, and how."""

    title: str
    compute: Callable[[Context], Findings]


SECTIONS: dict[str, Section] = {
    "description": Section("What this is", describe),
    "quality": Section("Quality", compare),
    "copying": Section("Copying", compare_with_training),
    "privacy": Section("Privacy", attack),
    "usefulness": Section("Usefulness", use),
    "artefacts": Section("Leaks and artefacts", examine),
}
"""By name, in the order of the page."""

STATEMENT = "statement"


@dataclass(frozen=True)
class Report:
    """A report that was written: its folder, and what was found in each section, the statement last."""

    folder: Path
    sections: dict[str, Findings]

    @property
    def page(self) -> Path:
        return self.folder / PAGE

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers of each section, by its name."""
        return {name: found.numbers for name, found in self.sections.items()}

    @property
    def statement(self) -> list[dict[str, str]]:
        """The statements that the evidence supports or not: `verdict`, `sentence` and `rule` of each."""
        return self.sections[STATEMENT].numbers["sentences"] if STATEMENT in self.sections else []


def report(
    source: str | Path,
    out: str | Path,
    *,
    data: str | None = None,
    reference: str | None = None,
    group: str | None = None,
    sections: Sequence[str] | None = None,
    device: str = "auto",
    progress: Advance | None = None,
    told: Callable[[str], object] = lambda _: None,
    **settings: Any,
) -> Report:
    """Writes report.html, report.json and a model card, README.md, about a generator into the folder `out`.

    A section that was computed before from the same weights, images and settings is kept, so that a killed report resumes. A
    section that cannot be computed says why, and the rest is written. Where `torch.distributed` is set up, all
    processes call this, and the first one writes.

    Args:
        source: a run, a checkpoint, a foreign file, or "hf:user/name".
        data: where the run's images are now, or those of a checkpoint without a run.
        reference: other images of the same kind, which it was not trained on.
        group: which images belong together (see `frugan.data.groups`); None: as the run was trained.
        sections: names of `SECTIONS`, and "statement"; None: all.
        device: to compute on.
        progress: called with (done, total) within a section.
        told: called with a sentence about each section.
        settings: the fields of `frugan.reports.context.Settings`.

    Raises:
        FruganError: before anything is written, where an argument makes no sense or the generator cannot be read.
    """
    chosen = list(SECTIONS | {STATEMENT: None}) if sections is None else list(sections)
    for name in chosen or [""]:
        check_choice("section", name, [*SECTIONS, STATEMENT])
    fixed = Settings(**settings)
    folder = Path(out)
    if rank() == 0:
        check_writable(folder, "folder")
    subject = open_subject(source, data=data, reference=reference, group=group, device=device)
    context = Context(subject, fixed, folder / _CARDS, data, reference, group, progress or (lambda done, total: None))
    store = Store(folder / _PARTS)
    found = {name: _section(name, context, store, told) for name in SECTIONS if name in chosen}
    if STATEMENT in chosen:
        found[STATEMENT] = state(found)
    made = Report(folder, found)
    if rank() == 0:
        _write(made, context)
    return made


def _section(name: str, context: Context, store: Store, told: Callable[[str], object]) -> Findings:
    """A section's kept results or else new ones; an error that the user can understand makes it empty."""
    title = SECTIONS[name].title
    key = digest(name, context.identity, _run_files(context.subject) if name == "description" else None)
    kept = from_first(lambda: store.read(name, key))
    if kept is not None:
        told(f"{title}: kept from before")
        return kept
    started = time.perf_counter()
    try:
        found = SECTIONS[name].compute(context)
    except Exception as error:
        reason = str(error) if isinstance(error, FruganError) else explain(error)
        if reason is None:
            raise
        told(f"{title}: empty, since {reason}")
        return Findings(empty=reason)
    found.seconds = round(time.perf_counter() - started, 1)
    if rank() == 0:
        store.write(name, key, found)
    told(f"{title}: {found.seconds:g} s")
    return found


def _run_files(subject: Subject) -> list[Any]:
    """Size and time of the files of a run that the description shows: a run that goes on is described anew."""
    if subject.run is None:
        return []
    files = [subject.run.path / name for name in ("config.yaml", "run.json", "stats.jsonl", "environment.json")]
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]


def _write(made: Report, context: Context) -> None:
    """The three files, whole or not at all."""
    subject = context.subject
    name = subject.source.resolve().name
    titles = {key: section.title for key, section in SECTIONS.items()} | {STATEMENT: "Limits and statement"}
    header = {
        "format": FORMAT,
        "name": name,
        "written": now(),
        "generator": subject.digest,
        "data": subject.data.fingerprint if subject.data else None,
        "reference": subject.reference.fingerprint if subject.reference else None,
        "settings": asdict(context.settings),
    }
    numbers = {**header, "sections": {key: _kept(found) for key, found in made.sections.items()}}
    with refilling(made.folder, PAGE) as scratch:
        write_json(scratch / NUMBERS, numbers)
        write_text(scratch / CARD, report_card(subject, made.sections, context.settings))
        write_text(scratch / PAGE, render(header, titles, made.sections))


def _kept(found: Findings) -> Mapping[str, Any]:
    if found.empty:
        return {"empty": found.empty}
    return {"seconds": found.seconds, "numbers": found.numbers, "cards": found.cards}
