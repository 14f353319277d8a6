"""Description of a trained generator: its data, training, network, hashes and versions, and what it makes, uncurated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugan.config.options import Options
from frugan.config.presets import PRESETS
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import RunConfig, to_dict
from frugan.data import Dataset
from frugan.errors import FruganError, counted
from frugan.files import read_bytes
from frugan.images import to_float
from frugan.label_parts import LabelPart, label_parts
from frugan.networks import Generator
from frugan.reports import blocks
from frugan.reports.blocks import Block
from frugan.reports.context import Context, some_of
from frugan.reports.sheets import sheet
from frugan.reports.store import Findings
from frugan.reports.subject import Subject
from frugan.run.directory import read_json
from frugan.tracking import duration, environment, finite, read_stats
from frugan.tracking.energy import GPUS, PROCESSORS
from frugan.tracking.report.charts import charts
from frugan.tracking.report.page import flat
from frugan.tracking.text import number

SEEDS = 32
_PSIS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
_STEPS = 8
_MOST_ROWS = 12
_NOT_TRAINING = (
    "data.",
    "relative_paths",
    "threads",
    "report.",
    "evaluate.",
    "generator.measured",
    "generator.pixels",
    "generator.masks",
    "discriminator.measured",
)
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")


def describe(context: Context) -> Findings:
    """Describes the subject of the report. Nothing in it is a judgement."""
    found = Findings()
    subject = context.subject
    network, data, training = _network(subject), _data(context), _training(subject)
    found.numbers = {"network": dict(network), "data": dict(data), "training": dict(training)}
    found.blocks += [blocks.facts("Network", network), blocks.facts("Images", data)]
    if training:
        found.blocks.append(blocks.facts("Training", training))
    if subject.run:
        changed = differences(subject.run.config, subject.data)
        found.numbers["differs_from_preset"] = changed
        found.blocks += _configuration(changed)
    found.blocks += [blocks.paragraph(note, kind="note") for note in subject.notes]
    found.blocks += _images(context)
    if subject.run:
        config = to_dict(subject.run.config)
        drawn = charts(read_stats(subject.run.path / "stats.jsonl"), config["controller"])
        found.blocks += [blocks.chart(one) for one in drawn]
    found.blocks.append(blocks.facts("This report was computed with", list(_versions(environment()))))
    return found


def _network(subject: Subject) -> list[tuple[str, str]]:
    G = subject.generator
    h, w = G.resolution
    rows = [
        ("name", subject.source.resolve().name),
        ("checkpoint", subject.folder.name),
        ("images", f"{h}×{w} pixels, {counted(G.channels, 'channel')}"),
        ("parameters of the generator", f"{sum(p.numel() for p in G.parameters()):,}"),
        ("z, w", f"{G.z_dim}, {G.w_dim}"),
        ("SHA-256 of its weights", subject.digest),
    ]
    if G.label_size:
        parts = label_parts(G.label_size, subject.class_names, G.config.measured)
        rows.insert(3, ("labels", "; ".join(map(str, parts))))
    return rows


def _data(context: Context) -> list[tuple[str, str]]:
    subject, rows = context.subject, []
    if subject.data is None:
        rows.append(("training images", subject.missing or "not known: no run, and no --data"))
    else:
        rows += _set_rows(subject.data, "")
        rows += [(f"labels {name}".strip(), text) for name, text in subject.data.describe_labels()]
    if subject.reference is not None:
        rows += _set_rows(subject.reference, "reference: ")
    rows.append(("licence of the images, as stated", context.settings.licence or _licence(subject) or "not stated"))
    return rows


def _set_rows(data: Dataset, prefix: str) -> list[tuple[str, str]]:
    h, w = data.resolution
    count, held_out = f"{len(data):,}", len(data.held_out_indices)
    if held_out:
        count += f", of which {len(data.train_indices):,} to train on and {held_out:,} held out"
    mirrored = ", x-flips added" if data.config.mirror else ""
    shape = f"{h}×{w} pixels, {counted(data.channels, 'channel')}, {data.depth} bits{mirrored}"
    rows = [
        ("name", Path(data.config.path.rstrip("/")).name),
        ("images", count),
        ("shape", shape),
        ("skipped as unreadable", f"{len(data.skipped):,}"),
        ("SHA-256 of images, names, labels and split", data.fingerprint),
    ]
    if data.groups is not None:
        rows.insert(2, ("groups", data.groups.describe(data.held_out_indices)))
    return [(prefix + name, text) for name, text in rows]


def _licence(subject: Subject) -> str | None:
    """The first line of a licence file beside the images."""
    known = subject.data or subject.reference
    if known is None:
        return None
    folder = Path(known.config.path)
    for name in _LICENCES:
        try:
            text = read_bytes(folder / name, 1 << 20).decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        if line := next((line.strip() for line in text.splitlines() if line.strip()), ""):
            return f"{line} (first line of {name} beside the images)"
    return None


def _training(subject: Subject) -> list[tuple[str, str]]:
    if subject.run is None:
        return []
    run = subject.run
    facts, records, made_on = (
        run.report("run.json"),
        read_stats(run.path / "stats.jsonl"),
        run.report("environment.json"),
    )
    kimg = finite(run_kimg) if (run_kimg := facts.get("kimg")) is not None else None
    rows = [("status", run.status().sentence)]
    if kimg is not None:
        rows.append(
            (
                "length",
                f"{number(kimg)} of {number(finite(facts.get('total_kimg')))} kimg (thousands of images shown to D)",
            )
        )
    if (images := _checkpoint_images(subject)) is not None:
        rows.append(("this checkpoint", f"{number(images / 1000)} kimg"))
    if records and (seconds := finite(records[-1].get("seconds_total"))) is not None:
        rows.append(
            ("time", f"{duration(seconds)} on {facts.get('device', '?')}, {facts.get('processes', 1)} process(es)")
        )
    rows.append(("energy", _energy(records)))
    if records:
        rows += [
            (f"{name} at the end", f"{value:.3f}")
            for name in ("p", "r_t", "r_v")
            if (value := finite(records[-1].get(name))) is not None
        ]
    rows += [("warning", str(text)) for text in facts.get("warnings", []) if isinstance(text, str)]
    rows += [(f"trained with {name}", text) for name, text in _versions(made_on)]
    return rows  # fmt: skip


def _checkpoint_images(subject: Subject) -> float | None:
    try:
        return finite((read_json(subject.folder / "training.json") or {}).get("images"))
    except FruganError:
        return None


def _energy(records: Sequence[Mapping[str, Any]]) -> str:
    names = {PROCESSORS: "processors (RAPL)", GPUS: "GPUs (NVML)"}
    parts = []
    for name, words in names.items():
        if joules := [v for r in records if (v := finite(r.get(name))) is not None]:
            parts.append(f"{sum(joules) / 3.6e6:.3g} kWh by {words}")
    if not parts:
        return "not known: no meter of this system could be read"
    return f"{', '.join(parts)}; other programs included"


def _versions(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    packages = facts.get("packages")
    if isinstance(packages, Mapping):
        yield "versions", ", ".join(f"{k} {v}" for k, v in {"python": facts.get("python"), **packages}.items() if v)
    if facts.get("cpu"):
        gpus = [str(g.get("name")) for g in facts.get("gpus", []) if isinstance(g, Mapping)]
        yield "machine", ", ".join([f"{facts['cpu']}, {facts.get('usable_cores', '?')} cores", *gpus])


def differences(config: RunConfig, data: Dataset | None) -> dict[str, Any]:
    """The preset that a run's configuration is nearest to, and where it differs: {"preset", "fields": {name: [preset's, run's]}}.

    A run does not keep which preset it was asked for: each is resolved anew for the run's data, and the one with the
    fewest differences is taken.
    """
    own = dict(flat(to_dict(config)))
    best: dict[str, Any] = {}
    for name in PRESETS:
        try:
            made = resolve(Options(preset=name, conditional=config.conditional), config.data, _facts(config, data))[0]
        except FruganError:
            continue
        theirs = dict(flat(to_dict(made)))
        keys = [k for k in own | theirs if not k.startswith(_NOT_TRAINING)]
        fields = {k: [theirs.get(k, "–"), own.get(k, "–")] for k in keys if own.get(k) != theirs.get(k)}
        if not best or len(fields) < len(best["fields"]):
            best = {"preset": name, "fields": fields}
    return best


def _facts(config: RunConfig, data: Dataset | None) -> Facts:
    g = config.generator
    return Facts(
        resolution=g.resolution,
        channels=g.channels,
        label_size=g.label_size,
        images=len(data.stream_indices) if data else 1000,
        held_out=len(data.held_out_indices) if data else 0,
        bf16=config.training.precision == "bf16",
        measured=g.measured,
    )


def _configuration(changed: Mapping[str, Any]) -> list[Block]:
    if not changed:
        return [blocks.paragraph("This configuration resembles no preset; config.yaml in the run has all of it.")]
    title = f"Configuration that differs from preset {changed['preset']}, the nearest one"
    if not changed["fields"]:
        return [blocks.paragraph(f"The configuration is that of preset {changed['preset']}.")]
    rows = [(name, *values) for name, values in changed["fields"].items()]
    return [blocks.table(title, ("setting", "preset", "run"), rows)]


def _images(context: Context) -> list[Block]:
    """Samples by seed, a truncation sweep, samples for each label, and ways between samples."""
    subject, G = context.subject, context.subject.generator
    psi = context.settings.truncation
    made: list[Block] = []
    labels, names = _label_rows(subject)
    c = None if labels is None else labels[torch.arange(SEEDS) % len(labels)]
    images = G.sample(range(SEEDS), c=c, truncation=psi)
    title = f"Samples of seeds 0 to {SEEDS - 1}, none left out"
    made.append(
        sheet(title, images, 8, note=f"ψ = {psi:g}, left to right and down" + (", labels in turn" if names else ""))
    )
    if context.settings.real_images and (real := _real(subject)) is not None:
        made.append(sheet("Real images", real, 8, note=f"A random choice of {len(real)} of {subject.real_name}."))
    made.append(_truncation(G, None if labels is None else labels[0]))
    if labels is not None:
        rows = torch.cat([G.sample(range(8), c=label, truncation=psi) for label in labels])
        made.append(sheet("The same seeds for each label", rows, 8, row_names=names, note="Seeds 0 to 7."))
    made.append(_interpolations(G, None if labels is None else labels[0], psi))
    return made


def _real(subject: Subject) -> Tensor | None:
    if subject.real is None:
        return None
    return to_float(torch.from_numpy(subject.real[some_of(subject.real, SEEDS)]))


def _truncation(G: Generator, label: Tensor | None) -> Block:
    rows = [G.sample(range(8), c=label, truncation=psi) for psi in _PSIS]
    names = [f"{psi:.1f}" for psi in _PSIS]
    note = "Seeds 0 to 7 from left to right, ψ from 1 down to 0: more typical and less varied, at 0 the average."
    return sheet("Truncation sweep", torch.cat(rows), 8, row_names=names, note=note)


@torch.no_grad()
def _interpolations(G: Generator, label: Tensor | None, psi: float) -> Block:
    """Straight lines in W between pairs of seeds."""
    device = G.mapping.w_avg.device
    c = None if label is None else label.to(device).expand(8, -1)
    ws = G.mapping(G.latents(range(8)).to(device), c, truncation=psi)
    rows = []
    for a, b in zip(ws[::2], ws[1::2]):
        rows.append(
            G.synthesis(torch.stack([a.lerp(b, i / (_STEPS - 1)) for i in range(_STEPS)]), noise="const").clamp(-1, 1)
        )
    names = [f"{i} to {i + 1}" for i in range(0, 8, 2)]
    note = "Straight lines in W between two seeds each. Smooth ways are no proof against copying."
    return sheet("Interpolations", torch.cat(rows), _STEPS, row_names=names, note=note)


def _label_rows(subject: Subject) -> tuple[Tensor | None, list[str]]:
    """Labels `[R, K]` to show, at most 12, and their names: each class, or five values of a number; None without labels."""
    G = subject.generator
    if not G.label_size:
        return None, []
    parts = label_parts(G.label_size, subject.class_names, G.config.measured)
    base = subject.data.label_pool[0] if subject.data else torch.zeros(G.label_size)
    rows = [row for part in parts for row in _part_rows(part, base, len(parts) > 1)][:_MOST_ROWS]
    return torch.stack([label for label, _ in rows]), [name for _, name in rows]


def _part_rows(part: LabelPart, base: Tensor, several: bool) -> Iterator[tuple[Tensor, str]]:
    prefix = f"{part.name} " if several and part.name else ""
    if part.measured:
        m = part.measured
        for i in range(5):
            value = m.minimum + (m.maximum - m.minimum) * i / 4
            label = base.clone()
            label[part.columns[0]] = value
            yield label, f"{prefix}{value:.4g}"
        return
    for i, name in enumerate(part.classes):
        label = base.clone()
        if part.is_flag:
            label[part.columns[0]] = i
        else:
            label[part.columns.start : part.columns.stop] = 0
            label[part.columns[i]] = 1
        yield label, f"{prefix}{name}"
