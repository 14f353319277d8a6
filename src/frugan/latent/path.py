"""Paths through latent space, to make videos of: tours of seeds, closed loops, edits, classes, truncation, morphs.

A path is a function of time t in [0, legs] to images. Points are interpolated by great circles in Z (where samples lie on a
shell) and on straight lines or closed cubic splines in W (which is flat). The noise is constant: that of the network, or, where a
path shows a single code, that which was fitted to it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError
from frugan.latent.code import (
    Point,
    PointNoise,
    check_points,
    is_same_point,
    point_names,
    point_noise,
    point_styles,
    point_ws,
)
from frugan.latent.direction import Direction
from frugan.latent.edit import NO_TRUNCATION, Edit, Mode, Truncation, check_edit, check_without_z
from frugan.latent.measure import pyramid_distance
from frugan.networks import Generator

Easing = Literal["linear", "smooth"]
_LOOK_SIDE = 64
"""Distances along a path are measured on images of about so many pixels."""


class Path(Protocol):
    """A path in latent space: images at times t."""

    legs: int
    closed: bool
    """Whether the last image is the first again."""

    @abstractmethod
    def render(self, t: Tensor, side: int | None = None) -> Tensor:
        """Times `[F]` in [0, legs] → images float32 `[F, C, H, W]` in [-1, 1]; with `side` of the first level that is so large."""


class StylePath:
    """A path of one generator, given by its styles at each time.

    Args:
        G: the generator.
        legs: number of legs; times go from 0 to it.
        styles: times `[F]` → styles `[F, width]` for each layer.
        closed: whether it ends where it begins.
        noise: of all its images, see `frugan.latent.code.point_noise`.
    """

    def __init__(
        self,
        G: Generator,
        legs: int,
        styles: Callable[[Tensor], Sequence[Tensor]],
        *,
        closed: bool = False,
        noise: PointNoise = "const",
    ) -> None:
        self.G, self.legs, self.styles, self.closed = G, legs, styles, closed
        self.noise: PointNoise = noise

    @torch.no_grad()
    def render(self, t: Tensor, side: int | None = None) -> Tensor:
        """See `Path`."""
        return render_styles(self.G, self.styles(t), side, self.noise)


class WPath(StylePath):
    """A path of one generator, given by its ws at each time.

    Args:
        G: the generator.
        legs: number of legs; times go from 0 to it.
        ws: times `[F]` → `[F, num_ws, w_dim]`.
        closed, noise: as of a `StylePath`.
    """

    def __init__(
        self,
        G: Generator,
        legs: int,
        ws: Callable[[Tensor], Tensor],
        *,
        closed: bool = False,
        noise: PointNoise = "const",
    ) -> None:
        super().__init__(G, legs, lambda t: G.synthesis.styles(ws(t)), closed=closed, noise=noise)
        self.ws = ws


def render_styles(
    G: Generator,
    styles: Sequence[Tensor],
    side: int | None = None,
    noise: PointNoise = "const",
) -> Tensor:
    """Images `[F, C, H, W]` in [-1, 1] from styles, or smaller previews of them.

    Args:
        G: the generator.
        styles: `[F, width]` for each layer.
        side: pixels that suffice: the image so far of the first level of that size is returned; None: the whole image.
        noise: the network's constants, or `[F or 1, 1, h, w]` for each convolution.
    """
    if side is None or max(G.resolution) <= side:
        return G.synthesis.render(styles, noise=noise).clamp_(-1, 1)
    for (h, w), state in zip(G.synthesis.sizes, G.synthesis.levels(styles, noise=noise)):
        if max(h, w) >= side and state.image is not None:
            return state.image.clamp_(-1, 1)
    raise AssertionError("the last level has an image")


def tour(
    G: Generator,
    seeds: Sequence[Point],
    c: Tensor | None = None,
    *,
    space: Literal["w", "z"] = "w",
    truncation: Truncation = NO_TRUNCATION,
) -> WPath:
    """A path through seeds and codes in the order given; closed where the last is the first.

    Args:
        G: the generator.
        seeds: two or more seeds or codes.
        c: labels `[K]`, or `[N, K]`, one for each seed; None for a generator without.
        space: straight lines in w, or great circles in z (seeds only).
        truncation: of seeds.
    """
    if len(seeds) < 2:
        raise FruganError(f"a tour of {len(seeds)} seed: give at least two, for instance 0,5,9,0")
    labels = None if c is None else c.expand(len(seeds), -1)
    numbers = [seed for seed in seeds if isinstance(seed, int)]
    if space == "z" and len(numbers) < len(seeds):
        raise FruganError("codes have no z to go through: make a tour of them in space w")
    z = G.latents(numbers) if space == "z" else torch.zeros(0)
    stops = point_ws(G, seeds, labels, truncation)

    def ws(t: Tensor) -> Tensor:
        first = t.floor().long().clamp(0, len(seeds) - 2)
        part = (t - first)[:, None].to(stops.dtype)
        if space == "z":
            between = slerp(z[first].double(), z[first + 1].double(), part.double()).float()
            mixed = None if labels is None else torch.lerp(labels[first], labels[first + 1], part.to(labels.dtype))
            return truncation(G, _w(G, between, mixed)[:, None].repeat(1, G.num_ws, 1))
        return torch.lerp(stops[first], stops[first + 1], part[:, None].to(stops.device))

    same_label = labels is None or torch.equal(labels[0], labels[-1])
    return WPath(G, len(seeds) - 1, ws, closed=is_same_point(seeds[0], seeds[-1]) and same_label)


def loop(
    G: Generator, seeds: Sequence[Point], c: Tensor | None = None, *, truncation: Truncation = NO_TRUNCATION
) -> WPath:
    """A closed smooth curve in W through all points: a periodic cubic spline, whose last image leads to its first.

    Args:
        G: the generator.
        seeds: three or more different seeds or codes.
        c: labels `[K]`, or `[N, K]`, one for each seed; None for a generator without.
        truncation: of seeds.
    """
    if (different := len(set(point_names(seeds)))) < 3:
        raise FruganError(f"a loop through {different} seeds: give at least three different ones")
    stops = point_ws(G, seeds, c, truncation)
    curve = PeriodicSpline(stops.flatten(1).cpu().double().numpy())

    def ws(t: Tensor) -> Tensor:
        points = torch.from_numpy(curve(t.double().numpy())).to(stops)
        return points.reshape(-1, G.num_ws, G.w_dim)

    return WPath(G, len(seeds), ws, closed=True)


def edit_path(
    G: Generator,
    seed: Point,
    direction: Direction,
    low: float,
    high: float,
    c: Tensor | None = None,
    *,
    mode: Mode = "relative",
    truncation: Truncation = NO_TRUNCATION,
) -> StylePath:
    """A closed path of one image along a direction: from strength 0 to `high`, to `low`, and back to 0.

    Args:
        G: the generator.
        seed: a seed or code.
        direction: of that generator.
        low, high: strengths.
        c: the seed's label `[K]`, or None.
        mode: of the edit, see `Edit`.
        truncation: of a seed.
    """
    for strength in (low, high):
        check_edit(Edit(direction, strength, mode), G)
    if not isinstance(seed, int):
        check_without_z([Edit(direction, 0.0)])
    stops = torch.tensor([0.0, high, 0.0, low, 0.0])
    check_points(G, [seed])

    def styles(t: Tensor) -> Sequence[Tensor]:
        first = t.floor().long().clamp(0, 3)
        strengths = torch.lerp(stops[first], stops[first + 1], (t - first).float()).tolist()
        each = [point_styles(G, seed, c, [Edit(direction, strength, mode)], truncation) for strength in strengths]
        return [torch.cat(layer) for layer in zip(*each)]

    return StylePath(G, 4, styles, closed=True, noise=point_noise(G, [seed]))


def class_path(G: Generator, seed: int, labels: Tensor, *, truncation: Truncation = NO_TRUNCATION) -> WPath:
    """A closed path of one latent through several labels, straight in w.

    Args:
        G: the generator.
        seed: of the latent.
        labels: `[N, K]`, two or more.
        truncation: ψ.
    """
    if len(labels) < 2:
        raise FruganError("a path through classes needs at least two, for instance --classes cat,dog")
    w = _w(G, G.latents([seed]).expand(len(labels), -1), labels)
    w = torch.cat([w, w[:1]])

    def ws(t: Tensor) -> Tensor:
        first = t.floor().long().clamp(0, len(labels) - 1)
        points = torch.lerp(w[first], w[first + 1], (t - first)[:, None].to(w))
        return truncation(G, points[:, None].repeat(1, G.num_ws, 1))

    return WPath(G, len(labels), ws, closed=True)


def truncation_path(
    G: Generator, seed: Point, first: float, last: float, c: Tensor | None = None, levels: tuple[int, ...] | None = None
) -> WPath:
    """A closed path of one image from ψ = `first` to ψ = `last` and back.

    Args:
        G: the generator.
        seed: a seed or code.
        first, last: ψ.
        c: the seed's label `[K]`, or None.
        levels: that are truncated; None: all.
    """
    whole = point_ws(G, [seed], c)

    def ws(t: Tensor) -> Tensor:
        psis = (first + (last - first) * (1 - (t.double() - 1).abs())).tolist()
        return torch.cat([Truncation(psi, levels)(G, whole) for psi in psis])

    return WPath(G, 2, ws, closed=True, noise=point_noise(G, [seed]))


def frame_times(path: Path, frames: int, *, easing: Easing = "linear", even: bool = True) -> Tensor:
    """The times of a video's frames on a path: float64 `[frames]` in [0, legs].

    The last frame of a closed path is one step before its first.

    Args:
        path: the path.
        frames: 2 or more.
        easing: "smooth" slows down at both ends of every leg.
        even: whether frames are at equal distances between images (`pyramid_distance`) instead of equal times, so that
            the motion has a constant speed; with "smooth" within each leg.
    """
    check_number("frames", frames, at_least=2, at_most=1_000_000, whole=True)
    if easing not in ("linear", "smooth"):
        raise FruganError(f"easing {easing!r}: choose linear or smooth")
    share = np.arange(frames) / (frames if path.closed else frames - 1) * path.legs
    if easing == "smooth":
        leg = np.minimum(np.floor(share), path.legs - 1)
        x = share - leg
        share = leg + x * x * (3 - 2 * x)
    if not even:
        return torch.from_numpy(share)
    grid = np.linspace(0, path.legs, path.legs * max(8, min(frames // path.legs, 24)) + 1)
    walked = np.concatenate([[0.0], np.cumsum(_steps(path, grid))])
    if walked[-1] <= 1e-9:
        return torch.from_numpy(share)  # nothing moves at all
    if easing == "smooth":
        ends = np.interp(np.arange(path.legs + 1), grid, walked)
        targets = np.interp(share, np.arange(path.legs + 1), ends)
    else:
        targets = share / path.legs * walked[-1]
    strictly = walked + np.linspace(0, 1e-9 * walked[-1], len(walked))
    return torch.from_numpy(np.interp(targets, strictly, grid))


def _steps(path: Path, grid: np.ndarray) -> np.ndarray:
    """Distances between the images at neighbouring times."""
    steps, last = [], None
    for times in torch.from_numpy(grid).split(16):
        images = path.render(times, _LOOK_SIDE).cpu()
        if last is not None:
            images = torch.cat([last, images])
        steps += pyramid_distance(images[:-1], images[1:]).tolist()
        last = images[-1:]
    return np.array(steps)


def render_frames(path: Path, times: Tensor, *, batch: int = 8) -> Iterator[Tensor]:
    """The images `[C, H, W]` of a path, one after another.

    Args:
        path: the path.
        times: `[F]`.
        batch: images at once.
    """
    for some in times.split(batch):
        yield from path.render(some).cpu()


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation: along the great circle in direction, linear in length. Straight where both are parallel.

    Args:
        a, b: `[N, D]`.
        t: `[N, 1]` in [0, 1].
    """
    lengths = torch.lerp(a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True), t)
    u, v = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    angle = (u * v).sum(1, keepdim=True).clamp(-1, 1).acos()
    near = angle.sin().abs() < 1e-6
    safe = torch.where(near, torch.ones_like(angle), angle)
    curved = (u * ((1 - t) * safe).sin() + v * (t * safe).sin()) / safe.sin()
    straight = torch.lerp(u, v, t)
    mixed = torch.where(near, straight / straight.norm(dim=1, keepdim=True).clamp_min(1e-12), curved)
    return mixed * lengths


