"""StyleCLIP: text-driven edits by optimisation, by a mapper network, and by global directions (Patashnik et al., 2021).

All losses are means in units of σ (of w, or of a style channel), so that a weight means the same at every resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.checks import Limits, NotNegative, Seed, check_fields, check_number
from frugan.command_line import command
from frugan.errors import FruganError, shown
from frugan.files import read_json, refilling, write_json
from frugan.latent.direction import RELATED, Direction, Identity
from frugan.latent.edit import Edit, edit_ws
from frugan.latent.fitting.loop import FitReport, Schedule, Terms, fit
from frugan.latent.measure import pyramid_distance
from frugan.latent.projection import leaky_clip
from frugan.latent.statistics import Statistics, draw_latents, flat_styles, split_styles
from frugan.latent.text.models import JointModel
from frugan.networks import Generator
from frugan.networks.layers import EqualizedLinear, normalize_2nd_moment
from frugan.networks.serialization import load_weights, save_tensors

Advance = Callable[[int, int], None] | None


@dataclass(frozen=True)
class OptimiseConfig:
    """Latent optimisation. `keep`: weight λ of the mean square change of w, in standard deviations. The paper's
    0.008 of the summed square of raw w is 0.008·L·D·σ² in this unit: 2.8 for 10 ws of 128 dimensions and σ = 0.52."""

    steps: Annotated[int, Limits(at_least=1, at_most=100_000)] = 150
    lr: Annotated[float, Limits(above=0, at_most=100)] = 0.05
    keep: NotNegative = 1.5
    wanted: Annotated[float | None, Limits(above=0, at_most=2)] = None
    """Stop an image once its similarity to the text has risen by so much."""

    def __post_init__(self) -> None:
        check_fields(self)


def w_deviation(statistics: Statistics, device: torch.device | str) -> Tensor:
    """The standard deviation of w, `[D]`."""
    return statistics.covariance.diagonal().clamp_min(1e-12).sqrt().float().to(device)


class _Optimisation:
    """ws moved until images say the text; see `frugan.latent.fitting.loop.Problem`."""

    shared: frozenset[str] = frozenset()

    def __init__(
        self, G: Generator, model: JointModel, ws: Tensor, text: Tensor, sigma: Tensor, config: OptimiseConfig
    ) -> None:
        self.G, self.model, self.start, self.text, self.sigma, self.config = G, model, ws, text, sigma, config
        self.count = len(ws)
        self.variables = {"change": torch.zeros_like(ws)}
        with torch.no_grad():
            self.before = model.images(_render(G, ws)) @ text

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        moved = self.variables["change"][rows]
        images = _render(self.G, self.start[rows] + moved * self.sigma)
        away = 1 - self.model.images(images) @ self.text
        if self.config.wanted is not None:  # counted from the wanted similarity, so that 0 is where to stop
            away = away - (1 - self.before[rows] - self.config.wanted)
        return Terms(away, self.config.keep * moved.square().mean(dim=(1, 2)), images)

    def settle(self) -> None:
        pass


def optimise(
    G: Generator,
    model: JointModel,
    ws: Tensor,
    text: Tensor,
    statistics: Statistics,
    config: OptimiseConfig = OptimiseConfig(),
    *,
    state: Path | None = None,
    progress: Advance = None,
) -> tuple[Tensor, FitReport]:
    """StyleCLIP's latent optimisation: minimises 1 − cos(E(G(w)), t) + λ·mean ((w − w₀)/σ)² by w.

    Patashnik et al., "StyleCLIP", 2021. Noise is the network's constant one.

    Args:
        G: the generator.
        model: the joint model, E.
        ws: w₀, `[N, num_ws, D]`.
        text: t, a unit vector `[d]`.
        statistics: of the generator's w, for σ.
        config: λ and the schedule.
        state: a file that the fit is kept in, for resuming; None keeps none.
        progress: called with (step, steps).

    Returns:
        The ws found, and the last report.
    """
    problem = _Optimisation(G, model, ws, text, w_deviation(statistics, ws.device), config)
    target = None if config.wanted is None else 0.0
    report = None
    facts = f"{statistics.digest} {model.name} {text.tolist()} {ws.tolist()} {config}"
    for report in fit(problem, Schedule(config.steps, config.lr), target=target, state=state, facts=facts):
        if progress:
            progress(report.step, report.steps)
    assert report is not None
    return (ws + problem.variables["change"].detach() * problem.sigma), report


GROUPS = ("coarse", "middle", "fine")


def check_groups(groups: Sequence[str]) -> None:
    """Raises `FruganError` unless these are some of `GROUPS`."""
    if not groups or not set(groups) <= set(GROUPS):
        raise FruganError(f"groups {', '.join(groups)}: choose some of {', '.join(GROUPS)}")


class Mapper(nn.Module):
    """StyleCLIP's latent mapper: ws → ws + scale·σ·M(w), with a network of its own for coarse, middle and fine levels
    (a third each).

    Args:
        num_ws, w_dim: of the generator.
        groups: the levels that it changes: some of `GROUPS`.
        scale: of the change.
    """

    def __init__(self, num_ws: int, w_dim: int, groups: Sequence[str] = GROUPS, scale: float = 0.3) -> None:
        super().__init__()
        levels = num_ws // 2
        cuts = [round(levels * k / 3) for k in range(4)]
        check_groups(groups)
        self.groups, self.scale = tuple(groups), scale
        self.spans = {g: (2 * cuts[k], 2 * cuts[k + 1]) for k, g in enumerate(GROUPS) if g in groups}
        for group in self.spans:
            layers = [EqualizedLinear(w_dim, w_dim, activation="lrelu") for _ in range(3)]
            last = EqualizedLinear(w_dim, w_dim)
            nn.init.zeros_(last.weight)  # it begins by changing nothing
            self.add_module(group, nn.Sequential(*layers, last))
        self.mean: Tensor
        self.sigma: Tensor
        self.register_buffer("mean", torch.zeros(w_dim))
        self.register_buffer("sigma", torch.ones(w_dim))

    def change(self, ws: Tensor) -> Tensor:
        """`[N, num_ws, D]` → the change in units of σ, 0 outside its groups."""
        moved = torch.zeros_like(ws)
        x = (ws - self.mean) / self.sigma
        for group, (first, end) in self.spans.items():
            if end > first:
                part = normalize_2nd_moment(x[:, first:end].flatten(0, 1))
                moved[:, first:end] = self.scale * self.get_submodule(group)(part).reshape(len(ws), end - first, -1)
        return moved

    def forward(self, ws: Tensor) -> Tensor:
        """ws → edited ws."""
        return ws + self.change(ws) * self.sigma


@dataclass(frozen=True)
class MapperConfig:
    """The settings of a mapper's training; `keep`: weight of the mean square change."""

    steps: Annotated[int, Limits(at_least=1, at_most=1_000_000)] = 300
    batch: Annotated[int, Limits(at_least=1, at_most=1024)] = 8
    lr: Annotated[float, Limits(above=0, at_most=10)] = 0.02
    keep: NotNegative = 0.05
    truncation: Annotated[float, Limits(at_least=-2, at_most=2)] = 0.7
    groups: tuple[str, ...] = GROUPS
    scale: Annotated[float, Limits(above=0, at_most=10)] = 0.3
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)


