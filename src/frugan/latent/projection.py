"""Projection: the latent whose image is most like a given one, by a ladder of spaces that each fit closer and edit less well.

W: one w for all levels, as in StyleGAN2's projector (Karras et al. 2020, appendix D). PN: a w for each level, as coordinates
p = Cᵀ(x - x̄)/σ of P space with the penalty λ·mean p² (Zhu et al., "Improved StyleGAN Embedding", 2020). W+: a w for each level,
free (Abdal et al., "Image2StyleGAN", 2019). S: an offset of the styles of that w, in their standard deviations, with the same
penalty (Wu et al., "StyleSpace Analysis", 2021). Each rung starts from the one before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import Limits, NotNegative, Seed, check_fields
from frugan.errors import FruganError
from frugan.latent.code import Code
from frugan.latent.direction import Identity
from frugan.latent.fitting.distances import Distance, Embedding, psnr
from frugan.latent.fitting.loop import FitReport, Schedule, Terms, fit
from frugan.latent.statistics import (
    Statistics,
    cluster_centres,
    draw_latents,
    flat_styles,
    from_p,
    split_styles,
    to_p,
)
from frugan.networks import Generator, typical_labels
from frugan.networks.stylegan2.synthesis import Noise

Space = Literal["w", "pn", "w+", "s"]
SPACES: tuple[Space, ...] = ("w", "pn", "w+", "s")
LADDER: dict[Space, tuple[Space, ...]] = {"w": ("w",), "pn": ("w", "pn"), "w+": ("w", "w+"), "s": ("w", "s")}
Start = Literal["auto", "mean", "centres"]
LARGEST_SIDE = 256
"""Larger images are reduced to it, by averaging areas, before they are compared."""
ENOUGH = 0.9
"""A rung suffices where the last one leaves this share of its distance or more."""

Watch = Callable[[str, FitReport], None] | None


@dataclass(frozen=True)
class ProjectionConfig:
    """How to project. The W rung is StyleGAN2's, but for its steps and its exploration noise."""

    space: Space = "pn"
    noise: Literal["const", "keep"] = "const"
    """const: the network's own noise maps; keep: maps are fitted with the latent, and kept in the code."""
    start: Start = "auto"
    """mean: of w (of the label's); centres: the best of k-means centres; auto: the best of these, and of an encoder's."""
    steps_w: Annotated[int, Limits(at_least=1, at_most=1_000_000)] = 300
    steps: Annotated[int, Limits(at_least=1, at_most=1_000_000)] = 400
    """Of the PN, W+ or S rung."""
    lr: Annotated[float, Limits(above=0, at_most=100)] = 0.1
    lr_levels: Annotated[float, Limits(above=0, at_most=100)] = 0.05
    """Of the PN and S rungs (in standard deviations) and of the W+ rung."""
    exploration: NotNegative = 0.0
    """Noise on w in the first three quarters of the W rung, which fades, in its spread (the root of its total variance).
    StyleGAN2's 0.05 suits fits of a thousand steps; those of some hundreds end closer without."""
    pn_weight: NotNegative = 0.003
    """Of the mean square of coordinates of PN, or of offsets of styles."""
    noise_weight: NotNegative = 1e5
    target: Annotated[float | None, Limits(above=0)] = None
    """An image is left alone once its distance is this or less."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.space not in SPACES:
            raise FruganError(f"space {self.space!r}: choose one of {', '.join(SPACES)}")


@dataclass
class Rung:
    """The result of one stage, for N images."""

    name: str
    ws: Tensor
    """float32 `[N, num_ws, w_dim]`."""
    noise: tuple[Tensor, ...]
    """`[N, 1, h, w]` for each convolution, or empty."""
    images: Tensor
    """float32 `[N, C, H, W]` in [-1, 1]."""
    distance: Tensor
    """`[N]`, of the image as it is rendered from the code, without exploration noise."""
    psnr: Tensor
    """`[N]`, in dB."""
    seconds: float
    steps: int
    offset: Tensor | None = None
    """`[N, ΣC]`, added to the styles of ws, where styles were fitted."""


@dataclass
class Projection:
    """All rungs, the start first."""

    rungs: list[Rung]
    labels: Tensor | None
    """The labels `[N, K]` that were given or estimated."""
    distance: str
    """The distance's name."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> Rung:
        """The highest rung."""
        return self.rungs[-1]

    def sufficient(self, image: int, target: float | None = None) -> str:
        """The first rung whose distance is `target` or less; without one, the first that the last improves by less than 10 %."""
        limit = target if target is not None else float(self.last.distance[image]) / ENOUGH
        fitted = self.rungs[1:]
        return next((rung.name for rung in fitted if float(rung.distance[image]) <= limit), "none")

    def codes(self, G: Generator, names: Sequence[str]) -> list[Code]:
        """A code for each image, with the distances of all rungs."""
        identity, last = Identity.of(G), self.last
        made = []
        for i, name in enumerate(names):
            table = {r.name: {self.distance: float(r.distance[i]), "psnr": float(r.psnr[i])} for r in self.rungs}
            facts = {"image": name, "space": last.name, "rungs": table, "truncation": 1.0, **self.facts}
            noise = tuple(n[i] for n in last.noise)
            label = None if self.labels is None else self.labels[i]
            offset = None if last.offset is None else last.offset[i]
            made.append(Code(name, last.ws[i], identity, noise, label, facts, offset))
        return made


