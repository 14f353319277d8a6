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
from frugan.training.step import VALIDATION, VICINITY, own_parts, train_step
from frugan.training.vicinity import Vicinity


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
    state: TrainState,
    phases: Phases,
    dataset: Images,
    labels: Tensor,
    config: TrainingConfig,
    vicinity: Vicinity | None = None,
) -> Iterator[StepReport]:
    """Steps without end; abandoning the iterator between two of them is safe, `state` is whole after each.

    `labels` `[N, K]` on the state's device are those that generated images are drawn from; with `vicinity` each step has its own.
    """
    stats = Stats(state.device)
    run = runner_for(state, config)
    while True:
        indices, targets = state.sampler.next(config.batch), None
        if vicinity:
            rng = np.random.default_rng([state.seed, state.step, VICINITY])
            indices, targets = vicinity.draw(indices, rng)
        own = np.arange(config.batch).reshape(-1, config.batch_per_device)[own_parts(config)].ravel()
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
    """Every minibatch when r_v steers, else once a controller window: enough to watch it by."""
    config = state.controller.config
    return config.kind == "rv" or state.step % config.interval == config.interval - 1


def validate(state: TrainState, phases: Phases, dataset: Images, n: int, stats: Stats) -> None:
    """Scores the next n held-out images, in turn, through the same augmentation; the processes take turns."""
    controller, held_out = state.controller, dataset.held_out_indices
    window = torch.zeros_like(controller.sums)
    if state.step % world_size() == rank():
        picks = held_out[np.arange(state.step * n, (state.step + 1) * n) % len(held_out)]
        images, c = dataset.images(picks, device=state.device)
        logits = phases.score(images, c, phases.draw_view(n, controller.p, state.random(VALIDATION, 0)))
        window += logit_sums(held_out=logits)
        stats.logits["held_out"].add(logits)
    add_up([window])
    controller.merge(window)