class _Mapping:
    def __init__(
        self, G: Generator, model: JointModel, mapper: Mapper, text: Tensor, config: MapperConfig, c: Tensor | None
    ) -> None:
        self.G, self.model, self.mapper, self.text, self.config, self.c = G, model, mapper, text, config, c
        self.count = config.batch
        self.variables: dict[str, Tensor] = dict(mapper.named_parameters())
        self.shared = frozenset(self.variables)

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        stream = int(torch.randint(1 << 30, (1,), generator=rng)) + (1 << 25)
        ws = sample_ws(self.G, self.count, stream, self.config.truncation, self.c)
        moved = self.mapper.change(ws)
        images = _render(self.G, ws + moved * self.mapper.sigma)
        away = 1 - self.model.images(images) @ self.text
        n = self.count
        return Terms(away / n, self.config.keep * moved.square().mean(dim=(1, 2)) / n, images)

    def settle(self) -> None:
        pass


def train_mapper(
    G: Generator,
    model: JointModel,
    text: Tensor,
    statistics: Statistics,
    config: MapperConfig = MapperConfig(),
    *,
    c: Tensor | None = None,
    state: Path | None = None,
    progress: Advance = None,
) -> Mapper:
    """Trains StyleCLIP's latent mapper for one text, on the generator's own samples.

    Args:
        G: the generator.
        model: the joint model.
        text: a unit vector `[d]`.
        statistics: of the generator's w.
        config: size and schedule.
        c: the label `[K]` of the samples; None: all labels.
        state: a file that the training state is kept in, for resuming; None keeps none.
        progress: called with (step, steps).
    """
    device = G.mapping.w_avg.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        mapper = Mapper(G.num_ws, G.w_dim, config.groups, config.scale)
    mapper.mean, mapper.sigma = statistics.mean.float().clone(), w_deviation(statistics, "cpu").clone()
    mapper = mapper.to(device)
    problem = _Mapping(G, model, mapper, text, config, c)
    facts = f"{statistics.digest} {model.name} {text.tolist()} {config} {None if c is None else c.tolist()}"
    for report in fit(problem, Schedule(config.steps, config.lr), seed=config.seed, state=state, facts=facts):
        if progress:
            progress(report.step, report.steps)
    return mapper.eval().requires_grad_(False)


