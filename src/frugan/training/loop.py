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
from frugan.training.graphs import Runner, eagerly, runner_for, search_algorithms
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
    run = runner_for(state, config)
    while True:
        indices = state.sampler.next(config.batch).reshape(-1, config.batch_per_device)
        images, c = dataset.images(indices[own_parts(config)].ravel(), device=state.device)
        with search_algorithms(state.device):
            train_step(state, phases, images, c, labels, config, stats, run)
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

    Raises `FruganError` where they cannot be divided evenly.
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
    run: Runner = eagerly,
) -> None:
    """One update of both networks on this process's micro-batches: real images `[n, C, H, W]`, labels c `[n, K]`.

    All that a step learns, gradients and running means alike, is a mean over all micro-batches, whoever worked on them. `run` does
    the work of each micro-batch: at once, or by replaying a graph of it.
    """
    n, objective, p = config.batch_per_device, phases.config, state.controller.p
    rounds = config.batch // n
    micro_batches = list(zip(own_parts(config), images.split(n), c.split(n)))

    with training_only(state.G, state.D):
        w = torch.zeros_like(state.G.mapping.w_avg)
        for part, real, c_real in micro_batches:
            rng = state.random(GENERATOR, part)
            loss, mean_w = run(generator_step, phases, rng, rounds, real, c_real, labels, p)
            w += mean_w / rounds
            stats.mean("loss/generator", loss)
        update(state, "G", config, stats, [w], run)
        state.G.mapping.update_average(w[None])

        if objective.path_length_weight and state.step % objective.path_length_interval == 0:
            mean, w = torch.zeros_like(state.path_length_mean), torch.zeros_like(w)
            for part, real, _ in micro_batches:
                rng = state.random(PATH_LENGTH, part)
                given = real, labels, state.path_length_mean
                penalty, moved, mean_w = run(path_length_step, phases, rng, rounds, *given)
                mean += moved / rounds
                w += mean_w / rounds
                stats.mean("penalty/path_length", penalty)
            update(state, "G", config, stats, [mean, w], run)
            state.G.mapping.update_average(w[None])
            state.path_length_mean = mean
            stats.mean("path_length", mean)

    state.D.power_iteration()
    with training_only(state.D, state.G):
        w, means = torch.zeros_like(w), torch.zeros_like(state.logit_means)
        window, state.controller.sums = state.controller.sums, torch.zeros_like(state.controller.sums)
        for i, (part, real, c_real) in enumerate(micro_batches):
            rng = state.random(DISCRIMINATOR, part)
            given = real, c_real, labels, p, state.logit_means
            loss, logits, mean_w, *pseudo = run(discriminator_step, phases, rng, rounds, *given)
            among = None
            if pseudo:
                real, c_real, among = pseudo
                micro_batches[i] = part, real, c_real
            w += mean_w / rounds
            state.controller.observe(real=logits[0], generated=logits[1], among=among)
            means += logits.mean(dim=1) / rounds
            stats.mean("loss/discriminator", loss)
            stats.logits["real"].add(logits[0])
            stats.logits["generated"].add(logits[1])
        update(state, "D", config, stats, [w, means, state.controller.sums], run)
        state.G.mapping.update_average(w[None])
        state.controller.sums += window
        state.logit_means = torch.lerp(means, state.logit_means, objective.lecam_decay if state.step else 0.0)

        if objective.r1_gamma and state.step % objective.r1_interval == 0:
            for part, real, c_real in micro_batches:
                rng = state.random(R1, part)
                penalties = run(r1_step, phases, rng, rounds, real, c_real, labels, p)
                for name, penalty in zip(("penalty/r1", "penalty/r2"), penalties):
                    stats.mean(name, penalty)
            update(state, "D", config, stats, run=run)


@torch.no_grad()
def _mean_w(phases: Phases, latents: Latents) -> Tensor:
    """Mean of w, before truncation, over some latents: `[D]`."""
    return phases.G.mapping.features(latents.z, latents.c).mean(0)


