"""Copying: samples against training images, with unseen images in the samples' place as the control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from frugan.data import Dataset
from frugan.data.duplicates import Images, describe_pair, near_duplicates, split_duplicates, training_duplicates
from frugan.images import to_pixels
from frugan.metrics import EvaluationCard, ImageSet
from frugan.reports import blocks
from frugan.reports.blocks import Block
from frugan.reports.context import MOST_COMPARED, Context
from frugan.reports.measures import OF_COPYING, between, interval, measured, networks
from frugan.reports.nearest_pairs import show_pairs
from frugan.reports.store import Findings

_MOST_PAIRS = 1_000_000
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
        _show_copies_in_pixels(context, found)
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


def _show_copies_in_pixels(context: Context, found: Findings) -> None:
    """Adds how many samples are near-duplicates of training images by their pixels, and how many unseen images are."""
    subject = context.subject
    train = _OneByOne(subject.require_train())
    count = min(context.settings.samples, MOST_COMPARED)
    made = to_pixels(context.samples(count), subject.depth)
    shares = {
        "samples": _share_like(made, train),
        "unseen": _share_like(_OneByOne(subject.require_unseen()), train),
    }
    found.numbers["copies_in_pixels"] = shares
    rows = [
        (name, one["count"], f"{one['of']:,}", interval(one, ".2%"))
        for name, one in zip(("samples", "unseen images"), shares.values())
    ]
    note = (
        "By the same measure, which sees through blur, noise, brightness and contrast where distances of features do not; "
        "an image counts that is like a training image, or like one flipped left to right."
    )
    columns = ("near-duplicates of training images", "count", "of", "share (95 % interval)")
    found.blocks.append(blocks.table("Copies in pixels", columns, rows, note=note))


def _share_like(images: Images, train: Images) -> dict[str, float]:
    """The share of images with a near-duplicate among training images, with its exact interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    count = len({pair.first for pair in near_duplicates(images, train, most=_MOST_PAIRS)})
    span = binomtest(count, len(images)).proportion_ci(0.95, "exact")
    return {"count": count, "of": len(images), "value": count / len(images), "low": span.low, "high": span.high}


@dataclass(frozen=True)
class _OneByOne:
    """Images by number, read as they are asked for."""

    images: ImageSet

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int, /) -> np.ndarray:
        return self.images[[i]][0]


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
