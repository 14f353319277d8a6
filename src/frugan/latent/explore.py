"""From a method's name to directions that were looked at: found, measured, with a sheet for each, on disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.images import save_image
from frugan.latent.direction import Direction, overlap, save_directions
from frugan.latent.directions import (
    SOURCES,
    boundary_direction,
    channels_from_examples,
    channels_in_region,
    difference_direction,
    find_boundary,
    ganspace_directions,
    sefa_directions,
)
from frugan.latent.edit import NO_TRUNCATION, Edit, Truncation, render_edited
from frugan.latent.measure import Baseline, Effect, measure
from frugan.latent.scores import SCORES
from frugan.latent.sheets import stacked, table
from frugan.latent.statistics import SAMPLES, Statistics, statistics_of
from frugan.networks import Generator, typical_labels

Advance = Callable[[int, int], None] | None

SCORED = 4000
"""Images that a built-in score is computed from."""


@dataclass(frozen=True)
class Request:
    """What to look for. Which fields count depends on `method`, see `SOURCES`."""

    method: str = "ganspace"
    count: int = 10
    levels: tuple[int, ...] | None = None
    samples: int = SAMPLES
    normalize: bool = True
    c: Tensor | None = None
    """A label `[K]` to look at, of a conditional generator."""
    scores: str | None = None
    """boundary: the name of a built-in score, or the path of a CSV of seed, score."""
    seeds: tuple[int, ...] = ()
    """stylespace: examples; difference: where it starts."""
    to_seeds: tuple[int, ...] = ()
    """difference: where it ends."""
    to_c: Tensor | None = None
    """difference: the label where it ends; `c` is where it starts."""
    mask: Tensor | None = None
    """stylespace: a region, bool `[H, W]`."""
    without: tuple[Direction, ...] = ()
    """Directions to be projected out of what is found."""


def find(G: Generator, request: Request, progress: Advance = None) -> list[Direction]:
    """The directions that are asked for, unmeasured. Raises `FruganError` for what is missing, before anything is drawn."""
    check(G, request)
    pool = None if request.c is None or request.method == "difference" else request.c[None]
    statistics = statistics_of(G, samples=request.samples, labels=pool, progress=progress)
    levels, count = request.levels, request.count
    if request.method == "ganspace":
        found = ganspace_directions(G, statistics, min(count, G.w_dim), levels=levels)
    elif request.method == "sefa":
        found = sefa_directions(G, statistics, min(count, G.w_dim), levels=levels, normalize=request.normalize)
    elif request.method == "boundary":
        w, scores = _scored(G, request, progress)
        name = request.scores if request.scores in SCORES else Path(str(request.scores)).stem
        boundary = find_boundary(w, scores)
        found = [boundary_direction(G, statistics, boundary, name=name or "boundary", levels=levels)]
    elif request.method == "stylespace" and request.mask is not None:
        found = channels_in_region(G, statistics, request.mask, count, levels=levels, c=request.c)
    elif request.method == "stylespace":
        ws = _w(G, request.seeds, request.c)[:, None].expand(-1, G.num_ws, -1)
        found = channels_from_examples(G, statistics, ws, count, levels=levels)
    else:
        found = [_difference(G, statistics, request)]
    return [direction.projected_out(request.without) for direction in found]


def check(G: Generator, request: Request) -> None:
    """Raises `FruganError` where the request cannot be met."""
    if request.method not in SOURCES:
        raise FruganError(f"method {request.method!r}: choose one of {', '.join(SOURCES)}")
    if request.method == "boundary" and not request.scores:
        raise FruganError(
            f"method boundary needs --scores: a CSV of seed and score, or one of {', '.join(SCORES)} (computed from images)"
        )
    if request.method == "stylespace" and request.mask is None and len(request.seeds) < 2:
        raise FruganError(
            "method stylespace needs --seeds of 2 or more examples, or --mask with a region drawn in white"
        )
    if request.method == "difference" and request.to_c is None and not (request.seeds and request.to_seeds):
        raise FruganError("method difference needs --seeds and --to-seeds, or --class and --to-class")
    for direction in request.without:
        direction.check(G)


def _difference(G: Generator, statistics: Statistics, request: Request) -> Direction:
    if request.to_c is not None:
        seeds = tuple(range(2000))
        start, end, name = _w(G, seeds, request.c), _w(G, seeds, request.to_c), "class-difference"
    else:
        start, end, name = _w(G, request.seeds, request.c), _w(G, request.to_seeds, request.c), "difference"
    return difference_direction(G, statistics, start, end, name=name, levels=request.levels)


@torch.no_grad()
def _w(G: Generator, seeds: Sequence[int], c: Tensor | None) -> Tensor:
    """w `[N, w_dim]` of seeds, on the CPU."""
    device = G.mapping.w_avg.device
    labels = labels_for(G, c, len(seeds))
    return G.mapping.features(G.latents(list(seeds)).to(device), None if labels is None else labels.to(device)).cpu()


def _scored(G: Generator, request: Request, progress: Advance = None) -> tuple[Tensor, Tensor]:
    """w `[N, w_dim]` and scores `[N]`: from a CSV of seeds, or computed from images."""
    assert request.scores is not None
    if request.scores not in SCORES:
        seeds, scores = read_scores(Path(request.scores))
        return _w(G, seeds, request.c), scores
    function, batch, values = SCORES[request.scores].function, 32, []
    seeds = list(range(SCORED))
    for start in range(0, SCORED, batch):
        chunk = seeds[start : start + batch]
        labels = labels_for(G, request.c, SCORED)
        values.append(function(render_edited(G, G.latents(chunk), None if labels is None else labels[chunk])).cpu())
        if progress:
            progress(start + len(chunk), SCORED)
    return _w(G, seeds, request.c), torch.cat(values)


def labels_for(G: Generator, c: Tensor | None, n: int) -> Tensor | None:
    """Labels `[n, K]`: c `[K]` for all, or each class in turn where none is asked for; None for a generator without labels."""
    if not G.label_size:
        return None
    typical = typical_labels(G.label_size, G.config.measured)
    return typical[torch.arange(n) % len(typical)] if c is None else c.expand(n, -1)


def read_scores(file: Path) -> tuple[list[int], Tensor]:
    """Seeds and scores `[N]` from a CSV of two columns, with or without a heading. Raises `FruganError`."""
    if not file.is_file():
        raise FruganError(
            f"there is no score {str(file)!r}: name a CSV of seed and score, or one of {', '.join(SCORES)}"
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


def explore(
    G: Generator,
    request: Request,
    out: Path,
    *,
    seeds: Sequence[int] = range(6),
    truncation: Truncation = NO_TRUNCATION,
    progress: Advance = None,
) -> list[tuple[Direction, Effect]]:
    """Finds directions, measures each, and writes them with a sheet for each (and one of all) into `out`."""
    found = find(G, request, progress)
    baseline = Baseline.of(G, seeds, labels_for(G, request.c, len(seeds)), truncation)
    looked_at: list[tuple[Direction, Effect]] = []
    for i, direction in enumerate(found):
        effect = measure(G, direction, baseline)
        looked_at.append((replace(direction, slider=effect.slider), effect))
        if progress:
            progress(i + 1, len(found))
    directions = [direction for direction, _ in looked_at]
    save_directions(directions, out)
    strips = []
    for i, direction in enumerate(directions):
        save_image(
            direction_sheet(G, direction, baseline, f"{i} {direction.name}"), out / f"{i:02d}-{direction.name}.png"
        )
        strips.append(direction_sheet(G, direction, baseline, f"{i} {direction.name}", seeds=2))
    save_image(stacked(strips), out / "all.png")
    report = {
        "directions": [{"name": d.name, **asdict(effect)} for d, effect in looked_at],
        "overlap": overlap(directions).tolist(),
        "seeds": list(seeds),
    }
    (out / "effects.json").write_text(json.dumps(report, indent=1), "utf-8")
    return looked_at


def direction_sheet(
    G: Generator, direction: Direction, baseline: Baseline, title: str, *, steps: int = 7, seeds: int | None = None
) -> np.ndarray:
    """Seeds × strengths over the direction's slider, with 0 in the middle."""
    low, high = direction.slider
    half = steps // 2
    strengths = [low * (half - i) / half for i in range(half)] + [high * i / half for i in range(half + 1)]
    rows = slice(0, seeds or len(baseline.z))
    columns = [baseline.edited(G, [Edit(direction, strength)], rows) for strength in strengths]
    images = torch.stack(columns, 1).flatten(0, 1)
    return table(
        images,
        steps,
        column_names=[f"{strength:+.3g}" for strength in strengths],
        title=f"{title}, strength in standard deviations",
    )
