"""The training loop: an iterator of steps. The caller owns reporting, saving and stopping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from frugan.objectives import path_length_noise
from frugan.training.state import TrainingConfig, TrainState
from frugan.training.stats import Stats
from frugan.training.step import Latents, Phases, View, neighbours, training_only


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
        images, c = dataset.images(state.sampler.next(config.batch), device=state.device)
        train_step(state, phases, images, c, labels, config, stats)
        if len(dataset.held_out_indices) and due_for_validation(state):
            validate(state, phases, dataset, config.batch_per_device, stats)
        state.controller.update(config.batch)
        state.images += config.batch
        state.step += 1
        beta = state.update_average(config.batch, config.ema_half_life_kimg, config.ema_ramp)
        stats.mean("ema_beta", torch.tensor(beta))
        yield StepReport(state.step, state.images, stats)


def train_step(
    state: TrainState,
    phases: Phases,
    images: Tensor,
    c: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    stats: Stats,
) -> None:
    """One update of both networks on real images `[batch, C, H, W]` with labels c `[batch, K]`."""
    n, objective = config.batch_per_device, phases.config
    rounds = config.batch // n
    rng, p = state.rng, state.controller.p

    def latents(count: int) -> Latents:
        return phases.draw_latents(count, labels, rng)

    def track(drawn: Latents) -> None:
        with torch.no_grad():
            state.G.mapping.update_average(state.G.mapping.features(drawn.z, drawn.c))

    def view() -> View:
        return phases.draw_view(n, p, rng)

    batches = list(zip(images.split(n), c.split(n)))
    with training_only(state.G, state.D):
        for real, c_real in batches:
            drawn = latents(n)
            pair = (real, c_real, view()) if phases.loss.paired else (None, None, None)
            loss, _ = phases.generator(drawn, view(), *pair)
            (loss / rounds).backward()
            track(drawn)
            stats.mean("loss/generator", loss)
        update(state, "G", config, stats)

        if objective.path_length_weight and state.step % objective.path_length_interval == 0:
            count = max(n // objective.path_length_shrink, 1)
            weight = objective.path_length_weight * objective.path_length_interval
            for _ in range(rounds):
                drawn = latents(count)
                y = path_length_noise(torch.Size((count, state.G.channels, *state.G.resolution)), rng)
                penalty, state.path_length_mean = phases.path_length(drawn, y, state.path_length_mean)
                (penalty * (weight / rounds)).backward()
                stats.mean("penalty/path_length", penalty)
            stats.mean("path_length", state.path_length_mean)
            update(state, "G", config, stats)

    state.D.power_iteration()
    with training_only(state.D, state.G):
        for i, (real, c_real) in enumerate(batches):
            among = None
            if objective.pseudo:
                real, c_real, among = _deceive(phases, real, c_real, latents(n), p, rng)
                batches[i] = real, c_real
            drawn = latents(n)
            views = view(), view()
            fake = phases.fakes(drawn)
            near = phases.fakes(neighbours(drawn)) if objective.near_discriminator else None
            loss, real_logits, fake_logits = phases.discriminator(
                real, c_real, views[0], fake, drawn.c, views[1], near, state.logit_means
            )
            (loss / rounds).backward()
            track(drawn)
            state.controller.observe(real=real_logits, generated=fake_logits, among=among)
            both = torch.stack([real_logits.mean(), fake_logits.mean()])
            state.logit_means = torch.lerp(both, state.logit_means, objective.lecam_decay if state.step else 0.0)
            stats.mean("loss/discriminator", loss)
            stats.logits["real"].add(real_logits)
            stats.logits["generated"].add(fake_logits)
        update(state, "D", config, stats)

        if objective.r1_gamma and state.step % objective.r1_interval == 0:
            for real, c_real in batches:
                penalty = phases.gradient(real, c_real, view(), objective.r1_gamma)
                stats.mean("penalty/r1", penalty)
                if objective.r2:
                    drawn = latents(n)
                    r2 = phases.gradient(phases.fakes(drawn), drawn.c, view(), objective.r1_gamma)
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
    """Scores the next n held-out images, in turn, through the same augmentation."""
    held_out = dataset.held_out_indices
    picks = held_out[np.arange(state.step * n, (state.step + 1) * n) % len(held_out)]
    images, c = dataset.images(picks, device=state.device)
    logits = phases.score(images, c, phases.draw_view(n, state.controller.p, state.rng))
    state.controller.observe(held_out=logits)
    stats.logits["held_out"].add(logits)


def update(state: TrainState, name: str, config: TrainingConfig, stats: Stats) -> None:
    """An optimiser step. Non-finite gradients are replaced (nan → 0, ±inf → ±1e5), counted, and their streak noted."""
    network: nn.Module = state.networks()[name]
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    bad = ~torch.isfinite(norm)
    for grad in grads:
        torch.nan_to_num_(grad, nan=0.0, posinf=1e5, neginf=-1e5)
    state.bad_streak = torch.where(bad, state.bad_streak + 1, 0)
    stats.total("non_finite", bad)
    stats.maximum("bad_streak", state.bad_streak)
    stats.mean(f"grad_norm/{'generator' if name == 'G' else 'discriminator'}", torch.nan_to_num(norm, 0.0, 0.0, 0.0))
    optimizer = state.optimizers()[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
