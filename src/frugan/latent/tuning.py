"""Pivotal tuning: the generator's weights moved a little, so that a code's image becomes the image that it was projected from.

The pivot (the code) stays, the weights are fitted (Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", 2021).
Locality keeps other images where they were: in each step the tuned and the untouched generator are compared at a latent between
the pivot and a random sample. The mapping network stays, so that the parent's directions keep their meaning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from frugan.checks import Limits, NotNegative, Seed, check_fields
from frugan.command_line import command
from frugan.errors import FruganError
from frugan.latent.fitting.loop import FitReport, Schedule, Terms, fit
from frugan.latent.projection import Target, Watch, leaky_clip, reduced
from frugan.latent.statistics import Statistics
from frugan.networks import Generator, typical_labels
from frugan.networks.serialization import save_difference
from frugan.networks.stylegan2.synthesis import Noise

MOST = 30
"""Images that one network is tuned to."""


@dataclass(frozen=True)
class TuningConfig:
    """Constants of the paper, but for locality, which its released settings leave off."""

    steps: Annotated[int, Limits(at_least=1, at_most=1_000_000)] = 350
    lr: Annotated[float, Limits(above=0, at_most=1)] = 3e-4
    locality: NotNegative = 0.1
    radius: Annotated[float, Limits(above=0, at_most=100)] = 1.0
    """How far from the pivot locality looks, in lengths √E‖w - μ‖² of a typical sample."""
    target: Annotated[float | None, Limits(above=0)] = None
    """Tuning ends when every image's distance is this or less."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)


class TuningProblem:
    """The weights of a copy of a generator fitted to targets at fixed ws; see `frugan.latent.fitting.loop.Problem`.

    Args:
        G: the generator, which is not changed.
        target: the images.
        ws: their pivots, `[N, num_ws, w_dim]`.
        noise: of each convolution; empty: the network's constants.
        statistics: of the generator's w.
        config: weights and schedule.
    """

    def __init__(
        self,
        G: Generator,
        target: Target,
        ws: Tensor,
        noise: tuple[Tensor, ...],
        statistics: Statistics,
        config: TuningConfig,
    ) -> None:
        self.G, self.target, self.pivots, self.config, self.count = G, target, ws, config, len(ws)
        self.noise: Noise = list(noise) if noise else "const"
        self.spread = float(statistics.covariance.trace().clamp_min(0).sqrt())
        self.tuned = copy.deepcopy(G)
        self.variables: dict[str, Tensor] = dict(self.tuned.synthesis.named_parameters())
        self.shared = frozenset(self.variables)

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        """See `Problem`."""
        images = self.tuned.synthesis(self.pivots, noise=self.noise)
        penalty = self._locality(rng) if self.config.locality else torch.zeros((), device=images.device)
        return Terms(self.target.compare(leaky_clip(images)), penalty, images)

    def settle(self) -> None:
        """Nothing."""

    def _locality(self, rng: torch.Generator) -> Tensor:
        """weight · (mean square + distance) between both generators at w_p + r (w_z - w_p)/‖w_z - w_p‖."""
        G, device = self.G, self.pivots.device
        z = torch.randn(1, G.z_dim, generator=rng).to(device)
        pivot = self.pivots[int(torch.randint(self.count, (1,), generator=rng))][None]
        c = None
        if G.label_size:
            labels = typical_labels(G.label_size, G.config.measured)
            c = labels[torch.randint(len(labels), (1,), generator=rng)].to(device)
        with torch.no_grad():
            away = G.mapping(z, c, truncation=0.5) - pivot
            ws = pivot + self.config.radius * self.spread * away / away.norm(dim=-1, keepdim=True).clamp_min(1e-8)
            before = G.synthesis(ws, noise="const")
        after = self.tuned.synthesis(ws, noise="const")
        distance = self.target.distance(reduced(after), reduced(before))
        return self.config.locality * ((after - before).square().mean() + distance.mean())


def tune(
    G: Generator,
    target: Target,
    ws: Tensor,
    statistics: Statistics,
    config: TuningConfig = TuningConfig(),
    *,
    noise: Iterable[Tensor] = (),
    state: Path | None = None,
    facts: str = "",
    watch: Watch = None,
) -> tuple[Generator, FitReport]:
    """Pivotal tuning: a copy of a generator, tuned so that it makes the targets at fixed ws. G itself is not changed.

    Args:
        G: the generator.
        target: the images, 30 at most.
        ws: their pivots, `[N, num_ws, w_dim]`.
        statistics: of the generator's w.
        config: weights and schedule.
        noise: of each convolution; by default the network's constants.
        state: a file that the tuning's state is kept in, for resuming; None keeps none.
        facts: text that a kept state must agree in, to be resumed.
        watch: called with ("tuned", report) after each step.

    Returns:
        The tuned generator and the last report.
    """
    check_count(len(ws))
    problem = TuningProblem(G, target, ws, tuple(noise), statistics, config)
    schedule = Schedule(config.steps, config.lr, ramp_up=0.0, ramp_down=0.0)
    report = None
    for report in fit(problem, schedule, seed=config.seed, target=config.target, state=state, facts=facts):
        if watch:
            watch("tuned", report)
    assert report is not None
    return problem.tuned.eval().requires_grad_(False), report


def check_count(images: int) -> None:
    """Raises `FruganError` for more images than one network is tuned to."""
    if images > MOST:
        raise FruganError(f"{images} images: one network is tuned to {MOST} at most; tune several, one after the other")


def save_tuned(
    tuned: Generator,
    parent: Generator,
    home: Path,
    out: Path,
    *,
    rank: int | None = None,
    class_names: list[str] | None = None,
) -> Path:
    """Writes a tuned generator as its difference from its parent.

    Args:
        tuned: the generator.
        parent: which it was tuned from.
        home: the parent's folder.
        out: the new folder.
        rank: of the differences, see `make_difference`.
        class_names: to be kept with it.

    Raises `FruganError` where `home` holds no network.
    """
    check_home(home)
    names = {"class_names": class_names} if class_names else {}
    return save_difference(out, tuned, parent, home, rank=rank, **names)


def check_home(home: Path) -> None:
    """Raises `FruganError` unless `home` is a directory with a whole network, which a difference can be taken from."""
    if not (home / "model.safetensors").is_file():
        raise FruganError(
            f"{home}: tuned networks are kept as differences from a run, a checkpoint or an import; import this one first "
            f"({command('import', home, 'OUT')}), or tune the network that it was tuned from"
        )
