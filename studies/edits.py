"""What do edits change, and what else? Directions of every source, measured against known attributes.

Question: critters are drawn with attributes that are known, and a classifier of drawn ones tells what a generated one shows.
How much does each source's best direction for "it smiles", "it has one eye", … change that, and how many other attributes?

    python studies/edits.py                       # of the sample generator; about an hour on one core
    python studies/edits.py --network runs/mine   # of another generator of critters at 64x64

For each question and source the direction (sign, levels) is chosen on some seeds and measured on others, whose images answer
no at first. "Wanted" is the rise of the mean probability of yes; "others" the share of the eight other attributes that turn
into another class. Strengths of different sources are not comparable, and so both are given where images have moved equally
far (a share of the distance between two samples), and others where the wanted change is the same. The result stands in
docs/project/notebook/edits.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import attributes
import frugan
from attributes import QUESTIONS, Classifier, classify
from frugan.latent.direction import Direction
from frugan.latent.directions import (
    boundary_direction,
    channels_from_examples,
    find_boundary,
    ganspace_directions,
    sefa_directions,
)
from frugan.latent.edit import Edit, Truncation, render_edited
from frugan.latent.measure import pyramid_distance
from frugan.latent.statistics import Statistics, statistics_of
from frugan.networks import Generator

TRUNCATION = Truncation(0.7)
STRENGTHS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0)
EQUAL_DISTANCE, EQUAL_RISE = 0.3, 0.5
RARE = 0.03


class Scored(NamedTuple):
    """Samples (no truncation) and what the classifier says of them."""

    w: Tensor
    """`[N, w_dim]` of seeds 0 to N - 1."""
    answers: Tensor
    """Log-odds `[N, questions]`."""


class Images(NamedTuple):
    """Images before an edit, and their attributes."""

    z: Tensor
    pixels: Tensor
    found: dict[str, Tensor]
    spread: float
    """The mean distance between two of them."""


class Effect(NamedTuple):
    """What an edit did, averaged over images."""

    wanted: float
    others: float
    distance: float


def score(G: Generator, network: Classifier, count: int, folder: Path) -> Scored:
    """Samples, kept in `folder`."""
    file = folder / f"scores-{count}.npz"
    if not file.exists():
        answers = []
        for start in range(0, count, 100):
            images = render_edited(G, G.latents(range(start, start + 100)))
            answers.append(attributes.answers(network, images))
        w = G.mapping.features(G.latents(range(count)), None)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, w=w.numpy(), answers=torch.cat(answers).numpy())
    with np.load(file) as kept:
        return Scored(torch.from_numpy(kept["w"]), torch.from_numpy(kept["answers"]))


def asked(scored: Scored) -> list[str]:
    """The questions that samples answer both ways: a share of at least `RARE` each."""
    yes = (scored.answers > 0).float().mean(0).tolist()
    return [name for name, share in zip(QUESTIONS, yes) if RARE <= share <= 1 - RARE]


def boundaries(G: Generator, statistics: Statistics, scored: Scored) -> list[Direction]:
    """One for each question: between the tenths of the samples that answer most and least clearly."""
    made = []
    for name in asked(scored):
        i = list(QUESTIONS).index(name)
        found = find_boundary(scored.w, scored.answers[:, i], chosen=0.1)
        made.append(boundary_direction(G, statistics, found, name=name))
    return made


def conditional(directions: Sequence[Direction]) -> list[Direction]:
    """Each with those of all other attributes projected out."""
    return [
        d.projected_out([o for o in directions if QUESTIONS[o.name].attribute != QUESTIONS[d.name].attribute])
        for d in directions
    ]


def start(G: Generator, network: Classifier, seeds: range, question: str, count: int) -> Images:
    """The first `count` images of these seeds that answer no."""
    kept: list[Tensor] = []
    for some in torch.tensor(list(seeds)).split(50):
        z = G.latents(some.tolist())
        no = attributes.answers(network, render_edited(G, z, truncation=TRUNCATION), (question,))[:, 0] < 0
        kept.append(z[no])
        if sum(map(len, kept)) >= count:
            break
    z = torch.cat(kept)[:count]
    pixels = render_edited(G, z, truncation=TRUNCATION)
    return Images(z, pixels, classify(network, pixels), float(pyramid_distance(pixels, pixels.roll(1, 0)).mean()))


def effect(
    G: Generator, network: Classifier, images: Images, question: str, direction: Direction, strength: float
) -> Effect:
    """See the study's head."""
    q = QUESTIONS[question]
    after = render_edited(G, images.z, None, [Edit(direction, strength)], TRUNCATION)
    found = classify(network, after)
    before, now = (network.answer(f, q).sigmoid().mean() for f in (images.found, found))
    changed = [
        (found[a].argmax(1) != images.found[a].argmax(1)).float().mean() for a in network.names if a != q.attribute
    ]
    moved = pyramid_distance(images.pixels, after).mean() / images.spread
    return Effect(float(now - before), float(torch.stack(changed).mean()), float(moved))


