"""Point dragging: handles on an image are pulled to targets, and the rest follows (Pan et al., "Drag Your GAN", 2023).

In each step a patch of features around a handle p is pulled one pixel towards its target, Σ_q |F(q + d) - F(q).detach()|, while
what lies outside the mask is held at its first features. Adam moves the coarse ws, and each handle is tracked to the place nearby
whose feature is nearest to its first one. Points are (x, y) in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import Limits, NotNegative, check_fields
from frugan.errors import FruganError
from frugan.latent.fitting.loop import Schedule, Terms, fit
from frugan.networks import Generator

Point = tuple[float, float]
_REFERENCE = 512
"""Image size that the paper's radii belong to; they scale with the size."""


@dataclass(frozen=True)
class DragConfig:
    """The paper's constants; radii in pixels at 512², at least one pixel."""

    steps: Annotated[int, Limits(at_least=1, at_most=100_000)] = 200
    lr: Annotated[float, Limits(above=0, at_most=10)] = 0.002
    patch: Annotated[float, Limits(above=0, at_most=512)] = 3.0
    search: Annotated[float, Limits(above=0, at_most=512)] = 12.0
    keep: NotNegative = 20.0
    """Weight of what lies outside the mask."""
    arrived: Annotated[float, Limits(above=0, at_most=512)] = 2.0
    level: Annotated[int | None, Limits(at_least=0)] = None
    """Whose features are looked at; None: two below the last."""
    levels: Annotated[int, Limits(at_least=1)] = 3
    """How many levels' ws move, from the base grid on, none above the features' level."""

    def __post_init__(self) -> None:
        check_fields(self)


class DragReport(NamedTuple):
    """After a step."""

    step: int
    handles: Tensor
    """Where the handles are now, float32 `[P, 2]`."""
    distances: Tensor
    """To their targets, in pixels, `[P]`."""
    ws: Tensor
    """`[1, num_ws, w_dim]`."""
    arrived: bool


class DragProblem:
    """The fitting problem of dragging, a `frugan.latent.fitting.loop.Problem`.

    Args:
        G: the generator.
        ws: of the image, `[1, num_ws, w_dim]`.
        handles, targets: `[P, 2]`, (x, y) in pixels.
        mask: bool `[H, W]`, true where the image may change; None: everywhere.
        config: sizes and the schedule.
    """

    shared: frozenset[str] = frozenset()
    count = 1

    def __init__(
        self, G: Generator, ws: Tensor, handles: Tensor, targets: Tensor, mask: Tensor | None, config: DragConfig
    ) -> None:
        last = len(G.synthesis.sizes) - 1
        self.G, self.ws, self.handles, self.targets, self.config = G, ws, handles.clone(), targets, config
        self.level = max(0, last - 2) if config.level is None else config.level
        if self.level > last:
            raise FruganError(f"level {self.level}: this generator has levels 0 to {last}")
        self.size = G.resolution
        scale = max(self.size) / _REFERENCE
        self.patch, self.search, self.near = (
            max(1.0, r * scale) for r in (config.patch, config.search, config.arrived)
        )
        self.moving = 2 * min(config.levels, self.level + 1)
        self.variables = {"head": ws[:, : self.moving].clone()}
        with torch.no_grad():
            self.first, _ = self.features()
            self.marks = sample(self.first, self.handles)
        self.fixed = None if mask is None else ~mask.bool().to(ws.device)[None, None]

    def codes(self) -> Tensor:
        """ws `[1, num_ws, w_dim]` as they are now."""
        return torch.cat([self.variables["head"], self.ws[:, self.moving :]], dim=1)

    def features(self) -> tuple[Tensor, Tensor]:
        """Feature maps `[1, C, H, W]` at the image's size, and the image so far, from the levels up to the one looked at."""
        levels = self.G.synthesis.levels(self.G.synthesis.styles(self.codes()), noise="const")
        state = next(islice(levels, self.level, None))
        big = F.interpolate(state.features.float(), size=self.size, mode="bilinear", align_corners=False)
        image = torch.zeros(1, 3, 1, 1, device=big.device) if state.image is None else state.image
        return big, image

    @property
    def distances(self) -> Tensor:
        """Distances of the handles from their targets, in pixels."""
        return (self.targets - self.handles).norm(dim=1)

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        """The motion loss and the mask's."""
        found, image = self.features()
        motion = torch.zeros((), device=found.device)
        for handle, target, distance in zip(self.handles, self.targets, self.distances.tolist()):
            if distance > 1:
                places = handle + disc(self.patch).to(handle)
                step = (target - handle) / distance
                pulled, there = sample(found, places + step), sample(found, places).detach()
                motion = motion + (pulled - there).abs().mean()
        penalty = torch.zeros((), device=found.device)
        if self.fixed is not None:
            penalty = self.config.keep * ((found - self.first).abs() * self.fixed).mean()
        return Terms(motion[None], penalty, image)

    def settle(self) -> None:
        """Tracks the handles."""
        found, _ = self.features()
        square = torch.arange(-int(self.search), int(self.search) + 1, device=found.device).float()
        offsets = torch.cartesian_prod(square, square)
        limit = torch.tensor([self.size[1] - 1.0, self.size[0] - 1.0], device=found.device)
        for i, mark in enumerate(self.marks):
            places = torch.minimum((self.handles[i] + offsets).clamp_min(0), limit)
            nearest = (sample(found, places) - mark).square().sum(1).argmin()
            self.handles[i] = places[nearest]


