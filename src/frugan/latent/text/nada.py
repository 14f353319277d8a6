"""StyleGAN-NADA: a generator adapted to a text (or to a few images) without a data set (Gal et al., "StyleGAN-NADA", 2022).

Two copies make images of the same w; the trained one moves so that the difference of both embeddings points along the change of
text: 1 - cos(E(G_train) - E(G_frozen), Δt). In each step only the convolutions whose w matters most to the text are trained; they
are named by the level and layer that reads the w. Mapping, constant and ToRGB stay: the child keeps its W and directions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from frugan.checks import Limits, Seed, check_fields
from frugan.errors import FruganError
from frugan.latent.direction import Identity
from frugan.latent.fitting.loop import Schedule, Terms, fit
from frugan.latent.levels import level_names
from frugan.latent.projection import leaky_clip
from frugan.latent.text.models import JointModel
from frugan.latent.text.styleclip import sample_ws
from frugan.networks import Generator


@dataclass(frozen=True)
class AdaptConfig:
    """Constants of the paper's code, but for the steps, which depend on how far the text is."""

    steps: Annotated[int, Limits(at_least=1, at_most=100_000)] = 300
    batch: Annotated[int, Limits(at_least=1, at_most=1024)] = 2
    lr: Annotated[float, Limits(above=0, at_most=1)] = 0.002
    layers: Annotated[int | None, Limits(at_least=1, at_most=64)] = None
    """How many of the ws choose the convolutions that a step trains; None: all of them."""
    choose_batch: Annotated[int, Limits(at_least=1, at_most=1024)] = 8
    truncation: Annotated[float, Limits(at_least=0, at_most=2)] = 1.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)


class Snapshot(NamedTuple):
    """The child along the way."""

    step: int
    child: Generator
    """Not a copy: it changes with the next step."""
    loss: float
    chosen: dict[str, int]
    """How often each of the convolutions was trained so far, by the level and layer that reads the w."""


class AdaptProblem:
    """The fitting problem of adaptation by a text, a `frugan.latent.fitting.loop.Problem`.

    Args:
        G: the generator, which is not changed.
        model: the joint model.
        change: Δt, a unit vector `[d]`.
        target: the target's own vector `[d]`, which chooses layers.
        config: weights and schedule.
    """

    def __init__(self, G: Generator, model: JointModel, change: Tensor, target: Tensor, config: AdaptConfig) -> None:
        self.G, self.model, self.change, self.target, self.config = G, model, change, target, config
        self.count = config.batch
        self.child = copy.deepcopy(G)
        self.layers = _convolutions(self.child)
        names = level_names(G)
        self.titles = {key: f"{names[level]}-{kind}" for key, (level, kind, _, _) in self.layers.items()}
        self.variables = {name: p for _, _, _, some in self.layers.values() for name, p in some.items()}
        self.shared = frozenset(self.variables)
        self.counts = torch.zeros(len(self.titles), dtype=torch.int64)
        """How often each convolution was trained, in the order of `titles`."""
        if config.layers is not None and config.layers > G.num_ws:
            raise FruganError(f"layers {config.layers}: this generator has {G.num_ws} ws to choose from")

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        stream = int(torch.randint(1 << 30, (1,), generator=rng)) + (1 << 27)
        trained = self._choose(stream)
        ws = sample_ws(self.G, self.count, stream + 1, self.config.truncation)
        with torch.no_grad():
            before = self.model.images(self.G.synthesis(ws, noise="const").clamp(-1, 1))
        fixed = {name: p.detach() for name, p in self.variables.items() if name not in trained}
        images = leaky_clip(functional_call(self.child.synthesis, fixed, (ws,), {"noise": "const"}))
        moved = self.model.images(images) - before
        loss = 1 - F.cosine_similarity(moved, self.change[None].expand_as(moved), dim=1, eps=1e-4)
        return Terms(loss / self.count, torch.zeros((), device=loss.device), images)

    def _choose(self, stream: int) -> set[str]:
        """The weights that this step trains: of convolutions that read the `layers` ws which a step towards the text moves most."""
        k = self.config.layers
        chosen = set(self.layers)
        read = sorted({index for _, _, index, _ in self.layers.values()})
        if k is not None and k < len(read):
            ws = sample_ws(self.G, self.config.choose_batch, stream, self.config.truncation).clone().requires_grad_()
            images = leaky_clip(self.child.synthesis(ws, noise="const"))
            (gradient,) = torch.autograd.grad(-(self.model.images(images) @ self.target).mean(), ws)
            moved = gradient.abs().mean(dim=(0, 2))[read]
            best = {read[i] for i in moved.topk(k).indices.tolist()}
            chosen = {key for key, (_, _, index, _) in self.layers.items() if index in best}
        self.counts += torch.tensor([key in chosen for key in self.titles])
        return {name for key in chosen for name in self.layers[key][3]}

    def settle(self) -> None:
        pass