def candidates(
    G: Generator, statistics: Statistics, scored: Scored, question: str, source: str, components: int
) -> list[Direction]:
    """What a source offers for a question."""
    levels = len(G.synthesis.sizes)
    ranges = [None, tuple(range(levels // 2)), tuple(range(levels // 2, levels))]
    i = list(QUESTIONS).index(question)
    if source == "stylespace":
        examples = scored.answers[:, i].topk(20).indices
        ws = scored.w[examples, None].expand(-1, G.num_ws, -1)
        return channels_from_examples(G, statistics, ws, 2 * components)
    if source in ("ganspace", "sefa"):
        find = {"ganspace": ganspace_directions, "sefa": sefa_directions}[source]
        found = [d for some in ranges for d in find(G, statistics, components, levels=some)]
        return [d.scaled(sign) for d in found for sign in (1.0, -1.0)]
    plain = boundaries(G, statistics, scored)
    chosen = next(d for d in (plain if source == "boundary" else conditional(plain)) if d.name == question)
    return [replace(chosen, levels=some) for some in ranges]


SOURCES = ("ganspace", "sefa", "stylespace", "boundary", "boundary, conditional")


def choose(G: Generator, network: Classifier, images: Images, question: str, offered: Sequence[Direction]) -> Direction:
    """That whose wanted change exceeds the change of the others most, at one of two strengths."""
    strengths = (6.0, 15.0) if offered[0].space == "style" else (2.0, 4.0)

    def merit(direction: Direction) -> float:
        found = [effect(G, network, images, question, direction, strength) for strength in strengths]
        return max(e.wanted - e.others for e in found)

    return max(offered, key=merit)


def curve(
    G: Generator, network: Classifier, images: Images, question: str, direction: Direction
) -> list[tuple[float, Effect]]:
    """Effects at growing strengths, until images are as far from where they were as two samples are."""
    found = []
    for strength in STRENGTHS:
        found.append((strength, effect(G, network, images, question, direction, strength)))
        if found[-1][1].distance > 0.9:
            break
    return found


def at(found: Sequence[tuple[float, Effect]], field: str, value: float) -> Effect | None:
    """The effect where one of its fields first reaches a value, linearly between strengths; None where it never does."""
    previous = Effect(0.0, 0.0, 0.0)
    for _, e in found:
        low, high = getattr(previous, field), getattr(e, field)
        if high >= value:
            share = (value - low) / max(high - low, 1e-9)
            return Effect(*(a + share * (b - a) for a, b in zip(previous, e)))
        previous = e
    return None


def study(G: Generator, network: Classifier, out: Path, args: argparse.Namespace) -> dict[str, dict[str, dict]]:
    """For each question and source: the direction chosen, and its effects at growing strengths. Kept in edits.json."""
    file = out / "edits.json"
    done: dict[str, dict[str, dict]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    statistics, scored = statistics_of(G), score(G, network, args.samples, out)
    for question in (name for name in args.questions if name in asked(scored)):
        chosen_on = start(G, network, range(100_000, 110_000), question, args.images // 3)
        measured_on = start(G, network, range(200_000, 210_000), question, args.images)
        for source in SOURCES:
            if source in done.setdefault(question, {}):
                continue
            offered = candidates(G, statistics, scored, question, source, args.components)
            direction = choose(G, network, chosen_on, question, offered)
            effects = [(s, *e) for s, e in curve(G, network, measured_on, question, direction)]
            done[question][source] = {"direction": direction.name, "levels": direction.levels, "effects": effects}
            file.write_text(json.dumps(done, indent=1), "utf-8")
            print(question, source, direction.name, direction.levels, flush=True)
    return done


def report(done: dict[str, dict[str, dict]]) -> str:
    """Two tables in Markdown."""
    rows = [
        f"| question | source | direction | wanted, at distance {EQUAL_DISTANCE} | others | others, at wanted +{EQUAL_RISE:.0%} |",
        "|---|---|---|--:|--:|--:|",
    ]
    means: dict[str, list[tuple[float, float, float]]] = {source: [] for source in SOURCES}
    for question, sources in done.items():
        for source, found in sources.items():
            effects = [(s, Effect(*e)) for s, *e in found["effects"]]
            equal, risen = at(effects, "distance", EQUAL_DISTANCE), at(effects, "wanted", EQUAL_RISE)
            short = "" if equal else f" (at {effects[-1][1].distance:.2f})"
            equal = equal or effects[-1][1]
            means[source].append((equal.wanted, equal.others, risen.others if risen else float("nan")))
            reached = f"{risen.others:.0%}" if risen else "–"
            rows.append(
                f"| {question} | {source} | {found['direction']} | {equal.wanted:+.0%}{short} | {equal.others:.0%} | {reached} |"
            )
    for source, found in means.items():
        wanted, others, risen = np.array(found).T
        reached = (
            f"{np.nanmean(risen):.0%} ({np.isfinite(risen).sum()} of {len(risen)})" if np.isfinite(risen).any() else "–"
        )
        rows.append(f"| **mean** | {source} | | {wanted.mean():+.0%} | {others.mean():.0%} | {reached} |")
    return "\n".join(rows)


def main() -> None:
    """See the study's head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="sample")
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), choices=list(QUESTIONS))
    parser.add_argument("--samples", type=int, default=4000, help="images that boundaries are fitted to")
    parser.add_argument("--images", type=int, default=48, help="images that effects are averaged over")
    parser.add_argument(
        "--components", type=int, default=12, help="of GANSpace and SeFa, on each of three ranges of levels"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/edits"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    G = frugan.load(args.network)
    network = attributes.trained(args.out)
    table = report(study(G, network, args.out, args))
    (args.out / "edits.md").write_text(table + "\n", "utf-8")
    print(table)


if __name__ == "__main__":
    main()
