"""Finding of directions by a method's name: found, measured, with a sheet of images for each, on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from frugan.checks import check_file_name
from frugan.errors import FruganError
from frugan.files import refilling, write_json
from frugan.images import save_image
from frugan.latent.code import Code, Point, check_points, code_ws
from frugan.latent.direction import FACTS, Direction, overlap, save_directions
from frugan.latent.directions import (
    SOURCES,
    boundary_direction,
    channels_from_examples,
    channels_in_region,
    check_estimators,
    check_mask,
    difference_direction,
    find_boundary,
    ganspace_directions,
    read_published,
    sefa_directions,
)
from frugan.latent.edit import NO_TRUNCATION, Edit, Truncation
from frugan.latent.measure import Baseline, Effect, measure
from frugan.latent.scores import SCORES
from frugan.latent.scoring import labels_for, scorer, w_of
from frugan.latent.sheets import stacked, table
from frugan.latent.statistics import SAMPLES, Statistics, statistics_of
from frugan.networks import Generator

Advance = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Request:
    """The settings of a search for directions. Which fields count depends on `method`, see `SOURCES`."""

    method: str = "ganspace"
    count: int = 10
    levels: tuple[int, ...] | None = None
    samples: int = SAMPLES
    normalize: bool = True
    c: Tensor | None = None
    """A label `[K]` to look at, of a conditional generator."""
    scores: str | Tensor | None = None
    """boundary: see `frugan.latent.scoring.scorer`."""
    space: Literal["w", "z"] = "w"
    """boundary: the space of its plane."""
    name: str = ""
    """boundary and import: what to call the direction."""
    seeds: tuple[Point, ...] = ()
    """Seeds and codes. stylespace: examples; difference: where it starts."""
    to_seeds: tuple[Point, ...] = ()
    """difference: where it ends."""
    to_c: Tensor | None = None
    """difference: the label where it ends; `c` is where it starts."""
    mask: Tensor | None = None
    """stylespace: a region, bool `[H, W]`."""
    file: Path | None = None
    """import: the file that was published."""
    component: int | None = None
    """import: which component of GANSpace's file."""
    ws: tuple[int, int] | None = None
    """import: the first of the ws that it acts on, and the one after the last."""
    without: tuple[Direction, ...] = ()
    """Directions to be projected out of what is found."""


def find(G: Generator, request: Request, progress: Advance = None) -> list[Direction]:
    """Finds the directions that were asked for; they are not measured yet.

    Args:
        G: the generator.
        request: method and settings.
        progress: called with (done, in all).

    Raises `FruganError` for what the method lacks, before anything is drawn.
    """
    check(G, request)
    if request.method == "import":
        return [_published(G, request).projected_out(request.without)]
    pool = None if request.c is None or request.method == "difference" else request.c[None]
    statistics = statistics_of(G, samples=request.samples, labels=pool, progress=progress)
    levels, count = request.levels, request.count
    if request.method == "ganspace":
        found = ganspace_directions(G, statistics, min(count, G.w_dim), levels=levels)
    elif request.method == "sefa":
        found = sefa_directions(G, statistics, min(count, G.w_dim), levels=levels, normalize=request.normalize)
    elif request.method == "boundary":
        assert request.scores is not None
        boundary = find_boundary(*scorer(G, request.scores, request.c, request.space)(progress))
        name = request.name or "boundary"
        found = [boundary_direction(G, statistics, boundary, name=name, space=request.space, levels=levels)]
    elif request.method == "stylespace" and request.mask is not None:
        found = channels_in_region(G, statistics, request.mask, count, levels=levels, c=request.c)
    elif request.method == "stylespace":
        found = channels_from_examples(G, statistics, _ws(G, request.seeds, request.c), count, levels=levels)
    else:
        found = [_difference(G, statistics, request)]
    return [direction.projected_out(request.without) for direction in found]


def check(G: Generator, request: Request) -> None:
    """Raises `FruganError` where the request cannot be met."""
    if request.method not in SOURCES:
        raise FruganError(f"method {request.method!r}: choose one of {', '.join(SOURCES)}")
    if request.name:
        check_file_name("direction", request.name)
    if request.method == "boundary":
        if request.scores is None:
            raise FruganError(
                "method boundary needs --scores: a CSV of seed and score, class:NAME, package.module:function of images, or one "
                f"of {', '.join(SCORES)} (computed from images)"
            )
        check_estimators()
        scorer(G, request.scores, request.c, request.space)
    if request.method == "stylespace" and request.mask is None and len(request.seeds) < 2:
        raise FruganError(
            "method stylespace needs --seeds of 2 or more examples, or --mask with a region drawn in white"
        )
    if request.method == "difference" and request.to_c is None and not (request.seeds and request.to_seeds):
        raise FruganError("method difference needs --seeds and --to-seeds, or --class and --to-class")
    if request.method == "stylespace" and request.mask is not None:
        check_mask(G, request.mask)
    if request.space == "z" and (request.method != "boundary" or request.levels is not None):
        raise FruganError("space z is one of method boundary, and reaches all levels: leave --levels out")
    check_points(G, [*request.seeds, *request.to_seeds])
    for point in (*request.seeds, *request.to_seeds):
        if isinstance(point, Code):
            code_ws(point)
    _check_without(G, request)
    if request.method == "import":
        _published(G, request).projected_out(request.without)