class Target:
    """Images to come close to, embedded once.

    Args:
        images: `[N, C, H, W]` in [-1, 1].
        distance: that measures how close generated images come.
        mask: bool `[H, W]` or `[N, H, W]`, true where the image counts; None: everywhere.
    """

    def __init__(self, images: Tensor, distance: Distance, mask: Tensor | None = None) -> None:
        self.distance = distance
        self.keep = None if mask is None else check_mask(mask, images).to(images.device, torch.float32)
        self.share = 1.0 if self.keep is None else self.keep.mean(dim=(1, 2, 3))
        self.fill = torch.zeros(())
        if self.keep is not None:
            total = self.keep.sum(dim=(2, 3), keepdim=True)
            self.fill = (images * self.keep).sum(dim=(2, 3), keepdim=True) / total
        self.images = images
        with torch.no_grad():
            self.embedding: Embedding = distance.embed(self._seen(images, slice(None)))

    def compare(self, made: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Distances `[R]` of generated images `made` `[R, C, H, W]` to the targets `rows`, for what the mask keeps."""
        found = self.distance.embed(self._seen(made, rows))
        distances = self.distance.compare(found, [level[rows] for level in self.embedding])
        return distances / (self.share[rows] if isinstance(self.share, Tensor) else self.share)

    def psnr(self, made: Tensor) -> Tensor:
        """Peak signal-to-noise ratio in dB of generated images, for what the mask keeps."""
        if self.keep is None:
            return psnr(made, self.images)
        mixed = made * self.keep + self.images * (1 - self.keep)
        return psnr(mixed, self.images) + 10 * torch.as_tensor(self.share).log10()

    def _seen(self, images: Tensor, rows: Tensor | slice) -> Tensor:
        if self.keep is not None:
            images = images * self.keep[rows] + self.fill[rows] * (1 - self.keep[rows])
        return reduced(images)


def reduced(images: Tensor) -> Tensor:
    """Images of more than `LARGEST_SIDE` pixels a side brought down to it by averaging areas; others as they are."""
    largest = max(images.shape[2:])
    if largest <= LARGEST_SIDE:
        return images
    size = [max(1, round(side * LARGEST_SIDE / largest)) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="area")


def leaky_clip(images: Tensor) -> Tensor:
    """Values beyond [-1, 1], which files clip, count a tenth, so that gradients still bring them back."""
    inside = images.clamp(-1, 1)
    return torch.lerp(inside, images, 0.1)


def check_mask(mask: Tensor, images: Tensor) -> Tensor:
    """bool `[H, W]` or `[N, H, W]`, true where the image counts → `[N, 1, H, W]`. Raises `FruganError` for any other."""
    n, _, h, w = images.shape
    if tuple(mask.shape) not in ((h, w), (n, h, w)):
        raise FruganError(f"a mask of {tuple(mask.shape)}: draw one of {h}x{w} pixels, white where the image counts")
    mask = mask.bool().expand(n, h, w)
    if not mask.flatten(1).any(1).all():
        raise FruganError(
            "the mask keeps nothing of an image: draw white what counts, and black what is to be filled in"
        )
    return mask[:, None]


class Fitted(NamedTuple):
    """The result of a fit: see `Rung`."""

    ws: Tensor
    noise: tuple[Tensor, ...] = ()
    offset: Tensor | None = None


def render_offset(G: Generator, ws: Tensor, offset: Tensor | None, noise: Noise) -> Tensor:
    """Images of ws, whose styles are moved by an offset.

    Args:
        G: the generator.
        ws: `[N, num_ws, w_dim]`.
        offset: `[N, ΣC]`, or None.
        noise: as in `Synthesis.render`.
    """
    if offset is None:
        return G.synthesis(ws, noise=noise)
    return G.synthesis.render(split_styles(G, flat_styles(G, ws) + offset), noise=noise)


class LatentProblem:
    """Latents of one space (and noise maps) fitted to targets; see `frugan.latent.fitting.loop.Problem`.

    Args:
        G: the generator.
        space: of the latents: "w", "w+" or "pn".
        target: the images.
        statistics: of the generator's w.
        ws: to start from, `[N, num_ws, w_dim]`.
        config: weights and schedule.
        noise: maps to start from; none by default: the network's constants.
    """

    shared: frozenset[str] = frozenset()

    def __init__(
        self,
        G: Generator,
        space: Space,
        target: Target,
        statistics: Statistics,
        ws: Tensor,
        config: ProjectionConfig,
        noise: tuple[Tensor, ...] = (),
    ) -> None:
        self.G, self.space, self.target, self.config = G, space, target, config
        self.count = len(ws)
        self.spread = float(statistics.covariance.trace().clamp_min(0).sqrt())
        self.coordinates = PnCoordinates(statistics, ws.device)
        self.pivots, self.style_std = ws, statistics.style_std.to(ws.device)
        starts = {
            "w": lambda: ws.mean(1),
            "w+": ws.clone,
            "pn": lambda: self.coordinates.of(ws),
            "s": lambda: torch.zeros(self.count, len(self.style_std), device=ws.device),
        }
        self.variables: dict[str, Tensor] = {"latent": starts[space]().detach().clone()}
        self.maps = []
        if config.noise == "keep" and G.synthesis.use_noise:
            start = noise or constant_noise(G, self.count)
            self.variables |= {f"noise.{i:02d}": n.detach().clone() for i, n in enumerate(start)}
            self.maps = [name for name in self.variables if name.startswith("noise")]
        self.settle()

    def ws(self, latent: Tensor) -> Tensor:
        """A latent of the space w, w+ or pn → `[R, num_ws, w_dim]`."""
        if self.space == "w":
            return latent[:, None].expand(-1, self.G.num_ws, -1)
        return self.coordinates.ws(latent) if self.space == "pn" else latent

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        """See `Problem`. The exploration noise is one draw for all images, so that they do not depend on their company."""
        latent = self.variables["latent"][rows]
        penalty = torch.zeros(len(rows), device=latent.device)
        if self.space == "w":
            strength = self.config.exploration * self.spread * max(0.0, 1 - progress / 0.75) ** 2
            latent = latent + strength * torch.randn(1, latent.shape[-1], generator=rng).to(latent.device)
        elif self.space in ("pn", "s"):
            penalty = penalty + self.config.pn_weight * latent.square().flatten(1).mean(1)
        noise: Noise = "const"
        if self.maps:
            noise = [self.variables[name][rows] for name in self.maps]
            penalty = penalty + self.config.noise_weight * noise_penalty(noise)
        if self.space == "s":
            images = render_offset(self.G, self.pivots[rows], latent * self.style_std, noise)
        else:
            images = self.G.synthesis(self.ws(latent), noise=noise)
        return Terms(self.target.compare(leaky_clip(images), rows), penalty, images)

    def settle(self) -> None:
        """Noise maps back to mean 0 and mean square 1."""
        for name in self.maps:
            n = self.variables[name].detach()
            n -= n.mean(dim=(1, 2, 3), keepdim=True)
            n *= n.square().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12).rsqrt()

    def result(self) -> Fitted:
        """Detached from the variables."""
        latent, noise = (
            self.variables["latent"].detach(),
            tuple(self.variables[name].detach().clone() for name in self.maps),
        )
        if self.space == "s":
            return Fitted(self.pivots, noise, latent * self.style_std)
        return Fitted(self.ws(latent).clone(), noise)


class PnCoordinates:
    """w ↔ p: the principal coordinates of P space in standard deviations, in which w is nearly a standard normal."""

    def __init__(self, statistics: Statistics, device: torch.device | str = "cpu") -> None:
        basis = statistics.p_principal
        largest = float(basis.deviations.max().clamp_min(1e-12))
        self.rows = basis.components.float().to(device)
        self.sigma = basis.deviations.clamp_min(1e-3 * largest).float().to(device)
        self.mean = statistics.p_mean.float().to(device)

    def of(self, ws: Tensor) -> Tensor:
        """`[…, D]` → `[…, D]`."""
        return (to_p(ws) - self.mean) @ self.rows.T / self.sigma

    def ws(self, p: Tensor) -> Tensor:
        """The inverse."""
        return from_p(self.mean + (p * self.sigma) @ self.rows)


def noise_penalty(maps: Sequence[Tensor | None]) -> Tensor:
    """Autocorrelation of noise maps `[R, 1, h, w]` at shifts of one pixel, over a pyramid down to 8 pixels: `[R]`.

    Σ over maps and scales of (mean n·shift_x n)² + (mean n·shift_y n)² (Karras et al. 2020, appendix D).
    """
    total: Tensor | float = 0.0
    for n in maps:
        assert n is not None
        while True:
            for axis in (2, 3):
                total = total + (n * n.roll(1, axis)).mean(dim=(1, 2, 3)).square()
            if min(n.shape[2:]) <= 8:
                break
            n = F.avg_pool2d(n, 2) * 2  # twice the mean: uncorrelated noise keeps its variance
    return torch.as_tensor(total)


def constant_noise(G: Generator, n: int) -> tuple[Tensor, ...]:
    """The network's own noise maps for n images, `[n, 1, h, w]` for each convolution."""
    convs = [conv for block in G.synthesis.blocks for conv in (block.conv0, block.conv1) if conv is not None]
    constants = [conv.noise_const for conv in convs if conv.noise_const is not None]
    return tuple(c.expand(n, 1, *c.shape).clone() for c in constants)


@torch.no_grad()
def estimate_labels(G: Generator, target: Target, *, samples: int = 12, nearest: int = 4) -> Tensor:
    """The label `[N, K]` of each target whose samples are most similar to it.

    Args:
        G: a generator with labels.
        target: the images.
        samples: for each label, at truncations from 0 to 1.
        nearest: of these, whose mean distance counts.
    """
    labels = typical_labels(G.label_size, G.config.measured)
    device, scores = G.mapping.w_avg.device, []
    for i, label in enumerate(labels):
        z, _ = draw_latents(G, 256, (1 << 22) + i)
        w = G.mapping.features(z.to(device), label.expand(256, -1).to(device))
        psi = torch.linspace(0, 1, samples, device=device)[:, None]
        typical = torch.lerp(w.mean(0), w[:samples], psi)  # truncated towards the label's own mean
        made = _plain(G, _per_level(G, typical))
        scores.append(_cross(target, made).topk(nearest, dim=1, largest=False).values.mean(1))
    return labels[torch.stack(scores, 1).argmin(1).cpu()]


@torch.no_grad()
def choose_start(
    G: Generator,
    target: Target,
    statistics: Statistics,
    labels: Tensor | None,
    start: Start,
    extra: Tensor | None = None,
) -> Tensor:
    """ws `[N, num_ws, w_dim]` to start a projection from, see `ProjectionConfig.start`.

    Args:
        G: the generator.
        target: the images.
        statistics: of the generator's w.
        labels: of the targets, `[N, K]`, or None.
        start: which candidates are compared.
        extra: an encoder's ws `[N, num_ws, w_dim]`, or None.
    """
    n, device = len(target.images), G.mapping.w_avg.device
    means = statistics.mean.float()[None].expand(n, -1)
    if labels is not None and not G.config.measured:
        means = statistics.class_means.float()[labels.argmax(1).cpu()]
    own = [_per_level(G, means.to(device))]
    if extra is not None:
        own.append(extra.to(device))
    distances = torch.stack([target.compare(_plain(G, ws)) for ws in own], 1)
    best = torch.stack(own, 1)[torch.arange(n, device=device), distances.argmin(1)]
    if start == "mean" or (start == "auto" and extra is not None):
        return best
    centres = _centres(G, labels, required=start == "centres")
    if centres is None:
        return best
    candidates = _per_level(G, centres.to(device))
    cross = _cross(target, torch.cat([_plain(G, some) for some in candidates.split(16)]))
    nearer = cross.min(1)
    return torch.where((nearer.values < distances.min(1).values)[:, None, None], candidates[nearer.indices], best)


def _centres(G: Generator, labels: Tensor | None, required: bool) -> Tensor | None:
    try:
        return cluster_centres(G, 32, samples=10_000, labels=None if labels is None else labels.unique(dim=0))
    except FruganError:
        if required:
            raise
        return None


def _per_level(G: Generator, w: Tensor) -> Tensor:
    return w[:, None].repeat(1, G.num_ws, 1)


def _plain(G: Generator, ws: Tensor) -> Tensor:
    return G.synthesis(ws, noise="const").clamp(-1, 1)


def _cross(target: Target, made: Tensor) -> Tensor:
    """Distances of all images made `[M]` to all targets: `[N, M]`."""
    n = len(target.images)
    columns = [target.compare(one[None].expand(n, -1, -1, -1)) for one in made]
    return torch.stack(columns, 1)


def project(
    G: Generator,
    images: Tensor,
    distance: Distance,
    statistics: Statistics,
    config: ProjectionConfig = ProjectionConfig(),
    *,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    encoded: Tensor | None = None,
    states: Path | None = None,
    watch: Watch = None,
) -> Projection:
    """Finds codes of images in a generator, in stages: from one w for all layers to noise maps, each starting from the
    one before.

    Args:
        G: the generator.
        images: float32 `[N, C, H, W]` in [-1, 1], of the generator's size.
        distance: between images.
        statistics: of the generator (`statistics_of`); 10,000 samples suffice.
        config: stages, weights and schedule.
        labels: `[K]` or `[N, K]`; None has a conditional generator's labels estimated.
        mask: bool `[H, W]` or `[N, H, W]`, true where the image counts; the rest is filled in.
        encoded: ws `[N, num_ws, w_dim]` of an encoder, to start from.
        states: a folder that the fits are kept in, to be resumed from.
        watch: called with the stage's name and each `FitReport`.
    """
    device = G.mapping.w_avg.device
    if tuple(images.shape[1:]) != (G.channels, *G.resolution):
        raise FruganError(
            f"images of {tuple(images.shape[1:])}: this generator's are {(G.channels, *G.resolution)} (channels, height, width)"
        )
    target = Target(images.to(device), distance, mask)
    if G.label_size:
        labels = estimate_labels(G, target) if labels is None else labels.expand(len(images), -1)
    ws = choose_start(G, target, statistics, labels, config.start, encoded)
    maps = constant_noise(G, len(images)) if config.noise == "keep" else ()
    rungs = [_rung(G, target, "start", Fitted(ws, maps), 0.0, 0)]
    for space in LADDER[config.space]:
        if config.target is not None and bool((rungs[-1].distance <= config.target).all()):
            break
        schedule = Schedule(
            config.steps_w if space == "w" else config.steps, config.lr if space == "w" else config.lr_levels
        )
        problem = LatentProblem(G, space, target, statistics, rungs[-1].ws, config, rungs[-1].noise)
        state = None if states is None else states / f"{space.replace('+', 'plus')}.fit"
        began, steps = time.perf_counter(), 0
        facts = _fingerprint(statistics, images, mask, labels, rungs[-1].ws, space, distance, config)
        for report in fit(problem, schedule, seed=config.seed, target=config.target, state=state, facts=facts):
            steps = report.step
            if watch:
                watch(space, report)
        found = _rung(G, target, space, problem.result(), time.perf_counter() - began, steps)
        rungs.append(_no_worse(found, rungs[-1]))
    return Projection(
        rungs, labels, distance.name, {"seed": config.seed, "steps": {r.name: r.steps for r in rungs[1:]}}
    )


@torch.no_grad()
def _rung(G: Generator, target: Target, name: str, fitted: Fitted, seconds: float, steps: int) -> Rung:
    ws, noise, offset = fitted
    images = render_offset(G, ws, offset, list(noise) if noise else "const").clamp(-1, 1)
    distance = target.compare(images)
    return Rung(name, ws, noise, images, distance.cpu(), target.psnr(images).cpu(), seconds, steps, offset)


def _no_worse(rung: Rung, before: Rung) -> Rung:
    """The rung, but for images that it made worse, which stay as they were: each space holds the one before."""
    keep = rung.distance > before.distance

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(keep.to(new.device).reshape(-1, *[1] * (new.ndim - 1)), old, new)

    fields = {name: chosen(getattr(rung, name), getattr(before, name)) for name in ("ws", "images", "distance", "psnr")}
    noise = tuple(chosen(new, old) for new, old in zip(rung.noise, before.noise))
    offset = None if rung.offset is None else chosen(rung.offset, torch.zeros_like(rung.offset))
    return replace(rung, noise=noise, offset=offset, **fields)


def _fingerprint(statistics: Statistics, *parts: Any) -> str:
    """A hash of the generator and all that a rung's numbers depend on."""
    digest = hashlib.sha256(statistics.digest.encode())
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(part.detach().cpu().contiguous().float().numpy().tobytes())
        elif isinstance(part, ProjectionConfig):
            digest.update(repr(sorted(asdict(part).items())).encode())
        else:
            digest.update(str(getattr(part, "name", part)).encode())
    return digest.hexdigest()