def drag(
    G: Generator,
    ws: Tensor,
    handles: Sequence[Point],
    targets: Sequence[Point],
    config: DragConfig = DragConfig(),
    *,
    mask: Tensor | None = None,
) -> Iterator[DragReport]:
    """Drags points of an image to other places; yields a report after each step, and ends when all have arrived.

    Args:
        G: the generator.
        ws: `[1, num_ws, w_dim]` on the generator's device, for instance `point_ws(G, [code])`.
        handles, targets: (x, y) in pixels, as many of either.
        config: sizes and the schedule.
        mask: bool `[H, W]`, true where the image may change; None: everywhere.

    Raises:
        FruganError: for points outside the image, none, or not as many of either, or a mask of another size.
    """
    pairs = [
        torch.tensor(points, dtype=torch.float32, device=ws.device).reshape(-1, 2) for points in (handles, targets)
    ]
    h, w = G.resolution
    for points in pairs:
        outside = (points < 0) | (points > torch.tensor([w - 1.0, h - 1.0], device=ws.device))
        if outside.any():
            x, y = points[outside.any(1)][0].tolist()
            raise FruganError(f"point ({x:g}, {y:g}) lies outside the image, which is {w} pixels wide and {h} high")
    if not handles or len(handles) != len(targets):
        raise FruganError(f"{len(handles)} handles and {len(targets)} targets: give one or more, and as many of either")
    if tuple(ws.shape) != (1, G.num_ws, G.w_dim):
        raise FruganError(f"ws of {tuple(ws.shape)}: one image is dragged at a time, {(1, G.num_ws, G.w_dim)}")
    if mask is not None and tuple(mask.shape) != (h, w):
        raise FruganError(
            f"a mask of {tuple(mask.shape)}: draw one of {h}x{w} pixels, white where the image may change"
        )
    problem = DragProblem(G, ws, pairs[0], pairs[1], mask, config)
    for report in fit(problem, Schedule(config.steps, config.lr, ramp_up=0.0, ramp_down=0.0)):
        arrived = bool((problem.distances <= problem.near).all())
        yield DragReport(
            report.step, problem.handles.clone(), problem.distances, problem.codes().detach().clone(), arrived
        )
        if arrived:
            return


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """`[1, C, H, W]` at (x, y) `[P, 2]` in pixels, bilinearly: `[P, C]`; beyond the edge as at the edge."""
    h, w = maps.shape[2:]
    grid = (points + 0.5) / torch.tensor([w, h], device=maps.device) * 2 - 1
    return F.grid_sample(maps, grid[None, None], align_corners=False, padding_mode="border")[0, :, 0].T


def disc(radius: float) -> Tensor:
    """Whole offsets (x, y) within a radius, `[Q, 2]`."""
    line = torch.arange(-int(radius), int(radius) + 1).float()
    offsets = torch.cartesian_prod(line, line)
    return offsets[offsets.norm(dim=1) <= radius]
