"""The training loop: an iterator of steps. The caller owns reporting, saving and stopping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from frugan.distributed import add_up, rank, world_size
from frugan.errors import FruganError
from frugan.losses import path_length_noise
from frugan.training.state import TrainingConfig, TrainState
from frugan.training.stats import Stats
from frugan.training.step import Latents, Phases, neighbours, training_only

GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1, VALIDATION = range(5)
"""The phases, as their random streams are numbered."""


class Images(Protocol):
    """What the loop needs of a dataset."""

    held_out_indices: np.ndarray

    def images(self, indices: np.ndarray, *, device: torch.device | str) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class StepReport:
    """The state after a step. Tensors stay on the device in `stats`: reading them is the caller's choice."""

    step: int
    images: int
    stats: Stats

    @property
    def kimg(self) -> float:
        return self.images / 1000


def train(
    state: TrainState, phases: Phases, dataset: Images, labels: Tensor, config: TrainingConfig
) -> Iterator[StepReport]:
    """Steps without end; abandoning the iterator between two of them is safe, `state` is whole after each.

    `labels` `[N, K]` on the state's device are those that generated images are drawn from.
    """
    stats = Stats(state.device)
    while True:
        indices = state.sampler.next(config.batch).reshape(-1, config.batch_per_device)
        images, c = dataset.images(indices[own_parts(config)].ravel(), device=state.device)
        train_step(state, phases, images, c, labels, config, stats)
        if len(dataset.held_out_indices) and due_for_validation(state):
            validate(state, phases, dataset, config.batch_per_device, stats)
        if (window := state.controller.update(config.batch)) is not None:
            stats.window(window)
        beta = state.update_average(config.batch, config.ema_half_life_kimg, config.ema_ramp)
        state.images += config.batch
        state.step += 1
        stats.mean("ema_beta", torch.full((), beta, device=state.device))
        yield StepReport(state.step, state.images, stats)


def own_parts(config: TrainingConfig) -> range:
    """Which parts of the minibatch, of `batch_per_device` images each, this process works on.

    Raises `FruganError` where they cannot be shared out evenly.
    """
    parts, processes = config.batch // config.batch_per_device, world_size()
    if parts % processes:
        raise FruganError(
            f"a batch of {config.batch} in parts of {config.batch_per_device} gives {parts} parts, which {processes} processes "
            "cannot share evenly; use a number that divides it"
        )
    return range(rank(), parts, processes)