def save_mapper(mapper: Mapper, G: Generator, folder: str | Path, **facts: Any) -> Path:
    """Writes mapper.safetensors and mapper.json into a folder.

    Args:
        mapper: its weights.
        G: its generator, whose hash is kept.
        folder: made if need be.
        facts: further entries of mapper.json.
    """
    folder, identity = Path(folder), Identity.of(G)
    about = {"format": 1, "groups": mapper.groups, "scale": mapper.scale, "digest": identity.digest, **facts}
    with refilling(folder, "mapper.json") as scratch:
        save_tensors({**mapper.state_dict(), "probe": identity.probe}, scratch / "mapper.safetensors")
        write_json(scratch / "mapper.json", about)
    return folder


def load_mapper(folder: str | Path, G: Generator) -> Mapper:
    """Reads a mapper onto G's device. Raises `FruganError` where there is none, or it belongs to another generator."""
    folder = Path(folder)
    if not (folder / "mapper.safetensors").is_file() or not (folder / "mapper.json").is_file():
        raise FruganError(
            f"{folder} holds no mapper; {command('text', 'edit', 'NETWORK', '--method', 'mapper')} trains one"
        )
    tensors = load_weights(folder / "mapper.safetensors")
    try:
        facts = read_json(folder / "mapper.json")
        relation = Identity(facts["digest"], tensors.pop("probe"), ()).relation(G)
        mapper = Mapper(G.num_ws, G.w_dim, tuple(facts["groups"]), float(facts["scale"]))
        if relation >= RELATED:
            mapper.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FruganError(f"{folder} holds a damaged mapper ({shown(error)}); train it again") from error
    if relation < RELATED:
        raise FruganError(f"the mapper in {folder} belongs to another generator; train one for this")
    return mapper.eval().requires_grad_(False).to(G.mapping.w_avg.device)


@torch.no_grad()
def sample_ws(G: Generator, n: int, stream: int, truncation: float, c: Tensor | None = None) -> Tensor:
    """ws `[n, num_ws, D]` of a numbered random stream, on the generator's device.

    Args:
        G: the generator.
        n: number of samples.
        stream: the same number gives the same ws.
        truncation: ψ.
        c: the label `[K]` of all; None: all labels.
    """
    z, labels = draw_latents(G, n, stream, None if c is None else c[None])
    device = G.mapping.w_avg.device
    return G.mapping(z.to(device), None if labels is None else labels.to(device), truncation=truncation)


def convolution_channels(G: Generator) -> Tensor:
    """bool `[ΣC]`: the style channels of convolutions, without ToRGB's."""
    layers = G.synthesis.style_layers
    return torch.cat([torch.full((layer.width,), layer.kind != "torgb") for layer in layers])