def generator_step(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds 1/`rounds` of the gradient of G's loss on as many images as `real` → (loss, mean w `[D]`)."""
    n = len(real)
    drawn = phases.draw_latents(n, labels, rng)
    view = phases.draw_view(n, p, rng)
    pair = (real, c_real, phases.draw_view(n, p, rng)) if phases.loss.paired else (None, None, None)
    loss, _ = phases.generator(drawn, view, *pair)
    (loss / rounds).backward()
    return loss.detach(), _mean_w(phases, drawn)


def path_length_step(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, labels: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the path-length penalty on fewer images than `real`; `mean` is the running mean of lengths.

    → (penalty, the mean moved by these lengths, mean w `[D]`)
    """
    objective = phases.config
    count = max(len(real) // objective.path_length_shrink, 1)
    drawn = phases.draw_latents(count, labels, rng)
    y = path_length_noise(torch.Size((count, *real.shape[1:])), rng)
    penalty, moved = phases.path_length(drawn, y, mean)
    (penalty * (objective.path_length_weight * objective.path_length_interval / rounds)).backward()
    return penalty.detach(), moved, _mean_w(phases, drawn)


def discriminator_step(
    phases: Phases,
    rng: torch.Generator,
    rounds: int,
    real: Tensor,
    c_real: Tensor,
    labels: Tensor,
    p: Tensor,
    logit_means: Tensor,
) -> tuple[Tensor, ...]:
    """The same for D's loss on `real` and as many generated images → (loss, logits of both `[2, n]`, mean w `[D]`).

    With APA also the images that were taken for real ones, their labels, and which of them are real.
    """
    n, objective = len(real), phases.config
    pseudo: tuple[Tensor, ...] = ()
    if objective.pseudo:
        pseudo = _deceive(phases, real, c_real, phases.draw_latents(n, labels, rng), p, rng)
        real, c_real, _ = pseudo
    drawn = phases.draw_latents(n, labels, rng)
    views = phases.draw_view(2 * n, p, rng)
    fake = phases.fakes(drawn)
    near = phases.fakes(neighbours(drawn)) if objective.near_discriminator else None
    loss, *logits = phases.discriminator(real, c_real, fake, drawn.c, views, near, logit_means)
    (loss / rounds).backward()
    return loss.detach(), torch.stack(logits), _mean_w(phases, drawn), *pseudo


def r1_step(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, p: Tensor
) -> tuple[Tensor, ...]:
    """The same for R1 on `real`, and R2 on as many generated images where the objective has it → the penalties."""
    n, objective = len(real), phases.config
    penalties = [phases.gradient(real, c_real, phases.draw_view(n, p, rng), objective.r1_gamma)]
    if objective.r2:
        drawn = phases.draw_latents(n, labels, rng)
        view = phases.draw_view(n, p, rng)
        fakes = phases.measured(phases.fakes(drawn), view)
        penalties.append(phases.gradient(fakes, drawn.c, view, objective.r1_gamma))
    (sum(penalties[1:], penalties[0]) * (objective.r1_interval / rounds)).backward()
    return tuple(penalty.detach() for penalty in penalties)


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


def update(
    state: TrainState,
    name: str,
    config: TrainingConfig,
    stats: Stats,
    shared: Sequence[Tensor] = (),
    run: Runner = eagerly,
) -> None:
    """An optimiser step with the gradients, and `shared` numbers, of all processes added up.

    Non-finite gradients are replaced (nan → 0, ±inf → ±1e5), counted, and their streak noted.
    """
    network: nn.Module = state.networks()[name]
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    add_up([*grads, *shared])
    norm = run.in_place(finite, grads)
    bad = ~torch.isfinite(norm)
    state.bad_streak = torch.where(bad, state.bad_streak + 1, 0)
    stats.total("non_finite", bad)
    stats.maximum("bad_streak", state.bad_streak)
    stats.mean(f"grad_norm/{'generator' if name == 'G' else 'discriminator'}", torch.nan_to_num(norm, 0.0, 0.0, 0.0))
    optimizer = state.optimizers()[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def finite(grads: Sequence[Tensor]) -> Tensor:
    """Replaces what is not finite in the gradients → their norm before that."""
    norm = torch.nn.utils.get_total_norm(grads)
    if norm.device.type != "cpu" or not torch.isfinite(norm):  # looking costs nothing on a CPU
        for grad in grads:
            torch.nan_to_num_(grad, nan=0.0, posinf=1e5, neginf=-1e5)
    return norm