def _published(G: Generator, request: Request) -> Direction:
    if request.file is None:
        raise FruganError(
            "method import needs --file: components of GANSpace (.npz) or an InterFaceGAN boundary (.npy)"
        )
    if request.levels is not None:
        raise FruganError("a published direction acts on the ws that it was published for: give --ws, not --levels")
    return read_published(G, request.file, component=request.component, ws=request.ws, name=request.name)


def _difference(G: Generator, statistics: Statistics, request: Request) -> Direction:
    if request.to_c is not None:
        seeds = range(2000)
        start, end, name = _ws(G, seeds, request.c), _ws(G, seeds, request.to_c), "class-difference"
    else:
        start, end, name = _ws(G, request.seeds, request.c), _ws(G, request.to_seeds, request.c), "difference"
    return difference_direction(G, statistics, start, end, name=name, levels=request.levels)


def _ws(G: Generator, points: Sequence[Point], c: Tensor | None) -> Tensor:
    """ws `[N, num_ws, w_dim]` of seeds and codes."""
    seeds = [point for point in points if isinstance(point, int)]
    w = w_of(G, seeds, c)[:, None].expand(-1, G.num_ws, -1) if seeds else torch.zeros(0, G.num_ws, G.w_dim)
    return torch.cat([w, *(code_ws(point)[None].cpu() for point in points if isinstance(point, Code))])


def _check_without(G: Generator, request: Request) -> None:
    """Raises `FruganError` unless those to be projected out are of the space and order of what will be found."""
    space = "style" if request.method == "stylespace" else request.space
    order = "before" if request.method == "import" else "after"
    for direction in request.without:
        direction.check(G)
        if (direction.space, direction.order) != (space, order):
            raise FruganError(
                f"direction {direction.name!r} is of space {direction.space}, added {direction.order} truncation: method "
                f"{request.method} finds those of {space}, added {order} it; project out one of that kind"
            )


def explore(
    G: Generator,
    request: Request,
    out: Path,
    *,
    seeds: Sequence[int] = range(6),
    truncation: Truncation = NO_TRUNCATION,
    progress: Advance = None,
) -> list[tuple[Direction, Effect]]:
    """Finds directions, measures the effect of each, and writes them with a sheet of images for each, and one of all.

    Args:
        G: the generator.
        request: method and settings.
        out: a folder.
        seeds: the images that effects are measured on and shown for.
        truncation: of these images.
        progress: called with (done, in all).
    """
    found = find(G, request, progress)
    baseline = Baseline.of(G, seeds, labels_for(G, request.c, len(seeds)), truncation)
    looked_at: list[tuple[Direction, Effect]] = []
    for i, direction in enumerate(found):
        effect = measure(G, direction, baseline)
        looked_at.append((replace(direction, slider=effect.slider), effect))
        if progress:
            progress(i + 1, len(found))
    directions = [direction for direction, _ in looked_at]
    report = {
        "directions": [{"name": d.name, **asdict(effect)} for d, effect in looked_at],
        "overlap": overlap(directions).tolist(),
        "seeds": list(seeds),
    }
    with refilling(out, FACTS) as scratch:
        save_directions(directions, scratch)
        strips = []
        for i, direction in enumerate(directions):
            title = f"{i} {direction.name}"
            save_image(direction_sheet(G, direction, baseline, title), scratch / f"{i:02d}-{direction.name}.png")
            strips.append(direction_sheet(G, direction, baseline, title, seeds=2))
        save_image(stacked(strips), scratch / "all.png")
        write_json(scratch / "effects.json", report)
    return looked_at


def direction_sheet(
    G: Generator, direction: Direction, baseline: Baseline, title: str, *, steps: int = 7, seeds: int | None = None
) -> np.ndarray:
    """A sheet of images under a direction, uint8 `[H', W', 3]`: seeds as rows, strengths over the slider's range as
    columns, 0 in the middle.

    Args:
        G: the generator.
        direction: with its slider.
        baseline: the images that it is applied to.
        title: above the sheet.
        steps: number of strengths, odd.
        seeds: number of the first images to show; None: all.
    """
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