@torch.no_grad()
def relevance_by_differences(
    G: Generator,
    model: JointModel,
    statistics: Statistics,
    ws: Tensor,
    channels: Tensor,
    *,
    step: float = 5.0,
    normalize: bool = True,
    batch: int = 32,
    progress: Advance = None,
) -> Tensor:
    """ΔI `[channels, d]`, the effect of style channels on a joint model's embedding, by the paper's finite differences.

    Args:
        G: the generator.
        model: the joint model.
        statistics: of the generator's styles: mean μ and deviation σ of each channel.
        ws: of the images, `[N, num_ws, D]`.
        channels: int64, indices of styles.
        step: each channel is set to μ ± `step`·σ.
        normalize: differences of embeddings are normalised, averaged over images and normalised again, as in the
            paper's code, so that a channel counts by its direction alone; else they are averaged per σ, so that it
            counts by its effect.
        batch: images at once.
        progress: called with (done, in all).
    """
    flat = flat_styles(G, ws)
    mean, std = statistics.style_mean.to(flat.device), statistics.style_std.to(flat.device)
    jobs = [(i, c) for c in channels.tolist() for i in range(len(ws))]
    total: dict[int, Tensor] = {}
    for first in range(0, len(jobs), batch):
        some = jobs[first : first + batch]
        rows, columns = (torch.tensor(x, device=flat.device) for x in zip(*some))
        ends = []
        for sign in (1, -1):
            styles = flat[rows].clone()
            styles[torch.arange(len(some), device=styles.device), columns] = mean[columns] + sign * step * std[columns]
            ends.append(model.images(G.synthesis.render(split_styles(G, styles), noise="const").clamp(-1, 1)))
        gaps = ends[0] - ends[1]
        for (_, c), gap in zip(some, F.normalize(gaps, dim=1) if normalize else gaps / (2 * step)):
            total[c] = total.get(c, torch.zeros_like(gap)) + gap / len(ws)
        if progress:
            progress(first + len(some), len(jobs))
    found = torch.stack([total[c] for c in channels.tolist()])
    return F.normalize(found, dim=1) if normalize else found


def relevance_by_jacobian(
    G: Generator,
    model: JointModel,
    statistics: Statistics,
    ws: Tensor,
    *,
    normalize: bool = True,
    progress: Advance = None,
) -> Tensor:
    """ΔI `[ΣC, d]` of all style channels, to first order: the Jacobian of the embedding by the styles, times σ.

    It takes a backward pass for each image and each of the d dimensions. The arguments are those of
    `relevance_by_differences`.
    """
    std = statistics.style_std.to(ws.device)
    total = None
    for i, one in enumerate(ws):
        with torch.no_grad():
            flat = flat_styles(G, one[None])
        styles = flat.clone().requires_grad_()
        embedding = model.images(leaky_clip(G.synthesis.render(split_styles(G, styles), noise="const")))[0]
        rows = [torch.autograd.grad(e, styles, retain_graph=True)[0][0] for e in embedding]
        gap = torch.stack(rows, 1) * std[:, None]
        gap = (F.normalize(gap, dim=1) if normalize else gap) / len(ws)
        total = gap if total is None else total + gap
        if progress:
            progress(i + 1, len(ws))
    assert total is not None
    return F.normalize(total, dim=1) if normalize else total


def global_direction(
    G: Generator,
    statistics: Statistics,
    relevance: Tensor,
    change: Tensor,
    *,
    channels: int,
    name: str,
    levels: tuple[int, ...] | None = None,
    source: dict[str, Any] | None = None,
) -> Direction:
    """StyleCLIP's global direction of a text: Δs_c = R_c·σ_c with R = ΔI·Δt, for the channels with the largest |R|.

    R is scaled so that its largest entry is 1, as in the paper; strength 1 moves that channel by its σ. The paper's
    threshold β follows from the number of channels, and is kept in the direction's source.

    Args:
        G: the generator.
        statistics: of its styles, for σ.
        relevance: ΔI, `[ΣC, d]`.
        change: Δt, a unit vector `[d]` (`prompts.change`).
        channels: how many change.
        name: of the direction.
        levels: among whose channels to choose; None: all.
        source: further facts on its origin.
    """
    usable = (convolution_channels(G) & (statistics.style_std > 1e-6 * statistics.style_std.max())).to(relevance.device)
    if levels is not None:
        layers = G.synthesis.style_layers
        usable &= torch.cat([torch.full((layer.width,), layer.level in levels) for layer in layers]).to(usable.device)
    check_number("channels", channels, at_least=1, whole=True)
    R = torch.where(usable, relevance @ change, 0.0)
    if not R.any():
        raise FruganError("no style channel moves images towards this text at these levels")
    kept = min(channels, int(usable.sum()))
    beta = float(R.abs().topk(kept).values[-1])
    R = torch.where(R.abs() >= beta, R, 0.0)
    step = (R / R.abs().max()).cpu() * statistics.style_std
    sigma = float(step.norm())
    facts = {"method": "text-global", "channels": int((R != 0).sum()), "beta": beta, **(source or {})}
    vector = step / sigma
    centre = float(vector @ statistics.style_mean)
    return Direction(name, "style", vector, sigma, Identity.of(G), centre=centre, slider=(-10.0, 10.0), source=facts)


