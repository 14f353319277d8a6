"""Samples with scores, to find boundaries between: scores from a table, a class, a function of images, or a built-in one.

What can be wrong with the scores that are asked for shows in `scorer`, before anything is drawn.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from frugan.errors import FruganError, shown
from frugan.latent.directions.boundary import check_scores
from frugan.latent.edit import render_edited
from frugan.latent.scores import SCORES
from frugan.networks import Generator, typical_labels

Advance = Callable[[int, int], None] | None

SCORED = 4000
"""Images that a score is computed from, or latents that a class is told apart by."""


def scorer(
    G: Generator, scores: str | Tensor, c: Tensor | None, space: Literal["w", "z"] = "w"
) -> Callable[[Advance], tuple[Tensor, Tensor]]:
    """A function that draws samples and scores them: w `[N, w_dim]` (or z `[N, z_dim]`) on the CPU, and scores `[N]`.

    Args:
        G: the generator.
        scores: a built-in one by name; the path of a CSV of seed, score; "package.module:function" of images `[N, C, H,
            W]` in [-1, 1] to N numbers; or the label `[K]` of a class that is told apart from all others.
        c: a label `[K]` of the samples; None: every class in turn.
        space: of the latents, "w" or "z".
    """
    if isinstance(scores, Tensor):
        if space == "z":
            raise FruganError("a class is no matter of z, which is drawn alike for all of them; look for it in w")
        z_labels = _class_against_others(G, scores)
        return lambda progress: (_w(G, range(SCORED), z_labels), (torch.arange(SCORED) + 1) % 2)
    if scores in SCORES:
        return lambda progress: _by_images(G, SCORES[scores].function, c, space, progress)
    if ":" in scores and not Path(scores).exists():
        function = _imported(scores)
        return lambda progress: _by_images(G, function, c, space, progress)
    seeds, values = read_scores(Path(scores))
    check_scores(values)
    return lambda progress: (_latents(G, seeds, c, space), values)


def _latents(G: Generator, seeds: Sequence[int], c: Tensor | None, space: Literal["w", "z"]) -> Tensor:
    return w_of(G, seeds, c) if space == "w" else G.latents(list(seeds))


def w_of(G: Generator, seeds: Sequence[int], c: Tensor | None) -> Tensor:
    """w `[N, w_dim]` of seeds, on the CPU.

    Args:
        G: the generator.
        seeds: N of them.
        c: their label `[K]`; None: each class in turn.
    """
    return _w(G, seeds, labels_for(G, c, len(seeds)))


def labels_for(G: Generator, c: Tensor | None, n: int) -> Tensor | None:
    """Labels `[n, K]` for n images, or None for a generator without labels.

    Args:
        G: the generator.
        c: the label `[K]` of all; None: each class in turn.
        n: number of images.
    """
    if not G.label_size:
        return None
    typical = typical_labels(G.label_size, G.config.measured)
    return typical[torch.arange(n) % len(typical)] if c is None else c.expand(n, -1)


def read_scores(file: Path) -> tuple[list[int], Tensor]:
    """Seeds and scores `[N]` from a CSV of two columns, with or without a heading. Raises `FruganError`."""
    if not file.is_file():
        raise FruganError(
            f"there is no score {str(file)!r}: name a CSV of seed and score, class:NAME, package.module:function, or one of "
            f"{', '.join(SCORES)}"
        )
    seeds, scores = [], []
    with open(file, newline="", encoding="utf-8-sig") as opened:
        for line, row in enumerate(csv.reader(opened), start=1):
            try:
                seed, score = row
                pair = int(seed), float(score)
            except ValueError:
                if line == 1 or not row:
                    continue  # the heading, or an empty line
                raise FruganError(f"{file}, line {line}: give a seed and a number, for instance 17,0.25") from None
            if not 0 <= pair[0] < 2**32:
                raise FruganError(f"{file}, line {line}: seed {pair[0]} is not from 0 to {2**32 - 1}")
            seeds.append(pair[0])
            scores.append(pair[1])
    if not seeds:
        raise FruganError(f"{file} holds no scores; give a seed and a number a line, for instance 17,0.25")
    return seeds, torch.tensor(scores, dtype=torch.float64)


@torch.no_grad()
def _w(G: Generator, seeds: Sequence[int], labels: Tensor | None) -> Tensor:
    device = G.mapping.w_avg.device
    return G.mapping.features(G.latents(list(seeds)).to(device), None if labels is None else labels.to(device)).cpu()


def _by_images(
    G: Generator, function: Callable[[Tensor], object], c: Tensor | None, space: Literal["w", "z"], progress: Advance
) -> tuple[Tensor, Tensor]:
    labels, values = labels_for(G, c, SCORED), []
    for chunk in torch.arange(SCORED).split(32):
        images = render_edited(G, G.latents(chunk.tolist()), None if labels is None else labels[chunk])
        found = torch.as_tensor(function(images)).detach().cpu().double().flatten()
        if len(found) != len(images):
            raise FruganError(
                f"the scores' function made {len(found)} numbers of {len(images)} images; it has to make one of each"
            )
        values.append(found)
        if progress:
            progress(sum(map(len, values)), SCORED)
    return _latents(G, range(SCORED), c, space), torch.cat(values)


def _class_against_others(G: Generator, c: Tensor) -> Tensor:
    """Labels `[SCORED, K]`: the class at even places, all others in turn at odd ones."""
    typical = typical_labels(G.label_size, G.config.measured)
    others = typical[(typical != c).any(1)]
    if not len(others):
        raise FruganError("this generator has one class only; a boundary needs two")
    labels = others[torch.arange(SCORED) // 2 % len(others)].clone()
    labels[::2] = c
    return labels


def _imported(name: str) -> Callable[[Tensor], object]:
    home, _, attribute = name.rpartition(":")
    try:
        found = getattr(importlib.import_module(home), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise FruganError(f"--scores {name}: {shown(error)}") from error
    if not callable(found):
        raise FruganError(f"--scores {name} is no function of images")
    return found
