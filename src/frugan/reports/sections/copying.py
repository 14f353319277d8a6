"""Copying: samples against training images, with unseen images in the samples' place as the control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from frugan.data import Dataset
from frugan.data.duplicates import describe_pair, split_duplicates, training_duplicates
from frugan.metrics import EvaluationCard
from frugan.reports import blocks
from frugan.reports.blocks import Block
from frugan.reports.context import Context
from frugan.reports.measures import OF_COPYING, between, interval, measured, networks
from frugan.reports.nearest_pairs import show_pairs
from frugan.reports.store import Findings

_PARTS = ("c_t", "authenticity", "fld", "distances")
_KINDS = (("samples", "generated"), ("unseen images", "unseen"), ("training images, to another one", "train"))


def compare_with_training(context: Context) -> Findings:
    """Whether samples lie nearer to training images than images that were not trained on do."""
    subject = context.subject
    train, unseen = subject.require_train(), subject.require_unseen()
    names = networks(context)
    found = Findings(numbers={"unseen_count": len(unseen), "train_count": len(train), "features": names[0]})
    found.numbers["samples"] = context.settings.samples
    found.blocks.append(
        blocks.paragraph(
            f"{context.settings.samples:,} samples and {len(unseen):,} {subject.real_name}, the control, each beside "
            f"{len(train):,} training images. A generator that copies nothing makes samples for which all numbers are those "
            "of the control."
        )
    )
    for name in names:
        card = measured(context, name)
        found.cards.append(asdict(card))
        details = {key: card.details.get(key) for key in _PARTS}
        missing = {key: card.missing[key] for key in OF_COPYING if key in card.missing}
        if name == names[0]:
            left_out = len(unseen) - card.protocol.get("control_count", len(unseen))
            found.numbers |= {
                **details,
                "unseen_left_out": left_out,
                "memorisation": card.values.get("memorisation"),
                "missing": missing,
            }
        else:
            found.numbers.setdefault("others", {})[name] = details
        found.blocks += _tables(name, card, details)
        found.blocks += [blocks.paragraph(f"{key}: {reason}", kind="note") for key, reason in missing.items()]
    if subject.data and subject.data.store.at_hand:
        _show_near_duplicates(subject.data, found, named=context.settings.real_images)
    show_pairs(context, names[0], measured(context, names[0]), found)
    return found


def _show_near_duplicates(data: Dataset, found: Findings, *, named: bool) -> None:
    """Adds the number of real images that are nearly the same as another training image, by their pixels; with some names."""
    pairs = {"training images": training_duplicates(data), "held-out images": split_duplicates(data)}
    training, held_out = pairs["training images"], pairs["held-out images"]
    counts = {
        "training images": len({i for pair in training for i in (pair.first, pair.second)}),
        "held-out images": len({pair.first for pair in held_out}),
    }
    found.numbers["near_duplicates"] = {"training": counts["training images"], "held_out": counts["held-out images"]}
    of = {"training images": len(data.train_indices), "held-out images": len(data.held_out_indices)}
    columns = ("real images with a near-duplicate among training images", "count", "of", "the most alike")
    rows = [
        (name, counts[name], of[name], ", ".join(describe_pair(pair, data.names) for pair in some[:3]) if named else "")
        for name, some in pairs.items()
    ]
    note = "By their pixels at 16×16, whatever their size, brightness and contrast; correlations in parentheses."
    found.blocks.append(blocks.table("Near-duplicates among real images", columns, rows, note=note))


def _tables(network: str, card: EvaluationCard, details: Mapping[str, Any]) -> Iterator[Block]:
    if rows := [*_rows(card, details)]:
        note = "A z-score has no interval: ± in the control's column is its deviation where nothing is copied."
        yield blocks.table(
            f"In the features of {network}",
            ("measure", "samples (95 % interval)", "control", "meaning"),
            rows,
            note=note,
        )
    if test := details["c_t"]:
        cells = [
            (
                i,
                cell["train"],
                cell["unseen"],
                cell["generated"],
                "too few" if cell["z"] is None else f"{cell['z']:.2g}",
            )
            for i, cell in enumerate(test["cells"], 1)
        ]
        note = (
            "Cells are groups of similar training images. A cell far below −3 is one whose images are copied; by chance each z "
            "scatters about 0 with deviation 1."
        )
        columns = ("cell", "training", "unseen", "samples", "z")
        yield blocks.table(f"Cells of C_T, by {network}", columns, cells, note=note)
    if far := details["distances"]:
        columns = ("share of images with a smaller distance", *(f"{q:.0%}" for q in far["quantiles"]))
        rows = [(words, *(f"{v:.3g}" for v in far[key])) for words, key in _KINDS]
        note = (
            "Quantiles of the Euclidean distance of features to the nearest training image, of all images of a kind: they describe "
            "these, and have no intervals; the share of near copies above, which is drawn from them, has one."
        )
        yield blocks.table(f"Distances, by {network}", columns, rows, note=note)


def _rows(card: EvaluationCard, details: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(measure, samples, control, meaning) of what was computed."""
    if test := details["c_t"]:
        meaning = "z-score, mean of cells: far below 0 copies, far above 0 samples are off"
        yield "C_T", f"{test['c_t']:.3g}", f"0 ± {test['error']:.2g}", meaning
        yield "z of all images at once", f"{test['z']:.3g}", "0 ± 1", "the same without cells"
    if "memorisation" in card.values:
        meaning = "chance that a sample is nearer to a training image than an unseen image is"
        found = f"{card.values['memorisation']:.3f} ({between(card.intervals.get('memorisation'), '.3f')})"
        yield "memorisation", found, "0.5", meaning
    if far := details["distances"]:
        meaning = "samples nearer to a training image than 99 % of unseen images"
        yield "near copies", interval(far["copied"], ".2%"), "1%", meaning
    if authentic := details["authenticity"]:
        ours, control = (interval(authentic[key], ".1%") for key in ("generated", "unseen"))
        yield (
            "authenticity",
            ours,
            control,
            "share that keeps its distance from training images; below the control: copies",
        )
    if fld := details["fld"]:
        meaning = (
            "FLD's gap less the one of exchanged sets; below 0: samples explain training images better than unseen ones"
        )
        yield "generalisation gap", interval(fld["copying"]), "0", meaning
        yield "FLD", interval(fld["fld"]), "0", "how badly samples explain unseen images"
