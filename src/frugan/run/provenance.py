"""Provenance of a run's generator for its model card: data, training and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from frugan.errors import FruganError
from frugan.files import read_bytes
from frugan.interop.model_card import Provenance
from frugan.metrics import EvaluationCard
from frugan.run.directory import RunDirectory
from frugan.run.load import generator_folder
from frugan.training import checkpoint

_LONGEST_CARD = 1 << 20
_HOW = {
    "rt": "adaptive, by r_t", "rv": "adaptive, by r_v", "scheduled": "on a schedule", "fixed": "fixed", "none": "none",
}  # fmt: skip


def provenance_of(source: str | Path, licence: str | None = None) -> Provenance:
    """The provenance of the run that `source` is a directory or checkpoint of; for other networks only the licence.

    Paths and host names are left out: a card is published.
    """
    folder = Path(source) if Path(source).is_file() else generator_folder(source)
    licence = licence or _licence(folder)
    home = folder.parent.parent
    if folder.parent.name != "checkpoints" or not (home / "config.yaml").is_file():
        return Provenance(licence=licence)
    run = RunDirectory(home)
    return Provenance(dict([*_data(run), *_training(run, folder), *_figures(run, folder)]), licence)


def _licence(folder: Path) -> str | None:
    """The licence in the header of the card that the networks have already, if any."""
    try:
        text = read_bytes(folder / "README.md", _LONGEST_CARD).decode("utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(r"^license: *([\w.+-]+) *$", text.split("---")[1] if text.startswith("---") else "", re.MULTILINE)
    return found[1] if found else None


def _data(run: RunDirectory) -> Iterator[tuple[str, str]]:
    facts = run.report("run.json")
    if count := facts.get("images_in_set"):
        held_out = f", {facts['held_out']} more held out" if facts.get("held_out") else ""
        mirrored = ", doubled by x-flips" if run.config.data.mirror else ""
        fingerprint = str(run.report("data.json").get("fingerprint", ""))[:12]
        yield "Data", f"{count} images{held_out}{mirrored}; fingerprint {fingerprint}"


def _training(run: RunDirectory, folder: Path) -> Iterator[tuple[str, str]]:
    config, facts = run.config, run.report("environment.json")
    found = next((c for c in checkpoint.all_checkpoints(run.checkpoints) if c.path == folder), None)
    kimg = f"{found.images / 1000:g} kimg" if found else f"up to {config.kimg:g} kimg"
    gpus = [str(gpu.get("name", gpu) if isinstance(gpu, dict) else gpu) for gpu in facts.get("gpus") or []]
    yield "Training", f"{kimg} on {', '.join(gpus) or facts.get('cpu', 'unknown')}"
    training, controller = config.training, config.controller
    started = f", from {Path(config.transfer.init_from).name}" if config.transfer.init_from else ""
    yield (
        "Settings",
        f"batch {training.batch}, R1 weight {config.objective.r1_gamma:g}, learning rate {training.generator_lr:g}, "
        f"channel base {config.generator.synthesis.channel_base}, augmentation {_HOW[controller.kind]}{started}",
    )
    packages = facts.get("packages") or {}
    yield (
        "Versions",
        ", ".join(f"{name} {version}" for name, version in packages.items() if name in ("frugan", "torch")),
    )


def _figures(run: RunDirectory, folder: Path) -> Iterator[tuple[str, str]]:
    """The values of each evaluation card of the checkpoint, and how they were measured."""
    for file in sorted((run.path / "evaluations").glob(f"{folder.name}*.json")):
        try:
            card = EvaluationCard.load(file)
        except FruganError:  # another file, or a damaged one
            continue
        values = ", ".join(f"{name} {value:.4g}" for name, value in card.values.items())
        protocol = ", ".join(
            f"{k} {card.protocol[k]}" for k in ("samples", "features", "truncation") if k in card.protocol
        )
        yield f"Figures ({file.stem})", f"{values}; against {card.conditions.get('against')}: {protocol}"