def adapt(
    G: Generator,
    model: JointModel,
    change: Tensor,
    target: Tensor,
    config: AdaptConfig = AdaptConfig(),
    *,
    every: int = 50,
    state: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Snapshot]:
    """Adapts a copy of a generator along the change Δt of a text; yields a snapshot after every `every` steps, and
    after the last. One that is resumed begins with its last snapshot.

    The further arguments are those of `AdaptProblem`.

    Args:
        every: steps between snapshots.
        state: a file that the training state is kept in at each snapshot, for resuming; None keeps none.
        progress: called with (step, steps).
    """
    problem = AdaptProblem(G, model, change, target, config)
    schedule = Schedule(config.steps, config.lr * 0.8, ramp_up=0.0, ramp_down=0.0, betas=(0.0, 0.99**0.8))
    facts = f"{Identity.of(G).digest} {model.name} {change.tolist()} {target.tolist()} {config}"
    kept = {"counts": problem.counts}
    for report in fit(problem, schedule, seed=config.seed, state=state, state_every=every, facts=facts, kept=kept):
        if progress:
            progress(report.step, report.steps)
        if report.step and (report.step % every == 0 or report.step == report.steps):
            loss = float(report.distance.sum())
            chosen = dict(zip(problem.titles.values(), problem.counts.tolist()))
            yield Snapshot(report.step, problem.child.requires_grad_(False), loss, chosen)
            if report.step < report.steps:
                for weight in problem.variables.values():
                    weight.requires_grad_(True)


@torch.no_grad()
def change_to_images(G: Generator, model: JointModel, images: Tensor, truncation: float = 1.0) -> tuple[Tensor, Tensor]:
    """The change in a joint model's space from a generator's samples to some images: unit vector `[d]`; and the images'
    mean vector `[d]`.

    Args:
        G: the generator, of which 16 samples are taken.
        model: the joint model.
        images: `[N, C, H, W]` in [-1, 1].
        truncation: ψ of the samples.
    """
    made = G.synthesis(sample_ws(G, 16, 1 << 28, truncation), noise="const").clamp(-1, 1)
    start = model.images(made).mean(0)
    end = torch.cat([model.images(some) for some in images.split(32)]).mean(0)
    return F.normalize(end - start, dim=0), F.normalize(end, dim=0)


Layer = tuple[int, str, int, dict[str, Tensor]]


def _convolutions(child: Generator) -> dict[int, Layer]:
    """Each convolution's level, kind, index of the ws that it reads, and weights by their names in the synthesis."""
    names = {id(p): name for name, p in child.synthesis.named_parameters()}
    modules = [layer for block in child.synthesis.blocks for _, layer in block.styled]
    found: dict[int, Layer] = {}
    for i, (module, layer) in enumerate(zip(modules, child.synthesis.style_layers)):
        if layer.kind != "torgb":
            weights: dict[str, Tensor] = {names[id(p)]: p for p in module.parameters()}
            found[i] = (layer.level, layer.kind, layer.ws_index, weights)
    return found
