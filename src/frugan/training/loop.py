"""The training loop: an iterator of steps. The caller owns reporting, saving and stopping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from frugan.augment import logit_sums
from frugan.distributed import add_up, rank, world_size
from frugan.training.graphs import runner_for, search_algorithms
from frugan.training.phases import Phases
from frugan.training.state import TrainingConfig, TrainState
from frugan.training.stats import Stats
from frugan.training.step import VALIDATION, VICINITY, own_micro_batches, train_step
from frugan.training.vicinity import Vicinity


class Images(Protocol):
    """The part of a data set that the loop uses."""

    held_out_indices: np.ndarray

    def images(self, indices: np.ndarray, *, device: torch.device | str) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class StepReport:
    """The state after a step. Statistics stay on the device: when to read them is the caller's choice."""

    step: int
    images: int
    stats: Stats

    @property
    def kimg(self) -> float:
        return self.images / 1000


def train(
    state: TrainState,
    phases: Phases,
    dataset: Images,
    labels: Tensor,
    config: TrainingConfig,
    vicinity: Vicinity | None = None,
) -> Iterator[StepReport]:
    """Training steps without end. The iterator can be abandoned between two steps; `state` is complete after each.

    Args:
        state: which is changed in place.
        phases: the losses.
        dataset: the images.
        labels: `[N, K]` on the state's device, from whose rows the labels of generated images are drawn.
        config: batch sizes, the optimiser, and the EMA.
        vicinity: draws target labels for each step in place of `labels` (CcGAN); None for classes.
    """
    stats = Stats(state.device)
    run = runner_for((state.G, state.D), config)
    while True:
        indices, targets = state.sampler.next(config.batch), None
        if vicinity:
            rng = np.random.default_rng([state.seed, state.step, VICINITY])
            indices, targets = vicinity.draw(indices, rng)
        own = np.arange(config.batch).reshape(-1, config.batch_per_device)[own_micro_batches(config)].ravel()
        images, c = dataset.images(indices[own], device=state.device)
        if targets is not None:
            labels = torch.from_numpy(targets).to(state.device)
            c = labels[torch.from_numpy(own).to(state.device)]
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


def due_for_validation(state: TrainState) -> bool:
    """Whether held-out images are judged after this step: always where r_v controls p, else once in a controller window."""
    config = state.controller.config
    return config.kind == "rv" or state.step % config.interval == config.interval - 1


def validate(state: TrainState, phases: Phases, dataset: Images, n: int, stats: Stats) -> None:
    """Judges held-out images through the same augmentation, and passes the logits to the controller.

    Args:
        state: whose controller's window takes the logits.
        phases: the losses, for their discriminator.
        dataset: with held-out images, which are taken in turn.
        n: number of images. The processes take turns.
        stats: where the logits are recorded.
    """
    controller, held_out = state.controller, dataset.held_out_indices
    window = torch.zeros_like(controller.sums)
    if state.step % world_size() == rank():
        picks = held_out[np.arange(state.step * n, (state.step + 1) * n) % len(held_out)]
        images, c = dataset.images(picks, device=state.device)
        logits = phases.logits(images, c, phases.draw_view(n, controller.p, state.random(VALIDATION, 0)))
        window += logit_sums(held_out=logits)
        stats.logits["held_out"].add(logits)
    add_up([window])
    controller.merge(window)