def shared_direction(
    G: Generator,
    model: JointModel,
    text: Tensor,
    statistics: Statistics,
    *,
    name: str,
    c: Tensor | None = None,
    seeds: int = 64,
    batch: int = 4,
    truncation: float = 0.7,
    rate: float = 0.5,
    progress: Advance = None,
) -> Direction:
    """One direction u in style space for a text, the same for all images, found in seconds (Kocasarı et al., "StyleMC", 2022).

    Plain gradient steps on −cos(E(G(s + σ·u)), t) over samples. Channels whose gradient changes sign in more than a
    quarter of the steps are dropped; the first style of the base grid and those of ToRGB are left out.

    Args:
        G: the generator.
        model: the joint model, E.
        text: t, a unit vector `[d]`.
        statistics: of the generator's styles, for σ.
        name: of the direction.
        c: the label `[K]` of the samples; None: all labels.
        seeds: number of samples.
        batch: samples in a step.
        truncation: ψ of the samples.
        rate: the length of a step in σ.
        progress: called with (done, in all).
    """
    device = G.mapping.w_avg.device
    std = statistics.style_std.to(device)
    usable = convolution_channels(G).to(device)
    usable[: G.synthesis.style_layers[0].width] = False
    u, before, flips = torch.zeros_like(std), torch.zeros_like(std), torch.zeros_like(std)
    steps = max(2, seeds // batch)
    for step in range(steps):
        ws = sample_ws(G, batch, (1 << 26) + step, truncation, c)
        move = u.clone().requires_grad_()
        with torch.no_grad():
            flat = flat_styles(G, ws)
        images = leaky_clip(G.synthesis.render(split_styles(G, flat + move * std), noise="const"))
        (gradient,) = torch.autograd.grad(-(model.images(images) @ text).mean(), move)
        gradient = torch.where(usable, gradient, 0.0)
        flips += gradient.sign() * before.sign() < 0
        before = gradient
        u = u - rate * gradient / gradient.norm().clamp_min(1e-12)
        if progress:
            progress(step + 1, steps)
    u = torch.where(flips > steps / 4, 0.0, u)
    if not u.any():
        raise FruganError(
            "no style channel moves images towards this text in one direction; try a method of images, optimise"
        )
    displacement = (u * std).cpu()
    sigma = float(displacement.norm())
    facts = {"method": "text-shared", "channels": int((u != 0).sum()), "seeds": steps * batch}
    vector = displacement / sigma
    return Direction(
        name,
        "style",
        vector,
        sigma,
        Identity.of(G),
        centre=float(vector @ statistics.style_mean),
        slider=(-5, 5),
        source=facts,
    )


@torch.no_grad()
def strength_for(
    G: Generator,
    direction: Direction,
    ws: Tensor,
    *,
    model: JointModel | None = None,
    text: Tensor | None = None,
    wanted: float | None = None,
    kept: float | None = None,
    most: float = 40.0,
) -> float:
    """The strength of a direction at which a criterion is met on average over images; `most` where it never is.

    Args:
        G: the generator.
        direction: of that generator.
        ws: of the images, `[N, num_ws, D]`.
        model: the joint model, for `wanted`.
        text: a unit vector `[d]`, for `wanted`.
        wanted: the rise of similarity to the text (cosine).
        kept: without `wanted`: how far images move, as a share of the distance between two samples.
        most: the largest strength to try.
    """
    before = _render(G, ws).clamp(-1, 1)
    spread = float(pyramid_distance(before, before.roll(1, 0)).mean()) or 1.0

    def reached(strength: float) -> bool:
        after = G.synthesis.render(edit_ws(G, ws, [Edit(direction, strength)]), noise="const").clamp(-1, 1)
        if wanted is not None:
            assert model is not None
            assert text is not None
            return float(((model.images(after) - model.images(before)) @ text).mean()) >= wanted
        return float(pyramid_distance(before, after).mean()) / spread >= (kept or 0.0)

    low, high = 0.0, 0.5
    while not reached(high):
        low, high = high, high * 2
        if high > most:
            return most
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(f"{high:.3g}")


def _render(G: Generator, ws: Tensor) -> Tensor:
    return leaky_clip(G.synthesis(ws, noise="const"))