class PeriodicSpline:
    """The closed cubic spline through points `[N, D]` at t = 0, 1, … N - 1, back at the first at t = N; twice differentiable.

    With second derivatives m: m_{i-1} + 4 m_i + m_{i+1} = 6 (p_{i-1} - 2 p_i + p_{i+1}), cyclically.
    """

    def __init__(self, points: np.ndarray) -> None:
        n = len(points)
        system = 4 * np.eye(n) + np.roll(np.eye(n), 1, 1) + np.roll(np.eye(n), -1, 1)
        bent = np.roll(points, 1, 0) - 2 * points + np.roll(points, -1, 0)
        self.points, self.second = points, np.linalg.solve(system, 6 * bent)

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """Times `[F]` → points `[F, D]`."""
        n = len(self.points)
        i = np.floor(t).astype(int) % n
        j = (i + 1) % n
        b = (t - np.floor(t))[:, None]
        a = 1 - b
        straight = a * self.points[i] + b * self.points[j]
        return straight + ((a**3 - a) * self.second[i] + (b**3 - b) * self.second[j]) / 6


@torch.no_grad()
def _w(G: Generator, z: Tensor, c: Tensor | None) -> Tensor:
    device = G.mapping.w_avg.device
    return G.mapping.features(z.to(device), None if c is None else c.to(device))