def train_step(
    state: TrainState,
    phases: Phases,
    images: Tensor,
    c: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    stats: Stats,
) -> None:
    """One update of both networks on this process's parts of the minibatch: real images `[n, C, H, W]`, labels c `[n, K]`.

    All that a step learns, gradients and running means alike, is a mean over all parts, whoever worked on them.
    """
    n, objective, p = config.batch_per_device, phases.config, state.controller.p
    rounds = config.batch // n
    own = own_parts(config)
    mapping = state.G.mapping

    @torch.no_grad()
    def mean_w(drawn: Latents) -> Tensor:
        return mapping.features(drawn.z, drawn.c).mean(0) / rounds

    batches = list(zip(own, images.split(n), c.split(n)))
    with training_only(state.G, state.D):
        w = torch.zeros_like(mapping.w_avg)
        for part, real, c_real in batches:
            rng = state.random(GENERATOR, part)
            drawn = phases.draw_latents(n, labels, rng)
            view = phases.draw_view(n, p, rng)
            pair = (real, c_real, phases.draw_view(n, p, rng)) if phases.loss.paired else (None, None, None)
            loss, _ = phases.generator(drawn, view, *pair)
            (loss / rounds).backward()
            w += mean_w(drawn)
            stats.mean("loss/generator", loss)
        update(state, "G", config, stats, [w])
        mapping.update_average(w[None])

        if objective.path_length_weight and state.step % objective.path_length_interval == 0:
            count = max(n // objective.path_length_shrink, 1)
            weight = objective.path_length_weight * objective.path_length_interval
            mean, w = torch.zeros_like(state.path_length_mean), torch.zeros_like(w)
            for part in own:
                rng = state.random(PATH_LENGTH, part)
                drawn = phases.draw_latents(count, labels, rng)
                y = path_length_noise(torch.Size((count, state.G.channels, *state.G.resolution)), rng)
                penalty, moved = phases.path_length(drawn, y, state.path_length_mean)
                (penalty * (weight / rounds)).backward()
                mean += moved / rounds
                w += mean_w(drawn)
                stats.mean("penalty/path_length", penalty)
            update(state, "G", config, stats, [mean, w])
            mapping.update_average(w[None])
            state.path_length_mean = mean
            stats.mean("path_length", mean)

    state.D.power_iteration()
    with training_only(state.D, state.G):
        w, means = torch.zeros_like(w), torch.zeros_like(state.logit_means)
        window, state.controller.sums = state.controller.sums, torch.zeros_like(state.controller.sums)
        for i, (part, real, c_real) in enumerate(batches):
            rng = state.random(DISCRIMINATOR, part)
            among = None
            if objective.pseudo:
                real, c_real, among = _deceive(phases, real, c_real, phases.draw_latents(n, labels, rng), p, rng)
                batches[i] = part, real, c_real
            drawn = phases.draw_latents(n, labels, rng)
            views = phases.draw_view(2 * n, p, rng)
            fake = phases.fakes(drawn)
            near = phases.fakes(neighbours(drawn)) if objective.near_discriminator else None
            loss, real_logits, fake_logits = phases.discriminator(
                real, c_real, fake, drawn.c, views, near, state.logit_means
            )
            (loss / rounds).backward()
            w += mean_w(drawn)
            state.controller.observe(real=real_logits, generated=fake_logits, among=among)
            means += torch.stack([real_logits.mean(), fake_logits.mean()]) / rounds
            stats.mean("loss/discriminator", loss)
            stats.logits["real"].add(real_logits)
            stats.logits["generated"].add(fake_logits)
        update(state, "D", config, stats, [w, means, state.controller.sums])
        mapping.update_average(w[None])
        state.controller.sums += window
        state.logit_means = torch.lerp(means, state.logit_means, objective.lecam_decay if state.step else 0.0)

        if objective.r1_gamma and state.step % objective.r1_interval == 0:
            for part, real, c_real in batches:
                rng = state.random(R1, part)
                penalty = phases.gradient(real, c_real, phases.draw_view(n, p, rng), objective.r1_gamma)
                stats.mean("penalty/r1", penalty)
                if objective.r2:
                    drawn = phases.draw_latents(n, labels, rng)
                    view = phases.draw_view(n, p, rng)
                    fakes = phases.measured(phases.fakes(drawn), view)
                    r2 = phases.gradient(fakes, drawn.c, view, objective.r1_gamma)
                    stats.mean("penalty/r2", r2)
                    penalty = penalty + r2
                (penalty * (objective.r1_interval / rounds)).backward()
            update(state, "D", config, stats)


def _deceive(
    phases: Phases, real: Tensor, c: Tensor, latents: Latents, p: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Real images, each a generated one with probability p, their labels, and which are real (1) and which not (0).

    Jiang et al., "Deceive D: Adaptive Pseudo Augmentation for GAN Training with Limited Data", 2021, section 3.2.
    """
    kept = torch.rand(len(real), generator=rng, device=real.device) >= p
    real = torch.where(kept[:, None, None, None], real, phases.fakes(latents))
    return real, torch.where(kept[:, None], c, latents.c), kept


def due_for_validation(state: TrainState) -> bool:
    """Every minibatch when r_v steers, else once a controller window: enough to watch it by."""
    config = state.controller.config
    return config.kind == "rv" or state.step % config.interval == config.interval - 1


def validate(state: TrainState, phases: Phases, dataset: Images, n: int, stats: Stats) -> None:
    """Scores the next n held-out images, in turn, through the same augmentation; the processes take turns."""
    controller, held_out = state.controller, dataset.held_out_indices
    window, controller.sums = controller.sums, torch.zeros_like(controller.sums)
    if state.step % world_size() == rank():
        picks = held_out[np.arange(state.step * n, (state.step + 1) * n) % len(held_out)]
        images, c = dataset.images(picks, device=state.device)
        logits = phases.score(images, c, phases.draw_view(n, controller.p, state.random(VALIDATION, 0)))
        controller.observe(held_out=logits)
        stats.logits["held_out"].add(logits)
    add_up([controller.sums])
    controller.sums += window


def update(state: TrainState, name: str, config: TrainingConfig, stats: Stats, shared: Sequence[Tensor] = ()) -> None:
    """An optimiser step with the gradients, and `shared` numbers, of all processes added up.

    Non-finite gradients are replaced (nan → 0, ±inf → ±1e5), counted, and their streak noted.
    """
    network: nn.Module = state.networks()[name]
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    add_up([*grads, *shared])
    norm = torch.nn.utils.get_total_norm(grads)
    bad = ~torch.isfinite(norm)
    if state.device.type != "cpu" or bad:  # looking costs nothing on a CPU
        for grad in grads:
            torch.nan_to_num_(grad, nan=0.0, posinf=1e5, neginf=-1e5)
    state.bad_streak = torch.where(bad, state.bad_streak + 1, 0)
    stats.total("non_finite", bad)
    stats.maximum("bad_streak", state.bad_streak)
    stats.mean(f"grad_norm/{'generator' if name == 'G' else 'discriminator'}", torch.nan_to_num(norm, 0.0, 0.0, 0.0))
    optimizer = state.optimizers()[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
